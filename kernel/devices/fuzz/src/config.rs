//! The configuration space of a virtio-mem device that says anything: what is taken can be, and says what the bytes say.

use devices::virtio_mem::{CONFIG_BYTES, Config};

/// Parses `input`.
pub fn run(input: &[u8]) {
    let Ok(config) = Config::parse(input) else { return };
    assert!(input.len() >= CONFIG_BYTES, "{config:x?}");
    let (block, region) = (config.block_size(), config.region());
    assert!(block.is_power_of_two(), "{config:x?}");
    assert!(region.start().is_aligned(block) && region.bytes().is_multiple_of(block), "{config:x?}");
    assert!(region.end().value() <= 1 << 52, "{config:x?}");
    assert!(config.usable_region_size() <= region.bytes(), "{config:x?}");
    // The node and the padding behind it are passed over.
    let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| input[8 * index + byte]));
    let sizes = [config.usable_region_size(), config.plugged_size(), config.requested_size()];
    let said = [block, region.start().value(), region.bytes(), sizes[0], sizes[1], sizes[2]];
    assert_eq!(said, [0, 2, 3, 4, 5, 6].map(word), "{config:x?}");
}

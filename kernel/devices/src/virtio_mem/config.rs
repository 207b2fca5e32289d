//! What a virtio-mem device says of itself: its configuration space.

use vmemmap::addr::{PhysAddr, PhysRange};

/// Bytes of the configuration space (VIRTIO 1.2, section 5.15.4).
pub const CONFIG_BYTES: usize = 56;

/// The widest physical address of the architecture, in bits (`FEAT_LPA`, `FEAT_LPA2`).
const ADDRESS_BITS: u32 = 52;

/// The configuration of a device, at one moment. It is one that can be: [`parse`](Self::parse) is the only way to it.
///
/// `node_id` is left out: it means nothing without ACPI's proximity domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    block_size: u64,
    region: PhysRange,
    usable_region_size: u64,
    plugged_size: u64,
    requested_size: u64,
}

/// A configuration that can't be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Fewer bytes than the fields take.
    #[error("the configuration has {bytes} bytes of {CONFIG_BYTES}; is this a virtio-mem device?")]
    Short {
        /// What there is.
        bytes: usize,
    },
    /// Blocks of no, or of an odd size.
    #[error("blocks of {block_size:#x} bytes: no power of two; give the device another block-size")]
    BlockSize {
        /// Bytes of a block.
        block_size: u64,
    },
    /// A region that does not start and end with a block.
    #[error(
        "the region of {region_size:#x} bytes at {addr} is not of whole blocks of {block_size:#x} bytes; give the device another size or memaddr"
    )]
    Misaligned {
        /// Its first byte.
        addr: PhysAddr,
        /// Its bytes.
        region_size: u64,
        /// Bytes of a block.
        block_size: u64,
    },
    /// A region outside the address space.
    #[error(
        "the region of {region_size:#x} bytes at {addr} ends beyond {ADDRESS_BITS} bits of address; give the device a lower memaddr"
    )]
    Beyond {
        /// Its first byte.
        addr: PhysAddr,
        /// Its bytes.
        region_size: u64,
    },
    /// More of the region can be used than there is.
    #[error("{usable_region_size:#x} bytes are usable of a region of {region_size:#x}: the device is at fault")]
    Usable {
        /// Usable bytes.
        usable_region_size: u64,
        /// Bytes of the region.
        region_size: u64,
    },
}

impl Config {
    /// The configuration in these bytes, which are little-endian and start with the configuration space's first one.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if they are too few, or say what can't be.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let space: &[u8; CONFIG_BYTES] = bytes.first_chunk().ok_or(ConfigError::Short { bytes: bytes.len() })?;
        // le64 block_size, le16 node_id, 6 bytes of padding, then le64s.
        let [block_size, _node, addr, region_size, usable_region_size, plugged_size, requested_size] = fields(space);
        let region = region(PhysAddr::new(addr), region_size, block_size)?;
        if usable_region_size > region_size {
            return Err(ConfigError::Usable { usable_region_size, region_size });
        }
        Ok(Self { block_size, region, usable_region_size, plugged_size, requested_size })
    }

    /// Bytes of a block, a power of two: what is plugged and unplugged, and its alignment. Never changes.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        self.block_size
    }

    /// The addresses that are the device's. Whole blocks, below 2^52. Never changes.
    #[must_use]
    pub const fn region(&self) -> PhysRange {
        self.region
    }

    /// Bytes from the start of the region that may be plugged; not above the region's.
    #[must_use]
    pub const fn usable_region_size(&self) -> u64 {
        self.usable_region_size
    }

    /// Bytes that are plugged.
    #[must_use]
    pub const fn plugged_size(&self) -> u64 {
        self.plugged_size
    }

    /// Bytes that the host wants to be plugged: any number, whatever the specification says.
    #[must_use]
    pub const fn requested_size(&self) -> u64 {
        self.requested_size
    }

    /// Whether `other` has the same blocks and region, which never change in a device's life.
    pub(super) fn is_same_device(&self, other: &Self) -> bool {
        (self.block_size, self.region) == (other.block_size, other.region)
    }

    /// With `bytes` bytes of the plugged ones left out.
    pub(super) const fn without_plugged(self, bytes: u64) -> Self {
        Self { plugged_size: self.plugged_size.wrapping_sub(bytes), ..self }
    }
}

fn fields(space: &[u8; CONFIG_BYTES]) -> [u64; CONFIG_BYTES / 8] {
    let (words, _) = space.as_chunks();
    core::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

/// The region, of whole blocks and below 2^52.
fn region(addr: PhysAddr, region_size: u64, block_size: u64) -> Result<PhysRange, ConfigError> {
    if !block_size.is_power_of_two() {
        return Err(ConfigError::BlockSize { block_size });
    }
    if !addr.is_aligned(block_size) || !region_size.is_multiple_of(block_size) {
        return Err(ConfigError::Misaligned { addr, region_size, block_size });
    }
    PhysRange::new(addr, region_size)
        .filter(|region| region.end().value() <= 1 << ADDRESS_BITS)
        .ok_or(ConfigError::Beyond { addr, region_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GOOD: [u64; 7] = [2 * MIB, 0, 1 << 31, 64 * MIB, 32 * MIB, 4 * MIB, 8 * MIB];

    fn parse(words: [u64; 7]) -> Result<Config, ConfigError> {
        Config::parse(words.map(u64::to_le_bytes).as_flattened())
    }

    fn with(index: usize, value: u64) -> Result<Config, ConfigError> {
        let mut words = GOOD;
        words[index] = value;
        parse(words)
    }

    #[test]
    fn the_fields_lie_where_virtio_1_2_puts_them() {
        let bytes: [u8; CONFIG_BYTES] = core::array::from_fn(|at| match at {
            // block_size, node_id and padding, addr, region_size, usable_region_size, plugged_size, requested_size.
            2 => 0x20,
            8..16 => 0xff,
            19 => 0x80,
            27 => 0x04,
            35 => 0x02,
            42 => 0x40,
            50 => 0x88,
            _ => 0,
        });
        let config = Config::parse(&bytes).unwrap();
        assert_eq!(config.block_size(), 0x20_0000);
        assert_eq!(config.region(), PhysRange::new(PhysAddr::new(0x8000_0000), 0x400_0000).unwrap());
        assert_eq!(config.usable_region_size(), 0x200_0000);
        assert_eq!(config.plugged_size(), 0x40_0000);
        assert_eq!(config.requested_size(), 0x88_0000);
    }

    #[test]
    fn a_space_that_is_too_short_is_refused_and_one_that_is_longer_is_not() {
        let bytes = GOOD.map(u64::to_le_bytes);
        let bytes = bytes.as_flattened();
        assert_eq!(Config::parse(&bytes[..55]), Err(ConfigError::Short { bytes: 55 }));
        let longer = [bytes, &[1, 2, 3]].concat();
        assert_eq!(Config::parse(&longer), Config::parse(bytes));
    }

    #[test]
    fn blocks_are_a_power_of_two() {
        assert_eq!(with(0, 0), Err(ConfigError::BlockSize { block_size: 0 }));
        assert_eq!(with(0, 3 * MIB), Err(ConfigError::BlockSize { block_size: 3 * MIB }));
    }

    #[test]
    fn the_region_is_of_whole_blocks() {
        assert!(matches!(with(2, MIB), Err(ConfigError::Misaligned { .. })));
        assert!(matches!(with(3, 33 * MIB), Err(ConfigError::Misaligned { .. })));
    }

    #[test]
    fn the_region_ends_at_2_to_the_52_at_most() {
        let top = 1 << 52;
        assert!(with(2, top - 64 * MIB).is_ok());
        assert!(matches!(with(2, top - 62 * MIB), Err(ConfigError::Beyond { .. })));
        assert!(matches!(with(2, u64::MAX - 2 * MIB + 1), Err(ConfigError::Beyond { .. })), "its end wraps");
    }

    #[test]
    fn no_more_is_usable_than_there_is() {
        assert!(with(4, 64 * MIB).is_ok());
        let (usable_region_size, region_size) = (66 * MIB, 64 * MIB);
        assert_eq!(with(4, usable_region_size), Err(ConfigError::Usable { usable_region_size, region_size }));
    }

    #[test]
    fn any_size_may_be_requested() {
        assert_eq!(with(6, u64::MAX).unwrap().requested_size(), u64::MAX);
    }
}

//! The first 4 KiB of a device, of anybody: they are taken for ours only if they are what this kernel would write.
//!
//! The first byte chooses: bytes as they are, those under our magic, or under our magic and a right checksum.

use crc::{CRC_64_XZ, Crc};
use devices::info_block::{BLOCK_BYTES, Found, InfoBlock, MAGIC};
use vmemmap::granule::GranuleSize;

/// What the device should be.
const WANTED: InfoBlock = InfoBlock {
    granule: GranuleSize::K16,
    struct_page_bytes: 64,
    device_bytes: 1 << 30,
    reserve_bytes: 0x1_0000,
    data_offset: 0x120_0000,
};

/// Recognises what `input` says.
pub fn run(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let mut block = [0; BLOCK_BYTES];
    let count = bytes.len().min(BLOCK_BYTES);
    block[..count].copy_from_slice(&bytes[..count]);
    if how % 3 > 0 {
        block[..MAGIC.len()].copy_from_slice(&MAGIC);
    }
    if how % 3 > 1 {
        let checksum = Crc::<u64>::new(&CRC_64_XZ).checksum(&block[..BLOCK_BYTES - 8]);
        block[BLOCK_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
    }
    match InfoBlock::recognise(&block, &WANTED) {
        Ok(Found::Blank) => assert_eq!(block, [0; BLOCK_BYTES]),
        Ok(Found::Ours(made)) => assert_eq!(block, made.encode()),
        Err(error) => assert!(error.to_string().ends_with("; nothing was overwritten"), "{error}"),
    }
}

//! The info block: what comes back is what was written, and nothing else is taken for it.

use crc::{CRC_64_XZ, Crc};
use devices::info_block::{BLOCK_BYTES, Error, Found, InfoBlock, MAGIC};
use proptest::prelude::*;
use vmemmap::granule::GranuleSize;

const GIB: u64 = 1 << 30;

/// 1 GiB with 64K pages, as Linux's nvdimm drivers would cut it.
const MADE: InfoBlock = InfoBlock {
    granule: GranuleSize::K64,
    struct_page_bytes: 64,
    device_bytes: GIB,
    reserve_bytes: 0x1_0000,
    data_offset: 0x20_0000,
};

/// `block` with the right checksum.
fn sealed(mut block: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    let checksum = Crc::<u64>::new(&CRC_64_XZ).checksum(&block[..4088]);
    block[4088..].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The block of `MADE` with `bytes` at `offset`, and the right checksum.
fn with(offset: usize, bytes: &[u8]) -> [u8; BLOCK_BYTES] {
    let mut block = MADE.encode();
    block[offset..offset + bytes.len()].copy_from_slice(bytes);
    sealed(block)
}

#[test]
fn the_layout_is_the_documented_one() {
    let block = MADE.encode();
    assert_eq!(&block[..16], b"vmemmap altmap\r\n");
    assert_eq!(block[16..32], [1, 0, 0, 0, 0, 0, 1, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(block[32..56], [0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]);
    assert!(block[56..4088].iter().all(|&byte| byte == 0));
    assert_eq!(block, sealed(block));
}

#[test]
fn a_device_of_zeros_is_blank() {
    assert_eq!(InfoBlock::recognise(&[0; BLOCK_BYTES], &MADE), Ok(Found::Blank));
}

#[test]
fn a_device_that_only_begins_with_zeros_is_not_blank() {
    assert_eq!(InfoBlock::check_blank([0; 8]), Ok(()));
    let offset = BLOCK_BYTES + 5;
    assert_eq!(InfoBlock::check_blank([0, 0, 0, 0, 0, 1, 2]), Err(Error::Used { offset }));
}

#[test]
fn one_byte_anywhere_makes_a_device_somebody_elses() {
    for offset in 0..BLOCK_BYTES {
        let mut block = [0; BLOCK_BYTES];
        block[offset] = 1;
        let begin = *block.first_chunk().unwrap();
        let refused = if offset < MAGIC.len() { Error::Foreign { begin } } else { Error::Used { offset } };
        assert_eq!(InfoBlock::recognise(&block, &MADE), Err(refused));
    }
}

#[test]
fn every_single_flipped_bit_is_refused() {
    for bit in 0..8 * BLOCK_BYTES {
        let mut block = MADE.encode();
        block[bit / 8] ^= 1 << (bit % 8);
        let refused = InfoBlock::recognise(&block, &MADE).expect_err("it is damaged");
        let in_magic = bit / 8 < MAGIC.len();
        assert!(matches!(refused, Error::Foreign { .. }) == in_magic, "bit {bit}: {refused}");
        assert!(matches!(refused, Error::Corrupted { .. }) != in_magic, "bit {bit}: {refused}");
    }
}

#[test]
fn another_granule_is_refused_and_says_how_to_boot() {
    let wanted = InfoBlock { granule: GranuleSize::K4, ..MADE };
    let refused = InfoBlock::recognise(&MADE.encode(), &wanted).unwrap_err();
    assert_eq!(refused, Error::Granule { stated: GranuleSize::K64, wanted: GranuleSize::K4 });
    let says =
        "the device was made with 64K pages, and this kernel has 4K: boot with --granule 64k; nothing was overwritten";
    assert_eq!(refused.to_string(), says);
}

#[test]
fn other_struct_pages_are_refused() {
    let wanted = InfoBlock { struct_page_bytes: 56, ..MADE };
    let refused = Err(Error::StructPage { stated: 64, wanted: 56 });
    assert_eq!(InfoBlock::recognise(&MADE.encode(), &wanted), refused);
}

#[test]
fn a_device_that_was_cut_off_or_has_grown_is_refused() {
    let found = |device_bytes| InfoBlock::recognise(&MADE.encode(), &InfoBlock { device_bytes, ..MADE });
    assert_eq!(found(GIB / 2), Err(Error::Truncated { stated: GIB, present: GIB / 2 }));
    assert_eq!(found(2 * GIB), Err(Error::Grown { stated: GIB, present: 2 * GIB }));
}

#[test]
fn the_place_of_the_data_is_what_the_block_says() {
    for (reserve_bytes, data_offset) in [(0x1_0000, 0x40_0000), (0x2_0000, 0x20_0000), (0x1_0000, 0x1_0000)] {
        let wanted = InfoBlock { reserve_bytes, data_offset, ..MADE };
        assert_eq!(InfoBlock::recognise(&MADE.encode(), &wanted), Ok(Found::Ours(MADE)));
    }
}

#[test]
fn places_that_no_kernel_chooses_are_refused_under_a_right_checksum() {
    let (reserve, data) = (40, 48);
    let wrong = [
        (reserve, 0),
        (reserve, 0x1000),
        (reserve, 0x30_0000 + 1),
        (reserve, GIB + 0x1_0000),
        (data, 0),
        (data, 0x20_1000),
        (data, GIB + 0x1_0000),
    ];
    for (offset, stated) in wrong {
        let refused = InfoBlock::recognise(&with(offset, &u64::to_le_bytes(stated)), &MADE);
        assert_eq!(refused, Err(Error::Field { offset, stated }));
    }
    // The data would begin inside of the reserve.
    let stated = MADE.data_offset;
    let refused = InfoBlock::recognise(&with(reserve, &u64::to_le_bytes(0x30_0000)), &MADE);
    assert_eq!(refused, Err(Error::Field { offset: data, stated }));
}

#[test]
fn a_version_of_the_future_is_refused() {
    let block = with(16, &2_u32.to_le_bytes());
    assert_eq!(InfoBlock::recognise(&block, &MADE), Err(Error::Version { stated: 2 }));
}

#[test]
fn what_no_kernel_writes_is_refused_under_a_right_checksum() {
    let found = |block| InfoBlock::recognise(&block, &MADE);
    assert_eq!(found(with(20, &8192_u32.to_le_bytes())), Err(Error::Field { offset: 20, stated: 8192 }));
    for offset in [28, 31, 56, 1000, 4087] {
        assert_eq!(found(with(offset, &[7])), Err(Error::Field { offset, stated: 7 }));
    }
}

#[test]
fn every_refusal_says_that_nothing_was_overwritten() {
    // One for each variant but Corrupted, which is below.
    let (k4, larger) = (&[0, 0x10, 0, 0][..], &[9][..]);
    for (offset, bytes) in
        [(0, larger), (16, larger), (20, larger), (20, k4), (24, larger), (36, larger), (35, &[0x20]), (40, larger)]
    {
        let refused = InfoBlock::recognise(&with(offset, bytes), &MADE).unwrap_err().to_string();
        assert!(refused.ends_with("; nothing was overwritten"), "{refused}");
    }
    let mut block = MADE.encode();
    block[100] = 1;
    let refused = InfoBlock::recognise(&block, &MADE).unwrap_err().to_string();
    assert!(refused.starts_with("the device's info block is damaged: "), "{refused}");
    assert!(refused.ends_with("; nothing was overwritten"), "{refused}");
}

fn info_block() -> impl Strategy<Value = InfoBlock> {
    let granule = prop::sample::select(&GranuleSize::ALL[..]);
    let numbers = (any::<u32>(), 0_u64..1 << 20, 1_u64..100, 0_u64..1000);
    (granule, numbers).prop_map(|(granule, (struct_page_bytes, behind, reserve, altmap))| InfoBlock {
        granule,
        struct_page_bytes,
        device_bytes: (reserve + altmap + behind) * granule.bytes(),
        reserve_bytes: reserve * granule.bytes(),
        data_offset: (reserve + altmap) * granule.bytes(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_made_is_recognised_and_by_nobody_else(made in info_block(), other in info_block()) {
        prop_assert_eq!(InfoBlock::recognise(&made.encode(), &made), Ok(Found::Ours(made)));
        let like = |block: InfoBlock| (block.granule, block.struct_page_bytes, block.device_bytes);
        let found = InfoBlock::recognise(&made.encode(), &other);
        prop_assert_eq!(found.is_ok(), like(made) == like(other));
    }

    #[test]
    fn random_bytes_are_never_recognised(bytes in prop::collection::vec(any::<u8>(), BLOCK_BYTES), magic in any::<bool>()) {
        let mut block: [u8; BLOCK_BYTES] = bytes.try_into().unwrap();
        if magic {
            block[..MAGIC.len()].copy_from_slice(&MAGIC);
        }
        prop_assert!(InfoBlock::recognise(&block, &MADE).is_err());
    }

    #[test]
    fn one_byte_is_recognised_only_as_another_place_of_the_data(offset in 16_usize..4088, byte in any::<u8>()) {
        let block = with(offset, &[byte]);
        let found = InfoBlock::recognise(&block, &MADE);
        let places = (40..56).contains(&offset);
        prop_assert!(found == Ok(Found::Ours(MADE)) || places || found.is_err());
        prop_assert_eq!(found.is_ok_and(|found| found == Found::Ours(MADE)), block == MADE.encode());
    }
}

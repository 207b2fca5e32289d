//! ACPI's tables and the `fw_cfg` directory: what QEMU made, and what is damaged.

#[path = "tables/writer.rs"]
mod writer;

use devices::acpi::{self, Signature};
use devices::fw_cfg::{self, FwCfg};
use devices::nfit::{self, SIGNATURE};
use proptest::prelude::*;
use vmemmap::addr::{PhysAddr, PhysRange};
use writer::{Items, PERSISTENT, directory, nfit, range, structure, table};

fn phys(base: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(base), bytes).expect("it does not wrap")
}

/// The persistent ranges of a file of tables.
fn persistent(file: &[u8]) -> Result<Vec<PhysRange>, String> {
    let table = acpi::find(file, SIGNATURE).map_err(|error| error.to_string())?.ok_or("no NFIT")?;
    nfit::persistent(table).map_err(|error| error.to_string())
}

/// The NFIT of QEMU 7.2 with two nvdimms, of 128 and 256 MiB.
const QEMU_NFIT: &[u8] = include_bytes!("../fuzz/corpus/nfit/qemu-7.2-two-nvdimms");

#[test]
fn the_nvdimms_of_qemu_are_found_in_its_table() {
    assert_eq!(persistent(QEMU_NFIT), Ok(vec![phys(0x8000_0000, 128 << 20), phys(0x8800_0000, 256 << 20)]));
}

#[test]
fn the_writer_writes_what_qemu_writes() {
    let control = |index: u16| structure(1, &[&[0; 6], &index.to_le_bytes()[..], &[0; 36]].concat());
    let file = nfit(&[range(2, PERSISTENT, 0x8000_0000, 128 << 20), control(2)]);
    // Type, length, index, and then the GUID and the range; flags, proximity and attributes are ours.
    assert_eq!(file[40..46], QEMU_NFIT[40..46]);
    assert_eq!(file[56..88], QEMU_NFIT[56..88]);
}

#[test]
fn only_persistent_memory_counts_and_what_is_unknown_is_passed_over() {
    let mut volatile = PERSISTENT;
    volatile[0] ^= 1;
    let file = nfit(&[
        structure(0x1234, &[1, 2, 3]),
        range(1, volatile, 0x1000, 0x1000),
        // As long as ACPI 6.4 makes it.
        structure(0, &[&range(2, PERSISTENT, 0x2000, 0x3000)[4..], &[9; 8]].concat()),
        structure(7, &[0; 12]),
    ]);
    assert_eq!(persistent(&[&[0; 5][..], &file, &[0; 100]].concat()), Ok(vec![phys(0x2000, 0x3000)]));
}

/// What a table says that is its own header and `body`.
fn refusal(body: &[u8]) -> nfit::Error {
    let file = table(*b"NFIT", body);
    let table = acpi::find(&file, SIGNATURE).expect("tables").expect("an NFIT");
    nfit::persistent(table).expect_err("it is damaged")
}

#[test]
fn damaged_lengths_are_refused_with_their_place() {
    assert_eq!(refusal(&[0; 3]), nfit::Error::Short { bytes: 39 });
    assert_eq!(refusal(&[0; 7]), nfit::Error::StructureHeader { offset: 40, left: 3 });
    let stated = |kind: u16, stated: u16, left: usize| {
        let body = [&[0; 4][..], &kind.to_le_bytes(), &stated.to_le_bytes(), &vec![0; left - 4]].concat();
        refusal(&body)
    };
    let wrong = |kind, stated, least, left| nfit::Error::Structure { kind, offset: 40, stated, least, left };
    assert_eq!(stated(5, 0, 8), wrong(5, 0, 4, 8));
    assert_eq!(stated(5, 3, 8), wrong(5, 3, 4, 8));
    assert_eq!(stated(5, 9, 8), wrong(5, 9, 4, 8));
    assert_eq!(stated(0, 55, 64), wrong(0, 55, 56, 64));
    assert_eq!(stated(0, 56, 55), wrong(0, 56, 56, 55));
}

#[test]
fn a_range_that_is_empty_or_wraps_is_refused() {
    for (base, bytes) in [(0x8000_0000, 0), (u64::MAX, 2)] {
        let error = refusal(&[&[0; 4][..], &range(3, PERSISTENT, base, bytes)].concat());
        assert_eq!(error, nfit::Error::Range { index: 3, base: PhysAddr::new(base), bytes });
    }
}

#[test]
fn another_table_is_no_nfit() {
    let file = table(*b"SRAT", &[0; 40]);
    let found = Signature(*b"SRAT");
    let table = acpi::find(&file, found).expect("tables").expect("it is there");
    assert_eq!(nfit::persistent(table), Err(nfit::Error::Signature { found }));
}

#[test]
fn a_file_is_found_by_its_whole_name_and_read() {
    let mut items = Items::new(&[("etc/acpi/rsdp", b"RSD"), ("etc/acpi/tables", b"tables"), ("etc/acpi/tables2", b"")]);
    let mut device = FwCfg::new(&mut items).expect("it is there");
    let file = device.find("etc/acpi/tables").expect("a directory").expect("it is listed");
    assert_eq!((file.key(), file.bytes()), (0x21, 6));
    assert_eq!(device.read(file, 6), Ok(b"tables".to_vec()));
    assert_eq!(device.read(file, 5), Err(fw_cfg::Error::TooLong { key: 0x21, bytes: 6, most: 5 }));
    assert_eq!(device.find("etc/acpi/table"), Ok(None));
    assert_eq!(device.find(""), Ok(None));
}

#[test]
fn the_directory_of_qemu_is_read() {
    let recorded = include_bytes!("../fuzz/corpus/fw_cfg/qemu-7.2");
    let mut items = Items::raw(recorded[..4].try_into().unwrap(), &recorded[4..]);
    let mut device = FwCfg::new(&mut items).expect("it is there");
    let file = device.find(acpi::TABLES).expect("a directory").expect("it is listed");
    assert_eq!((file.key(), file.bytes()), (0x24, 0x2_0000));
}

#[test]
fn what_is_no_fw_cfg_is_refused() {
    let mut items = Items::raw(*b"\0\0\0\0", &[]);
    assert_eq!(FwCfg::new(&mut items).err(), Some(fw_cfg::Error::NotThere { found: [0; 4] }));
}

#[test]
fn a_directory_with_more_files_than_keys_is_refused() {
    let count = |count: u32| {
        let mut items = Items::raw(*b"QEMU", &count.to_be_bytes());
        FwCfg::new(&mut items).expect("it is there").find("a")
    };
    assert_eq!(count(0x3fe0), Ok(None));
    assert_eq!(count(0x3fe1), Err(fw_cfg::Error::Count { count: 0x3fe1 }));
}

#[test]
fn a_file_under_a_key_that_is_not_a_files_is_refused() {
    for (key, good) in [(0x1f, false), (0x20, true), (0x3fff, true), (0x4000, false)] {
        let mut items = Items::raw(*b"QEMU", &directory(&[("a", key, 1)]));
        let found = FwCfg::new(&mut items).expect("it is there").find("a");
        assert_eq!(found.is_ok(), good, "{key:#x}: {found:?}");
        assert_eq!(found.err(), (!good).then(|| fw_cfg::Error::Key { name: "a".into(), key }));
    }
}

#[test]
fn a_name_that_nothing_ends_is_no_name() {
    let mut listed = directory(&[("a", 0x20, 1)]);
    listed[4 + 8..].fill(b'a');
    let mut items = Items::raw(*b"QEMU", &listed);
    let found = FwCfg::new(&mut items).expect("it is there").find(&"a".repeat(56));
    assert_eq!(found, Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_persistent_range_is_found_in_order(
        ranges in prop::collection::vec((any::<u16>(), any::<bool>(), 0..1_u64 << 50, 1..1_u64 << 50), 0..8),
        before in prop::collection::vec((any::<[u8; 3]>(), 0..80_usize, 0..9_usize), 0..5),
    ) {
        let structures: Vec<_> = ranges.iter().map(|&(index, ours, base, bytes)| {
            range(index, if ours { PERSISTENT } else { [0; 16] }, base, bytes)
        }).collect();
        let others = before.iter().flat_map(|&([a, b, c], body, padding)| {
            [table([b'A' | a & 15, b, c, b'X'], &vec![0xff; body]), vec![0; padding]].concat()
        });
        let file: Vec<_> = others.chain(nfit(&structures)).collect();
        let wanted = ranges.iter().filter(|range| range.1).map(|&(_, _, base, bytes)| phys(base, bytes));
        prop_assert_eq!(persistent(&file), Ok(wanted.collect()));
    }

    #[test]
    fn a_file_that_is_cut_off_has_no_range_that_was_not_there(cut in 0..QEMU_NFIT.len()) {
        prop_assert!(persistent(&QEMU_NFIT[..cut]).is_err());
    }

    #[test]
    fn damage_never_panics(mut file in Just(QEMU_NFIT.to_vec()), damage in prop::collection::vec((0..QEMU_NFIT.len(), any::<u8>()), 1..4)) {
        for (offset, byte) in damage {
            file[offset] = byte;
        }
        let _ = persistent(&file);
    }
}

//! Figures worked out by hand, and what bad input is answered.

use super::*;
use clap::{Command, FromArgMatches as _};

fn asked(flags: &str) -> Altmap {
    let words = ["altmap"].into_iter().chain(flags.split_whitespace());
    let matches = Altmap::augment_args(Command::new("altmap")).try_get_matches_from(words).unwrap();
    Altmap::from_arg_matches(&matches).unwrap()
}

fn why(flags: &str) -> String {
    let stop = asked(flags).table().unwrap_err();
    assert_eq!(stop.status, Status::Refused);
    stop.why
}

/// The cell of the row whose name ends so, in the only column.
fn cell(flags: &str, name: &str) -> String {
    let cost = asked(flags).costs().unwrap().remove(0);
    cost.cells().into_iter().find(|(row, _)| row.ends_with(name)).unwrap_or_else(|| panic!("no row {name}")).1
}

#[test]
fn half_a_tebibyte_is_told_in_one_screen() {
    let table = asked("--size 480G").table().unwrap();
    let wanted = "
range     0x100000000..0x7900000000   480 GiB, struct pages of 64 bytes, --leaf largest
granule                                4K            16K            64K
memmap                           7680 MiB       1920 MiB        480 MiB
  blocks                    3840 of 2 MiB              -              -
  contiguous runs             0 of 64 KiB   960 of 2 MiB   239 of 2 MiB
  pages                        0 of 4 KiB    0 of 16 KiB   32 of 64 KiB
altmap    reserve, frames               0              0              0
          alloc                   1966080         122880           7680
          align                         0              0              0
          free, tight             1966080         122880           7680
          of the range            1.562 %        0.391 %        0.098 %
from RAM  edge pages                    0              0              0
          linear tables <=              1              9              1
          memmap tables <=             10             64              2
device    first byte          0x2e0000000    0x178000000    0x11e000000
          usable               483840 MiB     489600 MiB     491040 MiB
nvdimm    reserve, frames               2              1              1
          free                    1966590         123007           7711
          of the range            1.563 %        0.391 %        0.098 %
          usable               483838 MiB     489598 MiB     491038 MiB";
    assert_eq!(table, wanted.trim_start(), "\n{table}");
    assert!(table.lines().all(|line| line.len() <= 110) && table.lines().count() <= 25);
}

/// Behind a reserve of 2 frames the block of 250 MiB stands at frame 512; 488 pages fit in front of it but for 22 frames.
#[test]
fn a_part_of_a_section_takes_the_hole_in_front_of_the_block() {
    let flags = "--size 250M --granule 4k --leaf linux --reserve 2";
    assert_eq!([cell(flags, "alloc"), cell(flags, "align"), cell(flags, "free, tight")], ["1000", "22", "1022"]);
    assert_eq!(cell(flags, "first byte"), "0x100400000", "2 + 1022 frames");
    assert_eq!(cell(flags, "contiguous runs"), "-", "Linux has none there");
}

/// At 64K one page of vmemmap describes 64 MiB: 66 MiB from 62 MiB on is one such page and two parts.
#[test]
fn pages_that_describe_others_come_from_ram() {
    let at = |base: &str, size: &str| format!("--granule 64k --base {base} --size {size}");
    let edges = |base, size| [cell(&at(base, size), "edge pages"), cell(&at(base, size), "alloc")];
    assert_eq!(edges("0x103e00000", "68M"), ["2", "1"]);
    assert_eq!(edges("0x103e00000", "66M"), ["1", "1"]);
    assert_eq!(edges("0x103e00000", "4M"), ["2", "0"]);
    assert_eq!(edges("0x100200000", "2M"), ["1", "0"], "one page that is both");
    assert_eq!(edges("0x100000000", "64M"), ["0", "1"]);
}

/// The edge page's tables are counted too, though the altmap has nothing.
#[test]
fn tables_are_counted_from_an_empty_root() {
    let flags = "--size 2M --granule 64k --base 0x100200000";
    assert_eq!([cell(flags, "linear tables <="), cell(flags, "memmap tables <=")], ["2", "2"], "levels 2 and 3");
    let flags = "--size 480G --granule 4k --leaf pages";
    // One of level 3 each 2 MiB, one of level 2 each GiB, one of level 1.
    assert_eq!(cell(flags, "linear tables <="), (245_760 + 480 + 1).to_string());
}

#[test]
fn nvdimm_is_compared_where_it_has_room_for_the_struct_pages() {
    assert_eq!(cell("--size 1G --granule 64k --struct-page 32", "free"), "31");
    assert_eq!(cell("--size 1G --granule 64k --struct-page 128", "free"), "-");
    assert_eq!(cell("--size 1G --granule 64k --struct-page 128", "free, tight"), "32");
}

#[test]
fn what_can_not_be_is_answered_with_what_can() {
    for (flags, says) in [
        ("--size 0", "--size 0x0: hot-plug works in multiples of 2 MiB; 0x200000 would do"),
        ("--size 5M", "--size 0x500000: hot-plug works in multiples of 2 MiB; 0x600000 would do"),
        ("--size 4608K", "--size 0x480000: hot-plug works in multiples of 2 MiB; 0x400000 would do"),
        ("--size 0xffffffffffffffff", "0xffffffffffe00000 would do"),
        ("--size 2M --base 0x100100000", "--base 0x100100000: hot-plug works in multiples of 2 MiB; 0x100200000"),
        ("--size 0xffffffffffe00000", "wraps; choose a lower --base"),
        ("--size 2M --base 0", "0x0..0x200000 is outside 0x40000000..0x800040000000"),
        ("--size 128T", "is outside 0x40000000..0x800040000000"),
        (
            "--size 2M --struct-page 48",
            "--struct-page 48: at 4K a struct page is a power of two from 8 to 2048 bytes; 64",
        ),
        ("--size 2M --struct-page 4", "; 8 would do"),
        ("--size 2M --struct-page 4096", "; 2048 would do"),
        (
            "--size 2M --reserve 600",
            "are more than the 512 frames of 0x100000000..0x100200000; --size 0x400000 (4 MiB)",
        ),
        (
            "--size 2M --reserve 18446744073709551615",
            "--reserve 18446744073709551615 is more than the 512 frames of 0x100000000..0x100200000; no size does: reserve fewer",
        ),
        ("--size 2M --base 0xffffffffffe00000", "0xffffffffffe00000 + 0x200000 is outside 0x40000000..0x800040000000"),
        ("--size 4M --base 0xffffffffffe00000", "wraps; choose a lower --base"),
    ] {
        let why = why(flags);
        assert!(why.contains(says) && !why.contains('\n'), "{flags}: {why}");
    }
}

#[test]
fn a_struct_page_that_is_no_number_is_told_what_to_write() {
    let why = struct_page("64k").unwrap_err();
    assert!(why.ends_with("a power of two, like 64"), "{why}");
    let matches = Altmap::augment_args(Command::new("altmap")).try_get_matches_from(["altmap", "--struct-page", "64k"]);
    assert!(matches.unwrap_err().to_string().contains(&why), "the flag asks it");
}

#[test]
fn the_size_that_would_do_is_the_smallest_that_does() {
    for (granule, struct_page) in [("4k", 64), ("4k", 2048), ("16k", 128), ("64k", 64), ("64k", 32768)] {
        for reserve in [513, 5_000, 1_000_000] {
            let with = |size: u64| {
                asked(&format!("--granule {granule} --struct-page {struct_page} --reserve {reserve} --size {size:#x}"))
            };
            let stop = with(2 << 20).table().unwrap_err();
            let advice = stop.why.split("--size ").nth(1).and_then(|text| text.split(' ').next()).unwrap();
            let bytes = size::bytes(advice).unwrap();
            assert!(with(bytes).table().is_ok(), "{granule} {struct_page} {reserve}: {bytes:#x}");
            assert!(with(bytes - SUBSECTION_BYTES).table().is_err(), "{granule} {struct_page} {reserve}: {bytes:#x}");
        }
    }
}

#[test]
fn the_object_has_what_the_table_has() {
    // Tables of the linear map: one of levels 1 and 2, and of level 3 one for the 2 MiB at each end.
    let object = asked("--size 1G --granule 16k --reserve 1 --base 0x100200000").object().unwrap();
    let wanted = r#"{"schema_version":1,"result":"pass","base":"0x100200000","size":1073741824,"struct_page_size":64,"leaf_policy":"largest","granules":[{"granule":"16k","memmap_bytes":4194304,"leaves":[{"size":2097152,"contiguous":true,"count":1},{"size":16384,"contiguous":false,"count":127}],"altmap":{"base_pfn":"0x40080","reserve":1,"free":255,"first_byte":"0x100600000","usable_bytes":1069547520,"alloc":255,"align":0},"nvdimm":{"base_pfn":"0x40080","reserve":1,"free":383,"first_byte":"0x100800000","usable_bytes":1067450368},"edge_pages":2,"linear_tables":4,"memmap_tables":3}]}"#;
    assert_eq!(object.to_string(), wanted);
}

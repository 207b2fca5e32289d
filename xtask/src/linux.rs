//! What Linux does with the same range, measured on 6.12.117 and 7.3.4; where they differ (the vmemmap's blocks at 4K),
//! 7.3.
//!
//! Vectors: 1 GiB at 4 GiB, RAM from 1 GiB, 48 bits, an altmap cut by the nvdimm driver, large linear leaves.

use std::fmt::Debug;

use vmemmap::granule::GranuleSize;

use crate::report::{Altmap, Bits, Leaf, Report};

const GIB: u64 = 1 << 30;

/// What Linux builds for one range. A leaf is its address and its descriptor.
#[derive(Debug)]
pub struct Vector {
    memmap: [u64; 2],
    /// `base_pfn`, `end_pfn`, reserve, free, alloc and align.
    altmap: [u64; 6],
    /// The first three leaves of the vmemmap.
    first: [[u64; 2]; 3],
    last: [u64; 2],
    /// First and last leaf of the linear map.
    linear: [[u64; 2]; 2],
}

const K64: Vector = Vector {
    memmap: [0xffff_ffdf_c030_0000, 0xffff_ffdf_c040_0000],
    altmap: [0x10000, 0x13fff, 1, 31, 16, 0],
    first: [
        [0xffff_ffdf_c030_0000, 0x00e8_0001_0001_0703],
        [0xffff_ffdf_c031_0000, 0x00e8_0001_0002_0703],
        [0xffff_ffdf_c032_0000, 0x00e8_0001_0003_0703],
    ],
    last: [0xffff_ffdf_c03f_0000, 0x00e8_0001_0010_0703],
    linear: [[0xffff_0000_c000_0000, 0x00e8_0001_0000_0701], [0xffff_0000_e000_0000, 0x00e8_0001_2000_0701]],
};

const K16: Vector = Vector {
    memmap: [0xffff_ff7f_c0c0_0000, 0xffff_ff7f_c100_0000],
    altmap: [0x40000, 0x4ffff, 1, 383, 256, 0],
    first: [
        [0xffff_ff7f_c0c0_0000, 0x00e8_0001_0000_4703],
        [0xffff_ff7f_c0c0_4000, 0x00e8_0001_0000_8703],
        [0xffff_ff7f_c0c0_8000, 0x00e8_0001_0000_c703],
    ],
    last: [0xffff_ff7f_c0ff_c000, 0x00e8_0001_0040_0703],
    linear: [[0xffff_0000_c000_0000, 0x00f8_0001_0000_0701], [0xffff_0000_fe00_0000, 0x00f8_0001_3e00_0701]],
};

const K4: Vector = Vector {
    memmap: [0xffff_fdff_c300_0000, 0xffff_fdff_c400_0000],
    altmap: [0x10_0000, 0x13_ffff, 2, 4606, 4096, 510],
    first: [
        [0xffff_fdff_c300_0000, 0x00e8_0001_0020_0701],
        [0xffff_fdff_c320_0000, 0x00e8_0001_0040_0701],
        [0xffff_fdff_c340_0000, 0x00e8_0001_0060_0701],
    ],
    last: [0xffff_fdff_c3e0_0000, 0x00e8_0001_0100_0701],
    linear: [[0xffff_0000_c000_0000, 0x00e8_0001_0000_0701]; 2],
};

/// Which rows of the screen are equal to Linux's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equal {
    pub altmap: bool,
    pub first: bool,
    pub last: bool,
    /// Everything in which the run differs from Linux's, in words.
    pub differences: Vec<String>,
}

/// Compares a run with Linux's vector; nothing if the run did not do what Linux did for it. The altmap's reserve and
/// free tell whether it was cut in Linux's way.
pub fn compare(report: &Report) -> Option<Equal> {
    let linux = match report.head.granule {
        GranuleSize::K4 => &K4,
        GranuleSize::K16 => &K16,
        GranuleSize::K64 => &K64,
    };
    let Altmap { base_pfn, end_pfn, reserve, free, alloc, align } = report.altmap.clone()?;
    let range = [report.device.base, report.device.size, report.head.memstart] == [4 * GIB, GIB, GIB].map(Bits);
    let cut = linux.altmap[2..4] == [reserve, free];
    if !(range && cut && report.head.va_bits == 48 && report.head.leaf_policy == "linux") {
        return None;
    }
    let (map, leaf) = (&report.memmap, |leaf: Leaf| [leaf.va.0, leaf.descriptor.0]);
    let first: Vec<_> = map.first.iter().copied().map(leaf).collect();
    let altmap = difference("altmap", &[base_pfn.0, end_pfn.0, reserve, free, alloc, align], &linux.altmap);
    let memmap = difference("memmap", &[map.start.0, map.end.0], &linux.memmap);
    let first = difference("first leaves", &first[..], &linux.first[..]);
    let last = difference("last leaf", &map.last.map(leaf), &Some(linux.last));
    let linear = difference("linear map", &[report.linear.first, report.linear.last].map(leaf), &linux.linear);
    Some(Equal {
        altmap: altmap.is_none(),
        first: memmap.is_none() && first.is_none(),
        last: last.is_none(),
        differences: [altmap, memmap, first, last, linear].into_iter().flatten().collect(),
    })
}

/// Compares the JSON of a run with Linux's vector.
///
/// # Errors
/// In what they differ, or why they cannot be compared.
pub fn equals(json: &str) -> Result<(), String> {
    let report: Report = serde_json::from_str(json).map_err(|error| format!("no report: {error}"))?;
    let equal = compare(&report).ok_or("not the run that was measured on Linux")?;
    if equal.differences.is_empty() { Ok(()) } else { Err(equal.differences.join("\n")) }
}

fn difference<T: Debug + PartialEq + ?Sized>(what: &str, ours: &T, linux: &T) -> Option<String> {
    (ours != linux).then(|| format!("{what}: {ours:x?}, Linux {linux:x?}"))
}

/// What a hot-add with an altmap costs Linux.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// DSBs and TLBIs, where they were counted.
    pub events: Option<(u64, u64)>,
    /// Instructions per struct page, measured at 16 GiB.
    pub per_page: f64,
    /// RAM for memmap and tables, where it was measured.
    pub ram_bytes: Option<u64>,
}

/// 6.12 with large linear leaves (`rodata=on`) and 7.3 as it comes, for a device of `bytes` at `base`.
pub fn costs(granule: GranuleSize, base: u64, bytes: u64) -> [Cost; 2] {
    let measured = [GIB, 16 * GIB].iter().position(|&size| size == bytes && base == 4 * GIB);
    let cost = |per_page, events: [Option<(u64, u64)>; 2], ram: [u64; 2]| {
        let (events, ram_bytes) = (measured.and_then(|size| events[size]), measured.map(|size| ram[size]));
        Cost { events, per_page, ram_bytes }
    };
    match granule {
        GranuleSize::K64 => [
            cost(34.3, [Some((21, 1)), None], [0, 0]),
            cost(47.7, [Some((29, 3)), Some((419, 33))], [131_072, 2_097_152]),
        ],
        GranuleSize::K16 => [
            cost(34.9, [Some((294, 2)), None], [0, 49_152]),
            cost(47.8, [Some((422, 34)), Some((6_664, 514))], [524_288, 8_421_376]),
        ],
        GranuleSize::K4 => [
            cost(34.0, [Some((12, 1)), None], [0, 8_192]),
            cost(49.6, [Some((2_576, 514)), Some((41_171, 8_209))], [2_105_344, 33_624_064]),
        ],
    }
}

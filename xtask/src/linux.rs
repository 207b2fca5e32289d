//! What Linux does with the same range: vectors and costs measured on 6.12.117 and 7.3.4.
//!
//! Vectors: 1 GiB at 4 GiB, RAM from 1 GiB, 48 bits, an altmap cut by the nvdimm driver, large linear leaves.
//! Where the versions differ (the vmemmap blocks at 4K), 7.3's descriptor.

use vmemmap::granule::GranuleSize;

use crate::report::{Altmap, Hex, Leaf, Report};

const GIB: u64 = 1 << 30;

/// What Linux builds for one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// First address of the vmemmap of the range.
    pub start: u64,
    /// Address past its end.
    pub end: u64,
    /// The altmap after populate.
    pub altmap: Altmap,
    /// The first three leaves of the vmemmap.
    pub first: [Leaf; 3],
    /// Its last leaf.
    pub last: Leaf,
    /// First and last leaf of the linear map.
    pub linear: [Leaf; 2],
}

const fn leaf(va: u64, descriptor: u64) -> Leaf {
    Leaf { va: Hex(va), descriptor: Hex(descriptor) }
}

const fn altmap([base_pfn, end_pfn, reserve, free, alloc, align]: [u64; 6]) -> Altmap {
    Altmap { base_pfn: Hex(base_pfn), end_pfn: Hex(end_pfn), reserve, free, alloc, align }
}

const K64: Vector = Vector {
    start: 0xffff_ffdf_c030_0000,
    end: 0xffff_ffdf_c040_0000,
    altmap: altmap([0x10000, 0x13fff, 1, 31, 16, 0]),
    first: [
        leaf(0xffff_ffdf_c030_0000, 0x00e8_0001_0001_0703),
        leaf(0xffff_ffdf_c031_0000, 0x00e8_0001_0002_0703),
        leaf(0xffff_ffdf_c032_0000, 0x00e8_0001_0003_0703),
    ],
    last: leaf(0xffff_ffdf_c03f_0000, 0x00e8_0001_0010_0703),
    linear: [leaf(0xffff_0000_c000_0000, 0x00e8_0001_0000_0701), leaf(0xffff_0000_e000_0000, 0x00e8_0001_2000_0701)],
};

const K16: Vector = Vector {
    start: 0xffff_ff7f_c0c0_0000,
    end: 0xffff_ff7f_c100_0000,
    altmap: altmap([0x40000, 0x4ffff, 1, 383, 256, 0]),
    first: [
        leaf(0xffff_ff7f_c0c0_0000, 0x00e8_0001_0000_4703),
        leaf(0xffff_ff7f_c0c0_4000, 0x00e8_0001_0000_8703),
        leaf(0xffff_ff7f_c0c0_8000, 0x00e8_0001_0000_c703),
    ],
    last: leaf(0xffff_ff7f_c0ff_c000, 0x00e8_0001_0040_0703),
    linear: [leaf(0xffff_0000_c000_0000, 0x00f8_0001_0000_0701), leaf(0xffff_0000_fe00_0000, 0x00f8_0001_3e00_0701)],
};

const K4: Vector = Vector {
    start: 0xffff_fdff_c300_0000,
    end: 0xffff_fdff_c400_0000,
    altmap: altmap([0x10_0000, 0x13_ffff, 2, 4606, 4096, 510]),
    first: [
        leaf(0xffff_fdff_c300_0000, 0x00e8_0001_0020_0701),
        leaf(0xffff_fdff_c320_0000, 0x00e8_0001_0040_0701),
        leaf(0xffff_fdff_c340_0000, 0x00e8_0001_0060_0701),
    ],
    last: leaf(0xffff_fdff_c3e0_0000, 0x00e8_0001_0100_0701),
    linear: [leaf(0xffff_0000_c000_0000, 0x00e8_0001_0000_0701); 2],
};

/// The vector of `granule`.
#[must_use]
pub const fn vector(granule: GranuleSize) -> &'static Vector {
    match granule {
        GranuleSize::K4 => &K4,
        GranuleSize::K16 => &K16,
        GranuleSize::K64 => &K64,
    }
}

/// Linux's vector, if this run did what Linux did for it.
///
/// The altmap's reserve and free decide whether it was cut in Linux's way.
#[must_use]
pub fn comparable(report: &Report) -> Option<&'static Vector> {
    let linux = vector(report.granule);
    let range = (report.device.base, report.device.size, report.memstart) == (Hex(4 * GIB), Hex(GIB), Hex(GIB));
    let cut = report.altmap.as_ref().is_some_and(|ours| (ours.reserve, ours.free) == (linux.altmap.reserve, linux.altmap.free));
    (range && cut && report.va_bits == 48 && report.leaf_policy == "linux").then_some(linux)
}

/// Everything in which a report differs from Linux's vector, in words.
#[must_use]
pub fn differences(report: &Report, linux: &Vector) -> Vec<String> {
    let ours = [
        ("vmemmap", format!("{:x?}", (report.memmap.start, report.memmap.end)), format!("{:x?}", (Hex(linux.start), Hex(linux.end)))),
        ("altmap", format!("{:?}", report.altmap), format!("{:?}", Some(&linux.altmap))),
        ("first leaves", format!("{:x?}", report.memmap.first), format!("{:x?}", linux.first)),
        ("last leaf", format!("{:x?}", report.memmap.last), format!("{:x?}", linux.last)),
        ("linear map", format!("{:x?}", [report.linear.first, report.linear.last]), format!("{:x?}", linux.linear)),
    ];
    ours.into_iter().filter(|(_, ours, linux)| ours != linux).map(|(what, ours, linux)| format!("{what}: {ours}, Linux {linux}")).collect()
}

/// What a hot-add with an altmap costs Linux.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// DSBs and TLBIs, where they were counted.
    pub events: Option<(u64, u64)>,
    /// Instructions per struct page, measured at 16 GiB.
    pub per_page: f64,
    /// RAM for memmap and tables, where it was measured.
    pub ram_bytes: Option<u64>,
}

/// 6.12 with large linear leaves (`rodata=on`) and 7.3 as it comes, for a device of `bytes`.
#[must_use]
pub fn costs(granule: GranuleSize, bytes: u64) -> [Cost; 2] {
    let measured = [GIB, 16 * GIB].iter().position(|&size| size == bytes);
    let cost = |per_page, events: [Option<(u64, u64)>; 2], ram: [u64; 2]| Cost {
        events: measured.and_then(|size| events[size]),
        per_page,
        ram_bytes: measured.map(|size| ram[size]),
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

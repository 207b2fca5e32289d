//! Linux's table of windows, row by row.

use super::*;
use crate::testing::thinned;
use GranuleSize::{K4, K16, K64};

const TIB: u64 = 1 << 40;

/// granule, VA bits, `PAGE_OFFSET`, `PAGE_END`, linear bytes, `VMEMMAP_START`, `VMEMMAP_SIZE`, `VMALLOC_END`.
type Row = (GranuleSize, u32, u64, u64, u64, u64, u64, u64);

const ROWS: [Row; 10] = [
    (
        K4,
        39,
        0xffff_ff80_0000_0000,
        0xffff_ffc0_0000_0000,
        256 * GIB,
        0xffff_fffe_c000_0000,
        4 * GIB,
        0xffff_fffe_bf80_0000,
    ),
    (
        K4,
        48,
        0xffff_0000_0000_0000,
        0xffff_8000_0000_0000,
        128 * TIB,
        0xffff_fdff_c000_0000,
        2 * TIB,
        0xffff_fdff_bf80_0000,
    ),
    (
        K4,
        52,
        0xfff0_0000_0000_0000,
        0xffff_8000_0000_0000,
        3968 * TIB,
        0xffff_c1ff_c000_0000,
        62 * TIB,
        0xffff_c1ff_bf80_0000,
    ),
    (
        K16,
        36,
        0xffff_fff0_0000_0000,
        0xffff_fff8_0000_0000,
        32 * GIB,
        0xffff_ffff_b800_0000,
        128 * MIB,
        0xffff_ffff_b780_0000,
    ),
    (
        K16,
        47,
        0xffff_8000_0000_0000,
        0xffff_c000_0000_0000,
        64 * TIB,
        0xffff_ffbf_c000_0000,
        256 * GIB,
        0xffff_ffbf_bf80_0000,
    ),
    (
        K16,
        48,
        0xffff_0000_0000_0000,
        0xffff_8000_0000_0000,
        128 * TIB,
        0xffff_ff7f_c000_0000,
        512 * GIB,
        0xffff_ff7f_bf80_0000,
    ),
    (
        K16,
        52,
        0xfff0_0000_0000_0000,
        0xffff_c000_0000_0000,
        4032 * TIB,
        0xffff_f03f_c000_0000,
        16128 * GIB,
        0xffff_f03f_bf80_0000,
    ),
    (
        K64,
        42,
        0xffff_fc00_0000_0000,
        0xffff_fe00_0000_0000,
        2 * TIB,
        0xffff_ffff_4000_0000,
        2 * GIB,
        0xffff_ffff_3f80_0000,
    ),
    (
        K64,
        48,
        0xffff_0000_0000_0000,
        0xffff_8000_0000_0000,
        128 * TIB,
        0xffff_ffdf_c000_0000,
        128 * GIB,
        0xffff_ffdf_bf80_0000,
    ),
    (
        K64,
        52,
        0xfff0_0000_0000_0000,
        0xffff_8000_0000_0000,
        3968 * TIB,
        0xffff_fc1f_c000_0000,
        3968 * GIB,
        0xffff_fc1f_bf80_0000,
    ),
];

#[test]
fn windows_are_linuxs_for_every_granule_and_va_size() {
    for (granule, bits, offset, end, linear, start, bytes, vmalloc_end_expected) in ROWS {
        let layout = Layout::linux(granule, bits, 0);
        let got = (
            layout.linear().start().value(),
            layout.linear().end().value(),
            layout.linear().bytes(),
            layout.vmemmap().start().value(),
            layout.vmemmap().bytes(),
            vmalloc_end(granule, bits, bits).value(),
        );
        assert_eq!(got, (offset, end, linear, start, bytes, vmalloc_end_expected), "{granule}/{bits}: {got:x?}");
        assert_eq!(layout.vmemmap().end().value(), 0xffff_ffff_c000_0000);
    }
    assert_eq!(PCI_IO.start().value(), 0xffff_ffff_c080_0000);
    assert_eq!(PCI_IO.end().value(), 0xffff_ffff_c180_0000);
    assert_eq!(FIXADDR_TOP.value(), 0xffff_ffff_ff80_0000);
}

#[test]
fn a_52_bit_kernel_on_older_hardware_loses_the_lower_part_of_the_vmemmap() {
    assert_eq!(vmalloc_end(K4, 52, 48).value(), 0xffff_fdff_bf80_0000);
    assert_eq!(vmalloc_end(K16, 52, 47).value(), 0xffff_ffbf_bf80_0000);
    assert_eq!(vmalloc_end(K64, 52, 48).value(), 0xffff_ffdf_bf80_0000);
}

#[test]
fn memstart_is_rounded_down_to_what_the_granule_needs() {
    let ram = PhysRange::new(PhysAddr::new(0x7020_0000), 256 * MIB).unwrap();
    assert_eq!(memstart(K4, 48, 48, ram), 0x4000_0000);
    assert_eq!(memstart(K16, 48, 48, ram), 0x4000_0000);
    assert_eq!(memstart(K64, 48, 48, ram), 0x6000_0000);
}

#[test]
fn ram_beyond_the_linear_map_moves_memstart_up() {
    let ram = PhysRange::new(PhysAddr::new(GIB), 40 * GIB).unwrap();
    assert_eq!(memstart(K16, 36, 36, ram), 9 * GIB, "32 GiB of linear map, the last byte at 41 GiB");
}

#[test]
fn memstart_goes_negative_on_hardware_with_fewer_bits() {
    let ram = PhysRange::new(PhysAddr::new(GIB), GIB).unwrap();
    let start = memstart(K4, 52, 48, ram);
    assert_eq!(start, GIB.wrapping_sub((1 << 52) - (1 << 48)));
    let layout = Layout::linux(K4, 52, start);
    assert_eq!(layout.linear_address(ram.start()).value(), 0xffff_0000_0000_0000);
    let pfn = Pfn::containing(ram.start(), 12);
    assert_eq!(layout.page(pfn).value(), 0xffff_fdff_c000_0000, "where the fallback's vmemmap starts");
    assert_eq!(layout.pfn(layout.page(pfn)), pfn);
}

#[test]
fn struct_pages_are_where_linux_has_them() {
    let vectors = [(K64, 0xffff_ffdf_c030_0000), (K16, 0xffff_ff7f_c0c0_0000), (K4, 0xffff_fdff_c300_0000_u64)];
    for (granule, va) in vectors {
        let layout = Layout::linux(granule, 48, 0x4000_0000);
        let pfn = Pfn::containing(PhysAddr::new(0x1_0000_0000), granule.shift());
        assert_eq!(layout.page(pfn).value(), va);
        assert_eq!(layout.pfn(VirtAddr::new(va)), pfn);
        assert_eq!(layout.linear_address(PhysAddr::new(0x1_0000_0000)).value(), 0xffff_0000_c000_0000);
    }
}

#[test]
fn one_vmemmap_page_describes_256k_4m_64m() {
    let described = |g| Layout::linux(g, 48, 0).described_by_page();
    assert_eq!([K4, K16, K64].map(described), [256 << 10, 4 << 20, 64 << 20]);
}

/// Every range of whole sub-sections in 256 MiB: each page of vmemmap that describes part of it is looked at.
#[test]
fn the_interior_is_what_whole_pages_of_vmemmap_describe() {
    const SUBSECTION: u64 = 2 << 20;
    for (granule, memstart) in GranuleSize::ALL.into_iter().flat_map(|granule| [(granule, GIB), (granule, 6 * MIB)]) {
        for shift in 4..=7 {
            let linux = Layout::linux(granule, 48, memstart);
            let vmemmap = VirtRange::new(VirtAddr::new(0xffff_f000_0000_0000), linux.vmemmap().bytes());
            let layout = Layout::new(granule, linux.linear(), vmemmap, memstart, shift);
            let unit = layout.described_by_page();
            let pairs = thinned(0..128).flat_map(|offset| thinned(0..=128 - offset).map(move |size| (offset, size)));
            for (offset, size) in pairs {
                let range = PhysRange::new(PhysAddr::new(4 * GIB + offset * SUBSECTION), size * SUBSECTION).unwrap();
                // Pages of vmemmap begin to describe at multiples of `unit` from memstart on.
                let first = memstart + (range.start().value() - memstart).next_multiple_of(unit);
                let whole = range.end().value().saturating_sub(first) / unit;
                let interior = layout.interior(range);
                assert_eq!(interior.bytes(), whole * unit, "{granule} {range}");
                assert!(whole == 0 || interior.start().value() == first, "{granule} {range} {interior}");
            }
        }
    }
}

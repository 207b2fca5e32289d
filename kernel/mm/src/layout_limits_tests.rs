//! First and last byte of what can be mapped and of what can be described, at every row, CPU and memstart.

use super::*;
use GranuleSize::{K4, K16, K64};

const TIB: u64 = 1 << 40;

const ROWS: [(GranuleSize, u32); 10] =
    [(K4, 39), (K4, 48), (K4, 52), (K16, 36), (K16, 47), (K16, 48), (K16, 52), (K64, 42), (K64, 48), (K64, 52)];
/// What `PARange` can say, up to 52 bits.
const PA_BITS: [u32; 7] = [32, 36, 40, 42, 44, 48, 52];

fn lowest(actual_va_bits: u32) -> VirtAddr {
    page_offset(actual_va_bits)
}

fn bytes(start: u64, end: u64) -> PhysRange {
    PhysRange::between(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
}

/// Where memory may start: Linux's choice for RAM near and far and for more than fits, the same moved down at random
/// (often below 0), and the first and last that leave anything to be mapped.
fn memstarts(granule: GranuleSize, va_bits: u32, actual: u32) -> Vec<u64> {
    let linear = Layout::linux(granule, va_bits, 0).linear().bytes();
    let align = memstart_alignment(granule);
    let rams = [bytes(GIB, 2 * GIB), bytes(200 * TIB, 200 * TIB + GIB), bytes(3 * GIB, 3 * GIB + linear + GIB)];
    let linux = rams.map(|ram| memstart(granule, va_bits, actual, ram));
    let moved = [1, 16, 64_000].map(|steps: u64| linux[0].wrapping_sub(steps * align));
    let edges = [0, linear.wrapping_neg(), linear.wrapping_neg().wrapping_add(align), (1 << 52) - align, 1 << 52];
    linux.into_iter().chain(moved).chain(edges).collect()
}

/// Every layout that a kernel can have, with the VA size of the CPU that it runs on.
fn for_each_layout(mut check: impl FnMut(Layout, u32)) {
    for (granule, va_bits) in ROWS {
        for actual in [va_bits, va_bits_min(granule, va_bits)] {
            for memstart in memstarts(granule, va_bits, actual) {
                check(Layout::linux(granule, va_bits, memstart), actual);
            }
        }
    }
}

/// `range` holds its first and its last byte, and not the next ones; an empty one none at all.
fn is_exact(range: PhysRange, holds: impl Fn(u64) -> bool) -> bool {
    let (start, end) = (range.start().value(), range.end().value());
    if range.is_empty() {
        return (0..=52).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).chain([0, u64::MAX]).all(|pa| !holds(pa));
    }
    holds(start) && holds(end - 1) && !holds(end) && (start == 0 || !holds(start - 1))
}

/// Judged address by address: it exists, and the linear map shows it where the CPU translates.
#[test]
fn the_first_and_the_last_mappable_byte_are_exact_everywhere() {
    let (mut negative, mut empty) = (0, 0);
    for_each_layout(|layout, actual| {
        for pa_bits in PA_BITS {
            let range = layout.mappable(pa_bits, lowest(actual));
            let holds = |pa: u64| {
                let va = layout.linear_address(PhysAddr::new(pa));
                pa >> pa_bits == 0 && layout.linear().contains(va) && va >= lowest(actual)
            };
            assert!(is_exact(range, holds), "{range} on {actual} bits, {pa_bits} of output: {layout:x?}");
            negative += u32::from(layout.memstart() >> 63 == 1);
            empty += u32::from(range.is_empty());
        }
    });
    assert!(negative > 100 && empty > 10, "{negative} {empty}");
}

/// Judged frame by frame: its struct page lies in the window.
#[test]
fn the_first_and_the_last_describable_byte_are_exact_everywhere() {
    for_each_layout(|layout, _| {
        let range = layout.describable();
        let shift = layout.granule().shift();
        let holds = |pa: u64| {
            pa >> 52 == 0 && layout.vmemmap().contains(layout.page(Pfn::containing(PhysAddr::new(pa), shift)))
        };
        assert!(is_exact(range, holds), "{range}: {layout:x?}");
    });
}

#[test]
fn all_that_can_be_mapped_can_be_described() {
    for_each_layout(|layout, actual| {
        let (mapped, described) = (layout.mappable(52, lowest(actual)), layout.describable());
        let inside = described.start() <= mapped.start() && mapped.end() <= described.end();
        assert!(mapped.is_empty() || inside, "{mapped} {described}: {layout:x?}");
    });
}

/// Linux, 64K: `memory_hotplug` accepts up to 0x80003fffffff with RAM at 1 GiB, and nothing below it.
#[test]
fn with_ram_at_1_gib_the_linear_map_ends_1_gib_above_its_size() {
    for (granule, va_bits) in ROWS {
        let layout = Layout::linux(granule, va_bits, GIB);
        let range = layout.mappable(52, lowest(va_bits));
        assert_eq!(range, bytes(GIB, GIB + layout.linear().bytes()), "{granule}/{va_bits}");
        assert_eq!(layout.describable(), range, "{granule}/{va_bits}");
    }
    let layout = Layout::linux(K64, 48, GIB);
    assert_eq!(layout.mappable(48, lowest(48)).end().value(), 0x8000_4000_0000, "last byte 0x80003fffffff");
    assert_eq!(layout.mappable(40, lowest(48)).end().value(), 1 << 40, "the CPU's physical range clips it");
}

/// Linux's fallback: the same windows, of which only the upper part is translated, and that is the layout without 52 bits.
#[test]
fn a_52_bit_kernel_on_older_hardware_maps_from_the_start_of_ram_on() {
    let ram = bytes(GIB, 2 * GIB);
    for (granule, actual) in [(K4, 48), (K16, 47), (K64, 48)] {
        let layout = Layout::linux(granule, 52, memstart(granule, 52, actual, ram));
        let half = 1 << (actual - 1);
        assert_eq!(layout.mappable(52, lowest(actual)), bytes(GIB, GIB + half), "{granule}");
        assert_eq!(layout.mappable(44, lowest(actual)), bytes(GIB, 1 << 44), "{granule}");
        assert_eq!(layout.mappable(52, lowest(52)), bytes(0, GIB + half), "{granule}: translated, it would be more");
        let (narrow, pfn) = (Layout::linux(granule, actual, GIB), Pfn::containing(ram.start(), granule.shift()));
        assert_eq!(layout.page(pfn), narrow.page(pfn), "{granule}: where the layout without 52 bits has it");
        assert_eq!(layout.linear_address(ram.start()), narrow.linear().start(), "{granule}");
    }
}

/// Linux 58284a901b42 and after: a start that is negative is 0, and a range whose end wraps is not empty.
#[test]
fn a_memstart_below_zero_maps_from_zero_on() {
    let layout = Layout::linux(K4, 48, (64 * GIB).wrapping_neg());
    assert_eq!(layout.mappable(48, lowest(48)), bytes(0, (1 << 47) - 64 * GIB));
    assert_eq!(layout.describable(), bytes(0, (1 << 47) - 64 * GIB));
    let nothing = Layout::linux(K4, 48, (1_u64 << 47).wrapping_neg());
    assert!(nothing.mappable(48, lowest(48)).is_empty() && nothing.describable().is_empty());
}

/// Windows of an adopter's own: the vmemmap may describe less than the linear map shows, in struct pages of any size.
#[test]
fn what_can_be_described_follows_from_the_vmemmap_alone() {
    let linear = VirtRange::new(VirtAddr::new(0xffff_0000_0000_0000), 1 << 46);
    let vmemmap = VirtRange::new(VirtAddr::new(0xffff_f000_0000_0000), 64 * MIB);
    let layout = Layout::new(K64, linear, vmemmap, GIB, 7);
    assert_eq!(layout.describable(), bytes(GIB, GIB + (((64 * MIB) >> 7) << 16)));
    assert_eq!(layout.mappable(48, lowest(48)), bytes(GIB, GIB + (1 << 46)));
}

#[test]
fn windows_must_be_apart_and_translated() {
    let vmemmap = VirtRange::new(VirtAddr::new(0xffff_f000_0000_0000), 1 << 40);
    let fits = |start, bytes| {
        let linear = VirtRange::new(VirtAddr::new(start), bytes);
        Layout::new(K4, linear, vmemmap, 0, 6).fits(lowest(48))
    };
    assert!(fits(0xffff_0000_0000_0000, 1 << 47) && fits(0xfff0_0000_0000_0000, (1 << 52) - (1 << 47)));
    assert!(!fits(0xfff0_0000_0000_0000, 1 << 48), "nothing of the linear map is translated");
    assert!(!fits(0xffff_f000_4000_0000, 1 << 30) && !fits(0xffff_efff_0000_0000, 1 << 36), "in the vmemmap");
    let low = VirtRange::new(VirtAddr::new(0xfffe_f000_0000_0000), 1 << 40);
    let linear = VirtRange::new(VirtAddr::new(0xffff_0000_0000_0000), 1 << 47);
    assert!(!Layout::new(K4, linear, low, 0, 6).fits(lowest(48)), "the vmemmap begins below what is translated");
    assert!(Layout::linux(K64, 52, 0).fits(lowest(48)), "Linux's fallback");
}

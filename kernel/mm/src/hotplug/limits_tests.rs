//! The last unit that can be added and the first that can not, at every row and on every CPU.

use super::*;
use crate::addr::PhysAddr;
use crate::granule::{GranuleSize, K4, K16, K64, SUBSECTION_BYTES};
use crate::layout::memstart;
use crate::meta::StructPage;
use crate::regime::Regime;
use crate::testing::{GIB, Map, Ram, ask, range, tables};

const PA_BITS: [u32; 7] = [32, 36, 40, 42, 44, 48, 52];

fn sizes(granule: GranuleSize) -> &'static [u32] {
    match granule {
        GranuleSize::K4 => &[39, 48, 52],
        GranuleSize::K16 => &[36, 47, 48, 52],
        GranuleSize::K64 => &[42, 48, 52],
    }
}

/// The CPUs that a regime runs on.
fn cpus(regime: Regime) -> impl Iterator<Item = u32> {
    PA_BITS.into_iter().filter(move |pa_bits| *pa_bits <= regime.output().most_bits())
}

fn map_with<G: Granule>(layout: Layout, actual_va_bits: u32, pa_bits: u32) -> Map<G> {
    Hotplug::<_, _, StructPage>::new(tables::<G>(actual_va_bits), Ram::default(), layout, pa_bits).unwrap()
}

/// What becomes of the unit at `start`.
fn plan<G: Granule>(map: &mut Map<G>, start: u64) -> Result<PhysRange, PlanError> {
    let unit = range(PhysAddr::new(start), SUBSECTION_BYTES);
    map.plan(ask(unit)).map(|plan| plan.summary().range)
}

/// The units at both ends of what can be mapped are planned; those next to them are refused by name.
fn ends<G: Granule>(map: &mut Map<G>, pa_bits: u32) {
    let mappable = map.layout().mappable(pa_bits, map.tables().regime().lowest());
    let (start, end, unit) = (mappable.start().value(), mappable.end().value(), SUBSECTION_BYTES);
    let what = format!("{} {mappable} with {pa_bits} bits", G::SIZE);
    assert!(plan(map, start).is_ok() && plan(map, end - unit).is_ok(), "{what}");
    let beyond = plan(map, end).unwrap_err();
    let by_cpu = end == 1 << pa_bits;
    assert!(matches!(beyond, PlanError::BeyondCpu { .. }) == by_cpu, "{what}: {beyond}");
    assert!(matches!(beyond, PlanError::BeyondLinearMap { .. }) != by_cpu, "{what}: {beyond}");
    let across = map.plan(ask(range(PhysAddr::new(end - unit), 2 * unit))).map(|plan| plan.summary().range);
    assert!(across.is_err(), "{what}: across the end");
    if start > 0 {
        let below = plan(map, start - unit).unwrap_err();
        assert!(matches!(below, PlanError::BeyondLinearMap { .. }), "{what}: {below}");
    }
}

fn at_every_row<G: Granule>() {
    for &va_bits in sizes(G::SIZE) {
        // As on QEMU, moved below zero at random, and at 0.
        for memstart in [GIB, (3 * GIB).wrapping_neg(), 0] {
            let layout = Layout::linux(G::SIZE, va_bits, memstart);
            for pa_bits in cpus(Regime::of_size(G::SIZE, va_bits).unwrap()) {
                ends(&mut map_with::<G>(layout, va_bits, pa_bits), pa_bits);
            }
        }
    }
}

#[test]
fn the_last_unit_is_planned_and_the_next_refused_at_every_row() {
    at_every_row::<K4>();
    at_every_row::<K16>();
    at_every_row::<K64>();
}

fn in_fallback<G: Granule>(actual: u32) {
    let ram = range(PhysAddr::new(GIB), GIB);
    let layout = Layout::linux(G::SIZE, 52, memstart(G::SIZE, 52, actual, ram));
    for pa_bits in [40, 44, 48] {
        ends(&mut map_with::<G>(layout, actual, pa_bits), pa_bits);
    }
    let mut map = map_with::<G>(layout, actual, 48);
    assert!(matches!(plan(&mut map, 0), Err(PlanError::BeyondLinearMap { .. })), "below what the CPU translates");
}

/// A kernel for 52 bits keeps its windows on a CPU that has not so many.
#[test]
fn a_52_bit_kernel_on_older_hardware_refuses_what_the_cpu_does_not_translate() {
    in_fallback::<K4>(48);
    in_fallback::<K16>(47);
    in_fallback::<K64>(48);
}

fn added_at<G: Granule>(layout: Layout, actual: u32, pa_bits: u32, start: u64) {
    let mut map = map_with::<G>(layout, actual, pa_bits);
    let device = range(PhysAddr::new(start), SUBSECTION_BYTES);
    let region = map.plan(ask(device)).unwrap().commit().unwrap();
    for pa in [device.start(), PhysAddr::new(device.end().value() - 1)] {
        let shown = map.tables().walk(map.layout().linear_address(pa)).translation().map(|(_, pa)| pa);
        assert_eq!(shown, Some(pa), "{} {actual}", G::SIZE);
        let pfn = Pfn::containing(pa, G::SIZE.shift());
        assert!(map.is_valid(pfn) && map.tables().walk(map.layout().page(pfn)).translation().is_some(), "{pfn:?}");
    }
    let frames = map.frames.out.len();
    map.remove(region).unwrap();
    assert!(map.frames.out.len() < frames, "its tables went with it");
}

fn at_both_ends<G: Granule>() {
    for &va_bits in sizes(G::SIZE) {
        let layout = Layout::linux(G::SIZE, va_bits, GIB);
        let regime = Regime::of_size(G::SIZE, va_bits).unwrap();
        let most = regime.output().most_bits();
        let mappable = layout.mappable(most, regime.lowest());
        let unit = SUBSECTION_BYTES;
        added_at::<G>(layout, va_bits, most, mappable.start().value());
        added_at::<G>(layout, va_bits, most, mappable.end().value() - unit);
    }
}

/// Not only planned: above 48 bits of physical address, too, the tables show it where it is.
#[test]
fn the_first_and_the_last_unit_are_added_and_removed() {
    at_both_ends::<K4>();
    at_both_ends::<K16>();
    at_both_ends::<K64>();
    let ram = range(PhysAddr::new(GIB), GIB);
    let fallback = Layout::linux(GranuleSize::K64, 52, memstart(GranuleSize::K64, 52, 48, ram));
    added_at::<K64>(fallback, 48, 48, GIB);
    added_at::<K64>(fallback, 48, 48, GIB + (1 << 47) - 64 * (1 << 20));
}

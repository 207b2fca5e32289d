//! Ranges that start and end at any 2 MiB boundary: edge pages of the vmemmap, early sections, and who frees what.

use std::collections::BTreeMap;

use super::*;
use crate::addr::PhysAddr;
use crate::granule::{K4, K16, K64};
use crate::testing::{DEVICE, GIB, MIB, Map, Plain, Ram, Seen, ask, memory_map, range, take_log};

const UNIT: u64 = 2 * MIB;

/// A memory map with struct pages of an adopter.
pub(super) type MapOf<G, P> = Hotplug<Plain<G>, Ram, P>;

pub(super) fn add<G: Granule>(map: &mut Map<G>, device: PhysRange, policy: LeafPolicy, in_altmap: bool) -> Region {
    let mut request = ask(device).policy(policy);
    if in_altmap {
        request = request.altmap(map.tight_altmap(device, policy, 0));
    }
    let out = |map: &Map<G>| map.frames.out.values().sum::<u64>() - map.section_bytes();
    let before = out(map);
    let plan = map.plan(request).unwrap_or_else(|error| panic!("{device}: {error}"));
    let planned = plan.summary().ram_bytes;
    let region = plan.commit().unwrap();
    assert_eq!(out(map) - before, planned, "{device}: RAM as planned");
    region
}

/// Every pfn of `device` at a sub-section's bounds, and one before and behind it.
fn pfns(device: PhysRange, shift: u32) -> impl Iterator<Item = Pfn> {
    let bounds = (device.start().value()..device.end().value()).step_by(UNIT as usize);
    bounds.flat_map(|start| [start, start + UNIT - 1]).map(move |at| Pfn::containing(PhysAddr::new(at), shift))
}

/// The first word of a struct page, as the tables map it.
pub(super) fn flags<G: Granule, P: Meta>(map: &MapOf<G, P>, pfn: Pfn) -> u64 {
    let va = map.layout().page(pfn);
    let (_, at) = map.tables().walk(va).translation().unwrap_or_else(|| panic!("{pfn:?} has no struct page"));
    let written = &map.tables().machine().written;
    let (start, bytes) = written.range(..=at.value()).next_back().expect("written");
    let offset = (at.value() - start) as usize;
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

pub(super) fn frames_and_tables<G: Granule, P: Meta>(map: &MapOf<G, P>) -> (BTreeMap<u64, u64>, Vec<u64>) {
    let mut live = Vec::new();
    collect(map, map.tables().root(), map.tables().regime().start_level(), &mut live);
    (map.frames.out.clone(), live)
}

/// Every descriptor below `table`.
fn collect<G: Granule, P: Meta>(map: &MapOf<G, P>, table: PhysAddr, level: crate::granule::Level, live: &mut Vec<u64>) {
    use crate::seam::Memory as _;
    for index in 0..map.tables().regime().entries(level) {
        let bits = map.tables().machine().read(table.add(index * 8));
        let descriptor = crate::descriptor::Descriptor::from_bits(bits);
        if bits != 0 {
            live.push(bits);
        }
        if descriptor.is_table(level) {
            let below = descriptor.address(G::SIZE, map.tables().regime().output());
            collect(map, below, level.child(), live);
        }
    }
}

/// Adds `device` where nothing else is, checks that the struct pages at its bounds are there and where they may be, and
/// removes it.
fn alone<G: Granule>(map: &mut Map<G>, device: PhysRange, policy: LeafPolicy, in_altmap: bool) {
    let before = map.frames.out.clone();
    let region = add(map, device, policy, in_altmap);
    let bounds =
        [device.start(), PhysAddr::new(device.end().value() - 1)].map(|at| Pfn::containing(at, G::SIZE.shift()));
    for pfn in bounds {
        assert!(map.is_valid(pfn) && flags(map, pfn) >> 63 == 1, "{device}: {pfn:?}");
    }
    let beside = [Pfn::new(bounds[0].number() - 1), bounds[1].add(1)];
    assert!(beside.iter().all(|pfn| !map.is_valid(*pfn)), "{device}");
    let zone = region.storage().altmap().map(|altmap| altmap.storage());
    for stretch in region.memmap().interior_stretches() {
        let (_, frame) = map.tables().walk(stretch.va).translation().unwrap();
        let pfn = Pfn::containing(frame, G::SIZE.shift());
        assert!(zone.is_none_or(|(first, end)| first <= pfn && pfn < end), "{device}: {frame} is not the altmap's");
    }
    for edge in region.memmap().edges().into_iter().flatten() {
        let (_, frame) = map.tables().walk(edge).translation().unwrap();
        assert!(map.frames.out.contains_key(&frame.value()), "{device}: the edge page {edge} is not RAM");
    }
    map.remove(region).unwrap();
    assert_eq!(before, map.frames.out, "{device} {policy:?}");
    assert!(bounds.iter().all(|pfn| !map.is_valid(*pfn)));
}

/// H1: every offset and size within a section; Linux leaves the last page unmapped for 496 of 2,080 at 16K and 13,888 of
/// 32,896 at 64K.
fn all_pairs<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let units = (1 << G::SIZE.section_shift()) / UNIT;
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, range(DEVICE, units * UNIT)).unwrap();
    let before = frames_and_tables(&map);
    for offset in 0..units {
        for size in 1..=units - offset {
            let policy = [LeafPolicy::Largest, LeafPolicy::Linux][(offset + size) as usize % 2];
            alone(&mut map, range(DEVICE.add(offset * UNIT), size * UNIT), policy, size % 3 != 0);
            take_log();
        }
    }
    assert_eq!(before, frames_and_tables(&map));
}

#[test]
fn every_offset_and_size_within_a_section_comes_and_goes_at_4k() {
    all_pairs::<K4>();
}

#[test]
fn every_offset_and_size_within_a_section_comes_and_goes_at_16k() {
    all_pairs::<K16>();
}

#[test]
fn every_offset_and_size_within_a_section_comes_and_goes_at_64k() {
    all_pairs::<K64>();
}

/// H2, B12: four ranges in one page of vmemmap (two pages at 16K), every order of removal; the others stay as they are.
fn neighbours<G: Granule>() {
    let orders = [[0_usize, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
    for order in orders {
        for policy in [LeafPolicy::Largest, LeafPolicy::Pages] {
            let mut map = memory_map::<G>(48);
            let device = |index: u64| range(DEVICE.add(index * UNIT), UNIT);
            map.sections.prepare(map.tables.machine_mut(), &mut map.frames, range(DEVICE, 4 * UNIT)).unwrap();
            let before = frames_and_tables(&map);
            let mut regions = [0, 1, 2, 3].map(|index| Some(add(&mut map, device(index), policy, index % 2 == 0)));
            for gone in order {
                map.remove(regions[gone].take().unwrap()).unwrap();
                for (index, region) in (0..).zip(&regions) {
                    for pfn in pfns(device(index), G::SIZE.shift()) {
                        assert_eq!(map.is_valid(pfn), region.is_some(), "{index} after {gone}");
                        assert!(region.is_none() || flags(&map, pfn) >> 63 == 1, "{index} after {gone}");
                    }
                }
            }
            assert_eq!(before, frames_and_tables(&map), "{order:?} {policy:?}");
        }
    }
}

#[test]
fn removing_one_neighbour_keeps_the_shared_page() {
    neighbours::<K4>();
    neighbours::<K16>();
    neighbours::<K64>();
}

/// B6, H12: RAM ends in the middle of a section; device memory in the rest of it.
fn early<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let section = 1_u64 << G::SIZE.section_shift();
    let ram_end = DEVICE.add(section + 6 * MIB);
    map.add_boot_ram(range(DEVICE, section + 6 * MIB), LeafPolicy::Linux).unwrap();
    let inside = range(ram_end, 4 * MIB);
    let across = range(DEVICE.add(2 * section - 8 * MIB), section + 8 * MIB);
    // Records of the section behind.
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, across).unwrap();
    let before = frames_and_tables(&map);
    let shift = G::SIZE.shift();
    for round in 0..2 {
        let tight = map.tight_altmap(inside, LeafPolicy::Largest, 0);
        assert_eq!(tight.free(), 0, "boot has brought its struct pages: nothing is set aside");
        let one = add(&mut map, inside, LeafPolicy::Largest, true);
        let two = add(&mut map, across, LeafPolicy::Largest, true);
        assert!(one.memmap().is_empty() && !two.memmap().is_empty(), "{}", G::SIZE);
        for pfn in pfns(inside, shift).chain(pfns(across, shift)) {
            assert!(map.is_valid(pfn) && flags(&map, pfn) >> 63 == 1, "{} {pfn:?} round {round}", G::SIZE);
        }
        let overlap = map.plan(ask(range(PhysAddr::new(ram_end.value() - UNIT), UNIT))).unwrap_err();
        assert!(matches!(overlap, PlanError::BootRam { .. }), "{overlap}");
        map.remove(one).unwrap();
        assert!(pfns(inside, shift).all(|pfn| flags(&map, pfn) == 0), "as boot left it");
        map.remove(two).unwrap();
        assert_eq!(before, frames_and_tables(&map), "{} round {round}", G::SIZE);
        assert!(pfns(inside, shift).all(|pfn| map.is_valid(pfn)), "an early section is valid over its whole span");
    }
}

#[test]
fn device_memory_in_a_section_of_ram_uses_boots_struct_pages() {
    early::<K4>();
    early::<K16>();
    early::<K64>();
}

#[test]
fn ram_in_pieces_may_share_a_section() {
    let mut map = memory_map::<K64>(48);
    let base = DEVICE.value();
    for (start, bytes) in [(base, 64 * MIB), (base + 128 * MIB, 512 * MIB), (base + GIB, 2 * MIB)] {
        map.add_boot_ram(range(PhysAddr::new(start), bytes), LeafPolicy::Linux).unwrap();
    }
    let hole = range(DEVICE.add(64 * MIB), 64 * MIB);
    let region = add(&mut map, hole, LeafPolicy::Largest, false);
    assert!(region.memmap().is_empty());
    let taken = map.plan(ask(range(DEVICE.add(256 * MIB), 2 * MIB))).unwrap_err();
    assert!(matches!(taken, PlanError::BootRam { .. }));
    map.remove(region).unwrap();
}

/// An adopter's windows, in which a page of vmemmap describes the end of one section and the start of the next.
#[test]
fn a_page_that_boot_shares_with_the_next_section_stays_boots() {
    let window = |start, bytes| crate::addr::VirtRange::new(crate::addr::VirtAddr::new(start), bytes);
    let (linear, vmemmap) = (window(0xffff_0000_0000_0000, 64 * GIB), window(0xffff_8000_0000_0000, GIB));
    let layout = Layout::new(crate::granule::GranuleSize::K64, linear, vmemmap, GIB - 2 * MIB, 6);
    let (tables, ram) = (crate::testing::tables::<K64>(48), Ram::default());
    let mut map = Map::<K64>::new(tables, ram, layout, 40).unwrap();
    map.add_boot_ram(range(PhysAddr::new(GIB), 256 * MIB), LeafPolicy::Linux).unwrap();
    let behind = range(PhysAddr::new(GIB + 512 * MIB), 4 * MIB);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, behind).unwrap();
    let before = frames_and_tables(&map);
    let region = add(&mut map, behind, LeafPolicy::Largest, true);
    assert_eq!(map.frames.out.len(), before.0.len() + 2, "two tables of the linear map: the page is there");
    map.remove(region).unwrap();
    assert_eq!(before, frames_and_tables(&map));
}

/// The other end of a section: RAM begins in the middle of it and goes on to its end.
fn early_at_the_end<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let section = 1_u64 << G::SIZE.section_shift();
    let behind = DEVICE.add(section);
    map.add_boot_ram(range(behind.add(section - 6 * MIB), 6 * MIB), LeafPolicy::Linux).unwrap();
    let across = range(DEVICE.add(section - 4 * MIB), 8 * MIB);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, across).unwrap();
    let before = frames_and_tables(&map);
    for in_altmap in [true, false] {
        let region = add(&mut map, across, LeafPolicy::Linux, in_altmap);
        let own = region.memmap().range();
        assert_eq!(own, map.layout().pages(range(across.start(), 4 * MIB)), "{}: boot has brought the others", G::SIZE);
        for pfn in pfns(across, G::SIZE.shift()) {
            assert!(map.is_valid(pfn) && flags(&map, pfn) >> 63 == 1, "{} {pfn:?}", G::SIZE);
        }
        map.remove(region).unwrap();
        assert_eq!(before, frames_and_tables(&map), "{}", G::SIZE);
    }
}

#[test]
fn a_range_that_ends_before_the_ram_of_a_section_uses_boots_struct_pages_there() {
    early_at_the_end::<K4>();
    early_at_the_end::<K16>();
    early_at_the_end::<K64>();
}

/// Pfns of an early section stay valid, so struct pages there are readers' until those have left.
#[test]
fn boots_struct_pages_are_put_back_only_when_readers_are_gone() {
    let mut map = memory_map::<K64>(48);
    map.add_boot_ram(range(DEVICE, 6 * MIB), LeafPolicy::Linux).unwrap();
    let device = range(DEVICE.add(8 * MIB), 4 * MIB);
    let region = add(&mut map, device, LeafPolicy::Largest, false);
    let (mut machine, sections) = (map.tables().machine().clone(), map.sections);
    take_log();
    map.remove(region).unwrap();
    let log = take_log();
    let waited = log.iter().position(|seen| *seen == Seen::Quiesce).expect("it waits");
    let writes = |seen: &Seen| matches!(seen, Seen::Machine(crate::observe::Event::Access(_)));
    assert!(!log[..waited].iter().any(writes), "written while readers are there");
    assert!(log[waited..].iter().any(writes), "written at all");
    log[..waited].iter().for_each(|seen| machine.replay(seen));
    assert_eq!(sections.first_active(&machine, device), None, "its owner's no more when the wait begins");
}

/// Nothing to publish: the page that boot or a neighbour has mapped serves, so another CPU's stores were ordered long ago.
#[test]
fn a_private_range_in_its_neighbours_page_takes_no_barrier_but_the_isb() {
    let mut map = memory_map::<K64>(48);
    let device = |index: u64| Request::private(range(DEVICE.add(index * UNIT), UNIT));
    let neighbour = map.plan(device(0)).unwrap().commit().unwrap();
    take_log();
    let region = map.plan(device(1)).unwrap().commit().unwrap();
    let events: Vec<_> = take_log().into_iter().filter(|seen| matches!(seen, Seen::Machine(_))).collect();
    let pages = crate::observe::Event::Access(map.layout().pages(region.range()));
    assert_eq!(events, [Seen::Machine(crate::observe::Event::Isb), Seen::Machine(pages)]);
    map.remove(neighbour).unwrap();
    map.remove(region).unwrap();
}

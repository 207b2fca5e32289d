//! The life of ranges on plain memory, at every granule.

use super::*;
use crate::addr::{PhysAddr, VirtAddr};
use crate::count::Count;
use crate::descriptor::{Attributes, TableAttributes};
use crate::granule::{GranuleSize, K4, K16, K64};
use crate::mapping;
use crate::observe::Observed;
use crate::table::Protection;
use crate::testing::{DEVICE, GIB, MIB, Map, ask, memory_map, range};

/// Runs a test body at every granule.
macro_rules! every_granule {
    ($($test:ident => $body:ident),* $(,)?) => {$(
        #[test]
        fn $test() {
            $body::<K4>();
            $body::<K16>();
            $body::<K64>();
        }
    )*};
}

every_granule! {
    leaves_are_linuxs => vectors,
    every_va_size_works_up_to_its_last_byte => va_sizes,
    removing_what_was_added_leaves_memory_as_it_was => round_trip,
    a_failed_add_changes_nothing_and_can_be_retried => failure_injection,
    every_byte_of_every_struct_page_is_written => struct_pages,
    ranges_go_in_any_order => any_order,
    overlaps_are_found_anywhere_in_the_range => overlaps,
    an_add_takes_four_barriers_and_no_invalidation => barrier_bound,
}

fn nvdimm<G: Granule>(range: PhysRange) -> Request {
    ask(range).altmap(Altmap::nvdimm(range, G::SIZE)).policy(LeafPolicy::Linux)
}

fn tight<G: Granule>(map: &Map<G>, range: PhysRange, policy: LeafPolicy) -> Request {
    ask(range).altmap(Altmap::tight(map.layout(), range, policy, 0)).policy(policy)
}

fn leaf_at<G: Granule>(map: &Map<G>, va: u64) -> u64 {
    map.tables().walk(VirtAddr::new(va)).translation().map_or(0, |(step, _)| step.descriptor.bits())
}

/// Descriptors measured on Linux for 1 GiB at 4 GiB: 6.12 with large leaves, the 4K block leaf as 7.3 writes it.
fn vectors<G: Granule>() {
    let (memmap, linear) = match G::SIZE {
        GranuleSize::K64 => (
            [
                (0xffff_ffdf_c030_0000, 0x00e8_0001_0001_0703),
                (0xffff_ffdf_c031_0000, 0x00e8_0001_0002_0703),
                (0xffff_ffdf_c032_0000, 0x00e8_0001_0003_0703),
                (0xffff_ffdf_c03f_0000, 0x00e8_0001_0010_0703),
                (0xffff_ffdf_c040_0000, 0),
            ],
            [0x00e8_0001_0000_0701, 0x00e8_0001_2000_0701],
        ),
        GranuleSize::K16 => (
            [
                (0xffff_ff7f_c0c0_0000, 0x00e8_0001_0000_4703),
                (0xffff_ff7f_c0c0_4000, 0x00e8_0001_0000_8703),
                (0xffff_ff7f_c0c0_8000, 0x00e8_0001_0000_c703),
                (0xffff_ff7f_c0ff_c000, 0x00e8_0001_0040_0703),
                (0xffff_ff7f_c100_0000, 0),
            ],
            [0x00f8_0001_0000_0701, 0x00f8_0001_3e00_0701],
        ),
        GranuleSize::K4 => (
            [
                (0xffff_fdff_c300_0000, 0x00e8_0001_0020_0701),
                (0xffff_fdff_c320_0000, 0x00e8_0001_0040_0701),
                (0xffff_fdff_c340_0000, 0x00e8_0001_0060_0701),
                (0xffff_fdff_c3e0_0000, 0x00e8_0001_0100_0701),
                (0xffff_fdff_c400_0000, 0),
            ],
            [0x00e8_0001_0000_0701, 0x00e8_0001_0000_0701],
        ),
    };
    let mut map = memory_map::<G>(48);
    let region = map.plan(nvdimm::<G>(range(DEVICE, GIB))).unwrap().commit().unwrap();
    for (va, descriptor) in memmap {
        assert_eq!(leaf_at(&map, va), descriptor, "{} {va:016x}", G::SIZE);
    }
    let last = 0xffff_0000_c000_0000 + GIB - 1;
    assert_eq!([leaf_at(&map, 0xffff_0000_c000_0000), leaf_at(&map, last)], linear, "{}", G::SIZE);
    map.remove(region).unwrap();
}

fn round_trip<G: Granule>() {
    for (policy, bytes) in [(LeafPolicy::Largest, 4 * GIB), (LeafPolicy::Linux, GIB), (LeafPolicy::Pages, 192 * MIB)] {
        for in_ram in [false, true] {
            let mut map = memory_map::<G>(48);
            let device = range(DEVICE, bytes);
            // The section records stay; a first round makes them.
            for round in 0..2 {
                let before = (map.tables().machine().image(), map.frames.out.clone());
                let request = if in_ram { ask(device).policy(policy) } else { tight(&map, device, policy) };
                let region = map.plan(request).unwrap().commit().unwrap();
                let last = Pfn::containing(PhysAddr::new(device.end().value() - 1), G::SIZE.shift());
                assert!(map.is_valid(last) && !map.is_valid(last.add(1)));
                let removed = map.remove(region).unwrap();
                assert_eq!(removed.storage, *request.storage(), "the altmap comes back as it went in");
                assert!(!map.is_valid(last));
                if round == 1 {
                    assert_eq!(map.frames.out, before.1);
                    assert_eq!(tables_image(&map), without_frames(before.0, &map), "{policy:?}");
                }
            }
        }
    }
}

fn tables_image<G: Granule>(map: &Map<G>) -> std::collections::BTreeMap<u64, u64> {
    without_frames(map.tables().machine().image(), map)
}

/// Memory that is in use: the content of free frames is nobody's, nor is that of vacant records.
fn without_frames<G: Granule>(
    image: std::collections::BTreeMap<u64, u64>,
    map: &Map<G>,
) -> std::collections::BTreeMap<u64, u64> {
    let in_use = |at: u64| {
        at < 0x5000_0000 || map.frames.out.range(..=at).next_back().is_some_and(|(start, bytes)| at < start + bytes)
    };
    let registry = map.regions.root().value()..map.regions.root().add(G::SIZE.bytes()).value();
    image.into_iter().filter(|(at, _)| in_use(*at) && !registry.contains(at)).collect()
}

/// The last range that each linear map can show: roots at level 1 and 2, windows that end where another begins.
fn va_sizes<G: Granule>() {
    let sizes: &[u32] = match G::SIZE {
        GranuleSize::K4 => &[39, 48],
        GranuleSize::K16 => &[36, 47, 48],
        GranuleSize::K64 => &[42, 48],
    };
    for &va_bits in sizes {
        let mut map = memory_map::<G>(va_bits);
        let end = map.layout().mappable(48, map.tables().regime().lowest()).end();
        let device = range(PhysAddr::new(end.value() - GIB), GIB);
        map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
        let before = (tables_image(&map), map.frames.out.clone());
        let region = map.plan(tight(&map, device, LeafPolicy::Largest)).unwrap().commit().unwrap();
        let last = device.end().value() - 1;
        let (_, pa) = map.tables().walk(map.layout().linear_address(PhysAddr::new(last))).translation().unwrap();
        assert_eq!(pa.value(), last, "{} {va_bits}", G::SIZE);
        map.remove(region).unwrap();
        assert_eq!(before, (tables_image(&map), map.frames.out.clone()), "{} {va_bits}", G::SIZE);
        let beyond = range(PhysAddr::new(end.value()), GIB);
        assert!(matches!(
            map.plan(ask(beyond)).unwrap_err(),
            PlanError::BeyondLinearMap { .. } | PlanError::BeyondCpu { .. }
        ));
    }
}

fn failure_injection<G: Granule>() {
    for (in_ram, policy) in [(false, LeafPolicy::Pages), (true, LeafPolicy::Pages), (true, LeafPolicy::Linux)] {
        // At 4K and with Linux's leaves: half a section of pages, then blocks.
        let device = range(PhysAddr::new((1 << 45) + 64 * MIB), GIB);
        let mut map = memory_map::<G>(48);
        let request = if in_ram { ask(device).policy(policy) } else { tight(&map, device, policy) };
        // Make the section records once: they are allowed to stay.
        map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
        let mut failures = 0;
        for budget in 0.. {
            let before = (tables_image(&map), map.frames.out.clone());
            map.frames.budget = budget;
            let result = map.plan(request).unwrap().commit();
            map.frames.budget = u64::MAX;
            if let Ok(region) = result {
                map.remove(region).unwrap();
                break;
            }
            failures += 1;
            assert_eq!(before.1, map.frames.out, "frames leaked when allocation {budget} failed");
            assert_eq!(before.0, tables_image(&map), "memory changed when allocation {budget} failed");
        }
        assert!(failures > 1, "a far range needs tables");
    }
}

fn struct_pages<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(DEVICE, GIB);
    let altmap = Altmap::new(device, G::SIZE, 3, (GIB >> G::SIZE.shift()) / 2);
    let region = map.plan(ask(device).altmap(altmap)).unwrap().commit().unwrap();
    let layout = *map.layout();
    let mut seen = 0;
    for stretch in region.memmap().stretches() {
        let step = 1 << G::SIZE.level_shift(stretch.leaf.level);
        for index in 0..stretch.descriptors(G::SIZE) {
            let va = stretch.va.add(index * step);
            let (_, frame) = map.tables().walk(va).translation().unwrap();
            let bytes = &map.tables().machine().written[&frame.value()];
            for (page, words) in bytes.chunks(64).enumerate() {
                let pfn = layout.pfn(va).add(page as u64);
                let reserved = pfn < altmap.storage().1;
                let flags = u64::from_le_bytes(words[..8].try_into().unwrap());
                assert_eq!(flags, 1 << 63 | u64::from(reserved) << 13, "{pfn:?}");
                assert_eq!(words[8..48], [0; 40]);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, GIB >> G::SIZE.shift());
    map.remove(region).unwrap();
}

fn any_order<G: Granule>() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut map = memory_map::<G>(48);
        let start = |index: u64| PhysAddr::new((1 << 45) + index * 128 * MIB);
        map.sections.prepare(map.tables.machine_mut(), &mut map.frames, range(start(0), 384 * MIB)).unwrap();
        let before = (tables_image(&map), map.frames.out.clone());
        let mut regions = [0, 1, 2].map(|index| {
            let request = tight(&map, range(start(index), 128 * MIB), LeafPolicy::Pages);
            Some(map.plan(request).unwrap().commit().unwrap())
        });
        for index in order {
            map.remove(regions[index].take().unwrap()).unwrap();
            for (other, region) in regions.iter().enumerate() {
                let va = map.layout().linear_address(start(other as u64)).value();
                assert_eq!(leaf_at(&map, va) != 0, region.is_some(), "range {other} after removing {index}");
            }
        }
        assert_eq!(before, (tables_image(&map), map.frames.out.clone()), "{order:?}");
    }
}

fn overlaps<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let live = range(DEVICE.add(GIB), GIB);
    let region = map.plan(tight(&map, live, LeafPolicy::Largest)).unwrap().commit().unwrap();
    let before = (tables_image(&map), map.frames.out.clone());
    let cases = [(GIB, GIB), (0, 3 * GIB), (GIB / 2, GIB), (GIB + GIB / 2, 4 * GIB), (GIB + 128 * MIB, 128 * MIB)];
    for (offset, bytes) in cases {
        let asked = range(DEVICE.add(offset), bytes);
        let error = map.plan(ask(asked)).unwrap_err();
        assert!(matches!(error, PlanError::Overlap { .. }), "{error}");
    }
    assert_eq!(before, (tables_image(&map), map.frames.out.clone()));
    map.remove(region).unwrap();
}

fn barrier_bound<G: Granule>() {
    for policy in [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages] {
        // SAFETY: the observer only watches.
        let mut map = unsafe { memory_map::<G>(48).on(|machine| Observed::new(machine, Count::default())) };
        let device = range(DEVICE, 4 * GIB);
        let altmap = Altmap::tight(map.layout(), device, policy, 0);
        let plan = map.plan(ask(device).altmap(altmap).policy(policy)).unwrap();
        let tables = plan.summary().linear_tables + plan.summary().memmap_tables;
        let region = plan.commit().unwrap();
        let add = map.tables_mut().observer().take();
        // One each for leaves in tables that exist; one more where new tables are linked.
        assert!(add.dsb <= 4 && add.tlbi == 0 && (tables > 0 || add.dsb == 2), "{policy:?} {add:?}");
        assert_eq!(add.tables_zeroed, tables);
        map.remove(region).unwrap();
        let remove = map.tables_mut().observer().take();
        assert!(remove.dsb <= 8, "{policy:?} {remove:?}");
    }
}

#[test]
fn padding_is_given_back_with_the_altmap() {
    let mut map = memory_map::<K4>(48);
    let request = nvdimm::<K4>(range(DEVICE, GIB));
    let region = map.plan(request).unwrap().commit().unwrap();
    assert_eq!(region.storage().altmap().map(|altmap| (altmap.alloc(), altmap.align())), Some((4096, 510)));
    assert_eq!(map.remove(region).unwrap().storage, *request.storage());
}

#[test]
fn removal_counts_the_tables_of_both_maps_and_records_are_counted_apart() {
    let mut map = memory_map::<K16>(48);
    let records = map.section_bytes();
    assert_eq!(records, 4 * (16 << 10), "root, middle and one page of section records for boot RAM; the registry");
    let far = range(PhysAddr::new(1 << 45), GIB);
    let plan = map.plan(tight(&map, far, LeafPolicy::Pages)).unwrap();
    let (linear, memmap) = (plan.summary().linear_tables, plan.summary().memmap_tables);
    assert_eq!((linear, memmap), (2 + 32, 1 + 1), "levels 1 and 2, then 32 MiB a level-3 table; levels 2 and 3");
    let region = plan.commit().unwrap();
    assert_eq!(map.section_bytes() - records, 16 << 10, "a page of records");
    assert_eq!(map.remove(region).unwrap().tables_freed, linear + memmap);
    assert_eq!(map.section_bytes() - records, 16 << 10, "it stays");
}

#[test]
fn refusals_name_the_nearest_range_that_would_do() {
    let mut map = memory_map::<K64>(48);
    let error = map.plan(ask(range(DEVICE.add(MIB), 128 * MIB))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0x100100000..0x108100000 does not start and end at multiples of 2 MiB; 0x100200000..0x108000000 would do"
    );
    let small = map.plan(ask(range(DEVICE, MIB))).unwrap_err();
    assert!(small.to_string().ends_with("0x100000000..0x100200000 would do"), "{small}");
}

#[test]
fn places_that_cannot_be_are_refused() {
    let mut map = memory_map::<K64>(42);
    let mut refused = |start, bytes| map.plan(ask(range(PhysAddr::new(start), bytes))).unwrap_err();
    assert!(matches!(refused(DEVICE.value(), 0), PlanError::Empty { .. }));
    assert!(matches!(refused(GIB, GIB), PlanError::BootRam { .. }));
    assert!(matches!(refused(0, 512 * MIB), PlanError::BeyondLinearMap { .. }), "below memstart");
    assert!(matches!(refused(2 << 40, 2 * GIB), PlanError::BeyondLinearMap { .. }), "past 2 TiB + 1 GiB");
    assert!(matches!(refused(1 << 48, GIB), PlanError::BeyondCpu { .. }));
    let last = map.plan(ask(range(PhysAddr::new(2 << 40), GIB))).map(|plan| plan.summary().range.end());
    assert_eq!(last, Ok(PhysAddr::new((2 << 40) + GIB)), "the last mappable GiB is accepted");
}

#[test]
fn altmaps_that_do_not_fit_are_refused() {
    let mut map = memory_map::<K64>(48);
    let device = range(DEVICE, GIB);
    let mut refused = |altmap| map.plan(ask(device).altmap(altmap)).unwrap_err();
    let elsewhere = Altmap::new(range(DEVICE.add(GIB), GIB), GranuleSize::K64, 0, 64);
    assert!(matches!(refused(elsewhere), PlanError::AltmapElsewhere { .. }));
    let large = Altmap::new(device, GranuleSize::K64, 1, 16384);
    assert!(matches!(refused(large), PlanError::AltmapTooLarge { .. }));
    let small = refused(Altmap::new(device, GranuleSize::K64, 1, 15));
    assert_eq!(
        small.to_string(),
        "the altmap sets 15 frames aside and the vmemmap of the range needs 16; set at least that many aside"
    );
}

#[test]
fn an_altmap_may_take_the_whole_range() {
    let mut map = memory_map::<K64>(48);
    let device = range(DEVICE, GIB);
    let whole = Altmap::new(device, GranuleSize::K64, 1, 16383);
    let region = map.plan(ask(device).altmap(whole)).unwrap().commit().unwrap();
    map.remove(region).unwrap();
}

#[test]
fn a_neighbour_in_the_same_section_stays_valid_and_mapped() {
    let mut map = memory_map::<K4>(48);
    let far = PhysAddr::new(1 << 45);
    let [first, second] = [0, 1].map(|index| {
        let range = range(far.add(index * 2 * MIB), 2 * MIB);
        let request = tight(&map, range, LeafPolicy::Pages);
        map.plan(request).unwrap().commit().unwrap()
    });
    let valid = |map: &Map<K4>, index: u64| map.is_valid(Pfn::new((1 << 33) + index * 512));
    assert!(valid(&map, 0) && valid(&map, 1) && !valid(&map, 2));
    map.remove(second).unwrap();
    assert!(valid(&map, 0) && !valid(&map, 1));
    let page = map.layout().page(Pfn::new(1 << 33));
    assert!(map.tables().walk(page).translation().is_some(), "slot 0 of the tables that both shared");
    assert!(leaf_at(&map, map.layout().linear_address(far).value()) != 0);
    map.remove(first).unwrap();
    assert!(!valid(&map, 0));
    assert!(!map.is_valid(Pfn::new(1 << 45)), "a pfn beyond 52 bits of address");
}

#[test]
fn a_range_may_span_several_pages_of_section_records() {
    let mut map = memory_map::<K4>(48);
    let far = range(PhysAddr::new(1 << 45), 96 * GIB);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, far).unwrap();
    map.sections.activate(map.tables.machine(), far);
    let samples: Vec<_> = (0..96).map(|gib| Pfn::new(((1 << 45) + gib * GIB) >> 12)).collect();
    assert!(samples.iter().all(|&pfn| map.is_valid(pfn)));
    let last = range(PhysAddr::new((1 << 45) + 95 * GIB), GIB);
    map.sections.deactivate(map.tables.machine(), last);
    assert!(!map.sections.is_wholly_active(map.tables.machine(), far));
    map.sections.deactivate(map.tables.machine(), far);
    assert!(samples.iter().all(|&pfn| !map.is_valid(pfn)));
}

#[test]
fn boot_ram_has_struct_pages_of_its_own_role_and_keeps_its_tables() {
    let map = memory_map::<K16>(48);
    let first = map.layout().page(Pfn::new(GIB >> 14));
    let (_, frame) = map.tables().walk(first).translation().unwrap();
    let flags = u64::from_le_bytes(map.tables().machine().written[&frame.value()][..8].try_into().unwrap());
    assert_eq!(flags, 0, "neither device memory nor reserved");
    let walk = map.tables().walk(first);
    assert!(walk.steps().all(|step| !(step.descriptor.is_table(step.level) && step.descriptor.is_owned())));
}

/// Linear map and vmemmap in one 512 GiB entry: each plan counts the table that they share, one of the two is given back.
#[test]
fn a_table_that_both_maps_share_is_made_once() {
    let window = |start, bytes| crate::addr::VirtRange::new(VirtAddr::new(start), bytes);
    let (linear, vmemmap) = (window(0xffff_0000_0000_0000, 64 * GIB), window(0xffff_0040_0000_0000, GIB));
    let layout = crate::layout::Layout::new(GranuleSize::K4, linear, vmemmap, 0, 6);
    let (tables, ram) = (crate::testing::tables::<K4>(48), crate::testing::Ram::default());
    let mut map = Map::<K4>::new(tables, ram, layout, 40).unwrap();
    let device = range(DEVICE, 256 * MIB);
    for _ in 0..2 {
        map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
        let before = map.frames.out.clone();
        let plan = map.plan(tight(&map, device, LeafPolicy::Pages)).unwrap();
        let counted = plan.summary().linear_tables + plan.summary().memmap_tables;
        let region = plan.commit().unwrap();
        assert_eq!((map.frames.out.len() - before.len()) as u64, counted - 1);
        assert_eq!(map.remove(region).unwrap().tables_freed, counted - 1);
        assert_eq!(map.frames.out, before);
    }
}

#[test]
fn a_region_that_is_only_partly_active_here_is_given_back() {
    let (mut one, mut other) = (memory_map::<K4>(48), memory_map::<K4>(48));
    let region = one.plan(ask(range(DEVICE, GIB))).unwrap().commit().unwrap();
    let part = other.plan(ask(range(DEVICE, GIB / 2))).unwrap().commit().unwrap();
    let region = other.remove(region).unwrap_err().region;
    one.remove(region).unwrap();
    other.remove(part).unwrap();
}

#[test]
fn a_region_is_given_back_by_a_memory_map_that_has_its_own_there() {
    let mut one = memory_map::<K4>(48);
    let layout = *one.layout();
    let mut other = Map::<K4>::new(crate::testing::tables(48), crate::testing::Ram::elsewhere(), layout, 48).unwrap();
    let [mine, theirs] = [&mut one, &mut other].map(|map| map.plan(ask(range(DEVICE, GIB))).unwrap().commit().unwrap());
    let mine = other.remove(mine).unwrap_err().region;
    one.remove(mine).unwrap();
    other.remove(theirs).unwrap();
}

#[test]
fn a_region_of_another_memory_map_is_given_back() {
    let mut one = memory_map::<K4>(48);
    let mut other = memory_map::<K4>(48);
    let region = one.plan(ask(range(DEVICE, GIB))).unwrap().commit().unwrap();
    let error = other.remove(region).unwrap_err();
    assert!(error.to_string().starts_with("0x100000000..0x140000000: not a range of this memory map"));
    one.remove(error.region).unwrap();
}

#[test]
fn a_foreign_leaf_in_the_window_is_refused_by_name() {
    let mut map = memory_map::<K4>(48);
    let va = map.layout().linear_address(DEVICE.add(512 * MIB));
    let foreign = Mapping::new(
        map.tables().regime(),
        crate::addr::VirtRange::new(va, 2 * MIB),
        PhysAddr::new(0x4000_0000),
        LeafPolicy::Largest,
        Protection { leaf: Attributes::KERNEL_READ_ONLY, table: TableAttributes::LINEAR },
    );
    mapping::map(&mut map.tables, &mut map.frames, &foreign).unwrap();
    let error = map.plan(ask(range(DEVICE, GIB))).unwrap_err();
    let PlanError::Occupied(occupied) = error else { panic!("{error}") };
    assert!(occupied.level <= crate::granule::Level::L2, "{occupied}");
}

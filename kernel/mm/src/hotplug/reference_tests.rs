//! References to ranges, closing, and regions whose handle was dropped.

use super::*;
use crate::granule::{K4, K64};
use crate::lifetime::State;
use crate::testing::{DEVICE, GIB, MIB, Plain, Seen, ask, memory_map, range, take_log};

fn view<G: Granule>(map: &crate::testing::Map<G>) -> View<Plain<G>> {
    // SAFETY: a copy of the machine's memory as it is now.
    unsafe { map.view(map.tables().machine().clone()) }
}

/// A reader on the machine's own memory.
fn state<G: Granule>(map: &crate::testing::Map<G>) -> State {
    map.regions().next().expect("one range").state
}

#[test]
fn a_closed_region_counts_down_and_a_refused_removal_reverts() {
    let mut map = memory_map::<K64>(48);
    let region = map.plan(ask(range(DEVICE, GIB))).unwrap().commit().unwrap();
    let word = region.name.slot();
    let pin = |map: &crate::testing::Map<K64>| crate::lifetime::pin_if(&word.word(map.tables().machine()), || true);
    assert!(pin(&map).is_ok() && pin(&map).is_ok());
    take_log();
    let error = map.remove(region).unwrap_err();
    assert_eq!(error.why, Obstacle::Referenced { references: 2 });
    assert_eq!(error.to_string(), "0x100000000..0x140000000: busy, references held: 2; remove it when they are gone");
    assert!(!take_log().iter().any(|seen| matches!(seen, Seen::Machine(_) | Seen::Quiesce)), "nothing has changed");
    assert_eq!(state(&map), State::Live { holders: 2 }, "new references are taken again");
    let region = error.region;
    map.close(&region);
    assert!(pin(&map).is_err(), "closed");
    let error = map.remove(region).unwrap_err();
    assert_eq!(state(&map), State::Closing { holders: 2 }, "what the owner closed stays closed");
    map.reopen(&error.region);
    assert!(pin(&map).is_ok());
    for _ in 0..3 {
        crate::lifetime::unpin(&word.word(map.tables().machine())).unwrap();
    }
    map.close(&error.region);
    map.remove(error.region).unwrap();
    assert!(map.regions().next().is_none());
}

#[test]
fn a_view_refers_to_ranges_by_pfn() {
    let mut map = memory_map::<K4>(48);
    let [one, two] = [0, 2].map(|at| range(DEVICE.add(at * MIB), 2 * MIB));
    let regions = [one, two].map(|range| map.plan(ask(range)).unwrap().commit().unwrap());
    let view = view(&map);
    let pfn = |offset: u64| Pfn::containing(DEVICE.add(offset), 12);
    assert!(view.is_valid(pfn(0)) && view.is_valid(pfn(4 * MIB - 1)) && !view.is_valid(pfn(4 * MIB)));
    assert_eq!(view.reference(pfn(2 * MIB - 1)).map(|held| held.range()), Some(one));
    let first = view.reference(pfn(2 * MIB)).unwrap();
    let second = view.reference(pfn(3 * MIB)).unwrap();
    assert_eq!((first.range(), second.range()), (two, two));
    assert!(
        view.reference(pfn(4 * MIB)).is_none() && view.reference(Pfn::new(GIB >> 12)).is_none(),
        "RAM has no region"
    );
    drop((first, second));
    for region in regions {
        map.remove(region).unwrap();
    }
}

#[test]
fn a_region_whose_handle_was_dropped_is_listed_and_stays() {
    let mut map = memory_map::<K64>(48);
    let device = range(DEVICE, 4 * MIB);
    drop(map.plan(ask(device)).unwrap().commit().unwrap());
    let listed: Vec<_> = map.regions().collect();
    assert_eq!(listed, [Listed { range: device, state: State::Live { holders: 0 }, stored_in: None }]);
    assert!(map.is_valid(Pfn::containing(DEVICE, 16)));
    assert_eq!(map.plan(ask(device)).unwrap_err(), PlanError::Overlap { range: device, live: device });
}

/// H14: readers are waited for after the pfns became invalid and before the first store to a table.
#[test]
fn removal_waits_for_readers_between_invalid_and_unmapped() {
    let mut map = memory_map::<K64>(48);
    let region = map.plan(ask(range(DEVICE, GIB))).unwrap().commit().unwrap();
    let pfn = Pfn::containing(DEVICE, 16);
    let (mut machine, sections) = (map.tables().machine().clone(), map.sections);
    take_log();
    map.remove(region).unwrap();
    let log = take_log();
    let waited = log.iter().position(|seen| *seen == Seen::Quiesce).expect("it waits");
    for (at, seen) in log.iter().enumerate() {
        if let Seen::Machine(crate::observe::Event::Write { .. }) = seen {
            assert!(at > waited, "a table is written before readers are gone");
        }
        if at < waited {
            machine.replay(seen);
        }
    }
    assert!(!sections.is_valid(&machine, pfn), "no reader finds the pfn valid any more when the wait begins");
}

/// More ranges than a page of records holds, and their places used again.
#[test]
fn the_registry_grows_and_its_places_are_used_again() {
    let mut map = memory_map::<K4>(48);
    let device = |index: u64| range(DEVICE.add(index * 2 * MIB), 2 * MIB);
    let add =
        |map: &mut crate::testing::Map<K4>, index| map.plan(Request::private(device(index))).unwrap().commit().unwrap();
    let records = map.section_bytes();
    let mut regions: Vec<_> = (0..130).map(|index| add(&mut map, index)).collect();
    assert_eq!(map.section_bytes() - records, 2 * 4096, "two pages of 63 ranges more");
    assert_eq!(map.regions().count(), 130);
    let odd = regions.extract_if(.., |region| region.range().start().value() / (2 * MIB) % 2 == 1);
    odd.for_each(|region| assert!(map.remove(region).is_ok()));
    let again: Vec<_> = (0..65).map(|index| add(&mut map, 2 * index + 1)).collect();
    assert_eq!(map.section_bytes() - records, 2 * 4096);
    for region in again.into_iter().chain(regions) {
        map.remove(region).unwrap();
    }
    assert_eq!(map.regions().count(), 0);
}

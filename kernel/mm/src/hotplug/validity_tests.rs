//! When pfns are valid: after their struct pages are there and written, until before anything is taken away.

use super::*;
use crate::addr::VirtAddr;
use crate::granule::{K4, K16, K64};
use crate::observe::Event;
use crate::seam::Memory as _;
use crate::testing::{DEVICE, GIB, MIB, Map, Plain, ROOT, Seen, ask, memory_map, range, take_log};
use crate::walk::Walk;

/// Replays what an operation did, step by step, from `before`: whenever `pfns` are valid, their struct pages must be mapped, and
/// written since (`written` if they were before).
fn check<G: Granule>(map: &Map<G>, mut before: Plain<G>, log: &[Seen], pfns: &[Pfn], written: bool) -> Vec<bool> {
    let (sections, layout, regime) = (map.sections, *map.layout(), map.tables().regime());
    let mut done: Vec<VirtAddr> = Vec::new();
    let mut valid = Vec::new();
    for seen in log {
        before.replay(seen);
        if let Seen::Machine(Event::Access(range)) = seen {
            done.extend(pfns.iter().map(|pfn| layout.page(*pfn)).filter(|va| range.contains(*va)));
        }
        for &pfn in pfns.iter().filter(|pfn| sections.is_valid(&before, **pfn)) {
            let va = layout.page(pfn);
            let walk = Walk::new(regime, ROOT, va, |slot| before.read(slot));
            assert!(walk.translation().is_some(), "{}: {pfn:?} is valid and has no struct page at {seen:?}", G::SIZE);
            assert!(written || done.contains(&va), "{}: {pfn:?} is valid before it is written at {seen:?}", G::SIZE);
        }
        valid.push(pfns.iter().any(|pfn| sections.is_valid(&before, *pfn)));
    }
    valid
}

fn life<G: Granule>(policy: LeafPolicy) {
    let mut map = memory_map::<G>(48);
    let device = range(DEVICE, GIB);
    let shift = G::SIZE.shift();
    let pfns = [device.start(), device.start().add(GIB / 2), device.end().add(0_u64.wrapping_sub(1))]
        .map(|address| Pfn::containing(address, shift));
    let altmap = crate::altmap::Altmap::tight(map.layout(), device, policy, 0);
    // Section records are made by the first add: their stores are no matter here.
    let region = map.plan(ask(device).policy(policy)).unwrap().commit().unwrap();
    map.remove(region).unwrap();
    let before = map.tables().machine().clone();
    take_log();
    let region = map.plan(ask(device).policy(policy).altmap(altmap)).unwrap().commit().unwrap();
    let valid = check(&map, before, &take_log(), &pfns, false);
    assert!(!valid[0] && valid.last() == Some(&true), "{}: they become valid", G::SIZE);
    let before = map.tables().machine().clone();
    map.remove(region).unwrap();
    let log = take_log();
    let valid = check(&map, before, &log, &pfns, true);
    let first = log.iter().position(|seen| matches!(seen, Seen::Machine(Event::Write { .. }))).unwrap();
    assert!(
        valid[first..].iter().all(|valid| !valid),
        "{}: they are invalid before the first store to a table",
        G::SIZE
    );
}

#[test]
fn pfns_are_valid_only_while_their_struct_pages_are_there() {
    for policy in [LeafPolicy::Largest, LeafPolicy::Linux] {
        life::<K4>(policy);
        life::<K16>(policy);
        life::<K64>(policy);
    }
}

#[test]
fn a_boot_range_without_struct_pages_is_not_valid() {
    let mut map = memory_map::<K4>(48);
    let ram = range(DEVICE, 256 * MIB);
    let pfn = Pfn::containing(DEVICE, 12);
    for budget in 0.. {
        map.frames.budget = budget;
        let before = map.tables().machine().clone();
        take_log();
        let added = map.add_boot_ram(ram, LeafPolicy::Linux);
        check(&map, before, &take_log(), &[pfn], false);
        assert_eq!(map.is_valid(pfn), added.is_ok(), "with {budget} frames");
        if added.is_ok() {
            return;
        }
    }
}

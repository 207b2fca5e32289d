//! What an add with helpers leaves behind where it does not come to its end.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::granule::{K4, K16, K64};
use crate::testing::{DEVICE, GIB, MIB, ask, memory_map, range};

/// Beside a neighbour with which it shares an edge page at 16K and 64K.
fn a_share_panics<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let [before, device, elsewhere] = [DEVICE, DEVICE.add(2 * MIB), DEVICE.add(64 * GIB)].map(|at| range(at, 2 * MIB));
    let neighbour = map.plan(ask(before)).unwrap().commit().unwrap();
    let plan = map.plan(ask(device)).unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| plan.commit_with(|_| panic!("a CPU does not come"))));
    assert!(unwound.is_err());
    let pfn = Pfn::containing(device.start(), G::SIZE.shift());
    assert!(!map.is_valid(pfn), "nobody has initialised its struct page");
    let again = map.plan(ask(device)).map(drop).unwrap_err();
    assert!(matches!(again, PlanError::Occupied(_)), "{again}");
    let other = map.plan(ask(elsewhere)).unwrap().commit().unwrap();
    let ranges = |map: &crate::testing::Map<G>| map.regions().map(|listed| listed.range).collect::<Vec<_>>();
    assert_eq!(ranges(&map), [before, elsewhere]);
    map.remove(neighbour).unwrap();
    map.remove(other).unwrap();
    assert_eq!(ranges(&map), []);
}

#[test]
fn a_share_that_panics_leaves_other_ranges_as_they_are() {
    a_share_panics::<K4>();
    a_share_panics::<K16>();
    a_share_panics::<K64>();
}

#[test]
fn a_share_is_called_once_and_not_where_ram_runs_out() {
    let mut map = memory_map::<K16>(48);
    let device = range(DEVICE, 128 * MIB);
    map.tables_mut().machine_mut().written.clear();
    let calls = Cell::new(0);
    for (budget, expected) in [(0, 0), (3, 0), (u64::MAX, 1)] {
        map.frames.budget = budget;
        let added = map.plan(ask(device)).unwrap().commit_with(|_| calls.set(calls.get() + 1));
        assert_eq!((added.is_ok(), calls.get()), (expected == 1, expected), "{budget} frames");
    }
    let pages = map.layout().pages(device).bytes();
    let written: usize = map.tables().machine().written.values().map(Vec::len).sum();
    assert_eq!(written as u64, pages, "nobody has helped: the CPU of the plan has initialised all of them");
}

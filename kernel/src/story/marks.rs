//! Places for a debugger to stop at. Each gets, in `x0`, the linear address of the slot where the walk of the range's
//! first struct page ends: the first vmemmap descriptor that will change, worth a watchpoint.

use core::hint::black_box;

use vmemmap::addr::{Pfn, PhysRange};
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;

use crate::memory::MemoryMap;

/// The range is about to be added.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn populate(slot: u64) {
    // Two functions with the same body would become one, and the debugger would stop at both.
    black_box(("populate", slot));
}

/// The range is about to be removed.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn remove(slot: u64) {
    black_box(("remove", slot));
}

fn first_slot<M: Machine>(map: &MemoryMap<M>, range: PhysRange) -> u64 {
    let first = Pfn::containing(range.start(), M::Granule::SIZE.shift());
    let walk = map.tables().walk(map.layout().page(first));
    walk.last().map_or(0, |step| map.layout().linear_address(step.slot).value())
}

pub fn before_populate<M: Machine>(map: &MemoryMap<M>, range: PhysRange) {
    populate(first_slot(map, range));
}

pub fn before_remove<M: Machine>(map: &MemoryMap<M>, range: PhysRange) {
    remove(first_slot(map, range));
}

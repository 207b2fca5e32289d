//! What TLBs still know after a removal.

use kernel::boot::BootInfo;
use kernel::memory::RamFrames;
use kernel::println;
use kernel::prove::{self, Failures};
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;
use vmemmap::vmemmap::{Memmap, Shared, Storage, depopulate, populate};

use crate::mutant;
use crate::world::{World, expect_none};

/// Loads from leaves of the vmemmap and of the linear map, removes the range, and loads again: each must fault. Returns
/// how many loads there were, and what was wrong.
fn removal<M: Machine>(world: &mut World<M>) -> (usize, Failures) {
    let region = world.add(world.request(world.device, 0));
    let mut failures = Failures::new();
    let memmap = region.memmap().stretches();
    let linear = world.linear(world.device).stretches();
    let touched = prove::touch::<M::Granule>(&[&memmap, &linear], &mut failures);
    expect_none(&failures);
    world.remove(region);
    prove::gone(world.map.tables(), &touched, &mut failures);
    (touched.len(), failures)
}

pub fn loads_fault<M: Machine>(world: &mut World<M>) {
    let (loads, failures) = removal(world);
    expect_none(&failures);
    assert!(loads > 1);
}

/// Many loads must see the stale translation: a proof that looks at addresses which QEMU has forgotten proves nothing.
/// (The removal's own accesses push some out: a few, or half of them on a busy host, where QEMU's TLB shrinks to 64 entries
/// and the tables alone that a removal of 64 MiB at 4K goes through are 32 pages.)
pub fn missing<G: Granule>(boot: &'static BootInfo) {
    let (loads, failures) = removal(&mut mutant::world::<G>(boot, "no-tlbi"));
    assert!(failures.len() * 3 > loads, "only {} of {loads} loads see the stale translation", failures.len());
    println!("{} of {loads} loads see the stale translation", failures.len());
    expect_none(&failures);
}

pub fn wrong_address<G: Granule>(boot: &'static BootInfo) {
    expect_none(&removal(&mut mutant::world::<G>(boot, "another-address")).1);
}

/// The same for the vmemmap alone: no other invalidation hides that its own are missing.
fn depopulation<M: Machine>(world: &mut World<M>) -> Failures {
    let (layout, policy) = (*world.map.layout(), world.boot.config.leaf);
    let storage = Storage::Altmap(Altmap::tight(&layout, world.device, policy, 0));
    let memmap = Memmap::new(&layout, world.device, policy);
    let mut frames = RamFrames::current();
    let tables = world.map.tables_mut();
    let populated = populate(tables, &mut frames, memmap, storage).unwrap_or_else(|error| panic!("{error}"));
    let mut failures = Failures::new();
    let touched = prove::touch::<M::Granule>(&[&populated.memmap().stretches()], &mut failures);
    expect_none(&failures);
    // SAFETY: the frames that it was populated with, and whole pages.
    unsafe { depopulate(world.map.tables_mut(), &mut frames, populated, Shared::default()) };
    prove::gone(world.map.tables(), &touched, &mut failures);
    failures
}

pub fn vmemmap_alone<M: Machine>(world: &mut World<M>) {
    expect_none(&depopulation(world));
}

pub fn vmemmap_missing<G: Granule>(boot: &'static BootInfo) {
    expect_none(&depopulation(&mut mutant::world::<G>(boot, "no-tlbi")));
}

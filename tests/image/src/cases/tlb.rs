//! What TLBs still know after a removal.

use kernel::boot::BootInfo;
use kernel::println;
use kernel::prove::{self, Failures};
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;
use vmemmap_aarch64::El1;

use crate::broken::{Broken, NoTlbi, WrongAddress};
use crate::world::{World, expect_none};

/// Loads from leaves of the vmemmap and of the linear map, removes the range, and loads again: each must fault. Returns
/// how many loads there were, and what was wrong.
fn removal<M: Machine>(world: &mut World<M>) -> (usize, Failures) {
    let region = world.add(world.request(world.device, 0));
    let mut failures = Failures::new();
    let memmap = region.memmap().stretches();
    let linear = world.linear(world.device).stretches();
    let touched = prove::touch::<M::Granule>([&memmap, &linear], &mut failures);
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

/// Most loads must see the stale translation: a proof that looks at addresses which QEMU has forgotten proves nothing.
/// (The removal's own accesses push a few out.)
pub fn missing<G: Granule>(boot: &'static BootInfo) {
    let (loads, failures) = removal(&mut World::new(boot, |machine: El1<G>| Broken::<_, NoTlbi>::new(machine)));
    assert!(failures.len() * 2 > loads, "only {} of {loads} loads see the stale translation", failures.len());
    println!("{} of {loads} loads see the stale translation", failures.len());
    expect_none(&failures);
}

pub fn wrong_address<G: Granule>(boot: &'static BootInfo) {
    expect_none(&removal(&mut World::new(boot, |machine: El1<G>| Broken::<_, WrongAddress>::new(machine))).1);
}

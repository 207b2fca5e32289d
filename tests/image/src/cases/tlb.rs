//! What TLBs still know after a removal.

use kernel::boot::BootInfo;
use kernel::prove::{self, Failures, leaf_vas};
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;
use vmemmap_aarch64::El1;

use crate::broken::{Broken, NoTlbi, WrongAddress};
use crate::world::{World, expect_none};

/// Loads from the leaves of the vmemmap and of the linear map, removes the range, and loads again.
pub fn loads_fault<M: Machine>(world: &mut World<M>) {
    let region = world.add(world.request(world.device, 0));
    let mut failures = Failures::new();
    let memmap = region.memmap(world.map.layout()).stretches();
    let linear = world.linear(world.device).stretches();
    let mut touched = prove::touch(|| leaf_vas::<M::Granule>(memmap.clone()), &mut failures);
    touched.extend(prove::touch(|| leaf_vas::<M::Granule>(linear.clone()), &mut failures));
    world.remove(region);
    let fault = prove::gone(world.map.tables(), &touched, &mut failures);
    expect_none(&failures);
    assert!(fault.is_some());
}

pub fn missing<G: Granule>(boot: &'static BootInfo) {
    loads_fault(&mut World::new(boot, |machine: El1<G>| Broken::<_, NoTlbi>::new(machine)));
}

pub fn wrong_address<G: Granule>(boot: &'static BootInfo) {
    loads_fault(&mut World::new(boot, |machine: El1<G>| Broken::<_, WrongAddress>::new(machine)));
}

//! What shows a mutant, if QEMU shows it at all. A boot that passes has not seen it.

use kernel::boot::{BootInfo, ips, refuse};
use kernel::memory::RamFrames;
use kernel::prove::{Books, Failures};
use kernel::story;
use mutants::Mutant;
use mutants::fault::Fault;
use mutants::list::Boot;
use vmemmap::addr::PhysAddr;
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::seam::{Frames, Machine};
use vmemmap::vmemmap::{Memmap, Shared, Storage, depopulate, populate};
use vmemmap_aarch64::{El1, translate};

use super::{hot_remove, tlb};
use crate::mutant::{self, Chosen};
use crate::retuned::Retuned;
use crate::world::{World, expect_none};

/// Runs what shows `mutant`; it returns if nothing was seen.
pub fn run<G: Granule>(boot: &'static BootInfo, mutant: &'static Mutant) {
    let world = || World::new(boot, |machine: El1<G>| mutant::mutated(boot, machine, mutant.fault));
    match mutant.boot {
        Boot::Story => story::tell::<Chosen>(boot),
        Boot::Neighbours => hot_remove::either_order(&mut world()),
        Boot::Cousins => cousins(&mut world()),
        Boot::Populate => storage(&mut world(), mutant.fault),
        Boot::Registers => registers::<G>(boot, mutant.fault),
        Boot::No(why) => refuse(why),
    }
}

/// Two ranges whose tables have one above them in common: the one that stays must stay mapped.
fn cousins<M: Machine>(world: &mut World<M>) {
    let before = Books::of(&world.map);
    let [goes, stays] = [0, 1].map(|index| world.add(world.request(world.part(index, 2), 0)));
    world.remove(goes);
    let mut failures = Failures::new();
    assert!(world.check_struct_pages(&stays, &mut failures) > 0);
    expect_none(&failures);
    let start = stays.range().start();
    assert_eq!(translate(world.map.layout().linear_address(start)), Ok(start));
    world.remove(stays);
    assert_eq!(Books::of(&world.map).frames, before.frames);
}

/// An allocator that runs dry.
struct Dry {
    frames: RamFrames,
    left: u64,
}

// SAFETY: it hands out what the kernel's allocator does.
unsafe impl Frames for Dry {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        self.left = self.left.checked_sub(1)?;
        self.frames.take(bytes)
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        self.frames.give(frame, bytes);
    }
}

/// Populates from the altmap and takes it away; then fails half-way to populate from RAM. RAM is as before each time.
fn storage<M: Machine>(world: &mut World<M>, fault: Fault) {
    let (layout, policy, free) = (*world.map.layout(), world.boot.config.leaf, RamFrames::current().free());
    let memmap = Memmap::new(&layout, world.device, policy);
    let altmap = Storage::Altmap(Altmap::tight(&layout, world.device, policy, 0));
    let mut frames = mutant::frames(Dry { frames: RamFrames::current(), left: u64::MAX }, fault);
    let tables = world.map.tables_mut();
    let populated = populate(tables, &mut frames, memmap, altmap).unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: the frames that it was populated with, and whole pages.
    unsafe { depopulate(tables, &mut frames, populated, Shared::default()) };
    assert_eq!(RamFrames::current().free(), free, "frames after depopulating");
    let mut frames = mutant::frames(Dry { frames: RamFrames::current(), left: 2 }, fault);
    let failed = populate(tables, &mut frames, memmap, Storage::Ram);
    assert!(failed.is_err(), "there were two frames");
    assert_eq!(RamFrames::current().free(), free, "frames after a failure");
}

/// The registers as the mutant has them, written on a machine that runs; then a life of a range.
fn registers<G: Granule>(boot: &'static BootInfo, fault: Fault) {
    let mut world = World::new(boot, |machine: El1<G>| mutant::mutated(boot, Retuned(machine), fault));
    world.map.tables_mut().come_online(ips(boot.pa_bits()));
    tlb::loads_fault(&mut world);
}

//! What the TLBs of other CPUs still know.

use alloc::format;
use alloc::vec::Vec;

use kernel::boot::BootInfo;
use kernel::exceptions::probe;
use kernel::memory::{self, RamFrames};
use kernel::prove::{self, Failures};
use spin::Mutex;
use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr};
use vmemmap::granule::Granule;
use vmemmap::hotplug::LINEAR_PROTECTION;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, Mapping};
use vmemmap::seam::{Dsb, Machine, Memory, Mmu};
use vmemmap::table::Tables;
use vmemmap::tlb;
use vmemmap::tlbi::Tlbi;
use vmemmap_aarch64::El1;

use super::{Meeting, on_each};
use crate::mutant;
use crate::world::{World, expect_none};

/// Pages that a reader's TLB holds: some of them at least, whatever else it does.
const PAGES: u64 = 8;

/// Pages of the device that the linear map shows, each with the slot of its leaf.
fn mapped_pages<M: Machine>(world: &mut World<M>) -> Vec<(VirtAddr, PhysAddr)> {
    let page = M::Granule::SIZE.bytes();
    let range = PhysRange::new(world.device.start(), PAGES * page).expect("pages of the device");
    let regime = world.map.tables().regime();
    let linear = Mapping::linear(regime, world.map.layout(), range, LeafPolicy::Pages, LINEAR_PROTECTION);
    let mapped = mapping::map(world.map.tables_mut(), &mut RamFrames::current(), &linear);
    mapped.unwrap_or_else(|error| panic!("{error}"));
    let slot = |va: VirtAddr| world.map.tables().walk(va).last().expect("it was just mapped").slot;
    (0..PAGES).map(|index| linear.range().start().add(index * page)).map(|va| (va, slot(va))).collect()
}

/// From how many of the pages a CPU can load.
fn loadable(pages: &[(VirtAddr, PhysAddr)]) -> usize {
    pages.iter().filter(|(page, _)| probe::load(*page).is_ok()).count()
}

/// All CPUs load from the same pages; CPU 0 clears their leaves, and does what `forget` says. From how many each can load
/// then, by number.
fn after_clearing<G: Granule>(world: &mut World<El1<G>>, forget: impl Fn(&mut El1<G>) + Sync) -> Vec<usize> {
    let (boot, pages) = (world.boot, mapped_pages(world));
    let (meeting, after) = (Meeting::new(), Mutex::new(Vec::new()));
    on_each(|cpu| {
        assert_eq!(loadable(&pages), pages.len());
        meeting.wait();
        if cpu == 0 {
            let mut machine = memory::machine(boot);
            for (_, slot) in &pages {
                machine.write(*slot, 0);
            }
            machine.dsb(Dsb::InnerShareableStores);
            forget(&mut machine);
        }
        meeting.wait();
        let found = (cpu, loadable(&pages));
        after.lock().push(found);
    });
    let mut after = after.into_inner();
    after.sort_unstable();
    after.into_iter().map(|(_, loadable)| loadable).collect()
}

pub fn local_leaves_others_stale<G: Granule>(world: &mut World<El1<G>>) {
    let loadable = after_clearing(world, tlb::forget);
    assert_eq!(loadable[0], 0, "the CPU that invalidates has forgotten");
    assert!(loadable[1..].iter().all(|&stale| stale > 0), "pages that others still load from: {loadable:?}");
}

pub fn broadcast_reaches_all<G: Granule>(world: &mut World<El1<G>>) {
    let loadable = after_clearing(world, |machine| {
        machine.tlbi(Tlbi::AllInnerShareable);
        tlb::complete(machine);
    });
    assert!(loadable.iter().all(|&stale| stale == 0), "pages that are still loaded from: {loadable:?}");
}

/// Every CPU loads from leaves of the vmemmap and of the linear map; CPU 0 removes the range; every CPU loads again, and each
/// load must fault.
fn removal<M: Machine + Send>(world: &mut World<M>) -> Failures {
    let (boot, device) = (world.boot, world.device);
    let region = world.add(world.request(device, 0));
    let (memmap, linear) = (region.memmap().stretches(), world.linear(device).stretches());
    let (region, world) = (Mutex::new(Some(region)), Mutex::new(world));
    let (meeting, failures) = (Meeting::new(), Mutex::new(Failures::new()));
    on_each(|cpu| {
        let mut wrong = Failures::new();
        let touched = prove::touch::<M::Granule>(&[&memmap, &linear], &mut wrong);
        assert!(touched.len() > 1);
        meeting.wait();
        if cpu == 0 {
            let region = region.lock().take().expect("one CPU removes it");
            world.lock().remove(region);
        }
        meeting.wait();
        prove::gone(&tables::<M::Granule>(boot), &touched, &mut wrong);
        failures.lock().extend(wrong.into_iter().map(|failure| format!("CPU {cpu}: {failure}")));
    });
    failures.into_inner()
}

/// The tables once more, to be read by any CPU.
fn tables<G: Granule>(boot: &BootInfo) -> Tables<El1<G>> {
    // SAFETY: nothing is written by way of these.
    unsafe { Tables::adopt(memory::machine(boot), boot.root, boot.regime) }
}

pub fn removed_everywhere<M: Machine + Send>(world: &mut World<M>) {
    expect_none(&removal(world));
}

/// The mutant whose invalidations are local.
pub fn removed_here_only<G: Granule + Send>(boot: &'static BootInfo) {
    let mut world = mutant::world::<G>(boot, "local-tlbi").with_cpus();
    let failures = removal(&mut world);
    assert!(!failures.iter().any(|failure| failure.starts_with("CPU 0")), "CPU 0 has forgotten: {failures:?}");
    expect_none(&failures);
}

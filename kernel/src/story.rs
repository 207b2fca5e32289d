//! The main job: discover, hot-add, prove, hot-remove, report.
//!
//! It runs on any machine around EL1's ([`Around`]), so that the test image can tell the same story on one that breaks a
//! rule, and see it fail.

mod costs;
mod marks;
mod request;

pub use request::request;

use alloc::format;
use alloc::vec::Vec;

use aarch64_cpu::asm;
use vmemmap::addr::VirtAddr;
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::hotplug::{LINEAR_PROTECTION, Region, Request};
use vmemmap::mapping::Mapping;
use vmemmap::seam::Machine;
use vmemmap::vmemmap::Storage;
use vmemmap_aarch64::El1;

use crate::boot::{BootInfo, refuse};
use crate::device::{CarveOut, DeviceMemory};
use crate::exit::{self, Status};
use crate::memory::{MemoryMap, bring_up};
use crate::println;
use crate::prove::{self, Books, Expected, Failures, Gone, leaf_vas};
use crate::report::{Report, Shown, Verdict};
use crate::watch;
use costs::Costs;

/// What is put around the machine below: EL1's, or that of a [`watch`] who sees what EL1 is asked in the end.
pub trait Around {
    /// The machine that results.
    type Machine<M: Machine>: Machine<Granule = M::Granule>;

    /// Puts it around `machine`.
    fn around<M: Machine>(machine: M) -> Self::Machine<M>;
}

/// Nothing: the machine as it is.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

impl Around for Bare {
    type Machine<M: Machine> = M;

    fn around<M: Machine>(machine: M) -> M {
        machine
    }
}

/// Tells the story at the granule of the boot arguments.
pub fn tell<A: Around>(boot: &'static BootInfo) -> ! {
    match boot.config.granule {
        GranuleSize::K4 => tell_at::<A, K4>(boot),
        GranuleSize::K16 => tell_at::<A, K16>(boot),
        GranuleSize::K64 => tell_at::<A, K64>(boot),
    }
}

fn tell_at<A: Around, G: Granule>(boot: &'static BootInfo) -> ! {
    if watch::is_asked(&boot.config) {
        watch::tell_watched::<A, G>(boot)
    }
    tell_on::<G, _>(boot, A::around)
}

/// Tells it on the machine that `around` makes.
pub(crate) fn tell_on<G: Granule, M: Machine<Granule = G>>(
    boot: &'static BootInfo,
    around: impl FnOnce(El1<G>) -> M,
) -> ! {
    let mut map = bring_up::<G, _>(boot, around).unwrap_or_else(|error| refuse(error));
    let device = CarveOut::of(boot).unwrap_or_else(|error| refuse(error));
    let request = request(boot, device.range());
    check(&mut map, request);
    let before = Books::of(&map);
    let (map, events) = costs::rehearse(map, request);
    let costs = Costs::new(boot.config.count, events);
    Story { boot, device: &device, request, before, failures: Failures::new() }.tell(map, costs)
}

/// Refuses what can't be planned; the plan is thrown away, nothing is touched.
fn check<M: Machine>(map: &mut MemoryMap<M>, request: Request) {
    match map.plan(request) {
        Ok(plan) => println!("plan:\n{plan}"),
        Err(error) => refuse(error),
    }
}

/// What the story is about, and what went wrong in it.
struct Story<'a> {
    boot: &'static BootInfo,
    device: &'a dyn DeviceMemory,
    request: Request,
    /// Before anything was added, the rehearsal included.
    before: Books,
    failures: Failures,
}

/// What was seen while the memory was there.
struct Seen {
    memmap: Shown,
    linear: Shown,
    proved: (u64, u64),
    altmap: Option<Altmap>,
}

impl Story<'_> {
    fn tell<M: Machine>(mut self, mut map: MemoryMap<M>, mut costs: Costs) -> ! {
        marks::before_populate(&map, self.device.range());
        let region = costs.add(&mut map, self.request).unwrap_or_else(|error| refuse(error));
        let seen = self.look(&map, &region);
        if self.boot.config.hold {
            self.hold(&seen, &costs);
        }
        let touched = self.touch(&map, &region);
        marks::before_remove(&map, self.device.range());
        let storage = costs.remove(&mut map, region);
        let gone = prove::gone(map.tables(), &touched, &mut self.failures);
        let difference = self.compare(Books::of(&map), storage);
        costs.phases(map, self.request);
        self.end(&seen, &costs, gone, difference)
    }

    /// Proves the tables and that both ways reach the same memory.
    fn look<M: Machine>(&mut self, map: &MemoryMap<M>, region: &Region) -> Seen {
        let (layout, tables) = (map.layout(), map.tables());
        let memmap = *region.memmap();
        let planned = self.request.storage().altmap();
        let total = leaf_vas::<M::Granule>(memmap.stretches()).count() as u64;
        let at_plan = prove::at_agrees(tables, &memmap, planned, &mut self.failures);
        let expected = Expected { layout, range: self.device.range(), storage: region.storage() };
        let pages = expected.check(&mut self.failures);
        let linear = self.linear(map).stretches();
        prove::attributes_agree(tables, &memmap.stretches(), &mut self.failures);
        prove::attributes_agree(tables, &linear, &mut self.failures);
        prove::linear_agrees(layout, self.device.range(), &mut self.failures);
        println!("proved: {at_plan} of {total} leaves by AT, struct pages in {pages} pages by patterns");
        let source = if planned.is_some() { "altmap" } else { "ram" };
        Seen {
            memmap: Shown::of(tables, &memmap.stretches(), source),
            linear: Shown::of(tables, &linear, "device"),
            proved: (total, at_plan),
            altmap: region.storage().altmap(),
        }
    }

    fn linear<M: Machine>(&self, map: &MemoryMap<M>) -> Mapping {
        let (regime, leaf) = (map.tables().regime(), self.boot.config.leaf);
        Mapping::linear(regime, map.layout(), self.device.range(), leaf, LINEAR_PROTECTION)
    }

    /// Loads from the vmemmap and from the linear map, so that the TLB holds what the removal must take out of it.
    fn touch<M: Machine>(&mut self, map: &MemoryMap<M>, region: &Region) -> Vec<VirtAddr> {
        let memmap = region.memmap().stretches();
        let linear = self.linear(map).stretches();
        prove::touch::<M::Granule>(&[&memmap, &linear], &mut self.failures)
    }

    /// RAM, tables and altmap must be what they were; returns the difference in frames.
    fn compare(&mut self, after: Books, storage: Storage) -> i64 {
        let before = self.before;
        if before != after {
            self.failures.push(format!("the books differ: {before:?} before, {after:?} after"));
        }
        if storage != *self.request.storage() {
            self.failures.push(format!("the altmap came back as {storage:?}, not {:?}", self.request.storage()));
        }
        before.frames.cast_signed() - after.frames.cast_signed()
    }

    fn report<'a>(&'a self, verdict: Verdict, seen: &Seen, costs: &Costs) -> Report<'a> {
        Report {
            boot: self.boot,
            verdict,
            device: self.device,
            altmap: seen.altmap,
            memmap: seen.memmap.clone(),
            linear: seen.linear.clone(),
            add: costs.add_cost(),
            remove: None,
            proved: seen.proved,
            gone: None,
            frames_difference: 0,
        }
    }

    /// Stays alive with the memory added, until QEMU is told to quit.
    fn hold(&self, seen: &Seen, costs: &Costs) -> ! {
        if !self.failures.is_empty() {
            self.end(seen, costs, None, 0);
        }
        self.report(Verdict::Held, seen, costs).print();
        println!("@held");
        loop {
            asm::wfi();
        }
    }

    fn end(&self, seen: &Seen, costs: &Costs, gone: Option<Gone>, frames_difference: i64) -> ! {
        self.failures.iter().for_each(|failure| println!("@fail {failure}"));
        let passed = self.failures.is_empty();
        let (verdict, status) = if passed { (Verdict::Pass, Status::Pass) } else { (Verdict::Fail, Status::Fail) };
        let remove = Some(costs.remove_cost());
        Report { remove, gone, frames_difference, ..self.report(verdict, seen, costs) }.print();
        if passed {
            println!("@pass");
        }
        exit::exit(status)
    }
}

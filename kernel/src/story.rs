//! The main job: discover, hot-add, prove, hot-remove, report.
//!
//! Several devices are all added before the first is proved, and removed in the order of the boot arguments. After each
//! removal those that are still there are proved again.
//!
//! It runs on any machine around EL1's ([`Around`]), so that the test image can tell the same story on one that breaks a
//! rule, and see it fail.

mod asked;
mod costs;
mod marks;
mod passes;
mod plan;
mod regions;
mod request;

pub(crate) use costs::{counter, handed_out};
pub use request::request;

use alloc::format;
use alloc::vec::Vec;

use aarch64_cpu::asm;
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::seam::Machine;
use vmemmap_aarch64::El1;

use crate::boot::{BootInfo, refuse};
use crate::cpus;
use crate::device::{self, Attached};
use crate::exit::{self, Status};
use crate::live;
use crate::measure::InstructionCounter;
use crate::memory::{MemoryMap, bring_up};
use crate::println;
use crate::prove::{self, Added, Books, Failures, Gone, Proved};
use crate::report::{DeviceReport, Report, Shown, Verdict};
use crate::watch;
use asked::{Asked, asked, removal};
use costs::Costs;
use regions::Regions;

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
    if !boot.config.plan && watch::is_asked(&boot.config) {
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
    cpus::prepare(boot, &mut map).unwrap_or_else(|error| refuse(error));
    if boot.config.live {
        live::serve(boot, map)
    }
    let mut attached = device::attach(boot, &mut map).unwrap_or_else(|error| refuse(error));
    let before = Books::of(&map);
    let (devices, plans) = asked(boot, &mut map, &mut attached);
    if boot.config.plan {
        plan::end(boot, &map, &devices, &plans, before)
    }
    if boot.config.passes > 0 {
        let [only] = &devices[..] else { refuse("passes=N takes the time of one device: give one") };
        passes::end(boot, map, only)
    }
    let order = removal(boot, devices.len());
    let (map, events) = costs::rehearse(map, &devices, &order);
    let counter = costs::counter(boot.config.count);
    let costs = events.into_iter().map(|events| Costs::new(counter, events)).collect();
    Story { boot, attached, devices, order, counter, costs, before, proved_again: 0, failures: Failures::new() }
        .tell(map)
}

/// What the story is about, and what went wrong in it. Lists are by the number of the device.
struct Story {
    boot: &'static BootInfo,
    attached: Vec<Attached>,
    devices: Vec<Asked>,
    /// The order of removal.
    order: Vec<usize>,
    counter: Option<InstructionCounter>,
    costs: Vec<Costs>,
    /// Before anything was added, the rehearsal included.
    before: Books,
    /// How often a device was proved again after the removal of another.
    proved_again: u64,
    failures: Failures,
}

/// What was seen of a device while it was there, and when it was gone.
struct Seen {
    memmap: Shown,
    linear: Shown,
    proved: (u64, u64),
    altmap: Option<Altmap>,
    gone: Option<Gone>,
}

impl Story {
    fn tell<M: Machine>(mut self, mut map: MemoryMap<M>) -> ! {
        let mut regions = self.add(&mut map);
        let mut seen: Vec<_> = regions.there().iter().map(|&device| self.look(&map, &regions, device)).collect();
        if self.boot.config.hold {
            self.hold(&seen);
        }
        for device in self.order.clone() {
            seen[device].gone = self.remove(&mut map, &mut regions, device);
        }
        let difference = self.compare(Books::of(&map));
        let again = self.devices.iter().map(|device| device.request).zip(&mut self.costs);
        costs::phases(map, self.counter, again, &self.order);
        self.give_back();
        self.end(&seen, difference)
    }

    fn add<M: Machine>(&mut self, map: &mut MemoryMap<M>) -> Regions {
        let mut regions = Regions::default();
        for (asked, costs) in self.devices.iter().zip(&mut self.costs) {
            marks::before_populate(map, asked.range);
            let region = costs.add(self.boot, map, asked.request);
            regions.push(region.unwrap_or_else(|error| refuse(format_args!("{}{error}", asked.name))));
        }
        regions
    }

    /// Gives all devices their memory back, which nobody asked for.
    fn give_back(&mut self) {
        for &number in &self.order {
            let Asked { device, range, ref name, .. } = self.devices[number];
            if let Err(error) = self.attached[device].memory.give_back(range) {
                self.failures.push(format!("{name}{error}"));
            }
        }
    }

    /// Proves a device and remembers what it looks like.
    fn look<M: Machine>(&mut self, map: &MemoryMap<M>, regions: &Regions, device: usize) -> Seen {
        let proved = self.prove(map, regions, device, "");
        let (tables, region) = (map.tables(), regions.of(device));
        Seen {
            memmap: Shown::memmap(tables, region.memmap(), region.storage()),
            linear: Shown::linear(tables, &self.added(regions, device).linear(map).stretches()),
            proved,
            altmap: region.storage().altmap(),
            gone: None,
        }
    }

    /// Proves the tables and that both ways reach the same memory; returns how many leaves there are, and how many of
    /// them are where the plan put them. What goes wrong is told with `when`.
    fn prove<M: Machine>(&mut self, map: &MemoryMap<M>, regions: &Regions, device: usize, when: &str) -> (u64, u64) {
        let mut failures = Failures::new();
        let Proved { leaves, leaves_at_plan, pages } = self.added(regions, device).check(map, &mut failures);
        let name = &self.devices[device].name;
        println!(
            "{name}{when}proved: {leaves_at_plan} of {leaves} leaves by AT, struct pages in {pages} pages by patterns"
        );
        self.fail(device, when, failures);
        (leaves, leaves_at_plan)
    }

    /// Keeps what was found wrong with a device.
    fn fail(&mut self, device: usize, when: &str, found: Failures) {
        let name = &self.devices[device].name;
        self.failures.extend(found.into_iter().map(|failure| format!("{name}{when}{failure}")));
    }

    /// A device, as it is proved.
    fn added<'a>(&'a self, regions: &'a Regions, device: usize) -> Added<'a> {
        let (region, asked) = (regions.of(device), self.devices[device].request.storage());
        Added { region, asked, leaf: self.boot.config.leaf }
    }

    /// Removes a device, proves that it is gone and that the others are not. First loads from its vmemmap and from its
    /// linear map, so that the TLB holds what the removal must take out of it.
    fn remove<M: Machine>(&mut self, map: &mut MemoryMap<M>, regions: &mut Regions, device: usize) -> Option<Gone> {
        let mut failures = Failures::new();
        let touched = self.added(regions, device).touch(map, &mut failures);
        marks::before_remove(map, self.devices[device].range);
        let storage = self.costs[device].remove(map, regions.take(device));
        let gone = prove::gone(map.tables(), &touched, &mut failures);
        prove::came_back(&storage, self.devices[device].request.storage(), &mut failures);
        self.fail(device, "", failures);
        self.prove_the_others(map, regions, device);
        gone
    }

    /// Proves again those that are still there, now that `removed` is gone, and that their linear maps can be read.
    fn prove_the_others<M: Machine>(&mut self, map: &MemoryMap<M>, regions: &Regions, removed: usize) {
        let when = format!("after the removal of device {removed}: ");
        for device in regions.there() {
            self.prove(map, regions, device, &when);
            let mut failures = Failures::new();
            prove::linear_reads(map.layout(), self.devices[device].range, &mut failures);
            self.fail(device, &when, failures);
            self.proved_again += 1;
        }
    }

    /// RAM and tables must be what they were; returns the difference in frames.
    fn compare(&mut self, after: Books) -> i64 {
        let before = self.before;
        if before != after {
            self.failures.push(format!("the books differ: {before:?} before, {after:?} after"));
        }
        before.frames.cast_signed() - after.frames.cast_signed()
    }

    fn report(&self, verdict: Verdict, seen: &[Seen], frames_difference: i64) -> Report<'_> {
        let devices = self.devices.iter().zip(&self.costs).zip(seen);
        let devices = devices.map(|((asked, costs), seen)| DeviceReport {
            boot: self.boot,
            source: asked.source,
            range: asked.range,
            altmap: seen.altmap,
            memmap: seen.memmap.clone(),
            linear: seen.linear.clone(),
            add: costs.add_cost(),
            remove: (verdict != Verdict::Held).then(|| costs.remove_cost()),
            proved: seen.proved,
            gone: seen.gone,
        });
        let (devices, order, proved_again) = (devices.collect(), &self.order[..], self.proved_again);
        Report { boot: self.boot, verdict, devices, order, proved_again, frames_difference }
    }

    /// Stays alive with the memory added, until QEMU is told to quit.
    fn hold(&self, seen: &[Seen]) -> ! {
        if !self.failures.is_empty() {
            self.end(seen, 0);
        }
        self.report(Verdict::Held, seen, 0).print();
        println!("@held");
        loop {
            asm::wfi();
        }
    }

    fn end(&self, seen: &[Seen], frames_difference: i64) -> ! {
        self.failures.iter().for_each(|failure| println!("@fail {failure}"));
        let passed = self.failures.is_empty();
        let (verdict, status) = if passed { (Verdict::Pass, Status::Pass) } else { (Verdict::Fail, Status::Fail) };
        self.report(verdict, seen, frames_difference).print();
        if passed {
            println!("@pass");
        }
        exit::exit(status)
    }
}

//! The kernel that lives on: it serves its devices and a console of commands until it is told to quit.
//!
//! Memory that a device brings is added and proved as in the [story](crate::story); memory that it asks back is
//! removed, or stays if somebody holds it. What can't be is said and answered, and the kernel lives on. A proof that
//! fails is said at once (`@fail`), and the run ends as failed when it is told to quit.
//!
//! Everything that happens is one line of JSON on the console, an event. There is one loop: wait for an interrupt,
//! serve the devices that interrupted, then take the lines that were typed. What interrupted by the time a line is
//! taken is served before it; a device that did not interrupt is asked only when a hold is released, for which it may
//! have waited.
//!
//! # What an operation cost
//!
//! Without `count=1` everything runs on an observed machine: descriptor writes, barriers and TLB invalidations are
//! those of the very operation, and `instructions` is null. With it everything runs on the bare machine, instructions
//! are counted, and what the observer would have counted is null. In both RAM, tables and altmap are what was taken or
//! given back.

mod command;
mod event;
mod hold;
mod meter;
mod text;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;

use devices::{Answer, Change};
use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::count::Count;
use vmemmap::granule::Granule;
use vmemmap::hotplug::Region;
use vmemmap::observe::Observed;
use vmemmap::seam::Machine;
use vmemmap::vmemmap::Storage;

use crate::boot::{BootInfo, DeviceTree, refuse};
use crate::console::{self, Line};
use crate::device::{self, Attached, Interrupt};
use crate::exit::{self, Status};
use crate::interrupt::Interrupts;
use crate::memory::{MemoryMap, RamFrames};
use crate::prove::{self, Added, Books, Failures, Gone};
use crate::report::Cost;
use crate::story::{counter, request};
use crate::{heap, println};
use command::Command;
use hold::Holds;
use meter::Meter;

/// A range that is there.
struct There {
    /// The number of the device that brought it.
    device: usize,
    region: Region,
    /// Where its struct pages were asked to be.
    asked: Storage,
}

/// What became of a range that was removed.
struct Departed {
    device: usize,
    range: PhysRange,
    cost: Cost,
    gone: Option<Gone>,
}

/// A kernel that lives.
struct Live<M: Machine> {
    boot: &'static BootInfo,
    map: MemoryMap<M>,
    meter: Meter<M>,
    interrupts: Interrupts,
    /// The interrupt of the console.
    console: u32,
    /// The line that is being typed.
    line: Line,
    attached: Vec<Attached>,
    /// In the order in which they were added.
    ranges: Vec<There>,
    holds: Holds<M::Granule>,
    /// Before anything was added.
    before: Books,
    added: u64,
    removed: u64,
    failed: bool,
}

/// Room in the heap for what is remembered of each range, for some ten thousand of them: a sixty-fourth of the RAM that is
/// free, at most.
const HEAP_BYTES: u64 = 8 << 20;

/// Serves the devices that the boot arguments name, and the console, until told to quit.
pub fn serve<M: Machine>(boot: &'static BootInfo, mut map: MemoryMap<M>) -> ! {
    let free = RamFrames::current().free() * M::Granule::SIZE.bytes();
    heap::extend(boot, (free / 64).min(HEAP_BYTES), M::Granule::SIZE.bytes());
    let attached = device::attach(boot, &mut map).unwrap_or_else(|error| refuse(error));
    let interrupts = Interrupts::new(boot, &mut map).unwrap_or_else(|error| refuse(error));
    if let Some(counter) = counter(boot.config.count) {
        Live::new(boot, map, Meter::Instructions(counter), attached, interrupts).run()
    }
    // SAFETY: the observer only watches.
    let map = unsafe { map.on(|machine| Observed::new(machine, Count::default())) };
    let events = |map: &mut MemoryMap<Observed<M, Count>>| map.tables_mut().observer().take();
    Live::new(boot, map, Meter::Events(events), attached, interrupts).run()
}

impl<M: Machine> Live<M> {
    /// Enables the interrupts of the devices and of the console.
    fn new(
        boot: &'static BootInfo,
        map: MemoryMap<M>,
        meter: Meter<M>,
        attached: Vec<Attached>,
        mut interrupts: Interrupts,
    ) -> Self {
        let console = DeviceTree::again(boot).console_interrupt();
        let console = console.unwrap_or_else(|| refuse("live=1 needs a console that interrupts: a PL011"));
        let its_own = Interrupt { number: console, edge: false };
        for interrupt in attached.iter().filter_map(|device| device.interrupt).chain([its_own]) {
            interrupts.enable(interrupt).unwrap_or_else(|error| refuse(error));
        }
        let (holds, before) = (Holds::new(&map), Books::of(&map));
        Self {
            boot,
            map,
            meter,
            interrupts,
            console,
            line: Line::default(),
            attached,
            ranges: Vec::new(),
            holds,
            before,
            added: 0,
            removed: 0,
            failed: false,
        }
    }

    fn run(mut self) -> ! {
        (0..self.attached.len()).for_each(|device| self.poll(device));
        event::ready(self.boot, self.attached.iter().map(|device| device.memory.source()));
        console::interrupt_on_input(true);
        loop {
            self.interrupts.wait();
            self.serve_interrupts();
            self.take_lines();
            console::interrupt_on_input(true);
        }
    }

    /// Serves every interrupt that is pending. That of the console goes quiet until what was typed has been taken.
    fn serve_interrupts(&mut self) {
        while let Some(number) = self.interrupts.take() {
            if number == self.console {
                console::interrupt_on_input(false);
            }
            for device in 0..self.attached.len() {
                if self.attached[device].interrupt.is_some_and(|its_own| its_own.number == number) {
                    self.poll(device);
                }
            }
            self.interrupts.done(number);
        }
    }

    fn take_lines(&mut self) {
        while let Some(line) = console::read_line(&mut self.line) {
            self.serve_interrupts();
            match line.as_deref().map(Command::parse) {
                Ok(Ok(Some(command))) => {
                    if let Err(why) = self.execute(command) {
                        event::error(why);
                    }
                }
                Ok(Ok(None)) => (),
                Ok(Err(error)) => event::error(error),
                Err(error) => event::error(error),
            }
        }
    }

    /// Hears all that a device wants now.
    fn poll(&mut self, device: usize) {
        loop {
            match self.attached[device].memory.poll() {
                Ok(None) => return,
                Ok(Some(Change::Appeared(range))) => self.appeared(device, range),
                Ok(Some(Change::AskedBack(range))) => self.asked_back(device, range),
                Err(error) => event::refused(device, self.source(device), None, error),
            }
        }
    }

    /// Adds a range, or says why that can't be.
    fn appeared(&mut self, device: usize, range: PhysRange) {
        let Attached { memory, memmap, .. } = &self.attached[device];
        // SAFETY: the device has brought it, and nobody else knows of it: it is checked against RAM and against all others
        // before it is added.
        let request = unsafe { request(&self.boot.config, &self.map, range, *memmap, memory.front()) };
        let answer = match self.meter.add(self.boot, &mut self.map, request) {
            Ok((region, cost)) => {
                let there = There { device, region, asked: *request.storage() };
                let mut failures = Failures::new();
                let proved = self.proof_of(&there).check(&self.map, &mut failures);
                self.fail(range, failures);
                self.ranges.push(there);
                self.added += 1;
                event::added(device, self.source(device), range, &cost, proved);
                Answer::Done
            }
            Err(why) => {
                event::refused(device, self.source(device), Some(range), why);
                Answer::Refused
            }
        };
        self.agree(device, Change::Appeared(range), answer);
    }

    /// Removes a range, or says why it stays.
    fn asked_back(&mut self, device: usize, range: PhysRange) {
        let index = self.ranges.iter().position(|there| there.region.range() == range);
        let answer = match self.remove(index.expect("a device asks back what it has brought")) {
            Ok(departed) => {
                self.tell(&departed);
                Answer::Done
            }
            Err(why) => {
                event::kept(device, self.source(device), range, why);
                Answer::Refused
            }
        };
        self.agree(device, Change::AskedBack(range), answer);
    }

    fn agree(&mut self, device: usize, change: Change, answer: Answer) {
        if let Err(error) = self.attached[device].memory.agree(change, answer) {
            event::refused(device, self.source(device), None, error);
        }
    }

    /// Removes the range with this index, proves that it is gone, and that a neighbour is not; or says what is in the way.
    fn remove(&mut self, index: usize) -> Result<Departed, String> {
        let There { device, region, asked } = self.ranges.remove(index);
        let (range, mut failures) = (region.range(), Failures::new());
        let proof = Added { region: &region, asked: &asked, leaf: self.boot.config.leaf };
        let touched = proof.touch(&self.map, &mut failures);
        let (storage, cost) = match self.meter.remove(&mut self.map, region) {
            Ok(removed) => removed,
            Err(error) => {
                let why = error.why.to_string();
                self.ranges.insert(index, There { device, region: error.region, asked });
                return Err(why);
            }
        };
        let gone = prove::gone(self.map.tables(), &touched, &mut failures);
        prove::came_back(&storage, &asked, &mut failures);
        self.fail(range, failures);
        self.prove_a_neighbour(range);
        self.removed += 1;
        Ok(Departed { device, range, cost, gone })
    }

    fn tell(&self, departed: &Departed) {
        let &Departed { device, range, ref cost, gone } = departed;
        event::removed(device, self.source(device), range, cost, gone);
    }

    /// Proves again one range that shares a section with the one that is gone, or a page of the vmemmap, which is less.
    fn prove_a_neighbour(&mut self, gone: PhysRange) {
        let around = gone.widen(1 << M::Granule::SIZE.section_shift());
        let beside = |there: &&There| around.is_some_and(|around| there.region.range().overlaps(around));
        let Some(neighbour) = self.ranges.iter().find(beside) else { return };
        let (range, mut failures) = (neighbour.region.range(), Failures::new());
        self.proof_of(neighbour).check(&self.map, &mut failures);
        prove::linear_reads(self.map.layout(), range, &mut failures);
        let when = |failure| format!("after the removal of {gone}: {failure}");
        self.fail(range, failures.into_iter().map(when).collect());
    }

    fn proof_of<'a>(&self, there: &'a There) -> Added<'a> {
        Added { region: &there.region, asked: &there.asked, leaf: self.boot.config.leaf }
    }

    /// Says what was found wrong with a range, and remembers that something was.
    fn fail(&mut self, range: PhysRange, failures: Failures) {
        self.failed |= !failures.is_empty();
        for failure in failures {
            println!("@fail {range}: {failure}");
        }
    }

    fn source(&self, device: usize) -> &'static str {
        self.attached[device].memory.source()
    }

    /// Does what was typed.
    fn execute(&mut self, command: Command) -> Result<(), Box<dyn Error>> {
        match command {
            Command::Hold(address) => self.hold(address)?,
            Command::Release(address) => self.release(address)?,
            Command::Show => self.show(),
            Command::Write { device, text } => self.write(device, text)?,
            Command::Read { device } => self.read(device)?,
            Command::Sync(number) => event::synced(number),
            Command::Reset => exit::reset(),
            Command::Quit => self.quit(),
        }
        Ok(())
    }

    /// Takes a reference to the range with that address, or to the one added last.
    fn hold(&mut self, address: Option<PhysAddr>) -> Result<(), Box<dyn Error>> {
        let last = self.ranges.last().map(|there| there.region.range().start());
        let address = address.or(last).ok_or("no device memory is there: nothing to hold")?;
        Ok(self.holds.hold(address)?)
    }

    /// Gives references back, and hears the devices again: one may have asked for what was held.
    fn release(&mut self, address: Option<PhysAddr>) -> Result<(), Box<dyn Error>> {
        self.holds.release(address)?;
        (0..self.attached.len()).for_each(|device| self.poll(device));
        Ok(())
    }

    fn show(&self) {
        let listed = self.map.regions().filter_map(|listed| {
            let there = self.ranges.iter().find(|there| there.region.range() == listed.range)?;
            Some((there.device, self.source(there.device), listed.range, listed.state.holders()))
        });
        event::shown(listed, Books::of(&self.map).tables);
    }

    /// Removes all, last in, first out, gives it back to the devices, which did not ask for it, and compares the books.
    fn quit(&mut self) -> ! {
        self.holds.release_all();
        while let Some(last) = self.ranges.len().checked_sub(1) {
            match self.remove(last) {
                Ok(departed) => {
                    self.tell(&departed);
                    self.give_back(&departed);
                }
                Err(why) => {
                    self.fail(self.ranges[last].region.range(), [why].into());
                    break;
                }
            }
        }
        let (before, after) = (self.before, Books::of(&self.map));
        if before != after {
            self.failed = true;
            println!("@fail the books differ: {before:?} before, {after:?} after");
        }
        event::end(self.added, self.removed, before.frames.cast_signed() - after.frames.cast_signed());
        if self.failed {
            exit::exit(Status::Fail)
        }
        println!("@pass");
        exit::exit(Status::Pass)
    }

    fn give_back(&mut self, departed: &Departed) {
        let &Departed { device, range, .. } = departed;
        if let Err(error) = self.attached[device].memory.give_back(range) {
            self.fail(range, [error.to_string()].into());
        }
    }
}

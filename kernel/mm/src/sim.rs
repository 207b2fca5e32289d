//! The adversary: a machine as hostile as the architecture permits, to judge event traces against.
//!
//! It does not play one TLB. It keeps, for every CPU, *all* that a TLB or a walk cache may hold: whatever can be walked
//! now counts as cached, whatever could be walked before is cached until a rule of the architecture says that it is gone.
//! So one run judges every behaviour that hardware may show, and a mistake that no machine at hand would punish is an error
//! here.
//!
//! It takes [`trace`](crate::trace) events and knows nothing of the rest of this crate: descriptors, operands and geometry are read
//! from their bits by its own code. What it does not model is listed in `docs/adversary.md`.

mod barrier;
mod cache;
mod geometry;
mod memory;
mod operand;
mod registers;
mod rule;
mod store;
mod walk;
pub mod world;

pub use rule::Rule;
pub use world::{SimRam, World};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::trace::{Event, Header};
use barrier::Domain;
use cache::Cache;
use geometry::Geometry;
use memory::{Allocation, Zeroed};

/// How many events a [`Violation`] looks back.
pub const HISTORY: usize = 64;

/// What an access may see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// A translation fault.
    Fault,
    /// This output address, with these attributes (bits 11:2 and 54:50 of the leaf, Contiguous bit left out).
    Map {
        /// The output address.
        pa: u64,
        /// The attributes.
        attributes: u64,
    },
    /// Anything: the CPU has come online with a TLB that nobody has emptied.
    Garbage,
}

/// A rule that was broken, by which event, and what came before.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What is wrong.
    pub why: String,
    /// The number of the event, from 1 on.
    pub number: usize,
    /// The event.
    pub event: Event,
    /// The number of the event that took out, or made, what is at stake.
    pub since: Option<usize>,
    /// The events up to it, with it, as far back as they are kept.
    pub history: Vec<(usize, Event)>,
}

/// A slot: its last value, and what a walk may still read in its place.
#[derive(Debug, Default)]
struct Slot {
    value: u64,
    /// The number of the event that stored it; 0 for one that was there at the start.
    stored: usize,
    olds: Vec<Old>,
}

/// A value that was overwritten.
#[derive(Debug)]
struct Old {
    value: u64,
    writer: u8,
    /// CPUs whose walks may read it because the writer's DSB has not come yet.
    pending: u8,
    /// CPUs that may see it, an invalid one, because they have not synchronised their context since that DSB.
    unsynced: u8,
}

/// Where a table stands.
#[derive(Clone, Copy, Debug)]
struct Home {
    level: i8,
    va: u64,
}

/// How far a CPU has come in emptying its TLB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flush {
    /// Registers were changed, and the context has not been synchronised since: an invalidation comes too early.
    Unsynchronised,
    Needed,
    Issued(Domain),
    Complete,
    Clean,
}

#[derive(Debug)]
struct Cpu {
    /// The root in use, and those that were until the context is synchronised.
    roots: Vec<u64>,
    registers: Option<Event>,
    flush: Flush,
    /// In the middle of the trace.
    came_online: bool,
}

/// The adversary.
#[derive(Debug)]
pub struct Adversary {
    header: Header,
    geometry: Geometry,
    off: BTreeSet<Rule>,
    slots: BTreeMap<u64, Slot>,
    tables: BTreeMap<u64, Home>,
    /// Memory whose content is arbitrary where it has not been zeroed: taken, or given back, since the start.
    arbitrary: BTreeMap<u64, u64>,
    zeroed: BTreeMap<u64, Zeroed>,
    allocations: BTreeMap<(u64, u64, crate::trace::Word), Allocation>,
    cpus: Vec<Cpu>,
    cache: Cache,
    /// Slots with old values.
    unpublished: BTreeSet<u64>,
    /// Contiguous runs written to and not yet judged: writer, first slot, level, first address.
    runs: BTreeSet<(u8, u64, i8, u64)>,
    /// Tables that were linked and of whose memory nothing is known.
    unknown: usize,
    /// Whether the header of the trace, with the state at its start, is over.
    started: bool,
    number: usize,
    history: VecDeque<(usize, Event)>,
    found: Option<Box<Violation>>,
}

impl Adversary {
    /// An adversary for machines with this geometry, who enforces every rule.
    #[must_use]
    pub fn new(header: Header) -> Self {
        let cpu = |_| Cpu { roots: Vec::new(), registers: None, flush: Flush::Needed, came_online: false };
        Self {
            header,
            geometry: Geometry::new(header),
            off: BTreeSet::new(),
            slots: BTreeMap::new(),
            tables: BTreeMap::new(),
            arbitrary: BTreeMap::new(),
            zeroed: BTreeMap::new(),
            allocations: BTreeMap::new(),
            cpus: (0..header.cpus.clamp(1, 8)).map(cpu).collect(),
            cache: Cache::default(),
            unpublished: BTreeSet::new(),
            runs: BTreeSet::new(),
            unknown: 0,
            started: false,
            number: 0,
            history: VecDeque::new(),
            found: None,
        }
    }

    /// The same without one rule: for tests that show what the rule is needed for. Without one of what it takes to forget
    /// (R1 to R16) it forgets earlier than hardware has to.
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.off.insert(rule);
        self
    }

    /// Whether an event is one of the EL1&0 regime on this machine: its CPU exists, and its TLBI or barrier is known.
    #[must_use]
    pub fn knows(&self, event: &Event) -> bool {
        let cpu = event.cpu().is_none_or(|cpu| u32::from(cpu) < self.header.cpus);
        cpu && match event {
            Event::Tlbi { op, operand, .. } => {
                operand::decode(self.geometry, op, *operand).0.is_some() || op.starts_with("aside1")
            }
            Event::Dsb { option, .. } | Event::Dmb { option, .. } => barrier::is_option(option),
            _ => true,
        }
    }

    /// The geometry.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] of this event. The adversary goes on as if the event had been legal.
    pub fn step(&mut self, event: Event) -> Result<(), Box<Violation>> {
        self.number += 1;
        self.history.truncate(HISTORY - 1);
        self.history.push_front((self.number, event));
        self.started |=
            !matches!(event, Event::Trace(_) | Event::Regs { .. } | Event::Table { .. } | Event::Slot { .. });
        match event.cpu() {
            Some(cpu) if usize::from(cpu) >= self.cpus.len() => {
                let cpus = self.cpus.len();
                self.break_rule(Rule::Registers, format!("there are {cpus} CPUs"));
            }
            _ if !self.is_possible(&event) => self.break_rule(Rule::Accounts, "there is no such memory"),
            _ => self.take(event),
        }
        self.found.take().map_or(Ok(()), Err)
    }

    /// The trace ends: whatever an operation leaves for later is left for ever.
    ///
    /// # Errors
    ///
    /// A [`Violation`] by the last event, if some CPU has not completed what it did.
    pub fn finish(&mut self) -> Result<(), Box<Violation>> {
        for cpu in self.online().collect::<Vec<_>>() {
            // Its own context synchronisation may come later still.
            self.expect_complete(cpu, |rule| rule != Rule::Synchronised);
        }
        self.found.take().map_or(Ok(()), Err)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Trace(_) | Event::Begin { .. } => {}
            Event::Regs { cpu, .. } => self.regs(cpu, event),
            Event::Table { pa, level, va } => {
                self.tables.insert(pa, Home { level, va });
            }
            Event::Slot { pa, value } => self.slots.entry(pa).or_default().value = value,
            Event::End { cpu, .. } => self.end(cpu),
            Event::Alloc { pa, len, from } => self.alloc(pa, len, from),
            Event::Zero { cpu, pa, len } => self.zero(cpu, pa, len),
            Event::Write { cpu, slot, old, new } => self.write(cpu, slot, old, new),
            Event::Dsb { cpu, option } => self.dsb(cpu, &option),
            Event::Dmb { cpu, option } => self.order_zeroing(cpu, &option),
            Event::Isb { cpu } => self.isb(cpu),
            Event::Tlbi { cpu, op, operand } => self.tlbi(cpu, &op, operand),
            Event::Free { pa, len, to } => self.free(pa, len, to),
            Event::Touch { cpu, va, write } => self.touch(cpu, va, write),
        }
    }

    /// Whether an event names memory and tables that can exist: a trace may come from anywhere.
    fn is_possible(&self, event: &Event) -> bool {
        const MOST: u64 = 1 << 52;
        match *event {
            Event::Alloc { pa, len, .. } | Event::Free { pa, len, .. } | Event::Zero { pa, len, .. } => {
                pa < MOST && (1..=MOST).contains(&len)
            }
            Event::Slot { pa: slot, .. } | Event::Write { slot, .. } => slot < MOST && slot.is_multiple_of(8),
            Event::Table { pa, level, va } => pa < MOST && self.geometry.is_place(pa, level, va),
            _ => true,
        }
    }

    /// Whether a rule is enforced.
    fn has(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }

    /// Notes a violation by the event at hand, if it is the first.
    fn break_rule(&mut self, rule: Rule, why: impl Into<String>) {
        if self.has(rule) && self.found.is_none() {
            let history: Vec<_> = self.history.iter().rev().copied().collect();
            let (number, event) = self.history[0];
            self.found = Some(Box::new(Violation { rule, why: why.into(), number, event, since: None, history }));
        }
    }

    /// The same about `va`.
    fn break_rule_at(&mut self, va: u64, rule: Rule, why: impl Into<String>) {
        if self.has(rule) && self.found.is_none() {
            self.break_rule(rule, why);
            let since = self.last_store(va);
            self.found.iter_mut().for_each(|found| found.since = since);
        }
    }

    fn online(&self) -> impl Iterator<Item = u8> + use<'_> {
        (0..self.cpus.len() as u8).filter(|cpu| !self.cpus[usize::from(*cpu)].roots.is_empty())
    }

    fn online_mask(&self) -> u8 {
        self.online().fold(0, |cpus, cpu| cpus | 1 << cpu)
    }

    fn value(&self, slot: u64) -> u64 {
        self.slots.get(&slot).map_or(0, |slot| slot.value)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: event {}: {}: {} ({})", self.rule, self.number, self.event, self.why, self.rule.source())
    }
}

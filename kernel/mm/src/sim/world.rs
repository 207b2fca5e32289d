//! A machine on the host, with the adversary for an MMU: memory, a frame allocator, up to four CPUs.
//!
//! The code under test gets a [`Cpu`] for its machine and a [`SimRam`] for its frames. Whatever it does becomes trace events
//! for the adversary, whose violations are kept. A struct page is written to the frame that the adversary says the address
//! names. Before each call of the seam a hook runs: to probe, or to let another CPU run.

mod cpu;
mod memory;
mod ram;
mod section;
#[cfg(test)]
mod tests;

pub use cpu::Cpu;
pub use ram::SimRam;
pub use section::ReadSection;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Adversary, Outcome, Violation};
use crate::addr::PhysAddr;
use crate::granule::Granule;
use crate::observe;
use crate::regime::Regime;
use crate::trace::{Event, Header};
use memory::Physical;
use ram::Books;
use section::Sections;

/// What runs before each call of the seam, with the CPU that makes it. It may call the world.
pub type Hook = Arc<dyn Fn(&World, u8) + Send + Sync>;

/// A call of the seam that is about to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// A read of a descriptor or of a word.
    Read(PhysAddr),
    /// A store of an ordinary word, or an exchange, which the adversary does not see.
    Store(PhysAddr),
    /// A store of a descriptor.
    Write(PhysAddr),
    /// Anything else: the adversary sees it.
    Event,
    /// None yet: read sections of other CPUs have to end first. The call comes again until they have.
    Wait,
}

/// The machine. Clones are the same machine.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    regime: Regime,
    header: Header,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    has_ranges: AtomicBool,
}

struct State {
    adversary: Adversary,
    memory: Physical,
    ram: Books,
    violations: Vec<Violation>,
    /// How the machine was at first, and what happened since, if it is kept.
    start: Vec<Event>,
    kept: Option<Vec<Event>>,
    steps: u64,
    /// What each CPU is about to do.
    calls: [Option<Call>; World::MOST_CPUS as usize],
    /// The CPU that made the last call: there is one at a time wherever CPUs wait.
    running: u8,
    sections: Sections,
}

impl State {
    fn step(&mut self, event: Event) {
        self.steps += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
        if let Err(violation) = self.adversary.step(event) {
            self.violations.push(*violation);
        }
    }
}

impl World {
    /// The most CPUs that a world has.
    pub const MOST_CPUS: u8 = 4;

    /// A machine whose `cpus` CPUs all translate by an empty root table in this regime, with `pa_bits` bits of physical
    /// address.
    ///
    /// # Panics
    ///
    /// If `cpus` is not 1 to [`World::MOST_CPUS`].
    #[must_use]
    pub fn new(regime: Regime, pa_bits: u32, cpus: u8) -> Self {
        Self::with_online(regime, pa_bits, cpus, cpus)
    }

    /// The same with CPU 0 only; the others [come online](crate::table::Tables::come_online) later.
    #[must_use]
    pub fn booting(regime: Regime, pa_bits: u32, cpus: u8) -> Self {
        Self::with_online(regime, pa_bits, cpus, 1)
    }

    fn with_online(regime: Regime, pa_bits: u32, cpus: u8, online: u8) -> Self {
        assert!((1..=Self::MOST_CPUS).contains(&cpus), "{cpus} CPUs: a world has 1 to {}", Self::MOST_CPUS);
        let header = Header { granule: regime.granule(), va_bits: regime.va_bits(), pa_bits, cpus: u32::from(cpus) };
        let mut state = State {
            adversary: Adversary::new(header),
            memory: Physical::default(),
            ram: Books::new(high(pa_bits).add(0x5000_0000)),
            violations: Vec::new(),
            start: vec![Event::Trace(header)],
            kept: None,
            steps: 0,
            calls: [None; Self::MOST_CPUS as usize],
            running: 0,
            sections: Sections::default(),
        };
        let root = root(pa_bits);
        state.memory.zero(root, regime.granule().bytes().max(regime.root_bytes()));
        let registers = observe::Event::Registers(regime.registers(root, ips(pa_bits)));
        let (level, va) = (regime.start_level().number(), regime.lowest().value());
        let regs = (0..online).map(|cpu| Event::seen(cpu, &registers));
        for event in regs.chain([Event::Table { pa: root.value(), level, va }]) {
            state.start.push(event);
            state.step(event);
        }
        let has_ranges = AtomicBool::new(false);
        Self {
            shared: Arc::new(Shared { regime, header, state: Mutex::new(state), hook: Mutex::default(), has_ranges }),
        }
    }

    /// CPU `number` as a machine of granule `G`.
    ///
    /// # Panics
    ///
    /// If the world's regime has another granule.
    #[must_use]
    pub fn cpu<G: Granule>(&self, number: u8) -> Cpu<G> {
        assert!(self.shared.regime.granule() == G::SIZE, "a world of another granule");
        Cpu::new(self.clone(), number)
    }

    /// Its frames.
    #[must_use]
    pub fn ram(&self) -> SimRam {
        SimRam { world: self.clone() }
    }

    /// The root table.
    #[must_use]
    pub fn root(&self) -> PhysAddr {
        root(self.shared.header.pa_bits)
    }

    /// The regime.
    #[must_use]
    pub fn regime(&self) -> Regime {
        self.shared.regime
    }

    /// The output size as in `TCR_EL1.IPS`.
    #[must_use]
    pub fn ips(&self) -> u64 {
        ips(self.shared.header.pa_bits)
    }

    /// Lets something happen that the seam has no call for.
    pub fn event(&self, event: Event) {
        self.state().step(event);
    }

    /// How many events there have been: what `may` says changes only with it.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Keeps the events from here on.
    pub fn keep_events(&self) {
        self.state().kept.get_or_insert_default();
    }

    /// The trace: how the machine was at first, and the events that were kept.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let state = self.state();
        state.start.iter().chain(state.kept.iter().flatten()).copied().collect()
    }

    /// The events that were kept, without the first `skip`.
    #[must_use]
    pub fn events_from(&self, skip: usize) -> Vec<Event> {
        self.state().kept.as_deref().and_then(|kept| kept.get(skip..)).unwrap_or_default().to_vec()
    }

    /// How many events have been kept.
    #[must_use]
    pub fn events_kept(&self) -> usize {
        self.state().kept.as_ref().map_or(0, Vec::len)
    }

    /// The violations so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    /// The violations since the last call.
    #[must_use]
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.state().violations)
    }

    /// All that an access of `cpu` to `va` may see now.
    #[must_use]
    pub fn may(&self, cpu: u8, va: u64) -> BTreeSet<Outcome> {
        self.state().adversary.may(cpu, va)
    }

    /// What `va` is by the tables as they were last written.
    #[must_use]
    pub fn written(&self, va: u64) -> Outcome {
        self.state().adversary.written(va)
    }

    /// A word of memory.
    #[must_use]
    pub fn word(&self, address: PhysAddr) -> u64 {
        self.state().memory.load(address)
    }

    /// `count` words of memory from `first` on.
    #[must_use]
    pub fn words(&self, first: PhysAddr, count: u64) -> Vec<u64> {
        self.state().memory.words(first, count)
    }

    /// The words that are not zero in the root table and in all frames that are out.
    #[must_use]
    pub fn image(&self) -> BTreeMap<u64, u64> {
        let state = self.state();
        let root = (self.root().value(), self.shared.regime.root_bytes());
        let frames = state.ram.out.iter().map(|(start, bytes)| (*start, *bytes)).chain([root]);
        let words = frames
            .flat_map(|(start, bytes)| (start..).step_by(8).zip(state.memory.words(PhysAddr::new(start), bytes / 8)));
        words.filter(|(_, value)| *value != 0).collect()
    }

    /// The frames of RAM that are out, with their sizes.
    #[must_use]
    pub fn frames_out(&self) -> BTreeMap<u64, u64> {
        self.state().ram.out.clone()
    }

    /// From now on only `frames` more frames can be taken; as many as are wanted if there is none.
    pub fn set_budget(&self, frames: Option<u64>) {
        self.state().ram.budget = frames;
    }

    /// How many frames have been refused for want of budget.
    #[must_use]
    pub fn frames_refused(&self) -> u64 {
        self.state().ram.refused
    }

    /// From now on its CPUs have invalidations by range (`FEAT_TLBIRANGE`), or they have not.
    pub fn set_range_invalidations(&self, has_ranges: bool) {
        self.shared.has_ranges.store(has_ranges, Ordering::Relaxed);
    }

    /// Whether they have them.
    #[must_use]
    pub fn has_range_invalidations(&self) -> bool {
        self.shared.has_ranges.load(Ordering::Relaxed)
    }

    /// Runs `hook` before each call of the seam, without any lock held.
    pub fn set_hook(&self, hook: Hook) {
        *self.hook() = Some(hook);
    }

    /// Runs nothing any more.
    pub fn remove_hook(&self) {
        *self.hook() = None;
    }

    /// What `cpu` is about to do, or did last: for a hook.
    #[must_use]
    pub fn call(&self, cpu: u8) -> Option<Call> {
        self.state().calls[usize::from(cpu)]
    }

    fn about(&self, cpu: u8, call: Call) {
        let hook = self.hook().clone();
        if let Some(hook) = hook {
            self.state().calls[usize::from(cpu)] = Some(call);
            hook(self, cpu);
            // Others may have run in between.
            self.state().running = cpu;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hook(&self) -> MutexGuard<'_, Option<Hook>> {
        self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a world of {}", self.shared.header)
    }
}

/// Where memory is: above 48 bits where there are more, so that their place in descriptors is tried.
const fn high(pa_bits: u32) -> PhysAddr {
    PhysAddr::new(if pa_bits > 48 { 1 << 51 } else { 0 })
}

const fn root(pa_bits: u32) -> PhysAddr {
    high(pa_bits).add(0x4000_0000)
}

/// The encoding of an output size, rounded up to one that has one.
const fn ips(pa_bits: u32) -> u64 {
    match pa_bits {
        0..=32 => 0,
        33..=36 => 1,
        37..=40 => 2,
        41..=42 => 3,
        43..=44 => 4,
        45..=48 => 5,
        _ => 6,
    }
}

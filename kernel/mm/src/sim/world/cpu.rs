//! One CPU of the host machine: the seam, each call an event for the adversary.

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::memory::Page;
use super::{Call, World};
use crate::addr::{PhysAddr, VirtRange};
use crate::granule::Granule;
use crate::observe;
use crate::regime::Registers;
use crate::seam::{Allocation, Dsb, Machine, Memory, Mmu, Phase, Source};
use crate::sim::Outcome;
use crate::tlbi::Tlbi;
use crate::trace::Event;

/// A CPU of a [`World`], as a machine of granule `G`.
#[derive(Clone, Debug)]
pub struct Cpu<G> {
    world: World,
    number: u8,
    granule: PhantomData<fn() -> G>,
}

impl<G: Granule> Cpu<G> {
    pub(super) const fn new(world: World, number: u8) -> Self {
        Self { world, number, granule: PhantomData }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The machine that it is part of.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    fn does(&self, event: observe::Event) {
        self.world.about(self.number, Call::Event);
        self.world.event(Event::seen(self.number, &event));
    }
}

// SAFETY: slots and words are those of the world's memory, each store one step under its lock. `access` hands out bytes that
// nobody else has, and puts them into the frame that this CPU sees at the address.
unsafe impl<G: Granule> Memory for Cpu<G> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.world.about(self.number, Call::Read(slot));
        self.world.word(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.world.about(self.number, Call::Write(slot));
        let mut state = self.world.state();
        let old = state.memory.load(slot);
        state.memory.store(slot, descriptor);
        state.step(Event::Write { cpu: self.number, slot: slot.value(), old, new: descriptor });
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        self.world.about(self.number, Call::Event);
        let mut state = self.world.state();
        state.memory.zero(table, bytes);
        state.step(Event::Zero { cpu: self.number, pa: table.value(), len: bytes });
    }

    fn load(&self, word: PhysAddr) -> u64 {
        self.world.about(self.number, Call::Read(word));
        self.world.word(word)
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        self.world.about(self.number, Call::Store(word));
        self.world.state().memory.store(word, value);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        self.world.about(self.number, Call::Store(word));
        let memory = &mut self.world.state().memory;
        let held = memory.load(word);
        if held != old {
            return Err(held);
        }
        memory.store(word, new);
        Ok(held)
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        self.does(observe::Event::Access(range));
        let mut pages = Page::fresh(range.bytes());
        write(&mut Page::bytes(&mut pages)[..range.bytes() as usize]);
        let mut outcomes = self.world.may(self.number, range.start().value()).into_iter();
        // Anything else than one frame has been a violation; the bytes are lost.
        if let (Some(Outcome::Map { pa, .. }), None) = (outcomes.next(), outcomes.next()) {
            self.world.state().memory.place(PhysAddr::new(pa), pages, range.bytes());
        }
    }
}

// SAFETY: each is the event of that name, of which the adversary takes no more than the architecture promises.
unsafe impl<G: Granule> Mmu for Cpu<G> {
    fn dsb(&mut self, kind: Dsb) {
        self.does(observe::Event::Dsb(kind));
    }

    fn isb(&mut self) {
        self.does(observe::Event::Isb);
    }

    fn tlbi(&mut self, operation: Tlbi) {
        let is_there = self.has_range_invalidations() || !operation.is_by_range();
        assert!(is_there, "{operation:?} is undefined without FEAT_TLBIRANGE: ask has_range_invalidations first");
        self.does(observe::Event::Tlbi(operation));
    }

    fn has_range_invalidations(&self) -> bool {
        self.world.has_range_invalidations()
    }
}

/// Frames of RAM are [`SimRam`](super::SimRam)'s to announce.
const fn is_announced_elsewhere(frames: &Allocation) -> bool {
    matches!(frames.source, Source::Ram)
}

impl<G: Granule> Machine for Cpu<G> {
    type Granule = G;

    fn uses(&mut self, registers: Registers) {
        self.does(observe::Event::Registers(registers));
    }

    fn allocated(&mut self, frames: Allocation) {
        if is_announced_elsewhere(&frames) {
            self.world.about(self.number, Call::Event);
        } else {
            self.does(observe::Event::Allocated(frames));
        }
    }

    fn freed(&mut self, frames: Allocation) {
        if is_announced_elsewhere(&frames) {
            self.world.about(self.number, Call::Event);
        } else {
            self.does(observe::Event::Freed(frames));
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.does(observe::Event::Begin(phase));
    }

    fn end(&mut self, phase: Phase) {
        self.does(observe::Event::End(phase));
    }
}

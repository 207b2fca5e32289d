//! Watching a machine: [`Observed`] puts any [`Observer`] around any machine. Where there is none, nothing is paid; what an
//! observer does not look at, the compiler drops.

use core::mem::MaybeUninit;

use crate::addr::{PhysAddr, VirtRange};
use crate::regime::Registers;
use crate::seam::{Allocation, Dsb, Machine, Memory, Mmu, Phase};
use crate::tlbi::Tlbi;

/// What a machine is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A descriptor is written.
    Write {
        /// The slot.
        slot: PhysAddr,
        /// What it held; 0 unless the observer [asks](Observer::SEES_OLD).
        old: u64,
        /// What it will hold.
        descriptor: u64,
    },
    /// A table is zeroed.
    Zero {
        /// Its address.
        table: PhysAddr,
        /// Its size.
        bytes: u64,
    },
    /// A data synchronisation barrier.
    Dsb(Dsb),
    /// An instruction synchronisation barrier.
    Isb,
    /// A TLB invalidation.
    Tlbi(Tlbi),
    /// Struct pages are written.
    Access(VirtRange),
    /// This CPU translates by these registers from now on.
    Registers(Registers),
    /// Frames have been taken.
    Allocated(Allocation),
    /// Frames are about to be given back.
    Freed(Allocation),
    /// A phase begins.
    Begin(Phase),
    /// A phase ends.
    End(Phase),
}

/// Someone who watches.
pub trait Observer {
    /// Whether it wants to know what a slot held before each write, which costs a read.
    const SEES_OLD: bool = false;

    /// `event` is about to happen ([`Allocated`](Event::Allocated) and [`End`](Event::End): it just has).
    fn event(&mut self, event: Event);
}

/// A machine that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Observed<M, O> {
    machine: M,
    observer: O,
}

impl<M, O> Observed<M, O> {
    /// Lets `observer` watch `machine`.
    #[must_use]
    #[inline]
    pub const fn new(machine: M, observer: O) -> Self {
        Self { machine, observer }
    }

    /// The observer.
    #[inline]
    pub const fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// The machine, no longer watched.
    #[must_use]
    #[inline]
    pub fn into_inner(self) -> M {
        self.machine
    }
}

// SAFETY: every call goes through to a machine that keeps the contract.
unsafe impl<M: Memory, O: Observer> Memory for Observed<M, O> {
    #[inline]
    fn read(&self, slot: PhysAddr) -> u64 {
        self.machine.read(slot)
    }

    #[inline]
    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        let old = if O::SEES_OLD { self.machine.read(slot) } else { 0 };
        self.observer.event(Event::Write { slot, old, descriptor });
        self.machine.write(slot, descriptor);
    }

    #[inline]
    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        self.observer.event(Event::Zero { table, bytes });
        self.machine.zero_table(table, bytes);
    }

    #[inline]
    fn load(&self, word: PhysAddr) -> u64 {
        self.machine.load(word)
    }

    #[inline]
    fn store(&mut self, word: PhysAddr, value: u64) {
        self.machine.store(word, value);
    }

    #[inline]
    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        // SAFETY: the caller's promise.
        unsafe { self.machine.exchange(word, old, new) }
    }

    #[inline]
    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        self.observer.event(Event::Access(range));
        self.machine.access(range, write);
    }
}

// SAFETY: as above.
unsafe impl<M: Mmu, O: Observer> Mmu for Observed<M, O> {
    #[inline]
    fn dsb(&mut self, kind: Dsb) {
        self.observer.event(Event::Dsb(kind));
        self.machine.dsb(kind);
    }

    #[inline]
    fn isb(&mut self) {
        self.observer.event(Event::Isb);
        self.machine.isb();
    }

    #[inline]
    fn tlbi(&mut self, operation: Tlbi) {
        self.observer.event(Event::Tlbi(operation));
        self.machine.tlbi(operation);
    }

    #[inline]
    fn has_range_invalidations(&self) -> bool {
        self.machine.has_range_invalidations()
    }
}

impl<M: Machine, O: Observer> Machine for Observed<M, O> {
    type Granule = M::Granule;

    #[inline]
    fn uses(&mut self, registers: Registers) {
        self.observer.event(Event::Registers(registers));
        self.machine.uses(registers);
    }

    #[inline]
    fn allocated(&mut self, frames: Allocation) {
        self.machine.allocated(frames);
        self.observer.event(Event::Allocated(frames));
    }

    #[inline]
    fn freed(&mut self, frames: Allocation) {
        self.observer.event(Event::Freed(frames));
        self.machine.freed(frames);
    }

    #[inline]
    fn begin(&mut self, phase: Phase) {
        self.observer.event(Event::Begin(phase));
        self.machine.begin(phase);
    }

    #[inline]
    fn end(&mut self, phase: Phase) {
        self.machine.end(phase);
        self.observer.event(Event::End(phase));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Count;
    use crate::granule::K4;

    /// Or what is counted is not what runs uncounted.
    #[test]
    fn a_watched_machine_invalidates_by_range_where_the_machine_below_does() {
        for ranges in [false, true] {
            let mut tables = crate::testing::tables::<K4>(48);
            tables.machine_mut().has_ranges = ranges;
            let tables = tables.on(|machine| Observed::new(machine, Count::default()));
            assert_eq!(tables.machine().has_range_invalidations(), ranges);
        }
    }
}

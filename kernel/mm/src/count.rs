//! A decorator that counts what a machine is asked to do.

use core::mem::MaybeUninit;

use crate::addr::{PhysAddr, VirtRange};
use crate::seam::{Dsb, Machine, Memory, Mmu, Observe, Phase};
use crate::tlb::Tlbi;

/// Events since the count began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events {
    /// Descriptors written, parked and emptied ones included.
    pub descriptor_writes: u64,
    /// Data synchronisation barriers.
    pub dsb: u64,
    /// Instruction synchronisation barriers.
    pub isb: u64,
    /// TLB invalidations.
    pub tlbi: u64,
    /// Tables zeroed.
    pub tables_zeroed: u64,
}

/// A machine whose events are counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<M> {
    machine: M,
    events: Events,
}

impl<M> Counted<M> {
    /// Counts what `machine` is asked from here on.
    #[must_use]
    pub fn new(machine: M) -> Self {
        Self { machine, events: Events::default() }
    }

    /// The count since the last call of this function.
    pub fn take(&mut self) -> Events {
        core::mem::take(&mut self.events)
    }

    /// The machine without the counter.
    #[must_use]
    pub fn into_inner(self) -> M {
        self.machine
    }
}

// SAFETY: every call goes through to a machine that keeps the contract.
unsafe impl<M: Memory> Memory for Counted<M> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.machine.read(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.events.descriptor_writes += 1;
        self.machine.write(slot, descriptor);
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        self.events.tables_zeroed += 1;
        self.machine.zero_table(table, bytes);
    }

    fn load(&self, word: PhysAddr) -> u64 {
        self.machine.load(word)
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        self.machine.store(word, value);
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        self.machine.access(range, write);
    }
}

// SAFETY: as above.
unsafe impl<M: Mmu> Mmu for Counted<M> {
    fn dsb(&mut self, kind: Dsb) {
        self.events.dsb += 1;
        self.machine.dsb(kind);
    }

    fn isb(&mut self) {
        self.events.isb += 1;
        self.machine.isb();
    }

    fn tlbi(&mut self, operation: Tlbi) {
        self.events.tlbi += 1;
        self.machine.tlbi(operation);
    }
}

impl<M: Observe> Observe for Counted<M> {
    fn begin(&mut self, phase: Phase) {
        self.machine.begin(phase);
    }

    fn end(&mut self, phase: Phase) {
        self.machine.end(phase);
    }
}

impl<M: Machine> Machine for Counted<M> {
    type Granule = M::Granule;
}

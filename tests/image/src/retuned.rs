//! A machine that writes the registers that it is told of: on the others boot has written them, and telling is only for
//! observers.

use core::mem::MaybeUninit;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{MAIR_EL1, TCR_EL1, TTBR1_EL1, Writeable};
use vmemmap::addr::{PhysAddr, VirtRange};
use vmemmap::regime::Registers;
use vmemmap::seam::{Dsb, Machine, Memory, Mmu};
use vmemmap::tlbi::Tlbi;

/// Such a machine around another.
#[derive(Debug)]
pub struct Retuned<M>(pub M);

// SAFETY: memory works as on the machine below.
unsafe impl<M: Memory> Memory for Retuned<M> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.0.read(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.0.write(slot, descriptor);
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        self.0.zero_table(table, bytes);
    }

    fn load(&self, word: PhysAddr) -> u64 {
        self.0.load(word)
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        self.0.store(word, value);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        // SAFETY: the caller's promise.
        unsafe { self.0.exchange(word, old, new) }
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        self.0.access(range, write);
    }
}

// SAFETY: so do barriers and invalidations.
unsafe impl<M: Mmu> Mmu for Retuned<M> {
    fn dsb(&mut self, kind: Dsb) {
        self.0.dsb(kind);
    }

    fn isb(&mut self) {
        self.0.isb();
    }

    fn tlbi(&mut self, operation: Tlbi) {
        self.0.tlbi(operation);
    }

    fn has_range_invalidations(&self) -> bool {
        self.0.has_range_invalidations()
    }
}

impl<M: Machine> Machine for Retuned<M> {
    type Granule = M::Granule;

    fn uses(&mut self, registers: Registers) {
        MAIR_EL1.set(registers.mair);
        TTBR1_EL1.set(registers.ttbr1);
        TCR_EL1.set(registers.tcr | TCR_EL1::EPD0::DisableTTBR0Walks.value);
        barrier::isb(barrier::SY);
        self.0.uses(registers);
    }
}

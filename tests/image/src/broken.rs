//! Machines that break a rule, so that a proof can be seen to fail. None of this is in the image that users boot.

use core::mem::MaybeUninit;

use kernel::story::Around;
use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::granule::Granule;
use vmemmap::seam::{Dsb, Machine, Memory, Mmu};
use vmemmap::tlbi::{Operand, Tlbi};
use vmemmap_aarch64::El1;

/// A rule about TLB maintenance, broken.
pub trait Rule: Copy + 'static {
    /// What is executed in place of `operation`.
    fn instead(operation: Tlbi) -> Option<Tlbi>;
}

/// No TLB maintenance at all.
#[derive(Clone, Copy)]
pub struct NoTlbi;

impl Rule for NoTlbi {
    fn instead(_: Tlbi) -> Option<Tlbi> {
        None
    }
}

/// Every invalidation by address hits a page 64 MiB further on.
#[derive(Clone, Copy)]
pub struct WrongAddress;

impl Rule for WrongAddress {
    fn instead(operation: Tlbi) -> Option<Tlbi> {
        let wrong = |operand: Operand| Operand::new(VirtAddr::new(operand.bits() << 12).add(64 << 20));
        Some(match operation {
            Tlbi::LastLevel(operand) => Tlbi::LastLevel(wrong(operand)),
            Tlbi::AnyLevel(operand) => Tlbi::AnyLevel(wrong(operand)),
            all => all,
        })
    }
}

/// A machine whose TLB maintenance breaks rule `R`.
#[derive(Clone, Copy)]
pub struct Broken<M, R> {
    machine: M,
    rule: core::marker::PhantomData<R>,
}

impl<M, R> Broken<M, R> {
    /// Breaks `machine`.
    pub fn new(machine: M) -> Self {
        Self { machine, rule: core::marker::PhantomData }
    }
}

impl Around for NoTlbi {
    type Machine<G: Granule> = Broken<El1<G>, NoTlbi>;

    fn around<G: Granule>(machine: El1<G>) -> Self::Machine<G> {
        Broken::new(machine)
    }
}

// SAFETY: memory works as on the machine below.
unsafe impl<M: Memory, R: Rule> Memory for Broken<M, R> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.machine.read(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.machine.write(slot, descriptor);
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
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

// SAFETY: it is not: that is the point. Only cases that expect the damage run on it, and each ends its boot.
unsafe impl<M: Mmu, R: Rule> Mmu for Broken<M, R> {
    fn dsb(&mut self, kind: Dsb) {
        self.machine.dsb(kind);
    }

    fn isb(&mut self) {
        self.machine.isb();
    }

    fn tlbi(&mut self, operation: Tlbi) {
        if let Some(operation) = R::instead(operation) {
            self.machine.tlbi(operation);
        }
    }
}

impl<M: Machine, R: Rule> Machine for Broken<M, R> {
    type Granule = M::Granule;
}

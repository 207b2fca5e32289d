//! A machine that counts every call through the seam, reads too: what an operation costs the machine below it.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::{FIRST_FRAME, ROOT};
use crate::addr::{PhysAddr, VirtRange};
use crate::granule::Granule;
use crate::regime::Regime;
use crate::seam::{Allocation, Dsb, Machine, Memory, Mmu};
use crate::table::Tables;
use crate::tlbi::Tlbi;

/// Calls through the seam.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Calls {
    /// Slots read.
    pub reads: u64,
    /// Slots written.
    pub writes: u64,
    /// Tables zeroed.
    pub zeroed: u64,
    /// Ordinary words read.
    pub loads: u64,
    /// Ordinary words written, or exchanged.
    pub stores: u64,
    /// Pieces of the vmemmap that were written.
    pub accesses: u64,
    /// Barriers and invalidations.
    pub maintenance: u64,
    /// Runs of frames taken or given back.
    pub frames: u64,
}

impl Calls {
    /// Each kind by its name.
    pub const fn each(&self) -> [(&'static str, u64); 8] {
        [
            ("reads", self.reads),
            ("writes", self.writes),
            ("zeroed", self.zeroed),
            ("loads", self.loads),
            ("stores", self.stores),
            ("accesses", self.accesses),
            ("maintenance", self.maintenance),
            ("frames", self.frames),
        ]
    }
}

/// RAM from [`ROOT`] on, of which nobody looks at what stands in struct pages.
#[derive(Debug)]
pub struct Tally<G> {
    words: RefCell<Vec<u64>>,
    calls: Cell<Calls>,
    granule: PhantomData<G>,
}

impl<G> Tally<G> {
    /// The calls since this was asked last.
    pub fn take(&self) -> Calls {
        self.calls.take()
    }

    fn count(&self, count: impl FnOnce(&mut Calls)) {
        let mut calls = self.calls.get();
        count(&mut calls);
        self.calls.set(calls);
    }

    fn get(&self, word: PhysAddr) -> u64 {
        self.words.borrow().get(index(word)).copied().unwrap_or(0)
    }

    fn set(&self, word: PhysAddr, value: u64) {
        let (mut words, index) = (self.words.borrow_mut(), index(word));
        if words.len() <= index {
            words.resize((index + 1).next_power_of_two(), 0);
        }
        words[index] = value;
    }
}

fn index(word: PhysAddr) -> usize {
    // The root first, right behind it what is handed out.
    let root = word.value() - ROOT.value();
    let at = word.value().checked_sub(FIRST_FRAME).map_or(root, |frame| (1 << 16) + frame);
    (at / 8) as usize
}

/// Tables of 48 bits with an empty root.
pub fn tallied<G: Granule>() -> Tables<Tally<G>> {
    let machine = Tally { words: RefCell::default(), calls: Cell::default(), granule: PhantomData };
    // SAFETY: nobody else has the root.
    unsafe { Tables::adopt(machine, ROOT, Regime::of_size(G::SIZE, 48).unwrap()) }
}

// SAFETY: plain memory; what is written to struct pages is looked at by nobody.
unsafe impl<G: Granule> Memory for Tally<G> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.count(|calls| calls.reads += 1);
        self.get(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.count(|calls| calls.writes += 1);
        self.set(slot, descriptor);
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        self.count(|calls| calls.zeroed += 1);
        (0..bytes).step_by(8).for_each(|offset| self.set(table.add(offset), 0));
    }

    fn load(&self, word: PhysAddr) -> u64 {
        self.count(|calls| calls.loads += 1);
        self.get(word)
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        self.count(|calls| calls.stores += 1);
        self.set(word, value);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        self.count(|calls| calls.stores += 1);
        let held = self.get(word);
        if held != old {
            return Err(held);
        }
        self.set(word, new);
        Ok(held)
    }

    fn access(&mut self, _: VirtRange, _: impl FnOnce(&mut [MaybeUninit<u8>])) {
        self.count(|calls| calls.accesses += 1);
    }
}

// SAFETY: there is nothing to synchronise.
unsafe impl<G: Granule> Mmu for Tally<G> {
    fn dsb(&mut self, _: Dsb) {
        self.count(|calls| calls.maintenance += 1);
    }

    fn isb(&mut self) {
        self.count(|calls| calls.maintenance += 1);
    }

    fn tlbi(&mut self, _: Tlbi) {
        self.count(|calls| calls.maintenance += 1);
    }
}

impl<G: Granule> Machine for Tally<G> {
    type Granule = G;

    fn allocated(&mut self, _: Allocation) {
        self.count(|calls| calls.frames += 1);
    }

    fn freed(&mut self, _: Allocation) {
        self.count(|calls| calls.frames += 1);
    }
}

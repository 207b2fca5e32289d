//! The entries that one CPU holds.

use crate::geometry::{Descriptor, Geometry};
use crate::random::Random;
use crate::tlbi::Invalidation;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    Table(u64),
    /// The output address of the first member.
    Leaf {
        pa: u64,
        attributes: u64,
    },
}

/// A TLB or walk-cache entry. A contiguous run is one, with a bit for each member that is still in it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub level: i8,
    pub holds: Holds,
    base: u64,
    /// Bytes of a member.
    span: u64,
    members: u128,
    /// Its invalidation is complete, and instructions that have translated already may still use it (RBLDZX).
    pub in_flight: bool,
}

impl Entry {
    pub fn new(geometry: &Geometry, level: i8, va: u64, descriptor: Descriptor, in_flight: bool) -> Option<Self> {
        let span = geometry.span(level);
        let one = |holds| Self { level, holds, base: va & !(span - 1), span, members: 1, in_flight };
        match descriptor {
            Descriptor::Fault => None,
            Descriptor::Table(table) => Some(one(Holds::Table(table))),
            Descriptor::Leaf { pa, attributes, contiguous: false } => Some(one(Holds::Leaf { pa, attributes })),
            Descriptor::Leaf { pa, attributes, contiguous: true } => {
                let run = geometry.run(level);
                let members = u128::MAX >> (128 - run);
                let pa = pa & !(run * span - 1);
                let base = va & !(run * span - 1);
                Some(Self { base, members, ..one(Holds::Leaf { pa, attributes }) })
            }
        }
    }

    /// The same for one member alone: hardware need not make use of the bit.
    pub fn only(self, va: u64) -> Self {
        Self { members: 1 << ((va - self.base) / self.span), ..self }
    }

    /// First and last address of a member.
    pub fn addresses(&self, member: u32) -> (u64, u64) {
        let first = self.base + u64::from(member) * self.span;
        (first, first + (self.span - 1))
    }

    pub fn covers(&self, va: u64) -> bool {
        let member = va.checked_sub(self.base).map_or(128, |offset| offset / self.span);
        member < 128 && self.members >> member & 1 == 1
    }

    fn list(&self) -> impl Iterator<Item = u32> + use<> {
        let members = self.members;
        (0..128).filter(move |member| members >> member & 1 == 1)
    }
}

/// An instruction in flight that has found nothing.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub va: u64,
    /// The addresses that the highest table entry on its way is for, first and last.
    pub used: (u64, u64),
}

#[derive(Clone, Debug, Default)]
pub struct Tlb {
    pub entries: Vec<Entry>,
    pub faults: Vec<Fault>,
}

/// What a TLB holds at most.
const CAPACITY: usize = 24;

impl Tlb {
    pub fn insert(&mut self, entry: Entry, random: &mut Random) {
        if self.entries.len() >= CAPACITY {
            self.evict(random);
        }
        self.entries.push(entry);
    }

    pub fn evict(&mut self, random: &mut Random) {
        if !self.entries.is_empty() {
            let at = random.below(self.entries.len());
            self.entries.swap_remove(at);
        }
    }

    pub fn note_fault(&mut self, fault: Fault, random: &mut Random) {
        if self.faults.len() >= 6 {
            let at = random.below(self.faults.len());
            self.faults.swap_remove(at);
        }
        self.faults.push(fault);
    }

    /// Takes away what an invalidation must, and more at random. On the CPU that issued it, instructions in flight may
    /// keep it until the context is synchronised.
    pub fn invalidate(&mut self, invalidation: &Invalidation, own: bool, random: &mut Random) {
        let mut kept = Vec::new();
        for entry in &mut self.entries {
            let must = entry.list().filter(|member| invalidation.must_take(entry, *member));
            let mut gone = must.fold(0u128, |gone, member| gone | 1 << member);
            if gone != 0 && random.percent(20) || random.percent(2) {
                gone = u128::MAX;
            }
            if own && (random.percent(60) || entry.in_flight) {
                kept.push(Entry { members: entry.members & gone, in_flight: true, ..*entry });
            }
            entry.members &= !gone;
        }
        self.entries.extend(kept);
        self.entries.retain(|entry| entry.members != 0);
        if !own {
            self.faults.retain(|fault| !invalidation.must_end(fault));
        }
    }

    /// Context synchronisation: nothing is in flight.
    pub fn synchronise(&mut self) {
        self.entries.retain(|entry| !entry.in_flight);
        self.faults.clear();
    }
}

//! The registry of live ranges: which memory is whose, how many hold it, which altmap it lives in.
//!
//! A record a range, in pages of RAM that are chained and never freed, so a reader may look at them at any time without a
//! lock. What a record says is written before its state word says that it is live, and looked at again once the range is
//! pinned ([`lifetime`] has the protocol). Writers are serialised by `&mut Hotplug`.

use core::sync::atomic::Ordering;

use crate::addr::{Pfn, PhysAddr, PhysRange};
use crate::frames::{self, OutOfFrames};
use crate::granule::{Granule, GranuleSize};
use crate::lifetime::{self, MemoryWord, State, Word};
use crate::seam::{Frames, Machine, Memory};

/// Bytes of a record: eight words.
const RECORD_BYTES: u64 = 64;

/// Where the words of a record are.
const STATE: u64 = 0;
const START: u64 = 8;
const BYTES: u64 = 16;
const HOST: u64 = 24;
const STORAGE_FIRST: u64 = 32;
const STORAGE_FRAMES: u64 = 40;
const GENERATION: u64 = 48;

/// The first record of a page is its head: the next page, and how many slots of this one have ever been used.
const NEXT: u64 = 0;
const USED: u64 = 8;

/// The registry.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    root: PhysAddr,
    granule: GranuleSize,
    pages: u64,
}

/// The place of a range's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(PhysAddr);

/// A range that was live when it was named: its record, and how often the record had been used for others before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    slot: Slot,
    generation: u64,
}

/// The frames of an altmap's storage zone that hold a range's struct pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lodging {
    /// The range that the altmap belongs to: the range itself, or its host.
    pub host: Slot,
    /// The first frame.
    pub first: Pfn,
    /// How many frames.
    pub frames: u64,
}

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The physical range.
    pub range: PhysRange,
    /// Where its struct pages are, if that is in an altmap.
    pub lodging: Option<Lodging>,
}

impl Regions {
    /// A registry without ranges.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no frame for its first page.
    pub fn new<M: Machine, F: Frames>(machine: &mut M, allocator: &mut F) -> Result<Self, OutOfFrames> {
        let granule = M::Granule::SIZE;
        let root = frames::take_zeroed(machine, allocator, granule.bytes())?;
        Ok(Self { root, granule, pages: 1 })
    }

    /// The first page of records.
    #[cfg(test)]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Bytes of RAM that the registry takes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.pages * self.granule.bytes()
    }

    /// A slot that no range has, in a new page of records if all are taken.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no frame for that page.
    pub fn vacant<M: Machine, F: Frames>(&mut self, machine: &mut M, allocator: &mut F) -> Result<Slot, OutOfFrames> {
        if let Some(slot) = self.slots(machine).find(|slot| slot.state(machine) == State::Vacant) {
            return Ok(slot);
        }
        let last = self.pages(machine).last().unwrap_or(self.root);
        let used = machine.load(last.add(USED));
        if used < self.granule.bytes() / RECORD_BYTES - 1 {
            return Ok(Self::first_unused(machine, last, used));
        }
        let page = frames::take_zeroed(machine, allocator, self.granule.bytes())?;
        machine.store(last.add(NEXT), page.value());
        self.pages += 1;
        Ok(Self::first_unused(machine, page, 0))
    }

    fn first_unused<M: Memory>(machine: &mut M, page: PhysAddr, used: u64) -> Slot {
        machine.store(page.add(USED), used + 1);
        Slot(page.add((used + 1) * RECORD_BYTES))
    }

    /// Every live range, with its slot.
    pub fn live<M: Memory>(&self, memory: &M) -> impl Iterator<Item = (Slot, Record)> {
        self.slots(memory).filter(|slot| slot.state(memory) != State::Vacant).map(|slot| (slot, slot.read(memory)))
    }

    /// Every slot that has been used, live or not.
    pub fn slots<M: Memory>(&self, memory: &M) -> impl Iterator<Item = Slot> {
        self.pages(memory).flat_map(move |page| {
            let used = memory.load(page.add(USED));
            (1..=used).map(move |index| Slot(page.add(index * RECORD_BYTES)))
        })
    }

    fn pages<M: Memory>(&self, memory: &M) -> impl Iterator<Item = PhysAddr> {
        core::iter::successors(Some(self.root), |page| {
            let next = memory.load(page.add(NEXT));
            (next != 0).then_some(PhysAddr::new(next))
        })
    }
}

impl Slot {
    /// Writes the record of this vacant slot and makes it live: the range can be pinned from now on.
    pub fn publish<M: Memory>(self, memory: &mut M, record: &Record) -> Name {
        let Self(at) = self;
        let lodging = record.lodging;
        memory.store(at.add(START), record.range.start().value());
        memory.store(at.add(BYTES), record.range.bytes());
        memory.store(at.add(HOST), lodging.map_or(0, |lodging| lodging.host.0.value()));
        memory.store(at.add(STORAGE_FIRST), lodging.map_or(0, |lodging| lodging.first.number()));
        memory.store(at.add(STORAGE_FRAMES), lodging.map_or(0, |lodging| lodging.frames));
        let generation = memory.load(at.add(GENERATION)) + 1;
        memory.store(at.add(GENERATION), generation);
        let published = lifetime::publish(&self.word(memory));
        debug_assert!(published.is_ok(), "only vacant slots are handed out");
        Name { slot: self, generation }
    }

    /// The state word, on which the protocol runs.
    pub const fn word<M>(self, memory: &M) -> MemoryWord<'_, M> {
        // SAFETY: the first word of a record, which nothing else changes.
        unsafe { MemoryWord::new(memory, self.0.add(STATE)) }
    }

    /// What the state word says.
    pub fn state<M: Memory>(self, memory: &M) -> State {
        State::decode(self.word(memory).load(Ordering::Acquire))
    }

    /// What the record says; meaningful while the range is live.
    pub fn read<M: Memory>(self, memory: &M) -> Record {
        let word = |at| memory.load(self.0.add(at));
        let range = PhysRange::new(PhysAddr::new(word(START)), word(BYTES)).unwrap_or(PhysRange::EMPTY);
        let host = word(HOST);
        let lodging = (host != 0).then(|| Lodging {
            host: Self(PhysAddr::new(host)),
            first: Pfn::new(word(STORAGE_FIRST)),
            frames: word(STORAGE_FRAMES),
        });
        Record { range, lodging }
    }
}

impl Name {
    /// Its record, if the range is still live.
    pub fn record<M: Memory>(self, memory: &M) -> Option<Record> {
        let Slot(at) = self.slot;
        let same = memory.load(at.add(GENERATION)) == self.generation;
        (same && self.slot.state(memory) != State::Vacant).then(|| self.slot.read(memory))
    }

    /// Where the record is.
    #[must_use]
    pub const fn slot(self) -> Slot {
        self.slot
    }
}

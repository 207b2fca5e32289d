//! The registry of live ranges: which memory is whose, how many hold it, which altmap it lives in.
//!
//! A record a range, in pages of RAM that are chained and never freed, so a reader may look at them at any time without a
//! lock. What a record says is written before its state word says that it is live, and looked at again once the range is
//! pinned ([`lifetime`] has the protocol). Writers are serialised by `&mut Hotplug`. To add or to remove a range takes no
//! longer with more of them: vacant slots are chained, and a host's record counts its tenants.

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
/// Of a live range: how many others have struct pages in its altmap.
const TENANTS: u64 = 56;
/// Of a vacant slot, in the same word: the next one.
const NEXT_VACANT: u64 = TENANTS;

/// The first record of a page is its head: the next page, and how many slots of this one have ever been used.
const NEXT: u64 = 0;
const USED: u64 = 8;

/// The registry.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    root: PhysAddr,
    /// The last page of records, the only one with slots that no range has ever had.
    last: PhysAddr,
    /// The first of the vacant slots that have been used.
    vacant: Option<Slot>,
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

impl Record {
    /// Of the range at `own`: the range in whose altmap it lives, if that is another.
    fn landlord(&self, own: Slot) -> Option<Slot> {
        self.lodging.map(|lodging| lodging.host).filter(|host| *host != own)
    }
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
        Ok(Self { root, last: root, vacant: None, granule, pages: 1 })
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

    /// A slot that no range has, in a new page of records if all are taken: the same until it is
    /// [published](Self::publish).
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no frame for that page.
    pub fn vacant<M: Machine, F: Frames>(&mut self, machine: &mut M, allocator: &mut F) -> Result<Slot, OutOfFrames> {
        if let Some(slot) = self.vacant {
            return Ok(slot);
        }
        let mut used = machine.load(self.last.add(USED));
        if used == self.granule.bytes() / RECORD_BYTES - 1 {
            let page = frames::take_zeroed(machine, allocator, self.granule.bytes())?;
            machine.store(self.last.add(NEXT), page.value());
            self.last = page;
            self.pages += 1;
            used = 0;
        }
        machine.store(self.last.add(USED), used + 1);
        // Its record is zeros: no other vacant slot is behind it.
        let slot = Slot(self.last.add((used + 1) * RECORD_BYTES));
        self.vacant = Some(slot);
        Ok(slot)
    }

    /// Writes the record of the [vacant](Self::vacant) slot and makes it live: the range can be pinned from now on.
    pub fn publish<M: Memory>(&mut self, memory: &mut M, slot: Slot, record: &Record) -> Name {
        debug_assert_eq!(self.vacant, Some(slot), "only the slot that was handed out");
        self.vacant = Slot::at(memory.load(slot.0.add(NEXT_VACANT)));
        memory.store(slot.0.add(TENANTS), 0);
        if let Some(host) = record.landlord(slot) {
            memory.store(host.0.add(TENANTS), host.tenants(memory) + 1);
        }
        slot.publish(memory, record)
    }

    /// Makes the slot of a range vacant that was closed and that nobody holds, after its struct pages were unmapped.
    pub fn retire<M: Memory>(&mut self, memory: &mut M, slot: Slot) {
        if let Some(host) = slot.read(memory).landlord(slot) {
            memory.store(host.0.add(TENANTS), host.tenants(memory) - 1);
        }
        let retired = lifetime::retire(&slot.word(memory));
        debug_assert!(retired.is_ok(), "closed, and held by nobody");
        memory.store(slot.0.add(NEXT_VACANT), self.vacant.map_or(0, |next| next.0.value()));
        self.vacant = Some(slot);
    }

    /// A range with struct pages in the altmap of the live range at `host`. It looks through all ranges if there is one, and
    /// at one word if there is none.
    pub fn tenant<M: Memory>(&self, memory: &M, host: Slot) -> Option<Record> {
        if host.tenants(memory) == 0 {
            return None;
        }
        let mut others = self.live(memory).filter(|(slot, record)| record.landlord(*slot) == Some(host));
        others.next().map(|(_, record)| record)
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
    /// The slot at an address that a record holds, if it holds one.
    fn at(address: u64) -> Option<Self> {
        (address != 0).then_some(Self(PhysAddr::new(address)))
    }

    fn tenants<M: Memory>(self, memory: &M) -> u64 {
        memory.load(self.0.add(TENANTS))
    }

    fn publish<M: Memory>(self, memory: &mut M, record: &Record) -> Name {
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
        let lodging = Self::at(word(HOST)).map(|host| Lodging {
            host,
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

//! Sections and their sub-sections: which pfns are valid.
//!
//! A record per section, in a radix tree of RAM pages that only grows: a bitmap with one bit for each 2 MiB sub-section,
//! and flags. Records are never freed, so a reader may look one up at any time without a lock.
//!
//! In an early section, which boot RAM fills at least in part, the bits say where RAM and added memory are; its struct pages
//! are there, and its pfns valid, over its whole span and for ever.

use core::ops::{ControlFlow, Range};

use crate::addr::{Pfn, PhysAddr, PhysRange};
use crate::frames::{OutOfFrames, take_zeroed};
use crate::granule::{Granule, GranuleSize, SUBSECTION_BYTES, SUBSECTION_SHIFT};
use crate::lifetime::{self, MemoryWord};
use crate::seam::{Frames, Machine, Memory};

/// Set in a record's last word: the section holds boot RAM, and its struct pages came with it.
const EARLY: u64 = 1;

/// The tree of section records.
#[derive(Clone, Copy, Debug)]
pub struct Sections {
    root: PhysAddr,
    granule: GranuleSize,
    pages: u64,
    shape: Shape,
}

/// What follows from the granule, worked out once.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// log2 of a record's bytes.
    record_shift: u32,
    /// log2 of the records in a page.
    leaf_bits: u32,
    /// Levels of pointers above the records.
    depth: u32,
    /// log2 of the sub-sections in a section.
    subsection_bits: u32,
}

impl Shape {
    #[inline]
    const fn of(granule: GranuleSize) -> Self {
        Self {
            record_shift: record_words(granule).trailing_zeros() + 3,
            leaf_bits: leaf_bits(granule),
            depth: depth(granule),
            subsection_bits: granule.section_shift() - SUBSECTION_SHIFT,
        }
    }

    /// Sub-sections of a section.
    #[inline]
    const fn subsections(self) -> u64 {
        1 << self.subsection_bits
    }

    /// log2 of the sub-sections that the records of a page are for.
    #[inline]
    const fn page_bits(self) -> u32 {
        self.leaf_bits + self.subsection_bits
    }

    /// Bytes from the start of a page of records to that of the section of `subsection`.
    #[inline]
    const fn record(self, subsection: u64) -> u64 {
        (subsection >> self.subsection_bits & ((1 << self.leaf_bits) - 1)) << self.record_shift
    }

    /// Bytes from a record to its flags, its last word.
    #[inline]
    const fn flags(self) -> u64 {
        (1 << self.record_shift) - 8
    }
}

/// A bitmap word, and the bits of it that are meant.
#[derive(Clone, Copy)]
struct Bits {
    /// Where the word is, if its section has a record.
    at: Option<PhysAddr>,
    /// The sub-section of its bit 0.
    first: u64,
    mask: u64,
}

/// The bitmap word at `at`.
#[inline]
const fn word_at<M>(memory: &M, at: PhysAddr) -> MemoryWord<'_, M> {
    // SAFETY: the bits of a record are changed here only, and by nothing but the protocol.
    unsafe { MemoryWord::new(memory, at) }
}

/// Words of a record: the bitmap and the flags, rounded up to a power of two (16 bytes; 64 at 64K).
#[inline]
const fn record_words(granule: GranuleSize) -> u64 {
    (granule.subsections_per_section() / 64 + 1).next_power_of_two()
}

/// Section numbers that one page of records holds, as a power of two.
#[inline]
const fn leaf_bits(granule: GranuleSize) -> u32 {
    granule.shift() - (record_words(granule) * 8).trailing_zeros()
}

/// Levels of pointers above the records, for 52 bits of physical address.
#[inline]
const fn depth(granule: GranuleSize) -> u32 {
    (52 - granule.section_shift() - leaf_bits(granule)).div_ceil(granule.index_bits())
}

impl Sections {
    /// A tree without records.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no frame for its root.
    pub fn new<M: Machine, F: Frames>(machine: &mut M, frames: &mut F) -> Result<Self, OutOfFrames> {
        let granule = M::Granule::SIZE;
        let root = take_zeroed(machine, frames, granule.bytes())?;
        Ok(Self { root, granule, pages: 1, shape: Shape::of(granule) })
    }

    /// The tree's root page: no two memory maps of a machine have the same.
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Bytes of RAM that the tree takes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.pages * self.granule.bytes()
    }

    /// Makes sure that every section of `range` has a record.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]; records made so far stay, empty, for the next try.
    pub fn prepare<M: Machine, F: Frames>(
        &mut self,
        machine: &mut M,
        frames: &mut F,
        range: PhysRange,
    ) -> Result<(), OutOfFrames> {
        let bits = self.shape.page_bits();
        let all = subsections(range);
        for page_of_records in all.start >> bits..all.end.div_ceil(1 << bits) {
            let mut page = self.root;
            for level in 0..self.shape.depth {
                let slot = self.pointer(page, page_of_records << self.shape.leaf_bits, level);
                page = PhysAddr::new(machine.load(slot));
                if page.value() == 0 {
                    page = take_zeroed(machine, frames, self.granule.bytes())?;
                    self.pages += 1;
                    machine.store(slot, page.value());
                }
            }
        }
        Ok(())
    }

    /// The first sub-section of `range` that is active, by its range.
    pub fn first_active<M: Machine>(&self, memory: &M, range: PhysRange) -> Option<PhysRange> {
        let active =
            self.try_each(memory, range, |Bits { at, first, mask }| match at.map_or(0, |at| memory.load(at)) & mask {
                0 => ControlFlow::Continue(()),
                active => ControlFlow::Break(first + u64::from(active.trailing_zeros())),
            });
        PhysRange::new(PhysAddr::new(active.break_value()? << SUBSECTION_SHIFT), SUBSECTION_BYTES)
    }

    /// Whether anybody needs the struct pages of `range`: a sub-section of it is active, or a section of it is early.
    pub fn is_used<M: Machine>(&self, memory: &M, range: PhysRange) -> bool {
        self.sections(range).any(|section| self.is_early(memory, section)) || self.first_active(memory, range).is_some()
    }

    /// `range` without its first and its last section where those are early, whose struct pages are there already. Sections
    /// between them are whole, and early only if `range` overlaps boot RAM, which is refused elsewhere.
    pub fn outside_early<M: Memory>(&self, memory: &M, range: PhysRange) -> PhysRange {
        let shift = self.granule.section_shift();
        let sections = self.sections(range);
        let (first, last) = (sections.start, sections.end.saturating_sub(1));
        let (mut start, mut end) = (range.start(), range.end());
        if self.is_early(memory, first) {
            start = end.min(PhysAddr::new((first + 1) << shift));
        }
        if start < end && self.is_early(memory, last) {
            end = start.max(PhysAddr::new(last << shift));
        }
        PhysRange::between(start, end).unwrap_or(PhysRange::EMPTY)
    }

    #[inline]
    fn is_early<M: Memory>(&self, memory: &M, section: u64) -> bool {
        let record = self.record(memory, section);
        record.is_some_and(|record| memory.load(record.add(self.shape.flags())) & EARLY != 0)
    }

    /// Makes every pfn of `range` valid. Its sections must have records and its struct pages must be initialised: a
    /// reader that finds a pfn valid also finds its struct page.
    pub fn activate<M: Machine>(&self, memory: &M, range: PhysRange) {
        self.each_word(memory, range, |word, mask| lifetime::activate(&word, mask));
    }

    /// Makes every pfn of `range` invalid, but for those in early sections.
    pub fn deactivate<M: Machine>(&self, memory: &M, range: PhysRange) {
        self.each_word(memory, range, |word, mask| lifetime::deactivate(&word, mask));
    }

    /// Marks the sections of `range` as early: valid over their whole span, as Linux's boot sections are.
    pub fn mark_early<M: Memory>(&self, memory: &mut M, range: PhysRange) {
        for section in self.sections(range) {
            if let Some(record) = self.record(memory, section) {
                memory.store(record.add(self.shape.flags()), EARLY);
            }
        }
    }

    /// Whether `pfn` has an initialised struct page: its sub-section is active, or its section is early.
    pub fn is_valid<M: Memory>(&self, memory: &M, pfn: Pfn) -> bool {
        if pfn.number() >> (52 - self.granule.shift()) != 0 {
            return false;
        }
        let address = pfn.address(self.granule.shift());
        let subsection = address.value() >> SUBSECTION_SHIFT;
        let section = subsection >> self.shape.subsection_bits;
        let Some(record) = self.record(memory, section) else { return false };
        let bit = subsection & ((1 << self.shape.subsection_bits) - 1);
        let word = word_at(memory, record.add(bit / 64 * 8));
        lifetime::is_active(&word, 1 << (bit % 64)) || memory.load(record.add(self.shape.flags())) & EARLY != 0
    }

    /// Whether every sub-section of `range` is active.
    pub fn is_wholly_active<M: Machine>(&self, memory: &M, range: PhysRange) -> bool {
        let all = self.try_each(memory, range, |Bits { at, mask, .. }| match at {
            Some(at) if lifetime::is_active(&word_at(memory, at), mask) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        all.is_continue()
    }

    /// Visits each bitmap word of `range` that has a record, with the bits that are meant.
    #[inline]
    fn each_word<'m, M: Machine>(&self, memory: &'m M, range: PhysRange, visit: impl Fn(MemoryWord<'m, M>, u64)) {
        let _ = self.try_each(memory, range, |Bits { at, mask, .. }| {
            if let Some(at) = at {
                visit(word_at(memory, at), mask);
            }
            ControlFlow::<()>::Continue(())
        });
    }

    /// Visits each bitmap word of `range`, ascending, until `visit` breaks. A page of records is looked up once.
    #[inline]
    fn try_each<M: Machine, B>(
        &self,
        memory: &M,
        range: PhysRange,
        visit: impl Fn(Bits) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let shape = const { Shape::of(M::Granule::SIZE) };
        let Range { start: mut next, end } = subsections(range);
        while next < end {
            let page = self.page(memory, next >> shape.subsection_bits);
            let record = page.map(|page| page.add(shape.record(next)));
            let left = end.min(((next >> shape.page_bits()) + 1) << shape.page_bits()) - next;
            let bit = next & (shape.subsections() - 1);
            let whole = if bit == 0 { left >> shape.subsection_bits } else { 0 };
            for section in 0..whole {
                // Of these the compiler knows the words and their masks.
                let record = record.map(|record| record.add(section << shape.record_shift));
                try_section(record, next + (section << shape.subsection_bits), 0..shape.subsections(), &visit)?;
            }
            let part = if whole == 0 { left.min(shape.subsections() - bit) } else { 0 };
            try_section(record, next - bit, bit..bit + part, &visit)?;
            next += part + (whole << shape.subsection_bits);
        }
        ControlFlow::Continue(())
    }

    /// The record of a section, if there is one.
    #[inline]
    fn record<M: Memory>(&self, memory: &M, section: u64) -> Option<PhysAddr> {
        let page = self.page(memory, section)?;
        Some(page.add(self.shape.record(section << self.shape.subsection_bits)))
    }

    #[inline]
    fn page<M: Memory>(&self, memory: &M, section: u64) -> Option<PhysAddr> {
        let mut page = self.root;
        for level in 0..self.shape.depth {
            page = PhysAddr::new(memory.load(self.pointer(page, section, level)));
            if page.value() == 0 {
                return None;
            }
        }
        Some(page)
    }

    #[inline]
    fn pointer(&self, page: PhysAddr, section: u64, level: u32) -> PhysAddr {
        let below = self.shape.depth - 1 - level;
        let index = section >> (self.shape.leaf_bits + below * self.granule.index_bits());
        page.add((index & (self.granule.entries() - 1)) * 8)
    }

    #[inline]
    fn sections(&self, range: PhysRange) -> Range<u64> {
        let shift = self.granule.section_shift();
        range.start().value() >> shift..range.end().value().div_ceil(1 << shift)
    }
}

/// The sub-sections that `range` touches.
#[inline]
const fn subsections(range: PhysRange) -> Range<u64> {
    range.start().value() >> SUBSECTION_SHIFT..range.end().value().div_ceil(SUBSECTION_BYTES)
}

/// Visits the words of one record with `bits` of its section, whose first sub-section is `section`.
#[inline]
fn try_section<B>(
    record: Option<PhysAddr>,
    section: u64,
    bits: Range<u64>,
    visit: &impl Fn(Bits) -> ControlFlow<B>,
) -> ControlFlow<B> {
    for index in bits.start / 64..bits.end.div_ceil(64) {
        let first = index * 64;
        let (start, end) = (bits.start.max(first), bits.end.min(first + 64));
        let mask = u64::MAX >> (64 - (end - start)) << (start - first);
        visit(Bits { at: record.map(|record| record.add(index * 8)), first: section + first, mask })?;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::granule::{K4, K16, K64};
    use crate::testing::{Ram, range, tables};

    #[test]
    fn a_record_takes_at_most_64_bytes_and_the_tree_reaches_52_bits() {
        assert_eq!(GranuleSize::ALL.map(|g| record_words(g) * 8), [16, 16, 64]);
        for g in GranuleSize::ALL {
            assert!(depth(g) * g.index_bits() + leaf_bits(g) + g.section_shift() >= 52, "{g}");
        }
    }

    /// Sub-sections around where one page of records ends and the next begins, of which the last is active.
    fn found_behind_pages<G: Granule>() {
        let mut tables = tables::<G>(48);
        let (machine, mut frames) = (tables.machine_mut(), Ram::default());
        let mut sections = Sections::new(machine, &mut frames).unwrap();
        let boundary = 1 << (sections.shape.page_bits() + SUBSECTION_SHIFT);
        let section = 1 << G::SIZE.section_shift();
        let around = range(PhysAddr::new(boundary - section), 3 * section);
        let last = range(PhysAddr::new(around.end().value() - SUBSECTION_BYTES), SUBSECTION_BYTES);
        // The pages of records do not lie one behind the other.
        sections.prepare(machine, &mut frames, last).unwrap();
        sections.prepare(machine, &mut frames, around).unwrap();
        sections.activate(machine, last);
        assert_eq!(sections.first_active(machine, around), Some(last), "{}", G::SIZE);
        sections.activate(machine, around);
        assert!(sections.is_wholly_active(machine, around));
        assert!(sections.is_valid(machine, Pfn::containing(around.start(), G::SIZE.shift())));
        sections.deactivate(machine, around);
        assert_eq!(sections.first_active(machine, around), None, "{}", G::SIZE);
    }

    #[test]
    fn what_is_active_is_found_across_pages_of_records_and_named_in_every_word() {
        found_behind_pages::<K4>();
        found_behind_pages::<K16>();
        found_behind_pages::<K64>();
    }
}

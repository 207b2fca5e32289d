//! What invalidations by range are asked for: addresses behind each other, whatever translated them.

use crate::addr::VirtAddr;
use crate::granule::GranuleSize;
use crate::leaf::Stretch;
use crate::regime::Regime;
use crate::tlbi::{Cover, RangeOperand, Tlbi, cover};

/// What is to be forgotten of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The leaf.
    LastLevel,
    /// The leaf and the table entries.
    AnyLevel,
}

/// Addresses behind each other, and how many descriptors translated them: leaves, or links to lowest tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    start: VirtAddr,
    pages: u64,
    descriptors: u64,
}

impl Extent {
    /// What one descriptor translated.
    pub const fn one(start: VirtAddr, pages: u64) -> Self {
        Self { start, pages, descriptors: 1 }
    }

    /// What `stretch` mapped: all of it, or block by block where a block has more pages than a range.
    pub fn of(stretch: Stretch, granule: GranuleSize) -> impl Iterator<Item = Self> {
        let descriptors = stretch.descriptors(granule);
        let each = 1_u64 << (granule.level_shift(stretch.leaf.level) - granule.shift());
        let parts = if each > RangeOperand::MOST_PAGES { descriptors } else { 1 };
        let (pages, descriptors) = (descriptors / parts * each, descriptors / parts);
        (0..parts).map(move |part| Self {
            start: stretch.va.add((part * pages) << granule.shift()),
            pages,
            descriptors,
        })
    }

    /// Both as one, if `next` is right behind and no descriptor of either is more than a range.
    pub fn joined(self, next: Self, granule: GranuleSize) -> Option<Self> {
        let fits = |extent: Self| extent.pages / extent.descriptors <= RangeOperand::MOST_PAGES;
        let meets = self.start.add(self.pages << granule.shift()) == next.start;
        let (pages, descriptors) = (self.pages + next.pages, self.descriptors + next.descriptors);
        (meets && fits(self) && fits(next)).then_some(Self { pages, descriptors, ..self })
    }

    /// The operations that make every CPU forget it. One descriptor needs one, by any of its addresses (RLGSCG).
    pub fn operations(self, regime: Regime, reach: Reach) -> impl Iterator<Item = Tlbi> {
        let pages = if self.descriptors == 1 { 1 } else { self.pages };
        cover(regime, self.start, pages).map(move |cover| reach.operation(cover))
    }
}

impl Reach {
    const fn operation(self, cover: Cover) -> Tlbi {
        match (self, cover) {
            (Self::LastLevel, Cover::Page(operand)) => Tlbi::LastLevel(operand),
            (Self::LastLevel, Cover::Range(operand)) => Tlbi::LastLevelRange(operand),
            (Self::AnyLevel, Cover::Page(operand)) => Tlbi::AnyLevel(operand),
            (Self::AnyLevel, Cover::Range(operand)) => Tlbi::AnyLevelRange(operand),
        }
    }
}

/// Extents that come one after the other; neighbours become one. Not generic, and behind `dyn`: one copy for all machines.
pub struct Gather {
    regime: Regime,
    reach: Reach,
    last: Option<Extent>,
}

impl Gather {
    pub const fn new(regime: Regime, reach: Reach) -> Self {
        Self { regime, reach, last: None }
    }

    /// Takes the next; issues what it is no neighbour of.
    #[inline(never)]
    pub fn add(&mut self, next: Extent, issue: &mut dyn FnMut(Tlbi)) {
        let joined = self.last.and_then(|last| last.joined(next, self.regime.granule()));
        if joined.is_none() {
            self.finish(issue);
        }
        self.last = joined.or(Some(next));
    }

    /// Issues the last one.
    #[inline(never)]
    pub fn finish(&mut self, issue: &mut dyn FnMut(Tlbi)) {
        if let Some(extent) = self.last.take() {
            extent.operations(self.regime, self.reach).for_each(issue);
        }
    }
}

//! The kinds of leaf that a map may use, as a set of sizes: one word, in which each choice is a bit.

use super::{Leaf, LeafPolicy};
use crate::addr::{VirtAddr, VirtRange};
use crate::granule::{GranuleSize, Level};
use crate::regime::Regime;

/// The kinds of leaf that a map may use. Their sizes are a chain: each divides all that are larger. The smallest is always
/// the page.
#[derive(Clone, Copy, Debug)]
pub struct LeafSizes {
    granule: GranuleSize,
    /// Bit n: the kind of 2^n bytes.
    set: u64,
}

impl LeafSizes {
    /// As many kinds as a map may use.
    pub(crate) const MOST: usize = 6;

    #[inline]
    pub(super) const fn pages(granule: GranuleSize) -> Self {
        Self { granule, set: granule.bytes() }
    }

    #[inline]
    const fn with(self, leaf: Leaf) -> Self {
        Self { set: self.set | leaf.bytes(self.granule), ..self }
    }

    /// For the linear map: every block that the architecture has at levels 1 and 2, and contiguous runs at levels 2 and 3,
    /// where the regime has tables of their level.
    #[must_use]
    #[inline]
    pub fn linear(regime: Regime, policy: LeafPolicy) -> Self {
        let pages = Self::pages(regime.granule());
        if policy == LeafPolicy::Pages {
            return pages;
        }
        let runs = pages.with(Leaf::run(Level::L3));
        if regime.start_level() > Level::L2 {
            return runs;
        }
        let sizes = runs.with(Leaf::single(Level::L2)).with(Leaf::run(Level::L2));
        let large = regime.has_block(Level::L1) && regime.start_level() <= Level::L1;
        if large { sizes.with(Leaf::single(Level::L1)) } else { sizes }
    }

    /// For the vmemmap. A 2 MiB block at 4K maps the struct pages of exactly one section.
    #[must_use]
    #[inline]
    pub const fn memmap(granule: GranuleSize, policy: LeafPolicy) -> Self {
        let whole_sections = matches!(granule, GranuleSize::K4) && !matches!(policy, LeafPolicy::Pages);
        let mut sizes = Self::pages(granule);
        if whole_sections {
            sizes = sizes.with(Leaf::single(Level::L2));
        }
        if matches!(policy, LeafPolicy::Largest) {
            sizes = sizes.with(Leaf::run(Level::L3));
        }
        sizes
    }

    /// Those whose frames can be aligned where `skew` is the output address minus the input address.
    #[inline]
    pub(super) const fn aligned_to(self, skew: u64) -> Self {
        Self { set: self.set & up_to_lowest_bit(skew), ..self }
    }

    /// Those that do not stand in runs.
    #[inline]
    pub(super) const fn single(self) -> Self {
        let (page, bits) = (self.granule.bytes(), self.granule.index_bits());
        Self { set: self.set & (page | page << bits | page << (2 * bits)), ..self }
    }

    /// Bytes of the largest kind.
    #[inline]
    const fn largest(self) -> Option<u64> {
        if self.set == 0 { None } else { Some(1 << self.set.ilog2()) }
    }

    /// Bytes of the largest kind that may start at `va` where `left` bytes are left.
    #[inline]
    pub(super) const fn largest_at(self, va: VirtAddr, left: u64) -> Option<u64> {
        if left == 0 {
            return None;
        }
        let no_larger_than_left = u64::MAX >> left.leading_zeros();
        Self { set: self.set & up_to_lowest_bit(va.value()) & no_larger_than_left, ..self }.largest()
    }

    /// Bytes of the kind that comes next above `bytes`.
    #[inline]
    pub(super) const fn next_larger(self, bytes: u64) -> Option<u64> {
        let larger = self.set & (bytes << 1).wrapping_neg();
        if larger == 0 { None } else { Some(1 << larger.trailing_zeros()) }
    }

    /// The kind of `bytes` bytes.
    #[inline]
    pub(super) const fn leaf(self, bytes: u64) -> Leaf {
        let above_page = bytes.trailing_zeros() - self.granule.shift();
        let (levels, of_run) = (above_page / self.granule.index_bits(), above_page % self.granule.index_bits());
        let level = match levels {
            0 => Level::L3,
            1 => Level::L2,
            _ => Level::L1,
        };
        Leaf { level, contiguous: of_run > 0 }
    }

    /// The kinds, largest first.
    pub fn kinds(self) -> impl Iterator<Item = Leaf> {
        let below = move |&bytes: &u64| Self { set: self.set & (bytes - 1), ..self }.largest();
        core::iter::successors(self.largest(), below).map(move |bytes| self.leaf(bytes))
    }

    /// How many leaves of each kind `va` (whole pages) is cut into where frames are chosen to fit: what
    /// [`Stretches`](super::Stretches) yields for a skew of 0, without going through them.
    #[must_use]
    #[inline]
    pub const fn counts(self, va: VirtRange) -> LeafCounts {
        LeafCounts { sizes: self, va, larger: 0 }
    }
}

/// The lowest bit that is set in `value` and all bits below: the powers of two that divide it.
#[inline]
const fn up_to_lowest_bit(value: u64) -> u64 {
    value ^ value.wrapping_sub(1)
}

/// Bytes of `va` from its first multiple of `unit` (a power of two) to its last: leaves of at least that size cover them.
#[inline]
const fn covered(va: VirtRange, unit: u64) -> u64 {
    let head = va.start().value().wrapping_neg() & (unit - 1);
    let tail = va.end().value() & (unit - 1);
    va.bytes().saturating_sub(head).saturating_sub(tail)
}

/// Leaves of a map by kind.
#[derive(Clone, Copy, Debug)]
pub struct LeafCounts {
    /// The kinds that are to come.
    sizes: LeafSizes,
    va: VirtRange,
    /// Bytes in leaves of larger kinds.
    larger: u64,
}

impl LeafCounts {
    /// The next kind, and how many there are (runs, not members); `None` behind the last kind.
    #[inline]
    pub(crate) const fn next_kind(&mut self) -> Option<(Leaf, u64)> {
        let Some(bytes) = self.sizes.largest() else { return None };
        let leaf = self.sizes.leaf(bytes);
        let covered = covered(self.va, bytes);
        let count = (covered - self.larger) >> bytes.trailing_zeros();
        (self.sizes.set, self.larger) = (self.sizes.set & !bytes, covered);
        Some((leaf, count))
    }

    /// All kinds, largest first, those without leaves included.
    pub fn iter(mut self) -> impl Iterator<Item = (Leaf, u64)> {
        core::iter::from_fn(move || self.next_kind())
    }
}

//! Packing: where the leaves of one memmap stand in one interval of frames.
//!
//! A leaf of n frames (a power of two) starts at an absolute pfn that is a multiple of n, so the first frame of the
//! interval decides how much is skipped. Sizes are a chain: each divides all that are larger.

use crate::addr::Pfn;
use crate::leaf::LeafSizes;

/// What leaves take of an interval of frames, as Linux counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Frames handed out.
    pub alloc: u64,
    /// Frames in front of them or between them that are skipped.
    pub align: u64,
}

/// The order in which leaves are given their frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Linux's: by address, each behind the one before; what is skipped is lost.
    Ascending,
    /// The largest first, the smaller ones into the lowest gaps that the larger left.
    Packed,
}

/// Frames from `at` up to the next multiple of `frames`.
#[inline]
const fn padding(at: u64, frames: u64) -> u64 {
    at.wrapping_neg() & (frames - 1)
}

impl Placed {
    /// Nothing yet.
    pub(crate) const NOTHING: Self = Self { alloc: 0, align: 0 };

    /// Frames from the first of the interval up to the end of the last leaf.
    #[must_use]
    #[inline]
    pub const fn extent(self) -> u64 {
        self.alloc + self.align
    }

    /// With `count` leaves of `frames` frames more, in [`Order::Ascending`] from pfn `first`.
    ///
    /// Linux's rule, leaf by leaf: the candidate is `first + alloc + align`; it moves up to a multiple of the leaf's size
    /// and what is skipped counts as `align`. Leaves of one size need that once.
    #[inline]
    pub(crate) const fn behind(self, first: Pfn, frames: u64, count: u64) -> Self {
        let skipped = padding(first.number().wrapping_add(self.extent()), frames);
        Self { alloc: self.alloc + count * frames, align: self.align + skipped }
    }

    /// With `count` leaves of `frames` frames more, in [`Order::Packed`] from pfn `first`; no leaf before is smaller.
    ///
    /// No packing takes less: leaves of at least `frames` frames fill whole multiples of `frames`, so they end at or behind
    /// the first such multiple plus their sum, and at or behind the end of the larger ones alone. [`Gaps::take`] reaches
    /// the larger of the two: if it puts a leaf behind all others then every multiple of `frames` below it is in use,
    /// and otherwise the end is that of the larger ones.
    #[inline]
    pub(crate) const fn packed(self, first: Pfn, frames: u64, count: u64) -> Self {
        if count == 0 {
            return self;
        }
        let alloc = self.alloc + count * frames;
        let (end, larger) = (padding(first.number(), frames) + alloc, self.extent());
        Self { alloc, align: if end > larger { end - alloc } else { larger - alloc } }
    }
}

/// Frames from `first` up to, not including, `end`.
#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u64,
    end: u64,
}

impl Gap {
    /// The first leaf of `frames` frames in it, and how many fit.
    #[inline]
    const fn room(self, frames: u64) -> (u64, u64) {
        let skipped = padding(self.first, frames);
        let left = (self.end - self.first).saturating_sub(skipped);
        (self.first.wrapping_add(skipped), left / frames)
    }
}

/// What is free of an interval while leaves are placed in it.
#[derive(Debug)]
pub(crate) struct Gaps {
    order: Order,
    /// The gaps, ascending. One more only comes of what a size skips in front of all leaves: at most one a size.
    free: [Gap; LeafSizes::MOST],
    count: usize,
}

impl Gaps {
    /// `frames` frames from `first` on, all free.
    #[inline]
    pub(crate) const fn new(order: Order, first: Pfn, frames: u64) -> Self {
        let all = Gap { first: first.number(), end: first.number() + frames };
        Self { order, free: [all; LeafSizes::MOST], count: 1 }
    }

    /// Room for some of `count` leaves of `frames` frames, one behind the other: the first frame, and how many. `None` if
    /// there is none. In [`Order::Packed`] no size may be larger than the one before.
    #[inline]
    pub(crate) fn take(&mut self, frames: u64, count: u64) -> Option<(Pfn, u64)> {
        let index = self.free[..self.count].iter().position(|gap| gap.room(frames).1 > 0)?;
        let gap = self.free[index];
        let (first, room) = gap.room(frames);
        let taken = count.min(room);
        self.free[index].first = first + taken * frames;
        if self.order == Order::Packed && first > gap.first {
            self.insert(index, Gap { end: first, ..gap });
        }
        Some((Pfn::new(first), taken))
    }

    #[inline]
    fn insert(&mut self, index: usize, gap: Gap) {
        self.free.copy_within(index..self.count, index + 1);
        self.free[index] = gap;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::thinned;

    /// Leaves by size in frames and count.
    type Kinds = [(u64, u64); 3];

    fn closed_form(first: u64, kinds: Kinds) -> Placed {
        kinds.iter().fold(Placed::NOTHING, |placed, &(frames, count)| placed.packed(Pfn::new(first), frames, count))
    }

    /// Whether the leaves fit into the frames that `free` has bits for (bit 0 is pfn 0): tries every place of every leaf.
    fn fits(free: u32, kinds: &[(u64, u64)]) -> bool {
        let Some((&(frames, count), rest)) = kinds.split_first() else { return true };
        if count == 0 {
            return fits(free, rest);
        }
        let leaf = (1_u32 << frames) - 1;
        let mut fewer = kinds.to_vec();
        fewer[0].1 -= 1;
        let places = (0..32 - frames).step_by(frames as usize).map(|at| leaf << at);
        places.filter(|place| free & place == *place).any(|place| fits(free & !place, &fewer))
    }

    fn small_cases() -> impl Iterator<Item = (u64, Kinds)> {
        let sizes = [[4, 2, 1], [8, 2, 1], [8, 4, 2], [4, 4, 1]];
        let counts = (0..3).flat_map(|a| (0..4).flat_map(move |b| (0..6).map(move |c| [a, b, c])));
        let kinds = counts.flat_map(move |n| sizes.map(|s| [(s[0], n[0]), (s[1], n[1]), (s[2], n[2])]));
        thinned(kinds).flat_map(|kinds| (0..9).map(move |first| (first, kinds))).filter(|(first, kinds)| {
            let most: u64 = kinds.iter().map(|&(frames, count)| frames * count).sum();
            first + most <= 20
        })
    }

    #[test]
    fn no_packing_takes_less_than_the_closed_form() {
        let mut cases = 0;
        for (first, kinds) in small_cases() {
            let extent = closed_form(first, kinds).extent();
            let within = |frames: u64| ((1_u32 << (first + frames)) - 1) & !((1_u32 << first) - 1);
            assert!(fits(within(extent), &kinds), "{kinds:?} from {first} fit into {extent}");
            assert!(extent == 0 || !fits(within(extent - 1), &kinds), "{kinds:?} from {first} need less than {extent}");
            cases += 1;
        }
        assert!(cases > 1000 || cfg!(miri), "{cases}");
    }

    #[test]
    fn the_gaps_hold_exactly_what_the_closed_form_promises() {
        for (first, kinds) in small_cases() {
            let placed = closed_form(first, kinds);
            let mut gaps = Gaps::new(Order::Packed, Pfn::new(first), placed.extent());
            let mut taken = 0_u32;
            for (frames, mut left) in kinds {
                while left > 0 {
                    let (at, count) = gaps.take(frames, left).expect("room");
                    assert!(at.number() >= first && at.number() % frames == 0 && count > 0);
                    let bits = ((1 << (count * frames)) - 1) << at.number();
                    assert_eq!(taken & bits, 0, "{kinds:?} from {first}: a frame twice");
                    taken |= bits;
                    left -= count;
                }
            }
            assert!(u64::from(taken.count_ones()) == placed.alloc && taken >> (first + placed.extent()) == 0);
        }
    }

    #[test]
    fn small_leaves_go_to_the_lowest_gaps_and_then_behind() {
        let mut gaps = Gaps::new(Order::Packed, Pfn::new(3), 100);
        let mut take = |frames, count| gaps.take(frames, count).map(|(first, count)| (first.number(), count));
        assert_eq!(take(16, 2), Some((16, 2)));
        assert_eq!(take(4, 5), Some((4, 3)), "in front of the large ones");
        assert_eq!(take(4, 2), Some((48, 2)), "the others behind them");
        assert_eq!([take(1, 9), take(1, 8)], [Some((3, 1)), Some((56, 8))]);
        assert_eq!(take(64, 1), None);
    }

    #[test]
    fn in_linuxs_order_what_was_skipped_is_lost() {
        let mut gaps = Gaps::new(Order::Ascending, Pfn::new(2), 2046);
        assert_eq!(gaps.take(512, 2), Some((Pfn::new(512), 2)));
        assert_eq!(gaps.take(1, 3), Some((Pfn::new(1536), 3)));
        assert_eq!(gaps.take(512, 1), None, "2048 is the end");
        let linux = Placed::NOTHING.behind(Pfn::new(2), 512, 2).behind(Pfn::new(2), 1, 3);
        assert_eq!(linux, Placed { alloc: 1027, align: 510 });
    }
}

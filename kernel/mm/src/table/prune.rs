//! Freeing the tables that a removal emptied: unlink them all, one batch of invalidations, then give them back.

use core::ops::Range;

use super::Tables;
use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::Descriptor;
use crate::frames::give;
use crate::granule::{Granule, Level};
use crate::leaf::Stretches;
use crate::seam::{Dsb, Frames, Machine};
use crate::tlb::{self, Extent, Gather, Reach, most_single_invalidations};
use crate::tlbi::{Operand, Tlbi};

/// The part of a range that one table translates: first and last address, both inside, and the level of its smallest leaves,
/// below which there are no tables.
#[derive(Clone, Copy)]
struct Span {
    first: VirtAddr,
    last: VirtAddr,
    lowest: Level,
}

/// A table and its level.
#[derive(Clone, Copy)]
struct Place {
    table: PhysAddr,
    level: Level,
}

impl Place {
    #[inline]
    const fn slot(self, index: u64) -> PhysAddr {
        self.table.add(index * 8)
    }
}

impl<M: Machine> Tables<M> {
    /// Frees every table of ours on the way to `stretches`, one behind the other, whose leaves are gone, that has no entry
    /// left; returns how many.
    ///
    /// All links are cut first, at every level, then one batch of TLBI VAAE1IS or RVAAE1IS runs, which names each lowest
    /// table cut (and covers the table entries of every level above as well, RZSXRQ), or one VMALLE1IS where more tables
    /// are cut than a table has entries, and only then are the tables given back. Until then their slots are empty or
    /// parked links, so that a walk in flight reads nothing valid in them.
    pub(crate) fn prune<F: Frames>(&mut self, stretches: Stretches, frames: &mut F) -> u64 {
        let Some(span) = Self::span(stretches.singly()) else { return 0 };
        let root = Place { table: self.root, level: self.regime().start_level() };
        let tables = self.cut(root, span);
        if tables == 0 {
            return 0;
        }
        self.machine.dsb(Dsb::InnerShareableStores);
        let few = tables <= most_single_invalidations(M::Granule::SIZE);
        if few || self.machine.has_range_invalidations() {
            let mut gather = Gather::new(self.regime, Reach::AnyLevel);
            self.invalidate_cut(root, span, &mut gather);
            gather.finish(&mut tlb::issue(&mut self.machine));
        } else {
            self.machine.tlbi(Tlbi::AllInnerShareable);
        }
        tlb::complete(&mut self.machine);
        self.free_cut(root, span, frames)
    }

    /// What `stretches` take up; `None` where there are none.
    fn span(stretches: Stretches) -> Option<Span> {
        let mut span: Option<Span> = None;
        for stretch in stretches {
            let last = stretch.va.add(stretch.bytes(M::Granule::SIZE) - 1);
            let before = span.unwrap_or(Span { first: stretch.va, last, lowest: stretch.leaf.level });
            span = Some(Span { last, lowest: before.lowest.max(stretch.leaf.level), ..before });
        }
        span
    }

    /// Parks the link of each owned table below `place` that is empty; returns how many.
    fn cut(&mut self, place: Place, span: Span) -> u64 {
        let mut count = 0;
        for index in self.slots_of(place, span) {
            let slot = place.slot(index);
            let descriptor = self.read(slot);
            let last = place.level.child() == span.lowest;
            if !descriptor.is_table(place.level) || last && !descriptor.is_owned() {
                continue;
            }
            let (below, part) = self.below(place, span, index, descriptor);
            count += if last { 0 } else { self.cut(below, part) };
            if descriptor.is_owned() && self.is_empty(below, part) {
                self.write(slot, descriptor.parked());
                count += 1;
            }
        }
        count
    }

    /// Whether no slot is in use: those of `span` may be parked links, the others must be wholly empty. Apart from
    /// [`cut`](Self::cut), most of whose links are not ours.
    #[inline(never)]
    fn is_empty(&self, place: Place, span: Span) -> bool {
        let index = |va| self.regime().index(va, place.level);
        let (first, last) = (index(span.first), index(span.last));
        let bits = |index| self.machine.read(place.slot(index));
        let outside = (last + 1..self.regime().entries(place.level)).chain((0..first).rev());
        // Leaves of the span have been cleared just now; above the lowest of them it may hold links that stay.
        let inside_empty =
            place.level == span.lowest || (first..=last).all(|i| !Descriptor::from_bits(bits(i)).is_valid());
        inside_empty && outside.map(bits).all(|slot| slot == 0)
    }

    /// One invalidation for each lowest table that was cut off; where there are ranges, a few for all that are neighbours.
    fn invalidate_cut(&mut self, place: Place, span: Span, gather: &mut Gather) -> bool {
        let mut found = false;
        for index in self.slots_of(place, span) {
            let slot = place.slot(index);
            let descriptor = self.read(slot);
            if descriptor.is_empty() || !descriptor.unparked().is_table(place.level) {
                continue;
            }
            let (below, part) = self.below(place, span, index, descriptor);
            let lower = self.invalidate_cut(below, part, gather);
            if descriptor.is_parked() && !lower {
                self.forget_link(place.level, part, gather);
            }
            found |= lower || descriptor.is_parked();
        }
        found
    }

    /// The link, at `level`, to the table that translates `part`. By range all that the table translates is named:
    /// nothing else is in it, and under LPA2 a range can't start anywhere.
    #[inline]
    fn forget_link(&mut self, level: Level, part: Span, gather: &mut Gather) {
        if self.machine.has_range_invalidations() {
            let shift = M::Granule::SIZE.level_shift(level);
            let extent = Extent::one(part.first.align_down(1 << shift), 1 << (shift - M::Granule::SIZE.shift()));
            gather.add(extent, &mut tlb::issue(&mut self.machine));
        } else {
            self.machine.tlbi(Tlbi::AnyLevel(Operand::new(part.first)));
        }
    }

    /// Gives back every table that was cut off and empties the slot that named it.
    fn free_cut<F: Frames>(&mut self, place: Place, span: Span, frames: &mut F) -> u64 {
        let mut count = 0;
        for index in self.slots_of(place, span) {
            let slot = place.slot(index);
            let descriptor = self.read(slot);
            if descriptor.is_empty() || !descriptor.unparked().is_table(place.level) {
                continue;
            }
            let (below, part) = self.below(place, span, index, descriptor);
            count += self.free_cut(below, part, frames);
            if descriptor.is_parked() {
                self.write(slot, Descriptor::EMPTY);
                give(&mut self.machine, frames, below.table, M::Granule::SIZE.bytes());
                count += 1;
            }
        }
        count
    }

    /// The indices of the slots of a table above the lowest leaves of `span` that it touches.
    #[inline]
    fn slots_of(&self, place: Place, span: Span) -> Range<u64> {
        let index = |va| self.regime().index(va, place.level);
        if place.level < span.lowest { index(span.first)..index(span.last) + 1 } else { 0..0 }
    }

    /// The table that slot `index` of `place` names, and the part of `span` behind it.
    fn below(&self, place: Place, span: Span, index: u64, descriptor: Descriptor) -> (Place, Span) {
        let bytes = 1_u64 << self.regime().granule().level_shift(place.level);
        let before = index - self.regime().index(span.first, place.level);
        let start = span.first.align_down(bytes).add(before * bytes);
        let (first, last) = (start.max(span.first), start.add(bytes - 1).min(span.last));
        (Place { table: self.address_in(descriptor), level: place.level.child() }, Span { first, last, ..span })
    }
}

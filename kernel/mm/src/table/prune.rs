//! Freeing the tables that a removal emptied: unlink them all, one batch of invalidations, then give them back.

use super::Tables;
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::descriptor::Descriptor;
use crate::frames::give;
use crate::granule::Level;
use crate::seam::{Dsb, Frames, Machine};
use crate::tlb;
use crate::tlbi::{Operand, Tlbi};

/// The part of a range that one table translates: first and last address, both inside.
#[derive(Clone, Copy)]
struct Span {
    first: VirtAddr,
    last: VirtAddr,
}

/// A table and its level.
#[derive(Clone, Copy)]
struct Place {
    table: PhysAddr,
    level: Level,
}

impl<M: Machine> Tables<M> {
    /// Frees every table of ours on the way to `range`, whose leaves are gone, that has no entry left; returns how many.
    ///
    /// All links are cut first, at every level, then one batch of TLBI VAAE1IS runs, one for each lowest table cut (it
    /// covers the table entries of every level above as well, RZSXRQ), and only then are the tables given back. Until
    /// then their slots are empty or parked links, so that a walk in flight reads nothing valid in them.
    pub(crate) fn prune<F: Frames>(&mut self, range: VirtRange, frames: &mut F) -> u64 {
        if range.bytes() == 0 {
            return 0;
        }
        let span = Span { first: range.start(), last: range.start().add(range.bytes() - 1) };
        let root = Place { table: self.root, level: self.regime.start_level() };
        if self.cut(root, span) == 0 {
            return 0;
        }
        self.machine.dsb(Dsb::InnerShareableStores);
        self.invalidate_cut(root, span);
        tlb::complete(&mut self.machine);
        self.free_cut(root, span, frames)
    }

    /// Parks the link of each owned table below `place` that is empty; returns how many.
    fn cut(&mut self, place: Place, span: Span) -> u64 {
        let mut count = 0;
        for (index, slot) in self.slots_of(place, span) {
            let descriptor = self.read(slot);
            if !descriptor.is_table(place.level) {
                continue;
            }
            let (below, part) = self.below(place, span, index, descriptor);
            count += self.cut(below, part);
            if descriptor.is_owned() && self.is_empty(below, part) {
                self.write(slot, descriptor.parked());
                count += 1;
            }
        }
        count
    }

    /// Whether no slot is in use: those of `span` may be parked links, the others must be wholly empty.
    fn is_empty(&self, place: Place, span: Span) -> bool {
        let index = |va| self.regime.index(va, place.level);
        let (first, last) = (index(span.first), index(span.last));
        let bits = |index| self.machine.read(place.table.add(index * 8));
        let outside = (last + 1..self.regime.entries(place.level)).chain((0..first).rev());
        // Leaves of the span have been cleared just now; above level 3 it may hold links that stay.
        let inside_empty =
            place.level == Level::L3 || (first..=last).all(|i| !Descriptor::from_bits(bits(i)).is_valid());
        inside_empty && outside.map(bits).all(|slot| slot == 0)
    }

    /// One invalidation for each lowest table that was cut off.
    fn invalidate_cut(&mut self, place: Place, span: Span) -> bool {
        let mut found = false;
        for (index, slot) in self.slots_of(place, span) {
            let descriptor = self.read(slot);
            if descriptor.is_empty() || !descriptor.unparked().is_table(place.level) {
                continue;
            }
            let (below, part) = self.below(place, span, index, descriptor);
            let lower = self.invalidate_cut(below, part);
            if descriptor.is_parked() && !lower {
                self.machine.tlbi(Tlbi::AnyLevel(Operand::new(part.first)));
            }
            found |= lower || descriptor.is_parked();
        }
        found
    }

    /// Gives back every table that was cut off and empties the slot that named it.
    fn free_cut<F: Frames>(&mut self, place: Place, span: Span, frames: &mut F) -> u64 {
        let mut count = 0;
        for (index, slot) in self.slots_of(place, span) {
            let descriptor = self.read(slot);
            if descriptor.is_empty() || !descriptor.unparked().is_table(place.level) {
                continue;
            }
            let (below, part) = self.below(place, span, index, descriptor);
            count += self.free_cut(below, part, frames);
            if descriptor.is_parked() {
                self.write(slot, Descriptor::EMPTY);
                give(&mut self.machine, frames, below.table, self.regime.granule().bytes());
                count += 1;
            }
        }
        count
    }

    /// The slots of a table above level 3 that `span` touches, with their indices.
    fn slots_of(&self, place: Place, span: Span) -> impl Iterator<Item = (u64, PhysAddr)> + use<M> {
        let index = |va| self.regime.index(va, place.level);
        let above_pages = (place.level < Level::L3).then(|| index(span.first)..=index(span.last));
        above_pages.into_iter().flatten().map(move |index| (index, place.table.add(index * 8)))
    }

    /// The table that slot `index` of `place` names, and the part of `span` behind it.
    fn below(&self, place: Place, span: Span, index: u64, descriptor: Descriptor) -> (Place, Span) {
        let bytes = 1_u64 << self.regime.granule().level_shift(place.level);
        let before = index - self.regime.index(span.first, place.level);
        let start = span.first.align_down(bytes).add(before * bytes);
        let part = Span { first: start.max(span.first), last: start.add(bytes - 1).min(span.last) };
        (Place { table: self.address_in(descriptor), level: place.level.child() }, part)
    }
}

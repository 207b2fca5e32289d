//! Building: count the tables that are missing, fill them off-line, link them.

use super::Tables;
use crate::addr::{PhysAddr, VirtAddr};
use crate::decode::InWords;
use crate::descriptor::{Attributes, Descriptor, TableAttributes};
use crate::frames::Reserved;
use crate::granule::Level;
use crate::leaf::{Piece, Stretch};
use crate::regime::Regime;
use crate::repeat::repeat;
use crate::seam::{Dsb, Machine};

/// What leaves allow, and what the table descriptors made for them carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protection {
    /// Of leaves.
    pub leaf: Attributes,
    /// Of table descriptors.
    pub table: TableAttributes,
}

impl core::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:016x}", self.bits())
    }
}

/// Something is mapped, or parked, where a map was to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{:#x} has a descriptor of somebody else at {level}, {descriptor}: {}; have it taken away, or give a window that nobody else uses",
    va.value(),
    InWords::new(*descriptor, *level, *regime).with_any_mair()
)]
pub struct Occupied {
    /// The first address that the descriptor translates.
    pub va: VirtAddr,
    /// The level of its table.
    pub level: Level,
    /// The descriptor.
    pub descriptor: Descriptor,
    /// How the tables translate.
    pub regime: Regime,
}

impl<M: Machine> Tables<M> {
    /// Tables that are missing on the way to the leaves of `stretches` (ascending). Reads only.
    ///
    /// # Errors
    ///
    /// [`Occupied`] if a slot that one of the leaves needs, or one on the way, is in use for something else.
    pub fn missing_tables(&self, stretches: impl Iterator<Item = Stretch>) -> Result<u64, Occupied> {
        let mut missing = 0;
        let mut previous = None;
        for stretch in stretches {
            let level = stretch.leaf.level;
            for piece in stretch.by_table(self.regime()) {
                match self.deepest_table(piece.va, level)? {
                    (at, table) if at == level => self.expect_empty(table, piece, level)?,
                    (at, _) => missing += self.new_tables(at, level, piece.va, previous),
                }
                previous = Some((piece.va, level));
            }
        }
        Ok(missing)
    }

    /// The deepest table, down to `level`, that exists on the way to `va`.
    fn deepest_table(&self, va: VirtAddr, level: Level) -> Result<(Level, PhysAddr), Occupied> {
        let mut table = self.root;
        let mut at = self.regime().start_level();
        while at < level {
            let descriptor = self.read(self.slot(table, va, at));
            if descriptor.is_empty() {
                break;
            }
            if !descriptor.is_table(at) {
                let va = va.align_down(1 << self.regime().granule().level_shift(at));
                return Err(Occupied { va, level: at, descriptor, regime: self.regime() });
            }
            table = self.address_in(descriptor);
            at = at.child();
        }
        Ok((at, table))
    }

    /// Reads each slot once; which one is in use is looked for only when one is.
    fn expect_empty(&self, table: PhysAddr, piece: Piece, level: Level) -> Result<(), Occupied> {
        let (mut slot, mut found) = (table.add(piece.index * 8), 0);
        repeat(piece.count, || {
            found |= self.machine.read(slot);
            slot = slot.add(8);
        });
        if found == 0 { Ok(()) } else { self.first_in_use(table, piece, level).map_or(Ok(()), Err) }
    }

    #[cold]
    fn first_in_use(&self, table: PhysAddr, piece: Piece, level: Level) -> Option<Occupied> {
        let step = 1 << self.regime().granule().level_shift(level);
        let mut descriptors = Self::slots(table, piece).map(|slot| self.read(slot)).zip(0..);
        let (descriptor, position) = descriptors.find(|(descriptor, _)| !descriptor.is_empty())?;
        Some(Occupied { va: piece.va.add(position * step), level, descriptor, regime: self.regime() })
    }

    /// New tables below level `from` down to `to` for `va`, less those that the piece before already needs.
    fn new_tables(&self, from: Level, to: Level, va: VirtAddr, previous: Option<(VirtAddr, Level)>) -> u64 {
        let mut count = 0;
        let mut level = from;
        while level < to {
            let shift = self.regime().granule().level_shift(level);
            let shared =
                previous.is_some_and(|(before, leaf)| leaf > level && before.value() >> shift == va.value() >> shift);
            count += u64::from(!shared);
            level = level.child();
        }
        count
    }

    /// Writes the leaves of `stretch`, making tables from `spare` where they are missing. `frame` gives the frame of each
    /// descriptor in turn. What was made is reachable only after [`publish`](Self::publish).
    pub(crate) fn map(
        &mut self,
        stretch: Stretch,
        protection: Protection,
        spare: &mut Reserved,
        mut frame: impl FnMut(&M) -> PhysAddr,
    ) {
        let format = self.regime().output();
        self.each_piece(stretch, protection, spare, |machine, mut slot, piece| {
            for _ in 0..piece.count {
                machine.write(slot, stretch.leaf.descriptor(frame(machine), protection.leaf, format).bits());
                slot = slot.add(8);
            }
        });
    }

    /// The same with frames one behind the other, from `first`.
    pub(crate) fn map_consecutive(
        &mut self,
        stretch: Stretch,
        protection: Protection,
        spare: &mut Reserved,
        first: PhysAddr,
    ) {
        let (shift, format) = (self.regime().granule().level_shift(stretch.leaf.level), self.regime().output());
        let mut frame = first;
        self.each_piece(stretch, protection, spare, |machine, mut slot, piece| {
            let mut left = piece.count;
            while left > 0 {
                let count = left.min(format.bytes_in_step(frame) >> shift);
                let mut leaf = stretch.leaf.descriptor(frame, protection.leaf, format).bits();
                repeat(count, || {
                    machine.write(slot, leaf);
                    (slot, leaf) = (slot.add(8), leaf + (1 << shift));
                });
                frame = frame.add(count << shift);
                left -= count;
            }
        });
    }

    /// Lets `fill` write the pieces of `stretch`, from the slot that it is given on, in tables that are there by then.
    #[inline]
    fn each_piece(
        &mut self,
        stretch: Stretch,
        protection: Protection,
        spare: &mut Reserved,
        mut fill: impl FnMut(&mut M, PhysAddr, Piece),
    ) {
        for piece in stretch.by_table(self.regime()) {
            let table = self.ensure_table(piece.va, stretch.leaf.level, protection.table, spare);
            fill(&mut self.machine, table.add(piece.index * 8), piece);
        }
    }

    /// The table of `level` for `va`, made if it is missing. The topmost table made is linked by a parked descriptor.
    fn ensure_table(
        &mut self,
        va: VirtAddr,
        level: Level,
        attributes: TableAttributes,
        spare: &mut Reserved,
    ) -> PhysAddr {
        let mut table = self.root;
        let mut at = self.regime().start_level();
        let mut reachable = true;
        while at < level {
            let slot = self.slot(table, va, at);
            let descriptor = self.read(slot);
            table = if descriptor.is_empty() {
                let new = self.new_table(spare);
                let link = Descriptor::table(new, attributes, self.regime().output());
                self.write(slot, if reachable { link.parked() } else { link });
                reachable = false;
                new
            } else {
                reachable &= descriptor.is_valid();
                self.address_in(descriptor)
            };
            at = at.child();
        }
        table
    }

    fn new_table(&mut self, spare: &mut Reserved) -> PhysAddr {
        let table = spare.pop(&self.machine);
        self.machine.zero_table(table, self.regime().granule().bytes());
        table
    }

    /// Makes what was mapped for `stretches` reachable: DSB ISHST, the links, DSB ISHST, ISB; without the first step
    /// when there are no links to make.
    pub(crate) fn publish(&mut self, stretches: impl Iterator<Item = Stretch>, made_tables: u64) {
        if made_tables > 0 {
            self.machine.dsb(Dsb::InnerShareableStores);
            for stretch in stretches {
                stretch.by_table(self.regime()).for_each(|piece| self.link(piece.va, stretch.leaf.level));
            }
        }
        self.machine.dsb(Dsb::InnerShareableStores);
        self.machine.isb();
    }

    /// Makes the parked descriptor on the way to `va` valid, if there is one: below it everything is.
    fn link(&mut self, va: VirtAddr, level: Level) {
        let mut table = self.root;
        let mut at = self.regime().start_level();
        while at < level {
            let slot = self.slot(table, va, at);
            let descriptor = self.read(slot);
            if descriptor.is_parked() {
                self.write(slot, descriptor.unparked());
                return;
            }
            table = self.address_in(descriptor);
            at = at.child();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtRange;
    use crate::granule::{Granule, K4, K16, K64};
    use crate::leaf::{Leaf, LeafPolicy};
    use crate::mapping::{self, Mapping};
    use crate::seam::Memory;
    use crate::testing::Ram;
    use crate::testing::tally::{Tally, tallied};
    use crate::vmemmap::EARLY_PROTECTION;

    /// Tables that stay, and the lowest of them, in which nothing is mapped.
    fn standing<G: Granule>() -> (Tables<Tally<G>>, PhysAddr) {
        let mut tables = tallied::<G>();
        let page = VirtRange::new(tables.regime().lowest(), G::SIZE.bytes());
        let mapping = Mapping::new(tables.regime(), page, PhysAddr::new(0), LeafPolicy::Pages, EARLY_PROTECTION);
        mapping::map(&mut tables, &mut Ram::default(), &mapping).unwrap();
        let table = tables.table_at(page.start(), Level::L3).unwrap();
        tables.machine_mut().write(table, 0);
        (tables, table)
    }

    /// 21 pages from the fourth on: neither starts nor ends with a group of eight.
    fn names_any_slot<G: Granule>() {
        let (mut tables, table) = standing::<G>();
        let page = G::SIZE.bytes();
        let lowest = tables.regime().lowest();
        let stretch = Stretch { va: lowest.add(3 * page), leaf: Leaf::PAGE, count: 21 };
        for index in 0..32 {
            tables.machine_mut().write(table.add(index * 8), 8 << 55);
            let (va, descriptor) = (lowest.add(index * page), Descriptor::from_bits(8 << 55));
            let occupied = Occupied { va, level: Level::L3, descriptor, regime: tables.regime() };
            let expected = if (3..24).contains(&index) { Err(occupied) } else { Ok(0) };
            assert_eq!(tables.missing_tables([stretch].into_iter()), expected, "{}: {index}", G::SIZE);
            tables.machine_mut().write(table.add(index * 8), 0);
        }
    }

    #[test]
    fn whichever_slot_is_in_use_is_named_and_its_neighbours_do_not_matter() {
        names_any_slot::<K4>();
        names_any_slot::<K16>();
        names_any_slot::<K64>();
    }

    #[test]
    fn the_first_of_several_slots_in_use_is_named() {
        let (mut tables, table) = standing::<K16>();
        for index in [19, 6, 11] {
            tables.machine_mut().write(table.add(index * 8), index << 56);
        }
        let stretch = Stretch { va: tables.regime().lowest(), leaf: Leaf::PAGE, count: 32 };
        let occupied = tables.missing_tables([stretch].into_iter()).unwrap_err();
        assert_eq!(occupied.va, stretch.va.add(6 * K16::SIZE.bytes()));
        assert_eq!(occupied.descriptor, Descriptor::from_bits(6 << 56));
    }

    #[test]
    fn each_slot_is_read_once_where_all_are_empty() {
        let (tables, _) = standing::<K4>();
        for count in [1, 7, 8, 21, 512] {
            let stretch = Stretch { va: tables.regime().lowest(), leaf: Leaf::PAGE, count };
            tables.machine().take();
            assert_eq!(tables.missing_tables([stretch].into_iter()), Ok(0));
            assert_eq!(tables.machine().take().reads, 3 + count, "three tables on the way, and {count} slots");
        }
    }
}

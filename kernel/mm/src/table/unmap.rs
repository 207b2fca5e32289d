//! Taking leaves away: clear all of them, one batch of invalidations, then let their frames go.

use super::Tables;
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::descriptor::Descriptor;
use crate::frames::give;
use crate::granule::Level;
use crate::leaf::{Stretch, Stretches};
use crate::repeat::repeat;
use crate::seam::{Frames, Machine};
use crate::tlb;

/// A leaf, or a contiguous run, reaches beyond what is to be taken away. No leaf is ever split: break-before-make would
/// unmap what stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{leaf} at {level} would be split; take away whole what was mapped together")]
pub struct WouldSplit {
    /// All that the leaf or the run maps.
    pub leaf: VirtRange,
    /// The level of its descriptors.
    pub level: Level,
}

impl<M: Machine> Tables<M> {
    /// Whether leaves begin and end where `range` does.
    pub(crate) fn check_ends(&self, range: VirtRange) -> Result<(), WouldSplit> {
        if range.bytes() == 0 {
            return Ok(());
        }
        for va in [range.start(), range.start().add(range.bytes() - 1)] {
            match self.leaf_at(va) {
                Some((leaf, level)) if !range.covers(leaf) => return Err(WouldSplit { leaf, level }),
                _ => (),
            }
        }
        Ok(())
    }

    /// All that the leaf at `va` maps, with the whole of its run if it is in one.
    fn leaf_at(&self, va: VirtAddr) -> Option<(VirtRange, Level)> {
        let (step, _) = self.walk(va).translation()?;
        let granule = self.regime().granule();
        let members = granule.contiguous_entries(step.level).filter(|_| step.descriptor.is_contiguous()).unwrap_or(1);
        let bytes = members << granule.level_shift(step.level);
        Some((VirtRange::new(va.align_down(bytes), bytes), step.level))
    }

    /// Clears the leaves of `lent` and makes every CPU forget them. Their frames belong to somebody else.
    pub(crate) fn unmap(&mut self, lent: Stretches) {
        let lent = lent.singly();
        self.clear(lent.clone());
        tlb::invalidate_leaves(&mut self.machine, self.regime, lent);
    }

    /// The same, in one batch with the leaves of `own`, which map frames of RAM: those go back to `frames`, after every CPU
    /// has forgotten them.
    pub(crate) fn unmap_frames<F: Frames>(&mut self, lent: Stretches, own: Stretches, frames: &mut F) {
        let lent = lent.singly();
        self.clear(lent.clone());
        for stretch in own.clone() {
            self.each_slot(stretch, |tables, slot| {
                let parked = tables.read(slot).parked();
                tables.write(slot, parked);
            });
        }
        tlb::invalidate_leaves(&mut self.machine, self.regime, lent.chain(own.clone()));
        self.give_parked(own, frames);
    }

    fn clear(&mut self, stretches: Stretches) {
        for stretch in stretches {
            for piece in stretch.by_table(self.regime()) {
                // A table that is missing was never there.
                let Some(table) = self.table_at(piece.va, stretch.leaf.level) else { continue };
                let mut slot = table.add(piece.index * 8);
                repeat(piece.count, || {
                    self.write(slot, Descriptor::EMPTY);
                    slot = slot.add(8);
                });
            }
        }
    }

    /// Gives back the frames that stand parked in the slots of `stretches`.
    fn give_parked<F: Frames>(&mut self, stretches: Stretches, frames: &mut F) {
        let (granule, format) = (self.regime().granule(), self.regime().output());
        for stretch in stretches {
            let bytes = 1 << granule.level_shift(stretch.leaf.level);
            self.each_slot(stretch, |tables, slot| {
                let parked = tables.read(slot);
                tables.write(slot, Descriptor::EMPTY);
                if parked.is_parked() {
                    give(&mut tables.machine, frames, parked.address(granule, format), bytes);
                }
            });
        }
    }

    /// Visits the slot of each descriptor of `stretch`. A table that is missing was never there.
    #[inline]
    fn each_slot(&mut self, stretch: Stretch, mut visit: impl FnMut(&mut Self, PhysAddr)) {
        for piece in stretch.by_table(self.regime()) {
            let Some(table) = self.table_at(piece.va, stretch.leaf.level) else { continue };
            for slot in Self::slots(table, piece) {
                visit(self, slot);
            }
        }
    }
}

//! Taking leaves away: clear all of them, one batch of invalidations, then let their frames go.

use super::Tables;
use crate::addr::PhysAddr;
use crate::descriptor::Descriptor;
use crate::frames::give;
use crate::leaf::Stretch;
use crate::seam::{Frames, Machine};
use crate::tlb;

impl<M: Machine> Tables<M> {
    /// Clears the leaves of `stretches` and makes every CPU forget them. Their frames belong to somebody else.
    pub(crate) fn unmap(&mut self, stretches: impl Iterator<Item = Stretch> + Clone) {
        for stretch in stretches.clone() {
            self.each_slot(stretch, |tables, slot| tables.write(slot, Descriptor::EMPTY));
        }
        tlb::invalidate_leaves(&mut self.machine, stretches);
    }

    /// The same for leaves that map frames of RAM: each goes back to `frames`, after every CPU has forgotten it.
    pub(crate) fn unmap_frames<F: Frames>(&mut self, stretches: impl Iterator<Item = Stretch> + Clone, frames: &mut F) {
        for stretch in stretches.clone() {
            self.each_slot(stretch, |tables, slot| {
                let parked = tables.read(slot).parked();
                tables.write(slot, parked);
            });
        }
        tlb::invalidate_leaves(&mut self.machine, stretches.clone());
        let (granule, format) = (self.regime.granule(), self.regime.output());
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
        for piece in stretch.by_table(self.regime) {
            let Some(table) = self.table_at(piece.va, stretch.leaf.level) else { continue };
            for slot in Self::slots(table, piece) {
                visit(self, slot);
            }
        }
    }
}

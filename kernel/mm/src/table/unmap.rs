//! Taking leaves away: clear all of them, one batch of invalidations, then let their frames go.

use super::Tables;
use crate::descriptor::Descriptor;
use crate::leaf::Stretch;
use crate::seam::{Frames, Machine};
use crate::tlb;

impl<M: Machine> Tables<M> {
    /// Clears the leaves of `stretches` and makes every CPU forget them. Their frames belong to somebody else.
    pub(crate) fn unmap(&mut self, stretches: impl Iterator<Item = Stretch> + Clone) {
        for stretch in stretches.clone() {
            self.rewrite(stretch, |_| Descriptor::EMPTY);
        }
        tlb::invalidate_leaves(&mut self.machine, stretches);
    }

    /// The same for leaves that map frames of RAM: each goes back to `frames`, after every CPU has forgotten it.
    pub(crate) fn unmap_frames<F: Frames>(&mut self, stretches: impl Iterator<Item = Stretch> + Clone, frames: &mut F) {
        for stretch in stretches.clone() {
            self.rewrite(stretch, Descriptor::parked);
        }
        tlb::invalidate_leaves(&mut self.machine, stretches.clone());
        let (granule, format) = (self.regime.granule(), self.regime.output());
        for stretch in stretches {
            let bytes = 1 << granule.level_shift(stretch.leaf.level);
            self.rewrite(stretch, |parked| {
                frames.give(parked.address(granule, format), bytes);
                Descriptor::EMPTY
            });
        }
    }

    /// Replaces each descriptor of `stretch` that is not empty. A table that is missing was never there.
    fn rewrite(&mut self, stretch: Stretch, mut change: impl FnMut(Descriptor) -> Descriptor) {
        for piece in stretch.by_table(self.regime) {
            let Some(table) = self.table_at(piece.va, stretch.leaf.level) else { continue };
            for slot in Self::slots(table, piece) {
                let descriptor = self.read(slot);
                if !descriptor.is_empty() {
                    self.write(slot, change(descriptor));
                }
            }
        }
    }
}

//! Mutants whose steps come in another order.

use vmemmap::seam::{Dsb, Machine};
use vmemmap::tlbi::Tlbi;

use crate::fault::{Fault, Order};
use crate::machine::Mutated;
use crate::ring::Changed;
use crate::track::{CONTIGUOUS, Change};

/// What is still to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// Nothing.
    Nothing,
    /// The DSB and ISB behind a batch of invalidations.
    Completion,
}

impl<M: Machine> Mutated<M> {
    /// Does what is late, before anything but stores and frees.
    pub(crate) fn catch_up(&mut self) {
        if self.late == Late::Completion {
            self.late = Late::Nothing;
            self.machine.dsb(Dsb::InnerShareable);
            self.machine.isb();
        }
    }

    /// Whether a leaf is not to be cleared before its turn.
    pub(crate) fn holds_back(&self, changed: Changed) -> bool {
        match self.fault {
            Fault::Order(Order::MemberByMember) => true,
            Fault::Order(Order::LeafByLeaf) => changed.old & CONTIGUOUS == 0,
            _ => false,
        }
    }

    /// Clears what was held back and is now to be invalidated, with the DSB that belongs there.
    pub(crate) fn clear_next(&mut self, operation: Tlbi) {
        let all = matches!(operation, Tlbi::AllInnerShareable);
        while let Some(changed) = self.batch.pop() {
            if self.holds_back(changed) {
                self.machine.write(changed.slot, changed.new);
            }
            if !all {
                break;
            }
        }
        self.machine.dsb(Dsb::InnerShareableStores);
    }

    /// Holds the clearing of a table's link back; the slot of a table that is freed is not written at all.
    pub(crate) fn unlink_late(&mut self, change: Change, changed: Changed) {
        let held = self.links.find(changed.slot).is_some();
        if !(change == Change::Cut || held) || !self.links.push(changed) {
            self.machine.write(changed.slot, changed.new);
        }
    }

    /// Clears the links that were held back.
    pub(crate) fn unlink_now(&mut self) {
        if self.links.is_empty() {
            return;
        }
        while let Some(changed) = self.links.pop() {
            self.machine.write(changed.slot, changed.new);
        }
        self.forget_everything();
    }
}

//! Counting what a machine is asked to do.

use crate::observe::{Event, Observer};

/// Events since the count began: an observer for [`Observed`](crate::observe::Observed).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Descriptors written, parked and emptied ones included.
    pub descriptor_writes: u64,
    /// Data synchronisation barriers.
    pub dsb: u64,
    /// Instruction synchronisation barriers.
    pub isb: u64,
    /// TLB invalidations.
    pub tlbi: u64,
    /// Tables zeroed.
    pub tables_zeroed: u64,
}

impl Count {
    /// The count so far, which starts again at zero.
    #[must_use]
    pub fn take(&mut self) -> Self {
        core::mem::take(self)
    }
}

impl Observer for Count {
    fn event(&mut self, event: Event) {
        match event {
            Event::Write { .. } => self.descriptor_writes += 1,
            Event::Zero { .. } => self.tables_zeroed += 1,
            Event::Dsb(_) => self.dsb += 1,
            Event::Isb => self.isb += 1,
            Event::Tlbi(_) => self.tlbi += 1,
            Event::Access(_)
            | Event::Registers(_)
            | Event::Allocated(_)
            | Event::Freed(_)
            | Event::Begin(_)
            | Event::End(_) => (),
        }
    }
}

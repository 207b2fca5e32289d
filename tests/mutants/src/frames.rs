//! The allocator of a mutant.

use spin::Mutex;
use vmemmap::addr::PhysAddr;
use vmemmap::seam::{Allocation, Frames, Quiesce};

use crate::fault::{Astray, Fault};

/// Frames on their way from the machine to the wrong allocator.
#[derive(Debug, Default)]
pub struct Ledger {
    lost: Mutex<Option<Allocation>>,
}

impl Ledger {
    /// With nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self { lost: Mutex::new(None) }
    }

    pub(crate) fn lose(&self, frames: Allocation) {
        *self.lost.lock() = Some(frames);
    }

    fn take(&self) -> Option<Allocation> {
        self.lost.lock().take()
    }
}

/// An allocator with one fault.
#[derive(Debug)]
pub struct MutatedFrames<F> {
    frames: F,
    fault: Fault,
    ledger: &'static Ledger,
    /// The allocator has run dry, and nothing has been taken since.
    dry: bool,
}

impl<F: Frames> MutatedFrames<F> {
    /// `frames` with `fault`; the ledger is that of the machine.
    pub const fn new(frames: F, fault: Fault, ledger: &'static Ledger) -> Self {
        Self { frames, fault, ledger, dry: false }
    }
}

// SAFETY: it is not: that is the point. Only suites that expect the damage use it, each on a machine of its own.
unsafe impl<F: Frames> Frames for MutatedFrames<F> {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        let frame = self.frames.take(bytes);
        self.dry = frame.is_none();
        frame
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        match self.fault {
            Fault::Frames(Astray::NoRollback) if self.dry => {}
            Fault::Frames(Astray::Swapped) => match self.ledger.take() {
                Some(lost) => self.frames.give(lost.start, lost.bytes),
                None => self.frames.give(frame, bytes),
            },
            _ => self.frames.give(frame, bytes),
        }
    }
}

// SAFETY: the allocator below waits, or it is a mutant's.
unsafe impl<F: Quiesce> Quiesce for MutatedFrames<F> {
    fn wait_for_readers(&mut self) {
        if self.fault != Fault::NoGracePeriod {
            self.frames.wait_for_readers();
        }
    }
}

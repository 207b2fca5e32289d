//! Frames taken in advance, so that what follows can't run out: a stack threaded through the frames themselves.

use super::{give, take};
use crate::addr::PhysAddr;
use crate::seam::{Frames, Machine, Memory};

/// The allocator had fewer frames than an operation needs. Those that were taken have been given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("out of RAM: the allocator gave {taken} of {wanted} frames of {} KiB", bytes >> 10)]
pub struct OutOfFrames {
    /// Frames needed.
    pub wanted: u64,
    /// Frames that there were.
    pub taken: u64,
    /// Bytes of each.
    pub bytes: u64,
}

/// Frames of one size that are ours and not in use yet.
#[derive(Debug)]
#[must_use = "reserved frames that are neither used nor given back are lost"]
pub struct Reserved {
    top: PhysAddr,
    count: u64,
    bytes: u64,
}

impl Reserved {
    /// Takes `wanted` frames of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there are fewer; then none has been taken.
    #[inline]
    pub fn take<M: Machine, F: Frames>(
        machine: &mut M,
        frames: &mut F,
        wanted: u64,
        bytes: u64,
    ) -> Result<Self, OutOfFrames> {
        let mut reserved = Self { top: PhysAddr::new(0), count: 0, bytes };
        while reserved.count < wanted {
            let Some(frame) = take(machine, frames, bytes) else {
                let taken = reserved.count;
                reserved.give_back(machine, frames);
                return Err(OutOfFrames { wanted, taken, bytes });
            };
            machine.store(frame, reserved.top.value());
            reserved.top = frame;
            reserved.count += 1;
        }
        Ok(reserved)
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// If more are used than were reserved: the plan that counted them was wrong.
    #[inline]
    pub fn pop<M: Memory>(&mut self, memory: &M) -> PhysAddr {
        assert!(self.count > 0, "the plan reserved too few frames");
        let frame = self.top;
        self.top = PhysAddr::new(memory.load(frame));
        self.count -= 1;
        frame
    }

    /// How many are left.
    #[must_use]
    #[inline]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Gives back those that are left.
    #[inline]
    pub fn give_back<M: Machine, F: Frames>(mut self, machine: &mut M, frames: &mut F) {
        while self.count > 0 {
            let frame = self.pop(machine);
            give(machine, frames, frame, self.bytes);
        }
    }
}

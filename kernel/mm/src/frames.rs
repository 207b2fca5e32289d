//! Frames of RAM: the frames that an operation has reserved, and an allocator for those who have none.

mod bitmap;
mod reserved;

pub use bitmap::BitmapFrames;
pub use reserved::{OutOfFrames, Reserved};

use crate::addr::PhysAddr;
use crate::seam::{Allocation, Frames, Machine, Source};

const fn of_ram(start: PhysAddr, bytes: u64) -> Allocation {
    Allocation { start, bytes, source: Source::Ram }
}

/// Takes a frame and tells the machine's observers.
#[inline]
pub(crate) fn take<M: Machine, F: Frames>(machine: &mut M, frames: &mut F, bytes: u64) -> Option<PhysAddr> {
    let frame = frames.take(bytes)?;
    machine.allocated(of_ram(frame, bytes));
    Some(frame)
}

/// Gives a frame back, after telling the machine's observers.
#[inline]
pub(crate) fn give<M: Machine, F: Frames>(machine: &mut M, frames: &mut F, frame: PhysAddr, bytes: u64) {
    machine.freed(of_ram(frame, bytes));
    frames.give(frame, bytes);
}

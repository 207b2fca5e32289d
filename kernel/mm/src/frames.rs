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

/// Takes a frame of words that are all 0: a page of records.
pub(crate) fn take_zeroed<M: Machine, F: Frames>(
    machine: &mut M,
    frames: &mut F,
    bytes: u64,
) -> Result<PhysAddr, OutOfFrames> {
    let page = take(machine, frames, bytes).ok_or(OutOfFrames { wanted: 1, taken: 0, bytes })?;
    (0..bytes).step_by(8).for_each(|offset| machine.store(page.add(offset), 0));
    Ok(page)
}

/// Gives a frame back, after telling the machine's observers.
#[inline]
pub(crate) fn give<M: Machine, F: Frames>(machine: &mut M, frames: &mut F, frame: PhysAddr, bytes: u64) {
    machine.freed(of_ram(frame, bytes));
    frames.give(frame, bytes);
}

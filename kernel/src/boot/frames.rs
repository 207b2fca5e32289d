//! Frames for the first tables: RAM from the lowest free address up.

use vmemmap::addr::PhysAddr;
use vmemmap::seam::Frames;

use super::ranges::Ranges;

/// An allocator that only goes up.
pub struct Bump<'a> {
    free: &'a Ranges,
    next: PhysAddr,
}

impl<'a> Bump<'a> {
    /// An allocator of all of `free`.
    pub const fn new(free: &'a Ranges) -> Self {
        Self { free, next: PhysAddr::new(0) }
    }

    /// Free RAM at and above this address was never handed out.
    pub const fn next(&self) -> PhysAddr {
        self.next
    }
}

// SAFETY: every frame lies in the free RAM that `new` was given, above all frames handed out before; with the MMU off
// it is reachable at its physical address.
unsafe impl Frames for Bump<'_> {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        let frame = self.free.as_slice().iter().find_map(|piece| {
            let start = piece.start().max(self.next).align_up(bytes);
            (start < piece.end() && piece.end().since(start) >= bytes).then_some(start)
        })?;
        self.next = frame.add(bytes);
        Some(frame)
    }

    fn give(&mut self, _frame: PhysAddr, _bytes: u64) {
        // What boot's tables do not use any more is lost: none of it ever is.
    }
}

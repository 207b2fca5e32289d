//! Memory for tables, the same for every crate: a stretch of the host's, at a made-up physical address.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// The physical address of the first byte.
const START: u64 = 0x8000_0000;
/// Bytes of a table.
pub const PAGE: u64 = 4096;

/// Frames for tables: handed out one behind the other, or as they came back.
pub struct Arena {
    memory: *mut u8,
    layout: Layout,
    next: u64,
    free: Vec<u64>,
}

impl Arena {
    /// Room for the tables of `bytes` bytes mapped by pages, and a few.
    ///
    /// # Panics
    ///
    /// If the host can't give as much.
    pub fn for_pages_of(bytes: u64) -> Self {
        let frames = bytes / (512 * PAGE) + bytes / (512 * 512 * PAGE) + 16;
        let layout = Layout::from_size_align((frames * PAGE) as usize, PAGE as usize).expect("a few MiB");
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        // Grown ahead of time: giving back must cost the same for all.
        Self { memory, layout, next: START, free: Vec::with_capacity(frames as usize) }
    }

    /// What to add to a physical address to get the host's.
    pub fn offset(&self) -> u64 {
        (self.memory as u64).wrapping_sub(START)
    }

    /// A frame that nobody has.
    pub fn take(&mut self) -> Option<u64> {
        if let Some(frame) = self.free.pop() {
            return Some(frame);
        }
        let frame = self.next;
        if frame + PAGE > START + self.layout.size() as u64 {
            return None;
        }
        self.next += PAGE;
        Some(frame)
    }

    /// Gives back what [`take`](Self::take) handed out.
    pub fn give(&mut self, frame: u64) {
        self.free.push(frame);
    }

    /// Frames that are out.
    pub fn taken(&self) -> u64 {
        (self.next - START) / PAGE - self.free.len() as u64
    }

    /// The word at physical address `at`.
    pub fn word(&self, at: u64) -> u64 {
        assert!(at >= START && at + 8 <= START + self.layout.size() as u64, "{at:#x} is not in the arena");
        // SAFETY: inside the arena, and aligned as slots are.
        unsafe { (at.wrapping_add(self.offset()) as *const u64).read_volatile() }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.memory, self.layout) };
    }
}

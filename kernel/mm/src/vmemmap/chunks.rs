//! The struct pages of a memmap in chunks, which any number of CPUs take, one after the other.
//!
//! A chunk is what of the memmap lies in one aligned 2 MiB of addresses. No descriptor of a vmemmap maps more, and all are as
//! aligned as they are large, so each is in one chunk; leaves come out as if the memmap were not cut. Where a chunk is follows
//! from its number alone.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::lifetime::{Word, try_update, update};
use crate::vmemmap::Memmap;

/// Bytes of a whole chunk, and what it is aligned to: the largest descriptor of a vmemmap, a block at 4K.
const CHUNK_BYTES: u64 = Memmap::BLOCK_BYTES;

impl Memmap {
    /// How many chunks it has: none if it is empty.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        if self.is_empty() { 0 } else { self.before_first() + self.range().bytes() }.div_ceil(CHUNK_BYTES)
    }

    /// Bytes of the first chunk's addresses that come before the memmap.
    const fn before_first(&self) -> u64 {
        self.range().start().since(self.range().start().align_down(CHUNK_BYTES))
    }

    /// The part of it in chunk `index`, which is one of its [`chunks`](Memmap::chunks).
    pub(crate) fn chunk(&self, index: u64) -> Self {
        let (before, bytes) = (self.before_first(), self.range().bytes());
        let first = (index * CHUNK_BYTES).saturating_sub(before);
        let end = bytes.min((index + 1) * CHUNK_BYTES - before);
        self.part(first, end - first)
    }
}

/// Numbers from 0 on that are handed out, each once, to whoever asks first.
///
/// No ordering is asked for. That two CPUs get different numbers follows from the exchange being one step. Whatever a number
/// stands for was there before the CPU got to know of this, and is looked at after all CPUs have let go of it: both pass
/// through what lends it to them (a scope of threads, a call across CPUs), which orders as much as lending anything does.
#[derive(Debug)]
pub struct Chunks<W = AtomicU64> {
    count: u64,
    taken: W,
    done: W,
}

impl Chunks {
    /// Numbers below `count`.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self { count, taken: AtomicU64::new(0), done: AtomicU64::new(0) }
    }
}

impl<W> Chunks<W> {
    /// The same over words of another kind, which hold 0.
    #[must_use]
    pub fn over(count: u64, [taken, done]: [W; 2]) -> Self {
        Self { count, taken, done }
    }

    /// How many there are in all.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }
}

impl<W: Word> Chunks<W> {
    /// The next number, for the caller alone; `None` when all are taken.
    #[must_use = "what is taken has to be done"]
    pub fn take(&self) -> Option<u64> {
        let next = |taken| if taken < self.count { Ok(taken + 1) } else { Err(()) };
        try_update(&self.taken, Ordering::Relaxed, next).ok()
    }

    /// One that was [taken](Chunks::take) is done.
    pub fn done(&self) {
        update(&self.done, Ordering::Relaxed, |done| done + 1);
    }

    /// Whether all are done. It is false for ever where one was taken by a CPU that gave up, and meaningful once nobody else
    /// is at it.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.done.load(Ordering::Relaxed) == self.count
    }
}

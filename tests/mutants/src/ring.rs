//! Changes that a mutant remembers, oldest first.

use vmemmap::addr::PhysAddr;

/// A descriptor that is, or is to be, changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// Its slot.
    pub slot: PhysAddr,
    /// What it was.
    pub old: u64,
    /// What it becomes.
    pub new: u64,
}

impl Changed {
    /// No change of any slot.
    pub const NOTHING: Self = Self { slot: PhysAddr::new(0), old: 0, new: 0 };
}

/// A queue of at most `N`.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    entries: [Changed; N],
    first: usize,
    count: usize,
}

impl<const N: usize> Ring<N> {
    pub const fn new() -> Self {
        Self { entries: [Changed::NOTHING; N], first: 0, count: 0 }
    }

    /// Whether there was room for it.
    pub fn push(&mut self, changed: Changed) -> bool {
        if self.count == N {
            return false;
        }
        self.entries[(self.first + self.count) % N] = changed;
        self.count += 1;
        true
    }

    pub fn pop(&mut self) -> Option<Changed> {
        let oldest = (self.count > 0).then(|| self.entries[self.first])?;
        self.first = (self.first + 1) % N;
        self.count -= 1;
        Some(oldest)
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What was last remembered of a slot.
    pub fn find(&self, slot: PhysAddr) -> Option<Changed> {
        let entry = |index: usize| self.entries[(self.first + index) % N];
        (0..self.count).rev().map(entry).find(|changed| changed.slot == slot)
    }
}

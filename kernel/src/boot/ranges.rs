//! A list of physical ranges that needs no allocator and holds no pointer.

use vmemmap::addr::{PhysAddr, PhysRange};

/// How many ranges of RAM, or of what is reserved in it, boot can remember.
pub const MAX_RANGES: usize = 32;

/// Ranges sorted by address, none empty, none touching another.
#[derive(Clone, Copy)]
pub struct Ranges {
    ranges: [PhysRange; MAX_RANGES],
    length: usize,
}

/// The machine has more separate ranges of RAM than [`MAX_RANGES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRanges;

const EMPTY: PhysRange = match PhysRange::new(PhysAddr::new(0), 0) {
    Some(range) => range,
    None => unreachable!(),
};

impl Ranges {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: [EMPTY; MAX_RANGES], length: 0 }
    }

    /// The ranges, lowest first.
    #[must_use]
    pub fn as_slice(&self) -> &[PhysRange] {
        &self.ranges[..self.length]
    }

    /// Bytes in all ranges.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.as_slice().iter().map(|range| range.bytes()).sum()
    }

    /// Whether one of the ranges holds all of `range`.
    #[must_use]
    pub fn covers(&self, range: PhysRange) -> bool {
        self.as_slice().iter().any(|held| held.start() <= range.start() && range.end() <= held.end())
    }

    /// Adds a range, in any order; it grows together with those that it touches or overlaps.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`] when the list is full.
    pub fn insert(&mut self, range: PhysRange) -> Result<(), TooManyRanges> {
        let old = *self;
        let mut merged = range;
        self.length = 0;
        for held in old.as_slice() {
            if held.start() <= merged.end() && merged.start() <= held.end() {
                merged = hull(merged, *held);
            } else {
                self.push(*held)?;
            }
        }
        if !merged.is_empty() {
            self.push(merged)?;
            self.ranges[..self.length].sort_unstable_by_key(|held| held.start());
        }
        Ok(())
    }

    fn push(&mut self, range: PhysRange) -> Result<(), TooManyRanges> {
        *self.ranges.get_mut(self.length).ok_or(TooManyRanges)? = range;
        self.length += 1;
        Ok(())
    }

    /// Keeps the lowest `bytes` bytes.
    pub fn clip(&mut self, bytes: u64) {
        let mut left = bytes;
        let mut kept = 0;
        while kept < self.length && left > 0 {
            let range = &mut self.ranges[kept];
            let keep = range.bytes().min(left);
            *range = PhysRange::new(range.start(), keep).unwrap_or(EMPTY);
            left -= keep;
            kept += 1;
        }
        self.length = kept;
    }

    /// Keeps whole pages of `page` bytes (a power of two).
    pub fn shrink_to_pages(&mut self, page: u64) {
        let old = *self;
        self.length = 0;
        for held in old.as_slice() {
            let (start, end) = (held.start().align_up(page), held.end().align_down(page));
            if start < end {
                self.ranges[self.length] = PhysRange::between(start, end).unwrap_or(EMPTY);
                self.length += 1;
            }
        }
    }

    /// Takes `hole` out of every range.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`] when a range falls into two and the list is full.
    pub fn remove(&mut self, hole: PhysRange) -> Result<(), TooManyRanges> {
        if hole.is_empty() {
            return Ok(());
        }
        let old = *self;
        self.length = 0;
        for held in old.as_slice() {
            for piece in [below(*held, hole), above(*held, hole)] {
                if !piece.is_empty() {
                    self.push(piece)?;
                }
            }
        }
        Ok(())
    }
}

impl Default for Ranges {
    fn default() -> Self {
        Self::new()
    }
}

fn hull(a: PhysRange, b: PhysRange) -> PhysRange {
    PhysRange::between(a.start().min(b.start()), a.end().max(b.end())).unwrap_or(EMPTY)
}

fn below(range: PhysRange, hole: PhysRange) -> PhysRange {
    PhysRange::between(range.start(), range.end().min(hole.start())).unwrap_or(EMPTY)
}

fn above(range: PhysRange, hole: PhysRange) -> PhysRange {
    PhysRange::between(range.start().max(hole.end()), range.end()).unwrap_or(EMPTY)
}

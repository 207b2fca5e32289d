//! A frame allocator for kernels that have none yet: one bit a frame, first fit from where the last one was found.

use crate::addr::{PhysAddr, PhysRange};
use crate::granule::GranuleSize;
use crate::seam::Frames;

/// Frames of one granule between two addresses. A set bit is a frame in use.
#[derive(Debug)]
pub struct BitmapFrames<'a> {
    words: &'a mut [u64],
    first: PhysAddr,
    frames: u64,
    free: u64,
    hint: u64,
    granule: GranuleSize,
}

impl<'a> BitmapFrames<'a> {
    /// Words of bitmap that `span` needs.
    #[must_use]
    pub const fn words(span: PhysRange, granule: GranuleSize) -> usize {
        (span.bytes() >> granule.shift()).div_ceil(64) as usize
    }

    /// An allocator over `span` with every frame in use; [`release`](Self::release) what is free.
    ///
    /// # Panics
    ///
    /// If `words` is shorter than [`words`](Self::words) says, or `span` does not start at a page.
    pub fn new(words: &'a mut [u64], span: PhysRange, granule: GranuleSize) -> Self {
        assert!(words.len() >= Self::words(span, granule) && span.start().is_aligned(granule.bytes()));
        words.fill(u64::MAX);
        Self { words, first: span.start(), frames: span.bytes() >> granule.shift(), free: 0, hint: 0, granule }
    }

    /// Makes the whole frames inside `range` free.
    ///
    /// # Safety
    ///
    /// They must be RAM that nobody uses.
    pub unsafe fn release(&mut self, range: PhysRange) {
        let page = self.granule.bytes();
        let (start, end) = (range.start().align_up(page), range.end().align_down(page));
        if start < end {
            let first = self.index(start);
            (first..first + (end.since(start) >> self.granule.shift())).for_each(|index| self.set_free(index));
        }
    }

    /// Frames that are free now.
    #[must_use]
    pub const fn free(&self) -> u64 {
        self.free
    }

    fn index(&self, frame: PhysAddr) -> u64 {
        assert!(frame >= self.first && frame.is_aligned(self.granule.bytes()), "{frame} is no frame of this allocator");
        let index = frame.since(self.first) >> self.granule.shift();
        assert!(index < self.frames, "{frame} is no frame of this allocator");
        index
    }

    fn word(&mut self, index: u64) -> &mut u64 {
        &mut self.words[(index / 64) as usize]
    }

    fn is_used(&mut self, index: u64) -> bool {
        *self.word(index) >> (index % 64) & 1 == 1
    }

    fn set_free(&mut self, index: u64) {
        assert!(self.is_used(index), "frame {} is given back twice", self.address(index));
        *self.word(index) &= !(1 << (index % 64));
        self.free += 1;
    }

    fn set_used(&mut self, index: u64) {
        *self.word(index) |= 1 << (index % 64);
        self.free -= 1;
    }

    const fn address(&self, index: u64) -> PhysAddr {
        self.first.add(index << self.granule.shift())
    }

    /// The first candidate at or after `index` whose address is a multiple of `bytes`.
    fn align(&self, index: u64, bytes: u64) -> u64 {
        self.address(index).align_up(bytes).since(self.first) >> self.granule.shift()
    }

    fn find(&mut self, from: u64, to: u64, bytes: u64) -> Option<u64> {
        let count = bytes >> self.granule.shift();
        let mut at = self.align(from, bytes);
        while at + count <= to.min(self.frames) {
            if count == 1 && *self.word(at) == u64::MAX {
                at = (at | 63) + 1;
                continue;
            }
            if (at..at + count).all(|index| !self.is_used(index)) {
                return Some(at);
            }
            at += count;
        }
        None
    }
}

// SAFETY: a frame is handed out only while its bit says free, and the bit is set before it is; alignment is that of the
// address. That the released ranges are RAM is the promise of whoever released them.
unsafe impl Frames for BitmapFrames<'_> {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        assert!(bytes.is_power_of_two() && bytes >= self.granule.bytes(), "{bytes} bytes are no whole frames");
        let count = bytes >> self.granule.shift();
        let at = self.find(self.hint, u64::MAX, bytes).or_else(|| self.find(0, self.hint + count, bytes))?;
        (at..at + count).for_each(|index| self.set_used(index));
        self.hint = at + count;
        Some(self.address(at))
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        let first = self.index(frame);
        (first..first + (bytes >> self.granule.shift())).for_each(|index| self.set_free(index));
        self.hint = self.hint.min(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, pages: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), pages << 12).unwrap()
    }

    #[test]
    fn every_frame_is_handed_out_once_and_comes_back() {
        let mut words = [0; 2];
        let mut frames = BitmapFrames::new(&mut words, span(0x1000, 100), GranuleSize::K4);
        // SAFETY: nobody uses these numbers.
        unsafe { frames.release(span(0x1000, 100)) };
        let mut taken: Vec<_> = std::iter::from_fn(|| frames.take(0x1000)).collect();
        taken.sort();
        taken.dedup();
        assert_eq!((taken.len(), frames.free()), (100, 0));
        for frame in taken {
            frames.give(frame, 0x1000);
        }
        assert_eq!(frames.free(), 100);
    }

    #[test]
    fn large_frames_are_aligned_to_their_size() {
        let mut words = [0; 40];
        let mut frames = BitmapFrames::new(&mut words, span(0x10_0000, 2048), GranuleSize::K4);
        // SAFETY: nobody uses these numbers.
        unsafe { frames.release(span(0x10_0000, 2048)) };
        let _ = frames.take(0x1000);
        let block = frames.take(2 << 20).unwrap();
        assert!(block.is_aligned(2 << 20));
        assert_eq!(frames.free(), 2048 - 1 - 512);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_frame_given_back_twice_is_noticed() {
        let mut words = [0; 1];
        let mut frames = BitmapFrames::new(&mut words, span(0, 4), GranuleSize::K4);
        // SAFETY: nobody uses these numbers.
        unsafe { frames.release(span(0, 4)) };
        let frame = frames.take(0x1000).unwrap();
        frames.give(frame, 0x1000);
        frames.give(frame, 0x1000);
    }

    #[test]
    fn only_whole_frames_are_released() {
        let mut words = [0; 1];
        let mut frames = BitmapFrames::new(&mut words, span(0, 8), GranuleSize::K4);
        // SAFETY: nobody uses these numbers.
        unsafe { frames.release(PhysRange::new(PhysAddr::new(0x1800), 0x2000).unwrap()) };
        assert_eq!((frames.free(), frames.take(0x1000)), (1, Some(PhysAddr::new(0x2000))));
    }
}

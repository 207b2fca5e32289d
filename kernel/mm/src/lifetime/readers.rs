//! Read sections of our own, for a kernel that has no RCU: one word a CPU, and nothing shared between CPUs that read.

use core::sync::atomic::{AtomicU64, Ordering};

use super::word::{Word, update};
use crate::seam::Quiesce;

/// Above the number of open sections: how often that number came to 0.
const ROUND: u64 = 1 << 32;

/// The read sections of `N` CPUs.
///
/// Sections nest, and an interrupt may open one inside another's. A CPU's number only says which word to write: if two use
/// the same, as CPUs beyond `N` do, both are still waited for.
///
/// # Orderings
///
/// A reader writes its word and then reads whether a pfn is valid; a removal writes that it is not and then reads the words.
/// Between the two accesses of each is a sequentially consistent fence, and of two such fences one is first. Where the
/// reader's is, the removal sees the section and waits; where the removal's is, the section sees no valid pfn. A section ends
/// with a release, and each look at a word acquires: what was done in the section happens before the wait ends. That is so as
/// well where the look finds that CPU in a later section, as opening one is an exchange and keeps the release sequence.
///
/// # Examples
///
/// ```
/// use vmemmap::lifetime::Readers;
/// use vmemmap::seam::Quiesce;
///
/// static READERS: Readers<4> = Readers::new();
/// let section = READERS.enter(0);
/// // Look whether a pfn is valid, use its struct page.
/// drop(section);
/// (&READERS).wait_for_readers();
/// ```
#[derive(Debug)]
pub struct Readers<const N: usize, W = AtomicU64> {
    lines: [Line<W>; N],
}

/// A word with a cache line to itself.
#[derive(Debug)]
#[repr(align(64))]
struct Line<W>(W);

/// An open read section. It ends where this is dropped, on any CPU; if it is forgotten, no removal goes on.
#[derive(Debug)]
#[must_use = "the section ends where this is dropped"]
pub struct Section<'a, W: Word = AtomicU64> {
    word: &'a W,
}

impl<const N: usize> Readers<N> {
    /// Nobody reads.
    #[must_use]
    pub const fn new() -> Self {
        Self { lines: [const { Line(AtomicU64::new(0)) }; N] }
    }
}

impl<const N: usize> Default for Readers<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, W: Word> Readers<N, W> {
    /// The same over words of another kind, which are all 0.
    #[must_use]
    pub fn over(words: [W; N]) -> Self {
        Self { lines: words.map(Line) }
    }

    /// Opens a read section on CPU `cpu`: a struct page whose pfn is then valid stays until it is dropped.
    ///
    /// # Panics
    ///
    /// If 2^32 - 1 sections of the CPU are open: that many were forgotten.
    #[inline]
    pub fn enter(&self, cpu: usize) -> Section<'_, W> {
        const { assert!(N > 0, "there is at least one CPU") };
        let word = &self.lines[cpu % N].0;
        update(word, Ordering::Relaxed, opened);
        W::fence(Ordering::SeqCst);
        Section { word }
    }

    /// Waits until each section that was open when this was called has ended, as [`Quiesce`] asks. Not from within a section
    /// of one's own: that would wait for itself.
    pub fn wait(&self) {
        self.wait_for_first(N);
    }

    /// The same for the sections of the first `cpus` CPUs, where no other has ever opened one.
    ///
    /// # Panics
    ///
    /// If `cpus` is more than `N`.
    pub fn wait_for_first(&self, cpus: usize) {
        W::fence(Ordering::SeqCst);
        self.lines[..cpus].iter().for_each(|line| wait_for(&line.0));
    }
}

// SAFETY: "Orderings" above is the argument. Nobody but the sections writes the words.
unsafe impl<const N: usize> Quiesce for &Readers<N> {
    fn wait_for_readers(&mut self) {
        self.wait();
    }
}

impl<W: Word> Drop for Section<'_, W> {
    #[inline]
    fn drop(&mut self) {
        update(self.word, Ordering::Release, closed);
    }
}

/// Waits until the CPU of this word has no section open, or has had none in between.
fn wait_for<W: Word>(word: &W) {
    let look = || word.load(Ordering::Acquire);
    let first = look();
    let mut now = first;
    while open_sections(now) > 0 && now / ROUND == first / ROUND {
        W::pause();
        now = look();
    }
}

fn open_sections(word: u64) -> u32 {
    word as u32
}

fn opened(word: u64) -> u64 {
    assert!(open_sections(word) < u32::MAX, "2^32 - 1 read sections are open on one CPU: end them");
    word + 1
}

/// Where it is the last, the round is over: a waiter goes on even if the next section is open when it looks.
fn closed(word: u64) -> u64 {
    let left = word - 1;
    if open_sections(left) == 0 { left.wrapping_add(ROUND) } else { left }
}

//! Physical memory of the host machine: pages that exist once something is stored in them. What nobody has stored reads as
//! poison that looks like a valid descriptor, so that a table that was not zeroed does harm.

use core::mem::MaybeUninit;
use std::collections::HashMap;

use crate::addr::PhysAddr;

const BYTES: u64 = 4096;
const WORDS: usize = 512;

/// The unit in which memory is kept, whatever the granule.
#[derive(Clone)]
#[repr(C, align(4096))]
pub(super) struct Page([u64; WORDS]);

impl Page {
    /// Pages for `bytes` bytes, one behind the other, with garbage in them.
    pub(super) fn fresh(bytes: u64) -> Vec<Self> {
        vec![Self([0xa5a5_a5a5_a5a5_a5a5; WORDS]); bytes.div_ceil(BYTES) as usize]
    }

    /// The bytes of all of `pages`.
    pub(super) const fn bytes(pages: &mut [Self]) -> &mut [MaybeUninit<u8>] {
        let bytes = size_of_val(pages);
        // SAFETY: the slice is borrowed exclusively and has that many bytes; pages are words without padding, and every
        // pattern of bits is a word. Whoever writes through it writes whole struct pages, which have no padding either.
        unsafe { core::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), bytes) }
    }
}

/// All of memory.
#[derive(Default)]
pub(super) struct Physical {
    pages: HashMap<u64, Box<Page>>,
}

impl Physical {
    pub(super) fn load(&self, word: PhysAddr) -> u64 {
        self.pages.get(&(word.value() / BYTES)).map_or_else(|| poison(word.value()), |page| page.0[index(word)])
    }

    pub(super) fn store(&mut self, word: PhysAddr, value: u64) {
        let number = word.value() / BYTES;
        let poisoned = || Box::new(Page(core::array::from_fn(|at| poison(number * BYTES + at as u64 * 8))));
        self.pages.entry(number).or_insert_with(poisoned).0[index(word)] = value;
    }

    /// `count` words from `first` on.
    pub(super) fn words(&self, first: PhysAddr, count: u64) -> Vec<u64> {
        let mut words = Vec::with_capacity(count as usize);
        let mut at = first;
        while words.len() < count as usize {
            let here = (WORDS - index(at)).min(count as usize - words.len());
            match self.pages.get(&(at.value() / BYTES)) {
                Some(page) => words.extend_from_slice(&page.0[index(at)..][..here]),
                None => words.extend((0..here as u64).map(|word| poison(at.value() + word * 8))),
            }
            at = at.add(here as u64 * 8);
        }
        words
    }

    pub(super) fn zero(&mut self, start: PhysAddr, bytes: u64) {
        (0..bytes).step_by(8).for_each(|offset| self.store(start.add(offset), 0));
    }

    /// Puts the first `bytes` bytes of `pages` where `start` is.
    pub(super) fn place(&mut self, start: PhysAddr, pages: Vec<Page>, bytes: u64) {
        let first = start.value() / BYTES;
        if start.is_aligned(BYTES) && bytes.is_multiple_of(BYTES) {
            self.pages.extend((first..).zip(pages.into_iter().map(Box::new)));
        } else {
            let words = pages.iter().flat_map(|page| page.0).take(bytes as usize / 8);
            (0..).zip(words).for_each(|(index, word)| self.store(start.add(index * 8), word));
        }
    }

    /// Forgets what is there: it reads as poison.
    pub(super) fn spoil(&mut self, start: PhysAddr, bytes: u64) {
        let first = start.value() / BYTES;
        (first..first + bytes.div_ceil(BYTES)).for_each(|number| drop(self.pages.remove(&number)));
    }
}

const fn index(word: PhysAddr) -> usize {
    (word.value() % BYTES / 8) as usize
}

/// A table or page descriptor, or a block in every other word, that points somewhere.
const fn poison(address: u64) -> u64 {
    0x00e8_0000_0000_0701 | (address >> 3 & 1) << 1 | address & 0x0000_ffff_ffff_0000
}

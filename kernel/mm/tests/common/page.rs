//! Struct pages of 16, 32, 64 and 128 bytes, in which every word says whose it is.

use vmemmap::addr::Pfn;
use vmemmap::meta::{Meta, Role};

/// A struct page of `WORDS` words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Page<const WORDS: usize>([u64; WORDS]);

/// Word `index` of the struct page of frame `pfn`.
pub const fn word(pfn: u64, role: Role, index: u64) -> u64 {
    pfn << 16 | (role as u64) << 8 | index << 4 | 5
}

// SAFETY: an array of words, without padding, aligned to 8; sizes are checked by `struct_page_shift`.
unsafe impl<const WORDS: usize> Meta for Page<WORDS> {
    fn new(pfn: Pfn, role: Role) -> Self {
        Self(core::array::from_fn(|index| word(pfn.number(), role, index as u64)))
    }
}

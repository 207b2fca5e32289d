//! The struct pages themselves, page by page of the vmemmap, by their addresses alone: initialised for what their pfns
//! are, each page in memory of its own, and the same memory through the linear map. Nothing here asks the library which
//! leaves there are.

use alloc::format;

use vmemmap::addr::{Pfn, PhysRange, VirtAddr};
use vmemmap::layout::Layout;
use vmemmap::meta::StructPage;
use vmemmap::vmemmap::Storage;
use vmemmap_aarch64::translate;

use super::{Failures, books::MOST_FAILURES};
use crate::exceptions::probe;

/// The last word of a struct page of ours, [`StructPage::private`]: its owner's to write, zero at first.
const PRIVATE_OFFSET: u64 = 56;

/// A range of device memory that has been added, as its struct pages should be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Where struct pages and the linear map are.
    pub layout: &'a Layout,
    /// The range.
    pub range: PhysRange,
    /// Where its struct pages are kept.
    pub storage: &'a Storage,
}

impl Expected<'_> {
    /// Looks at the range's first and last struct page in each page of the vmemmap; writes a pattern of its own into each
    /// page, all of them before any is read back through the linear map; then the other way round. What was there is put
    /// back. Returns how many pages of the vmemmap were right.
    pub fn check(&self, failures: &mut Failures) -> u64 {
        let wrong = failures.len();
        let mut bad = 0;
        let mut note = |va: VirtAddr, what: &str| {
            bad += 1;
            if failures.len() < wrong + MOST_FAILURES {
                failures.push(format!("the struct pages at {va}: {what}"));
            }
        };
        for va in self.pages() {
            if let Err(what) = self.is_initialised(va).and_then(|()| put(va, 0, pattern(va))) {
                note(va, what);
            }
        }
        for va in self.pages() {
            if let Err(what) = self.is_own_memory(va) {
                note(va, what);
            }
        }
        for va in self.pages() {
            if let Err(what) = put(va, !pattern(va), 0) {
                note(va, what);
            }
        }
        (self.pages().count() as u64).saturating_sub(bad)
    }

    /// The range's first struct page in each page of the vmemmap.
    fn pages(&self) -> impl Iterator<Item = VirtAddr> + use<> {
        let memmap = self.layout.pages(self.range);
        let page = self.layout.granule().bytes();
        core::iter::successors(Some(memmap.start()), move |va| Some(va.align_down(page).add(page)))
            .take_while(move |va| va.since(memmap.start()) < memmap.bytes())
    }

    fn is_initialised(&self, va: VirtAddr) -> Result<(), &'static str> {
        let end = va.align_down(self.layout.granule().bytes()).add(self.layout.granule().bytes());
        let last = end.min(self.layout.pages(self.range).end()).add(self.layout.struct_page_bytes().wrapping_neg());
        for page in [va, last] {
            let flags = probe::load(page).map_err(|_| "not mapped")?;
            if flags != self.flags(self.layout.pfn(page)) {
                return Err("wrong flags: not initialised for what the pfn is");
            }
        }
        Ok(())
    }

    fn flags(&self, pfn: Pfn) -> u64 {
        let aside = self.storage.altmap().is_some_and(|altmap| pfn < altmap.storage().1);
        StructPage::DEVICE | if aside { StructPage::RESERVED } else { 0 }
    }

    /// The pattern written through the vmemmap is where the MMU says that the frame is, and back.
    fn is_own_memory(&self, va: VirtAddr) -> Result<(), &'static str> {
        let frame = translate(va.add(PRIVATE_OFFSET)).map_err(|_| "not translated")?;
        let linear = self.layout.linear_address(frame);
        if probe::load(linear) != Ok(pattern(va)) {
            return Err("the linear map shows other memory, or two pages share a frame");
        }
        // SAFETY: the word is the struct page's own, which nobody else holds yet.
        unsafe { probe::store(linear, !pattern(va)) }.map_err(|_| "read-only in the linear map")
    }
}

/// Replaces the owner's word of the struct page at `va`, which must be `before`.
fn put(va: VirtAddr, before: u64, after: u64) -> Result<(), &'static str> {
    let word = va.add(PRIVATE_OFFSET);
    if probe::load(word) != Ok(before) {
        return Err("its owner's word is not what was put there");
    }
    // SAFETY: as above.
    unsafe { probe::store(word, after) }.map_err(|_| "read-only")
}

/// A value of its own for each page of the vmemmap.
const fn pattern(va: VirtAddr) -> u64 {
    va.value().rotate_left(17) ^ 0x5bd1_e995_9d2c_5680
}

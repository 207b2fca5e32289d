//! A range that has been added: what its owner holds, and gives back to remove it.

use super::Request;
use crate::addr::{PhysAddr, PhysRange};
use crate::vmemmap::{Memmap, Populated, Storage};

/// A live range of device memory. Dropping it leaves the memory added for ever, which is safe.
#[derive(Debug)]
#[must_use = "dropping a region leaves its memory added for ever; give it to Hotplug::remove"]
pub struct Region {
    pub(super) request: Request,
    pub(super) populated: Populated,
    /// The section records of the memory map that it belongs to.
    pub(super) owner: PhysAddr,
}

impl Region {
    /// The physical range.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        self.request.range
    }

    /// Where its struct pages are.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        self.populated.storage()
    }

    /// Its vmemmap.
    #[must_use]
    pub const fn memmap(&self) -> &Memmap {
        self.populated.memmap()
    }
}

/// What came back from a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The altmap as it was before the range was added, if there was one.
    pub storage: Storage,
    /// Tables freed.
    pub tables_freed: u64,
}

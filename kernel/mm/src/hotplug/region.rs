//! A range that has been added: what its owner holds, and gives back to remove it.

use super::Request;
use crate::addr::PhysRange;
use crate::layout::Layout;
use crate::vmemmap::{Memmap, Storage};

/// A live range of device memory. Dropping it leaves the memory added for ever, which is safe.
#[derive(Debug)]
#[must_use = "dropping a region leaves its memory added for ever; give it to Hotplug::remove"]
pub struct Region(pub(super) Request);

impl Region {
    /// The physical range.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        self.0.range
    }

    /// Where its struct pages are.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Its vmemmap.
    #[must_use]
    pub fn memmap(&self, layout: &Layout) -> Memmap {
        Memmap::new(layout, self.0.range, self.0.policy).stored_in(&self.0.storage)
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

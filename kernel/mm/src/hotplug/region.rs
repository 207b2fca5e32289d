//! A range that has been added: what its owner holds, and gives back to remove it.

use super::RangeKind;
use super::request::Ask;
use crate::addr::{PhysAddr, PhysRange};
use crate::lifetime::State;
use crate::regions::Name;
use crate::vmemmap::{Memmap, Populated, Storage};

/// A live range of device memory. Dropping it leaves the memory added for ever, which is safe:
/// [`Hotplug::regions`](super::Hotplug::regions) still lists it.
#[derive(Debug)]
#[must_use = "dropping a region leaves its memory added for ever; give it to Hotplug::remove"]
pub struct Region {
    pub(super) ask: Ask,
    pub(super) populated: Populated,
    /// The section records of the memory map that it belongs to.
    pub(super) owner: PhysAddr,
    pub(super) name: Name,
}

impl Region {
    /// The physical range.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        self.ask.range
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> RangeKind {
        self.ask.kind
    }

    /// Where its struct pages are.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        self.populated.storage()
    }

    /// Its vmemmap: empty where boot's struct pages serve it.
    #[must_use]
    pub const fn memmap(&self) -> &Memmap {
        self.populated.memmap()
    }
}

/// A range of the registry: also one whose [`Region`] was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The physical range.
    pub range: PhysRange,
    /// How many references to it are held, and whether it takes new ones.
    pub state: State,
    /// The range in whose altmap its struct pages are: itself, or its host. `None` if they are in RAM.
    pub stored_in: Option<PhysRange>,
}

/// What came back from a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The altmap as it was before the range was added, if there was one.
    pub storage: Storage,
    /// Tables freed, whichever range had needed them first.
    pub tables_freed: u64,
}

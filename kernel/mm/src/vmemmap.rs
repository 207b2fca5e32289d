//! The seed: populate and depopulate the vmemmap of a range, with its struct pages in the range's altmap or in RAM.
//!
//! Usable on its own, below [`hotplug`](crate::hotplug): a kernel that keeps its own books of sections only needs
//! [`populate`] and [`depopulate`]. The counterpart in Linux is `vmemmap_populate_basepages()` and `vmemmap_free()`.

mod chunks;
mod memmap;
mod serve;
mod steps;
#[cfg(test)]
mod tests;
mod work;
#[cfg(test)]
mod work_tests;

pub use chunks::Chunks;
pub use memmap::{Memmap, Shared};
pub(crate) use steps::{Reservation, initialise_within};
pub use work::Work;

use crate::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::altmap::{Altmap, AltmapTooSmall};
use crate::descriptor::{Attributes, TableAttributes};
use crate::frames::OutOfFrames;
use crate::granule::Granule;
use crate::leaf::Stretches;
use crate::seam::{Frames, Machine};
use crate::table::{Occupied, Protection, Tables};

/// How vmemmap leaves and the tables made for them are written; leaves otherwise where the layout
/// [says so](crate::layout::Layout::attributes).
pub const PROTECTION: Protection = Protection { leaf: Attributes::KERNEL, table: TableAttributes::MEMMAP.owned() };

/// The same for boot RAM, whose tables are never freed.
pub const EARLY_PROTECTION: Protection = Protection { leaf: Attributes::KERNEL, table: TableAttributes::MEMMAP };

/// Why a vmemmap can't be where it was to go. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MemmapError {
    /// Its struct pages, or the rest of its first or last page, are outside of the layout's window.
    #[error("the pages with the struct pages {va} are not inside the vmemmap window {window}; choose another range")]
    Window {
        /// Where the struct pages would be.
        va: VirtRange,
        /// The layout's window.
        window: VirtRange,
    },
    /// The window is in use.
    #[error("vmemmap: {0}")]
    Occupied(#[from] Occupied),
    /// An edge page that others are said to use is not mapped.
    #[error(
        "the vmemmap page {page} is said to be shared, but is not mapped; populate it, or say that it is not shared"
    )]
    NotShared {
        /// The page.
        page: VirtAddr,
    },
    /// The altmap can't hold it.
    #[error(transparent)]
    Altmap(#[from] AltmapTooSmall),
    /// The altmap holds something already: it serves one range at a time.
    #[error("{alloc} frames of the altmap are handed out; give a fresh one, an altmap serves one range at a time")]
    AltmapInUse {
        /// Frames handed out.
        alloc: u64,
    },
}

/// Why a vmemmap can't be populated. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PopulateError {
    /// It can't be there.
    #[error(transparent)]
    Memmap(#[from] MemmapError),
    /// It is for sections of boot RAM, in which device memory was added before.
    #[error("{live} was added in the sections {range} before their RAM; add boot RAM first")]
    Added {
        /// The sections.
        range: PhysRange,
        /// The range that is there.
        live: PhysRange,
    },
    /// RAM can't hold it, or its tables.
    #[error(transparent)]
    Frames(#[from] OutOfFrames),
}

/// Where the struct pages of a range are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In the range's altmap.
    Altmap(Altmap),
    /// In frames of RAM.
    Ram,
}

impl Storage {
    /// The altmap as it stands, if there is one.
    #[must_use]
    pub const fn altmap(&self) -> Option<Altmap> {
        match self {
            Self::Altmap(altmap) => Some(*altmap),
            Self::Ram => None,
        }
    }

    /// The same with nothing handed out.
    #[inline]
    pub(crate) const fn emptied(self) -> Self {
        match self {
            Self::Altmap(altmap) => Self::Altmap(altmap.emptied()),
            Self::Ram => Self::Ram,
        }
    }
}

/// A vmemmap that is populated: to be given back to [`depopulate`].
#[derive(Debug)]
#[must_use = "dropping it leaves the vmemmap populated for ever; give it to depopulate"]
pub struct Populated {
    memmap: Memmap,
    storage: Storage,
    tables: u64,
    /// Of the tables that it is in.
    root: PhysAddr,
}

impl Populated {
    pub(crate) const fn new(memmap: Memmap, storage: Storage, tables: u64, root: PhysAddr) -> Self {
        Self { memmap, storage, tables, root }
    }

    /// The vmemmap, with the leaves that its storage allowed.
    #[must_use]
    pub const fn memmap(&self) -> &Memmap {
        &self.memmap
    }

    /// Where its struct pages are, as it stands now.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Tables that it took.
    #[must_use]
    pub const fn tables(&self) -> u64 {
        self.tables
    }
}

/// Populates a vmemmap: every struct page mapped, none initialised yet.
///
/// The frames of an altmap must be nobody else's: that is the caller's to know.
///
/// # Errors
///
/// [`PopulateError`] if it can't be there, something is mapped there already, or the altmap or RAM can't hold it; then
/// nothing changed.
pub fn populate<M: Machine, F: Frames>(
    tables: &mut Tables<M>,
    frames: &mut F,
    memmap: Memmap,
    mut storage: Storage,
) -> Result<Populated, PopulateError> {
    let memmap = memmap.stored_in(&storage);
    let missing = memmap.check(tables, &storage)?;
    let taken = memmap.reserve(tables.machine_mut(), frames, missing, &storage)?;
    memmap.map(tables, &mut storage, taken).give_back(tables.machine_mut(), frames);
    Ok(Populated::new(memmap, storage, missing, tables.root()))
}

/// Takes away what [`populate`] made: clears every leaf, one batch of TLB invalidations, gives frames back to where they
/// came from, frees the tables that are empty now. Edge pages that others use by now (`shared`) stay. Returns the storage as
/// it was before, and how many tables were freed.
///
/// No pfn of the range may be valid any more: another CPU that touches a struct page now takes a fault.
///
/// # Safety
///
/// `frames` must be the allocator that it was populated with, and `shared` must name every edge page that holds struct pages of
/// others.
///
/// # Panics
///
/// If it was populated in other tables.
#[allow(clippy::needless_pass_by_value, reason = "the token ends here")]
pub unsafe fn depopulate<M: Machine, F: Frames>(
    tables: &mut Tables<M>,
    frames: &mut F,
    populated: Populated,
    shared: Shared,
) -> (Storage, u64) {
    // SAFETY: the caller's promise.
    let freed = unsafe { populated.take_away(tables, frames, shared) };
    (populated.storage.emptied(), freed)
}

impl Populated {
    /// [`depopulate`], with the token still there; returns how many tables were freed.
    ///
    /// # Safety
    ///
    /// As there, and it is done once.
    pub(crate) unsafe fn take_away<M: Machine, F: Frames>(
        &self,
        tables: &mut Tables<M>,
        frames: &mut F,
        shared: Shared,
    ) -> u64 {
        assert!(self.root == tables.root(), "a vmemmap of the tables at {}, not of these", self.root);
        let memmap = self.memmap.beside(shared);
        match &self.storage {
            Storage::Altmap(altmap) => {
                if memmap.own_edge_count() == 0 {
                    tables.unmap(memmap.interior_stretches());
                } else {
                    tables.unmap_frames(memmap.interior_stretches(), memmap.edge_stretches(), frames);
                }
                if let Some(used) = altmap.in_use(M::Granule::SIZE) {
                    tables.machine_mut().freed(used);
                }
            }
            Storage::Ram => tables.unmap_frames(Stretches::NONE, memmap.stretches(), frames),
        }
        tables.prune(memmap.stretches(), frames)
    }
}

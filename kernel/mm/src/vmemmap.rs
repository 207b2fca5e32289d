//! The seed: populate and depopulate the vmemmap of a range, with its struct pages in the range's altmap or in RAM.
//!
//! Usable on its own, below [`hotplug`](crate::hotplug): a kernel that keeps its own books of sections only needs
//! [`populate`] and [`depopulate`]. The counterpart in Linux is `vmemmap_populate_basepages()` and `vmemmap_free()`.

mod memmap;
mod steps;
#[cfg(test)]
mod tests;

pub use memmap::Memmap;
pub(crate) use steps::Reservation;

use crate::altmap::{Altmap, AltmapTooSmall};
use crate::descriptor::{Attributes, TableAttributes};
use crate::frames::OutOfFrames;
use crate::seam::{Frames, Machine};
use crate::table::{Occupied, Protection, Tables};

/// How vmemmap leaves and the tables made for them are written.
pub const PROTECTION: Protection = Protection { leaf: Attributes::KERNEL, table: TableAttributes::MEMMAP.owned() };

/// The same for boot RAM, whose tables are never freed.
pub const EARLY_PROTECTION: Protection = Protection { leaf: Attributes::KERNEL, table: TableAttributes::MEMMAP };

/// Why a vmemmap can't be populated. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PopulateError {
    /// The window is in use.
    #[error(transparent)]
    Occupied(#[from] Occupied),
    /// The altmap can't hold it.
    #[error(transparent)]
    Altmap(#[from] AltmapTooSmall),
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
}

/// Populates the vmemmap of a range: every struct page mapped, none initialised yet. Returns the tables that it took
/// from `frames`.
///
/// `storage` is updated as frames are handed out; keep it for [`depopulate`].
///
/// # Errors
///
/// [`PopulateError`] if something is mapped there already, or the altmap or RAM can't hold it; then nothing changed.
pub fn populate<M: Machine, F: Frames>(
    tables: &mut Tables<M>,
    frames: &mut F,
    memmap: Memmap,
    storage: &mut Storage,
) -> Result<u64, PopulateError> {
    let memmap = memmap.stored_in(storage);
    let missing = memmap.check(tables, storage)?;
    let taken = memmap.reserve(tables.machine_mut(), frames, missing, storage)?;
    memmap.map(tables, storage, taken).give_back(tables.machine_mut(), frames);
    Ok(missing)
}

/// Takes away what [`populate`] made, with the same `memmap`: clears every leaf, one batch of TLB invalidations, gives
/// frames back to where they came from, frees the tables that are empty now. Returns how many tables were freed.
///
/// No pfn of the range may be valid any more: another CPU that touches a struct page now takes a fault.
pub fn depopulate<M: Machine, F: Frames>(
    tables: &mut Tables<M>,
    frames: &mut F,
    memmap: Memmap,
    storage: &mut Storage,
) -> u64 {
    let memmap = memmap.stored_in(storage);
    match storage {
        Storage::Altmap(altmap) => {
            tables.unmap(memmap.stretches());
            *altmap = altmap.emptied();
        }
        Storage::Ram => tables.unmap_frames(memmap.stretches(), frames),
    }
    tables.prune(memmap.range(), frames)
}

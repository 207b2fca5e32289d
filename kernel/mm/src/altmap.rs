//! The altmap: the part of a device range that holds the range's own vmemmap.
//!
//! Five numbers, all in frames, with Linux's names and meaning. An [`Altmap`] is taken by the range that it serves and
//! comes back from its removal as it was. How large it must be is [`Altmap::required`]; where the leaves of a memmap stand
//! in it is `pack`'s.

mod pack;

pub use pack::Placed;
pub(crate) use pack::{Gaps, Order};

use crate::addr::{Pfn, PhysAddr, PhysRange};
use crate::granule::{GranuleSize, SUBSECTION_BYTES};
use crate::seam::{Allocation, Source};

/// What a driver keeps at the start of its namespace, in bytes: nvdimm's info block.
const NVDIMM_RESERVE_BYTES: u64 = 8 << 10;

/// A storage zone for struct pages inside the range that they describe: frames `base + reserve` up to
/// `base + reserve + free`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Altmap {
    base: Pfn,
    end: Pfn,
    reserve: u64,
    free: u64,
    align: u64,
    alloc: u64,
}

/// The storage zone is too small for the struct pages of its range. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the altmap sets {free} frames aside and the vmemmap of the range needs {needed}; set at least that many aside"
)]
pub struct AltmapTooSmall {
    /// Frames set aside.
    pub free: u64,
    /// Frames needed, alignment included.
    pub needed: u64,
}

impl Altmap {
    /// An altmap for `range` whose first `reserve` frames belong to the driver and whose next `free` frames are for
    /// struct pages. Whether they fit into the range is checked when it is used.
    #[must_use]
    #[inline]
    pub const fn new(range: PhysRange, granule: GranuleSize, reserve: u64, free: u64) -> Self {
        let shift = granule.shift();
        let last = PhysAddr::new(range.end().value().saturating_sub(1));
        Self {
            base: Pfn::containing(range.start(), shift),
            end: Pfn::containing(last, shift),
            reserve,
            free,
            align: 0,
            alloc: 0,
        }
    }

    /// The altmap that libnvdimm makes for a namespace at `range` with 64-byte struct pages (`nd_pfn_init()`): 8 KiB of
    /// reserve rounded up to a frame, and storage up to a 2 MiB boundary.
    #[must_use]
    pub const fn nvdimm(range: PhysRange, granule: GranuleSize) -> Self {
        let page = granule.bytes();
        let reserve = NVDIMM_RESERVE_BYTES.div_ceil(page);
        let memmap = 64 * (range.bytes().saturating_sub(NVDIMM_RESERVE_BYTES) / page);
        let data = range.start().add(NVDIMM_RESERVE_BYTES + memmap).align_up(SUBSECTION_BYTES);
        Self::new(range, granule, reserve, (data.since(range.start()) / page).saturating_sub(reserve))
    }

    /// First pfn of the whole range.
    #[must_use]
    #[inline]
    pub const fn base_pfn(&self) -> Pfn {
        self.base
    }

    /// Last pfn of the range, inclusive.
    #[must_use]
    #[inline]
    pub const fn end_pfn(&self) -> Pfn {
        self.end
    }

    /// Frames at the start that are never handed out.
    #[must_use]
    #[inline]
    pub const fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Frames set aside for struct pages: a capacity.
    #[must_use]
    #[inline]
    pub const fn free(&self) -> u64 {
        self.free
    }

    /// Frames skipped for alignment.
    #[must_use]
    #[inline]
    pub const fn align(&self) -> u64 {
        self.align
    }

    /// Frames handed out.
    #[must_use]
    #[inline]
    pub const fn alloc(&self) -> u64 {
        self.alloc
    }

    /// Frames set aside that are neither handed out nor skipped.
    #[must_use]
    #[inline]
    pub const fn remaining(&self) -> u64 {
        self.free.saturating_sub(self.used())
    }

    /// First frame behind the reserve, and one past the last frame of the storage zone.
    #[must_use]
    #[inline]
    pub const fn storage(&self) -> (Pfn, Pfn) {
        let first = self.base.number().saturating_add(self.reserve);
        (Pfn::new(first), Pfn::new(first.saturating_add(self.free)))
    }

    /// The part of the storage zone that is in use, padding included, for observers; `None` if nothing is.
    #[inline]
    pub(crate) fn in_use(&self, granule: GranuleSize) -> Option<Allocation> {
        let start = self.storage().0.address(granule.shift());
        let frames = self.used();
        (frames > 0).then_some(Allocation { start, bytes: frames << granule.shift(), source: Source::Altmap })
    }

    /// The frames from `first` to `end` of it, with nothing handed out.
    #[inline]
    pub(crate) const fn from(self, first: Pfn, end: Pfn) -> Self {
        let reserve = first.number() - self.base.number();
        Self { reserve, free: end.number().saturating_sub(first.number()), align: 0, alloc: 0, ..self }
    }

    /// The same storage with nothing handed out.
    #[inline]
    pub(crate) const fn emptied(self) -> Self {
        Self { align: 0, alloc: 0, ..self }
    }

    /// The first frame that is neither handed out nor skipped.
    #[inline]
    pub(crate) const fn next(&self) -> Pfn {
        Pfn::new(self.storage().0.number().saturating_add(self.used()))
    }

    /// Frames handed out or skipped.
    #[inline]
    pub(crate) const fn used(&self) -> u64 {
        self.alloc + self.align
    }

    /// The same with what was placed from [`next`](Self::next) on.
    #[inline]
    pub(crate) const fn with(self, placed: Placed) -> Self {
        Self { alloc: self.alloc + placed.alloc, align: self.align + placed.align, ..self }
    }
}

#[cfg(test)]
mod tests;

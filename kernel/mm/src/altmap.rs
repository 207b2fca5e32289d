//! The altmap: the part of a device range that holds the range's own vmemmap.
//!
//! Five numbers, all in frames, with Linux's names and Linux's rule: a bump pointer expressed as two counters. An
//! [`Altmap`] is taken by the range that it serves and comes back from its removal as it was.

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
        self.free.saturating_sub(self.alloc + self.align)
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
    pub(crate) fn used(&self, granule: GranuleSize) -> Option<Allocation> {
        let start = self.storage().0.address(granule.shift());
        let frames = self.alloc + self.align;
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

    /// The same place with all the room in the world.
    #[inline]
    pub(crate) const fn with_room(self) -> Self {
        Self { free: u64::MAX >> 1, ..self.emptied() }
    }

    /// Hands out `count` blocks of `frames` frames each, one behind the other; the first frame of the first.
    ///
    /// Linux's rule, block by block: the candidate is `base + reserve + alloc + align`; it is moved up to a multiple of
    /// the largest power of two that divides `frames`; the frames skipped count as `align`. Consecutive blocks of the same
    /// size need no further padding. `None`, and nothing changed, if the storage zone is too small.
    #[inline]
    pub(crate) fn allocate(&mut self, frames: u64, count: u64) -> Option<Pfn> {
        let alignment = frames & frames.wrapping_neg();
        let used = self.reserve.checked_add(self.alloc)?.checked_add(self.align)?;
        let candidate = self.base.number().checked_add(used)?;
        let padding = candidate.checked_next_multiple_of(alignment)? - candidate;
        let total = frames.checked_mul(count)?;
        if total.checked_add(padding)? > self.remaining() {
            return None;
        }
        self.alloc += total;
        self.align += padding;
        Some(Pfn::new(candidate + padding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::leaf::LeafPolicy;
    use crate::vmemmap::Memmap;
    use GranuleSize::{K4, K16, K64};

    const GIB: u64 = 1 << 30;

    fn range(start: u64, bytes: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), bytes).unwrap()
    }

    fn fields(a: &Altmap) -> [u64; 6] {
        [a.base_pfn().number(), a.end_pfn().number(), a.reserve(), a.free(), a.alloc(), a.align()]
    }

    /// Fields before and after populate, measured on Linux for 1 GiB at 4 GiB.
    #[test]
    fn nvdimms_altmap_has_linuxs_fields_before_and_after() {
        let gib = range(0x1_0000_0000, GIB);
        let rows = [
            (K64, [0x10000, 0x13fff, 1, 31, 0, 0], [0x10000, 0x13fff, 1, 31, 16, 0]),
            (K16, [0x40000, 0x4ffff, 1, 383, 0, 0], [0x40000, 0x4ffff, 1, 383, 256, 0]),
            (K4, [0x10_0000, 0x13_ffff, 2, 4606, 0, 0], [0x10_0000, 0x13_ffff, 2, 4606, 4096, 510]),
        ];
        for (granule, before, after) in rows {
            let mut altmap = Altmap::nvdimm(gib, granule);
            assert_eq!(fields(&altmap), before, "{granule}");
            let layout = Layout::linux(granule, 48, 0x4000_0000);
            let memmap = Memmap::new(&layout, gib, LeafPolicy::Linux);
            memmap.allocate_from(&mut altmap, |_, _| ()).unwrap();
            assert_eq!(fields(&altmap), after, "{granule}");
        }
    }

    #[test]
    fn blocks_are_aligned_in_absolute_frames_and_padding_is_counted() {
        let mut altmap = Altmap::new(range(0x1000, GIB), K4, 0, 4096);
        assert_eq!(altmap.allocate(512, 2), Some(Pfn::new(512)));
        assert_eq!((altmap.align(), altmap.alloc(), altmap.remaining()), (511, 1024, 4096 - 1535));
        assert_eq!(altmap.allocate(1, 1), Some(Pfn::new(1536)), "single frames need no alignment");
    }

    #[test]
    fn an_exhausted_altmap_says_no_and_stays_as_it_was() {
        let mut altmap = Altmap::new(range(0, GIB), K4, 1, 600);
        let before = altmap;
        assert_eq!(altmap.allocate(512, 1), None, "511 of padding and 512 are more than 600");
        assert_eq!(altmap.allocate(u64::MAX, 2), None);
        let mut beyond = Altmap::new(range(0x1000, GIB), K4, u64::MAX, u64::MAX);
        assert_eq!(beyond.allocate(1, 1), None, "a reserve that wraps hands out nothing");
        assert_eq!(altmap, before);
        assert!(altmap.allocate(600, 1).is_none() && altmap.allocate(1, 600).is_some());
    }

    #[test]
    fn a_tight_altmap_is_exactly_large_enough() {
        for granule in GranuleSize::ALL {
            let layout = Layout::linux(granule, 48, 0x4000_0000);
            for policy in [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages] {
                for (reserve, bytes) in [(0, GIB), (1, GIB), (3, 5 * GIB), (0, 64 << 20)] {
                    let device = range(0x1_0000_0000, bytes);
                    let tight = Altmap::tight(&layout, device, policy, reserve);
                    let memmap = Memmap::new(&layout, device, policy);
                    assert!(memmap.allocate_from(&mut { tight }, |_, _| ()).is_ok());
                    let mut short = Altmap::new(device, granule, reserve, tight.free() - 1);
                    let error = memmap.allocate_from(&mut short, |_, _| ()).unwrap_err();
                    assert_eq!(error, AltmapTooSmall { free: tight.free() - 1, needed: tight.free() });
                    assert_eq!((short.alloc(), short.align()), (0, 0));
                }
            }
        }
    }
}

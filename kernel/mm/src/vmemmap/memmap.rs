//! The vmemmap of a range as arithmetic: its addresses, its leaves, the frames behind them.

use crate::addr::{Pfn, PhysRange, VirtRange};
use crate::altmap::{Altmap, AltmapTooSmall};
use crate::granule::Level;
use crate::layout::Layout;
use crate::leaf::{Leaf, LeafPolicy, LeafSizes, Stretch, Stretches};
use crate::table::Protection;
use crate::vmemmap::{EARLY_PROTECTION, PROTECTION, Storage};

/// The vmemmap of one range: where it is and with which leaves it is mapped. Pure arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct Memmap {
    pub(super) layout: Layout,
    va: VirtRange,
    policy: LeafPolicy,
    pub(super) protection: Protection,
}

impl Memmap {
    /// The vmemmap of `range`, which starts and ends where a page of vmemmap does
    /// ([`Layout::described_by_page`]).
    #[must_use]
    pub const fn new(layout: &Layout, range: PhysRange, policy: LeafPolicy) -> Self {
        Self { layout: *layout, va: layout.pages(range), policy, protection: PROTECTION }
    }

    /// The same for boot RAM: the tables made for it are never freed.
    #[must_use]
    pub const fn early(self) -> Self {
        Self { protection: EARLY_PROTECTION, ..self }
    }

    /// Its addresses.
    #[must_use]
    pub const fn range(&self) -> VirtRange {
        self.va
    }

    /// Its leaves, ascending.
    #[must_use]
    pub fn stretches(&self) -> Stretches {
        let granule = self.layout.granule();
        Stretches::new(granule, LeafSizes::memmap(granule, self.policy), self.va.start(), self.va.bytes(), 0)
    }

    /// The frames behind its leaves, from an altmap: `block(stretch, first frame)` for each stretch.
    ///
    /// In Linux's policies the stretches are served in ascending order, as Linux does. With the largest leaves, the
    /// large ones are served first, so that pages between them cost no padding.
    ///
    /// # Errors
    ///
    /// [`AltmapTooSmall`]; then `altmap` is as it was, though `block` has been called for what did fit.
    pub fn allocate_from(
        &self,
        altmap: &mut Altmap,
        mut block: impl FnMut(Stretch, Pfn),
    ) -> Result<(), AltmapTooSmall> {
        let granule = self.layout.granule();
        let mut left = *altmap;
        for stretch in self.in_serving_order() {
            let frames = stretch.leaf.bytes(granule) >> granule.shift();
            let Some(first) = left.allocate(frames, stretch.count) else {
                return Err(AltmapTooSmall { free: altmap.free(), needed: self.frames_needed(*altmap) });
            };
            block(stretch, first);
        }
        *altmap = left;
        Ok(())
    }

    /// Frames that an altmap with this base and reserve must set aside for it, padding included.
    #[must_use]
    pub fn frames_needed(&self, altmap: Altmap) -> u64 {
        let granule = self.layout.granule();
        let mut roomy = altmap.with_room();
        for stretch in self.in_serving_order() {
            let _ = roomy.allocate(stretch.leaf.bytes(granule) >> granule.shift(), stretch.count);
        }
        roomy.alloc() + roomy.align()
    }

    fn in_serving_order(&self) -> impl Iterator<Item = Stretch> {
        let large_first = self.policy == LeafPolicy::Largest;
        let large = move |stretch: &Stretch| large_first && stretch.leaf != Leaf::PAGE;
        self.stretches().filter(large).chain(self.stretches().filter(move |stretch| !large(stretch)))
    }
}

impl Memmap {
    /// Bytes of a block leaf at 4K: the only leaf of the vmemmap in RAM that is larger than a page.
    pub(super) const BLOCK_BYTES: u64 = 2 << 20;

    /// The leaves when the struct pages are in RAM: no contiguous runs, whose frames would have to be as large.
    fn in_ram(self) -> Self {
        let policy = if self.policy == LeafPolicy::Largest { LeafPolicy::Linux } else { self.policy };
        Self { policy, ..self }
    }

    /// The same memmap with the leaves that its storage allows.
    #[must_use]
    pub fn stored_in(self, storage: &Storage) -> Self {
        match storage {
            Storage::Altmap(_) => self,
            Storage::Ram => self.in_ram(),
        }
    }

    /// Leaves by kind: blocks, pages.
    pub(super) fn leaves(&self) -> (u64, u64) {
        self.stretches().fold((0, 0), |(blocks, pages), stretch| match stretch.leaf.level {
            Level::L3 => (blocks, pages + stretch.descriptors(self.layout.granule())),
            _ => (blocks + stretch.count, pages),
        })
    }
}

impl Altmap {
    /// The smallest altmap for `range` in `layout` with `policy`, after `reserve` frames for the driver.
    #[must_use]
    pub fn tight(layout: &Layout, range: PhysRange, policy: LeafPolicy, reserve: u64) -> Self {
        let empty = Self::new(range, layout.granule(), reserve, 0);
        let free = Memmap::new(layout, range, policy).frames_needed(empty);
        Self::new(range, layout.granule(), reserve, free)
    }
}

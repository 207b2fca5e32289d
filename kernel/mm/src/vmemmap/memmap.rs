//! The vmemmap of a range as arithmetic: its addresses and its leaves.

use crate::addr::{PhysRange, VirtRange};
use crate::granule::Level;
use crate::layout::Layout;
use crate::leaf::{LeafPolicy, LeafSizes, Stretches};
use crate::table::Protection;
use crate::vmemmap::{EARLY_PROTECTION, PROTECTION, Storage};

/// The vmemmap of one range: where it is and with which leaves it is mapped. Pure arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct Memmap {
    pub(super) layout: Layout,
    va: VirtRange,
    pub(super) policy: LeafPolicy,
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

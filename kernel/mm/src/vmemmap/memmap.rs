//! The vmemmap of a range as arithmetic: its addresses and its leaves.

use crate::addr::{PhysRange, VirtAddr, VirtRange};
use crate::granule::Level;
use crate::layout::Layout;
use crate::leaf::{LeafPolicy, LeafSizes, Stretches};
use crate::table::Protection;
use crate::vmemmap::{EARLY_PROTECTION, PROTECTION, Storage};

/// The vmemmap of one range: where it is and with which leaves it is mapped. Pure arithmetic.
///
/// A range may start or end in the middle of what one page of vmemmap describes. Such an *edge page* also holds struct pages
/// of other pfns: it is a page of RAM, never of the range's altmap, and lives as long as anything that it describes.
#[derive(Clone, Copy, Debug)]
pub struct Memmap {
    pub(super) layout: Layout,
    va: VirtRange,
    pub(super) policy: LeafPolicy,
    early: bool,
    shared: Shared,
}

/// Which edge pages of a memmap hold struct pages that others use at present: those are not this one's to map or to unmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shared {
    /// The page in which it starts.
    pub first: bool,
    /// The page in which it ends, if that is another.
    pub last: bool,
}

impl Memmap {
    /// The vmemmap of `range`, of whose edge pages nobody else uses any.
    #[must_use]
    pub const fn new(layout: &Layout, range: PhysRange, policy: LeafPolicy) -> Self {
        let shared = Shared { first: false, last: false };
        Self { layout: *layout, va: layout.pages(range), policy, early: false, shared }
    }

    /// The same beside others that use some of its edge pages.
    #[must_use]
    #[inline]
    pub const fn beside(self, shared: Shared) -> Self {
        Self { shared, ..self }
    }

    /// The same for boot RAM: the tables made for it are never freed.
    #[must_use]
    pub const fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// How its leaves and the tables made for them are written.
    #[inline]
    pub(super) const fn protection(&self) -> Protection {
        let all = if self.early { EARLY_PROTECTION } else { PROTECTION };
        Protection { leaf: self.layout.normal(), ..all }
    }

    /// Which of its edge pages others use.
    #[must_use]
    pub const fn shared(&self) -> Shared {
        self.shared
    }

    /// The addresses of its struct pages; those in edge pages too.
    #[must_use]
    pub const fn range(&self) -> VirtRange {
        self.va
    }

    /// Bytes of its first page that are its own, if it starts in the middle of it, and of its last.
    #[inline]
    const fn overhang(&self) -> (u64, u64) {
        let page = self.layout.granule().bytes();
        if self.va.bytes() == 0 {
            return (0, 0);
        }
        let (first, last) = (self.va.start().align_up(page).since(self.va.start()), self.va.end().value() & (page - 1));
        if self.va.bytes() < first + last { (self.va.bytes(), 0) } else { (first, last) }
    }

    /// Its pages that describe nothing else.
    #[must_use]
    #[inline]
    pub const fn interior(&self) -> VirtRange {
        let (first, last) = self.overhang();
        VirtRange::new(self.va.start().add(first), self.va.bytes() - first - last)
    }

    /// The page in which it starts, if that is an edge page, and the one in which it ends, if it is another.
    #[must_use]
    #[inline]
    pub const fn edges(&self) -> [Option<VirtAddr>; 2] {
        let page = self.layout.granule().bytes();
        let (first, last) = self.overhang();
        let start = if first > 0 { Some(self.va.start().align_down(page)) } else { None };
        let end = if last > 0 { Some(self.va.end().align_down(page)) } else { None };
        [start, end]
    }

    /// Those of its edge pages that nobody else uses.
    #[inline]
    pub(super) fn own_edges(&self) -> [Option<VirtAddr>; 2] {
        let [first, last] = self.edges();
        [first.filter(|_| !self.shared.first), last.filter(|_| !self.shared.last)]
    }

    /// How many edge pages it takes from RAM.
    #[inline]
    pub(crate) fn own_edge_count(&self) -> u64 {
        self.own_edges().iter().flatten().count() as u64
    }

    /// Those that others use.
    pub(super) fn shared_edges(&self) -> impl Iterator<Item = VirtAddr> {
        let [first, last] = self.edges();
        first.filter(|_| self.shared.first).into_iter().chain(last.filter(|_| self.shared.last))
    }

    /// The leaves that are its own to map and to unmap, ascending: all but the shared edge pages.
    #[must_use]
    #[inline]
    pub fn stretches(&self) -> Stretches {
        let [first, last] = self.own_edges();
        self.interior_stretches().between(first, last)
    }

    /// The leaves that its struct pages are in, ascending; shared edge pages too.
    #[must_use]
    pub fn all_stretches(&self) -> Stretches {
        let [first, last] = self.edges();
        self.interior_stretches().between(first, last)
    }

    /// The leaves of its interior, ascending.
    #[must_use]
    #[inline]
    pub const fn interior_stretches(&self) -> Stretches {
        let (granule, interior) = (self.layout.granule(), self.interior());
        Stretches::new(LeafSizes::memmap(granule, self.policy), interior.start(), interior.bytes(), 0)
    }

    /// The own edge pages alone.
    #[inline]
    pub(super) fn edge_stretches(&self) -> Stretches {
        let [first, last] = self.own_edges();
        Stretches::new(LeafSizes::memmap(self.layout.granule(), self.policy), self.va.start(), 0, 0)
            .between(first, last)
    }

    /// The addresses of the leaves that are its own, from the first to the last.
    pub(crate) fn mapped(&self) -> VirtRange {
        let (page, interior) = (self.layout.granule().bytes(), self.interior());
        let [first, last] = self.own_edges();
        // An interior without pages may stand in the middle of the only page.
        let start = first.unwrap_or(interior.start().align_up(page));
        let end = last.map_or(interior.end().align_up(page), |last| last.add(page));
        VirtRange::new(start, end.since(start))
    }

    /// The same for struct pages of its own only: `bytes` bytes from byte `first` on.
    pub(super) const fn part(&self, first: u64, bytes: u64) -> Self {
        Self { va: VirtRange::new(self.va.start().add(first), bytes), ..*self }
    }

    /// Whether it has no struct page at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.va.bytes() == 0
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

    /// Bytes of RAM behind its leaves.
    pub(crate) fn ram_bytes(&self, storage: &Storage) -> u64 {
        let (blocks, pages) = self.ram_leaves(storage);
        blocks * Self::BLOCK_BYTES + pages * self.layout.granule().bytes()
    }

    /// Leaves that need frames of RAM, by kind: blocks, pages.
    pub(super) fn ram_leaves(&self, storage: &Storage) -> (u64, u64) {
        let stretches = match storage {
            Storage::Ram => self.stretches(),
            Storage::Altmap(_) => self.edge_stretches(),
        };
        stretches.fold((0, 0), |(blocks, pages), stretch| match stretch.leaf.level {
            Level::L3 => (blocks, pages + stretch.descriptors(self.layout.granule())),
            _ => (blocks + stretch.count, pages),
        })
    }
}

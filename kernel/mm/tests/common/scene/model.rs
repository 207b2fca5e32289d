//! What is to be where, worked out afresh from the granule, the size of a struct page and what is there: which pages of the
//! vmemmap a range needs, whether others need them too, what its pfns are. Nothing here asks the library.

use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::{Meta, Role};

use super::super::geometry::{BOOT_RAM, MEMSTART};
use super::super::invariants::KERNEL;
use super::hotplug::overlap;
use super::{Added, RangeKind, Scene, Verdict};

/// Device-nGnRnE, read-write, never executable, less address and type.
const DEVICE_STRICT: u64 = 0x00e8_0000_0000_070c;

/// The pages of the vmemmap that hold the struct pages of a range.
pub(super) struct Pages {
    /// Those that describe nothing else: the first address, and bytes.
    pub interior: (u64, u64),
    /// The others, each by its address.
    pub edges: Vec<u64>,
}

impl<G: Granule, P: Meta> Scene<G, P> {
    /// Bytes of memory that a page of the vmemmap describes.
    pub(super) const fn described(&self) -> u64 {
        ((1 << self.form.shift) >> self.page_shift) << self.form.shift
    }

    /// Where the struct page of the frame at `pa` is.
    pub(super) fn struct_page(&self, pa: u64) -> u64 {
        let window = self.layout.vmemmap().start().value();
        window.wrapping_add((pa - MEMSTART) >> self.form.shift << self.page_shift)
    }

    /// The end of the section in which boot RAM lies, whose struct pages came with it.
    pub(super) const fn early_end(&self) -> u64 {
        if self.boot.is_some() { MEMSTART + (1 << self.row.granule.section_shift()) } else { MEMSTART }
    }

    /// The part of a range whose struct pages come and go with it.
    pub(super) fn own(&self, start: u64, bytes: u64) -> (u64, u64) {
        let from = start.max(self.early_end());
        (from, (start + bytes).saturating_sub(from))
    }

    /// The pages with the struct pages of `bytes` bytes from `start` on.
    pub(super) fn pages(&self, (start, bytes): (u64, u64)) -> Pages {
        let (unit, end) = (self.described(), start + bytes);
        let mut edges: Vec<_> = [start, end].into_iter().filter(|at| bytes > 0 && at % unit != 0).collect();
        for at in &mut edges {
            *at = self.struct_page(*at / unit * unit);
        }
        edges.dedup();
        let (from, to) = (start.next_multiple_of(unit), end / unit * unit);
        let interior = self.struct_page(from);
        Pages { interior: (interior, self.struct_page(to.max(from)) - interior), edges }
    }

    /// Whether a page of the vmemmap of one range is one of the other's.
    pub(super) fn pages_meet(&self, one: (u64, u64), other: (u64, u64)) -> bool {
        let unit = self.described();
        let whole = |(start, bytes): (u64, u64)| {
            let from = start / unit * unit;
            (from, (start + bytes).next_multiple_of(unit) - from)
        };
        one.1 > 0 && other.1 > 0 && overlap(whole(one), whole(other))
    }

    /// What is first in the way of memory for a new range.
    pub(super) fn in_the_way(&self, asked: (u64, u64)) -> Option<Verdict> {
        let ram = self.boot.map(|_| ((MEMSTART, BOOT_RAM), Verdict::BootRam));
        let added = self.added.iter().map(|added| (added.memory(), Verdict::Overlap));
        let met = ram.into_iter().chain(added).filter(|(memory, _)| overlap(asked, *memory));
        met.min_by_key(|((start, _), _)| *start).map(|(_, verdict)| verdict)
    }

    /// Whether struct pages of the part `own` would be where some have been populated without a hot-plug.
    pub(super) fn meets_bare(&self, own: (u64, u64)) -> bool {
        self.bare.iter().any(|bare| self.pages_meet(own, (bare.start, bare.bytes)))
    }

    /// How the linear map of a kind is written; `None` if nothing maps it.
    pub(super) const fn linear_attributes(&self, kind: RangeKind) -> Option<u64> {
        match kind {
            RangeKind::Device => Some(self.form.attributes(KERNEL)),
            RangeKind::PeerToPeer => Some(self.form.attributes(DEVICE_STRICT)),
            RangeKind::Private => None,
        }
    }

    /// Whether what is left of a host's altmap holds so many pages of the vmemmap; `None` if that hangs on how much of it is
    /// lost to the alignment of large leaves.
    pub(super) fn fits(&self, host: &Added, pages: u64, policy: LeafPolicy) -> Option<bool> {
        /// No alignment of two sizes of leaves loses more frames.
        const MOST_LOST: u64 = 1024;
        let (first, end) = host.given.expect("it has an altmap").storage();
        let mut taken: Vec<_> =
            self.added.iter().filter(|added| added.lives_in(host)).map(Added::frames_taken).collect();
        taken.sort_unstable();
        taken.push((end.number(), 0));
        let mut at = first.number();
        let mut gap = 0;
        for (start, frames) in taken {
            gap = gap.max(start.saturating_sub(at));
            at = at.max(start + frames);
        }
        let lost = if policy == LeafPolicy::Pages { 0 } else { MOST_LOST };
        match gap {
            _ if pages == 0 || gap >= pages + lost => Some(true),
            _ if gap < pages => Some(false),
            _ => None,
        }
    }

    /// What a pfn is to its owner, by its address.
    pub(super) fn role(&self, pa: u64) -> Role {
        let owner = self.added.iter().find(|added| overlap(added.memory(), (pa, 1)));
        owner.map_or(Role::Ram, |added| added.role(pa >> self.form.shift))
    }
}

impl Added {
    pub(super) const fn memory(&self) -> (u64, u64) {
        (self.start, self.bytes)
    }

    /// Whether its struct pages are in the altmap of `host`, which may be itself.
    pub(super) fn lives_in(&self, host: &Self) -> bool {
        self.stored_in() == Some(host.start)
    }

    /// The range in whose altmap it has frames: where all of its struct pages are in edge pages, that is none.
    pub(super) fn stored_in(&self) -> Option<u64> {
        let has_frames = self.altmap.is_some_and(|altmap| altmap.alloc() > 0);
        has_frames.then(|| self.host.unwrap_or(self.start))
    }

    /// The frames of an altmap that it has, padding included: the first, and how many.
    fn frames_taken(&self) -> (u64, u64) {
        let altmap = self.altmap.expect("it lives in an altmap");
        (altmap.storage().0.number(), altmap.alloc() + altmap.align())
    }

    fn role(&self, pfn: u64) -> Role {
        let end =
            |frames: fn(&Altmap) -> u64| self.given.map_or(0, |altmap| altmap.base_pfn().number() + frames(&altmap));
        match self.kind {
            RangeKind::Private => Role::Private,
            _ if pfn < end(Altmap::reserve) => Role::Reserve,
            _ if pfn < end(|altmap| altmap.reserve() + altmap.free()) => Role::Altmap,
            _ => Role::Device,
        }
    }
}

//! The frames behind a memmap's leaves when they come from an interval of device memory: how many, and which.

use crate::addr::{Pfn, PhysRange};
use crate::altmap::{Altmap, AltmapTooSmall, Gaps, Order, Placed};
use crate::layout::Layout;
use crate::leaf::{Leaf, LeafCounts, LeafPolicy, LeafSizes, Stretch};
use crate::vmemmap::Memmap;

/// In which order leaves fit into an interval of frames, and what they take of it.
pub(super) struct Fit {
    order: Order,
    pub(super) placed: Placed,
}

impl Memmap {
    /// The frames behind its leaves, from an altmap: `block(leaves, first frame)` for each part of a stretch whose frames
    /// are one behind the other. [`place`](Self::place) says in which order.
    ///
    /// # Errors
    ///
    /// [`AltmapTooSmall`]; then `altmap` is as it was and `block` has not been called.
    pub fn allocate_from(&self, altmap: &mut Altmap, block: impl FnMut(Stretch, Pfn)) -> Result<(), AltmapTooSmall> {
        match self.place(altmap.next(), altmap.remaining(), block) {
            Some(placed) => *altmap = altmap.with(placed),
            None => return Err(self.too_small(altmap)),
        }
        Ok(())
    }

    /// The altmap as [`allocate_from`](Self::allocate_from) will leave it.
    pub(crate) fn placed_in(&self, altmap: &Altmap) -> Option<Altmap> {
        Some(altmap.with(self.fit(altmap.next(), altmap.remaining())?.placed))
    }

    /// Frames that it needs at the least of an interval that starts at `first`.
    pub(crate) const fn required_from(&self, first: Pfn) -> u64 {
        self.packed(first).extent()
    }

    /// Whether [`allocate_from`](Self::allocate_from) will find room.
    pub(crate) fn fits_into(&self, altmap: &Altmap) -> Result<(), AltmapTooSmall> {
        let fit = self.fit(altmap.next(), altmap.remaining());
        fit.map(|_| ()).ok_or_else(|| self.too_small(altmap))
    }

    fn too_small(&self, altmap: &Altmap) -> AltmapTooSmall {
        let needed = altmap.used().saturating_add(self.required_from(altmap.next()));
        AltmapTooSmall { free: altmap.free(), needed }
    }

    /// The frames behind its leaves, from the `frames` frames at `first`: `block(leaves, first frame)` for each part of a
    /// stretch whose frames are one behind the other. `None`, and no call, if they are too few in any order.
    ///
    /// In Linux's policies leaves are served in ascending order, as Linux does, where that fits. Otherwise the largest come
    /// first and the smaller ones fill the gaps, from the lowest up: no order takes less.
    pub fn place(&self, first: Pfn, frames: u64, block: impl FnMut(Stretch, Pfn)) -> Option<Placed> {
        let fit = self.fit(first, frames)?;
        self.place_as(first, &fit, block)?;
        Some(fit.placed)
    }

    /// The same where it is known to fit, and how.
    #[inline]
    pub(super) fn place_as(&self, first: Pfn, fit: &Fit, mut block: impl FnMut(Stretch, Pfn)) -> Option<()> {
        let mut gaps = Gaps::new(fit.order, first, fit.placed.extent());
        match fit.order {
            Order::Ascending => {
                self.interior_stretches().try_for_each(|stretch| self.serve(stretch, &mut gaps, &mut block))
            }
            Order::Packed => {
                let mut kinds = self.counts();
                while let Some((leaf, count)) = kinds.next_kind() {
                    self.serve_kind(leaf, count, &mut gaps, &mut block)?;
                }
                Some(())
            }
        }
    }

    /// All `count` leaves of one kind, ascending.
    fn serve_kind(&self, leaf: Leaf, count: u64, gaps: &mut Gaps, block: &mut impl FnMut(Stretch, Pfn)) -> Option<()> {
        let mut left = count;
        for stretch in self.interior_stretches() {
            if left == 0 {
                break;
            }
            if stretch.leaf == leaf {
                left -= stretch.count;
                self.serve(stretch, gaps, block)?;
            }
        }
        Some(())
    }

    /// One stretch, in as many parts as it takes.
    fn serve(&self, stretch: Stretch, gaps: &mut Gaps, block: &mut impl FnMut(Stretch, Pfn)) -> Option<()> {
        let granule = self.layout.granule();
        let mut rest = stretch;
        while rest.count > 0 {
            let (first, count) = gaps.take(stretch.leaf.bytes(granule) >> granule.shift(), rest.count)?;
            let (part, behind) = rest.split_at(count, granule);
            block(part, first);
            rest = behind;
        }
        Some(())
    }

    /// How it fits into the `frames` frames at `first`.
    pub(super) fn fit(&self, first: Pfn, frames: u64) -> Option<Fit> {
        let frames = frames.min(u64::MAX - first.number());
        let linux = || Fit { order: Order::Ascending, placed: self.ascending(first) };
        let fits = |fit: &Fit| fit.placed.extent() <= frames;
        let linux = (self.policy != LeafPolicy::Largest).then(linux).filter(fits);
        linux.or_else(|| Some(Fit { order: Order::Packed, placed: self.packed(first) }).filter(fits))
    }

    fn ascending(&self, first: Pfn) -> Placed {
        let granule = self.layout.granule();
        self.interior_stretches().fold(Placed::NOTHING, |placed, stretch| {
            placed.behind(first, stretch.leaf.bytes(granule) >> granule.shift(), stretch.count)
        })
    }

    /// What it takes of an interval that starts at `first`, at the least.
    #[inline]
    const fn packed(&self, first: Pfn) -> Placed {
        let granule = self.layout.granule();
        let mut counts = self.counts();
        let mut placed = Placed::NOTHING;
        while let Some((leaf, count)) = counts.next_kind() {
            placed = placed.packed(first, leaf.bytes(granule) >> granule.shift(), count);
        }
        placed
    }

    /// The leaves of its interior by kind.
    #[must_use]
    #[inline]
    pub const fn counts(&self) -> LeafCounts {
        LeafSizes::memmap(self.layout.granule(), self.policy).counts(self.interior())
    }
}

impl Altmap {
    /// Frames that an altmap for `range` must set aside behind `reserve` frames for the driver, in `layout` with `policy`:
    /// that many do, and one fewer does not. 2^64 − 1 if the reserve leaves no frames at all.
    ///
    /// (Fewer do where boot has brought struct pages for part of the range: see
    /// [`Hotplug::tight_altmap`](crate::hotplug::Hotplug::tight_altmap).)
    ///
    /// They hold the struct pages of the range's [`interior`](Layout::interior); the other pages of its vmemmap describe
    /// memory of others too and come from RAM.
    #[must_use]
    pub const fn required(layout: &Layout, range: PhysRange, policy: LeafPolicy, reserve: u64) -> u64 {
        let first = Self::new(range, layout.granule(), reserve, 0).next();
        let needed = Memmap::new(layout, range, policy).required_from(first);
        if needed > u64::MAX - first.number() { u64::MAX } else { needed }
    }

    /// The smallest altmap for `range` in `layout` with `policy`, after `reserve` frames for the driver: it sets
    /// [`required`](Self::required) frames aside.
    #[must_use]
    pub const fn tight(layout: &Layout, range: PhysRange, policy: LeafPolicy, reserve: u64) -> Self {
        Self::new(range, layout.granule(), reserve, Self::required(layout, range, policy, reserve))
    }
}

//! What readers of the memory map hold: a view that writes nothing shared, and references that keep struct pages mapped.

use super::Hotplug;
use crate::addr::{Pfn, PhysRange};
use crate::granule::GranuleSize;
use crate::lifetime;
use crate::regions::{Regions, Slot};
use crate::seam::Memory;
use crate::section::Sections;

/// A reader's view of a memory map, for any CPU, while the memory map changes.
#[derive(Clone, Copy, Debug)]
pub struct View<R> {
    memory: R,
    sections: Sections,
    regions: Regions,
    granule: GranuleSize,
}

/// A reference to the range of a pfn: it is not removed, and its struct pages stay mapped, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the reference"]
pub struct Reference<'a, R: Memory> {
    memory: &'a R,
    slot: Slot,
}

impl<M, F, P> Hotplug<M, F, P> {
    /// A view for readers that reach memory through `memory`.
    ///
    /// # Safety
    ///
    /// `memory` must reach the same memory as the machine of this memory map.
    pub const unsafe fn view<R: Memory>(&self, memory: R) -> View<R> {
        View { memory, sections: self.sections, regions: self.regions, granule: self.layout.granule() }
    }
}

impl<R: Memory> View<R> {
    /// Whether `pfn` has an initialised struct page. It stays mapped for as long as the read section lasts in which this was
    /// asked ([`Quiesce`](crate::seam::Quiesce)); outside of one, take a [`reference`](Self::reference).
    ///
    /// In an early section pfns are valid that nobody owns: holes beside boot RAM. Their struct pages are written again when
    /// memory is added or removed there, whoever looks: read those atomically, or with a reference.
    pub fn is_valid(&self, pfn: Pfn) -> bool {
        self.sections.is_valid(&self.memory, pfn)
    }

    /// A reference to the added range that holds `pfn`; `None` if there is none, or it is being removed. It looks through
    /// all ranges: take one for the first external reference to a page, not for each, as Linux's pagemap does.
    pub fn reference(&self, pfn: Pfn) -> Option<Reference<'_, R>> {
        let address = pfn.address(self.granule.shift());
        let holds = |slot: &Slot| slot.read(&self.memory).range.contains(address);
        let memory = &self.memory;
        let slot = self
            .regions
            .slots(memory)
            .find(|slot| holds(slot) && lifetime::pin_if(&slot.word(memory), || holds(slot)).is_ok())?;
        Some(Reference { memory, slot })
    }
}

impl<R: Memory> Reference<'_, R> {
    /// The range that it keeps.
    #[must_use]
    pub fn range(&self) -> PhysRange {
        self.slot.read(self.memory).range
    }
}

impl<R: Memory> Drop for Reference<'_, R> {
    fn drop(&mut self) {
        let _ = lifetime::unpin(&self.slot.word(self.memory));
    }
}

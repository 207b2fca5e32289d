//! All that is proved of a range that has been added, and what is touched before it is removed.

use alloc::format;
use alloc::vec::Vec;

use vmemmap::addr::VirtAddr;
use vmemmap::hotplug::{LINEAR_PROTECTION, Region};
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::Mapping;
use vmemmap::seam::Machine;
use vmemmap::vmemmap::Storage;

use super::{Expected, Failures, at_agrees, attributes_agree, leaf_vas, linear_agrees, touch};
use crate::memory::MemoryMap;

/// A range that has been added.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// The range.
    pub region: &'a Region,
    /// Where its struct pages were asked to be: an altmap as it was before.
    pub asked: &'a Storage,
    /// The leaves that were asked for.
    pub leaf: LeafPolicy,
}

/// What was right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proved {
    /// Leaves of the vmemmap.
    pub leaves: u64,
    /// Those of them that are where the plan put them.
    pub leaves_at_plan: u64,
    /// Pages of the vmemmap whose struct pages are right.
    pub pages: u64,
}

impl Added<'_> {
    /// Proves the tables, and that both ways reach the same memory. Nobody may use its struct pages meanwhile.
    pub fn check<M: Machine>(&self, map: &MemoryMap<M>, failures: &mut Failures) -> Proved {
        let (layout, tables, memmap) = (map.layout(), map.tables(), self.region.memmap());
        let all = memmap.all_stretches();
        let leaves = leaf_vas::<M::Granule>(all.clone()).count() as u64;
        let leaves_at_plan = at_agrees(tables, memmap, self.asked.altmap(), failures);
        let expected = Expected { layout, range: self.region.range(), storage: self.region.storage() };
        let pages = expected.check(failures);
        attributes_agree(tables, &all, failures);
        attributes_agree(tables, &self.linear(map).stretches(), failures);
        linear_agrees(layout, self.region.range(), failures);
        Proved { leaves, leaves_at_plan, pages }
    }

    /// Loads from its vmemmap and from its linear map, so that the TLB holds what its removal must take out of it; the
    /// addresses, which must be [gone](super::gone) then. Pages that others use by now stay.
    pub fn touch<M: Machine>(&self, map: &MemoryMap<M>, failures: &mut Failures) -> Vec<VirtAddr> {
        let memmap = self.region.memmap().beside(map.shared_by_others(self.region)).stretches();
        let linear = self.linear(map).stretches();
        touch::<M::Granule>(&[&memmap, &linear], failures)
    }

    /// Its linear map.
    pub fn linear<M: Machine>(&self, map: &MemoryMap<M>) -> Mapping {
        Mapping::linear(map.tables().regime(), map.layout(), self.region.range(), self.leaf, LINEAR_PROTECTION)
    }
}

/// The storage of a removed range must be what was asked for it: nothing of the altmap is handed out any more.
pub fn came_back(storage: &Storage, asked: &Storage, failures: &mut Failures) {
    if storage != asked {
        failures.push(format!("the altmap came back as {storage:?}, not {asked:?}"));
    }
}

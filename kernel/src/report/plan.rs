//! What the host is told of plans: the same names as of a device that was added, and what the plan takes from RAM.

use alloc::vec::Vec;

use vmemmap::addr::PhysRange;
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::Summary;
use vmemmap::layout::Layout;
use vmemmap::leaf::Stretches;
use vmemmap::vmemmap::Storage;

use super::device::{Kind, altmap, bounds_and_leaves, kinds, memmap_kinds, source};
use super::json::Object;
use super::{Verdict, geometry, machine};
use crate::boot::BootInfo;

/// A device, and what adding it would take.
pub struct Planned {
    /// Where the device comes from.
    pub source: &'static str,
    /// Its memory.
    pub range: PhysRange,
    /// The plan in numbers.
    pub summary: Summary,
}

/// Prints the plans: a list, even of one.
pub fn print_plans<G: Granule>(boot: &BootInfo, plans: impl Iterator<Item = Planned>) {
    let report = Object::with(|report| {
        geometry(boot, Verdict::Planned, report);
        report.array("plans", plans.map(|planned| planned.object::<G>(&boot.layout)));
        report.value("machine", machine(boot));
    });
    crate::println!("@report {report}");
}

impl Planned {
    fn object<G: Granule>(&self, layout: &Layout) -> Object {
        let Summary { linear, memmap, linear_tables, memmap_tables, edge_frames, .. } = self.summary;
        let served = self.served();
        let leaf_bytes = |stretches: Stretches| stretches.map(|stretch| stretch.bytes(G::SIZE)).sum::<u64>();
        let struct_page_frames =
            if served.is_some() { edge_frames } else { leaf_bytes(memmap.stretches()) >> G::SIZE.shift() };
        Object::with(|plan| {
            plan.value("device", source(self.source, self.range));
            plan.optional("altmap", served.as_ref().map(altmap));
            let map = |va, leaves: Vec<Kind>, tables| {
                Object::with(|object| {
                    bounds_and_leaves(object, va, &leaves);
                    object.value("table_frames", tables);
                })
            };
            // All struct pages of the range: boot's too, where it lies in or across an early section.
            let pages = layout.pages(self.range);
            plan.value("memmap", map(pages, memmap_kinds::<G>(&memmap, &self.summary.storage), memmap_tables));
            let linear =
                linear.map(|linear| map(linear.range(), kinds::<G>(linear.stretches(), "device"), linear_tables));
            plan.optional("linear", linear);
            plan.value(
                "ram",
                Object::with(|ram| {
                    ram.value("table_frames", linear_tables + memmap_tables);
                    ram.value("struct_page_frames", struct_page_frames);
                }),
            );
        })
    }

    /// The altmap as the add would leave it.
    fn served(&self) -> Option<Altmap> {
        let Storage::Altmap(mut altmap) = self.summary.storage else { return None };
        self.summary.memmap.allocate_from(&mut altmap, |_, _| ()).expect("the plan found room in it");
        Some(altmap)
    }
}

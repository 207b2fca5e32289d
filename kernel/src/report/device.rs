//! What the host is told of one device.

use alloc::vec::Vec;

use vmemmap::addr::{PhysRange, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::count::Count;
use vmemmap::granule::Granule;
use vmemmap::leaf::{Stretch, Stretches};
use vmemmap::seam::Machine;
use vmemmap::table::Tables;
use vmemmap::vmemmap::{Memmap, Storage};

use super::json::Object;
use crate::boot::BootInfo;
use crate::measure::Phases;
use crate::prove::{self, Gone, Leaf, leaf_vas};

/// Leaves of one kind.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// What one of them maps.
    bytes: u64,
    contiguous: bool,
    /// Where their frames come from.
    source: &'static str,
    count: u64,
}

/// The leaves of `stretches` by kind, all of frames from `source`.
pub(super) fn kinds<G: Granule>(stretches: Stretches, source: &'static str) -> Vec<Kind> {
    let mut kinds = Vec::new();
    stretches.for_each(|stretch| add::<G>(&mut kinds, stretch, source));
    kinds
}

/// The leaves of a vmemmap by kind: the interior's from its storage, then the edge pages, which are always from RAM.
pub(super) fn memmap_kinds<G: Granule>(memmap: &Memmap, storage: &Storage) -> Vec<Kind> {
    let source = if storage.altmap().is_some() { "altmap" } else { "ram" };
    let mut kinds = kinds::<G>(memmap.interior_stretches(), source);
    for va in memmap.edges().into_iter().flatten() {
        add::<G>(&mut kinds, Stretch { va, leaf: vmemmap::leaf::Leaf::PAGE, count: 1 }, "ram");
    }
    kinds
}

fn add<G: Granule>(kinds: &mut Vec<Kind>, stretch: Stretch, source: &'static str) {
    let (bytes, contiguous, count) = (stretch.leaf.bytes(G::SIZE), stretch.leaf.contiguous, stretch.count);
    match kinds.iter_mut().find(|kind| (kind.bytes, kind.contiguous, kind.source) == (bytes, contiguous, source)) {
        Some(kind) => kind.count += count,
        None => kinds.push(Kind { bytes, contiguous, source, count }),
    }
}

/// Some leaves as they stand in the tables.
#[derive(Clone, Debug)]
pub struct Shown {
    leaves: Vec<Kind>,
    first: Vec<Leaf>,
    last: Option<Leaf>,
}

impl Shown {
    /// The leaves of a range's vmemmap; edge pages that others use too.
    pub fn memmap<M: Machine>(tables: &Tables<M>, memmap: &Memmap, storage: &Storage) -> Self {
        Self::of(tables, &memmap.all_stretches(), memmap_kinds::<M::Granule>(memmap, storage))
    }

    /// The leaves of its linear map.
    pub fn linear<M: Machine>(tables: &Tables<M>, stretches: &Stretches) -> Self {
        Self::of(tables, stretches, kinds::<M::Granule>(stretches.clone(), "device"))
    }

    fn of<M: Machine>(tables: &Tables<M>, stretches: &Stretches, leaves: Vec<Kind>) -> Self {
        let first = prove::leaves(tables, stretches.clone()).take(3).collect();
        let last = leaf_vas::<M::Granule>(stretches.clone()).last();
        let last = last.map(|va| Leaf {
            va,
            descriptor: tables.walk(va).translation().map_or(0, |(step, _)| step.descriptor.bits()),
        });
        Self { leaves, first, last }
    }
}

/// What an operation cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Struct pages of the range.
    pub struct_pages: u64,
    /// Events, if they were counted: on an identical operation where instructions were counted too.
    pub events: Option<Count>,
    /// Tables taken or freed.
    pub tables: u64,
    /// RAM taken or given back, in bytes, section records apart.
    pub ram_bytes: u64,
    /// Device memory that holds struct pages, in bytes.
    pub altmap_bytes: u64,
    /// RAM that section records took, in bytes.
    pub section_bytes: u64,
    /// Instructions in all, if they were counted, and by phase, if those were.
    pub instructions: Option<(u64, Option<Phases>)>,
}

impl Cost {
    /// What the host is told of it.
    #[must_use]
    pub fn object(&self) -> Object {
        let events = |count: fn(Count) -> u64| self.events.map(count);
        Object::with(|object| {
            object.value("struct_pages", self.struct_pages);
            object.optional("descriptor_writes", events(|events| events.descriptor_writes));
            object.optional("dsb", events(|events| events.dsb));
            object.optional("isb", events(|events| events.isb));
            object.optional("tlbi", events(|events| events.tlbi));
            object.value("table_frames", self.tables);
            object.value("ram_bytes", self.ram_bytes);
            object.value("altmap_bytes", self.altmap_bytes);
            object.value("section_bytes", self.section_bytes);
            object.optional("instructions", self.instructions.map(|(total, phases)| instructions(total, phases)));
        })
    }
}

/// One device.
pub struct DeviceReport<'a> {
    /// What boot found.
    pub boot: &'a BootInfo,
    /// Where the device comes from.
    pub source: &'static str,
    /// Its memory.
    pub range: PhysRange,
    /// The altmap after the add.
    pub altmap: Option<Altmap>,
    /// The vmemmap.
    pub memmap: Shown,
    /// The linear map.
    pub linear: Shown,
    /// What the add cost.
    pub add: Cost,
    /// What the removal cost; `None` when held.
    pub remove: Option<Cost>,
    /// vmemmap leaves, and how many of them AT and the patterns agreed on.
    pub proved: (u64, u64),
    /// The fault of a load after the removal.
    pub gone: Option<Gone>,
}

impl DeviceReport<'_> {
    /// Everything but the proof.
    pub(super) fn tell(&self, report: &mut Object) {
        let (range, layout) = (self.range, &self.boot.layout);
        report.value("device", source(self.source, self.range));
        report.optional("altmap", self.altmap.as_ref().map(altmap));
        report.value(
            "memmap",
            Object::with(|object| {
                map(object, layout.pages(range), &self.memmap);
                object.array("first", self.memmap.first.iter().map(leaf));
            }),
        );
        report.value(
            "linear",
            Object::with(|object| {
                map(object, layout.linear_range(range), &self.linear);
                object.optional("first", self.linear.first.first().map(leaf));
            }),
        );
        report.value("add", self.add.object());
        report.optional("remove", self.remove.as_ref().map(Cost::object));
    }

    /// What was proved of it.
    pub(super) fn tell_proof(&self, proof: &mut Object) {
        proof.value("leaves", self.proved.0);
        proof.value("leaves_at_plan", self.proved.1);
        proof.optional("fault", self.gone.map(fault));
    }
}

/// The fault of a load after a removal.
pub(crate) fn fault(gone: Gone) -> Object {
    Object::with(|object| {
        object.hex("far", gone.far.value());
        object.value("level", gone.level);
    })
}

/// Where a device comes from, and its range.
pub(super) fn source(source: &str, range: PhysRange) -> Object {
    Object::with(|object| {
        object.text("source", source);
        object.hex("base", range.start().value());
        object.value("size", range.bytes());
    })
}

pub(super) fn altmap(altmap: &Altmap) -> Object {
    Object::with(|object| {
        object.hex("base_pfn", altmap.base_pfn().number());
        object.hex("end_pfn", altmap.end_pfn().number());
        object.value("reserve", altmap.reserve());
        object.value("free", altmap.free());
        object.value("alloc", altmap.alloc());
        object.value("align", altmap.align());
    })
}

/// A map's addresses and its leaves by kind.
pub(super) fn bounds_and_leaves(object: &mut Object, va: VirtRange, leaves: &[Kind]) {
    object.hex("start", va.start().value());
    object.hex("end", va.end().value());
    object.array(
        "leaves",
        leaves.iter().map(|kind| {
            Object::with(|object| {
                object.value("size", kind.bytes);
                object.value("contiguous", kind.contiguous);
                object.text("source", kind.source);
                object.value("count", kind.count);
            })
        }),
    );
}

fn map(object: &mut Object, va: VirtRange, shown: &Shown) {
    bounds_and_leaves(object, va, &shown.leaves);
    object.optional("last", shown.last.as_ref().map(leaf));
}

fn instructions(total: u64, phases: Option<Phases>) -> Object {
    Object::with(|object| {
        object.value("total", total);
        if let Some(phases) = phases {
            object.value("linear", phases.linear);
            object.value("populate", phases.populate);
            object.value("init", phases.initialise);
        }
    })
}

fn leaf(leaf: &Leaf) -> Object {
    Object::with(|object| {
        object.hex("va", leaf.va.value());
        object.value("descriptor", format_args!("\"{:#018x}\"", leaf.descriptor));
    })
}

//! What a run found, as one line of JSON for the host.

pub(crate) mod json;

use alloc::vec::Vec;

use json::Object;
use vmemmap::addr::VirtRange;
use vmemmap::altmap::Altmap;
use vmemmap::count::Count;
use vmemmap::granule::{Granule, GranuleSize};
use vmemmap::layout::Layout;
use vmemmap::leaf::{LeafPolicy, Stretches};
use vmemmap::seam::Machine;
use vmemmap::table::Tables;

use crate::boot::{BootInfo, Cpu};
use crate::device::DeviceMemory;
use crate::measure::Phases;
use crate::prove::{Gone, Leaf, leaf_vas, leaves};
use crate::watch;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything was proved.
    Pass,
    /// Something was not.
    Fail,
    /// The machine stays alive with the memory added.
    Held,
}

/// Some leaves as they stand in the tables.
#[derive(Clone, Debug)]
pub struct Shown {
    leaves: Vec<(u64, bool, u64)>,
    first: Vec<Leaf>,
    last: Option<Leaf>,
    source: &'static str,
}

impl Shown {
    /// The leaves of `stretches`, whose frames come from `source`.
    pub fn of<M: Machine>(tables: &Tables<M>, stretches: &Stretches, source: &'static str) -> Self {
        let size = M::Granule::SIZE;
        let mut kinds: Vec<(u64, bool, u64)> = Vec::new();
        for stretch in stretches.clone() {
            let (bytes, contiguous) = (stretch.leaf.bytes(size), stretch.leaf.contiguous);
            match kinds.iter_mut().find(|kind| (kind.0, kind.1) == (bytes, contiguous)) {
                Some(kind) => kind.2 += stretch.count,
                None => kinds.push((bytes, contiguous, stretch.count)),
            }
        }
        let first = leaves(tables, stretches.clone()).take(3).collect();
        let last = leaf_vas::<M::Granule>(stretches.clone()).last();
        let last = last.map(|va| Leaf {
            va,
            descriptor: tables.walk(va).translation().map_or(0, |(step, _)| step.descriptor.bits()),
        });
        Self { leaves: kinds, first, last, source }
    }
}

/// What an operation cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Events, counted on an identical operation.
    pub events: Count,
    /// Tables taken or freed.
    pub tables: u64,
    /// RAM taken or given back, in bytes, section records apart.
    pub ram_bytes: u64,
    /// Device memory that holds struct pages, in bytes.
    pub altmap_bytes: u64,
    /// RAM that section records took, in bytes.
    pub section_bytes: u64,
    /// Instructions in all and by phase, if they were counted.
    pub instructions: Option<(u64, Phases)>,
}

/// Everything that the host is told.
pub struct Report<'a> {
    /// What boot found.
    pub boot: &'a BootInfo,
    /// How it ended.
    pub verdict: Verdict,
    /// The device.
    pub device: &'a dyn DeviceMemory,
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
    /// Frames of RAM lost.
    pub frames_difference: i64,
}

impl Report<'_> {
    /// Prints it.
    pub fn print(&self) {
        let report = Object::with(|report| {
            self.geometry(report);
            self.maps(report);
            report.value("add", self.cost(&self.add));
            report.optional("remove", self.remove.as_ref().map(|cost| self.cost(cost)));
            report.value("machine", machine(self.boot));
            report.value("proof", self.proof());
            report.optional("check", watch::judged().map(|events| Object::with(|check| check.value("events", events))));
        });
        crate::println!("@report {report}");
    }

    fn geometry(&self, report: &mut Object) {
        let BootInfo { config, layout, registers, .. } = self.boot;
        report.text(
            "result",
            match self.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "fail",
                Verdict::Held => "held",
            },
        );
        report.text("granule", config.granule.name());
        report.value("va_bits", config.va_bits);
        report.value("pa_bits", self.boot.pa_bits());
        report.value("cpus", 1);
        report.value("struct_page_size", layout.struct_page_bytes());
        report.text(
            "leaf_policy",
            match config.leaf {
                LeafPolicy::Largest => "largest",
                LeafPolicy::Linux => "linux",
                LeafPolicy::Pages => "pages",
            },
        );
        report.hex("page_offset", layout.linear().start().value());
        report.hex("page_end", layout.linear().end().value());
        report.hex("memstart", layout.memstart());
        report.hex("vmemmap_start", layout.vmemmap().start().value());
        report.hex("vmemmap_end", layout.vmemmap().end().value());
        report.value(
            "registers",
            Object::with(|object| {
                object.hex("tcr_el1", registers.tcr);
                object.hex("mair_el1", registers.mair);
                object.hex("sctlr_el1", registers.sctlr);
                object.hex("ttbr1_el1", registers.ttbr1);
            }),
        );
    }

    fn maps(&self, report: &mut Object) {
        let range = self.device.range();
        let layout: &Layout = &self.boot.layout;
        report.value(
            "device",
            Object::with(|object| {
                object.text("source", self.device.source());
                object.hex("base", range.start().value());
                object.value("size", range.bytes());
            }),
        );
        report.optional("altmap", self.altmap.as_ref().map(altmap));
        let memmap = layout.pages(range);
        report.value(
            "memmap",
            Object::with(|object| {
                map(object, memmap, &self.memmap);
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
    }

    fn cost(&self, cost: &Cost) -> Object {
        Object::with(|object| {
            object.value("struct_pages", self.device.range().bytes() >> self.boot.config.granule.shift());
            object.value("descriptor_writes", cost.events.descriptor_writes);
            object.value("dsb", cost.events.dsb);
            object.value("isb", cost.events.isb);
            object.value("tlbi", cost.events.tlbi);
            object.value("table_frames", cost.tables);
            object.value("ram_bytes", cost.ram_bytes);
            object.value("altmap_bytes", cost.altmap_bytes);
            object.value("section_bytes", cost.section_bytes);
            object.optional(
                "instructions",
                cost.instructions.map(|(total, phases)| {
                    Object::with(|object| {
                        object.value("total", total);
                        object.value("linear", phases.linear);
                        object.value("populate", phases.populate);
                        object.value("init", phases.initialise);
                    })
                }),
            );
        })
    }

    fn proof(&self) -> Object {
        Object::with(|object| {
            object.value("leaves", self.proved.0);
            object.value("leaves_at_plan", self.proved.1);
            object.optional(
                "fault",
                self.gone.map(|gone| {
                    Object::with(|object| {
                        object.hex("far", gone.far.value());
                        object.value("level", gone.level);
                    })
                }),
            );
            object.value("frames_difference", self.frames_difference);
        })
    }
}

fn altmap(altmap: &Altmap) -> Object {
    Object::with(|object| {
        object.hex("base_pfn", altmap.base_pfn().number());
        object.hex("end_pfn", altmap.end_pfn().number());
        object.value("reserve", altmap.reserve());
        object.value("free", altmap.free());
        object.value("alloc", altmap.alloc());
        object.value("align", altmap.align());
    })
}

fn map(object: &mut Object, va: VirtRange, shown: &Shown) {
    object.hex("start", va.start().value());
    object.hex("end", va.end().value());
    object.array(
        "leaves",
        shown.leaves.iter().map(|(bytes, contiguous, count)| {
            Object::with(|object| {
                object.value("size", bytes);
                object.value("contiguous", contiguous);
                object.text("source", shown.source);
                object.value("count", count);
            })
        }),
    );
    object.optional("last", shown.last.as_ref().map(leaf));
}

fn leaf(leaf: &Leaf) -> Object {
    Object::with(|object| {
        object.hex("va", leaf.va.value());
        object.value("descriptor", format_args!("\"{:#018x}\"", leaf.descriptor));
    })
}

fn machine(boot: &BootInfo) -> Object {
    let Cpu { lpa2_4k, lpa2_16k, bbm_level, tlbi_range, ttl, .. } = boot.cpu;
    let features = [("LPA2", lpa2_4k || lpa2_16k), ("BBM2", bbm_level >= 2), ("TLBIRANGE", tlbi_range), ("TTL", ttl)];
    let named = |wanted: bool| {
        features.into_iter().filter(move |(_, has)| *has == wanted).map(|(name, _)| alloc::format!("\"{name}\""))
    };
    Object::with(|object| {
        object.value("entered_el", boot.entry_level);
        let granules = GranuleSize::ALL.into_iter().filter(|granule| boot.cpu.has(*granule));
        object.array("granules", granules.map(|granule| alloc::format!("\"{}\"", granule.name())));
        object.array("features", named(true));
        object.array("lacks", named(false));
    })
}

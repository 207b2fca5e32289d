//! What a run found, as one line of JSON for the host.

mod device;
pub(crate) mod json;
mod passes;
mod plan;

pub(crate) use device::fault;
pub use device::{Cost, DeviceReport, Shown};
pub use passes::print_passes;
pub use plan::{Planned, print_plans};

use alloc::vec::Vec;

use json::Object;
use vmemmap::granule::GranuleSize;
use vmemmap::leaf::LeafPolicy;

use crate::boot::{BootInfo, Cpu};
use crate::{cpu, share, watch};

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything was proved.
    Pass,
    /// Something was not.
    Fail,
    /// The machine stays alive with the memory added.
    Held,
    /// The plans were made, and nothing else was done.
    Planned,
}

/// Everything that the host is told.
pub struct Report<'a> {
    /// What boot found.
    pub boot: &'a BootInfo,
    /// How it ended.
    pub verdict: Verdict,
    /// The devices, in the order in which they were added.
    pub devices: Vec<DeviceReport<'a>>,
    /// The order in which they are removed.
    pub order: &'a [usize],
    /// How often a device was proved again after the removal of another.
    pub proved_again: u64,
    /// Frames of RAM lost.
    pub frames_difference: i64,
}

impl Report<'_> {
    /// Prints it: what is said of the only device, or a list where there are several.
    pub fn print(&self) {
        let report = Object::with(|report| {
            geometry(self.boot, self.verdict, report);
            match &self.devices[..] {
                [only] => only.tell(report),
                several => self.tell_several(several, report),
            }
            report.value("machine", machine(self.boot));
            report.value("proof", self.proof());
            report.optional("check", watch::judged().map(|events| Object::with(|check| check.value("events", events))));
        });
        crate::println!("@report {report}");
    }

    fn tell_several(&self, devices: &[DeviceReport<'_>], report: &mut Object) {
        let objects = devices.iter().map(|device| {
            Object::with(|object| {
                device.tell(object);
                object.value("proof", Object::with(|proof| device.tell_proof(proof)));
            })
        });
        report.array("devices", objects);
        report.array("remove_order", self.order.iter());
    }

    fn proof(&self) -> Object {
        Object::with(|object| {
            match &self.devices[..] {
                [only] => only.tell_proof(object),
                _ => object.value("proved_again", self.proved_again),
            }
            object.value("frames_difference", self.frames_difference);
        })
    }
}

fn geometry(boot: &BootInfo, verdict: Verdict, report: &mut Object) {
    let BootInfo { config, layout, registers, .. } = boot;
    report.text(
        "result",
        match verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Held => "held",
            Verdict::Planned => "planned",
        },
    );
    report.text("granule", config.granule.name());
    report.value("va_bits", config.va_bits);
    report.value("pa_bits", boot.pa_bits());
    report.value("cpus", cpu::count());
    report.array("struct_pages_by_cpu", share::by_cpu());
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

//! What the host is told of a range that was added and removed again and again.

use alloc::vec::Vec;

use super::json::Object;
use super::{Verdict, geometry, machine};
use crate::boot::BootInfo;

/// Prints the nanoseconds that adding the range took: with its struct pages initialised by one CPU, and by all.
pub fn print_passes(boot: &BootInfo, struct_pages: u64, passed: bool, [alone, together]: [&Vec<u64>; 2]) {
    let report = Object::with(|report| {
        geometry(boot, if passed { Verdict::Pass } else { Verdict::Fail }, report);
        report.value("machine", machine(boot));
        let times = Object::with(|times| {
            times.value("struct_pages", struct_pages);
            times.array("one_cpu_ns", alone.iter());
            times.array("all_cpus_ns", together.iter());
        });
        report.value("passes", times);
    });
    crate::println!("@report {report}");
}

//! What adding each device would take: planned on the memory as it is, and thrown away.

use vmemmap::granule::Granule;
use vmemmap::hotplug::{Request, Summary};
use vmemmap::seam::Machine;

use super::Asked;
use crate::boot::{BootInfo, refuse};
use crate::exit::{self, Status};
use crate::memory::{MemoryMap, RamFrames};
use crate::println;
use crate::prove::Books;
use crate::report::{Planned, print_plans};

/// Plans a request and logs it; refuses what can't be planned, and what RAM can't hold. Nothing is touched, so each plan is
/// that of a device that comes first.
pub fn one<M: Machine>(map: &mut MemoryMap<M>, request: Request, name: &str) -> Summary {
    match map.plan(request) {
        Ok(plan) => {
            println!("{name}plan:\n{plan}");
            let summary = plan.summary();
            let free = RamFrames::current().free() * M::Granule::SIZE.bytes();
            if summary.ram_bytes > free {
                let needed = summary.ram_bytes;
                refuse(format_args!(
                    "{name}out of RAM: the plan takes {needed:#x} bytes and {free:#x} are free; give more, or use an altmap"
                ))
            }
            summary
        }
        Err(error) => refuse(format_args!("{name}{error}")),
    }
}

/// Tells the plans and ends; `before` was there before they were made.
pub fn end<M: Machine>(boot: &BootInfo, map: &MemoryMap<M>, devices: &[Asked], plans: &[Summary], before: Books) -> ! {
    let after = Books::of(map);
    if before != after {
        println!("@fail planning changed something: {before:?} before, {after:?} after");
        exit::exit(Status::Fail)
    }
    let told = devices.iter().zip(plans);
    let told = told.map(|(asked, &summary)| Planned { source: asked.source, range: asked.range, summary });
    print_plans::<M::Granule>(boot, told);
    println!("@pass");
    exit::exit(Status::Pass)
}

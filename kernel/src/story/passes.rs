//! How long an add takes with its struct pages initialised by one CPU, and by all: the range is added and removed again and
//! again, so that the same frames are written each time, and the time is taken by the system counter.
//!
//! It is that of the whole add: both maps, and what CPUs take to come and to go, are part of it.

use alloc::vec::Vec;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use vmemmap::hotplug::{AddError, Plan, Region};
use vmemmap::meta::StructPage;
use vmemmap::seam::Machine;

use super::Asked;
use crate::boot::{BootInfo, refuse};
use crate::exit::{self, Status};
use crate::memory::{MemoryMap, RamFrames};
use crate::println;
use crate::prove::{Added, Books, Failures};
use crate::report::print_passes;
use crate::share;

const NANOSECONDS: u128 = 1_000_000_000;

/// How a plan is committed: by this CPU, or by all.
type Commit<M> = fn(&BootInfo, Plan<'_, M, RamFrames, StructPage>) -> Result<Region, AddError>;

/// Adds and removes `asked` as often as the boot arguments say by this CPU and by all, in turn, and once before that; tells
/// the times and ends.
pub fn end<M: Machine>(boot: &'static BootInfo, mut map: MemoryMap<M>, asked: &Asked) -> ! {
    let before = Books::of(&map);
    let (mut alone, mut together, mut failures) = (Vec::new(), Vec::new(), Failures::new());
    let mut pass = |commit: Commit<M>| one(boot, &mut map, asked, commit, &mut failures);
    pass(share::commit);
    for _ in 0..boot.config.passes {
        alone.push(pass(|_, plan| plan.commit()));
        together.push(pass(share::commit));
    }
    let after = Books::of(&map);
    if before != after {
        failures.push(alloc::format!("the books differ: {before:?} before, {after:?} after"));
    }
    for failure in &failures {
        println!("@fail {failure}");
    }
    let struct_pages = asked.range.bytes() >> boot.config.granule.shift();
    print_passes(boot, struct_pages, failures.is_empty(), [&alone, &together]);
    if failures.is_empty() {
        println!("@pass");
        exit::exit(Status::Pass)
    }
    exit::exit(Status::Fail)
}

/// One pass: adds the range, proves it, and removes it; how long the add took, in nanoseconds.
fn one<M: Machine>(
    boot: &BootInfo,
    map: &mut MemoryMap<M>,
    asked: &Asked,
    commit: Commit<M>,
    failures: &mut Failures,
) -> u64 {
    let plan = map.plan(asked.request).unwrap_or_else(|error| refuse(error));
    let began = CNTVCT_EL0.get();
    let region = commit(boot, plan).unwrap_or_else(|error| refuse(error));
    let took = CNTVCT_EL0.get().wrapping_sub(began);
    Added { region: &region, asked: asked.request.storage(), leaf: boot.config.leaf }.check(map, failures);
    map.remove(region).unwrap_or_else(|error| panic!("{error}"));
    (u128::from(took) * NANOSECONDS / u128::from(CNTFRQ_EL0.get())) as u64
}

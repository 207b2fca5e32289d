//! Adds that all CPUs share: each initialises struct pages.

use core::sync::atomic::{AtomicU64, Ordering};

use vmemmap::hotplug::{AddError, Plan, Region};
use vmemmap::meta::StructPage;
use vmemmap::seam::Machine;

use crate::boot::BootInfo;
use crate::memory::{self, RamFrames};
use crate::{cpu, cpus, watch};

/// See [`by_cpu`].
static SHARED: [AtomicU64; cpu::MOST] = [const { AtomicU64::new(0) }; cpu::MOST];

/// How many struct pages each CPU has initialised of ranges that all CPUs have [added](commit) together.
pub fn by_cpu() -> impl Iterator<Item = u64> {
    SHARED[..cpu::count()].iter().map(|pages| pages.load(Ordering::Relaxed))
}

/// Commits `plan`, its struct pages being initialised by all CPUs. On a machine that is [watched](crate::watch) this CPU
/// does it alone: nobody would see what the others do.
///
/// # Errors
///
/// As [`Plan::commit`].
///
/// # Panics
///
/// If the firmware does not turn on a CPU that it has turned on before.
pub fn commit<M: Machine>(boot: &BootInfo, plan: Plan<'_, M, RamFrames, StructPage>) -> Result<Region, AddError> {
    if cpu::count() == 1 || watch::is_asked(&boot.config) {
        return plan.commit();
    }
    plan.commit_with(|work| {
        if work.chunks() > 1 {
            let help = |cpu: usize| {
                // SAFETY: each CPU has a machine of its own, and all translate by boot's tables, as the plan's does.
                let pages = unsafe { work.help(&mut memory::machine::<M::Granule>(boot)) };
                SHARED[cpu].fetch_add(pages, Ordering::Relaxed);
            };
            cpus::each(help).unwrap_or_else(|error| panic!("{error}"));
        }
    })
}

//! All CPUs at once: how each takes part, what it reports, what its TLB keeps, and readers while memory comes and goes.

pub mod readers;
pub mod reports;
pub mod takes_part;
pub mod tlb;
mod traffic;

use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::boot::refuse;
use kernel::cpu;
use kernel::cpus;
use vmemmap::seam::Machine;

use crate::world::World;

/// A place where all CPUs wait until the last has come; again and again.
struct Meeting {
    came: AtomicUsize,
}

impl Meeting {
    const fn new() -> Self {
        Self { came: AtomicUsize::new(0) }
    }

    /// What any CPU did before it came, all have seen when this returns.
    fn wait(&self) {
        let all = cpu::count();
        let round = self.came.fetch_add(1, Ordering::AcqRel) / all;
        while self.came.load(Ordering::Acquire) / all == round {
            hint::spin_loop();
        }
    }
}

impl<M: Machine> World<M> {
    /// With its other CPUs, of which a case needs one at least.
    pub fn with_cpus(mut self) -> Self {
        cpus::prepare(self.boot, &mut self.map).unwrap_or_else(|error| refuse(error));
        assert!(cpu::count() > 1, "give --smp 2 or more");
        self
    }
}

/// Runs `work` on all CPUs.
fn on_each(work: impl Fn(usize) + Sync) {
    cpus::each(work).unwrap_or_else(|error| panic!("{error}"));
}

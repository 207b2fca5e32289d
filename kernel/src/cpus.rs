//! The other CPUs. They are off, but for jobs: [`each`] turns them on by PSCI, runs the job on all CPUs at once, and
//! comes back when all but the one that asked are off again.
//!
//! So no CPU idles in a loop, none must be woken by an interrupt, and what a job borrows it borrows for the call. Each
//! CPU that comes gets a stack and a stack for exceptions, each above a page that is never mapped, the vectors, and forgets
//! what its TLB holds from before ([`tlb::forget`]) before it takes part.
//!
//! All CPUs are taken to be alike: none is asked whether it has the granule.

mod start;

use alloc::vec::Vec;
use core::fmt;

use spin::Mutex;
use vmemmap::addr::VirtAddr;
use vmemmap::granule::{GranuleSize, K4, K16, K64};
use vmemmap::seam::Machine;
use vmemmap::tlb;

use crate::boot::{self, BootInfo, DeviceTree};
use crate::cpu::{self, MOST, this};
use crate::memory::{self, MemoryMap};
use crate::psci;
use crate::window::{self, WindowError};
use start::{Job, SECONDARIES, Secondary, Stacks};

/// Bytes of a CPU's stack, and of its stack for exceptions: a page of the largest size.
const STACK_BYTES: u64 = 1 << 16;

/// The CPUs that [`prepare`] found.
struct Others {
    boot: &'static BootInfo,
    /// The affinities of CPUs 1, 2, ...
    affinities: Vec<u64>,
}

static OTHERS: Mutex<Option<Others>> = Mutex::new(None);

/// Why a CPU can't be used.
#[derive(Clone, Copy, Debug)]
pub enum CpuError {
    /// There is no place for its stacks.
    Stack(WindowError),
    /// The firmware does not turn it on, or does not say that it is off.
    Firmware {
        /// The number of the CPU.
        cpu: usize,
        /// What the firmware says.
        error: psci::Error,
    },
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack(error) => write!(f, "the stack of another CPU: {error}"),
            Self::Firmware { cpu, error } => write!(f, "CPU {cpu}: {error}: use fewer CPUs (--smp)"),
        }
    }
}

impl From<WindowError> for CpuError {
    fn from(error: WindowError) -> Self {
        Self::Stack(error)
    }
}

/// What the stack of another CPU that holds `address` is called, or the page below it that is never mapped.
#[must_use]
pub fn stack_name(address: VirtAddr) -> Option<&'static str> {
    SECONDARIES.iter().find_map(|secondary| secondary.stacks()?.name(address))
}

/// Whether the bytes from `first` to `last` lie on a stack of another CPU.
#[must_use]
pub fn is_on_stack(first: VirtAddr, last: VirtAddr) -> bool {
    let mut stacks = SECONDARIES.iter().filter_map(Secondary::stacks);
    stacks.any(|stacks| stacks.hold(first) && stacks.hold(last))
}

/// Gives each CPU of the device tree its stacks, for good, and turns it on once to see that it comes.
///
/// # Errors
///
/// [`CpuError`] if there is no RAM for the stacks, or a CPU can't be turned on.
///
/// # Panics
///
/// If it is called twice.
pub fn prepare<M: Machine>(boot: &'static BootInfo, map: &mut MemoryMap<M>) -> Result<(), CpuError> {
    let affinities: Vec<_> = DeviceTree::again(boot).other_cpus().take(MOST - 1).collect();
    for (secondary, number) in SECONDARIES.iter().zip(1..=affinities.len()) {
        let [stack, exceptions] = [window::stack(map, STACK_BYTES)?, window::stack(map, STACK_BYTES)?];
        secondary.prepare(boot, number, Stacks { stack, exceptions });
    }
    cpu::set_count(1 + affinities.len());
    let before = OTHERS.lock().replace(Others { boot, affinities });
    assert!(before.is_none(), "the CPUs are prepared once");
    each(|_| ())
}

/// Runs `work` on every CPU at once, with the number of the CPU, and comes back when it has ended on all. This CPU is one of
/// them; before [`prepare`] it is the only one.
///
/// # Errors
///
/// [`CpuError::Firmware`] if a CPU was not turned on; `work` has run on the others.
///
/// # Panics
///
/// If it is called from within `work`.
pub fn each(work: impl Fn(usize) + Sync) -> Result<(), CpuError> {
    let others = OTHERS.try_lock().expect("no job of all CPUs begins within another");
    let Some(Others { boot, affinities }) = &*others else {
        work(this());
        return Ok(());
    };
    let job = Job::new(&work);
    let others = SECONDARIES.iter().zip(affinities).zip(1..);
    let (mut called, mut failed) = ([false; MOST], None);
    for ((secondary, &affinities), cpu) in others.clone() {
        // SAFETY: it was prepared, `wait` has seen it off, and `work` lives until it is off again, below.
        match unsafe { secondary.call(boot, affinities, job) } {
            Ok(()) => called[cpu] = true,
            Err(error) => failed = failed.or(Some(CpuError::Firmware { cpu, error })),
        }
    }
    work(this());
    for ((secondary, &affinities), cpu) in others.filter(|(_, cpu)| called[*cpu]) {
        if let Err(error) = secondary.wait(affinities) {
            failed = failed.or(Some(CpuError::Firmware { cpu, error }));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Where another CPU enters Rust: with the MMU on, on its stack.
#[unsafe(no_mangle)]
extern "C" fn secondary_start() -> ! {
    forget(boot::info().expect("the kernel has booted before it turns on another CPU"));
    SECONDARIES[this() - 1].work()
}

/// What the identity map of the switch left in the TLB, and whatever was there before.
fn forget(boot: &BootInfo) {
    match boot.config.granule {
        GranuleSize::K4 => tlb::forget(&mut memory::machine::<K4>(boot)),
        GranuleSize::K16 => tlb::forget(&mut memory::machine::<K16>(boot)),
        GranuleSize::K64 => tlb::forget(&mut memory::machine::<K64>(boot)),
    }
}

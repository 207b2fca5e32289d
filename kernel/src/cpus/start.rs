//! Starting a CPU: what it finds with its MMU off, the job that it then runs, and its end.

use core::arch::global_asm;
use core::cell::Cell;
use core::hint;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use vmemmap::addr::VirtAddr;

use crate::boot::{BootInfo, Switch, image};
use crate::cpu::{MOST, this};
use crate::window::Stack;
use crate::{cache, exit, psci};

global_asm!(include_str!("entry.s"));

unsafe extern "C" {
    static secondary_entry: u32;
    static secondary_mmu_on: u32;
}

/// A CPU that was turned on must answer within as much, on the slowest of hosts.
const SECONDS_TO_ANSWER: u64 = 20;

/// It was turned on, and has not answered yet.
const CALLED: u64 = 0;
/// It runs its job.
const RUNNING: u64 = 1;
/// It has run its job, and turns itself off.
const DONE: u64 = 2;

/// CPUs 1, 2, ...
pub static SECONDARIES: [Secondary; MOST - 1] = [const { Secondary::new() }; MOST - 1];

/// A CPU's stacks.
#[derive(Clone, Copy, Debug)]
pub struct Stacks {
    /// Of what it runs.
    pub stack: Stack,
    /// Of its exceptions.
    pub exceptions: Stack,
}

impl Stacks {
    /// Whether `address` lies on one of them.
    pub fn hold(&self, address: VirtAddr) -> bool {
        self.stack.holds(address) || self.exceptions.holds(address)
    }

    /// What people call the stack that holds `address`, or the page below it.
    pub fn name(&self, address: VirtAddr) -> Option<&'static str> {
        let Self { stack, exceptions } = self;
        let names = [
            (stack.holds(address), "stack of another CPU"),
            (stack.guards(address), "guard page of another CPU's stack"),
            (exceptions.holds(address), "exception stack of another CPU"),
            (exceptions.guards(address), "guard page of another CPU's exception stack"),
        ];
        names.into_iter().find_map(|(is_it, name)| is_it.then_some(name))
    }
}

/// What entry.s loads by offset, with the MMU off.
#[derive(Clone, Copy)]
#[repr(C)]
struct Start {
    switch: Switch,
    stack_physical_end: u64,
    stack_end: u64,
    exception_stack_end: u64,
    number: u64,
    mmu_on: u64,
}

impl Start {
    /// Of a CPU that is not prepared.
    const NOWHERE: Self =
        Self { switch: Switch::OFF, stack_physical_end: 0, stack_end: 0, exception_stack_end: 0, number: 0, mmu_on: 0 };
}

const _: () = assert!(
    offset_of!(Start, switch) == 0
        && offset_of!(Start, stack_physical_end) == 48
        && offset_of!(Start, stack_end) == 56
        && offset_of!(Start, exception_stack_end) == 64
        && offset_of!(Start, number) == 72
        && offset_of!(Start, mmu_on) == 80,
    "entry.s knows these offsets"
);

/// What to run, without its type and for how long it lives.
#[derive(Clone, Copy)]
pub struct Job {
    work: *const (),
    run: unsafe fn(*const (), usize),
}

impl Job {
    /// A call of `work` with the number of a CPU.
    pub fn new<F: Fn(usize) + Sync>(work: &F) -> Self {
        /// # Safety
        ///
        /// `work` must point to an `F`.
        unsafe fn run<F: Fn(usize)>(work: *const (), cpu: usize) {
            // SAFETY: by this function's contract.
            unsafe { (*work.cast::<F>())(cpu) }
        }
        Self { work: core::ptr::from_ref(work).cast(), run: run::<F> }
    }
}

/// Another CPU.
///
/// Its cells are written by the CPU that calls it, while it is off, and read by it once it is on.
#[repr(align(64))]
pub struct Secondary {
    start: Cell<Start>,
    stacks: Cell<Option<Stacks>>,
    job: Cell<Option<Job>>,
    state: AtomicU64,
}

// SAFETY: of the cells, `start` and `stacks` are written once, before any other CPU is on, and `job` by `call` alone,
// when the CPU that reads it is off; turning it on comes after the writes.
unsafe impl Sync for Secondary {}

impl Secondary {
    const fn new() -> Self {
        Self {
            start: Cell::new(Start::NOWHERE),
            stacks: Cell::new(None),
            job: Cell::new(None),
            state: AtomicU64::new(CALLED),
        }
    }

    /// Its stacks, once it is prepared.
    pub fn stacks(&self) -> Option<Stacks> {
        self.stacks.get()
    }

    /// Says how CPU `number` starts.
    pub fn prepare(&self, boot: &BootInfo, number: usize, stacks: Stacks) {
        self.stacks.set(Some(stacks));
        self.start.set(Start {
            switch: boot.switch,
            stack_physical_end: stacks.stack.physical_end().value(),
            stack_end: stacks.stack.end().value(),
            exception_stack_end: stacks.exceptions.end().value(),
            number: number as u64,
            mmu_on: (&raw const secondary_mmu_on).addr() as u64,
        });
    }

    /// Turns it on, to run `job`.
    ///
    /// # Errors
    ///
    /// [`psci::Error`] if the firmware refuses; then it is off.
    ///
    /// # Safety
    ///
    /// It must be prepared and off, and what `job` refers to must live until [`wait`](Self::wait) has returned.
    pub unsafe fn call(&self, boot: &BootInfo, affinities: u64, job: Job) -> Result<(), psci::Error> {
        self.job.set(Some(job));
        self.state.store(CALLED, Ordering::Relaxed);
        // It reads the one, and writes the other, past the caches.
        cache::write_back(self.start.as_ptr().cast(), size_of::<Start>());
        if let Some(Stacks { stack, .. }) = self.stacks.get() {
            cache::write_back_and_discard(stack.start(), stack.bytes());
        }
        let physical = |address: usize| image::physical_address(address as u64, boot.image).value();
        let (entry, start) = (physical((&raw const secondary_entry).addr()), physical(self.start.as_ptr().addr()));
        // SAFETY: entry.s is made for that, and finds what it loads at `start`.
        unsafe { psci::cpu_on(affinities, entry, start) }
    }

    /// What it does: its job, and then it turns itself off.
    pub fn work(&self) -> ! {
        self.state.store(RUNNING, Ordering::Relaxed);
        let Job { work, run } = self.job.get().expect("a CPU is turned on with a job");
        // SAFETY: `call` was given the job as `new` made it, and it lives until this CPU is off.
        unsafe { run(work, this()) }
        self.state.store(DONE, Ordering::Release);
        exit::stop(psci::cpu_off())
    }

    /// Waits until its job has ended and it is off again.
    ///
    /// # Errors
    ///
    /// [`psci::Error`] if the firmware does not say whether it is off; the job has ended.
    ///
    /// # Panics
    ///
    /// If it does not come, or does not go, for many seconds.
    pub fn wait(&self, affinities: u64) -> Result<(), psci::Error> {
        within_limit("come", || self.state.load(Ordering::Relaxed) != CALLED);
        while self.state.load(Ordering::Acquire) != DONE {
            hint::spin_loop();
        }
        let mut said = Ok(());
        within_limit("go", || {
            psci::is_off(affinities).unwrap_or_else(|error| {
                said = Err(error);
                true
            })
        });
        said
    }
}

/// Waits until `happened`.
fn within_limit(what: &str, mut happened: impl FnMut() -> bool) {
    let (start, limit) = (CNTVCT_EL0.get(), CNTFRQ_EL0.get() * SECONDS_TO_ANSWER);
    while !happened() {
        let waited = CNTVCT_EL0.get().wrapping_sub(start);
        assert!(waited < limit, "another CPU does not {what} within {SECONDS_TO_ANSWER} s: use fewer CPUs (--smp)");
        hint::spin_loop();
    }
}

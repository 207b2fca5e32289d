//! What each CPU finds when it takes part.

use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aarch64_cpu::registers::{
    CPACR_EL1, CurrentEL, DAIF, MAIR_EL1, MPIDR_EL1, Readable, SCTLR_EL1, SPSel, TCR_EL1, TPIDR_EL1, TTBR0_EL1,
    TTBR1_EL1, VBAR_EL1,
};
use kernel::boot::BootInfo;
use kernel::boot::image::Part;
use kernel::cpu;
use kernel::cpus;
use kernel::exceptions::probe;
use kernel::exceptions::syndrome::FaultKind;
use spin::Mutex;
use vmemmap::addr::VirtAddr;
use vmemmap::seam::Machine;

use super::on_each;
use crate::world::World;

/// Bytes of a stack of another CPU.
const STACK_BYTES: u64 = 1 << 16;

/// What lies below the other one.
const EXCEPTION_GUARD: &str = "guard page of another CPU's exception stack";

/// A CPU as it sees itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// What it was told.
    number: usize,
    /// What it finds itself.
    this: usize,
    affinities: u64,
    /// Where its stacks are: `SP_EL0`, `SP_EL1`, and what the vectors go by.
    stacks: [u64; 3],
    /// What all CPUs have in common.
    common: Common,
}

/// The registers that must be the same on all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Common {
    tcr: u64,
    mair: u64,
    sctlr: u64,
    ttbr1: u64,
    ttbr0: u64,
    vectors: u64,
    level: u64,
    masked: u64,
    stack_select: u64,
    floating_point: u64,
}

impl Common {
    fn here() -> Self {
        Self {
            tcr: TCR_EL1.get(),
            mair: MAIR_EL1.get(),
            sctlr: SCTLR_EL1.get(),
            ttbr1: TTBR1_EL1.get(),
            ttbr0: TTBR0_EL1.get(),
            vectors: VBAR_EL1.get(),
            level: CurrentEL.read(CurrentEL::EL),
            masked: DAIF.get(),
            stack_select: SPSel.get(),
            floating_point: CPACR_EL1.get(),
        }
    }

    /// As boot left them.
    fn of_boot(boot: &BootInfo, vectors: u64) -> Self {
        let registers = boot.registers;
        Self {
            tcr: registers.tcr,
            mair: registers.mair,
            sctlr: registers.sctlr,
            ttbr1: registers.ttbr1,
            ttbr0: 0,
            vectors,
            level: 1,
            masked: 0x3c0,
            stack_select: 0,
            floating_point: 0,
        }
    }
}

impl Seen {
    fn here(number: usize) -> Self {
        let [own, exceptions] = stack_pointers();
        Self {
            number,
            this: cpu::this(),
            affinities: MPIDR_EL1.get(),
            stacks: [own, exceptions, TPIDR_EL1.get()],
            common: Common::here(),
        }
    }
}

/// `SP_EL0`, which is in use outside of handlers, and `SP_EL1`, which is for exceptions.
fn stack_pointers() -> [u64; 2] {
    let (own, exceptions): (u64, u64);
    // SAFETY: reads registers; interrupts are masked, and nothing faults between the two writes.
    unsafe {
        asm!("mov {0}, sp", "msr spsel, #1", "mov {1}, sp", "msr spsel, #0", out(reg) own, out(reg) exceptions,
             options(nomem, nostack, preserves_flags));
    }
    [own, exceptions]
}

/// What people call the stack that ends at or above `end`.
fn stack_below(end: u64) -> &'static str {
    let inside = VirtAddr::new(end - 1);
    let part = Part::ALL.into_iter().find(|part| part.linked().contains(inside)).map(Part::name);
    cpus::stack_name(inside).or(part).unwrap_or("no stack")
}

pub fn own_stack<M: Machine>(world: &World<M>) {
    const JOBS: usize = 100;
    let vectors = VBAR_EL1.get();
    for job in 0..JOBS {
        let seen = Mutex::new(Vec::new());
        on_each(|number| seen.lock().push(Seen::here(number)));
        let mut seen = seen.into_inner();
        seen.sort_by_key(|cpu| cpu.number);
        let numbers: Vec<_> = seen.iter().map(|cpu| (cpu.number, cpu.this)).collect();
        let expected: Vec<_> = (0..cpu::count()).map(|number| (number, number)).collect();
        assert_eq!(numbers, expected, "each CPU once, in job {job}");
        for cpu in &seen {
            assert_eq!(cpu.common, Common::of_boot(world.boot, vectors), "CPU {}", cpu.number);
            let names = cpu.stacks.map(stack_below);
            assert_eq!(names, stack_names(cpu.number), "CPU {}: {:x?}", cpu.number, cpu.stacks);
            assert_eq!(cpu.stacks[1], cpu.stacks[2], "SP_EL1 starts where the vectors look for it");
        }
        expect_apart(&seen);
        seen[1..].iter().for_each(expect_guarded);
    }
    // One behind the other: a CPU is only turned on again once it is off.
    (0..JOBS).for_each(|_| on_each(|_| ()));
    exceptions_on_own_stack();
}

fn stack_names(number: usize) -> [&'static str; 3] {
    match number {
        0 => [Part::MainStack.name(), Part::ExceptionStack.name(), Part::ExceptionStack.name()],
        _ => ["stack of another CPU", "exception stack of another CPU", "exception stack of another CPU"],
    }
}

/// No two CPUs are the same, nor are their stacks.
fn expect_apart(seen: &[Seen]) {
    for (index, cpu) in seen.iter().enumerate() {
        for other in &seen[index + 1..] {
            assert_ne!(cpu.affinities, other.affinities, "CPUs {} and {}", cpu.number, other.number);
            let apart = |which: usize| cpu.stacks[which].abs_diff(other.stacks[which]) >= STACK_BYTES;
            assert!(apart(0) && apart(1), "CPUs {} and {} share a stack: {seen:x?}", cpu.number, other.number);
        }
    }
}

/// Below each of its stacks nothing is mapped.
fn expect_guarded(cpu: &Seen) {
    for (pointer, name) in cpu.stacks.into_iter().zip(["guard page of another CPU's stack", EXCEPTION_GUARD]) {
        let below = VirtAddr::new(pointer - 1).align_down(STACK_BYTES).add(8_u64.wrapping_neg());
        assert_eq!(cpus::stack_name(below), Some(name), "below the stack of CPU {} at {pointer:#x}", cpu.number);
        assert!(probe::load(below).is_err(), "{below}, below the stack of CPU {}, is mapped", cpu.number);
    }
}

/// Where the handler's stack was when the last fault was taken, and on which CPU.
static HANDLED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn note_handler() {
    let stack: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) stack, options(nomem, nostack, preserves_flags)) }
    HANDLED[0].store(stack, Ordering::Relaxed);
    HANDLED[1].store(cpu::this() as u64, Ordering::Relaxed);
}

/// A probe's fault is taken on the exception stack of the CPU that probes, one CPU after the other, and stepped over.
fn exceptions_on_own_stack() {
    let turns = AtomicUsize::new(0);
    for turn in 0..cpu::count() {
        on_each(|number| {
            if number != turn {
                return;
            }
            let end = TPIDR_EL1.get();
            probe::at_next_fault(note_handler);
            let fault = probe::load(VirtAddr::new(0)).expect_err("the lower half translates");
            assert_eq!(fault.status.kind, FaultKind::Translation);
            let [stack, cpu] = [0, 1].map(|which: usize| HANDLED[which].load(Ordering::Relaxed));
            assert_eq!(cpu, number as u64, "the handler knows which CPU it is on");
            assert!(stack < end && end - stack < STACK_BYTES, "{stack:#x} is not on the stack that ends at {end:#x}");
            turns.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(turns.into_inner(), cpu::count());
}

/// All CPUs load from where nothing is, and store to what is read-only, at once and many times: each gets its own fault.
pub fn probes<M: Machine>(world: &World<M>) {
    const LOADS: u64 = 1000;
    let nowhere = world.map.layout().linear_address(world.device.start());
    let text = Part::Text.linked().start();
    on_each(|number| {
        for index in 0..LOADS {
            let address = nowhere.add((number as u64 * LOADS + index) * 8);
            let fault = probe::load(address).expect_err("nothing is added");
            assert_eq!((fault.far, fault.status.kind), (address, FaultKind::Translation));
            // SAFETY: if it goes through, the case has failed and the boot ends.
            let fault = unsafe { probe::store(text, 0) }.expect_err("text can be written");
            assert_eq!((fault.far, fault.status.kind), (text, FaultKind::Permission));
        }
    });
}

//! The two places where `entry.s` enters Rust: with the MMU off, and with the MMU on.

use core::arch::global_asm;
use core::mem::MaybeUninit;

use aarch64_cpu::registers::{MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1, TTBR1_EL1};

use super::discover;
use super::info::{self, BootInfo, Registers};
use super::refuse::refuse;
use super::switch::Switch;
use crate::{console, heap};

global_asm!(include_str!("entry.s"));

unsafe extern "Rust" {
    /// The program: defined by the binary, by [`main!`](crate::main).
    safe fn kernel_main(boot: &'static BootInfo) -> !;
}

/// Names the function that the image runs once it has booted: `fn(&'static BootInfo) -> !`.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[unsafe(export_name = "kernel_main")]
        extern "Rust" fn __kernel_main(boot: &'static $crate::boot::BootInfo) -> ! {
            let main: fn(&'static $crate::boot::BootInfo) -> ! = $main;
            main(boot)
        }
    };
}

/// With the MMU off: finds out what machine this is, builds the first tables, and says how to switch the MMU on.
#[unsafe(no_mangle)]
extern "C" fn early(x0: u64, entry_level: u64, unknown_relocations: u64, switch: &mut MaybeUninit<Switch>) {
    match discover::prepare(x0, entry_level) {
        Ok(values) => {
            switch.write(values);
        }
        Err(refusal) => refuse(refusal),
    }
    assert_eq!(unknown_relocations, 0, "entry.s knows no relocation but R_AARCH64_RELATIVE");
}

/// With the MMU on, at the address where the image is linked.
#[unsafe(no_mangle)]
extern "C" fn kernel_start() -> ! {
    let registers =
        Registers { tcr: TCR_EL1.get(), mair: MAIR_EL1.get(), sctlr: SCTLR_EL1.get(), ttbr1: TTBR1_EL1.get() };
    // SAFETY: called once, after `discover::prepare` stored what is published here.
    let boot = unsafe { info::publish(registers) };
    if let Some(registers) = boot.console {
        // SAFETY: the first tables map the PL011 there, as device memory.
        unsafe { console::init(registers.value()) }
    }
    // SAFETY: called once, and the MMU is on.
    unsafe { heap::init() }
    kernel_main(boot)
}

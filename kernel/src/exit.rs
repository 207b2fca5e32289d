//! The way out: semihosting where the machine has it, else PSCI.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use aarch64_cpu::asm;
use qemu_exit::QEMUExit;
use smccc::psci::{self, system_off, system_reset};
use smccc::{Hvc, Smc};

/// What the run came to, and the exit status that QEMU then has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// All was proved.
    Pass = 0,
    /// A proof failed.
    Fail = 65,
    /// Bad input, or a machine that can't do what was asked.
    Refused = 66,
    /// A panic, or an exception that nobody expected.
    Panic = 67,
}

/// How PSCI is called: what the device tree says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `HVC`.
    Hvc = 1,
    /// `SMC`.
    Smc = 2,
}

// Before the MMU is on only plain loads and stores are allowed on these.
static CONDUIT: AtomicU8 = AtomicU8::new(0);
static EXITING: AtomicBool = AtomicBool::new(false);

/// Remembers how PSCI is called.
pub fn set_conduit(conduit: Conduit) {
    CONDUIT.store(conduit as u8, Ordering::Relaxed);
}

/// Ends the run. With semihosting QEMU's exit status is `status`; without it the machine powers off, and only the last
/// line on the console tells what happened.
pub fn exit(status: Status) -> ! {
    EXITING.store(true, Ordering::Relaxed);
    // Without semihosting the HLT of this call is undefined: the exception handler then calls `power_off`.
    qemu_exit::AArch64::new().exit(status as u32)
}

/// Whether [`exit`] has been called: an undefined instruction is then its HLT.
#[must_use]
pub fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// Powers the machine off by PSCI; waits for ever where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn power_off() -> ! {
    call_psci(system_off::<Hvc>, system_off::<Smc>)
}

/// Resets the machine by PSCI; waits for ever where there is none.
pub fn reset() -> ! {
    call_psci(system_reset::<Hvc>, system_reset::<Smc>)
}

/// Makes a call that does not return, by the conduit that the machine has.
fn call_psci(by_hvc: fn() -> Result<(), psci::Error>, by_smc: fn() -> Result<(), psci::Error>) -> ! {
    let conduit = CONDUIT.load(Ordering::Relaxed);
    let outcome = if conduit == Conduit::Hvc as u8 {
        by_hvc()
    } else if conduit == Conduit::Smc as u8 {
        by_smc()
    } else {
        Ok(())
    };
    // Either there is no PSCI or it refused: nothing is left to try.
    let _ = outcome;
    loop {
        asm::wfi();
    }
}

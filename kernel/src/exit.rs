//! The way out: semihosting where the machine has it, else PSCI.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aarch64_cpu::asm;
use qemu_exit::QEMUExit;

use crate::cpus;
use crate::psci::{self, system_off, system_reset};

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

// Before the MMU is on only plain loads and stores are allowed on these.
static EXITING: AtomicBool = AtomicBool::new(false);
/// The CPU that reports why the run ends.
static REPORTER: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// Ends the run. With semihosting QEMU's exit status is `status`; without it the machine powers off, and only the last
/// line on the console tells what happened.
pub fn exit(status: Status) -> ! {
    EXITING.store(true, Ordering::Relaxed);
    // Without semihosting the HLT of this call is undefined: the exception handler then calls `power_off`.
    qemu_exit::AArch64::new().exit(status as u32)
}

/// To be called before this CPU reports why the run ends: another that comes later stops here, and lets the first one
/// finish. A panic or a fault within the report ends the run at once. (Two that come in the very same moment both report.)
pub fn report_alone() {
    let this = cpus::this();
    match REPORTER.load(Ordering::Relaxed) {
        NOBODY => REPORTER.store(this, Ordering::Relaxed),
        reporter if reporter == this => exit(Status::Panic),
        _ => wait_for_ever(),
    }
}

/// Whether [`exit`] has been called: an undefined instruction is then its HLT.
#[must_use]
pub fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// Powers the machine off by PSCI; waits for ever where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn power_off() -> ! {
    stop(system_off())
}

/// Resets the machine by PSCI; waits for ever where there is none.
pub fn reset() -> ! {
    stop(system_reset())
}

/// Stops this CPU, whose call to PSCI has returned: either there is none or it refused, and nothing is left to try.
pub(crate) fn stop(_: Result<(), psci::Error>) -> ! {
    wait_for_ever()
}

fn wait_for_ever() -> ! {
    loop {
        asm::wfi();
    }
}

//! The way out: semihosting where the machine has it, else PSCI.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aarch64_cpu::asm;
use aarch64_cpu::registers::{Readable, SCTLR_EL1};
use qemu_exit::QEMUExit;

use crate::cpu;
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
/// finish. A panic or a fault within the report ends the run at once.
pub fn report_alone() {
    let this = cpu::this();
    match reporter_before(this) {
        NOBODY => {}
        reporter if reporter == this => exit(Status::Panic),
        _ => wait_for_ever(),
    }
}

/// Makes this CPU the one that reports, unless there is one already; who it was before.
fn reporter_before(this: usize) -> usize {
    if SCTLR_EL1.matches_all(SCTLR_EL1::M::Enable) {
        let claimed = REPORTER.compare_exchange(NOBODY, this, Ordering::Relaxed, Ordering::Relaxed);
        return claimed.unwrap_or_else(|reporter| reporter);
    }
    // With the MMU off there is one CPU, and an exclusive access need not work.
    let before = REPORTER.load(Ordering::Relaxed);
    REPORTER.store(this, Ordering::Relaxed);
    before
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

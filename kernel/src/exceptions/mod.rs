//! What happens when an access or an instruction does not go through.
//!
//! - An access of [`probe`] is stepped over, and its fault handed to the caller.
//! - A translation fault on an address that translates by now is spurious: another CPU mapped it, and this one had not
//!   synchronised (no `FEAT_ETS`). The access is made again.
//! - All else is reported and ends the run: the syndrome in words, the region of the address, its walk, a backtrace.

pub mod probe;
mod report;
pub mod syndrome;

use core::arch::global_asm;

use vmemmap::addr::VirtAddr;

use crate::exit::{self, Status};
use syndrome::{Class, Syndrome};

global_asm!(include_str!("vectors.s"));

/// The interrupted code's registers, as vectors.s lays them out on the exception stack.
#[repr(C)]
pub struct Frame {
    /// `x0` to `x30`.
    pub x: [u64; 31],
    /// The stack pointer of the interrupted code.
    pub sp: u64,
    /// `ELR_EL1`: the instruction that was interrupted, and where the handler returns to.
    pub elr: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
    /// `ESR_EL1`.
    pub esr: u64,
    /// `FAR_EL1`; meaningful for aborts only.
    pub far: u64,
}

const _: () = assert!(size_of::<Frame>() == 288, "vectors.s reserves this much");

/// What vectors.s passes as the kind of exception.
const SYNCHRONOUS: u64 = 0;

#[unsafe(no_mangle)]
extern "C" fn handle_exception(frame: &mut Frame, kind: u64) {
    let syndrome = Syndrome(frame.esr);
    if kind == SYNCHRONOUS {
        if exit::is_exiting() && syndrome.class() == Class::Unknown {
            exit::power_off();
        }
        probe::elsewhere();
        if vmemmap_aarch64::is_spurious(frame.esr, VirtAddr::new(frame.far)) || probe::step_over(frame) {
            return;
        }
    }
    report::report(frame, kind)
}

/// A fault in this module, or in what it calls. The exception stack starts afresh.
#[unsafe(no_mangle)]
extern "C" fn exception_in_handler(esr: u64, far: u64, elr: u64) -> ! {
    if exit::is_exiting() && Syndrome(esr).class() == Class::Unknown {
        exit::power_off();
    }
    report::print_nested(esr, far, elr);
    exit::exit(Status::Panic)
}

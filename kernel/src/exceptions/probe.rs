//! Accesses that may fault: how a removed page is proved to be gone.

use core::arch::asm;

use spin::Mutex;
use vmemmap::addr::VirtAddr;

use super::Frame;
use super::syndrome::{FaultStatus, Syndrome};

/// The fault of a probed access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// `ESR_EL1`.
    pub esr: u64,
    /// `FAR_EL1`: the address that faulted.
    pub far: VirtAddr,
    /// What the status code says: which fault, at which level.
    pub status: FaultStatus,
}

unsafe extern "C" {
    static probe_load_access: u32;
    static probe_store_access: u32;
}

/// Loads 8 bytes from any address, a multiple of 8.
///
/// # Errors
///
/// The [`Fault`] that the load raised.
pub fn load(address: VirtAddr) -> Result<u64, Fault> {
    let (value, esr, far): (u64, u64, u64);
    // SAFETY: if the load faults the handler steps over it and says so in x1; a load changes nothing.
    unsafe {
        asm!("bl probe_load", inout("x0") address.value() => value, out("x1") esr, out("x2") far, out("x30") _,
             options(nostack));
    }
    outcome(esr, far).map(|()| value)
}

/// Stores 8 bytes at an address, a multiple of 8.
///
/// # Errors
///
/// The [`Fault`] that the store raised.
///
/// # Safety
///
/// If the address is mapped writable, nobody else may depend on what is there.
pub unsafe fn store(address: VirtAddr, value: u64) -> Result<(), Fault> {
    let (esr, far): (u64, u64);
    // SAFETY: if the store faults the handler steps over it and says so in x1; if it does not, the caller answers for
    // the eight bytes.
    unsafe {
        asm!("bl probe_store", inout("x0") address.value() => _, inout("x1") value => esr, out("x2") far,
             out("x3") _, out("x30") _, options(nostack));
    }
    outcome(esr, far)
}

fn outcome(esr: u64, far: u64) -> Result<(), Fault> {
    match Syndrome(esr).fault() {
        None => Ok(()),
        Some(status) => Err(Fault { esr, far: VirtAddr::new(far), status }),
    }
}

/// What another CPU does while the next fault is taken.
static ELSEWHERE: Mutex<Option<fn()>> = Mutex::new(None);

/// Runs `work` once, when the next exception is taken and before anybody looks why, on the CPU that takes it: a second one
/// would come at that moment by chance only.
pub fn at_next_fault(work: fn()) {
    *ELSEWHERE.lock() = Some(work);
}

/// The other CPU's part.
pub(super) fn elsewhere() {
    if let Some(work) = ELSEWHERE.lock().take() {
        work();
    }
}

/// Lets the interrupted code go on behind the access, if it was a probe's; says whether it was.
pub(super) fn step_over(frame: &mut Frame) -> bool {
    const INSTRUCTION_BYTES: u64 = 4;
    let probes = [(&raw const probe_load_access).addr() as u64, (&raw const probe_store_access).addr() as u64];
    let abort = Syndrome(frame.esr).fault().is_some();
    if !abort || !probes.contains(&frame.elr) {
        return false;
    }
    frame.x[1] = frame.esr;
    frame.x[2] = frame.far;
    frame.elr += INSTRUCTION_BYTES;
    true
}

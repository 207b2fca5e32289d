//! Spurious faults: what another CPU mapped correctly may fault here once.

use vmemmap::addr::VirtAddr;

use crate::translate::{translate, translate_for_write};

/// `ESR_EL1.EC`: an instruction abort and a data abort taken from EL1 itself.
const INSTRUCTION_ABORT: u64 = 0x21;
const DATA_ABORT: u64 = 0x25;
/// The fault was in a stage 2 walk on behalf of a stage 1 walk.
const S1PTW: u64 = 1 << 7;
/// Data aborts only: a store (or cache maintenance: see [`CM`]).
const WNR: u64 = 1 << 6;
/// Data aborts only: cache maintenance or AT, for which [`WNR`] is always 1, whatever it needs.
const CM: u64 = 1 << 8;
/// Fault status codes, bits 5:0: translation fault at level 0 to 3, and at level -1.
const TRANSLATION: core::ops::RangeInclusive<u64> = 0b00_0100..=0b00_0111;
const TRANSLATION_BEFORE_0: u64 = 0b10_1011;

/// Whether a fault at EL1 with these values of `ESR_EL1` and `FAR_EL1` was spurious: the access can be made again, by
/// returning from the exception.
///
/// A CPU that makes a mapping ends with DSB and, for itself, ISB. Another CPU may go on with the outcome of a walk that it
/// made before, until its context is synchronised or unless it has `FEAT_ETS2`: it takes a translation fault on an address
/// that is mapped, and has done nothing wrong. Taking the exception has synchronised the context, so the handler
/// asks the MMU again: if the address translates now, for a write where a store faulted, the fault was spurious. (Linux has had
/// the same test since 42f91093b043, when barriers after each mapping went.)
///
/// Only a translation fault can be spurious. A store to what is read-only by now is not made again: the fault that is
/// reported is the first one. A fetch from what may not be executed is, and ends in a permission fault. So nothing loops,
/// where the kernel makes no unprivileged accesses (LDTR, STTR) to the upper half with `TCR_EL1.E0PD1` set: those fault whatever
/// the MMU answers here.
///
/// It uses `PAR_EL1`: call it with interrupts masked, as they are when the exception is taken.
#[must_use]
pub fn is_spurious(esr: u64, far: VirtAddr) -> bool {
    let status = esr & 0x3f;
    let translation = TRANSLATION.contains(&status) || status == TRANSLATION_BEFORE_0;
    if !translation || esr & S1PTW != 0 {
        return false;
    }
    match esr >> 26 & 0x3f {
        DATA_ABORT if esr & (WNR | CM) == WNR => translate_for_write(far).is_ok(),
        DATA_ABORT | INSTRUCTION_ABORT => translate(far).is_ok(),
        _ => false,
    }
}

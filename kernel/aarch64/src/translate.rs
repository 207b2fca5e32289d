//! Asking the MMU: `AT S1E1R` and `AT S1E1W`.

use core::arch::asm;

use vmemmap::addr::{PhysAddr, VirtAddr};

/// The MMU does not translate an address for a read, or for a write, at EL1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TranslationFault {
    /// The fault status code of `PAR_EL1`, bits 6:1, as in `ESR_EL1.DFSC` (0b0001LL: translation fault at level LL).
    pub status: u8,
}

/// The physical address that a read of `address` at EL1 would reach.
///
/// Under QEMU this walks the tables afresh, so it proves tables and not TLBs.
///
/// # Errors
///
/// [`TranslationFault`] with the status code when the walk ends in a fault.
pub fn translate(address: VirtAddr) -> Result<PhysAddr, TranslationFault> {
    let par: u64;
    // SAFETY: AT writes PAR_EL1 only; the ISB orders it before the read. Interrupts may not intervene: the
    // kernel runs with them masked.
    unsafe {
        asm!("at s1e1r, {}", "isb", "mrs {}, par_el1", in(reg) address.value(), lateout(reg) par,
             options(nostack, preserves_flags));
    }
    decode(par, address)
}

/// The physical address that a write to `address` at EL1 would reach. A read-only page is reached by none.
///
/// # Errors
///
/// As for [`translate`]; a permission fault as well.
pub fn translate_for_write(address: VirtAddr) -> Result<PhysAddr, TranslationFault> {
    let par: u64;
    // SAFETY: as above.
    unsafe {
        asm!("at s1e1w, {}", "isb", "mrs {}, par_el1", in(reg) address.value(), lateout(reg) par,
             options(nostack, preserves_flags));
    }
    decode(par, address)
}

/// A value of `PAR_EL1` after the translation of `address`.
const fn decode(par: u64, address: VirtAddr) -> Result<PhysAddr, TranslationFault> {
    if par & 1 == 1 {
        return Err(TranslationFault { status: (par >> 1 & 0x3f) as u8 });
    }
    Ok(PhysAddr::new(par & 0x000f_ffff_ffff_f000 | address.value() & 0xfff))
}

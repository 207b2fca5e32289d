//! Leaving EL2: what EL1 may use is set up here, and no trap stays behind.

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTVOFF_EL2, HCR_EL2, ID_AA64DFR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64PFR0_EL1, MDCR_EL2,
    MIDR_EL1, MPIDR_EL1, Readable, VMPIDR_EL2, VTTBR_EL2, Writeable,
};

/// `CPTR_EL2` without a trap, its RES1 bits set.
const CPTR_NO_TRAPS: u64 = 0x32ff;

/// Prepares EL1 for the exception return that entry.s makes next. Runs at EL2, with the MMU off.
#[unsafe(no_mangle)]
extern "C" fn prepare_el1() {
    HCR_EL2.write(HCR_EL2::RW::EL1IsAarch64 + HCR_EL2::APK::SET + HCR_EL2::API::SET);
    // HCR_EL2.E2H, clear now, says what the registers below look like.
    barrier::isb(barrier::SY);
    VTTBR_EL2.set(0);
    give_timers();
    give_performance_monitor();
    give_interrupts();
    VMPIDR_EL2.set(MPIDR_EL1.get());
    // SAFETY: EL1 sees this CPU as it is, and nothing that it does is trapped. No memory is touched.
    unsafe {
        asm!("msr vpidr_el2, {}", in(reg) MIDR_EL1.get(), options(nomem, nostack, preserves_flags));
        asm!("msr cptr_el2, {}", in(reg) CPTR_NO_TRAPS, options(nomem, nostack, preserves_flags));
        asm!("msr hstr_el2, xzr", options(nomem, nostack, preserves_flags));
    }
    clear_fine_grained_traps();
}

fn give_timers() {
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCEN::SET + CNTHCTL_EL2::EL1PCTEN::SET);
    CNTVOFF_EL2.set(0);
}

/// EL1 gets every event counter: `MDCR_EL2.HPMN` is the first that it would not get.
fn give_performance_monitor() {
    let counters = match ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer) {
        0 | 15 => 0,
        _ => pmcr() >> 11 & 0x1f,
    };
    MDCR_EL2.write(MDCR_EL2::HPMN.val(counters));
}

/// EL1 gets the GIC's CPU interface, if it is one of system registers: physical interrupts, and no virtual ones.
fn give_interrupts() {
    const SYSTEM_REGISTERS_HERE_AND_BELOW: u64 = 0b1001;
    const GIC: u64 = 0xf << 24;
    if ID_AA64PFR0_EL1.get() & GIC == 0 {
        return;
    }
    // SAFETY: the registers exist: ICC_SRE_EL2 (SRE and Enable), and ICH_HCR_EL2, where 0 is no trap.
    unsafe {
        asm!(
            "mrs {value}, s3_4_c12_c9_5",
            "orr {value}, {value}, {bits}",
            "msr s3_4_c12_c9_5, {value}",
            "isb",
            "msr s3_4_c12_c11_0, xzr",
            value = out(reg) _,
            bits = in(reg) SYSTEM_REGISTERS_HERE_AND_BELOW,
            options(nomem, nostack, preserves_flags)
        );
    }
}

fn pmcr() -> u64 {
    let value;
    // SAFETY: a read of an ID-like register that exists, as the caller has checked.
    unsafe { asm!("mrs {}, pmcr_el0", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Registers of `FEAT_FGT` and `FEAT_HCX`, whose reset values the architecture leaves open.
fn clear_fine_grained_traps() {
    const FGT_SHIFT: u32 = 56;
    const HCX_SHIFT: u32 = 40;
    if ID_AA64MMFR0_EL1.get() >> FGT_SHIFT & 0xf != 0 {
        // SAFETY: the registers exist: HFGRTR, HFGWTR, HFGITR, HDFGRTR and HDFGWTR_EL2; 0 is no trap.
        unsafe {
            asm!(
                "msr s3_4_c1_c1_4, xzr",
                "msr s3_4_c1_c1_5, xzr",
                "msr s3_4_c1_c1_6, xzr",
                "msr s3_4_c3_c1_4, xzr",
                "msr s3_4_c3_c1_5, xzr",
                options(nomem, nostack, preserves_flags)
            );
        }
    }
    if ID_AA64MMFR1_EL1.get() >> HCX_SHIFT & 0xf != 0 {
        // SAFETY: the register exists: HCRX_EL2; 0 enables nothing and traps nothing that we use.
        unsafe { asm!("msr s3_4_c1_c2_2, xzr", options(nomem, nostack, preserves_flags)) }
    }
}

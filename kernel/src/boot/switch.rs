//! The register values that switch the MMU on.

use aarch64_cpu::registers::{SCTLR_EL1, TCR_EL1};
use tock_registers::fields::FieldValue;
use vmemmap::regime::Regime;

use super::tables::FirstTables;

/// What a CPU writes to switch its MMU on, in the order in which the assembly loads them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Switch {
    mair: u64,
    tcr: u64,
    ttbr0: u64,
    ttbr1: u64,
    sctlr: u64,
    tcr_without_ttbr0: u64,
}

/// Bits of `SCTLR_EL1` that are RES1 in Armv8.0; later versions gave them meanings in which 1 is the old behaviour.
const SCTLR_RES1: u64 = 1 << 11 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 28 | 1 << 29;

impl Switch {
    /// Of a CPU that is not to be switched on.
    pub const OFF: Self = Self { mair: 0, tcr: 0, ttbr0: 0, ttbr1: 0, sctlr: 0, tcr_without_ttbr0: 0 };

    /// For these tables, on a CPU whose output size has the encoding `ips`.
    #[must_use]
    pub fn new(regime: Regime, ips: u64, tables: &FirstTables) -> Self {
        let registers = regime.registers(tables.root, ips);
        Self {
            mair: registers.mair,
            tcr: registers.tcr,
            ttbr0: tables.identity.value(),
            ttbr1: registers.ttbr1,
            sctlr: SCTLR_RES1 | mmu_on().value,
            tcr_without_ttbr0: registers.tcr | TCR_EL1::EPD0::DisableTTBR0Walks.value,
        }
    }
}

/// MMU and caches on, stack alignment checked, nothing writable is executable.
fn mmu_on() -> FieldValue<u64, SCTLR_EL1::Register> {
    SCTLR_EL1::M::Enable
        + SCTLR_EL1::C::Cacheable
        + SCTLR_EL1::I::Cacheable
        + SCTLR_EL1::SA::Enable
        + SCTLR_EL1::WXN::Enable
}

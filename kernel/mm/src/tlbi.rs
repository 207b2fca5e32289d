//! One TLB invalidation as a typed value, its operand built in one place.
//!
//! Every mapping here is global and every table may have been walked under any ASID, so only the all-ASID forms occur:
//! by RVMSWQ an ASID-specific form would leave table entries behind.

mod range;

pub use range::RangeOperand;
pub(crate) use range::{Cover, cover};

use crate::addr::VirtAddr;

/// One TLB invalidation of the EL1&0 regime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tlbi {
    /// `TLBI VMALLE1IS`: everything, on every CPU of the inner shareable domain.
    AllInnerShareable,
    /// `TLBI VMALLE1`: everything, on this CPU only.
    AllLocal,
    /// `TLBI VAALE1IS`: the leaf that translates an address, any ASID, on every CPU.
    LastLevel(Operand),
    /// `TLBI VAAE1IS`: the leaf and every table entry used to translate an address, any ASID, on every CPU.
    AnyLevel(Operand),
    /// `TLBI RVAALE1IS`: the leaves that translate a range, whatever their size, any ASID, on every CPU. Only where
    /// [the machine has it](crate::seam::Mmu::has_range_invalidations).
    LastLevelRange(RangeOperand),
    /// `TLBI RVAAE1IS`: the leaves and every table entry used to translate a range, any ASID, on every CPU. As above.
    AnyLevelRange(RangeOperand),
}

impl Tlbi {
    /// The operation as an assembler writes it.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllInnerShareable => "vmalle1is",
            Self::AllLocal => "vmalle1",
            Self::LastLevel(_) => "vaale1is",
            Self::AnyLevel(_) => "vaae1is",
            Self::LastLevelRange(_) => "rvaale1is",
            Self::AnyLevelRange(_) => "rvaae1is",
        }
    }

    /// Whether it is one of the forms by range, which are undefined on a CPU without `FEAT_TLBIRANGE`.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn is_by_range(self) -> bool {
        matches!(self, Self::LastLevelRange(_) | Self::AnyLevelRange(_))
    }

    /// The value of its operand register, if it has one.
    #[must_use]
    #[inline]
    pub const fn operand(self) -> Option<u64> {
        match self {
            Self::AllInnerShareable | Self::AllLocal => None,
            Self::LastLevel(operand) | Self::AnyLevel(operand) => Some(operand.bits()),
            Self::LastLevelRange(operand) | Self::AnyLevelRange(operand) => Some(operand.bits()),
        }
    }
}

/// The register operand of an invalidation by address.
///
/// Bits 43:0 hold VA\[55:12\] at *every* granule (IZVNJG, IHQTLK). Bits 47:44 are the level hint and 63:48 the ASID: both
/// stay zero, so nothing of a kernel address may leak into them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand(u64);

impl Operand {
    /// The operand for `address`.
    #[must_use]
    #[inline]
    pub const fn new(address: VirtAddr) -> Self {
        Self(address.value() >> 12 & ((1 << 44) - 1))
    }

    /// The operand for the address `bytes` bytes further on, in the same half of the address space.
    #[must_use]
    #[inline]
    pub(crate) const fn behind(self, bytes: u64) -> Self {
        Self(self.0 + (bytes >> 12))
    }

    /// The register's value.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operand_is_the_address_in_4k_units_with_hint_and_asid_zero() {
        let operand = Operand::new(VirtAddr::new(0xffff_ffdf_c030_0000));
        assert_eq!(operand.bits(), 0x0000_0fff_fdfc_0300);
    }
}

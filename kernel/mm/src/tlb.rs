//! TLB invalidations as typed values, their operands built in one place, and batches of them.
//!
//! Every mapping here is global and every table may have been walked under any ASID, so only the all-ASID forms occur:
//! by RVMSWQ an ASID-specific form would leave table entries behind.

use crate::addr::VirtAddr;
use crate::granule::{Granule, GranuleSize};
use crate::leaf::Stretch;
use crate::seam::{Dsb, Machine};

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

    /// The register's value.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Above this many single invalidations a batch invalidates everything instead: Linux's `MAX_DVM_OPS`, the number of
/// descriptors in a table.
#[must_use]
#[inline]
pub const fn most_single_invalidations(granule: GranuleSize) -> u64 {
    granule.entries()
}

/// Makes every CPU forget the leaves of `stretches`, whose descriptors have been cleared: DSB ISHST, the invalidations,
/// DSB ISH, ISB. When it returns, the frames that they mapped may be used for something else.
///
/// A contiguous run needs one invalidation a member (RLQLSD), and all of its members must be invalid already, since a
/// walk of one that is still valid may cache the whole run again (RSKQHL).
#[inline]
pub fn invalidate_leaves<M: Machine>(machine: &mut M, stretches: impl Iterator<Item = Stretch> + Clone) {
    let size = M::Granule::SIZE;
    let leaves: u64 = stretches.clone().map(|stretch| stretch.descriptors(size)).sum();
    if leaves == 0 {
        return;
    }
    machine.dsb(Dsb::InnerShareableStores);
    if leaves > most_single_invalidations(size) {
        machine.tlbi(Tlbi::AllInnerShareable);
    } else {
        stretches.for_each(|stretch| invalidate_stretch(machine, stretch));
    }
    complete(machine);
}

#[inline]
fn invalidate_stretch<M: Machine>(machine: &mut M, stretch: Stretch) {
    let step = 1 << M::Granule::SIZE.level_shift(stretch.leaf.level);
    let mut address = stretch.va;
    for _ in 0..stretch.descriptors(M::Granule::SIZE) {
        machine.tlbi(Tlbi::LastLevel(Operand::new(address)));
        address = address.add(step);
    }
}

/// Waits until the invalidations that this CPU broadcast are complete everywhere, this CPU included (RYNJCP, RBLDZX).
#[inline]
pub fn complete<M: Machine>(machine: &mut M) {
    machine.dsb(Dsb::InnerShareable);
    machine.isb();
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

//! Batches of TLB invalidations: as few as do, with the barriers around them.

mod extent;

pub(crate) use extent::{Extent, Reach};

use crate::granule::{Granule, GranuleSize};
use crate::leaf::Stretch;
use crate::regime::Regime;
use crate::seam::{Dsb, Machine};
use crate::table::repeat;
use crate::tlbi::{Operand, Tlbi};
use extent::joined;

/// A batch of more operations than this invalidates everything instead.
///
/// Each operation is a message that every CPU has to act on before the DSB is over: what they cost grows with their number.
/// `VMALLE1IS` is one message, after which every CPU walks again for all that it had cached, the user's and the kernel's: up
/// to some thousands of walks each, whatever the batch. In between is the number of descriptors in a table (512, 2048, 8192),
/// which is Linux's `MAX_DVM_OPS` too. No machine at hand can measure where the two cost the same.
#[must_use]
#[inline]
pub const fn most_single_invalidations(granule: GranuleSize) -> u64 {
    granule.entries()
}

/// Makes every CPU forget the leaves of `stretches`, whose descriptors have been cleared: DSB ISHST, the invalidations,
/// DSB ISH, ISB. When it returns, the frames that they mapped may be used for something else.
///
/// A contiguous run needs one invalidation a member (RLQLSD), and all of its members must be invalid already, since a
/// walk of one that is still valid may cache the whole run again (RSKQHL). Where there are invalidations by range, a few take the
/// place of all of them.
#[inline]
pub fn invalidate_leaves<M: Machine>(
    machine: &mut M,
    regime: Regime,
    stretches: impl Iterator<Item = Stretch> + Clone,
) {
    let size = M::Granule::SIZE;
    let mut leaves = 0;
    for stretch in stretches.clone() {
        leaves += stretch.descriptors(size);
    }
    if leaves == 0 {
        return;
    }
    machine.dsb(Dsb::InnerShareableStores);
    if machine.has_range_invalidations() {
        invalidate_by_ranges(machine, regime, stretches);
    } else if leaves > most_single_invalidations(size) {
        machine.tlbi(Tlbi::AllInnerShareable);
    } else {
        for stretch in stretches {
            invalidate_stretch(machine, stretch);
        }
    }
    complete(machine);
}

/// The same operations by range, or one for everything where even those are too many. Out of line: a CPU without them pays a branch.
#[cold]
#[inline(never)]
fn invalidate_by_ranges<M: Machine>(machine: &mut M, regime: Regime, stretches: impl Iterator<Item = Stretch> + Clone) {
    let size = M::Granule::SIZE;
    let extents = || joined(stretches.clone().flat_map(|stretch| Extent::of(stretch, size)), size);
    let operations: u64 = extents().map(|extent| extent.operations(regime, Reach::LastLevel).count() as u64).sum();
    if operations > most_single_invalidations(size) {
        return machine.tlbi(Tlbi::AllInnerShareable);
    }
    for extent in extents() {
        extent.operations(regime, Reach::LastLevel).for_each(|operation| machine.tlbi(operation));
    }
}

/// Makes this CPU forget whatever its TLB holds from before: TLBI VMALLE1, DSB NSH, ISB.
#[inline]
pub fn forget<M: Machine>(machine: &mut M) {
    machine.tlbi(Tlbi::AllLocal);
    machine.dsb(Dsb::NonShareable);
    machine.isb();
}

#[inline]
fn invalidate_stretch<M: Machine>(machine: &mut M, stretch: Stretch) {
    let step = 1 << M::Granule::SIZE.level_shift(stretch.leaf.level);
    let mut operand = Operand::new(stretch.va);
    repeat(stretch.descriptors(M::Granule::SIZE), || {
        machine.tlbi(Tlbi::LastLevel(operand));
        operand = operand.behind(step);
    });
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
    use crate::addr::VirtAddr;
    use crate::granule::{K4, K16, K64, Level};
    use crate::leaf::Leaf;
    use crate::observe::Event;
    use crate::testing::{Seen, tables, take_log};

    /// Removals ask for the members singly; others may hand over whole runs.
    fn members_invalidated<G: Granule>(level: Level, count: u64) {
        let (va, leaf) = (VirtAddr::new(0xffff_0000_0000_0000), Leaf { level, contiguous: true });
        let step = 1 << G::SIZE.level_shift(level);
        take_log();
        let mut tables = tables::<G>(48);
        let regime = tables.regime();
        invalidate_leaves(tables.machine_mut(), regime, core::iter::once(Stretch { va, leaf, count }));
        let tlbi = |seen| if let Seen::Machine(Event::Tlbi(tlbi)) = seen { Some(tlbi) } else { None };
        let got: Vec<_> = take_log().into_iter().filter_map(tlbi).collect();
        let members = (0..count * leaf.descriptors(G::SIZE)).map(|member| va.add(member * step));
        let want: Vec<_> = members.map(|va| Tlbi::LastLevel(Operand::new(va))).collect();
        assert_eq!(got, want, "{} at {level}", G::SIZE);
    }

    #[test]
    fn each_member_of_a_contiguous_run_is_invalidated() {
        for level in [Level::L2, Level::L3] {
            members_invalidated::<K4>(level, 3);
            members_invalidated::<K16>(level, 2);
            members_invalidated::<K64>(level, 2);
        }
    }
}

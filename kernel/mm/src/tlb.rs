//! Batches of TLB invalidations: as few as do, with the barriers around them.

mod extent;

pub(crate) use extent::{Extent, Gather, Reach};

use crate::granule::{Granule, GranuleSize};
use crate::leaf::Stretch;
use crate::regime::Regime;
use crate::repeat::repeat;
use crate::seam::{Dsb, Machine};
use crate::tlbi::{Operand, Tlbi};

/// Where there are no invalidations by range, a batch of more single ones than this invalidates everything instead.
///
/// Each operation is a message that every CPU has to act on before the DSB is over: what they cost grows with their number.
/// `VMALLE1IS` is one message, after which every CPU walks again for all that it had cached, the user's and the
/// kernel's: up to some thousands of walks each, whatever the batch. Of that order is the number of descriptors in a
/// table (512, 2048, 8192), which is Linux's `MAX_DVM_OPS` too. No machine at hand can measure where the two cost the
/// same.
#[must_use]
#[inline]
pub const fn most_single_invalidations(granule: GranuleSize) -> u64 {
    granule.entries()
}

/// Makes every CPU forget the leaves of `stretches`, whose descriptors have been cleared: DSB ISHST, the invalidations,
/// DSB ISH, ISB. When it returns, the frames that they mapped may be used for something else.
///
/// A contiguous run needs one invalidation a member (RLQLSD), and all of its members must be invalid already, since a
/// walk of one that is still valid may cache the whole run again (RSKQHL). Where there are invalidations by range, a few
/// take the place of all of them, in the format that `regime` asks for: that of the machine's tables, or too little is
/// forgotten.
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
        invalidate_by_ranges(regime, &mut { stretches }, &mut issue(machine));
    } else if leaves > most_single_invalidations(size) {
        machine.tlbi(Tlbi::AllInnerShareable);
    } else {
        for stretch in stretches {
            invalidate_stretch(machine, stretch);
        }
    }
    complete(machine);
}

/// Lets `machine` execute invalidations: of one type for all who ask, so that there is one copy of it.
pub(crate) fn issue<M: Machine>(machine: &mut M) -> impl FnMut(Tlbi) {
    move |operation| machine.tlbi(operation)
}

/// The same by range: one operation or two for all leaves that lie behind each other, and no more than two up to 2^22 pages
/// (under LPA2 some 20). They would be too many for terabytes at once only, so there is no threshold. Out of line, and one
/// copy for every machine: a CPU without ranges pays a branch.
#[cold]
#[inline(never)]
fn invalidate_by_ranges(regime: Regime, stretches: &mut dyn Iterator<Item = Stretch>, issue: &mut dyn FnMut(Tlbi)) {
    let mut gather = Gather::new(regime, Reach::LastLevel);
    for stretch in stretches.filter(|stretch| stretch.count > 0) {
        Extent::of(stretch, regime.granule()).for_each(|extent| gather.add(extent, issue));
    }
    gather.finish(issue);
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
    use crate::tlbi::RangeOperand;

    const VA: VirtAddr = VirtAddr::new(0xffff_0000_0000_0000);

    /// What takes the leaves of `stretches` away, on a machine with ranges or without.
    fn invalidations<G: Granule>(has_ranges: bool, stretches: &[Stretch]) -> Vec<Tlbi> {
        let mut tables = tables::<G>(48);
        let regime = tables.regime();
        tables.machine_mut().has_ranges = has_ranges;
        take_log();
        invalidate_leaves(tables.machine_mut(), regime, stretches.iter().copied());
        let tlbi = |seen| if let Seen::Machine(Event::Tlbi(tlbi)) = seen { Some(tlbi) } else { None };
        take_log().into_iter().filter_map(tlbi).collect()
    }

    /// Removals ask for the members singly; others may hand over whole runs.
    fn members_invalidated<G: Granule>(level: Level, count: u64) {
        let leaf = Leaf { level, contiguous: true };
        let step = 1 << G::SIZE.level_shift(level);
        let members = (0..count * leaf.descriptors(G::SIZE)).map(|member| VA.add(member * step));
        let want: Vec<_> = members.map(|va| Tlbi::LastLevel(Operand::new(va))).collect();
        assert_eq!(invalidations::<G>(false, &[Stretch { va: VA, leaf, count }]), want, "{} at {level}", G::SIZE);
    }

    #[test]
    fn each_member_of_a_contiguous_run_is_invalidated() {
        for level in [Level::L2, Level::L3] {
            members_invalidated::<K4>(level, 3);
            members_invalidated::<K16>(level, 2);
            members_invalidated::<K64>(level, 2);
        }
    }

    fn blocks(va: VirtAddr, level: Level, count: u64) -> Stretch {
        Stretch { va, leaf: Leaf { level, contiguous: false }, count }
    }

    fn range<G: Granule>(va: VirtAddr, pages: u64) -> Tlbi {
        let (operand, covered) = RangeOperand::longest(tables::<G>(48).regime(), va, pages).unwrap();
        assert_eq!(covered, pages);
        Tlbi::LastLevelRange(operand)
    }

    /// Three pages, two blocks of 512 and one page more are 1028: twice 1024.
    #[test]
    fn leaves_behind_each_other_are_one_range_whatever_their_size() {
        let first = VA.add((512 - 3) << 12);
        let (second, third) = (first.add(3 << 12), first.add(1027 << 12));
        let stretches = [blocks(first, Level::L3, 3), blocks(second, Level::L2, 2), blocks(third, Level::L3, 1)];
        let want = [range::<K4>(first, 1024), range::<K4>(first.add(4 << 12), 1024)];
        assert_eq!(invalidations::<K4>(true, &stretches), want);
        let elsewhere = VA.add(1 << 30);
        let none = blocks(first, Level::L1, 0);
        let apart = [none, blocks(first, Level::L3, 2), none, blocks(elsewhere, Level::L3, 2)];
        assert_eq!(invalidations::<K4>(true, &apart), [range::<K4>(first, 2), range::<K4>(elsewhere, 2)]);
    }

    #[test]
    fn where_nothing_was_cleared_there_is_no_barrier_either() {
        let mut tables = tables::<K4>(48);
        let regime = tables.regime();
        for has_ranges in [false, true] {
            tables.machine_mut().has_ranges = has_ranges;
            take_log();
            invalidate_leaves(tables.machine_mut(), regime, [blocks(VA, Level::L2, 0)].into_iter());
            assert_eq!(take_log(), []);
        }
    }

    #[test]
    fn one_leaf_is_one_single_invalidation() {
        for level in [Level::L3, Level::L2] {
            assert_eq!(invalidations::<K64>(true, &[blocks(VA, level, 1)]), [Tlbi::LastLevel(Operand::new(VA))]);
        }
    }

    /// 64 GiB at 16K are two ranges, and one block of LPA2. Nor are they one with pages beside them.
    #[test]
    fn blocks_that_are_more_than_a_range_are_invalidated_one_by_one() {
        let bytes = 1 << 36;
        let (before, behind) = (VA.add(2 * bytes - (2 << 14)), VA.add(4 * bytes));
        let starts = [before, VA.add(2 * bytes), VA.add(3 * bytes), behind];
        let single = |va| Tlbi::LastLevel(Operand::new(va));
        let want = [range::<K16>(before, 2), single(starts[1]), single(starts[2]), range::<K16>(behind, 2)];
        let pages = |va| blocks(va, Level::L3, 2);
        let stretches =
            [pages(before), blocks(starts[1], Level::L1, 1), blocks(starts[2], Level::L1, 1), pages(behind)];
        assert_eq!(invalidations::<K16>(true, &stretches), want);
        let one = [pages(before), blocks(starts[1], Level::L1, 2), pages(behind)];
        assert_eq!(invalidations::<K16>(true, &one), want);
    }
}

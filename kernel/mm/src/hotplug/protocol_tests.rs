//! The order of stores, barriers, invalidations and frees, operation by operation.

use crate::addr::{PhysAddr, VirtAddr};
use crate::granule::{Granule, K4, K16, K64};
use crate::leaf::{LeafPolicy, Stretches};
use crate::observe::Event;
use crate::seam::Dsb;
use crate::testing::{GIB, MIB, Map, Seen, ask, memory_map, range, take_log};
use crate::tlbi::Tlbi;
use crate::walk::Step;

const ISHST: Seen = Seen::Machine(Event::Dsb(Dsb::InnerShareableStores));
const ISH: Seen = Seen::Machine(Event::Dsb(Dsb::InnerShareable));
const ISB: Seen = Seen::Machine(Event::Isb);

/// A leaf or a table link as it stood before a removal.
#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: PhysAddr,
    va: VirtAddr,
    /// Addresses that it translates, in bytes.
    bytes: u64,
    /// The table that it points to, if it does.
    table: Option<PhysAddr>,
    /// The first slot of the contiguous run that it is a member of, if it is.
    run: Option<PhysAddr>,
}

/// Every leaf of `maps`, and every link that hot-plug made on the way.
fn entries<G: Granule>(map: &Map<G>, maps: &[Stretches]) -> Vec<Entry> {
    let mut entries = std::collections::BTreeMap::new();
    for stretch in maps.iter().flat_map(Clone::clone) {
        let step = 1_u64 << G::SIZE.level_shift(stretch.leaf.level);
        for index in 0..stretch.descriptors(G::SIZE) {
            for at in map.tables().walk(stretch.va.add(index * step)).steps() {
                let table = at
                    .descriptor
                    .is_table(at.level)
                    .then(|| at.descriptor.address(G::SIZE, map.tables().regime().output()));
                if table.is_none() || at.descriptor.is_owned() {
                    let bytes = 1_u64 << G::SIZE.level_shift(at.level);
                    let va = stretch.va.add(index * step).align_down(bytes);
                    entries.insert(at.slot, Entry { slot: at.slot, va, bytes, table, run: run::<G>(&at) });
                }
            }
        }
    }
    entries.into_values().collect()
}

/// The first slot of the contiguous run that `step` is a member of, if it is.
fn run<G: Granule>(step: &Step) -> Option<PhysAddr> {
    let members = G::SIZE.contiguous_entries(step.level).filter(|_| step.descriptor.is_contiguous())?;
    Some(step.slot.align_down(members * 8))
}

/// Whether `operation` makes CPUs forget `entry`.
fn covers(operation: Tlbi, entry: &Entry) -> bool {
    let inside = |operand: crate::tlbi::Operand| {
        // The operand holds bits 55:12; the upper half has the others set.
        let va = VirtAddr::new(operand.bits() << 12 | 0xff << 56);
        va.since(entry.va) < entry.bytes
    };
    match operation {
        Tlbi::AllInnerShareable => true,
        Tlbi::AllLocal => false,
        Tlbi::LastLevel(operand) => entry.table.is_none() && inside(operand),
        Tlbi::AnyLevel(operand) => inside(operand),
        Tlbi::LastLevelRange(operand) => entry.table.is_none() && meets(operand.bits(), entry),
        Tlbi::AnyLevelRange(operand) => meets(operand.bits(), entry),
    }
}

/// Whether a range operand of 48 bits names an address of `entry` (IQPHNP).
fn meets(operand: u64, entry: &Entry) -> bool {
    let shift = 10 + 2 * (operand >> 46 & 3);
    let start = VirtAddr::new((operand << 27).cast_signed().wrapping_shr(27).cast_unsigned() << shift);
    let bytes = ((operand >> 39 & 31) + 1) << (5 * (operand >> 44 & 3) + 1) << shift;
    start.since(entry.va) < entry.bytes || entry.va.since(start) < bytes
}

fn position(log: &[Seen], from: usize, wanted: impl Fn(&Seen) -> bool) -> Option<usize> {
    log[from..].iter().position(wanted).map(|offset| from + offset)
}

/// Where `entry` is cleared, if it is.
fn cleared(log: &[Seen], entry: &Entry) -> Option<usize> {
    let clears = |seen: &Seen| matches!(seen, Seen::Machine(Event::Write { slot, descriptor, .. }) if *slot == entry.slot && descriptor & 1 == 0);
    position(log, 0, clears)
}

/// Where the invalidation of `entry` is complete, if it is: written, DSB ISHST, TLBI, DSB ISH, ISB, in that order.
fn complete(log: &[Seen], entry: &Entry) -> Option<usize> {
    let written = cleared(log, entry)?;
    let visible = position(log, written, |seen| *seen == ISHST)?;
    let invalidated =
        position(log, visible, |seen| matches!(seen, Seen::Machine(Event::Tlbi(op)) if covers(*op, entry)))?;
    let finished = position(log, invalidated, |seen| *seen == ISH)?;
    position(log, finished, |seen| *seen == ISB)
}

/// A walk of a member that is still valid may bring a whole contiguous run back into a TLB (RSKQHL, RLQLSD): the last
/// member is cleared before any of them is invalidated.
fn check_runs(log: &[Seen], entries: &[Entry], name: &str) {
    let in_run = entries.iter().filter(|entry| entry.run.is_some()).collect::<Vec<_>>();
    for members in in_run.chunk_by(|one, next| one.run == next.run) {
        let clears = || members.iter().map(|entry| cleared(log, entry).expect("a removal clears every leaf"));
        let (first, last) = (clears().min().unwrap(), clears().max().unwrap());
        let invalidates = |seen: &Seen| matches!(seen, Seen::Machine(Event::Tlbi(op)) if members.iter().any(|entry| covers(*op, entry)));
        let early = position(&log[..last], first, invalidates);
        assert_eq!(early, None, "{name}: a member of {:x?} is invalidated before the last is cleared", members[0]);
    }
}

/// All that a removal must keep: every leaf and every cut link invalidated and complete, nothing given back before.
fn check_removal<G: Granule>(policy: LeafPolicy, in_ram: bool, ranges: bool) {
    let mut map = memory_map::<G>(48);
    map.tables_mut().machine_mut().has_ranges = ranges;
    // 16 MiB more than blocks map, so that the linear map has runs at every granule.
    let device = range(PhysAddr::new((1 << 45) + 64 * MIB), GIB + 16 * MIB);
    let mut request = ask(device).policy(policy);
    if !in_ram {
        request = request.altmap(crate::altmap::Altmap::tight(map.layout(), device, policy, 0));
    }
    let region = map.plan(request).unwrap().commit().unwrap();
    let linear = map.linear(&request.ask()).expect("device memory has one").stretches();
    let entries = entries(&map, &[linear, region.memmap().stretches()]);
    let frames: Vec<_> = region.memmap().stretches().map(|s| map.tables().walk(s.va)).collect();
    take_log();
    map.remove(region).unwrap();
    let log = take_log();
    let given = |frame: PhysAddr| position(&log, 0, |seen| *seen == Seen::Give(frame));
    let name = format!("{} {policy:?} {} ranges {ranges}", G::SIZE, if in_ram { "ram" } else { "altmap" });
    assert!(entries.iter().any(|entry| entry.table.is_some()), "a far range has tables of its own");
    for entry in &entries {
        let done = complete(&log, entry).unwrap_or_else(|| panic!("{name}: {entry:x?} is never invalidated"));
        if let Some(table) = entry.table {
            assert!(given(table) > Some(done), "{name}: table {table} is given back before its invalidation");
        }
    }
    for walk in frames.iter().filter(|_| in_ram) {
        let (step, frame) = walk.translation().unwrap();
        let leaf = entries.iter().find(|entry| entry.slot == step.slot).unwrap();
        assert!(given(frame) > complete(&log, leaf), "{name}: frame {frame} is given back before its invalidation");
    }
    assert!(policy == LeafPolicy::Pages || entries.iter().any(|entry| entry.run.is_some()), "{name}: there are runs");
    check_runs(&log, &entries, &name);
    let rewritten =
        |seen: &&Seen| matches!(seen, Seen::Machine(Event::Write { descriptor, .. }) if descriptor & 1 == 1);
    assert_eq!(log.iter().filter(rewritten).count(), 0, "{name}: a removal makes nothing valid");
    let mut invalidating = false;
    for seen in &log {
        match seen {
            Seen::Machine(Event::Tlbi(_)) => invalidating = true,
            Seen::Machine(Event::Write { .. }) => assert!(!invalidating, "{name}: a store between TLBI and DSB ISH"),
            seen if *seen == ISH => invalidating = false,
            _ => (),
        }
    }
}

#[test]
fn nothing_is_freed_or_reused_before_its_invalidation_completed() {
    for policy in [LeafPolicy::Largest, LeafPolicy::Linux] {
        for (in_ram, ranges) in [(false, false), (true, false), (false, true), (true, true)] {
            check_removal::<K4>(policy, in_ram, ranges);
            check_removal::<K16>(policy, in_ram, ranges);
            check_removal::<K64>(policy, in_ram, ranges);
        }
    }
}

#[test]
fn base_pages_go_by_the_same_rules() {
    for ranges in [false, true] {
        check_removal::<K16>(LeafPolicy::Pages, true, ranges);
        check_removal::<K64>(LeafPolicy::Pages, false, ranges);
    }
}

/// New tables: zeroed before any store into them, complete and visible before the link to them is valid; every leaf
/// visible, and this CPU synchronised, before a struct page is written.
fn check_add<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(PhysAddr::new(1 << 45), GIB);
    let altmap = crate::altmap::Altmap::tight(map.layout(), device, LeafPolicy::Pages, 0);
    let request = ask(device).policy(LeafPolicy::Pages).altmap(altmap);
    take_log();
    let region = map.plan(request).unwrap().commit().unwrap();
    let log = take_log();
    let page = G::SIZE.bytes();
    let zeroed: Vec<_> = log
        .iter()
        .enumerate()
        .filter_map(|(at, seen)| match seen {
            Seen::Machine(Event::Zero { table, .. }) => Some((at, *table)),
            _ => None,
        })
        .collect();
    assert!(zeroed.len() > 3, "a far range needs tables in both maps");
    for (at, table) in zeroed {
        let into =
            |seen: &Seen| matches!(seen, Seen::Machine(Event::Write { slot, .. }) if slot.align_down(page) == table);
        assert!(position(&log, 0, into) > Some(at), "{table} is written before it is zeroed");
        let last = log.iter().rposition(into).unwrap();
        let links: Vec<_> = log.iter().enumerate().filter(|(_, seen)| is_link(seen, table, page)).collect();
        let (valid, _) = *links.last().expect("a table is linked");
        let outer = zeroed_table(&log, links[0].1, page);
        if !outer {
            let fence = position(&log, last.max(at), |seen| *seen == ISHST);
            assert!(fence.is_some_and(|fence| fence < valid), "{table} is linked before its content is visible");
            assert!(is_parked(links[0].1), "the link into a live table is parked first");
        }
    }
    let first_access = position(&log, 0, |seen| matches!(seen, Seen::Machine(Event::Access(_)))).unwrap();
    let last_write = log.iter().rposition(|seen| matches!(seen, Seen::Machine(Event::Write { .. }))).unwrap();
    assert!(log[last_write..first_access].ends_with(&[ISHST, ISB]), "DSB ISHST, ISB before struct pages are written");
    drop(map.remove(region));
}

/// A store of a descriptor that names `table`.
fn is_link(seen: &Seen, table: PhysAddr, page: u64) -> bool {
    matches!(seen, Seen::Machine(Event::Write { descriptor, .. })
        if descriptor & 2 == 2 && (descriptor & 0x0000_ffff_ffff_ffff & !(page - 1)) == table.value() && descriptor >> 59 & 3 != 0)
}

fn is_parked(seen: &Seen) -> bool {
    matches!(seen, Seen::Machine(Event::Write { descriptor, .. }) if descriptor & 1 == 0)
}

/// Whether the store went into a table that this operation made.
fn zeroed_table(log: &[Seen], store: &Seen, page: u64) -> bool {
    let Seen::Machine(Event::Write { slot, .. }) = store else { return false };
    log.contains(&Seen::Machine(Event::Zero { table: slot.align_down(page), bytes: page }))
}

#[test]
fn new_tables_are_complete_and_visible_before_they_are_linked() {
    check_add::<K4>();
    check_add::<K16>();
    check_add::<K64>();
}

#[test]
fn invalidations_are_single_up_to_a_table_of_them_and_then_all_at_once() {
    let count = |bytes: u64| {
        let mut map = memory_map::<K64>(48);
        let device = range(PhysAddr::new(1 << 45), bytes);
        let altmap = crate::altmap::Altmap::tight(map.layout(), device, LeafPolicy::Pages, 0);
        let request = ask(device).policy(LeafPolicy::Pages).altmap(altmap);
        let region = map.plan(request).unwrap().commit().unwrap();
        take_log();
        map.remove(region).unwrap();
        let log = take_log();
        let all = Seen::Machine(Event::Tlbi(Tlbi::AllInnerShareable));
        let singles = log.iter().filter(|seen| matches!(seen, Seen::Machine(Event::Tlbi(Tlbi::LastLevel(_))))).count();
        (log.contains(&all), singles)
    };
    assert_eq!(count(512 * MIB), (false, 8192 + 8), "8192 pages of linear map, 8 of vmemmap");
    assert_eq!(count(576 * MIB), (true, 9), "9216 are more than a table");
}

/// Leaves, tables, and either of the vmemmap. Without ranges, tables that are neighbours go one by one.
#[test]
fn with_ranges_a_removal_of_any_size_takes_a_few_invalidations() {
    let count = |ranges: bool, bytes: u64| {
        let mut map = memory_map::<K4>(48);
        map.tables_mut().machine_mut().has_ranges = ranges;
        let region =
            map.plan(ask(range(PhysAddr::new(1 << 45), bytes)).policy(LeafPolicy::Pages)).unwrap().commit().unwrap();
        take_log();
        map.remove(region).unwrap();
        take_log().into_iter().filter(|seen| matches!(seen, Seen::Machine(Event::Tlbi(_)))).count()
    };
    assert_eq!(count(true, 2 * MIB), 4, "512 and 8 pages, one table each");
    assert_eq!(count(true, 640 * MIB), 8, "163,840 and 2,560 pages, 320 tables and 5: two ranges each");
    assert_eq!(count(false, 640 * MIB), 2 + 320 + 5, "everything for the pages of each map, and a table at a time");
    assert_eq!(count(false, 1020 * MIB), 2 + 510 + 8, "510 tables and two above them: as many as a table has");
    assert_eq!(count(false, 1022 * MIB), 2 + 1 + 8, "and one more: everything");
    assert_eq!(count(true, 1022 * MIB), 7, "ranges need no such limit");
}

/// There ranges start at multiples of 64 KiB, and these pages of the vmemmap do not.
#[test]
fn under_lpa2_tables_take_no_more_invalidations_than_there_are() {
    let mut map = memory_map::<K4>(52);
    map.tables_mut().machine_mut().has_ranges = true;
    let across_two_tables = range(PhysAddr::new((1 << 45) + 126 * MIB), 4 * MIB);
    let region = map.plan(ask(across_two_tables).policy(LeafPolicy::Pages)).unwrap().commit().unwrap();
    take_log();
    map.remove(region).unwrap();
    let of_tables =
        |seen: &Seen| matches!(seen, Seen::Machine(Event::Tlbi(Tlbi::AnyLevel(_) | Tlbi::AnyLevelRange(_))));
    assert_eq!(take_log().into_iter().filter(of_tables).count(), 2, "one for the two of each map");
}

/// Break-before-make never arises: over a life, no store replaces a valid descriptor by another valid one, but for a
/// parked link that becomes valid.
fn check_stores<G: Granule>(policy: LeafPolicy) {
    let mut map = memory_map::<G>(48);
    let mut slots = map.tables().machine().words.borrow().clone();
    let device = range(PhysAddr::new(1 << 45), GIB);
    for request in [
        ask(device).policy(policy),
        ask(device).policy(policy).altmap(crate::altmap::Altmap::tight(map.layout(), device, policy, 1)),
    ] {
        let region = map.plan(request).unwrap().commit().unwrap();
        map.remove(region).unwrap();
    }
    for seen in take_log() {
        match seen {
            Seen::Machine(Event::Write { slot, descriptor, .. }) => {
                let old = slots.insert(slot.value(), descriptor).unwrap_or(0);
                assert!(old & 1 == 0 || descriptor & 1 == 0, "{slot}: {old:016x} becomes {descriptor:016x}");
            }
            Seen::Machine(Event::Zero { table, .. }) => {
                slots.retain(|slot, _| PhysAddr::new(*slot).align_down(G::SIZE.bytes()) != table);
            }
            _ => (),
        }
    }
}

#[test]
fn no_valid_descriptor_is_replaced_by_another() {
    for policy in [LeafPolicy::Largest, LeafPolicy::Linux] {
        check_stores::<K4>(policy);
        check_stores::<K16>(policy);
        check_stores::<K64>(policy);
    }
}

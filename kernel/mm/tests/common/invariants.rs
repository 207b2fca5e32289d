//! What holds after every operation, one function each.
//!
//! `i1` to `i10` are invariants of the memory map, `l1` to `l11` those that Linux's bugs have taught. Some are held elsewhere:
//!
//! - I5 (no rule of the architecture is broken) is the adversary's, event by event; a scene fails with its first violation.
//! - L1 (adding and removing leaves everything as it was) is I6 for the tables, I3 for frames, L5 for validity; that the altmap
//!   comes back as it was is checked where a range is removed.
//! - L4 (no frame and no table is used again before every CPU has forgotten it) is the adversary's: E2b, E3a, E3b.
//! - L6 asks that no struct page is read before it is initialised. The seam has no read of struct pages, so that can't be
//!   expressed; that none is left uninitialised is checked.
//! - L7 (a failed add changes nothing and succeeds later) is I9, and `failures.rs`.
//! - L8 (the order of removal is irrelevant) and L9 (the same results at every granule) are about several runs: tests of
//!   their own in `properties.rs`.
//! - I10 (ranges are listed, held and busy as they should be) is the scene's, which knows who holds and who hosts what.
//!
//! Which pages of the vmemmap there are is the scene's arithmetic (`scene/model.rs`): a page is claimed once, by the range
//! that it describes alone or, as an edge page, for all whose struct pages are in it, and is there while one of them is.

use std::collections::BTreeMap;

use vmemmap::addr::PhysAddr;
use vmemmap::altmap::Altmap;
use vmemmap::meta::Role;
use vmemmap::sim::{Outcome, World};
use vmemmap::trace::Event;

use super::MIB;
use super::abstraction::{Form, Picture, Slot};
use super::page;
use super::scene::{Snapshot, Verdict};
use super::watch::{Claim, Stage, Target};

/// Normal write-back memory, read-write, never executable, as Linux writes it (`PAGE_KERNEL`), less address and type.
pub const KERNEL: u64 = 0x00e8_0000_0000_0700;

const PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 53;
const READ_ONLY: u64 = 1 << 7;
const ACCESS: u64 = 1 << 10;
const NON_GLOBAL: u64 = 1 << 11;

/// What one operation did.
pub struct Change<'a> {
    pub form: &'a Form,
    pub before: &'a Snapshot,
    pub after: &'a Snapshot,
    /// Stretches of addresses that it may change.
    pub touched: &'a [(u64, u64)],
    /// The end of the section of boot RAM.
    pub early_end: u64,
    /// The CPUs have invalidations by range.
    pub ranges: bool,
    pub events: &'a [Event],
}

/// A range with struct pages.
pub struct RegionView {
    pub start: u64,
    pub bytes: u64,
    /// Its own altmap as it was given; and as it stands, or its part of a host's.
    pub given: Option<Altmap>,
    pub altmap: Option<Altmap>,
    /// The storage zone of its altmap or of its host's, in bytes: the first, and how many.
    pub zone: Option<(u64, u64)>,
    /// The pages of the vmemmap that describe nothing else.
    pub interior: Option<Claim>,
    /// Whether its pfns are valid and its struct pages initialised: it was not only populated.
    pub hotplugged: bool,
}

/// The frames behind a claim of the vmemmap.
fn frames(claim: &Claim) -> impl Iterator<Item = u64> {
    let Target::Pages(pages) = &claim.target else { panic!("a vmemmap is claimed by pages") };
    pages.values().map(|(pa, _)| *pa)
}

impl RegionView {
    fn frames(&self) -> impl Iterator<Item = u64> {
        self.interior.iter().flat_map(frames)
    }

    /// The frames that its driver keeps.
    fn reserve(&self, form: &Form) -> std::ops::Range<u64> {
        let frames = self.given.map_or(0, |altmap| altmap.reserve());
        self.start..self.start + (frames << form.shift)
    }

    const fn contains(&self, pa: u64) -> bool {
        pa.wrapping_sub(self.start) < self.bytes
    }
}

/// I1: what the tables say is what has been promised, no more and no less.
pub fn i1_tables_say_what_was_promised(picture: &Picture, claims: &[Claim]) {
    let mut leaves = 0;
    for claim in claims {
        assert_eq!(claim.stage, Stage::There, "an operation is over");
        let mut at = claim.va;
        while at.wrapping_sub(claim.va) < claim.bytes {
            let leaf = picture.leaves.get(&at).unwrap_or_else(|| panic!("I1: nothing is mapped at {at:#x}"));
            let last = leaf.bytes - 1;
            for offset in [0, last] {
                let says = Outcome::Map { pa: leaf.pa + offset, attributes: leaf.attributes };
                assert_eq!(Some(says), claim.shows(at + offset), "I1: {:#x}", at + offset);
            }
            assert!(at.wrapping_sub(claim.va) + last < claim.bytes, "I1: the leaf at {at:#x} goes beyond its range");
            at = at.wrapping_add(leaf.bytes);
            leaves += 1;
        }
    }
    let claimed = |va: u64| claims.iter().any(|claim| va.wrapping_sub(claim.va) < claim.bytes);
    let stray = picture.leaves.keys().find(|va| !claimed(**va));
    assert_eq!((leaves, stray), (picture.leaves.len(), None), "I1: leaves that nobody asked for");
}

/// I2: no slot changes that translates nothing of the operation's range.
pub fn i2_nothing_outside_of_the_range_changes(change: &Change) {
    let (before, after) = (&change.before.picture.slots, &change.after.picture.slots);
    let inside = |slot: &Slot| {
        let meets =
            |(va, bytes): &(u64, u64)| slot.va.wrapping_sub(*va) < *bytes || va.wrapping_sub(slot.va) < slot.bytes;
        change.touched.iter().any(meets)
    };
    for (one, other) in [(before, after), (after, before)] {
        let changed = one.iter().filter(|(pa, slot)| other.get(pa) != Some(slot));
        let stray = changed.into_iter().find(|(_, slot)| !inside(slot));
        assert!(stray.is_none(), "I2: a slot outside of {:x?} changes: {stray:x?}", change.touched);
    }
}

/// I3: every frame that is out is a table that can be reached, a page of the vmemmap in RAM, or a record; edge pages are in
/// RAM wherever the struct pages of their ranges are.
pub fn i3_tables_and_frames_are_accounted_for(
    form: &Form,
    after: &Snapshot,
    regions: &[RegionView],
    edges: &[Claim],
    boot: Option<&Claim>,
) {
    let mut out = after.frames_out.clone();
    for table in after.picture.tables.keys().filter(|table| **table != form.root) {
        assert_eq!(out.remove(table), Some(1 << form.shift), "I3: the table {table:#x} was not taken, or given back");
    }
    let in_ram = regions.iter().filter(|region| region.altmap.is_none()).filter_map(|region| region.interior.as_ref());
    for claim in in_ram.chain(edges).chain(boot) {
        let inside = after.picture.leaves.range(claim.va..).take_while(|(va, _)| **va - claim.va < claim.bytes);
        for (va, leaf) in inside {
            assert_eq!(out.remove(&leaf.pa), Some(leaf.bytes), "I3: the frame {:#x} behind {va:#x}", leaf.pa);
        }
    }
    let left: u64 = out.values().sum();
    assert_eq!(left, after.section_bytes, "I3: frames that are out without a use, or section records: {out:x?}");
}

/// I4: an altmap adds up, and serves from its storage zone only: its own range's interior, or that of a tenant.
pub fn i4_the_altmap_adds_up(form: &Form, region: &RegionView) {
    let (Some(altmap), Some(zone)) = (region.altmap, region.zone) else {
        assert_eq!((region.given, region.altmap), (None, None), "I4: storage of another kind");
        return;
    };
    assert_eq!(altmap.alloc(), region.frames().count() as u64, "I4: a frame handed out for each page of the interior");
    assert_eq!(altmap.alloc() + altmap.align() + altmap.remaining(), altmap.free(), "I4: {altmap:?}");
    if let Some(given) = region.given {
        let fixed = |altmap: &Altmap| (altmap.base_pfn(), altmap.end_pfn(), altmap.reserve(), altmap.free());
        assert_eq!((fixed(&altmap), 0), (fixed(&given), given.alloc()), "I4: what was given does not change");
    } else {
        assert_eq!(altmap.remaining(), 0, "I4: a tenant has what it needs: {altmap:?}");
    }
    let outside = region.frames().find(|pa| pa.wrapping_sub(zone.0) >= zone.1);
    assert_eq!(outside, None, "I4: a frame of the vmemmap outside of the storage zone {zone:x?}");
    let first = altmap.storage().0.number() << form.shift;
    assert!(first.wrapping_sub(zone.0) <= zone.1, "I4: a part outside of the storage zone {zone:x?}");
}

/// I6: when all that was added is removed, the tables are what they were.
pub fn i6_what_is_removed_leaves_nothing(first: &Picture, last: &Picture) {
    assert_eq!(first, last, "I6: tables before and after");
}

/// I7: no leaf is both writable and executable, every one has its access flag, is global, and of the right memory type;
/// nothing is malformed.
pub fn i7_leaves_are_well_formed(form: &Form, picture: &Picture, mair: u64) {
    assert_eq!(picture.flaws, [""; 0], "I7");
    for (va, leaf) in &picture.leaves {
        let is = |bit| leaf.attributes & bit != 0;
        let executable = !is(PRIVILEGED_EXECUTE_NEVER) && !leaf.pxn_table;
        assert!(is(READ_ONLY) || !executable, "I7: {va:#x} is writable and executable");
        assert!(is(ACCESS) && !is(NON_GLOBAL), "I7: {va:#x} has no access flag, or is not global");
        let memory = mair >> ((leaf.attributes >> 2 & 7) * 8) & 0xff;
        let kind = match leaf.attributes >> 2 & 7 {
            0 => Some(0xff),
            3 => Some(0x00),
            4 => Some(0x04),
            _ => None,
        };
        assert_eq!(Some(memory), kind, "I7: memory type of {va:#x}");
        let shareable = form.wide && form.shift < 16 || leaf.attributes >> 8 & 3 == 3;
        assert!(shareable, "I7: {va:#x} is not inner shareable");
    }
}

/// I8: barriers and invalidations are as many as the operation needs, and a whole TLB is emptied only for a batch of more
/// leaves than a table holds.
pub fn i8_barriers_and_invalidations_are_bounded(change: &Change, verdict: Verdict) {
    // What other CPUs do in the meantime is not its doing.
    let running = change.events.iter().find(|event| matches!(event, Event::Begin { .. })).and_then(Event::cpu);
    let own = |event: &&Event| event.cpu() == running;
    let count = |wanted: fn(&Event) -> bool| change.events.iter().filter(own).filter(|event| wanted(event)).count();
    let barriers = count(|event| matches!(event, Event::Dsb { .. }));
    let synchronisations = count(|event| matches!(event, Event::Isb { .. }));
    let invalidations = count(|event| matches!(event, Event::Tlbi { .. }));
    let all = count(|event| matches!(event, Event::Tlbi { operand: None, .. }));
    let is_early = change
        .events
        .iter()
        .any(|event| matches!(event, Event::Begin { op, start, .. } if &**op == "remove" && *start < change.early_end));
    let most = match verdict {
        // One ISB more before it writes to struct pages that boot has mapped.
        Verdict::Removed => (8, 4 + usize::from(is_early)),
        Verdict::Added | Verdict::Depopulated | Verdict::Unmapped => (4, 2),
        _ => (2, 1),
    };
    let are = (barriers, synchronisations);
    assert!(are.0 <= most.0 && are.1 <= most.1, "I8: DSB and ISB are {are:?} for {verdict:?}");
    let (before, after) = (&change.before.picture, &change.after.picture);
    let cleared = before.leaves.iter().filter(|(va, _)| !after.leaves.contains_key(va)).count();
    let freed = before.tables.iter().filter(|(pa, _)| !after.tables.contains_key(pa)).count();
    assert!(invalidations <= cleared + freed, "I8: {invalidations} TLBI for {cleared} leaves and {freed} tables");
    if change.ranges {
        // Of each map the leaves, and the tables; the vmemmap's edge pages by themselves.
        let most = if change.form.wide && change.form.shift < 16 { 60 } else { 9 };
        assert!(all == 0 && invalidations <= most, "I8: {invalidations} TLBI where there are ranges");
    }
    let table = 1 << (change.form.shift - 3);
    assert!(all == 0 || all <= 2 && cleared > all * table, "I8: {all} times everything for {cleared} leaves");
}

/// I9: an operation that does not succeed has no effect but section records.
pub fn i9_a_refusal_changes_nothing(change: &Change) {
    let Change { before, after, .. } = change;
    assert_eq!(before.picture, after.picture, "I9: tables");
    let mut out = after.frames_out.clone();
    let missing = before.frames_out.iter().find(|(pa, bytes)| out.remove(pa).as_ref() != Some(*bytes));
    let more: u64 = out.values().sum();
    assert_eq!((missing, more), (None, after.section_bytes - before.section_bytes), "I9: frames");
}

/// L2: what is given back to the allocator of RAM came from it, in the same size.
pub fn l2_frames_go_back_where_they_came_from(change: &Change) {
    let mut out = change.before.frames_out.clone();
    for event in change.events {
        match event {
            Event::Alloc { pa, len, from } if &**from == "ram" => {
                assert_eq!(out.insert(*pa, *len), None, "L2: {pa:#x} is handed out twice");
            }
            Event::Free { pa, len, to } if &**to == "ram" => {
                assert_eq!(out.remove(pa), Some(*len), "L2: {pa:#x} did not come from RAM");
            }
            _ => {}
        }
    }
    assert_eq!(out, change.after.frames_out, "L2: the books");
}

/// L3: no store replaces a valid descriptor by a different valid one.
pub fn l3_no_valid_descriptor_replaces_another(change: &Change) {
    for event in change.events {
        if let Event::Write { old, new, .. } = event {
            assert!(old & 1 == 0 || new & 1 == 0 || old == new, "L3: {event}");
        }
    }
}

/// L5: pfns are valid exactly where a range is added, and in the section of boot RAM; there the struct page is writable.
pub fn l5_a_pfn_is_valid_where_its_struct_page_is(
    regions: &[RegionView],
    early: &std::ops::Range<u64>,
    is_valid: impl Fn(u64) -> bool,
) {
    let subsection = 2 * MIB;
    for region in regions {
        let (first, end) = (region.start, region.start + region.bytes);
        for pa in [first - subsection, first, first + region.bytes / 2, end - subsection, end] {
            let live = regions.iter().any(|region| region.hotplugged && region.contains(pa));
            assert_eq!(is_valid(pa), live || early.contains(&pa), "L5: validity of {pa:#x}");
        }
        let Some(Target::Pages(pages)) = region.interior.as_ref().map(|interior| &interior.target) else { continue };
        assert!(pages.values().all(|(_, attributes)| attributes & READ_ONLY == 0), "L5: a read-only struct page");
    }
}

/// L6: no struct page of a live range is left as it was before, and none is damaged: each says whose it is and what for. The
/// struct pages of `pfns`, of `size` bytes each, are in the frame with the first of them at `pa`.
pub fn l6_struct_pages_are_initialised(
    pa: u64,
    pfns: std::ops::Range<u64>,
    size: u64,
    role: impl Fn(u64) -> Role,
    world: &World,
) {
    let words = size / 8;
    let found = world.words(PhysAddr::new(pa), (pfns.end - pfns.start) * words);
    for (pfn, struct_page) in pfns.zip(found.chunks(words as usize)) {
        let role = role(pfn);
        let right = (0..words).zip(struct_page).all(|(word, found)| *found == page::word(pfn, role, word));
        assert!(right, "L6: the struct page of pfn {pfn:#x}, {role:?}, is {struct_page:x?}");
    }
}

/// L10: frames of struct pages are nobody else's: no altmap meets a reserve, another altmap or another device.
pub fn l10_altmaps_are_apart(form: &Form, regions: &[RegionView], edges: &[Claim]) {
    let mut owners = BTreeMap::new();
    for (number, region) in regions.iter().enumerate() {
        if let (Some(_), Some((start, bytes))) = (region.given, region.zone) {
            assert!(start >= region.start && bytes <= region.bytes, "L10: a storage zone outside of its device");
            let meets = regions.iter().enumerate().find(|(other, region)| {
                *other != number && region.start < start + bytes && start < region.start + region.bytes
            });
            assert!(meets.is_none(), "L10: a storage zone in another device");
        }
        for pa in region.frames() {
            let reserved = regions.iter().any(|region| region.reserve(form).contains(&pa));
            assert!(!reserved, "L10: {pa:#x} belongs to a driver");
            assert_eq!(owners.insert(pa, number), None, "L10: {pa:#x} is a struct page's frame twice");
        }
    }
    for pa in edges.iter().flat_map(frames) {
        assert_eq!(owners.insert(pa, usize::MAX), None, "L10: {pa:#x} is an edge page's frame, and another's");
        assert!(!regions.iter().any(|region| region.contains(pa)), "L10: the edge page at {pa:#x} is in a device");
    }
}

/// L11: the tables on the way to what stays are the same tables.
pub fn l11_shared_tables_survive(change: &Change, claims: &[Claim]) {
    let stays = |claim: &&Claim| !change.touched.iter().any(|(va, _)| *va == claim.va);
    for claim in claims.iter().filter(stays) {
        for va in [claim.va, claim.va.wrapping_add(claim.bytes - 1)] {
            let path = |snapshot: &Snapshot| snapshot.picture.path(change.form, va);
            assert_eq!(path(change.before), path(change.after), "L11: the way to {va:#x}");
        }
    }
}

//! What holds after every operation, one function each.
//!
//! `i1` to `i9` are the invariants of the tables, `l1` to `l11` those that Linux's bugs have taught. Some are held elsewhere:
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
//! - Of I4, that edge pages come from RAM can't be expressed: a range whose struct pages are no whole pages is refused.

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
    pub events: &'a [Event],
}

/// A range with struct pages.
pub struct RegionView {
    pub start: u64,
    pub bytes: u64,
    /// The altmap as it was given, and as it stands.
    pub given: Option<Altmap>,
    pub altmap: Option<Altmap>,
    pub memmap: Claim,
    /// Whether its pfns are valid and its struct pages initialised: it was not only populated.
    pub hotplugged: bool,
}

impl RegionView {
    fn frames(&self) -> impl Iterator<Item = u64> {
        let Target::Pages(pages) = &self.memmap.target else { panic!("a vmemmap is claimed by pages") };
        pages.values().map(|(pa, _)| *pa)
    }

    /// The storage zone of its altmap: first byte and bytes.
    fn zone(&self, form: &Form) -> Option<(u64, u64)> {
        let altmap = self.altmap?;
        let first = altmap.base_pfn().number() + altmap.reserve();
        Some((first << form.shift, altmap.free() << form.shift))
    }

    /// The frames that its driver keeps.
    fn reserve(&self, form: &Form) -> std::ops::Range<u64> {
        let frames = self.altmap.map_or(0, |altmap| altmap.reserve());
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

/// I3: every frame that is out is a table that can be reached, a page of the vmemmap, or a section record.
pub fn i3_tables_and_frames_are_accounted_for(
    form: &Form,
    after: &Snapshot,
    regions: &[RegionView],
    boot: Option<&Claim>,
) {
    let mut out = after.frames_out.clone();
    for table in after.picture.tables.keys().filter(|table| **table != form.root) {
        assert_eq!(out.remove(table), Some(1 << form.shift), "I3: the table {table:#x} was not taken, or given back");
    }
    let memmaps = regions.iter().filter(|region| region.altmap.is_none()).map(|region| &region.memmap).chain(boot);
    for claim in memmaps {
        let inside = after.picture.leaves.range(claim.va..).take_while(|(va, _)| **va - claim.va < claim.bytes);
        for (va, leaf) in inside {
            assert_eq!(out.remove(&leaf.pa), Some(leaf.bytes), "I3: the frame {:#x} behind {va:#x}", leaf.pa);
        }
    }
    let left: u64 = out.values().sum();
    assert_eq!(left, after.section_bytes, "I3: frames that are out without a use, or section records: {out:x?}");
}

/// I4: an altmap adds up, serves only its own range, and from its storage zone only.
pub fn i4_the_altmap_adds_up(form: &Form, region: &RegionView) {
    let (Some(given), Some(altmap), Some(zone)) = (region.given, region.altmap, region.zone(form)) else {
        assert_eq!(region.given, region.altmap, "I4: storage of another kind");
        return;
    };
    let frames = region.frames().count() as u64;
    assert_eq!((altmap.alloc(), given.alloc()), (frames, 0), "I4: a frame handed out for each page of the vmemmap");
    assert_eq!(altmap.alloc() + altmap.align() + altmap.remaining(), altmap.free(), "I4: {altmap:?}");
    let fixed = |altmap: &Altmap| (altmap.base_pfn(), altmap.end_pfn(), altmap.reserve(), altmap.free());
    assert_eq!(fixed(&altmap), fixed(&given), "I4: what was given does not change");
    let outside = region.frames().find(|pa| pa.wrapping_sub(zone.0) >= zone.1 || !region.contains(*pa));
    assert_eq!(outside, None, "I4: a frame of the vmemmap outside of the storage zone {zone:x?}");
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
        let device = leaf.attributes >> 2 & 7 != 0;
        assert_eq!(memory, if device { 0x04 } else { 0xff }, "I7: memory type of {va:#x}");
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
    let most = match verdict {
        Verdict::Removed => (8, 4),
        Verdict::Added | Verdict::Depopulated | Verdict::Unmapped => (4, 2),
        _ => (2, 1),
    };
    let are = (barriers, synchronisations);
    assert!(are.0 <= most.0 && are.1 <= most.1, "I8: DSB and ISB are {are:?} for {verdict:?}");
    let (before, after) = (&change.before.picture, &change.after.picture);
    let cleared = before.leaves.iter().filter(|(va, _)| !after.leaves.contains_key(va)).count();
    let freed = before.tables.iter().filter(|(pa, _)| !after.tables.contains_key(pa)).count();
    assert!(invalidations <= cleared + freed, "I8: {invalidations} TLBI for {cleared} leaves and {freed} tables");
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

/// L5: pfns are valid exactly where a range is added; there the struct page is mapped and writable.
pub fn l5_a_pfn_is_valid_where_its_struct_page_is(regions: &[RegionView], unit: u64, is_valid: impl Fn(u64) -> bool) {
    let subsection = 2 * MIB;
    for region in regions {
        let (first, end) = (region.start, region.start + region.bytes);
        for pa in [first - subsection, first, first + unit / 2, end - subsection, end] {
            let live = regions.iter().any(|region| region.hotplugged && region.contains(pa));
            assert_eq!(is_valid(pa), live, "L5: validity of {pa:#x}");
        }
        let Target::Pages(pages) = &region.memmap.target else { panic!("a vmemmap is claimed by pages") };
        assert!(pages.values().all(|(_, attributes)| attributes & READ_ONLY == 0), "L5: a read-only struct page");
    }
}

/// L6: no struct page of a live range is left as it was before, and none is damaged: those of the reserve and of the altmap
/// say so.
pub fn l6_struct_pages_are_initialised(form: &Form, region: &RegionView, words: u64, world: &World) {
    let Target::Pages(pages) = &region.memmap.target else { panic!("a vmemmap is claimed by pages") };
    let first = region.start >> form.shift;
    let (reserve_end, altmap_end) = region.altmap.map_or((0, 0), |altmap| {
        let (start, end) = (altmap.base_pfn().number() + altmap.reserve(), altmap.free());
        (start, start + end)
    });
    let role = |pfn| match pfn {
        _ if pfn < reserve_end => Role::Reserve,
        _ if pfn < altmap_end => Role::Altmap,
        _ => Role::Device,
    };
    let page = 1 << form.shift;
    for (index, (pa, _)) in (0..).zip(pages.values()) {
        let found = world.words(PhysAddr::new(*pa), page / 8);
        for (at, struct_page) in (0..).zip(found.chunks(words as usize)) {
            let pfn = first + index * (page / 8 / words) + at;
            let right = (0..words).zip(struct_page).all(|(word, found)| *found == page::word(pfn, role(pfn), word));
            assert!(right, "L6: the struct page of pfn {pfn:#x}, {:?}, is {struct_page:x?}", role(pfn));
        }
    }
}

/// L10: frames of struct pages are nobody else's: no altmap meets a reserve, another altmap or another device.
pub fn l10_altmaps_are_apart(form: &Form, regions: &[RegionView]) {
    let mut owners = BTreeMap::new();
    for (number, region) in regions.iter().enumerate() {
        if let Some((start, bytes)) = region.zone(form) {
            assert!(start >= region.start && region.contains(start), "L10: a storage zone outside of its device");
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

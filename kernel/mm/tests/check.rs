//! The run-time checker: the core passes, each illegal step is refused by its rule, and the last events of a refused run
//! break the same rule when they are judged again.

#[path = "check/runs.rs"]
mod runs;
#[path = "check/tape.rs"]
mod tape;

use std::collections::BTreeMap;

use tape::{
    BLOCK, CONTIGUOUS, FRAME, L1, L2, L3, LINK, PAGE, READ_ONLY, ROOT, SPARE, TCR, Tape, VA, judge, replay, run_member,
    tape,
};
use vmemmap::check::{At, Broken, Rule, State};
use vmemmap::granule::GranuleSize;
use vmemmap::trace::{Event, Header, Word};

/// The second slot of `L3`, and what it translates.
const SLOT: u64 = L3 + 8;
const PAGE_VA: u64 = VA + 0x1000;
const NEXT: u64 = (FRAME + 0x1000) | PAGE;

/// What a report of these tests is measured against.
#[test]
fn every_rule_and_every_state_has_a_name() {
    for rule in Rule::ALL {
        println!("@all refusals {}", rule.name());
    }
    println!("@all states IC VU VD V B0 B1 B2 B3 P0 P1 P2 P3");
    let names: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), Rule::ALL.len(), "names are unique");
}

#[test]
fn a_leaf_is_made_and_taken_away() {
    tape().write(SLOT, NEXT).publish().end().touch(PAGE_VA).unmap(SLOT, PAGE_VA).end().passes();
    tape().write(SLOT, NEXT).dsb("sy").isb().unmap(SLOT, PAGE_VA).write(SLOT, NEXT).publish().end().passes();
}

#[test]
fn an_operation_ends_with_every_descriptor_at_rest() {
    use State::*;
    let ends = |tape: &mut Tape, state| tape.end().breaks(Rule::Unfinished, At::Slot(L3), state);
    tape().write(SLOT, NEXT).end().breaks(Rule::Unfinished, At::Slot(SLOT), VU);
    tape().write(SLOT, NEXT).isb().end().breaks(Rule::Unfinished, At::Slot(SLOT), VU);
    tape().write(SLOT, NEXT).dsb("ishst").end().breaks(Rule::Unfinished, At::Slot(SLOT), VD);
    ends(tape().write(L3, 0), B0);
    ends(tape().write(L3, 0).dsb("ishst"), B1);
    ends(tape().write(L3, 0).dsb("ishst").tlbi("vaale1is", VA), B2);
    ends(tape().write(L3, 0).dsb("ishst").tlbi("vaale1is", VA).isb(), B2);
    ends(tape().write(L3, 0).dsb("ishst").tlbi("vaale1is", VA).dsb("ish"), B3);
}

#[test]
fn a_barrier_that_is_too_weak_does_not_count() {
    for option in ["nsh", "nshst", "ld", "ishld", "oshld"] {
        tape().write(SLOT, NEXT).dsb(option).isb().end().breaks(Rule::Unfinished, At::Slot(SLOT), State::VU);
    }
    for option in ["nsh", "ishst", "st", "ishld"] {
        let mut tape = tape();
        tape.write(L3, 0).dsb("ishst").tlbi("vaale1is", VA).dsb(option).isb().end();
        tape.breaks(Rule::Unfinished, At::Slot(L3), State::B2);
    }
}

#[test]
fn barriers_and_invalidations_of_another_cpu_do_not_count() {
    let other = |tape: &mut Tape, event| tape.then(event).end().breaks(Rule::Unfinished, At::Slot(L3), State::B1);
    let op = Word::new("vmalle1is");
    other(tape().write(L3, 0).dsb("ishst"), Event::Tlbi { cpu: 1, op, operand: None });
    let mut tape = tape();
    tape.write(SLOT, NEXT).then(Event::Dsb { cpu: 1, option: Word::new("ish") }).isb().end();
    tape.breaks(Rule::Unfinished, At::Slot(SLOT), State::VU);
}

#[test]
fn another_cpus_operation_ends_where_it_likes() {
    tape().write(SLOT, NEXT).then(Event::End { cpu: 1, op: Word::new("add"), result: 0 }).passes();
}

#[test]
fn only_a_broadcast_of_any_asid_that_names_the_page_covers_a_leaf() {
    let scale_1 = 1 << 46 | 1 << 44;
    let covering: [(&str, u64); 6] = [
        ("vaale1is", 0),
        ("vaae1is", 0),
        ("vaale1os", 0),
        ("vaale1is", 7 << 44),
        ("rvaale1is", 1 << 46),
        ("rvaae1is", scale_1 | 3 << 37),
    ];
    let not: [(&str, u64); 11] = [
        ("vaale1", 0),
        ("vale1is", 0),
        ("vae1is", 0),
        ("aside1is", 0),
        ("vaale1is", 1),
        ("vaale1is", 6 << 44),
        ("vaale1is", 11 << 44),
        ("rvaale1is", 2 << 46),
        ("rvaale1is", 1 << 46 | 2),
        ("rvaale1is", 1 << 46 | 2 << 37),
        ("rvaale1", 1 << 46),
    ];
    let base = |op: &str, bits: u64| {
        let page = if op.starts_with('r') { VA >> 12 & ((1 << 37) - 1) } else { VA >> 12 & ((1 << 44) - 1) };
        page.wrapping_add(bits)
    };
    for (op, bits) in covering {
        tape().write(L3, 0).dsb("ishst").bits(op, base(op, bits)).dsb("ish").isb().end().passes();
    }
    for (op, bits) in not {
        let mut tape = tape();
        tape.write(L3, 0).dsb("ishst").bits(op, base(op, bits)).dsb("ish").isb().end();
        tape.breaks(Rule::Unfinished, At::Slot(L3), State::B1);
    }
}

#[test]
fn a_range_covers_the_pages_that_its_bits_name() {
    // SCALE and NUM: 2, 4 and 64 pages.
    for (size, pages) in [(0, 2), (1 << 39, 4), (1 << 44, 64)] {
        for (first, covers) in [(101 - pages, true), (100, true), (100 - pages, false), (101, false)] {
            let mut tape = tape();
            let base = ((VA >> 12) + first) & ((1 << 37) - 1);
            tape.write(L3 + 800, NEXT).publish().write(L3 + 800, 0).dsb("ishst");
            tape.bits("rvaale1is", 1 << 46 | size | base).dsb("ish").isb().end();
            if covers {
                tape.passes();
            } else {
                tape.breaks(Rule::Unfinished, At::Slot(L3 + 800), State::B1);
            }
        }
    }
}

#[test]
fn with_52_bits_a_range_counts_from_a_multiple_of_64k() {
    const WIDE: u64 = 0xfff0_0000_0000_0000;
    let header = Header { granule: GranuleSize::K4, va_bits: 52, pa_bits: 52, cpus: 1 };
    let mut tape = Tape { events: vec![Event::Trace(header)], memory: BTreeMap::new() };
    for (level, pa) in [(-1, ROOT), (0, SPARE), (1, L1), (2, L2), (3, L3)] {
        tape.then(Event::Table { pa, level, va: WIDE });
    }
    tape.write(L3, NEXT).publish().write(L3, 0).dsb("ishst");
    tape.bits("rvaale1is", 1 << 46 | (WIDE >> 16 & ((1 << 37) - 1))).dsb("ish").isb().end().passes();
}

#[test]
fn a_block_is_covered_by_any_of_its_pages() {
    let block = |va| {
        let mut tape = tape();
        tape.write(L2 + 8, 0x8020_0000 | BLOCK).publish().write(L2 + 8, 0).dsb("ishst").tlbi("vaale1is", va);
        tape.dsb("ish").isb().end();
        tape
    };
    block(VA + (2 << 20) + 0x5000).passes();
    block(VA + (4 << 20)).breaks(Rule::Unfinished, At::Slot(L2 + 8), State::B1);
}

/// `L3` made empty, its link cut.
fn cut_off() -> Tape {
    let mut tape = tape();
    tape.unmap(L3, VA).write(L2, 0).dsb("ishst");
    tape
}

#[test]
fn a_table_is_cut_off_invalidated_at_any_level_and_given_back() {
    cut_off().tlbi("vaae1is", VA + 0x5000).dsb("ish").isb().free(L3).end().passes();
    cut_off().bits("vmalle1is", 0).dsb("ish").isb().write(SLOT, 2).free(L3).end().passes();
}

#[test]
fn a_last_level_or_hinted_invalidation_does_not_cover_a_link() {
    for (op, hint) in [("vaale1is", 0), ("vae1is", 0), ("vaae1is", 7 << 44), ("rvaale1is", 1 << 46)] {
        let page = if op.starts_with('r') { VA >> 12 & ((1 << 37) - 1) } else { VA >> 12 & ((1 << 44) - 1) };
        cut_off().bits(op, page | hint).dsb("ish").isb().end().breaks(Rule::Unfinished, At::Slot(L2), State::B1);
    }
}

#[test]
fn a_table_is_not_given_back_before_its_link_is_forgotten() {
    use State::*;
    tape().free(L3).breaks(Rule::FreedTable, At::Table(L3), V);
    let frees = |tape: &mut Tape, state| tape.free(L3).breaks(Rule::FreedTable, At::Table(L3), state);
    frees(tape().unmap(L3, VA).write(L2, 0), B0);
    frees(&mut cut_off(), B1);
    frees(cut_off().tlbi("vaae1is", VA), B2);
    frees(cut_off().tlbi("vaae1is", VA).dsb("ish"), B3);
}

#[test]
fn a_table_with_a_link_on_its_way_is_not_given_back() {
    let mut tape = tape();
    tape.unmap(L3, VA).write(L2, 0).write(L1, 0).dsb("ishst").tlbi("vaae1is", VA + (2 << 20)).dsb("ish").isb().free(L2);
    let (check, _) = judge(&tape.events);
    assert_eq!(check.broken(), Some(Broken { rule: Rule::FreedTable, at: At::Slot(L2), state: State::B1 }));
    replay(&check);
}

#[test]
fn a_link_is_cut_only_where_nothing_below_is_valid() {
    tape().write(L2, 0).breaks(Rule::Children, At::Table(L3), State::V);
    tape().unmap(L3, VA).write(L1, 0).breaks(Rule::Children, At::Table(L2), State::V);
    tape().write(L3, 0).dsb("ishst").write(L2, 0).breaks(Rule::Children, At::Slot(L3), State::B1);
}

#[test]
fn a_table_that_is_cut_off_is_not_written() {
    cut_off().write(SLOT, 0x1000).breaks(Rule::Frozen, At::Table(L3), State::B1);
    cut_off().tlbi("vaae1is", VA).dsb("ish").write(SLOT, NEXT).breaks(Rule::Frozen, At::Table(L3), State::B3);
}

#[test]
fn nothing_is_made_valid_where_the_old_is_not_forgotten() {
    let rebuilt = |tape: &mut Tape, state| tape.write(L3, NEXT).breaks(Rule::Rebuilt, At::Slot(L3), state);
    rebuilt(tape().write(L3, 0), State::B0);
    rebuilt(tape().write(L3, 0).dsb("ishst"), State::B1);
    rebuilt(tape().write(L3, 0).dsb("ishst").tlbi("vaale1is", VA), State::B2);
    rebuilt(tape().write(L3, 0).dsb("ishst").tlbi("vaale1is", VA).dsb("ish"), State::B3);
    cut_off().write(L2 + 8, L3 | LINK).breaks(Rule::Rebuilt, At::Table(L3), State::B1);
    tape()
        .write(L3, 2)
        .dsb("ishst")
        .write(L3, 0)
        .tlbi("vaale1is", VA)
        .dsb("ish")
        .isb()
        .write(L3, NEXT)
        .publish()
        .passes();
}

#[test]
fn a_live_descriptor_changes_in_permissions_only() {
    tape().write(L3, NEXT).breaks(Rule::LiveChange, At::Slot(L3), State::V);
    tape().write(L3, FRAME | PAGE | CONTIGUOUS).breaks(Rule::LiveChange, At::Slot(L3), State::V);
    tape().write(L2, SPARE | LINK).breaks(Rule::LiveChange, At::Slot(L2), State::V);
    tape().write(L2, L3 | LINK | READ_ONLY).breaks(Rule::LiveChange, At::Slot(L2), State::V);
    tape().write(L2, L3 | LINK | 1 << 60).breaks(Rule::LiveChange, At::Slot(L2), State::V);
    tape().write(L3, FRAME | PAGE | 1 << 56).write(L2, L3 | LINK | 1 << 55).end().passes();
}

#[test]
fn a_change_of_permissions_is_followed_by_an_invalidation() {
    let read_only = || {
        let mut tape = tape();
        tape.write(L3, FRAME | PAGE | READ_ONLY);
        tape
    };
    let ends = |tape: &mut Tape, state| tape.end().breaks(Rule::Unfinished, At::Slot(L3), state);
    ends(&mut read_only(), State::P0);
    ends(read_only().dsb("ishst").isb(), State::P1);
    ends(read_only().dsb("ishst").tlbi("vaale1is", VA).isb(), State::P2);
    ends(read_only().dsb("ishst").tlbi("vaale1is", VA).dsb("ishst").isb(), State::P2);
    ends(read_only().dsb("ishst").tlbi("vaale1is", VA).dsb("ish"), State::P3);
    read_only().dsb("ishst").tlbi("vaale1is", VA).dsb("ish").isb().end().unmap(L3, VA).end().passes();
    read_only().tlbi("vaale1is", VA).breaks(Rule::Early, At::Slot(L3), State::P0);
}

#[test]
fn an_invalidation_comes_after_the_dsb() {
    tape().write(L3, 0).tlbi("vaale1is", VA).breaks(Rule::Early, At::Slot(L3), State::B0);
    tape().write(L3, 0).bits("vmalle1is", 0).breaks(Rule::Early, At::Slot(L3), State::B0);
    tape().write(L3, 0).tlbi("vaale1is", PAGE_VA).dsb("ishst").tlbi("vaale1is", VA).dsb("ish").isb().end().passes();
}

#[test]
fn a_contiguous_run_goes_as_one() {
    let run = || {
        let mut tape = tape();
        tape.run().end();
        tape
    };
    let va = |member: u64| VA + member * 0x1000;
    let mut whole = run();
    whole.many(16..32, |_| 0).dsb("ishst");
    let (mut all, mut first) = (Tape { events: whole.events.clone(), memory: BTreeMap::new() }, whole);
    (16..32).fold(&mut all, |tape, member| tape.tlbi("vaale1is", va(member))).dsb("ish").isb().end().passes();
    first.tlbi("vaale1is", va(16)).dsb("ish").isb().end().breaks(Rule::Unfinished, At::Slot(L3 + 17 * 8), State::B1);
    run().unmap_one(16).breaks(Rule::Run, At::Slot(L3 + 16 * 8), State::B1);
    run().many(16..31, |_| 0).dsb("ishst").write(L3 + 31 * 8, 0).tlbi("vaale1is", va(16)).breaks(
        Rule::Run,
        At::Slot(L3 + 16 * 8),
        State::B1,
    );
    run().many(16..32, |_| 0).dsb("ishst").write(L3 + 16 * 8, run_member(16)).breaks(
        Rule::Rebuilt,
        At::Slot(L3 + 16 * 8),
        State::B1,
    );
}

#[test]
fn a_member_does_not_come_back_while_another_is_on_its_way() {
    let mut tape = tape();
    tape.many(16..17, run_member).publish().unmap(L3 + 16 * 8, VA + 0x10000).write(L3 + 16 * 8, run_member(16));
    tape.publish().write(L3 + 16 * 8, 0).dsb("ishst").write(L3 + 17 * 8, run_member(17));
    tape.breaks(Rule::Run, At::Slot(L3 + 16 * 8), State::B1);
}

#[test]
fn a_run_whose_permissions_change_is_alike_before_it_is_invalidated() {
    let mut tape = tape();
    tape.run().write(L3 + 16 * 8, run_member(16) | READ_ONLY).dsb("ishst").tlbi("vaale1is", VA + 0x10000);
    tape.breaks(Rule::Run, At::Slot(L3 + 16 * 8), State::P1);
    let mut tape = Tape::new();
    tape.run().many(16..32, |member| run_member(member) | READ_ONLY).dsb("ishst");
    (16..32)
        .fold(&mut tape, |tape, member| tape.tlbi("vaale1is", VA + member * 0x1000))
        .dsb("ish")
        .isb()
        .end()
        .passes();
}

#[test]
fn an_operation_leaves_whole_runs() {
    let first = At::Slot(L3 + 16 * 8);
    tape().many(16..31, run_member).publish().end().breaks(Rule::PartialRun, first, State::V);
    tape().many(17..32, run_member).publish().end().breaks(Rule::PartialRun, At::Slot(L3 + 17 * 8), State::V);
    tape().many(16..32, |m| run_member(m ^ 1)).publish().end().breaks(Rule::PartialRun, first, State::V);
    tape().many(16..32, |m| run_member(m + 1)).publish().end().breaks(Rule::PartialRun, first, State::V);
    let mixed = |m: u64| if m == 20 { run_member(m) | READ_ONLY } else { run_member(m) };
    tape().many(16..32, mixed).publish().end().breaks(Rule::PartialRun, first, State::V);
}

/// `SPARE` zeroed, with a leaf, not linked.
fn built() -> Tape {
    let mut tape = tape();
    tape.alloc(SPARE).zero(SPARE).write(SPARE, 0x8020_0000 | PAGE);
    tape
}

#[test]
fn a_table_is_built_private_and_linked_when_it_is_complete() {
    built().dsb("ishst").write(L2 + 8, SPARE | LINK).publish().end().touch(VA + (2 << 20)).passes();
    built()
        .write(SPARE + 8, NEXT)
        .write(SPARE + 8, 0)
        .then(dmb("ishst"))
        .write(L2 + 8, SPARE | LINK)
        .publish()
        .end()
        .passes();
    built().free(SPARE).passes();
}

fn dmb(option: &str) -> Event {
    Event::Dmb { cpu: 0, option: Word::new(option) }
}

#[test]
fn a_link_names_a_table_that_is_zeroed_ordered_and_nobody_elses() {
    let links = |tape: &mut Tape, rule, state| tape.write(L2 + 8, SPARE | LINK).breaks(rule, At::Table(SPARE), state);
    links(&mut built(), Rule::Unordered, State::IC);
    links(built().dsb("nsh"), Rule::Unordered, State::IC);
    let other = Event::Dsb { cpu: 1, option: Word::new("ishst") };
    links(built().then(other), Rule::Unordered, State::IC);
    links(built().then(dmb("ishld")), Rule::Unordered, State::IC);
    links(built().dsb("ishst").write(SPARE + 8, 2), Rule::Unordered, State::IC);
    links(tape().alloc(SPARE).write(SPARE, NEXT).dsb("ishst"), Rule::Unzeroed, State::IC);
    links(built().dsb("ishst").alloc(SPARE), Rule::Unzeroed, State::IC);
    links(built().dsb("ishst").write(L2 + 16, SPARE | LINK).publish(), Rule::LinkedTwice, State::V);
}

#[test]
fn a_private_subtree_is_checked_when_its_top_is_linked() {
    let mut tape = tape();
    tape.alloc(SPARE).zero(SPARE).write(SPARE, L3 | LINK).dsb("ishst").write(L1 + 8, SPARE | LINK);
    tape.breaks(Rule::LinkedTwice, At::Table(L3), State::V);
    let below = SPARE + 0x1000;
    let mut tape = Tape::new();
    tape.zero(SPARE).zero(below).write(SPARE + 8, below | LINK).dsb("ishst").write(below, NEXT);
    tape.write(L1 + 8, SPARE | LINK).breaks(Rule::Unordered, At::Table(below), State::IC);
}

#[test]
fn a_table_that_walks_reach_is_not_handed_out_or_zeroed() {
    tape().alloc(L3).breaks(Rule::Reused, At::Table(L3), State::V);
    tape().zero(L2).breaks(Rule::Reused, At::Table(L2), State::V);
    cut_off().zero(L3).breaks(Rule::Reused, At::Table(L3), State::B1);
}

#[test]
fn a_frame_is_given_back_when_its_leaf_is_forgotten() {
    const NEW: u64 = FRAME + 0x1000;
    let frees = |tape: &mut Tape, state| tape.free(NEW).breaks(Rule::FreedFrame, At::Slot(SLOT), state);
    let mapped = || {
        let mut tape = tape();
        tape.alloc(NEW).write(SLOT, NEXT).publish();
        tape
    };
    frees(&mut mapped(), State::V);
    frees(mapped().write(SLOT, 0), State::B0);
    frees(mapped().write(SLOT, 0).dsb("ishst"), State::B1);
    frees(mapped().write(SLOT, 0).dsb("ishst").tlbi("vaale1is", PAGE_VA), State::B2);
    frees(mapped().write(SLOT, 0).dsb("ishst").tlbi("vaale1is", PAGE_VA).dsb("ish"), State::B3);
    mapped().unmap(SLOT, PAGE_VA).free(NEW).end().passes();
    // The linear map was there before.
    tape().alloc(FRAME).free(FRAME).passes();
}

#[test]
fn a_frame_mapped_by_a_private_table_counts_from_the_link_on() {
    let frame = |tape: &mut Tape| Tape { events: tape.events.clone(), memory: tape.memory.clone() };
    let mut tape = tape();
    tape.alloc(FRAME + 0x5000).zero(SPARE).write(SPARE, (FRAME + 0x5000) | PAGE).dsb("ishst");
    frame(&mut tape).free(FRAME + 0x5000).passes();
    tape.write(L2 + 8, SPARE | LINK).publish().free(FRAME + 0x5000);
    let (check, _) = judge(&tape.events);
    assert_eq!(check.broken().map(|broken| (broken.rule, broken.at)), Some((Rule::FreedFrame, At::Slot(SPARE))));
    replay(&check);
}

#[test]
fn nothing_is_used_before_it_is_published() {
    tape().touch(PAGE_VA).breaks(Rule::Touched, At::Slot(SLOT), State::IC);
    tape().write(SLOT, NEXT).touch(PAGE_VA).breaks(Rule::Touched, At::Slot(SLOT), State::VU);
    tape().write(SLOT, NEXT).dsb("ishst").touch(PAGE_VA).breaks(Rule::Touched, At::Slot(SLOT), State::VD);
    tape().unmap(L3, VA).touch(VA).breaks(Rule::Touched, At::Slot(L3), State::IC);
    built().dsb("ishst").write(L2 + 8, SPARE | LINK).touch(VA + (2 << 20)).breaks(
        Rule::Touched,
        At::Slot(L2 + 8),
        State::VU,
    );
}

#[test]
fn a_slot_holds_what_was_last_written_to_it() {
    let write = Event::Write { cpu: 0, slot: L3, old: NEXT, new: 0 };
    tape().then(write).breaks(Rule::Unseen, At::Slot(L3), State::V);
}

#[test]
fn the_window_starts_with_the_registers_that_were_in_use() {
    let regs = |tcr| Event::Regs { cpu: 0, ttbr1: ROOT, tcr, mair: 0, sctlr: 1 };
    for (padding, expected) in [(10, vec![regs(TCR), regs(5)]), (100, vec![regs(5)])] {
        let events = tape().then(regs(5)).write(L3, NEXT).padded(padding);
        let (check, _) = judge(&[&events[..10], &[Event::Isb { cpu: 0 }], &events[10..]].concat());
        let told: Vec<_> = check.window().into_iter().filter(|event| matches!(event, Event::Regs { .. })).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn the_window_has_64_events_and_the_tables_as_they_were() {
    let mut tape = tape();
    tape.write(L3 + 0x100, 2);
    let nothing = Event::Begin { cpu: 0, op: Word::new("wait"), start: 0, end: 0 };
    (0..60).fold(&mut tape, |tape, _| tape.then(nothing)).unmap(L3, VA).write(L2, 0).dsb("ishst");
    tape.tlbi("vaae1is", VA).dsb("ish").isb().free(L3).alloc(L3).zero(L3).write(L3 + 0x100, NEXT).dsb("ishst");
    tape.zero(SPARE).write(SPARE, NEXT).write(L2 + 8, SPARE | LINK);
    let (check, _) = judge(&tape.events);
    let window = check.window();
    let told = window.iter().rposition(|event| matches!(event, Event::Slot { .. }));
    assert_eq!(told.map(|last| window.len() - 1 - last), Some(64), "{window:?}");
    let slots: Vec<_> = window.iter().filter(|event| matches!(event, Event::Slot { pa, .. } if *pa >= L3)).collect();
    assert_eq!(slots, [&Event::Slot { pa: L3, value: FRAME | PAGE }, &Event::Slot { pa: L3 + 0x100, value: 2 }]);
    replay(&check);
}

#[test]
fn nothing_is_judged_after_the_illegal_step() {
    let mut tape = tape();
    let (mut check, _) = judge(&tape.write(L3, NEXT).events);
    let (judged, first) = (check.judged(), check.broken().unwrap());
    assert_eq!(check.step(Event::Isb { cpu: 0 }), Err(first));
    assert_eq!(check.judged(), judged);
}

#[test]
fn a_verdict_names_rule_descriptor_state_and_what_is_missing() {
    let (check, _) = judge(&tape().write(L3, 0).dsb("ishst").end().events);
    let broken = check.broken().unwrap();
    assert_eq!(
        broken.to_string(),
        "unfinished: an operation ends with a descriptor on its way: the descriptor at 0x50002000 is in B1: no TLBI that \
         covers it has followed the DSB"
    );
    assert_eq!(broken.rule.name(), "unfinished");
}

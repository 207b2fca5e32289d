//! What Linux 6.12 really did, judged by the adversary; and damaged copies, each refused for the right reason.
//!
//! The recordings in `traces/` are explained in `docs/traces.md`.

use vmemmap::sim::{Adversary, Rule, Violation};
use vmemmap::trace::{Event, Word};

const ADD_REMOVE: &str = include_str!("traces/linux-6.12-64k-add-remove.trace");
const ADD_REMOVE_4K: &str = include_str!("traces/linux-6.12-4k-add-remove.trace");
const FAR_TABLES: &str = include_str!("traces/linux-6.12-64k-far-tables.trace");
const NEIGHBOURS: &str = include_str!("traces/linux-6.12-64k-neighbours.trace");
const NO_ALTMAP: &str = include_str!("traces/linux-6.12-64k-no-altmap.trace");

fn events(text: &str) -> Vec<Event> {
    text.lines().filter_map(|line| Event::parse(line).unwrap()).collect()
}

/// Judges a trace as if two CPUs had been running, so that it matters whether an invalidation is broadcast.
fn judge(events: &[Event]) -> Vec<Violation> {
    let Event::Trace(header) = events[0] else { panic!("no header") };
    let mut adversary = Adversary::new(vmemmap::trace::Header { cpus: 2, ..header });
    let mut violations = Vec::new();
    for &event in &events[1..] {
        violations.extend(adversary.step(event).err().map(|violation| *violation));
        if let Event::Regs { ttbr1, tcr, mair, sctlr, .. } = event {
            violations.extend(adversary.step(Event::Regs { cpu: 1, ttbr1, tcr, mair, sctlr }).err().map(|v| *v));
        }
    }
    violations
}

fn rules(violations: &[Violation]) -> Vec<Rule> {
    violations.iter().map(|violation| violation.rule).collect()
}

#[test]
fn what_linux_does_right_is_right() {
    for (name, text) in [("64K", ADD_REMOVE), ("4K", ADD_REMOVE_4K), ("64K in RAM", NO_ALTMAP)] {
        let violations = judge(&events(text));
        assert!(violations.is_empty(), "{name}: {}", violations[0]);
    }
}

#[test]
fn a_memmap_table_is_linked_with_nothing_that_orders_its_zeroing() {
    let violations = judge(&events(FAR_TABLES));
    assert_eq!(rules(&violations), [Rule::Unordered]);
    assert!(matches!(violations[0].event, Event::Write { slot: 0x4085_f7f8, .. }));
    assert!(violations[0].why.contains("nothing orders its zeroing"));
}

/// A memmap page describes both neighbours; the first one's removal takes it away under the second.
#[test]
fn a_pair_of_ranges_loses_a_live_page() {
    let violations = judge(&events(NEIGHBOURS));
    assert_eq!(rules(&violations), [Rule::Access]);
    assert!(matches!(violations[0].event, Event::Touch { va: 0xffff_ffdf_c0b0_0880, .. }));
    assert!(violations[0].why.starts_with("nothing is mapped there"));
    assert!(violations[0].since.is_some_and(|since| since < violations[0].number - 64), "long before the access");
}

/// Small traces that once got the wrong verdict, each named by what is wrong in it, or right.
fn verdicts_of(folder: &str) -> Vec<(String, Vec<Violation>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let judged = files.map(|file| {
        let events = events(&std::fs::read_to_string(&file).unwrap());
        let Event::Trace(header) = events[0] else { panic!("no header") };
        let mut adversary = Adversary::new(header);
        let steps = events[1..].iter().filter_map(|event| adversary.step(*event).err().map(|violation| *violation));
        let mut violations: Vec<_> = steps.collect();
        violations.extend(adversary.finish().err().map(|violation| *violation));
        (file.file_stem().unwrap().to_string_lossy().into_owned(), violations)
    });
    judged.collect()
}

#[test]
fn wrong_traces_are_refused_and_right_ones_pass() {
    let (wrong, right) = (verdicts_of("wrong"), verdicts_of("right"));
    assert!(wrong.len() >= 25 && right.len() >= 5);
    let missed: Vec<_> = wrong.iter().filter(|(_, violations)| violations.is_empty()).map(|(name, _)| name).collect();
    assert!(missed.is_empty(), "accepted: {missed:?}");
    for (name, violations) in &right {
        assert!(violations.is_empty(), "{name}: {}", violations[0]);
    }
}

/// A trace with events taken out, changed or moved; positions count from the `begin op=remove`.
struct Damaged {
    events: Vec<Event>,
    remove: usize,
}

impl Damaged {
    fn new(text: &str) -> Self {
        let events = events(text);
        let is_remove = |event: &Event| matches!(event, Event::Begin { op, .. } if &**op == "remove");
        let remove = events.iter().position(is_remove).expect("it removes");
        Self { events, remove }
    }

    /// Where the first event of the removal is that `is`.
    fn find(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.remove + self.events[self.remove..].iter().position(is).expect("it is there")
    }

    /// Where the first event that `is` stands behind `from`.
    fn after(&self, from: usize, is: impl Fn(&Event) -> bool) -> usize {
        from + 1 + self.events[from + 1..].iter().position(is).expect("it is there")
    }

    fn without(mut self, at: usize) -> Vec<Event> {
        self.events.remove(at);
        self.events
    }

    fn with(mut self, at: usize, event: Event) -> Vec<Event> {
        self.events[at] = event;
        self.events
    }

    fn moved(mut self, from: usize, to: usize) -> Vec<Event> {
        let event = self.events.remove(from);
        self.events.insert(to, event);
        self.events
    }
}

fn is_cleared_leaf(event: &Event) -> bool {
    matches!(event, Event::Write { new: 0, old, .. } if old & 0x3 == 3)
}

fn is_dsb(event: &Event, option: &str) -> bool {
    matches!(event, Event::Dsb { option: word, .. } if &**word == option)
}

fn is_tlbi(event: &Event, name: &str) -> bool {
    matches!(event, Event::Tlbi { op, .. } if &**op == name)
}

fn is_free(event: &Event) -> bool {
    matches!(event, Event::Free { .. })
}

#[track_caller]
fn refused(events: &[Event], rule: Rule, why: &str) {
    let violations = judge(events);
    let first = violations.first().unwrap_or_else(|| panic!("nobody noticed: {rule}, {why}"));
    assert_eq!(first.rule, rule, "{first}");
    assert!(first.why.contains(why), "{first}");
}

#[test]
fn a_missing_invalidation_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.find(|event| is_tlbi(event, "vaale1is"));
    refused(&trace.without(at), Rule::FreedFrame, "no invalidation that counts");
}

#[test]
fn a_missing_dsb_before_the_invalidation_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.after(trace.find(is_cleared_leaf), |event| is_dsb(event, "ishst"));
    refused(&trace.without(at), Rule::FreedFrame, "no invalidation that counts");
}

#[test]
fn a_missing_dsb_after_the_invalidation_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.after(trace.find(|event| is_tlbi(event, "vaale1is")), |event| is_dsb(event, "ish"));
    refused(&trace.without(at), Rule::FreedFrame, "no DSB ISH of its issuer");
}

#[test]
fn a_dsb_that_does_not_wait_for_loads_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.after(trace.find(|event| is_tlbi(event, "vaale1is")), |event| is_dsb(event, "ish"));
    let stores_only = Event::Dsb { cpu: 0, option: Word::new("ishst") };
    refused(&trace.with(at, stores_only), Rule::FreedFrame, "no DSB ISH of its issuer");
}

#[test]
fn a_missing_isb_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.after(trace.find(|event| is_tlbi(event, "vaale1is")), |event| matches!(event, Event::Isb { .. }));
    refused(&trace.without(at), Rule::FreedFrame, "but for an ISB");
}

#[test]
fn a_local_invalidation_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.find(|event| is_tlbi(event, "vaale1is"));
    let Event::Tlbi { cpu, operand, .. } = trace.events[at] else { unreachable!() };
    let local = Event::Tlbi { cpu, op: Word::new("vaale1"), operand };
    refused(&trace.with(at, local), Rule::FreedFrame, "CPU 1 may still reach it");
}

#[test]
fn a_frame_given_back_early_is_refused() {
    for text in [ADD_REMOVE, NO_ALTMAP] {
        let trace = Damaged::new(text);
        let (from, to) = (trace.find(is_free), trace.find(is_cleared_leaf));
        refused(&trace.moved(from, to), Rule::FreedFrame, "it is mapped");
        let trace = Damaged::new(text);
        let (from, to) = (trace.find(is_free), trace.find(|event| is_tlbi(event, "vaale1is")));
        refused(&trace.moved(from, to), Rule::FreedFrame, "no invalidation that counts");
    }
}

#[test]
fn a_linear_map_that_is_never_invalidated_is_refused() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.find(|event| is_tlbi(event, "vmalle1is"));
    refused(&trace.without(at), Rule::Forgotten, "no invalidation that counts");
}

#[test]
fn a_store_that_is_not_visible_at_the_end_is_refused() {
    let mut trace = Damaged::new(ADD_REMOVE);
    let last_store =
        trace.events[..trace.remove].iter().rposition(|event| matches!(event, Event::Write { .. })).unwrap();
    // Context switches also have barriers: they go too.
    let end = trace.after(last_store, |event| matches!(event, Event::End { .. }));
    let barriers = |event: &Event| matches!(event, Event::Dsb { .. } | Event::Touch { .. });
    for at in (last_store..end).rev() {
        if barriers(&trace.events[at]) {
            trace.events.remove(at);
        }
    }
    refused(&trace.events, Rule::Visible, "no DSB since slot");
}

/// Judges a trace of which the known violation is mended: the zeroing is ordered.
fn with_ordered_zeroing(text: &str) -> Damaged {
    let mut trace = Damaged::new(text);
    let at = trace.events.iter().position(|event| matches!(event, Event::Zero { .. })).unwrap();
    trace.events.insert(at + 1, Event::Dsb { cpu: 0, option: Word::new("ishst") });
    trace.remove += 1;
    trace
}

#[test]
fn the_table_of_the_far_range_is_right_once_its_zeroing_is_ordered() {
    assert!(judge(&with_ordered_zeroing(FAR_TABLES).events).is_empty());
}

#[test]
fn a_table_invalidated_by_a_last_level_form_is_refused() {
    let trace = with_ordered_zeroing(FAR_TABLES);
    let at = trace.find(|event| is_tlbi(event, "vaae1is"));
    let Event::Tlbi { cpu, operand, .. } = trace.events[at] else { unreachable!() };
    let last_level = Event::Tlbi { cpu, op: Word::new("vaale1is"), operand };
    refused(&trace.with(at, last_level), Rule::FreedTable, "no invalidation that counts");
}

#[test]
fn a_table_given_back_early_is_refused() {
    let trace = with_ordered_zeroing(FAR_TABLES);
    let from = trace.find(|event| matches!(event, Event::Free { to, .. } if &**to == "ram"));
    let to = trace.find(|event| is_tlbi(event, "vaae1is"));
    refused(&trace.moved(from, to), Rule::FreedTable, "no invalidation that counts");
}

#[test]
fn a_store_that_is_left_out_is_noticed() {
    let trace = Damaged::new(ADD_REMOVE);
    let at = trace.events.iter().position(|event| matches!(event, Event::Write { .. })).unwrap();
    refused(&trace.without(at), Rule::Race, "another store came between");
}

//! Sequences of events, written by hand.

use std::collections::BTreeMap;

use vmemmap::check::{At, Broken, Check, Rule, State};
use vmemmap::granule::GranuleSize;
use vmemmap::sim::{self, Adversary};
use vmemmap::trace::{Event, Header, Word};

/// Judges events up to the first illegal one; how many were legal.
pub fn judge(events: &[Event]) -> (Check, usize) {
    let Some(Event::Trace(header)) = events.first() else { panic!("no header") };
    let mut check = Check::new(*header).unwrap();
    let legal = events.iter().take_while(|event| check.step(**event).is_ok()).count();
    (check, legal)
}

/// The first rule of the adversary that a trace breaks.
pub fn first_wrong(trace: &[Event]) -> Option<sim::Rule> {
    let Some(Event::Trace(header)) = trace.first() else { panic!("no header") };
    let mut adversary = Adversary::new(*header);
    trace.iter().find_map(|event| adversary.step(*event).err()).map(|violation| violation.rule)
}

/// Replays what `check` kept, which must come to the same verdict, at its last event.
pub fn replay(check: &Check) {
    let window = check.window();
    let text: Vec<String> = window.iter().map(ToString::to_string).collect();
    let read: Vec<Event> = text.iter().map(|line| Event::parse(line).unwrap().unwrap()).collect();
    assert_eq!(read, window, "the window reads back as it was told");
    let (again, legal) = judge(&window);
    assert_eq!(again.broken(), check.broken(), "{}", text.join("\n"));
    assert_eq!(legal + 1, window.len(), "refused before the last event:\n{}", text.join("\n"));
}

/// What the adversary says where the checker says `rule`. It lets a TLBI come early, and a link be cut over leaves that are not
/// forgotten: what that leaves behind is wrong later.
pub fn matching(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::FreedFrame => &["E3a"],
        Rule::FreedTable => &["E3b"],
        Rule::Unfinished => &["E2a", "E2b", "E2c"],
        Rule::Children => &["E2b", "E2c"],
        Rule::Unordered => &["E7"],
        Rule::Early => &["E2b"],
        _ => &[],
    }
}

/// The adversary refuses the last event for a reason of `codes`, and not if what may be missing before it is put there.
fn mends(window: &[Event], codes: &[&str]) {
    let found = first_wrong(window).map(sim::Rule::code);
    assert!(found.map_or(codes.is_empty(), |code| codes.contains(&code)), "{found:?}, not {codes:?}: {window:?}");
    let barrier = |option| Event::Dsb { cpu: 0, option: Word::new(option) };
    let all = Event::Tlbi { cpu: 0, op: Word::new("vmalle1is"), operand: None };
    let (last, before) = window.split_last().unwrap();
    let missing = [barrier("ishst"), all, barrier("ish"), Event::Isb { cpu: 0 }];
    assert_eq!(first_wrong(&[before, &missing, &[*last]].concat()), None, "{window:?}");
}

/// A sequence of events at 4K with 48 bits, with tables for the first GiB of the kernel half.
pub struct Tape {
    pub events: Vec<Event>,
    pub memory: BTreeMap<u64, u64>,
}

/// 4K and 48 bits for both halves.
pub const TCR: u64 = 0x35_b550_3510;
pub const ROOT: u64 = 0x4000_0000;
pub const L1: u64 = 0x5000_0000;
pub const L2: u64 = 0x5000_1000;
pub const L3: u64 = 0x5000_2000;
/// A fourth table, not linked.
pub const SPARE: u64 = 0x5000_3000;
pub const VA: u64 = 0xffff_0000_0000_0000;
pub const FRAME: u64 = 0x8000_0000;
pub const PAGE: u64 = 0x00e8_0000_0000_0703;
pub const BLOCK: u64 = 0x00e8_0000_0000_0701;
pub const LINK: u64 = 3;
pub const CONTIGUOUS: u64 = 1 << 52;
pub const READ_ONLY: u64 = 1 << 7;

impl Tape {
    /// A leaf for `FRAME` in the first slot of `L3`, all at rest.
    pub fn new() -> Self {
        let header = Header { granule: GranuleSize::K4, va_bits: 48, pa_bits: 48, cpus: 2 };
        let regs = Event::Regs { cpu: 0, ttbr1: ROOT, tcr: TCR, mair: 0, sctlr: 1 };
        let mut tape = Self { events: vec![Event::Trace(header), regs], memory: BTreeMap::new() };
        for (level, table) in (0..).zip([ROOT, L1, L2, L3]) {
            tape.events.push(Event::Table { pa: table, level, va: VA });
        }
        for (slot, value) in [(ROOT, L1 | LINK), (L1, L2 | LINK), (L2, L3 | LINK), (L3, FRAME | PAGE)] {
            tape.events.push(Event::Slot { pa: slot, value });
            tape.memory.insert(slot, value);
        }
        tape
    }

    pub fn write(&mut self, slot: u64, new: u64) -> &mut Self {
        let old = self.memory.insert(slot, new).unwrap_or(0);
        self.then(Event::Write { cpu: 0, slot, old, new })
    }

    pub fn then(&mut self, event: Event) -> &mut Self {
        self.events.push(event);
        self
    }

    pub fn dsb(&mut self, option: &str) -> &mut Self {
        self.then(Event::Dsb { cpu: 0, option: Word::new(option) })
    }

    pub fn isb(&mut self) -> &mut Self {
        self.then(Event::Isb { cpu: 0 })
    }

    pub fn tlbi(&mut self, op: &str, va: u64) -> &mut Self {
        self.bits(op, va >> 12 & ((1 << 44) - 1))
    }

    pub fn bits(&mut self, op: &str, operand: u64) -> &mut Self {
        self.then(Event::Tlbi { cpu: 0, op: Word::new(op), operand: Some(operand) })
    }

    pub fn end(&mut self) -> &mut Self {
        self.then(Event::End { cpu: 0, op: Word::new("add"), result: 0 })
    }

    pub fn alloc(&mut self, pa: u64) -> &mut Self {
        self.then(Event::Alloc { pa, len: 0x1000, from: Word::new("ram") })
    }

    pub fn free(&mut self, pa: u64) -> &mut Self {
        self.then(Event::Free { pa, len: 0x1000, to: Word::new("ram") })
    }

    pub fn zero(&mut self, pa: u64) -> &mut Self {
        self.memory.retain(|slot, _| !(pa..pa + 0x1000).contains(slot));
        self.then(Event::Zero { cpu: 0, pa, len: 0x1000 })
    }

    pub fn touch(&mut self, va: u64) -> &mut Self {
        self.then(Event::Touch { cpu: 0, va, write: true })
    }

    /// DSB ISHST, ISB.
    pub fn publish(&mut self) -> &mut Self {
        self.dsb("ishst").isb()
    }

    /// Clears a leaf, with all that must follow.
    pub fn unmap(&mut self, slot: u64, va: u64) -> &mut Self {
        self.write(slot, 0).dsb("ishst").tlbi("vaale1is", va).dsb("ish").isb()
    }

    /// Sixteen members of a contiguous run in `L3` from slot 16 on, at rest.
    pub fn run(&mut self) -> &mut Self {
        (16..32).fold(&mut *self, |tape, member| tape.write(L3 + member * 8, run_member(member))).publish()
    }

    pub fn many(&mut self, slots: impl Iterator<Item = u64>, value: impl Fn(u64) -> u64) -> &mut Self {
        slots.fold(self, |tape, member| tape.write(L3 + member * 8, value(member)))
    }

    pub fn unmap_one(&mut self, member: u64) -> &mut Self {
        self.write(L3 + member * 8, 0).dsb("ishst").tlbi("vaale1is", VA + member * 0x1000)
    }

    /// `count` events that change nothing, before the last one.
    pub fn padded(&self, count: usize) -> Vec<Event> {
        let (last, before) = self.events.split_last().unwrap();
        let nothing = Event::Begin { cpu: 0, op: Word::new("wait"), start: 0, end: 0 };
        before.iter().copied().chain(std::iter::repeat_n(nothing, count)).chain([*last]).collect()
    }

    /// The last event, and no other, breaks `rule` on `at`, which is in `state`; the window says the same, however long ago
    /// the rest was.
    pub fn breaks(&self, rule: Rule, at: At, state: State) {
        println!("@reached refusals {}", rule.name());
        println!("@reached states {state:?}");
        for padding in [0, 10, 60, 63, 64, 200] {
            let events = self.padded(padding);
            let (check, legal) = judge(&events);
            assert_eq!(check.broken(), Some(Broken { rule, at, state }), "event {legal}: {:?}", events.get(legal));
            assert_eq!(legal + 1, events.len(), "an earlier event is refused");
            replay(&check);
            // In B1 there may be a TLBI whose operand the adversary refuses by itself.
            let judged =
                matches!(rule, Rule::FreedFrame | Rule::FreedTable) || rule == Rule::Unfinished && state != State::B1;
            if judged && state != State::V {
                mends(&check.window(), matching(rule));
            }
        }
    }

    pub fn passes(&self) {
        let (check, legal) = judge(&self.events);
        assert_eq!(check.broken(), None, "event {legal}: {:?}", self.events.get(legal));
    }
}

pub fn run_member(member: u64) -> u64 {
    (FRAME + member * 0x1000) | PAGE | CONTIGUOUS
}

pub fn tape() -> Tape {
    Tape::new()
}

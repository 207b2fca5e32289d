//! The last events, and the trace that replays them.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::iter;

use super::shadow::{Page, State, Table, is_valid};
use super::{At, Broken, Check, Rule};
use crate::addr::VirtAddr;
use crate::descriptor::Descriptor;
use crate::granule::Level;
use crate::observe;
use crate::tlbi::{Operand, Tlbi};
use crate::trace::{Event, Word};

/// How many events are kept.
pub const KEPT: usize = 64;

#[derive(Debug)]
struct Record {
    event: Event,
    /// Tables that it made us forget.
    dropped: Vec<(u64, Table)>,
    /// Whose frames it gives back.
    from: Option<Word>,
}

/// The last events.
#[derive(Debug, Default)]
pub struct Window {
    records: VecDeque<Record>,
    /// What each CPU used before the first of them.
    regs: BTreeMap<u8, Event>,
}

impl Window {
    pub fn keep(&mut self, event: Event) {
        match event {
            Event::Regs { cpu, .. } if self.records.is_empty() => {
                self.regs.insert(cpu, event);
            }
            _ => self.records.push_back(Record { event, dropped: Vec::new(), from: None }),
        }
        let gone = if self.records.len() > KEPT { self.records.pop_front() } else { None };
        if let Some(Record { event: regs @ Event::Regs { cpu, .. }, .. }) = gone {
            self.regs.insert(cpu, regs);
        }
    }

    /// The last event made us forget a table.
    pub fn dropped(&mut self, pa: u64, table: Option<Table>) {
        if let Some(record) = self.records.back_mut() {
            record.dropped.extend(table.map(|table| (pa, table)));
        }
    }

    /// The last event gives back frames that were taken from here.
    pub fn given(&mut self, from: Option<Word>) {
        if let Some(record) = self.records.back_mut() {
            record.from = from;
        }
    }

    /// How the frames that are given back without having been taken here were taken, and `behind` likewise.
    fn taken_before(&self, behind: Option<Event>) -> Vec<Event> {
        let (mut known, mut taken) = (BTreeSet::new(), Vec::new());
        for record in &self.records {
            match record.event {
                Event::Alloc { pa, len, .. } => _ = known.insert((pa, len)),
                Event::Free { pa, len, to } if known.insert((pa, len)) => {
                    taken.push(Event::Alloc { pa, len, from: record.from.unwrap_or(to) });
                }
                _ => {}
            }
        }
        taken.extend(behind.filter(|event| matches!(event, Event::Alloc { pa, len, .. } if known.insert((*pa, *len)))));
        taken
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.records.iter().map(|record| record.event)
    }

    /// What `slot` held before the first event, if one of them writes it.
    fn overwritten(&self, slot: u64) -> Option<u64> {
        self.events().find_map(|event| match event {
            Event::Write { slot: written, old, .. } if written == slot => Some(old),
            _ => None,
        })
    }
}

/// The tables as they were before the first event that is kept.
struct Before<'a> {
    check: &'a Check,
    tables: BTreeMap<u64, &'a Table>,
    /// What was overwritten since.
    values: BTreeMap<u64, u64>,
    told: BTreeSet<u64>,
    lines: Vec<Event>,
}

impl Check {
    /// The last 64 events as a trace: header, registers, the frames that they give back being taken, the tables that they are
    /// about as these were before, what had happened before to the descriptor that broke a rule, the events. Judged again, it breaks the same rule, but where two
    /// descriptors brought that about together and one of them was changed more than 64 events ago.
    #[must_use]
    pub fn window(&self) -> Vec<Event> {
        let past = self.past();
        // How far the descriptor had come before the window is not remembered: as far as the verdict permits.
        let beside = self.beside(self.broken);
        let pasts = (1..=past.len()).rev().map(|steps| [&past[..steps], &beside].concat());
        let mut traces = iter::once(Vec::new()).chain(pasts).map(|past| self.replayable(&past));
        let same = traces.find(|trace| self.broken == broken_by(trace));
        same.unwrap_or_else(|| self.replayable(&[]))
    }

    /// The descriptor that broke a rule: the slot, or that of the table's link.
    fn culprit(&self) -> Option<u64> {
        match self.broken?.at {
            At::Slot(slot) => Some(slot),
            At::Table(table) => self.shadow.link(table).filter(|link| !self.shadow.state(*link).is_at_rest()),
        }
    }

    /// Everything that can have happened to the descriptor that broke a rule, in order.
    fn past(&self) -> Vec<Event> {
        let culprit = self.culprit().and_then(|slot| self.shadow.slot(slot).map(|entry| (slot, entry)));
        let Some((slot, entry)) = culprit else { return Vec::new() };
        let cpu = entry.cpu;
        let barrier = |option| Event::Dsb { cpu, option: Word::new(option) };
        let write = |old, new| Event::Write { cpu, slot, old, new };
        let mut past = Vec::new();
        // What it held before the window, not now.
        let (now, was) = (self.window.overwritten(slot).unwrap_or(entry.now), entry.was);
        let made = if is_valid(was) { was } else { now };
        if self.frames.behind(slot).is_some() || made == now {
            past.extend([write(0, made), barrier("ishst"), Event::Isb { cpu }]);
        }
        if made != now {
            let all = Event::Tlbi { cpu, op: Word::new("vmalle1is"), operand: None };
            past.extend([write(made, now), barrier("ishst")]);
            past.extend(self.members_gone(slot, made).map(|va| Event::seen(cpu, &observe::Event::Tlbi(leaf_at(va)))));
            past.extend([all, barrier("ish")]);
        }
        past
    }

    /// Where the other members of its contiguous run were that have been invalidated: `slot` brings each of them back.
    fn members_gone(&self, slot: u64, made: u64) -> impl Iterator<Item = u64> {
        let run = self.shadow.run(slot, made).into_iter();
        let others = run.flat_map(|(first, members)| (0..members).map(move |index| first + index * 8));
        let gone = |other: &u64| matches!(self.shadow.state(*other), State::IC | State::B2 | State::B3);
        others.filter(move |other| *other != slot && gone(other)).filter_map(|other| Some(self.shadow.place(other)?.va))
    }

    /// The other members of its contiguous run that have just been changed.
    fn beside(&self, broken: Option<Broken>) -> Vec<Event> {
        let Some(Broken { rule: Rule::Run, at: At::Slot(slot), .. }) = broken else { return Vec::new() };
        let was = self.shadow.slot(slot).map_or(0, |entry| entry.was);
        let Some((first, members)) = self.shadow.run(slot, was) else { return Vec::new() };
        let others = (0..members).map(|index| first + index * 8).filter(|member| *member != slot);
        let changed = others.filter_map(|slot| self.shadow.slot(slot).map(|entry| (slot, entry)));
        let changed = changed.filter(|(_, entry)| matches!(entry.state, State::B0 | State::P0));
        let changed = changed.filter(|(slot, _)| self.window.overwritten(*slot).is_none());
        changed.map(|(slot, entry)| Event::Write { cpu: entry.cpu, slot, old: entry.was, new: entry.now }).collect()
    }

    fn replayable(&self, past: &[Event]) -> Vec<Event> {
        let mut before = Before::of(self);
        for event in past.iter().rev() {
            if let Event::Write { slot, old, .. } = *event {
                before.values.insert(slot, old);
            }
        }
        before.lines.push(Event::Trace(self.header));
        before.lines.extend(self.window.regs.values());
        let at = before.lines.len();
        before.tell_live(past);
        before.tell_taken(at);
        let private = before.private(past);
        before.tell_private(&private, true);
        before.lines.extend(past);
        before.tell_private(&private, false);
        before.lines.extend(self.window.events());
        before.lines
    }
}

const fn leaf_at(va: u64) -> Tlbi {
    Tlbi::LastLevel(Operand::new(VirtAddr::new(va)))
}

/// What judging `trace` comes to, if it is its last event that is illegal.
fn broken_by(trace: &[Event]) -> Option<Broken> {
    let (last, before) = trace.split_last()?;
    let &Event::Trace(header) = trace.first()? else { return None };
    let mut check = Check::new(header).ok()?;
    before.iter().try_for_each(|event| check.step(*event)).ok()?;
    check.step(*last).err()
}

impl<'a> Before<'a> {
    fn of(check: &'a Check) -> Self {
        let tables = check.shadow.tables.iter().map(|(pa, table)| (*pa, table)).collect();
        let mut before = Self { check, tables, values: BTreeMap::new(), told: BTreeSet::new(), lines: Vec::new() };
        let illegal = check.broken.map(|_| check.window.records.len() - 1);
        for (number, record) in check.window.records.iter().enumerate().rev() {
            // An illegal step was not taken.
            before.undo(record, Some(number) == illegal);
        }
        before
    }

    fn undo(&mut self, record: &'a Record, illegal: bool) {
        match record.event {
            Event::Write { slot, old, .. } if !illegal => _ = self.values.insert(slot, old),
            Event::Zero { pa, len, .. } if !illegal => {
                self.tables.retain(|table, _| !(pa..pa + len).contains(table));
                self.values.retain(|slot, _| !(pa..pa + len).contains(slot));
            }
            _ => (),
        }
        self.tables.extend(record.dropped.iter().map(|(pa, table)| (*pa, table)));
    }

    /// The slots of a table that are not zero.
    fn slots(&self, pa: u64) -> Vec<(u64, u64)> {
        let slots = self.tables.get(&pa).map_or(&[][..], |table| &table.slots);
        let slots = slots.iter().zip(0..).map(|(slot, index)| (pa + index * 8, slot.now));
        let values = slots.map(|(slot, now)| (slot, self.values.get(&slot).copied().unwrap_or(now)));
        values.filter(|(_, value)| *value != 0).collect()
    }

    /// The table at `slot`.
    fn table_of(&self, slot: u64) -> Option<(u64, &'a Table)> {
        let (&pa, &table) = self.tables.range(..=slot).next_back()?;
        (slot < pa + table.slots.len() as u64 * 8).then_some((pa, table))
    }

    /// What walks reach, as far as the events are about it.
    fn tell_live(&mut self, past: &[Event]) {
        let regime = self.check.shadow.regime();
        let events = self.check.window.events().chain(past.iter().copied());
        let mut wanted: Vec<u64> = events
            .filter_map(|event| match event {
                Event::Touch { va, .. } => Some(va),
                Event::Write { slot, .. } => self.va_of(slot),
                _ => None,
            })
            .collect();
        wanted.extend(self.check.broken.and_then(|broken| match broken.at {
            At::Slot(slot) => self.va_of(slot),
            At::Table(table) => self.va_of(table),
        }));
        let start = regime.start_level();
        let is_root = |table: &Table| table.level == start && table.page == Page::Linked;
        let roots: Vec<_> = self.tables.iter().filter(|(_, table)| is_root(table)).map(|(pa, _)| *pa).collect();
        for root in roots {
            self.tell_from(root, start, regime.lowest().value(), &wanted);
        }
    }

    /// Frames that are out, before the line `at`; the tables in them that have been told were zeroed, in time.
    fn tell_taken(&mut self, at: usize) {
        let behind = self.check.culprit().and_then(|slot| self.check.frames.behind(slot));
        let mut lines = self.check.window.taken_before(behind);
        let is_in = |table: u64| move |event: &Event| matches!(event, Event::Alloc { pa, len, .. } if (*pa..pa + len).contains(&table));
        let tables = self.lines.iter().filter_map(|line| match *line {
            Event::Table { pa, .. } if lines.iter().any(is_in(pa)) => Some(pa),
            _ => None,
        });
        let len = self.check.header.granule.bytes();
        let mut zeroed: Vec<_> = tables.map(|pa| Event::Zero { cpu: 0, pa, len }).collect();
        if !zeroed.is_empty() {
            zeroed.push(Event::Dsb { cpu: 0, option: Word::new("ishst") });
        }
        lines.extend(zeroed);
        self.lines.splice(at..at, lines);
    }

    fn va_of(&self, slot: u64) -> Option<u64> {
        let (pa, table) = self.table_of(slot)?;
        let shift = self.check.shadow.regime().granule().level_shift(table.level);
        Some(table.va.wrapping_add(((slot - pa) / 8) << shift))
    }

    fn tell_from(&mut self, pa: u64, level: Level, va: u64, wanted: &[u64]) {
        let regime = self.check.shadow.regime();
        let (slots, last) = (self.slots(pa), va.wrapping_add(regime.table_span(level) - 1));
        self.told.insert(pa);
        if wanted.iter().any(|wanted| (va..=last).contains(wanted)) {
            self.lines.push(Event::Table { pa, level: level.number(), va });
            self.lines.extend(slots.iter().map(|&(pa, value)| Event::Slot { pa, value }));
        }
        for (slot, value) in slots {
            let below = self.check.shadow.address(value, level).filter(|below| self.tables.contains_key(below));
            let start = va.wrapping_add(((slot - pa) / 8) << regime.granule().level_shift(level));
            if let Some(below) = below {
                self.tell_from(below, level.child(), start, wanted);
            }
        }
    }

    /// The private tables that the events write or link, and all below them, as they were built: those whose stores were
    /// ordered, or the others.
    fn tell_private(&mut self, private: &BTreeSet<u64>, ordered: bool) {
        let lines = self.lines.len();
        for &pa in private {
            let page = self.tables.get(&pa).map(|table| table.page);
            let cpu = if let Some(Page::Private(cpu)) = page { cpu } else { None };
            if ordered == cpu.is_none() && self.told.insert(pa) {
                let cpu = cpu.unwrap_or(0);
                self.lines.push(Event::Zero { cpu, pa, len: self.check.header.granule.bytes() });
                let slots = self.slots(pa).into_iter();
                self.lines.extend(slots.map(|(slot, new)| Event::Write { cpu, slot, old: 0, new }));
            }
        }
        if ordered && lines < self.lines.len() {
            self.lines.push(Event::Dsb { cpu: 0, option: Word::new("ishst") });
        }
    }

    fn private(&self, past: &[Event]) -> BTreeSet<u64> {
        let (mut found, mut next) = (BTreeSet::new(), Vec::new());
        for event in self.check.window.events().chain(past.iter().copied()) {
            if let Event::Write { slot, new, .. } = event {
                next.extend(self.table_of(slot).map(|(pa, _)| pa));
                next.push(self.below(new));
            }
        }
        while let Some(pa) = next.pop() {
            if self.tables.contains_key(&pa) && !self.told.contains(&pa) && found.insert(pa) {
                next.extend(self.slots(pa).iter().map(|(_, value)| self.below(*value)));
            }
        }
        found
    }

    /// Where `value` points if it is a link, parked or not.
    fn below(&self, value: u64) -> u64 {
        let regime = self.check.shadow.regime();
        Descriptor::from_bits(value).address(regime.granule(), regime.output()).value()
    }
}

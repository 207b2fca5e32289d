//! The steps: what each event may do to a descriptor or a table, and what follows from it.

use super::invalidation::Invalidation;
use super::shadow::{Page, Place, Slot, State, is_valid};
use super::{At, Broken, Check, Rule};
use crate::descriptor::Descriptor;
use crate::granule::Level;
use crate::trace::Word;

/// What may change in a valid leaf at rest: AP, PXN and UXN, and the bits that hardware ignores.
const PERMISSIONS: u64 = 0b11 << 6 | 0b11 << 53 | SOFTWARE;
const SOFTWARE: u64 = 0b1111 << 55;

impl Check {
    pub(super) fn write(&mut self, cpu: u8, slot: u64, old: u64, new: u64) -> Result<(), Broken> {
        // A page that nobody zeroed is no table yet: a link to it will be refused.
        let (Some(place), Some(before)) = (self.shadow.place(slot), self.shadow.slot(slot)) else { return Ok(()) };
        if old != before.now {
            return Err(self.at_slot(Rule::Unseen, slot));
        }
        match self.page(place.table) {
            Page::Cut => return Err(self.at_table(Rule::Frozen, place.table)),
            Page::Private(_) => self.unordered(cpu, place.table),
            Page::Linked => self.change(cpu, slot, place, before, new)?,
        }
        self.shadow.store(place, new);
        if let (Page::Private(_), Some(entry)) = (self.page(place.table), self.shadow.slot_mut(slot)) {
            *entry = if entry.state.is_at_rest() { Slot::at_rest(new) } else { *entry };
        }
        Ok(())
    }

    /// A write to a table that walks reach.
    fn change(&mut self, cpu: u8, slot: u64, place: Place, before: Slot, new: u64) -> Result<(), Broken> {
        let state = match (is_valid(before.now), is_valid(new)) {
            (false, false) => return Ok(()),
            (false, true) => {
                self.make(slot, place, before, new)?;
                State::VU
            }
            (true, false) => {
                self.cut(place, before.now)?;
                State::B0
            }
            (true, true) => match before.now ^ new {
                bits if bits & !SOFTWARE == 0 => return Ok(()),
                bits if bits & !PERMISSIONS == 0 && !Descriptor::from_bits(new).is_table(place.level) => State::P0,
                _ => return Err(self.at_slot(Rule::LiveChange, slot)),
            },
        };
        if before.state.is_at_rest() {
            self.pending.push(slot);
        }
        if let Some(entry) = self.shadow.slot_mut(slot) {
            *entry = Slot { was: before.now, state, cpu, ..*entry };
        }
        Ok(())
    }

    fn make(&mut self, slot: u64, place: Place, before: Slot, new: u64) -> Result<(), Broken> {
        if before.state.is_broken() {
            return Err(self.at_slot(Rule::Rebuilt, slot));
        }
        match self.shadow.address(new, place.level) {
            Some(table) => self.link(table, place.level.child(), place.va),
            None => self.leaf(slot, place.level, new),
        }
    }

    /// A leaf appears where walks reach it.
    fn leaf(&mut self, slot: u64, level: Level, value: u64) -> Result<(), Broken> {
        let regime = self.shadow.regime();
        let pa = Descriptor::from_bits(value).address(regime.granule(), regime.output());
        self.frames.map(slot, pa.value(), 1 << regime.granule().level_shift(level));
        let Some((first, members)) = self.shadow.run(slot, value) else { return Ok(()) };
        if self.runs.last() != Some(&first) {
            self.runs.push(first);
        }
        let mut run = (0..members).map(|index| first + index * 8);
        let old = run.find(|member| self.shadow.state(*member).is_broken());
        old.map_or(Ok(()), |member| Err(self.at_slot(Rule::Run, member)))
    }

    /// A private table, and what is below it, becomes part of what walks reach.
    fn link(&mut self, table: u64, level: Level, va: u64) -> Result<(), Broken> {
        let wrong = match self.shadow.tables.get(&table).map(|table| table.page) {
            Some(Page::Private(None)) => None,
            Some(Page::Private(Some(_))) => Some(Rule::Unordered),
            Some(Page::Linked) => Some(Rule::LinkedTwice),
            Some(Page::Cut) => Some(Rule::Rebuilt),
            None => Some(Rule::Unzeroed),
        };
        if let Some(rule) = wrong {
            return Err(self.at_table(rule, table));
        }
        self.shadow.settle(table, level, va);
        for index in 0..self.shadow.tables[&table].slots.len() {
            let (below, value) = (table + index as u64 * 8, self.shadow.tables[&table].slots[index].now);
            if !is_valid(value) {
                continue;
            }
            match (self.shadow.address(value, level), self.shadow.place(below)) {
                (Some(next), Some(place)) => self.link(next, level.child(), place.va)?,
                _ => self.leaf(below, level, value)?,
            }
        }
        Ok(())
    }

    /// A valid descriptor goes.
    fn cut(&mut self, place: Place, value: u64) -> Result<(), Broken> {
        let Some(table) = self.shadow.address(value, place.level) else { return Ok(()) };
        let Some(below) = self.shadow.tables.get_mut(&table) else { return Ok(()) };
        if below.valid > 0 {
            return Err(self.at_table(Rule::Children, table));
        }
        below.page = Page::Cut;
        let slots = table..table + below.slots.len() as u64 * 8;
        let is_leaf =
            |slot: &u64| self.shadow.slot(*slot).is_some_and(|entry| self.shadow.target(*slot, entry.was).is_none());
        let on_its_way = self.pending.iter().find(|slot| slots.contains(slot) && is_leaf(slot));
        on_its_way.map_or(Ok(()), |slot| Err(self.at_slot(Rule::Children, *slot)))
    }

    /// `cpu` stores to a private table.
    fn unordered(&mut self, cpu: u8, table: u64) {
        let Some(known) = self.shadow.tables.get_mut(&table) else { return };
        if known.page == Page::Private(None) {
            self.unordered.push(table);
        }
        known.page = Page::Private(Some(cpu));
    }

    pub(super) fn zero(&mut self, cpu: u8, pa: u64, len: u64) -> Result<(), Broken> {
        self.reuse(pa, len)?;
        for page in (pa..pa.saturating_add(len)).step_by(self.header.granule.bytes() as usize) {
            self.shadow.zeroed(page, cpu);
            self.unordered.push(page);
        }
        Ok(())
    }

    pub(super) fn alloc(&mut self, pa: u64, len: u64, from: Word) -> Result<(), Broken> {
        self.reuse(pa, len)?;
        self.frames.take(pa, len, from);
        Ok(())
    }

    pub(super) fn free(&mut self, pa: u64, len: u64) -> Result<(), Broken> {
        self.window.given(self.frames.source(pa, len));
        self.drop_tables(pa, len, Rule::FreedTable)?;
        self.frames.give(pa, len).map_err(|slot| self.at_slot(Rule::FreedFrame, slot))
    }

    /// Frames get new contents: what was known of tables there is void.
    fn reuse(&mut self, pa: u64, len: u64) -> Result<(), Broken> {
        self.drop_tables(pa, len, Rule::Reused)
    }

    fn drop_tables(&mut self, pa: u64, len: u64, rule: Rule) -> Result<(), Broken> {
        while let Some((&table, known)) = self.shadow.tables.range(pa..pa.saturating_add(len)).next() {
            if !matches!(known.page, Page::Private(_)) {
                return Err(self.at_table(rule, table));
            }
            let slots = table..table + known.slots.len() as u64 * 8;
            if let Some(&slot) = self.pending.iter().find(|slot| slots.contains(slot)) {
                return Err(self.at_slot(rule, slot));
            }
            let gone = self.shadow.tables.remove(&table);
            self.window.dropped(table, gone);
        }
        Ok(())
    }

    pub(super) fn invalidate(&mut self, cpu: u8, invalidation: Invalidation) -> Result<(), Broken> {
        let regime = self.shadow.regime();
        if let Some(va) = invalidation.page(regime) {
            // One slot a level: no need to look at all that are pending.
            let mut level = Some(regime.start_level());
            while let Some(at) = level {
                let slot = self.shadow.slot_for(at, va);
                slot.map_or(Ok(()), |slot| self.invalidate_slot(cpu, invalidation, slot))?;
                level = Level::new(at.number() + 1);
            }
            return Ok(());
        }
        (0..self.pending.len()).try_for_each(|index| self.invalidate_slot(cpu, invalidation, self.pending[index]))
    }

    fn invalidate_slot(&mut self, cpu: u8, invalidation: Invalidation, slot: u64) -> Result<(), Broken> {
        let (Some(place), Some(entry)) = (self.shadow.place(slot), self.shadow.slot(slot)) else { return Ok(()) };
        let is_link = self.shadow.address(entry.was, place.level).is_some();
        let covered = invalidation.covers(self.shadow.regime(), place.level, place.va, is_link);
        if entry.cpu != cpu || !covered {
            return Ok(());
        }
        if matches!(entry.state, State::B0 | State::P0) {
            return Err(self.at_slot(Rule::Early, slot));
        }
        if entry.state != entry.state.after_tlbi() {
            self.is_run_alike(slot, entry)?;
        }
        if let Some(entry) = self.shadow.slot_mut(slot) {
            entry.state = entry.state.after_tlbi();
        }
        Ok(())
    }

    /// A walk of any member of a contiguous run may bring all of it back (RSKQHL): none may still say what `entry` said.
    fn is_run_alike(&self, slot: u64, entry: Slot) -> Result<(), Broken> {
        let Some((first, members)) = self.shadow.run(slot, entry.was) else { return Ok(()) };
        let kind = |value: u64| if is_valid(value) { value & (PERMISSIONS | 1) } else { 0 };
        let alike = (0..members).map(|index| first + index * 8).all(|member| {
            let other = self.shadow.slot(member).unwrap_or(entry);
            kind(other.now) == kind(entry.now) && !matches!(other.state, State::B0 | State::P0)
        });
        if alike { Ok(()) } else { Err(self.at_slot(Rule::Run, slot)) }
    }

    pub(super) fn touch(&self, cpu: u8, va: u64) -> Result<(), Broken> {
        let mut level = self.shadow.regime().start_level();
        loop {
            // Tables that the trace does not list are somebody else's.
            let Some(slot) = self.shadow.slot_for(level, va) else { return Ok(()) };
            let entry = self.shadow.slot(slot).unwrap_or(Slot::at_rest(0));
            let fresh = matches!(entry.state, State::VU | State::VD) && entry.cpu == cpu;
            if !is_valid(entry.now) || fresh {
                return Err(self.at_slot(Rule::Touched, slot));
            }
            if self.shadow.address(entry.now, level).is_none() {
                return Ok(());
            }
            level = level.child();
        }
    }

    /// An operation of `cpu` returns, with all that it did complete.
    pub(super) fn end(&mut self, cpu: u8) -> Result<(), Broken> {
        let own = |slot: &&u64| self.shadow.slot(**slot).is_some_and(|entry| entry.cpu == cpu);
        if let Some(&slot) = self.pending.iter().find(own) {
            return Err(self.at_slot(Rule::Unfinished, slot));
        }
        while let Some(first) = self.runs.pop() {
            self.is_whole(first)?;
        }
        Ok(())
    }

    /// All members of a run show consecutive frames from an aligned one on, with the same attributes; or none is there.
    fn is_whole(&self, first: u64) -> Result<(), Broken> {
        let (Some(place), Some(entry)) = (self.shadow.place(first), self.shadow.slot(first)) else { return Ok(()) };
        let granule = self.shadow.regime().granule();
        let Some(members) = granule.contiguous_entries(place.level) else { return Ok(()) };
        let shift = granule.level_shift(place.level);
        let values = (0..members).map(|index| self.shadow.slot(first + index * 8).map_or(0, |member| member.now));
        let contiguous = |value: u64| is_valid(value) && Descriptor::from_bits(value).is_contiguous();
        let frame = Descriptor::from_bits(entry.now).address(granule, self.shadow.regime().output());
        let whole = contiguous(entry.now)
            && frame.is_aligned(members << shift)
            && values.clone().zip(0..members).all(|(value, index)| value == entry.now + (index << shift));
        match values.zip(0..).find(|(value, _)| contiguous(*value)) {
            Some((_, index)) if !whole => Err(self.at_slot(Rule::PartialRun, first + index * 8)),
            _ => Ok(()),
        }
    }

    fn page(&self, table: u64) -> Page {
        self.shadow.tables.get(&table).map_or(Page::Private(None), |table| table.page)
    }

    fn at_slot(&self, rule: Rule, slot: u64) -> Broken {
        Broken { rule, at: At::Slot(slot), state: self.shadow.state(slot) }
    }

    fn at_table(&self, rule: Rule, table: u64) -> Broken {
        let state = self.shadow.link(table).map_or(State::IC, |link| self.shadow.state(link));
        Broken { rule, at: At::Table(table), state }
    }
}

//! Descriptor stores: what they leave cached, and whether they are legal (E4 to E8, E10).

use super::cache::Held;
use super::geometry::{Entry, Leaf};
use super::memory::NEVER_ZEROED;
use super::{Adversary, Home, Old, Rule};

impl Adversary {
    pub(super) fn write(&mut self, cpu: u8, slot: u64, old: u64, new: u64) {
        // What a fresh frame holds is anybody's guess.
        let never_zeroed = self.unready(slot, 8) == Some(NEVER_ZEROED);
        let arbitrary = never_zeroed && !self.slots.contains_key(&slot);
        if never_zeroed && !self.is_out(slot) {
            self.break_rule(Rule::Accounts, "the frame of this slot was given back");
        }
        let state = self.slots.entry(slot).or_default();
        let value = state.value;
        let rival = state.olds.iter().find(|old| old.writer != cpu && old.pending != 0).map(|old| old.writer);
        if let Some(rival) = rival {
            self.break_rule(Rule::Race, format!("CPU {rival} wrote there, and no DSB of its own since"));
        } else if value != old && !arbitrary {
            self.break_rule(Rule::Race, format!("the slot holds {value:#x}: another store came between"));
        }
        match self.place(slot) {
            Some((table, home)) => self.replace(cpu, slot, table, home, new),
            None => self.keep(cpu, slot, new),
        }
    }

    /// The table that a slot is in, where it stands if it is linked.
    pub(super) fn place(&self, slot: u64) -> Option<(u64, Home)> {
        let (&table, &home) = self.tables.range(..=slot).next_back()?;
        (slot < table + self.geometry.table_bytes(home.level)).then_some((table, home))
    }

    /// The first address that a slot of a table translates.
    pub(super) fn behind(&self, slot: u64, table: u64, home: Home) -> u64 {
        home.va + (slot - table) / 8 * self.geometry.bytes(home.level)
    }

    /// A store into a table that is, or was, in the tree.
    fn replace(&mut self, cpu: u8, slot: u64, table: u64, home: Home, new: u64) {
        let level = home.level;
        let va = self.behind(slot, table, home);
        let old = self.geometry.entry(self.value(slot), level);
        let now = self.geometry.entry(new, level);
        let linked = self.reached_by(table, level, home.va);
        if linked != 0 {
            self.check_change(old, now);
            if old != now {
                self.drop_cached(linked, cpu, level, va, old);
            }
        }
        self.keep(cpu, slot, new);
        if linked != 0 {
            let by_memory = self.led_to(table, level, va);
            self.appear(cpu, slot, level, va, new, by_memory);
            // Reached by a stale table entry or an old value alone, it is as good as cached, and stays when those go.
            self.drop_cached(linked & !by_memory, cpu, level, va, now);
        }
        self.note_run(cpu, slot, level, va, old);
    }

    /// Stores the value. What it replaces may be read until the DSB.
    fn keep(&mut self, cpu: u8, slot: u64, new: u64) {
        // A CPU that comes online before the DSB may still read the old value.
        let (pending, keeps) = (u8::MAX >> (8 - self.cpus.len()), self.has(Rule::Old));
        let number = self.number;
        let keeps_invalid = self.has(Rule::OldInvalid);
        let state = self.slots.entry(slot).or_default();
        let value = std::mem::replace(&mut state.value, new);
        state.stored = number;
        let same = value == new || value & 1 == 0 && new & 1 == 0;
        if !same && (keeps || value & 1 == 0 && keeps_invalid) {
            let (pending, unsynced) = if keeps { (pending, 0) } else { (0, pending) };
            state.olds.push(Old { value, writer: cpu, pending, unsynced });
            self.unpublished.insert(slot);
        }
    }

    /// Break-before-make: what a live descriptor may become without being invalid in between.
    fn check_change(&mut self, old: Entry, new: Entry) {
        let why = match (old, new) {
            (Entry::Leaf(old), Entry::Leaf(new)) if old.is_another_kind(new) => "a live leaf changes",
            (Entry::Leaf(_), Entry::Table { .. }) => "a live leaf becomes a table",
            (Entry::Table { .. }, Entry::Leaf(_)) => "a live table becomes a leaf",
            (Entry::Table { .. }, Entry::Table { .. }) if old != new => "a live table descriptor changes",
            _ => return,
        };
        self.break_rule(Rule::LiveChange, why);
    }

    /// What the old descriptor translated stays cached: the leaf (with what a run made of it), or the table entry with
    /// all that is below.
    pub(super) fn drop_cached(&mut self, cpus: u8, by: u8, level: i8, va: u64, entry: Entry) {
        match entry {
            _ if cpus == 0 => {}
            Entry::Nothing => {}
            Entry::Leaf(leaf) => self.leave_leaf(cpus, by, level, va, leaf),
            Entry::Table { pa, .. } => {
                self.cache.add(level, va, Held::Table(pa), cpus, by);
                if self.tables.get(&pa).is_none_or(|home| (home.level, home.va) != (level + 1, va)) {
                    return; // it stands elsewhere, which has been told
                }
                self.drop_olds(cpus, pa, level + 1, va);
                for (_, va, value) in self.entries_of(pa, level + 1, va) {
                    self.drop_cached(cpus, by, level + 1, va, self.geometry.entry(value, level + 1));
                }
            }
        }
    }

    fn leave_leaf(&mut self, cpus: u8, by: u8, level: i8, va: u64, leaf: Leaf) {
        let run = if leaf.contiguous { self.geometry.run(level) } else { 1 };
        let bytes = self.geometry.bytes(level);
        let first = va & !(run * bytes - 1);
        for va in (0..run).map(|member| first + member * bytes) {
            let held = if run > 1 { self.geometry.extrapolate(leaf, level, va) } else { leaf };
            self.cache.add(level, va, Held::Leaf(held), cpus, by);
        }
    }

    /// The slots of a table that are valid: slot, first address, value.
    fn entries_of(&self, table: u64, level: i8, va: u64) -> Vec<(u64, u64, u64)> {
        let slots = self.slots.range(table..table + self.geometry.table_bytes(level));
        let bytes = self.geometry.bytes(level);
        let valid = slots.filter(|(_, state)| state.value & 1 == 1);
        valid.map(|(slot, state)| (*slot, va + (slot - table) / 8 * bytes, state.value)).collect()
    }

    /// What may still be read in a table that becomes reachable, or no longer is, stays cached too.
    fn drop_olds(&mut self, cpus: u8, table: u64, level: i8, va: u64) {
        let (bytes, slots) =
            (self.geometry.bytes(level), self.slots.range(table..table + self.geometry.table_bytes(level)));
        let olds =
            slots.flat_map(|(slot, state)| state.olds.iter().map(move |old| (va + (slot - table) / 8 * bytes, old)));
        let olds: Vec<_> = olds.map(|(va, old)| (va, old.value, old.pending, old.writer)).collect();
        for (va, value, pending, writer) in olds {
            self.drop_cached(cpus & pending, writer, level, va, self.geometry.entry(value, level));
        }
    }

    /// A descriptor becomes reachable: it and, if it is a table, all below it. `cpus` reach it by memory.
    fn appear(&mut self, cpu: u8, slot: u64, level: i8, va: u64, value: u64, cpus: u8) {
        if let Some(flaw) = self.geometry.flaw(value, level) {
            self.break_rule(Rule::IllFormed, format!("{value:#x} at level {level}: {flaw}"));
        }
        match self.geometry.entry(value, level) {
            Entry::Nothing => {}
            Entry::Leaf(leaf) => {
                self.check_overlap(level, va, Held::Leaf(leaf));
                self.cache.absorb(level, va, Held::Leaf(leaf), cpus);
                self.note_user(va, leaf, self.geometry.bytes(level));
                self.note_run(cpu, slot, level, va, Entry::Leaf(leaf));
            }
            Entry::Table { pa, .. } => {
                self.check_overlap(level, va, Held::Table(pa));
                self.cache.absorb(level, va, Held::Table(pa), cpus);
                self.link(cpu, level + 1, va, pa, cpus);
            }
        }
    }

    fn link(&mut self, cpu: u8, level: i8, va: u64, table: u64, cpus: u8) {
        if let Some(why) = self.unready(table, self.geometry.page_bytes()) {
            self.break_rule(Rule::Unordered, format!("table {table:#x}: {why}"));
        }
        let range = table..table + self.geometry.page_bytes();
        let early = self.slots.range(range).find(|(_, state)| state.olds.iter().any(|old| old.value & 1 == 1));
        if let Some((&slot, _)) = early {
            self.break_rule(Rule::Unordered, format!("a walk may read what slot {slot:#x} of the table held before"));
        }
        match self.tables.get(&table) {
            // Nor is it followed: a table that links to itself has no end.
            Some(home) if (home.level, home.va) != (level, va) && self.reached_by(table, home.level, home.va) != 0 => {
                self.break_rule(Rule::Accounts, format!("table {table:#x} is linked a second time"));
                return;
            }
            _ => {}
        }
        let is_known = self.tables.contains_key(&table) || self.is_out(table) || self.is_zeroed(table);
        self.unknown += usize::from(!is_known);
        self.tables.insert(table, Home { level, va });
        self.drop_olds(u8::MAX, table, level, va);
        for (slot, va, value) in self.entries_of(table, level, va) {
            self.appear(cpu, slot, level, va, value, cpus);
        }
    }

    /// What becomes reachable must not differ in size, address or kind from what may still be cached there (E5).
    fn check_overlap(&mut self, level: i8, va: u64, held: Held) {
        let last = va + (self.geometry.bytes(level) - 1);
        let mut clash = None;
        for at in self.geometry.start_level()..=3 {
            let first = va & !(self.geometry.bytes(at) - 1);
            for (stale_va, stale) in
                self.cache.within(at, first, last).filter(|(_, stale)| stale.cpus & !stale.awaits != 0)
            {
                let differs = match (held, stale.held) {
                    (Held::Leaf(new), Held::Leaf(old)) => at != level || old.is_another_kind(new),
                    (Held::Table(new), Held::Table(old)) => at == level && new != old,
                    (Held::Leaf(_), Held::Table(_)) => at >= level,
                    (Held::Table(_), Held::Leaf(_)) => at <= level,
                };
                clash = clash.or(differs.then_some((at, stale_va)));
            }
        }
        if let Some((at, va)) = clash {
            self.break_rule(Rule::Overlap, format!("another level {at} entry for {va:#x} may still be cached"));
        }
    }

    /// The run of a contiguous leaf is to be judged when the operation ends.
    fn note_run(&mut self, cpu: u8, slot: u64, level: i8, va: u64, entry: Entry) {
        if matches!(entry, Entry::Leaf(leaf) if leaf.contiguous) {
            let (run, bytes) = (self.geometry.run(level), self.geometry.bytes(level));
            self.runs.insert((cpu, slot - va / bytes % run * 8, level, va & !(run * bytes - 1)));
        }
    }

    /// Runs that `cpu` wrote to must be whole, or gone (E8).
    pub(super) fn judge_runs(&mut self, cpu: u8) {
        let runs: Vec<_> = self.runs.extract_if(.., |(writer, ..)| *writer == cpu).collect();
        for (_, first, level, va) in runs {
            let run = self.geometry.run(level);
            let members: Vec<_> =
                (0..run).map(|member| self.geometry.entry(self.value(first + member * 8), level)).collect();
            let Some(&lead) = members.iter().find_map(|entry| match entry {
                Entry::Leaf(leaf) if leaf.contiguous => Some(leaf),
                _ => None,
            }) else {
                continue;
            };
            let bytes = self.geometry.bytes(level);
            let right = |(member, entry): (u64, &Entry)| {
                let wanted = self.geometry.extrapolate(lead, level, va + member * bytes);
                *entry == Entry::Leaf(wanted)
            };
            if run == 1 || !(0..run).zip(&members).all(right) {
                self.break_rule(Rule::Run, format!("the run of {run} from {va:#x} at level {level} is not whole"));
            }
        }
    }
}

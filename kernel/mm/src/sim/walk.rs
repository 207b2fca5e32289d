//! What can be walked: the values that a slot may be read as, the tables that a walk may reach, and so all that an access
//! may see.

use std::collections::BTreeSet;

use super::cache::{Held, Stale};
use super::geometry::{Entry, Leaf};
use super::{Adversary, Flush, Outcome, Rule};

impl Outcome {
    fn of(leaf: Leaf, offset: u64) -> Self {
        Self::Map { pa: leaf.pa + offset, attributes: leaf.attributes }
    }
}

impl Adversary {
    /// The values that a walk of `cpu` may read in `slot`: the last one written, and those before it that are not
    /// certain to be gone.
    pub(super) fn readable(&self, cpu: u8, slot: u64) -> impl Iterator<Item = u64> {
        let slot = self.slots.get(&slot);
        let old = slot.into_iter().flat_map(move |slot| &slot.olds);
        let old = old.filter(move |old| (old.pending | old.unsynced) >> cpu & 1 == 1).map(|old| old.value);
        std::iter::once(slot.map_or(0, |slot| slot.value)).chain(old)
    }

    /// The tables of `level` that a walk of `cpu` for `va` may reach, by what is in memory and by stale table entries
    /// that `through` lets pass.
    pub(super) fn tables(&self, cpu: u8, va: u64, level: i8, through: impl Fn(&Stale) -> bool) -> Vec<u64> {
        let mut tables = self.cpus[usize::from(cpu)].roots.clone();
        for at in self.geometry.start_level()..level {
            let mut below = Vec::new();
            let mut reach = |table| {
                if !below.contains(&table) {
                    below.push(table);
                }
            };
            for table in tables {
                for value in self.readable(cpu, self.geometry.slot(table, at, va)) {
                    if let Entry::Table { pa, .. } = self.geometry.entry(value, at) {
                        reach(pa);
                    }
                }
            }
            for stale in self.cache.at(at, va & !(self.geometry.bytes(at) - 1)) {
                match stale.held {
                    Held::Table(table) if stale.is_on(cpu) && self.has(Rule::Intermediate) && through(stale) => {
                        reach(table);
                    }
                    _ => {}
                }
            }
            tables = below;
        }
        tables
    }

    /// The CPUs whose walks for `va` go through `table` by what is in memory now, no old value counted: one bit each.
    pub(super) fn led_to(&self, table: u64, level: i8, va: u64) -> u8 {
        let leads = |cpu: &u8| {
            let root = self.cpus[usize::from(*cpu)].roots.first().copied();
            let end = (self.geometry.start_level()..level).try_fold(root?, |table, at| {
                match self.geometry.entry(self.value(self.geometry.slot(table, at, va)), at) {
                    Entry::Table { pa, .. } => Some(pa),
                    _ => None,
                }
            });
            end.filter(|end| *end == table)
        };
        self.online().filter(|cpu| leads(cpu).is_some()).fold(0, |cpus, cpu| cpus | 1 << cpu)
    }

    /// The CPUs whose walks for `va` may go through `table`, one bit each.
    pub(super) fn reached_by(&self, table: u64, level: i8, va: u64) -> u8 {
        let reaches = |cpu: &u8| self.tables(*cpu, va, level, |_| true).contains(&table);
        self.online().filter(reaches).fold(0, |cpus, cpu| cpus | 1 << cpu)
    }

    /// Leaves that a walk at `slot` may find for `va`: the slot's own, and what other members of a contiguous run make
    /// of it.
    fn leaves(&self, cpu: u8, table: u64, level: i8, va: u64, others: bool) -> Vec<Leaf> {
        let own = self.geometry.slot(table, level, va);
        let leaf_in = |slot| {
            self.readable(cpu, slot).filter_map(move |value| match self.geometry.entry(value, level) {
                Entry::Leaf(leaf) => Some(leaf),
                _ => None,
            })
        };
        let mut leaves: Vec<_> = leaf_in(own).collect();
        let run = self.geometry.run(level);
        if others && run > 1 {
            let first = table + (own - table) / 8 / run * run * 8;
            for (&slot, _) in self.slots.range(first..first + run * 8).filter(|(slot, _)| **slot != own) {
                let run_leaves = leaf_in(slot).filter(|leaf| leaf.contiguous);
                leaves.extend(run_leaves.map(|leaf| self.geometry.extrapolate(leaf, level, va)));
            }
        }
        leaves
    }

    /// All that an access of `cpu` to `va` may see now.
    ///
    /// Walks are not atomic: each level's values count independently of the others'.
    #[must_use]
    pub fn may(&self, cpu: u8, va: u64) -> BTreeSet<Outcome> {
        let mut outcomes = BTreeSet::new();
        let state = &self.cpus[usize::from(cpu)];
        if state.came_online && state.flush != Flush::Clean {
            outcomes.insert(Outcome::Garbage);
        }
        for level in self.geometry.start_level()..=3 {
            let offset = va & (self.geometry.bytes(level) - 1);
            for table in self.tables(cpu, va, level, |_| true) {
                let faults = |value| self.geometry.entry(value, level) == Entry::Nothing;
                if self.readable(cpu, self.geometry.slot(table, level, va)).any(faults) {
                    outcomes.insert(Outcome::Fault);
                }
                let leaves = self.leaves(cpu, table, level, va, true);
                outcomes.extend(leaves.into_iter().map(|leaf| Outcome::of(leaf, offset)));
            }
            for stale in self.cache.at(level, va - offset).filter(|stale| stale.is_on(cpu)) {
                if let Held::Leaf(leaf) = stale.held {
                    outcomes.insert(Outcome::of(leaf, offset));
                }
            }
        }
        if outcomes.is_empty() { BTreeSet::from([Outcome::Fault]) } else { outcomes }
    }

    /// Why something that was taken out at `va` may still be seen by `cpu`.
    pub(super) fn reason(&self, cpu: u8, va: u64) -> &'static str {
        let stale = (self.geometry.start_level()..=3)
            .flat_map(|level| self.cache.at(level, va & !(self.geometry.bytes(level) - 1)))
            .find(|stale| stale.is_on(cpu));
        match stale {
            Some(stale) if stale.awaits >> cpu & 1 == 1 => "its invalidation is complete but for an ISB",
            Some(stale) if stale.is_marked(cpu) => "its invalidation is not complete: no DSB ISH of its issuer since",
            Some(_) => "no invalidation that counts since it was taken out",
            None if matches!(self.written(va), Outcome::Map { .. }) => "it is mapped",
            None => "no DSB since it was taken out",
        }
    }

    /// The last store into a slot on the way to `va`, where the tables end now.
    pub(super) fn last_store(&self, va: u64) -> Option<usize> {
        let mut table = self.cpus.iter().find_map(|cpu| cpu.roots.first().copied())?;
        for level in self.geometry.start_level()..=3 {
            let slot = self.geometry.slot(table, level, va);
            match self.geometry.entry(self.value(slot), level) {
                Entry::Table { pa, .. } => table = pa,
                _ => return self.slots.get(&slot).map(|slot| slot.stored).filter(|number| *number > 0),
            }
        }
        None
    }

    /// What `va` is by the tables as they were last written, every store visible and nothing cached.
    #[must_use]
    pub fn written(&self, va: u64) -> Outcome {
        let mut table = self.online().next().and_then(|cpu| self.cpus[usize::from(cpu)].roots.first().copied());
        for level in self.geometry.start_level()..=3 {
            let Some(at) = table else { break };
            match self.geometry.entry(self.value(self.geometry.slot(at, level, va)), level) {
                Entry::Nothing => break,
                Entry::Table { pa, .. } => table = Some(pa),
                Entry::Leaf(leaf) => return Outcome::of(leaf, va & (self.geometry.bytes(level) - 1)),
            }
        }
        Outcome::Fault
    }

    /// Whether a walk of `cpu` may make `held` again for `va`, once the entries that go with the invalidation at hand are gone.
    pub(super) fn is_refillable(&self, cpu: u8, level: i8, va: u64, held: Held) -> bool {
        let tables = self.tables(cpu, va, level, |stale| !stale.goes_with(cpu, self.number));
        tables.into_iter().any(|table| {
            let slot = self.geometry.slot(table, level, va);
            let visible = if self.has(Rule::Order) { usize::MAX } else { 1 };
            let again = |value| match (held, self.geometry.entry(value, level)) {
                (Held::Table(table), Entry::Table { pa, .. }) => pa == table,
                (Held::Leaf(leaf), Entry::Leaf(now)) => now == leaf,
                _ => false,
            };
            let by_run = |leaf: Leaf| {
                leaf.contiguous
                    && self.has(Rule::Rewalk)
                    && self.leaves(cpu, table, level, va, true)[self.leaves(cpu, table, level, va, false).len()..]
                        .contains(&leaf)
            };
            self.readable(cpu, slot).take(visible).any(again) || matches!(held, Held::Leaf(leaf) if by_run(leaf))
        })
    }
}

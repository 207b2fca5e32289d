//! Frames: what is taken and given back, and what a fresh one holds.

use std::collections::BTreeSet;

use super::geometry::Leaf;
use super::{Adversary, Outcome, Rule};
use crate::trace::Word;

/// Why a table may not be linked: its frame holds anything.
pub const NEVER_ZEROED: &str = "it was never zeroed, or not all of it";

/// Frames that are taken.
#[derive(Debug, Default)]
pub struct Allocation {
    /// The first address of each leaf written since then that maps into them. Others, such as a linear map that was
    /// there before, are aliases which may stay.
    users: BTreeSet<u64>,
}

/// Memory that has been zeroed since it was taken.
#[derive(Debug)]
pub struct Zeroed {
    len: u64,
    by: u8,
    /// Before any later store of that CPU.
    ordered: bool,
}

impl Adversary {
    pub(super) fn alloc(&mut self, pa: u64, len: u64, from: Word) {
        let overlaps =
            |&&(start, bytes, source): &&(u64, u64, Word)| source == from && start < pa + len && pa < start + bytes;
        if let Some(&(other, _, _)) = self.allocations.keys().find(overlaps) {
            self.break_rule(Rule::Accounts, format!("taken twice: {other:#x} is out"));
        }
        self.allocations.insert((pa, len, from), Allocation::default());
        if self.first_walked(pa, len).is_some() {
            self.break_rule(Rule::Accounts, "a walk may be in a table there");
        }
        self.forget_contents(pa, len);
        self.arbitrary.insert(pa, len);
    }

    /// The first table in this memory that some walk may go through: a CPU that walks it, and the first address behind it.
    fn first_walked(&self, pa: u64, len: u64) -> Option<(u8, u64)> {
        self.tables.range(pa..pa + len).find_map(|(table, home)| {
            let cpus = self.reached_by(*table, home.level, home.va);
            (cpus != 0).then_some((cpus.trailing_zeros() as u8, home.va))
        })
    }

    fn forget_contents(&mut self, pa: u64, len: u64) {
        let slots: Vec<_> = self.slots.range(pa..pa + len).map(|(slot, _)| *slot).collect();
        for slot in slots {
            self.slots.remove(&slot);
            self.unpublished.remove(&slot);
        }
        self.zeroed.retain(|start, zeroed| start + zeroed.len <= pa || pa + len <= *start);
    }

    pub(super) fn zero(&mut self, cpu: u8, pa: u64, len: u64) {
        if self.first_walked(pa, len).is_some() {
            self.break_rule(Rule::LiveChange, "a walk may be in this table");
        }
        self.forget_contents(pa, len);
        self.zeroed.insert(pa, Zeroed { len, by: cpu, ordered: false });
    }

    /// A barrier that orders stores also orders what `cpu` has zeroed before any later link (DMB is enough for that).
    pub(super) fn order_zeroing(&mut self, cpu: u8, option: &str) {
        if !option.ends_with("ld") && !option.starts_with("nsh") {
            let zeroed = self.zeroed.values_mut().filter(|zeroed| zeroed.by == cpu);
            zeroed.for_each(|zeroed| zeroed.ordered = true);
        }
    }

    /// What is wrong with linking a table of `bytes` bytes at `pa` now, as far as its memory goes.
    pub(super) fn unready(&self, pa: u64, bytes: u64) -> Option<&'static str> {
        let zeroed = self.zeroed.range(..=pa).next_back().filter(|(start, zeroed)| pa + bytes <= *start + zeroed.len);
        let is_arbitrary = || self.arbitrary.iter().any(|(start, len)| *start < pa + bytes && pa < start + len);
        match zeroed {
            Some((_, Zeroed { ordered: true, .. })) => None,
            Some(_) => Some("nothing orders its zeroing before the link"),
            None => is_arbitrary().then_some(NEVER_ZEROED),
        }
    }

    /// A leaf maps frames from now on.
    pub(super) fn note_user(&mut self, va: u64, leaf: Leaf, bytes: u64) {
        for ((pa, len, _), allocation) in &mut self.allocations {
            if leaf.pa < pa + len && *pa < leaf.pa + bytes {
                allocation.users.insert(va + pa.saturating_sub(leaf.pa));
            }
        }
    }

    pub(super) fn free(&mut self, pa: u64, len: u64, to: Word) {
        match self.allocations.remove(&(pa, len, to)) {
            None => self.break_rule(Rule::Accounts, format!("{len:#x} bytes at {pa:#x} were not taken from {to:?}")),
            Some(allocation) => self.expect_unmapped(pa, len, &allocation),
        }
        if let Some((cpu, va)) = self.first_walked(pa, len) {
            let why = self.reason(cpu, va);
            self.break_rule_at(
                va,
                Rule::FreedTable,
                format!("a walk for {va:#x} may still go through this table: {why}"),
            );
        }
        self.tables.retain(|table, _| !(pa..pa + len).contains(table));
        if self.arbitrary.contains_key(&pa) {
            self.forget_contents(pa, len);
            self.runs.retain(|(_, first, ..)| !(pa..pa + len).contains(first));
        }
    }

    fn expect_unmapped(&mut self, pa: u64, len: u64, allocation: &Allocation) {
        let inside = |outcome: &Outcome| matches!(outcome, Outcome::Map { pa: at, .. } if (pa..pa + len).contains(at));
        for &va in &allocation.users {
            let reaching = self.online().find(|cpu| self.may(*cpu, va).iter().any(inside));
            if let Some(cpu) = reaching {
                return self.break_rule_at(
                    va,
                    Rule::FreedFrame,
                    format!("CPU {cpu} may still reach it at {va:#x}: {}", self.reason(cpu, va)),
                );
            }
        }
    }

    /// Whether the frame at `pa` is taken.
    pub(super) fn is_out(&self, pa: u64) -> bool {
        self.allocations.keys().any(|(start, len, _)| *start <= pa && pa - start < *len)
    }

    pub(super) fn is_zeroed(&self, pa: u64) -> bool {
        self.zeroed.range(..=pa).next_back().is_some_and(|(start, zeroed)| pa - start < zeroed.len)
    }

    /// Stores into tables, and links to tables, that the trace does not show: nothing can be said about them.
    #[must_use]
    pub fn unjudged(&self) -> usize {
        let known = |slot: u64| self.place(slot).is_some() || self.is_out(slot);
        self.unknown + self.slots.iter().filter(|(slot, state)| state.stored > 0 && !known(**slot)).count()
    }

    /// Frames that are out: address, length, and where from.
    pub fn outstanding(&self) -> impl Iterator<Item = (u64, u64, Word)> {
        self.allocations.keys().copied()
    }
}

//! Barriers, invalidations, and what must be complete when an operation ends.

use super::cache::{Held, Mark, Stale};
use super::operand::{self, Shot};
use super::{Adversary, Flush, Old, Rule};

/// How far a barrier reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Domain {
    Own,
    InnerShareable,
    OuterShareable,
}

/// What a DSB orders, and for whom.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    stores: bool,
    loads: bool,
    domain: Domain,
}

impl Barrier {
    fn of(option: &str) -> Option<Self> {
        let (domain, kind) = match option {
            "sy" => (Domain::OuterShareable, ""),
            "st" | "ld" => (Domain::OuterShareable, option),
            _ => match option.split_at_checked(3)? {
                ("nsh", kind) => (Domain::Own, kind),
                ("osh", kind) => (Domain::OuterShareable, kind),
                _ => (Domain::InnerShareable, option.strip_prefix("ish")?),
            },
        };
        matches!(kind, "" | "st" | "ld").then_some(Self { stores: kind != "ld", loads: kind != "st", domain })
    }
}

/// Whether there is such a barrier option.
pub fn is_option(option: &str) -> bool {
    Barrier::of(option).is_some()
}

impl Adversary {
    pub(super) fn dsb(&mut self, cpu: u8, option: &str) {
        let Some(barrier) = Barrier::of(option) else {
            return self.break_rule(Rule::Operand, format!("there is no barrier option {option}"));
        };
        self.order_zeroing(cpu, option);
        if barrier.stores {
            self.publish(cpu, if barrier.domain == Domain::Own { 1 << cpu } else { u8::MAX });
            if barrier.loads || !self.has(Rule::LoadsToo) {
                self.complete(cpu, barrier);
            }
        }
    }

    /// The stores of `writer` become visible to the walks of `cpus`.
    fn publish(&mut self, writer: u8, cpus: u8) {
        let keeps_invalid = self.has(Rule::OldInvalid);
        self.update_olds(|old| {
            if old.writer == writer {
                old.unsynced |= if old.value & 1 == 0 && keeps_invalid { old.pending & cpus } else { 0 };
                old.pending &= !cpus;
            }
        });
    }

    /// Changes every old value, and drops those that no walk reads any more.
    fn update_olds(&mut self, mut change: impl FnMut(&mut Old)) {
        self.unpublished.retain(|slot| {
            let Some(state) = self.slots.get_mut(slot) else { return false };
            state.olds.retain_mut(|old| {
                change(old);
                old.pending | old.unsynced != 0
            });
            !state.olds.is_empty()
        });
    }

    /// The invalidations that `cpu` issued complete.
    fn complete(&mut self, cpu: u8, barrier: Barrier) {
        let (issuer_only, domain, context) = (self.has(Rule::Issuer), self.has(Rule::Domain), self.has(Rule::Context));
        let scope = self.has(Rule::Scope);
        let own = 1 << cpu;
        self.cache.update(|stale| {
            let done = |mark: &Mark| {
                let needed = match mark {
                    Mark { broadcast: false, .. } => Domain::Own,
                    Mark { outer: false, .. } => Domain::InnerShareable,
                    _ => Domain::OuterShareable,
                };
                (mark.issuer == cpu || !issuer_only) && (barrier.domain >= needed || !domain)
            };
            for mark in stale.marks.extract_if(.., |mark| done(mark)) {
                let reached = if mark.broadcast || !scope { u8::MAX } else { 1 << mark.issuer };
                stale.cpus &= !(reached & !own);
                if context {
                    stale.awaits |= stale.cpus & reached & own;
                } else {
                    stale.cpus &= !(reached & own);
                }
            }
        });
        let state = &mut self.cpus[usize::from(cpu)];
        if matches!(state.flush, Flush::Issued(needed) if barrier.domain >= needed) {
            state.flush = Flush::Complete;
        }
    }

    pub(super) fn isb(&mut self, cpu: u8) {
        let own = 1 << cpu;
        self.update_olds(|old| old.unsynced &= !own);
        self.cache.update(|stale| {
            stale.cpus &= !(stale.awaits & own);
            stale.awaits &= !own;
        });
        let state = &mut self.cpus[usize::from(cpu)];
        state.flush = match state.flush {
            Flush::Unsynchronised => Flush::Needed,
            Flush::Complete => Flush::Clean,
            other => other,
        };
        // What walks from an earlier root have cached goes with the whole TLB only (RVNRFW).
        if state.flush == Flush::Clean {
            state.roots.truncate(1);
        }
    }

    pub(super) fn tlbi(&mut self, cpu: u8, name: &str, operand: Option<u64>) {
        let (shot, flaw) = operand::decode(self.geometry, name, operand);
        if let Some(flaw) = flaw {
            self.break_rule(Rule::Operand, flaw);
        }
        let Some(shot) = shot else { return };
        if shot.span.is_none() && self.cpus[usize::from(cpu)].flush == Flush::Needed {
            let needed = if shot.broadcast { Domain::InnerShareable } else { Domain::Own };
            self.cpus[usize::from(cpu)].flush = Flush::Issued(needed);
        }
        let mark = Mark { issuer: cpu, broadcast: shot.broadcast, outer: shot.outer, number: self.number };
        // Tables first and from the top: what is below a table entry that goes with it can't be walked through it again.
        for tables in [true, false] {
            for level in self.geometry.start_level()..=3 {
                for (va, held) in self.hit(shot, level, tables) {
                    let targets = if mark.broadcast { self.online_mask() } else { 1 << cpu };
                    let is_target = |cpu: &u8| targets >> cpu & 1 == 1;
                    let again = |cpu| self.is_refillable(cpu, level, va, held);
                    if !self.online().filter(is_target).any(again) {
                        self.cache.mark(level, va, held, mark);
                    }
                }
            }
        }
    }

    /// The stale entries of a level that an invalidation reaches.
    fn hit(&self, shot: Shot, level: i8, tables: bool) -> Vec<(u64, Held)> {
        let other_granule = shot.other_granule && self.has(Rule::Granule);
        let kind = |stale: &Stale| matches!(stale.held, Held::Table(_)) == tables;
        let covers = |held| match held {
            Held::Table(_) => {
                let hinted = shot.hint.is_some() && self.has(Rule::HintOnTable);
                let last = shot.last_level && self.has(Rule::LastLevel);
                let asid = shot.one_asid && self.has(Rule::Asid);
                !hinted && !last && !asid
            }
            Held::Leaf(_) => shot.hint.is_none_or(|hint| hint == level || !self.has(Rule::Hint)),
        };
        if other_granule {
            return Vec::new();
        }
        let bytes = self.geometry.bytes(level);
        let (first, last) = match shot.span {
            None => (0, u64::MAX),
            Some((first, last)) => {
                // Without the rule one invalidation takes the whole run.
                let reach = if self.has(Rule::Member) { bytes } else { bytes * self.geometry.run(level) };
                (first & !(reach - 1), last | (reach - 1))
            }
        };
        let entries = self.cache.within(level, first, last).filter(|(_, stale)| kind(stale) && covers(stale.held));
        entries.map(|(va, stale)| (va, stale.held)).collect()
    }

    /// What an operation of `cpu` did must be complete (E2, E8).
    pub(super) fn end(&mut self, cpu: u8) {
        self.expect_complete(cpu, |_| true);
        self.expect_clean_registers(cpu);
    }

    /// Nothing of what `cpu` did is left for later, as far as the rules go that `judged` names.
    pub(super) fn expect_complete(&mut self, cpu: u8, judged: impl Fn(Rule) -> bool) {
        self.judge_runs(cpu);
        if let Some((va, rule, why)) = self.unforgotten(cpu).filter(|(_, rule, _)| judged(*rule)) {
            self.break_rule_at(va, rule, why);
        }
        if let Some((rule, why)) = self.unpublished(cpu).filter(|(rule, _)| judged(*rule)) {
            self.break_rule(rule, why);
        }
    }

    fn unforgotten(&self, cpu: u8) -> Option<(u64, Rule, String)> {
        let own = 1 << cpu;
        let mut created = self.cache.all().filter(|(_, _, stale)| stale.by == cpu);
        if let Some((level, va, stale)) = created.find(|(_, _, stale)| stale.cpus & !stale.awaits != 0) {
            let why = self.reason((stale.cpus & !stale.awaits).trailing_zeros() as u8, va);
            return Some((
                va,
                Rule::Forgotten,
                format!("a level {level} entry for {va:#x} may still be cached: {why}"),
            ));
        }
        let (level, va, _) = self.cache.all().find(|(_, _, stale)| stale.awaits & own != 0)?;
        Some((va, Rule::Synchronised, format!("no ISB since the level {level} entry for {va:#x} was invalidated")))
    }

    fn unpublished(&self, cpu: u8) -> Option<(Rule, String)> {
        let own = 1 << cpu;
        let olds = self.unpublished.iter().flat_map(|slot| self.slots[slot].olds.iter().map(move |old| (slot, old)));
        let mut olds = olds.filter(|(_, old)| old.writer == cpu);
        if let Some((slot, _)) = olds.clone().find(|(_, old)| old.pending != 0) {
            return Some((Rule::Visible, format!("no DSB since slot {slot:#x} was written")));
        }
        let (slot, _) = olds.find(|(_, old)| old.unsynced & own != 0)?;
        Some((Rule::Synchronised, format!("no ISB since slot {slot:#x} became valid")))
    }
}

//! What CPUs may still hold of descriptors that have been overwritten: the stale entries, and who has begun to take them
//! away.

use std::collections::BTreeMap;

use super::geometry::Leaf;

/// What a TLB or walk cache entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// A pointer to this table.
    Table(u64),
    Leaf(Leaf),
}

/// An invalidation that has been issued and is not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub issuer: u8,
    pub broadcast: bool,
    pub outer: bool,
    /// The number of the event that issued it.
    pub number: usize,
}

/// An entry that may be cached although no walk makes it any more.
#[derive(Clone, Debug)]
pub struct Stale {
    pub held: Held,
    /// CPUs that may hold it, one bit each.
    pub cpus: u8,
    /// Of them, those whose invalidation is complete but for their own context synchronisation.
    pub awaits: u8,
    pub marks: Vec<Mark>,
    /// Who took it out of the tables.
    pub by: u8,
}

impl Stale {
    /// Whether it goes from `cpu` with the invalidation `number` itself. Others that are under way do not count: RTGVWD orders
    /// nothing between them, and a walk may go through it in between.
    pub fn goes_with(&self, cpu: u8, number: usize) -> bool {
        self.awaits >> cpu & 1 == 1 || self.marks.iter().any(|mark| mark.number == number)
    }

    /// Whether an invalidation of it on `cpu` is under way.
    pub fn is_marked(&self, cpu: u8) -> bool {
        self.awaits >> cpu & 1 == 1 || self.marks.iter().any(|mark| mark.broadcast || mark.issuer == cpu)
    }

    pub fn is_on(&self, cpu: u8) -> bool {
        self.cpus >> cpu & 1 == 1
    }
}

/// The stale entries of all CPUs, by level and first address.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<(i8, u64), Vec<Stale>>,
}

impl Cache {
    /// Adds an entry, once for each translation: a run of 128 would cost 128 squared otherwise.
    pub fn add(&mut self, level: i8, va: u64, held: Held, cpus: u8, by: u8) {
        let entries = self.entries.entry((level, va)).or_default();
        match entries.iter_mut().find(|stale| stale.held == held) {
            Some(stale) => {
                stale.marks.clear();
                (stale.cpus, stale.awaits, stale.by) = (stale.cpus | cpus, stale.awaits & !cpus, by);
            }
            None => entries.push(Stale { held, cpus, awaits: 0, marks: Vec::new(), by }),
        }
    }

    /// Forgets an entry that the tables say again for the walks of `cpus`.
    pub fn absorb(&mut self, level: i8, va: u64, held: Held, cpus: u8) {
        if let Some(entries) = self.entries.get_mut(&(level, va)) {
            for stale in entries.iter_mut().filter(|stale| stale.held == held) {
                stale.cpus &= !cpus;
                stale.awaits &= !cpus;
            }
            entries.retain(|stale| stale.cpus != 0);
        }
    }

    /// The entries of `level` at `va`, its first address.
    pub fn at(&self, level: i8, va: u64) -> impl Iterator<Item = &Stale> {
        self.entries.get(&(level, va)).into_iter().flatten()
    }

    /// The entries of `level` whose first address lies in `first..=last`.
    pub fn within(&self, level: i8, first: u64, last: u64) -> impl Iterator<Item = (u64, &Stale)> {
        let range = self.entries.range((level, first)..=(level, last));
        range.flat_map(|((_, va), entries)| entries.iter().map(move |stale| (*va, stale)))
    }

    /// Marks the entries of `held` kind at `va`.
    pub fn mark(&mut self, level: i8, va: u64, held: Held, mark: Mark) {
        for stale in self.entries.get_mut(&(level, va)).into_iter().flatten() {
            if stale.held == held && !stale.marks.contains(&mark) {
                stale.marks.push(mark);
            }
        }
    }

    pub fn all(&self) -> impl Iterator<Item = (i8, u64, &Stale)> {
        self.entries.iter().flat_map(|((level, va), entries)| entries.iter().map(move |stale| (*level, *va, stale)))
    }

    /// Changes every entry, and drops those that no CPU holds any more.
    pub fn update(&mut self, mut change: impl FnMut(&mut Stale)) {
        self.entries.retain(|_, entries| {
            entries.retain_mut(|stale| {
                change(stale);
                stale.cpus != 0
            });
            !entries.is_empty()
        });
    }
}

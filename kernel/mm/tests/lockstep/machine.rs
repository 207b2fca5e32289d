//! A machine that does what hardware may do: stores wait in buffers, walks run ahead at random and leave entries
//! behind, invalidations arrive late. Written from the architecture's rules; it shares nothing with the adversary but
//! events.

use std::collections::BTreeMap;

use vmemmap::sim::Outcome;
use vmemmap::trace::Event;

use crate::geometry::{Descriptor, Geometry};
use crate::random::Random;
use crate::tlb::{Entry, Fault, Holds, Tlb};
use crate::tlbi::{Invalidation, Reach};

/// A store that is not in memory yet.
#[derive(Clone, Copy, Debug)]
struct Store {
    slot: u64,
    value: u64,
    /// Its place in the order of all stores.
    number: usize,
    /// The walks of its own CPU see it.
    own: bool,
    /// How many barriers of its CPU came before it.
    epoch: usize,
}

#[derive(Clone, Debug, Default)]
struct Cpu {
    buffer: Vec<Store>,
    epoch: usize,
    tlb: Tlb,
}

#[derive(Clone, Debug)]
pub struct Machine {
    geometry: Geometry,
    root: u64,
    /// Values, and the number of the store that each comes from.
    memory: BTreeMap<u64, (u64, usize)>,
    cpus: Vec<Cpu>,
    /// Invalidations that have not reached all of their CPUs: one bit each.
    under_way: Vec<(Invalidation, u8)>,
    stores: usize,
}

impl Machine {
    pub fn new(geometry: Geometry, root: u64, cpus: usize) -> Self {
        let cpus = vec![Cpu::default(); cpus];
        Self { geometry, root, memory: BTreeMap::new(), cpus, under_way: Vec::new(), stores: 0 }
    }

    /// An event of a program happens.
    pub fn step(&mut self, event: Event, random: &mut Random) {
        match event {
            Event::Slot { pa, value } => {
                self.memory.insert(pa, (value, 0));
            }
            Event::Write { cpu, slot, new, .. } => self.store(cpu, slot, new),
            Event::Zero { cpu, pa, len } => self.zero(cpu, pa, len),
            Event::Dsb { cpu, option } => self.dsb(cpu, &option, random),
            Event::Dmb { cpu, option } if !option.ends_with("ld") => self.cpus[usize::from(cpu)].epoch += 1,
            Event::Isb { cpu } => self.cpus[usize::from(cpu)].tlb.synchronise(),
            Event::Tlbi { cpu, op, operand } => {
                let invalidation = Invalidation::of(&self.geometry, cpu, &op, operand.unwrap_or(0));
                let targets = if invalidation.reach == Reach::Local { 1 << cpu } else { (1 << self.cpus.len()) - 1 };
                self.under_way.push((invalidation, targets));
            }
            _ => {}
        }
    }

    fn store(&mut self, cpu: u8, slot: u64, value: u64) {
        self.stores += 1;
        let cpu = &mut self.cpus[usize::from(cpu)];
        cpu.buffer.push(Store { slot, value, number: self.stores, own: false, epoch: cpu.epoch });
    }

    fn zero(&mut self, cpu: u8, pa: u64, len: u64) {
        let buffered = self.cpus.iter().flat_map(|cpu| cpu.buffer.iter().map(|store| store.slot));
        let mut slots: Vec<_> = self.memory.keys().copied().chain(buffered).collect();
        slots.retain(|slot| (pa..pa + len).contains(slot));
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.store(cpu, slot, 0);
        }
    }

    fn dsb(&mut self, cpu: u8, option: &str, random: &mut Random) {
        let (domain, kind) = match option {
            "sy" => ("osh", ""),
            "st" | "ld" => ("osh", option),
            _ => option.split_at(3),
        };
        if kind != "ld" {
            self.publish(cpu, domain == "nsh");
        }
        if kind.is_empty() {
            self.complete(cpu, domain, random);
        }
    }

    fn publish(&mut self, cpu: u8, to_own_walks: bool) {
        if to_own_walks {
            self.cpus[usize::from(cpu)].buffer.iter_mut().for_each(|store| store.own = true);
        } else {
            let stores = std::mem::take(&mut self.cpus[usize::from(cpu)].buffer);
            for store in stores {
                self.reach_memory(store);
            }
        }
    }

    /// Stores to one slot have one order for everybody.
    fn reach_memory(&mut self, store: Store) {
        let at = self.memory.entry(store.slot).or_default();
        if at.1 < store.number {
            *at = (store.value, store.number);
        }
    }

    /// The invalidations of this CPU arrive, as far as its DSB waits for them (RPSMWS, RYNJCP).
    fn complete(&mut self, cpu: u8, domain: &str, random: &mut Random) {
        let waits = |invalidation: &Invalidation| {
            let enough = match invalidation.reach {
                Reach::Local => true,
                Reach::InnerShareable => domain != "nsh",
                Reach::OuterShareable => domain == "osh",
            };
            invalidation.issuer == cpu && enough
        };
        let (mut done, left): (Vec<_>, Vec<_>) = self.under_way.drain(..).partition(|(one, _)| waits(one));
        self.under_way = left;
        while !done.is_empty() {
            let (invalidation, targets) = done.swap_remove(random.below(done.len()));
            for cpu in (0..self.cpus.len() as u8).filter(|cpu| targets >> cpu & 1 == 1) {
                self.arrive(&invalidation, cpu, random);
            }
        }
    }

    fn arrive(&mut self, invalidation: &Invalidation, cpu: u8, random: &mut Random) {
        self.cpus[usize::from(cpu)].tlb.invalidate(invalidation, cpu == invalidation.issuer, random);
    }

    /// Something happens that no program asked for.
    pub fn stir(&mut self, addresses: &[u64], random: &mut Random) {
        let cpu = random.below(self.cpus.len());
        match random.below(100) {
            0..55 => {
                self.walk(cpu as u8, random.of(addresses), random);
            }
            55..75 => self.advance_store(cpu, random),
            75..90 => self.advance_invalidation(random),
            90..96 => self.cpus[cpu].tlb.evict(random),
            _ => self.cpus[cpu].tlb.faults.clear(),
        }
    }

    /// A store gets further: to the walks of its own CPU, or to memory. Stores to one slot keep their order, and so do
    /// those with a barrier between them.
    fn advance_store(&mut self, cpu: usize, random: &mut Random) {
        let buffer = &mut self.cpus[cpu].buffer;
        if buffer.is_empty() {
            return;
        }
        let at = random.below(buffer.len());
        let store = buffer[at];
        let before = |other: &&Store| other.slot == store.slot || other.epoch < store.epoch;
        let mut earlier = buffer[..at].iter().filter(before);
        if earlier.clone().next().is_none() && random.percent(50) {
            buffer.remove(at);
            self.reach_memory(store);
        } else if earlier.all(|other| other.own) {
            buffer[at].own = true;
        }
    }

    fn advance_invalidation(&mut self, random: &mut Random) {
        if self.under_way.is_empty() {
            return;
        }
        let at = random.below(self.under_way.len());
        let cpu = random.below(self.cpus.len()) as u8;
        let (invalidation, targets) = self.under_way[at];
        if targets >> cpu & 1 == 1 {
            self.under_way[at].1 &= !(1 << cpu);
            self.arrive(&invalidation, cpu, random);
        }
    }

    /// What a walk of `cpu` reads in a slot.
    fn read(&self, cpu: u8, slot: u64) -> u64 {
        let memory = self.memory.get(&slot).copied().unwrap_or_default();
        let buffer = self.cpus[usize::from(cpu)].buffer.iter();
        let forwarded = buffer.filter(|store| store.slot == slot && store.own).map(|store| (store.value, store.number));
        forwarded.chain([memory]).max_by_key(|(_, number)| *number).map_or(0, |(value, _)| value)
    }

    /// One walk, from the root or from a table entry that is cached; it caches what it reads, or not.
    fn walk(&mut self, cpu: u8, va: u64, random: &mut Random) -> Outcome {
        let (mut level, mut table, in_flight) = self.start(cpu, va, random);
        loop {
            if random.percent(10) {
                self.advance_store(random.below(self.cpus.len()), random);
            }
            let value = self.read(cpu, self.geometry.slot(table, level, va));
            let descriptor = self.geometry.read(value, level);
            let tlb = &mut self.cpus[usize::from(cpu)].tlb;
            if let Some(entry) = Entry::new(&self.geometry, level, va, descriptor, in_flight)
                && random.percent(70)
            {
                tlb.insert(if random.percent(30) { entry.only(va) } else { entry }, random);
            }
            match descriptor {
                Descriptor::Fault => {
                    if random.percent(50) {
                        // With an invalid slot in the root no table entry was used.
                        let span = self.geometry.span(if level == self.geometry.root_level {
                            3
                        } else {
                            self.geometry.root_level
                        });
                        let first = va & !(span - 1);
                        tlb.note_fault(Fault { va, used: (first, first + (span - 1)) }, random);
                    }
                    return Outcome::Fault;
                }
                Descriptor::Table(next) => (level, table) = (level + 1, next),
                Descriptor::Leaf { pa, attributes, .. } => {
                    let pa = pa + va % self.geometry.span(level);
                    return Outcome::Map { pa, attributes };
                }
            }
        }
    }

    fn start(&self, cpu: u8, va: u64, random: &mut Random) -> (i8, u64, bool) {
        let entries = self.cpus[usize::from(cpu)].tlb.entries.iter().filter(|entry| entry.covers(va));
        let cached = entries.filter_map(|entry| match entry.holds {
            Holds::Table(table) => Some((entry.level + 1, table, entry.in_flight)),
            Holds::Leaf { .. } => None,
        });
        let starts: Vec<_> = cached.chain([(self.geometry.root_level, self.root, false)]).collect();
        random.of(&starts)
    }

    /// What accesses to `va` see: by each entry that is there, by a fault in flight, and by a walk.
    pub fn access(&mut self, cpu: u8, va: u64, random: &mut Random) -> Vec<Outcome> {
        let tlb = &self.cpus[usize::from(cpu)].tlb;
        let hits = tlb.entries.iter().filter(|entry| entry.covers(va));
        let leaves = hits.filter_map(|entry| match entry.holds {
            Holds::Leaf { pa, attributes } => Some(Outcome::Map { pa: pa + (va - entry.addresses(0).0), attributes }),
            Holds::Table(_) => None,
        });
        let faults = tlb.faults.iter().filter(|fault| fault.va == va).map(|_| Outcome::Fault);
        let mut seen: Vec<_> = leaves.chain(faults).collect();
        seen.push(self.walk(cpu, va, random));
        seen
    }
}

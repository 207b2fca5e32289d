//! Random programs: pieces of page-table code on up to three CPUs, right ones and ones with a piece left out or wrong.

use std::collections::{BTreeMap, VecDeque};

use vmemmap::trace::{Event, Word};

use crate::geometry::{Descriptor, Geometry};
use crate::random::Random;

pub const ROOT: u64 = 0x4000_0000;
/// Tables of levels 0 and 1, where the root is above them.
const UPPERS: [u64; 2] = [0x4010_0000, 0x4020_0000];
const MIDDLES: [u64; 2] = [0x4100_0000, 0x4200_0000];
const LEAVES: u64 = 0x5000_0000;
/// First address: a multiple of what any entry of a root translates, and of every run.
const FIRST: u64 = 0xffff_fc00_0000_0000;
const FIRST_39: u64 = 0xffff_ffc0_0000_0000;
const FIRST_52: u64 = 0xfff5_fc00_0000_0000;
/// Slots of a level-2 table that programs play with, from the first on.
const PLACES: u64 = 3;
/// Page tables for each place, of which one is linked at a time.
const SPARES: u64 = 2;
const DATA: u64 = 0x0060_0000_0000_0703;
const READ_ONLY: u64 = 1 << 7;
const CONTIGUOUS: u64 = 1 << 52;
const SHAREABILITY: u64 = 3 << 8;
/// A hint at level 0, which only means something with LPA2 at 4K.
const LEVEL_0: u64 = 4;

/// Where a table can be linked, and which tables may be.
#[derive(Clone, Copy, Debug)]
struct Place {
    level: i8,
    va: u64,
    table: u64,
    /// First table below it, and the step to the next one.
    below: (u64, u64),
}

#[derive(Clone, Debug)]
pub struct Program {
    geometry: Geometry,
    /// The values as the program wrote them, by slot.
    memory: BTreeMap<u64, u64>,
    queues: Vec<VecDeque<Event>>,
}

/// What an invalidation is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aim {
    /// Of this level.
    Leaf(u64),
    Table,
}

impl Program {
    pub fn new(geometry: Geometry, cpus: usize) -> Self {
        Self { geometry, memory: BTreeMap::new(), queues: vec![VecDeque::new(); cpus] }
    }

    fn first(&self) -> u64 {
        match self.geometry.va_bits {
            39 => FIRST_39,
            52 => FIRST_52,
            _ => FIRST,
        }
    }

    fn middles(&self) -> [u64; 2] {
        MIDDLES.map(|table| self.geometry.at(table))
    }

    /// The table of a level from the root's to 1 that is on the way.
    fn upper(&self, level: i8) -> u64 {
        let table = if level == self.geometry.root_level { ROOT } else { UPPERS[usize::from(level.unsigned_abs())] };
        self.geometry.at(table)
    }

    /// The state at the start, as events: registers, tables, links, pages here and there.
    pub fn opening(&mut self, random: &mut Random) -> Vec<Event> {
        let g = self.geometry;
        let ttbr1 = Geometry::ttbr(g.at(ROOT));
        let regs = |cpu| Event::Regs { cpu, ttbr1, tcr: g.tcr, mair: 0x4_0044_ffff, sctlr: 1 };
        let mut events: Vec<_> = (0..self.queues.len() as u8).map(regs).collect();
        events.push(Event::Table { pa: g.at(ROOT), level: g.root_level, va: u64::MAX << g.va_bits });
        let first = self.first();
        let below_root = (g.root_level + 1..=1).map(|level| (level, self.upper(level)));
        let middles = self.middles().map(|table| (2, table));
        events.extend(below_root.chain(middles).map(|(level, pa)| {
            let va = first & !((g.span(level) << (g.shift - 3)) - 1);
            Event::Table { pa, level, va }
        }));
        let link = |place: Place| (g.slot(place.table, place.level, place.va), g.packed(place.below.0) | 3);
        let mut slots: Vec<_> = self.upper_places().map(link).collect();
        let mut taken = Vec::new();
        for table in self.middles() {
            for place in (0..PLACES).map(|number| self.leaf_place(table, number)) {
                for pa in (0..SPARES).map(|spare| place.below.0 + spare * place.below.1) {
                    taken.push(Event::Alloc { pa, len: g.page(), from: Word::new("ram") });
                    taken.push(Event::Zero { cpu: 0, pa, len: g.page() });
                    events.push(Event::Table { pa, level: 3, va: place.va });
                    slots.extend(self.some_pages(pa, random));
                }
                if random.percent(60) {
                    slots.push(link(place));
                }
            }
        }
        self.memory.extend(slots.iter().copied());
        events.extend(taken.into_iter().chain([dsb(0, "ishst")]));
        events.extend(slots.into_iter().map(|(pa, value)| Event::Slot { pa, value }));
        events
    }

    fn some_pages(&self, table: u64, random: &mut Random) -> Vec<(u64, u64)> {
        let run = self.geometry.run(3);
        if random.percent(25) {
            let frame = random.below(4) as u64;
            return (0..run).map(|page| (table + page * 8, self.leaf(3, frame, page) | CONTIGUOUS)).collect();
        }
        let pages = [0, 1, run - 1, run].into_iter().filter(|_| random.percent(40)).collect::<Vec<_>>();
        let page = |page| (table + page * 8, self.leaf(3, random.below(4) as u64, page));
        pages.into_iter().map(page).collect()
    }

    /// Addresses that are worth a look: around the ends of runs, in each place.
    pub fn addresses(&self) -> Vec<u64> {
        let g = self.geometry;
        let run = g.run(3);
        let pages = [0, 1, 2, run - 1, run];
        let places = (0..PLACES).chain([g.run(2) - 1]).map(|place| self.first() + place * g.span(2));
        places.flat_map(|va| pages.map(|page| va + page * g.page() + page * 8)).collect()
    }

    fn leaf_place(&self, table: u64, number: u64) -> Place {
        let g = self.geometry;
        let family = u64::from(table == self.middles()[1]) * PLACES + number;
        let below = (g.at(LEAVES + family * SPARES * 0x10_0000), 0x10_0000);
        Place { level: 2, va: self.first() + number * g.span(2), table, below }
    }

    /// The places above: at level 1 for either of the middle tables, above it for the one table that is on the way.
    fn upper_places(&self) -> impl Iterator<Item = Place> + '_ {
        (self.geometry.root_level..=1).map(|level| {
            let [middle, spare] = self.middles();
            let below = if level == 1 { (middle, spare - middle) } else { (self.upper(level + 1), 0) };
            Place { level, va: self.first(), table: self.upper(level), below }
        })
    }

    /// A leaf to page or block `index` of a frame.
    fn leaf(&self, level: i8, frame: u64, index: u64) -> u64 {
        let kind = if level == 3 { DATA } else { DATA & !2 };
        let bits = if self.geometry.is_lpa2() { kind & !SHAREABILITY } else { kind };
        // With 52 bits frames differ in their highest bits alone.
        let start =
            if self.geometry.is_wide() { [0x1, 0x6, 0xb, 0xc][frame as usize] << 48 } else { (frame + 1) << 42 };
        self.geometry.packed(start + index * self.geometry.span(level)) | bits
    }

    fn value(&self, slot: u64) -> u64 {
        self.memory.get(&slot).copied().unwrap_or(0)
    }

    /// The next event, of any CPU.
    pub fn next(&mut self, random: &mut Random) -> Event {
        loop {
            let cpu = random.below(self.queues.len());
            if let Some(event) = self.queues[cpu].pop_front() {
                return self.issue(event);
            }
            let events = self.piece(cpu as u8, random);
            self.queues[cpu].extend(events);
        }
    }

    fn issue(&mut self, event: Event) -> Event {
        match event {
            Event::Write { cpu, slot, new, .. } => {
                let old = self.memory.insert(slot, new).unwrap_or(0);
                Event::Write { cpu, slot, old, new }
            }
            Event::Zero { pa, len, .. } => {
                self.memory.retain(|slot, _| !(pa..pa + len).contains(slot));
                event
            }
            _ => event,
        }
    }

    /// A table that is in the tree as the program sees it, and the place that it is below.
    fn some_leaf_table(&self, random: &mut Random) -> (Place, u64) {
        let linked = self.value(self.geometry.slot(self.upper(1), 1, self.first()));
        let middle = match self.geometry.read(linked, 1) {
            Descriptor::Table(table) if random.percent(90) => table,
            _ => random.of(&self.middles()),
        };
        let place = self.leaf_place(middle, random.below(PLACES as usize) as u64);
        let value = self.value(self.geometry.slot(place.table, 2, place.va));
        match self.geometry.read(value, 2) {
            Descriptor::Table(table) if random.percent(95) => (place, table),
            _ => (place, place.below.0),
        }
    }

    fn piece(&self, cpu: u8, random: &mut Random) -> Vec<Event> {
        match random.below(100) {
            0..20 => self.make_pages(cpu, random),
            20..48 => self.break_pages(cpu, random),
            48..58 => self.change_page(cpu, random),
            58..72 => self.unlink(cpu, self.some_place(random), random),
            72..86 => self.link(cpu, self.some_place(random), random),
            86..92 => self.make_block(cpu, random),
            _ => vec![barrier(cpu, random)],
        }
    }

    fn some_place(&self, random: &mut Random) -> Place {
        let uppers: Vec<_> = self.upper_places().collect();
        if random.percent(20) { random.of(&uppers) } else { self.some_leaf_table(random).0 }
    }

    fn some_pages_of(&self, random: &mut Random) -> Vec<u64> {
        let run = self.geometry.run(3);
        let whole = if run > 32 { 5 } else { 20 };
        if random.percent(whole) { (0..run).collect() } else { vec![random.of(&[0, 1, 2, run - 1, run])] }
    }

    fn make_pages(&self, cpu: u8, random: &mut Random) -> Vec<Event> {
        let (_, table) = self.some_leaf_table(random);
        let (pages, frame) = (self.some_pages_of(random), random.below(4) as u64);
        let bit = if pages.len() > 1 { CONTIGUOUS } else { 0 };
        let new = |page: &u64| self.leaf(3, frame, *page) | bit;
        let free = |page: &&u64| self.value(table + **page * 8) & 1 == 0;
        let mut events: Vec<_> =
            pages.iter().filter(free).map(|page| write(cpu, table + page * 8, new(page))).collect();
        events.extend(published(cpu, random));
        events
    }

    fn break_pages(&self, cpu: u8, random: &mut Random) -> Vec<Event> {
        let (place, table) = self.some_leaf_table(random);
        let block = self.geometry.slot(place.table, 2, place.va);
        if self.value(block) & 3 == 1 {
            let mut events = vec![write(cpu, block, 0)];
            events.extend(self.forgotten(cpu, &[place.va], Aim::Leaf(2), random));
            return events;
        }
        let pages = self.some_pages_of(random);
        let mut events: Vec<_> = pages.iter().map(|page| write(cpu, table + page * 8, 0)).collect();
        let addresses: Vec<_> = pages.iter().map(|page| place.va + page * self.geometry.page()).collect();
        events.extend(self.forgotten(cpu, &addresses, Aim::Leaf(3), random));
        events
    }

    /// A valid page becomes another one, with or without a break.
    fn change_page(&self, cpu: u8, random: &mut Random) -> Vec<Event> {
        let (place, table) = self.some_leaf_table(random);
        let page = random.of(&[0, 1, self.geometry.run(3)]);
        let (slot, va) = (table + page * 8, place.va + page * self.geometry.page());
        let new =
            if random.percent(30) { self.value(slot) ^ READ_ONLY } else { self.leaf(3, random.below(4) as u64, page) };
        let mut events = Vec::new();
        if random.percent(60) {
            events.push(write(cpu, slot, 0));
            events.extend(self.forgotten(cpu, &[va], Aim::Leaf(3), random));
            events.push(write(cpu, slot, new));
            events.extend(published(cpu, random));
        } else {
            events.push(write(cpu, slot, new));
            events.extend(self.forgotten(cpu, &[va], Aim::Leaf(3), random));
        }
        events
    }

    fn make_block(&self, cpu: u8, random: &mut Random) -> Vec<Event> {
        let (place, _) = self.some_leaf_table(random);
        let slot = self.geometry.slot(place.table, 2, place.va);
        let frame = random.below(4) as u64;
        let run = self.geometry.run(2);
        let first = self.geometry.slot(place.table, 2, self.first());
        let empty = (0..run).all(|number| self.value(first + number * 8) & 1 == 0);
        let mut events: Vec<_> = if empty && random.percent(60) {
            (0..run).map(|number| write(cpu, first + number * 8, self.leaf(2, frame, number) | CONTIGUOUS)).collect()
        } else if self.value(slot) & 1 == 0 || random.percent(10) {
            vec![write(cpu, slot, self.leaf(2, frame, self.geometry.index(2, place.va) % run))]
        } else {
            Vec::new()
        };
        events.extend(published(cpu, random));
        events
    }

    fn unlink(&self, cpu: u8, place: Place, random: &mut Random) -> Vec<Event> {
        let slot = self.geometry.slot(place.table, place.level, place.va);
        let run = self.geometry.run(2);
        if place.level == 2 && self.value(slot) & 3 == 1 && random.percent(50) {
            return self.break_blocks(cpu, self.geometry.slot(place.table, 2, self.first()), run, random);
        }
        let mut events = Vec::new();
        if place.level == 2
            && random.percent(40)
            && let Descriptor::Table(table) = self.geometry.read(self.value(slot), 2)
        {
            let full = self.memory.range(table..table + 8 * (self.geometry.run(3) + 1));
            let valid = full.filter(|(_, value)| **value & 1 == 1);
            events.extend(valid.map(|(slot, _)| write(cpu, *slot, 0)));
        }
        events.push(write(cpu, slot, 0));
        let away = random.of(&[0, 0, 1, 2]) * self.geometry.page();
        events.extend(self.forgotten(cpu, &[place.va + away], Aim::Table, random));
        events
    }

    fn break_blocks(&self, cpu: u8, first: u64, run: u64, random: &mut Random) -> Vec<Event> {
        let mut events: Vec<_> = (0..run).map(|number| write(cpu, first + number * 8, 0)).collect();
        let addresses: Vec<_> = (0..run).map(|number| self.first() + number * self.geometry.span(2)).collect();
        events.extend(self.forgotten(cpu, &addresses, Aim::Leaf(2), random));
        events
    }

    fn link(&self, cpu: u8, place: Place, random: &mut Random) -> Vec<Event> {
        let slot = self.geometry.slot(place.table, place.level, place.va);
        if self.value(slot) & 1 == 1 && random.percent(90) {
            return Vec::new();
        }
        if place.level < 2 && self.geometry.has_block(place.level) && random.percent(25) {
            let block = write(cpu, slot, self.leaf(place.level, random.below(4) as u64, 0));
            return [block].into_iter().chain(published(cpu, random)).collect();
        }
        let from = if place.level == 2 && random.percent(15) { self.some_leaf_table(random).0 } else { place };
        let table = from.below.0 + random.below(SPARES as usize) as u64 * place.below.1;
        let mut events = Vec::new();
        if place.level == 2 && random.percent(10) {
            events.extend(self.used_again(cpu, table));
        }
        if place.level == 2 && random.percent(50) {
            let page = random.of(&[0, 1]);
            events.push(write(cpu, table + page * 8, self.leaf(3, random.below(4) as u64, page)));
        }
        events.extend(random.weighted(&[
            (60, Some(dsb(cpu, "ishst"))),
            (20, None),
            (20, Some(Event::Dmb { cpu, option: Word::new("ishst") })),
        ]));
        events.push(write(cpu, slot, self.geometry.packed(table) | 3));
        events.extend(published(cpu, random));
        events
    }

    /// A table is given back and taken again.
    fn used_again(&self, cpu: u8, table: u64) -> [Event; 4] {
        let (pa, len, ram) = (table, self.geometry.page(), Word::new("ram"));
        [
            Event::Free { pa, len, to: ram },
            Event::Alloc { pa, len, from: ram },
            Event::Zero { cpu, pa, len },
            dsb(cpu, "ishst"),
        ]
    }

    /// What should follow a break: DSB, TLBI, DSB, ISB, each with its chance to be wrong or not there.
    fn forgotten(&self, cpu: u8, addresses: &[u64], aim: Aim, random: &mut Random) -> Vec<Event> {
        let right = random.percent(30);
        let other = random.below(self.queues.len()) as u8;
        let by = if right || random.percent(90) { cpu } else { other };
        let before = [(60, "ishst"), (15, "ish"), (7, "nshst"), (4, "nsh"), (4, "ishld"), (10, "")];
        let after = [(60, "ish"), (8, "ishst"), (8, "nsh"), (6, "ishld"), (6, "sy"), (4, "osh"), (8, "")];
        let before = if right { "ishst" } else { random.weighted(&before) };
        let after = if right { "ish" } else { random.weighted(&after) };
        let mut events = Vec::new();
        events.extend((!before.is_empty()).then(|| dsb(cpu, before)));
        events.extend(self.invalidations(by, addresses, aim, right, random));
        let completer = if right || random.percent(92) { by } else { other };
        events.extend((!after.is_empty()).then(|| dsb(completer, after)));
        events.extend((right || random.percent(80)).then_some(Event::Isb { cpu: by }));
        events
    }

    fn invalidations(&self, cpu: u8, addresses: &[u64], aim: Aim, right: bool, random: &mut Random) -> Vec<Event> {
        let level = if let Aim::Leaf(level) = aim { level } else { 0 };
        let right_name = if aim == Aim::Table { "vaae1is" } else { "vaale1is" };
        let names = [
            (25, right_name),
            (12, "vaale1is"),
            (8, "vaae1is"),
            (5, "vae1is"),
            (5, "vale1is"),
            (7, "vaale1"),
            (7, "vaae1"),
            (5, "vmalle1is"),
            (4, "vmalle1"),
            (2, "aside1is"),
            (4, "vaae1os"),
            (8, "rvaale1is"),
            (8, "rvaae1is"),
        ];
        let name = if right { right_name } else { random.weighted(&names) };
        let hint =
            if right { 0 } else { random.weighted(&[(73, 0), (15, level), (5, 3), (5, 2), (2, 1), (2, LEVEL_0)]) };
        let few = !right && addresses.len() > 1 && random.percent(40);
        let some = if few { &addresses[..random.of(&[1, addresses.len() - 1])] } else { addresses };
        match name {
            "vmalle1is" | "vmalle1" => vec![tlbi(cpu, name, None)],
            "aside1is" => vec![tlbi(cpu, name, Some(0))],
            _ if name.starts_with('r') => {
                let wrong = random.percent(15);
                some.iter().step_by(2).map(|va| tlbi(cpu, name, Some(self.range(*va, hint, wrong)))).collect()
            }
            _ => some.iter().map(|va| tlbi(cpu, name, Some(self.single(*va, hint)))).collect(),
        }
    }

    fn single(&self, va: u64, hint: u64) -> u64 {
        let ttl = if hint == 0 { 0 } else { self.geometry.tg() << 2 | hint & 3 };
        ttl << 44 | va >> 12 & ((1 << 44) - 1)
    }

    /// Two granules from `va` on.
    fn range(&self, va: u64, hint: u64, wrong_granule: bool) -> u64 {
        let tg = if wrong_granule { self.geometry.tg() % 3 + 1 } else { self.geometry.tg() };
        tg << 46 | (hint & 3) << 37 | va >> self.geometry.range_shift() & ((1 << 37) - 1)
    }
}

fn write(cpu: u8, slot: u64, new: u64) -> Event {
    Event::Write { cpu, slot, old: 0, new }
}

fn dsb(cpu: u8, option: &str) -> Event {
    Event::Dsb { cpu, option: Word::new(option) }
}

fn tlbi(cpu: u8, name: &str, operand: Option<u64>) -> Event {
    Event::Tlbi { cpu, op: Word::new(name), operand }
}

/// What should follow a make: DSB, ISB.
fn published(cpu: u8, random: &mut Random) -> Vec<Event> {
    let option = random.weighted(&[(70, "ishst"), (8, "ish"), (6, "nshst"), (6, "ishld"), (10, "")]);
    let barrier = (!option.is_empty()).then(|| dsb(cpu, option));
    let isb = random.percent(75).then_some(Event::Isb { cpu });
    barrier.into_iter().chain(isb).collect()
}

fn barrier(cpu: u8, random: &mut Random) -> Event {
    match random.below(3) {
        0 => Event::Isb { cpu },
        1 => dsb(cpu, random.of(&["ish", "ishst", "nsh", "sy"])),
        _ => Event::Dmb { cpu, option: Word::new(random.of(&["ish", "ishst", "ishld"])) },
    }
}

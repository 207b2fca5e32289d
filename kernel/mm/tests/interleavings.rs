//! Several CPUs at once: before every call of the seam another may run, while all of them are probed.
//!
//! Writers have windows of their own under one root, as `Tables::adopt` asks: they share upper tables, never a slot. Or they
//! take turns on one memory map behind a lock. Short programs run in every schedule with at most two pre-emptions (one behind
//! the lock), long ones in random ones. Programs that break the contract must be caught, or the search is worth nothing.

mod common;
#[path = "interleavings/helpers.rs"]
mod helpers;
#[path = "interleavings/readers.rs"]
mod readers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use common::baton::{Baton, Program, explore, wander};
use common::geometry::{ROWS, Row, range};
use common::page::Page;
use common::stage::Stage;
use common::watch::Target;
use common::{Counts, GIB, invariants};
use vmemmap::addr::{VirtAddr, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, K4, K16, K64, SUBSECTION_BYTES};
use vmemmap::hotplug::{Hotplug, Request};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::sim::{Rule, SimRam, world::Cpu};
use vmemmap::trace::{Event, Word};

/// Three levels at every granule, and four at 4K and 16K.
const ROW_4K: Row = ROWS[1];
const ROW_16K: Row = ROWS[8];
const ROW_64K: Row = ROWS[16];
const DEEP: [Row; 3] = [ROWS[4], ROWS[10], ROWS[16]];

const PREEMPTIONS: usize = 2;

/// Runs `programs` on a stage that `prepare` made, in every schedule.
fn exhaust(
    row: Row,
    cpus: u8,
    counts: &Arc<Counts>,
    prepare: impl Fn(&Stage),
    programs: impl for<'a> Fn(&'a Stage) -> Vec<Program<'a>>,
) {
    let mut schedule = 0;
    let schedules = explore(PREEMPTIONS, |baton| {
        let stage = Stage::new(row, cpus, counts);
        prepare(&stage);
        let tables = stage.picture();
        let outcome = stage.run(baton, programs(&stage));
        outcome.expect_clean(schedule);
        assert_eq!(tables, stage.picture(), "schedule {schedule}: everything that was made is gone");
        schedule += 1;
        true
    });
    Counts::add(&counts.schedules, schedules);
}

/// Two writers whose pages lie in one table that was there before.
fn in_one_table<G: Granule>(row: Row, ranges: bool, counts: &Arc<Counts>) {
    let prepare = |stage: &Stage| {
        stage.world.set_range_invalidations(ranges);
        stage.prepare::<G>(stage.page(0).0);
    };
    exhaust(row, 2, counts, prepare, |stage| vec![stage.writer::<G>(0, 0, 2), stage.writer::<G>(1, 8, 2)]);
}

/// Two writers that each make and free a lowest table, linked from one table that was there before.
fn in_tables_of_their_own<G: Granule>(row: Row, counts: &Arc<Counts>) {
    let entries = G::SIZE.entries();
    let prepare = |stage: &Stage| stage.prepare::<G>(stage.page(3 * entries).0);
    exhaust(row, 2, counts, prepare, |stage| vec![stage.writer::<G>(0, 0, 1), stage.writer::<G>(1, entries, 1)]);
}

#[test]
fn two_writers_in_one_table_never_meet() {
    let counts = Counts::new();
    in_one_table::<K4>(ROW_4K, false, &counts);
    in_one_table::<K16>(ROW_16K, true, &counts);
    in_one_table::<K64>(ROW_64K, false, &counts);
    in_one_table::<K64>(ROW_64K, true, &counts);
    counts.print("two_writers_in_one_table");
}

#[test]
fn two_writers_make_and_free_tables_under_a_shared_one() {
    let counts = Counts::new();
    in_tables_of_their_own::<K4>(ROW_4K, &counts);
    in_tables_of_their_own::<K16>(ROW_16K, &counts);
    in_tables_of_their_own::<K64>(ROW_64K, &counts);
    counts.print("two_writers_with_tables");
}

#[test]
fn two_writers_and_a_reader_on_three_cpus() {
    let counts = Counts::new();
    let prepare = |stage: &Stage| {
        stage.prepare::<K4>(stage.page(0).0);
        let _lives = stage.map::<K4>(0, 16, 1);
    };
    exhaust(ROW_4K, 3, &counts, prepare, |stage| {
        vec![stage.writer::<K4>(0, 0, 1), stage.writer::<K4>(1, 8, 1), stage.reader::<K4>(2, 16)]
    });
    // The same with a table that one of the writers makes and frees.
    exhaust(ROW_4K, 3, &counts, prepare, |stage| {
        vec![stage.writer::<K4>(0, 512, 1), stage.writer::<K4>(1, 8, 1), stage.reader::<K4>(2, 16)]
    });
    counts.print("three_cpus");
}

/// Runs programs that break the contract until `wanted` is among the rules that they break.
fn must_be_caught(
    counts: &Arc<Counts>,
    wanted: Rule,
    prepare: impl Fn(&Stage),
    programs: impl for<'a> Fn(&'a Stage) -> Vec<Program<'a>>,
) {
    let mut rules = BTreeSet::new();
    let schedules = explore(PREEMPTIONS, |baton| {
        let stage = Stage::new(ROW_4K, 2, counts);
        prepare(&stage);
        rules.extend(stage.run(baton, programs(&stage)).rules());
        !rules.contains(&wanted)
    });
    Counts::add(&counts.schedules, schedules);
    assert!(rules.contains(&wanted), "{schedules} schedules broke only {rules:?}");
}

#[test]
fn two_writers_that_share_a_slot_of_an_upper_table_are_caught() {
    let counts = Counts::new();
    let prepare = |stage: &Stage| stage.prepare::<K4>(stage.page(3 * 512).0);
    must_be_caught(&counts, Rule::Race, prepare, |stage| {
        vec![stage.writer::<K4>(0, 0, 1), stage.writer::<K4>(1, 8, 1)]
    });
    counts.print("shared_slot");
}

/// The new leaf is cut off with the table, and nobody invalidates it.
#[test]
fn a_table_that_is_freed_while_another_writer_fills_it_is_caught() {
    let counts = Counts::new();
    let first = Mutex::new(None);
    let prepare = |stage: &Stage| {
        stage.prepare::<K4>(stage.page(3 * 512).0);
        *first.lock().expect("one at a time") = Some(stage.map::<K4>(0, 0, 1));
    };
    must_be_caught(&counts, Rule::Forgotten, prepare, |stage| {
        let mapped = first.lock().expect("one at a time").take().expect("prepared");
        let unmap = Box::new(move || stage.unmap::<K4>(0, mapped));
        let map = Box::new(move || {
            stage.map::<K4>(1, 8, 1);
        });
        vec![unmap, map]
    });
    counts.print("freed_while_filled");
}

type Map<G> = Hotplug<Cpu<G>, SimRam, Page<8>>;

/// A range of device memory that somebody adds and removes.
struct Device {
    start: u64,
    bytes: u64,
    policy: LeafPolicy,
    in_ram: bool,
}

impl Device {
    fn claim<G: Granule>(&self, stage: &Stage, map: &Map<G>) -> [u64; 2] {
        let (layout, device) = (map.layout(), range(self.start, self.bytes));
        let page = stage.row.granule.bytes();
        let (linear, pages) = (layout.linear_range(device), layout.pages(device));
        let first = pages.start().align_down(page);
        let memmap = VirtRange::new(first, pages.end().align_up(page).since(first));
        let attributes = stage.row.form(0).attributes(invariants::KERNEL);
        let frames = Target::Frames { pa: self.start, attributes };
        [(linear, frames), (memmap, Target::Pages(BTreeMap::new()))]
            .map(|(va, target)| stage.watch.claim(va.start().value(), va.bytes(), target))
    }

    fn announce(&self, stage: &Stage, taken: bool) {
        let (pa, len, device) = (self.start, self.bytes, Word::new("device"));
        stage.world.event(if taken {
            Event::Alloc { pa, len, from: device }
        } else {
            Event::Free { pa, len, to: device }
        });
    }

    fn request(&self, layout: &Layout) -> Request {
        let device = range(self.start, self.bytes);
        // SAFETY: memory of the world, of which this range is ours.
        let request = unsafe { Request::new(device) }.policy(self.policy);
        if self.in_ram { request } else { request.altmap(Altmap::tight(layout, device, self.policy, 1)) }
    }

    /// Adds it and removes it again.
    fn come_and_go<G: Granule>(&self, stage: &Stage, map: &mut Map<G>) {
        let cpu = map.tables().machine().number();
        self.announce(stage, true);
        let claims = self.claim(stage, map);
        let request = self.request(map.layout());
        let region = map.plan(request).expect("nothing is there").commit().expect("there is RAM");
        let picture = stage.picture();
        for claim in claims {
            stage.watch.arrived(claim, cpu, &picture);
        }
        for claim in claims {
            stage.watch.leaving(claim);
        }
        map.remove(region).expect("it is there");
        for claim in claims {
            stage.watch.gone(claim);
        }
        self.announce(stage, false);
    }
}

/// Memory that the linear map of one window shows.
const WINDOW: u64 = 64 * GIB;

/// Windows of their own for CPU `number`: no two share a slot, all share the tables above.
fn windows(row: Row, number: u64) -> Layout {
    let lowest = row.regime().lowest().value();
    let linear = VirtRange::new(VirtAddr::new(lowest + number * WINDOW), WINDOW);
    let memmap_bytes = WINDOW >> row.granule.shift() << 6;
    let memmap = VirtRange::new(VirtAddr::new((64 * GIB).wrapping_neg() + number * GIB), memmap_bytes);
    Layout::new(row.granule, linear, memmap, memory(number), 6)
}

const fn memory(number: u64) -> u64 {
    (1 << 40) + number * WINDOW
}

fn memory_map<G: Granule>(stage: &Stage, cpu: u8, layout: Layout) -> Map<G> {
    Hotplug::new(stage.tables::<G>(cpu), stage.world.ram(), layout, 48).expect("there is RAM")
}

/// Three CPUs, each with a memory map of its own: ranges come and go in random schedules.
fn three_memory_maps<G: Granule>(row: Row, counts: &Arc<Counts>) {
    let runs = 6 * common::thorough();
    wander(runs, common::seed(), |baton, run| {
        let stage = Stage::new(row, 3, counts);
        stage.world.set_range_invalidations(run % 2 == 1);
        stage.prepare::<G>(row.regime().lowest().value() + 7 * WINDOW);
        stage.prepare::<G>((64 * GIB).wrapping_neg() + 7 * GIB);
        let tables = stage.picture();
        let programs = (0..3).map(|cpu| {
            let stage = &stage;
            let mut map = memory_map::<G>(stage, cpu, windows(row, u64::from(cpu)));
            let unit = SUBSECTION_BYTES;
            Box::new(move || {
                for round in 0..3 {
                    let kind = run + round + u64::from(cpu);
                    let policy = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages][kind as usize % 3];
                    let start = memory(u64::from(cpu)) + kind % 4 * unit;
                    let device = Device { start, bytes: unit, policy, in_ram: kind % 2 == 0 };
                    device.come_and_go(stage, &mut map);
                    Counts::add(&counts.operations, 2);
                }
            }) as Program
        });
        stage.run(baton, programs.collect()).expect_clean(run);
        assert_eq!(tables, stage.picture(), "run {run}: everything that was made is gone");
    });
    Counts::add(&counts.schedules, runs);
}

#[test]
fn three_memory_maps_under_one_root_do_not_disturb_each_other() {
    let counts = Counts::new();
    three_memory_maps::<K4>(DEEP[0], &counts);
    three_memory_maps::<K16>(DEEP[1], &counts);
    three_memory_maps::<K64>(DEEP[2], &counts);
    counts.print("three_memory_maps");
}

/// One memory map, which three CPUs use in turn: the first to have its lock.
fn one_memory_map<'a>(stage: &'a Stage, baton: &'a Baton, map: &'a Mutex<Option<Map<K4>>>, cpu: u8) -> Program<'a> {
    Box::new(move || {
        baton.lock(cpu);
        let taken = map.lock().expect("only the baton's holder").take().expect("it is put back");
        // SAFETY: a CPU of the same world; that of before is dropped.
        let mut taken = unsafe { taken.on(|_| stage.world.cpu::<K4>(cpu)) };
        let bytes = SUBSECTION_BYTES;
        let start = memory(0) + u64::from(cpu) * bytes;
        let device = Device { start, bytes, policy: LeafPolicy::Largest, in_ram: cpu == 1 };
        device.come_and_go(stage, &mut taken);
        *map.lock().expect("only the baton's holder") = Some(taken);
        baton.unlock();
    })
}

/// `cpus` CPUs take turns, while somebody else's range lives in the same tables.
fn turns(baton: &Arc<Baton>, cpus: u8, schedule: u64, counts: &Arc<Counts>) {
    let stage = Stage::new(ROW_4K, 3, counts);
    let layout = Layout::new(
        ROW_4K.granule,
        VirtRange::new(VirtAddr::new(ROW_4K.regime().lowest().value()), WINDOW),
        VirtRange::new(VirtAddr::new((2 * GIB).wrapping_neg()), GIB),
        memory(0),
        6,
    );
    let mut map = memory_map::<K4>(&stage, 0, layout);
    let (start, bytes) = (memory(0) + 8 * SUBSECTION_BYTES, SUBSECTION_BYTES);
    let lives = Device { start, bytes, policy: LeafPolicy::Pages, in_ram: true };
    let _region = map.plan(lives.request(&layout)).expect("nothing is there").commit().expect("there is RAM");
    let tables = stage.picture();
    let map = Mutex::new(Some(map));
    let programs = (0..cpus).map(|cpu| one_memory_map(&stage, baton, &map, cpu)).collect();
    stage.run(baton, programs).expect_clean(schedule);
    assert_eq!(tables, stage.picture(), "schedule {schedule}: everything that was made is gone");
}

#[test]
fn cpus_that_take_turns_on_one_memory_map_share_its_tables() {
    let counts = Counts::new();
    let mut schedule = 0;
    // One pre-emption: whoever is let in while the lock is held comes no further than the lock.
    let schedules = explore(1, |baton| {
        turns(baton, 2, schedule, &counts);
        schedule += 1;
        true
    });
    let random = 60 * common::thorough();
    wander(random, common::seed(), |baton, run| turns(baton, 3, run, &counts));
    Counts::add(&counts.schedules, schedules + random);
    counts.print("one_memory_map");
}

//! Readers of struct pages on one CPU while another removes their range: those that look whether a pfn is valid in a read
//! section, and those that hold a reference. None of them ever touches a struct page that is not mapped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use vmemmap::addr::{Pfn, PhysAddr};
use vmemmap::granule::{Granule, K4, K16, K64, SUBSECTION_BYTES};
use vmemmap::hotplug::{Hotplug, Obstacle, Region, Request, View};
use vmemmap::leaf::LeafPolicy;
use vmemmap::seam::{Frames, Mmu, Quiesce};
use vmemmap::sim::world::Cpu;
use vmemmap::sim::{Rule, SimRam};
use vmemmap::trace::Event;

use super::common::Counts;
use super::common::baton::{Baton, Program, explore, wander};
use super::common::geometry::{Row, range};
use super::common::page::Page;
use super::common::stage::{Outcome, Stage};
use super::{PREEMPTIONS, ROW_4K, ROW_16K, ROW_64K, memory, windows};

/// An allocator whose kernel forgets to wait for readers.
struct Hasty(SimRam);

// SAFETY: the world's allocator.
unsafe impl Frames for Hasty {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        self.0.take(bytes)
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        self.0.give(frame, bytes);
    }
}

// SAFETY: it breaks the contract: that is the point.
unsafe impl Quiesce for Hasty {
    fn wait_for_readers(&mut self) {}
}

/// What a reader does with a pfn and the address of its struct page; whether it found the page there.
type Read<G> = fn(&Stage, &View<Cpu<G>>, Pfn, u64) -> bool;

/// The CPU of the reader.
const READER: u8 = 1;

/// Who has been told of memory synchronises its context before the first access; others may run here.
fn touch<G: Granule>(stage: &Stage, va: u64) {
    stage.world.cpu::<G>(READER).isb();
    stage.world.event(Event::Touch { cpu: READER, va, write: true });
}

fn in_read_sections<G: Granule>(stage: &Stage, view: &View<Cpu<G>>, pfn: Pfn, va: u64) -> bool {
    let look = |_| {
        let _section = stage.world.read_section(READER);
        let valid = view.is_valid(pfn);
        if valid {
            touch::<G>(stage, va);
        }
        valid
    };
    (0..2).map(look).filter(|found| *found).count() > 0
}

fn by_reference<G: Granule>(stage: &Stage, view: &View<Cpu<G>>, pfn: Pfn, va: u64) -> bool {
    let Some(_held) = view.reference(pfn) else { return false };
    touch::<G>(stage, va);
    touch::<G>(stage, va);
    true
}

/// How it ended: whether the range was removed at once, and whether the reader found it.
type Ending = (bool, bool);

/// A range with struct pages in RAM: with `private`, of few descriptors.
fn request_of<G: Granule, F: Frames>(map: &mut Hotplug<Cpu<G>, F, Page<8>>, private: bool) -> Region {
    let device = range(memory(0), SUBSECTION_BYTES);
    let plan = if private {
        map.plan(Request::private(device).policy(LeafPolicy::Linux))
    } else {
        // SAFETY: memory of the world, of which this range is ours.
        map.plan(unsafe { Request::new(device) })
    };
    plan.expect("nothing is there").commit().expect("there is RAM")
}

/// One schedule of a removal by CPU 0 and a reader on CPU 1.
fn play<G: Granule, F: Frames + Quiesce + Send>(
    stage: &Stage,
    baton: &Arc<Baton>,
    frames: F,
    read: Read<G>,
    private: bool,
) -> (Outcome, Ending) {
    let layout = windows(stage.row, 0);
    let mut map = Hotplug::new(stage.tables::<G>(0), frames, layout, 48).expect("there is RAM");
    let tables = stage.picture();
    let region = request_of(&mut map, private);
    let pfn = Pfn::new(memory(0) >> stage.row.granule.shift());
    // SAFETY: a CPU of the same world.
    let view = unsafe { map.view(stage.world.cpu::<G>(READER)) };
    let (map, busy, found) = (Mutex::new(map), Mutex::new(None), Mutex::new(false));
    let remove = || {
        if let Err(error) = map.lock().expect("one uses it").remove(region) {
            assert!(matches!(error.why, Obstacle::Referenced { references: 1 }), "{error}");
            *busy.lock().expect("one uses it") = Some(error.region);
        }
    };
    let reader = || *found.lock().expect("one uses it") = read(stage, &view, pfn, layout.page(pfn).value());
    let outcome = stage.run(baton, vec![Box::new(remove) as Program, Box::new(reader)]);
    let busy = busy.into_inner().expect("nobody panics with it");
    let removed = busy.is_none();
    if let Some(region) = busy {
        map.into_inner().expect("nobody panics with it").remove(region).expect("the reference is gone");
    }
    assert_eq!(tables, stage.picture(), "everything that was made is gone");
    (outcome, (removed, found.into_inner().expect("nobody panics with it")))
}

/// Every schedule of it goes well; how they ended.
fn exhaust<G: Granule>(row: Row, counts: &Arc<Counts>, read: Read<G>) -> BTreeSet<Ending> {
    let (mut endings, mut schedule) = (BTreeSet::new(), 0);
    let schedules = explore(PREEMPTIONS, |baton| {
        let stage = Stage::new(row, 2, counts);
        let (outcome, ending) = play(&stage, baton, stage.world.ram(), read, true);
        outcome.expect_clean(schedule);
        endings.insert(ending);
        schedule += 1;
        true
    });
    Counts::add(&counts.schedules, schedules);
    endings
}

/// The same in random schedules, with a linear map.
fn roam<G: Granule>(row: Row, counts: &Arc<Counts>, read: Read<G>) {
    let runs = 20 * super::common::thorough();
    wander(runs, super::common::seed(), |baton, run| {
        let stage = Stage::new(row, 2, counts);
        play(&stage, baton, stage.world.ram(), read, false).0.expect_clean(run);
    });
    Counts::add(&counts.schedules, runs);
}

/// H14.
#[test]
fn a_reader_that_finds_a_pfn_valid_in_a_read_section_never_faults() {
    let counts = Counts::new();
    let both = BTreeSet::from([(true, false), (true, true)]);
    assert_eq!(exhaust::<K4>(ROW_4K, &counts, in_read_sections), both, "before the removal, and after it");
    assert_eq!(exhaust::<K16>(ROW_16K, &counts, in_read_sections), both);
    assert_eq!(exhaust::<K64>(ROW_64K, &counts, in_read_sections), both);
    roam::<K64>(ROW_64K, &counts, in_read_sections);
    counts.print("readers_in_sections");
}

#[test]
fn a_reader_with_a_reference_keeps_the_range_or_gets_none() {
    let counts = Counts::new();
    let all = BTreeSet::from([(true, false), (true, true), (false, true)]);
    assert_eq!(exhaust::<K4>(ROW_4K, &counts, by_reference), all, "too late, early, and in the way");
    assert_eq!(exhaust::<K16>(ROW_16K, &counts, by_reference), all);
    assert_eq!(exhaust::<K64>(ROW_64K, &counts, by_reference), all);
    roam::<K64>(ROW_64K, &counts, by_reference);
    counts.print("readers_with_references");
}

/// What the read section is for, and what the search is worth.
#[test]
fn a_removal_that_does_not_wait_for_readers_is_caught() {
    let counts = Counts::new();
    let mut rules = BTreeSet::new();
    let schedules = explore(PREEMPTIONS, |baton| {
        let stage = Stage::new(ROW_64K, 2, &counts);
        let hasty = Hasty(stage.world.ram());
        rules.extend(play::<K64, _>(&stage, baton, hasty, in_read_sections, true).0.rules());
        !rules.contains(&Rule::Access)
    });
    Counts::add(&counts.schedules, schedules);
    assert!(rules.contains(&Rule::Access), "{schedules} schedules broke only {rules:?}");
    counts.print("hasty_removal");
}

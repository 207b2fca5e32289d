//! CPUs that help to initialise the struct pages of a range: whatever the order, the same memory as after one CPU's work.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::sync::Arc;

use vmemmap::addr::{Pfn, PhysAddr, PhysRange, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::check::Check;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64, SUBSECTION_BYTES};
use vmemmap::hotplug::{AddError, Hotplug, Plan, Region, Request, View, Work};
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::Meta;
use vmemmap::observe::{self, Observed, Observer};
use vmemmap::seam::{Dsb, Machine, Memory, Mmu};
use vmemmap::sim::world::Cpu;
use vmemmap::sim::{Rule, SimRam};
use vmemmap::tlbi::Tlbi;
use vmemmap::trace::Event;

use super::common::abstraction::Picture;
use super::common::baton::{Baton, Program, explore, wander};
use super::common::geometry::{BOOT_RAM, MEMSTART, ROWS, Row, range};
use super::common::page::Page;
use super::common::stage::{Outcome, Stage};
use super::common::{Counts, MIB, seed, thorough};
use super::{DEEP, PREEMPTIONS};

type MapOf<G, P> = Hotplug<Cpu<G>, SimRam, P>;
type PlanOf<'a, G, P> = Plan<'a, Cpu<G>, SimRam, P>;

/// What is added, and how its struct pages are kept.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ram,
    /// In its altmap, behind so many frames of reserve.
    Altmap(u64),
    Private,
    Peer,
}

/// A range, and what is there before it.
#[derive(Clone, Copy, Debug)]
struct Case {
    row: Row,
    kind: Kind,
    policy: LeafPolicy,
    range: PhysRange,
    /// Others' struct pages are in its edge pages.
    neighbours: bool,
    /// RAM lies in its first section.
    boot_ram: bool,
}

/// What an add leaves behind: tables, words of struct pages, and the addresses that were written.
#[derive(PartialEq, Eq)]
struct Left {
    tables: Picture,
    struct_pages: Vec<u64>,
    written: Vec<u64>,
}

impl Case {
    /// The memory map before.
    fn map<G: Granule, P: Meta>(&self, stage: &Stage) -> MapOf<G, P> {
        let layout = self.row.layout(size_of::<P>().trailing_zeros());
        let mut map =
            Hotplug::new(stage.tables::<G>(0), stage.world.ram(), layout, self.row.pa_bits()).expect("there is RAM");
        if self.boot_ram {
            map.add_boot_ram(range(MEMSTART, BOOT_RAM), LeafPolicy::Linux).expect("there is RAM");
        }
        if self.neighbours {
            let (before, behind) = (self.range.start().value() - SUBSECTION_BYTES, self.range.end().value());
            for start in [before, behind] {
                let plan = map.plan(Request::private(range(start, SUBSECTION_BYTES)));
                let _stays = plan.expect("nothing is there").commit().expect("there is RAM");
            }
        }
        map
    }

    fn plan<'a, G: Granule, P: Meta>(&self, map: &'a mut MapOf<G, P>) -> PlanOf<'a, G, P> {
        let Self { kind, policy, range, .. } = *self;
        let plan = match kind {
            Kind::Private => map.plan(Request::private(range).policy(policy)),
            // SAFETY: memory of the world, of which this range is ours.
            Kind::Peer => map.plan(unsafe { Request::peer_to_peer(range) }.policy(policy)),
            // SAFETY: as above.
            Kind::Ram => map.plan(unsafe { Request::new(range) }.policy(policy)),
            Kind::Altmap(reserve) => {
                let altmap = map.tight_altmap(range, policy, reserve);
                let altmap = Altmap::new(range, self.row.granule, altmap.reserve(), altmap.free());
                // SAFETY: as above.
                map.plan(unsafe { Request::new(range) }.policy(policy).altmap(altmap))
            }
        };
        plan.unwrap_or_else(|error| panic!("{self:x?}: {error}"))
    }

    /// The words of every page of vmemmap that holds a struct page of it, and what else there is to compare.
    fn left<G: Granule, P: Meta>(&self, stage: &Stage, map: &MapOf<G, P>, skip: usize) -> Left {
        let (pages, page) = (map.layout().pages(self.range), self.row.granule.bytes());
        let first = pages.start().align_down(page);
        let mut struct_pages = Vec::new();
        for offset in (0..pages.end().align_up(page).since(first)).step_by(page as usize) {
            let (_, frame) = map.tables().walk(first.add(offset)).translation().expect("it is mapped");
            struct_pages.extend(stage.world.words(frame, page / 8));
        }
        let written = |event: Event| if let Event::Touch { va, write: true, .. } = event { Some(va) } else { None };
        let mut written: Vec<_> = stage.world.events_from(skip).into_iter().filter_map(written).collect();
        written.sort_unstable();
        Left { tables: stage.picture(), struct_pages, written }
    }

    /// Adds it on a stage of its own with `commit`; what is left.
    fn add<G: Granule, P: Meta>(
        &self,
        counts: &Arc<Counts>,
        commit: impl FnOnce(&Stage, View<Cpu<G>>, PlanOf<'_, G, P>) -> Result<Region, AddError>,
    ) -> Left {
        let stage = Stage::new(self.row, 4, counts);
        let mut map = self.map::<G, P>(&stage);
        let skip = stage.world.events_from(0).len();
        // SAFETY: a CPU of the same world.
        let view = unsafe { map.view(stage.world.cpu::<G>(READER)) };
        let _region = commit(&stage, view, self.plan(&mut map)).expect("there is RAM");
        let violations = stage.world.take_violations();
        assert!(violations.is_empty(), "{self:x?}: {}", violations[0]);
        self.check_protocol(&stage.world.events());
        let shift = self.row.granule.shift();
        let pfns = (self.range.start().value() >> shift..self.range.end().value() >> shift).step_by(31);
        assert!(pfns.map(Pfn::new).all(|pfn| map.is_valid(pfn)), "{self:x?}");
        self.left(&stage, &map, skip)
    }
}

impl Case {
    /// The checker of the protocol has nothing against it either.
    fn check_protocol(&self, events: &[Event]) {
        let Some(Event::Trace(header)) = events.first() else { panic!("a trace starts with its header") };
        let mut check = Check::new(*header).expect("a row of the table");
        for event in events {
            check.step(*event).unwrap_or_else(|broken| panic!("{self:x?}: {event}: {broken}"));
        }
    }
}

/// The CPU of the reader, where there is one.
const READER: u8 = 3;

/// A CPU that helps.
fn helper<'a, G: Granule, P: Meta>(stage: &'a Stage, work: &'a Work<P>, cpu: u8) -> Program<'a> {
    Box::new(move || {
        // SAFETY: the CPU's own machine, in the same world.
        unsafe { work.help(&mut stage.world.cpu::<G>(cpu)) };
    })
}

/// CPUs 0 to `helpers` - 1 help, in the schedule that the baton is at; the last CPU looks whether a pfn is valid yet.
fn help_at_once<G: Granule, P: Meta>(
    baton: &Arc<Baton>,
    helpers: u8,
    stage: &Stage,
    (view, pfn): (&View<Cpu<G>>, Pfn),
    work: &Work<P>,
) -> Outcome {
    let mut programs: Vec<_> = (0..helpers).map(|cpu| helper::<G, P>(stage, work, cpu)).collect();
    if helpers == READER {
        programs.push(Box::new(|| assert!(!view.is_valid(pfn), "valid, and not initialised")));
    }
    stage.run(baton, programs)
}

impl Case {
    /// Both ways, and the same comes of them.
    fn check<G: Granule, P: Meta>(&self, baton: &Arc<Baton>, helpers: u8, expected: &Left, counts: &Arc<Counts>) {
        // Pfns of early sections are valid from boot on: not so the last.
        let pfn = Pfn::new((self.range.end().value() >> self.row.granule.shift()) - 1);
        let left = self.add::<G, P>(counts, |stage, view, plan| {
            plan.commit_with(|work| help_at_once(baton, helpers, stage, (&view, pfn), work).expect_clean(0))
        });
        assert!(left.tables == expected.tables, "{self:x?}: other tables");
        assert_eq!(left.written, expected.written, "{self:x?}: each descriptor's struct pages are written once");
        assert!(left.struct_pages == expected.struct_pages, "{self:x?}: other struct pages");
        Counts::add(&counts.operations, 1);
    }

    fn alone<G: Granule, P: Meta>(&self, counts: &Arc<Counts>) -> Left {
        self.add::<G, P>(counts, |_, _, plan| plan.commit())
    }
}

/// Where the struct pages of the second chunk begin: so much memory do those of the first describe.
fn described_by_chunk(granule: GranuleSize, struct_page: usize) -> u64 {
    (2 * MIB / struct_page as u64) << granule.shift()
}

/// A case of its own for each number: bounds, policy, what the struct pages are kept in, and what is there.
fn any_case<P>(row: Row, number: u64) -> Case {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % end
    };
    let policy = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages][below(3) as usize];
    let kind = [Kind::Ram, Kind::Altmap(0), Kind::Altmap(3), Kind::Private, Kind::Peer][number as usize % 5];
    let chunk = described_by_chunk(row.granule, size_of::<P>());
    // Without a linear map large ranges are cheap; three chunks of pages at 4K are not.
    let most = match (kind, row.granule) {
        (Kind::Private, GranuleSize::K16 | GranuleSize::K64) => chunk / SUBSECTION_BYTES,
        (_, GranuleSize::K4) => 4,
        _ => 40,
    };
    let (before, behind) = (1 + below(most), 1 + below(most));
    if number.is_multiple_of(6) {
        // From the end of RAM to some way behind the end of its section.
        let section = 1 << row.granule.section_shift();
        let range = range(MEMSTART + BOOT_RAM, section - BOOT_RAM + behind * SUBSECTION_BYTES);
        return Case { row, kind, policy: LeafPolicy::Largest, range, neighbours: false, boot_ram: true };
    }
    let start = MEMSTART + 2 * chunk - before * SUBSECTION_BYTES;
    let range = range(start, (before + behind) * SUBSECTION_BYTES);
    Case { row, kind, policy, range, neighbours: below(2) == 0, boot_ram: false }
}

fn any_cases<G: Granule, P: Meta>(row: Row, counts: &Arc<Counts>) {
    let cases = 15 * thorough();
    for number in 0..cases {
        let case = any_case::<P>(row, seed() << 32 | number);
        let expected = case.alone::<G, P>(counts);
        wander(4, number, |baton, run| case.check::<G, P>(baton, 1 + run as u8, &expected, counts));
    }
    Counts::add(&counts.schedules, 4 * cases);
}

#[test]
fn any_number_of_helpers_leaves_the_memory_that_one_cpu_leaves() {
    let counts = Counts::new();
    any_cases::<K4, Page<2>>(DEEP[0], &counts);
    any_cases::<K4, Page<8>>(ROWS[5], &counts);
    any_cases::<K16, Page<4>>(DEEP[1], &counts);
    any_cases::<K16, Page<8>>(ROWS[11], &counts);
    any_cases::<K64, Page<8>>(DEEP[2], &counts);
    any_cases::<K64, Page<16>>(ROWS[17], &counts);
    counts.print("helpers");
}

/// Two chunks of few descriptors.
fn small(row: Row) -> Case {
    let chunk = described_by_chunk(row.granule, 64);
    let unit = row.unit(6);
    let range = range(MEMSTART + 2 * chunk - unit, 2 * unit);
    Case { row, kind: Kind::Private, policy: LeafPolicy::Pages, range, neighbours: false, boot_ram: false }
}

/// A reader on the fourth CPU looks in between.
#[test]
fn every_schedule_of_three_helpers_writes_each_struct_page_before_its_pfn_is_valid() {
    fn exhaust<G: Granule>(case: Case, counts: &Arc<Counts>) {
        let expected = case.alone::<G, Page<8>>(counts);
        let schedules = explore(PREEMPTIONS, |baton| {
            case.check::<G, Page<8>>(baton, READER, &expected, counts);
            true
        });
        Counts::add(&counts.schedules, schedules);
    }
    let counts = Counts::new();
    exhaust::<K16>(small(DEEP[1]), &counts);
    exhaust::<K64>(small(DEEP[2]), &counts);
    counts.print("helpers_exhaustive");
}

/// A CPU that never synchronises its context.
struct Deaf<G>(Cpu<G>);

// SAFETY: the world's CPU.
unsafe impl<G: Granule> Memory for Deaf<G> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.0.read(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.0.write(slot, descriptor);
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        self.0.zero_table(table, bytes);
    }

    fn load(&self, word: PhysAddr) -> u64 {
        self.0.load(word)
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        self.0.store(word, value);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        // SAFETY: the caller's promise.
        unsafe { self.0.exchange(word, old, new) }
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        self.0.access(range, write);
    }
}

// SAFETY: it breaks the contract: that is the point.
unsafe impl<G: Granule> Mmu for Deaf<G> {
    fn dsb(&mut self, kind: Dsb) {
        self.0.dsb(kind);
    }

    fn isb(&mut self) {}

    fn tlbi(&mut self, operation: Tlbi) {
        self.0.tlbi(operation);
    }
}

impl<G: Granule> Machine for Deaf<G> {
    type Granule = G;
}

/// The rules that are broken if `help` helps the add of `case`.
fn broken_by(case: Case, help: impl FnOnce(&Stage, &Work<Page<8>>) -> u64) -> BTreeSet<Rule> {
    let counts = Counts::new();
    let stage = Stage::new(case.row, 2, &counts);
    let mut map = case.map::<K64, Page<8>>(&stage);
    let committed = case.plan(&mut map).commit_with(|work| assert_eq!(help(&stage, work), 2 * 1024));
    let _region = committed.expect("there is RAM");
    stage.world.take_violations().into_iter().map(|violation| violation.rule).collect()
}

#[test]
fn a_helper_that_does_not_synchronise_its_context_is_caught() {
    let case = small(DEEP[2]);
    // SAFETY: another CPU of the same world.
    let right = broken_by(case, |stage, work| unsafe { work.help(&mut stage.world.cpu::<K64>(1)) });
    // SAFETY: as above, but for what its machine leaves out.
    let deaf = broken_by(case, |stage, work| unsafe { work.help(&mut Deaf(stage.world.cpu::<K64>(1))) });
    assert_eq!((right, deaf), (BTreeSet::new(), BTreeSet::from([Rule::Access])));
}

/// All that a machine is asked to do.
#[derive(Debug, Default)]
struct Log(Vec<observe::Event>);

impl Observer for Log {
    fn event(&mut self, event: observe::Event) {
        self.0.push(event);
    }
}

/// What is seen on the CPU of the plan, and on that of a helper.
fn observed(case: Case, with_helper: bool) -> [Vec<observe::Event>; 2] {
    let stage = Stage::new(case.row, 2, &Counts::new());
    // SAFETY: the same machine, watched.
    let mut map = unsafe { case.map::<K64, Page<8>>(&stage).on(|cpu| Observed::new(cpu, Log::default())) };
    let mut helper = Observed::new(stage.world.cpu::<K64>(1), Log::default());
    let plan = map.plan(Request::private(case.range).policy(case.policy)).expect("nothing is there");
    let committed = plan.commit_with(|work| {
        if with_helper {
            // SAFETY: another CPU of the same world.
            unsafe { work.help(&mut helper) };
        }
    });
    let _region = committed.expect("there is RAM");
    [map.tables_mut().observer(), helper.observer()].map(|log| std::mem::take(&mut log.0))
}

#[test]
fn an_observer_sees_what_its_own_cpu_does_and_nothing_else() {
    let [mut alone, nothing] = observed(small(DEEP[2]), false);
    assert_eq!(nothing, []);
    let accesses: Vec<_> = alone.extract_if(.., |event| matches!(event, observe::Event::Access(_))).collect();
    let helped = [observe::Event::Isb].into_iter().chain(accesses).collect();
    assert_eq!(observed(small(DEEP[2]), true), [alone, helped]);
}

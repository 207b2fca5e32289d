//! Failure injection: every allocation of every operation fails once. Nothing has changed then but empty section records, and
//! the same operation succeeds as soon as there is RAM.

mod common;

use std::sync::Arc;

use common::Counts;
use common::geometry::{Arena, MEMSTART, ROWS, Row, range};
use common::operation::{self, Case, Cut, Extent, Operation, Step, Store};
use common::page::Page;
use common::scene::scene;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::hotplug::{Hotplug, RangeKind};
use vmemmap::leaf::LeafPolicy;
use vmemmap::sim::World;
use vmemmap::table::Tables;

/// Every operation that takes frames, on its own and beside what is there: in RAM and in an altmap, near and far, with every
/// kind of leaf, below and above hot-plug.
fn spread(row: Row) -> Vec<Operation> {
    // At 64K only ranges of whole blocks have a linear map of few descriptors.
    let (one, next, pages) = if row.granule == GranuleSize::K64 {
        (Extent::Big { at: 1 }, Extent::Big { at: 2 }, LeafPolicy::Linux)
    } else {
        (Extent::Units { at: 1, count: 1 }, Extent::Units { at: 2, count: 2 }, LeafPolicy::Pages)
    };
    let (ram, altmap) = (Store::Ram, Store::Tight { reserve: 1 });
    let kind = RangeKind::Device;
    let add = |arena, extent, store, policy| Operation::Add { arena, extent, store, policy, kind };
    let populate = |at, store, policy| Operation::Populate { at, count: 3, store, policy, cut: Cut::Whole };
    let steps = |boundary, at, count, store, kind| {
        let extent = Extent::Steps { boundary, at, count };
        Operation::Add { arena: Arena::Near, extent, store, policy: LeafPolicy::Largest, kind }
    };
    let early = |at, store| {
        let extent = Extent::Steps { boundary: 1, at, count: 5 };
        Operation::Add { arena: Arena::Early, extent, store, policy: LeafPolicy::Linux, kind }
    };
    vec![
        add(Arena::Near, one, ram, pages),
        add(Arena::Near, next, altmap, LeafPolicy::Linux),
        add(Arena::Far, one, altmap, pages),
        add(Arena::Far, Extent::Big { at: 3 }, ram, LeafPolicy::Largest),
        Operation::Remove(0),
        add(Arena::Near, one, altmap, LeafPolicy::Largest),
        populate(0, ram, LeafPolicy::Pages),
        populate(3, altmap, LeafPolicy::Largest),
        Operation::Map { below: 0, pages: 3, kind: 0, whole: true, policy: LeafPolicy::Pages },
        Operation::Depopulate(0),
        populate(0, ram, LeafPolicy::Linux),
        Operation::Populate { at: 9, count: 2, store: altmap, policy: LeafPolicy::Linux, cut: Cut::Ragged },
        // Ranges that share pages of the vmemmap, with new edge pages and with such as are there.
        steps(9, 0, 3, Store::Roomy { reserve: 1, spare: 8 }, kind),
        steps(9, 3, 3, ram, RangeKind::Private),
        steps(9, 6, 2, ram, RangeKind::PeerToPeer),
        steps(10, 2, 5, Store::Host(1), kind),
        // Across the end of an early section.
        early(2, altmap),
    ]
}

/// How many allocations failed.
fn fail_each(row: Row, page_shift: u32, case: &Case, counts: &Arc<Counts>) -> u64 {
    let mut scene = scene(row, page_shift, case, counts);
    let failures = case.steps.iter().map(|step| scene.apply_with_failures(step)).sum();
    scene.finish();
    failures
}

fn fail_every_operation(granule: GranuleSize, test: &str) {
    let counts = Counts::new();
    for (number, row) in (0..).zip(ROWS).filter(|(_, row)| row.granule == granule) {
        let steps = (0..).zip(spread(row)).map(|(cpu, operation)| Step { cpu, operation }).collect();
        let case = Case { cpus: 2, booting: false, boot_ram: number % 2 == 0, ranges: number % 3 > 0, steps };
        let failures = fail_each(row, 4 + number % 4, &case, &counts);
        assert!(failures > 10, "{row:?}: only {failures} allocations");
    }
    counts.print(test);
}

#[test]
fn every_allocation_of_every_operation_may_fail_at_4k() {
    fail_every_operation(GranuleSize::K4, "failures_4k");
}

#[test]
fn every_allocation_of_every_operation_may_fail_at_16k() {
    fail_every_operation(GranuleSize::K16, "failures_16k");
}

#[test]
fn every_allocation_of_every_operation_may_fail_at_64k() {
    fail_every_operation(GranuleSize::K64, "failures_64k");
}

#[test]
fn every_allocation_of_a_random_sequence_may_fail() {
    let counts = Counts::new();
    for (stream, row) in (0_u64..).zip(ROWS) {
        let cases = common::thorough() as u32;
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
        let seed = [common::seed().to_le_bytes(), stream.to_le_bytes(), [7; 8], [0; 8]].concat();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let page_shift = 4 + (stream as u32 + 1) % 4;
        let run = TestRunner::new_with_rng(config, rng).run(&operation::case(6), |case| {
            fail_each(row, page_shift, &case, &counts);
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{row:?}, struct pages of {} bytes: {error}", 1 << page_shift));
    }
    counts.print("failures_random");
}

/// The first frame that a memory map takes, and those of boot RAM.
fn boot<G: Granule>(row: Row, counts: &Arc<Counts>) {
    let bytes = 1 << G::SIZE.section_shift();
    for budget in 0.. {
        let world = World::new(row.regime(), row.pa_bits(), 1);
        world.set_budget(Some(budget));
        // SAFETY: the root is this world's, and nobody else writes below it.
        let tables = unsafe { Tables::adopt(world.cpu::<G>(0), world.root(), row.regime()) };
        let Ok(mut map) = Hotplug::<_, _, Page<8>>::new(tables, world.ram(), row.layout(6), row.pa_bits()) else {
            assert!(budget < 2 && world.frames_out().is_empty(), "a memory map takes two frames");
            Counts::add(&counts.failures, 1);
            continue;
        };
        let tables = map.tables().root().value();
        let picture = || row.form(tables).read(|pa, count| world.words(vmemmap::addr::PhysAddr::new(pa), count));
        let before = picture();
        let added = map.add_boot_ram(range(MEMSTART, bytes), LeafPolicy::Linux);
        if added.is_ok() {
            assert!(budget > 4, "tables, records and struct pages");
            break;
        }
        Counts::add(&counts.failures, 1);
        assert_eq!(before, picture(), "tables, when allocation {budget} fails");
        let out: u64 = world.frames_out().values().sum();
        assert_eq!(out, map.section_bytes(), "only section records stay when allocation {budget} fails");
        world.set_budget(None);
        map.add_boot_ram(range(MEMSTART, bytes), LeafPolicy::Linux).expect("there is RAM now");
        assert!(world.violations().is_empty(), "{:?}", world.violations());
    }
}

#[test]
fn every_allocation_at_boot_may_fail() {
    let counts = Counts::new();
    boot::<K4>(ROWS[4], &counts);
    boot::<K16>(ROWS[10], &counts);
    boot::<K64>(ROWS[16], &counts);
    counts.print("failures_boot");
}

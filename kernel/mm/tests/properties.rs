//! The whole core against the adversary: sequences of operations at every row of the geometry table, with struct pages of
//! 16 to 128 bytes, every kind of storage and of leaves; every CPU probes before every call of the seam (`common/watch.rs`).
//!
//! After each operation every invariant of `common/invariants.rs` must hold; that file says which are held where, and which
//! can't be expressed. `VMEMMAP_THOROUGH=N` tries N times as many and longer sequences, `VMEMMAP_SEED=N` other ones.

mod common;

use std::sync::Arc;

use common::abstraction::Picture;
use common::geometry::{Arena, ROWS, Row};
use common::operation::{self, AROUND, Case, Cut, Extent, Operation, Step, Store};
use common::scene::{Verdict, scene};
use common::{Counts, GIB};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vmemmap::granule::GranuleSize;
use vmemmap::hotplug::RangeKind;
use vmemmap::leaf::LeafPolicy;

/// log2 of the struct page sizes.
const PAGE_SHIFTS: [u32; 4] = [4, 5, 6, 7];

/// A runner of `cases` cases whose random numbers come from the seed and `stream`.
fn runner(cases: u64, stream: u64) -> TestRunner {
    let config = Config { cases: cases as u32, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&common::seed().to_le_bytes());
    seed[8..16].copy_from_slice(&stream.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn play(row: Row, page_shift: u32, case: &Case, counts: &Arc<Counts>) -> Vec<Verdict> {
    let mut scene = scene(row, page_shift, case, counts);
    let verdicts = case.steps.iter().map(|step| scene.apply(step)).collect();
    scene.finish();
    verdicts
}

/// Every refusal and every obstacle that takes more than luck.
fn refusals() -> Case {
    let add = |arena, at, store, kind| {
        let (extent, policy) = (Extent::Units { at, count: 1 }, LeafPolicy::Largest);
        Operation::Add { arena, extent, store, policy, kind }
    };
    let near = |at, store| add(Arena::Near, at, store, RangeKind::Device);
    let bare = |cut, store| Operation::Populate { at: 0, count: 1, store, policy: LeafPolicy::Linux, cut };
    let host = Store::Roomy { reserve: 1, spare: 40 };
    let (arena, extent) = (Arena::Early, Extent::Steps { boundary: 0, at: 0, count: 1 });
    let (store, policy, kind) = (Store::Ram, LeafPolicy::Largest, RangeKind::Device);
    let in_ram = Operation::Add { arena, extent, store, policy, kind };
    let operations = [
        Operation::Remove(0),
        near(0, host),
        near(1, Store::Host(1)),
        Operation::Close(0),
        near(4, Store::Host(1)),
        Operation::Reopen(0),
        Operation::Remove(0),
        // The tenant has no altmap to let.
        near(2, Store::Host(2)),
        Operation::Hold { which: 1, at: 2 },
        Operation::Remove(1),
        Operation::Close(1),
        Operation::Hold { which: 1, at: 0 },
        Operation::Reopen(1),
        Operation::LetGo(0),
        Operation::Remove(1),
        Operation::Remove(0),
        Operation::AddIntoGone,
        near(3, Store::Huge),
        near(3, Store::Elsewhere),
        near(3, Store::Short),
        near(3, Store::Used),
        bare(Cut::Whole, Store::Ram),
        add(Arena::Bare, 0, Store::Ram, RangeKind::Private),
        Operation::Depopulate(0),
        bare(Cut::Claimed, Store::Ram),
        bare(Cut::Outside, Store::Ram),
        near(0, Store::Ram),
        Operation::AddOver { which: 0, from_before: true, to_behind: true },
        Operation::RemoveForeign(0),
        Operation::AddMisaligned { start: true, by_page: false, empty: false },
        Operation::AddMisaligned { start: true, by_page: false, empty: true },
        Operation::Forget(0),
        in_ram,
    ];
    let beyond = (0..6).map(Operation::AddBeyond);
    let steps = operations.into_iter().chain(beyond).map(|operation| Step { cpu: 0, operation }).collect();
    Case { cpus: 2, booting: false, boot_ram: true, ranges: true, steps }
}

fn sequences(granule: GranuleSize, test: &str) {
    let counts = Counts::new();
    let most = if common::thorough() > 1 { 40 } else { 12 };
    for (stream, row) in (0..).zip(ROWS).filter(|(_, row)| row.granule == granule) {
        play(row, 6, &refusals(), &counts);
        for page_shift in PAGE_SHIFTS {
            let run = runner(3 * common::thorough(), stream * 8 + u64::from(page_shift)).run(
                &operation::case(most),
                |case| {
                    play(row, page_shift, &case, &counts);
                    Ok(())
                },
            );
            run.unwrap_or_else(|error| panic!("{row:?}, struct pages of {} bytes: {error}", 1 << page_shift));
        }
    }
    counts.print(test);
    let missing: Vec<_> = Verdict::ALL.into_iter().filter(|verdict| counts.how_many(*verdict) == 0).collect();
    for verdict in Verdict::ALL {
        println!("@all verdicts {verdict:?}");
        if !missing.contains(&verdict) {
            println!("@reached verdicts {verdict:?}");
        }
    }
    assert!(missing.is_empty(), "no operation ended with {missing:?}");
}

/// A root at 0x1000 whose last slot is `value`, and a table at 0x2000 with `entries`.
fn picture_of(value: u64, entries: &[(u64, u64)]) -> Picture {
    ROWS[1].form(0x1000).read(|table, count| {
        let entry = |index| match table {
            0x1000 if index == 511 => value,
            0x2000 => entries.iter().find(|(at, _)| *at == index).map_or(0, |(_, value)| *value),
            _ => 0,
        };
        (0..count).map(entry).collect()
    })
}

#[test]
fn the_abstraction_function_notices_what_is_malformed() {
    let last_gib = GIB.wrapping_neg();
    let block = picture_of(0x00e8_0000_4000_0701, &[]);
    assert_eq!((block.flaws.len(), block.at(last_gib + 5).map(|(pa, _)| pa)), (0, Some(GIB + 5)));
    assert_eq!(block.at(last_gib - 1), None);
    assert_eq!(picture_of(0x00e8_0000_4020_0701, &[]).flaws.len(), 1, "a block out of line");
    let run: Vec<_> = (0..16).map(|index| (16 + index, 0x00f8_0001_0000_0701 + (index << 21))).collect();
    let whole = picture_of(0x2003, &run);
    assert_eq!((whole.flaws.len(), whole.leaves.len(), whole.tables.len()), (0, 16, 2));
    assert_eq!(picture_of(0x2003, &run[..15]).flaws.len(), 15, "a run without its last member");
    let elsewhere: Vec<_> = run.iter().map(|(index, value)| (index + 1, *value)).collect();
    assert!(!picture_of(0x2003, &elsewhere).flaws.is_empty(), "a run out of line");
    assert_eq!(picture_of(0x2003, &[(0, 0x2003)]).flaws.len(), 1, "a table linked twice");
    let words = picture_of(0x2003, &[(1, 0x00e8_0000_5000_0402)]);
    assert_eq!((words.leaves.len(), words.slots.len()), (0, 2), "what is invalid is a slot in use, and no leaf");
}

fn step(operation: Operation) -> Step {
    Step { cpu: 0, operation }
}

/// Ranges are removed in this order.
fn removals(order: &[usize], cpu: u8) -> impl Iterator<Item = Step> {
    let mut left: Vec<_> = (0..order.len()).collect();
    order.iter().map(move |which| {
        let index = left.iter().position(|one| one == which).expect("each once");
        left.remove(index);
        Step { cpu, operation: Operation::Remove(index) }
    })
}

/// Neighbours that share tables, and their removal.
fn in_order(order: [usize; 3], policy: LeafPolicy, arena: Arena) -> Case {
    let stores = [Store::Ram, Store::Tight { reserve: 1 }, Store::Unaligned];
    let add = |(at, store)| {
        let extent = Extent::Units { at, count: 1 };
        step(Operation::Add { arena, extent, store, policy, kind: RangeKind::Device })
    };
    let steps = (0..).zip(stores).map(add).chain(removals(&order, 0)).collect();
    Case { cpus: 2, booting: false, boot_ram: false, ranges: order[0] < order[1], steps }
}

/// Neighbours of every kind that share pages of the vmemmap, around a boundary of two, each added by another CPU than the one before,
/// and all removed by one that has added none.
fn sharing(granule: GranuleSize, order: [usize; 5], policy: LeafPolicy, arena: Arena) -> Case {
    // 2 MiB have 32 frames at 64K.
    let spare = if granule == GranuleSize::K64 { 24 } else { 100 };
    let kinds = [
        (RangeKind::Device, Store::Tight { reserve: 0 }),
        (RangeKind::Private, Store::Ram),
        (RangeKind::Device, Store::Roomy { reserve: 1, spare }),
        (RangeKind::PeerToPeer, Store::Ram),
        (RangeKind::Device, Store::Host(3)),
    ];
    let add = |(at, (kind, store))| {
        let extent = Extent::Steps { boundary: 1, at: AROUND - 3 + at + at / 4, count: 1 + at / 3 };
        Step { cpu: at as u8 % 3, operation: Operation::Add { arena, extent, store, policy, kind } }
    };
    // The last lives in the altmap of the first or of the third: it has to go before it.
    let steps = (0..).zip(kinds).map(add).chain(removals(&order, 3)).collect();
    Case { cpus: 4, booting: false, boot_ram: arena == Arena::Early, ranges: order[0] < order[1], steps }
}

/// L8.
#[test]
fn ranges_go_in_any_order_and_leave_their_neighbours_alone() {
    let counts = Counts::new();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let kinds = [(LeafPolicy::Linux, Arena::Near), (LeafPolicy::Largest, Arena::Far), (LeafPolicy::Pages, Arena::Far)];
    for (number, row) in ROWS.into_iter().enumerate() {
        let (policy, arena) = kinds[number % 3];
        for order in orders {
            let verdicts = play(row, 6, &in_order(order, policy, arena), &counts);
            assert!(verdicts.iter().all(|verdict| verdict.is_change()), "{row:?} {order:?}: {verdicts:?}");
        }
    }
    counts.print("any_order");
}

#[test]
fn neighbours_in_one_page_of_the_vmemmap_go_in_any_order() {
    let counts = Counts::new();
    let orders = [[4, 0, 1, 2, 3], [3, 4, 2, 1, 0], [1, 3, 4, 0, 2], [4, 2, 0, 3, 1]];
    let kinds =
        [(LeafPolicy::Linux, Arena::Near), (LeafPolicy::Largest, Arena::Early), (LeafPolicy::Pages, Arena::Far)];
    for (number, row) in ROWS.into_iter().enumerate() {
        let (policy, arena) = kinds[number % 3];
        for order in orders {
            let verdicts = play(row, 4 + number as u32 % 4, &sharing(row.granule, order, policy, arena), &counts);
            assert!(verdicts.iter().all(|verdict| verdict.is_change()), "{row:?} {order:?}: {verdicts:?}");
        }
    }
    counts.print("sharing");
}

/// The case without what is measured in something else than units: sizes of large leaves, and hot-plug where struct pages
/// are also populated page by page.
fn in_units(mut case: Case) -> Case {
    for step in &mut case.steps {
        if let Operation::Add { arena, extent, .. } = &mut step.operation {
            if matches!(arena, Arena::Bare | Arena::Early) {
                *arena = Arena::Far;
            }
            *extent = match *extent {
                Extent::Units { at, count } | Extent::Steps { at, count, .. } => {
                    Extent::Units { at, count: count.min(2) }
                }
                Extent::Big { at } | Extent::Long { at, .. } => Extent::Units { at, count: 1 },
            };
        }
    }
    case
}

/// L9.
#[test]
fn the_same_sequence_has_the_same_results_at_every_granule() {
    let counts = Counts::new();
    let rows = [ROWS[4], ROWS[10], ROWS[16]];
    let run = runner(12 * common::thorough(), 1000).run(&operation::case(8), |case| {
        let case = in_units(case);
        let [first, second, third] = rows.map(|row| play(row, 6, &case, &counts));
        assert_eq!(first, second, "4K and 16K");
        assert_eq!(first, third, "4K and 64K");
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    counts.print("every_granule");
}

#[test]
fn sequences_keep_every_invariant_at_4k() {
    sequences(GranuleSize::K4, "sequences_4k");
}

#[test]
fn sequences_keep_every_invariant_at_16k() {
    sequences(GranuleSize::K16, "sequences_16k");
}

#[test]
fn sequences_keep_every_invariant_at_64k() {
    sequences(GranuleSize::K64, "sequences_64k");
}

//! Hot-plug on a hostile machine: the input says which geometry, which operations by which CPUs, which allocation of each
//! fails, and what other CPUs do in the middle of it. After each operation every invariant of the property tests is judged.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use vmemmap::hotplug::RangeKind;
use vmemmap::leaf::LeafPolicy;
use vmemmap::sim::World;
use vmemmap::sim::world::Call;
use vmemmap::trace::{Event, Word};

use super::bytes::Bytes;
use super::common::Counts;
use super::common::geometry::{Arena, ROWS, Row};
use super::common::operation::{AROUND, Case, Cut, Extent, Operation, Step, Store};
use super::common::scene::{Verdict, scene};
use super::common::watch::Watch;

/// Longer inputs find nothing that these do not.
const MOST_STEPS: usize = 24;

/// Plays what `input` says.
///
/// # Panics
///
/// If something is wrong.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    play(bytes.choose(&ROWS), bytes);
}

fn play(row: Row, mut bytes: Bytes<'_>) {
    let page_shift = bytes.choose(&[6, 4, 5, 7]);
    let (cpus, flags) = (1 + bytes.below(4) as u8, bytes.byte());
    let (booting, boot_ram, ranges) = (flags & 1 == 1, flags & 0x1e == 0x1e, flags & 0x20 == 0x20);
    let case = Case { cpus, booting, boot_ram, ranges, steps: Vec::new() };
    let mut scene = scene(row, page_shift, &case, &Counts::new());
    let schedule = Arc::new(Schedule::new(scene.watch().clone(), cpus));
    let hook = schedule.clone();
    scene.world().set_hook(Arc::new(move |world, cpu| hook.run(world, cpu)));
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        let step = Step { cpu: bytes.byte() & 3, operation: operation(&mut bytes) };
        // Most of the time nothing fails.
        let budget = bytes.byte().checked_sub(193).map(u64::from);
        schedule.set(&mut bytes);
        scene.world().set_budget(budget);
        let verdict = scene.apply(&step);
        scene.world().set_budget(None);
        if verdict == Verdict::OutOfRam {
            assert!(scene.apply(&step).is_change(), "{step:?} fails for good after an allocation was refused");
        }
    }
    scene.finish();
}

/// What other CPUs do before the calls that one CPU makes.
struct Schedule {
    watch: Arc<Watch>,
    cpus: u8,
    /// How many calls to wait, who, and what; the next is the last.
    turns: Mutex<Vec<(usize, u8, u8)>>,
    waited: AtomicUsize,
}

impl Schedule {
    const fn new(watch: Arc<Watch>, cpus: u8) -> Self {
        Self { watch, cpus, turns: Mutex::new(Vec::new()), waited: AtomicUsize::new(0) }
    }

    /// What is to happen during the next operation.
    fn set(&self, bytes: &mut Bytes<'_>) {
        let count = bytes.byte() & 3;
        let turn = |_| {
            let (who, wait) = (bytes.byte(), bytes.byte());
            (usize::from(wait), who & 3, who >> 2 & 3)
        };
        *self.turns.lock().unwrap_or_else(PoisonError::into_inner) = (0..count).map(turn).collect();
        self.waited.store(0, Relaxed);
    }

    /// The hook.
    fn run(&self, world: &World, running: u8) {
        // What is decided by reads alone must do nothing: so nothing is done between them.
        if world.call(running) == Some(Call::Event) {
            self.take_turn(world, running);
        }
        self.watch.look(world);
    }

    fn take_turn(&self, world: &World, running: u8) {
        let waited = self.waited.fetch_add(1, Relaxed);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, cpu, what)) = turns.pop_if(|(wait, ..)| *wait <= waited) else { return };
        drop(turns);
        self.waited.store(0, Relaxed);
        let cpu = cpu % self.cpus;
        if cpu == running {
            return;
        }
        match what {
            0 | 1 => world.event(Event::Isb { cpu }),
            2 => world.event(Event::Dsb { cpu, option: Word::new("ish") }),
            _ => self.watch.probe_all(world),
        }
    }
}

fn policy(bytes: &mut Bytes<'_>) -> LeafPolicy {
    bytes.choose(&[LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages])
}

fn number(bytes: &mut Bytes<'_>, from: u64, to: u64) -> u64 {
    from + bytes.below((to - from) as usize) as u64
}

fn store(bytes: &mut Bytes<'_>) -> Store {
    match bytes.below(13) {
        0 | 1 => Store::Ram,
        2..=4 => Store::Tight { reserve: number(bytes, 0, 4) },
        5 => Store::Roomy { reserve: number(bytes, 0, 8), spare: number(bytes, 1, 40) },
        6 => Store::Unaligned,
        7 => Store::Short,
        8 => Store::Elsewhere,
        9 => Store::Huge,
        10 => Store::Used,
        _ => Store::Host(bytes.below(8)),
    }
}

fn operation(bytes: &mut Bytes<'_>) -> Operation {
    let flag = |bytes: &mut Bytes<'_>| bytes.byte() & 1 == 1;
    let which = |bytes: &mut Bytes<'_>| bytes.below(8);
    match bytes.below(26) {
        0..=4 | 24.. => add(bytes),
        5 | 6 => Operation::Remove(which(bytes)),
        7 => Operation::AddOver { which: which(bytes), from_before: flag(bytes), to_behind: flag(bytes) },
        8 => Operation::RemoveForeign(which(bytes)),
        9 => Operation::AddMisaligned { start: flag(bytes), by_page: flag(bytes), empty: bytes.below(5) == 0 },
        10 => {
            let (at, count) = (number(bytes, 0, 40), number(bytes, 1, 20));
            let cut = bytes.choose(&[Cut::Whole, Cut::Whole, Cut::Whole, Cut::Ragged, Cut::Claimed, Cut::Outside]);
            Operation::Populate { at, count, store: store(bytes), policy: policy(bytes), cut }
        }
        11 => Operation::Depopulate(which(bytes)),
        12 => {
            let (below, pages, whole) = (number(bytes, 0, 40), number(bytes, 1, 40), bytes.below(8) < 7);
            Operation::Map { below, pages, kind: bytes.below(4), whole, policy: policy(bytes) }
        }
        13 => Operation::Unmap(which(bytes)),
        14 => Operation::Synchronise,
        15 => Operation::Online,
        16 | 17 => Operation::Hold { which: which(bytes), at: bytes.below(3) },
        18 => Operation::LetGo(which(bytes)),
        19 => Operation::Close(which(bytes)),
        20 => Operation::Reopen(which(bytes)),
        21 => Operation::Forget(which(bytes)),
        22 => Operation::AddIntoGone,
        _ => Operation::AddBeyond(which(bytes)),
    }
}

fn add(bytes: &mut Bytes<'_>) -> Operation {
    let arena = bytes.choose(&[Arena::Near, Arena::Near, Arena::Far, Arena::Bare, Arena::Early]);
    let kind = bytes.choose(&[RangeKind::Device, RangeKind::Device, RangeKind::Private, RangeKind::PeerToPeer]);
    let (extent, policy) = match bytes.byte() {
        // Large ranges in pages take thousands of descriptors and show nothing that small ones don't.
        big @ 240.. => (Extent::Big { at: u64::from(big & 1) }, LeafPolicy::Largest),
        long @ 220.. => (Extent::Long { at: u64::from(long % 8), count: number(bytes, 0, 4) }, policy(bytes)),
        160.. => (Extent::Units { at: number(bytes, 0, 8), count: number(bytes, 1, 3) }, policy(bytes)),
        step => {
            let (boundary, at) = (u64::from(step % 3), number(bytes, 0, 2 * AROUND));
            (Extent::Steps { boundary, at, count: number(bytes, 1, 6) }, policy(bytes))
        }
    };
    Operation::Add { arena, extent, store: store(bytes), policy, kind }
}

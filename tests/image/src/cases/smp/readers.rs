//! Readers on all CPUs but one, which adds and removes ranges meanwhile: no reader may ever fault, or see what is not the
//! struct page of its pfn.
//!
//! Readers access memory as a kernel does, not by probes: a fault that is not spurious ends the run.

use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::boot::{BootInfo, refuse};
use kernel::cpu;
use kernel::memory::{self, READERS, RamFrames};
use kernel::println;
use kernel::prove::Books;
use mutants::fault::Fault;
use spin::Mutex;
use vmemmap::addr::{Pfn, VirtAddr};
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Hotplug, View};
use vmemmap::layout::Layout;
use vmemmap::meta::StructPage;
use vmemmap::seam::{Frames, Machine, Quiesce};
use vmemmap::table::Tables;
use vmemmap_aarch64::El1;

use super::on_each;
use super::traffic::{Random, SLOTS, Slot, Traffic, slots};
use crate::mutant;
use crate::world::{World, pointer};

/// Adds, and as many removals, with one reader. With more there are fewer, by the square: each invalidation waits for all
/// CPUs, and each CPU for a turn on the host's.
const ROUNDS: u64 = 10_000;

/// The most turns of a loop that a reader takes between two looks at the same page, and once in so many looks: long enough
/// for a whole removal.
const SHORT: u64 = 200;
const LONG: u64 = 20_000;
const ONE_IN: u64 = 32;

/// The words of a struct page, and what they hold at first but for the flags.
const WORDS: usize = 8;
const COUNTS: (usize, u64) = (6, 0xffff_ffff_0000_0001);
/// The owner's own word: 0, or a mark that says whose struct page it is.
const PRIVATE: usize = 7;

/// What a reader has come across.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Pfns that were valid in a read section, and that were not.
    valid: u64,
    invalid: u64,
    /// References that were given, and that were not.
    held: u64,
    refused: u64,
}

/// What all readers know.
struct Scene<'a, G> {
    view: View<El1<G>>,
    layout: &'a Layout,
    slots: &'a [Slot; SLOTS],
}

/// A word that no other pfn's page holds.
const fn mark(pfn: Pfn) -> u64 {
    pfn.number() << 8 | 0xa5
}

fn word(address: VirtAddr) -> &'static AtomicU64 {
    // SAFETY: a word of a struct page, or of the page that it stands for, and aligned. It may be gone: then the access faults,
    // which is what the case is about.
    unsafe { AtomicU64::from_ptr(pointer(address)) }
}

impl<G: Granule> Scene<'_, G> {
    /// Picks a page of any slot, and looks at it in one of two ways.
    fn look(&self, cpu: usize, random: &mut Random, seen: &mut Seen) {
        let slot = self.slots[random.below(SLOTS as u64) as usize];
        let first = Pfn::containing(slot.range.start(), G::SIZE.shift());
        let pfn = first.add(random.below(slot.range.bytes() >> G::SIZE.shift()));
        let most = if random.below(ONE_IN) == 0 { LONG } else { SHORT };
        let pause = random.below(most);
        if random.below(2) == 0 {
            self.read(cpu, slot, pfn, pause, seen);
        } else {
            self.hold(slot, pfn, pause, seen);
        }
    }

    /// In a read section.
    fn read(&self, cpu: usize, slot: Slot, pfn: Pfn, pause: u64, seen: &mut Seen) {
        let section = READERS.enter(cpu);
        if self.view.is_valid(pfn) {
            self.check(slot, pfn);
            wait(pause);
            self.check(slot, pfn);
            seen.valid += 1;
        } else {
            seen.invalid += 1;
        }
        drop(section);
    }

    /// With a reference: then the page may be marked.
    fn hold(&self, slot: Slot, pfn: Pfn, pause: u64, seen: &mut Seen) {
        let Some(reference) = self.view.reference(pfn) else {
            seen.refused += 1;
            return;
        };
        assert_eq!(reference.range(), slot.range, "the reference is to another range");
        self.check(slot, pfn);
        let own = word(self.layout.page(pfn).add(PRIVATE as u64 * 8));
        own.store(mark(pfn), Ordering::Relaxed);
        let memory = self.memory(slot, pfn);
        if let Some(memory) = memory {
            memory.store(mark(pfn), Ordering::Relaxed);
        }
        wait(pause);
        assert_eq!(own.load(Ordering::Relaxed), mark(pfn), "wrong page: the mark in the vmemmap is gone");
        let read = memory.map(|memory| memory.load(Ordering::Relaxed));
        assert!(read.is_none_or(|read| read == mark(pfn)), "wrong page: the linear map shows {read:x?}");
        seen.held += 1;
    }

    /// A word of the page itself, by the linear map, unless it is set aside for struct pages. Only near the ends of the range:
    /// the host must find memory for what is touched.
    fn memory(&self, slot: Slot, pfn: Pfn) -> Option<&'static AtomicU64> {
        const NEAR: u64 = 64;
        let address = pfn.address(G::SIZE.shift());
        let from_ends = [address.since(slot.range.start()), slot.range.end().since(address) - 1];
        let is_near = from_ends.iter().any(|bytes| bytes >> G::SIZE.shift() < NEAR);
        (is_near && pfn >= slot.aside_end).then(|| word(self.layout.linear_address(address)))
    }

    /// The struct page is initialised, and that of `pfn`; so is the page that it stands for.
    fn check(&self, slot: Slot, pfn: Pfn) {
        let page = self.layout.page(pfn);
        let is = core::array::from_fn::<_, WORDS, _>(|index| word(page.add(index as u64 * 8)).load(Ordering::Relaxed));
        let mut expected = [0; WORDS];
        expected[0] = StructPage::DEVICE | if pfn < slot.aside_end { StructPage::RESERVED } else { 0 };
        expected[COUNTS.0] = COUNTS.1;
        if is[PRIVATE] == mark(pfn) {
            expected[PRIVATE] = mark(pfn);
        }
        assert_eq!(is, expected, "wrong page in the vmemmap at {page}, for {pfn:?} of {slot:x?}");
        let read = self.memory(slot, pfn).map_or(0, |memory| memory.load(Ordering::Relaxed));
        assert!(read == 0 || read == mark(pfn), "wrong page: the linear map of {pfn:?} shows {read:#x}");
    }
}

fn wait(turns: u64) {
    (0..turns).for_each(|_| hint::spin_loop());
}

/// Adds and removes on CPU 0 while the others read.
fn run<M, F>(boot: &BootInfo, traffic: Traffic<M, F>)
where
    M: Machine<Granule: Send + Sync> + Send,
    F: Frames + Quiesce + Send,
{
    let (layout, slots) = (*traffic.map.layout(), traffic.slots);
    // SAFETY: all of RAM is where this machine looks for it, as it is to the memory map's.
    let view = unsafe { traffic.map.view(memory::machine::<M::Granule>(boot)) };
    let scene = Scene { view, layout: &layout, slots: &slots };
    let (traffic, done) = (Mutex::new(traffic), AtomicBool::new(false));
    on_each(|cpu| {
        if cpu == 0 {
            let readers = cpu::count() as u64 - 1;
            traffic.lock().run(ROUNDS / readers.pow(2));
            done.store(true, Ordering::Relaxed);
            return;
        }
        let (mut random, mut seen) = (Random::new(cpu as u64), Seen::default());
        while !done.load(Ordering::Relaxed) {
            scene.look(cpu, &mut random, &mut seen);
        }
        println!("CPU {cpu}: {seen:?}");
        let Seen { valid, invalid, held, refused } = seen;
        assert!([valid, invalid, held, refused].iter().all(|&count| count > 0), "CPU {cpu} saw one side only");
    });
}

pub fn no_wrong_page<M: Machine<Granule: Send + Sync> + Send>(world: &mut World<M>) {
    let slots = slots(world);
    Traffic::new(&mut world.map, &slots, world.boot.config.leaf).rehearse();
    let before = Books::of(&world.map);
    let traffic = Traffic::new(&mut world.map, &slots, world.boot.config.leaf);
    run(world.boot, traffic);
    assert_eq!(Books::of(&world.map), before);
}

/// The same where removals don't wait for readers.
pub fn no_wait_for_readers<G: Granule + Send + Sync>(world: &World<El1<G>>) {
    let boot = world.boot;
    let frames = mutant::frames(RamFrames::current(), Fault::NoGracePeriod);
    // SAFETY: the root is boot's, and the memory map that `world` has on it is not used any more.
    let tables = unsafe { Tables::adopt(memory::machine::<G>(boot), boot.root, boot.regime) };
    let map = Hotplug::<_, _, StructPage>::new(tables, frames, boot.layout, boot.pa_bits());
    let mut map = map.unwrap_or_else(|error| refuse(error));
    run(boot, Traffic::new(&mut map, &slots(world), boot.config.leaf));
}

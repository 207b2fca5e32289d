//! Struct pages that real threads initialise, in memory that Miri watches.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::{Chunks, Memmap, Work};
use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::granule::{Granule, GranuleSize, K4, K16, K64};
use crate::layout::Layout;
use crate::leaf::LeafPolicy;
use crate::meta::{Meta, Role, Roles, struct_page_shift};
use crate::seam::{Dsb, Machine, Memory, Mmu};
use crate::testing::thinned;
use crate::tlbi::Tlbi;

/// A struct page of `WORDS` 8-byte words that knows whose it is.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Page<const WORDS: usize>([u64; WORDS]);

// SAFETY: an array of words has no padding; the sizes below are powers of two.
unsafe impl<const WORDS: usize> Meta for Page<WORDS> {
    fn new(pfn: Pfn, role: Role) -> Self {
        Self([(pfn.number() << 8) | (role as u64 + 1); WORDS])
    }
}

/// A vmemmap as bytes, and nothing else.
struct Array {
    range: VirtRange,
    bytes: Vec<UnsafeCell<u64>>,
    /// What was accessed, in the order in which it ended.
    accessed: Mutex<Vec<(u64, u64)>>,
}

// SAFETY: nobody reads bytes while they are written. That no two write the same is what Miri is to see.
unsafe impl Sync for Array {}

impl Array {
    fn of(memmap: &Memmap) -> Self {
        let range = memmap.range();
        let bytes = (0..range.bytes() / 8).map(|_| UnsafeCell::new(0)).collect();
        Self { range, bytes, accessed: Mutex::default() }
    }

    /// The words, and what was accessed, in ascending order.
    fn into_parts(self) -> (Vec<u64>, Vec<(u64, u64)>) {
        let mut accessed = self.accessed.into_inner().unwrap();
        accessed.sort_unstable();
        (self.bytes.into_iter().map(UnsafeCell::into_inner).collect(), accessed)
    }
}

/// A CPU that sees it, once it has synchronised its context.
struct Cpu<'a, G> {
    array: &'a Array,
    synchronised: bool,
    /// How many more accesses go well.
    budget: u64,
    granule: PhantomData<G>,
}

impl<'a, G> Cpu<'a, G> {
    fn new(array: &'a Array) -> Self {
        Self { array, synchronised: false, budget: u64::MAX, granule: PhantomData }
    }
}

// SAFETY: `access` gives bytes of the array that nobody else is given; there is nothing else.
unsafe impl<G: Granule> Memory for Cpu<'_, G> {
    fn read(&self, slot: PhysAddr) -> u64 {
        panic!("{slot} is read: there are no tables")
    }

    fn write(&mut self, slot: PhysAddr, _descriptor: u64) {
        panic!("{slot} is written: there are no tables")
    }

    fn zero_table(&mut self, table: PhysAddr, _bytes: u64) {
        panic!("{table} is zeroed: there are no tables")
    }

    fn load(&self, word: PhysAddr) -> u64 {
        panic!("{word} is read: there are no records")
    }

    fn store(&mut self, word: PhysAddr, _value: u64) {
        panic!("{word} is written: there are no records")
    }

    unsafe fn exchange(&self, word: PhysAddr, _old: u64, _new: u64) -> Result<u64, u64> {
        panic!("{word} is exchanged: there are no records")
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        assert!(self.synchronised, "{range} is written on a CPU that may not see it yet");
        self.budget = self.budget.checked_sub(1).expect("this CPU gives up here");
        let first = range.start().since(self.array.range.start()) as usize / 8;
        let words = &self.array.bytes[first..][..range.bytes() as usize / 8];
        let start = UnsafeCell::raw_get(words.as_ptr()).cast();
        // SAFETY: bytes of the array, of which nobody has a reference unless a chunk is handed out twice.
        write(unsafe { core::slice::from_raw_parts_mut(start, range.bytes() as usize) });
        self.array.accessed.lock().unwrap().push((range.start().value(), range.bytes()));
    }
}

// SAFETY: there are no tables, and no TLBs.
unsafe impl<G: Granule> Mmu for Cpu<'_, G> {
    fn dsb(&mut self, kind: Dsb) {
        panic!("{kind:?}: struct pages need none")
    }

    fn isb(&mut self) {
        self.synchronised = true;
    }

    fn tlbi(&mut self, operation: Tlbi) {
        panic!("{operation:?}: struct pages need none")
    }
}

impl<G: Granule> Machine for Cpu<'_, G> {
    type Granule = G;
}

const CHUNK: u64 = 2 << 20;
const POLICIES: [LeafPolicy; 3] = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages];

/// The memmap whose struct pages start `before` bytes below the second chunk and end `behind` bytes above its start, and its
/// roles: a few pfns of each.
fn memmap<const WORDS: usize>(granule: GranuleSize, policy: LeafPolicy, before: u64, behind: u64) -> (Memmap, Roles) {
    let shift = struct_page_shift::<Page<WORDS>>();
    let window = VirtRange::new(VirtAddr::new(0xffff_c000_0000_0000), 1 << 43);
    let linear = VirtRange::new(VirtAddr::new(0xffff_0000_0000_0000), 1 << 46);
    let layout = Layout::new(granule, linear, window, 0, shift);
    let bytes = |struct_pages: u64| struct_pages >> shift << granule.shift();
    let start = PhysAddr::new(bytes(CHUNK - before));
    let first = Pfn::containing(start, granule.shift());
    let range = PhysRange::new(start, bytes(before + behind)).unwrap();
    let roles = Roles { reserve_end: first.add(3), altmap_end: first.add(40), rest: Role::Device };
    (Memmap::new(&layout, range, policy), roles)
}

fn alone<G: Granule, P: Meta>(memmap: &Memmap, roles: &Roles) -> (Vec<u64>, Vec<(u64, u64)>) {
    let array = Array::of(memmap);
    let mut cpu = Cpu::<G>::new(&array);
    cpu.isb();
    memmap.initialise::<_, P>(&mut cpu, roles);
    array.into_parts()
}

/// So many helpers at once, each on a thread of its own, then the CPU of the plan; how many struct pages helpers did.
fn shared<G: Granule, P: Meta>(array: &Array, work: Work<P>, helpers: usize) -> u64 {
    let done = std::thread::scope(|scope| {
        // SAFETY: the thread's own machine, which reaches the array.
        let help = || unsafe { work.help(&mut Cpu::<G>::new(array)) };
        let threads: Vec<_> = (0..helpers).map(|_| scope.spawn(help)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let mut cpu = Cpu::<G>::new(array);
    cpu.isb();
    work.finish(&mut cpu);
    done
}

fn check<G: Granule, const WORDS: usize>(policy: LeafPolicy, before: u64, behind: u64) {
    let (memmap, roles) = memmap::<WORDS>(G::SIZE, policy, before, behind);
    let expected = alone::<G, Page<WORDS>>(&memmap, &roles);
    for helpers in 0..=3 {
        let name = format!("{} {policy:?} {WORDS} words -{before:#x} +{behind:#x}, {helpers} helpers", G::SIZE);
        let array = Array::of(&memmap);
        let done = shared::<G, _>(&array, Work::<Page<WORDS>>::new(memmap, roles), helpers);
        let all = (before + behind) / (WORDS as u64 * 8);
        assert_eq!(done, if helpers == 0 { 0 } else { all }, "{name}");
        let (words, accessed) = array.into_parts();
        assert!(words == expected.0, "{name}: other bytes");
        assert_eq!(accessed, expected.1, "{name}: each descriptor once, as one CPU does");
    }
}

/// Struct pages from so many bytes below the boundary between two chunks to so many above: within a page, at a page's and a
/// run's bounds, whole chunks and one struct page more.
fn bounds(granule: GranuleSize, least: u64) -> impl Iterator<Item = (u64, u64)> {
    let page = granule.bytes();
    let some = [0, least, page - least, page, page + least, 3 * page, CHUNK - page, CHUNK - least, CHUNK];
    some.into_iter().flat_map(move |before| some.into_iter().map(move |behind| (before, behind)))
}

#[test]
fn threads_write_each_struct_page_once_and_as_one_cpu_does() {
    fn sizes<G: Granule>() {
        for (before, behind) in thinned(bounds(G::SIZE, 128)).filter(|_| !cfg!(miri)) {
            let policy = POLICIES[(before + behind / 3) as usize % 3];
            check::<G, 2>(policy, before, behind);
            check::<G, 4>(policy, before, behind);
            check::<G, 8>(policy, before, behind);
            check::<G, 16>(policy, before, behind);
        }
        // Small enough for Miri: two chunks.
        for policy in POLICIES {
            check::<G, 8>(policy, 4096, 64);
        }
    }
    sizes::<K4>();
    sizes::<K16>();
    sizes::<K64>();
}

/// The leaves as they are written, and in which chunk.
#[test]
fn chunks_cut_no_leaf_and_leave_none_out() {
    for granule in GranuleSize::ALL {
        let cases = POLICIES.into_iter().flat_map(|policy| bounds(granule, 64).map(move |bounds| (policy, bounds)));
        for (policy, (before, behind)) in thinned(cases) {
            let (memmap, _) = memmap::<8>(granule, policy, before, behind);
            let leaves = |memmap: Memmap| -> Vec<_> {
                let each = |s: crate::leaf::Stretch| {
                    (0..s.count).map(move |index| (s.va.add(index * s.leaf.bytes(granule)), s.leaf))
                };
                memmap.all_stretches().flat_map(each).collect()
            };
            assert_eq!(memmap.part(64, 0).chunks(), 0, "wherever it is");
            let chunks: Vec<_> = (0..memmap.chunks()).map(|index| memmap.chunk(index)).collect();
            let cut: Vec<_> = chunks.iter().copied().flat_map(leaves).collect();
            assert_eq!(cut, leaves(memmap), "{granule} {policy:?} {before:#x} {behind:#x}");
            assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.range().bytes() <= CHUNK));
        }
    }
}

#[test]
fn a_helper_that_comes_too_late_finds_nothing() {
    let (memmap, roles) = memmap::<8>(GranuleSize::K64, LeafPolicy::Largest, 64, 64);
    let array = Array::of(&memmap);
    let work = Work::<Page<8>>::new(memmap, roles);
    assert_eq!(work.chunks(), 2);
    // SAFETY: a machine that reaches the array.
    let helped = [(); 2].map(|()| unsafe { work.help(&mut Cpu::<K64>::new(&array)) });
    assert_eq!(helped, [2, 0]);
    assert_eq!(array.into_parts().1.len(), 2, "two edges, each once");
}

/// Somebody catches what a helper panics with: its chunk is taken and not done.
#[test]
fn a_helper_that_unwinds_leaves_no_struct_page_out() {
    let (memmap, roles) = memmap::<8>(GranuleSize::K4, LeafPolicy::Pages, 3 * 4096, 2 * 4096);
    let expected = alone::<K4, Page<8>>(&memmap, &roles);
    for budget in 0..5 {
        let array = Array::of(&memmap);
        let work = Work::<Page<8>>::new(memmap, roles);
        let mut helper = Cpu::<K4> { budget, ..Cpu::new(&array) };
        // SAFETY: a machine that reaches the array.
        let unwound = catch_unwind(AssertUnwindSafe(|| unsafe { work.help(&mut helper) }));
        assert!(unwound.is_err(), "{budget}");
        let mut cpu = Cpu::<K4>::new(&array);
        cpu.isb();
        work.finish(&mut cpu);
        assert!(array.into_parts().0 == expected.0, "a helper gave up after {budget} pages");
    }
}

#[test]
fn chunks_are_all_done_when_the_slowest_is() {
    let chunks = Chunks::new(9);
    assert_eq!(chunks.take(), Some(0));
    (1..9).for_each(|index| {
        assert_eq!(chunks.take(), Some(index));
        chunks.done();
    });
    assert_eq!((chunks.take(), chunks.all_done()), (None, false));
    chunks.done();
    assert!(chunks.all_done());
}

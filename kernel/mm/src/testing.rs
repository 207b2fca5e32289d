//! A machine for unit tests: memory without a TLB, with every event kept in order. It proves books and tables; the
//! proof of barriers and invalidations is another machine's.

pub mod tally;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use core::cell::RefCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::addr::{PhysAddr, PhysRange, VirtRange};
use crate::granule::Granule;
use crate::hotplug::{Hotplug, Request};
use crate::layout::Layout;
use crate::leaf::LeafPolicy;
use crate::meta::StructPage;
use crate::observe::Event;
use crate::regime::Regime;
use crate::seam::{Dsb, Frames, Machine, Memory, Mmu, Quiesce};
use crate::table::Tables;
use crate::tlbi::Tlbi;
use crate::walk::Walk;

pub const GIB: u64 = 1 << 30;
pub const MIB: u64 = 1 << 20;
pub const ROOT: PhysAddr = PhysAddr::new(0x4000_0000);
/// The first frame of [`Ram`].
pub const FIRST_FRAME: u64 = 0x5000_0000;
pub const DEVICE: PhysAddr = PhysAddr::new(0x1_0000_0000);

/// What happened, on the machine and at the allocator, in one order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Machine(Event),
    /// An ordinary word was stored.
    Store(PhysAddr, u64),
    Give(PhysAddr),
    /// Readers were waited for.
    Quiesce,
}

std::thread_local! {
    /// Of this test: each runs in a thread of its own.
    static LOG: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

fn log(seen: Seen) {
    LOG.with_borrow_mut(|log| log.push(seen));
}

/// The log since the last call.
pub fn take_log() -> Vec<Seen> {
    LOG.take()
}

/// A hash of addresses: whole tables are read word by word, and nobody chooses them to collide.
#[derive(Clone, Copy, Default, Debug)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte) << 3);
        }
    }

    fn write_u64(&mut self, address: u64) {
        self.0 = (address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// Physical memory of 8-byte words, zero where never written.
#[derive(Clone, Debug)]
pub struct Plain<G> {
    pub words: RefCell<HashMap<u64, u64, BuildHasherDefault<Spread>>>,
    /// What `access` wrote last at each physical address, by the first address of each piece: struct pages. Tests read
    /// them here; a `load` of one panics, since the core decides nothing by what stands in a struct page.
    pub written: BTreeMap<u64, Vec<u8>>,
    /// Whether it has invalidations by range.
    pub has_ranges: bool,
    regime: Regime,
    granule: PhantomData<G>,
}

impl<G: Granule> Plain<G> {
    /// The non-zero words: two machines with the same are the same.
    pub fn image(&self) -> BTreeMap<u64, u64> {
        self.words.borrow().iter().filter(|(_, word)| **word != 0).map(|(at, word)| (*at, *word)).collect()
    }
}

impl<G: Granule> Plain<G> {
    fn set(&self, word: PhysAddr, value: u64) {
        self.words.borrow_mut().insert(word.value(), value);
    }

    /// The same memory after one more event.
    pub fn replay(&mut self, seen: &Seen) {
        match *seen {
            Seen::Machine(Event::Write { slot, descriptor, .. }) => self.set(slot, descriptor),
            Seen::Machine(Event::Zero { table, bytes }) => {
                (0..bytes).step_by(8).for_each(|offset| self.set(table.add(offset), 0));
            }
            Seen::Store(word, value) => self.set(word, value),
            _ => {}
        }
    }

    /// Keeps what `access` wrote, in place of what stood there.
    fn keep(&mut self, start: u64, bytes: Vec<u8>) {
        self.forget(start, start + bytes.len() as u64);
        self.written.insert(start, bytes);
    }

    /// There are no struct pages from `start` to `end` any more.
    fn forget(&mut self, start: u64, end: u64) {
        let before = self.written.range(..start).next_back().filter(|(at, old)| *at + old.len() as u64 > start);
        let met: Vec<_> = before.into_iter().chain(self.written.range(start..end)).map(|(at, _)| *at).collect();
        for at in met {
            let old = self.written.remove(&at).unwrap();
            let part = |from: u64, to: u64| old[(from - at) as usize..(to - at) as usize].to_vec();
            if at < start {
                self.written.insert(at, part(at, start));
            }
            if at + old.len() as u64 > end {
                self.written.insert(end, part(end, at + old.len() as u64));
            }
        }
    }

    /// Whether `access` has written at `word`.
    fn holds_struct_pages(&self, word: PhysAddr) -> bool {
        let piece = self.written.range(..=word.value()).next_back();
        piece.is_some_and(|(at, bytes)| word.value() - at < bytes.len() as u64)
    }

    /// Whether the whole page at `table` is zero.
    pub fn is_zero(&self, table: PhysAddr) -> bool {
        (0..G::SIZE.entries()).all(|index| self.load(table.add(index * 8)) == 0)
    }
}

// SAFETY: plain memory.
unsafe impl<G: Granule> Memory for Plain<G> {
    fn read(&self, slot: PhysAddr) -> u64 {
        self.load(slot)
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        let old = self.load(slot);
        log(Seen::Machine(Event::Write { slot, old, descriptor }));
        self.set(slot, descriptor);
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        log(Seen::Machine(Event::Zero { table, bytes }));
        self.forget(table.value(), table.value() + bytes);
        (0..bytes).step_by(8).for_each(|offset| self.set(table.add(offset), 0));
    }

    fn load(&self, word: PhysAddr) -> u64 {
        assert!(!self.holds_struct_pages(word), "{word} is in a struct page: no operation looks at one");
        // What nobody has written in the RAM that is handed out is anything but zero.
        let untouched = if word.value() < FIRST_FRAME { 0 } else { 0xdead_beef_dead_beef };
        self.words.borrow().get(&word.value()).copied().unwrap_or(untouched)
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        log(Seen::Store(word, value));
        if self.holds_struct_pages(word) {
            // Its page has been given back, and is now something else.
            let page = word.align_down(G::SIZE.bytes()).value();
            self.forget(page, page + G::SIZE.bytes());
        }
        self.set(word, value);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        let held = self.load(word);
        if held != old {
            return Err(held);
        }
        log(Seen::Store(word, new));
        self.set(word, new);
        Ok(held)
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        log(Seen::Machine(Event::Access(range)));
        let (_, frame) = Walk::new(self.regime, ROOT, range.start(), |slot| self.load(slot))
            .translation()
            .expect("struct pages are mapped when they are initialised");
        let mut bytes = vec![0xa5_u8; range.bytes() as usize + 64];
        let skip = bytes.as_ptr().align_offset(64);
        let memory: &mut [u8] = &mut bytes[skip..skip + range.bytes() as usize];
        // SAFETY: initialised bytes may be seen as maybe uninitialised ones; what is written are whole struct pages.
        write(unsafe { &mut *(core::ptr::from_mut(memory) as *mut [MaybeUninit<u8>]) });
        let written = memory.to_vec();
        self.keep(frame.value(), written);
    }
}

// SAFETY: there is nothing to synchronise.
unsafe impl<G: Granule> Mmu for Plain<G> {
    fn dsb(&mut self, kind: Dsb) {
        log(Seen::Machine(Event::Dsb(kind)));
    }

    fn isb(&mut self) {
        log(Seen::Machine(Event::Isb));
    }

    fn tlbi(&mut self, operation: Tlbi) {
        assert!(self.has_ranges || !operation.is_by_range(), "{operation:?} is undefined without FEAT_TLBIRANGE");
        log(Seen::Machine(Event::Tlbi(operation)));
    }

    fn has_range_invalidations(&self) -> bool {
        self.has_ranges
    }
}

impl<G: Granule> Machine for Plain<G> {
    type Granule = G;
}

/// RAM that knows what it has handed out, and can run dry after `budget` frames.
#[derive(Clone, Debug)]
pub struct Ram {
    next: u64,
    free: BTreeMap<u64, BTreeSet<u64>>,
    pub out: BTreeMap<u64, u64>,
    pub budget: u64,
}

impl Ram {
    /// The same elsewhere: for a second memory map, whose frames are not the first one's.
    pub fn elsewhere() -> Self {
        Self { next: FIRST_FRAME + 256 * MIB, ..Self::default() }
    }
}

impl Default for Ram {
    fn default() -> Self {
        Self { next: FIRST_FRAME, free: BTreeMap::new(), out: BTreeMap::new(), budget: u64::MAX }
    }
}

// SAFETY: addresses grow or come from the free list of their size; `out` refuses doubles.
unsafe impl Frames for Ram {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        self.budget = self.budget.checked_sub(1)?;
        let frame = self.free.get_mut(&bytes).and_then(BTreeSet::pop_first).unwrap_or_else(|| {
            let frame = self.next.next_multiple_of(bytes);
            self.next = frame + bytes;
            frame
        });
        assert_eq!(self.out.insert(frame, bytes), None);
        Some(PhysAddr::new(frame))
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        assert_eq!(self.out.remove(&frame.value()), Some(bytes), "{frame} was not taken with {bytes} bytes");
        log(Seen::Give(frame));
        self.free.entry(bytes).or_default().insert(frame.value());
    }
}

// SAFETY: a test reads between operations only.
unsafe impl Quiesce for Ram {
    fn wait_for_readers(&mut self) {
        log(Seen::Quiesce);
    }
}

pub type Map<G> = Hotplug<Plain<G>, Ram, StructPage>;

/// Tables with an empty root.
pub fn tables<G: Granule>(va_bits: u32) -> Tables<Plain<G>> {
    let regime = Regime::of_size(G::SIZE, va_bits).unwrap();
    let (words, written) = (RefCell::default(), BTreeMap::new());
    let machine = Plain { words, written, has_ranges: false, regime, granule: PhantomData };
    // SAFETY: nobody else has the root.
    unsafe { Tables::adopt(machine, ROOT, regime) }
}

/// A memory map as Linux's on a machine with 256 MiB of RAM at 1 GiB.
pub fn memory_map<G: Granule>(va_bits: u32) -> Map<G> {
    let layout = Layout::linux(G::SIZE, va_bits, GIB);
    let mut map = Hotplug::new(tables(va_bits), Ram::default(), layout, 48).unwrap();
    map.add_boot_ram(range(PhysAddr::new(GIB), 256 * MIB), LeafPolicy::Linux).unwrap();
    take_log();
    map
}

/// All of a dimension's cases; under Miri, which is slow and looks for something else, one in 61.
pub fn thinned<T>(cases: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    cases.step_by(if cfg!(miri) { 61 } else { 1 })
}

pub fn range(start: PhysAddr, bytes: u64) -> PhysRange {
    PhysRange::new(start, bytes).unwrap()
}

/// A request for memory of the model, all of which is the test's.
pub fn ask(range: PhysRange) -> Request {
    // SAFETY: nobody else uses the model's memory.
    unsafe { Request::new(range) }
}

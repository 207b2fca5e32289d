//! `vmemmap`: a machine over the arena, and the linear map's two calls.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::{GranuleSize, K4};
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, Mapping};
use vmemmap::regime::Regime;
use vmemmap::seam::{Dsb, Frames, Machine, Memory, Mmu};
use vmemmap::table::{Protection, Tables};
use vmemmap::tlbi::Tlbi;
use vmemmap::vmemmap::{EARLY_PROTECTION, PROTECTION};

use crate::arena::{Arena, PAGE};
use crate::case::{Leaves, Peer, Refused, Standing, Window};

/// Physical memory at an offset; there is no MMU behind it.
struct Host {
    offset: u64,
}

impl Host {
    #[inline]
    fn word(&self, at: PhysAddr) -> &AtomicU64 {
        // SAFETY: this program's tables, all in the arena, which outlives them; words are only reached as atomics.
        unsafe { AtomicU64::from_ptr(at.value().wrapping_add(self.offset) as *mut u64) }
    }
}

// SAFETY: single 64-bit accesses of plain memory, nothing between them and no CPU that walks it.
unsafe impl Memory for Host {
    #[inline]
    fn read(&self, slot: PhysAddr) -> u64 {
        self.word(slot).load(Ordering::Relaxed)
    }

    #[inline]
    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        self.word(slot).store(descriptor, Ordering::Relaxed);
    }

    #[inline]
    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        // SAFETY: a frame of the arena that nobody else has yet.
        unsafe { (table.value().wrapping_add(self.offset) as *mut u8).write_bytes(0, bytes as usize) };
    }

    #[inline]
    fn load(&self, word: PhysAddr) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&mut self, word: PhysAddr, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        self.word(word).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn access(&mut self, range: VirtRange, _: impl FnOnce(&mut [MaybeUninit<u8>])) {
        unreachable!("no struct pages here, at {range}");
    }
}

// SAFETY: no CPU translates by these tables: there is nothing to order or to forget.
unsafe impl Mmu for Host {
    #[inline]
    fn dsb(&mut self, _: Dsb) {}

    #[inline]
    fn isb(&mut self) {}

    #[inline]
    fn tlbi(&mut self, _: Tlbi) {}
}

impl Machine for Host {
    type Granule = K4;
}

/// The arena as `vmemmap` asks for frames.
struct Ram(Rc<RefCell<Arena>>);

// SAFETY: the arena hands a frame out once, aligned to its size.
unsafe impl Frames for Ram {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        assert_eq!(bytes, PAGE, "only tables are asked for");
        self.0.borrow_mut().take().map(PhysAddr::new)
    }

    fn give(&mut self, frame: PhysAddr, _: u64) {
        self.0.borrow_mut().give(frame.value());
    }
}

/// Tables of `vmemmap`.
pub struct Ours {
    tables: Tables<Host>,
    frames: Ram,
    policy: LeafPolicy,
    protection: Protection,
}

impl Ours {
    /// Empty tables. Those that stand are tables of boot, which `vmemmap` uses and never frees.
    pub fn new(arena: Rc<RefCell<Arena>>, leaves: Leaves, standing: Standing) -> Self {
        let root = arena.borrow_mut().take().expect("room for the root");
        let machine = Host { offset: arena.borrow().offset() };
        // SAFETY: a table of zeros that is nobody else's.
        let tables = unsafe { Tables::adopt(machine, PhysAddr::new(root), of_4k()) };
        let policy = match leaves {
            Leaves::Pages => LeafPolicy::Pages,
            Leaves::Largest => LeafPolicy::Largest,
        };
        let protection = match standing {
            Standing::None => PROTECTION,
            Standing::All => EARLY_PROTECTION,
        };
        Self { tables, frames: Ram(arena), policy, protection }
    }

    fn mapping(&self, window: Window) -> Mapping {
        let va = VirtRange::new(VirtAddr::new(window.va), window.bytes);
        Mapping::new(of_4k(), va, PhysAddr::new(window.pa), self.policy, self.protection)
    }
}

impl Peer for Ours {
    fn map(&mut self, window: Window) -> Result<(), Refused> {
        let mapping = self.mapping(window);
        mapping::map(&mut self.tables, &mut self.frames, &mapping).map(|_| ()).map_err(|_| Refused)
    }

    fn unmap(&mut self, window: Window) {
        let mapping = self.mapping(window);
        // SAFETY: mapped by `map`, and nobody uses it.
        unsafe { mapping::unmap(&mut self.tables, &mut self.frames, &mapping) }.expect("it is whole");
    }

    fn frame_of(&self, va: u64) -> Option<u64> {
        self.tables.walk(VirtAddr::new(va)).translation().map(|(_, frame)| frame.value())
    }
}

/// 4K pages, 48 bits, as all three have.
pub fn of_4k() -> Regime {
    Regime::new(GranuleSize::K4, 48, OutputFormat::Bits48).expect("it exists")
}

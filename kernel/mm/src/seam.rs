//! The seam: all that this crate asks of the machine below it and of the kernel around it.
//!
//! [`Memory`] and [`Mmu`] are a machine's two halves; an adopter takes them from `vmemmap-aarch64` and writes none.
//! [`Frames`] is the adopter's frame allocator, [`Quiesce`] its way to wait for readers of the memory map.
//! Nothing else in this crate touches a table, a struct page or a TLB.

use core::mem::MaybeUninit;

use crate::addr::{PhysAddr, PhysRange, VirtRange};
use crate::granule::Granule;
use crate::regime::Registers;
use crate::tlbi::Tlbi;

/// Physical memory as the tables' owner reaches it, and virtual memory as the tables map it.
///
/// # Safety
///
/// An implementation must
/// - make [`read`](Memory::read) return what [`write`](Memory::write) or [`zero_table`](Memory::zero_table) last stored
///   in that slot, and nothing else change a slot;
/// - store descriptors as single 64-bit accesses, never torn or elided, and none after a [`Mmu`] call that follows it in
///   program order: a table walk may read the slot at any time;
/// - make [`exchange`](Memory::exchange) one step: no other access to the word comes between its look and its store;
/// - give [`access`](Memory::access) the bytes that the tables map at that range, of which nobody makes other references:
///   the pfns are not valid, or nobody owns them (holes of early sections).
pub unsafe trait Memory {
    /// Reads the descriptor in the 8-byte slot at `slot`.
    fn read(&self, slot: PhysAddr) -> u64;

    /// Writes the descriptor in the 8-byte slot at `slot`.
    fn write(&mut self, slot: PhysAddr, descriptor: u64);

    /// Fills a table that nothing points to yet with empty descriptors: `bytes` bytes at `table`.
    fn zero_table(&mut self, table: PhysAddr, bytes: u64);

    /// Reads an ordinary word of RAM with acquire ordering: a section record, or a link between free frames.
    fn load(&self, word: PhysAddr) -> u64;

    /// Writes an ordinary word of RAM with release ordering.
    fn store(&mut self, word: PhysAddr, value: u64);

    /// Writes `new` to an ordinary word of RAM if it holds `old`, in one step; what it held. Acquire and release ordering if it
    /// did, acquire if it did not. Readers of the memory map count their references with it, hence `&self`: any number of CPUs may
    /// exchange the same word.
    ///
    /// # Errors
    ///
    /// What the word holds, where that is not `old`: never where it is.
    ///
    /// # Safety
    ///
    /// The word must be the caller's to change: no descriptor, and nobody's by an exclusive reference.
    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64>;

    /// Lets `write` fill the memory that is mapped at `range`: one call a descriptor, so that the target runs its fill loop and
    /// a model can write to the frame which the tables name now.
    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>]));
}

/// Barriers of data kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dsb {
    /// `DSB ISHST`: stores before it are visible to every table walk in the inner shareable domain.
    InnerShareableStores,
    /// `DSB ISH`: also completes TLB invalidations that this CPU broadcast (RPSMWS: loads and stores, so not ISHST).
    InnerShareable,
    /// `DSB NSH`: completes this CPU's local TLB invalidations.
    NonShareable,
}

impl Dsb {
    /// The option as an assembler writes it.
    #[must_use]
    #[inline]
    pub const fn option(self) -> &'static str {
        match self {
            Self::InnerShareableStores => "ishst",
            Self::InnerShareable => "ish",
            Self::NonShareable => "nsh",
        }
    }
}

/// Barriers and TLB maintenance.
///
/// # Safety
///
/// Each call must have the architecture's effect of the named instruction on the machine whose tables
/// [`Memory`] writes, in program order with those writes: the library frees memory on the strength of it. And
/// [`has_range_invalidations`](Mmu::has_range_invalidations) may say yes only where every CPU of that machine has them.
pub unsafe trait Mmu {
    /// A data synchronisation barrier.
    fn dsb(&mut self, kind: Dsb);

    /// An instruction synchronisation barrier: a context synchronisation event on this CPU.
    fn isb(&mut self);

    /// One TLB invalidation. The forms by range are only asked for where
    /// [`has_range_invalidations`](Mmu::has_range_invalidations) says so.
    fn tlbi(&mut self, operation: Tlbi);

    /// Whether every CPU that is to forget translations has `FEAT_TLBIRANGE`: one that has not need not act on a broadcast
    /// invalidation by range (RXMZFH). A machine around another one passes the question on.
    #[inline]
    fn has_range_invalidations(&self) -> bool {
        false
    }
}

/// The operations, and the steps of one, that an observer can tell apart. When one ends, all that it did is complete: it
/// leaves no store, no invalidation and no context synchronisation for later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// A whole range is added.
    Add(PhysRange),
    /// A whole range is removed.
    Remove(PhysRange),
    /// The linear map of the range is built or taken down.
    Linear,
    /// The vmemmap of the range is populated or depopulated.
    Populate,
    /// Struct pages are initialised.
    Initialise,
}

/// Where frames come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The adopter's allocator.
    Ram,
    /// The storage zone of an altmap.
    Altmap,
}

/// Frames that the library took, or gives back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// The first byte.
    pub start: PhysAddr,
    /// How many bytes.
    pub bytes: u64,
    /// Where they come from, and go back to.
    pub source: Source,
}

/// A whole machine of one granule. The provided methods only tell observers: a machine has nothing to do.
pub trait Machine: Memory + Mmu {
    /// The granule of its tables.
    type Granule: Granule;

    /// This CPU translates by these registers from now on.
    fn uses(&mut self, registers: Registers) {
        let _ = registers;
    }

    /// Frames have been taken.
    fn allocated(&mut self, frames: Allocation) {
        let _ = frames;
    }

    /// Frames are about to be given back: nothing refers to them any more.
    fn freed(&mut self, frames: Allocation) {
        let _ = frames;
    }

    /// A phase begins.
    fn begin(&mut self, phase: Phase) {
        let _ = phase;
    }

    /// The phase ends.
    fn end(&mut self, phase: Phase) {
        let _ = phase;
    }
}

/// The adopter's allocator of RAM frames.
///
/// # Safety
///
/// [`take`](Frames::take) must hand out RAM that nobody else uses until it is given back, aligned to its size, and
/// reachable through [`Memory`]'s physical accesses.
pub unsafe trait Frames {
    /// Takes `bytes` bytes (a power of two, at least the granule), aligned to their size; `None` when there are none.
    fn take(&mut self, bytes: u64) -> Option<PhysAddr>;

    /// Gives back what [`take`](Frames::take) handed out, with the same size.
    fn give(&mut self, frame: PhysAddr, bytes: u64);
}

/// Waits for readers of the memory map: the adopter's RCU grace period, or [`Readers`](crate::lifetime::Readers).
///
/// # Safety
///
/// When [`wait_for_readers`](Quiesce::wait_for_readers) returns, each read section that anybody began on any CPU must either
/// - have ended, with all that was done in it happening before the return, or
/// - find every atomic store that happened before the call.
///
/// Struct pages are unmapped on the strength of it.
pub unsafe trait Quiesce {
    /// Waits until every read section that began before the call has ended. Never called from within one.
    fn wait_for_readers(&mut self);
}

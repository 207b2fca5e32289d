//! EL1 of the CPU that runs this code.

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use vmemmap::addr::{PhysAddr, VirtRange};
use vmemmap::granule::Granule;
use vmemmap::seam::{Dsb, Machine, Memory, Mmu};
use vmemmap::tlbi::Tlbi;

/// The EL1&0 regime with tables of granule `G`, physical memory being reachable at a fixed offset.
#[derive(Debug)]
pub struct El1<G> {
    /// Virtual minus physical address of RAM, modulo 2^64.
    offset: u64,
    has_ranges: bool,
    /// Of no value: the machine may go to another CPU whatever `G` is.
    granule: PhantomData<fn() -> G>,
}

impl<G: Granule> El1<G> {
    /// The machine that reaches the RAM at physical address `pa` through the pointer `pa + offset` (modulo 2^64).
    ///
    /// # Safety
    ///
    /// For as long as the machine is used, that must hold, as Normal write-back memory, of every translation table under
    /// the root it is used with and of every frame that the frame allocator used with it hands out; and the CPU must run
    /// at EL1 with tables of granule `G`.
    #[must_use]
    pub const unsafe fn new(offset: u64) -> Self {
        Self { offset, has_ranges: false, granule: PhantomData }
    }

    /// The same machine, which invalidates by range.
    ///
    /// # Safety
    ///
    /// For as long as it is used, every CPU of the inner shareable domain must have `FEAT_TLBIRANGE`
    /// (`ID_AA64ISAR0_EL1.TLB` is 2 or more): on this one the instructions are undefined without it, and others need not act on
    /// them (RXMZFH).
    #[must_use]
    pub const unsafe fn with_range_invalidations(self) -> Self {
        Self { has_ranges: true, ..self }
    }

    fn pointer<T>(&self, address: PhysAddr) -> *mut T {
        ptr::with_exposed_provenance_mut(address.value().wrapping_add(self.offset) as usize)
    }

    fn word(&self, address: PhysAddr) -> &AtomicU64 {
        // SAFETY: by `new`'s contract the pointer reaches RAM that tables or records live in; such words are 8-byte
        // aligned and accessed only as atomics.
        unsafe { AtomicU64::from_ptr(self.pointer(address)) }
    }
}

// SAFETY: slots are accessed as relaxed 64-bit atomics, which are single, untorn and kept in their place by the volatile
// barriers below; `access` names the bytes that the hardware's tables map, and the library calls it for struct pages that
// nobody owns: of pfns that are not valid, or of holes in early sections, which readers may only look at atomically.
unsafe impl<G: Granule> Memory for El1<G> {
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
        // SAFETY: the library owns the frame and nothing points to it yet.
        unsafe { ptr::write_bytes(self.pointer::<u8>(table), 0, bytes as usize) }
    }

    #[inline]
    fn load(&self, word: PhysAddr) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&mut self, word: PhysAddr, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    #[inline]
    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        self.word(word).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }

    #[inline]
    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        let start = ptr::with_exposed_provenance_mut(range.start().value() as usize);
        // SAFETY: the library mapped the range as Normal read-write memory and holds its frames.
        write(unsafe { core::slice::from_raw_parts_mut(start, range.bytes() as usize) });
    }
}

// SAFETY: each arm is the instruction that the operation names. No `nomem`: the compiler must keep every access to
// memory on its side of them.
unsafe impl<G: Granule> Mmu for El1<G> {
    #[inline]
    fn dsb(&mut self, kind: Dsb) {
        // SAFETY: barriers have no precondition.
        unsafe {
            match kind {
                Dsb::InnerShareableStores => asm!("dsb ishst", options(nostack, preserves_flags)),
                Dsb::InnerShareable => asm!("dsb ish", options(nostack, preserves_flags)),
                Dsb::NonShareable => asm!("dsb nsh", options(nostack, preserves_flags)),
            }
        }
    }

    #[inline]
    fn isb(&mut self) {
        // SAFETY: as above.
        unsafe { asm!("isb", options(nostack, preserves_flags)) }
    }

    #[inline]
    fn tlbi(&mut self, operation: Tlbi) {
        // SAFETY: forgetting translations is always allowed: they are walked again. By range, which an assembler that is told of
        // no architecture beyond v8.0 only takes spelled out, where `with_range_invalidations`'s contract says that it is there.
        unsafe {
            match operation {
                Tlbi::AllInnerShareable => asm!("tlbi vmalle1is", options(nostack, preserves_flags)),
                Tlbi::AllLocal => asm!("tlbi vmalle1", options(nostack, preserves_flags)),
                Tlbi::LastLevel(operand) => {
                    asm!("tlbi vaale1is, {}", in(reg) operand.bits(), options(nostack, preserves_flags));
                }
                Tlbi::AnyLevel(operand) => {
                    asm!("tlbi vaae1is, {}", in(reg) operand.bits(), options(nostack, preserves_flags));
                }
                // tlbi rvaale1is
                Tlbi::LastLevelRange(operand) => {
                    asm!("sys #0, c8, c2, #7, {}", in(reg) operand.bits(), options(nostack, preserves_flags));
                }
                // tlbi rvaae1is
                Tlbi::AnyLevelRange(operand) => {
                    asm!("sys #0, c8, c2, #3, {}", in(reg) operand.bits(), options(nostack, preserves_flags));
                }
            }
        }
    }

    #[inline]
    fn has_range_invalidations(&self) -> bool {
        self.has_ranges
    }
}

impl<G: Granule> Machine for El1<G> {
    type Granule = G;
}

//! The heap: for reports and tests. The memory hot-plug itself never allocates from it.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

use vmemmap::seam::Frames;

use crate::boot::{self, BootInfo, refuse};
use crate::memory::RamFrames;
use crate::pointer;

const BYTES: usize = 1 << 20;

#[global_allocator]
static ALLOCATOR: Locked = Locked(Mutex::new([Heap::empty(), Heap::empty()]));

/// Memory that boot neither clears nor reads.
struct Storage(UnsafeCell<[MaybeUninit<u8>; BYTES]>);

// SAFETY: used by `init` alone, which runs once.
unsafe impl Sync for Storage {}

#[unsafe(link_section = ".noinit")]
static STORAGE: Storage = Storage(UnsafeCell::new([MaybeUninit::uninit(); BYTES]));

/// Makes the heap usable.
///
/// # Safety
///
/// To be called once, with the MMU on.
pub unsafe fn init() {
    // SAFETY: by this function's contract nothing else refers to the storage.
    let storage = unsafe { &mut *STORAGE.0.get() };
    ALLOCATOR.0.lock()[0].init_from_slice(storage);
}

/// Gives the heap more room, once: the largest power of two of bytes of free RAM in one piece that is at most `most` and at
/// least `least`. Says whether there is one. A second call does nothing.
pub fn extend(boot: &BootInfo, most: u64, least: u64) -> bool {
    let mut bytes = most.checked_ilog2().map_or(0, |bits| 1 << bits);
    if ALLOCATOR.0.lock()[1].size() > 0 {
        return true;
    }
    while bytes >= least {
        if let Some(room) = RamFrames::current().take(bytes) {
            let start = pointer::at(boot.layout.linear_address(room).value());
            // SAFETY: the frames are ours for good, the linear map shows them, and this happens once.
            unsafe { ALLOCATOR.0.lock()[1].init(start, bytes as usize) }
            return true;
        }
        bytes /= 2;
    }
    false
}

/// The one that is always there, and the one for those who need more.
struct Locked(Mutex<[Heap; 2]>);

// SAFETY: the lock makes `Heap` the only user of its blocks, which are as large and as aligned as the layout says.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heaps = self.0.lock();
        let block = heaps.iter_mut().find_map(|heap| heap.allocate_first_fit(layout).ok());
        match block {
            Some(block) => block.as_ptr(),
            // Who asked may be another one than who filled it.
            None if boot::info().is_some_and(|boot| boot.config.checked) => refuse(format_args!(
                "{} bytes do not fit in the heap, which with checked=1 also holds a copy of the tables: give more RAM \
                 (--memory), a smaller device, or larger leaves",
                layout.size(),
            )),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            let mut heaps = self.0.lock();
            let is_in = |heap: &Heap| (heap.bottom()..heap.top()).contains(&block.as_ptr());
            if let Some(heap) = heaps.iter_mut().find(|heap| is_in(heap)) {
                // SAFETY: the caller got it from `alloc` with this layout, and `alloc` from this heap.
                unsafe { heap.deallocate(block, layout) }
            }
        }
    }
}

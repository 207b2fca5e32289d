//! The heap: for reports and tests. The memory hot-plug itself never allocates from it.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

const BYTES: usize = 1 << 20;

#[global_allocator]
static ALLOCATOR: Locked = Locked(Mutex::new(Heap::empty()));

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
    ALLOCATOR.0.lock().init_from_slice(storage);
}

struct Locked(Mutex<Heap>);

// SAFETY: the lock makes `Heap` the only user of its blocks, which are as large and as aligned as the layout says.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got it from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) }
        }
    }
}

//! `aarch64-paging`: its `Mapping`, over the arena.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El1And0, MemoryRegion, PageTable, Translation, VaRange};
use vmemmap::addr::{PhysAddr, VirtAddr};
use vmemmap::walk::Walk;

use crate::arena::{Arena, PAGE};
use crate::case::{Leaves, Peer, Refused, Window};
use crate::ours::of_4k;

/// Half of what a table of pages maps: taken away in such parts, tables stay.
const PART: u64 = 1 << 20;

/// Its seam: frames of the arena, reached at an offset.
struct Ram {
    arena: Rc<RefCell<Arena>>,
    offset: u64,
}

impl Translation<El1Attributes> for Ram {
    fn allocate_table(&mut self) -> (NonNull<PageTable<El1Attributes>>, PhysicalAddress) {
        let frame = PhysicalAddress(self.arena.borrow_mut().take().expect("room for a table") as usize);
        let table = self.physical_to_virtual(frame);
        // SAFETY: a frame of the arena that nobody else has yet.
        unsafe { table.cast::<u8>().write_bytes(0, PAGE as usize) };
        (table, frame)
    }

    unsafe fn deallocate_table(&mut self, table: NonNull<PageTable<El1Attributes>>) {
        self.arena.borrow_mut().give((table.as_ptr() as u64).wrapping_sub(self.offset));
    }

    #[inline]
    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<El1Attributes>> {
        let at = (pa.0 as u64).wrapping_add(self.offset) as *mut PageTable<El1Attributes>;
        NonNull::new(at).expect("the arena is not at 0")
    }
}

/// Whether it is told that somebody translates by the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Nobody does.
    Offline,
    /// Somebody does.
    Live,
}

/// Tables of `aarch64-paging`.
pub struct Arm {
    mapping: Mapping<Ram, El1And0>,
    arena: Rc<RefCell<Arena>>,
    constraints: Constraints,
    live: Use,
}

/// Normal memory, written by the kernel only.
const ATTRIBUTES: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ATTRIBUTE_INDEX_0)
    .union(El1Attributes::INNER_SHAREABLE)
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::DBM)
    .union(El1Attributes::PXN)
    .union(El1Attributes::UXN);

impl Arm {
    /// Empty tables.
    pub fn new(arena: Rc<RefCell<Arena>>, leaves: Leaves, live: Use) -> Self {
        let ram = Ram { arena: Rc::clone(&arena), offset: arena.borrow().offset() };
        let mapping = Mapping::with_asid_and_va_range(ram, 0, 0, El1And0, VaRange::Upper);
        if live == Use::Live {
            mapping.mark_active();
        }
        let constraints = match leaves {
            Leaves::Pages => Constraints::NO_BLOCK_MAPPINGS,
            Leaves::Largest => Constraints::empty(),
        };
        Self { mapping, arena, constraints, live }
    }

    fn change(&mut self, window: Window, flags: El1Attributes) -> Result<(), Refused> {
        let range = MemoryRegion::new(window.va as usize, (window.va + window.bytes) as usize);
        let frames = PhysicalAddress(window.pa as usize);
        self.mapping.map_range(&range, frames, flags, self.constraints).map_err(|_| Refused)
    }
}

impl Peer for Arm {
    fn map(&mut self, window: Window) -> Result<(), Refused> {
        self.change(window, ATTRIBUTES)
    }

    fn unmap(&mut self, window: Window) {
        self.change(window, El1Attributes::empty()).expect("it is whole");
    }

    fn clear(&mut self, window: Window) {
        for offset in (0..window.bytes).step_by(PART as usize) {
            self.unmap(Window { va: window.va + offset, bytes: PART, pa: window.pa + offset });
        }
    }

    fn frame_of(&self, va: u64) -> Option<u64> {
        let (root, arena) = (PhysAddr::new(self.mapping.root_address().0 as u64), self.arena.borrow());
        let walk = Walk::new(of_4k(), root, VirtAddr::new(va), |slot| arena.word(slot.value()));
        walk.translation().map(|(_, frame)| frame.value())
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        if self.live == Use::Live {
            self.mapping.mark_inactive();
        }
    }
}

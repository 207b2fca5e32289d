//! `page_table_multiarch`: its four-level table with the entries of x86-64, over the arena.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use page_table_multiarch::x86_64::X64PageTable;
use page_table_multiarch::{MappingFlags, PagingHandler};

use crate::arena::Arena;
use crate::case::{Leaves, Peer, Refused, Window};

type PhysAddr = memory_addr::PhysAddr;
type VirtAddr = memory_addr::VirtAddr;

thread_local! {
    /// What the handler works on: its functions have no `self`.
    static ARENA: RefCell<Option<Rc<RefCell<Arena>>>> = const { RefCell::new(None) };
    static OFFSET: Cell<u64> = const { Cell::new(0) };
}

fn with_arena<R>(act: impl FnOnce(&mut Arena) -> R) -> R {
    ARENA.with_borrow(|arena| act(&mut arena.as_ref().expect("set by `new`").borrow_mut()))
}

/// Its seam: frames of the arena, reached at an offset.
struct Ram;

impl PagingHandler for Ram {
    fn alloc_frames(count: usize, _: usize) -> Option<PhysAddr> {
        assert_eq!(count, 1, "only tables are asked for");
        with_arena(Arena::take).map(|frame| PhysAddr::from_usize(frame as usize))
    }

    fn dealloc_frames(frame: PhysAddr, _: usize) {
        with_arena(|arena| arena.give(frame.as_usize() as u64));
    }

    #[inline]
    fn phys_to_virt(frame: PhysAddr) -> VirtAddr {
        VirtAddr::from_usize(frame.as_usize().wrapping_add(OFFSET.get() as usize))
    }
}

/// Tables of `page_table_multiarch`.
pub struct Multiarch {
    table: X64PageTable<Ram>,
    leaves: Leaves,
}

impl Multiarch {
    /// Empty tables.
    pub fn new(arena: Rc<RefCell<Arena>>, leaves: Leaves) -> Self {
        OFFSET.set(arena.borrow().offset());
        ARENA.set(Some(arena));
        Self { table: X64PageTable::try_new().expect("room for the root"), leaves }
    }
}

impl Peer for Multiarch {
    fn map(&mut self, window: Window) -> Result<(), Refused> {
        let start = VirtAddr::from_usize(window.va as usize);
        let frame = |va: VirtAddr| PhysAddr::from_usize(va.as_usize() - window.va as usize + window.pa as usize);
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        let (bytes, huge) = (window.bytes as usize, self.leaves == Leaves::Largest);
        self.table.cursor().map_region(start, frame, bytes, flags, huge).map_err(|_| Refused)
    }

    fn unmap(&mut self, window: Window) {
        let start = VirtAddr::from_usize(window.va as usize);
        self.table.cursor().unmap_region(start, window.bytes as usize).expect("it is whole");
    }

    fn frame_of(&self, va: u64) -> Option<u64> {
        let found = self.table.query(VirtAddr::from_usize(va as usize));
        found.ok().map(|(frame, _, _)| frame.as_usize() as u64)
    }
}

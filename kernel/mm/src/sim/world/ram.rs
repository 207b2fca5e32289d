//! The allocator of the host machine: it knows what is out, and runs dry when it is told to.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::addr::PhysAddr;
use crate::seam::{Frames, Quiesce};
use crate::trace::{Event, Word};

/// RAM frames of a [`World`]. Every handle is the same allocator.
#[derive(Clone, Debug)]
pub struct SimRam {
    pub(super) world: World,
}

/// Its books.
pub(super) struct Books {
    next: u64,
    free: BTreeMap<u64, BTreeSet<u64>>,
    pub(super) out: BTreeMap<u64, u64>,
    /// Frames that it still hands out; no limit if there is none.
    pub(super) budget: Option<u64>,
    pub(super) refused: u64,
}

impl Books {
    pub(super) const fn new(first: PhysAddr) -> Self {
        Self { next: first.value(), free: BTreeMap::new(), out: BTreeMap::new(), budget: None, refused: 0 }
    }

    /// The lowest frame that is free: what comes back is soon used again.
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        if let Some(budget) = &mut self.budget {
            let Some(left) = budget.checked_sub(1) else {
                self.refused += 1;
                return None;
            };
            *budget = left;
        }
        let frame = self.free.get_mut(&bytes).and_then(BTreeSet::pop_first).unwrap_or_else(|| {
            let frame = self.next.next_multiple_of(bytes);
            self.next = frame + bytes;
            frame
        });
        self.out.insert(frame, bytes);
        Some(PhysAddr::new(frame))
    }

    /// Takes back what is out. What is not is the adversary's to judge.
    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        if self.out.get(&frame.value()) == Some(&bytes) {
            self.out.remove(&frame.value());
            self.free.entry(bytes).or_default().insert(frame.value());
        }
    }
}

// SAFETY: a frame is handed out only while it is not out, aligned to its size; memory of a world is reachable everywhere.
unsafe impl Frames for SimRam {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        let mut state = self.world.state();
        let frame = state.ram.take(bytes)?;
        state.memory.spoil(frame, bytes);
        state.step(Event::Alloc { pa: frame.value(), len: bytes, from: Word::new("ram") });
        Some(frame)
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        let mut state = self.world.state();
        state.step(Event::Free { pa: frame.value(), len: bytes, to: Word::new("ram") });
        state.ram.give(frame, bytes);
    }
}

// SAFETY: it returns once every read section that had begun is over; memory of a world is sequentially consistent.
unsafe impl Quiesce for SimRam {
    fn wait_for_readers(&mut self) {
        let begun = self.world.sections_begun();
        while self.world.reads_before(begun) {
            self.world.await_readers();
        }
    }
}

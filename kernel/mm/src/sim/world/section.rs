//! Read sections of a world: what its [`Quiesce`](crate::seam::Quiesce) waits for.

use std::collections::BTreeSet;

use super::{Call, World};

/// The read sections that are open, by the number in which they began.
#[derive(Default)]
pub(super) struct Sections {
    begun: u64,
    open: BTreeSet<u64>,
}

/// An open read section: a struct page whose pfn it finds valid stays until it is dropped.
#[derive(Debug)]
#[must_use = "the section ends where this is dropped"]
pub struct ReadSection {
    world: World,
    cpu: u8,
    number: u64,
}

impl World {
    /// Opens a read section on `cpu`. Both its ends are calls, before which a hook runs. Removal waits for those that began
    /// before it asked: for ever, if nobody ends them.
    pub fn read_section(&self, cpu: u8) -> ReadSection {
        self.about(cpu, Call::Event);
        let sections = &mut self.state().sections;
        let number = sections.begun;
        sections.begun += 1;
        sections.open.insert(number);
        ReadSection { world: self.clone(), cpu, number }
    }

    pub(super) fn sections_begun(&self) -> u64 {
        self.state().sections.begun
    }

    /// Whether a section is open that was one of the first `begun`.
    pub(super) fn reads_before(&self, begun: u64) -> bool {
        self.state().sections.open.first().is_some_and(|first| *first < begun)
    }

    /// Lets others run: the hook, where there is one.
    pub(super) fn await_readers(&self) {
        let running = self.state().running;
        self.about(running, Call::Wait);
        std::thread::yield_now();
    }
}

impl Drop for ReadSection {
    fn drop(&mut self) {
        self.world.about(self.cpu, Call::Event);
        self.world.state().sections.open.remove(&self.number);
    }
}

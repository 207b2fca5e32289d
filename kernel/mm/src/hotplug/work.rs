//! The struct pages of a range as work that CPUs share.

use core::marker::PhantomData;

use crate::meta::{Meta, Roles};
use crate::seam::Machine;
use crate::vmemmap::{Chunks, Memmap};

/// Struct pages that are mapped and not yet initialised, while [`Plan::commit_with`](super::Plan::commit_with) lends them to
/// any CPU that will [`help`](Work::help).
#[derive(Debug)]
pub struct Work<P> {
    memmap: Memmap,
    roles: Roles,
    chunks: Chunks,
    /// Struct pages are made on any CPU, and none is kept.
    struct_page: PhantomData<fn() -> P>,
}

impl<P: Meta> Work<P> {
    pub(super) const fn new(memmap: Memmap, roles: Roles) -> Self {
        Self { memmap, roles, chunks: Chunks::new(memmap.chunks()), struct_page: PhantomData }
    }

    /// How many chunks there are in all, of at most 2 MiB of struct pages each: more CPUs than that would find nothing to do.
    /// There are none where boot's struct pages serve the range.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunks.count()
    }

    /// Initialises chunk after chunk on the calling CPU, until none is left that nobody has taken; how many struct pages it
    /// has initialised. A CPU that comes too late returns at once.
    ///
    /// It synchronises the CPU's context first: the struct pages were mapped by another one, and without an `ISB` here the
    /// first access could take a spurious translation fault.
    ///
    /// # Safety
    ///
    /// `machine` must be the calling CPU's, and reach the same memory through the same tables as the one of the plan: struct
    /// pages that it does not reach would be taken for initialised.
    pub unsafe fn help(&self, machine: &mut impl Machine) -> u64 {
        machine.isb();
        self.run(machine)
    }

    fn run<M: Machine>(&self, machine: &mut M) -> u64 {
        let mut bytes = 0;
        while let Some(index) = self.chunks.take() {
            let chunk = self.memmap.chunk(index);
            chunk.initialise::<M, P>(machine, &self.roles);
            self.chunks.done();
            bytes += chunk.range().bytes();
        }
        bytes / size_of::<P>() as u64
    }

    /// Initialises what is left, on the CPU of the plan. Nobody else is at it: all who borrowed it have let go.
    pub(super) fn finish<M: Machine>(self, machine: &mut M) {
        self.run(machine);
        if !self.chunks.all_done() {
            // A helper has unwound in the middle of a chunk, and somebody has caught that. Which one is not known.
            self.memmap.initialise::<M, P>(machine, &self.roles);
        }
    }
}

//! The struct pages of a range as work that CPUs share.

use core::marker::PhantomData;

use crate::meta::{Meta, Roles};
use crate::seam::Machine;
use crate::vmemmap::{Chunks, Memmap};

/// Struct pages that are mapped and not yet initialised, while [`commit_with`](crate::hotplug::Plan::commit_with) lends them
/// to any CPU that will [`help`](Work::help).
///
/// ```
/// # use vmemmap::addr::{PhysAddr, PhysRange};
/// # use vmemmap::granule::{GranuleSize, K64};
/// # use vmemmap::hotplug::{Hotplug, Request};
/// # use vmemmap::layout::Layout;
/// # use vmemmap::{meta::StructPage, regime::Regime, sim::World, table::Tables};
/// # let regime = Regime::of_size(GranuleSize::K64, 48)?;
/// # let world = World::new(regime, 48, 4);
/// # let tables = unsafe { Tables::adopt(world.cpu::<K64>(0), world.root(), regime) };
/// # let layout = Layout::linux(GranuleSize::K64, 48, 0);
/// # let mut hotplug = Hotplug::<_, _, StructPage>::new(tables, world.ram(), layout, 48)?;
/// # let device = PhysRange::new(PhysAddr::new(4 << 30), 6 << 30).unwrap();
/// // SAFETY: nobody else uses the device.
/// let request = unsafe { Request::new(device) };
/// let region = hotplug.plan(request)?.commit_with(|work| {
///     std::thread::scope(|scope| {
///         for number in 1..4 {
///             let mut cpu = world.cpu::<K64>(number);
///             // SAFETY: the machine of that CPU, in the same world.
///             scope.spawn(move || println!("CPU {number}: {} struct pages", unsafe { work.help(&mut cpu) }));
///         }
///     });
/// })?;
/// # assert_eq!(region.range(), device);
/// # assert!(world.take_violations().is_empty());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Work<P> {
    memmap: Memmap,
    roles: Roles,
    chunks: Chunks,
    /// Struct pages are made on any CPU, and none is kept.
    struct_page: PhantomData<fn() -> P>,
}

impl<P: Meta> Work<P> {
    pub(crate) const fn new(memmap: Memmap, roles: Roles) -> Self {
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
    pub unsafe fn help<M: Machine>(&self, machine: &mut M) -> u64 {
        machine.isb();
        let mut bytes = 0;
        while let Some(index) = self.chunks.take() {
            let chunk = self.memmap.chunk(index);
            chunk.initialise::<M, P>(machine, &self.roles);
            self.chunks.done();
            bytes += chunk.range().bytes();
        }
        bytes / size_of::<P>() as u64
    }

    /// Sees to it that all are initialised, on the CPU of the plan. Nobody else is at it: who borrowed it has let go.
    pub(crate) fn finish<M: Machine>(self, machine: &mut M) {
        // Either nobody has helped, or a helper has unwound in the middle of a chunk, and which one is not known.
        if !self.chunks.all_done() {
            self.memmap.initialise::<M, P>(machine, &self.roles);
        }
    }
}

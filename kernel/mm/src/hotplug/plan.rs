//! What adding a range will take, worked out before anything is touched.

use core::fmt;

use super::{AddError, Hotplug, PlanError, Region, Request};
use crate::addr::{Pfn, PhysRange, VirtRange};
use crate::altmap::Altmap;
use crate::frames::Reserved;
use crate::granule::Granule;
use crate::mapping::Mapping;
use crate::meta::{Meta, Role, Roles};
use crate::seam::{Frames, Machine, Phase};
use crate::vmemmap::{Memmap, Populated, Reservation, Storage};

/// A checked request. It borrows the memory map, so nothing can change between plan and [`commit`](Plan::commit).
#[derive(Debug)]
#[must_use = "a plan does nothing until it is committed"]
pub struct Plan<'a, M, F, P> {
    hotplug: &'a mut Hotplug<M, F, P>,
    request: Request,
    linear: Mapping,
    memmap: Memmap,
    linear_tables: u64,
    memmap_tables: u64,
}

/// The plan in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// The physical range.
    pub range: PhysRange,
    /// The linear map of it.
    pub linear: Mapping,
    /// The vmemmap of it.
    pub memmap: Memmap,
    /// Tables that the linear map needs from RAM.
    pub linear_tables: u64,
    /// Tables that the vmemmap needs from RAM.
    pub memmap_tables: u64,
    /// Where the struct pages go.
    pub storage: Storage,
}

/// What commit takes before it touches anything.
struct Taken {
    linear: Reserved,
    memmap: Reservation,
}

impl<'a, M: Machine, F: Frames, P: Meta> Plan<'a, M, F, P> {
    pub(super) fn new(hotplug: &'a mut Hotplug<M, F, P>, request: Request) -> Result<Self, PlanError> {
        let linear = hotplug.linear(request.range, request.policy);
        let memmap = Memmap::new(&hotplug.layout, request.range, request.policy).stored_in(&request.storage);
        let linear_tables = linear.check(&hotplug.tables)?;
        let memmap_tables = memmap.check(&hotplug.tables, &request.storage)?;
        Ok(Self { hotplug, request, linear, memmap, linear_tables, memmap_tables })
    }

    /// The plan in numbers.
    #[must_use]
    pub const fn summary(&self) -> Summary {
        Summary {
            range: self.request.range,
            linear: self.linear,
            memmap: self.memmap,
            linear_tables: self.linear_tables,
            memmap_tables: self.memmap_tables,
            storage: self.request.storage,
        }
    }

    /// Adds the range: all or nothing. When it returns every pfn of the range is valid.
    ///
    /// Another CPU that has not synchronised its context since may take one spurious translation fault on the new
    /// addresses (there is no `ISB` there): its fault handler retries when `AT S1E1R` translates.
    ///
    /// # Errors
    ///
    /// [`AddError`] if RAM runs out while the tables (or struct pages, without an altmap) are reserved; then nothing has
    /// changed but empty section records, and the same request succeeds once there is RAM.
    pub fn commit(mut self) -> Result<Region, AddError> {
        let taken = self.reserve()?;
        let Self { hotplug, mut request, linear, memmap, memmap_tables, .. } = self;
        let Hotplug { tables, frames, sections, .. } = hotplug;
        tables.machine_mut().begin(Phase::Add(request.range));
        tables.machine_mut().begin(Phase::Linear);
        linear.map(tables, taken.linear).give_back(tables.machine_mut(), frames);
        tables.machine_mut().end(Phase::Linear);
        tables.machine_mut().begin(Phase::Populate);
        memmap.map(tables, &mut request.storage, taken.memmap).give_back(tables.machine_mut(), frames);
        tables.machine_mut().end(Phase::Populate);
        tables.machine_mut().begin(Phase::Initialise);
        memmap.initialise::<M, P>(tables.machine_mut(), &roles(&request.storage));
        tables.machine_mut().end(Phase::Initialise);
        sections.activate(tables.machine_mut(), request.range);
        tables.machine_mut().end(Phase::Add(request.range));
        let populated = Populated::new(memmap, request.storage, memmap_tables, tables.root());
        Ok(Region { request, populated, owner: sections.root() })
    }

    fn reserve(&mut self) -> Result<Taken, AddError> {
        let Hotplug { tables, frames, sections, .. } = &mut *self.hotplug;
        let machine = tables.machine_mut();
        sections.prepare(machine, frames, self.request.range)?;
        let linear = Reserved::take(machine, frames, self.linear_tables, M::Granule::SIZE.bytes())?;
        match self.memmap.reserve(machine, frames, self.memmap_tables, &self.request.storage) {
            Ok(memmap) => Ok(Taken { linear, memmap }),
            Err(error) => {
                linear.give_back(machine, frames);
                Err(error.into())
            }
        }
    }
}

/// Which pfns serve as what: the reserve and the altmap's storage are never the owner's to use.
fn roles(storage: &Storage) -> Roles {
    match storage {
        Storage::Ram => Roles::all(Role::Device),
        Storage::Altmap(altmap) => {
            let (reserve_end, altmap_end): (Pfn, Pfn) = altmap.storage();
            Roles { reserve_end, altmap_end, rest: Role::Device }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name, va: VirtRange, tables| write!(f, "{name} {va}  {tables} tables");
        writeln!(f, "range   {}", self.range)?;
        line(f, "linear ", self.linear.range(), self.linear_tables)?;
        self.linear.stretches().try_for_each(|stretch| write!(f, ", {stretch}"))?;
        line(f, "\nmemmap ", self.memmap.range(), self.memmap_tables)?;
        self.memmap.stretches().try_for_each(|stretch| write!(f, ", {stretch}"))?;
        match self.storage {
            Storage::Ram => write!(f, "\nstorage RAM"),
            Storage::Altmap(altmap) => write!(f, "\nstorage {altmap}"),
        }
    }
}

impl<M: Machine, F: Frames, P: Meta> fmt::Display for Plan<'_, M, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

impl fmt::Display for Altmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, reserve, free) = (self.base_pfn().number(), self.reserve(), self.free());
        write!(f, "altmap base {base:#x} reserve {reserve} free {free} alloc {} align {}", self.alloc(), self.align())
    }
}

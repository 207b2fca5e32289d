//! What adding a range will take, worked out before anything is touched.

use core::fmt;

use super::request::{Ask, Host};
use super::{AddError, Hotplug, PlanError, RangeKind, Region, Work, early_parts};
use crate::addr::{Pfn, PhysRange, VirtRange};
use crate::altmap::{Altmap, AltmapTooSmall};
use crate::frames::Reserved;
use crate::granule::Granule;
use crate::mapping::Mapping;
use crate::meta::{Meta, Roles};
use crate::regions::{Lodging, Record, Slot};
use crate::seam::{Frames, Machine, Phase};
use crate::vmemmap::{self, Memmap, MemmapError, Populated, Reservation, Storage};

/// A checked request. It borrows the memory map, so nothing can change between plan and [`commit`](Plan::commit).
#[derive(Debug)]
#[must_use = "a plan does nothing until it is committed"]
pub struct Plan<'a, M, F, P> {
    hotplug: &'a mut Hotplug<M, F, P>,
    ask: Ask,
    linear: Option<Mapping>,
    memmap: Memmap,
    /// The altmap's part that is this range's, or RAM.
    storage: Storage,
    linear_tables: u64,
    memmap_tables: u64,
}

/// The plan in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// The physical range.
    pub range: PhysRange,
    /// What it is to be.
    pub kind: RangeKind,
    /// The linear map of it, if it has one.
    pub linear: Option<Mapping>,
    /// The vmemmap of it: of what has no struct pages from boot.
    pub memmap: Memmap,
    /// Tables that the linear map needs from RAM.
    pub linear_tables: u64,
    /// Tables that the vmemmap needs from RAM.
    pub memmap_tables: u64,
    /// Where the struct pages go: with a host, the part of its altmap that they get.
    pub storage: Storage,
    /// Frames of RAM for edge pages of the vmemmap, which no altmap serves; edge pages that are there already take none.
    pub edge_frames: u64,
    /// Frames that the altmap skips for alignment.
    pub padding: u64,
    /// Bytes of RAM that the add takes: tables and struct pages. Records come beside that, where they are missing.
    pub ram_bytes: u64,
}

/// What commit takes before it touches anything.
struct Taken {
    slot: Slot,
    linear: Reserved,
    memmap: Reservation,
}

impl<'a, M: Machine, F: Frames, P: Meta> Plan<'a, M, F, P> {
    pub(super) fn new(hotplug: &'a mut Hotplug<M, F, P>, ask: Ask) -> Result<Self, PlanError> {
        let linear = hotplug.linear(&ask);
        let own = hotplug.own_part(ask.range);
        let memmap = Memmap::new(&hotplug.layout, own, ask.policy);
        let memmap = memmap.beside(hotplug.shared(&memmap, own)).stored_in(&ask.storage);
        let storage = match (ask.storage, &ask.host) {
            (Storage::Altmap(altmap), Some(host)) => Storage::Altmap(hotplug.lodge(altmap, host, &memmap)?),
            (storage, _) => storage,
        };
        let linear_tables = linear.map_or(Ok(0), |linear| linear.check(&hotplug.tables))?;
        let memmap_tables = memmap.check(&hotplug.tables, &storage)?;
        Ok(Self { hotplug, ask, linear, memmap, storage, linear_tables, memmap_tables })
    }

    /// The plan in numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let tables = self.linear_tables + self.memmap_tables;
        let placed = self.storage.altmap().and_then(|altmap| self.memmap.placed_in(&altmap));
        Summary {
            range: self.ask.range,
            kind: self.ask.kind,
            linear: self.linear,
            memmap: self.memmap,
            linear_tables: self.linear_tables,
            memmap_tables: self.memmap_tables,
            storage: self.storage,
            edge_frames: self.memmap.own_edge_count(),
            padding: placed.map_or(0, |altmap| altmap.align()),
            ram_bytes: tables * M::Granule::SIZE.bytes() + self.memmap.ram_bytes(&self.storage),
        }
    }

    /// Adds the range: all or nothing. When it returns every pfn of the range is valid.
    ///
    /// Another CPU that has not synchronised its context since may take one spurious translation fault on the new
    /// addresses (there is no `ISB` there): its fault handler makes the access again where `vmemmap_aarch64::is_spurious`
    /// says so.
    ///
    /// # Errors
    ///
    /// [`AddError`] if RAM runs out while the tables (or struct pages, without an altmap) are reserved; then nothing has
    /// changed but empty records, and the same request succeeds once there is RAM.
    pub fn commit(self) -> Result<Region, AddError> {
        self.add(&mut |machine, memmap, roles| memmap.initialise::<M, P>(machine, roles))
    }

    /// The same with the struct pages initialised by many CPUs. When they are mapped it calls `share` once, which lends the
    /// [`Work`] to any CPUs, this one among them if it likes, and comes back when they have let go of it. If none has helped,
    /// this CPU does it all. Not before all is done are the pfns valid.
    ///
    /// The work can't leave `share`, so CPUs are lent it in a scope: [`std::thread::scope`] on a host, in a kernel a call
    /// across CPUs that returns when it has returned on each of them (and so never, if one of them never does). Such a scope
    /// orders what they have written before what this CPU does next. The struct pages of early sections are this CPU's.
    ///
    /// [`std::thread::scope`]: https://doc.rust-lang.org/std/thread/fn.scope.html
    ///
    /// # Errors
    ///
    /// As [`commit`](Plan::commit). Then `share` has not been called.
    ///
    /// # Panics
    ///
    /// If `share` does. The range stays half added, and its memory can't be added again; nor may what it is in be taken away
    /// where unwinding is caught: no record says that its vmemmap still maps the altmap of its host.
    pub fn commit_with(self, share: impl FnOnce(&Work<P>)) -> Result<Region, AddError> {
        let mut share = Some(share);
        self.add(&mut |machine, memmap, roles| {
            let work = Work::new(*memmap, *roles);
            if let Some(share) = share.take() {
                share(&work);
            }
            work.finish(machine);
        })
    }

    /// Reserves, maps, has the struct pages outside of early sections initialised, and makes the pfns valid. One copy of
    /// this code serves both ways to initialise, hence `dyn`.
    fn add(mut self, initialise: &mut dyn FnMut(&mut M, &Memmap, &Roles)) -> Result<Region, AddError> {
        let taken = self.reserve()?;
        let Self { hotplug, ask, linear, memmap, mut storage, memmap_tables, .. } = self;
        let early = early_parts(ask.range, hotplug.own_part(ask.range));
        let Hotplug { tables, frames, sections, regions, layout, .. } = hotplug;
        tables.machine_mut().begin(Phase::Add(ask.range));
        tables.machine_mut().begin(Phase::Linear);
        if let Some(linear) = linear {
            linear.map(tables, taken.linear).give_back(tables.machine_mut(), frames);
        }
        tables.machine_mut().end(Phase::Linear);
        tables.machine_mut().begin(Phase::Populate);
        memmap.map(tables, &mut storage, taken.memmap).give_back(tables.machine_mut(), frames);
        tables.machine_mut().end(Phase::Populate);
        let machine = tables.machine_mut();
        machine.begin(Phase::Initialise);
        if linear.is_none() && memmap.mapped().bytes() == 0 {
            // Nothing was published: another CPU may have mapped the pages that are there, and none was synchronised here.
            machine.isb();
        }
        let roles = ask.roles();
        initialise(machine, &memmap, &roles);
        early.for_each(|part| vmemmap::initialise_within::<M, P>(machine, layout, part, &roles));
        machine.end(Phase::Initialise);
        let record = Record { range: ask.range, lodging: lodging(&ask, taken.slot, &storage) };
        let name = regions.publish(machine, taken.slot, &record);
        sections.activate(machine, ask.range);
        machine.end(Phase::Add(ask.range));
        let populated = Populated::new(memmap, storage, memmap_tables, tables.root());
        Ok(Region { ask, populated, owner: sections.root(), name })
    }

    fn reserve(&mut self) -> Result<Taken, AddError> {
        let Hotplug { tables, frames, sections, regions, .. } = &mut *self.hotplug;
        let machine = tables.machine_mut();
        sections.prepare(machine, frames, self.ask.range)?;
        let slot = regions.vacant(machine, frames)?;
        let linear = Reserved::take(machine, frames, self.linear_tables, M::Granule::SIZE.bytes())?;
        match self.memmap.reserve(machine, frames, self.memmap_tables, &self.storage) {
            Ok(memmap) => Ok(Taken { slot, linear, memmap }),
            Err(error) => {
                linear.give_back(machine, frames);
                Err(error.into())
            }
        }
    }
}

impl<M: Machine, F: Frames, P: Meta> Hotplug<M, F, P> {
    /// The first part of a host's altmap that holds `memmap` and nothing else. It looks at each range for each place that it
    /// tries: a host is filled once, and only its tenants pay for it.
    fn lodge(&self, altmap: Altmap, host: &Host, memmap: &Memmap) -> Result<Altmap, MemmapError> {
        let (first, end) = altmap.storage();
        let mut part = altmap;
        let mut at = first;
        loop {
            part = part.from(at, end);
            let needed = memmap.required_from(at);
            let taken = |lodging: &Lodging| {
                lodging.host == host.name.slot()
                    && lodging.first < at.add(needed)
                    && at < lodging.first.add(lodging.frames)
            };
            let machine = self.tables.machine();
            match self.regions.live(machine).filter_map(|(_, record)| record.lodging).find(taken) {
                Some(lodging) => at = lodging.first.add(lodging.frames),
                None if needed <= part.free() => return Ok(part.from(at, at.add(needed))),
                None => {
                    let needed = at.number() - first.number() + needed;
                    return Err(AltmapTooSmall { free: altmap.free(), needed }.into());
                }
            }
        }
    }
}

/// What of an altmap a range has taken: of its own, or of its host's.
fn lodging(ask: &Ask, own: Slot, storage: &Storage) -> Option<Lodging> {
    let altmap = storage.altmap().filter(|altmap| altmap.used() > 0)?;
    let host = ask.host.map_or(own, |host| host.name.slot());
    Some(Lodging { host, first: altmap.storage().0, frames: altmap.used() })
}

impl Ask {
    /// Which pfns serve as what: the reserve and the altmap's storage are never the owner's to use.
    fn roles(&self) -> Roles {
        let rest = self.kind.role();
        match (self.storage, self.host) {
            (Storage::Altmap(altmap), None) => {
                let (reserve_end, altmap_end): (Pfn, Pfn) = altmap.storage();
                Roles { reserve_end, altmap_end, rest }
            }
            _ => Roles::all(rest),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name, va: VirtRange, tables| write!(f, "{name} {va}  {tables} tables");
        writeln!(f, "range   {} {}", self.range, self.kind)?;
        match self.linear {
            Some(linear) => {
                line(f, "linear ", linear.range(), self.linear_tables)?;
                linear.stretches().try_for_each(|stretch| write!(f, ", {stretch}"))?;
            }
            None => f.write_str("linear  none")?,
        }
        line(f, "\nmemmap ", self.memmap.range(), self.memmap_tables)?;
        self.memmap.stretches().try_for_each(|stretch| write!(f, ", {stretch}"))?;
        match self.storage {
            Storage::Ram => write!(f, "\nstorage RAM"),
            Storage::Altmap(altmap) => {
                write!(f, "\nstorage {altmap}, {} padding, {} edge pages in RAM", self.padding, self.edge_frames)
            }
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

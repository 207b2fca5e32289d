//! What the operations cost: events on an observed twin, instructions and RAM on the machine as it is.

use alloc::vec::Vec;

use vmemmap::count::Count;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{AddError, Plan, Region, Request};
use vmemmap::meta::StructPage;
use vmemmap::observe::Observed;
use vmemmap::seam::Machine;
use vmemmap::vmemmap::Storage;

use super::Asked;
use super::regions::Regions;
use crate::boot::{BootInfo, refuse};
use crate::measure::{InstructionCounter, Phases, Stopwatch};
use crate::memory::{MemoryMap, RamFrames};
use crate::report::Cost;
use crate::share;

/// The events of one add and one removal.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    add: Count,
    remove: Count,
    section_bytes: u64,
    add_tables: u64,
    remove_tables: u64,
}

/// Adds all of `devices` once on the observed machine and removes them in `order`. Section records are made here, and
/// stay. What can't be added is refused by name.
pub(super) fn rehearse<M: Machine>(
    map: MemoryMap<M>,
    devices: &[Asked],
    order: &[usize],
) -> (MemoryMap<M>, Vec<Events>) {
    // SAFETY: the observer only watches.
    let mut map = unsafe { map.on(|machine| Observed::new(machine, Count::default())) };
    let (mut regions, mut all) = (Regions::default(), Vec::new());
    for Asked { request, name, .. } in devices {
        let records = map.section_bytes();
        let plan = map.plan(*request).unwrap_or_else(|error| refuse(format_args!("{name}{error}")));
        let add_tables = plan.summary().linear_tables + plan.summary().memmap_tables;
        regions.push(plan.commit().unwrap_or_else(|error| refuse(format_args!("{name}{error}"))));
        let add = map.tables_mut().observer().take();
        let section_bytes = map.section_bytes() - records;
        all.push(Events { add, remove: Count::default(), section_bytes, add_tables, remove_tables: 0 });
    }
    for &device in order {
        let removed = map.remove(regions.take(device)).unwrap_or_else(|error| panic!("{error}"));
        all[device].remove = map.tables_mut().observer().take();
        all[device].remove_tables = removed.tables_freed;
    }
    // SAFETY: the machine as it was before.
    (unsafe { map.on(Observed::into_inner) }, all)
}

/// Plans what could be planned before.
fn plan<M: Machine>(map: &mut MemoryMap<M>, request: Request) -> Plan<'_, M, RamFrames, StructPage> {
    map.plan(request).unwrap_or_else(|error| refuse(error))
}

/// The counter of instructions, if `count` asks for it; the run ends if the machine has none.
pub fn counter(count: bool) -> Option<InstructionCounter> {
    let counter = if count { InstructionCounter::start() } else { None };
    if count && counter.is_none() {
        refuse("count=1 needs a machine that counts instructions: start QEMU with -icount shift=0,sleep=off");
    }
    counter
}

/// Frames of the altmap, if there is one, that hold struct pages.
pub fn handed_out(storage: &Storage) -> u64 {
    storage.altmap().map_or(0, |altmap| altmap.alloc())
}

/// The costs of the add and the removal of one device that the story tells.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    counter: Option<InstructionCounter>,
    events: Events,
    struct_pages: u64,
    ram_bytes: [u64; 2],
    altmap_bytes: [u64; 2],
    instructions: Option<[u64; 2]>,
    /// Of the add and of the removal; measured by [`phases`].
    phases: [Phases; 2],
}

impl Costs {
    /// Counts instructions too if there is a counter.
    pub fn new(counter: Option<InstructionCounter>, events: Events) -> Self {
        Self {
            counter,
            events,
            struct_pages: 0,
            ram_bytes: [0; 2],
            altmap_bytes: [0; 2],
            instructions: counter.map(|_| [0; 2]),
            phases: [Phases::default(); 2],
        }
    }

    fn counted<T>(&mut self, which: usize, work: impl FnOnce() -> T) -> T {
        match (self.counter, &mut self.instructions) {
            (Some(counter), Some(counts)) => {
                let (done, count) = counter.count(work);
                counts[which] = count;
                done
            }
            _ => work(),
        }
    }

    /// Adds the range.
    pub fn add<M: Machine>(
        &mut self,
        boot: &BootInfo,
        map: &mut MemoryMap<M>,
        request: Request,
    ) -> Result<Region, AddError> {
        let free = RamFrames::current().free();
        let region = self.counted(0, || share::commit(boot, plan(map, request)))?;
        let page = M::Granule::SIZE.bytes();
        self.struct_pages = region.range().bytes() / page;
        self.ram_bytes[0] = (free - RamFrames::current().free()) * page;
        self.altmap_bytes[0] = handed_out(region.storage()) * page;
        Ok(region)
    }

    /// Removes it; returns its storage as it came back.
    pub fn remove<M: Machine>(&mut self, map: &mut MemoryMap<M>, region: Region) -> Storage {
        let free = RamFrames::current().free();
        let before = handed_out(region.storage());
        let storage = self.counted(1, || match map.remove(region) {
            Ok(removed) => removed.storage,
            Err(error) => panic!("{error}"),
        });
        let page = M::Granule::SIZE.bytes();
        self.ram_bytes[1] = (RamFrames::current().free() - free) * page;
        self.altmap_bytes[1] = (before - handed_out(&storage)) * page;
        storage
    }

    /// What the add cost.
    pub fn add_cost(&self) -> Cost {
        self.cost(0, self.events.add, self.events.add_tables, self.events.section_bytes)
    }

    /// What the removal cost: RAM and altmap are what it gave back.
    pub fn remove_cost(&self) -> Cost {
        self.cost(1, self.events.remove, self.events.remove_tables, 0)
    }

    fn cost(&self, which: usize, events: Count, tables: u64, section_bytes: u64) -> Cost {
        let instructions = self.instructions.map(|totals| (totals[which], Some(self.phases[which])));
        let (struct_pages, events) = (self.struct_pages, Some(events));
        let (ram_bytes, altmap_bytes) = (self.ram_bytes[which], self.altmap_bytes[which]);
        Cost { struct_pages, events, tables, ram_bytes, altmap_bytes, section_bytes, instructions }
    }
}

/// With a counter: adds and removes all once more, with a stopwatch on each phase.
pub fn phases<'a, M: Machine>(
    map: MemoryMap<M>,
    counter: Option<InstructionCounter>,
    parts: impl Iterator<Item = (Request, &'a mut Costs)>,
    order: &[usize],
) {
    let Some(counter) = counter else { return };
    // SAFETY: the observer only watches.
    let mut map = unsafe { map.on(|machine| Observed::new(machine, Stopwatch::new(counter))) };
    let (mut regions, mut all) = (Regions::default(), Vec::new());
    for (request, costs) in parts {
        regions.push(plan(&mut map, request).commit().unwrap_or_else(|error| refuse(error)));
        costs.phases[0] = map.tables_mut().observer().take();
        all.push(costs);
    }
    for &device in order {
        map.remove(regions.take(device)).unwrap_or_else(|error| panic!("{error}"));
        all[device].phases[1] = map.tables_mut().observer().take();
    }
}

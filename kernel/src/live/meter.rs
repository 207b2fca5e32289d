//! What an operation costs: events, or instructions.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use vmemmap::count::Count;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Region, RemoveError, Request};
use vmemmap::seam::Machine;
use vmemmap::vmemmap::Storage;

use crate::boot::BootInfo;
use crate::measure::InstructionCounter;
use crate::memory::{MemoryMap, RamFrames};
use crate::report::Cost;
use crate::share;
use crate::story::handed_out;

/// What is counted.
pub enum Meter<M: Machine> {
    /// Events, on a machine that is observed: takes what was counted since it was last taken.
    Events(fn(&mut MemoryMap<M>) -> Count),
    /// Instructions, on the machine as it is.
    Instructions(InstructionCounter),
}

impl<M: Machine> Meter<M> {
    /// Plans and adds a range.
    ///
    /// # Errors
    ///
    /// In words: it can't be planned, or RAM has run out.
    pub fn add(&self, boot: &BootInfo, map: &mut MemoryMap<M>, request: Request) -> Result<(Region, Cost), String> {
        let plan = map.plan(request).map_err(|error| error.to_string())?.summary();
        let (free, records) = (RamFrames::current().free(), map.section_bytes());
        let (region, counted) = self.counted(map, |map| match map.plan(request) {
            Ok(plan) => share::commit(boot, plan).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        });
        let region = region?;
        let page = M::Granule::SIZE.bytes();
        let section_bytes = map.section_bytes() - records;
        let cost = Cost {
            struct_pages: region.range().bytes() / page,
            tables: plan.linear_tables + plan.memmap_tables,
            ram_bytes: (free - RamFrames::current().free()) * page - section_bytes,
            altmap_bytes: handed_out(region.storage()) * page,
            section_bytes,
            ..counted
        };
        Ok((region, cost))
    }

    /// Removes a range; its storage as it came back.
    ///
    /// # Errors
    ///
    /// The region is given back, with what is in the way.
    pub fn remove(&self, map: &mut MemoryMap<M>, region: Region) -> Result<(Storage, Cost), Box<RemoveError>> {
        let (free, page) = (RamFrames::current().free(), M::Granule::SIZE.bytes());
        let (struct_pages, handed_out_before) = (region.range().bytes() / page, handed_out(region.storage()));
        let (removed, counted) = self.counted(map, |map| map.remove(region).map_err(Box::new));
        let removed = removed?;
        let cost = Cost {
            struct_pages,
            tables: removed.tables_freed,
            ram_bytes: (RamFrames::current().free() - free) * page,
            altmap_bytes: (handed_out_before - handed_out(&removed.storage)) * page,
            ..counted
        };
        Ok((removed.storage, cost))
    }

    /// Does `work` and counts; nothing but the counts is in the cost.
    fn counted<T>(&self, map: &mut MemoryMap<M>, work: impl FnOnce(&mut MemoryMap<M>) -> T) -> (T, Cost) {
        match self {
            Self::Events(take) => {
                take(map);
                let done = work(map);
                (done, Cost { events: Some(take(map)), ..Cost::default() })
            }
            Self::Instructions(counter) => {
                let (done, total) = counter.count(|| work(map));
                (done, Cost { instructions: Some((total, None)), ..Cost::default() })
            }
        }
    }
}

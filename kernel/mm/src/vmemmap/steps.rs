//! Populating, step by step: check, reserve (the only step that can run out), map, initialise.

use crate::addr::VirtRange;
use crate::frames::{OutOfFrames, Reserved};
use crate::granule::{Granule, Level};
use crate::meta::{self, Meta, Roles};
use crate::seam::{Frames, Machine};
use crate::table::{Tables, consecutive};
use crate::vmemmap::{Memmap, MemmapError, Storage};

/// Everything that populating takes, reserved: from here on it can't fail.
#[derive(Debug)]
#[must_use = "reserved frames that are neither used nor given back are lost"]
pub(crate) struct Reservation {
    tables: Reserved,
    /// Frames for blocks, and for pages: empty with an altmap.
    blocks: Reserved,
    pages: Reserved,
}

impl Memmap {
    /// Whether it can be there, and the tables that are missing; reads only.
    pub(crate) fn check<M: Machine>(&self, tables: &Tables<M>, storage: &Storage) -> Result<u64, MemmapError> {
        let (va, window, page) = (self.range(), self.layout.vmemmap(), M::Granule::SIZE.bytes());
        if !va.start().is_aligned(page) || !va.end().is_aligned(page) || !window.covers(va) {
            return Err(MemmapError::Window { va, window });
        }
        if let Storage::Altmap(altmap) = storage {
            if altmap.alloc() != 0 {
                return Err(MemmapError::AltmapInUse { alloc: altmap.alloc() });
            }
            self.fits_into(altmap)?;
        }
        Ok(tables.missing_tables(self.stretches())?)
    }

    #[inline]
    pub(crate) fn reserve<M: Machine, F: Frames>(
        &self,
        machine: &mut M,
        frames: &mut F,
        missing_tables: u64,
        storage: &Storage,
    ) -> Result<Reservation, OutOfFrames> {
        let (blocks, pages) = match storage {
            Storage::Altmap(_) => (0, 0),
            Storage::Ram => self.leaves(),
        };
        let page = M::Granule::SIZE.bytes();
        let tables = Reserved::take(machine, frames, missing_tables, page)?;
        let blocks = match Reserved::take(machine, frames, blocks, Self::BLOCK_BYTES) {
            Ok(blocks) => blocks,
            Err(error) => {
                tables.give_back(machine, frames);
                return Err(error);
            }
        };
        match Reserved::take(machine, frames, pages, page) {
            Ok(pages) => Ok(Reservation { tables, blocks, pages }),
            Err(error) => {
                tables.give_back(machine, frames);
                blocks.give_back(machine, frames);
                Err(error)
            }
        }
    }

    /// Writes the leaves and the tables that they need, links them, and returns the tables that it did not need.
    #[inline]
    pub(crate) fn map<M: Machine>(
        &self,
        tables: &mut Tables<M>,
        storage: &mut Storage,
        mut taken: Reservation,
    ) -> Reserved {
        let made = taken.tables.count();
        match storage {
            Storage::Altmap(altmap) => {
                tables.machine_mut().allocated(altmap.zone(M::Granule::SIZE));
                let fits = self.allocate_from(altmap, |stretch, first| {
                    let source = consecutive(first.address(M::Granule::SIZE.shift()), stretch, M::Granule::SIZE);
                    tables.map(stretch, self.protection, &mut taken.tables, source);
                });
                debug_assert!(fits.is_ok(), "the plan tried this altmap");
            }
            Storage::Ram => self.stretches().for_each(|stretch| {
                let pool = if stretch.leaf.level == Level::L3 { &mut taken.pages } else { &mut taken.blocks };
                tables.map(stretch, self.protection, &mut taken.tables, |machine| pool.pop(machine));
            }),
        }
        tables.publish(self.stretches(), made - taken.tables.count());
        taken.tables
    }

    /// Initialises the struct pages, one [`access`](crate::seam::Memory::access) a descriptor.
    #[inline]
    pub(crate) fn initialise<M: Machine, P: Meta>(&self, machine: &mut M, roles: &Roles) {
        let granule = self.layout.granule();
        for stretch in self.stretches() {
            let bytes = 1 << granule.level_shift(stretch.leaf.level);
            let mut va = stretch.va;
            for _ in 0..stretch.descriptors(granule) {
                let first = self.layout.pfn(va);
                machine.access(VirtRange::new(va, bytes), |memory| meta::initialise::<P>(memory, first, roles));
                va = va.add(bytes);
            }
        }
    }
}

//! Populating, step by step: check, reserve (the only step that can run out), map, initialise.

use crate::addr::{PhysRange, VirtRange};
use crate::altmap::Altmap;
use crate::frames::{OutOfFrames, Reserved};
use crate::granule::{Granule, Level};
use crate::layout::Layout;
use crate::leaf::Stretches;
use crate::meta::{self, Meta, Roles};
use crate::seam::{Frames, Machine};
use crate::table::Tables;
use crate::vmemmap::{Memmap, MemmapError, Shared, Storage};

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
        let (va, window) = (self.range(), self.layout.vmemmap());
        let whole = self.beside(Shared::default()).mapped();
        if !va.start().is_aligned(self.layout.struct_page_bytes()) || !window.covers(whole) {
            return Err(MemmapError::Window { va, window });
        }
        if let Some(page) = self.shared_edges().find(|page| tables.walk(*page).translation().is_none()) {
            return Err(MemmapError::NotShared { page });
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
        let (blocks, pages) = self.ram_leaves(storage);
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
                self.map_interior(tables, altmap, &mut taken.tables);
                self.map_ram(tables, self.edge_stretches(), &mut taken);
            }
            Storage::Ram => self.map_ram(tables, self.stretches(), &mut taken),
        }
        if self.stretches().next().is_some() {
            tables.publish(self.stretches(), made - taken.tables.count());
        }
        taken.tables
    }

    fn map_interior<M: Machine>(&self, tables: &mut Tables<M>, altmap: &mut Altmap, spare: &mut Reserved) {
        let first = altmap.next();
        let Some(fit) = self.fit(first, altmap.remaining()) else { return };
        *altmap = altmap.with(fit.placed);
        if let Some(used) = altmap.in_use(M::Granule::SIZE) {
            tables.machine_mut().allocated(used);
        }
        let _ = self.place_as(first, &fit, |stretch, first| {
            tables.map_consecutive(stretch, self.protection(), spare, first.address(M::Granule::SIZE.shift()));
        });
    }

    fn map_ram<M: Machine>(&self, tables: &mut Tables<M>, stretches: Stretches, taken: &mut Reservation) {
        for stretch in stretches {
            let pool = if stretch.leaf.level == Level::L3 { &mut taken.pages } else { &mut taken.blocks };
            tables.map(stretch, self.protection(), &mut taken.tables, |machine| pool.pop(machine));
        }
    }

    /// Initialises the struct pages, one [`access`](crate::seam::Memory::access) a descriptor.
    #[inline]
    pub(crate) fn initialise<M: Machine, P: Meta>(&self, machine: &mut M, roles: &Roles) {
        let granule = self.layout.granule();
        let (va, interior) = (self.range(), self.interior());
        let first = VirtRange::new(va.start(), interior.start().since(va.start()));
        let last = VirtRange::new(interior.end(), va.end().since(interior.end()));
        self.initialise_part::<M, P>(machine, first, roles);
        for stretch in self.interior_stretches() {
            let bytes = 1 << granule.level_shift(stretch.leaf.level);
            let mut va = stretch.va;
            for _ in 0..stretch.descriptors(granule) {
                self.initialise_part::<M, P>(machine, VirtRange::new(va, bytes), roles);
                va = va.add(bytes);
            }
        }
        self.initialise_part::<M, P>(machine, last, roles);
    }

    #[inline]
    fn initialise_part<M: Machine, P: Meta>(&self, machine: &mut M, part: VirtRange, roles: &Roles) {
        if part.bytes() > 0 {
            let first = self.layout.pfn(part.start());
            machine.access(part, |memory| meta::initialise::<P>(memory, first, roles));
        }
    }
}

/// Initialises the struct pages of `range` in a vmemmap that is there already, page by page.
pub(crate) fn initialise_within<M: Machine, P: Meta>(
    machine: &mut M,
    layout: &Layout,
    range: PhysRange,
    roles: &Roles,
) {
    let (pages, page) = (layout.pages(range), layout.granule().bytes());
    let mut done = 0;
    while done < pages.bytes() {
        let va = pages.start().add(done);
        let bytes = va.add(1).align_up(page).since(va).min(pages.bytes() - done);
        machine.access(VirtRange::new(va, bytes), |memory| meta::initialise::<P>(memory, layout.pfn(va), roles));
        done += bytes;
    }
}

//! Removal: the region closes, its pfns become invalid, readers leave, and only then is anything unmapped.

use super::{Hotplug, Listed, Obstacle, Region, RemoveError, Removed, early_parts};
use crate::addr::PhysRange;
use crate::lifetime;
use crate::meta::{Meta, Role, Roles};
use crate::regions::Record;
use crate::seam::{Frames, Machine, Phase, Quiesce};
use crate::vmemmap;

impl<M: Machine, F: Frames, P: Meta> Hotplug<M, F, P> {
    /// Refuses new references to `region` from now on: [`remove`](Self::remove) succeeds once those are gone that
    /// [`regions`](Self::regions) still counts. Nothing happens if it is closed already, or not of this memory map.
    pub fn close(&mut self, region: &Region) {
        if self.is_ours(region) {
            let _ = lifetime::close(&region.name.slot().word(self.tables.machine()));
        }
    }

    /// Allows references to a region that was [closed](Self::close) again.
    pub fn reopen(&mut self, region: &Region) {
        if self.is_ours(region) {
            let _ = lifetime::reopen(&region.name.slot().word(self.tables.machine()));
        }
    }

    /// Every range that is added, also where its [`Region`] was dropped.
    pub fn regions(&self) -> impl Iterator<Item = Listed> {
        let machine = self.tables.machine();
        self.regions.live(machine).map(|(slot, Record { range, lodging })| {
            let stored_in = lodging.map(|lodging| lodging.host.read(machine).range);
            Listed { range, state: slot.state(machine), stored_in }
        })
    }

    pub(super) fn is_ours(&self, region: &Region) -> bool {
        let machine = self.tables.machine();
        // The name of another memory map's region says nothing here.
        region.owner == self.sections.root()
            && region.name.record(machine).is_some_and(|record| record.range == region.range())
            && self.sections.is_wholly_active(machine, region.range())
    }

    /// Closes `region` for good, or leaves it as it was and says why it can't be.
    fn close_for_removal(&self, region: &Region) -> Result<(), Obstacle> {
        if !self.is_ours(region) {
            return Err(Obstacle::Foreign);
        }
        let (machine, slot) = (self.tables.machine(), region.name.slot());
        if let Some(tenant) = self.regions.tenant(machine, slot) {
            return Err(Obstacle::Hosts { tenant: tenant.range });
        }
        let word = slot.word(machine);
        let closed_before = lifetime::close(&word).is_err();
        match lifetime::holders(&word) {
            0 => Ok(()),
            references => {
                if !closed_before {
                    let _ = lifetime::reopen(&word);
                }
                Err(Obstacle::Referenced { references })
            }
        }
    }
}

impl<M: Machine, F: Frames + Quiesce, P: Meta> Hotplug<M, F, P> {
    /// Takes a range away. When it returns, nothing maps the range and no TLB holds a translation of it. (Dirty data-cache
    /// lines of its memory are the device owner's to clean.) It waits for readers that had found a pfn of it valid, so none
    /// of them loses a struct page that it looks at.
    ///
    /// # Errors
    ///
    /// [`RemoveError`] gives the region back if it is not one of this memory map, if references to it are held, or if its
    /// altmap holds the struct pages of another range. Then nothing has changed.
    #[allow(clippy::result_large_err, reason = "the region comes back in it, and there is no heap to box it")]
    pub fn remove(&mut self, region: Region) -> Result<Removed, RemoveError> {
        if let Err(why) = self.close_for_removal(&region) {
            return Err(RemoveError { region, why });
        }
        let range = region.range();
        self.tables.machine_mut().begin(Phase::Remove(range));
        self.sections.deactivate(self.tables.machine(), range);
        self.frames.wait_for_readers();
        let own = self.own_part(range);
        self.forget_early(range, own);
        let tables_freed = self.unmap(&region, own);
        self.tables.machine_mut().end(Phase::Remove(range));
        self.regions.retire(self.tables.machine_mut(), region.name.slot());
        let storage = if region.ask.host.is_some() { region.ask.storage } else { region.storage().emptied() };
        Ok(Removed { storage, tables_freed })
    }

    /// Takes both maps of a region away, which nobody uses any more; returns how many tables were freed. `own` is the part of
    /// it that has struct pages of its own.
    fn unmap(&mut self, region: &Region, own: PhysRange) -> u64 {
        let shared = self.shared(region.memmap(), own);
        let linear = self.linear(&region.ask);
        let Self { tables, frames, .. } = self;
        tables.machine_mut().begin(Phase::Populate);
        // SAFETY: it is this memory map's allocator, `shared` is what its records say, and the region ends with this.
        let memmap_tables = unsafe { region.populated.take_away(tables, frames, shared) };
        tables.machine_mut().end(Phase::Populate);
        tables.machine_mut().begin(Phase::Linear);
        let linear_tables = if let Some(linear) = &linear { linear.unmap(tables, frames) } else { 0 };
        tables.machine_mut().end(Phase::Linear);
        memmap_tables + linear_tables
    }

    /// Struct pages in early sections, all but the `own` ones, stay as boot left them.
    fn forget_early(&mut self, range: PhysRange, own: PhysRange) {
        let mut parts = early_parts(range, own).peekable();
        let machine = self.tables.machine_mut();
        if parts.peek().is_some() {
            // Another CPU may have mapped them, and this one not have synchronised since.
            machine.isb();
        }
        for part in parts {
            vmemmap::initialise_within::<M, P>(machine, &self.layout, part, &Roles::all(Role::Ram));
        }
    }
}

//! Hot-add and hot-remove of a range of device memory.
//!
//! The life of a range: [`Hotplug::plan`] validates and plans, pure reads; [`Plan::commit`] reserves what the plan names
//! (the only step that can run out), builds the linear map and then the vmemmap, initialises every struct page and only
//! then makes the pfns valid. [`Hotplug::remove`] goes the other way round: pfns invalid, vmemmap away, linear map away,
//! frames back where they came from.

mod error;
mod plan;
mod region;
mod request;

pub use error::{AddError, PlanError, RemoveError};
pub use plan::{Plan, Summary};
pub use region::{Region, Removed};
pub use request::Request;

#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod struct_page_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod validity_tests;

use core::marker::PhantomData;

use crate::addr::{Pfn, PhysRange};
use crate::descriptor::{Attributes, OutputFormat, TableAttributes};
use crate::frames::OutOfFrames;
use crate::granule::{Granule, SUBSECTION_BYTES};
use crate::layout::Layout;
use crate::leaf::LeafPolicy;
use crate::mapping::{self, Mapping};
use crate::meta::{Meta, Role, Roles, struct_page_shift};
use crate::seam::{Frames, Machine, Phase};
use crate::section::Sections;
use crate::table::{Protection, Tables};
use crate::vmemmap::{self, Memmap, PopulateError, Storage};

/// How the linear map of device memory is written: `PAGE_KERNEL`, as Linux's `memremap_pages()` asks.
pub const LINEAR_PROTECTION: Protection =
    Protection { leaf: Attributes::KERNEL, table: TableAttributes::LINEAR.owned() };

/// The memory map of a kernel: its tables, its frames, its sections. Writers are serialised by `&mut`.
#[derive(Debug)]
pub struct Hotplug<M, F, P> {
    tables: Tables<M>,
    frames: F,
    layout: Layout,
    sections: Sections,
    pa_bits: u32,
    struct_page: PhantomData<P>,
}

impl<M: Machine, F: Frames, P: Meta> Hotplug<M, F, P> {
    /// A memory map without any memory in it, for a CPU with `pa_bits` bits of physical address.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no frame for the section records.
    ///
    /// # Panics
    ///
    /// If `layout` is for another granule or another size of struct page, its windows overlap or lie outside of the
    /// regime, or `pa_bits` is not 32 to 48 (52 with a 52-bit output format).
    pub fn new(mut tables: Tables<M>, mut frames: F, layout: Layout, pa_bits: u32) -> Result<Self, OutOfFrames> {
        let most = if tables.regime().output() == OutputFormat::Bits48 { 48 } else { 52 };
        assert!((32..=most).contains(&pa_bits), "{pa_bits} bits of physical address: these tables have 32 to {most}");
        assert!(layout.fits(tables.regime().lowest()), "windows that overlap, or that TTBR1 does not translate");
        assert!(layout.struct_page_bytes() <= M::Granule::SIZE.bytes(), "a struct page larger than a page");
        assert!(layout.granule() == M::Granule::SIZE, "a layout of another granule");
        assert!(layout.struct_page_bytes() == 1 << struct_page_shift::<P>(), "a layout for another struct page");
        let sections = Sections::new(tables.machine_mut(), &mut frames)?;
        Ok(Self { tables, frames, layout, sections, pa_bits, struct_page: PhantomData })
    }

    /// Gives boot RAM its struct pages: whole sections, in RAM, valid over their whole span as Linux's early sections
    /// are. The linear map of RAM is boot's own.
    ///
    /// # Errors
    ///
    /// [`PopulateError`] if RAM can't hold them; then nothing but empty section records has changed.
    pub fn add_boot_ram(&mut self, range: PhysRange, policy: LeafPolicy) -> Result<(), PopulateError> {
        let range = self.whole_sections(range);
        self.sections.prepare(self.tables.machine_mut(), &mut self.frames, range)?;
        let memmap = Memmap::new(&self.layout, range, policy).early();
        let populated = vmemmap::populate(&mut self.tables, &mut self.frames, memmap, Storage::Ram)?;
        populated.memmap().initialise::<M, P>(self.tables.machine_mut(), &Roles::all(Role::Ram));
        self.sections.activate_early(self.tables.machine_mut(), range);
        Ok(())
    }

    /// Validates `request` and plans it. Reads only.
    ///
    /// # Errors
    ///
    /// [`PlanError`], which names the value, the rule and the nearest value that would do.
    pub fn plan(&mut self, request: Request) -> Result<Plan<'_, M, F, P>, PlanError> {
        self.validate(&request)?;
        Plan::new(self, request)
    }

    /// Takes a range away. When it returns, nothing maps the range and no TLB holds a translation of it. (Dirty data-cache
    /// lines of its memory are the device owner's to clean.) It does not wait for readers of the struct pages: that nobody
    /// walks them any more is the caller's to know.
    ///
    /// # Errors
    ///
    /// [`RemoveError`] gives the region back if it is not one of this memory map.
    #[allow(clippy::result_large_err, reason = "the region comes back in it, and there is no heap to box it")]
    pub fn remove(&mut self, region: Region) -> Result<Removed, RemoveError> {
        let active = self.sections.is_wholly_active(self.tables.machine(), region.range());
        if region.owner != self.sections.root() || !active {
            return Err(RemoveError { region });
        }
        let Region { request: Request { range, policy, .. }, populated, .. } = region;
        self.tables.machine_mut().begin(Phase::Remove(range));
        self.sections.deactivate(self.tables.machine_mut(), range);
        let linear = self.linear(range, policy);
        let Self { tables, frames, .. } = self;
        tables.machine_mut().begin(Phase::Populate);
        let (storage, memmap_tables) = vmemmap::depopulate(tables, frames, populated);
        tables.machine_mut().end(Phase::Populate);
        tables.machine_mut().begin(Phase::Linear);
        // SAFETY: commit made it, with the same range and policy, and the region that stood for its use is gone.
        let linear_tables = unsafe { mapping::unmap(tables, frames, &linear) };
        tables.machine_mut().end(Phase::Linear);
        tables.machine_mut().end(Phase::Remove(range));
        Ok(Removed { storage, tables_freed: memmap_tables + linear_tables })
    }

    /// Whether `pfn` has an initialised struct page.
    pub fn is_valid(&self, pfn: Pfn) -> bool {
        self.sections.is_valid(self.tables.machine(), pfn)
    }

    /// The windows of addresses that it works in.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The tables that it writes.
    #[must_use]
    pub const fn tables(&self) -> &Tables<M> {
        &self.tables
    }

    /// The tables, for their owner's other windows.
    pub const fn tables_mut(&mut self) -> &mut Tables<M> {
        &mut self.tables
    }

    /// Bytes of RAM that section records take. They are never freed.
    #[must_use]
    pub const fn section_bytes(&self) -> u64 {
        self.sections.bytes()
    }

    /// The same memory map on another machine: how an observer is put around the one below, or taken off.
    ///
    /// # Safety
    ///
    /// The machine that `change` returns must reach the same memory and the same TLBs as the one that it is given, and
    /// that one must not be used by anybody else.
    #[must_use]
    pub unsafe fn on<N: Machine<Granule = M::Granule>>(self, change: impl FnOnce(M) -> N) -> Hotplug<N, F, P> {
        let Self { tables, frames, layout, sections, pa_bits, struct_page } = self;
        Hotplug { tables: tables.on(change), frames, layout, sections, pa_bits, struct_page }
    }

    /// What a range must be a multiple of: a sub-section, and as much as one page of vmemmap describes.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.layout.described_by_page().max(SUBSECTION_BYTES)
    }

    fn linear(&self, range: PhysRange, policy: LeafPolicy) -> Mapping {
        Mapping::linear(self.tables.regime(), &self.layout, range, policy, LINEAR_PROTECTION)
    }

    fn whole_sections(&self, range: PhysRange) -> PhysRange {
        range.widen(1 << self.layout.granule().section_shift()).expect("RAM ends below 2^64")
    }
}

//! Hot-add and hot-remove of a range of device memory.
//!
//! The life of a range: [`Hotplug::plan`] validates and plans, pure reads; [`Plan::commit`] reserves what the plan names
//! (the only step that can run out), builds the linear map and then the vmemmap, initialises every struct page and only
//! then makes the pfns valid. [`Hotplug::remove`] goes the other way round: pfns invalid, readers gone, vmemmap away, linear
//! map away, frames back where they came from.
//!
//! Ranges start and end at any 2 MiB boundary. Where struct pages of a range share a page of vmemmap with others', that
//! page is RAM and goes with the last of them; where boot RAM has brought the struct pages of a whole section, those serve.

mod error;
mod kind;
mod plan;
#[cfg(doctest)]
mod refused;
mod region;
mod remove;
mod request;
mod view;

pub use crate::vmemmap::Work;
pub use error::{AddError, Obstacle, PlanError, RemoveError};
pub use kind::{Device, Kind, LINEAR_PROTECTION, PeerToPeer, Private, RangeKind};
pub use plan::{Plan, Summary};
pub use region::{Listed, Region, Removed};
pub use request::Request;
pub use view::{Reference, View};

#[cfg(test)]
mod adopter_layouts_tests;
#[cfg(test)]
mod adoption_tests;
#[cfg(test)]
mod books_tests;
#[cfg(test)]
mod extremes_tests;
#[cfg(test)]
mod growth_tests;
#[cfg(test)]
mod kind_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod linux_bugs_tests;
#[cfg(test)]
mod lodging_tests;
#[cfg(test)]
mod protocol_tests;
#[cfg(all(test, feature = "sim"))]
mod reader_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod struct_page_tests;
#[cfg(test)]
mod subsection_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod validity_tests;

use core::marker::PhantomData;

use crate::addr::{Pfn, PhysAddr, PhysRange};
use crate::altmap::Altmap;
use crate::descriptor::OutputFormat;
use crate::frames::OutOfFrames;
use crate::granule::Granule;
use crate::layout::Layout;
use crate::leaf::LeafPolicy;
use crate::mapping::Mapping;
use crate::meta::{Meta, Role, Roles, struct_page_shift};
use crate::regions::Regions;
use crate::seam::{Frames, Machine};
use crate::section::Sections;
use crate::table::Tables;
use crate::vmemmap::{self, Memmap, PopulateError, Shared, Storage};
use request::Ask;

/// The end of all physical addresses that descriptors can hold.
const MOST: PhysAddr = PhysAddr::new(1 << 52);

/// The memory map of a kernel: its tables, its frames, its sections. Writers are serialised by `&mut`.
#[derive(Debug)]
pub struct Hotplug<M, F, P> {
    tables: Tables<M>,
    frames: F,
    layout: Layout,
    sections: Sections,
    regions: Regions,
    pa_bits: u32,
    struct_page: PhantomData<P>,
}

impl<M: Machine, F: Frames, P: Meta> Hotplug<M, F, P> {
    /// A memory map without any memory in it, for a CPU with `pa_bits` bits of physical address.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is no frame for the section records, or for the registry of ranges; then none is taken.
    ///
    /// # Panics
    ///
    /// If `layout` is for another granule or another size of struct page, its windows don't [fit](Layout::fits), or
    /// `pa_bits` is not 32 to 48 (52 with a 52-bit output format).
    pub fn new(mut tables: Tables<M>, mut frames: F, layout: Layout, pa_bits: u32) -> Result<Self, OutOfFrames> {
        let most = if tables.regime().output() == OutputFormat::Bits48 { 48 } else { 52 };
        assert!((32..=most).contains(&pa_bits), "{pa_bits} bits of physical address: these tables have 32 to {most}");
        assert!(
            layout.fits(tables.regime().lowest()),
            "windows that overlap, wrap, are out of step, or not translated"
        );
        assert!(layout.struct_page_bytes() <= M::Granule::SIZE.bytes(), "a struct page larger than a page");
        assert!(layout.granule() == M::Granule::SIZE, "a layout of another granule");
        assert!(layout.struct_page_bytes() == 1 << struct_page_shift::<P>(), "a layout for another struct page");
        let machine = tables.machine_mut();
        let sections = Sections::new(machine, &mut frames)?;
        let regions = Regions::new(machine, &mut frames)
            .inspect_err(|_| crate::frames::give(machine, &mut frames, sections.root(), M::Granule::SIZE.bytes()))?;
        Ok(Self { tables, frames, layout, sections, regions, pa_bits, struct_page: PhantomData })
    }

    /// Gives boot RAM its struct pages: for the whole of every section that it touches, in RAM, valid over their whole span
    /// as Linux's early sections are. What else is in those sections may be added later, and uses the same struct pages. The
    /// linear map of RAM is boot's own. It looks at every range that is added: boot RAM comes first, when there is none.
    ///
    /// # Errors
    ///
    /// [`PopulateError`] if RAM can't hold them, or device memory was added in one of the sections before; then nothing but
    /// empty section records has changed.
    ///
    /// # Panics
    ///
    /// If `range` ends beyond 2^52.
    pub fn add_boot_ram(&mut self, range: PhysRange, policy: LeafPolicy) -> Result<(), PopulateError> {
        let wide = range.widen(1 << self.layout.granule().section_shift()).filter(|wide| wide.end() <= MOST);
        let wide = wide.expect("RAM ends at or below 2^52");
        if range.is_empty() {
            return Ok(());
        }
        let live = self.regions.live(self.tables.machine()).map(|(_, record)| record.range);
        if let Some(live) = live.into_iter().find(|live| live.overlaps(wide)) {
            return Err(PopulateError::Added { range: wide, live });
        }
        self.sections.prepare(self.tables.machine_mut(), &mut self.frames, wide)?;
        let new = self.sections.outside_early(self.tables.machine(), wide);
        if !new.is_empty() {
            let memmap = Memmap::new(&self.layout, new, policy).early();
            let memmap = memmap.beside(self.shared(&memmap, new));
            let populated = vmemmap::populate(&mut self.tables, &mut self.frames, memmap, Storage::Ram)?;
            populated.memmap().initialise::<M, P>(self.tables.machine_mut(), &Roles::all(Role::Ram));
            self.sections.mark_early(self.tables.machine_mut(), new);
        }
        self.sections.activate(self.tables.machine(), range);
        Ok(())
    }

    /// Validates `request` and plans it. Reads only.
    ///
    /// # Errors
    ///
    /// [`PlanError`], which names the value, the rule and the nearest value that would do.
    pub fn plan<K: Kind>(&mut self, request: Request<K>) -> Result<Plan<'_, M, F, P>, PlanError> {
        let ask = request.ask();
        self.validate(&ask)?;
        Plan::new(self, ask)
    }

    /// The smallest altmap for `range` with `policy`, after `reserve` frames for the driver: none for struct pages that boot
    /// has brought.
    pub fn tight_altmap(&self, range: PhysRange, policy: LeafPolicy, reserve: u64) -> Altmap {
        let own = self.sections.outside_early(self.tables.machine(), range);
        let empty = Altmap::new(range, self.layout.granule(), reserve, 0);
        let free = Memmap::new(&self.layout, own, policy).required_from(empty.next());
        Altmap::new(range, self.layout.granule(), reserve, free)
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

    /// Bytes of RAM that the records of sections and of ranges take. They are never freed.
    #[must_use]
    pub const fn section_bytes(&self) -> u64 {
        self.sections.bytes() + self.regions.bytes()
    }

    /// The same memory map on another machine: how an observer is put around the one below, or taken off.
    ///
    /// # Safety
    ///
    /// The machine that `change` returns must reach the same memory and the same TLBs as the one that it is given, and
    /// that one must not be used by anybody else.
    #[must_use]
    pub unsafe fn on<N: Machine<Granule = M::Granule>>(self, change: impl FnOnce(M) -> N) -> Hotplug<N, F, P> {
        let Self { tables, frames, layout, sections, regions, pa_bits, struct_page } = self;
        Hotplug { tables: tables.on(change), frames, layout, sections, regions, pa_bits, struct_page }
    }

    /// The linear map of a range, if its kind has one.
    fn linear(&self, ask: &Ask) -> Option<Mapping> {
        let protection = ask.kind.linear_protection(&self.layout)?;
        Some(Mapping::linear(self.tables.regime(), &self.layout, ask.range, ask.policy, protection))
    }

    /// Which edge pages of a region's vmemmap hold struct pages of other ranges, or of boot RAM, at present: those stay when
    /// it is removed.
    #[must_use]
    pub fn shared_by_others(&self, region: &Region) -> Shared {
        self.shared(region.memmap(), self.own_part(region.range()))
    }

    /// The part of a range whose struct pages are not boot's.
    fn own_part(&self, range: PhysRange) -> PhysRange {
        self.sections.outside_early(self.tables.machine(), range)
    }

    /// Which edge pages of `memmap`, that of `range`, others use.
    fn shared(&self, memmap: &Memmap, range: PhysRange) -> Shared {
        let used = |start, end| {
            let part = PhysRange::between(start, end).filter(|part| !part.is_empty());
            part.is_some_and(|part| self.sections.is_used(self.tables.machine(), part))
        };
        let [first, last] = memmap.edges().map(|page| {
            let described = page.map(|page| self.layout.described_by(page));
            described.is_some_and(|all| used(all.start(), range.start()) || used(range.end(), all.end()))
        });
        Shared { first, last }
    }
}

/// The parts of `range` in early sections, whose struct pages are boot's: all but its `own`.
fn early_parts(range: PhysRange, own: PhysRange) -> impl Iterator<Item = PhysRange> {
    let parts = [(range.start(), own.start()), (own.end(), range.end())];
    parts.into_iter().filter_map(|(start, end)| PhysRange::between(start, end)).filter(|part| !part.is_empty())
}

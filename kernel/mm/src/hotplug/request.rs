//! What a driver asks for, and whether it can be had.

use super::{Hotplug, PlanError};
use crate::addr::{Pfn, PhysAddr, PhysRange};
use crate::altmap::Altmap;
use crate::leaf::LeafPolicy;
use crate::meta::Meta;
use crate::seam::{Frames, Machine};
use crate::section::Conflict;
use crate::vmemmap::Storage;

/// A range of device memory to be added.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub(super) range: PhysRange,
    pub(super) storage: Storage,
    pub(super) policy: LeafPolicy,
}

impl Request {
    /// Adds `range`, with its struct pages in RAM and the largest leaves.
    ///
    /// # Safety
    ///
    /// `range` must be memory that exists and that nobody else uses, from the commit of this request to the removal of
    /// its region: it is mapped as Normal memory, and with an altmap part of it is written.
    #[must_use]
    pub const unsafe fn new(range: PhysRange) -> Self {
        Self { range, storage: Storage::Ram, policy: LeafPolicy::Largest }
    }

    /// With the struct pages in the range's own memory.
    #[must_use]
    pub const fn altmap(self, altmap: Altmap) -> Self {
        Self { storage: Storage::Altmap(altmap), ..self }
    }

    /// Where its struct pages are to be.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// With other leaves.
    #[must_use]
    pub const fn policy(self, policy: LeafPolicy) -> Self {
        Self { policy, ..self }
    }
}

impl<M: Machine, F: Frames, P: Meta> Hotplug<M, F, P> {
    pub(super) fn validate(&self, request: &Request) -> Result<(), PlanError> {
        self.validate_shape(request.range)?;
        self.validate_place(request.range)?;
        match &request.storage {
            Storage::Altmap(altmap) => self.validate_altmap(request.range, altmap),
            Storage::Ram => Ok(()),
        }
    }

    fn validate_shape(&self, range: PhysRange) -> Result<(), PlanError> {
        if range.is_empty() {
            return Err(PlanError::Empty { start: range.start() });
        }
        let unit = self.unit();
        if range.start().is_aligned(unit) && range.end().is_aligned(unit) {
            return Ok(());
        }
        let start = range.start().value().checked_next_multiple_of(unit).map(PhysAddr::new);
        let inner = start.and_then(|start| PhysRange::between(start, range.end().align_down(unit)));
        let nearest = inner.filter(|inner| !inner.is_empty()).or(range.widen(unit)).unwrap_or(range);
        Err(PlanError::Misaligned { range, unit, granule: self.layout.granule(), nearest })
    }

    fn validate_place(&self, range: PhysRange) -> Result<(), PlanError> {
        let physical = PhysRange::new(PhysAddr::new(0), 1 << self.pa_bits).expect("at most 52 bits");
        if range.end() > physical.end() {
            return Err(PlanError::BeyondCpu { range, pa_bits: self.pa_bits });
        }
        let mappable = self.layout.mappable(self.pa_bits, self.tables.regime().lowest());
        if range.start() < mappable.start() || range.end() > mappable.end() {
            return Err(PlanError::BeyondLinearMap { range, mappable });
        }
        match self.sections.conflict(self.tables.machine(), range) {
            Some(Conflict::BootRam(section)) => Err(PlanError::BootSection { range, section }),
            Some(Conflict::Active(subsection)) => Err(PlanError::Overlap { range, subsection }),
            None => Ok(()),
        }
    }

    fn validate_altmap(&self, range: PhysRange, altmap: &Altmap) -> Result<(), PlanError> {
        let shift = self.layout.granule().shift();
        let first = Pfn::containing(range.start(), shift);
        if altmap.base_pfn() != first {
            return Err(PlanError::AltmapElsewhere { base: altmap.base_pfn().address(shift), range });
        }
        let frames = range.bytes() >> shift;
        match altmap.reserve().checked_add(altmap.free()) {
            Some(aside) if aside <= frames => Ok(()),
            _ => Err(PlanError::AltmapTooLarge { reserve: altmap.reserve(), free: altmap.free(), frames }),
        }
    }
}

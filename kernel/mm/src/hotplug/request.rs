//! What a driver asks for, and whether it can be had.

use core::marker::PhantomData;

use super::kind::{Device, Kind, PeerToPeer, Private, RangeKind};
use super::{Hotplug, PlanError, Region};
use crate::addr::{Pfn, PhysAddr, PhysRange};
use crate::altmap::Altmap;
use crate::granule::SUBSECTION_BYTES;
use crate::leaf::LeafPolicy;
use crate::lifetime::State;
use crate::meta::Meta;
use crate::regions::Name;
use crate::seam::{Frames, Machine};
use crate::vmemmap::Storage;

/// A range of device memory to be added, as what `K` says.
#[derive(Clone, Copy, Debug)]
pub struct Request<K = Device> {
    ask: Ask,
    kind: PhantomData<K>,
}

/// A request with its kind as a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) range: PhysRange,
    pub(super) kind: RangeKind,
    pub(super) storage: Storage,
    /// Whose altmap `storage` is, if it is not the range's own.
    pub(super) host: Option<Host>,
    pub(super) policy: LeafPolicy,
}

/// The range that another one's struct pages are to be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) name: Name,
    pub(super) owner: PhysAddr,
    pub(super) range: PhysRange,
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
        Self::of(range)
    }

    /// With the struct pages in the range's own memory.
    #[must_use]
    pub const fn altmap(self, altmap: Altmap) -> Self {
        Self { ask: Ask { storage: Storage::Altmap(altmap), host: None, ..self.ask }, ..self }
    }

    /// With the struct pages in what is left of the altmap of `host`, which is busy while they are there.
    #[must_use]
    pub fn altmap_of(self, host: &Region) -> Self {
        let storage = match (host.ask.host, host.ask.storage) {
            (None, Storage::Altmap(altmap)) => Storage::Altmap(altmap),
            _ => Storage::Ram,
        };
        let host = Host { name: host.name, owner: host.owner, range: host.range() };
        Self { ask: Ask { storage, host: Some(host), ..self.ask }, ..self }
    }
}

impl Request<Private> {
    /// Gives struct pages, in RAM, to `range`, which the CPU can't reach: nothing maps it, nothing reads or writes it.
    #[must_use]
    pub const fn private(range: PhysRange) -> Self {
        Self::of(range)
    }
}

impl Request<PeerToPeer> {
    /// Adds `range`, a window of another device: mapped as Device-nGnRnE memory, with struct pages in RAM.
    ///
    /// # Safety
    ///
    /// `range` must be a window that exists and that nobody else uses, from the commit of this request to the removal of
    /// its region.
    #[must_use]
    pub const unsafe fn peer_to_peer(range: PhysRange) -> Self {
        Self::of(range)
    }
}

impl<K: Kind> Request<K> {
    const fn of(range: PhysRange) -> Self {
        let ask = Ask { range, kind: K::KIND, storage: Storage::Ram, host: None, policy: LeafPolicy::Largest };
        Self { ask, kind: PhantomData }
    }

    /// Where its struct pages are to be; with a host, the whole of its altmap.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.ask.storage
    }

    /// With other leaves.
    #[must_use]
    pub const fn policy(self, policy: LeafPolicy) -> Self {
        Self { ask: Ask { policy, ..self.ask }, kind: PhantomData }
    }

    pub(super) const fn ask(self) -> Ask {
        self.ask
    }
}

impl<M: Machine, F: Frames, P: Meta> Hotplug<M, F, P> {
    pub(super) fn validate(&self, ask: &Ask) -> Result<(), PlanError> {
        let range = ask.range;
        validate_shape(range)?;
        self.validate_place(range, ask.kind)?;
        self.validate_vacancy(range)?;
        match (&ask.storage, &ask.host) {
            (storage, Some(host)) => self.validate_host(storage, host),
            (Storage::Altmap(altmap), None) => self.validate_altmap(range, altmap),
            (Storage::Ram, None) => Ok(()),
        }
    }

    fn validate_place(&self, range: PhysRange, kind: RangeKind) -> Result<(), PlanError> {
        if kind.linear_protection(&self.layout).is_none() {
            let describable = self.layout.describable();
            return if range.start() < describable.start() || range.end() > describable.end() {
                Err(PlanError::BeyondVmemmap { range, describable })
            } else {
                Ok(())
            };
        }
        let physical = PhysRange::new(PhysAddr::new(0), 1 << self.pa_bits).expect("at most 52 bits");
        if range.end() > physical.end() {
            return Err(PlanError::BeyondCpu { range, pa_bits: self.pa_bits });
        }
        let mappable = self.layout.mappable(self.pa_bits, self.tables.regime().lowest());
        if range.start() < mappable.start() || range.end() > mappable.end() {
            return Err(PlanError::BeyondLinearMap { range, mappable });
        }
        Ok(())
    }

    fn validate_vacancy(&self, range: PhysRange) -> Result<(), PlanError> {
        let machine = self.tables.machine();
        let Some(subsection) = self.sections.first_active(machine, range) else { return Ok(()) };
        match self.regions.live(machine).find(|(_, record)| record.range.overlaps(subsection)) {
            Some((_, record)) => Err(PlanError::Overlap { range, live: record.range }),
            None => Err(PlanError::BootRam { range, ram: subsection }),
        }
    }

    fn validate_host(&self, storage: &Storage, host: &Host) -> Result<(), PlanError> {
        let machine = self.tables.machine();
        let live = host.owner == self.sections.root() && host.name.record(machine).is_some();
        match storage {
            _ if !live => Err(PlanError::HostGone { host: host.range }),
            _ if !matches!(host.name.slot().state(machine), State::Live { .. }) => {
                Err(PlanError::HostClosing { host: host.range })
            }
            Storage::Ram => Err(PlanError::HostWithoutAltmap { host: host.range }),
            Storage::Altmap(_) => Ok(()),
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

/// Whole sub-sections, and at least one.
fn validate_shape(range: PhysRange) -> Result<(), PlanError> {
    const UNIT: u64 = SUBSECTION_BYTES;
    if range.is_empty() {
        return Err(PlanError::Empty { start: range.start() });
    }
    if range.start().is_aligned(UNIT) && range.end().is_aligned(UNIT) {
        return Ok(());
    }
    let start = range.start().value().checked_next_multiple_of(UNIT).map(PhysAddr::new);
    let inner = start.and_then(|start| PhysRange::between(start, range.end().align_down(UNIT)));
    let nearest = inner.filter(|inner| !inner.is_empty()).or(range.widen(UNIT)).unwrap_or(range);
    Err(PlanError::Misaligned { range, nearest })
}

//! Ranges that are added and removed.

use vmemmap::addr::PhysRange;
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Hotplug, Obstacle, PeerToPeer, Plan, PlanError, Private, RangeKind, Region, Request};
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::Meta;
use vmemmap::sim::SimRam;
use vmemmap::sim::world::Cpu;
use vmemmap::vmemmap::{Memmap, Storage};

use super::super::MIB;
use super::super::geometry::{Arena, range};
use super::super::operation::{AROUND, Extent, Store};
use super::super::watch::Target;
use super::{Added, Done, Scene, Verdict};

/// What ranges are multiples of.
pub(super) const STEP: u64 = 2 * MIB;

/// Whether two stretches, each a start and a size, share a byte.
pub const fn overlap(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 < other.0 + other.1 && other.0 < one.0 + one.1
}

/// What is to be added.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub start: u64,
    pub bytes: u64,
    pub store: Store,
    pub policy: LeafPolicy,
    pub kind: RangeKind,
}

/// A request of any kind.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    Device(Request),
    Private(Request<Private>),
    Peer(Request<PeerToPeer>),
}

impl Ask {
    pub(super) fn new(asked: &Asked) -> Self {
        let device = range(asked.start, asked.bytes);
        match asked.kind {
            // SAFETY: memory of the world, whose devices are the scene's.
            RangeKind::Device => Self::Device(unsafe { Request::new(device) }.policy(asked.policy)),
            RangeKind::Private => Self::Private(Request::private(device).policy(asked.policy)),
            // SAFETY: as above.
            RangeKind::PeerToPeer => Self::Peer(unsafe { Request::peer_to_peer(device) }.policy(asked.policy)),
        }
    }

    pub(super) fn plan<G: Granule, P: Meta>(
        self,
        map: &mut Hotplug<Cpu<G>, SimRam, P>,
    ) -> Result<Plan<'_, Cpu<G>, SimRam, P>, PlanError> {
        match self {
            Self::Device(request) => map.plan(request),
            Self::Private(request) => map.plan(request),
            Self::Peer(request) => map.plan(request),
        }
    }
}

impl<G: Granule, P: Meta> Scene<G, P> {
    pub(super) fn extent(&self, arena: Arena, extent: Extent) -> (u64, u64) {
        let (base, unit, big) = (self.row.arena(arena), self.row.unit(self.page_shift), self.row.big(self.page_shift));
        let around =
            |boundary, at| base + boundary * self.row.stride(arena, self.page_shift) + at * STEP - AROUND * STEP;
        match extent {
            // Behind boot RAM there is less room.
            Extent::Units { at, count } if arena == Arena::Early => (base + at * STEP, count * STEP),
            Extent::Big { at } if arena == Arena::Early => (base + at * STEP, STEP),
            Extent::Long { at, count } if arena == Arena::Early => (around(0, at), (8 + count) * STEP),
            Extent::Units { at, count } => (base + at * unit, count * unit),
            Extent::Steps { boundary, at, count } => (around(boundary, at), count * STEP),
            Extent::Long { at, count } => (around(0, at), unit + count * STEP),
            Extent::Big { at } => (base + at * big, big),
        }
    }

    /// The altmap for a range, which may be one that does not do. `tight` is the least that does, after a reserve.
    pub(super) fn altmap(
        &self,
        asked: &Asked,
        own: (u64, u64),
        tight: impl Fn(PhysRange, u64) -> Altmap,
    ) -> Option<Altmap> {
        let (device, start, granule) = (range(asked.start, asked.bytes), asked.start, self.row.granule);
        let tight = |reserve| tight(device, reserve);
        let new = |device, reserve, free| Altmap::new(device, granule, reserve, free);
        Some(match asked.store {
            Store::Ram | Store::Host(_) => return None,
            Store::Tight { reserve } => tight(reserve),
            Store::Roomy { reserve, spare } => new(device, reserve, tight(reserve).free() + spare),
            Store::Unaligned => new(range(start + 16, device.bytes() - 16), 0, tight(0).free()),
            Store::Short => new(device, 0, tight(0).free().saturating_sub(1)),
            Store::Elsewhere => new(range(start + device.bytes(), device.bytes()), 0, tight(0).free()),
            Store::Huge => new(device, 1, device.bytes() >> granule.shift()),
            Store::Used => {
                let mut altmap = tight(0);
                let memmap = Memmap::new(&self.layout, range(own.0, own.1), asked.policy);
                memmap.allocate_from(&mut altmap, |_, _| ()).expect("it is large enough");
                altmap
            }
        })
    }

    /// Why the altmap can't serve, whatever is there already; `pages` of the vmemmap have to go into it.
    pub(super) fn altmap_flaw(&self, asked: &Asked, altmap: Option<Altmap>, pages: u64) -> Option<Verdict> {
        let altmap = altmap?;
        match asked.store {
            Store::Elsewhere => Some(Verdict::AltmapElsewhere),
            _ if altmap.reserve() + altmap.free() > asked.bytes >> self.form.shift => Some(Verdict::AltmapTooLarge),
            Store::Used if pages > 0 => Some(Verdict::AltmapInUse),
            Store::Short if pages > 0 => Some(Verdict::AltmapTooSmall),
            _ => None,
        }
    }

    /// How adding is to end, by what is there; `None` if a host's altmap may or may not do.
    fn expected(&self, asked: &Asked, altmap: Option<Altmap>, host: Option<usize>) -> Option<Verdict> {
        let own = self.own(asked.start, asked.bytes);
        let pages = self.pages(own).interior.1 >> self.form.shift;
        if let Some(verdict) = self.in_the_way((asked.start, asked.bytes)) {
            return Some(verdict);
        }
        if let Some(flaw) = self.altmap_flaw(asked, altmap, pages) {
            return Some(flaw);
        }
        let free = if self.meets_bare(own) { Verdict::Occupied } else { Verdict::Added };
        let Some(host) = host.map(|index| &self.added[index]) else { return Some(free) };
        if host.closed {
            return Some(Verdict::HostClosing);
        }
        if host.given.is_none() {
            return Some(Verdict::HostWithoutAltmap);
        }
        self.fits(host, pages, asked.policy).map(|fits| if fits { free } else { Verdict::AltmapTooSmall })
    }

    /// Whose altmap it is to be; half of the time one that has any, where there is one.
    fn host(&self, which: usize) -> Option<usize> {
        let hosts = |index: &usize| self.added[*index].region.is_some() && self.added[*index].given.is_some();
        let hosts: Vec<_> = (0..self.added.len()).filter(hosts).collect();
        match (which / 2).checked_rem(hosts.len()) {
            Some(index) if which % 2 == 1 => Some(hosts[index]),
            _ => self.pick(which / 2),
        }
    }

    fn request(&self, asked: &Asked, altmap: Option<Altmap>, host: Option<usize>) -> Ask {
        let host = host.and_then(|index| self.added[index].region.as_ref());
        match (Ask::new(asked), altmap, host) {
            (Ask::Device(request), Some(altmap), _) => Ask::Device(request.altmap(altmap)),
            (Ask::Device(request), None, Some(host)) => Ask::Device(request.altmap_of(host)),
            (ask, ..) => ask,
        }
    }

    pub(super) fn add(&mut self, cpu: u8, mut asked: Asked) -> Done {
        if asked.kind != RangeKind::Device {
            asked.store = Store::Ram;
        }
        let host = if let Store::Host(which) = asked.store { self.host(which) } else { None };
        if host.is_none() && matches!(asked.store, Store::Host(_)) {
            return Done::refused(Verdict::Idle);
        }
        let own = self.own(asked.start, asked.bytes);
        let tight = |device, reserve| self.map().tight_altmap(device, asked.policy, reserve);
        let altmap = self.altmap(&asked, own, tight);
        let ask = self.request(&asked, altmap, host);
        let expected = self.expected(&asked, altmap, host).unwrap_or_else(|| {
            let plan = ask.plan(self.on(cpu)).map(drop);
            plan.map_or_else(|error| Verdict::from(&error), |()| Verdict::Added)
        });
        match expected {
            Verdict::Added => self.commit(cpu, &asked, ask, altmap, host.map(|index| self.added[index].start)),
            _ => self.expect_refusal(cpu, ask, expected),
        }
    }

    pub(super) fn expect_refusal(&mut self, cpu: u8, ask: Ask, expected: Verdict) -> Done {
        let error = ask.plan(self.on(cpu)).map(drop).expect_err("it can't be planned");
        assert_eq!(Verdict::from(&error), expected, "{error}");
        Done::refused(expected)
    }

    fn commit(&mut self, cpu: u8, asked: &Asked, ask: Ask, given: Option<Altmap>, host: Option<u64>) -> Done {
        let Asked { start, bytes, kind, .. } = *asked;
        self.device(start, bytes, true);
        let pages = self.pages(self.own(start, bytes));
        let linear = self.linear_attributes(kind).map(|attributes| {
            self.watch.claim(self.row.linear(start), bytes, Target::Frames { pa: start, attributes })
        });
        let interior = self.claim_pages(pages.interior);
        let new: Vec<_> = pages.edges.iter().filter(|page| !self.edges.contains_key(page)).copied().collect();
        let edges: Vec<_> = new.iter().filter_map(|page| self.claim_pages((*page, 1 << self.form.shift))).collect();
        let claims: Vec<_> = linear.into_iter().chain(interior).chain(edges.iter().copied()).collect();
        let plan = ask.plan(self.on(cpu)).unwrap_or_else(|error| panic!("{} is refused: {error}", range(start, bytes)));
        let Ok(region) = plan.commit() else {
            for claim in &claims {
                self.watch.gone(*claim);
            }
            self.device(start, bytes, false);
            return Done::refused(Verdict::OutOfRam);
        };
        let touched = self.arrived(cpu, &claims);
        self.edges.extend(new.into_iter().zip(edges));
        let altmap = region.storage().altmap();
        let (edges, closed) = (pages.edges, false);
        let region = Some(region);
        self.added.push(Added { region, start, bytes, kind, given, altmap, host, linear, interior, edges, closed });
        Done { verdict: Verdict::Added, touched }
    }

    /// Nothing that is there may go before what needs it: tenants before their host, references before their range.
    fn obstacle(&self, index: usize) -> Option<Verdict> {
        let host = &self.added[index];
        if self.added.iter().any(|added| added.start != host.start && added.lives_in(host)) {
            return Some(Verdict::Hosts);
        }
        (self.holders(host.start) > 0).then_some(Verdict::Referenced)
    }

    pub(super) fn remove(&mut self, cpu: u8, which: usize) -> Done {
        match self.pick(which) {
            Some(index) => self.remove_at(cpu, index),
            None => Done::refused(Verdict::Idle),
        }
    }

    pub(super) fn remove_at(&mut self, cpu: u8, index: usize) -> Done {
        let region = self.added[index].region.take().expect("picked for it");
        match self.obstacle(index) {
            Some(expected) => self.expect_busy(cpu, index, region, expected),
            None => self.take_away(cpu, index, region),
        }
    }

    /// The region comes back, and is as it was.
    fn expect_busy(&mut self, cpu: u8, index: usize, region: Region, expected: Verdict) -> Done {
        let error = self.on(cpu).remove(region).expect_err("it is busy");
        let (host, holders) = (&self.added[index], self.holders(self.added[index].start));
        let is_tenant = |start| self.added.iter().any(|added| added.start == start && added.host == Some(host.start));
        let right = match error.why {
            Obstacle::Hosts { tenant } => expected == Verdict::Hosts && is_tenant(tenant.start().value()),
            Obstacle::Referenced { references } => expected == Verdict::Referenced && references == holders,
            Obstacle::Foreign => false,
        };
        assert!(right, "I10: {error} where {expected:?} was expected, {holders} references");
        self.added[index].region = Some(error.region);
        Done::refused(expected)
    }

    fn take_away(&mut self, cpu: u8, index: usize, region: Region) -> Done {
        let added = self.added.remove(index);
        let hosts = added.host.and_then(|host| self.added.iter().find(|added| added.start == host)?.given);
        if let (Some(_), RangeKind::Device) = (added.given, added.kind) {
            // SAFETY: as when it was added; it is never committed.
            let request = unsafe { Request::new(region.range()) }.altmap_of(&region);
            self.gone_host = Some((added.start, added.bytes, request));
        }
        let last = |page: &&u64| !self.added.iter().any(|added| added.edges.contains(page));
        let pages: Vec<_> = added.edges.iter().filter(last).copied().collect();
        let edges: Vec<_> = pages.iter().filter_map(|page| self.edges.remove(page)).collect();
        assert_eq!(pages.len(), edges.len(), "an edge page that is there, and claimed once");
        let claims: Vec<_> = added.linear.into_iter().chain(added.interior).chain(edges).collect();
        for claim in &claims {
            self.watch.leaving(*claim);
        }
        let removed = self.on(cpu).remove(region).unwrap_or_else(|error| panic!("{error}"));
        // The altmap of a host that is gone by now is known to nobody.
        if added.host.is_none() || hosts.is_some() {
            assert_eq!(removed.storage, added.given.or(hosts).map_or(Storage::Ram, Storage::Altmap), "L1: as given");
        }
        let touched = self.stretches(&claims);
        for claim in &claims {
            self.watch.gone(*claim);
        }
        self.device(added.start, added.bytes, false);
        Done { verdict: Verdict::Removed, touched }
    }
}

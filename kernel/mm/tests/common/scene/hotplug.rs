//! Ranges that are added and removed, and requests that are refused.

use vmemmap::addr::PhysRange;
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Hotplug, PlanError, Request};
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::Meta;
use vmemmap::sim::World;
use vmemmap::table::Tables;
use vmemmap::vmemmap::{MemmapError, Storage};

use super::super::geometry::{Arena, range};
use super::super::operation::{Extent, Store};
use super::{Added, Done, Scene, Verdict};

/// Whether two stretches, each a start and a size, share a byte.
pub const fn overlap(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 < other.0 + other.1 && other.0 < one.0 + one.1
}

fn verdict(error: &PlanError) -> Verdict {
    match error {
        PlanError::Empty { .. } => Verdict::Empty,
        PlanError::Misaligned { .. } => Verdict::Misaligned,
        PlanError::Overlap { .. } => Verdict::Overlap,
        PlanError::AltmapElsewhere { .. } => Verdict::AltmapElsewhere,
        PlanError::AltmapTooLarge { .. } => Verdict::AltmapTooLarge,
        PlanError::Occupied(_) | PlanError::Memmap(MemmapError::Occupied(_)) => Verdict::Occupied,
        PlanError::Memmap(MemmapError::Altmap(_)) => Verdict::AltmapTooSmall,
        _ => Verdict::Other,
    }
}

impl<G: Granule, P: Meta> Scene<G, P> {
    pub(super) fn extent(&self, arena: Arena, extent: Extent) -> (u64, u64) {
        let (base, unit, big) = (self.row.arena(arena), self.row.unit(self.page_shift), self.row.big(self.page_shift));
        match extent {
            Extent::Units { at, count } => (base + at * unit, count * unit),
            Extent::Big { at } => (base + at * big, big),
        }
    }

    /// The altmap for a range, which may be one that does not do.
    pub(super) fn altmap(&self, device: PhysRange, policy: LeafPolicy, store: Store) -> Option<Altmap> {
        let (granule, start) = (self.row.granule, device.start().value());
        let tight = |reserve| Altmap::tight(&self.layout, device, policy, reserve);
        let new = |device, reserve, free| Altmap::new(device, granule, reserve, free);
        Some(match store {
            Store::Ram => return None,
            Store::Tight { reserve } => tight(reserve),
            Store::Roomy { reserve, spare } => new(device, reserve, tight(reserve).free() + spare),
            Store::Unaligned => new(range(start + 16, device.bytes() - 16), 0, tight(0).free()),
            Store::Short => new(device, 0, tight(0).free() - 1),
            Store::Elsewhere => new(range(start + device.bytes(), device.bytes()), 0, tight(0).free()),
            Store::Huge => new(device, 1, device.bytes() >> granule.shift()),
        })
    }

    /// Why the altmap can't serve, by its place and size alone.
    pub(super) fn altmap_flaw(&self, device: PhysRange, store: Store, altmap: Option<Altmap>) -> Option<Verdict> {
        let altmap = altmap?;
        let frames = device.bytes() >> self.form.shift;
        match store {
            Store::Elsewhere => Some(Verdict::AltmapElsewhere),
            _ if altmap.reserve() + altmap.free() > frames => Some(Verdict::AltmapTooLarge),
            _ => None,
        }
    }

    /// How adding is to end, by what is there.
    fn expected(&self, device: PhysRange, store: Store, altmap: Option<Altmap>) -> Verdict {
        let asked = (device.start().value(), device.bytes());
        let lives = |added: &Added| device.overlaps(added.region.range());
        if self.added.iter().any(lives) {
            return Verdict::Overlap;
        }
        if let Some(flaw) = self.altmap_flaw(device, store, altmap) {
            return flaw;
        }
        if store == Store::Short {
            return Verdict::AltmapTooSmall;
        }
        let occupied = self.bare.iter().any(|bare| overlap(asked, (bare.start, bare.bytes)));
        if occupied { Verdict::Occupied } else { Verdict::Added }
    }

    fn ask(device: PhysRange, altmap: Option<Altmap>, policy: LeafPolicy) -> Request {
        // SAFETY: memory of the world, whose devices are the scene's.
        let request = unsafe { Request::new(device) }.policy(policy);
        altmap.map_or(request, |altmap| request.altmap(altmap))
    }

    pub(super) fn add(&mut self, cpu: u8, start: u64, bytes: u64, store: Store, policy: LeafPolicy) -> Done {
        let device = range(start, bytes);
        let altmap = self.altmap(device, policy, store);
        let expected = self.expected(device, store, altmap);
        let request = Self::ask(device, altmap, policy);
        if expected != Verdict::Added {
            return self.expect_refusal(cpu, request, expected);
        }
        self.device(start, bytes, true);
        let (linear, memmap) = (self.claim_linear(start, bytes), self.claim_memmap(start, bytes));
        let plan = self.on(cpu).plan(request).unwrap_or_else(|error| panic!("{device} is refused: {error}"));
        let Ok(region) = plan.commit() else {
            for claim in [linear, memmap] {
                self.watch.gone(claim);
            }
            self.device(start, bytes, false);
            return Done::refused(Verdict::OutOfRam);
        };
        let picture = self.picture();
        for claim in [linear, memmap] {
            self.watch.arrived(claim, cpu, &picture);
        }
        self.added.push(Added { region, altmap, linear, memmap });
        Done { verdict: Verdict::Added, touched: self.touched(start, bytes) }
    }

    fn touched(&self, start: u64, bytes: u64) -> Vec<(u64, u64)> {
        vec![(self.row.linear(start), bytes), self.memmap(start, bytes)]
    }

    fn expect_refusal(&mut self, cpu: u8, request: Request, expected: Verdict) -> Done {
        let error = self.on(cpu).plan(request).map(drop).expect_err("it can't be planned");
        assert_eq!(verdict(&error), expected, "{error}");
        Done::refused(expected)
    }

    /// A range that shares at least a unit with a live one; how far it goes beyond it does not matter.
    pub(super) fn add_over(&mut self, cpu: u8, which: usize, from_before: bool, to_behind: bool) -> Done {
        let Some(added) = self.added.get(which % self.added.len().max(1)) else { return Done::refused(Verdict::Idle) };
        let (live, unit) = (added.region.range(), self.row.unit(self.page_shift));
        let start = if from_before { live.start().value() - unit } else { live.start().value() };
        let end = if to_behind { live.end().value() + unit } else { live.start().value() + unit };
        self.add(cpu, start, end - start, Store::Tight { reserve: 0 }, LeafPolicy::Largest)
    }

    pub(super) fn add_misaligned(&mut self, cpu: u8, start: bool, by_page: bool, empty: bool) -> Done {
        let (at, unit) = (self.row.arena(Arena::Near), self.row.unit(self.page_shift));
        let off = if by_page { 1 << self.form.shift } else { unit / 2 };
        let (device, expected) = match (empty, start) {
            (true, _) => (range(at, 0), Verdict::Empty),
            (_, true) => (range(at + off, 2 * unit), Verdict::Misaligned),
            (_, false) => (range(at, 2 * unit - off), Verdict::Misaligned),
        };
        self.expect_refusal(cpu, Self::ask(device, None, LeafPolicy::Largest), expected)
    }

    pub(super) fn remove(&mut self, cpu: u8, which: usize) -> Done {
        if self.added.is_empty() {
            return Done::refused(Verdict::Idle);
        }
        let Added { region, altmap, linear, memmap } = self.added.remove(which % self.added.len());
        let device = region.range();
        let (start, bytes) = (device.start().value(), device.bytes());
        for claim in [linear, memmap] {
            self.watch.leaving(claim);
        }
        let removed = self.on(cpu).remove(region).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(removed.storage, altmap.map_or(Storage::Ram, Storage::Altmap), "L1: the altmap as it was");
        for claim in [linear, memmap] {
            self.watch.gone(claim);
        }
        self.device(start, bytes, false);
        Done { verdict: Verdict::Removed, touched: self.touched(start, bytes) }
    }

    /// A region of the same range, or of one that is not there, made elsewhere: the nearest that the API has to removing
    /// twice.
    pub(super) fn remove_foreign(&mut self, cpu: u8, which: usize) -> Done {
        let unit = self.row.unit(self.page_shift);
        let device = match self.added.get(which % (self.added.len() + 1)) {
            Some(added) => added.region.range(),
            None => range(self.row.arena(Arena::Near), unit),
        };
        let world = World::new(self.row.regime(), self.row.pa_bits(), 1);
        // Section records at other addresses than ours: they are how a memory map knows its regions.
        let mut ram = world.ram();
        let _ = vmemmap::seam::Frames::take(&mut ram, self.row.granule.bytes());
        // SAFETY: the root is that world's, and nobody else writes below it.
        let tables = unsafe { Tables::adopt(world.cpu::<G>(0), world.root(), self.row.regime()) };
        let mut other = Hotplug::<_, _, P>::new(tables, ram, self.layout, self.row.pa_bits()).expect("there is RAM");
        let plan = other.plan(Self::ask(device, None, LeafPolicy::Linux)).expect("nothing is there");
        let region = plan.commit().expect("there is RAM");
        let error = self.on(cpu).remove(region).expect_err("it is another memory map's");
        assert!(error.region.range() == device, "it comes back");
        other.remove(error.region).unwrap_or_else(|error| panic!("{error}"));
        Done::refused(Verdict::NotOurs)
    }
}

//! Requests that can't be met, and a region that is another memory map's.

use vmemmap::granule::Granule;
use vmemmap::hotplug::{Hotplug, RangeKind};
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::Meta;
use vmemmap::sim::World;
use vmemmap::table::Tables;

use super::super::geometry::{Arena, MEMSTART};
use super::super::operation::Store;
use super::hotplug::{Ask, Asked, STEP};
use super::{Done, Scene, Verdict};

/// Memory in RAM's hands.
const fn plain(start: u64, bytes: u64, kind: RangeKind) -> Asked {
    Asked { start, bytes, store: Store::Ram, policy: LeafPolicy::Largest, kind }
}

impl<G: Granule, P: Meta> Scene<G, P> {
    /// A range that shares at least a sub-section with a live one; how far it goes beyond it does not matter.
    pub(super) fn add_over(&mut self, cpu: u8, which: usize, from_before: bool, to_behind: bool) -> Done {
        let Some(added) = which.checked_rem(self.added.len()).map(|index| &self.added[index]) else {
            return Done::refused(Verdict::Idle);
        };
        let (first, end) = (added.start, added.start + added.bytes);
        let start = if from_before { first - STEP } else { first };
        let end = if to_behind { end + STEP } else { first + STEP };
        let store = Store::Tight { reserve: 0 };
        self.add(cpu, Asked { store, ..plain(start, end - start, RangeKind::Device) })
    }

    pub(super) fn add_misaligned(&mut self, cpu: u8, start: bool, by_page: bool, empty: bool) -> Done {
        let at = self.row.arena(Arena::Near);
        let off = if by_page { 1 << self.form.shift } else { STEP / 2 };
        let (start, bytes, expected) = match (empty, start) {
            (true, _) => (at, 0, Verdict::Empty),
            (_, true) => (at + off, 2 * STEP, Verdict::Misaligned),
            (_, false) => (at, 2 * STEP - off, Verdict::Misaligned),
        };
        self.expect_refusal(cpu, Ask::new(&plain(start, bytes, RangeKind::Device)), expected)
    }

    /// One sub-section too far.
    pub(super) fn add_beyond(&mut self, cpu: u8, which: usize) -> Done {
        let cpu_end = 1_u64 << self.row.pa_bits();
        let linear_end = (MEMSTART + self.layout.linear().bytes()).min(cpu_end);
        let described = self.layout.vmemmap().bytes() >> self.page_shift << self.form.shift;
        let (start, kind, expected) = match which % 6 {
            0 => (MEMSTART - STEP, RangeKind::Device, Verdict::BeyondLinearMap),
            1 => (linear_end - STEP, RangeKind::PeerToPeer, Verdict::BeyondLinearMap),
            2 => (MEMSTART - STEP, RangeKind::Private, Verdict::BeyondVmemmap),
            3 => ((MEMSTART + described).min(1 << 52) - STEP, RangeKind::Private, Verdict::BeyondVmemmap),
            4 => (cpu_end - STEP, RangeKind::Device, Verdict::BeyondCpu),
            _ => (cpu_end, RangeKind::PeerToPeer, Verdict::BeyondCpu),
        };
        let expected =
            if start + 2 * STEP > cpu_end && kind != RangeKind::Private { Verdict::BeyondCpu } else { expected };
        self.expect_refusal(cpu, Ask::new(&plain(start, 2 * STEP, kind)), expected)
    }

    /// In the altmap of the range that went last of those that had one: whatever is in its place is no host.
    pub(super) fn add_into_gone(&mut self, cpu: u8) -> Done {
        let Some((start, bytes, request)) = self.gone_host else { return Done::refused(Verdict::Idle) };
        let expected = self.in_the_way((start, bytes)).unwrap_or(Verdict::HostGone);
        self.expect_refusal(cpu, Ask::Device(request), expected)
    }

    /// A region of the same range, or of one that is not there, made elsewhere: the nearest that the API has to removing
    /// twice.
    pub(super) fn remove_foreign(&mut self, cpu: u8, which: usize) -> Done {
        let asked = match self.added.get(which % (self.added.len() + 1)) {
            Some(added) => plain(added.start, added.bytes, added.kind),
            None => plain(self.row.arena(Arena::Near), STEP, RangeKind::Device),
        };
        let world = World::new(self.row.regime(), self.row.pa_bits(), 1);
        // Section records at other addresses than ours: they are how a memory map knows its regions.
        let mut ram = world.ram();
        let _ = vmemmap::seam::Frames::take(&mut ram, self.row.granule.bytes());
        // SAFETY: the root is that world's, and nobody else writes below it.
        let tables = unsafe { Tables::adopt(world.cpu::<G>(0), world.root(), self.row.regime()) };
        let mut other = Hotplug::<_, _, P>::new(tables, ram, self.layout, self.row.pa_bits()).expect("there is RAM");
        let region = Ask::new(&asked).plan(&mut other).expect("nothing is there").commit().expect("there is RAM");
        let error = self.on(cpu).remove(region).expect_err("it is another memory map's");
        assert!(matches!(error.why, vmemmap::hotplug::Obstacle::Foreign), "{error}");
        let (start, bytes) = (error.region.range().start().value(), error.region.range().bytes());
        assert_eq!((start, bytes), (asked.start, asked.bytes), "it comes back");
        other.remove(error.region).unwrap_or_else(|error| panic!("{error}"));
        Done::refused(Verdict::NotOurs)
    }
}

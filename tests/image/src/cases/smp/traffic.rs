//! Ranges that come and go: neighbours in one page of the vmemmap, with an altmap and without, and one in another's altmap.

use core::hint;

use kernel::println;
use vmemmap::addr::{Pfn, PhysRange};
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, Level, SUBSECTION_BYTES};
use vmemmap::hotplug::{Hotplug, Obstacle, Region, Request};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::StructPage;
use vmemmap::seam::{Frames, Machine, Quiesce};

use crate::world::World;

/// How many ranges there are: large ones, of one block of the linear map each, and small ones.
pub const SLOTS: usize = 8;
const LARGE: usize = 4;
/// The one whose altmap has room for another, and that one.
const HOST: usize = 0;
const LODGER: usize = 1;
/// One in so many is small: those are mapped by pages, and each page is an invalidation that all CPUs wait for.
const SMALL_ONES: u64 = 8;

/// A range that comes and goes.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub range: PhysRange,
    altmap: Option<Altmap>,
    /// The pfns below are set aside for struct pages.
    pub aside_end: Pfn,
}

/// Numbers that look random (xorshift64*), the same in each boot.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// One of 0 to `end` - 1.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}

/// Where the small ranges are, in sub-sections, beside a boundary between two pages of the vmemmap that lies `page`
/// sub-sections on: neighbours within one, and one in both.
const fn small_places(page: u64) -> [(u64, u64); SLOTS - LARGE] {
    let first = page.saturating_sub(2);
    [(first, 1), (first + 1, 2), (first + 3, 1), (first + 4, 1)]
}

/// The ranges, by turns with an altmap and without.
pub fn slots<M: Machine>(world: &World<M>) -> [Slot; SLOTS] {
    let layout = world.map.layout();
    let block = 1 << M::Granule::SIZE.level_shift(Level::L2);
    let small = small_places(layout.described_by_page() / SUBSECTION_BYTES);
    core::array::from_fn(|index| {
        let (offset, bytes) = match index.checked_sub(LARGE) {
            None => (index as u64 * block, block),
            Some(index) => {
                let (first, count) = small[index];
                (LARGE as u64 * block + first * SUBSECTION_BYTES, count * SUBSECTION_BYTES)
            }
        };
        let range = PhysRange::new(world.device.start().add(offset), bytes).expect("in the device");
        slot(layout, range, index, world.boot.config.leaf)
    })
}

fn slot(layout: &Layout, range: PhysRange, index: usize, policy: LeafPolicy) -> Slot {
    let tight = Altmap::tight(layout, range, policy, 0);
    let altmap = match index {
        HOST => Some(Altmap::new(range, layout.granule(), 1, 2 * tight.free() + 8)),
        LODGER => None,
        _ => index.is_multiple_of(2).then_some(tight),
    };
    let first = Pfn::containing(range.start(), layout.granule().shift());
    Slot { range, altmap, aside_end: altmap.map_or(first, |altmap| altmap.storage().1) }
}

/// The CPU that adds and removes.
pub struct Traffic<'a, M, F> {
    pub map: &'a mut Hotplug<M, F, StructPage>,
    pub slots: [Slot; SLOTS],
    policy: LeafPolicy,
    regions: [Option<Region>; SLOTS],
    random: Random,
    /// Ranges added, and removed.
    added: u64,
    removed: u64,
    /// Removals that were refused: somebody held the range, or lived in its altmap.
    held: u64,
    hosts: u64,
}

impl<'a, M: Machine, F: Frames + Quiesce> Traffic<'a, M, F> {
    pub fn new(map: &'a mut Hotplug<M, F, StructPage>, slots: &[Slot; SLOTS], policy: LeafPolicy) -> Self {
        let regions = [const { None }; SLOTS];
        Self { map, slots: *slots, policy, regions, random: Random::new(0), added: 0, removed: 0, held: 0, hosts: 0 }
    }

    /// Adds `rounds` ranges, and removes them again.
    pub fn run(&mut self, rounds: u64) {
        while self.added < rounds {
            let index = self.pick();
            match self.regions[index].take() {
                Some(region) => self.regions[index] = self.remove(region),
                None => self.regions[index] = self.add(index),
            }
        }
        while self.removed < rounds {
            for index in (0..SLOTS).rev() {
                self.regions[index] = self.regions[index].take().and_then(|region| self.remove(region));
                hint::spin_loop();
            }
        }
        let Self { added, removed, held, hosts, .. } = self;
        println!("{added} added, {removed} removed; refused: {held} held, {hosts} hosts of others");
        assert!(*held > 0 && *hosts > 0, "no removal was refused");
    }

    /// Which range to add or to remove next.
    const fn pick(&mut self) -> usize {
        if self.random.below(SMALL_ONES) == 0 {
            LARGE + self.random.below((SLOTS - LARGE) as u64) as usize
        } else {
            self.random.below(LARGE as u64) as usize
        }
    }

    /// Adds and removes each once, so that the records of all sections are there, which stay.
    pub fn rehearse(&mut self) {
        for index in 0..SLOTS {
            self.regions[index] = self.add(index);
        }
        for index in (0..SLOTS).rev() {
            self.regions[index] = self.regions[index].take().and_then(|region| self.remove(region));
        }
        (self.added, self.removed) = (0, 0);
    }

    /// Adds it; a lodger only where its host is.
    fn add(&mut self, index: usize) -> Option<Region> {
        let Slot { range, altmap, .. } = self.slots[index];
        // SAFETY: the boot arguments set the device aside for the test.
        let mut request = unsafe { Request::new(range) }.policy(self.policy);
        if let Some(altmap) = altmap {
            request = request.altmap(altmap);
        }
        if index == LODGER {
            request = request.altmap_of(self.regions[HOST].as_ref()?);
        }
        let plan = self.map.plan(request).unwrap_or_else(|error| panic!("plan: {error}"));
        let region = plan.commit().unwrap_or_else(|error| panic!("commit: {error}"));
        self.added += 1;
        Some(region)
    }

    /// Removes it; gives it back if that is refused.
    fn remove(&mut self, region: Region) -> Option<Region> {
        match self.map.remove(region) {
            Ok(_) => self.removed += 1,
            Err(error) => {
                match error.why {
                    Obstacle::Referenced { .. } => self.held += 1,
                    Obstacle::Hosts { .. } => self.hosts += 1,
                    Obstacle::Foreign => panic!("{error}"),
                }
                return Some(error.region);
            }
        }
        None
    }
}

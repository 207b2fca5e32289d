//! Ranges of sub-sections: neighbours in one page of vmemmap, partial sections, memory beside RAM, large leaves.

use kernel::exceptions::probe;
use kernel::memory::RamFrames;
use kernel::prove::{self, Books, Failures};
use vmemmap::addr::{Pfn, PhysAddr, PhysRange};
use vmemmap::granule::{Granule, Level, SUBSECTION_BYTES};
use vmemmap::hotplug::{Obstacle, PlanError, Region, Request};
use vmemmap::leaf::{LeafPolicy, Stretches};
use vmemmap::meta::StructPage;
use vmemmap::seam::{Frames, Machine};
use vmemmap_aarch64::translate;

use crate::world::{World, expect_none, pointer};

const UNIT: u64 = SUBSECTION_BYTES;

impl<M: Machine> World<M> {
    /// `count` sub-sections of the device, from the `first` on.
    fn subsections(&self, first: u64, count: u64) -> PhysRange {
        PhysRange::new(self.device.start().add(first * UNIT), count * UNIT).expect("in the device")
    }

    /// Sub-sections in a section.
    const SECTION: u64 = M::Granule::SIZE.subsections_per_section();

    /// Adds `count` sub-sections from the `first` on, in an altmap of their own or in RAM by turns.
    fn add_subsections(&mut self, first: u64, count: u64) -> Region {
        let range = self.subsections(first, count);
        let request = if first.is_multiple_of(2) { self.request(range, 0) } else { self.ask(range) };
        self.add(request)
    }

    /// Struct pages and linear map of a region are there and right.
    fn expect_intact(&self, region: &Region) {
        let mut failures = Failures::new();
        self.check_struct_pages(region, &mut failures);
        prove::linear_agrees(self.map.layout(), region.range(), &mut failures);
        expect_none(&failures);
    }

    /// Makes the records of all the sections that a case uses, which stay.
    fn prepare(&mut self) {
        let region = self.add(self.ask(self.device));
        self.remove(region);
    }
}

/// H1 and H2: three neighbours; whichever goes, the others' struct pages stay.
pub fn neighbours<M: Machine>(world: &mut World<M>) {
    world.prepare();
    let before = Books::of(&world.map);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
        // Across a boundary between pages of vmemmap at every granule: 64 MiB.
        let mut regions = [(30, 1), (31, 2), (33, 1)].map(|(first, count)| Some(world.add_subsections(first, count)));
        for gone in order {
            let region: Region = regions[gone].take().expect("it was added");
            let page = world.map.layout().page(first_pfn(&region, M::Granule::SIZE.shift()));
            let shared = world.map.shared_by_others(&region);
            let others_use_it = if region.memmap().edges()[0].is_some() { shared.first } else { shared.last };
            world.remove(region);
            regions.iter().flatten().for_each(|region| world.expect_intact(region));
            if M::Granule::SIZE.bytes() > 4096 {
                assert_eq!(probe::load(page).is_ok(), others_use_it, "the page goes with the last that uses it");
            }
        }
        assert_eq!(Books::of(&world.map), before, "{order:?}");
    }
}

fn first_pfn(region: &Region, shift: u32) -> Pfn {
    Pfn::containing(region.range().start(), shift)
}

/// A spread of offsets and sizes over two sections.
pub fn spread<M: Machine>(world: &mut World<M>) {
    world.prepare();
    let before = Books::of(&world.map);
    let (section, page) = (World::<M>::SECTION, (world.map.layout().described_by_page() / UNIT).max(1));
    let firsts = [0, 1, page - 1, page, page + 1, section / 2 + 3, section - 1];
    let counts = [1, 2, page, page + 1, 2 * page - 1, section / 2, section, section + 1];
    for first in firsts {
        for count in counts {
            let region = world.add_subsections(first, count);
            world.expect_intact(&region);
            world.remove(region);
        }
    }
    assert_eq!(Books::of(&world.map), before);
}

/// H3: whole sections and a part behind them, in the altmap that nvdimm sizes.
pub fn trailing_part<M: Machine>(world: &mut World<M>) {
    world.prepare();
    let before = Books::of(&world.map);
    let range = world.subsections(0, World::<M>::SECTION + 1);
    let altmap = vmemmap::altmap::Altmap::nvdimm(range, M::Granule::SIZE);
    for request in [world.ask(range).altmap(altmap), world.request(range, 2)] {
        let region = world.add(request);
        world.expect_intact(&region);
        world.remove(region);
        assert_eq!(Books::of(&world.map), before);
    }
}

/// H4: RAM runs out in the second section; Linux keeps the first and refuses the retry.
pub fn second_section<M: Machine>(world: &mut World<M>) {
    world.prepare();
    let before = Books::of(&world.map);
    let range = world.subsections(1, 2 * World::<M>::SECTION - 2);
    let request = world.ask(range);
    let needed = {
        let region = world.add(request);
        let needed = before.frames - Books::of(&world.map).frames;
        world.remove(region);
        needed
    };
    let spare = Spare::take(world, before.frames - needed + 1);
    let failed = world.map.plan(request).map(vmemmap::hotplug::Plan::commit);
    assert!(matches!(failed, Ok(Err(_))), "{needed} frames are needed, one fewer was there");
    let first = Pfn::containing(range.start(), M::Granule::SIZE.shift());
    assert!(!world.map.is_valid(first) && world.map.regions().next().is_none());
    spare.give_back(world);
    assert_eq!(Books::of(&world.map), before);
    let region = world.add(request);
    world.expect_intact(&region);
    world.remove(region);
    assert_eq!(Books::of(&world.map), before);
}

/// Frames kept from everybody else: a list through the frames themselves, by way of the linear map.
struct Spare(Option<PhysAddr>);

impl Spare {
    fn take<M: Machine>(world: &World<M>, count: u64) -> Self {
        let mut last = None;
        for _ in 0..count {
            let frame = RamFrames::current().take(M::Granule::SIZE.bytes()).expect("as many are free");
            // SAFETY: the frame is ours.
            unsafe { Self::link(world, frame).write_volatile(last.map_or(0, PhysAddr::value)) };
            last = Some(frame);
        }
        Self(last)
    }

    fn give_back<M: Machine>(self, world: &World<M>) {
        let mut next = self.0;
        while let Some(frame) = next {
            // SAFETY: the frame is ours and holds the link.
            let before = unsafe { Self::link(world, frame).read_volatile() };
            RamFrames::current().give(frame, M::Granule::SIZE.bytes());
            next = (before != 0).then_some(PhysAddr::new(before));
        }
    }

    fn link<M: Machine>(world: &World<M>, frame: PhysAddr) -> *mut u64 {
        pointer(world.map.layout().linear_address(frame))
    }
}

/// B6, H12: memory right behind RAM that ends within a section uses the struct pages that boot made, and leaves them.
pub fn early<M: Machine>(world: &mut World<M>) {
    let ram = *world.boot.ram.as_slice().last().expect("there is RAM");
    let shift = M::Granule::SIZE.shift();
    assert_eq!(ram.end(), world.device.start(), "the job puts the device right behind RAM");
    let range = world.subsections(0, 3);
    let first = Pfn::containing(range.start(), shift);
    let page = pointer(world.map.layout().page(first));
    // SAFETY: boot's struct pages cover the whole of its sections.
    let flags = || unsafe { page.read_volatile() };
    let before = (Books::of(&world.map), translate(world.map.layout().page(first)), flags());
    assert_eq!(before.2, 0, "as boot left it");
    for _ in 0..2 {
        let altmap = world.map.tight_altmap(range, world.boot.config.leaf, 0);
        let region = world.add(world.ask(range).altmap(altmap));
        assert!(region.memmap().is_empty() && altmap.free() == 0, "nothing is populated, nothing set aside");
        assert_eq!((translate(world.map.layout().page(first)), flags()), (before.1, StructPage::DEVICE));
        world.expect_intact(&region);
        world.remove(region);
        assert_eq!(flags(), before.2);
    }
    assert_eq!((Books::of(&world.map), translate(world.map.layout().page(first)), flags()), before);
    let over = PhysRange::new(PhysAddr::new(ram.end().value() - UNIT), 2 * UNIT).expect("it does not wrap");
    let refused = world.map.plan(world.ask(over)).map(drop);
    assert!(matches!(refused, Err(PlanError::BootRam { .. })), "{refused:?}");
}

/// Contiguous runs wherever they fit, in both maps, and reached at both ends.
pub fn contiguous_runs<M: Machine>(world: &mut World<M>) {
    let region = world.add(world.request(world.device, 0));
    let linear = world.linear(world.device).stretches();
    let runs = |stretches: Stretches, level| {
        stretches.filter(|s| s.leaf.contiguous && s.leaf.level == level).map(|s| s.count).sum::<u64>()
    };
    let memmap = region.memmap().interior_stretches();
    // Sections in part at 4K: runs of 16. 512 MiB of memory at 16K, 2 GiB at 64K: runs of 128 and 32.
    let (memmap_runs, linear_runs) =
        (runs(memmap, Level::L3), runs(linear.clone(), Level::L2) + runs(linear, Level::L3));
    let expected = world.boot.config.leaf != LeafPolicy::Pages;
    assert_eq!((memmap_runs > 0, linear_runs > 0), (expected, expected), "{memmap_runs} and {linear_runs} runs");
    let mut failures = Failures::new();
    prove::attributes_agree(world.map.tables(), &region.memmap().all_stretches(), &mut failures);
    prove::attributes_agree(world.map.tables(), &world.linear(world.device).stretches(), &mut failures);
    expect_none(&failures);
    world.expect_intact(&region);
    world.remove(region);
}

/// B21: the struct pages of one range in the altmap of another, which is busy while they are there.
pub fn lodgers<M: Machine>(world: &mut World<M>) {
    world.prepare();
    let before = Books::of(&world.map);
    let half = World::<M>::SECTION / 2;
    let host = world.subsections(0, half);
    let tight = world.map.tight_altmap(host, world.boot.config.leaf, 0);
    let roomy = vmemmap::altmap::Altmap::new(host, M::Granule::SIZE, 0, 2 * tight.free() + 8);
    let host = world.add(world.ask(host).altmap(roomy));
    let lodger = world.add(world.ask(world.subsections(half + 1, half)).altmap_of(&host));
    let middle = lodger.range().start().add(half / 2 * UNIT);
    let inside = translate(world.map.layout().page(Pfn::containing(middle, M::Granule::SIZE.shift())));
    assert!(inside.is_ok_and(|frame| host.range().contains(frame)), "{inside:?} is in the host's memory");
    world.expect_intact(&lodger);
    let error = world.map.remove(host).expect_err("it is busy");
    assert!(matches!(error.why, Obstacle::Hosts { tenant } if tenant == lodger.range()), "{error}");
    world.expect_intact(&lodger);
    world.expect_intact(&error.region);
    world.remove(lodger);
    world.remove(error.region);
    assert_eq!(Books::of(&world.map), before);
}

/// References keep a range; H8, H9: private memory and a peer's window.
pub fn kinds_and_references<M: Machine>(world: &mut World<M>) {
    world.prepare();
    let before = Books::of(&world.map);
    let shift = M::Granule::SIZE.shift();
    let private = world.add(Request::private(world.subsections(1, 2)).policy(world.boot.config.leaf));
    // SAFETY: the boot arguments set the device aside for the test.
    let peer = unsafe { Request::peer_to_peer(world.subsections(3, 2)) };
    let peer = world.add(peer.policy(world.boot.config.leaf));
    let layout = *world.map.layout();
    assert!(probe::load(layout.linear_address(private.range().start())).is_err(), "nothing maps private memory");
    assert_eq!(translate(layout.linear_address(peer.range().start())), Ok(peer.range().start()));
    for region in [&private, &peer] {
        let page = layout.page(first_pfn(region, shift));
        let frame = translate(page).expect("struct pages are mapped");
        assert!(!world.device.contains(frame), "{frame} is not RAM");
        assert_eq!(probe::load(page), Ok(StructPage::DEVICE));
    }
    world.remove(peer);
    let view = world.view();
    let held = view.reference(first_pfn(&private, shift)).expect("it is live");
    let error = world.map.remove(private).expect_err("it is held");
    assert!(matches!(error.why, Obstacle::Referenced { references: 1 }), "{error}");
    drop(held);
    world.remove(error.region);
    assert_eq!(Books::of(&world.map), before);
}

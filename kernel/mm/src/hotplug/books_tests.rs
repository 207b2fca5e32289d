//! Whose is what: regions of another memory map, what a plan says it takes, what observers are told, bounds.

use super::*;
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::granule::{GranuleSize, K4, K16, K64};
use crate::observe::{Event, Observed, Observer};
use crate::regime::Regime;
use crate::seam::{Allocation, Source};
use crate::testing::{DEVICE, GIB, MIB, Map, Plain, Ram, ask, memory_map, range, tables};
use crate::vmemmap::MemmapError;

/// A range that two memory maps on one memory have both added, each in a vmemmap window of its own.
struct Twice {
    ours: Map<K64>,
    /// The other one's region of that range.
    theirs: Region,
    /// A region of the other one with an altmap.
    their_host: Region,
}

const UNIT: u64 = 2 * MIB;

/// The other one's region is closed or not.
fn twice(closed: bool) -> Twice {
    let both = range(DEVICE, 2 * UNIT);
    let mut other = memory_map::<K64>(48);
    let theirs = other.plan(Request::private(both)).unwrap().commit().unwrap();
    let device = range(DEVICE.add(GIB), 128 * MIB);
    let altmap = Altmap::new(device, GranuleSize::K64, 0, 64);
    let their_host = other.plan(ask(device).altmap(altmap)).unwrap().commit().unwrap();
    if closed {
        other.close(&theirs);
    }
    let regime = other.tables().regime();
    let root = other.tables().root();
    // SAFETY: the windows are apart, and the other memory map writes nothing from here on.
    let tables = unsafe { Tables::adopt(other.tables().machine().clone(), root, regime) };
    let linux = Layout::linux(GranuleSize::K64, 48, GIB);
    let window = VirtRange::new(VirtAddr::new(0xffff_8000_0000_0000), GIB);
    let layout = Layout::new(GranuleSize::K64, linux.linear(), window, GIB, 6);
    let mut ours = Map::new(tables, Ram::elsewhere(), layout, 48).unwrap();
    let _ = ours.plan(Request::private(both)).unwrap().commit().unwrap();
    Twice { ours, theirs, their_host }
}

#[test]
fn a_region_of_another_memory_map_is_not_removed() {
    let Twice { mut ours, theirs, .. } = twice(false);
    let before = ours.tables().machine().image();
    let error = ours.remove(theirs).unwrap_err();
    assert_eq!(error.why, Obstacle::Foreign);
    assert_eq!(before, ours.tables().machine().image());
}

#[test]
fn a_region_of_another_memory_map_is_neither_closed_nor_reopened() {
    for closed in [false, true] {
        let Twice { mut ours, theirs, .. } = twice(closed);
        let before = ours.tables().machine().image();
        if closed {
            ours.reopen(&theirs);
        } else {
            ours.close(&theirs);
        }
        assert_eq!(before, ours.tables().machine().image(), "closed before: {closed}");
    }
}

#[test]
fn a_region_of_another_memory_map_is_no_host() {
    let Twice { mut ours, their_host, .. } = twice(false);
    let request = ask(range(DEVICE.add(2 * GIB), 128 * MIB)).altmap_of(&their_host);
    let error = ours.plan(request).map(drop).unwrap_err();
    assert_eq!(error, PlanError::HostGone { host: their_host.range() });
}

/// Edge pages of ranges that start in the middle of a page of vmemmap, or end there, or both; at 4K there are none.
fn edge_frames<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let page = map.layout().described_by_page().max(UNIT);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, range(DEVICE, 4 * GIB)).unwrap();
    let cases = [
        ("inside of a page", UNIT, UNIT, 1),
        ("from a page's start", GIB, UNIT, 1),
        ("over two pages", 2 * GIB + UNIT, page, 2),
        ("from the page of the last one", 2 * GIB + page + UNIT, page, 1),
        ("whole pages", 3 * GIB, page, 0),
    ];
    for (what, at, bytes, edges) in cases {
        let device = range(DEVICE.add(at), bytes);
        let altmap = map.tight_altmap(device, LeafPolicy::Linux, 0);
        let before = map.frames.out.len() as u64;
        let plan = map.plan(ask(device).altmap(altmap).policy(LeafPolicy::Linux)).unwrap();
        let summary = plan.summary();
        assert_eq!(summary.edge_frames, if page == UNIT { 0 } else { edges }, "{}: {what}", G::SIZE);
        let _ = plan.commit().unwrap();
        let named = summary.edge_frames + summary.linear_tables + summary.memmap_tables;
        assert_eq!(map.frames.out.len() as u64 - before, named, "{}: {what}: commit takes as many", G::SIZE);
    }
}

#[test]
fn a_plan_names_the_edge_pages_that_it_takes() {
    edge_frames::<K4>();
    edge_frames::<K16>();
    edge_frames::<K64>();
}

#[derive(Default, Debug)]
struct OfAltmap {
    taken: Vec<Allocation>,
    freed: Vec<Allocation>,
}

impl Observer for OfAltmap {
    fn event(&mut self, event: Event) {
        match event {
            Event::Allocated(frames) if frames.source == Source::Altmap => self.taken.push(frames),
            Event::Freed(frames) if frames.source == Source::Altmap => self.freed.push(frames),
            _ => {}
        }
    }
}

/// Frames that are skipped for alignment are the altmap's in use as well: nobody else may have them.
#[test]
fn observers_are_told_of_the_altmaps_padding_too() {
    let map = memory_map::<K4>(48);
    // SAFETY: the observer passes everything on.
    let mut map: Hotplug<Observed<Plain<K4>, OfAltmap>, _, _> =
        unsafe { map.on(|machine| Observed::new(machine, OfAltmap::default())) };
    let device = range(DEVICE, GIB);
    let altmap = Altmap::new(device, GranuleSize::K4, 3, 8192);
    let region = map.plan(ask(device).altmap(altmap).policy(LeafPolicy::Linux)).unwrap().commit().unwrap();
    let used = region.storage().altmap().unwrap();
    assert_eq!((used.align(), used.alloc()), (509, 4096), "eight blocks behind three frames");
    map.remove(region).unwrap();
    let whole = Allocation { start: DEVICE.add(3 << 12), bytes: (509 + 4096) << 12, source: Source::Altmap };
    let seen = map.tables_mut().machine_mut().observer();
    assert_eq!((seen.taken.as_slice(), seen.freed.as_slice()), ([whole].as_slice(), [whole].as_slice()));
}

/// Behind the last pfn that there is, not one at the start again.
fn beyond_52_bits<G: Granule>() {
    let layout = Layout::linux(G::SIZE, 48, 0);
    let mut map = Map::<G>::new(tables(48), Ram::default(), layout, 48).unwrap();
    let first = range(PhysAddr::new(0), 2 * MIB);
    let _ = map.plan(Request::private(first)).unwrap().commit().unwrap();
    assert!(map.is_valid(Pfn::new(0)));
    for pfn in [1 << (52 - G::SIZE.shift()), 1 << (64 - G::SIZE.shift()), 1 << 63, u64::MAX] {
        assert!(!map.is_valid(Pfn::new(pfn)), "{} {pfn:#x}", G::SIZE);
    }
}

#[test]
fn a_pfn_beyond_52_bits_of_address_is_not_valid() {
    beyond_52_bits::<K4>();
    beyond_52_bits::<K16>();
    beyond_52_bits::<K64>();
}

/// A window of a kernel that keeps its own books: its first and its last page are only half in it.
#[test]
fn an_edge_page_that_sticks_out_of_the_window_is_refused() {
    let (half, page) = (32 << 10, 64 << 10);
    let window = VirtRange::new(VirtAddr::new(0xffff_8000_0000_0000 + half), 16 * page);
    let linear = Layout::linux(GranuleSize::K64, 48, GIB).linear();
    let layout = Layout::new(GranuleSize::K64, linear, window, GIB, 6);
    let described = 16 * layout.described_by_page();
    let (mut tables, mut ram) = (tables::<K64>(48), Ram::default());
    let mut populate = |start: u64, bytes: u64, shared: bool| {
        let memmap = Memmap::new(&layout, range(PhysAddr::new(GIB + start), bytes), LeafPolicy::Pages);
        let memmap = memmap.beside(Shared { first: shared, last: shared });
        vmemmap::populate(&mut tables, &mut ram, memmap, Storage::Ram).map(|populated| *populated.memmap())
    };
    for start in [0, described - UNIT] {
        for shared in [false, true] {
            let error = populate(start, UNIT, shared).unwrap_err();
            assert!(matches!(error, PopulateError::Memmap(MemmapError::Window { .. })), "shared: {shared}: {error}");
        }
    }
    let whole = populate(32 * MIB, described - 64 * MIB, false).unwrap();
    assert_eq!(whole.mapped().bytes(), 15 * page, "the pages that are wholly in it");
}

#[test]
#[should_panic(expected = "a vmemmap of the tables at 0x40000000, not of these")]
fn a_vmemmap_is_not_depopulated_in_other_tables() {
    let layout = Layout::linux(GranuleSize::K64, 48, GIB);
    let (mut tables, mut ram) = (tables::<K64>(48), Ram::default());
    let memmap = Memmap::new(&layout, range(DEVICE, 128 * MIB), LeafPolicy::Pages);
    let populated = vmemmap::populate(&mut tables, &mut ram, memmap, Storage::Ram).unwrap();
    let regime = Regime::of_size(GranuleSize::K64, 48).unwrap();
    // SAFETY: nobody else has that root, a copy's.
    let mut others = unsafe { Tables::adopt(tables.machine().clone(), PhysAddr::new(0x4100_0000), regime) };
    // SAFETY: these frames, and nobody's neighbours.
    let _ = unsafe { vmemmap::depopulate(&mut others, &mut ram, populated, Shared::default()) };
}

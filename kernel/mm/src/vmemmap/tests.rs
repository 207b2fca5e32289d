//! The seed alone, below hot-plug: what an adopter with books of its own calls.

use super::*;
use crate::addr::{PhysAddr, PhysRange};
use crate::granule::{Granule, GranuleSize, K4, K16, K64, Level};
use crate::layout::Layout;
use crate::leaf::{Leaf, LeafPolicy};
use crate::testing::{DEVICE, GIB, MIB, Ram, range, tables, take_log};

const POLICIES: [LeafPolicy; 3] = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages];

/// Populates and depopulates `device`, checking that every struct page is mapped where its storage says, and that
/// nothing is left.
fn round<G: Granule>(va_bits: u32, device: PhysRange, policy: LeafPolicy, in_altmap: bool) {
    let (mut tables, mut frames) = (tables::<G>(va_bits), Ram::default());
    let layout = Layout::linux(G::SIZE, va_bits, GIB);
    let memmap = Memmap::new(&layout, device, policy);
    let before = if in_altmap { Storage::Altmap(Altmap::tight(&layout, device, policy, 2)) } else { Storage::Ram };
    let populated = populate(&mut tables, &mut frames, memmap, before).unwrap();
    let (memmap, storage, made) = (*populated.memmap(), *populated.storage(), populated.tables());
    assert!(in_altmap || memmap.stretches().all(|stretch| !stretch.leaf.contiguous), "frames of RAM are single");
    let mut seen = std::collections::BTreeSet::new();
    for va in (0..memmap.range().bytes()).step_by(G::SIZE.bytes() as usize) {
        let (_, frame) = tables.walk(memmap.range().start().add(va)).translation().expect("mapped");
        assert!(seen.insert(frame), "{frame} backs two pages");
        match storage.altmap().map(|altmap| altmap.storage()) {
            Some((first, end)) => assert!(
                first.address(G::SIZE.shift()) <= frame && frame < end.address(G::SIZE.shift()),
                "{frame} is outside of the altmap"
            ),
            None => assert!(frame.value() < GIB * 4, "{frame} is not RAM"),
        }
    }
    // SAFETY: these frames, and nobody's neighbours.
    let (storage, freed) = unsafe { depopulate(&mut tables, &mut frames, populated, Shared::default()) };
    assert_eq!((storage, freed, frames.out.len()), (before, made, 0), "{} {policy:?}", G::SIZE);
    assert!(tables.machine().is_zero(tables.root()), "the root is empty again");
}

#[test]
fn every_geometry_policy_and_storage_comes_and_goes() {
    for policy in POLICIES {
        for in_altmap in [true, false] {
            for va_bits in [39, 48] {
                round::<K4>(va_bits, range(DEVICE, 384 * MIB), policy, in_altmap);
                round::<K4>(va_bits, range(DEVICE.add(6 * MIB), 250 * MIB), policy, in_altmap);
            }
            for va_bits in [36, 47, 48] {
                round::<K16>(va_bits, range(DEVICE.add(4 * MIB), 2 * GIB), policy, in_altmap);
            }
            for va_bits in [42, 48] {
                round::<K64>(va_bits, range(DEVICE.add(64 * MIB), 8 * GIB), policy, in_altmap);
            }
        }
    }
}

#[test]
fn whole_sections_get_blocks_at_4k_and_the_rest_base_pages() {
    let layout = Layout::linux(GranuleSize::K4, 48, GIB);
    let device = range(DEVICE.add(126 * MIB), 2 * MIB + 256 * MIB + 4 * MIB);
    let got: Vec<_> = Memmap::new(&layout, device, LeafPolicy::Linux).stretches().map(|s| (s.leaf, s.count)).collect();
    let block = Leaf { level: Level::L2, contiguous: false };
    assert_eq!(got, [(Leaf::PAGE, 8), (block, 2), (Leaf::PAGE, 16)]);
}

#[test]
fn an_exhausted_altmap_is_an_error_and_nothing_has_changed() {
    let layout = Layout::linux(GranuleSize::K64, 48, GIB);
    let (mut tables, mut frames) = (tables::<K64>(48), Ram::default());
    let device = range(DEVICE, GIB);
    let storage = Storage::Altmap(Altmap::new(device, GranuleSize::K64, 1, 15));
    let memmap = Memmap::new(&layout, device, LeafPolicy::Linux);
    let error = populate(&mut tables, &mut frames, memmap, storage).unwrap_err();
    assert_eq!(error, MemmapError::Altmap(AltmapTooSmall { free: 15, needed: 16 }).into());
    assert_eq!(frames.out.len(), 0);
    assert_eq!(take_log(), []);
}

#[test]
fn a_window_in_use_is_refused_with_what_stands_there() {
    let layout = Layout::linux(GranuleSize::K64, 48, GIB);
    let (mut tables, mut frames) = (tables::<K64>(48), Ram::default());
    let first = Memmap::new(&layout, range(DEVICE.add(512 * MIB), 512 * MIB), LeafPolicy::Pages);
    let _live = populate(&mut tables, &mut frames, first, Storage::Ram).unwrap();
    let out = frames.out.clone();
    let both = Memmap::new(&layout, range(DEVICE, GIB), LeafPolicy::Pages);
    let error = populate(&mut tables, &mut frames, both, Storage::Ram).unwrap_err();
    let PopulateError::Memmap(MemmapError::Occupied(occupied)) = error else { panic!("{error}") };
    assert_eq!((occupied.va, occupied.level), (first.range().start(), Level::L3));
    assert_eq!(out, frames.out);
}

#[test]
fn boot_memory_keeps_its_tables() {
    let layout = Layout::linux(GranuleSize::K16, 48, GIB);
    let (mut tables, mut frames) = (tables::<K16>(48), Ram::default());
    let memmap = Memmap::new(&layout, range(PhysAddr::new(GIB), GIB), LeafPolicy::Linux).early();
    let populated = populate(&mut tables, &mut frames, memmap, Storage::Ram).unwrap();
    let made = populated.tables();
    // SAFETY: these frames, and nobody's neighbours.
    let left = unsafe { depopulate(&mut tables, &mut frames, populated, Shared::default()) };
    assert_eq!(left, (Storage::Ram, 0));
    assert_eq!(frames.out.len() as u64, made, "only the tables are left");
}

#[test]
fn struct_pages_outside_of_the_window_are_refused() {
    let layout = Layout::linux(GranuleSize::K4, 48, GIB);
    let (mut tables, mut frames) = (tables::<K4>(48), Ram::default());
    let below = Memmap::new(&layout, range(PhysAddr::new(0), 256 * MIB), LeafPolicy::Pages);
    let error = populate(&mut tables, &mut frames, below, Storage::Ram).unwrap_err();
    assert!(matches!(error, PopulateError::Memmap(MemmapError::Window { .. })), "{error}");
}

#[test]
fn an_edge_page_that_is_said_to_be_shared_must_be_there() {
    let layout = Layout::linux(GranuleSize::K64, 48, GIB);
    let (mut tables, mut frames) = (tables::<K64>(48), Ram::default());
    let half = Memmap::new(&layout, range(DEVICE.add(32 * MIB), 32 * MIB), LeafPolicy::Pages);
    let shared = half.beside(Shared { first: true, last: false });
    let error = populate(&mut tables, &mut frames, shared, Storage::Ram).unwrap_err();
    let page = half.edges()[0].unwrap();
    assert_eq!(error, PopulateError::Memmap(MemmapError::NotShared { page }));
    let live = populate(&mut tables, &mut frames, half, Storage::Ram).unwrap();
    let beside = populate(&mut tables, &mut frames, shared, Storage::Ram).unwrap();
    let made = beside.tables();
    // SAFETY: these frames, and the page is said to be shared.
    let left = unsafe { depopulate(&mut tables, &mut frames, beside, shared.shared()) };
    assert_eq!((made, left), (0, (Storage::Ram, 0)));
    assert!(tables.walk(page).translation().is_some(), "the other one's page stays");
    // SAFETY: these frames, and its neighbour is gone.
    unsafe { depopulate(&mut tables, &mut frames, live, Shared::default()) };
    assert_eq!(frames.out.len(), 0);
}

#[test]
fn an_altmap_that_serves_a_range_serves_no_other() {
    let layout = Layout::linux(GranuleSize::K64, 48, GIB);
    let (mut tables, mut frames) = (tables::<K64>(48), Ram::default());
    let altmap = Altmap::new(range(DEVICE, 2 * GIB), GranuleSize::K64, 0, 64);
    let first = Memmap::new(&layout, range(DEVICE, GIB), LeafPolicy::Pages);
    let live = populate(&mut tables, &mut frames, first, Storage::Altmap(altmap)).unwrap();
    let second = Memmap::new(&layout, range(DEVICE.add(GIB), GIB), LeafPolicy::Pages);
    let error = populate(&mut tables, &mut frames, second, *live.storage()).unwrap_err();
    assert_eq!(error, MemmapError::AltmapInUse { alloc: 16 }.into());
}

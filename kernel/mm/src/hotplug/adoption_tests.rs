//! Under a root that is somebody else's: its attributes, its tables, its descriptors in our windows.

use super::*;
use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::{Attributes, Descriptor, TableAttributes};
use crate::granule::{GranuleSize, K4, K16, K64, Level};
use crate::leaf::Stretches;
use crate::seam::Memory;
use crate::testing::{DEVICE, GIB, MIB, Map, ask, memory_map, range};

/// A kernel whose `MAIR_EL1` has Device-nGnRnE as attribute 0 and Normal write-back as attribute 1.
const NORMAL: Attributes = Attributes::from_bits(0x00e8_0000_0000_0704);
const STRICT: Attributes = Attributes::from_bits(0x00e8_0000_0000_0700);

fn attributes_of<G: Granule>(map: &Map<G>, stretches: Stretches) -> Vec<u64> {
    let leaf = |va| map.tables().walk(va).translation().expect("mapped").0.descriptor.bits();
    stretches.map(|stretch| Attributes::from_bits(leaf(stretch.va)).bits()).collect()
}

fn another_mair<G: Granule>() {
    let layout = Layout::linux(G::SIZE, 48, GIB).attributes(NORMAL).peer_attribute(STRICT.index());
    let mut map = Map::<G>::new(crate::testing::tables(48), crate::testing::Ram::default(), layout, 48).unwrap();
    map.add_boot_ram(range(PhysAddr::new(GIB), 256 * MIB), LeafPolicy::Linux).unwrap();
    let early = Memmap::new(&layout, range(PhysAddr::new(GIB), 256 * MIB), LeafPolicy::Linux).early();
    assert!(attributes_of(&map, early.all_stretches()).iter().all(|leaf| *leaf == NORMAL.bits()));
    let altmap = Altmap::tight(&layout, range(DEVICE, GIB), LeafPolicy::Largest, 0);
    // SAFETY: nobody else uses the model's memory.
    let peer = unsafe { Request::peer_to_peer(range(DEVICE.add(4 * GIB), GIB)) };
    let in_altmap = map.plan(ask(range(DEVICE, GIB)).altmap(altmap)).unwrap();
    let (summary, region) = (in_altmap.summary(), in_altmap.commit().unwrap());
    let of_peer = map.plan(peer).unwrap();
    let (peer_summary, peer) = (of_peer.summary(), of_peer.commit().unwrap());
    for (mapping, memmap, linear) in
        [(summary.linear, summary.memmap, NORMAL), (peer_summary.linear, peer_summary.memmap, STRICT)]
    {
        assert!(attributes_of(&map, memmap.stretches()).iter().all(|leaf| *leaf == NORMAL.bits()), "{}", G::SIZE);
        let leaves = attributes_of(&map, mapping.unwrap().stretches());
        assert!(leaves.iter().all(|leaf| *leaf == linear.bits()), "{}: {leaves:x?}", G::SIZE);
    }
    map.remove(region).unwrap();
    map.remove(peer).unwrap();
}

#[test]
fn leaves_have_the_attributes_of_a_kernel_with_another_mair() {
    another_mair::<K4>();
    another_mair::<K16>();
    another_mair::<K64>();
}

#[test]
fn attributes_that_data_must_not_have_are_refused_in_words() {
    for bit in [6, 7, 10, 11, 53, 54] {
        let why = Attributes::from_bits(Attributes::KERNEL.bits() ^ 1 << bit).unfit_for_data().expect("refused");
        assert!(why.ends_with(&format!("bit {bit}")), "{why}");
    }
    assert!(Attributes::KERNEL_TEXT.unfit_for_data().is_some());
    for fit in [Attributes::KERNEL, Attributes::KERNEL_TAGGED, Attributes::DEVICE_STRICT, NORMAL] {
        assert_eq!(fit.unfit_for_data(), None);
    }
}

#[test]
#[should_panic(expected = "EL1 could execute it: set PXN, bit 53")]
fn a_layout_with_an_executable_vmemmap_can_not_be() {
    let _ = Layout::linux(GranuleSize::K4, 48, GIB).attributes(Attributes::from_bits(0x00c8_0000_0000_0700));
}

#[test]
#[should_panic(expected = "memory attributes are 0 to 7")]
fn a_layout_with_a_ninth_memory_attribute_can_not_be() {
    let _ = Layout::linux(GranuleSize::K4, 48, GIB).peer_attribute(8);
}

/// The slot of level 2 behind which the device's linear map, or its vmemmap, goes; the tables on the way are somebody else's.
fn foreign_slot(map: &mut Map<K64>, va: VirtAddr) -> PhysAddr {
    let regime = map.tables().regime();
    let (table, top) = (PhysAddr::new(0x4abc_0000), map.tables().root().add(regime.index(va, Level::L1) * 8));
    let machine = map.tables.machine_mut();
    let below = match Descriptor::from_bits(machine.read(top)) {
        link if link.is_empty() => {
            machine.zero_table(table, 1 << 16);
            machine.write(top, Descriptor::table(table, TableAttributes::KERNEL, regime.output()).bits());
            table
        }
        link => link.address(GranuleSize::K64, regime.output()),
    };
    below.add(regime.index(va, Level::L2) * 8)
}

/// What is refused, and how it is named: leaves, and whatever else is not zero.
const FOREIGN: [(u64, &str); 4] = [
    (
        0x00e8_0000_2000_0705,
        "at L2, 00e8000020000705: block 0x20000000 512M RW PXN UXN AF DBM inner attribute 1; have it",
    ),
    (0x00e8_0000_2000_0704, "at L2, 00e8000020000704: invalid, parked 0x20000000; have it"),
    (0x0000_0000_4bcd_0402, "at L2, 000000004bcd0402: invalid, parked 0x4bcd0000; have it"),
    (0x8000_0000_0000_0000, "at L2, 8000000000000000: invalid, parked 0x0; have it"),
];

#[test]
fn whatever_somebody_else_has_in_a_window_is_refused_with_window_and_descriptor_in_words() {
    for (bits, words) in FOREIGN {
        for vmemmap in [false, true] {
            let mut map = memory_map::<K64>(48);
            let device = range(DEVICE.add(512 * GIB), GIB);
            let first = Pfn::containing(device.start(), 16);
            let (va, name) = if vmemmap {
                (map.layout().page(first), "vmemmap: ")
            } else {
                (map.layout().linear_address(device.start()), "linear map: ")
            };
            let slot = foreign_slot(&mut map, va);
            map.tables.machine_mut().write(slot, bits);
            let before = (map.tables().machine().image(), map.frames.out.clone());
            let why = map.plan(ask(device)).unwrap_err().to_string();
            let at = va.align_down(512 * MIB).value();
            assert!(why.starts_with(&format!("{name}{at:#x} has a descriptor of somebody else {words}")), "{why}");
            assert_eq!(before, (map.tables().machine().image(), map.frames.out.clone()));
        }
    }
}

#[test]
fn a_table_of_somebody_else_serves_and_is_never_freed() {
    let mut map = memory_map::<K64>(48);
    let device = range(DEVICE.add(512 * GIB), 4 * GIB);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
    let without = map.plan(ask(device)).unwrap().summary();
    let va = map.layout().page(Pfn::containing(device.start(), 16));
    let slot = foreign_slot(&mut map, va);
    let link = Descriptor::table(PhysAddr::new(0x4bcd_0000), TableAttributes::KERNEL, OutputFormat::Bits48);
    map.tables.machine_mut().zero_table(PhysAddr::new(0x4bcd_0000), 1 << 16);
    map.tables.machine_mut().write(slot, link.bits());
    let before = map.frames.out.clone();
    let plan = map.plan(ask(device)).unwrap();
    assert_eq!(plan.summary().memmap_tables, without.memmap_tables - 1, "{plan}");
    let region = plan.commit().unwrap();
    map.remove(region).unwrap();
    assert_eq!((map.tables().machine().read(slot), &map.frames.out), (link.bits(), &before));
}

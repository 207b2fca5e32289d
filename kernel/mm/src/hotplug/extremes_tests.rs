//! Layouts and addresses at the edge of what there is, and what must be refused there.

use super::*;
use crate::addr::{VirtAddr, VirtRange};
use crate::altmap::AltmapTooSmall;
use crate::granule::{GranuleSize, K64};
use crate::meta::StructPage;
use crate::testing::{DEVICE, GIB, MIB, Map, Ram, ask, memory_map, range, tables, take_log};
use crate::vmemmap::MemmapError;

fn layout(memstart: u64, linear: (u64, u64), vmemmap: (u64, u64)) -> Layout {
    let [linear, vmemmap] = [linear, vmemmap].map(|(start, bytes)| VirtRange::new(VirtAddr::new(start), bytes));
    Layout::new(GranuleSize::K64, linear, vmemmap, memstart, 6)
}

fn memory_map_of(layout: Layout, va_bits: u32) -> Map<K64> {
    Hotplug::<_, _, StructPage>::new(tables(va_bits), Ram::default(), layout, va_bits).unwrap()
}

/// A memory map in which pages of vmemmap are out of step with sections.
fn out_of_step() -> Map<K64> {
    let (linear, vmemmap) = ((0xffff_0000_0000_0000, 1 << 46), (0xffff_c000_0000_0000, 1 << 40));
    memory_map_of(layout(GIB - 2 * MIB, linear, vmemmap), 48)
}

#[test]
fn windows_must_be_in_step_with_pages_and_end_below_the_top() {
    const LOWEST: VirtAddr = VirtAddr::new(0xffff_0000_0000_0000);
    let (linear, vmemmap) = ((LOWEST.value(), 1 << 46), (0xffff_c000_0000_0000, 1 << 40));
    let fits = |memstart, linear, vmemmap| layout(memstart, linear, vmemmap).fits(LOWEST);
    assert!(fits(GIB, linear, vmemmap));
    assert!(!fits(GIB + 0x1000, linear, vmemmap), "a linear map of no whole pages");
    assert!(!fits(GIB, linear, (vmemmap.0 + 0x1000, 1 << 40)), "struct pages out of step");
    assert!(!fits(GIB, linear, (0xffff_ffff_0000_0000, 1 << 40)), "a vmemmap that goes on at 0");
    assert!(fits(0, (0xffff_8000_0000_0000, 1 << 47), (LOWEST.value(), 1 << 40)), "a linear map that ends at the top");
}

#[test]
fn a_vmemmap_for_more_than_there_is_describes_all_of_it() {
    for shift in 3..=7 {
        let [linear, vmemmap] = [(0xfff0_0000_0000_0000, 1 << 50), (0xfff8_0000_0000_0000, 1 << 51)]
            .map(|(start, bytes)| VirtRange::new(VirtAddr::new(start), bytes));
        let layout = Layout::new(GranuleSize::K64, linear, vmemmap, 0, shift);
        assert_eq!(layout.describable(), range(PhysAddr::new(0), 1 << 52), "{} bytes", 1 << shift);
    }
}

/// The vmemmap page of the last pfns also stands for some that do not exist.
#[test]
fn the_last_sub_section_and_the_first_share_nothing() {
    let (linear, vmemmap) = ((0xfff0_0000_0000_0000, 1 << 51), (0xfff8_0000_0000_0000, 1 << 44));
    let mut map = memory_map_of(layout((2 * MIB).wrapping_neg(), linear, vmemmap), 52);
    let [first, last] = [0, (1 << 52) - 2 * MIB].map(|start| range(PhysAddr::new(start), 2 * MIB));
    for order in [[first, last], [last, first]] {
        let regions = order.map(|range| map.plan(Request::private(range)).unwrap().commit().unwrap());
        for region in regions {
            map.remove(region).unwrap();
        }
        for pfn in [0, (1 << 36) - 1] {
            assert!(map.tables().walk(map.layout().page(Pfn::new(pfn))).translation().is_none(), "pfn {pfn:#x}");
        }
    }
}

#[test]
fn boot_ram_comes_before_device_memory_and_below_2_to_the_52() {
    let mut map = memory_map::<K64>(48);
    map.add_boot_ram(range(DEVICE, 6 * MIB), LeafPolicy::Linux).unwrap();
    let live = range(DEVICE.add(8 * MIB), 4 * MIB);
    let region = map.plan(Request::private(live)).unwrap().commit().unwrap();
    let error = map.add_boot_ram(live, LeafPolicy::Linux).unwrap_err();
    assert!(matches!(error, PopulateError::Added { live: there, .. } if there == live), "{error}");
    map.remove(region).unwrap();
    map.add_boot_ram(live, LeafPolicy::Linux).unwrap();
    assert!(matches!(map.plan(Request::private(live)).unwrap_err(), PlanError::BootRam { .. }));
    let before = map.frames.out.clone();
    map.add_boot_ram(range(DEVICE.add(GIB + 6 * MIB), 0), LeafPolicy::Linux).unwrap();
    assert_eq!(before, map.frames.out, "no RAM, no struct pages");
}

#[test]
#[should_panic(expected = "at or below 2^52")]
fn boot_ram_beyond_2_to_the_52_is_a_mistake() {
    let mut map = memory_map::<K64>(48);
    let _ = map.add_boot_ram(range(PhysAddr::new((1 << 52) + 128 * MIB), 64 * MIB), LeafPolicy::Linux);
}

#[test]
fn early_sections_share_a_page_of_vmemmap() {
    let mut map = out_of_step();
    for section in [0, 1] {
        let ram = range(PhysAddr::new(GIB + section * 512 * MIB), 64 * MIB);
        map.add_boot_ram(ram, LeafPolicy::Linux).unwrap();
    }
    let across = range(PhysAddr::new(GIB + 256 * MIB), 256 * MIB);
    let region = map.plan(ask(across)).unwrap().commit().unwrap();
    assert!(region.memmap().is_empty());
    map.remove(region).unwrap();
}

fn host(map: &mut Map<K64>, spare: u64) -> Region {
    let device = range(DEVICE, 128 * MIB);
    let tight = map.tight_altmap(device, LeafPolicy::Pages, 1);
    let altmap = Altmap::new(device, GranuleSize::K64, 1, tight.free() + spare);
    map.plan(ask(device).altmap(altmap).policy(LeafPolicy::Pages)).unwrap().commit().unwrap()
}

fn tenant(map: &mut Map<K64>, host: &Region, at: u64, bytes: u64) -> Result<Region, PlanError> {
    let request = ask(range(DEVICE.add(at * GIB), bytes)).altmap_of(host).policy(LeafPolicy::Pages);
    Ok(map.plan(request)?.commit().unwrap())
}

#[test]
fn a_tenant_without_frames_keeps_nobody_busy() {
    let mut map = memory_map::<K64>(48);
    let host = host(&mut map, 0);
    let lodger = tenant(&mut map, &host, 2, 2 * MIB).unwrap();
    let stored: Vec<_> = map.regions().map(|listed| listed.stored_in).collect();
    assert_eq!(stored, [Some(host.range()), None], "all of its struct pages are in an edge page");
    map.remove(host).unwrap();
    map.remove(lodger).unwrap();
}

#[test]
fn a_closed_host_takes_no_tenants() {
    let mut map = memory_map::<K64>(48);
    let host = host(&mut map, 4);
    map.close(&host);
    assert_eq!(tenant(&mut map, &host, 1, 128 * MIB).unwrap_err(), PlanError::HostClosing { host: host.range() });
    map.reopen(&host);
    let lodger = tenant(&mut map, &host, 1, 128 * MIB).unwrap();
    map.remove(lodger).unwrap();
    map.remove(host).unwrap();
}

/// 2 for the host, 24 for a tenant, 40 spare: 16 are left where 32 are needed; 58 in all would do, and 57 would not.
#[test]
fn the_refusal_of_a_full_host_names_what_would_do() {
    for (spare, does) in [(40, false), (55, false), (56, true)] {
        let mut map = memory_map::<K64>(48);
        let host = host(&mut map, spare);
        let _first = tenant(&mut map, &host, 1, GIB + 512 * MIB).unwrap();
        match tenant(&mut map, &host, 4, 2 * GIB) {
            Ok(_) => assert!(does, "{spare}"),
            Err(error) => {
                let free = spare + 2;
                assert_eq!(error, MemmapError::Altmap(AltmapTooSmall { free, needed: 58 }).into(), "{spare}");
                assert!(!does);
            }
        }
    }
}

#[test]
fn who_finds_a_pfn_valid_can_refer_to_its_range() {
    let mut map = memory_map::<K64>(48);
    let device = range(DEVICE, 64 * MIB);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
    let (mut machine, sections, regions) = (map.tables().machine().clone(), map.sections, map.regions);
    take_log();
    let _region = map.plan(Request::private(device)).unwrap().commit().unwrap();
    let pfn = Pfn::containing(DEVICE, 16);
    for seen in take_log() {
        machine.replay(&seen);
        let live = regions.live(&machine).next().is_some();
        assert!(live || !sections.is_valid(&machine, pfn), "valid, and nothing to refer to, after {seen:?}");
    }
    assert!(sections.is_valid(&machine, pfn));
}

//! Private and peer-to-peer ranges: what maps them, where their struct pages are, how far they may reach.

use super::*;
use crate::addr::PhysAddr;
use crate::granule::{K4, K16, K64};
use crate::testing::{DEVICE, GIB, MIB, memory_map, range};

/// H9: neither has a way to ask for an altmap; the struct pages of both are RAM.
fn private<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(DEVICE.add(6 * MIB), 72 * MIB);
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
    let before = map.frames.out.clone();
    let region = map.plan(Request::private(device)).unwrap().commit().unwrap();
    assert_eq!(region.kind(), RangeKind::Private);
    assert!(map.tables().walk(map.layout().linear_address(device.start())).translation().is_none(), "nothing maps it");
    let first = Pfn::containing(device.start(), G::SIZE.shift());
    let (_, frame) = map.tables().walk(map.layout().page(first)).translation().unwrap();
    assert!(frame.value() < DEVICE.value(), "{frame} is not RAM");
    let written = &map.tables().machine().written;
    let (start, bytes) = written.range(..=frame.value()).next_back().unwrap();
    let page = &bytes[(frame.value() - start) as usize..][..64];
    assert_eq!(page[48..52], [0; 4], "no reference yet");
    assert!(map.is_valid(first));
    map.remove(region).unwrap();
    assert_eq!(before, map.frames.out);
}

#[test]
fn private_memory_has_struct_pages_in_ram_and_no_linear_map() {
    private::<K4>();
    private::<K16>();
    private::<K64>();
}

#[test]
fn a_peers_window_is_mapped_as_device_memory_and_its_struct_pages_are_ram() {
    let mut map = memory_map::<K16>(48);
    let window = range(DEVICE, 34 * MIB);
    // SAFETY: nobody else uses the model's memory.
    let request = unsafe { Request::peer_to_peer(window) };
    let region = map.plan(request).unwrap().commit().unwrap();
    let (step, _) = map.tables().walk(map.layout().linear_address(DEVICE)).translation().unwrap();
    assert_eq!(step.descriptor.bits() & 0xff, 0x0d, "a block with attribute 3: Device-nGnRnE");
    let page = map.layout().page(Pfn::containing(DEVICE, 14));
    let (step, frame) = map.tables().walk(page).translation().unwrap();
    assert_eq!(step.descriptor.bits() & 0xff, 0x03, "a page with attribute 0: Normal");
    assert!(frame.value() < DEVICE.value(), "{frame} is not RAM");
    map.remove(region).unwrap();
}

/// H8: Linux checks only the upper bound of a private range, and writes struct pages below the window.
#[test]
fn private_memory_is_checked_against_the_vmemmap_window_at_both_ends() {
    let mut map = memory_map::<K64>(42);
    let describable = map.layout().describable();
    assert_eq!(describable.start(), PhysAddr::new(GIB), "memstart");
    let below = range(PhysAddr::new(GIB - 2 * MIB), 4 * MIB);
    let error = map.plan(Request::private(below)).unwrap_err();
    assert_eq!(error, PlanError::BeyondVmemmap { range: below, describable });
    let last = range(PhysAddr::new(describable.end().value() - 2 * MIB), 2 * MIB);
    let region = map.plan(Request::private(last)).unwrap().commit().unwrap();
    let beyond = range(describable.end(), 2 * MIB);
    assert_eq!(
        map.plan(Request::private(beyond)).unwrap_err(),
        PlanError::BeyondVmemmap { range: beyond, describable }
    );
    map.remove(region).unwrap();
}

#[test]
fn kinds_share_a_page_of_vmemmap() {
    let mut map = memory_map::<K64>(48);
    let [one, two, three] = [0, 2, 4].map(|at| range(DEVICE.add(at * MIB), 2 * MIB));
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, one).unwrap();
    let before = map.frames.out.clone();
    let device = map.plan(crate::testing::ask(one)).unwrap().commit().unwrap();
    let private = map.plan(Request::private(two)).unwrap().commit().unwrap();
    // SAFETY: nobody else uses the model's memory.
    let peer = map.plan(unsafe { Request::peer_to_peer(three) }).unwrap().commit().unwrap();
    assert_eq!(map.plan(Request::private(three)).unwrap_err(), PlanError::Overlap { range: three, live: three });
    for region in [device, peer, private] {
        map.remove(region).unwrap();
    }
    assert_eq!(before, map.frames.out);
}

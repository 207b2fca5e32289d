//! Bugs and hazards of Linux that no other test shows, and the cases that were seen to fail on Linux, with their addresses.
//! `docs/linux.md` lists all of them: B1 to B34 were fixed there one by one, H1 to H15 were found in 6.12,
//! of which H1 to H4 and H13 were seen on 7.3.4 too.

use std::collections::BTreeSet;

use super::subsection_tests::{add, flags, frames_and_tables};
use super::tests::every_granule;
use super::*;
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::granule::{GranuleSize, K4, K16, K64, Level};
use crate::layout::memstart;
use crate::mapping;
use crate::meta::StructPage;
use crate::observe::Event;
use crate::seam::Memory;
use crate::testing::{DEVICE, GIB, MIB, Map, Ram, Seen, ask, memory_map, range, tables, take_log};
use crate::vmemmap::MemmapError;

const FAR: PhysAddr = PhysAddr::new(1 << 45);

every_granule! {
    struct_pages_in_an_altmap_take_no_ram_but_tables => ram_of_an_add,
    the_allocator_gets_back_what_it_gave_and_nothing_else => given_back,
    whatever_is_refused_has_touched_nothing => refusals,
    a_removal_looks_at_no_struct_page => no_access,
    every_pfn_of_a_removed_range_is_invalid => all_invalid,
    records_of_sections_are_never_given_back => records,
    a_foreign_mapping_in_the_same_tables_survives => foreign,
    a_range_below_another_shrinks_nothing => high_then_low,
    beside_ram_each_pfn_says_whose_it_is => mixed_section,
    every_struct_page_beside_ram_is_initialised => beside_ram,
    holes_in_a_section_of_ram_have_struct_pages => holes,
    ram_that_starts_within_a_section_has_its_struct_pages_in_the_window => odd_ram,
    an_altmap_that_ends_in_the_second_section_leaves_nothing_behind => second_section,
    a_live_range_within_a_refused_one_keeps_its_linear_map => enclosed,
    an_altmap_gives_nothing_where_boot_has_brought_the_struct_pages => unused_altmap,
}

fn pfns(device: PhysRange, shift: u32) -> impl Iterator<Item = Pfn> {
    (device.start().value() >> shift..device.end().value() >> shift).map(Pfn::new)
}

fn prepare<G: Granule>(map: &mut Map<G>, device: PhysRange) {
    map.sections.prepare(map.tables.machine_mut(), &mut map.frames, device).unwrap();
}

/// Every pfn of `device` is valid and has the struct page of device memory.
fn expect_struct_pages<G: Granule>(map: &Map<G>, device: PhysRange) {
    for pfn in pfns(device, G::SIZE.shift()) {
        assert!(map.is_valid(pfn), "{}: {pfn:?}", G::SIZE);
        assert_eq!(flags(map, pfn) & !StructPage::RESERVED, StructPage::DEVICE, "{}: {pfn:?}", G::SIZE);
    }
}

/// B1: base pages came from RAM although there was an altmap.
fn ram_of_an_add<G: Granule>() {
    for policy in [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages] {
        let mut map = memory_map::<G>(48);
        let device = range(FAR, GIB);
        prepare(&mut map, device);
        let before = map.frames.out.len();
        let altmap = map.tight_altmap(device, policy, 1);
        let plan = map.plan(ask(device).altmap(altmap).policy(policy)).unwrap();
        let tables = plan.summary().linear_tables + plan.summary().memmap_tables;
        let region = plan.commit().unwrap();
        assert_eq!((map.frames.out.len() - before) as u64, tables, "{} {policy:?}", G::SIZE);
        map.remove(region).unwrap();
    }
}

/// B2, B19: frames of the device went to the allocator.
fn given_back<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(FAR.add(2 * MIB), 250 * MIB);
    prepare(&mut map, device);
    let before = map.frames.out.clone();
    let region = add(&mut map, device, LeafPolicy::Linux, true);
    let mut taken: BTreeSet<_> = map.frames.out.keys().filter(|frame| !before.contains_key(frame)).copied().collect();
    take_log();
    map.remove(region).unwrap();
    for seen in take_log() {
        if let Seen::Give(frame) = seen {
            assert!(taken.remove(&frame.value()), "{}: {frame} was not taken by the add", G::SIZE);
        }
    }
    assert!(taken.is_empty(), "{}: {taken:x?} are lost", G::SIZE);
}

/// B4: a start or an end that can't be, found half-way. 64 KiB off is what Linux refuses with -EINVAL, after it has made the
/// linear map.
fn refusals<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let live = add(&mut map, range(DEVICE.add(GIB), GIB), LeafPolicy::Largest, true);
    let fine = range(DEVICE, GIB);
    let elsewhere = Altmap::new(live.range(), G::SIZE, 0, 8192);
    let requests = [
        ask(range(DEVICE.add(64 << 10), 128 * MIB)),
        ask(range(DEVICE, 128 * MIB + (64 << 10))),
        ask(range(DEVICE, 0)),
        ask(range(DEVICE, 4 * GIB)),
        ask(range(PhysAddr::new(GIB + 128 * MIB), GIB)),
        ask(range(PhysAddr::new(0x8000_4000_0000), GIB)),
        ask(range(PhysAddr::new(1 << 48), GIB)),
        ask(range(PhysAddr::new(0), GIB)),
        ask(fine).altmap(elsewhere),
        ask(fine).altmap(Altmap::new(fine, G::SIZE, 1, GIB >> G::SIZE.shift())),
        ask(fine).altmap(Altmap::new(fine, G::SIZE, 1, 15)),
    ];
    let before = frames_and_tables(&map);
    take_log();
    for request in requests {
        let error = map.plan(request).map(drop).expect_err("it can't be");
        assert_eq!(take_log(), [], "{}: {error}", G::SIZE);
    }
    assert_eq!(frames_and_tables(&map), before);
    map.remove(live).unwrap();
}

/// B5, B22: the teardown read struct pages that nobody had written. Here it looks at none, in neither of the two ways
/// that there are: [`Memory::access`] would be in the log, and a [`Memory::load`] at its frame ends the test.
///
/// [`Memory::access`]: crate::seam::Memory::access
/// [`Memory::load`]: crate::seam::Memory::load
fn no_access<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(DEVICE, GIB);
    let altmap = Altmap::new(device, G::SIZE, 3, GIB >> (G::SIZE.shift() + 1));
    for request in [ask(device), ask(device).altmap(altmap)] {
        let region = map.plan(request).unwrap().commit().unwrap();
        expect_load_refused(&map, device.start());
        take_log();
        map.remove(region).unwrap();
        let looked = take_log().into_iter().find(|seen| matches!(seen, Seen::Machine(Event::Access(_))));
        assert_eq!(looked, None, "{}", G::SIZE);
    }
}

/// The machine lets nobody load from the struct page of `page`.
fn expect_load_refused<G: Granule>(map: &Map<G>, page: PhysAddr) {
    let va = map.layout().page(Pfn::containing(page, G::SIZE.shift()));
    let (_, frame) = map.tables().walk(va).translation().unwrap();
    let load = || map.tables().machine().load(frame);
    assert!(std::panic::catch_unwind(core::panic::AssertUnwindSafe(load)).is_err(), "{}: {frame}", G::SIZE);
}

/// B7: validity of a pfn whose section had just gone.
fn all_invalid<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let section = 1 << G::SIZE.section_shift();
    let device = range(DEVICE.add(section - 2 * MIB), section + 4 * MIB);
    let region = add(&mut map, device, LeafPolicy::Linux, true);
    map.remove(region).unwrap();
    let around = range(DEVICE, 4 * section);
    assert_eq!(pfns(around, G::SIZE.shift()).find(|pfn| map.is_valid(*pfn)), None, "{}", G::SIZE);
}

/// B8: a reader without a lock used a map of sub-sections that had been freed. Here such memory is never freed.
fn records<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(FAR, 2 * MIB);
    let region = add(&mut map, device, LeafPolicy::Largest, false);
    map.remove(region).unwrap();
    let (bytes, records) = (map.section_bytes(), map.frames.out.clone());
    for _ in 0..100 {
        let region = add(&mut map, device, LeafPolicy::Largest, false);
        take_log();
        map.remove(region).unwrap();
        let given = take_log().into_iter().find(
            |seen| matches!(seen, Seen::Give(frame) if records.range(..=frame.value()).next_back().is_some_and(|(at, bytes)| frame.value() < at + bytes)),
        );
        assert_eq!((given, map.section_bytes()), (None, bytes), "{}", G::SIZE);
    }
}

/// B11: tables that hold other owners' entries went with a range that had made them.
fn foreign<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let (device, page) = (range(FAR, 2 * MIB), G::SIZE.bytes());
    let region = add(&mut map, device, LeafPolicy::Pages, false);
    // Behind the range's own addresses of both maps: in tables of level 3 that it has made, at 4K also of level 2.
    let ends = [map.layout().pages(device).end().align_up(page), map.layout().linear_range(device).end()];
    let mut theirs = Ram::elsewhere();
    let kept = ends.map(|va| {
        let va = VirtRange::new(va.add(page), page);
        let regime = map.tables().regime();
        let foreign = Mapping::new(regime, va, PhysAddr::new(GIB), LeafPolicy::Pages, vmemmap::EARLY_PROTECTION);
        let made = mapping::map(map.tables_mut(), &mut theirs, &foreign).unwrap();
        assert!(made <= 1, "{}: in tables of the range", G::SIZE);
        foreign
    });
    map.remove(region).unwrap();
    for mapping in kept {
        let walk = map.tables().walk(mapping.range().start());
        assert_eq!(walk.translation().map(|(_, pa)| pa), Some(PhysAddr::new(GIB)), "{}", G::SIZE);
        let ours = |slot: PhysAddr| map.frames.out.contains_key(&slot.align_down(page).value());
        assert!(walk.steps().filter(|step| ours(step.slot)).count() > 0, "{}: the tables stay in use", G::SIZE);
    }
}

/// B17: the end of memory was set to that of the range added last.
fn high_then_low<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let [high, low] = [range(DEVICE.add(8 * GIB), 4 * MIB), range(DEVICE, 4 * MIB)];
    let regions = [high, low].map(|device| add(&mut map, device, LeafPolicy::Largest, false));
    expect_struct_pages(&map, high);
    expect_struct_pages(&map, low);
    for region in regions {
        map.remove(region).unwrap();
    }
}

/// RAM up to 6 MiB behind the start of the section at [`DEVICE`].
fn with_part_of_a_section<G: Granule>() -> (Map<G>, PhysRange, PhysRange) {
    let mut map = memory_map::<G>(48);
    let ram = range(DEVICE, 6 * MIB);
    map.add_boot_ram(ram, LeafPolicy::Linux).unwrap();
    (map, ram, range(DEVICE, 1 << G::SIZE.section_shift()))
}

/// B23: device memory in a section of RAM passed for RAM.
fn mixed_section<G: Granule>() {
    let (mut map, ram, _) = with_part_of_a_section::<G>();
    let device = range(ram.end(), 4 * MIB);
    let region = add(&mut map, device, LeafPolicy::Largest, false);
    // SAFETY: a copy of the machine's memory as it is now.
    let view = unsafe { map.view(map.tables().machine().clone()) };
    for (part, owner, role) in [(ram, None, 0), (device, Some(device), StructPage::DEVICE)] {
        for pfn in pfns(part, G::SIZE.shift()) {
            let held = view.reference(pfn).map(|held| held.range());
            assert_eq!((map.is_valid(pfn), flags(&map, pfn), held), (true, role, owner), "{}: {pfn:?}", G::SIZE);
        }
    }
    map.remove(region).unwrap();
}

/// B28: only some struct pages of a device range in an early section were initialised.
fn beside_ram<G: Granule>() {
    let (mut map, ram, section) = with_part_of_a_section::<G>();
    let device = range(ram.end().add(2 * MIB), 8 * MIB);
    let region = add(&mut map, device, LeafPolicy::Largest, false);
    for pfn in pfns(section, G::SIZE.shift()) {
        let role = if device.contains(pfn.address(G::SIZE.shift())) { StructPage::DEVICE } else { 0 };
        assert_eq!(flags(&map, pfn), role, "{}: {pfn:?}", G::SIZE);
    }
    map.remove(region).unwrap();
}

/// B29: walkers of the memory map met holes without struct pages.
fn holes<G: Granule>() {
    let (mut map, _, section) = with_part_of_a_section::<G>();
    map.add_boot_ram(range(DEVICE.add(16 * MIB), 2 * MIB), LeafPolicy::Linux).unwrap();
    for pfn in pfns(section, G::SIZE.shift()) {
        assert_eq!((map.is_valid(pfn), flags(&map, pfn)), (true, 0), "{}: {pfn:?}", G::SIZE);
    }
    let behind = Pfn::containing(section.end(), G::SIZE.shift());
    assert!(!map.is_valid(behind), "{}", G::SIZE);
}

/// B30: the struct pages of a section that begins before RAM does came to lie below the window.
fn odd_ram<G: Granule>() {
    let sizes: &[u32] = match G::SIZE {
        GranuleSize::K4 => &[39, 48],
        GranuleSize::K16 => &[36, 47, 48],
        GranuleSize::K64 => &[42, 48],
    };
    for &va_bits in sizes {
        let ram = range(PhysAddr::new(2 * GIB + 2 * MIB), 64 * MIB);
        let layout = Layout::linux(G::SIZE, va_bits, memstart(G::SIZE, va_bits, va_bits, ram));
        let mut map = Map::<G>::new(tables(va_bits), Ram::default(), layout, 48).unwrap();
        map.add_boot_ram(ram, LeafPolicy::Linux).unwrap();
        let first = map.layout().page(Pfn::containing(PhysAddr::new(2 * GIB), G::SIZE.shift()));
        assert_eq!(first, layout.vmemmap().start(), "{} {va_bits}", G::SIZE);
        assert!(map.tables().walk(first).translation().is_some(), "{} {va_bits}", G::SIZE);
    }
}

/// H4: Linux keeps the first section, mapped and valid, and refuses every further try. Its counts: 8, 32 and 512 frames.
fn second_section<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let device = range(PhysAddr::new(0x1_8000_0000), GIB);
    let first = Pfn::containing(device.start(), G::SIZE.shift());
    prepare(&mut map, device);
    let before = frames_and_tables(&map);
    // What the first section takes, and what is skipped for its block at 4K.
    let (reserve, free) = match G::SIZE {
        GranuleSize::K4 => (2, 510 + 512),
        GranuleSize::K16 => (1, 32),
        GranuleSize::K64 => (1, 8),
    };
    let request = ask(device).policy(LeafPolicy::Linux);
    take_log();
    let error = map.plan(request.altmap(Altmap::new(device, G::SIZE, reserve, free))).map(drop).unwrap_err();
    assert!(matches!(error, PlanError::Memmap(MemmapError::Altmap(_))), "{error}");
    assert!(take_log().is_empty() && !map.is_valid(first), "{}", G::SIZE);
    let region = map.plan(request.altmap(Altmap::nvdimm(device, G::SIZE))).unwrap().commit().unwrap();
    assert!(map.is_valid(first));
    map.remove(region).unwrap();
    assert_eq!(frames_and_tables(&map), before, "{}", G::SIZE);
}

/// H13: Linux looks at both ends of the new range, and undoes the linear map of all of it, the live range's too.
fn enclosed<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let live = range(PhysAddr::new(0x2_a000_0000), 512 * MIB);
    let region = add(&mut map, live, LeafPolicy::Linux, true);
    let before = frames_and_tables(&map);
    let around = range(PhysAddr::new(0x2_8000_0000), 2 * GIB);
    assert_eq!(map.plan(ask(around)).map(drop), Err(PlanError::Overlap { range: around, live }));
    let seen = map.tables().walk(VirtAddr::new(0xffff_0002_6000_0000)).translation().map(|(_, pa)| pa);
    assert_eq!((seen, frames_and_tables(&map)), (Some(live.start()), before), "{}", G::SIZE);
    expect_struct_pages(&map, live);
    map.remove(region).unwrap();
}

/// H12: an altmap over an early section is asked for nothing, and says how little it needs.
fn unused_altmap<G: Granule>() {
    let (mut map, ram, _) = with_part_of_a_section::<G>();
    let device = range(ram.end(), 64 * MIB);
    assert_eq!(map.tight_altmap(device, LeafPolicy::Linux, 0).free(), 0);
    let altmap = Altmap::new(device, G::SIZE, 0, 32);
    let region = map.plan(ask(device).altmap(altmap)).unwrap().commit().unwrap();
    assert_eq!(*region.storage(), Storage::Altmap(altmap), "{}: none handed out", G::SIZE);
    let set_aside = Pfn::containing(device.start(), G::SIZE.shift());
    assert_eq!(flags(&map, set_aside), StructPage::DEVICE | StructPage::RESERVED, "{}: marked as asked", G::SIZE);
    map.remove(region).unwrap();
}

/// B16: 0 was read for the bits of physical address, and the linear map was placed by it. Here nothing is placed by them, and 0
/// is no number of bits.
#[test]
#[should_panic(expected = "0 bits of physical address")]
fn bits_of_physical_address_that_were_never_read_are_refused() {
    let layout = Layout::linux(GranuleSize::K4, 48, GIB);
    let _ = Map::<K4>::new(tables(48), Ram::default(), layout, 0);
}

/// B34: a struct page of another size than the altmap was made for.
#[test]
#[should_panic(expected = "a struct page is 8, 16, 32, 64, .. bytes")]
fn struct_pages_of_a_size_that_is_no_power_of_two_are_refused() {
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Odd([u64; 7]);
    // SAFETY: an array of words has no padding. That its size is no power of two is what is to be refused.
    unsafe impl Meta for Odd {
        fn new(_: Pfn, _: Role) -> Self {
            Self([0; 7])
        }
    }
    let layout = Layout::linux(GranuleSize::K4, 48, GIB);
    let _ = Hotplug::<_, _, Odd>::new(tables::<K4>(48), Ram::default(), layout, 48);
}

/// H1: ranges that touch one page of vmemmap more than their length, at the addresses where Linux stops with a fault.
fn straddles<G: Granule>(base: u64, bytes: u64, in_altmap: bool, memmap: [u64; 2]) {
    let mut map = memory_map::<G>(48);
    let device = range(PhysAddr::new(base), bytes);
    let region = add(&mut map, device, LeafPolicy::Linux, in_altmap);
    let pages = map.layout().pages(device);
    assert_eq!([pages.start(), pages.end()].map(VirtAddr::value), memmap);
    expect_struct_pages(&map, device);
    map.remove(region).unwrap();
}

#[test]
fn ranges_that_oops_on_linux_have_all_their_struct_pages() {
    straddles::<K64>(0x3_0020_0000, 128 * MIB, true, [0xffff_ffdf_c0b0_0800, 0xffff_ffdf_c0b2_0800]);
    straddles::<K64>(0x3_0020_0000, 64 * MIB, false, [0xffff_ffdf_c0b0_0800, 0xffff_ffdf_c0b1_0800]);
    straddles::<K64>(0x3_03e0_0000, 4 * MIB, false, [0xffff_ffdf_c0b0_f800, 0xffff_ffdf_c0b1_0800]);
    straddles::<K16>(0x3_0020_0000, 4 * MIB, false, [0xffff_ff7f_c2c0_2000, 0xffff_ff7f_c2c0_6000]);
}

/// H2: A and B side by side, 2 MiB each; Linux unmaps B's struct pages with A's.
fn neighbour<G: Granule>(in_altmap: [bool; 2], page_of_b: u64) {
    let mut map = memory_map::<G>(48);
    let [a, b] = [0, 2].map(|at| range(PhysAddr::new(0x3_0000_0000).add(at * MIB), 2 * MIB));
    prepare(&mut map, a);
    let before = frames_and_tables(&map);
    let [first, second] = [(a, in_altmap[0]), (b, in_altmap[1])]
        .map(|(device, in_altmap)| add(&mut map, device, LeafPolicy::Linux, in_altmap));
    assert_eq!(map.layout().pages(b).start(), VirtAddr::new(page_of_b));
    map.remove(first).unwrap();
    expect_struct_pages(&map, b);
    map.remove(second).unwrap();
    assert_eq!(frames_and_tables(&map), before, "{} {in_altmap:?}", G::SIZE);
}

#[test]
fn the_neighbour_that_linux_unmaps_stays() {
    for in_altmap in [[false, false], [true, false], [false, true], [true, true]] {
        neighbour::<K64>(in_altmap, 0xffff_ffdf_c0b0_0800);
        neighbour::<K16>(in_altmap, 0xffff_ff7f_c2c0_2000);
        neighbour::<K4>(in_altmap, 0xffff_fdff_cb00_8000);
    }
}

/// H3: Linux runs out of nvdimm's altmap and keeps the first section.
#[test]
fn ranges_that_nvdimms_altmap_is_too_small_for_on_linux_come_and_go() {
    for (mib, free, alloc) in [(250, 1022, 1000), (1026, 4606, 4104), (16386, 66046, 65544)] {
        for policy in [LeafPolicy::Linux, LeafPolicy::Largest] {
            let mut map = memory_map::<K4>(48);
            let device = range(DEVICE, mib * MIB);
            prepare(&mut map, device);
            let before = frames_and_tables(&map);
            let altmap = Altmap::nvdimm(device, GranuleSize::K4);
            assert_eq!((altmap.reserve(), altmap.free()), (2, free), "what nvdimm sets aside");
            let region = map.plan(ask(device).altmap(altmap).policy(policy)).unwrap().commit().unwrap();
            assert_eq!(region.storage().altmap().map(|altmap| altmap.alloc()), Some(alloc));
            expect_struct_pages(&map, range(PhysAddr::new(device.end().value() - 4 * MIB), 4 * MIB));
            map.remove(region).unwrap();
            assert_eq!(frames_and_tables(&map), before, "{mib} MiB {policy:?}");
        }
    }
}

/// H5: Linux took a table for a block that is there already, and left the rest of its section without struct pages.
#[test]
fn a_table_where_a_block_would_go_is_refused() {
    let mut map = memory_map::<K4>(48);
    let device = range(DEVICE, 128 * MIB);
    let va = VirtRange::new(map.layout().pages(device).start().add(MIB), 4096);
    let regime = map.tables().regime();
    let left = Mapping::new(regime, va, PhysAddr::new(GIB), LeafPolicy::Pages, vmemmap::PROTECTION);
    mapping::map(&mut map.tables, &mut map.frames, &left).unwrap();
    let request = ask(device).policy(LeafPolicy::Linux);
    let error = map.plan(request).map(drop).unwrap_err();
    let PlanError::Memmap(MemmapError::Occupied(occupied)) = error else { panic!("{error}") };
    assert_eq!((occupied.level, occupied.descriptor.is_table(Level::L2)), (Level::L2, true));
    // SAFETY: made above, and nobody uses it.
    unsafe { mapping::unmap(&mut map.tables, &mut map.frames, &left) }.unwrap();
    let region = map.plan(request).unwrap().commit().unwrap();
    expect_struct_pages(&map, device);
    map.remove(region).unwrap();
}

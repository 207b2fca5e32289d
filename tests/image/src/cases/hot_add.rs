//! Adding a range.

use kernel::exceptions::probe;
use kernel::memory::RamFrames;
use kernel::prove::{self, Books, Failures, leaf_vas};
use vmemmap::addr::{Pfn, PhysRange};
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{PlanError, Request};
use vmemmap::meta::StructPage;
use vmemmap::seam::{Frames, Machine};
use vmemmap::vmemmap::MemmapError;
use vmemmap_aarch64::translate;

use crate::world::{World, expect_none, pointer};

const PATTERN: u64 = 0xa5a5_5a5a_a5a5_5a5a;

pub fn memmap_lies_in_the_altmap<M: Machine>(world: &mut World<M>) {
    let free = RamFrames::current().free();
    let request = world.request(world.device, 1);
    let planned = request.storage().altmap();
    let tables = world.map.plan(request).map(|plan| plan.summary().linear_tables + plan.summary().memmap_tables);
    let region = world.add(request);
    assert_eq!(free - RamFrames::current().free(), tables.expect("it was planned"), "RAM holds tables only");
    let (first, end) = region.storage().altmap().expect("it has one").storage();
    let shift = M::Granule::SIZE.shift();
    let memmap = *region.memmap();
    for va in leaf_vas::<M::Granule>(memmap.stretches()) {
        let frame = Pfn::containing(translate(va).expect("struct pages are mapped"), shift);
        assert!(first <= frame && frame < end, "{va} lies in {frame:?}, outside {first:?}..{end:?}");
    }
    let mut failures = Failures::new();
    prove::at_agrees(world.map.tables(), &memmap, planned, &mut failures);
    world.check_struct_pages(&region, &mut failures);
    expect_none(&failures);
}

pub fn memmap_lies_in_ram<M: Machine>(world: &mut World<M>) {
    let request = world.ask(world.device);
    let before = Books::of(&world.map);
    let region = world.add(request);
    let memmap = *region.memmap();
    for va in leaf_vas::<M::Granule>(memmap.stretches()) {
        let frame = translate(va).expect("struct pages are mapped");
        assert!(world.boot.ram.as_slice().iter().any(|ram| ram.contains(frame)), "{va} lies in {frame}");
    }
    world.remove(region);
    assert_eq!(Books::of(&world.map).frames, before.frames);
}

/// Fills what a request sets aside, which is not added, with a pattern; the first pfn behind it.
pub fn fill_altmap<M: Machine>(world: &mut World<M>, request: Request, pattern: u64) -> Pfn {
    let (_, end) = request.storage().altmap().expect("it has one").storage();
    let end_address = end.address(M::Granule::SIZE.shift());
    let aside = PhysRange::between(world.device.start(), end_address).expect("in the range");
    world.with_linear(aside, |world| {
        // SAFETY: the range is not added: nobody else uses it.
        world.words(aside).for_each(|word| unsafe { word.write_volatile(pattern) });
    });
    end
}

pub fn struct_pages<M: Machine>(world: &mut World<M>) {
    let request = world.request(world.device, 3);
    let storage_end = fill_altmap(world, request, PATTERN);
    let shift = M::Granule::SIZE.shift();
    let region = world.add(request);
    let memmap = region.memmap().range();
    let first = Pfn::containing(world.device.start(), shift);
    for index in 0..memmap.bytes() / 64 {
        let page = memmap.start().add(index * 64);
        let words = [0, 8, 16, 24, 32, 40, 48, 56].map(|offset| {
            // SAFETY: struct pages of an added range are mapped.
            unsafe { pointer(page.add(offset)).read_volatile() }
        });
        let reserved = first.add(index) < storage_end;
        let flags = StructPage::DEVICE | if reserved { StructPage::RESERVED } else { 0 };
        assert_eq!(words, [flags, 0, 0, 0, 0, 0, 0xffff_ffff_0000_0001, 0], "struct page {index}");
    }
}

pub fn reserve<M: Machine>(world: &mut World<M>) {
    let request = world.request(world.device, 4);
    let reserve = PhysRange::new(world.device.start(), 4 << M::Granule::SIZE.shift()).expect("in the range");
    let fill = |world: &World<M>| {
        // SAFETY: the reserve is the driver's, and this case is the driver.
        world.words(reserve).for_each(|word| unsafe { word.write_volatile(PATTERN) });
    };
    let check = |world: &World<M>| {
        // SAFETY: as above.
        assert!(world.words(reserve).all(|word| unsafe { word.read_volatile() } == PATTERN), "the reserve was written");
    };
    world.with_linear(reserve, fill);
    let region = world.add(request);
    check(world);
    world.remove(region);
    world.with_linear(reserve, check);
}

pub fn linear_ends<M: Machine>(world: &mut World<M>) {
    let region = world.add(world.request(world.device, 0));
    let layout = *world.map.layout();
    let last = world.device.end().value() - 8;
    for address in [world.device.start(), vmemmap::addr::PhysAddr::new(last)] {
        let va = layout.linear_address(address);
        assert_eq!(translate(va), Ok(address));
        assert!(probe::load(va).is_ok());
    }
    let beyond = layout.linear_address(world.device.end());
    assert!(probe::load(beyond).is_err(), "the linear map ends where the range does");
    world.remove(region);
}

pub fn small_altmap<M: Machine>(world: &mut World<M>) {
    let tight = world.request(world.device, 1).storage().altmap().expect("it has one");
    let before = Books::of(&world.map);
    let short = Altmap::new(world.device, M::Granule::SIZE, 1, tight.free() - 1);
    let request = world.ask(world.device);
    let refused = world.map.plan(request.altmap(short)).map(|plan| plan.summary().memmap_tables);
    assert!(
        matches!(refused, Err(PlanError::Memmap(MemmapError::Altmap(error))) if error.needed == tight.free()),
        "{refused:?}"
    );
    assert_eq!(Books::of(&world.map), before);
    let region = world.add(request.altmap(tight));
    world.remove(region);
    assert_eq!(Books::of(&world.map), before);
}

pub fn overlap<M: Machine>(world: &mut World<M>) {
    let middle = world.part(1, 4);
    let region = world.add(world.request(middle, 0));
    let before = Books::of(&world.map);
    for range in [middle, world.device, world.part(0, 2)] {
        let refused = world.map.plan(world.request(range, 0)).map(|plan| plan.summary().range);
        assert!(matches!(refused, Err(PlanError::Overlap { .. })), "{range}: {refused:?}");
    }
    assert_eq!(Books::of(&world.map), before);
    let mut failures = Failures::new();
    world.check_struct_pages(&region, &mut failures);
    expect_none(&failures);
    world.remove(region);
}

pub fn out_of_ram<M: Machine>(world: &mut World<M>) {
    let page = M::Granule::SIZE.bytes();
    // Section records may stay behind a failed add: make them first.
    let region = world.add(world.request(world.device, 0));
    world.remove(region);
    let before = Books::of(&world.map);
    let mut frames = RamFrames::current();
    let mut taken = 0;
    let mut last = None;
    // A list through the frames themselves, by way of the linear map.
    while let Some(frame) = frames.take(page) {
        let link = pointer(world.map.layout().linear_address(frame));
        // SAFETY: the frame is ours.
        unsafe { link.write_volatile(last.map_or(0, |last: vmemmap::addr::PhysAddr| last.value())) };
        last = Some(frame);
        taken += 1;
    }
    let in_ram = world.ask(world.device);
    let failed = world.map.plan(in_ram).map(vmemmap::hotplug::Plan::commit);
    assert!(matches!(failed, Ok(Err(_))), "an add without RAM must fail");
    assert_eq!(Books::of(&world.map).tables, before.tables);
    for _ in 0..taken {
        let frame = last.expect("as many as were taken");
        // SAFETY: the frame is ours and holds the link.
        let next = unsafe { pointer(world.map.layout().linear_address(frame)).read_volatile() };
        frames.give(frame, page);
        last = (next != 0).then_some(vmemmap::addr::PhysAddr::new(next));
    }
    assert_eq!(Books::of(&world.map), before);
    let region = world.add(in_ram);
    world.remove(region);
    assert_eq!(Books::of(&world.map), before);
}

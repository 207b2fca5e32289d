//! What an altmap must hold, over every place and size of a range, and what Linux would do.

use super::*;
use crate::addr::{VirtAddr, VirtRange};
use crate::granule;
use crate::layout::Layout;
use crate::leaf::{LeafPolicy, Stretch};
use crate::testing::{DEVICE, GIB, MIB, Ram, range, tables, thinned};
use crate::vmemmap::{Memmap, Shared, Storage, depopulate, populate};
use GranuleSize::{K4, K16, K64};

const POLICIES: [LeafPolicy; 3] = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages];
const RESERVES: [u64; 8] = [0, 1, 2, 3, 31, 511, 512, 513];

fn fields(a: &Altmap) -> [u64; 6] {
    [a.base_pfn().number(), a.end_pfn().number(), a.reserve(), a.free(), a.alloc(), a.align()]
}

/// Linux's layout with struct pages of 2^`shift` bytes.
fn layout(granule: GranuleSize, shift: u32) -> Layout {
    let linux = Layout::linux(granule, 48, GIB);
    let vmemmap = VirtRange::new(VirtAddr::new(0xffff_f000_0000_0000), linux.vmemmap().bytes() >> 6 << shift);
    Layout::new(granule, linux.linear(), vmemmap, GIB, shift)
}

/// Every range of whole sub-sections that starts in the section at 4 GiB and ends there or in one of the next two.
fn ranges(granule: GranuleSize) -> impl Iterator<Item = PhysRange> {
    let section = granule.subsections_per_section();
    let pairs =
        thinned(0..section).flat_map(move |offset| thinned(1..=3 * section - offset).map(move |size| (offset, size)));
    pairs.map(|(offset, size)| range(DEVICE.add(offset * SUBSECTION_BYTES), size * SUBSECTION_BYTES))
}

/// Leaves, and the first frame behind them.
type Part = (Stretch, Pfn);

/// Linux's allocator, stretch by stretch: what it gives from `altmap`, its alloc and its align; or nothing.
fn linux(memmap: &Memmap, granule: GranuleSize, altmap: &Altmap) -> Option<(Vec<Part>, [u64; 2])> {
    let (mut alloc, mut align) = (0, 0);
    let mut given = Vec::new();
    for stretch in memmap.stretches() {
        let frames = stretch.leaf.bytes(granule) / granule.bytes();
        let candidate = altmap.base_pfn().number() + altmap.reserve() + alloc + align;
        let first = candidate.next_multiple_of(frames);
        align += first - candidate;
        alloc += frames * stretch.count;
        given.push((stretch, Pfn::new(first)));
    }
    (alloc + align <= altmap.free()).then_some((given, [alloc, align]))
}

/// Serves `memmap` from `altmap` and looks at every part: each struct page once, each frame at most once, aligned and
/// inside the zone.
fn serve(memmap: &Memmap, granule: GranuleSize, altmap: &mut Altmap) -> Vec<Part> {
    let zone = altmap.storage();
    let mut parts = Vec::with_capacity(8);
    memmap.allocate_from(altmap, |part, first| parts.push((part, first))).unwrap_or_else(|error| panic!("{error}"));
    let size = |part: &Stretch| part.bytes(granule) >> granule.shift();
    assert!(parts.iter().all(|(part, first)| first.number() % (size(part) / part.count) == 0), "aligned: {parts:?}");
    let served = parts.clone();
    parts.sort_unstable_by_key(|(_, first)| *first);
    let mut free = zone.0;
    for (part, first) in &parts {
        assert!(*first >= free, "a frame twice, or outside: {parts:?}");
        free = first.add(size(part));
    }
    assert!(free <= zone.1, "behind the zone {zone:?}: {parts:?}");
    assert_eq!(free.number().max(zone.0.number()) - zone.0.number(), altmap.alloc() + altmap.align(), "the extent");
    parts.sort_unstable_by_key(|(part, _)| part.va.value());
    let mut va = memmap.range().start();
    for (part, _) in &parts {
        assert_eq!(part.va, va, "a struct page twice, or not at all");
        va = va.add(part.bytes(granule));
    }
    assert_eq!(va.since(memmap.range().start()), memmap.range().bytes());
    served
}

/// `required` frames serve the range, one fewer does not, and Linux's choice is kept where it fits.
fn check(layout: &Layout, device: PhysRange, policy: LeafPolicy, reserve: u64) {
    let granule = layout.granule();
    let memmap = Memmap::new(layout, layout.interior(device), policy);
    let required = Altmap::required(layout, device, policy, reserve);
    let mut altmap = Altmap::new(device, granule, reserve, required);
    let parts = serve(&memmap, granule, &mut altmap);
    assert_eq!((altmap.remaining(), altmap.alloc()), (0, memmap.range().bytes() / granule.bytes()), "{device}");
    if let Some(free) = required.checked_sub(1) {
        let short = Altmap::new(device, granule, reserve, free);
        let error = memmap.allocate_from(&mut { short }, |_, _| panic!("does not fit")).unwrap_err();
        assert_eq!(error, AltmapTooSmall { free, needed: required }, "{device} {policy:?} reserve {reserve}");
    }
    if policy != LeafPolicy::Largest
        && let Some((theirs, counters)) = linux(&memmap, granule, &altmap)
    {
        assert_eq!((parts, [altmap.alloc(), altmap.align()]), (theirs, counters), "{device} {policy:?}");
    }
}

/// Fields before and after populate, measured on Linux for 1 GiB at 4 GiB.
#[test]
fn nvdimms_altmap_has_linuxs_fields_before_and_after() {
    let gib = range(DEVICE, GIB);
    let rows = [
        (K64, [0x10000, 0x13fff, 1, 31, 0, 0], [0x10000, 0x13fff, 1, 31, 16, 0]),
        (K16, [0x40000, 0x4ffff, 1, 383, 0, 0], [0x40000, 0x4ffff, 1, 383, 256, 0]),
        (K4, [0x10_0000, 0x13_ffff, 2, 4606, 0, 0], [0x10_0000, 0x13_ffff, 2, 4606, 4096, 510]),
    ];
    for (granule, before, after) in rows {
        let mut altmap = Altmap::nvdimm(gib, granule);
        assert_eq!(fields(&altmap), before, "{granule}");
        let layout = Layout::linux(granule, 48, 0x4000_0000);
        serve(&Memmap::new(&layout, gib, LeafPolicy::Linux), granule, &mut altmap);
        assert_eq!(fields(&altmap), after, "{granule}");
    }
}

#[test]
fn a_tight_altmap_is_exactly_large_enough() {
    for granule in GranuleSize::ALL {
        let layout = Layout::linux(granule, 48, 0x4000_0000);
        for policy in POLICIES {
            for (reserve, bytes) in [(0, GIB), (1, GIB), (3, 5 * GIB), (0, 64 << 20)] {
                let device = range(DEVICE, bytes);
                let tight = Altmap::tight(&layout, device, policy, reserve);
                assert_eq!(tight.free(), Altmap::required(&layout, device, policy, reserve));
                check(&layout, device, policy, reserve);
            }
        }
    }
}

/// Every reserve for every range at 4K and 16K; at 64K, where there are 16 times as many, each range takes the next one.
#[test]
fn required_is_exact_for_every_range_struct_page_policy_and_reserve() {
    for granule in GranuleSize::ALL {
        for shift in 4..=7 {
            let layout = layout(granule, shift);
            for (number, device) in ranges(granule).enumerate() {
                for policy in POLICIES {
                    let all = || RESERVES.iter().for_each(|&reserve| check(&layout, device, policy, reserve));
                    let next = || check(&layout, device, policy, RESERVES[number % RESERVES.len()]);
                    if granule == K64 { next() } else { all() }
                }
            }
        }
    }
}

#[test]
fn nvdimms_altmap_serves_every_range_at_every_granule() {
    for granule in GranuleSize::ALL {
        let layout = layout(granule, 6);
        for device in ranges(granule) {
            let altmap = Altmap::nvdimm(device, granule);
            assert!(altmap.reserve() + altmap.free() <= device.bytes() >> granule.shift(), "{device}");
            for policy in POLICIES {
                serve(&Memmap::new(&layout, layout.interior(device), policy), granule, &mut { altmap });
            }
        }
    }
}

/// Whole sections and a part at 4K: Linux's populate fails with nvdimm's altmap (measured on 6.12 and 7.3 for the first
/// three). Whole sections alone fit exactly.
#[test]
fn ranges_that_linux_fails_for_want_of_padding_are_served() {
    let fail = [250 * MIB, GIB + 2 * MIB, 16 * GIB + 2 * MIB, 16 * GIB + 16 * MIB];
    let fit = [128 * MIB, 256 * MIB, 16 * GIB];
    let layout = Layout::linux(K4, 48, GIB);
    for (bytes, on_linux) in fail.map(|bytes| (bytes, false)).into_iter().chain(fit.map(|bytes| (bytes, true))) {
        let device = range(DEVICE, bytes);
        let mut altmap = Altmap::nvdimm(device, K4);
        let memmap = Memmap::new(&layout, device, LeafPolicy::Linux);
        assert_eq!(linux(&memmap, K4, &altmap).is_some(), on_linux, "{device}");
        let parts = serve(&memmap, K4, &mut altmap);
        let last = parts.last().unwrap();
        assert_eq!(last.1 == altmap.storage().0, !on_linux, "the part's pages are in front of the first block");
    }
}

/// nvdimm always budgets for 64 bytes.
#[test]
fn an_altmap_that_no_order_fits_into_is_refused_with_the_exact_number() {
    let layout = layout(K64, 7);
    let device = range(DEVICE, 4 * GIB);
    let altmap = Altmap::nvdimm(device, K64);
    let memmap = Memmap::new(&layout, device, LeafPolicy::Pages);
    let error = memmap.allocate_from(&mut { altmap }, |_, _| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the altmap sets 95 frames aside and the vmemmap of the range needs 128; set at least that many aside"
    );
}

#[test]
fn what_is_required_is_known_at_compile_time() {
    const LAYOUT: Layout = Layout::linux(K4, 48, GIB);
    const RANGE: PhysRange = PhysRange::new(DEVICE, 250 * MIB).unwrap();
    const FRAMES: u64 = Altmap::required(&LAYOUT, RANGE, LeafPolicy::Linux, 2);
    const TIGHT: Altmap = Altmap::tight(&LAYOUT, RANGE, LeafPolicy::Linux, 2);
    assert_eq!((FRAMES, TIGHT.free()), (510 + 512, FRAMES));
}

#[test]
fn a_reserve_beyond_all_frames_leaves_room_for_nothing() {
    let layout = Layout::linux(K4, 48, GIB);
    let device = range(DEVICE, GIB);
    let memmap = Memmap::new(&layout, device, LeafPolicy::Pages);
    for reserve in [u64::MAX, u64::MAX - (DEVICE.value() >> 12) - 4095] {
        assert_eq!(Altmap::required(&layout, device, LeafPolicy::Pages, reserve), u64::MAX);
        let mut altmap = Altmap::new(device, K4, reserve, u64::MAX);
        assert!(memmap.allocate_from(&mut altmap, |_, _| panic!("no room")).is_err());
        assert_eq!((altmap.alloc(), altmap.align()), (0, 0));
    }
}

#[test]
fn a_second_memmap_goes_behind_the_first() {
    let layout = Layout::linux(K64, 48, GIB);
    let memmap = |start| Memmap::new(&layout, range(start, GIB), LeafPolicy::Pages);
    let mut altmap = Altmap::new(range(DEVICE, 2 * GIB), K64, 1, 31);
    serve(&memmap(DEVICE), K64, &mut altmap);
    let mut firsts = Vec::new();
    let error = memmap(DEVICE.add(GIB)).allocate_from(&mut { altmap }, |_, _| panic!("15 are left")).unwrap_err();
    assert_eq!(error, AltmapTooSmall { free: 31, needed: 32 });
    memmap(DEVICE.add(GIB - 64 * MIB)).place(altmap.next(), 16, |_, first| firsts.push(first)).unwrap();
    assert_eq!(firsts, [Pfn::new((DEVICE.value() >> 16) + 17)]);
}

/// Linux keeps `align` when a range goes, so its second add through the same altmap finds less.
#[test]
#[cfg_attr(miri, ignore = "minutes there: tables word by word")]
fn an_altmap_that_comes_back_gives_the_same_frames_again() {
    let layout = Layout::linux(K4, 48, GIB);
    for bytes in [250 * MIB, GIB] {
        let (mut tables, mut frames) = (tables::<granule::K4>(48), Ram::default());
        let memmap = Memmap::new(&layout, range(DEVICE, bytes), LeafPolicy::Linux);
        let fresh = Storage::Altmap(Altmap::nvdimm(range(DEVICE, bytes), K4));
        let mut storage = fresh;
        let seen = [(); 2].map(|()| {
            let live = populate(&mut tables, &mut frames, memmap, storage).unwrap();
            assert!(live.storage().altmap().is_some_and(|altmap| altmap.align() > 0), "something was skipped");
            let pages = (0..memmap.range().bytes()).step_by(4096).map(|offset| memmap.range().start().add(offset));
            let behind: Vec<_> =
                thinned(pages).map(|va| tables.walk(va).translation().map(|(_, frame)| frame)).collect();
            // SAFETY: these frames, and nobody's neighbours.
            storage = unsafe { depopulate(&mut tables, &mut frames, live, Shared::default()) }.0;
            assert_eq!(storage, fresh);
            behind
        });
        assert_eq!(seen[0], seen[1]);
    }
}

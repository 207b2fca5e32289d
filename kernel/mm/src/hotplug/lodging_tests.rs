//! One altmap for several ranges: who gets which frames, and when its host may go.

use super::subsection_tests::flags;
use super::*;
use crate::addr::PhysAddr;
use crate::altmap::AltmapTooSmall;
use crate::granule::{GranuleSize, K4, K16, K64};
use crate::meta::StructPage;
use crate::testing::{DEVICE, GIB, MIB, Map, ask, memory_map, range};
use crate::vmemmap::MemmapError;

/// A host of 128 MiB whose altmap has `spare` frames more than it needs itself.
fn host<G: Granule>(map: &mut Map<G>, spare: u64) -> Region {
    let device = range(DEVICE, 128 * MIB);
    let tight = map.tight_altmap(device, LeafPolicy::Pages, 1);
    let altmap = Altmap::new(device, G::SIZE, 1, tight.free() + spare);
    map.plan(ask(device).altmap(altmap).policy(LeafPolicy::Pages)).unwrap().commit().unwrap()
}

/// Adds a tenant's range of 128 MiB, `at` GiB behind the host.
fn tenant<G: Granule>(map: &mut Map<G>, host: &Region, at: u64) -> Result<Region, PlanError> {
    let device = range(DEVICE.add(at * GIB), 128 * MIB);
    let request = ask(device).altmap_of(host).policy(LeafPolicy::Pages);
    Ok(map.plan(request)?.commit().unwrap())
}

/// The frames behind a region's vmemmap.
fn frames<G: Granule>(map: &Map<G>, region: &Region) -> Vec<PhysAddr> {
    let page = G::SIZE.bytes();
    let vas = region.memmap().stretches().flat_map(|s| (0..s.count).map(move |index| s.va.add(index * page)));
    vas.map(|va| map.tables().walk(va).translation().unwrap().1).collect()
}

/// H7: Linux forgets where freed frames were, and hands out frames that are still mapped.
fn positions<G: Granule>() {
    let mut map = memory_map::<G>(48);
    let needed = ((128 * MIB) >> G::SIZE.shift()) / (G::SIZE.bytes() / 64);
    let host = host(&mut map, 3 * needed);
    let [one, two, three] = [1, 2, 3].map(|at| tenant(&mut map, &host, at).unwrap());
    let (first, kept) = (frames(&map, &one), [frames(&map, &two), frames(&map, &three), frames(&map, &host)].concat());
    assert!(kept.iter().chain(&first).all(|frame| host.range().contains(*frame)), "all in the host's memory");
    let full = tenant(&mut map, &host, 4).unwrap_err();
    assert!(matches!(full, PlanError::Memmap(MemmapError::Altmap(AltmapTooSmall { .. }))), "{full}");
    map.remove(one).unwrap();
    let four = tenant(&mut map, &host, 4).unwrap();
    assert_eq!(frames(&map, &four), first, "the place that became free");
    let all: std::collections::BTreeSet<_> = kept.iter().chain(&first).collect();
    assert_eq!(all.len(), kept.len() + first.len(), "no frame twice");
    for region in [two, four, three, host] {
        map.remove(region).unwrap();
    }
}

#[test]
fn an_altmap_remembers_where_its_tenants_are() {
    positions::<K4>();
    positions::<K16>();
    positions::<K64>();
}

/// B21: Linux freed the shared altmap with the first of its ranges.
#[test]
fn a_host_is_busy_while_others_live_in_its_altmap() {
    let mut map = memory_map::<K64>(48);
    let host = host(&mut map, 64);
    let tenant = tenant(&mut map, &host, 1).unwrap();
    let error = map.remove(host).unwrap_err();
    assert_eq!(error.why, Obstacle::Hosts { tenant: tenant.range() });
    let host = error.region;
    assert!(map.is_valid(Pfn::containing(DEVICE, 16)), "a refused removal changes nothing");
    let stored: Vec<_> = map.regions().map(|listed| (listed.range, listed.stored_in)).collect();
    assert_eq!(stored, [(host.range(), Some(host.range())), (tenant.range(), Some(host.range()))]);
    let before = map.frames.out.len();
    map.remove(tenant).unwrap();
    map.remove(host).unwrap();
    assert!(map.frames.out.len() <= before && map.regions().next().is_none());
}

#[test]
fn a_host_must_be_there_and_have_an_altmap_of_its_own() {
    let mut map = memory_map::<K16>(48);
    let in_ram = map.plan(ask(range(DEVICE.add(8 * GIB), 128 * MIB))).unwrap().commit().unwrap();
    let error = tenant(&mut map, &in_ram, 1).unwrap_err();
    assert_eq!(error, PlanError::HostWithoutAltmap { host: in_ram.range() });
    let host = host(&mut map, 64);
    let lodger = tenant(&mut map, &host, 1).unwrap();
    let error = tenant(&mut map, &lodger, 2).unwrap_err();
    assert_eq!(error, PlanError::HostWithoutAltmap { host: lodger.range() }, "a tenant has nothing to let");
    map.remove(lodger).unwrap();
    let request = ask(range(DEVICE.add(GIB), 128 * MIB)).altmap_of(&host);
    let gone = host.range();
    map.remove(host).unwrap();
    assert_eq!(map.plan(request).map(drop).unwrap_err(), PlanError::HostGone { host: gone });
    // Another range in the same record is not the host.
    let other = map.plan(ask(range(DEVICE.add(2 * GIB), 128 * MIB))).unwrap().commit().unwrap();
    assert_eq!(map.plan(request).map(drop).unwrap_err(), PlanError::HostGone { host: gone });
    map.remove(other).unwrap();
    map.remove(in_ram).unwrap();
}

#[test]
fn blocks_of_a_tenant_are_aligned_wherever_its_place_begins() {
    let mut map = memory_map::<K4>(48);
    let device = range(DEVICE, GIB);
    let altmap = Altmap::new(device, GranuleSize::K4, 3, 16 * 1024);
    let host = map.plan(ask(device).altmap(altmap)).unwrap().commit().unwrap();
    let request = ask(range(DEVICE.add(GIB), 258 * MIB)).altmap_of(&host);
    let tenant = map.plan(request).unwrap().commit().unwrap();
    let zone = tenant.storage().altmap().unwrap();
    let hosts = host.storage().altmap().unwrap();
    let hosts_end = hosts.storage().0.number() + hosts.alloc() + hosts.align();
    assert_eq!(zone.storage().0.number(), hosts_end, "right behind the host's");
    for stretch in tenant.memmap().stretches() {
        let (_, frame) = map.tables().walk(stretch.va).translation().unwrap();
        assert!(frame.is_aligned(stretch.leaf.bytes(GranuleSize::K4)));
    }
    let removed = map.remove(tenant).unwrap();
    assert_eq!(removed.storage, Storage::Altmap(altmap), "the host's, as it was given");
    map.remove(host).unwrap();
}

/// Reserve and storage are of the host's range: to a tenant below it in memory they mean nothing.
#[test]
fn pages_of_a_tenant_are_its_owners_whatever_its_hosts_altmap_says() {
    let mut map = memory_map::<K64>(48);
    let device = range(DEVICE.add(4 * GIB), 128 * MIB);
    let altmap = Altmap::new(device, GranuleSize::K64, 3, 64);
    let host = map.plan(ask(device).altmap(altmap)).unwrap().commit().unwrap();
    let below = range(DEVICE, 128 * MIB);
    let tenant = map.plan(ask(below).altmap_of(&host)).unwrap().commit().unwrap();
    for at in [below.start(), below.start().add(64 * MIB), PhysAddr::new(below.end().value() - 1)] {
        assert_eq!(flags(&map, Pfn::containing(at, 16)), StructPage::DEVICE, "{at}");
    }
    assert_eq!(flags(&map, altmap.base_pfn()), StructPage::DEVICE | StructPage::RESERVED, "the host's are");
    map.remove(tenant).unwrap();
    map.remove(host).unwrap();
}

/// In Linux's order a block and eight pages would reach past a gap in which the pages fit before the block.
#[test]
fn a_tenant_in_a_gap_takes_no_more_than_the_gap() {
    let mut map = memory_map::<K4>(48);
    let device = range(DEVICE, 128 * MIB);
    // The host's 512 frames go up to eight before a boundary of blocks.
    let altmap = Altmap::new(device, GranuleSize::K4, 504, 512 + 3 * 520);
    let host = map.plan(ask(device).altmap(altmap).policy(LeafPolicy::Pages)).unwrap().commit().unwrap();
    let add = |map: &mut Map<K4>, at: u64, policy| {
        let request = ask(range(DEVICE.add(at * GIB), 130 * MIB)).altmap_of(&host).policy(policy);
        map.plan(request).unwrap().commit().unwrap()
    };
    let [gap, behind] = [1, 2].map(|at| add(&mut map, at, LeafPolicy::Pages));
    let [place, next] = [&gap, &behind].map(|region| region.storage().altmap().unwrap().storage());
    assert_eq!((place.1.number() - place.0.number(), place.1), (520, next.0), "one behind the other");
    map.remove(gap).unwrap();
    let tenant = add(&mut map, 3, LeafPolicy::Linux);
    assert_eq!(tenant.storage().altmap().unwrap().storage(), place, "the gap");
    let others = frames(&map, &behind);
    for stretch in tenant.memmap().stretches() {
        let (_, frame) = map.tables().walk(stretch.va).translation().unwrap();
        let block = range(frame, stretch.leaf.bytes(GranuleSize::K4) * stretch.count);
        assert!(!others.iter().any(|other| block.contains(*other)), "{block} is another tenant's too");
    }
    for region in [tenant, behind, host] {
        map.remove(region).unwrap();
    }
}

#[test]
fn a_tenant_that_is_closed_lives_in_its_host_until_it_is_removed() {
    let mut map = memory_map::<K16>(48);
    let host = host(&mut map, 64);
    let tenant = tenant(&mut map, &host, 1).unwrap();
    map.close(&tenant);
    let error = map.remove(host).unwrap_err();
    assert_eq!(error.why, Obstacle::Hosts { tenant: tenant.range() });
    map.remove(tenant).unwrap();
    map.remove(error.region).unwrap();
}

//! No operation costs more a section for a larger range, and none more beside more ranges. Calls through the seam are
//! counted, reads too: cost is what the machine below is asked to do.

use super::*;
use crate::granule::{K4, K16, K64};
use crate::testing::tally::{Calls, Tally, tallied};
use crate::testing::{GIB, MIB, Ram, ask, range};

type Map<G> = Hotplug<Tally<G>, Ram, crate::meta::StructPage>;

const POLICIES: [LeafPolicy; 3] = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages];

/// Where ranges start: a multiple of all leaves, so that twice the range never means fewer large ones a section.
const START: PhysAddr = PhysAddr::new(1 << 40);

fn memory_map<G: Granule>() -> Map<G> {
    Hotplug::new(tallied(), Ram::default(), Layout::linux(G::SIZE, 48, GIB), 48).unwrap()
}

fn add<G: Granule>(map: &mut Map<G>, device: PhysRange, policy: LeafPolicy, altmap: bool) -> Region {
    let request = ask(device).policy(policy);
    let request = if altmap { request.altmap(map.tight_altmap(device, policy, 0)) } else { request };
    map.plan(request).unwrap().commit().unwrap()
}

/// What adding and removing `device` asks of the machine.
fn life<G: Granule>(
    map: &mut Map<G>,
    device: PhysRange,
    policy: LeafPolicy,
    altmap: bool,
) -> [(&'static str, Calls); 2] {
    map.tables().machine().take();
    let region = add(map, device, policy, altmap);
    let added = map.tables().machine().take();
    map.remove(region).unwrap();
    [("add", added), ("remove", map.tables().machine().take())]
}

/// Twice the range takes at most twice the calls of each kind, and reads on the way to one table more a level.
fn doubles_at_most<G: Granule>(policy: LeafPolicy, altmap: bool, most: u64, offset: u64) {
    let section = 1 << G::SIZE.section_shift();
    let life = |sections| life(&mut memory_map::<G>(), range(START.add(offset), sections * section), policy, altmap);
    let mut sections = 1;
    let mut before = life(sections);
    while sections < most {
        let now = life(2 * sections);
        for ((operation, once), (_, twice)) in before.iter().zip(&now) {
            for ((kind, once), (_, twice)) in once.each().iter().zip(twice.each()) {
                let on_the_way = if *kind == "reads" { 8 } else { 0 };
                assert!(
                    twice <= 2 * once + on_the_way,
                    "{} {policy:?}, altmap {altmap}, +{offset:#x}: {operation} has {once} {kind} for {sections} sections, {twice} for twice that",
                    G::SIZE
                );
            }
        }
        (sections, before) = (2 * sections, now);
    }
}

/// In an altmap up to 256 sections, in RAM up to 32: its frames, half a GiB at 4K, would be this process's.
fn grows_linearly<G: Granule>() {
    for policy in POLICIES {
        for offset in [0, 2 * MIB] {
            doubles_at_most::<G>(policy, true, 256, offset);
            doubles_at_most::<G>(policy, false, 32, offset);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "millions of leaves")]
fn no_call_is_made_more_often_a_section_for_a_larger_range_at_4k() {
    grows_linearly::<K4>();
}

#[test]
#[cfg_attr(miri, ignore = "millions of leaves")]
fn no_call_is_made_more_often_a_section_for_a_larger_range_at_16k() {
    grows_linearly::<K16>();
}

#[test]
#[cfg_attr(miri, ignore = "millions of leaves")]
fn no_call_is_made_more_often_a_section_for_a_larger_range_at_64k() {
    grows_linearly::<K64>();
}

/// The calls of `kinds` are never more in the second half of `all` than they were in the first.
fn stays(all: &[Calls], kinds: &[&str], what: &str) {
    let (early, late) = all.split_at(all.len() / 2);
    let most = |calls: &[Calls], kind| {
        let counts = calls.iter().flat_map(Calls::each).filter(|(name, _)| *name == kind).map(|(_, count)| count);
        counts.max().expect("every call is counted")
    };
    for &kind in kinds {
        assert!(most(late, kind) <= most(early, kind), "{what}: {kind} {} -> {}", most(early, kind), most(late, kind));
    }
}

/// 512 ranges of a section, one behind the other, twice: the second time in places that were used before. (The last to be
/// removed look at whole tables before they free them, so only the words of records are compared there.)
fn ranges_side_by_side<G: Granule>() {
    const WORDS: [&str; 2] = ["loads", "stores"];
    let section = 1 << G::SIZE.section_shift();
    let mut map = memory_map::<G>();
    let mut all_removals = vec![];
    for round in 0..2 {
        let (mut regions, mut adds, mut removals) = (vec![], vec![], vec![]);
        for index in 0..512 {
            let device = range(START.add(index * section), section);
            map.tables().machine().take();
            regions.push(add(&mut map, device, LeafPolicy::Largest, true));
            adds.push(map.tables().machine().take());
        }
        for region in regions {
            map.tables().machine().take();
            map.remove(region).unwrap();
            removals.push(map.tables().machine().take());
        }
        let all = adds[0].each().map(|(kind, _)| kind);
        stays(&adds, &all, &format!("{} round {round}, add", G::SIZE));
        stays(&removals, &WORDS, &format!("{} round {round}, remove", G::SIZE));
        all_removals.extend(removals);
    }
    stays(&all_removals, &WORDS, &format!("{} remove, round 0 and 1", G::SIZE));
}

#[test]
#[cfg_attr(miri, ignore = "thousands of ranges")]
fn a_range_costs_no_more_beside_many() {
    ranges_side_by_side::<K4>();
    ranges_side_by_side::<K16>();
    ranges_side_by_side::<K64>();
}

/// What it takes to remove a range with an altmap of which others have had a part before, where `beside` ranges are live.
fn removal_of_a_former_host(beside: u64) -> Calls {
    let section = 1 << K64::SIZE.section_shift();
    let mut map = memory_map::<K64>();
    let device = |index| range(START.add(index * section), section);
    let altmap = Altmap::new(device(0), K64::SIZE, 0, 64);
    let host = map.plan(ask(device(0)).altmap(altmap)).unwrap().commit().unwrap();
    let tenant = map.plan(ask(device(1)).altmap_of(&host)).unwrap().commit().unwrap();
    map.remove(tenant).unwrap();
    for index in 0..beside {
        drop(add(&mut map, device(2 + index), LeafPolicy::Largest, true));
    }
    map.tables().machine().take();
    map.remove(host).unwrap();
    map.tables().machine().take()
}

#[test]
fn a_host_whose_tenants_have_gone_is_removed_without_a_look_at_other_ranges() {
    assert_eq!(removal_of_a_former_host(1), removal_of_a_former_host(30));
}

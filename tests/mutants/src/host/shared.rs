//! Scenarios of what ranges share: pages of the vmemmap, boot's struct pages, an altmap, readers.

use std::sync::{Arc, Mutex};

use vmemmap::addr::{Pfn, PhysAddr, PhysRange};
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Kind, Obstacle, Region, Request};
use vmemmap::leaf::LeafPolicy;
use vmemmap::meta::StructPage;
use vmemmap::sim::world::Call;
use vmemmap::sim::{Outcome, World};
use vmemmap::trace::Event;

use super::scenarios::{BASE, MIB, range, unit};
use super::stage::{Shape, Stage, expect};
use crate::Fault;

/// What ranges are multiples of.
const STEP: u64 = 2 * MIB;

fn stage<G: Granule>(fault: Fault) -> Stage<G> {
    Stage::new(fault, Shape::PAIR, LeafPolicy::Largest)
}

/// Bytes of memory that a page of the vmemmap describes.
const fn described<G: Granule>() -> u64 {
    G::SIZE.bytes() / 64 * G::SIZE.bytes()
}

/// Two ranges that share a page of the vmemmap: one goes, and the other's struct pages must still be there.
fn two<G: Granule, K: Kind + Copy>(mut stage: Stage<G>, other: Request<K>, other_goes: bool) {
    let out = stage.ram_out();
    let request = Request::private(range(BASE + described::<G>() / 2, described::<G>() / 2));
    let [region, neighbour] = [stage.add(request), stage.add(other)];
    if other_goes {
        stage.remove(neighbour);
        stage.look(&region, &request);
        stage.remove(region);
    } else {
        stage.remove(region);
        stage.look(&neighbour, &other);
        stage.remove(neighbour);
    }
    let left = stage.ram_out();
    expect("I3", left == out, || format!("{left:#x} bytes of RAM are out, {out:#x} before"));
}

fn in_a_page<G: Granule>(fault: Fault, first_goes: bool) {
    two(stage::<G>(fault), Request::private(range(BASE, described::<G>() / 2)), first_goes);
}

pub(super) fn first_of_a_page_goes<G: Granule>(fault: Fault) {
    in_a_page::<G>(fault, true);
}

pub(super) fn second_of_a_page_goes<G: Granule>(fault: Fault) {
    in_a_page::<G>(fault, false);
}

/// The neighbour starts and ends in the middle of a page of the vmemmap, and keeps what is between in its altmap.
fn across<G: Granule>(fault: Fault, first_goes: bool) {
    let stage = stage::<G>(fault);
    let neighbour = range(BASE - described::<G>() * 3 / 2, described::<G>() * 2);
    let request = stage.ask(neighbour, Some(0));
    two(stage, request, first_goes);
}

pub(super) fn first_with_altmap_goes<G: Granule>(fault: Fault) {
    across::<G>(fault, true);
}

pub(super) fn second_beside_altmap_goes<G: Granule>(fault: Fault) {
    across::<G>(fault, false);
}

/// Another CPU, which has not synchronised its context, adds a range whose struct pages are in a page that is there.
pub(super) fn handed_over<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault);
    let first = stage.try_add(Request::private(range(BASE, STEP))).expect("there are frames");
    let mut stage = stage.on(1);
    let second = stage.try_add(Request::private(range(BASE + STEP, STEP))).expect("there are frames");
    stage.remove(first);
    stage.remove(second);
}

/// The first word of a struct page.
fn flags<G: Granule>(stage: &Stage<G>, pfn: Pfn) -> Option<u64> {
    match stage.world.written(stage.map.layout().page(pfn).value()) {
        Outcome::Map { pa, .. } => Some(stage.world.word(PhysAddr::new(pa))),
        _ => None,
    }
}

/// Device memory in a section that boot RAM fills in part.
pub(super) fn early<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault);
    stage.map.add_boot_ram(range(BASE, 2 * STEP), LeafPolicy::Linux).expect("there are frames");
    stage.world.event(Event::Isb { cpu: 1 });
    let memory = range(BASE + 2 * STEP, STEP);
    let pfn = Pfn::containing(memory.start(), G::SIZE.shift());
    for _ in 0..2 {
        let region = stage.add(Request::private(memory));
        let found = flags(&stage, pfn);
        expect("L6", found == Some(StructPage::DEVICE), || format!("{pfn:?} is added and says {found:x?}"));
        stage.remove(region);
        let found = flags(&stage, pfn);
        expect("L6", found == Some(0), || format!("{pfn:?} is boot's again and says {found:x?}"));
    }
}

/// The frames behind the struct pages of a range.
fn frames<G: Granule>(stage: &Stage<G>, region: &Region) -> Vec<u64> {
    let page = G::SIZE.bytes();
    let vas = region.memmap().interior();
    let frame = |va: u64| match stage.world.written(va) {
        Outcome::Map { pa, .. } => Some(pa),
        _ => None,
    };
    (0..vas.bytes() / page).filter_map(|index| frame(vas.start().add(index * page).value())).collect()
}

/// Two ranges in the altmap of a third, which is busy until they have gone.
pub(super) fn tenants<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault);
    let place = |index: u64| range(BASE + index * unit::<G>(), unit::<G>());
    let tight = Altmap::tight(stage.map.layout(), place(0), LeafPolicy::Largest, 0);
    let request = stage.ask(place(0), None).altmap(Altmap::new(place(0), G::SIZE, 0, 4 * tight.free()));
    let host = stage.add(request);
    let tenant = |stage: &mut Stage<G>, place: PhysRange| {
        let request = stage.ask(place, None).altmap_of(&host);
        stage.try_add(request).expect("there are frames")
    };
    let [one, two] = [1, 2].map(|index| tenant(&mut stage, place(index)));
    let [hosts, ones, twos] = [&host, &one, &two].map(|region| frames(&stage, region));
    let apart = twos.iter().all(|frame| !ones.contains(frame) && !hosts.contains(frame));
    expect("I10", apart, || format!("frames {ones:x?} and {twos:x?} of one altmap"));
    stage.remove(one);
    let host = match stage.map.remove(host) {
        Err(error) if matches!(error.why, Obstacle::Hosts { .. }) => error.region,
        other => {
            return expect("I10", false, || format!("a host is removed while others live in its altmap: {other:?}"));
        }
    };
    stage.remove(two);
    stage.remove(host);
}

/// CPU 1 is in a read section, in which it has found a pfn valid, while CPU 0 removes its range.
pub(super) fn reader<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault);
    let region = stage.add(Request::private(range(BASE, STEP)));
    let pfn = Pfn::containing(PhysAddr::new(BASE), G::SIZE.shift());
    let va = stage.map.layout().page(pfn).value();
    // SAFETY: a CPU of the same world.
    let view = unsafe { stage.map.view(stage.world.cpu::<G>(1)) };
    let section = stage.world.read_section(1);
    expect("I10", view.is_valid(pfn), || format!("{pfn:?} is added, and not valid"));
    let open = Mutex::new(Some(section));
    let uses = Arc::new(move |world: &World| {
        let section = open.lock().expect("nobody panics with it").take();
        if section.is_some() {
            world.event(Event::Touch { cpu: 1, va, write: true });
        }
    });
    let waited_for = uses.clone();
    stage.world.set_hook(Arc::new(move |world, cpu| {
        if world.call(cpu) == Some(Call::Wait) {
            waited_for(world);
        }
    }));
    stage.remove(region);
    uses(&stage.world);
    stage.world.remove_hook();
}

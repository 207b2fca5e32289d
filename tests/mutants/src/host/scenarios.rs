//! What is played with every mutant: lives of ranges at all granules, leaf policies and places of the struct pages.

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::leaf::LeafPolicy::{self, Largest, Linux, Pages};
use vmemmap::table::Tables;
use vmemmap::vmemmap::{Memmap, Storage, populate};

use super::shared::{
    early, first_of_a_page_goes, first_with_altmap_goes, handed_over, reader, second_beside_altmap_goes,
    second_of_a_page_goes, tenants,
};
use super::stage::{Shape, Stage, expect, let_elsewhere};
use crate::Fault;

pub(super) const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Where device memory begins.
pub(super) const BASE: u64 = 128 * GIB;

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What happens, and at which granule.
    pub name: &'static str,
    /// Plays it with a mutant.
    pub play: fn(Fault),
}

macro_rules! scenarios {
    ($($name:literal $play:ident $($granule:ident)*;)*) => {
        /// Every scenario.
        pub const SCENARIOS: &[Scenario] = &[$($(
            Scenario { name: concat!($name, "-", stringify!($granule)), play: $play::<$granule> },
        )*)*];
    };
}

scenarios! {
    "altmap" altmap K4 K16 K64;
    "altmap-linux" altmap_linux K4 K16 K64;
    "ram" ram K4 K16 K64;
    "pages" pages K4;
    "run" run K4 K16 K64;
    "run-by-address" run_by_address K4 K16 K64;
    "first-neighbour-goes" first_neighbour_goes K4 K16 K64;
    "second-neighbour-goes" second_neighbour_goes K4 K16 K64;
    "cousins" cousins K4 K16 K64;
    "beside" beside K4 K16 K64;
    "online" online K4 K16 K64;
    "registers" registers K4 K16 K64;
    "short-of-frames" short_of_frames K4 K64;
    "high" high K4 K16 K64;
    "above-the-threshold" above_the_threshold K4;
    "first-of-a-page-goes" first_of_a_page_goes K16 K64;
    "second-of-a-page-goes" second_of_a_page_goes K16 K64;
    "first-with-altmap-goes" first_with_altmap_goes K16;
    "second-beside-altmap-goes" second_beside_altmap_goes K16;
    "handed-over" handed_over K16 K64;
    "early" early K4 K16 K64;
    "tenants" tenants K4 K16 K64;
    "reader" reader K4 K64;
}

/// A block of the linear map: a few pages of struct pages.
pub(super) const fn unit<G: Granule>() -> u64 {
    match G::SIZE {
        GranuleSize::K4 => 2 * MIB,
        GranuleSize::K16 => 32 * MIB,
        GranuleSize::K64 => 512 * MIB,
    }
}

/// As much as one run of struct pages describes.
const fn described_by_run<G: Granule>() -> u64 {
    match G::SIZE {
        GranuleSize::K4 => 4 * MIB,
        GranuleSize::K16 => 512 * MIB,
        GranuleSize::K64 => 2 * GIB,
    }
}

pub(super) fn range(start: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), bytes).expect("below 2^52")
}

/// Twice added and removed: the second time with frames that have been used.
fn live_twice<G: Granule>(mut stage: Stage<G>, range: PhysRange, reserve: Option<u64>) {
    let out = stage.ram_out();
    for _ in 0..2 {
        let region = stage.add(stage.ask(range, reserve));
        stage.remove(region);
        let left = stage.ram_out();
        expect("I3", left == out, || format!("{left:#x} bytes of RAM are out, {out:#x} before"));
    }
}

fn stage<G: Granule>(fault: Fault, policy: LeafPolicy) -> Stage<G> {
    Stage::new(fault, Shape::PAIR, policy)
}

fn altmap<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Largest), range(BASE, unit::<G>()), Some(0));
}

fn altmap_linux<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Linux), range(BASE, unit::<G>()), Some(1));
}

fn ram<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Largest), range(BASE, unit::<G>()), None);
}

fn pages<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Pages), range(BASE, unit::<G>()), Some(0));
}

/// The struct pages are one contiguous run.
fn run<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Largest), range(BASE, described_by_run::<G>()), Some(0));
}

/// The struct pages could be a run by their address, and not by that of their frames.
fn run_by_address<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Linux), range(BASE, described_by_run::<G>()), Some(1));
}

/// Two ranges, `apart` from start to start; one goes, and the other must still be there.
fn two<G: Granule>(fault: Fault, apart: u64, first_goes: bool) {
    let mut stage = stage::<G>(fault, Largest);
    let out = stage.ram_out();
    let requests = [0, 1].map(|index| stage.ask(range(BASE + index * apart, unit::<G>()), Some(0)));
    let [first, second] = requests.map(|request| stage.add(request));
    let (goes, stays, asked) = if first_goes { (first, second, requests[1]) } else { (second, first, requests[0]) };
    stage.remove(goes);
    stage.look(&stays, &asked);
    stage.remove(stays);
    let left = stage.ram_out();
    expect("I3", left == out, || format!("{left:#x} bytes of RAM are out, {out:#x} before"));
}

fn first_neighbour_goes<G: Granule>(fault: Fault) {
    two::<G>(fault, unit::<G>(), true);
}

fn second_neighbour_goes<G: Granule>(fault: Fault) {
    two::<G>(fault, unit::<G>(), false);
}

/// Their struct pages have level 3 tables of their own below one level 2 table.
fn cousins<G: Granule>(fault: Fault) {
    let described_by_page = G::SIZE.bytes() / 64 * G::SIZE.bytes();
    two::<G>(fault, described_by_page * G::SIZE.entries(), true);
}

/// While CPU 0 removes a range, CPU 1 populates struct pages in the same table, where it can.
fn beside<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault, Largest);
    let layout = *stage.map.layout();
    let neighbour = range(BASE + unit::<G>(), unit::<G>());
    let memmap = Memmap::new(&layout, neighbour, Linux);
    let region = stage.add(stage.ask(range(BASE, unit::<G>()), Some(0)));
    let_elsewhere(move |world| {
        // SAFETY: its own window, and a lock, or what is to show that there is none.
        let mut tables = unsafe { Tables::adopt(world.cpu::<G>(1), world.root(), world.regime()) };
        let storage = Storage::Altmap(Altmap::tight(&layout, neighbour, Linux, 0));
        let _ = populate(&mut tables, &mut world.ram(), memmap, storage).expect("its window is free");
    });
    stage.remove(region);
    stage.touch_if_there(1, memmap.range().start());
}

/// A CPU comes online while a range is there.
fn online<G: Granule>(fault: Fault) {
    let mut stage = Stage::<G>::new(fault, Shape { online: 1, ..Shape::PAIR }, Largest);
    let region = stage.add(stage.ask(range(BASE, unit::<G>()), Some(0)));
    stage.come_online(1);
    stage.touch(&region);
    stage.remove(region);
}

/// A CPU writes its registers again while a range is there.
fn registers<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault, Largest);
    let region = stage.add(stage.ask(range(BASE, unit::<G>()), Some(0)));
    let ips = stage.world.ips();
    for _ in 0..2 {
        stage.map.tables_mut().come_online(ips);
        stage.touch(&region);
    }
    stage.remove(region);
}

/// Every allocation fails once; the same request works afterwards.
fn short_of_frames<G: Granule>(fault: Fault) {
    let mut stage = stage::<G>(fault, Largest);
    let request = stage.ask(range(BASE, unit::<G>()), None);
    let region = stage.add(request);
    stage.remove(region);
    let (out, image) = (stage.ram_out(), stage.world.image());
    for budget in 0.. {
        stage.world.set_budget(Some(budget));
        let added = stage.try_add(request);
        stage.world.set_budget(None);
        if let Ok(region) = added {
            stage.remove(region);
            break;
        }
        let left = stage.ram_out();
        expect("I3", left == out, || format!("{left:#x} bytes of RAM are out after a failed add, {out:#x} before"));
        let changed = stage.world.image() != image;
        expect("I9", !changed, || "a failed add has changed memory".to_owned());
    }
    let region = stage.add(request);
    stage.remove(region);
}

/// Output addresses that need all 52 bits.
fn high<G: Granule>(fault: Fault) {
    let stage = Stage::<G>::new(fault, Shape { bits: 52, ..Shape::PAIR }, Largest);
    live_twice(stage, range((1 << 51) + BASE, unit::<G>()), Some(0));
}

/// So many leaves that one invalidation of everything is cheaper.
fn above_the_threshold<G: Granule>(fault: Fault) {
    live_twice(stage::<G>(fault, Pages), range(BASE, 2 * unit::<G>()), Some(0));
}

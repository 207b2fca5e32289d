//! Readers on another CPU, on the same memory as the memory map and while it changes.

use std::sync::{Arc, Mutex};

use super::*;
use crate::granule::{GranuleSize, K64};
use crate::lifetime::State;
use crate::meta::StructPage;
use crate::regime::Regime;
use crate::sim::world::{Call, Cpu, SimRam, World};
use crate::testing::{DEVICE, GIB, MIB, range};

type WorldMap = Hotplug<Cpu<K64>, SimRam, StructPage>;

/// A machine with two CPUs, and a memory map on the first.
fn world_and_map() -> (World, WorldMap) {
    let world = World::new(Regime::of_size(GranuleSize::K64, 48).unwrap(), 48, 2);
    let map = map_on(&world).unwrap();
    (world, map)
}

fn map_on(world: &World) -> Result<WorldMap, OutOfFrames> {
    // SAFETY: nobody else has the world's root.
    let tables = unsafe { Tables::adopt(world.cpu(0), world.root(), world.regime()) };
    Hotplug::new(tables, world.ram(), Layout::linux(GranuleSize::K64, 48, GIB), 48)
}

/// A reader on the second CPU.
fn reader(world: &World, map: &WorldMap) -> View<Cpu<K64>> {
    // SAFETY: the CPUs of a world have one memory.
    unsafe { map.view(world.cpu(1)) }
}

fn add(map: &mut WorldMap, device: PhysRange) -> Region {
    map.plan(Request::private(device)).unwrap().commit().unwrap()
}

#[test]
fn a_reference_holds_its_range_until_it_is_dropped() {
    let (world, mut map) = world_and_map();
    let device = range(DEVICE, 4 * MIB);
    let region = add(&mut map, device);
    let view = reader(&world, &map);
    let [first, second] = [0, 4 * MIB - 1].map(|at| view.reference(Pfn::containing(DEVICE.add(at), 16)).unwrap());
    assert_eq!(map.regions().next().unwrap().state, State::Live { holders: 2 });
    drop(first);
    let error = map.remove(region).unwrap_err();
    assert_eq!(error.why, Obstacle::Referenced { references: 1 });
    assert_eq!(second.range(), device);
    drop(second);
    map.remove(error.region).unwrap();
    assert!(view.reference(Pfn::containing(DEVICE, 16)).is_none(), "it is gone");
    assert!(world.take_violations().is_empty());
}

/// Between a reader's look at a record and its pin the range goes, and another one gets the record.
#[test]
fn a_reader_that_pins_a_record_of_another_range_by_now_lets_go_of_it() {
    let (world, mut map) = world_and_map();
    let [before, after] = [0, 1].map(|at| range(DEVICE.add(at * GIB), 4 * MIB));
    let region = add(&mut map, before);
    let view = reader(&world, &map);
    let state = Arc::new(Mutex::new((map, Some(region))));
    let shared = Arc::clone(&state);
    world.set_hook(Arc::new(move |world, cpu| {
        let about_to_pin = cpu == 1 && matches!(world.call(1), Some(Call::Store(_)));
        if !about_to_pin {
            return;
        }
        let (map, region) = &mut *shared.lock().unwrap();
        if let Some(region) = region.take() {
            map.remove(region).unwrap();
            let _ = add(map, after);
        }
    }));
    let found = view.reference(Pfn::containing(before.start(), 16)).map(|held| held.range());
    assert_eq!(found, None, "a reference to another range than was asked for");
    world.remove_hook();
    let (map, region) = &*state.lock().unwrap();
    assert!(region.is_none(), "the record was used again meanwhile");
    let listed: Vec<_> = map.regions().map(|listed| (listed.range, listed.state)).collect();
    assert_eq!(listed, [(after, State::Live { holders: 0 })], "nothing holds it");
}

#[test]
fn a_memory_map_that_finds_too_few_frames_for_its_records_keeps_none() {
    let world = World::new(Regime::of_size(GranuleSize::K64, 48).unwrap(), 48, 1);
    for budget in [0, 1] {
        world.set_budget(Some(budget));
        assert!(map_on(&world).is_err(), "with {budget} frames");
        assert!(world.frames_out().is_empty(), "with {budget} frames: {:x?}", world.frames_out());
    }
    world.set_budget(Some(2));
    assert!(map_on(&world).is_ok());
}

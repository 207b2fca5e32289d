//! Removing a range.

use kernel::prove::{Books, Failures};
use vmemmap::seam::Machine;

use crate::world::{World, expect_none};

pub fn books<M: Machine>(world: &mut World<M>) {
    let before = Books::of(&world.map);
    let request = world.request(world.device, 2);
    let region = world.add(request);
    assert_ne!(Books::of(&world.map).descriptors, before.descriptors, "an add is seen in the tables");
    let removed = world.map.remove(region).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(removed.storage, *request.storage());
    assert_eq!(Books::of(&world.map), before);
}

pub fn either_order<M: Machine>(world: &mut World<M>) {
    for first_goes_first in [true, false] {
        let before = Books::of(&world.map);
        let mut regions = [0, 1].map(|index| Some(world.add(world.request(world.part(index, 2), 0))));
        let (gone, stays) = if first_goes_first { (0, 1) } else { (1, 0) };
        world.remove(regions[gone].take().expect("it was added"));
        let rest = regions[stays].take().expect("it was added");
        let mut failures = Failures::new();
        assert!(world.check_struct_pages(&rest, &mut failures) > 0);
        expect_none(&failures);
        world.remove(rest);
        assert_eq!(Books::of(&world.map), before);
    }
}

pub fn rounds<M: Machine>(world: &mut World<M>) {
    let before = Books::of(&world.map);
    for round in 0..100 {
        let region = world.add(world.request(world.part(round % 4, 4), round % 3));
        world.remove(region);
    }
    assert_eq!(Books::of(&world.map), before);
}

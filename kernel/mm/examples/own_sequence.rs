//! A kernel's own way to take a page away, judged by the adversary: no call of this library changes a table here.
//! `cargo test -p vmemmap --example own_sequence` is how it stands in a kernel's own tests; run, it prints both
//! verdicts.

use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::GranuleSize;
use vmemmap::regime::Regime;
use vmemmap::sim::{Violation, World};
use vmemmap::trace::{Event, Word};

/// The first 1 GiB of a 39-bit kernel half, as one block at level 1, and the frame behind it.
const VA: u64 = 0xffff_ff80_0000_0000;
const FRAME: u64 = 0x1_0000_0000;
const BLOCK: u64 = 0x00e8_0001_0000_0701;

/// Two CPUs with an empty root table at 4K.
fn machine() -> World {
    World::new(Regime::new(GranuleSize::K4, 39, OutputFormat::Bits48).expect("it exists"), 40, 2)
}

fn write(slot: u64, old: u64, new: u64) -> Event {
    Event::Write { cpu: 0, slot, old, new }
}

fn dsb(option: &str) -> Event {
    Event::Dsb { cpu: 0, option: Word::new(option) }
}

/// `TLBI VAAE1IS` of the address's page number.
fn tlbi() -> Event {
    Event::Tlbi { cpu: 0, op: Word::new("vaae1is"), operand: Some(VA >> 12 & 0xfff_ffff_ffff) }
}

/// Lets the frame be handed out, maps it and has CPU 1 use it.
fn map(world: &World) {
    let slot = world.root().value();
    let touch = Event::Touch { cpu: 1, va: VA, write: true };
    let isb = |cpu| Event::Isb { cpu };
    let taken = Event::Alloc { pa: FRAME, len: 1 << 30, from: Word::new("mine") };
    for event in [taken, write(slot, 0, BLOCK), dsb("ishst"), isb(0), isb(1), touch] {
        world.event(event);
    }
}

/// Takes it away by `middle` and gives the frame back; what the adversary says of it.
fn take_away(world: &World, middle: &[Event]) -> Vec<Violation> {
    let op = Word::new("my_unmap");
    world.event(Event::Begin { cpu: 0, op, start: VA, end: VA + (1 << 30) });
    world.event(write(world.root().value(), BLOCK, 0));
    for event in middle {
        world.event(*event);
    }
    world.event(Event::Free { pa: FRAME, len: 1 << 30, to: Word::new("mine") });
    world.event(Event::End { cpu: 0, op, result: 0 });
    world.take_violations()
}

/// What the architecture asks for.
fn right() -> [Event; 4] {
    [dsb("ishst"), tlbi(), dsb("ish"), Event::Isb { cpu: 0 }]
}

/// The invalidation is not waited for: the frame may be in use by somebody else while CPU 1 still writes to it.
fn wrong() -> [Event; 3] {
    [dsb("ishst"), tlbi(), Event::Isb { cpu: 0 }]
}

fn main() {
    for (name, middle) in [("right", &right()[..]), ("wrong", &wrong())] {
        let world = machine();
        map(&world);
        println!("the {name} one:");
        for violation in take_away(&world, middle) {
            println!("  {violation}");
        }
        println!("  CPU 1 may see {:x?}", world.may(1, VA));
    }
}

#[test]
fn the_right_sequence_passes() {
    let world = machine();
    map(&world);
    let found = take_away(&world, &right());
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(Vec::from_iter(world.may(1, VA)), [vmemmap::sim::Outcome::Fault]);
}

#[test]
fn a_frame_given_back_before_the_invalidation_is_complete_is_caught() {
    let world = machine();
    map(&world);
    let found = take_away(&world, &wrong());
    assert!(found.iter().any(|violation| violation.rule == vmemmap::sim::Rule::FreedFrame), "{found:#?}");
    assert!(world.may(1, VA).len() > 1, "it may still be cached");
}

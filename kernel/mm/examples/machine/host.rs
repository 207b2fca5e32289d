//! The host: an adopter's code against the adversary, under a root table that already has mappings of somebody else.

use std::error::Error;

use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::descriptor::{Attributes, Descriptor, OutputFormat, TableAttributes};
use vmemmap::granule::{GranuleSize, K4};
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, Mapping};
use vmemmap::observe::{Event, Observed, Observer};
use vmemmap::regime::Regime;
use vmemmap::seam::{Dsb, Frames, Memory, Mmu, Source};
use vmemmap::sim::World;
use vmemmap::sim::world::Cpu;
use vmemmap::table::{Protection, Tables};
use vmemmap::trace::{self, Word};

/// Where the examples have physical address 0.
const DIRECT_MAP: VirtAddr = VirtAddr::new(0xffff_ff80_0000_0000);

/// A CPU of the hostile machine.
pub type Judged = Observed<Cpu<K4>, Announce>;

/// Tells the adversary of frames that the example's own allocator hands out, so that it can judge what comes back.
pub struct Announce(World);

impl Observer for Announce {
    fn event(&mut self, event: Event) {
        match event {
            Event::Allocated(frames) | Event::Freed(frames) if frames.source == Source::Ram => {
                self.0.event(trace::Event::seen(0, &event));
            }
            _ => (),
        }
    }
}

/// Runs `example` on two CPUs. Not if it fails, the adversary finds fault with it, or it has touched what boot made.
pub fn is_right<E: Error>(example: impl FnOnce(Judged, PhysAddr, Cpu<K4>, &mut String) -> Result<(), E>) -> bool {
    let regime = Regime::new(GranuleSize::K4, 39, OutputFormat::Bits48).expect("it exists");
    let world = World::new(regime, 40, 2);
    boot(&world, regime);
    let before = world.image();
    let operation = Word::new("example");
    world.event(trace::Event::Begin { cpu: 0, op: operation, start: 0, end: 0 });
    let mut log = String::new();
    let machine = Observed::new(world.cpu(0), Announce(world.clone()));
    let done = example(machine, world.root(), world.cpu(1), &mut log);
    world.event(trace::Event::End { cpu: 0, op: operation, result: 0 });
    print!("{log}");
    let untouched = before.iter().all(|(at, word)| world.word(PhysAddr::new(*at)) == *word);
    verdict(&world, &done, untouched)
}

fn verdict<E: Error>(world: &World, done: &Result<(), E>, untouched: bool) -> bool {
    let violations = world.violations();
    for violation in &violations {
        println!("{violation}");
    }
    println!("{} violations in {} steps", violations.len(), world.steps());
    if !untouched {
        println!("boot's own tables have changed");
    }
    if let Err(error) = done {
        println!("{error}");
    }
    violations.is_empty() && untouched && done.is_ok()
}

/// What was there before us: 256 MiB of RAM in the linear map, and an empty table where the device goes, none of it hot-plug's.
fn boot(world: &World, regime: Regime) {
    let attributes = TableAttributes::LINEAR;
    // SAFETY: nobody else has the root yet.
    let mut tables = unsafe { Tables::adopt(world.cpu::<K4>(0), world.root(), regime) };
    let protection = Protection { leaf: Attributes::KERNEL, table: attributes };
    let ram = VirtRange::new(DIRECT_MAP.add(0x4000_0000), 256 << 20);
    let linear = Mapping::new(regime, ram, PhysAddr::new(0x4000_0000), LeafPolicy::Largest, protection);
    mapping::map(&mut tables, &mut world.ram(), &linear).expect("there is RAM for tables");

    let mut cpu = world.cpu::<K4>(0);
    let table = world.ram().take(4096).expect("there is RAM");
    cpu.zero_table(table, 4096);
    cpu.dsb(Dsb::InnerShareableStores);
    let device = regime.index(DIRECT_MAP.add(super::DEVICE.start().value()), regime.start_level());
    let link = Descriptor::table(table, attributes, regime.output());
    cpu.write(world.root().add(device * 8), link.bits());
    cpu.dsb(Dsb::InnerShareableStores);
    cpu.isb();
}

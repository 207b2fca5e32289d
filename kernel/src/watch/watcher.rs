//! The watcher and what it does with an event.

use spin::Mutex;
use vmemmap::check::{At, Broken, Check, existing};
use vmemmap::granule::Granule;
use vmemmap::observe::{self, Observed, Observer};
use vmemmap::seam::Memory;
use vmemmap::trace::{Event, Header};
use vmemmap_aarch64::El1;

use super::BootInfo;
use crate::boot::{ips, refuse};
use crate::exit::{self, Status};
use crate::memory::RamFrames;
use crate::report::json::Object;
use crate::story::{self, Around};
use crate::{heap, println};

/// The observer: what it sees it [tells](told).
#[derive(Clone, Copy, Debug)]
pub struct Watcher(());

impl Observer for Watcher {
    const SEES_OLD: bool = true;

    fn event(&mut self, event: observe::Event) {
        told(Event::seen(0, &event));
    }
}

#[derive(Debug)]
struct Watch {
    trace: bool,
    check: Option<Check>,
}

static WATCH: Mutex<Watch> = Mutex::new(Watch { trace: false, check: None });

/// Takes an event: also one that the seam has no call for. The run ends here if it breaks the protocol.
pub fn told(event: Event) {
    let mut watch = WATCH.lock();
    if watch.trace {
        println!("@trace {event}");
    }
    if let Some(check) = &mut watch.check
        && let Err(broken) = check.step(event)
    {
        fail(check, broken)
    }
}

/// Events that were judged, if any are.
#[must_use]
pub fn judged() -> Option<u64> {
    WATCH.lock().check.as_ref().map(Check::judged)
}

/// The story on the watched machine.
pub fn tell_watched<A: Around, G: Granule>(boot: &'static BootInfo) -> ! {
    story::tell_on::<G, _>(boot, |machine| {
        start(boot, &machine);
        A::around(Observed::new(machine, Watcher(())))
    })
}

/// Tells what there is before the first operation.
fn start<G: Granule>(boot: &BootInfo, machine: &El1<G>) {
    let (granule, va_bits) = (boot.regime.granule(), boot.regime.va_bits());
    let header = Header { granule, va_bits, pa_bits: boot.pa_bits(), cpus: 1 };
    WATCH.lock().trace = boot.config.trace;
    if boot.config.checked {
        give_the_heap_room(boot);
        WATCH.lock().check = Some(Check::new(header).unwrap_or_else(|error| refuse(error)));
    }
    told(Event::Trace(header));
    // As the core will say them when this CPU comes online: of TCR_EL1 only EPD0 differs, which is about the other half.
    told(Event::seen(0, &observe::Event::Registers(boot.regime.registers(boot.root, ips(boot.pa_bits())))));
    existing(boot.regime, boot.root, &|slot| machine.read(slot), &mut told);
}

/// The checker keeps a copy of every table: half of the RAM that is free, at most, and not more than tables for some GiB of
/// pages need.
fn give_the_heap_room(boot: &BootInfo) {
    const MOST: u64 = 128 << 20;
    const LEAST: u64 = 2 << 20;
    let free = RamFrames::current().free() * boot.regime.granule().bytes();
    if !heap::extend(boot, (free / 2).min(MOST), LEAST) {
        refuse("too little RAM for checked=1: give more (--memory)")
    }
}

/// Says which rule was broken and how to see it again, and ends the run.
fn fail(check: &Check, broken: Broken) -> ! {
    println!("@fail event {}: {broken}", check.judged());
    let broken = Object::with(|object| {
        object.value("events", check.judged());
        object.text("rule", broken.rule.name());
        object.text("why", broken.rule.text());
        match broken.at {
            At::Slot(slot) => object.hex("slot", slot),
            At::Table(table) => object.hex("table", table),
        }
        object.value("state", format_args!("\"{:?}\"", broken.state));
        object.text("lacks", broken.state.lacks());
    });
    println!("@broken {broken}");
    check.window().iter().for_each(|event| println!("@window {event}"));
    exit::exit(Status::Fail)
}

//! What the host is told, one JSON object a line: `@live {..}`. Addresses are `"0x.."` strings, sizes are numbers.

use alloc::format;
use core::fmt::Display;

use vmemmap::addr::PhysRange;

use crate::boot::BootInfo;
use crate::memory::RamFrames;
use crate::println;
use crate::prove::{Gone, Proved};
use crate::report::json::Object;
use crate::report::{Cost, fault};

fn tell(event: &str, fill: impl FnOnce(&mut Object)) {
    let object = Object::with(|object| {
        object.text("event", event);
        fill(object);
    });
    println!("@live {object}");
}

fn range(object: &mut Object, range: PhysRange) {
    object.hex("base", range.start().value());
    object.value("size", range.bytes());
}

fn device(object: &mut Object, device: usize, source: &str) {
    object.value("device", device);
    object.text("source", source);
}

/// All is up, and what was there at boot has been served.
pub fn ready(boot: &BootInfo, sources: impl Iterator<Item = &'static str>) {
    let granule = boot.config.granule;
    tell("ready", |object| {
        object.text("granule", granule.name());
        object.value("page_size", granule.bytes());
        object.array("devices", sources.map(|source| format!("\"{source}\"")));
        object.value("frames_free", RamFrames::current().free());
    });
}

/// A range was added and proved.
pub fn added(number: usize, source: &str, added: PhysRange, cost: &Cost, proved: Proved) {
    tell("added", |object| {
        device(object, number, source);
        range(object, added);
        object.value("struct_pages", cost.struct_pages);
        object.value("cost", cost.object());
        object.value("leaves", proved.leaves);
        object.value("leaves_at_plan", proved.leaves_at_plan);
    });
}

/// A range was removed, and a load from it faults.
pub fn removed(number: usize, source: &str, removed: PhysRange, cost: &Cost, gone: Option<Gone>) {
    tell("removed", |object| {
        device(object, number, source);
        range(object, removed);
        object.value("cost", cost.object());
        object.optional("fault", gone.map(fault));
    });
}

/// A range was asked back and stays.
pub fn kept(number: usize, source: &str, kept: PhysRange, why: impl Display) {
    tell("kept", |object| {
        device(object, number, source);
        range(object, kept);
        object.text("why", &format!("{why}"));
    });
}

/// A range could not be added; or, where none is named, the device itself refused something.
pub fn refused(number: usize, source: &str, refused: Option<PhysRange>, why: impl Display) {
    tell("refused", |object| {
        device(object, number, source);
        object.optional("base", refused.map(|refused| format!("\"{:#x}\"", refused.start().value())));
        object.optional("size", refused.map(PhysRange::bytes));
        object.text("why", &format!("{why}"));
    });
}

/// A reference to the range was taken.
pub fn held(held: PhysRange) {
    tell("held", |object| range(object, held));
}

/// A reference to the range was given back.
pub fn released(released: PhysRange) {
    tell("released", |object| range(object, released));
}

/// The ranges that are there: device, source, range and holders of each. There may be thousands: each goes to the console as
/// it comes.
pub fn shown(ranges: impl Iterator<Item = (usize, &'static str, PhysRange, u32)>, tables: u64) {
    crate::print!("@live {{\"event\":\"shown\",\"ranges\":[");
    for (index, (number, source, shown, holders)) in ranges.enumerate() {
        let shown = Object::with(|object| {
            device(object, number, source);
            range(object, shown);
            object.value("holders", holders);
        });
        crate::print!("{}{shown}", if index == 0 { "" } else { "," });
    }
    println!("],\"frames_free\":{},\"tables\":{tables}}}", RamFrames::current().free());
}

/// A text was written, `offset` bytes into the first range of the device.
pub fn written(device: usize, offset: u64, bytes: usize) {
    tell("written", |object| {
        object.value("device", device);
        object.hex("offset", offset);
        object.value("bytes", bytes);
    });
}

/// The text that the device keeps.
pub fn read(device: usize, text: &str) {
    tell("read", |object| {
        object.value("device", device);
        object.text("text", text);
    });
}

/// All interrupts are served that were pending.
pub fn synced(number: u64) {
    tell("synced", |object| object.value("number", number));
}

/// What was typed is no command, or can't be done now.
pub fn error(why: impl Display) {
    tell("error", |object| object.text("why", &format!("{why}")));
}

/// The end, in numbers.
pub fn end(added: u64, removed: u64, frames_difference: i64) {
    tell("end", |object| {
        object.value("added", added);
        object.value("removed", removed);
        object.value("frames_difference", frames_difference);
    });
}

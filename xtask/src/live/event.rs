//! What the kernel says on its console while it runs: `@live` and one JSON object a line.

use serde::Deserialize;
use serde_json::Value;

use crate::report::{Bits, Fault, Instructions};
use crate::status::Stop;

/// One event.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// All that was there at boot is served.
    Ready { granule: String, frames_free: u64 },
    /// A range was added.
    Added {
        #[serde(flatten)]
        range: Range,
        struct_pages: u64,
        cost: Cost,
        leaves: u64,
        leaves_at_plan: u64,
    },
    /// A range was removed, and a load of its struct pages faulted; none is tried where they are boot's.
    Removed {
        #[serde(flatten)]
        range: Range,
        cost: Cost,
        fault: Option<Fault>,
    },
    /// A range was asked back, but is in use.
    Kept {
        #[serde(flatten)]
        range: Range,
        why: String,
    },
    /// A range could not be added, or the device refused something.
    Refused { device: usize, source: String, base: Option<Bits>, size: Option<u64>, why: String },
    /// A reference was taken on the region.
    Held { base: Bits, size: u64 },
    /// One was dropped.
    Released { base: Bits, size: u64 },
    /// The regions that are there.
    Shown { ranges: Vec<Region>, frames_free: u64, tables: u64 },
    /// A text was kept in a device's memory.
    Written { device: usize, offset: Bits, bytes: u64 },
    /// It was read back.
    Read { device: usize, text: String },
    /// All that was pending when the host asked is served.
    Synced { number: u64 },
    /// A command could not be done.
    Error { why: String },
    /// All ranges are gone.
    End { added: u64, removed: u64, frames_difference: i64 },
}

/// What an operation did. With `--count` it is not watched, but its instructions are counted.
#[derive(Clone, Debug, Deserialize)]
pub struct Cost {
    pub descriptor_writes: Option<u64>,
    pub dsb: Option<u64>,
    pub tlbi: Option<u64>,
    #[serde(default)]
    pub ram_bytes: u64,
    #[serde(default)]
    pub altmap_bytes: u64,
    pub instructions: Option<Instructions>,
}

/// A range of a device.
#[derive(Clone, Debug, Deserialize)]
pub struct Range {
    /// The device's number, in the order of `--device`.
    pub device: usize,
    pub source: String,
    pub base: Bits,
    /// In bytes.
    pub size: u64,
}

/// A range that is there.
#[derive(Clone, Debug, Deserialize)]
pub struct Region {
    #[serde(flatten)]
    pub range: Range,
    /// References on it.
    pub holders: u64,
}

/// An event and the object that it was read from.
#[derive(Clone, Debug)]
pub struct Told {
    pub event: Event,
    pub object: Value,
}

/// Reads a line of the console; nothing where it is no event.
///
/// # Errors
/// The event is none that we know.
pub fn read(line: &str) -> Result<Option<Told>, Stop> {
    let Some(json) = line.strip_prefix("@live ") else { return Ok(None) };
    let unknown = |error| Stop::machine(format!("the kernel and `cargo xtask live` do not fit: {error} in {json}"));
    let object: Value = serde_json::from_str(json).map_err(unknown)?;
    let event = Event::deserialize(&object).map_err(unknown)?;
    Ok(Some(Told { event, object }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: &str = r#"{"struct_pages":8192,"descriptor_writes":24,"dsb":2,"isb":1,"tlbi":0,"table_frames":0,
        "ram_bytes":0,"altmap_bytes":524288,"section_bytes":0,"instructions":null}"#;

    #[test]
    fn every_event_of_the_protocol_is_read() {
        let range = r#""device":0,"source":"virtio-mem","base":"0x80000000","size":536870912"#;
        let all = [
            r#"{"event":"ready","granule":"64k","page_size":65536,"devices":["virtio-mem"],"frames_free":9}"#
                .to_owned(),
            format!(r#"{{"event":"added",{range},"struct_pages":8192,"cost":{COST},"leaves":8,"leaves_at_plan":8}}"#),
            format!(r#"{{"event":"removed",{range},"cost":{COST},"fault":{{"far":"0xff","level":3}}}}"#),
            format!(r#"{{"event":"kept",{range},"why":"busy: 1 holder"}}"#),
            format!(r#"{{"event":"refused",{range},"why":"no"}}"#),
            r#"{"event":"refused","device":0,"source":"virtio-mem","base":null,"size":null,"why":"no"}"#.to_owned(),
            r#"{"event":"held","base":"0x80000000","size":2097152}"#.to_owned(),
            r#"{"event":"released","base":"0x80000000","size":2097152}"#.to_owned(),
            format!(r#"{{"event":"shown","ranges":[{{{range},"holders":1}}],"frames_free":9,"tables":4}}"#),
            r#"{"event":"written","device":0,"offset":"0x80000","bytes":5}"#.to_owned(),
            r#"{"event":"read","device":0,"text":"hello"}"#.to_owned(),
            r#"{"event":"synced","number":3}"#.to_owned(),
            r#"{"event":"error","why":"no such command"}"#.to_owned(),
            r#"{"event":"end","added":1,"removed":1,"frames_difference":0}"#.to_owned(),
        ];
        for json in &all {
            let told = read(&format!("@live {json}")).unwrap().unwrap();
            assert_eq!(told.object, serde_json::from_str::<Value>(json).unwrap());
        }
        assert!(matches!(
            read(&format!("@live {}", all[1])).unwrap().unwrap().event,
            Event::Added { range: Range { base: Bits(0x8000_0000), .. }, leaves: 8, .. }
        ));
    }

    #[test]
    fn other_lines_are_no_events_and_unknown_events_are_errors() {
        assert!(["booting", "@pass", "live {}"].iter().all(|line| read(line).unwrap().is_none()));
        for line in ["@live {}", "@live {\"event\":\"moved\"}", "@live {\"event\":\"held\"}", "@live nonsense"] {
            assert!(read(line).unwrap_err().why.contains("do not fit"), "{line}");
        }
    }
}

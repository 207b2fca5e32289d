//! What we read of the kernel's report. It is one JSON object; addresses, descriptors and frame numbers are `"0x"`
//! strings, counts are numbers. `--json` passes all of it on.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use vmemmap::granule::GranuleSize;

/// Version of the JSON that `--json` prints.
pub const SCHEMA_VERSION: u32 = 1;

/// 64 bits, from a `"0x"` string or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(pub u64);

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(json)?;
        let bits = value.as_u64().or_else(|| crate::size::hex(value.as_str()?.strip_prefix("0x")?).ok());
        bits.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{value} is neither \"0x...\" nor a number")))
    }
}

/// A report, by what was asked for.
#[derive(Clone, Debug)]
pub enum Told {
    /// Of one device that was added and removed.
    One(Box<Report>),
    /// Of several.
    Several(Several),
    /// Of plans.
    Plans(Plans),
}

impl Told {
    /// Reads what the kernel reported.
    ///
    /// # Errors
    /// What is missing, or is not what it should be.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_str(json)?;
        match (value.get("plans"), value.get("devices")) {
            (Some(_), _) => serde_json::from_value(value).map(Self::Plans),
            (None, Some(_)) => serde_json::from_value(value).map(Self::Several),
            (None, None) => serde_json::from_value(value).map(Self::One),
        }
    }
}

/// What every report begins with.
#[derive(Clone, Debug, Deserialize)]
pub struct Head {
    pub result: String,
    #[serde(deserialize_with = "granule")]
    pub granule: GranuleSize,
    pub va_bits: u32,
    pub cpus: u64,
    pub leaf_policy: String,
    pub memstart: Bits,
    pub registers: Registers,
    pub machine: Option<Machine>,
}

/// Several devices that were added and removed.
#[derive(Clone, Debug, Deserialize)]
pub struct Several {
    #[serde(flatten)]
    pub head: Head,
    /// In the order in which they were added.
    pub devices: Vec<One>,
    pub remove_order: Vec<usize>,
    pub proof: Together,
    /// With `--checked`.
    pub check: Option<Check>,
}

/// One of several devices.
#[derive(Clone, Debug, Deserialize)]
pub struct One {
    pub device: Device,
    pub altmap: Option<Altmap>,
    pub memmap: Memmap,
    pub linear: Linear,
    pub add: Cost,
    /// Nothing when the machine is held.
    pub remove: Option<Cost>,
    pub proof: Proof,
}

/// What was proved of all devices together.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Together {
    /// How often a device was proved again after the removal of another.
    pub proved_again: u64,
    /// Frames missing or extra after the last removal.
    pub frames_difference: i64,
}

/// What adding each device would take.
#[derive(Clone, Debug, Deserialize)]
pub struct Plans {
    #[serde(flatten)]
    pub head: Head,
    pub plans: Vec<Plan>,
}

/// What adding one device would take.
#[derive(Clone, Debug, Deserialize)]
pub struct Plan {
    pub device: Device,
    /// As the add would leave it.
    pub altmap: Option<Altmap>,
    pub memmap: PlannedMap,
    pub linear: PlannedMap,
    pub ram: PlannedRam,
}

/// A map that would be made.
#[derive(Clone, Debug, Deserialize)]
pub struct PlannedMap {
    pub start: Bits,
    pub end: Bits,
    pub leaves: Vec<Leaves>,
    pub table_frames: u64,
}

/// Frames of RAM that would be taken.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct PlannedRam {
    pub table_frames: u64,
    pub struct_page_frames: u64,
}

/// One device that was added and removed.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    #[serde(flatten)]
    pub head: Head,
    pub device: Device,
    pub altmap: Option<Altmap>,
    pub memmap: Memmap,
    pub linear: Linear,
    pub add: Cost,
    /// Nothing when the machine is held.
    pub remove: Option<Cost>,
    pub proof: Option<Proof>,
    /// With `--checked`.
    pub check: Option<Check>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    pub source: String,
    pub base: Bits,
    pub size: Bits,
}

/// The altmap after populate, in Linux's fields.
#[derive(Clone, Debug, Deserialize)]
pub struct Altmap {
    pub base_pfn: Bits,
    pub end_pfn: Bits,
    pub reserve: u64,
    pub free: u64,
    pub alloc: u64,
    pub align: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Leaf {
    pub va: Bits,
    pub descriptor: Bits,
}

/// Leaves of one size and source.
#[derive(Clone, Debug, Deserialize)]
pub struct Leaves {
    pub size: Bits,
    pub contiguous: bool,
    /// Where their frames come from: `altmap`, `ram` or `device`.
    pub source: String,
    pub count: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Memmap {
    pub start: Bits,
    pub end: Bits,
    pub leaves: Vec<Leaves>,
    /// Up to three; none where boot's struct pages serve.
    pub first: Vec<Leaf>,
    pub last: Option<Leaf>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Linear {
    pub leaves: Vec<Leaves>,
    pub first: Leaf,
    pub last: Leaf,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Registers {
    pub tcr_el1: Bits,
    pub mair_el1: Bits,
}

/// What an operation did; what does not apply to it is null or left out.
#[derive(Clone, Debug, Deserialize)]
pub struct Cost {
    pub struct_pages: Option<u64>,
    pub descriptor_writes: u64,
    pub dsb: u64,
    pub tlbi: u64,
    pub table_frames: Option<u64>,
    pub ram_bytes: Option<u64>,
    pub altmap_bytes: Option<u64>,
    /// With `--count`.
    pub instructions: Option<Instructions>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Instructions {
    pub total: u64,
}

/// The machine as the kernel found it.
#[derive(Clone, Debug, Deserialize)]
pub struct Machine {
    pub entered_el: u32,
    pub granules: Vec<String>,
    /// Translation features that it has not.
    pub lacks: Vec<String>,
}

/// What was proved on the machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Proof {
    pub leaves: u64,
    /// Of them, those where AT names the planned frame.
    pub leaves_at_plan: u64,
    /// The load after the removal.
    pub fault: Option<Fault>,
    /// Frames missing or extra after the removal.
    pub frames_difference: Option<i64>,
}

/// What the checker judged, and found nothing wrong with.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Check {
    pub events: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Fault {
    pub far: Bits,
    pub level: i32,
}

fn granule<'de, D: Deserializer<'de>>(json: D) -> Result<GranuleSize, D::Error> {
    crate::job::granule(&String::deserialize(json)?).map_err(serde::de::Error::custom)
}

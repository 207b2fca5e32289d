//! The kernel's report, one JSON object: addresses, descriptors and frame numbers are `"0x"` strings, counts are numbers.
//!
//! `--json` prints it with `schema_version`, `qemu_version`, `cpu` and, when held, `hold` added.

use serde::{Deserialize, Deserializer};
use vmemmap::granule::GranuleSize;

/// Version of the JSON that `--json` prints.
pub const SCHEMA_VERSION: u32 = 1;

/// An address, a descriptor or a frame number, a `"0x"` string in JSON; plain numbers are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub u64);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        match Either::deserialize(json)? {
            Either::Text(text) => crate::size::number(&text).map(Self).map_err(serde::de::Error::custom),
            Either::Number(number) => Ok(Self(number)),
        }
    }
}

fn granule<'de, D: Deserializer<'de>>(json: D) -> Result<GranuleSize, D::Error> {
    crate::job::granule(&String::deserialize(json)?).map_err(serde::de::Error::custom)
}

/// How the job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every proof held.
    Pass,
    /// A proof failed.
    Fail,
    /// The machine is held after the hot-add.
    Held,
    /// The job was refused.
    Refused,
}

/// The whole report.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Pass, fail, held or refused.
    pub result: Verdict,
    /// 4k, 16k or 64k.
    #[serde(deserialize_with = "granule")]
    pub granule: GranuleSize,
    /// Bits of a virtual address.
    pub va_bits: u32,
    /// Bits of a physical address, as `TCR_EL1.IPS` holds them.
    pub pa_bits: u32,
    /// CPUs that run.
    pub cpus: u32,
    /// Bytes of a struct page.
    pub struct_page_size: u64,
    /// largest, linux or pages.
    pub leaf_policy: String,
    /// Where the linear map begins.
    pub page_offset: Hex,
    /// Where the linear map ends.
    pub page_end: Hex,
    /// The physical address at `page_offset`.
    pub memstart: Hex,
    /// Where the vmemmap begins.
    pub vmemmap_start: Hex,
    /// Where the vmemmap ends.
    pub vmemmap_end: Hex,
    /// The range.
    pub device: Device,
    /// Null if the memmap is in RAM.
    pub altmap: Option<Altmap>,
    /// The vmemmap of the range.
    pub memmap: Memmap,
    /// The linear map of the range.
    pub linear: Linear,
    /// Translation registers.
    pub registers: Registers,
    /// What the hot-add did.
    pub add: Cost,
    /// What the hot-remove did; null when held.
    pub remove: Option<Cost>,
    /// The machine as the kernel found it.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// What was proved.
    #[serde(default)]
    pub proof: Option<Proof>,
}

/// The range of device memory.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    /// Where the memory comes from.
    pub source: String,
    /// First address.
    pub base: Hex,
    /// Bytes.
    pub size: Hex,
}

/// The altmap after populate, in Linux's fields.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Altmap {
    /// First frame of the range.
    pub base_pfn: Hex,
    /// Last frame of the range.
    pub end_pfn: Hex,
    /// Frames that are never written.
    pub reserve: u64,
    /// Frames that may be used.
    pub free: u64,
    /// Frames in use.
    pub alloc: u64,
    /// Frames lost to alignment.
    pub align: u64,
}

/// Leaves of one size and source.
#[derive(Clone, Debug, Deserialize)]
pub struct Leaves {
    /// Bytes of one leaf.
    pub size: Hex,
    /// Whether the contiguous bit is set.
    pub contiguous: bool,
    /// altmap or ram.
    #[serde(default)]
    pub source: Option<String>,
    /// How many.
    pub count: u64,
}

/// A leaf's address and descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Leaf {
    /// The address it maps.
    pub va: Hex,
    /// The descriptor.
    pub descriptor: Hex,
}

/// The vmemmap of the range.
#[derive(Clone, Debug, Deserialize)]
pub struct Memmap {
    /// First virtual address.
    pub start: Hex,
    /// Virtual address past the end.
    pub end: Hex,
    /// By size and source.
    pub leaves: Vec<Leaves>,
    /// Up to three.
    pub first: Vec<Leaf>,
    /// The last leaf.
    pub last: Leaf,
}

/// The linear map of the range.
#[derive(Clone, Debug, Deserialize)]
pub struct Linear {
    /// First virtual address.
    pub start: Hex,
    /// Virtual address past the end.
    pub end: Hex,
    /// By size.
    pub leaves: Vec<Leaves>,
    /// The first leaf.
    pub first: Leaf,
    /// The last leaf.
    pub last: Leaf,
}

/// Registers that say how translation works.
#[derive(Clone, Debug, Deserialize)]
pub struct Registers {
    /// `TCR_EL1`.
    pub tcr_el1: Hex,
    /// `MAIR_EL1`.
    pub mair_el1: Hex,
    /// `SCTLR_EL1`.
    pub sctlr_el1: Hex,
    /// `TTBR1_EL1`.
    pub ttbr1_el1: Hex,
}

/// What an operation did; what does not apply to it is null or left out.
#[derive(Clone, Debug, Deserialize)]
pub struct Cost {
    /// Struct pages made valid.
    pub struct_pages: Option<u64>,
    /// Descriptors written.
    pub descriptor_writes: u64,
    /// DSBs.
    pub dsb: u64,
    /// ISBs.
    pub isb: u64,
    /// TLBIs.
    pub tlbi: u64,
    /// Frames of new tables.
    pub table_frames: Option<u64>,
    /// RAM for memmap and tables.
    pub ram_bytes: Option<u64>,
    /// Device memory for the memmap.
    pub altmap_bytes: Option<u64>,
    /// RAM for section records, kept for ever.
    pub section_bytes: Option<u64>,
    /// Null without `--count`.
    pub instructions: Option<Instructions>,
}

/// Instructions, with `--count`.
#[derive(Clone, Debug, Deserialize)]
pub struct Instructions {
    /// The whole operation.
    pub total: u64,
    /// The linear map.
    pub linear: Option<u64>,
    /// The vmemmap.
    pub populate: Option<u64>,
    /// The struct pages.
    pub init: Option<u64>,
}

/// The machine as the kernel found it.
#[derive(Clone, Debug, Deserialize)]
pub struct Machine {
    /// Exception level at entry.
    pub entered_el: u32,
    /// Granules of the CPU.
    pub granules: Vec<String>,
    /// Translation features that it has.
    pub features: Vec<String>,
    /// Translation features that it lacks.
    pub lacks: Vec<String>,
}

/// What was proved on the machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Proof {
    /// Leaves of the vmemmap.
    pub leaves: u64,
    /// Of them, those where AT names the planned frame.
    pub leaves_at_plan: u64,
    /// The load after the removal.
    pub fault: Option<Fault>,
    /// Frames missing or extra after the removal.
    pub frames_difference: Option<i64>,
}

/// The fault of a load after the removal.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Fault {
    /// The faulting address.
    pub far: Hex,
    /// The level of the translation fault.
    pub level: i32,
}

//! Refusals: bad input, or a machine that can't do what was asked. One clear line, then the end.

use core::fmt;

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::granule::GranuleSize;

use super::cpu;
use super::ranges::{MAX_RANGES, TooManyRanges};
use crate::config::ConfigError;
use crate::exit::{self, Status};
use crate::println;

/// Why boot does not go on.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'a> {
    /// The machine started us at EL3.
    EntryLevel(u64),
    /// The loader put the image where its pages can't be mapped.
    LoadAddress(PhysAddr),
    /// The device tree lacks something, or is broken.
    DeviceTree(&'static str),
    /// A boot argument.
    Config(ConfigError<'a>),
    /// The CPU does not have the granule.
    Granule(GranuleSize),
    /// The CPU does not have 52-bit virtual addresses with this granule.
    Wide(GranuleSize),
    /// RAM in too many pieces.
    Ranges,
    /// The image or the device tree lies outside of the RAM that is ours.
    OutsideRam {
        /// What it is.
        what: &'static str,
        /// Where it is.
        range: PhysRange,
        /// How much RAM is ours, in bytes.
        ram_bytes: u64,
    },
    /// RAM that the linear map can't show.
    BeyondLinearMap {
        /// The RAM that is out of reach.
        range: PhysRange,
        /// Bytes of the linear map.
        linear_bytes: u64,
    },
    /// No frames left for the first tables.
    TooLittleRam {
        /// How much RAM is ours, in bytes.
        ram_bytes: u64,
    },
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EntryLevel(level) => {
                write!(f, "entered at EL{level}: start the machine at EL1 or EL2, without secure=on")
            }
            Self::LoadAddress(start) => write!(f, "loaded at {start}: load the image at a multiple of 2 MiB"),
            Self::DeviceTree(what) => write!(f, "device tree: {what}"),
            Self::Config(error) => write!(f, "{error}"),
            Self::Granule(granule) => write!(
                f,
                "this CPU has no {granule} pages: choose another granule, or one of QEMU's CPUs that have them: {}",
                cpu::qemu_cpus_with(granule)
            ),
            Self::Wide(granule) => write!(
                f,
                "this CPU has no 52-bit addresses with {granule} pages ({}): choose fewer --va-bits, or one of QEMU's CPUs that have them: {}",
                if granule == GranuleSize::K64 { "FEAT_LVA" } else { "FEAT_LPA2" },
                cpu::QEMU_CPUS_WITH_52_BITS
            ),
            Self::Ranges => write!(f, "RAM or what is reserved in it lies in more than {MAX_RANGES} pieces"),
            Self::OutsideRam { what, range, ram_bytes } => {
                write!(
                    f,
                    "{what} at {range} lies outside of the {ram_bytes:#x} bytes of RAM that are ours: give more (--memory)"
                )
            }
            Self::BeyondLinearMap { range, linear_bytes } => write!(
                f,
                "RAM at {range} lies beyond the linear map of {linear_bytes:#x} bytes: give less (--memory), or more --va-bits"
            ),
            Self::TooLittleRam { ram_bytes } => {
                write!(
                    f,
                    "{ram_bytes:#x} bytes of RAM are too little for the image and the first tables: give more (--memory)"
                )
            }
        }
    }
}

impl From<TooManyRanges> for Refusal<'_> {
    fn from(_: TooManyRanges) -> Self {
        Self::Ranges
    }
}

impl<'a> From<ConfigError<'a>> for Refusal<'a> {
    fn from(error: ConfigError<'a>) -> Self {
        Self::Config(error)
    }
}

/// Says why and ends the run.
pub fn refuse(reason: impl fmt::Display) -> ! {
    println!("@refused {reason}");
    exit::exit(Status::Refused)
}

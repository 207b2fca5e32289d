//! Why a range can't be added or removed: what was given, the rule, and what would do.

use super::Region;
use crate::addr::{PhysAddr, PhysRange};
use crate::frames::OutOfFrames;
use crate::granule::GranuleSize;
use crate::table::Occupied;
use crate::vmemmap::MemmapError;

/// A request that can't be planned. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// A range of no bytes.
    #[error("the range at {start} has no bytes; give a size above 0")]
    Empty {
        /// Where it was to start.
        start: PhysAddr,
    },
    /// A boundary where hot-plug can't work.
    #[error("{range} does not start and end at multiples of {} MiB, as {granule} needs; {nearest} would do", unit >> 20)]
    Misaligned {
        /// What was asked.
        range: PhysRange,
        /// What start and end must be multiples of, in bytes.
        unit: u64,
        /// The granule that asks for it.
        granule: GranuleSize,
        /// The nearest range that would do.
        nearest: PhysRange,
    },
    /// Addresses that the CPU does not have.
    #[error("{range} is beyond the {pa_bits} bits of physical address of this CPU; end at or below {:#x}", 1_u64 << pa_bits)]
    BeyondCpu {
        /// What was asked.
        range: PhysRange,
        /// Bits of physical address.
        pa_bits: u32,
    },
    /// Addresses that the linear map has no room for.
    #[error("{range} is outside {mappable}, which the linear map can show; choose a range inside, or more VA bits")]
    BeyondLinearMap {
        /// What was asked.
        range: PhysRange,
        /// What can be mapped.
        mappable: PhysRange,
    },
    /// A section that belongs to boot RAM.
    #[error("{range} touches the section {section}, which holds RAM; device memory there is not supported yet, start at or above {}", section.end())]
    BootSection {
        /// What was asked.
        range: PhysRange,
        /// The section.
        section: PhysRange,
    },
    /// Memory that is there already.
    #[error("{range} overlaps memory that is added already, first at {subsection}; remove that region first")]
    Overlap {
        /// What was asked.
        range: PhysRange,
        /// The first sub-section that is active.
        subsection: PhysRange,
    },
    /// An altmap for another range.
    #[error("the altmap's base {base} is not the start of {range}; make the altmap for this range")]
    AltmapElsewhere {
        /// First byte of the range that the altmap is for.
        base: PhysAddr,
        /// What was asked.
        range: PhysRange,
    },
    /// An altmap larger than its range.
    #[error(
        "the altmap's reserve {reserve} and free {free} are more than the {frames} frames of the range; set less aside"
    )]
    AltmapTooLarge {
        /// Frames of the driver.
        reserve: u64,
        /// Frames for struct pages.
        free: u64,
        /// Frames in the range.
        frames: u64,
    },
    /// Something is mapped in the linear map's window where the range goes.
    #[error(transparent)]
    Occupied(#[from] Occupied),
    /// The vmemmap can't be where it goes, or the altmap can't hold it.
    #[error(transparent)]
    Memmap(#[from] MemmapError),
}

/// A plan that ran out while it reserved what it needs. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}; free some, or keep the struct pages in an altmap")]
pub struct AddError(#[from] pub OutOfFrames);

/// The region is not one of this memory map, or not active in it.
#[derive(Debug, thiserror::Error)]
#[error("{} is not a range of this memory map; remove it where it was added", region.range())]
pub struct RemoveError {
    /// The region, given back.
    pub region: Region,
}

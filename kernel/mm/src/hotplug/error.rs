//! Why a range can't be added or removed: what was given, the rule, and what would do.

use super::Region;
use crate::addr::{PhysAddr, PhysRange};
use crate::frames::OutOfFrames;
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
    /// A boundary inside of a sub-section.
    #[error("{range} does not start and end at multiples of 2 MiB; {nearest} would do")]
    Misaligned {
        /// What was asked.
        range: PhysRange,
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
    /// Addresses whose struct pages the vmemmap has no room for.
    #[error("{range} is outside {describable}, which the vmemmap can describe; choose a range inside")]
    BeyondVmemmap {
        /// What was asked.
        range: PhysRange,
        /// What can be described.
        describable: PhysRange,
    },
    /// RAM that was there at boot.
    #[error("{range} overlaps RAM, first at {ram}; start at or above {}", ram.end())]
    BootRam {
        /// What was asked.
        range: PhysRange,
        /// The first sub-section with RAM.
        ram: PhysRange,
    },
    /// Memory that is there already.
    #[error("{range} overlaps {live}, which is added already; remove that region first")]
    Overlap {
        /// What was asked.
        range: PhysRange,
        /// The first range that it overlaps.
        live: PhysRange,
    },
    /// The range whose altmap was to be used is not there any more, or never was in this memory map.
    #[error("{host}, whose altmap was to be used, is not added here; add it first")]
    HostGone {
        /// That range.
        host: PhysRange,
    },
    /// The range whose altmap was to be used is closed.
    #[error("{host}, whose altmap was to be used, is closed; reopen it, or take another")]
    HostClosing {
        /// That range.
        host: PhysRange,
    },
    /// The range whose altmap was to be used has none of its own.
    #[error("{host} has no altmap of its own; name a region that was added with one")]
    HostWithoutAltmap {
        /// That range.
        host: PhysRange,
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
    #[error("linear map: {0}")]
    Occupied(#[from] Occupied),
    /// The vmemmap can't be where it goes, or the altmap can't hold it.
    #[error(transparent)]
    Memmap(#[from] MemmapError),
}

/// A plan that ran out while it reserved what it needs. Nothing has changed, but that records of
/// sections and a page of the registry that were made on the way stay for the next try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}; free some, or keep the struct pages in an altmap")]
pub struct AddError(#[from] pub OutOfFrames);

/// A region that can't be removed now. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", region.range())]
pub struct RemoveError {
    /// The region, given back.
    pub region: Region,
    /// What is in the way.
    pub why: Obstacle,
}

/// Why a region can't be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Obstacle {
    /// It was added elsewhere.
    #[error("not a range of this memory map; remove it where it was added")]
    Foreign,
    /// Its pages are in use.
    #[error("busy, references held: {references}; remove it when they are gone")]
    Referenced {
        /// How many references.
        references: u32,
    },
    /// Its altmap holds the struct pages of another range.
    #[error("busy: its altmap holds the struct pages of {tenant}; remove that first")]
    Hosts {
        /// A range that lives in its altmap.
        tenant: PhysRange,
    },
}

//! How an operation ended.

use vmemmap::hotplug::PlanError;
use vmemmap::vmemmap::MemmapError;

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    Added,
    Removed,
    Populated,
    Depopulated,
    Mapped,
    Unmapped,
    /// A range takes no new references, or takes them again; its handle was dropped.
    Closed,
    Reopened,
    Forgotten,
    /// A reference was taken, or dropped.
    Held,
    LetGo,
    /// No reference is to be had: the range is closed.
    Closing,
    /// A removal is refused: references are held, or others live in the altmap.
    Referenced,
    Hosts,
    Overlap,
    BootRam,
    Occupied,
    Misaligned,
    Empty,
    Window,
    NotShared,
    BeyondCpu,
    BeyondLinearMap,
    BeyondVmemmap,
    AltmapTooSmall,
    AltmapTooLarge,
    AltmapElsewhere,
    AltmapInUse,
    HostGone,
    HostClosing,
    HostWithoutAltmap,
    NotOurs,
    OutOfRam,
    /// There was nothing to do it to.
    Idle,
}

impl Verdict {
    /// All that a sequence of operations can end with while there is RAM.
    pub const ALL: [Self; 33] = [
        Self::Added,
        Self::Removed,
        Self::Populated,
        Self::Depopulated,
        Self::Mapped,
        Self::Unmapped,
        Self::Closed,
        Self::Reopened,
        Self::Forgotten,
        Self::Held,
        Self::LetGo,
        Self::Closing,
        Self::Referenced,
        Self::Hosts,
        Self::Overlap,
        Self::BootRam,
        Self::Occupied,
        Self::Misaligned,
        Self::Empty,
        Self::Window,
        Self::NotShared,
        Self::BeyondCpu,
        Self::BeyondLinearMap,
        Self::BeyondVmemmap,
        Self::AltmapTooSmall,
        Self::AltmapTooLarge,
        Self::AltmapElsewhere,
        Self::AltmapInUse,
        Self::HostGone,
        Self::HostClosing,
        Self::HostWithoutAltmap,
        Self::NotOurs,
        Self::Idle,
    ];

    /// Whether the memory map has changed.
    pub const fn is_change(self) -> bool {
        use Verdict::{Added, Depopulated, Mapped, Populated, Removed, Unmapped};
        matches!(self, Added | Removed | Populated | Depopulated | Mapped | Unmapped)
    }
}

impl From<&PlanError> for Verdict {
    fn from(error: &PlanError) -> Self {
        match error {
            PlanError::Empty { .. } => Self::Empty,
            PlanError::Misaligned { .. } => Self::Misaligned,
            PlanError::BeyondCpu { .. } => Self::BeyondCpu,
            PlanError::BeyondLinearMap { .. } => Self::BeyondLinearMap,
            PlanError::BeyondVmemmap { .. } => Self::BeyondVmemmap,
            PlanError::BootRam { .. } => Self::BootRam,
            PlanError::Overlap { .. } => Self::Overlap,
            PlanError::HostGone { .. } => Self::HostGone,
            PlanError::HostClosing { .. } => Self::HostClosing,
            PlanError::HostWithoutAltmap { .. } => Self::HostWithoutAltmap,
            PlanError::AltmapElsewhere { .. } => Self::AltmapElsewhere,
            PlanError::AltmapTooLarge { .. } => Self::AltmapTooLarge,
            PlanError::Occupied(_) => Self::Occupied,
            PlanError::Memmap(error) => error.into(),
        }
    }
}

impl From<&MemmapError> for Verdict {
    fn from(error: &MemmapError) -> Self {
        match error {
            MemmapError::Window { .. } => Self::Window,
            MemmapError::Occupied(_) => Self::Occupied,
            MemmapError::NotShared { .. } => Self::NotShared,
            MemmapError::Altmap(_) => Self::AltmapTooSmall,
            MemmapError::AltmapInUse { .. } => Self::AltmapInUse,
        }
    }
}

//! Parts of the machine's memory that the boot arguments set aside and that the kernel's allocator never sees.

use alloc::vec::Vec;
use core::fmt;

use vmemmap::addr::PhysRange;

use super::DeviceMemory;
use crate::boot::BootInfo;
use crate::config::{Device, Memmap};

/// A carve-out of the boot arguments.
#[derive(Clone, Copy, Debug)]
pub struct CarveOut {
    range: PhysRange,
    memmap: Memmap,
}

/// Why a carve-out is none.
#[derive(Clone, Copy, Debug)]
pub enum CarveOutError {
    /// The boot arguments name none.
    None,
    /// Its end does not fit in 64 bits.
    Wraps(Device),
    /// It overlaps RAM.
    Ram {
        /// What was asked.
        device: PhysRange,
        /// The RAM that it overlaps.
        ram: PhysRange,
    },
    /// Two overlap each other.
    Overlap {
        /// The one that was given first.
        first: PhysRange,
        /// The other.
        second: PhysRange,
    },
}

impl fmt::Display for CarveOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no device memory: give device=BASE,BYTES"),
            Self::Wraps(Device { base, bytes, .. }) => {
                write!(
                    f,
                    "device memory of {bytes:#x} bytes at {base} wraps around the address space; choose a lower base or a smaller size"
                )
            }
            Self::Ram { device, ram } => {
                write!(f, "device memory {device} overlaps RAM {ram}; choose a base at or above {}", ram.end())
            }
            Self::Overlap { first, second } => write!(
                f,
                "device memory {second} overlaps device memory {first}; choose a base at or above {}",
                first.end()
            ),
        }
    }
}

impl CarveOut {
    /// The carve-outs that the boot arguments name, in their order.
    ///
    /// # Errors
    ///
    /// [`CarveOutError`] if they name none, or one that can't be.
    pub fn all(boot: &BootInfo) -> Result<Vec<Self>, CarveOutError> {
        let mut all: Vec<Self> = Vec::new();
        for device in boot.config.devices.as_slice() {
            let new = Self::of(boot, device)?;
            if let Some(first) = all.iter().find(|other| other.range.overlaps(new.range)) {
                return Err(CarveOutError::Overlap { first: first.range, second: new.range });
            }
            all.push(new);
        }
        if all.is_empty() { Err(CarveOutError::None) } else { Ok(all) }
    }

    fn of(boot: &BootInfo, device: &Device) -> Result<Self, CarveOutError> {
        let range = PhysRange::new(device.base, device.bytes).ok_or(CarveOutError::Wraps(*device))?;
        match boot.ram.as_slice().iter().find(|ram| ram.overlaps(range)) {
            Some(&ram) => Err(CarveOutError::Ram { device: range, ram }),
            None => Ok(Self { range, memmap: boot.config.memmap_of(device) }),
        }
    }
}

impl DeviceMemory for CarveOut {
    fn source(&self) -> &'static str {
        "carve-out"
    }

    fn range(&self) -> PhysRange {
        self.range
    }

    fn memmap(&self) -> Memmap {
        self.memmap
    }
}

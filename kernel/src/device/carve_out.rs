//! A part of the machine's memory that the boot arguments set aside and that the kernel's allocator never sees.

use core::fmt;

use vmemmap::addr::PhysRange;

use super::DeviceMemory;
use crate::boot::BootInfo;
use crate::config::Device;

/// The carve-out of the boot arguments.
#[derive(Clone, Copy, Debug)]
pub struct CarveOut(PhysRange);

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
}

impl fmt::Display for CarveOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no device memory: give device=BASE,BYTES"),
            Self::Wraps(Device { base, bytes }) => {
                write!(
                    f,
                    "device memory of {bytes:#x} bytes at {base} wraps around the address space; choose a lower base or a smaller size"
                )
            }
            Self::Ram { device, ram } => {
                write!(f, "device memory {device} overlaps RAM {ram}; choose a base at or above {}", ram.end())
            }
        }
    }
}

impl CarveOut {
    /// The carve-out that the boot arguments name.
    ///
    /// # Errors
    ///
    /// [`CarveOutError`] if they name none, or one that can't be.
    pub fn of(boot: &BootInfo) -> Result<Self, CarveOutError> {
        let device = boot.config.device.ok_or(CarveOutError::None)?;
        let range = PhysRange::new(device.base, device.bytes).ok_or(CarveOutError::Wraps(device))?;
        match boot.ram.as_slice().iter().find(|ram| ram.overlaps(range)) {
            Some(&ram) => Err(CarveOutError::Ram { device: range, ram }),
            None => Ok(Self(range)),
        }
    }
}

impl DeviceMemory for CarveOut {
    fn source(&self) -> &'static str {
        "carve-out"
    }

    fn range(&self) -> PhysRange {
        self.0
    }
}

//! Parts of the machine's memory that the boot arguments set aside and that the kernel's allocator never sees.

use alloc::vec::Vec;
use core::fmt;

use devices::{Answer, Change, DeviceError, DeviceMemory};
use vmemmap::addr::{PhysAddr, PhysRange};

use crate::boot::BootInfo;
use crate::config::Source;

/// A carve-out of the boot arguments. It is there from the start, and asks for nothing back.
#[derive(Clone, Copy, Debug)]
pub struct CarveOut {
    /// The range, until it has been told.
    untold: Option<PhysRange>,
}

/// Why a carve-out is none.
#[derive(Clone, Copy, Debug)]
pub enum CarveOutError {
    /// Its end does not fit in 64 bits.
    Wraps {
        /// Its first byte.
        base: PhysAddr,
        /// Its length in bytes.
        bytes: u64,
    },
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
            Self::Wraps { base, bytes } => {
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

/// Checks the carve-outs that the boot arguments name.
///
/// # Errors
///
/// [`CarveOutError`] for the first that can't be.
pub fn check(boot: &BootInfo) -> Result<(), CarveOutError> {
    let mut all: Vec<PhysRange> = Vec::new();
    for device in boot.config.devices.as_slice() {
        let Source::CarveOut { base, bytes } = device.source else { continue };
        let range = PhysRange::new(base, bytes).ok_or(CarveOutError::Wraps { base, bytes })?;
        if let Some(&ram) = boot.ram.as_slice().iter().find(|ram| ram.overlaps(range)) {
            return Err(CarveOutError::Ram { device: range, ram });
        }
        if let Some(&first) = all.iter().find(|other| other.overlaps(range)) {
            return Err(CarveOutError::Overlap { first, second: range });
        }
        all.push(range);
    }
    Ok(())
}

impl CarveOut {
    /// The carve-out of `bytes` bytes from `base` on, which has been [checked](check).
    pub const fn new(base: PhysAddr, bytes: u64) -> Self {
        Self { untold: PhysRange::new(base, bytes) }
    }
}

impl DeviceMemory for CarveOut {
    fn source(&self) -> &'static str {
        "carve-out"
    }

    fn poll(&mut self) -> Result<Option<Change>, DeviceError> {
        Ok(self.untold.take().map(Change::Appeared))
    }

    fn agree(&mut self, _: Change, _: Answer) -> Result<(), DeviceError> {
        Ok(())
    }
}

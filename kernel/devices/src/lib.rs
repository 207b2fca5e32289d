//! Sources of device memory: the conversation that each device holds, without the machine that it is held on.
//!
//! Everything here runs on the host too, against devices that are made up. The kernel's `device` rooms bring the registers,
//! the queues and the interrupts.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi;
mod bytes;
pub mod dimm;
mod error;
pub mod fw_cfg;
pub mod ged;
pub mod info_block;
pub mod nfit;
pub mod virtio_mem;

pub use error::DeviceError;

use vmemmap::addr::PhysRange;

/// A source of device memory.
///
/// Whoever owns it calls [`poll`](Self::poll) at the start and after each of the device's interrupts, until it says `None`,
/// and answers each change by [`agree`](Self::agree) before the next poll. The `None` ends a round: what was refused or busy
/// in it comes again in the next.
pub trait DeviceMemory {
    /// Its name, as users type it: `virtio-mem`.
    fn source(&self) -> &'static str;

    /// What the device wants next.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: the device says something that can't be, or refuses. It is as it was, and may be polled again.
    fn poll(&mut self) -> Result<Option<Change>, DeviceError>;

    /// What became of the change that the last poll told.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll): what was agreed could not be told.
    fn agree(&mut self, change: Change, answer: Answer) -> Result<(), DeviceError>;

    /// Takes back `range`, which had appeared, was added, and was removed although the device did not ask.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll): the device keeps it plugged, and nobody uses it.
    fn give_back(&mut self, range: PhysRange) -> Result<(), DeviceError> {
        let _ = range;
        Ok(())
    }

    /// What it keeps at the start of each of its ranges.
    fn front(&self) -> Front {
        Front::default()
    }
}

/// The start of a range, in front of what is anybody's to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Front {
    /// Bytes that are the device's own, and hold no struct pages.
    pub reserve_bytes: u64,
    /// How far into the range its data begins, in bytes, if that is settled: reserve and altmap end there, whatever the
    /// altmap would be like otherwise. Right behind the reserve there is no altmap.
    pub data_offset: Option<u64>,
}

/// What a device wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// This range is there now, to be added as one.
    Appeared(PhysRange),
    /// This range, which had [appeared](Self::Appeared) and was added, is asked back.
    AskedBack(PhysRange),
}

/// What became of a [`Change`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was added, or removed.
    Done,
    /// It could not be added: the device may have it back. Or it could not be removed, since it is in use: it stays.
    Refused,
}

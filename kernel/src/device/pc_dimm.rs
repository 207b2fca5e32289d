//! DIMMs in the machine's slots: ACPI memory hot-plug through the Generic Event Device (ACPI 6.5, section 5.6.9).
//!
//! QEMU's `virt` has that device only where firmware boots; the image is its own firmware then.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;

use devices::dimm::{self, Dimms};
use devices::ged::{EVENT_BYTES, MEMORY_BYTES};
use devices::{Answer, Change, DeviceError, DeviceMemory, acpi};
use vmemmap::addr::PhysRange;
use vmemmap::seam::Machine;

use super::{Found, Interrupt};
use crate::boot::BootInfo;
use crate::memory::MemoryMap;
use crate::{firmware, window};

/// The machine's DIMM slots.
///
/// # Errors
///
/// In words: the machine has none, or there is no room for its registers.
pub fn attach<M: Machine>(boot: &BootInfo, map: &mut MemoryMap<M>) -> Result<Found, String> {
    let tables = firmware::acpi_tables(boot, map)?;
    let dsdt = acpi::find(&tables, acpi::Signature(*b"DSDT")).map_err(|error| format!("{error}"))?;
    let ged = dsdt.and_then(|dsdt| devices::ged::find(dsdt.bytes()));
    let ged = ged.ok_or(
        "this machine has no slots for DIMMs: boot the image from flash (-bios) and give -m slots= and maxmem=",
    )?;
    let mut registers =
        |start, bytes| window::registers(map, start, bytes).map_err(|error| format!("DIMM slots: {error}"));
    let slots = Slots {
        events: Registers(registers(ged.events, EVENT_BYTES)?),
        dimms: Dimms::new(Registers(registers(ged.memory, MEMORY_BYTES)?)),
    };
    // The event is a pulse.
    Ok(Found { memory: Box::new(slots), interrupt: Some(Interrupt { number: ged.interrupt, edge: true }) })
}

/// The slots, and the device that says that something has happened to one.
struct Slots {
    events: Registers,
    dimms: Dimms<Registers>,
}

impl DeviceMemory for Slots {
    fn source(&self) -> &'static str {
        self.dimms.source()
    }

    fn poll(&mut self) -> Result<Option<Change>, DeviceError> {
        // Reading the events clears them. Which they are does not matter: the slots say all.
        let _ = dimm::Registers::read32(&mut self.events, 0);
        self.dimms.poll()
    }

    fn agree(&mut self, change: Change, answer: Answer) -> Result<(), DeviceError> {
        self.dimms.agree(change, answer)
    }

    fn give_back(&mut self, range: PhysRange) -> Result<(), DeviceError> {
        self.dimms.give_back(range)
    }
}

/// A block of registers, mapped.
struct Registers(NonNull<u8>);

// Offsets are the crate's, inside of `MEMORY_BYTES` and `EVENT_BYTES`.
impl dimm::Registers for Registers {
    fn read32(&mut self, offset: u64) -> u32 {
        // SAFETY: `attach` mapped them for good; reads change nothing but the events, which are ours.
        unsafe { self.0.add(offset as usize).cast::<u32>().read_volatile() }
    }

    fn write32(&mut self, offset: u64, value: u32) {
        // SAFETY: as above; the driver alone talks to the slots.
        unsafe { self.0.add(offset as usize).cast::<u32>().write_volatile(value) }
    }

    fn read8(&mut self, offset: u64) -> u8 {
        // SAFETY: as for `read32`.
        unsafe { self.0.add(offset as usize).read_volatile() }
    }

    fn write8(&mut self, offset: u64, value: u8) {
        // SAFETY: as for `write32`.
        unsafe { self.0.add(offset as usize).write_volatile(value) }
    }
}

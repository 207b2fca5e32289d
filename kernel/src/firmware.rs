//! What QEMU tells firmware, by `fw_cfg`: the ACPI tables, since the device tree says nothing of DIMMs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;

use devices::{acpi, fw_cfg};
use vmemmap::seam::Machine;

use crate::boot::{BootInfo, DeviceTree};
use crate::memory::MemoryMap;
use crate::window;

/// Data, selector, and a register for DMA.
const REGISTERS_BYTES: u64 = 24;
/// Where the selector is: 16 bits, big-endian.
const SELECTOR: usize = 8;
/// The tables are some 10 KiB; more than this is not for us.
const MOST_BYTES: u32 = 1 << 18;

/// The ACPI tables, as QEMU made them: nobody has linked them.
///
/// # Errors
///
/// In words: the machine has none.
pub fn acpi_tables<M: Machine>(boot: &BootInfo, map: &mut MemoryMap<M>) -> Result<Vec<u8>, String> {
    let start = DeviceTree::again(boot).fw_cfg().ok_or("the device tree names no fw_cfg: this is not QEMU's virt")?;
    let registers = window::registers(map, start, REGISTERS_BYTES).map_err(|error| format!("fw_cfg: {error}"))?;
    let words = |error: fw_cfg::Error| format!("{error}");
    let mut files = fw_cfg::FwCfg::new(Registers(registers)).map_err(words)?;
    let file = files.find(acpi::TABLES).map_err(words)?;
    let file = file.ok_or("this machine has no ACPI tables: start QEMU without acpi=off")?;
    files.read(file, MOST_BYTES).map_err(words)
}

/// The registers, mapped.
struct Registers(NonNull<u8>);

impl fw_cfg::Registers for Registers {
    fn select(&mut self, key: u16) {
        // SAFETY: `acpi_tables` mapped them for good; the selector is a 16-bit register, and writing it changes only what
        // the next reads of ours return.
        unsafe { self.0.add(SELECTOR).cast::<u16>().write_volatile(key.to_be()) }
    }

    fn read(&mut self, into: &mut [u8]) {
        // The data register gives as many bytes as are read of it, in the order of memory.
        let (words, bytes) = into.as_chunks_mut();
        for word in words {
            // SAFETY: as above; the data register takes reads of 8 bytes.
            *word = unsafe { self.0.cast::<u64>().read_volatile() }.to_ne_bytes();
        }
        for byte in bytes {
            // SAFETY: as above; and of one.
            *byte = unsafe { self.0.read_volatile() };
        }
    }
}

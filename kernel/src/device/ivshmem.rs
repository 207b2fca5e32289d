//! ivshmem: memory that the host shares, as BAR 2 of a PCI function. Backed by a file, it is persistent.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use virtio_drivers::transport::pci::bus::DeviceFunction;
use vmemmap::seam::Machine;

use super::{Found, persistent};
use crate::boot::BootInfo;
use crate::config::Memmap;
use crate::memory::MemoryMap;
use crate::pci::Bus;

/// Red Hat, for QEMU.
const VENDOR: u16 = 0x1af4;
const DEVICE: u16 = 0x1110;
/// The memory; BAR 0 has registers that ivshmem-plain does not use.
const MEMORY_BAR: usize = 2;

/// The functions of the bus that are ivshmem devices.
pub fn functions(bus: &Bus) -> Vec<DeviceFunction> {
    bus.functions(VENDOR, &[DEVICE])
}

/// Gives the memory of `function` an address, and looks whose it is.
///
/// # Errors
///
/// In words: there is no address for it.
pub fn attach<M: Machine>(
    boot: &BootInfo,
    bus: &mut Bus,
    map: &mut MemoryMap<M>,
    function: DeviceFunction,
    memmap: Memmap,
) -> Result<Found, String> {
    let range = bus.assign(function)?[MEMORY_BAR];
    let range = range.ok_or_else(|| format!("ivshmem at PCI {function} has no memory: give it a memdev"))?;
    persistent::attach(boot, map, ("ivshmem", range), memmap)
}

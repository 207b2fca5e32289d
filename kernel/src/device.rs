//! Where device memory comes from: one file a source, behind one trait ([`DeviceMemory`]). The conversations are the crate
//! `devices`'; here they get their registers, queues and interrupts.

mod carve_out;
mod ivshmem;
mod nvdimm;
mod pc_dimm;
mod persistent;
mod virtio_mem;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::{self, Vec};

pub use carve_out::CarveOutError;
pub use devices::{Answer, Change, DeviceError, DeviceMemory, Front};
use virtio_drivers::transport::pci::bus::DeviceFunction;
use vmemmap::addr::PhysRange;
use vmemmap::seam::Machine;

use crate::boot::BootInfo;
use crate::config::{Memmap, Source};
use crate::memory::MemoryMap;
use crate::pci::Bus;

/// A source of device memory that has been found.
pub struct Attached {
    /// The conversation with it.
    pub memory: Box<dyn DeviceMemory>,
    /// Where the struct pages of its ranges go.
    pub memmap: Memmap,
    /// The interrupt by which it says that something has changed, if it ever does.
    pub interrupt: Option<Interrupt>,
}

/// An interrupt of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// Its number at the GIC.
    pub number: u32,
    /// Whether it is a pulse. Otherwise it is high until the device is polled.
    pub edge: bool,
}

/// What a room finds: a device, and its interrupt.
struct Found {
    memory: Box<dyn DeviceMemory>,
    interrupt: Option<Interrupt>,
}

/// Finds the sources that the boot arguments name, in their order, and wakes them.
///
/// # Errors
///
/// In words: none is named, one can't be, or is not there.
pub fn attach<M: Machine>(boot: &BootInfo, map: &mut MemoryMap<M>) -> Result<Vec<Attached>, String> {
    let named = boot.config.devices.as_slice();
    if named.is_empty() {
        return Err(String::from("no device memory: give device=BASE,BYTES, or the kind of a device"));
    }
    carve_out::check(boot).map_err(|error| format!("{error}"))?;
    let mut buses = Buses::default();
    let attach = |device: &crate::config::Device| {
        let memmap = boot.config.memmap_of(device);
        let Found { memory, interrupt } = buses.find(boot, map, device.source, memmap)?;
        Ok(Attached { memory, memmap, interrupt })
    };
    named.iter().map(attach).collect()
}

/// Where devices are found; each kind is looked for when the first of it is named.
#[derive(Default)]
struct Buses {
    pci: Option<Bus>,
    virtio_mem: Option<vec::IntoIter<DeviceFunction>>,
    ivshmem: Option<vec::IntoIter<DeviceFunction>>,
    nvdimm: Option<vec::IntoIter<PhysRange>>,
    dimms: bool,
}

impl Buses {
    /// The next device of a kind.
    fn find<M: Machine>(
        &mut self,
        boot: &BootInfo,
        map: &mut MemoryMap<M>,
        source: Source,
        memmap: Memmap,
    ) -> Result<Found, String> {
        let none = |kind: &str, how: &str| format!("this machine has no (further) {kind}: give QEMU {how}");
        match source {
            Source::CarveOut { base, bytes } => {
                Ok(Found { memory: Box::new(carve_out::CarveOut::new(base, bytes)), interrupt: None })
            }
            Source::VirtioMem => {
                let bus = bus(&mut self.pci, boot, map)?;
                let functions = self.virtio_mem.get_or_insert_with(|| virtio_mem::functions(bus).into_iter());
                let function = functions.next().ok_or_else(|| none("virtio-mem", "a virtio-mem-pci device"))?;
                virtio_mem::attach(bus, map, function, boot.config.memory_block)
            }
            Source::Ivshmem => {
                let bus = bus(&mut self.pci, boot, map)?;
                let functions = self.ivshmem.get_or_insert_with(|| ivshmem::functions(bus).into_iter());
                let function = functions.next().ok_or_else(|| none("ivshmem", "an ivshmem-plain device"))?;
                ivshmem::attach(boot, bus, map, function, memmap)
            }
            Source::Nvdimm => {
                let ranges = match &mut self.nvdimm {
                    Some(ranges) => ranges,
                    missing => missing.insert(nvdimm::ranges(boot, map)?.into_iter()),
                };
                let range = ranges.next().ok_or_else(|| none("nvdimm", "an nvdimm device, and -machine nvdimm=on"))?;
                persistent::attach(boot, map, ("nvdimm", range), memmap)
            }
            Source::PcDimm if core::mem::replace(&mut self.dimms, true) => {
                Err(String::from("device=pc-dimm means all slots for DIMMs: say it once"))
            }
            Source::PcDimm => pc_dimm::attach(boot, map),
        }
    }
}

/// The PCI bus, which is looked for once.
fn bus<'a, M: Machine>(
    found: &'a mut Option<Bus>,
    boot: &BootInfo,
    map: &mut MemoryMap<M>,
) -> Result<&'a mut Bus, String> {
    match found {
        Some(bus) => Ok(bus),
        none => Ok(none.insert(Bus::find(boot, map)?)),
    }
}

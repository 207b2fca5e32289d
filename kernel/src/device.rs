//! Where device memory comes from: one file a source, behind one trait ([`DeviceMemory`]). The conversations are the crate
//! `devices`'; here they get their registers, queues and interrupts.

mod carve_out;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

pub use carve_out::CarveOutError;
pub use devices::{Answer, Change, DeviceError, DeviceMemory};
use vmemmap::seam::Machine;

use crate::boot::BootInfo;
use crate::config::{Memmap, Source};
use crate::memory::MemoryMap;

/// A source of device memory that has been found.
pub struct Attached {
    /// The conversation with it.
    pub memory: Box<dyn DeviceMemory>,
    /// Where the struct pages of its ranges go.
    pub memmap: Memmap,
    /// The interrupt by which it says that something has changed: its number at the GIC. Level-triggered, and high until the
    /// next poll.
    pub interrupt: Option<u32>,
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
    carve_out::check(boot).map_err(|error| alloc::format!("{error}"))?;
    let _ = map;
    named
        .iter()
        .map(|device| {
            let (memory, interrupt): (Box<dyn DeviceMemory>, _) = match device.source {
                Source::CarveOut { base, bytes } => (Box::new(carve_out::CarveOut::new(base, bytes)), None),
                Source::VirtioMem | Source::PcDimm | Source::Ivshmem | Source::Nvdimm => {
                    return Err(String::from("no such device is on this machine"));
                }
            };
            Ok(Attached { memory, memmap: boot.config.memmap_of(device), interrupt })
        })
        .collect()
}

//! From boot arguments to what is asked of the library.

use vmemmap::altmap::Altmap;
use vmemmap::hotplug::Request;

use crate::boot::BootInfo;
use crate::config::{AltmapShape, Memmap};
use crate::device::DeviceMemory;

/// The request that the boot arguments make for `device`.
#[must_use]
pub fn request(boot: &BootInfo, device: &impl DeviceMemory) -> Request {
    let (config, range) = (&boot.config, device.range());
    // SAFETY: the boot arguments set the range aside for us; it has been checked to be neither RAM nor another device's.
    let request = unsafe { Request::new(range) }.policy(config.leaf);
    let shaped = match device.memmap() {
        Memmap::Ram => return request,
        Memmap::Altmap(AltmapShape::Nvdimm) => Altmap::nvdimm(range, config.granule),
        Memmap::Altmap(AltmapShape::Tight) => {
            Altmap::tight(&boot.layout, range, config.leaf, config.altmap_reserve.unwrap_or(0))
        }
    };
    let reserve = config.altmap_reserve.unwrap_or(shaped.reserve());
    let free = config.altmap_free.unwrap_or(shaped.free());
    request.altmap(Altmap::new(range, config.granule, reserve, free))
}

//! From boot arguments to what is asked of the library.

use vmemmap::altmap::Altmap;
use vmemmap::hotplug::Request;
use vmemmap::seam::Machine;

use crate::config::{AltmapShape, Config, Memmap};
use crate::device::DeviceMemory;
use crate::memory::MemoryMap;

/// The request that the boot arguments make for `device`.
#[must_use]
pub fn request<M: Machine>(config: &Config, map: &MemoryMap<M>, device: &impl DeviceMemory) -> Request {
    let range = device.range();
    // SAFETY: the boot arguments set the range aside for us; it has been checked to be neither RAM nor another device's.
    let request = unsafe { Request::new(range) }.policy(config.leaf);
    let shaped = match device.memmap() {
        Memmap::Ram => return request,
        Memmap::Altmap(AltmapShape::Nvdimm) => Altmap::nvdimm(range, config.granule),
        Memmap::Altmap(AltmapShape::Tight) => map.tight_altmap(range, config.leaf, config.altmap_reserve.unwrap_or(0)),
    };
    let reserve = config.altmap_reserve.unwrap_or(shaped.reserve());
    let free = config.altmap_free.unwrap_or(shaped.free());
    request.altmap(Altmap::new(range, config.granule, reserve, free))
}

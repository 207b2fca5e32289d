//! From boot arguments to what is asked of the library.

use vmemmap::addr::PhysRange;
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::Request;
use vmemmap::seam::Machine;

use crate::config::{AltmapShape, Config, Memmap};
use crate::memory::MemoryMap;

/// The request that the boot arguments make for `range`, with its struct pages at `memmap`, behind the `reserve_bytes` bytes
/// at its start that are the device's own.
///
/// # Safety
///
/// The range must be memory that nobody uses but the device that brought it.
#[must_use]
pub unsafe fn request<M: Machine>(
    config: &Config,
    map: &MemoryMap<M>,
    range: PhysRange,
    memmap: Memmap,
    reserve_bytes: u64,
) -> Request {
    // SAFETY: by this function's contract.
    let request = unsafe { Request::new(range) }.policy(config.leaf);
    let reserve = reserve_bytes.div_ceil(M::Granule::SIZE.bytes());
    let shaped = match memmap {
        Memmap::Ram => return request,
        Memmap::Altmap(AltmapShape::Nvdimm) => Altmap::nvdimm(range, config.granule),
        Memmap::Altmap(AltmapShape::Tight) => {
            map.tight_altmap(range, config.leaf, config.altmap_reserve.unwrap_or(0).max(reserve))
        }
    };
    let reserve = config.altmap_reserve.unwrap_or(shaped.reserve()).max(reserve);
    let free = config.altmap_free.unwrap_or(shaped.free());
    request.altmap(Altmap::new(range, config.granule, reserve, free))
}

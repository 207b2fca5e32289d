//! From boot arguments to what is asked of the library.

use vmemmap::addr::PhysRange;
use vmemmap::altmap::Altmap;
use vmemmap::granule::Granule;
use vmemmap::hotplug::Request;
use vmemmap::seam::Machine;

use crate::config::{AltmapShape, Config, Memmap};
use crate::device::Front;
use crate::memory::MemoryMap;

/// The request that the boot arguments make for `range`, with its struct pages at `memmap`, behind what its device keeps in
/// `front`.
///
/// # Safety
///
/// The range must be memory that nobody uses but its device.
#[must_use]
pub unsafe fn request<M: Machine>(
    config: &Config,
    map: &MemoryMap<M>,
    range: PhysRange,
    memmap: Memmap,
    front: Front,
) -> Request {
    // SAFETY: by this function's contract.
    let request = unsafe { Request::new(range) }.policy(config.leaf);
    let Memmap::Altmap(shape) = memmap else { return request };
    let page = M::Granule::SIZE.bytes();
    let reserve = front.reserve_bytes.div_ceil(page);
    let (reserve, free) = match front.data_offset.map(|data| data / page) {
        Some(data) if data == reserve => return request,
        Some(data) => (reserve, data - reserve),
        None => choose(config, map, range, shape, reserve),
    };
    request.altmap(Altmap::new(range, config.granule, reserve, free))
}

/// Frames of reserve, `least` or more, and of the altmap behind it, as the boot arguments shape them.
fn choose<M: Machine>(
    config: &Config,
    map: &MemoryMap<M>,
    range: PhysRange,
    shape: AltmapShape,
    least: u64,
) -> (u64, u64) {
    let shaped = match shape {
        AltmapShape::Nvdimm => Altmap::nvdimm(range, config.granule),
        AltmapShape::Tight => map.tight_altmap(range, config.leaf, config.altmap_reserve.unwrap_or(0).max(least)),
    };
    let reserve = config.altmap_reserve.unwrap_or(shaped.reserve()).max(least);
    (reserve, config.altmap_free.unwrap_or(shaped.free()))
}

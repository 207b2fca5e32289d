//! From boot arguments to what is asked of the library.

use vmemmap::addr::PhysRange;
use vmemmap::altmap::Altmap;
use vmemmap::hotplug::Request;

use crate::boot::BootInfo;
use crate::config::{AltmapShape, Memmap};

/// The request that the boot arguments make for `range`.
#[must_use]
pub fn request(boot: &BootInfo, range: PhysRange) -> Request {
    let config = &boot.config;
    // SAFETY: the boot arguments set the range aside for us, and it has been checked not to be RAM.
    let request = unsafe { Request::new(range) }.policy(config.leaf);
    if config.memmap == Memmap::Ram {
        return request;
    }
    let shaped = match config.altmap {
        AltmapShape::Nvdimm => Altmap::nvdimm(range, config.granule),
        AltmapShape::Tight => Altmap::tight(&boot.layout, range, config.leaf, config.altmap_reserve.unwrap_or(0)),
    };
    let reserve = config.altmap_reserve.unwrap_or(shaped.reserve());
    let free = config.altmap_free.unwrap_or(shaped.free());
    request.altmap(Altmap::new(range, config.granule, reserve, free))
}

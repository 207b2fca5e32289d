//! RAM frames and the memory map: what is free, and every pfn's struct page.

use spin::Mutex;
use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::frames::{BitmapFrames, OutOfFrames};
use vmemmap::granule::Granule;
use vmemmap::hotplug::Hotplug;
use vmemmap::lifetime::Readers;
use vmemmap::meta::StructPage;
use vmemmap::seam::{Frames, Machine, Quiesce};
use vmemmap::table::Tables;
use vmemmap::vmemmap::PopulateError;
use vmemmap_aarch64::El1;

use crate::boot::{BootInfo, TooManyRanges, ips};
use crate::cpu;

/// The kernel's memory map on machine `M`.
pub type MemoryMap<M> = Hotplug<M, RamFrames, StructPage>;

static RAM: Mutex<Option<BitmapFrames<'static>>> = Mutex::new(None);

/// The kernel's one allocator of RAM frames.
#[derive(Clone, Copy, Debug)]
pub struct RamFrames(());

impl RamFrames {
    /// The allocator; it has frames from [`bring_up`] on.
    #[must_use]
    pub const fn current() -> Self {
        Self(())
    }

    /// Frames that are free now.
    #[must_use]
    pub fn free(self) -> u64 {
        RAM.lock().as_ref().map_or(0, BitmapFrames::free)
    }
}

// SAFETY: `bring_up` released only RAM that nobody uses and that the linear map shows; the bitmap keeps the rest.
unsafe impl Frames for RamFrames {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        RAM.lock().as_mut()?.take(bytes)
    }

    fn give(&mut self, frame: PhysAddr, bytes: u64) {
        RAM.lock().as_mut().expect("only what was taken comes back").give(frame, bytes);
    }
}

/// Read sections of all CPUs, by [`cpu::this`].
pub static READERS: Readers<{ cpu::MOST }> = Readers::new();

// SAFETY: whoever reads struct pages without a reference does so in a section of `READERS`, under the number of its CPU.
unsafe impl Quiesce for RamFrames {
    fn wait_for_readers(&mut self) {
        READERS.wait_for_first(cpu::count());
    }
}

/// Why there is no memory map.
#[derive(Clone, Copy, Debug)]
pub enum BringUpError {
    /// RAM in too many pieces.
    Ranges(TooManyRanges),
    /// Too little RAM for the frame allocator or the struct pages.
    Frames(OutOfFrames),
    /// The struct pages of boot RAM do not find their place.
    Populate(PopulateError),
    /// No free RAM at all.
    NoRam,
}

impl core::fmt::Display for BringUpError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Ranges(_) => f.write_str("RAM is in too many pieces"),
            Self::Frames(error) => write!(f, "the struct pages of RAM: {error}; give more RAM"),
            Self::Populate(error) => write!(f, "the struct pages of RAM: {error}; give more RAM"),
            Self::NoRam => f.write_str("no RAM is left behind the image and its tables; give more RAM"),
        }
    }
}

/// The machine of the CPU that runs this, by the tables of granule `G` that it is on.
///
/// # Panics
///
/// If boot has built tables of another granule.
#[must_use]
pub fn machine<G: Granule>(boot: &BootInfo) -> El1<G> {
    assert!(G::SIZE == boot.config.granule, "the tables have pages of {}", boot.config.granule);
    let offset = boot.layout.linear_address(PhysAddr::new(0)).value();
    // SAFETY: boot's linear map shows all of RAM at this offset, and every table and free frame is in RAM.
    let machine = unsafe { El1::new(offset) };
    // SAFETY: all CPUs are alike, and this one has them.
    if boot.cpu.tlbi_range { unsafe { machine.with_range_invalidations() } } else { machine }
}

/// Hands the free RAM to the allocator and gives all of RAM its struct pages, on the machine that `around` makes.
///
/// # Errors
///
/// [`BringUpError`] if there is too little RAM for that.
pub fn bring_up<G: Granule, M: Machine<Granule = G>>(
    boot: &BootInfo,
    around: impl FnOnce(El1<G>) -> M,
) -> Result<MemoryMap<M>, BringUpError> {
    let frames = release_ram(boot, G::SIZE.bytes())?;
    let machine = around(machine(boot));
    // SAFETY: the root is boot's, and boot is over: nobody else writes these windows.
    let mut tables = unsafe { Tables::adopt(machine, boot.root, boot.regime) };
    // Among others, what the identity map of the switch left in the TLB.
    tables.come_online(ips(boot.pa_bits()));
    let mut map = Hotplug::new(tables, frames, boot.layout, boot.pa_bits()).map_err(BringUpError::Frames)?;
    for ram in boot.ram.as_slice() {
        map.add_boot_ram(*ram, boot.config.leaf).map_err(BringUpError::Populate)?;
    }
    Ok(map)
}

fn release_ram(boot: &BootInfo, page: u64) -> Result<RamFrames, BringUpError> {
    let free = boot.free_ram().map_err(BringUpError::Ranges)?;
    let ranges = free.as_slice();
    let (first, last) = ranges.first().zip(ranges.last()).ok_or(BringUpError::NoRam)?;
    let span = PhysRange::between(first.start(), last.end()).ok_or(BringUpError::NoRam)?;
    let words = BitmapFrames::words(span, boot.regime.granule());
    let bitmap_bytes = (words as u64 * 8).next_multiple_of(page);
    let home = ranges.iter().find(|range| range.bytes() > bitmap_bytes).ok_or(BringUpError::NoRam)?;
    let bitmap = core::ptr::with_exposed_provenance_mut(boot.layout.linear_address(home.start()).value() as usize);
    // SAFETY: this RAM is free, in the linear map, and is not released below.
    let bitmap = unsafe { core::slice::from_raw_parts_mut(bitmap, words) };
    let mut frames = BitmapFrames::new(bitmap, span, boot.regime.granule());
    for range in ranges {
        let start = if range == home { home.start().add(bitmap_bytes) } else { range.start() };
        if let Some(free) = PhysRange::between(start, range.end()) {
            // SAFETY: boot found this RAM and uses none of it, nor does the bitmap lie in it.
            unsafe { frames.release(free) };
        }
    }
    *RAM.lock() = Some(frames);
    Ok(RamFrames::current())
}

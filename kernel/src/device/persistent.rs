//! Memory that keeps what is in it: a range with an info block at its start, whichever device brings it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;

use devices::info_block::{BLANK_BYTES, BLOCK_BYTES, Error, Found, InfoBlock};
use devices::{Answer, Change, DeviceError, DeviceMemory, Front};
use vmemmap::addr::PhysRange;
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;

use crate::boot::BootInfo;
use crate::cache;
use crate::config::Memmap;
use crate::memory::MemoryMap;
use crate::story::request;
use crate::window;

/// A range of persistent memory.
struct Persistent {
    source: &'static str,
    range: PhysRange,
    /// How it is made, or how we would make it.
    info: InfoBlock,
    /// What it was when it was first looked at.
    found: Result<Found, Error>,
    /// Where its first bytes are mapped.
    block: NonNull<[u8; BLOCK_BYTES]>,
    /// Whether it is to be used, and not only planned for.
    used: bool,
    told: bool,
}

/// The persistent memory at `range`, which `source` brings, with its struct pages at `memmap`. Nothing is written yet.
///
/// # Errors
///
/// In words: there is no room to look at its info block.
pub fn attach<M: Machine>(
    boot: &BootInfo,
    map: &mut MemoryMap<M>,
    (source, range): (&'static str, PhysRange),
    memmap: Memmap,
) -> Result<super::Found, String> {
    let words = |error: window::WindowError| format!("{source} {range}: {error}");
    let looked_at = range.bytes().clamp(BLOCK_BYTES as u64, BLANK_BYTES as u64);
    let block = window::memory(map, range.start(), looked_at).map_err(words)?.cast();
    let wanted = wanted(boot, map, range, memmap);
    let found = recognise(block, looked_at as usize, &wanted);
    let info = if let Ok(Found::Ours(made)) = found { made } else { wanted };
    let memory = Persistent { source, range, info, found, block, used: !boot.config.plan, told: false };
    Ok(super::Found { memory: Box::new(memory), interrupt: None })
}

/// A blank device keeps an info block.
const BLOCK_ONLY: Front = Front { reserve_bytes: BLOCK_BYTES as u64, data_offset: None };

/// How we would make a blank device.
fn wanted<M: Machine>(boot: &BootInfo, map: &MemoryMap<M>, range: PhysRange, memmap: Memmap) -> InfoBlock {
    // SAFETY: only its shape is looked at; whoever adds the range asks again.
    let request = unsafe { request(&boot.config, map, range, memmap, BLOCK_ONLY) };
    let page = M::Granule::SIZE.bytes();
    let reserve = (BLOCK_BYTES as u64).next_multiple_of(page);
    let (reserve_bytes, data_offset) = match request.storage().altmap() {
        Some(altmap) => (altmap.reserve() * page, (altmap.reserve() + altmap.free()) * page),
        None => (reserve, reserve),
    };
    InfoBlock {
        granule: M::Granule::SIZE,
        struct_page_bytes: map.layout().struct_page_bytes() as u32,
        device_bytes: range.bytes(),
        reserve_bytes,
        data_offset,
    }
}

/// What the device is whose first `looked_at` bytes are at `block`.
fn recognise(block: NonNull<[u8; BLOCK_BYTES]>, looked_at: usize, wanted: &InfoBlock) -> Result<Found, Error> {
    // SAFETY: mapped for good by `attach`, as far as that; nobody writes it before it is added.
    let byte = |offset| unsafe { block.cast::<u8>().add(offset).read_volatile() };
    let mut copy = [0; BLOCK_BYTES];
    copy.iter_mut().enumerate().for_each(|(offset, copied)| *copied = byte(offset));
    let found = InfoBlock::recognise(&copy, wanted)?;
    if found == Found::Blank {
        InfoBlock::check_blank((BLOCK_BYTES..looked_at).map(byte))?;
    }
    Ok(found)
}

impl DeviceMemory for Persistent {
    fn source(&self) -> &'static str {
        self.source
    }

    fn poll(&mut self) -> Result<Option<Change>, DeviceError> {
        if core::mem::replace(&mut self.told, true) {
            return Ok(None);
        }
        if self.found? == Found::Blank && self.used {
            // Before the first struct page: whenever the machine dies, the next boot finds the device as its own.
            for (offset, byte) in self.info.encode().into_iter().enumerate() {
                // SAFETY: mapped for good by `attach`, and this driver alone writes it.
                unsafe { self.block.cast::<u8>().add(offset).write_volatile(byte) }
            }
            cache::write_back(self.block.as_ptr().cast(), BLOCK_BYTES);
        }
        Ok(Some(Change::Appeared(self.range)))
    }

    fn agree(&mut self, _: Change, _: Answer) -> Result<(), DeviceError> {
        Ok(())
    }

    fn front(&self) -> Front {
        Front { reserve_bytes: self.info.reserve_bytes, data_offset: Some(self.info.data_offset) }
    }
}

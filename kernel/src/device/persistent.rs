//! Memory that keeps what is in it: a range with an info block at its start, whichever device brings it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;

use devices::info_block::{self, BLANK_BYTES, BLOCK_BYTES, InfoBlock};
use devices::{Answer, Change, DeviceError, DeviceMemory};
use vmemmap::addr::PhysRange;
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;

use super::Found;
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
    /// How we would make it.
    info: InfoBlock,
    /// Where its first bytes are mapped.
    block: NonNull<[u8; BLOCK_BYTES]>,
    /// Bytes that are looked at before anything is written, from there on.
    looked_at: usize,
    /// Whether it is to be used, and not only planned for.
    used: bool,
    told: bool,
}

/// The persistent memory at `range`, which `source` brings, with its struct pages at `memmap`.
///
/// # Errors
///
/// In words: there is no room to look at its info block.
pub fn attach<M: Machine>(
    boot: &BootInfo,
    map: &mut MemoryMap<M>,
    (source, range): (&'static str, PhysRange),
    memmap: Memmap,
) -> Result<Found, String> {
    let words = |error: window::WindowError| format!("{source} {range}: {error}");
    let looked_at = range.bytes().clamp(BLOCK_BYTES as u64, BLANK_BYTES as u64);
    let block = window::memory(map, range.start(), looked_at).map_err(words)?.cast();
    // SAFETY: only its shape is looked at; whoever adds the range asks again.
    let request = unsafe { request(&boot.config, map, range, memmap, BLOCK_BYTES as u64) };
    let page = M::Granule::SIZE.bytes();
    let reserve = (BLOCK_BYTES as u64).next_multiple_of(page);
    let (reserve_bytes, data_offset) = match request.storage().altmap() {
        Some(altmap) => (altmap.reserve() * page, (altmap.reserve() + altmap.free()) * page),
        None => (reserve, reserve),
    };
    let info = InfoBlock {
        granule: M::Granule::SIZE,
        struct_page_bytes: map.layout().struct_page_bytes() as u32,
        device_bytes: range.bytes(),
        reserve_bytes,
        data_offset,
    };
    let (looked_at, used) = (looked_at as usize, !boot.config.plan);
    let memory = Persistent { source, range, info, block, looked_at, used, told: false };
    Ok(Found { memory: Box::new(memory), interrupt: None })
}

impl Persistent {
    fn recognise(&self) -> Result<info_block::Found, info_block::Error> {
        // SAFETY: mapped for good by `attach`, and this driver alone writes it.
        InfoBlock::recognise(&unsafe { self.block.read_volatile() }, &self.info)
    }

    /// What lies behind the block, as far as it is looked at.
    fn behind(&self) -> impl Iterator<Item = u8> {
        let bytes = self.block.cast::<u8>();
        // SAFETY: mapped for good by `attach`, as far as that; nothing is written before it is looked at.
        (BLOCK_BYTES..self.looked_at).map(move |offset| unsafe { bytes.add(offset).read_volatile() })
    }

    /// Writes the info block, as far as memory that outlives the machine.
    fn mark(&mut self) {
        // SAFETY: as above.
        unsafe { self.block.write_volatile(self.info.encode()) }
        cache::write_back(self.block.as_ptr().cast(), BLOCK_BYTES);
    }
}

impl DeviceMemory for Persistent {
    fn source(&self) -> &'static str {
        self.source
    }

    fn poll(&mut self) -> Result<Option<Change>, DeviceError> {
        if core::mem::replace(&mut self.told, true) {
            return Ok(None);
        }
        if self.recognise()? == info_block::Found::Blank {
            InfoBlock::check_blank(self.behind())?;
        }
        Ok(Some(Change::Appeared(self.range)))
    }

    fn agree(&mut self, change: Change, answer: Answer) -> Result<(), DeviceError> {
        let added = (change, answer) == (Change::Appeared(self.range), Answer::Done);
        if added && self.used && self.recognise()? == info_block::Found::Blank {
            self.mark();
        }
        Ok(())
    }

    fn reserve_bytes(&self) -> u64 {
        BLOCK_BYTES as u64
    }
}

//! A text in the memory of a device: at the start of its first range, behind what is the device's own and behind the
//! altmap, so that whoever has the memory next finds it again. A magic word, its length in bytes, the text.

use core::error::Error;
use core::fmt;

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::granule::Granule;
use vmemmap::seam::Machine;

use super::{Live, There, event};
use crate::console::Line;
use crate::device::Front;
use crate::{cache, pointer};

const MAGIC: [u8; 8] = *b"livetext";
const WORD: usize = 8;

/// Why there is no text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextError {
    /// The boot arguments name fewer devices.
    NoDevice(usize),
    /// The device has brought nothing, or all of it is gone.
    NoMemory(usize),
    /// The altmap takes all of its first range.
    NoRoom(PhysRange),
    /// Nobody has written one there.
    Nothing(usize),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice(device) => {
                write!(f, "no device {device}: they are numbered from 0, as device=.. names them")
            }
            Self::NoMemory(device) => write!(f, "device {device} has no memory now: plug some"),
            Self::NoRoom(range) => write!(f, "all of {range} is set aside for struct pages: use a smaller altmap"),
            Self::Nothing(device) => write!(f, "device {device} keeps no text: write one"),
        }
    }
}

impl Error for TextError {}

impl<M: Machine> Live<M> {
    /// Keeps `text` in the memory of a device, and makes it reach that memory.
    pub(super) fn write(&self, device: usize, text: &str) -> Result<(), TextError> {
        let (offset, page) = self.data_page(device)?;
        let length = text.len() as u64;
        // SAFETY: the page is added memory that nobody has taken, mapped by the linear map; a line is shorter than a page.
        unsafe {
            page.cast::<[u8; WORD]>().write(MAGIC);
            page.add(WORD).cast::<[u8; WORD]>().write(length.to_le_bytes());
            page.add(2 * WORD).copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
        cache::write_back(page, 2 * WORD + text.len());
        event::written(device, offset, text.len());
        Ok(())
    }

    /// Tells the text that a device keeps.
    pub(super) fn read(&self, device: usize) -> Result<(), TextError> {
        let (_, page) = self.data_page(device)?;
        // A copy: others may write what they share.
        let mut copy = [0; 2 * WORD + Line::MOST_BYTES];
        for (offset, byte) in copy.iter_mut().enumerate() {
            // SAFETY: as in `write`; a page is longer than this.
            *byte = unsafe { page.add(offset).read_volatile() };
        }
        event::read(device, kept(&copy).ok_or(TextError::Nothing(device))?);
        Ok(())
    }

    /// The first page of a device that is anybody's to use: how far into its first range, and where the linear map shows it.
    fn data_page(&self, device: usize) -> Result<(u64, *mut u8), TextError> {
        let attached = self.attached.get(device).ok_or(TextError::NoDevice(device))?;
        let its_own = self.ranges.iter().filter(|there| there.device == device);
        let first = its_own.min_by_key(|there| there.region.range().start()).ok_or(TextError::NoMemory(device))?;
        let range = first.region.range();
        let start = data_start::<M>(first, attached.memory.front());
        if start >= range.end() {
            return Err(TextError::NoRoom(range));
        }
        Ok((start.since(range.start()), pointer::at(self.map.layout().linear_address(start).value())))
    }
}

/// Where a range's data begins: where its device says, or behind its altmap, or at its start.
fn data_start<M: Machine>(there: &There, front: Front) -> PhysAddr {
    let start = there.region.range().start();
    match (front.data_offset, there.asked.altmap()) {
        (Some(offset), _) => start.add(offset),
        (None, Some(altmap)) => altmap.storage().1.address(M::Granule::SIZE.shift()),
        (None, None) => start,
    }
}

fn kept(page: &[u8]) -> Option<&str> {
    let (length, text) = page.strip_prefix(&MAGIC)?.split_first_chunk()?;
    str::from_utf8(text.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?).ok()
}

//! The window of other devices' registers, of memory that is looked at before it is added, and of the stacks of other CPUs:
//! above the console's, which boot maps.
//!
//! What is mapped stays mapped. A driver that is handed a physical address finds it again by [`find`].

use alloc::vec::Vec;
use core::ptr::NonNull;

use spin::Mutex;
use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use vmemmap::descriptor::{Attributes, TableAttributes};
use vmemmap::granule::Granule;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, MapError, Mapping};
use vmemmap::seam::{Frames, Machine};
use vmemmap::table::Protection;

use crate::boot::{self, BootInfo, CONSOLE_WINDOW};
use crate::memory::{MemoryMap, RamFrames};
use crate::pointer;

/// Bits of an address that all tables can show.
const NARROW_PA_BITS: u32 = 32;
/// Bytes of the largest page: what the console's window takes at most.
const LARGEST_PAGE: u64 = 1 << 16;
/// Up to here nothing else is linked or mapped: the image has the 256 MiB below the console, Linux's fixmap is far above.
const END: VirtAddr = CONSOLE_WINDOW.add(128 << 20);

/// What is mapped for good, and where the next goes.
struct Window {
    next: VirtAddr,
    registers: Vec<(PhysRange, VirtAddr)>,
}

static WINDOW: Mutex<Window> = Mutex::new(Window { next: CONSOLE_WINDOW.add(LARGEST_PAGE), registers: Vec::new() });

/// A stack. It grows down towards pages that are never mapped.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    range: VirtRange,
    physical: PhysRange,
}

impl Stack {
    /// Its lowest byte.
    #[must_use]
    pub fn start(&self) -> *const u8 {
        pointer::at(self.range.start().value())
    }

    /// How large it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.range.bytes() as usize
    }

    /// Where it begins to grow from.
    #[must_use]
    pub const fn end(&self) -> VirtAddr {
        self.range.end()
    }

    /// The same with the MMU off.
    #[must_use]
    pub const fn physical_end(&self) -> PhysAddr {
        self.physical.end()
    }

    /// Whether `address` lies on it.
    #[must_use]
    pub fn holds(&self, address: VirtAddr) -> bool {
        self.range.contains(address)
    }

    /// Whether `address` lies below it, where nothing is mapped.
    #[must_use]
    pub fn guards(&self, address: VirtAddr) -> bool {
        address < self.range.start() && self.range.start().since(address) <= LARGEST_PAGE
    }
}

/// Why something can't be mapped.
#[derive(Clone, Copy, Debug)]
pub enum WindowError {
    /// It ends beyond the last address.
    Wraps(PhysAddr),
    /// It lies beyond what the tables can show on this CPU.
    TooHigh {
        /// What was asked.
        range: PhysRange,
        /// Bits of an address that they can.
        pa_bits: u32,
    },
    /// The window is full.
    Full(PhysRange),
    /// No RAM for a stack of so many bytes.
    NoRam(u64),
    /// No RAM for its tables.
    Map(MapError),
}

impl core::fmt::Display for WindowError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Wraps(start) => write!(f, "registers at {start} wrap around the address space"),
            Self::TooHigh { range, pa_bits } => write!(
                f,
                "registers {range} lie beyond the {pa_bits} bits of address that the tables show: put memory lower, or have more --va-bits"
            ),
            Self::Full(range) => {
                write!(f, "registers {range} do not fit in the window of registers: have fewer devices")
            }
            Self::NoRam(bytes) => write!(f, "no {bytes} bytes of RAM in one piece; give more RAM"),
            Self::Map(error) => write!(f, "registers: {error}; give more RAM"),
        }
    }
}

/// Maps `bytes` bytes of registers from `start` on, as device memory, unless they are mapped already.
///
/// # Errors
///
/// [`WindowError`] if they can't be mapped.
pub fn registers<M: Machine>(map: &mut MemoryMap<M>, start: PhysAddr, bytes: u64) -> Result<NonNull<u8>, WindowError> {
    if let Some(mapped) = find(start, bytes) {
        return Ok(mapped);
    }
    let (range, va) = keep(map, start, bytes, Attributes::DEVICE)?;
    WINDOW.lock().registers.push((range, va));
    at(va, start.since(range.start())).ok_or(WindowError::Full(range))
}

/// Maps `bytes` bytes of a device's memory from `start` on, as the linear map would if they were added: both may show them.
///
/// # Errors
///
/// [`WindowError`] if they can't be mapped.
pub fn memory<M: Machine>(map: &mut MemoryMap<M>, start: PhysAddr, bytes: u64) -> Result<NonNull<u8>, WindowError> {
    let (range, va) = keep(map, start, bytes, Attributes::KERNEL)?;
    at(va, start.since(range.start())).ok_or(WindowError::Full(range))
}

/// Maps `bytes` bytes of RAM (a power of two, at least a page), for good, as a stack.
///
/// # Errors
///
/// [`WindowError`] if there is no RAM, or it can't be mapped.
pub fn stack<M: Machine>(map: &mut MemoryMap<M>, bytes: u64) -> Result<Stack, WindowError> {
    let frame = RamFrames::current().take(bytes).ok_or(WindowError::NoRam(bytes))?;
    WINDOW.lock().leave_out(LARGEST_PAGE);
    match keep(map, frame, bytes, Attributes::KERNEL) {
        Ok((physical, va)) => Ok(Stack { range: VirtRange::new(va, bytes), physical }),
        Err(error) => {
            RamFrames::current().give(frame, bytes);
            Err(error)
        }
    }
}

/// Where registers are mapped, if [`registers`] has mapped them.
#[must_use]
pub fn find(start: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
    let wanted = PhysRange::new(start, bytes)?;
    let window = WINDOW.lock();
    let covers = |range: &PhysRange| range.start() <= wanted.start() && wanted.end() <= range.end();
    let (range, va) = window.registers.iter().find(|(range, _)| covers(range))?;
    at(*va, start.since(range.start()))
}

fn at(va: VirtAddr, offset: u64) -> Option<NonNull<u8>> {
    NonNull::new(pointer::at(va.add(offset).value()))
}

/// Maps the pages of `bytes` bytes from `start` on, for good: which they are, and where the first is.
fn keep<M: Machine>(
    map: &mut MemoryMap<M>,
    start: PhysAddr,
    bytes: u64,
    leaf: Attributes,
) -> Result<(PhysRange, VirtAddr), WindowError> {
    let range = PhysRange::new(start, bytes).and_then(|range| range.widen(M::Granule::SIZE.bytes()));
    let range = range.ok_or(WindowError::Wraps(start))?;
    let pa_bits = boot::info().map_or(NARROW_PA_BITS, BootInfo::pa_bits);
    if range.end().value() > 1 << pa_bits {
        return Err(WindowError::TooHigh { range, pa_bits });
    }
    let mut window = WINDOW.lock();
    let va = window.room(range)?;
    let protection = Protection { leaf, table: TableAttributes::KERNEL };
    let mapping = Mapping::new(map.tables().regime(), va, range.start(), LeafPolicy::Pages, protection);
    mapping::map(map.tables_mut(), &mut RamFrames::current(), &mapping).map_err(WindowError::Map)?;
    window.next = va.end();
    Ok((range, va.start()))
}

impl Window {
    /// Leaves a hole that nothing is ever mapped to.
    fn leave_out(&mut self, bytes: u64) {
        self.next = self.next.add(bytes);
    }

    /// Addresses for `range`.
    fn room(&self, range: PhysRange) -> Result<VirtRange, WindowError> {
        let va = VirtRange::new(self.next, range.bytes());
        if self.next <= END && range.bytes() <= END.since(self.next) { Ok(va) } else { Err(WindowError::Full(range)) }
    }
}

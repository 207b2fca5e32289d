//! DIMM slots: ACPI memory hot-plug, as QEMU's registers have it (`docs/specs/acpi_mem_hotplug.rst` in QEMU).
//!
//! A slot is selected, and the other registers are then that slot's. A DIMM that is plugged in is *enabled*, with an
//! insert event if the machine was running. A remove event is the host's wish to have it back: the DIMM stays until it
//! is ejected, and the host learns of a refusal by _OST (ACPI 6.5, section 6.3.5). An event is cleared before the
//! answer to it is given, since the host may ask again as soon as it hears that.
//!
//! Behind the last slot everything reads as 0, as in an empty one, so that nothing need be known of how many there are.

use alloc::vec;
use alloc::vec::Vec;

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::granule::SUBSECTION_BYTES;

use crate::{Answer, Change, DeviceError, DeviceMemory};

/// The registers of the slots: 24 bytes, little-endian, at offsets of their first.
pub trait Registers {
    /// Reads 4 bytes.
    fn read32(&mut self, offset: u64) -> u32;
    /// Writes 4 bytes.
    fn write32(&mut self, offset: u64, value: u32);
    /// Reads a byte.
    fn read8(&mut self, offset: u64) -> u8;
    /// Writes a byte.
    fn write8(&mut self, offset: u64, value: u8);
}

/// Slots that are looked at: as many as QEMU can have.
pub const SLOTS: usize = 256;

/// The registers, when read.
const BASE_LOW: u64 = 0x0;
const BASE_HIGH: u64 = 0x4;
const BYTES_LOW: u64 = 0x8;
const BYTES_HIGH: u64 = 0xc;
const FLAGS: u64 = 0x14;
/// The registers, when written. The status goes last: it is what tells the host.
const SELECTOR: u64 = 0x0;
const OST_EVENT: u64 = 0x4;
const OST_STATUS: u64 = 0x8;

/// Bits of the flags. An event is cleared by writing its bit; one bit is written at a time, for QEMU heeds only the
/// lowest.
const ENABLED: u8 = 1 << 0;
const INSERT: u8 = 1 << 1;
const REMOVE: u8 = 1 << 2;
const EJECT: u8 = 1 << 3;

/// What an _OST is about: the notification that is answered.
#[derive(Clone, Copy)]
enum Event {
    DeviceCheck = 1,
    EjectionRequest = 3,
}

/// What it says (ACPI 6.5, tables 6.70 and 6.72).
#[derive(Clone, Copy)]
enum Status {
    Success = 0,
    Failure = 1,
    DeviceBusy = 0x82,
}

/// What is wrong with a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// A DIMM that is empty, wraps, or begins or ends inside of a sub-section.
    #[error(
        "the DIMM in slot {slot} has {bytes:#x} bytes at {base}, and needs a whole number of 2 MiB at a multiple of 2 \
         MiB: take it out and give another"
    )]
    Malformed {
        /// The slot.
        slot: usize,
        /// Its first byte.
        base: PhysAddr,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A DIMM that was gone before it was given back.
    #[error(
        "the DIMM with {range} is gone from slot {slot} and was not given back: its data is lost; unplug by \
         device_del, and wait for DEVICE_DELETED"
    )]
    Gone {
        /// The slot.
        slot: usize,
        /// What it was.
        range: PhysRange,
    },
    /// A DIMM that stays although it was ejected.
    #[error(
        "the DIMM in slot {slot} at {base} stays although it was ejected: the host refuses to take it, and says why \
         by MEM_UNPLUG_ERROR"
    )]
    NotEjected {
        /// The slot.
        slot: usize,
        /// Its first byte.
        base: PhysAddr,
    },
}

/// The slots, and what of them is in use.
#[derive(Debug)]
pub struct Dimms<R> {
    registers: R,
    slots: Vec<Slot>,
    /// The slot that this round looks at next.
    next: usize,
    told: Option<Told>,
}

/// A slot, as far as anything was made of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    /// Nothing that is used: empty, or with a DIMM that is offered in the next round.
    Free,
    /// A DIMM that was added.
    Ours(PhysRange),
    /// A DIMM that can't be, of which was spoken.
    Malformed(Dimm),
}

/// What is in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Dimm {
    base: PhysAddr,
    bytes: u64,
}

impl Dimm {
    /// What it brings, if it can be added.
    fn range(self) -> Option<PhysRange> {
        let whole = self.bytes != 0 && self.bytes.is_multiple_of(SUBSECTION_BYTES);
        PhysRange::new(self.base, self.bytes).filter(|_| whole && self.base.is_aligned(SUBSECTION_BYTES))
    }
}

/// A change that is to be answered.
#[derive(Clone, Copy, Debug)]
struct Told {
    slot: usize,
    change: Change,
    /// Whether the DIMM is there to be ejected.
    there: bool,
}

impl<R: Registers> Dimms<R> {
    /// The slots behind `registers`. Nothing in them is in use.
    pub fn new(registers: R) -> Self {
        Self { registers, slots: vec![Slot::Free; SLOTS], next: 0, told: None }
    }

    /// What `slot`, whose turn it is, has to tell.
    fn look(&mut self, slot: usize) -> Result<Option<Told>, Error> {
        let (dimm, flags) = self.read(slot);
        let remove = flags & REMOVE != 0;
        match (self.slots[slot], dimm) {
            (Slot::Ours(range), dimm) => {
                let there = is_there(range, dimm, flags);
                let change = Change::AskedBack(range);
                Ok((remove || !there).then_some(Told { slot, change, there }))
            }
            (Slot::Malformed(_) | Slot::Free, None) => {
                self.forget(slot, flags);
                Ok(None)
            }
            (Slot::Malformed(_) | Slot::Free, Some(dimm)) if remove => self.eject(slot, dimm.base).map(|()| None),
            (Slot::Malformed(known), Some(dimm)) if known == dimm => Ok(None),
            (Slot::Malformed(_) | Slot::Free, Some(dimm)) => self.meet(slot, dimm).map(Some),
        }
    }

    /// A DIMM that nobody uses yet.
    fn meet(&mut self, slot: usize, dimm: Dimm) -> Result<Told, Error> {
        self.registers.write8(FLAGS, INSERT);
        let Dimm { base, bytes } = dimm;
        self.slots[slot] = Slot::Free;
        if let Some(range) = dimm.range() {
            return Ok(Told { slot, change: Change::Appeared(range), there: true });
        }
        self.slots[slot] = Slot::Malformed(dimm);
        self.tell(Event::DeviceCheck, Status::Failure);
        Err(Error::Malformed { slot, base, bytes })
    }

    /// An empty slot. A request that came just before its DIMM was ejected is still there, and would be taken for one
    /// to eject the next.
    fn forget(&mut self, slot: usize, flags: u8) {
        self.slots[slot] = Slot::Free;
        if flags & REMOVE != 0 {
            self.registers.write8(FLAGS, REMOVE);
        }
    }

    /// The DIMM at `base` in `slot`, which nobody uses (any more), goes.
    fn eject(&mut self, slot: usize, base: PhysAddr) -> Result<(), Error> {
        self.slots[slot] = Slot::Free;
        self.registers.write8(FLAGS, REMOVE);
        self.registers.write8(FLAGS, EJECT);
        match self.read(slot) {
            (Some(_), _) => Err(Error::NotEjected { slot, base }),
            (None, flags) => {
                self.forget(slot, flags);
                Ok(())
            }
        }
    }

    /// A DIMM of ours that was asked back is in use.
    fn keep(&mut self, told: Told, range: PhysRange) -> Result<(), Error> {
        if !told.there {
            return Err(Error::Gone { slot: told.slot, range });
        }
        self.registers.write8(FLAGS, REMOVE);
        self.tell(Event::EjectionRequest, Status::DeviceBusy);
        Ok(())
    }

    /// A DIMM of ours is not in use any more.
    fn let_go(&mut self, slot: usize, range: PhysRange, there: bool) -> Result<(), Error> {
        if there {
            return self.eject(slot, range.start());
        }
        self.slots[slot] = Slot::Free;
        // What is there instead, if anything, has had its interrupt.
        self.next = self.next.min(slot);
        Err(Error::Gone { slot, range })
    }

    /// What is in `slot`, and its flags. The slot stays selected.
    fn read(&mut self, slot: usize) -> (Option<Dimm>, u8) {
        self.registers.write32(SELECTOR, slot as u32);
        let flags = self.registers.read8(FLAGS);
        let enabled = flags & ENABLED != 0;
        let dimm = enabled.then(|| Dimm {
            base: PhysAddr::new(self.read64(BASE_LOW, BASE_HIGH)),
            bytes: self.read64(BYTES_LOW, BYTES_HIGH),
        });
        (dimm, flags)
    }

    fn read64(&mut self, low: u64, high: u64) -> u64 {
        u64::from(self.registers.read32(low)) | u64::from(self.registers.read32(high)) << 32
    }

    /// _OST of the selected slot.
    fn tell(&mut self, event: Event, status: Status) {
        self.registers.write32(OST_EVENT, event as u32);
        self.registers.write32(OST_STATUS, status as u32);
    }
}

impl<R: Registers> DeviceMemory for Dimms<R> {
    fn source(&self) -> &'static str {
        "pc-dimm"
    }

    /// As the trait says. A round looks at each slot once: a DIMM that could not be added is offered again in the next.
    /// One that is busy is the host's to ask for again, for it has been told; and one that is gone without having been
    /// ejected is asked back too.
    ///
    /// # Panics
    ///
    /// If the change that was told before is not answered.
    fn poll(&mut self) -> Result<Option<Change>, DeviceError> {
        assert!(self.told.is_none(), "a poll before the answer to {:?}", self.told);
        while self.next < SLOTS {
            let slot = self.next;
            self.next += 1;
            self.told = self.look(slot)?;
            if let Some(told) = self.told {
                return Ok(Some(told.change));
            }
        }
        self.next = 0;
        Ok(None)
    }

    /// As the trait says.
    ///
    /// # Errors
    ///
    /// [`Error::NotEjected`], and [`Error::Gone`] of a DIMM that was not there any more when it was asked back.
    ///
    /// # Panics
    ///
    /// If `change` is not what the last poll told.
    fn agree(&mut self, change: Change, answer: Answer) -> Result<(), DeviceError> {
        let told = self.told.take().filter(|told| told.change == change).expect("the change that the last poll told");
        // Its slot is still selected.
        match (change, answer) {
            (Change::Appeared(range), Answer::Done) => {
                self.slots[told.slot] = Slot::Ours(range);
                self.tell(Event::DeviceCheck, Status::Success);
            }
            (Change::Appeared(_), Answer::Refused) => self.tell(Event::DeviceCheck, Status::Failure),
            (Change::AskedBack(range), Answer::Done) => self.let_go(told.slot, range, told.there)?,
            (Change::AskedBack(range), Answer::Refused) => self.keep(told, range)?,
        }
        Ok(())
    }

    /// As the trait says.
    ///
    /// # Errors
    ///
    /// [`Error::NotEjected`] and [`Error::Gone`].
    ///
    /// # Panics
    ///
    /// If `range` is none that was added.
    fn give_back(&mut self, range: PhysRange) -> Result<(), DeviceError> {
        let ours = self.slots.iter().position(|slot| *slot == Slot::Ours(range));
        let slot = ours.expect("a range that was added");
        let (dimm, flags) = self.read(slot);
        Ok(self.let_go(slot, range, is_there(range, dimm, flags))?)
    }
}

/// Whether `range`, which is ours, is what a slot holds. The insert event of ours was cleared: with one, it is another
/// DIMM at the same place.
fn is_there(range: PhysRange, dimm: Option<Dimm>, flags: u8) -> bool {
    dimm.and_then(Dimm::range) == Some(range) && flags & INSERT == 0
}

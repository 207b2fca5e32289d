//! The slots as QEMU has them, and what the driver's caller uses: each step that a driver may not take is refused at once.

use std::cell::RefCell;
use std::rc::Rc;

use devices::dimm::Registers;
use vmemmap::addr::{PhysAddr, PhysRange};

/// Slots of the machine; behind them everything reads as 0.
pub const PRESENT: usize = 6;

const ENABLED: u8 = 1;
const INSERT: u8 = 2;
const REMOVE: u8 = 4;
const EJECT: u8 = 8;

#[derive(Clone, Copy, Default, Debug)]
pub struct Slot {
    pub base: u64,
    pub bytes: u64,
    pub flags: u8,
    /// The host does not take it when it is ejected.
    pub sticky: bool,
}

impl Slot {
    pub fn enabled(self) -> bool {
        self.flags & ENABLED != 0
    }

    pub fn asked_back(self) -> bool {
        self.flags & REMOVE != 0
    }

    /// What it brings, if a kernel can add it.
    pub fn range(self) -> Option<PhysRange> {
        const UNIT: u64 = 2 << 20;
        let whole = self.bytes > 0 && self.bytes.is_multiple_of(UNIT) && self.base.is_multiple_of(UNIT);
        let range = PhysRange::new(PhysAddr::new(self.base), self.bytes);
        range.filter(|_| self.enabled() && whole)
    }
}

/// An _OST: slot, event, status.
pub type Ost = (usize, u32, u32);

#[derive(Default, Debug)]
pub struct Board {
    selected: usize,
    pub slots: [Slot; PRESENT],
    event: u32,
    pub told: Vec<Ost>,
    /// What the caller has added.
    pub added: Vec<PhysRange>,
    /// The host asks again as soon as it is told that a DIMM is busy.
    pub insists: bool,
    /// The host asks for the DIMM once more just before the next eject.
    pub asks_before_eject: bool,
}

impl Board {
    /// The host plugs a DIMM in, while the machine runs.
    pub fn insert(&mut self, slot: usize, base: u64, bytes: u64) {
        assert!(!self.slots[slot].enabled(), "slot {slot} is not empty");
        // A request for the last DIMM that was not cleared stays there, in QEMU too.
        let flags = ENABLED | INSERT | self.slots[slot].flags & REMOVE;
        self.slots[slot] = Slot { base, bytes, flags, sticky: false };
    }

    /// As before the machine ran.
    pub fn coldplug(&mut self, slot: usize, base: u64, bytes: u64) {
        self.insert(slot, base, bytes);
        self.slots[slot].flags &= !INSERT;
    }

    pub fn ask_back(&mut self, slot: usize) {
        self.slots[slot].flags |= REMOVE;
    }

    /// The host pulls it out without a word.
    pub fn pull(&mut self, slot: usize) {
        self.slots[slot] = Slot::default();
    }

    /// QEMU's own order: one thing a write.
    fn control(&mut self, value: u8) {
        assert_eq!(value.count_ones(), 1, "one bit at a time, not {value:#x}");
        assert!(value & (INSERT | REMOVE | EJECT) != 0, "{value:#x} is reserved");
        let slot = &mut self.slots[self.selected];
        if value & EJECT == 0 {
            slot.flags &= !value;
            return;
        }
        assert!(slot.enabled(), "slot {} is ejected and holds nothing", self.selected);
        let used = self.added.iter().any(|range| Some(*range) == slot.range());
        assert!(!used, "slot {} is ejected while it is in use: {slot:x?}", self.selected);
        if self.asks_before_eject {
            slot.flags |= REMOVE;
        }
        if !slot.sticky {
            *slot = Slot { flags: slot.flags & REMOVE, ..Slot::default() };
        }
    }
}

/// The driver's end of the board.
#[derive(Clone, Debug, Default)]
pub struct Wire(pub Rc<RefCell<Board>>);

impl Registers for Wire {
    fn read32(&mut self, offset: u64) -> u32 {
        let board = self.0.borrow();
        let slot = board.slots.get(board.selected).copied().unwrap_or_default();
        match offset {
            0x0 => slot.base as u32,
            0x4 => (slot.base >> 32) as u32,
            0x8 => slot.bytes as u32,
            0xc => (slot.bytes >> 32) as u32,
            _ => panic!("a read of 4 bytes at {offset:#x}"),
        }
    }

    fn write32(&mut self, offset: u64, value: u32) {
        let mut board = self.0.borrow_mut();
        let selected = board.selected;
        match offset {
            0x0 => board.selected = value as usize,
            0x4 => board.event = value,
            0x8 => {
                let told = (selected, board.event, value);
                board.told.push(told);
                if board.insists && value == 0x82 {
                    board.slots[selected].flags |= REMOVE;
                }
            }
            _ => panic!("a write of {value:#x} at {offset:#x}"),
        }
    }

    fn read8(&mut self, offset: u64) -> u8 {
        assert_eq!(offset, 0x14, "a read of a byte");
        let board = self.0.borrow();
        board.slots.get(board.selected).map_or(0, |slot| slot.flags)
    }

    fn write8(&mut self, offset: u64, value: u8) {
        assert_eq!(offset, 0x14, "a write of a byte");
        self.0.borrow_mut().control(value);
    }
}

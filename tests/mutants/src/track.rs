//! What a mutant knows of where the core is in its protocol, from the calls that it has seen.

use core::cell::Cell;

use vmemmap::addr::PhysAddr;
use vmemmap::seam::{Dsb, Phase};

use crate::fault::Place;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
/// `UXNTable`: set in every table descriptor that hot-plug writes, clear in every leaf.
const UXN_TABLE: u64 = 1 << 60;
/// The Contiguous bit.
pub const CONTIGUOUS: u64 = 1 << 52;
/// The output address of a descriptor with 48 bits of it.
pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Whether it links a table, valid or parked.
pub const fn is_link(descriptor: u64) -> bool {
    descriptor & (TABLE_OR_PAGE | UXN_TABLE) == TABLE_OR_PAGE | UXN_TABLE
}

/// Whether it is a valid leaf of hot-plug's, page or block.
pub const fn is_leaf(descriptor: u64) -> bool {
    descriptor & VALID != 0 && !is_link(descriptor)
}

/// Whether it is a valid leaf that must be a block: pages have bit 1.
pub const fn is_block(descriptor: u64) -> bool {
    is_leaf(descriptor) && descriptor & TABLE_OR_PAGE == 0
}

/// Whether it is a valid page.
pub const fn is_page(descriptor: u64) -> bool {
    is_leaf(descriptor) && descriptor & TABLE_OR_PAGE != 0
}

/// What a store does to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A leaf appears.
    Leaf,
    /// A new table's link is parked.
    Parked,
    /// A parked link becomes valid.
    Linked,
    /// A leaf goes.
    Cleared,
    /// A table's link goes.
    Cut,
    /// Anything else.
    Other,
}

impl Change {
    /// What the store of `new` over `old` does.
    pub const fn of(old: u64, new: u64) -> Self {
        match (old & VALID != 0, new & VALID != 0) {
            (false, true) if is_link(new) && old != 0 => Self::Linked,
            (false, true) if is_leaf(new) => Self::Leaf,
            (false, false) if old == 0 && is_link(new) => Self::Parked,
            (true, false) if is_link(old) => Self::Cut,
            (true, false) => Self::Cleared,
            _ => Self::Other,
        }
    }
}

/// What is cleared and invalidated together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batch {
    Leaves,
    Tables,
}

/// How many links on the way to an operation's leaves are remembered.
const PATH: usize = 16;

/// The protocol as seen so far.
#[derive(Debug)]
pub struct Track {
    pub phase: Option<Phase>,
    /// Inside a removal.
    pub removing: bool,
    /// What the last DSB was for.
    pub place: Place,
    /// What the batch at hand, or the last one, is of.
    pub batch: Batch,
    /// Between the invalidation of a removal's leaves and that of its tables: while tables are looked at.
    pub looking: bool,
    /// Links that are parked until their tables are complete.
    waiting: u32,
    /// Descriptors have been cleared since the last DSB.
    cleared: bool,
    path: Cell<[PhysAddr; PATH]>,
    path_length: Cell<usize>,
}

impl Track {
    pub const fn new() -> Self {
        Self {
            phase: None,
            removing: false,
            place: Place::Complete,
            batch: Batch::Leaves,
            looking: false,
            waiting: 0,
            cleared: false,
            path: Cell::new([PhysAddr::new(0); PATH]),
            path_length: Cell::new(0),
        }
    }

    pub fn begin(&mut self, phase: Phase) {
        match phase {
            Phase::Add(_) => self.removing = false,
            Phase::Remove(_) => self.removing = true,
            _ => {}
        }
        self.phase = Some(phase);
        self.looking = false;
        self.forget_path();
    }

    pub fn end(&mut self, phase: Phase) {
        if matches!(phase, Phase::Remove(_)) {
            self.removing = false;
        }
        self.phase = None;
        self.looking = false;
        self.forget_path();
    }

    fn forget_path(&self) {
        self.path_length.set(0);
    }

    pub fn saw(&mut self, change: Change) {
        match change {
            Change::Parked => self.waiting += 1,
            Change::Linked => self.waiting = self.waiting.saturating_sub(1),
            Change::Cleared => (self.cleared, self.batch) = (true, Batch::Leaves),
            Change::Cut => (self.cleared, self.batch) = (true, Batch::Tables),
            Change::Leaf | Change::Other => {}
        }
    }

    /// What a DSB is for.
    pub fn barrier(&mut self, kind: Dsb) -> Place {
        self.place = match kind {
            Dsb::InnerShareableStores if self.cleared => Place::BeforeTlbi,
            Dsb::InnerShareableStores if self.waiting > 0 => Place::BeforeLink,
            Dsb::InnerShareableStores => Place::Publish,
            Dsb::InnerShareable => Place::Complete,
            Dsb::NonShareable => Place::Local,
        };
        self.cleared = false;
        let leaves_gone = self.place == Place::Complete && self.batch == Batch::Leaves;
        self.looking = leaves_gone && self.removing && self.phase.is_some();
        self.place
    }

    /// A link was read on the way to an operation's leaves.
    pub fn walked(&self, slot: PhysAddr) {
        let (mut path, length) = (self.path.get(), self.path_length.get());
        if length < PATH && !self.is_on_path(slot) {
            path[length] = slot;
            self.path.set(path);
            self.path_length.set(length + 1);
        }
    }

    /// Whether a link is on the way to the leaves of the operation at hand.
    pub fn is_on_path(&self, slot: PhysAddr) -> bool {
        self.path.get()[..self.path_length.get()].contains(&slot)
    }

    /// The link that was read last on the way to leaves.
    pub fn last_link(&self) -> Option<PhysAddr> {
        self.path_length.get().checked_sub(1).map(|last| self.path.get()[last])
    }
}

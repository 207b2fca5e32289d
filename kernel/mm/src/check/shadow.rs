//! What every known table holds, and where each of its descriptors stands.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use crate::addr::VirtAddr;
use crate::descriptor::{Descriptor, OutputFormat};
use crate::granule::Level;
use crate::regime::Regime;

/// Where a descriptor stands. The room's doc has the steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "the names of the protocol")]
pub enum State {
    /// Invalid, and no CPU holds what was there.
    IC,
    /// Valid, not published.
    VU,
    /// Valid, published by a DSB.
    VD,
    /// Valid.
    V,
    /// Made invalid.
    B0,
    /// ... and visible to walks.
    B1,
    /// ... and invalidated.
    B2,
    /// ... and the invalidation complete on other CPUs.
    B3,
    /// Permissions changed.
    P0,
    /// ... and visible to walks.
    P1,
    /// ... and invalidated.
    P2,
    /// ... and the invalidation complete on other CPUs.
    P3,
}

impl State {
    /// Whether nothing more must be done.
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        matches!(self, Self::IC | Self::V)
    }

    /// Whether some CPU may still hold what was there before it was made invalid.
    #[must_use]
    pub const fn is_broken(self) -> bool {
        matches!(self, Self::B0 | Self::B1 | Self::B2 | Self::B3)
    }

    /// What it needs to come to rest.
    #[must_use]
    pub const fn lacks(self) -> &'static str {
        match self {
            Self::IC | Self::V => "",
            Self::VU => "no DSB ISHST has published it",
            Self::VD => "no ISB has followed the DSB",
            Self::B0 | Self::P0 => "no DSB ISHST has followed the write",
            Self::B1 | Self::P1 => "no TLBI that covers it has followed the DSB",
            Self::B2 | Self::P2 => "no DSB ISH has followed the TLBI",
            Self::B3 | Self::P3 => "no ISB has followed the last DSB",
        }
    }

    pub(super) fn after_dsb(self, option: &str) -> Self {
        let full = matches!(option, "ish" | "osh" | "sy");
        match self {
            _ if !full && !matches!(option, "ishst" | "oshst" | "st") => self,
            Self::VU => Self::VD,
            Self::B0 => Self::B1,
            Self::P0 => Self::P1,
            Self::B2 if full => Self::B3,
            Self::P2 if full => Self::P3,
            other => other,
        }
    }

    pub(super) const fn after_tlbi(self) -> Self {
        match self {
            Self::B1 => Self::B2,
            Self::P1 => Self::P2,
            other => other,
        }
    }

    pub(super) const fn after_isb(self) -> Self {
        match self {
            Self::VD | Self::P3 => Self::V,
            Self::B3 => Self::IC,
            other => other,
        }
    }
}

/// One descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub now: u64,
    /// What it held before it was made invalid, or its permissions changed.
    pub was: u64,
    pub state: State,
    /// Who changed it last.
    pub cpu: u8,
}

impl Slot {
    pub const fn at_rest(value: u64) -> Self {
        let state = if is_valid(value) { State::V } else { State::IC };
        Self { now: value, was: 0, state, cpu: 0 }
    }
}

pub const fn is_valid(value: u64) -> bool {
    Descriptor::from_bits(value).is_valid()
}

/// How walks reach a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// Not at all. It has stores of this CPU that no barrier has ordered, or none.
    Private(Option<u8>),
    /// By its link, or because it is a root.
    Linked,
    /// By what CPUs remember of its link.
    Cut,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    pub page: Page,
    /// Where it stands or stood last; of a private table not known yet.
    pub level: Level,
    pub va: u64,
    pub slots: Vec<Slot>,
    pub valid: u64,
}

/// Where a slot is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub table: u64,
    pub index: usize,
    pub level: Level,
    /// The first address that it translates.
    pub va: u64,
}

/// All known tables.
#[derive(Debug)]
pub struct Shadow {
    regime: Regime,
    pub tables: BTreeMap<u64, Table>,
    /// The linked and cut ones by what they translate.
    places: BTreeMap<(Level, u64), u64>,
}

impl Shadow {
    pub const fn new(regime: Regime) -> Self {
        Self { regime, tables: BTreeMap::new(), places: BTreeMap::new() }
    }

    pub const fn regime(&self) -> Regime {
        self.regime
    }

    /// A table of zeroes. Its root may be smaller than the others.
    fn blank(&self, page: Page, level: Level, va: u64) -> Table {
        let slots = alloc::vec![Slot::at_rest(0); self.regime.entries(level) as usize];
        Table { page, level, va, slots, valid: 0 }
    }

    /// A table exists from the start.
    pub fn exists(&mut self, pa: u64, level: i8, va: u64) {
        let Some(level) = Level::new(level) else { return };
        self.tables.insert(pa, self.blank(Page::Linked, level, va));
        self.places.insert((level, va), pa);
    }

    /// A slot of such a table holds this.
    pub fn holds(&mut self, slot: u64, value: u64) {
        let Some(Place { table, index, .. }) = self.place(slot) else { return };
        let table = self.tables.get_mut(&table).expect("it has a place");
        table.slots[index] = Slot::at_rest(value);
        table.valid += u64::from(is_valid(value));
    }

    /// A CPU translates by a root, which exists even if nothing is known of it.
    pub fn translates_by(&mut self, ttbr1: u64) {
        let narrow = self.regime.output() == OutputFormat::Bits48;
        let high = if narrow { 0 } else { (ttbr1 >> 2 & 0xf) << 48 };
        let root = ttbr1 & 0x0000_ffff_ffff_fff0 & !(if narrow { 0 } else { 0x3c }) | high;
        if self.tables.get(&root).is_none_or(|table| matches!(table.page, Page::Private(_))) {
            self.exists(root, self.regime.start_level().number(), self.regime.lowest().value());
        }
    }

    /// A page was zeroed, to become a table. Returns what was known of it.
    pub fn zeroed(&mut self, pa: u64, cpu: u8) -> Option<Table> {
        self.tables.insert(pa, self.blank(Page::Private(Some(cpu)), Level::L3, 0))
    }

    pub fn place(&self, slot: u64) -> Option<Place> {
        let (&pa, table) = self.tables.range(..=slot).next_back()?;
        let index = ((slot - pa) / 8) as usize;
        (index < table.slots.len()).then(|| Place { table: pa, index, level: table.level, va: self.va(table, index) })
    }

    fn va(&self, table: &Table, index: usize) -> u64 {
        table.va.wrapping_add((index as u64) << self.regime.granule().level_shift(table.level))
    }

    pub fn slot_mut(&mut self, slot: u64) -> Option<&mut Slot> {
        let place = self.place(slot)?;
        self.tables.get_mut(&place.table)?.slots.get_mut(place.index)
    }

    pub fn slot(&self, slot: u64) -> Option<Slot> {
        let place = self.place(slot)?;
        self.tables.get(&place.table)?.slots.get(place.index).copied()
    }

    pub fn state(&self, slot: u64) -> State {
        self.slot(slot).map_or(State::IC, |slot| slot.state)
    }

    /// Stores `value`; the state stays.
    pub fn store(&mut self, Place { table, index, .. }: Place, value: u64) {
        let Some(table) = self.tables.get_mut(&table) else { return };
        let old = mem::replace(&mut table.slots[index].now, value);
        table.valid = table.valid + u64::from(is_valid(value)) - u64::from(is_valid(old));
    }

    /// Where `value` points if it is a link, standing in a table of `level`.
    pub fn address(&self, value: u64, level: Level) -> Option<u64> {
        let descriptor = Descriptor::from_bits(value);
        let address = descriptor.address(self.regime.granule(), self.regime.output()).value();
        descriptor.is_table(level).then_some(address)
    }

    /// The table that `slot` linked when it held `value`.
    pub fn target(&self, slot: u64, value: u64) -> Option<u64> {
        self.address(value, self.place(slot)?.level)
    }

    /// The table of `level` on the way to `va`.
    pub fn table_for(&self, level: Level, va: u64) -> Option<u64> {
        let start = if level == self.regime.start_level() {
            self.regime.lowest()
        } else {
            VirtAddr::new(va).align_down(self.regime.table_span(level))
        };
        self.places.get(&(level, start.value())).copied()
    }

    /// The slot of `level` on the way to `va`.
    pub fn slot_for(&self, level: Level, va: u64) -> Option<u64> {
        self.table_for(level, va).map(|table| table + self.regime.index(VirtAddr::new(va), level) * 8)
    }

    /// The slot of a table's link; a root has none.
    pub fn link(&self, pa: u64) -> Option<u64> {
        let table = self.tables.get(&pa).filter(|table| table.level > self.regime.start_level())?;
        self.slot_for(Level::new(table.level.number() - 1)?, table.va)
    }

    /// Gives a private table, which has a link now, its place.
    pub fn settle(&mut self, pa: u64, level: Level, va: u64) {
        if let Some(table) = self.tables.get_mut(&pa) {
            (table.page, table.level, table.va) = (Page::Linked, level, va);
            self.places.insert((level, va), pa);
        }
    }

    /// No CPU can walk a table any more.
    pub fn release(&mut self, pa: u64) {
        if let Some(table) = self.tables.get_mut(&pa) {
            table.page = Page::Private(None);
            self.places.remove(&(table.level, table.va));
        }
    }

    /// Whether a barrier of `cpu` orders the stores to a private table; it has then.
    pub fn is_ordered_by(&mut self, cpu: u8, pa: u64) -> bool {
        match self.tables.get_mut(&pa) {
            Some(table) if table.page == Page::Private(Some(cpu)) => {
                table.page = Page::Private(None);
                true
            }
            Some(Table { page: Page::Private(Some(_)), .. }) => false,
            _ => true,
        }
    }

    /// The slots of the contiguous run that `slot`, holding `value`, belongs to.
    pub fn run(&self, slot: u64, value: u64) -> Option<(u64, u64)> {
        let Place { index, level, .. } = self.place(slot)?;
        let descriptor = Descriptor::from_bits(value);
        let members = self.regime.granule().contiguous_entries(level)?;
        let is_member = descriptor.is_leaf(level) && descriptor.is_contiguous();
        is_member.then(|| (slot - index as u64 % members * 8, members))
    }
}

//! Tables and descriptors as hardware reads them: from D8.2, D8.3 and table D8-104, 48-bit output.

use vmemmap::granule::GranuleSize;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const ACCESSED: u64 = 1 << 10;
const CONTIGUOUS: u64 = 1 << 52;
/// Bits 11:2 and 54:50 but the Contiguous bit.
const ATTRIBUTES: u64 = 0x006c_0000_0000_0ffc;

/// Geometry with a root at level 1.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub granule: GranuleSize,
    pub shift: u32,
    pub va_bits: u32,
    pub tcr: u64,
    /// Members of a contiguous run at level 2 and at level 3.
    runs: [u64; 2],
    /// The lowest level that has blocks.
    blocks_from: i8,
}

pub const GEOMETRIES: [Geometry; 3] = [
    Geometry { granule: GranuleSize::K4, shift: 12, va_bits: 39, tcr: 0x35_b559_3510, runs: [16, 16], blocks_from: 1 },
    Geometry {
        granule: GranuleSize::K16,
        shift: 14,
        va_bits: 47,
        tcr: 0x35_7551_b510,
        runs: [32, 128],
        blocks_from: 2,
    },
    Geometry { granule: GranuleSize::K64, shift: 16, va_bits: 48, tcr: 0x35_f550_7510, runs: [32, 32], blocks_from: 2 },
];

/// What a walk reads in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Descriptor {
    Fault,
    Table(u64),
    Leaf { pa: u64, attributes: u64, contiguous: bool },
}

impl Geometry {
    pub const ROOT_LEVEL: i8 = 1;

    /// Bytes that a slot of this level translates.
    pub fn span(&self, level: i8) -> u64 {
        1 << (self.shift + u32::from((3 - level).unsigned_abs()) * (self.shift - 3))
    }

    pub fn page(&self) -> u64 {
        1 << self.shift
    }

    pub fn run(&self, level: i8) -> u64 {
        if level < 2 { 1 } else { self.runs[usize::from(level == 3)] }
    }

    pub fn index(&self, level: i8, va: u64) -> u64 {
        let bits =
            if level == Self::ROOT_LEVEL { self.va_bits } else { self.span(level).trailing_zeros() + self.shift - 3 };
        va % (1 << bits) / self.span(level)
    }

    pub fn slot(&self, table: u64, level: i8, va: u64) -> u64 {
        table + self.index(level, va) * 8
    }

    pub fn read(&self, value: u64, level: i8) -> Descriptor {
        let bit1 = value & TABLE_OR_PAGE != 0;
        let address = value & 0x0000_ffff_ffff_ffff & !(self.page() - 1);
        if value & VALID == 0 {
            Descriptor::Fault
        } else if bit1 && level < 3 {
            Descriptor::Table(address)
        } else if bit1 != (level == 3) || level < self.blocks_from || value & ACCESSED == 0 {
            Descriptor::Fault
        } else {
            let pa = address & !(self.span(level) - 1);
            Descriptor::Leaf { pa, attributes: value & ATTRIBUTES, contiguous: value & CONTIGUOUS != 0 }
        }
    }

    /// The code of the granule in TLBI operands.
    pub fn tg(&self) -> u64 {
        u64::from(self.shift - 12) / 2 + 1
    }
}

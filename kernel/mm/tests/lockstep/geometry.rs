//! Tables and descriptors as hardware reads them: from D8.2, D8.3 and table D8-104.

use vmemmap::granule::GranuleSize;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const ACCESSED: u64 = 1 << 10;
const CONTIGUOUS: u64 = 1 << 52;
/// Bits 11:2 and 54:50 but the Contiguous bit.
const ATTRIBUTES: u64 = 0x006c_0000_0000_0ffc;
/// Bits 9:8: a part of the address with LPA2.
const SHAREABILITY: u64 = 3 << 8;
/// What 52-bit tables have above 48 bits of their addresses.
const HIGH: u64 = 0x9 << 48;

#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub granule: GranuleSize,
    pub shift: u32,
    pub va_bits: u32,
    /// 48 or 52.
    pub pa_bits: u32,
    pub root_level: i8,
    pub tcr: u64,
    /// Members of a contiguous run at level 2 and at level 3.
    runs: [u64; 2],
    /// The lowest level that has blocks.
    blocks_from: i8,
}

const K4: Geometry = Geometry {
    granule: GranuleSize::K4,
    shift: 12,
    va_bits: 39,
    pa_bits: 48,
    root_level: 1,
    tcr: 0x35_b559_3510,
    runs: [16, 16],
    blocks_from: 1,
};
const K16: Geometry = Geometry {
    granule: GranuleSize::K16,
    shift: 14,
    va_bits: 47,
    pa_bits: 48,
    root_level: 1,
    tcr: 0x35_7551_b510,
    runs: [32, 128],
    blocks_from: 2,
};
const K64: Geometry = Geometry {
    granule: GranuleSize::K64,
    shift: 16,
    va_bits: 48,
    pa_bits: 48,
    root_level: 1,
    tcr: 0x35_f550_7510,
    runs: [32, 32],
    blocks_from: 2,
};

/// Three levels at each granule; and 52 bits: five levels and four with LPA2, three with LPA.
pub const GEOMETRIES: [Geometry; 6] = [
    K4,
    K16,
    K64,
    Geometry { va_bits: 52, pa_bits: 52, root_level: -1, tcr: 0x0800_0036_b54c_3510, blocks_from: 0, ..K4 },
    Geometry { va_bits: 52, pa_bits: 52, root_level: 0, tcr: 0x0800_0036_754c_b510, blocks_from: 1, ..K16 },
    Geometry { va_bits: 52, pa_bits: 52, tcr: 0x36_f54c_7510, blocks_from: 1, ..K64 },
];

/// What a walk reads in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Descriptor {
    Fault,
    Table(u64),
    Leaf { pa: u64, attributes: u64, contiguous: bool },
}

impl Geometry {
    pub fn is_wide(&self) -> bool {
        self.pa_bits == 52
    }

    /// Whether descriptors have the layout of LPA2.
    pub fn is_lpa2(&self) -> bool {
        self.is_wide() && self.shift < 16
    }

    /// Where something lies: above 48 bits of physical address, if there are more.
    pub fn at(&self, pa: u64) -> u64 {
        if self.is_wide() { pa | HIGH } else { pa }
    }

    /// The value of `TTBR1_EL1` for a root.
    pub fn ttbr(root: u64) -> u64 {
        root & 0x0000_ffff_ffff_ffff | root >> 48 << 2
    }

    /// An address as it stands in a descriptor.
    pub fn packed(&self, pa: u64) -> u64 {
        if self.is_lpa2() {
            pa & 0x0003_ffff_ffff_ffff | (pa >> 50) << 8
        } else {
            pa & 0x0000_ffff_ffff_ffff | (pa >> 48) << 12
        }
    }

    fn unpacked(&self, value: u64) -> u64 {
        let address = value & 0x0000_ffff_ffff_ffff & !(self.page() - 1);
        match (self.is_wide(), self.is_lpa2()) {
            (_, true) => address | value & 3 << 48 | (value >> 8 & 3) << 50,
            (true, false) => address | (value >> 12 & 0xf) << 48,
            (false, false) => address,
        }
    }

    fn attributes(&self) -> u64 {
        if self.is_lpa2() { ATTRIBUTES & !SHAREABILITY } else { ATTRIBUTES }
    }

    /// log2 of the unit of `BaseADDR` in range operands (IQPHNP).
    pub fn range_shift(&self) -> u32 {
        if self.is_lpa2() { 16 } else { self.shift }
    }

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
            if level == self.root_level { self.va_bits } else { self.span(level).trailing_zeros() + self.shift - 3 };
        va % (1 << bits) / self.span(level)
    }

    pub fn slot(&self, table: u64, level: i8, va: u64) -> u64 {
        table + self.index(level, va) * 8
    }

    pub fn has_block(&self, level: i8) -> bool {
        level < 3 && level >= self.blocks_from
    }

    pub fn read(&self, value: u64, level: i8) -> Descriptor {
        let bit1 = value & TABLE_OR_PAGE != 0;
        let address = self.unpacked(value);
        if value & VALID == 0 {
            Descriptor::Fault
        } else if bit1 && level < 3 {
            Descriptor::Table(address)
        } else if bit1 != (level == 3) || level < 3 && !self.has_block(level) || value & ACCESSED == 0 {
            Descriptor::Fault
        } else {
            let pa = address & !(self.span(level) - 1);
            Descriptor::Leaf { pa, attributes: value & self.attributes(), contiguous: value & CONTIGUOUS != 0 }
        }
    }

    /// The code of the granule in TLBI operands.
    pub fn tg(&self) -> u64 {
        u64::from(self.shift - 12) / 2 + 1
    }
}

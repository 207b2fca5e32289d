//! What a descriptor says, by granule, level and output size: read from the tables of the architecture (D8.2, D8.3,
//! D8-104), with no use of this crate's own decoder.

use crate::granule::GranuleSize;
use crate::trace::Header;

const VALID: u64 = 1;
const TABLE: u64 = 2;
const NON_SECURE: u64 = 1 << 5;
const READ_ONLY: u64 = 1 << 7;
const ACCESS: u64 = 1 << 10;
const NON_GLOBAL: u64 = 1 << 11;
const CONTIGUOUS: u64 = 1 << 52;
const PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 53;
const SHAREABILITY: u64 = 3 << 8;

/// Attributes that a translation carries: bits 11:2, and 54:50 but for the Contiguous bit.
const ATTRIBUTES: u64 = 0xffc | 0b11011 << 50;
/// Those that need break-before-make: memory type, NS, shareability.
const KIND: u64 = 0b111 << 2 | NON_SECURE | SHAREABILITY;
/// Limits that a table descriptor puts on what is below it.
const TABLE_LIMITS: u64 = 0b11111 << 59;

#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    shift: u32,
    va_bits: u32,
    pa_bits: u32,
    /// 52-bit output addresses: the layout of `FEAT_LPA` at 64K, of `FEAT_LPA2` elsewhere.
    wide: bool,
}

/// A leaf's translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    pub pa: u64,
    pub attributes: u64,
    pub contiguous: bool,
}

impl Leaf {
    /// Whether `other` in its place needs break-before-make (RWHZWS, RKHRBC; `FEAT_BBM` level 0).
    pub fn is_another_kind(self, other: Self) -> bool {
        let global = self.attributes & NON_GLOBAL != 0 && other.attributes & NON_GLOBAL == 0;
        self.pa != other.pa
            || self.contiguous != other.contiguous
            || (self.attributes ^ other.attributes) & KIND != 0
            || global
    }
}

/// A descriptor as a walk at its level reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Invalid, or of no form that translates: a fault.
    Nothing,
    /// A table, with its limits.
    Table {
        pa: u64,
        limits: u64,
    },
    Leaf(Leaf),
}

impl Geometry {
    pub fn new(header: Header) -> Self {
        let Header { granule, va_bits, pa_bits, .. } = header;
        Self { shift: granule.shift(), va_bits, pa_bits, wide: pa_bits.max(va_bits) > 48 }
    }

    fn bits(self) -> u32 {
        self.shift - 3
    }

    pub fn start_level(self) -> i8 {
        4 - (self.va_bits - self.shift).div_ceil(self.bits()) as i8
    }

    /// log2 of the bytes that a descriptor of `level` translates.
    pub fn level_shift(self, level: i8) -> u32 {
        self.shift + self.bits() * u32::from((3 - level).unsigned_abs())
    }

    pub fn bytes(self, level: i8) -> u64 {
        1 << self.level_shift(level)
    }

    pub fn page_bytes(self) -> u64 {
        1 << self.shift
    }

    /// Bytes of the root.
    pub fn root_bytes(self) -> u64 {
        8 << (self.va_bits - self.level_shift(self.start_level()))
    }

    /// Bytes of a table of `level`.
    pub fn table_bytes(self, level: i8) -> u64 {
        if level == self.start_level() { self.root_bytes() } else { self.page_bytes() }
    }

    /// Whether a table of `level` may lie at `pa` and translate addresses from `va` on.
    pub fn is_place(self, pa: u64, level: i8, va: u64) -> bool {
        let in_tree = (self.start_level()..=3).contains(&level) && self.is_kernel(va);
        let entries = || self.table_bytes(level) / 8;
        in_tree && pa & (self.table_bytes(level) - 1) == 0 && va & (entries() * self.bytes(level) - 1) == 0
    }

    /// The slot of `table`, a table of `level`, that translates `va`.
    pub fn slot(self, table: u64, level: i8, va: u64) -> u64 {
        let entries = self.table_bytes(level) / 8;
        table + (va >> self.level_shift(level) & (entries - 1)) * 8
    }

    /// Whether TTBR1 translates `va`.
    pub fn is_kernel(self, va: u64) -> bool {
        va >> self.va_bits == u64::MAX >> self.va_bits
    }

    /// Members of a contiguous run at `level`; 1 where there is none.
    pub fn run(self, level: i8) -> u64 {
        match (self.shift, level) {
            (12, 1..=3) => 16,
            (14, 3) => 128,
            (14, 2) | (16, 2 | 3) => 32,
            _ => 1,
        }
    }

    fn has_block(self, level: i8) -> bool {
        match (self.shift, level) {
            (12, 1 | 2) | (14 | 16, 2) => true,
            (12, 0) | (14 | 16, 1) => self.wide,
            _ => false,
        }
    }

    /// The address field down to bit `low`.
    fn address(self, value: u64, low: u32) -> u64 {
        let below_48 = value & 0x0000_ffff_ffff_ffff & !((1 << low) - 1);
        match (self.wide, self.shift) {
            (false, _) => below_48,
            (true, 16) => below_48 & !0xffff | (value >> 12 & 0xf) << 48,
            (true, _) => below_48 | value & 3 << 48 | (value >> 8 & 3) << 50,
        }
    }

    fn attributes(self, value: u64) -> u64 {
        let address = if self.wide && self.shift != 16 { SHAREABILITY } else { 0 };
        value & ATTRIBUTES & !address
    }

    pub fn entry(self, value: u64, level: i8) -> Entry {
        let is_table = level < 3 && value & TABLE != 0;
        if value & VALID == 0 || level == 3 && value & TABLE == 0 {
            return Entry::Nothing;
        }
        if is_table {
            return Entry::Table { pa: self.address(value, self.shift), limits: value & TABLE_LIMITS };
        }
        if value & ACCESS == 0 || level < 3 && !self.has_block(level) {
            return Entry::Nothing; // faults of these kinds are never cached (IWZCBG)
        }
        let pa = self.address(value, self.level_shift(level));
        Entry::Leaf(Leaf { pa, attributes: self.attributes(value), contiguous: value & CONTIGUOUS != 0 })
    }

    /// What is wrong with a valid descriptor, whether or not hardware would notice.
    pub fn flaw(self, value: u64, level: i8) -> Option<&'static str> {
        if value & VALID == 0 {
            return None;
        }
        let is_table = level < 3 && value & TABLE != 0;
        let address = self.address(value, self.shift);
        let low = if is_table { self.shift } else { self.level_shift(level) };
        if level == 3 && value & TABLE == 0 {
            Some("level 3 has no descriptor that ends in 01")
        } else if address >> self.pa_bits != 0 {
            Some("its address is beyond the output size")
        } else if value & self.reserved(low) != 0 {
            Some("bits below its address, or above, are not zero")
        } else if is_table {
            // NSTable, and APTable's "read-only": what is below would not be what its leaves say.
            (value & 0b11 << 62 != 0).then_some("it limits what is below it to less than its leaves say")
        } else {
            self.leaf_flaw(value, level)
        }
    }

    /// Bits 49:12 that hold no part of an address which is aligned to 2^`low`.
    fn reserved(self, low: u32) -> u64 {
        let address = match (self.wide, self.shift) {
            (true, 16) => 0x0000_ffff_ffff_ffff & !((1 << low) - 1) | 0xf << 12,
            (true, _) => 0x0003_ffff_ffff_ffff & !((1 << low) - 1),
            (false, _) => 0x0000_ffff_ffff_ffff & !((1 << low) - 1),
        };
        0x0003_ffff_ffff_f000 & !address
    }

    fn leaf_flaw(self, value: u64, level: i8) -> Option<&'static str> {
        let normal_shareability = !self.wide || self.shift == 16;
        let writable = value & READ_ONLY == 0;
        let flaws = [
            (level < 3 && !self.has_block(level), "there is no block at this level"),
            (value & ACCESS == 0, "its access flag is clear"),
            (value & NON_GLOBAL != 0, "it is not global"),
            (value & NON_SECURE != 0, "bit 5 is RES0 outside Secure state"),
            (normal_shareability && value & SHAREABILITY == 1 << 8, "its shareability is reserved"),
            (writable && value & PRIVILEGED_EXECUTE_NEVER == 0, "it is writable and executable"),
            (value & CONTIGUOUS != 0 && self.run(level) == 1, "there are no contiguous runs at this level"),
        ];
        flaws.into_iter().find_map(|(is, why)| is.then_some(why))
    }

    /// What the leaf in slot `from` of a run makes of slot `to` of the same run, if a walk takes the run as one.
    pub fn extrapolate(self, leaf: Leaf, level: i8, va: u64) -> Leaf {
        let run_bytes = self.run(level) << self.level_shift(level);
        let within = va & (run_bytes - 1) & !(self.bytes(level) - 1);
        Leaf { pa: leaf.pa & !(run_bytes - 1) | within, ..leaf }
    }

    /// The encoding of the granule in `TCR_EL1.TG1`, and in TLBI operands.
    pub fn tg1(self) -> u64 {
        match self.shift {
            14 => 1,
            12 => 2,
            _ => 3,
        }
    }

    pub fn tlbi_granule(self) -> u64 {
        match self.shift {
            12 => 1,
            14 => 2,
            _ => 3,
        }
    }

    pub fn is_lpa2(self) -> bool {
        self.wide && self.shift != GranuleSize::K64.shift()
    }

    pub fn is_wide(self) -> bool {
        self.wide
    }

    pub fn va_bits(self) -> u32 {
        self.va_bits
    }
}

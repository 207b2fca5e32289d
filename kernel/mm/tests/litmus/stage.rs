//! The scene of a shape: tables for one granule, and names for the addresses and descriptors on it.
//!
//! Three levels at every granule, and with 52 bits five at 4K and four at 16K. `X` is the first address; the page table
//! `l3` translates it, `l2` above it, and so on up to the root. Nothing else is mapped until a shape says so in `slot` lines. `n` is a frame for a page table that
//! nothing points to yet, `r` one for a root. Frames `A`, `B` and `C` are aligned to every block and run.

use vmemmap::granule::GranuleSize;

/// First address of the scene: a multiple of 256 GiB.
const FIRST: u64 = 0xffff_ffc0_0000_0000;
/// The same where there are 52 bits.
const WIDE_FIRST: u64 = 0xfff5_5540_0000_0000;
/// What 52-bit tables have above 48 bits of their addresses.
const HIGH: u64 = 0x9 << 48;
const ROOT: u64 = 0x4000_0000;
const OTHER_ROOT: u64 = 0x4001_0000;
/// Below a root that is above level 1.
const L0: u64 = 0x4002_0000;
const L1: u64 = 0x4003_0000;
const L2: u64 = 0x4010_0000;
const L3: u64 = 0x4020_0000;
const N: u64 = 0x4030_0000;
const MAIR: u64 = 0x4_0044_ffff;

/// Read-write, not executable, accessed, inner shareable, attribute 0.
const DATA: u64 = 0x0060_0000_0000_0700;
const READ_ONLY: u64 = DATA | 1 << 7;
/// Executable at EL1 and writable.
const CODE: u64 = 0x0040_0000_0000_0700;
const CONTIGUOUS: u64 = 1 << 52;
const SHAREABILITY: u64 = 3 << 8;

/// What ends the address in an operand.
const MARKS: [char; 6] = ['/', '#', '*', '%', '|', '>'];

#[derive(Clone, Copy, Debug)]
pub struct Stage {
    granule: GranuleSize,
    shift: u32,
    va_bits: u32,
    /// Level of the root.
    start: i8,
    /// `TCR_EL1`.
    pub tcr: u64,
    /// Members of a contiguous run at level 3 and at level 2 (table D8-104).
    pub runs: [u64; 2],
    /// CPUs that run from the start.
    cpus: u8,
}

pub const K4: Stage =
    Stage { granule: GranuleSize::K4, shift: 12, va_bits: 39, start: 1, tcr: 0x35_b559_3510, runs: [16, 16], cpus: 2 };
pub const K16: Stage = Stage {
    granule: GranuleSize::K16,
    shift: 14,
    va_bits: 47,
    start: 1,
    tcr: 0x35_7551_b510,
    runs: [128, 32],
    cpus: 2,
};
pub const K64: Stage =
    Stage { granule: GranuleSize::K64, shift: 16, va_bits: 48, start: 1, tcr: 0x35_f550_7510, runs: [32, 32], cpus: 2 };

impl Stage {
    /// The same with CPU 1 not online yet.
    pub const fn alone(self) -> Self {
        Self { cpus: 1, ..self }
    }

    /// The same with 52 bits: LPA2 at 4K and 16K, LVA and LPA at 64K.
    pub const fn wide(self) -> Self {
        let (start, tcr) = match self.granule {
            GranuleSize::K4 => (-1, 0x0800_0036_b54c_3510),
            GranuleSize::K16 => (0, 0x0800_0036_754c_b510),
            GranuleSize::K64 => (1, 0x36_f54c_7510),
        };
        Self { va_bits: 52, start, tcr, ..self }
    }

    const fn is_wide(&self) -> bool {
        self.va_bits == 52
    }

    const fn is_lpa2(&self) -> bool {
        self.is_wide() && self.shift < 16
    }

    const fn first(&self) -> u64 {
        if self.is_wide() { WIDE_FIRST } else { FIRST }
    }

    /// The tables on the way to `X`, from the root.
    fn tables(&self) -> impl Iterator<Item = (i8, u64)> + '_ {
        (self.start..=3).map(|level| (level, self.table(level)))
    }

    fn table(&self, level: i8) -> u64 {
        match level {
            _ if level == self.start => ROOT,
            0 => self.at(L0),
            1 => self.at(L1),
            2 => self.at(L2),
            _ => self.at(L3),
        }
    }

    const fn at(&self, pa: u64) -> u64 {
        if self.is_wide() { pa | HIGH } else { pa }
    }

    /// An address as it stands in a descriptor.
    fn packed(&self, pa: u64) -> u64 {
        if self.is_lpa2() {
            pa & 0x0003_ffff_ffff_ffff | (pa >> 50) << 8
        } else {
            pa & 0x0000_ffff_ffff_ffff | (pa >> 48) << 12
        }
    }

    /// The lines of a trace that set the scene.
    pub fn lines(&self) -> Vec<String> {
        let (name, bits, output) = (self.granule.name(), self.va_bits, if self.is_wide() { 52 } else { 48 });
        let mut lines = vec![format!("trace version=1 granule={name} va_bits={bits} pa_bits={output} cpus=2")];
        lines.extend((0..self.cpus).map(|cpu| self.text(&format!("regs cpu={cpu} $regs"))));
        lines.extend(self.tables().map(|(level, pa)| {
            let va = self.first() & !(self.translated(level) - 1) | u64::MAX << bits;
            format!("table pa={pa:#x} level={level} va={va:#x}")
        }));
        lines.extend(self.tables().filter(|(level, _)| *level < 3).map(|(level, table)| {
            let link = self.packed(self.table(level + 1)) | 3;
            format!("slot pa={:#x} value={link:#x}", self.slot(table, level))
        }));
        lines
    }

    /// A line with its names replaced by numbers.
    pub fn text(&self, line: &str) -> String {
        let words = line.split(' ').map(|word| match word.find(['$', '@']) {
            Some(at) if word[at..].starts_with('$') => format!("{}{}", &word[..at], self.named(&word[at + 1..])),
            Some(at) => format!("{}{:#x}", &word[..at], self.operand(&word[at + 1..])),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn named(&self, name: &str) -> String {
        if name == "regs" {
            return format!("ttbr1={ROOT:#x} tcr={:#x} mair={MAIR:#x} sctlr=0x1", self.tcr);
        }
        format!("{:#x}", self.value(name))
    }

    fn page(&self) -> u64 {
        1 << self.shift
    }

    fn block(&self) -> u64 {
        self.span(2)
    }

    /// What an entry of a level translates.
    fn span(&self, level: i8) -> u64 {
        1 << (self.shift + u32::from((3 - level).unsigned_abs()) * (self.shift - 3))
    }

    /// What a table of a level translates.
    fn translated(&self, level: i8) -> u64 {
        if level == self.start { 1 << self.va_bits } else { self.span(level) << (self.shift - 3) }
    }

    /// The slot for `X` in a table.
    fn slot(&self, table: u64, level: i8) -> u64 {
        table + self.first() % self.translated(level) / self.span(level) * 8
    }

    /// Frames `A`, `B` and `C`. With 52 bits they differ in their highest bits alone.
    fn frame(&self, letter: &str) -> u64 {
        let number = letter.as_bytes()[0] - b'A';
        if self.is_wide() { [0x1, 0x6, 0xb][usize::from(number)] << 48 } else { u64::from(number + 1) << 40 }
    }

    /// The number that a name stands for. `+n` behind it: n pages, blocks or slots further, as the name is about.
    pub fn value(&self, name: &str) -> u64 {
        let (base, more) = name.split_once('+').map_or((name, 0), |(base, n)| (base, n.parse().expect("a number")));
        let slot = |level| self.slot(self.table(level), level) + more * 8;
        let link = |table| self.packed(table) | 3;
        let shareable = if self.is_lpa2() { !SHAREABILITY } else { !0 };
        let [data, ro, code] = [DATA, READ_ONLY, CODE].map(|bits| bits & shareable | 3);
        let leaf = |letter, bytes, bits| self.packed(self.frame(letter) + more * bytes) | bits;
        let page = |letter, bits| leaf(letter, self.page(), bits);
        match base {
            "X" => self.first() + more * self.page(),
            "Z" => self.first() + self.block() + more * self.page(),
            "root" => ROOT,
            "r" => OTHER_ROOT,
            "l2" => self.table(2),
            "l3" => self.table(3),
            "n" => self.at(N) + more * 8,
            "top" => slot(self.start),
            "x0" => slot(0),
            "x1" => slot(1),
            "x2" => slot(2),
            "z2" => slot(2) + 8,
            "x3" => slot(3),
            "tL2" => link(self.table(2)),
            "tL3" => link(self.table(3)),
            "tN" => link(self.at(N)),
            "tcr" => self.tcr,
            "page" => self.page() * more.max(1),
            "block" => self.block(),
            "A" | "B" | "C" => page(base, data),
            "fA" | "fB" | "fC" => self.frame(&base[1..]) + more * self.page(),
            "roA" => page("A", ro),
            "noafA" => page("A", data & !(1 << 10)),
            "wxA" => page("A", code),
            "badA" => page("A", data & !2),
            "cA" | "cB" => page(&base[1..], data | CONTIGUOUS),
            "bA" | "bB" => leaf(&base[1..], self.block(), data & !2),
            "cbA" => leaf("A", self.block(), data & !2 | CONTIGUOUS),
            other => panic!("no name {other}"),
        }
    }

    /// The operand register of a TLBI: `X+n`, then in any order `/level` a hint, `#asid`, `*pages` for a range form
    /// (an even number), `%granule` another granule in a range form, `|bits` at the low end, `>>` shifted as the granule
    /// is (a mistake).
    fn operand(&self, text: &str) -> u64 {
        let end = text.find(MARKS).unwrap_or(text.len());
        let va = self.value(&text[..end]);
        let part = |mark: char| {
            let rest = text.split_once(mark)?.1;
            let end = rest.find(MARKS).unwrap_or(rest.len());
            Some(&rest[..end])
        };
        let number = |mark| part(mark).map(|text| text.parse::<u64>().expect("a number"));
        let code = |shift| u64::from(shift - 12) / 2 + 1;
        let asid = number('#').unwrap_or(0) << 48;
        if let Some(pages) = number('*') {
            let granule = part('%').map_or(self.shift, |name| if name == "64k" { 16 } else { 12 });
            let scale = u64::from(pages > 64);
            let count = (pages >> (5 * scale + 1)) - 1;
            let unit = if self.is_lpa2() { 16 } else { self.shift };
            let base = va >> unit & ((1 << 37) - 1);
            return asid | code(granule) << 46 | scale << 44 | count << 39 | number('/').unwrap_or(0) << 37 | base;
        }
        if text.contains(">>") {
            return va >> self.shift & ((1 << 44) - 1);
        }
        let hint = number('/').map_or(0, |level| (code(self.shift) << 2 | level) << 44);
        asid | hint | va >> 12 & ((1 << 44) - 1) | number('|').unwrap_or(0)
    }
}

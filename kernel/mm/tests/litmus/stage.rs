//! The scene of a shape: tables for one granule, and names for the addresses and descriptors on it.
//!
//! Three levels at every granule. `X` is the first address; the page table `l3` translates it, `l2` above it, `root`
//! at level 1. Nothing else is mapped until a shape says so in `slot` lines. `n` is a frame for a page table that
//! nothing points to yet, `r` one for a root. Frames `A`, `B` and `C` are aligned to every block and run.

use vmemmap::granule::GranuleSize;

/// First address of the scene: a multiple of 256 GiB.
const FIRST: u64 = 0xffff_ffc0_0000_0000;
const ROOT: u64 = 0x4000_0000;
const OTHER_ROOT: u64 = 0x4001_0000;
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

#[derive(Clone, Copy, Debug)]
pub struct Stage {
    granule: GranuleSize,
    shift: u32,
    va_bits: u32,
    /// `TCR_EL1` with 48-bit output.
    pub tcr: u64,
    /// Members of a contiguous run at level 3 and at level 2 (table D8-104).
    pub runs: [u64; 2],
    /// CPUs that run from the start.
    cpus: u8,
}

pub const K4: Stage =
    Stage { granule: GranuleSize::K4, shift: 12, va_bits: 39, tcr: 0x35_b559_3510, runs: [16, 16], cpus: 2 };
pub const K16: Stage =
    Stage { granule: GranuleSize::K16, shift: 14, va_bits: 47, tcr: 0x35_7551_b510, runs: [128, 32], cpus: 2 };
pub const K64: Stage =
    Stage { granule: GranuleSize::K64, shift: 16, va_bits: 48, tcr: 0x35_f550_7510, runs: [32, 32], cpus: 2 };

impl Stage {
    /// The same with CPU 1 not online yet.
    pub const fn alone(self) -> Self {
        Self { cpus: 1, ..self }
    }

    /// The lines of a trace that set the scene.
    pub fn lines(&self) -> Vec<String> {
        let name = self.granule.name();
        let bits = self.va_bits;
        let mut lines = vec![format!("trace version=1 granule={name} va_bits={bits} pa_bits=48 cpus=2")];
        lines.extend((0..self.cpus).map(|cpu| self.text(&format!("regs cpu={cpu} $regs"))));
        lines.push(format!("table pa={ROOT:#x} level=1 va={:#x}", u64::MAX << bits));
        lines.push(format!("table pa={L2:#x} level=2 va={:#x}", FIRST & !(self.span() - 1)));
        lines.push(format!("table pa={L3:#x} level=3 va={FIRST:#x}"));
        lines.push(self.text("slot pa=$x1 value=$tL2"));
        lines.push(self.text("slot pa=$x2 value=$tL3"));
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
        1 << (2 * self.shift - 3)
    }

    /// What an entry of the root translates.
    fn span(&self) -> u64 {
        1 << (3 * self.shift - 6)
    }

    /// The number that a name stands for. `+n` behind it: n pages, blocks or slots further, as the name is about.
    pub fn value(&self, name: &str) -> u64 {
        let (base, more) = name.split_once('+').map_or((name, 0), |(base, n)| (base, n.parse().expect("a number")));
        let slot = |table, bytes| table + FIRST % (bytes << (self.shift - 3)) / bytes * 8 + more * 8;
        let (data, ro, code) = (DATA | 3, READ_ONLY | 3, CODE | 3);
        let frame = |letter: &str| u64::from(letter.as_bytes()[0] - b'A' + 1) << 40;
        let page = |letter, bits| (frame(letter) + more * self.page()) | bits;
        match base {
            "X" => FIRST + more * self.page(),
            "Z" => FIRST + self.block() + more * self.page(),
            "root" => ROOT,
            "r" => OTHER_ROOT,
            "l2" => L2,
            "l3" => L3,
            "n" => N + more * 8,
            "x1" => ROOT + FIRST % (1 << self.va_bits) / self.span() * 8 + more * 8,
            "x2" => slot(L2, self.block()),
            "z2" => slot(L2, self.block()) + 8,
            "x3" => slot(L3, self.page()),
            "tL2" => L2 | 3,
            "tL3" => L3 | 3,
            "tN" => N | 3,
            "tcr" => self.tcr,
            "page" => self.page() * more.max(1),
            "block" => self.block(),
            "A" | "B" | "C" => page(base, data),
            "fA" | "fB" | "fC" => page(&base[1..], 0),
            "roA" => page("A", ro),
            "noafA" => page("A", data & !(1 << 10)),
            "wxA" => page("A", code),
            "badA" => page("A", data & !2),
            "cA" | "cB" => page(&base[1..], data | CONTIGUOUS),
            "bA" | "bB" => (frame(&base[1..]) + more * self.block()) | data & !2,
            "cbA" => (frame("A") + more * self.block()) | data & !2 | CONTIGUOUS,
            other => panic!("no name {other}"),
        }
    }

    /// The operand register of a TLBI: `X+n`, then in any order `/level` a hint, `#asid`, `*pages` for a range form
    /// (an even number), `%granule` another granule in a range form, `>>` shifted as the granule is (a mistake).
    fn operand(&self, text: &str) -> u64 {
        let end = text.find(['/', '#', '*', '%', '>']).unwrap_or(text.len());
        let va = self.value(&text[..end]);
        let part = |mark: char| {
            let rest = text.split_once(mark)?.1;
            let end = rest.find(['/', '#', '*', '%', '>']).unwrap_or(rest.len());
            Some(&rest[..end])
        };
        let number = |mark| part(mark).map(|text| text.parse::<u64>().expect("a number"));
        let code = |shift| u64::from(shift - 12) / 2 + 1;
        let asid = number('#').unwrap_or(0) << 48;
        if let Some(pages) = number('*') {
            let granule = part('%').map_or(self.shift, |name| if name == "64k" { 16 } else { 12 });
            let scale = u64::from(pages > 64);
            let count = (pages >> (5 * scale + 1)) - 1;
            let base = va >> self.shift & ((1 << 37) - 1);
            return asid | code(granule) << 46 | scale << 44 | count << 39 | number('/').unwrap_or(0) << 37 | base;
        }
        if text.contains(">>") {
            return va >> self.shift & ((1 << 44) - 1);
        }
        let hint = number('/').map_or(0, |level| (code(self.shift) << 2 | level) << 44);
        asid | hint | va >> 12 & ((1 << 44) - 1)
    }
}

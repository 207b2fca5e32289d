//! The abstraction function: what translation tables say, read back from raw memory.
//!
//! Written from the architecture's tables (geometry, descriptors, contiguous runs) in plain integers; it shares nothing with
//! the library's descriptors, regimes and walks, whose mistakes it is to find.

use std::collections::BTreeMap;

/// Where tables are and how they are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// log2 of the page size.
    pub shift: u32,
    pub va_bits: u32,
    /// 52-bit output addresses.
    pub wide: bool,
    pub start_level: i8,
    pub root_entries: u64,
    pub root: u64,
}

/// A valid leaf: one descriptor, a single one or a member of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    pub pa: u64,
    /// Bits 11:2 and 54:50 without the Contiguous bit and without address bits.
    pub attributes: u64,
    /// What the descriptor maps.
    pub bytes: u64,
    pub contiguous: bool,
    /// Execution is denied to EL1 by a table on the way.
    pub pxn_table: bool,
    pub level: i8,
}

/// A table that can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    pub level: i8,
    /// The first address that it translates.
    pub va: u64,
}

/// A slot that is not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    pub va: u64,
    pub bytes: u64,
    pub value: u64,
}

/// All that the tables say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    /// By virtual address.
    pub leaves: BTreeMap<u64, Leaf>,
    /// By physical address, the root among them.
    pub tables: BTreeMap<u64, Table>,
    /// By physical address, of every table that can be reached.
    pub slots: BTreeMap<u64, Slot>,
    /// What is not as it must be, in words.
    pub flaws: Vec<String>,
}

/// A kind of valid descriptor.
enum Kind {
    Nothing,
    Table,
    Leaf,
    Malformed,
}

impl Form {
    const fn level_shift(&self, level: i8) -> u32 {
        // Pages at level 3; each level above resolves as many bits as a page holds descriptors.
        self.shift + (self.shift - 3) * (3 - level).unsigned_abs() as u32
    }

    const fn bytes(&self, level: i8) -> u64 {
        1 << self.level_shift(level)
    }

    const fn entries(&self, level: i8) -> u64 {
        if level == self.start_level { self.root_entries } else { 1 << (self.shift - 3) }
    }

    /// Blocks: 4K at 2, 1, and 0 with 52 bits; 16K and 64K at 2, and 1 with 52 bits.
    const fn has_block(&self, level: i8) -> bool {
        match (self.shift, level) {
            (_, 2) | (12, 1) => true,
            (12, 0) | (14 | 16, 1) => self.wide,
            _ => false,
        }
    }

    /// Members of a contiguous run; 1 where there is none.
    pub const fn run(&self, level: i8) -> u64 {
        match (self.shift, level) {
            (12, 1..=3) => 16,
            (14, 3) => 128,
            (14, 2) | (16, 2 | 3) => 32,
            _ => 1,
        }
    }

    const fn kind(&self, value: u64, level: i8) -> Kind {
        match (value & 3, level) {
            (0 | 2, _) => Kind::Nothing,
            (3, 3) => Kind::Leaf,
            (3, _) => Kind::Table,
            (_, level) if level < 3 && self.has_block(level) => Kind::Leaf,
            _ => Kind::Malformed,
        }
    }

    const fn address(&self, value: u64) -> u64 {
        let low = value & (u64::MAX >> 16) & (u64::MAX << self.shift);
        match (self.wide, self.shift) {
            (false, _) => low,
            (true, 16) => low | (value >> 12 & 15) << 48,
            (true, _) => low | value & (3 << 48) | (value >> 8 & 3) << 50,
        }
    }

    pub const fn attributes(&self, value: u64) -> u64 {
        let address = if self.wide && self.shift < 16 { 3 << 8 } else { 0 };
        value & (0xffc | 0x1f << 50) & !(1 << 52) & !address
    }

    /// Reads everything below the root; `read(pa, count)` gives words of memory.
    pub fn read(&self, read: impl Fn(u64, u64) -> Vec<u64>) -> Picture {
        let mut picture = Picture::default();
        let lowest = (1_u64 << self.va_bits).wrapping_neg();
        self.read_table(&read, &mut picture, self.root, Table { level: self.start_level, va: lowest }, false);
        self.find_broken_runs(&mut picture);
        picture
    }

    fn read_table(
        &self,
        read: &impl Fn(u64, u64) -> Vec<u64>,
        picture: &mut Picture,
        pa: u64,
        table: Table,
        pxn_table: bool,
    ) {
        if picture.tables.insert(pa, table).is_some() {
            picture.flaws.push(format!("table {pa:#x} is linked twice"));
            return;
        }
        let (level, bytes) = (table.level, self.bytes(table.level));
        for (index, value) in (0..).zip(read(pa, self.entries(level))) {
            if value == 0 {
                continue;
            }
            let va = table.va.wrapping_add(index * bytes);
            picture.slots.insert(pa + index * 8, Slot { va, bytes, value });
            match self.kind(value, level) {
                Kind::Nothing => {}
                Kind::Table => {
                    let below = Table { level: level + 1, va };
                    self.read_table(read, picture, self.address(value), below, pxn_table || value >> 59 & 1 == 1);
                }
                Kind::Leaf => {
                    let contiguous = value >> 52 & 1 == 1;
                    let (pa, attributes) = (self.address(value), self.attributes(value));
                    if pa & (bytes - 1) != 0 {
                        picture.flaws.push(format!("{va:#x}: {value:#x} is not aligned to its size"));
                    }
                    picture.leaves.insert(va, Leaf { pa, attributes, bytes, contiguous, pxn_table, level });
                }
                Kind::Malformed => picture.flaws.push(format!("{va:#x}: {value:#x} is no level {level} descriptor")),
            }
        }
    }

    /// All members of a run are there, alike, with consecutive frames, aligned in both addresses.
    fn find_broken_runs(&self, picture: &mut Picture) {
        let broken = picture.leaves.iter().filter(|(va, leaf)| leaf.contiguous && !self.is_in_run(picture, **va, leaf));
        let flaws: Vec<_> = broken.map(|(va, _)| format!("{va:#x}: its contiguous run is broken")).collect();
        picture.flaws.extend(flaws);
    }

    fn is_in_run(&self, picture: &Picture, va: u64, leaf: &Leaf) -> bool {
        let run = self.run(leaf.level);
        let offset = va & (run * leaf.bytes - 1);
        let (start, frame) = (va - offset, leaf.pa.wrapping_sub(offset));
        run > 1
            && frame & (run * leaf.bytes - 1) == 0
            && (0..run)
                .map(|member| member * leaf.bytes)
                .all(|step| picture.leaves.get(&start.wrapping_add(step)) == Some(&Leaf { pa: frame + step, ..*leaf }))
    }
}

impl Picture {
    /// Where `va` is, and its leaf.
    pub fn at(&self, va: u64) -> Option<(u64, &Leaf)> {
        let (start, leaf) = self.leaves.range(..=va).next_back()?;
        let offset = va - start;
        (offset < leaf.bytes).then(|| (leaf.pa + offset, leaf))
    }

    /// Physical addresses of the tables on the way to `va`, by level.
    pub fn path(&self, form: &Form, va: u64) -> BTreeMap<i8, u64> {
        let covers = |table: &Table| {
            let span = u128::from(form.bytes(table.level)) * u128::from(form.entries(table.level));
            u128::from(va.wrapping_sub(table.va)) < span
        };
        self.tables.iter().filter(|(_, table)| covers(table)).map(|(pa, table)| (table.level, *pa)).collect()
    }
}

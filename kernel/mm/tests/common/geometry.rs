//! The rows of the architecture's geometry table, and where things are in each: windows, boot RAM, places for devices.

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::GranuleSize::{self, K4, K16, K64};
use vmemmap::layout::Layout;
use vmemmap::regime::Regime;

use super::abstraction::Form;
use super::{GIB, MIB};

/// A row: granule, bits of input address, level and entries of the root.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub granule: GranuleSize,
    pub va_bits: u32,
    pub start_level: i8,
    pub root_entries: u64,
}

const fn row(granule: GranuleSize, va_bits: u32, start_level: i8, root_entries: u64) -> Row {
    Row { granule, va_bits, start_level, root_entries }
}

/// All of them. 52 bits are those of `FEAT_LPA2` at 4K and 16K, of `FEAT_LPA` at 64K.
pub const ROWS: [Row; 18] = [
    row(K4, 36, 1, 64),
    row(K4, 39, 1, 512),
    row(K4, 42, 0, 8),
    row(K4, 47, 0, 256),
    row(K4, 48, 0, 512),
    row(K4, 52, -1, 16),
    row(K16, 36, 2, 2048),
    row(K16, 39, 1, 8),
    row(K16, 42, 1, 64),
    row(K16, 47, 1, 2048),
    row(K16, 48, 0, 2),
    row(K16, 52, 0, 32),
    row(K64, 36, 2, 128),
    row(K64, 39, 2, 1024),
    row(K64, 42, 2, 8192),
    row(K64, 47, 1, 32),
    row(K64, 48, 1, 64),
    row(K64, 52, 1, 1024),
];

/// The physical address that both windows start with.
pub const MEMSTART: u64 = GIB;
/// Boot RAM from memstart on, for whom wants some: it ends in the middle of a section at every granule.
pub const BOOT_RAM: u64 = 16 * MIB;
/// What is mapped at the top of the address space, in no window: this much below 2^64.
pub const TOP_BYTES: u64 = 512 * MIB;

/// Where in physical memory devices may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arena {
    /// 3 GiB above memstart.
    Near,
    /// In the last quarter of the linear map: tables of its own, high address bits.
    Far,
    /// Where struct pages are also populated without a hot-plug.
    Bare,
    /// Where boot RAM ends.
    Early,
}

impl Row {
    pub const fn is_wide(self) -> bool {
        self.va_bits == 52
    }

    pub fn regime(self) -> Regime {
        let output = match (self.is_wide(), self.granule) {
            (false, _) => OutputFormat::Bits48,
            (true, K64) => OutputFormat::Lpa,
            (true, _) => OutputFormat::Lpa2,
        };
        Regime::new(self.granule, self.va_bits, output).expect("a row of the table")
    }

    pub const fn pa_bits(self) -> u32 {
        if self.is_wide() { 52 } else { 48 }
    }

    pub const fn form(self, root: u64) -> Form {
        let Self { granule, va_bits, start_level, root_entries } = self;
        Form { shift: granule.shift(), va_bits, wide: self.is_wide(), start_level, root_entries, root }
    }

    /// Linux's windows where it has any; elsewhere a linear map in the lower half and a vmemmap that ends 1 GiB below the top.
    pub fn layout(self, page_shift: u32) -> Layout {
        if page_shift == 6 {
            return Layout::linux(self.granule, self.va_bits, MEMSTART);
        }
        let linear_bytes = 1 << (self.va_bits - 1);
        let vmemmap_bytes = linear_bytes >> self.granule.shift() << page_shift;
        let linear = VirtRange::new(VirtAddr::new(self.linear_start()), linear_bytes);
        let vmemmap = VirtRange::new(VirtAddr::new((GIB + vmemmap_bytes).wrapping_neg()), vmemmap_bytes);
        Layout::new(self.granule, linear, vmemmap, MEMSTART, page_shift)
    }

    const fn linear_start(self) -> u64 {
        (1_u64 << self.va_bits).wrapping_neg()
    }

    /// Where the linear map shows `pa`.
    pub const fn linear(self, pa: u64) -> u64 {
        self.linear_start().wrapping_add(pa - MEMSTART)
    }

    /// As much as whole pages of struct pages describe, and at least 2 MiB.
    pub fn unit(self, page_shift: u32) -> u64 {
        ((self.granule.bytes() >> page_shift) << self.granule.shift()).max(2 * MIB)
    }

    /// What a large leaf maps, and at 4K a section too: ranges of this size and alignment are cheap.
    pub fn big(self, page_shift: u32) -> u64 {
        let block = match self.granule {
            K4 => 128 * MIB,
            K16 => 32 * MIB,
            K64 => 512 * MIB,
        };
        block.max(self.unit(page_shift))
    }

    pub const fn arena(self, arena: Arena) -> u64 {
        MEMSTART
            + match arena {
                Arena::Near => 3 * GIB,
                Arena::Far => 3 << (self.va_bits - 3),
                Arena::Bare => 1 << (self.va_bits - 2),
                Arena::Early => BOOT_RAM,
            }
    }

    /// From one boundary that ranges are to cross to the next: of what a page of struct pages describes, or from the end of
    /// boot RAM to that of its section.
    pub fn stride(self, arena: Arena, page_shift: u32) -> u64 {
        match arena {
            Arena::Early => (1 << self.granule.section_shift()) - BOOT_RAM,
            _ => self.unit(page_shift),
        }
    }
}

pub fn range(start: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), bytes).expect("it ends below 2^64")
}

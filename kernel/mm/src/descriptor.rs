//! One 64-bit translation table descriptor: what it points to, with which attributes, and what its bits say.
//!
//! Valid: bit 0. Bit 1: table (levels above 3) or page (level 3); a block has it clear. An *invalid* descriptor may
//! keep its address: hardware ignores all of its other bits, so an entry can be [parked](Descriptor::parked) while a
//! table is built or until its TLB entries are gone.

use core::fmt;

use crate::addr::PhysAddr;
use crate::granule::{GranuleSize, Level};

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const CONTIGUOUS: u64 = 1 << 52;
/// Bit 55 of a table descriptor is ignored by hardware; ours marks tables that hot-plug allocated and may free.
const OWNED: u64 = 1 << 55;
const SHAREABILITY: u64 = 0b11 << 8;

/// Where a descriptor keeps the bits of its output address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputFormat {
    /// Up to 48 bits, in their own place.
    Bits48,
    /// 52 bits at 64K (`FEAT_LPA`): address bits 51:48 in descriptor bits 15:12.
    Lpa,
    /// 52 bits at 4K and 16K (`FEAT_LPA2`, TCR.DS = 1): address bits 51:50 in 9:8; shareability comes from TCR.
    Lpa2,
}

impl OutputFormat {
    /// The format with 52 bits that a granule has.
    #[must_use]
    #[inline]
    pub const fn wide(granule: GranuleSize) -> Self {
        match granule {
            GranuleSize::K64 => Self::Lpa,
            GranuleSize::K4 | GranuleSize::K16 => Self::Lpa2,
        }
    }

    /// Bits of the largest output address that it can hold: 48 or 52.
    #[must_use]
    #[inline]
    pub const fn most_bits(self) -> u32 {
        match self {
            Self::Bits48 => 48,
            Self::Lpa | Self::Lpa2 => 52,
        }
    }

    /// Bytes from `address` on for whose addresses a descriptor is larger by as much as the address is.
    #[inline]
    pub(crate) const fn bytes_in_step(self, address: PhysAddr) -> u64 {
        let bits = match self {
            Self::Bits48 | Self::Lpa => 48,
            Self::Lpa2 => 50,
        };
        (1 << bits) - (address.value() & ((1 << bits) - 1))
    }

    #[inline]
    const fn pack(self, address: u64) -> u64 {
        match self {
            Self::Bits48 => address,
            Self::Lpa => address & 0x0000_ffff_ffff_ffff | (address >> 48 & 0xf) << 12,
            Self::Lpa2 => address & 0x0003_ffff_ffff_ffff | (address >> 50 & 0x3) << 8,
        }
    }

    #[inline]
    const fn unpack(self, bits: u64, shift: u32) -> u64 {
        let below_48 = bits & 0x0000_ffff_ffff_ffff & !((1 << shift) - 1);
        match self {
            Self::Bits48 => below_48,
            Self::Lpa => below_48 & !0xffff | (bits >> 12 & 0xf) << 48,
            Self::Lpa2 => below_48 | bits & 0x0003_0000_0000_0000 | (bits >> 8 & 0x3) << 50,
        }
    }
}

/// What a leaf allows and what memory it is: every bit of a leaf but its address, type and Contiguous bit.
///
/// The constants are Linux's kernel protections (facts measured on 6.12 and 7.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Normal write-back, read-write, never executable: `PAGE_KERNEL`. DBM and the dirty bit are set as Linux does.
    pub const KERNEL: Self = Self(0x00e8_0000_0000_0700);
    /// The same through memory attribute 1 ("tagged"): Linux's linear map of boot RAM.
    pub const KERNEL_TAGGED: Self = Self(0x00e8_0000_0000_0704);
    /// Normal write-back, read-only, never executable.
    pub const KERNEL_READ_ONLY: Self = Self(0x00e0_0000_0000_0780);
    /// Normal write-back, read-only, executable at EL1 only.
    pub const KERNEL_TEXT: Self = Self(0x00c0_0000_0000_0780);
    /// Device-nGnRnE (memory attribute 3), read-write, never executable: a window of another device.
    pub const DEVICE_STRICT: Self = Self(0x00e8_0000_0000_070c);
    /// Device-nGnRE (memory attribute 4), read-write, never executable: registers.
    pub const DEVICE: Self = Self(0x00e8_0000_0000_0710);

    /// Attributes from raw descriptor bits; address, type and Contiguous bits are dropped.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & 0xffe8_0000_0000_0ffc)
    }

    /// The number of the memory attribute: which byte of `MAIR_EL1` says what memory it is.
    #[must_use]
    #[inline]
    pub const fn index(self) -> u8 {
        (self.0 >> 2 & 7) as u8
    }

    /// The same with memory attribute `index`, 0 to 7.
    #[must_use]
    #[inline]
    pub const fn with_index(self, index: u8) -> Self {
        Self(self.0 & !(7 << 2) | (index as u64 & 7) << 2)
    }

    /// What is wrong with them for memory that this crate maps and its users write, in words; `None` if they will do. The
    /// memory attribute is not looked at: `MAIR_EL1` says what it means.
    #[must_use]
    pub const fn unfit_for_data(self) -> Option<&'static str> {
        const WRONG: [(u64, u64, &str); 6] = [
            (1 << 6, 0, "EL0 could use it: clear AP[1], bit 6"),
            (1 << 7, 0, "it is read-only: clear AP[2], bit 7"),
            (1 << 10, 1 << 10, "every access would fault: set AF, bit 10"),
            (1 << 11, 0, "it is not global: clear nG, bit 11"),
            (1 << 53, 1 << 53, "EL1 could execute it: set PXN, bit 53"),
            (1 << 54, 1 << 54, "EL0 could execute it: set UXN, bit 54"),
        ];
        let mut index = 0;
        while index < WRONG.len() {
            let (bit, right, why) = WRONG[index];
            if self.0 & bit != right {
                return Some(why);
            }
            index += 1;
        }
        None
    }

    /// The bits as they stand in a leaf.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// The hierarchical bits of a table descriptor, and whether hot-plug may free the table that it points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableAttributes(u64);

impl TableAttributes {
    /// As Linux 7.3 links memmap tables: `UXNTable`, AF.
    pub const MEMMAP: Self = Self(0x1000_0000_0000_0400);
    /// As Linux 7.3 links linear-map tables: `UXNTable`, `PXNTable`, AF.
    pub const LINEAR: Self = Self(0x1800_0000_0000_0400);
    /// No restriction: tables on the way to kernel text.
    pub const KERNEL: Self = Self(0x0000_0000_0000_0400);

    /// The same for a table that hot-plug allocates, and frees when it becomes empty.
    #[must_use]
    #[inline]
    pub const fn owned(self) -> Self {
        Self(self.0 | OWNED)
    }
}

/// A translation table descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Descriptor(u64);

impl Descriptor {
    /// The empty descriptor: invalid, nothing parked.
    pub const EMPTY: Self = Self(0);

    /// The descriptor with these bits.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A leaf of `level` that maps `frame`: a page at level 3, a block above.
    #[must_use]
    #[inline]
    pub const fn leaf(frame: PhysAddr, level: Level, attributes: Attributes, format: OutputFormat) -> Self {
        let kind = if level.number() == 3 { VALID | TABLE_OR_PAGE } else { VALID };
        let attributes = match format {
            OutputFormat::Lpa2 => attributes.0 & !SHAREABILITY,
            _ => attributes.0,
        };
        Self(format.pack(frame.value()) | attributes | kind)
    }

    /// The same leaf as a member of a contiguous run.
    #[must_use]
    #[inline]
    pub const fn contiguous(self) -> Self {
        Self(self.0 | CONTIGUOUS)
    }

    /// A descriptor that points to the next table.
    #[must_use]
    #[inline]
    pub const fn table(table: PhysAddr, attributes: TableAttributes, format: OutputFormat) -> Self {
        Self(format.pack(table.value()) | attributes.0 | TABLE_OR_PAGE | VALID)
    }

    /// Whether the hardware walks or translates through it.
    #[must_use]
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// Whether it is wholly zero.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it points to a table, standing in a table of `level`.
    #[must_use]
    #[inline]
    pub const fn is_table(self, level: Level) -> bool {
        level.number() < 3 && self.0 & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE
    }

    /// Whether it translates, standing in a table of `level`. (Bits 1:0 = 01 at level 3 are reserved and fault.)
    #[must_use]
    #[inline]
    pub const fn is_leaf(self, level: Level) -> bool {
        let kind = if level.number() == 3 { VALID | TABLE_OR_PAGE } else { VALID };
        self.0 & (VALID | TABLE_OR_PAGE) == kind
    }

    /// Whether the Contiguous bit is set.
    #[must_use]
    #[inline]
    pub const fn is_contiguous(self) -> bool {
        self.0 & CONTIGUOUS != 0
    }

    /// Whether it points to a table that hot-plug allocated ([`TableAttributes::owned`]).
    #[must_use]
    #[inline]
    pub const fn is_owned(self) -> bool {
        self.0 & OWNED != 0
    }

    /// The same descriptor made invalid with its address kept: nothing may use it, and the frame is not forgotten.
    #[must_use]
    #[inline]
    pub const fn parked(self) -> Self {
        Self(self.0 & !VALID)
    }

    /// Whether it is invalid and keeps an address.
    #[must_use]
    #[inline]
    pub const fn is_parked(self) -> bool {
        !self.is_valid() && !self.is_empty()
    }

    /// The parked descriptor made valid.
    #[must_use]
    #[inline]
    pub const fn unparked(self) -> Self {
        Self(self.0 | VALID)
    }

    /// The address that it holds: of the next table, of the frame, or of what is parked.
    #[must_use]
    #[inline]
    pub const fn address(self, granule: GranuleSize, format: OutputFormat) -> PhysAddr {
        PhysAddr::new(format.unpack(self.0, granule.shift()))
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_linuxs_bit_for_bit() {
        let leaf = |pa, level| Descriptor::leaf(PhysAddr::new(pa), level, Attributes::KERNEL, OutputFormat::Bits48);
        assert_eq!(leaf(0x1_0001_0000, Level::L3).bits(), 0x00e8_0001_0001_0703);
        assert_eq!(leaf(0x1_0020_0000, Level::L2).bits(), 0x00e8_0001_0020_0701);
        assert_eq!(leaf(0x1_0000_0000, Level::L2).contiguous().bits(), 0x00f8_0001_0000_0701);
    }

    #[test]
    fn high_address_bits_go_where_the_format_says() {
        let pa = PhysAddr::new(0x000f_1234_5678_0000);
        let lpa = Descriptor::leaf(pa, Level::L3, Attributes::KERNEL, OutputFormat::Lpa);
        assert_eq!(lpa.bits(), 0x00e8_1234_5678_f703);
        assert_eq!(lpa.address(GranuleSize::K64, OutputFormat::Lpa), pa);
        let low = PhysAddr::new(0x0004_1234_5678_0000);
        let lpa2 = Descriptor::leaf(low, Level::L3, Attributes::KERNEL, OutputFormat::Lpa2);
        assert_eq!(lpa2.bits(), 0x00e8_1234_5678_0503, "bits 51:50 are 01: nothing of SH = 11 is left");
        let lpa2 = Descriptor::leaf(pa, Level::L3, Attributes::KERNEL, OutputFormat::Lpa2);
        assert_eq!(lpa2.bits(), 0x00eb_1234_5678_0703, "SH is replaced by address bits 51:50");
        assert_eq!(lpa2.address(GranuleSize::K4, OutputFormat::Lpa2), pa);
    }

    #[test]
    fn descriptors_grow_in_step_with_addresses_up_to_where_their_bits_part() {
        for (format, step, end) in [(OutputFormat::Lpa, 0x1_0000, 1 << 48), (OutputFormat::Lpa2, 0x1000, 3 << 50)] {
            let leaf = |pa| Descriptor::leaf(PhysAddr::new(pa), Level::L3, Attributes::KERNEL, format).bits();
            let first = end - 2 * step;
            assert_eq!(format.bytes_in_step(PhysAddr::new(first)), 2 * step);
            assert_eq!(leaf(first) + step, leaf(end - step));
            assert_ne!(leaf(end - step) + step, leaf(end), "{format:?}");
            assert_eq!(leaf(end) + step, leaf(end + step));
        }
    }

    #[test]
    fn a_parked_descriptor_is_invalid_and_remembers_its_address() {
        let table =
            Descriptor::table(PhysAddr::new(0x4321_0000), TableAttributes::MEMMAP.owned(), OutputFormat::Bits48);
        assert!(table.is_owned() && table.is_table(Level::L2) && !table.is_table(Level::L3));
        let parked = table.parked();
        assert!(!parked.is_valid() && parked.is_parked() && !parked.is_leaf(Level::L2));
        assert_eq!(parked.address(GranuleSize::K64, OutputFormat::Bits48), PhysAddr::new(0x4321_0000));
        assert_eq!(parked.unparked(), table);
    }

    #[test]
    fn bits_01_at_level_3_are_no_leaf() {
        assert!(!Descriptor::from_bits(0x00e8_0001_0001_0701).is_leaf(Level::L3));
        assert!(Descriptor::from_bits(0x00e8_0001_0020_0701).is_leaf(Level::L2));
    }
}

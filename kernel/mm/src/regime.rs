//! The translation regime of the kernel half: granule, input and output sizes, and the system register values that
//! follow from them. Boot only writes what is computed here.
//!
//! Sources: Arm ARM `TCR_EL1`, `TTBR1_EL1` (RKBLCR for the root's alignment); Linux's register values for the rest.

use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::OutputFormat;
use crate::granule::{GranuleSize, Level};

/// `MAIR_EL1`: attributes 0 and 1 Normal write-back, 2 Normal non-cacheable, 3 Device-nGnRnE, 4 Device-nGnRE.
/// A kernel with another gives its layout other [attributes](crate::layout::Layout::attributes).
pub const MAIR: u64 = 0x0000_0004_0044_ffff;

/// How wide `TTBR0` is configured while boot needs it: 48 bits, as in Linux.
pub const TTBR0_VA_BITS: u32 = 48;

/// How an address of the kernel half is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Regime {
    granule: GranuleSize,
    va_bits: u32,
    output: OutputFormat,
    /// Follows from the others: every walk asks for it.
    start_level: Level,
}

/// The system registers that make a CPU translate the kernel half by a root table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// `MAIR_EL1`.
    pub mair: u64,
    /// `TCR_EL1`, with both halves walkable.
    pub tcr: u64,
    /// `TTBR1_EL1`: ASID 0, not shared between CPUs.
    pub ttbr1: u64,
}

/// Why a [`Regime`] can't be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegimeError {
    /// Fewer bits than the smallest or more than the largest input size.
    #[error("{va_bits} bits of virtual address: {granule} tables take 25 to {most} bits")]
    VaBits {
        /// What was asked.
        va_bits: u32,
        /// For which granule.
        granule: GranuleSize,
        /// The largest input size that the output format allows.
        most: u32,
    },
    /// The output format belongs to another granule.
    #[error("{output:?} output addresses do not exist at {granule}: Lpa is for 64K, Lpa2 for 4K and 16K")]
    Output {
        /// What was asked.
        output: OutputFormat,
        /// For which granule.
        granule: GranuleSize,
    },
}

impl Regime {
    /// The regime with this granule, input size and output format.
    ///
    /// # Errors
    ///
    /// [`RegimeError::VaBits`] outside 25..=48 bits (52 with a 52-bit output format: LVA, LPA2), [`RegimeError::Output`]
    /// if the granule does not have the output format.
    #[inline]
    pub const fn new(granule: GranuleSize, va_bits: u32, output: OutputFormat) -> Result<Self, RegimeError> {
        let fits = match output {
            OutputFormat::Bits48 => true,
            OutputFormat::Lpa => matches!(granule, GranuleSize::K64),
            OutputFormat::Lpa2 => !matches!(granule, GranuleSize::K64),
        };
        if !fits {
            return Err(RegimeError::Output { output, granule });
        }
        let most = output.most_bits();
        if va_bits < 25 || va_bits > most {
            return Err(RegimeError::VaBits { va_bits, granule, most });
        }
        Ok(Self { granule, va_bits, output, start_level: start_level(granule, va_bits) })
    }

    /// The regime with this granule and input size, and with 52-bit descriptors only where that many bits of input need
    /// them: boot's.
    ///
    /// # Errors
    ///
    /// [`RegimeError::VaBits`] outside 25..=52 bits.
    #[inline]
    pub const fn of_size(granule: GranuleSize, va_bits: u32) -> Result<Self, RegimeError> {
        let output = if va_bits > 48 { OutputFormat::wide(granule) } else { OutputFormat::Bits48 };
        Self::new(granule, va_bits, output)
    }

    /// The same where its granule is known when the code is compiled: all that follows from it is then, too.
    #[inline]
    pub(crate) const fn at(self, granule: GranuleSize) -> Self {
        Self { granule, ..self }
    }

    /// The granule.
    #[must_use]
    #[inline]
    pub const fn granule(self) -> GranuleSize {
        self.granule
    }

    /// Bits of an input address.
    #[must_use]
    #[inline]
    pub const fn va_bits(self) -> u32 {
        self.va_bits
    }

    /// Where descriptors keep output addresses.
    #[must_use]
    #[inline]
    pub const fn output(self) -> OutputFormat {
        self.output
    }

    /// The level of the root: 4 − ⌈(VA − granule shift) / (granule shift − 3)⌉.
    #[must_use]
    #[inline]
    pub const fn start_level(self) -> Level {
        self.start_level
    }

    /// Descriptors in a table of `level`: the root may have fewer than the others.
    #[must_use]
    #[inline]
    pub const fn entries(self, level: Level) -> u64 {
        if level.number() == self.start_level().number() {
            1 << (self.va_bits - self.granule.level_shift(level))
        } else {
            self.granule.entries()
        }
    }

    /// Bytes of the root table, which is also its alignment but for the floor of [`Regime::root_alignment`].
    #[must_use]
    #[inline]
    pub const fn root_bytes(self) -> u64 {
        self.entries(self.start_level()) * 8
    }

    /// Alignment of the root in bytes: its own size, and never below 64 (RKBLCR asks that above 48 bits of output; we
    /// always keep it).
    #[must_use]
    #[inline]
    pub const fn root_alignment(self) -> u64 {
        if self.root_bytes() < 64 { 64 } else { self.root_bytes() }
    }

    /// Bytes that a whole table of `level` translates.
    #[must_use]
    #[inline]
    pub const fn table_span(self, level: Level) -> u64 {
        self.entries(level) << self.granule.level_shift(level)
    }

    /// Which descriptor of a table of `level` translates `va`.
    #[must_use]
    #[inline]
    pub const fn index(self, va: VirtAddr, level: Level) -> u64 {
        va.value() >> self.granule.level_shift(level) & (self.entries(level) - 1)
    }

    /// Whether a block may stand at `level`: 4K L2, L1 (L0 with LPA2); 16K L2 (L1 with LPA2); 64K L2 (L1 with LPA).
    #[must_use]
    #[inline]
    pub const fn has_block(self, level: Level) -> bool {
        let wide = !matches!(self.output, OutputFormat::Bits48);
        match (self.granule, level.number()) {
            (_, 2) | (GranuleSize::K4, 1) => true,
            (GranuleSize::K4, 0) | (GranuleSize::K16 | GranuleSize::K64, 1) => wide,
            _ => false,
        }
    }

    /// First address of the kernel half: −2^VA.
    #[must_use]
    #[inline]
    pub const fn lowest(self) -> VirtAddr {
        VirtAddr::new((1_u64 << self.va_bits).wrapping_neg())
    }

    /// What a CPU's registers hold when it translates by `root`; `ips` as for [`Regime::tcr`].
    #[must_use]
    #[inline]
    pub const fn registers(self, root: PhysAddr, ips: u64) -> Registers {
        // Above 48 bits of output, bits 51:48 of the root stand in bits 5:2.
        let root = root.value() & 0x0000_ffff_ffff_ffff | (root.value() >> 48 & 0xf) << 2;
        Registers { mair: MAIR, tcr: self.tcr(ips), ttbr1: root }
    }

    /// The root that a value of `TTBR1_EL1` names: what [`Regime::registers`] packed.
    #[must_use]
    #[inline]
    pub const fn root(self, ttbr1: u64) -> PhysAddr {
        let low = ttbr1 & 0x0000_ffff_ffff_ffff & !(self.root_alignment() - 1);
        let high = if self.output.most_bits() > 48 { (ttbr1 >> 2 & 0xf) << 48 } else { 0 };
        PhysAddr::new(low | high)
    }

    /// `TCR_EL1` with both halves walkable and hardware updates of AF and dirty state off; `ips` is the encoding of the
    /// output size (0 = 32 bits to 6 = 52 bits). Note that `TG1` has another encoding than `TG0`.
    #[must_use]
    #[inline]
    pub const fn tcr(self, ips: u64) -> u64 {
        const WRITE_BACK_INNER_SHAREABLE: u64 = 1 << 8 | 1 << 10 | 3 << 12 | 1 << 24 | 1 << 26 | 3 << 28;
        const ASID_FROM_TTBR1: u64 = 1 << 22;
        const ASID_16_BITS_AND_TBI0: u64 = 1 << 36 | 1 << 37;
        let (tg0, tg1) = match self.granule {
            GranuleSize::K4 => (0, 2),
            GranuleSize::K16 => (2, 1),
            GranuleSize::K64 => (1, 3),
        };
        let ds = matches!(self.output, OutputFormat::Lpa2) as u64;
        (64 - TTBR0_VA_BITS) as u64
            | tg0 << 14
            | ((64 - self.va_bits) as u64) << 16
            | tg1 << 30
            | ips << 32
            | ds << 59
            | WRITE_BACK_INNER_SHAREABLE
            | ASID_FROM_TTBR1
            | ASID_16_BITS_AND_TBI0
    }
}

const fn start_level(granule: GranuleSize, va_bits: u32) -> Level {
    let bits = va_bits - granule.shift();
    #[allow(clippy::cast_possible_wrap, reason = "1 to 5 levels")]
    let levels = bits.div_ceil(granule.index_bits()) as i8;
    Level::new(4 - levels).expect("a regime that exists has 1 to 5 levels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use GranuleSize::{K4, K16, K64};

    fn regime(granule: GranuleSize, va_bits: u32) -> Regime {
        Regime::of_size(granule, va_bits).unwrap()
    }

    /// Every row of the geometry table: granule, VA bits, start level, root entries, root bytes.
    #[test]
    fn roots_have_the_geometry_of_the_architecture() {
        let rows = [
            (K4, 36, 1, 64, 512),
            (K4, 39, 1, 512, 4096),
            (K4, 42, 0, 8, 64),
            (K4, 47, 0, 256, 2048),
            (K4, 48, 0, 512, 4096),
            (K4, 52, -1, 16, 128),
            (K16, 36, 2, 2048, 16384),
            (K16, 39, 1, 8, 64),
            (K16, 42, 1, 64, 512),
            (K16, 47, 1, 2048, 16384),
            (K16, 48, 0, 2, 16),
            (K16, 52, 0, 32, 256),
            (K64, 36, 2, 128, 1024),
            (K64, 39, 2, 1024, 8192),
            (K64, 42, 2, 8192, 65536),
            (K64, 47, 1, 32, 256),
            (K64, 48, 1, 64, 512),
            (K64, 52, 1, 1024, 8192),
        ];
        for (granule, bits, level, entries, bytes) in rows {
            let r = regime(granule, bits);
            let start = r.start_level();
            assert_eq!((start.number(), r.entries(start), r.root_bytes()), (level, entries, bytes), "{granule}/{bits}");
        }
        assert_eq!(regime(K16, 48).root_alignment(), 64);
    }

    /// Linux's values before IPS, HA and the optional features.
    #[test]
    fn tcr_is_linuxs_but_for_hardware_updates() {
        let rows = [
            (K4, 48, 0x30_b550_3510),
            (K4, 39, 0x30_b559_3510),
            (K16, 48, 0x30_7550_b510),
            (K16, 47, 0x30_7551_b510),
            (K64, 48, 0x30_f550_7510),
            (K64, 42, 0x30_f556_7510),
        ];
        for (granule, bits, tcr) in rows {
            assert_eq!(regime(granule, bits).tcr(0), tcr, "{granule}/{bits}");
        }
        assert_eq!(regime(K64, 48).tcr(5), 0x0000_01b5_f550_7510 & !(0b11 << 39), "measured on Linux, less HA and HD");
    }

    /// T1SZ 12, T0SZ 16 as ever, IPS 6; DS (bit 59) changes the descriptors of 4K and 16K, and is RES0 at 64K.
    #[test]
    fn tcr_of_52_bits_asks_for_the_descriptors_that_the_format_writes() {
        let rows = [
            (K4, 0x0800_0036_b54c_3510, OutputFormat::Lpa2),
            (K16, 0x0800_0036_754c_b510, OutputFormat::Lpa2),
            (K64, 0x0000_0036_f54c_7510, OutputFormat::Lpa),
        ];
        for (granule, tcr, output) in rows {
            let regime = regime(granule, 52);
            assert_eq!((regime.tcr(6), regime.output()), (tcr, output), "{granule}");
        }
    }

    /// RKBLCR: bits 51:48 of the root in bits 5:2, which a root of 64 bytes or more leaves free.
    #[test]
    fn a_root_above_48_bits_is_folded_into_ttbr1() {
        let root = PhysAddr::new(0x000a_0000_4000_0000);
        let ttbr1 = regime(K4, 52).registers(root, 6).ttbr1;
        assert_eq!(ttbr1, 0x4000_0000 | 0xa << 2);
        assert_eq!(regime(K4, 52).root(ttbr1), root);
        assert_eq!(regime(K4, 48).root(0xabcd_0000_4000_0001).value(), 0x4000_0000, "ASID and CnP are no address");
    }

    /// 64K: L1 63, L2 7934, L3 48; 16K: 1, 2039, 2016, 768; 4K: 507, 511, 24: the walk of Linux's first vectors.
    #[test]
    fn addresses_are_cut_as_linux_walks_them() {
        let indices = |r: Regime, va, levels: &[i8]| -> Vec<u64> {
            levels.iter().map(|&l| r.index(VirtAddr::new(va), Level::new(l).unwrap())).collect()
        };
        assert_eq!(indices(regime(K64, 48), 0xffff_ffdf_c030_0000, &[1, 2, 3]), [63, 7934, 48]);
        assert_eq!(indices(regime(K16, 48), 0xffff_ff7f_c0c0_0000, &[0, 1, 2, 3]), [1, 2039, 2016, 768]);
        assert_eq!(indices(regime(K4, 48), 0xffff_fdff_c300_0000, &[0, 1, 2]), [507, 511, 24]);
    }

    #[test]
    fn blocks_stand_only_where_they_may() {
        assert!(regime(K4, 48).has_block(Level::L1) && !regime(K4, 48).has_block(Level::L0));
        assert!(!regime(K16, 48).has_block(Level::L1) && !regime(K64, 48).has_block(Level::L1));
        assert!(regime(K64, 52).has_block(Level::L1) && regime(K4, 52).has_block(Level::L0));
        assert!(!regime(K4, 48).has_block(Level::L3));
    }

    #[test]
    fn impossible_regimes_are_refused_with_the_reason() {
        assert!(matches!(Regime::new(K4, 52, OutputFormat::Bits48), Err(RegimeError::VaBits { most: 48, .. })));
        assert!(matches!(Regime::new(K4, 48, OutputFormat::Lpa), Err(RegimeError::Output { .. })));
    }
}

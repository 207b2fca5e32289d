//! The translation granule and every number that follows from its shift.
//!
//! [`GranuleSize`] is the value (chosen at boot), [`Granule`] the same as a type, so that code generic over it is
//! compiled once for each size with all of these numbers as constants.

use core::fmt;

/// A level of the translation table walk: -1 (only with 52-bit input at 4K) to 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Level(i8);

impl Level {
    /// The level of pages.
    pub const L3: Self = Self(3);
    /// The level of the smallest blocks.
    pub const L2: Self = Self(2);
    /// The level above [`Level::L2`].
    pub const L1: Self = Self(1);
    /// The level above [`Level::L1`].
    pub const L0: Self = Self(0);

    /// The level with this number; `None` outside -1..=3.
    #[must_use]
    #[inline]
    pub const fn new(number: i8) -> Option<Self> {
        if number >= -1 && number <= 3 { Some(Self(number)) } else { None }
    }

    /// Its number, -1 to 3.
    #[must_use]
    #[inline]
    pub const fn number(self) -> i8 {
        self.0
    }

    /// The level whose tables this level's table descriptors point to; level 3 is its own.
    #[must_use]
    #[inline]
    pub const fn child(self) -> Self {
        if self.0 == 3 { self } else { Self(self.0 + 1) }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

/// The three granules of the architecture, as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GranuleSize {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl GranuleSize {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::K4, Self::K16, Self::K64];

    /// log2 of the page size in bytes.
    #[must_use]
    #[inline]
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// Bytes in a page, and in a whole translation table.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// Descriptors in a whole translation table (512, 2048, 8192).
    #[must_use]
    #[inline]
    pub const fn entries(self) -> u64 {
        1 << self.index_bits()
    }

    /// Address bits that one level resolves (9, 11, 13).
    #[must_use]
    #[inline]
    pub const fn index_bits(self) -> u32 {
        self.shift() - 3
    }

    /// log2 of the bytes that one descriptor of `level` translates.
    #[must_use]
    #[inline]
    pub const fn level_shift(self, level: Level) -> u32 {
        #[allow(clippy::cast_sign_loss, reason = "a level is at most 3")]
        let above_pages = (3 - level.0) as u32;
        above_pages * self.index_bits() + self.shift()
    }

    /// Members of a contiguous run at `level`; `None` where the Contiguous bit is RES0 or not used.
    ///
    /// Table D8-104: 16 at 4K; 128 at 16K level 3 and 32 at level 2; 32 at 64K.
    #[must_use]
    #[inline]
    pub const fn contiguous_entries(self, level: Level) -> Option<u64> {
        match (self, level.0) {
            (Self::K4, 1..=3) => Some(16),
            (Self::K16, 3) => Some(128),
            (Self::K16, 2) | (Self::K64, 2 | 3) => Some(32),
            _ => None,
        }
    }

    /// log2 of a memory section's bytes: 128 MiB at 4K and 16K, 512 MiB at 64K (Linux's `SECTION_SIZE_BITS`).
    #[must_use]
    #[inline]
    pub const fn section_shift(self) -> u32 {
        match self {
            Self::K4 | Self::K16 => 27,
            Self::K64 => 29,
        }
    }

    /// Sub-sections of 2 MiB in a section (64, 64, 256).
    #[must_use]
    #[inline]
    pub const fn subsections_per_section(self) -> u64 {
        1 << (self.section_shift() - SUBSECTION_SHIFT)
    }

    /// Short name as users type it: `4k`, `16k`, `64k`.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::K4 => "4k",
            Self::K16 => "16k",
            Self::K64 => "64k",
        }
    }
}

impl fmt::Display for GranuleSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::K4 => "4K",
            Self::K16 => "16K",
            Self::K64 => "64K",
        })
    }
}

/// log2 of a sub-section's bytes, the unit of hot-plug: 2 MiB at every granule (Linux's `SUBSECTION_SHIFT`).
pub const SUBSECTION_SHIFT: u32 = 21;

/// Bytes of a sub-section.
pub const SUBSECTION_BYTES: u64 = 1 << SUBSECTION_SHIFT;

mod sealed {
    pub trait Sealed {}
}

/// A granule as a type. Sealed: the architecture has three.
pub trait Granule: sealed::Sealed + Copy + core::fmt::Debug + 'static {
    /// The same as a value.
    const SIZE: GranuleSize;
}

macro_rules! granule {
    ($(#[$doc:meta] $name:ident)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl sealed::Sealed for $name {}

        impl Granule for $name {
            const SIZE: GranuleSize = GranuleSize::$name;
        }
    )*};
}

granule! {
    /// 4 KiB pages, 512 descriptors a table.
    K4
    /// 16 KiB pages, 2048 descriptors a table.
    K16
    /// 64 KiB pages, 8192 descriptors a table.
    K64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Level sizes of facts table 0: 4K/2M/1G/512G, 16K/32M/64G/128T, 64K/512M/4T.
    #[test]
    fn level_sizes_are_the_architectures() {
        let shifts = |g: GranuleSize| [3, 2, 1, 0].map(|l| g.level_shift(Level::new(l).unwrap()));
        assert_eq!(shifts(GranuleSize::K4), [12, 21, 30, 39]);
        assert_eq!(shifts(GranuleSize::K16), [14, 25, 36, 47]);
        assert_eq!(shifts(GranuleSize::K64), [16, 29, 42, 55]);
    }

    /// Contiguous spans: 64K/32M, 2M/1G, 2M/16G.
    #[test]
    fn contiguous_runs_span_what_the_table_says() {
        let span = |g: GranuleSize, l: Level| g.contiguous_entries(l).unwrap() << g.level_shift(l);
        assert_eq!(span(GranuleSize::K4, Level::L3), 64 << 10);
        assert_eq!(span(GranuleSize::K4, Level::L2), 32 << 20);
        assert_eq!(span(GranuleSize::K16, Level::L3), 2 << 20);
        assert_eq!(span(GranuleSize::K16, Level::L2), 1 << 30);
        assert_eq!(span(GranuleSize::K64, Level::L3), 2 << 20);
        assert_eq!(span(GranuleSize::K64, Level::L2), 16 << 30);
        assert_eq!(GranuleSize::K16.contiguous_entries(Level::L1), None);
        assert_eq!(GranuleSize::K4.contiguous_entries(Level::L0), None);
    }

    #[test]
    fn only_levels_minus_one_to_three_exist() {
        assert_eq!(Level::new(-2), None);
        assert_eq!(Level::new(4), None);
        assert_eq!(Level::L3.child(), Level::L3);
        assert_eq!(Level::new(-1).unwrap().child(), Level::L0);
    }
}

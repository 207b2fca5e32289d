//! TLB invalidation by range (`FEAT_TLBIRANGE`): the operand, and the fewest operations that cover a number of pages.

use super::Operand;
use crate::addr::VirtAddr;
use crate::descriptor::OutputFormat;
use crate::granule::GranuleSize;
use crate::regime::Regime;

/// The register operand of an invalidation by range (IQPHNP).
///
/// (NUM + 1) × 2^(5 × SCALE + 1) pages of the granule in TG from `BaseADDR` on. The ASID in bits 63:48 and the level hint in
/// 38:37 stay zero. `BaseADDR`, bits 36:0, counts pages; but 64 KiB at every granule under LPA2, so that a range can only start
/// at a multiple of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeOperand(u64);

impl RangeOperand {
    /// Pages of the largest range: 32 × 2^16.
    pub const MOST_PAGES: u64 = 1 << 21;

    /// The operand for the largest range from `start` on that has no more than `pages` pages, and how many it has: more
    /// than half of them, or [`MOST_PAGES`](Self::MOST_PAGES). `None` for fewer than two pages, and where no range can start.
    #[must_use]
    pub const fn longest(regime: Regime, start: VirtAddr, pages: u64) -> Option<(Self, u64)> {
        if pages < 2 || !Self::can_start(regime, start) {
            return None;
        }
        // Of 2, 64, 2048 and 65536 pages the largest that there are.
        let (largest, scale) = (3, (pages.ilog2() as u64 - 1) / 5);
        let scale = if scale < largest { scale } else { largest };
        let units = pages >> (5 * scale + 1);
        let units = if units < 32 { units } else { 32 };
        let base = start.value() >> base_shift(regime) & ((1 << 37) - 1);
        let operand = Self(tg(regime.granule()) << 46 | scale << 44 | (units - 1) << 39 | base);
        Some((operand, units << (5 * scale + 1)))
    }

    /// Whether a range can start at `start`.
    const fn can_start(regime: Regime, start: VirtAddr) -> bool {
        start.is_aligned(1 << base_shift(regime))
    }

    /// The register's value.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// log2 of what `BaseADDR` counts: VA\[48:12\], \[50:14\] or \[52:16\] by granule, \[52:16\] at all of them where `TCR_EL1.DS` is 1.
const fn base_shift(regime: Regime) -> u32 {
    if matches!(regime.output(), OutputFormat::Lpa2) { 16 } else { regime.granule().shift() }
}

/// The granule as range operands have it: another encoding than those of `TCR_EL1.TG0` and `TG1`.
const fn tg(granule: GranuleSize) -> u64 {
    match granule {
        GranuleSize::K4 => 1,
        GranuleSize::K16 => 2,
        GranuleSize::K64 => 3,
    }
}

/// One of the operations that cover a number of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cover {
    /// A page, by itself.
    Page(Operand),
    /// A range.
    Range(RangeOperand),
}

/// Operations for `pages` pages from `start` on, and for no other page.
///
/// Where ranges can start at every page, that is one for every 2^21 pages begun, and two for fewer if no range has that
/// many: the last starts within the one before, so as to end with the last page. Under LPA2 pages are covered one by one up
/// to the first multiple of 64 KiB (15 of them at most at 4K, 3 at 16K), then by no more than four ranges beyond those of
/// 2^21 pages, and a page.
pub fn cover(regime: Regime, mut start: VirtAddr, mut pages: u64) -> impl Iterator<Item = Cover> {
    let at = move |start: VirtAddr, page: u64| start.add(page << regime.granule().shift());
    core::iter::from_fn(move || {
        if pages == 0 {
            return None;
        }
        let longest = RangeOperand::longest(regime, start, pages);
        let (cover, covered) =
            longest.map_or((Cover::Page(Operand::new(start)), 1), |(range, covered)| (Cover::Range(range), covered));
        let left = pages - covered;
        // As many again, to the end.
        let overlaps = left > 0 && left < covered && RangeOperand::can_start(regime, at(start, left));
        let step = if overlaps { left } else { covered };
        (start, pages) = (at(start, step), pages - step);
        Some(cover)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(granule: GranuleSize, va_bits: u32, start: u64, pages: u64) -> Option<(u64, u64)> {
        let regime = Regime::of_size(granule, va_bits).unwrap();
        RangeOperand::longest(regime, VirtAddr::new(start), pages).map(|(operand, covered)| (operand.bits(), covered))
    }

    /// By hand from IQPHNP: TG, SCALE, NUM, TTL, `BaseADDR`.
    const fn operand(tg: u64, scale: u64, num: u64, base: u64) -> u64 {
        tg << 46 | scale << 44 | num << 39 | base
    }

    #[test]
    fn an_operand_holds_granule_size_and_base() {
        use GranuleSize::{K4, K16, K64};
        let va = 0xffff_ffdf_c030_0000;
        assert_eq!(longest(K4, 48, va, 2), Some((operand(1, 0, 0, 0x1f_fdfc_0300), 2)));
        assert_eq!(longest(K16, 48, va, 63), Some((operand(2, 0, 30, 0x1f_ff7f_00c0), 62)));
        assert_eq!(longest(K64, 48, va, 64), Some((operand(3, 1, 0, 0x1f_ffdf_c030), 64)));
        assert_eq!(longest(K64, 52, va, 2048), Some((operand(3, 2, 0, 0x1f_ffdf_c030), 2048)));
        assert_eq!(longest(K4, 48, va, 1 << 21), Some((operand(1, 3, 31, 0x1f_fdfc_0300), 1 << 21)));
        assert_eq!(longest(K4, 48, va, u64::MAX >> 12), Some((operand(1, 3, 31, 0x1f_fdfc_0300), 1 << 21)));
    }

    #[test]
    fn under_lpa2_a_range_starts_at_a_multiple_of_64_kib_and_its_base_counts_those() {
        use GranuleSize::{K4, K16};
        let va = 0xffff_ffdf_c030_0000;
        assert_eq!(longest(K4, 52, va, 32), Some((operand(1, 0, 15, 0x1f_ffdf_c030), 32)));
        assert_eq!(longest(K16, 52, va, 32), Some((operand(2, 0, 15, 0x1f_ffdf_c030), 32)));
        for (granule, step) in [(K4, 0x1000), (K16, 0x4000)] {
            assert_eq!(longest(granule, 52, va + step, 32), None);
            assert!(longest(granule, 48, va + step, 32).is_some());
        }
    }

    #[test]
    fn one_page_is_no_range() {
        assert_eq!(longest(GranuleSize::K4, 48, 0xffff_ffdf_c030_0000, 1), None);
    }
}

//! What a TLB invalidation covers, read from its bits.

use crate::descriptor::OutputFormat;
use crate::granule::{GranuleSize, Level};
use crate::regime::Regime;

/// A broadcast invalidation of any ASID. The others leave something behind somewhere and count for nothing here.
#[derive(Clone, Copy, Debug)]
pub struct Invalidation {
    /// Whether it takes table entries too.
    any_level: bool,
    /// Leaves of other levels stay.
    hint: Option<Level>,
    /// First and last address; `None` for everything.
    span: Option<(u64, u64)>,
}

impl Invalidation {
    pub fn decode(regime: Regime, op: &str, operand: Option<u64>) -> Option<Self> {
        let name = op.strip_suffix("is").or_else(|| op.strip_suffix("os"))?;
        match (name, operand) {
            ("vmalle1", _) => Some(Self { any_level: true, hint: None, span: None }),
            ("vaae1" | "vaale1", Some(bits)) => Self::single(regime, name == "vaae1", bits),
            ("rvaae1" | "rvaale1", Some(bits)) => Self::range(regime, name == "rvaae1", bits),
            _ => None,
        }
    }

    /// IZVNJG: VA\[55:12\] in bits 43:0 at every granule, TTL in 47:44.
    fn single(regime: Regime, any_level: bool, bits: u64) -> Option<Self> {
        let page = regime.granule().bytes();
        let first = sign_extended(bits << 12, 55) & !(page - 1);
        let (granule, level) = (bits >> 46 & 3, bits >> 44 & 3);
        if granule != 0 && granule != code(regime.granule()) {
            return None;
        }
        let hint = if granule == 0 { None } else { hinted(regime, level) };
        Some(Self { any_level, hint, span: Some((first, first + (page - 1))) })
    }

    /// IQPHNP: TG in bits 47:46, SCALE in 45:44, NUM in 43:39, TTL in 38:37, the base in 36:0.
    fn range(regime: Regime, any_level: bool, bits: u64) -> Option<Self> {
        let granule = regime.granule();
        if bits >> 46 & 3 != code(granule) {
            return None;
        }
        let shift = if regime.output() == OutputFormat::Lpa2 { 16 } else { granule.shift() };
        let (scale, num) = (bits >> 44 & 3, bits >> 39 & 31);
        let first = sign_extended((bits & ((1 << 37) - 1)) << shift, 36 + shift);
        let bytes = (num + 1) << (5 * scale + 1) << granule.shift();
        let hint = match bits >> 37 & 3 {
            0 => None,
            level => hinted(regime, level),
        };
        Some(Self { any_level, hint, span: Some((first, first.saturating_add(bytes - 1))) })
    }

    /// Its only page, if it names one.
    pub fn page(&self, regime: Regime) -> Option<u64> {
        self.span.filter(|(first, last)| last - first < regime.granule().bytes()).map(|(first, _)| first)
    }

    /// Whether every CPU forgets a descriptor of `level` that translated addresses from `va` on, once it is complete.
    pub fn covers(&self, regime: Regime, level: Level, va: u64, is_link: bool) -> bool {
        let last = va + ((1_u64 << regime.granule().level_shift(level)) - 1);
        let in_span = self.span.is_none_or(|(first, end)| first <= last && va <= end);
        let kind =
            if is_link { self.any_level && self.hint.is_none() } else { self.hint.is_none_or(|hint| hint == level) };
        in_span && kind
    }
}

const fn sign_extended(value: u64, top: u32) -> u64 {
    let above = 63 - top;
    ((value << above).cast_signed() >> above).cast_unsigned()
}

const fn code(granule: GranuleSize) -> u64 {
    match granule {
        GranuleSize::K4 => 1,
        GranuleSize::K16 => 2,
        GranuleSize::K64 => 3,
    }
}

/// The level of a hint; where it is reserved there is none.
fn hinted(regime: Regime, level: u64) -> Option<Level> {
    let wide = regime.output() != OutputFormat::Bits48;
    let reserved = match (regime.granule(), level) {
        (GranuleSize::K4, 0) | (GranuleSize::K16, 1) => !wide,
        (_, level) => level == 0,
    };
    if reserved { None } else { Level::new(level as i8) }
}

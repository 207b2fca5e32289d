//! What a TLB invalidation reaches, read from its name and the bits of its operand register (IZVNJG, IQPHNP).

use super::geometry::Geometry;

/// A TLB invalidation, decoded.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of the operation's name")]
pub struct Shot {
    /// First and last address; `None` for all of them.
    pub span: Option<(u64, u64)>,
    /// On every CPU, or on its issuer only.
    pub broadcast: bool,
    /// Broadcast to the outer shareable domain, which a DSB ISH does not complete.
    pub outer: bool,
    /// Last-level forms leave table entries.
    pub last_level: bool,
    /// Forms for one ASID leave table entries, which may carry any.
    pub one_asid: bool,
    /// The level of the leaf, if it is hinted.
    pub hint: Option<i8>,
    /// A range form for another granule.
    pub other_granule: bool,
}

/// Decodes `name` with `operand`; an error names what is wrong with it, beside what it does all the same.
pub fn decode(geometry: Geometry, name: &str, operand: Option<u64>) -> (Option<Shot>, Option<&'static str>) {
    let (base, broadcast, outer) = match (name.strip_suffix("is"), name.strip_suffix("os")) {
        (Some(base), _) => (base, true, false),
        (_, Some(base)) => (base, true, true),
        _ => (name, false, false),
    };
    let all =
        Shot { span: None, broadcast, outer, last_level: false, one_asid: false, hint: None, other_granule: false };
    let (base, is_range) = base.strip_prefix('r').map_or((base, false), |base| (base, true));
    let by_address = match base {
        "vmalle1" if !is_range => return (Some(all), None),
        // Non-global leaves only: nothing of the kernel's.
        "aside1" if !is_range => return (None, None),
        "vaae1" => all,
        "vaale1" => Shot { last_level: true, ..all },
        "vae1" => Shot { one_asid: true, ..all },
        "vale1" => Shot { one_asid: true, last_level: true, ..all },
        _ => return (None, Some("there is no such operation of the EL1&0 regime")),
    };
    let Some(bits) = operand else { return (None, Some("it needs an operand")) };
    let (shot, flaw) = if is_range { range(geometry, by_address, bits) } else { single(geometry, by_address, bits) };
    let asid = !by_address.one_asid && bits >> 48 != 0;
    let canonical = shot.span.is_none_or(|(start, last)| geometry.is_kernel(start) && geometry.is_kernel(last));
    let flaw = match flaw {
        _ if asid => Some("bits 63:48 are RES0 in the forms for every ASID"),
        None if !canonical => Some("it names no address of the kernel half"),
        flaw => flaw,
    };
    (Some(shot), flaw)
}

/// VA\[55:12\] in bits 43:0 at every granule; bit 55 stands for all above it (RJGGKN).
fn single(geometry: Geometry, shot: Shot, bits: u64) -> (Shot, Option<&'static str>) {
    let va = sign_extend(bits << 12, 56) & !(geometry.page_bytes() - 1);
    let (hint, flaw) = match (bits >> 46 & 3, (bits >> 44 & 3) as i8) {
        (0, 0) => (None, None),
        (0, _) => (None, Some("a level is hinted without a granule")),
        (granule, level) if granule == geometry.tlbi_granule() => (is_hint(geometry, level).then_some(level), None),
        // RSQXYZ: then nothing need be invalidated.
        _ => (Some(i8::MIN), Some("the level hint is for another granule")),
    };
    (Shot { span: Some((va, va + (geometry.page_bytes() - 1))), hint, ..shot }, flaw)
}

/// Hints that are reserved count as none.
fn is_hint(geometry: Geometry, level: i8) -> bool {
    match geometry.tlbi_granule() {
        1 => level > 0 || geometry.is_lpa2(),
        2 => level > 1 || level == 1 && geometry.is_lpa2(),
        _ => level > 0,
    }
}

/// `BaseADDR` 36:0, TTL 38:37, NUM 43:39, SCALE 45:44, TG 47:46.
fn range(geometry: Geometry, shot: Shot, bits: u64) -> (Shot, Option<&'static str>) {
    let (number, scale) = (bits >> 39 & 0x1f, bits >> 44 & 3);
    let base_shift = if geometry.is_lpa2() { 16 } else { geometry.page_bytes().trailing_zeros() };
    let base = sign_extend((bits & ((1 << 37) - 1)) << base_shift, 37 + base_shift);
    let bytes = ((number + 1) << (5 * scale + 1)) * geometry.page_bytes();
    let level = (bits >> 37 & 3) as i8;
    let hint = (level != 0).then_some(level);
    let other_granule = bits >> 46 & 3 != geometry.tlbi_granule();
    let flaw = if other_granule {
        Some("TG is not the granule in use")
    } else if base.checked_add(bytes - 1).is_none() {
        Some("the range goes past the top of the address space")
    } else if hint.is_some_and(|level| base & (geometry.bytes(level) - 1) != 0) {
        Some("its base is not aligned to the level that it hints")
    } else {
        None
    };
    let last = base.saturating_add(bytes - 1);
    (Shot { span: Some((base, last)), hint, other_granule, ..shot }, flaw)
}

fn sign_extend(value: u64, bits: u32) -> u64 {
    (value << (64 - bits)).cast_signed().wrapping_shr(64 - bits).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtAddr;
    use crate::descriptor::OutputFormat;
    use crate::granule::{GranuleSize, Level};
    use crate::leaf::{Leaf, Stretch};
    use crate::regime::Regime;
    use crate::testing::thinned;
    use crate::tlb::{Extent, Gather, Reach};
    use crate::tlbi::{Cover, RangeOperand, Tlbi, cover};
    use crate::trace::Header;

    const MOST: u64 = RangeOperand::MOST_PAGES;

    /// Every granule, with the descriptors of 48 bits and with those of 52.
    fn regimes() -> impl Iterator<Item = Regime> {
        let forms =
            |granule| [(48, OutputFormat::Bits48), (52, OutputFormat::wide(granule))].map(|form| (granule, form));
        let all = GranuleSize::ALL.into_iter().flat_map(forms);
        all.map(|(granule, (va_bits, output))| Regime::new(granule, va_bits, output).unwrap())
    }

    /// What an operation reaches: first and last address.
    fn span(regime: Regime, operation: Tlbi) -> (u64, u64) {
        let bits = regime.output().most_bits();
        let header = Header { granule: regime.granule(), va_bits: regime.va_bits(), pa_bits: bits, cpus: 1 };
        let (shot, flaw) = decode(Geometry::new(header), operation.name(), operation.operand());
        assert_eq!(flaw, None, "{regime:?}, {operation:x?}");
        shot.filter(|shot| shot.last_level && shot.broadcast && shot.hint.is_none()).unwrap().span.unwrap()
    }

    /// What the operations reach, in their order.
    fn spans(regime: Regime, start: u64, pages: u64) -> Vec<(u64, u64)> {
        let operations = cover(regime, VirtAddr::new(start), pages).map(|cover| match cover {
            Cover::Page(operand) => Tlbi::LastLevel(operand),
            Cover::Range(operand) => Tlbi::LastLevelRange(operand),
        });
        operations.map(|operation| span(regime, operation)).collect()
    }

    /// Whether some range has so many pages: 1 to 32 units of 2, 64, 2048 or 65536.
    fn is_one_range(pages: u64) -> bool {
        [1, 6, 11, 16].iter().any(|unit| (1..=32).any(|count| count << unit == pages))
    }

    /// The fewest operations that there are where ranges can start at every page.
    fn fewest(pages: u64) -> u64 {
        if pages == 1 || is_one_range(pages) { 1 } else { pages.div_ceil(MOST).max(2) }
    }

    /// The most under LPA2.
    fn most_under_lpa2(regime: Regime, start: u64, pages: u64) -> u64 {
        let before = (start.wrapping_neg() % (1 << 16)) >> regime.granule().shift();
        before.min(pages) + pages.saturating_sub(before) / MOST + 4 + 1
    }

    /// All small numbers of pages, and those around the sizes of the units and of the largest range.
    fn lengths() -> impl Iterator<Item = u64> {
        let around = |at: u64| [at - 3, at - 1, at, at + 1, at + 2, at + 17];
        let sizes = [1 << 10, 1 << 11, 3 << 11, 1 << 15, 1 << 16, 31 << 16, 33 << 15, MOST, 2 * MOST, 5 * MOST + 77];
        (1..=300).chain(sizes.into_iter().flat_map(around))
    }

    /// At every offset from 64 KiB, at the bottom of the kernel half, in it, and at its very end.
    fn starts(regime: Regime, pages: u64) -> impl Iterator<Item = u64> {
        let page = regime.granule().bytes();
        let bottom = regime.lowest().value();
        let offsets = (0..=17).map(move |offset| offset * page);
        let last = (pages * page).wrapping_neg();
        offsets.flat_map(move |offset| [bottom + offset, (bottom | 0x7fdf_c030_0000) + offset, last - offset])
    }

    fn check(regime: Regime, start: u64, pages: u64) {
        let name = format!("{regime:?}, {pages} pages from {start:#x}");
        let mut spans = spans(regime, start, pages);
        let operations = spans.len() as u64;
        if regime.output() == OutputFormat::Lpa2 {
            assert!(operations <= most_under_lpa2(regime, start, pages), "{name}: {operations} operations");
        } else {
            assert_eq!(operations, fewest(pages), "{name}");
        }
        spans.sort_unstable();
        let end = spans.iter().fold(0, |end, (first, last)| {
            assert!((start..=start + end).contains(first), "{name}: before the start or behind a gap: {first:#x}");
            end.max(last - start + 1)
        });
        assert_eq!(end, pages * regime.granule().bytes(), "{name}");
    }

    /// As many pages as asked for, to the page, in as few operations as there are.
    #[test]
    fn ranges_reach_what_they_are_made_for_and_nothing_else() {
        for regime in regimes() {
            for pages in thinned(lengths()) {
                for start in thinned(starts(regime, pages)) {
                    check(regime, start, pages);
                }
            }
        }
    }

    /// Numbers that look like chance.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (self.0 >> 33) % end
        }
    }

    /// Stretches of any leaves, some without any, ascending: right behind each other where they are aligned for that, or apart.
    fn any_stretches(regime: Regime, dice: &mut Dice) -> Vec<Stretch> {
        let granule = regime.granule();
        let mut va = regime.lowest().add(dice.below(1 << 20) << 20);
        let stretch = |_| {
            let level = [Level::L3, Level::L2, Level::L1][dice.below(3) as usize];
            let level = if level < Level::L3 && !regime.has_block(level) { Level::L3 } else { level };
            let contiguous = level == Level::L3 && dice.below(3) == 0;
            let leaf = Leaf { level, contiguous };
            let bytes = leaf.descriptors(granule) << granule.level_shift(level);
            va = va.add(dice.below(2) * dice.below(64) * granule.bytes()).align_up(bytes);
            let stretch = Stretch { va, leaf, count: dice.below(if level == Level::L1 { 4 } else { 40 }) };
            va = va.add(stretch.bytes(granule));
            stretch
        };
        (0..6).map(stretch).collect()
    }

    /// First and last address of each descriptor.
    fn descriptors(granule: GranuleSize, stretch: Stretch) -> impl Iterator<Item = (u64, u64)> {
        let bytes = 1 << granule.level_shift(stretch.leaf.level);
        (0..stretch.descriptors(granule))
            .map(move |index| stretch.va.add(index * bytes).value())
            .map(move |va| (va, va + (bytes - 1)))
    }

    /// What is gathered from leaves of any size, behind each other or apart, reaches each descriptor, and no address between them.
    #[test]
    fn what_is_gathered_reaches_each_leaf_and_nothing_between() {
        let mut dice = Dice(1);
        for (regime, _) in thinned(regimes().flat_map(|regime| (0..200).map(move |trial| (regime, trial)))) {
            let stretches = any_stretches(regime, &mut dice);
            let mut issued = vec![];
            let mut gather = Gather::new(regime, Reach::LastLevel);
            for stretch in stretches.iter().filter(|stretch| stretch.count > 0) {
                Extent::of(*stretch, regime.granule())
                    .for_each(|extent| gather.add(extent, &mut |tlbi| issued.push(tlbi)));
            }
            gather.finish(&mut |tlbi| issued.push(tlbi));
            let reached: Vec<_> = issued.into_iter().map(|tlbi| span(regime, tlbi)).collect();
            let all: Vec<_> = stretches.iter().flat_map(|stretch| descriptors(regime.granule(), *stretch)).collect();
            for leaf in &all {
                let hit = reached.iter().any(|span| span.0 <= leaf.1 && leaf.0 <= span.1);
                assert!(hit, "{regime:?}: {stretches:x?}: {leaf:x?} is not reached by {reached:x?}");
            }
            for span in &reached {
                let mut next = span.0;
                for leaf in &all {
                    next = if (leaf.0..=leaf.1).contains(&next) { leaf.1.wrapping_add(1) } else { next };
                }
                assert!(next.wrapping_sub(1) >= span.1, "{regime:?}: {stretches:x?}: {span:x?} reaches {next:#x}");
            }
        }
    }
}

//! Which leaves map a stretch of addresses: pages, contiguous runs and blocks, by size and alignment alone.
//!
//! The choice is a pure function of addresses and policy, so that a range is removed with exactly the leaves that it was
//! added with, without remembering them.

mod sizes;

pub use sizes::{LeafCounts, LeafSizes};

use core::fmt;

use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::{Attributes, Descriptor, OutputFormat};
use crate::granule::{GranuleSize, Level};
use crate::regime::Regime;

/// Which leaves a range is mapped with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeafPolicy {
    /// The largest that addresses allow: blocks and contiguous runs, in the linear map and in the vmemmap.
    #[default]
    Largest,
    /// As Linux: the linear map as [`Largest`](LeafPolicy::Largest) (its large-leaf configuration), the vmemmap in base
    /// pages but for 2 MiB blocks for whole sections at 4K.
    Linux,
    /// Base pages only, never a contiguous run.
    Pages,
}

/// One kind of leaf: a level, and whether leaves stand in contiguous runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The level of its descriptors.
    pub level: Level,
    /// Whether it is a whole run of descriptors with the Contiguous bit.
    pub contiguous: bool,
}

impl Leaf {
    /// A base page.
    pub const PAGE: Self = Self { level: Level::L3, contiguous: false };

    #[inline]
    const fn single(level: Level) -> Self {
        Self { level, contiguous: false }
    }

    #[inline]
    const fn run(level: Level) -> Self {
        Self { level, contiguous: true }
    }

    /// Descriptors that it takes: the members of the run, or one.
    #[must_use]
    #[inline]
    pub const fn descriptors(self, granule: GranuleSize) -> u64 {
        match granule.contiguous_entries(self.level) {
            Some(members) if self.contiguous => members,
            _ => 1,
        }
    }

    /// The descriptor of one that maps `frame`, or of a member that does.
    #[inline]
    pub(crate) const fn descriptor(self, frame: PhysAddr, attributes: Attributes, format: OutputFormat) -> Descriptor {
        let descriptor = Descriptor::leaf(frame, self.level, attributes, format);
        if self.contiguous { descriptor.contiguous() } else { descriptor }
    }

    /// Bytes that it maps: of the whole run, if it is one.
    #[must_use]
    #[inline]
    pub const fn bytes(self, granule: GranuleSize) -> u64 {
        self.descriptors(granule) << granule.level_shift(self.level)
    }
}

/// Neighbouring leaves of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The first address.
    pub va: VirtAddr,
    /// The kind of leaf.
    pub leaf: Leaf,
    /// How many of them (runs, not members).
    pub count: u64,
}

impl Stretch {
    /// Descriptors that they take.
    #[must_use]
    #[inline]
    pub const fn descriptors(&self, granule: GranuleSize) -> u64 {
        self.count * self.leaf.descriptors(granule)
    }

    /// Bytes that they map.
    #[must_use]
    #[inline]
    pub const fn bytes(&self, granule: GranuleSize) -> u64 {
        self.count * self.leaf.bytes(granule)
    }

    /// The first `count` of them, and the others.
    #[inline]
    pub(crate) const fn split_at(self, count: u64, granule: GranuleSize) -> (Self, Self) {
        let va = self.va.add(count * self.leaf.bytes(granule));
        (Self { count, ..self }, Self { va, count: self.count - count, ..self })
    }

    /// The same leaves table by table: what each table of their level holds of them.
    #[inline]
    pub fn by_table(self, regime: Regime) -> impl Iterator<Item = Piece> {
        let step = 1 << regime.granule().level_shift(self.leaf.level);
        let mut va = self.va;
        let mut left = self.descriptors(regime.granule());
        core::iter::from_fn(move || {
            let index = regime.index(va, self.leaf.level);
            let count = left.min(regime.entries(self.leaf.level) - index);
            let piece = Piece { va, index, count };
            va = va.add(count * step);
            left -= count;
            (count > 0).then_some(piece)
        })
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.leaf.contiguous, self.leaf.level) {
            (true, _) => "contiguous run",
            (false, Level::L3) => "page",
            (false, _) => "block",
        };
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} {kind}{plural} at {}", self.count, self.leaf.level)
    }
}

/// Neighbouring descriptors in one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The first address that they translate.
    pub va: VirtAddr,
    /// The index of the first.
    pub index: u64,
    /// How many.
    pub count: u64,
}

/// Cuts a range of addresses into [`Stretch`]es.
#[derive(Clone, Debug)]
pub struct Stretches {
    sizes: LeafSizes,
    va: VirtAddr,
    left: u64,
    /// Single pages before and behind, which are not part of the range that is cut.
    beside: [Option<VirtAddr>; 2],
}

impl Stretches {
    /// No leaves at all.
    pub const NONE: Self = Self::new(LeafSizes::pages(GranuleSize::K4), VirtAddr::new(0), 0, 0);

    /// The leaves for `bytes` bytes at `va`, both multiples of the granule, where `skew` is the output address minus the
    /// input address modulo 2^64, to both of which leaves are aligned (0 if the frames will be allocated as aligned as the
    /// leaf needs).
    #[must_use]
    #[inline]
    pub const fn new(sizes: LeafSizes, va: VirtAddr, bytes: u64, skew: u64) -> Self {
        Self { sizes: sizes.aligned_to(skew), va, left: bytes, beside: [None; 2] }
    }

    /// The same between two single pages, of which either may be missing.
    #[must_use]
    #[inline]
    pub const fn between(self, first: Option<VirtAddr>, last: Option<VirtAddr>) -> Self {
        Self { beside: [first, last], ..self }
    }

    /// The same descriptors, whether they stand in runs or not: all that counts when they are taken away.
    #[inline]
    pub(crate) const fn singly(self) -> Self {
        Self { sizes: self.sizes.single(), ..self }
    }

    #[inline]
    const fn page(va: VirtAddr) -> Stretch {
        Stretch { va, leaf: Leaf::PAGE, count: 1 }
    }

    /// Bytes until a larger kind than that of `bytes` bytes can start; all that is left if none ever can. The next larger one
    /// decides: where another starts, it could too.
    #[inline]
    fn until_larger(&self, bytes: u64) -> u64 {
        let Some(larger) = self.sizes.next_larger(bytes) else { return self.left };
        let distance = self.va.align_up(larger).since(self.va);
        let fits = distance < self.left && self.left - distance >= larger;
        if fits { distance } else { self.left }
    }
}

impl Iterator for Stretches {
    type Item = Stretch;

    #[inline]
    fn next(&mut self) -> Option<Stretch> {
        if let Some(page) = self.beside[0].take() {
            return Some(Self::page(page));
        }
        let Some(bytes) = self.sizes.largest_at(self.va, self.left) else {
            return self.beside[1].take().map(Self::page);
        };
        let count = self.until_larger(bytes) >> bytes.trailing_zeros();
        let stretch = Stretch { va: self.va, leaf: self.sizes.leaf(bytes), count };
        self.va = self.va.add(count * bytes);
        self.left -= count * bytes;
        Some(stretch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtRange;
    use crate::testing::thinned;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn linear(granule: GranuleSize, va: u64, bytes: u64, skew: u64) -> Vec<(i8, bool, u64)> {
        let regime = Regime::new(granule, 48, OutputFormat::Bits48).unwrap();
        let sizes = LeafSizes::linear(regime, LeafPolicy::Largest);
        Stretches::new(sizes, VirtAddr::new(va), bytes, skew)
            .map(|s| (s.leaf.level.number(), s.leaf.contiguous, s.count))
            .collect()
    }

    #[test]
    fn one_gib_takes_what_linux_takes_with_large_leaves() {
        let va = 0xffff_0000_c000_0000;
        let skew = 0x1_0000_0000_u64.wrapping_sub(va);
        assert_eq!(linear(GranuleSize::K4, va, GIB, skew), [(1, false, 1)]);
        assert_eq!(linear(GranuleSize::K16, va, GIB, skew), [(2, true, 1)]);
        assert_eq!(linear(GranuleSize::K64, va, GIB, skew), [(2, false, 2)]);
    }

    #[test]
    fn a_range_climbs_to_the_largest_leaf_and_down_again() {
        let got = linear(GranuleSize::K4, 0xffff_0000_3fe0_0000, 2 * GIB + 36 * MIB, 0);
        assert_eq!(got, [(2, false, 1), (1, false, 2), (2, true, 1), (2, false, 1)]);
    }

    #[test]
    fn frames_out_of_step_with_addresses_get_smaller_leaves() {
        assert_eq!(linear(GranuleSize::K4, 0xffff_0000_4000_0000, 4 * MIB, 0x1000), [(3, false, 1024)]);
        assert_eq!(linear(GranuleSize::K4, 0xffff_0000_4000_0000, 4 * MIB, 0x1_0000), [(3, true, 64)]);
    }

    #[test]
    fn the_vmemmap_has_runs_only_where_a_whole_one_fits() {
        let cut = |policy, va: u64, bytes| -> Vec<_> {
            let sizes = LeafSizes::memmap(GranuleSize::K64, policy);
            Stretches::new(sizes, VirtAddr::new(va), bytes, 0).map(|s| (s.leaf.contiguous, s.count)).collect()
        };
        assert_eq!(cut(LeafPolicy::Largest, 0xffff_ffdf_c030_0000, 4 * MIB), [(false, 16), (true, 1), (false, 16)]);
        assert_eq!(cut(LeafPolicy::Linux, 0xffff_ffdf_c030_0000, 4 * MIB), [(false, 64)]);
    }

    /// The kinds of leaf of each granule and policy, by level; `c` marks a contiguous run.
    #[test]
    fn each_policy_has_its_leaves_and_no_others() {
        let names = |sizes: LeafSizes| -> Vec<String> {
            let name = |leaf: Leaf| format!("{}{}", leaf.level.number(), if leaf.contiguous { "c" } else { "" });
            sizes.kinds().map(name).collect()
        };
        let memmap = |granule, policy| names(LeafSizes::memmap(granule, policy));
        let linear = |granule, va_bits, policy| {
            names(LeafSizes::linear(Regime::new(granule, va_bits, OutputFormat::Bits48).unwrap(), policy))
        };
        assert_eq!(memmap(GranuleSize::K4, LeafPolicy::Largest), ["2", "3c", "3"]);
        assert_eq!(memmap(GranuleSize::K4, LeafPolicy::Linux), ["2", "3"]);
        for granule in [GranuleSize::K16, GranuleSize::K64] {
            assert_eq!(memmap(granule, LeafPolicy::Largest), ["3c", "3"]);
            assert_eq!(memmap(granule, LeafPolicy::Linux), ["3"]);
            assert_eq!(linear(granule, 48, LeafPolicy::Linux), ["2c", "2", "3c", "3"]);
        }
        assert_eq!(linear(GranuleSize::K4, 39, LeafPolicy::Largest), ["1", "2c", "2", "3c", "3"]);
        assert_eq!(linear(GranuleSize::K4, 30, LeafPolicy::Largest), ["2c", "2", "3c", "3"], "the root is at level 2");
        assert_eq!(linear(GranuleSize::K16, 25, LeafPolicy::Largest), ["3c", "3"], "the root is at level 3");
        assert_eq!(linear(GranuleSize::K64, 29, LeafPolicy::Largest), ["3c", "3"], "the root is at level 3");
        for granule in GranuleSize::ALL {
            assert_eq!(memmap(granule, LeafPolicy::Pages), ["3"]);
            assert_eq!(linear(granule, 48, LeafPolicy::Pages), ["3"]);
        }
    }

    #[test]
    fn stretches_cover_every_byte_once_in_order() {
        for (start, bytes) in [(0_u64, GIB), (3 << 12, 5 * MIB), (31 * MIB, 97 * MIB), (GIB - 4096, 4096)] {
            let mut at = VirtAddr::new(0xffff_0000_0000_0000 + start);
            let regime = Regime::new(GranuleSize::K4, 48, OutputFormat::Bits48).unwrap();
            let sizes = LeafSizes::linear(regime, LeafPolicy::Largest);
            let mut before = None;
            for stretch in Stretches::new(sizes, at, bytes, 0) {
                assert_eq!(stretch.va, at);
                assert_ne!(before.replace(stretch.leaf), Some(stretch.leaf), "equal neighbours are one stretch");
                assert!(stretch.count > 0 && at.is_aligned(stretch.leaf.bytes(GranuleSize::K4)));
                at = at.add(stretch.bytes(GranuleSize::K4));
            }
            assert_eq!(at.value(), 0xffff_0000_0000_0000 + start + bytes);
        }
    }

    /// Every offset and size of up to three of the largest leaves, at the bottom and at the top of the address space.
    #[test]
    fn leaves_are_counted_as_they_are_cut() {
        for granule in GranuleSize::ALL {
            for policy in [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages] {
                let sizes = LeafSizes::memmap(granule, policy);
                let kinds: Vec<_> = sizes.kinds().collect();
                let (page, largest) = (granule.bytes(), 128.max(kinds[0].bytes(granule) / granule.bytes()));
                let pairs =
                    thinned(0..=largest).flat_map(|offset| thinned(0..3 * largest).map(move |size| (offset, size)));
                for (offset, pages) in pairs {
                    let bytes = pages * page;
                    for va in [offset * page, (offset * page).wrapping_neg().wrapping_sub(bytes)].map(VirtAddr::new) {
                        let mut cut = [0; LeafSizes::MOST];
                        for stretch in Stretches::new(sizes, va, bytes, 0) {
                            let kind = kinds.iter().position(|&leaf| leaf == stretch.leaf).unwrap();
                            cut[kind] += stretch.count;
                        }
                        let counts = sizes.counts(VirtRange::new(va, bytes));
                        let counted: Vec<_> = counts.iter().map(|(_, count)| count).collect();
                        assert_eq!(counted, cut[..counted.len()], "{granule} {policy:?} {va} {pages} pages");
                    }
                }
            }
        }
    }

    #[test]
    fn taken_singly_the_descriptors_are_the_same() {
        let descriptors = |stretches: Stretches, granule: GranuleSize| -> Vec<_> {
            let each = |s: Stretch| {
                (0..s.descriptors(granule))
                    .map(move |i| (s.va.add(i << granule.level_shift(s.leaf.level)), s.leaf.level))
            };
            stretches.flat_map(each).collect()
        };
        for granule in GranuleSize::ALL {
            let regime = Regime::new(granule, 48, OutputFormat::Bits48).unwrap();
            let sizes = LeafSizes::linear(regime, LeafPolicy::Largest);
            let run = Leaf::run(Level::L3).bytes(granule);
            for pages in thinned([1, 3, 31, 32, 129, 300].into_iter()) {
                let va = VirtAddr::new(0xffff_0000_0000_0000 + run - 3 * granule.bytes());
                let stretches = Stretches::new(sizes, va, run + pages * granule.bytes(), 0);
                assert!(stretches.clone().singly().all(|stretch| !stretch.leaf.contiguous));
                assert_eq!(
                    descriptors(stretches.clone(), granule),
                    descriptors(stretches.singly(), granule),
                    "{granule}"
                );
            }
        }
    }

    #[test]
    fn pieces_never_cross_a_table() {
        let regime = Regime::new(GranuleSize::K4, 48, OutputFormat::Bits48).unwrap();
        let stretch = Stretch { va: VirtAddr::new(0xffff_0000_001f_e000), leaf: Leaf::PAGE, count: 515 };
        let pieces: Vec<_> = stretch.by_table(regime).map(|p| (p.index, p.count)).collect();
        assert_eq!(pieces, [(510, 2), (0, 512), (0, 1)]);
    }
}

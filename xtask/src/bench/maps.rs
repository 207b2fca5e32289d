//! What both maps of a range are made of, from the plan and without a machine: descriptors of the vmemmap, and the tables
//! that the range needs for itself.

use std::collections::{BTreeMap, BTreeSet};

use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::granule::GranuleSize;
use vmemmap::hotplug::LINEAR_PROTECTION;
use vmemmap::layout::Layout;
use vmemmap::leaf::{LeafPolicy, Stretch};
use vmemmap::mapping::Mapping;
use vmemmap::regime::Regime;
use vmemmap::vmemmap::Memmap;

use crate::altmap::edges;
use crate::job::RAM_BASE;
use crate::screen::plural;

/// Where every case has its device memory.
const BASE: u64 = 4 << 30;
const VA_BITS: u32 = 48;
const POLICY: LeafPolicy = LeafPolicy::Largest;

/// What is said of both maps of a range.
#[derive(Debug)]
pub struct Maps {
    /// Descriptors that map the vmemmap; a contiguous run is several.
    pub vmemmap_leaves: u64,
    /// How many tables only this range needs, by map (0 linear, 1 vmemmap) and level. No entry is 0.
    pub new_tables: BTreeMap<(usize, i8), u64>,
}

impl Maps {
    /// A range of `bytes` at 4 GiB, on a machine that has RAM at 1 GiB.
    pub fn of(granule: GranuleSize, bytes: u64) -> Self {
        let layout = Layout::linux(granule, VA_BITS, RAM_BASE);
        let regime = Regime::of_size(granule, VA_BITS).expect("every granule has 48 bits");
        let range = |base, bytes| PhysRange::new(PhysAddr::new(base), bytes).expect("sizes are checked");
        let device = stretches(regime, &layout, range(BASE, bytes));
        // As little as a machine can have: tables that only more RAM needs are far from device memory.
        let ram = stretches(regime, &layout, range(RAM_BASE, 1 << granule.section_shift()));
        let tables = |map: &[Stretch]| map.iter().flat_map(|stretch| tables(regime, *stretch)).collect::<BTreeSet<_>>();
        let mut new_tables = BTreeMap::new();
        for (map, (device, ram)) in device.iter().zip(&ram).enumerate() {
            for (level, _) in tables(device).difference(&tables(ram)) {
                *new_tables.entry((map, *level)).or_default() += 1;
            }
        }
        let vmemmap_leaves = device[1].iter().map(|stretch| stretch.descriptors(granule)).sum();
        Self { vmemmap_leaves, new_tables }
    }

    /// Checks that so many tables were freed as the plan has.
    ///
    /// # Errors
    /// Both numbers: the levels are not known then.
    pub fn agree(&self, freed: u64) -> Result<(), String> {
        let planned: u64 = self.new_tables.values().sum();
        let verb = if freed == 1 { "was" } else { "were" };
        let why = || format!("{} {verb} freed, the plan of the range has {planned}", plural(freed, "table"));
        (freed == planned).then_some(()).ok_or_else(why)
    }
}

/// Leaves of the linear map and of the vmemmap.
fn stretches(regime: Regime, layout: &Layout, range: PhysRange) -> [Vec<Stretch>; 2] {
    let linear = Mapping::linear(regime, layout, range, POLICY, LINEAR_PROTECTION).stretches();
    let (low, high) = edges(layout, range);
    let interior = Memmap::new(layout, layout.interior(range), POLICY).stretches();
    [linear.collect(), low.into_iter().chain(interior).chain(high).collect()]
}

/// The tables on the way to the leaves of a stretch, but for the root: level, and which of that level.
fn tables(regime: Regime, stretch: Stretch) -> impl Iterator<Item = (i8, u64)> {
    stretch.by_table(regime).flat_map(move |piece| {
        let mut at = regime.start_level();
        std::iter::from_fn(move || {
            let above = at;
            at = at.child();
            let table = || (at.number(), piece.va.value() >> regime.granule().level_shift(above));
            (above < stretch.leaf.level).then(table)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// As the kernel reports them on neoverse-n1, by `cargo xtask qemu --json`.
    #[test]
    fn descriptors_and_tables_are_those_that_the_kernel_reports() {
        for (granule, bytes, leaves, tables) in [
            (GranuleSize::K64, GIB, 16, 0),
            (GranuleSize::K64, 1024 * GIB, 16_384, 2),
            (GranuleSize::K16, GIB, 256, 0),
            (GranuleSize::K16, 16 * GIB, 4096, 2),
            (GranuleSize::K16, 256 * GIB, 65_536, 37),
            (GranuleSize::K4, GIB, 8, 0),
            (GranuleSize::K4, 256 * GIB, 2048, 5),
        ] {
            let maps = Maps::of(granule, bytes);
            assert_eq!((maps.vmemmap_leaves, maps.agree(tables)), (leaves, Ok(())), "{granule} {bytes:#x} {maps:?}");
        }
    }

    #[test]
    fn levels_are_counted_in_each_map() {
        let levels = |granule, bytes| Maps::of(granule, bytes).new_tables.into_keys().collect::<Vec<_>>();
        assert_eq!(levels(GranuleSize::K64, 16 * GIB), []);
        assert_eq!(levels(GranuleSize::K16, 256 * GIB), [(0, 2), (1, 2), (1, 3)]);
        assert_eq!(levels(GranuleSize::K4, 256 * GIB), [(1, 1), (1, 2)]);
    }
}

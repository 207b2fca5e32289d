//! What Linux does for the same range: measured with an altmap at 4 GiB on `-cpu max`, where neoverse-n1 was the same
//! (`docs/measured.md`).

use vmemmap::granule::GranuleSize;

use super::case::Ratio;
use crate::linux;

const GIB: u64 = 1 << 30;
const BASE: u64 = 4 * GIB;

/// One configuration of Linux on one range.
#[derive(Clone, Copy, Debug)]
pub struct Linux {
    pub name: &'static str,
    pages: u64,
    leaves: u64,
    /// Instructions: add, linear map, struct pages, populate, removal, free.
    counted: [u64; 6],
    /// DSB and TLBI of the add, where they were counted.
    pub add: Option<(u64, u64)>,
    /// DSB and TLBI of the removal, where they were counted.
    pub remove: Option<(u64, u64)>,
    pub ram_bytes: Option<u64>,
}

/// The names of both.
pub const LARGE: &str = "Linux 6.12, large leaves";
pub const DEFAULT: &str = "Linux 7.3, default";

impl Linux {
    /// Instructions per struct page (add, linear, populate, init, remove), then per leaf of the vmemmap (populate, free).
    pub fn figures(&self) -> [Ratio; 7] {
        let [add, linear, init, populate, remove, free] = self.counted;
        let (page, leaf) = (|part| Ratio::new(part, self.pages), |part| Ratio::new(part, self.leaves));
        [page(add), page(linear), page(populate), page(init), page(remove), leaf(populate), leaf(free)]
    }
}

/// The best configuration (`rodata=on`, which gives up what ours gives up) and the default one; nothing where they were
/// not measured.
pub fn measured(granule: GranuleSize, bytes: u64) -> Option<[Linux; 2]> {
    let size = [GIB, 16 * GIB].iter().position(|&size| size == bytes)?;
    let events = linux::costs(granule, BASE, bytes);
    let leaves_per_gib = match granule {
        GranuleSize::K4 => 8,
        GranuleSize::K16 => 256,
        GranuleSize::K64 => 16,
    };
    let (large, default) = counted(granule)[size];
    let (remove_large, remove_default) = removal(granule)[size];
    let linux = |name, counted, which: usize, remove| Linux {
        name,
        pages: bytes >> granule.shift(),
        leaves: leaves_per_gib * (bytes / GIB),
        counted,
        add: events[which].events,
        remove,
        ram_bytes: events[which].ram_bytes,
    };
    Some([linux(LARGE, large, 0, remove_large), linux(DEFAULT, default, 1, Some(remove_default))])
}

type Counted = [([u64; 6], [u64; 6]); 2];

/// Instructions at 1 and 16 GiB, with large leaves and by default.
const fn counted(granule: GranuleSize) -> Counted {
    match granule {
        GranuleSize::K64 => [
            ([570_180, 316, 556_142, 2_664, 30_468, 1_270], [790_974, 187_327, 588_797, 2_104, 522_931, 1_386]),
            (
                [8_995_736, 1_670, 8_914_764, 42_624, 69_372, 20_320],
                [12_504_505, 2_992_434, 9_441_563, 33_664, 7_947_208, 22_176],
            ),
        ],
        GranuleSize::K16 => [
            (
                [2_289_859, 1_751, 2_217_398, 47_968, 46_801, 14_192],
                [3_139_190, 728_656, 2_347_527, 39_520, 2_027_547, 15_936],
            ),
            (
                [36_555_867, 23_381, 35_571_209, 774_278, 708_153, 614_752],
                [50_153_680, 11_693_317, 37_656_765, 637_526, 32_420_591, 642_926],
            ),
        ],
        GranuleSize::K4 => [
            (
                [8_922_880, 233, 8_780_407, 1_656, 35_076, 2_792],
                [13_063_940, 3_627_199, 9_302_340, 1_608, 8_135_362, 2_808],
            ),
            (
                [142_652_690, 923, 140_691_089, 26_496, 118_382, 44_672],
                [208_081_149, 57_293_671, 148_983_591, 25_728, 129_721_559, 44_928],
            ),
        ],
    }
}

type Removal = [(Option<(u64, u64)>, (u64, u64)); 2];

/// DSB and TLBI of removals at 1 and 16 GiB, with large leaves and by default.
const fn removal(granule: GranuleSize) -> Removal {
    match granule {
        GranuleSize::K64 => [(Some((34, 17)), (38, 19)), (None, (578, 289))],
        GranuleSize::K16 => [(Some((514, 257)), (578, 289)), (None, (9_222, 4_611))],
        GranuleSize::K4 => [(Some((18, 9)), (1_044, 522)), (None, (16_674, 8_337))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of `docs/measured.md`, which were written from the same measurements.
    #[test]
    fn figures_are_those_of_the_book() {
        let book = std::fs::read_to_string(crate::build::workspace().join("docs/measured.md")).unwrap();
        let rows = |size: u64| {
            let section = book.split("\n### ").find(|section| section.starts_with(&format!("{size} GiB\n")));
            section.unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let number = |text: &str| text.trim().replace(',', "").parse::<f64>().unwrap();
        for (size, row, which) in [1, 16].into_iter().flat_map(|size| {
            [("| Linux 6.12 large leaves", 0), ("| Linux 7.3 default", 1)].map(|(row, which)| (size, row, which))
        }) {
            let lines = rows(size);
            let row = lines.iter().find(|line| line.starts_with(row)).unwrap();
            let cells = row.trim_end_matches('|').split('|').skip(2);
            for (granule, cell) in [GranuleSize::K64, GranuleSize::K16, GranuleSize::K4].into_iter().zip(cells) {
                let (add, remove) = cell.split_once('/').unwrap();
                let figures = measured(granule, size * GIB).unwrap()[which].figures();
                for (book, ours) in [(number(add), figures[0]), (number(remove), figures[4])] {
                    assert!((book - ours.value()).abs() < book * 0.005, "{granule} {size} {row}: {ours}");
                }
            }
        }
    }

    #[test]
    fn figures_of_leaves_and_events_are_where_they_were_measured() {
        let [large, default] = measured(GranuleSize::K64, GIB).unwrap();
        assert_eq!(large.figures().map(|figure| figure.to_string())[5..], ["166", "79.38"]);
        assert_eq!((large.add, large.remove, large.ram_bytes), (Some((21, 1)), Some((34, 17)), Some(0)));
        assert_eq!((default.add, default.remove), (Some((29, 3)), Some((38, 19))));
        assert!(measured(GranuleSize::K64, 2 * GIB).is_none());
        assert!(measured(GranuleSize::K4, 16 * GIB).unwrap()[0].remove.is_none());
    }
}

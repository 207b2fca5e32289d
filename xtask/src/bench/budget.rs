//! Budgets: what the design allows at 16 GiB and more.

use serde::{Deserialize, Serialize};
use vmemmap::granule::GranuleSize;

use super::case::{ADD, ADD_DSB, ADD_TLBI, Case, FREE, Figure, POPULATE, REMOVE, REMOVE_DSB, Ratio};

/// From where on budgets hold: below, the fixed part of an operation dominates.
const LEAST: u64 = 16 << 30;

/// A figure and what it may be at most.
#[derive(Debug)]
pub struct Budget {
    pub figure: Figure,
    pub limit: Ratio,
}

/// What `case` may cost.
pub fn of(case: &Case) -> Vec<Budget> {
    if case.place.size < LEAST {
        return Vec::new();
    }
    let removal = match case.place.granule {
        GranuleSize::K4 => Ratio::new(2, 1000),
        GranuleSize::K16 => Ratio::new(6, 100),
        GranuleSize::K64 => Ratio::new(2, 100),
    };
    let budget = |figure, limit| Budget { figure, limit };
    vec![
        budget(ADD, Ratio::new(5, 1)),
        budget(REMOVE, removal),
        budget(POPULATE, Ratio::new(12, 1)),
        budget(FREE, Ratio::new(12, 1)),
        budget(ADD_DSB, Ratio::new(4, 1)),
        budget(REMOVE_DSB, Ratio::new(6 + 2 * case.freed_levels, 1)),
        budget(ADD_TLBI, Ratio::new(0, 1)),
    ]
}

/// A budget, and whether it is met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub figure: String,
    pub limit: f64,
    pub met: bool,
}

/// What of its budgets `case` meets.
pub fn judge(case: &Case) -> Vec<Judged> {
    let judged = |budget: &Budget| Judged {
        figure: budget.figure.name.to_owned(),
        limit: budget.limit.value(),
        met: budget.is_met(case),
    };
    of(case).iter().map(judged).collect()
}

impl Budget {
    /// Whether `case` keeps it.
    pub fn is_met(&self, case: &Case) -> bool {
        self.figure.of(case).is_within(self.limit)
    }

    /// `remove 0.0724 of 0.02`.
    pub fn in_words(&self, case: &Case) -> String {
        format!("{} {} of {}", self.figure.name, self.figure.of(case), self.limit.value())
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    fn missed(change: impl Fn(&mut Case)) -> Vec<String> {
        let mut case = case();
        change(&mut case);
        let missed = of(&case).into_iter().filter(|budget| !budget.is_met(&case));
        missed.map(|budget| budget.in_words(&case)).collect()
    }

    #[test]
    fn each_budget_is_missed_one_above_its_limit_and_met_at_it() {
        assert_eq!(missed(|_| {}), [""; 0]);
        assert_eq!(missed(|case| case.add.instructions.total = 5 << 18), [""; 0]);
        assert_eq!(missed(|case| case.add.instructions.total = (5 << 18) + 1), ["add 5.00 of 5"]);
        assert_eq!(missed(|case| case.remove.instructions.total = 5242), [""; 0]);
        assert_eq!(missed(|case| case.remove.instructions.total = 5243), ["remove 0.0200 of 0.02"]);
        assert_eq!(missed(|case| case.add.instructions.populate = 3073), ["populate 12.00 of 12"]);
        assert_eq!(missed(|case| case.remove.instructions.populate = 3073), ["free 12.00 of 12"]);
        assert_eq!(missed(|case| case.add.dsb = 5), ["DSB of the add 5 of 4"]);
        assert_eq!(missed(|case| case.remove.dsb = 7), ["DSB of the removal 7 of 6"]);
        assert_eq!(missed(|case| case.add.tlbi = 1), ["TLBI of the add 1 of 0"]);
    }

    #[test]
    fn a_removal_may_wait_twice_more_at_each_level_that_loses_tables() {
        let dsb = |dsb| move |case: &mut Case| (case.remove.dsb, case.freed_levels) = (dsb, 2);
        assert_eq!((missed(dsb(10)).len(), missed(dsb(11)).len()), (0, 1));
    }

    #[test]
    fn removals_have_a_limit_at_each_granule_and_small_ranges_have_none() {
        for (granule, part) in [(GranuleSize::K4, 2), (GranuleSize::K16, 60), (GranuleSize::K64, 20)] {
            let costs = |total| {
                missed(move |case| {
                    (case.place.granule, case.struct_pages) = (granule, 1000);
                    (case.add.instructions.total, case.remove.instructions.total) = (0, total);
                })
            };
            assert_eq!((costs(part).len(), costs(part + 1).len()), (0, 1), "{granule}");
        }
        let small = |case: &mut Case| (case.place.size, case.add.tlbi) = ((16 << 30) - (2 << 20), 9);
        assert_eq!(missed(small), [""; 0]);
    }
}

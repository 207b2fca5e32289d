//! The figures that were written down, and what is worse than they were.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::budget::{self, Budget};
use super::case::{Case, FIGURES, Figure, Kept, Place};
use super::image::ImageSize;
use crate::build;
use crate::report::SCHEMA_VERSION;
use crate::status::Stop;

/// Percent of the baseline that a figure may have.
const MOST: u64 = 102;
const AGAIN: &str = "write it with `cargo xtask bench --write`";

/// Where figures and their chart are written down.
pub fn directory() -> PathBuf {
    build::workspace().join("docs").join("bench")
}

/// The figures that were written down.
#[derive(Debug, Deserialize)]
pub struct Baseline {
    image: ImageSize,
    cases: Vec<Kept>,
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// It is not there, is of another schema, or is none.
    pub fn read(file: &Path) -> Result<Self, Stop> {
        let shown = file.strip_prefix(build::workspace()).unwrap_or(file).display();
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        text.and_then(|text| Self::parse(&text)).map_err(|why| Stop::refused(format!("{shown}: {why}; {AGAIN}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &value["schema_version"] {
            version if *version == SCHEMA_VERSION => {}
            version => return Err(format!("its schema_version is {version}, not {SCHEMA_VERSION}")),
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// Checks that all of `places` are there.
    ///
    /// # Errors
    /// One is not.
    pub fn covers(&self, places: &[Place]) -> Result<(), Stop> {
        match places.iter().find(|place| self.find(place).is_none()) {
            None => Ok(()),
            Some(place) => Err(Stop::refused(format!(
                "{place} is not in docs/bench/baseline.json: leave --check away, or check cases that are"
            ))),
        }
    }

    fn find(&self, place: &Place) -> Option<&Kept> {
        self.cases.iter().find(|kept| kept.case.place == *place)
    }

    /// What is more than 2 % worse in `cases`, or broke a budget that was met.
    pub fn compare(&self, cases: &[Case]) -> Vec<Finding> {
        let known = cases.iter().filter_map(|case| Some((self.find(&case.place)?, case)));
        known.flat_map(|(was, is)| FIGURES.iter().filter_map(|figure| Finding::of(figure, was, is))).collect()
    }

    /// The image, if it is more than 2 % larger.
    pub fn compare_image(&self, image: &ImageSize) -> Option<Finding> {
        let [was, is] = [self.image.bytes, image.bytes];
        (is * 100 > was * MOST).then(|| Finding {
            case: "image".to_owned(),
            figure: "what is loaded",
            unit: "bytes",
            was: was.to_string(),
            is: is.to_string(),
            budget: None,
            lost: false,
        })
    }
}

/// A figure that may not go in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub case: String,
    pub figure: &'static str,
    pub unit: &'static str,
    pub was: String,
    pub is: String,
    /// What it may be at most, if the design says.
    pub budget: Option<f64>,
    /// Whether the budget was met and is not any more; else, the figure is more than 2 % worse.
    pub lost: bool,
}

impl Finding {
    fn of(figure: &Figure, was: &Kept, is: &Case) -> Option<Self> {
        let budget = budget::of(is).into_iter().find(|budget| budget.figure.name == figure.name);
        let met = was.budgets.iter().any(|judged| judged.figure == figure.name && judged.met);
        let lost = met && budget.as_ref().is_some_and(|budget| !budget.is_met(is));
        let [before, now] = [&was.case, is].map(|case| figure.of(case));
        (lost || now.is_above(MOST, before)).then(|| Self {
            case: is.place.to_string(),
            figure: figure.name,
            unit: figure.unit,
            was: before.to_string(),
            is: now.to_string(),
            budget: budget.as_ref().map(|Budget { limit, .. }| limit.value()),
            lost,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, figure, unit, was, is, .. } = self;
        let gap = if unit.is_empty() { "" } else { " " };
        write!(f, "{case}: {figure} was {was}, is {is}{gap}{unit}")?;
        match (self.budget, self.lost) {
            (Some(budget), true) => write!(f, ": over its budget of {budget}, which was met"),
            (Some(budget), false) => write!(f, ": more than 2 % worse (budget {budget})"),
            (None, _) => write!(f, ": more than 2 % worse"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;
    use serde_json::json;

    type Change = fn(&mut Case);

    fn baseline(cases: &[Case]) -> Baseline {
        let cases: Vec<_> = cases.iter().map(Case::object).collect();
        Baseline::parse(&json!({ "schema_version": 1, "image": image(1000), "cases": cases }).to_string()).unwrap()
    }

    /// What is found when the baseline has `was`, and then `change` happens.
    fn found(was: &Case, change: impl Fn(&mut Case)) -> Vec<String> {
        let mut is = was.clone();
        change(&mut is);
        baseline(std::slice::from_ref(was)).compare(&[is]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn two_percent_more_is_not_worse_and_one_instruction_above_is() {
        let was = case();
        let instructions = |init| move |case: &mut Case| case.add.instructions.init = init;
        // 2 % of 2^20 is 20971.52.
        assert_eq!(found(&was, instructions((1 << 20) + 20_971)), [""; 0]);
        let worse = "64k 16 GiB neoverse-n1: init was 4.00, is 4.08 instructions per page: more than 2 % worse";
        assert_eq!(found(&was, instructions((1 << 20) + 20_972)), [worse]);
        let mut even = case();
        even.add.instructions.init = 100;
        assert_eq!((found(&even, instructions(102)).len(), found(&even, instructions(103)).len()), (0, 1));
        assert_eq!(found(&was, instructions(1)), [""; 0]);
    }

    fn image(bytes: u64) -> Value {
        json!({ "bytes": bytes, "sections": [] })
    }

    #[test]
    fn an_image_may_grow_by_two_percent() {
        let found = |bytes| baseline(&[]).compare_image(&serde_json::from_value(image(bytes)).unwrap());
        assert_eq!((found(1020), found(1)), (None, None));
        let worse = "image: what is loaded was 1000, is 1021 bytes: more than 2 % worse";
        assert_eq!(found(1021).unwrap().to_string(), worse);
    }

    #[test]
    fn every_figure_is_compared() {
        let changes: [(&str, Change); 17] = [
            ("add", |case| case.add.instructions.total *= 2),
            ("linear", |case| case.add.instructions.linear *= 2),
            ("init", |case| case.add.instructions.init *= 2),
            ("remove", |case| case.remove.instructions.total *= 2),
            ("populate", |case| case.add.instructions.populate *= 2),
            ("free", |case| case.remove.instructions.populate *= 2),
            ("DSB of the add", |case| case.add.dsb += 1),
            ("DSB of the removal", |case| case.remove.dsb += 1),
            ("TLBI of the add", |case| case.add.tlbi += 1),
            ("TLBI of the removal", |case| case.remove.tlbi *= 2),
            ("ISB of the add", |case| case.add.isb += 1),
            ("ISB of the removal", |case| case.remove.isb += 1),
            ("descriptor writes of the add", |case| case.add.descriptor_writes *= 2),
            ("descriptor writes of the removal", |case| case.remove.descriptor_writes *= 2),
            ("bytes of RAM", |case| case.add.ram_bytes += 1),
            ("bytes of the altmap", |case| case.add.altmap_bytes *= 2),
            ("bytes of section records", |case| case.add.section_bytes += 1),
        ];
        for (figure, change) in changes {
            let found = found(&case(), change);
            assert!(matches!(&found[..], [only] if only.contains(&format!("n1: {figure} was"))), "{figure}: {found:?}");
        }
    }

    #[test]
    fn a_budget_that_was_met_must_hold_and_one_that_was_missed_may_stay_missed() {
        let mut met = case();
        met.remove.instructions.total = 5242;
        let over = |case: &mut Case| case.remove.instructions.total = 5243;
        let says = "64k 16 GiB neoverse-n1: remove was 0.0200, is 0.0200 instructions per page: \
                    over its budget of 0.02, which was met";
        assert_eq!(found(&met, over), [says]);
        let mut missed = case();
        missed.remove.instructions.total = 10_000;
        let remove = |total| move |case: &mut Case| case.remove.instructions.total = total;
        assert_eq!(found(&missed, remove(10_200)), [""; 0]);
        let worse = "64k 16 GiB neoverse-n1: remove was 0.0381, is 0.0389 instructions per page: \
                     more than 2 % worse (budget 0.02)";
        assert_eq!(found(&missed, remove(10_201)), [worse]);
        assert_eq!(found(&missed, remove(1)), [""; 0]);
    }

    #[test]
    fn a_case_that_is_not_in_the_baseline_is_refused() {
        let (here, mut other) = (case(), case());
        other.place.cpu = "max".to_owned();
        let baseline = baseline(std::slice::from_ref(&here));
        assert_eq!(baseline.covers(std::slice::from_ref(&here.place)), Ok(()));
        let why = baseline.covers(&[here.place, other.place]).unwrap_err().why;
        assert!(why.starts_with("64k 16 GiB max is not in docs/bench/baseline.json: leave --check away"), "{why}");
    }

    #[test]
    fn a_baseline_that_can_not_be_used_is_refused_with_what_to_do() {
        let missing = Baseline::read(&directory().join("nothing.json")).unwrap_err();
        let says = "docs/bench/nothing.json: No such file or directory (os error 2); write it with";
        assert!(missing.why.starts_with(says) && missing.status as u8 == 2, "{missing:?}");
        let why = |text: &str| Baseline::parse(text).unwrap_err();
        assert_eq!(why(r#"{"schema_version":0,"cases":[]}"#), "its schema_version is 0, not 1");
        assert_eq!(why("{}"), "its schema_version is null, not 1");
        assert_eq!(why(r#"{"schema_version":1}"#), "missing field `image`");
        assert!(why("").contains("EOF"));
    }
}

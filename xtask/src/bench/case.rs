//! One case: what a hot-add and a removal cost at one granule and size, on one CPU, and the figures that follow.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use vmemmap::granule::GranuleSize;

use super::budget::Judged;
use super::maps::Maps;
use crate::size::human;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    #[serde(serialize_with = "name", deserialize_with = "granule")]
    pub granule: GranuleSize,
    /// Bytes of device memory.
    pub size: u64,
    /// QEMU's name.
    pub cpu: String,
}

impl Place {
    /// Struct pages of the range.
    pub fn struct_pages(&self) -> u64 {
        self.size >> self.granule.shift()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.granule.name(), human(self.size), self.cpu)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "so serde calls it")]
fn name<S: Serializer>(granule: &GranuleSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(granule.name())
}

fn granule<'de, D: Deserializer<'de>>(json: D) -> Result<GranuleSize, D::Error> {
    crate::job::granule(&String::deserialize(json)?).map_err(serde::de::Error::custom)
}

/// A case as it was measured. All else follows from these numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    #[serde(flatten)]
    pub place: Place,
    pub struct_pages: u64,
    /// Descriptors of the vmemmap; a contiguous run is several.
    pub vmemmap_leaves: u64,
    /// Levels of both maps at which the removal frees tables.
    pub freed_levels: u64,
    pub add: Operation,
    pub remove: Operation,
}

/// An add or a removal, as the kernel counted it; the fields are those of `cargo xtask qemu --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub descriptor_writes: u64,
    pub dsb: u64,
    pub isb: u64,
    pub tlbi: u64,
    pub table_frames: u64,
    pub ram_bytes: u64,
    pub altmap_bytes: u64,
    pub section_bytes: u64,
    pub instructions: Instructions,
}

/// Instructions of an operation; the phases are of an identical one. `populate` of a removal frees the vmemmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    pub total: u64,
    pub linear: u64,
    pub populate: u64,
    pub init: u64,
}

impl Case {
    /// Reads what the kernel reported.
    ///
    /// # Errors
    /// What is missing in it, or that it does not fit the plan of this range.
    pub fn of(place: &Place, report: &Value) -> Result<Self, String> {
        let operation = |which: &str| {
            let operation = serde_json::from_value(report[which].clone());
            operation.map_err(|error| format!("the kernel's report cannot be read: {which}: {error}"))
        };
        let (add, remove): (Operation, Operation) = (operation("add")?, operation("remove")?);
        let maps = Maps::of(place.granule, place.size);
        maps.agree(remove.table_frames)?;
        Ok(Self {
            place: place.clone(),
            struct_pages: place.struct_pages(),
            vmemmap_leaves: maps.vmemmap_leaves,
            freed_levels: maps.new_tables.len() as u64,
            add,
            remove,
        })
    }

    /// The case with the figures that follow from it.
    pub fn object(&self) -> Value {
        let mut object = json!(self);
        for figure in FIGURES.iter().chain([&POPULATE_BY_PAGE]).filter(|figure| figure.unit != EACH) {
            object[figure.unit.replace(' ', "_")][figure.name] = rounded(figure.of(self).value()).into();
        }
        object["budgets"] = json!(super::budget::judge(self));
        object
    }
}

/// Six digits behind the point: more than are shown, and the same text always.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A case of the baseline, and which budgets it met.
#[derive(Clone, Debug, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub case: Case,
    pub budgets: Vec<Judged>,
}

/// A figure without loss.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    part: u64,
    whole: u64,
}

impl Ratio {
    /// `part` for each of `whole`, or `part` where there are none.
    pub const fn new(part: u64, whole: u64) -> Self {
        Self { part, whole: if whole == 0 { 1 } else { whole } }
    }

    /// Whether this is at most `limit`.
    pub fn is_within(self, limit: Self) -> bool {
        self.times(limit.whole) <= limit.times(self.whole)
    }

    /// Whether this is more than `percent` of `other`.
    pub fn is_above(self, percent: u64, other: Self) -> bool {
        self.times(other.whole) * 100 > other.times(self.whole) * u128::from(percent)
    }

    fn times(self, factor: u64) -> u128 {
        u128::from(self.part) * u128::from(factor)
    }

    #[expect(clippy::cast_precision_loss, reason = "to be shown")]
    pub fn value(self) -> f64 {
        self.part as f64 / self.whole as f64
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value();
        match value {
            _ if self.whole == 1 => write!(f, "{}", self.part),
            100.0.. => write!(f, "{value:.0}"),
            1.0.. => write!(f, "{value:.2}"),
            0.01.. => write!(f, "{value:.4}"),
            _ => write!(f, "{value:.5}"),
        }
    }
}

/// A figure of a case; less is better.
#[derive(Debug)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    of: fn(&Case) -> (u64, u64),
}

impl Figure {
    /// Its value.
    pub fn of(&self, case: &Case) -> Ratio {
        let (part, whole) = (self.of)(case);
        Ratio::new(part, whole)
    }
}

pub const PER_PAGE: &str = "instructions per page";
const PER_LEAF: &str = "instructions per leaf";
/// The unit of what is counted for the whole operation.
const EACH: &str = "";

const fn figure(name: &'static str, unit: &'static str, of: fn(&Case) -> (u64, u64)) -> Figure {
    Figure { name, unit, of }
}

pub const ADD: Figure = figure("add", PER_PAGE, |case| (case.add.instructions.total, case.struct_pages));
pub const LINEAR: Figure = figure("linear", PER_PAGE, |case| (case.add.instructions.linear, case.struct_pages));
pub const INIT: Figure = figure("init", PER_PAGE, |case| (case.add.instructions.init, case.struct_pages));
pub const REMOVE: Figure = figure("remove", PER_PAGE, |case| (case.remove.instructions.total, case.struct_pages));
/// The same instructions as [`POPULATE`]: shown, and compared there.
pub const POPULATE_BY_PAGE: Figure =
    figure("populate", PER_PAGE, |case| (case.add.instructions.populate, case.struct_pages));
pub const POPULATE: Figure = figure("populate", PER_LEAF, |case| (case.add.instructions.populate, case.vmemmap_leaves));
pub const FREE: Figure = figure("free", PER_LEAF, |case| (case.remove.instructions.populate, case.vmemmap_leaves));
pub const ADD_DSB: Figure = figure("DSB of the add", EACH, |case| (case.add.dsb, 1));
pub const REMOVE_DSB: Figure = figure("DSB of the removal", EACH, |case| (case.remove.dsb, 1));
pub const ADD_TLBI: Figure = figure("TLBI of the add", EACH, |case| (case.add.tlbi, 1));

/// All that is compared with the baseline.
pub const FIGURES: [Figure; 17] = [
    ADD,
    LINEAR,
    INIT,
    REMOVE,
    POPULATE,
    FREE,
    ADD_DSB,
    REMOVE_DSB,
    ADD_TLBI,
    figure("TLBI of the removal", EACH, |case| (case.remove.tlbi, 1)),
    figure("ISB of the add", EACH, |case| (case.add.isb, 1)),
    figure("ISB of the removal", EACH, |case| (case.remove.isb, 1)),
    figure("descriptor writes of the add", EACH, |case| (case.add.descriptor_writes, 1)),
    figure("descriptor writes of the removal", EACH, |case| (case.remove.descriptor_writes, 1)),
    figure("bytes of RAM", EACH, |case| (case.add.ram_bytes, 1)),
    figure("bytes of the altmap", EACH, |case| (case.add.altmap_bytes, 1)),
    figure("bytes of section records", EACH, |case| (case.add.section_bytes, 1)),
];

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A case of 64K and 16 GiB whose figures are easy to see: 4.5 and 0.01 instructions per page, 10 per leaf.
    pub fn case() -> Case {
        let instructions =
            |total, linear, leaves: u64, init| Instructions { total, linear, populate: leaves * 10, init };
        let operation = |dsb, tlbi, instructions| Operation {
            descriptor_writes: 288,
            dsb,
            isb: 2,
            tlbi,
            table_frames: 0,
            ram_bytes: 0,
            altmap_bytes: 16 << 20,
            section_bytes: 0,
            instructions,
        };
        Case {
            place: Place { granule: GranuleSize::K64, size: 16 << 30, cpu: "neoverse-n1".to_owned() },
            struct_pages: 1 << 18,
            vmemmap_leaves: 256,
            freed_levels: 0,
            add: operation(2, 0, instructions(9 << 17, 1 << 10, 256, 1 << 20)),
            remove: operation(4, 288, instructions(2621, 1 << 9, 256, 0)),
        }
    }

    #[test]
    fn a_ratio_is_compared_without_loss() {
        let ratio = Ratio::new;
        assert!(ratio(2, 100).is_within(ratio(1, 50)) && !ratio(2_000_001, 100_000_000).is_within(ratio(1, 50)));
        // 2 % exactly is not more than 2 %.
        assert!(!ratio(102, 7).is_above(102, ratio(100, 7)) && ratio(103, 7).is_above(102, ratio(100, 7)));
        assert!(!ratio(u64::MAX, 3).is_above(102, ratio(u64::MAX, 3)));
        assert!(ratio(1, 1).is_above(102, ratio(0, 1)) && !ratio(0, 1).is_above(102, ratio(0, 1)));
        assert!(ratio(7, 0).is_above(102, ratio(6, 0)));
    }

    #[test]
    fn a_figure_is_shown_with_three_digits_or_whole() {
        let shown = [(12, 1), (8302, 16), (19, 4), (398, 1000), (724, 10_000), (3632, 1_000_000)];
        let shown = shown.map(|(part, whole)| Ratio::new(part, whole).to_string());
        assert_eq!(shown, ["12", "519", "4.75", "0.3980", "0.0724", "0.00363"]);
    }

    #[test]
    fn a_case_keeps_its_numbers_and_its_figures_stand_beside_them() {
        let object = case().object();
        assert_eq!(object["instructions_per_page"]["add"], 4.5);
        assert_eq!(object["instructions_per_page"]["populate"], 0.009_766);
        assert_eq!(object["instructions_per_leaf"]["free"], 10.0);
        let kept: Kept = serde_json::from_value(object).unwrap();
        assert_eq!(kept.case, case());
        assert!(kept.budgets.iter().all(|judged| judged.met), "{kept:?}");
    }

    #[test]
    fn a_report_without_instructions_is_no_case() {
        let report = json!({ "add": case().add, "remove": case().remove });
        assert_eq!(Case::of(&case().place, &report), Ok(case()));
        let mut uncounted = report.clone();
        uncounted["remove"]["instructions"] = Value::Null;
        let why = Case::of(&case().place, &uncounted).unwrap_err();
        assert!(why.starts_with("the kernel's report cannot be read: remove: "), "{why}");
        let mut with_a_table = report;
        with_a_table["remove"]["table_frames"] = 1.into();
        let why = Case::of(&case().place, &with_a_table).unwrap_err();
        assert!(why.contains("1 table was freed, the plan of the range has 0"), "{why}");
    }
}

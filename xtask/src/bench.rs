//! `cargo xtask bench`: what a hot-add and a removal cost, counted on QEMU: beside Linux, against budgets, and against
//! what was written down.
//!
//! - `case`: what is measured, and the figures that follow; `maps`: what the plan knows beforehand
//! - `boots`: runs them; `linux`: what Linux does; `budget`, `baseline`: what is allowed
//! - `image`: how large the image is
//! - `parallel`: what several CPUs gain
//! - `table`, `chart`: how it is shown

mod baseline;
mod boots;
mod budget;
mod case;
mod chart;
mod image;
mod linux;
mod maps;
mod parallel;
mod table;

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use vmemmap::granule::GranuleSize;

use crate::line::Image;
use crate::report::SCHEMA_VERSION;
use crate::screen::{plural, row};
use crate::size;
use crate::status::{Status, Stop};
use crate::tool::Tool;
use crate::{build, setup};
use baseline::{Baseline, Finding};
use case::{Case, Place};
use image::ImageSize;
use parallel::Parallel;
use table::rows_of;

const GIB: u64 = 1 << 30;
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// What is measured, and what becomes of it.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub struct Bench {
    /// Translation granule: 4k, 16k or 64k [default: all three]
    #[arg(long, value_parser = crate::job::granule)]
    granule: Option<GranuleSize>,
    /// Sizes of device memory [default: 1G, 16G and 256G, with 64k also 1T]
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',', value_parser = size::bytes)]
    size: Vec<u64>,
    /// QEMU's name of the CPU [default: neoverse-n1 and max, one after the other]
    #[arg(long)]
    cpu: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Fail if a figure is more than 2 % worse than in docs/bench, or if a budget that was met there is not met any more
    #[arg(long)]
    check: bool,
    /// Only 1 GiB, on neoverse-n1
    #[arg(long)]
    short: bool,
    /// Write docs/bench: the figures and their chart
    #[arg(long)]
    write: bool,
    /// Instead, take the time in which 1 CPU and N initialise the struct pages of 16 GiB; --check holds 2 CPUs to a target
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=8))]
    smp: Option<u8>,
}

impl Bench {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        self.refuse_contradictions()?;
        let places = self.places()?;
        if let Some(cpus) = self.smp {
            return self.run_in_parallel(&places, cpus);
        }
        let baseline = self.check.then(|| Baseline::read(&baseline::directory().join(FIGURES))).transpose()?;
        baseline.iter().try_for_each(|baseline| baseline.covers(&places))?;
        setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
        build::images(&[Image::Kernel])?;
        // Whether counts are exact is not believed but seen: the smallest case is run twice.
        let twin = places.iter().filter(|_| self.check).min_by_key(|place| place.struct_pages());
        let all: Vec<_> = places.iter().chain(twin).cloned().collect();
        let reports = boots::run(&all)?;
        let image = ImageSize::of(&Image::Kernel.path())?;
        let measured = Measured { cases: cases(&places, &reports)?, image };
        let verdict = baseline.map(|baseline| Verdict::of(&baseline, &measured, &all, &reports));
        self.show(&measured, verdict.as_ref());
        if self.write {
            write(&baseline::directory(), &measured)?;
        }
        Ok(if verdict.is_none_or(|verdict| verdict.is_good()) { Status::Pass } else { Status::Fail })
    }

    fn run_in_parallel(&self, places: &[Place], cpus: u8) -> Result<Status, Stop> {
        if self.check && !places.iter().any(|place| parallel::has_target(place, cpus)) {
            return Err(Stop::refused("--check has a target for 16 GiB and more at 4k: leave --check away"));
        }
        setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
        build::images(&[Image::Kernel])?;
        let all = parallel::run(places, cpus)?;
        let passed = !self.check || !all.iter().any(Parallel::misses_target);
        if self.json {
            println!("{}", parallel::object(&all, passed));
        } else {
            for line in parallel::lines(&all) {
                anstream::println!("{line}");
            }
        }
        Ok(if passed { Status::Pass } else { Status::Fail })
    }

    fn refuse_contradictions(&self) -> Result<(), Stop> {
        let part = self.granule.is_some() || !self.size.is_empty() || self.cpu.is_some();
        let why = match self {
            Self { short: true, write: true, .. } => "--write writes all cases: leave --short away",
            Self { write: true, .. } if part => "--write writes all cases: leave --granule, --size and --cpu away",
            Self { write: true, check: true, .. } => "--write replaces what --check compares with: leave one away",
            Self { smp: Some(_), write: true, .. } | Self { smp: Some(_), short: true, .. } => {
                "--smp takes times, which are not written down: leave --write and --short away"
            }
            Self { smp: Some(cpus), check: true, .. } if *cpus != parallel::TARGET_CPUS => {
                "--check has a target for 2 CPUs: give --smp 2"
            }
            Self { short: true, size, .. } if !size.is_empty() => "--short is 1 GiB: leave --short or --size away",
            Self { short: true, cpu: Some(_), .. } => "--short is on neoverse-n1: leave --short or --cpu away",
            _ => return Ok(()),
        };
        Err(Stop::refused(why))
    }

    /// The cases, those of one granule and size beside each other.
    fn places(&self) -> Result<Vec<Place>, Stop> {
        let cpus = if self.short || self.smp.is_some() { &CPUS[..1] } else { &CPUS };
        let cpus = self.cpu.as_deref().map_or(cpus.to_vec(), |cpu| vec![cpu]);
        let granules = self.granule.map_or(GranuleSize::ALL.to_vec(), |granule| vec![granule]);
        let places = granules.into_iter().flat_map(|granule| {
            let on = |size| cpus.iter().map(move |cpu| Place { granule, size, cpu: (*cpu).to_owned() });
            self.sizes(granule).into_iter().flat_map(on).collect::<Vec<_>>()
        });
        let places: Vec<_> = places.collect();
        for place in &places {
            size::whole_subsections("--size", place.size, 1)?;
            boots::job(place)?;
        }
        Ok(places)
    }

    fn sizes(&self, granule: GranuleSize) -> Vec<u64> {
        let mut sizes = self.size.clone();
        sizes.sort_unstable();
        sizes.dedup();
        match granule {
            _ if self.short => vec![GIB],
            _ if !sizes.is_empty() => sizes,
            _ if self.smp.is_some() => vec![16 * GIB],
            GranuleSize::K64 => [1, 16, 256, 1024].map(|gib| gib * GIB).to_vec(),
            GranuleSize::K4 | GranuleSize::K16 => [1, 16, 256].map(|gib| gib * GIB).to_vec(),
        }
    }

    fn show(&self, measured: &Measured, verdict: Option<&Verdict>) {
        if self.json {
            let mut object = object(measured);
            if let Some(verdict) = verdict {
                object["result"] = if verdict.is_good() { "pass" } else { "fail" }.into();
                object["check"] = json!({ "worse": verdict.worse, "inexact": verdict.inexact });
            }
            println!("{object}");
        } else {
            let Measured { cases, image } = measured;
            anstream::print!("{}", table::draw(cases));
            let verdict = verdict.iter().flat_map(|verdict| verdict.lines(cases.len()));
            let lines = rows_of("image", &image.words()).into_iter().chain(verdict);
            lines.for_each(|line| anstream::println!("{line}"));
        }
    }
}

/// All that was measured.
struct Measured {
    cases: Vec<Case>,
    image: ImageSize,
}

/// The file of the figures, and that of the chart.
const FIGURES: &str = "baseline.json";
const CHART: &str = "cost.svg";

/// The cases that were reported; behind them may be more reports.
fn cases(places: &[Place], reports: &[Value]) -> Result<Vec<Case>, Stop> {
    let case = |(place, report)| {
        Case::of(place, report).map_err(|why| Stop { status: Status::Fail, why: format!("{place}: {why}") })
    };
    places.iter().zip(reports).map(case).collect()
}

fn object(Measured { cases, image }: &Measured) -> Value {
    let cases: Vec<_> = cases.iter().map(Case::object).collect();
    json!({ "schema_version": SCHEMA_VERSION, "result": "pass", "image": image, "cases": cases })
}

/// Writes figures and chart, unless a budget was met before and is not any more.
fn write(directory: &Path, measured: &Measured) -> Result<(), Stop> {
    let file = directory.join(FIGURES);
    // What is not there, or can't be read any more, holds nobody to anything.
    let found = Baseline::read(&file).map(|baseline| baseline.compare(&measured.cases)).unwrap_or_default();
    if let Some(lost) = found.iter().find(|finding| finding.lost) {
        let why = format!("{lost}; nothing is written: mend it, or remove {FIGURES} first");
        return Err(Stop { status: Status::Fail, why });
    }
    let mut object = object(measured);
    object.as_object_mut().map(|object| object.shift_remove("result"));
    std::fs::create_dir_all(directory)?;
    std::fs::write(file, format!("{object:#}\n"))?;
    std::fs::write(directory.join(CHART), chart::draw(&measured.cases))?;
    Ok(())
}

/// What `--check` has found.
struct Verdict {
    worse: Vec<Finding>,
    /// The case that was run twice.
    twice: String,
    /// In what its two reports differ.
    inexact: Option<String>,
}

impl Verdict {
    /// Compares cases with the baseline, and the last of all reports with the first of the same place.
    fn of(baseline: &Baseline, measured: &Measured, places: &[Place], reports: &[Value]) -> Self {
        let twin = places.len().saturating_sub(1);
        let first = places.iter().position(|place| *place == places[twin]).unwrap_or(twin);
        let twice = places[twin].to_string();
        let inexact = difference("", &reports[first], &reports[twin]);
        let mut worse = baseline.compare(&measured.cases);
        worse.extend(baseline.compare_image(&measured.image));
        Self { worse, twice, inexact }
    }

    fn is_good(&self) -> bool {
        self.worse.is_empty() && self.inexact.is_none()
    }

    fn lines(&self, cases: usize) -> Vec<String> {
        let exact = match &self.inexact {
            None => rows_of("exact", &format!("{} was run twice: both reports are equal in every field", self.twice)),
            Some(why) => rows_of("FAIL", &format!("{} was run twice, counts are not exact: {why}", self.twice)),
        };
        let worse = self.worse.iter().flat_map(|finding| rows_of("FAIL", &finding.to_string()));
        let cases = plural(cases as u64, "case");
        let none = row("PASS", &format!("nothing in {cases} is more than 2 % worse than in docs/bench/{FIGURES}"));
        exact.into_iter().chain(worse).chain(self.is_good().then_some(none)).collect()
    }
}

/// The first field in which two reports differ.
fn difference(at: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => a
            .iter()
            .find_map(|(key, value)| difference(&format!("{at}.{key}"), value, b.get(key).unwrap_or(&Value::Null))),
        _ => (one != other).then(|| format!("{} is {one} and {other}", at.trim_start_matches('.'))),
    }
}

#[cfg(test)]
#[path = "bench/tests.rs"]
mod tests;

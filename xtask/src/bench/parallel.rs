//! `cargo xtask bench --smp N`: how much faster struct pages are initialised by N CPUs than by one. Times, not counts: QEMU
//! runs each CPU on a thread of the host, so the host should do nothing else.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use vmemmap::granule::GranuleSize;

use super::case::Place;
use super::{boots, rows_of};
use crate::line::Boot;
use crate::machine;
use crate::report::SCHEMA_VERSION;
use crate::screen::row;
use crate::status::{Status, Stop};

/// Passes by one CPU, and as many by all, in turn.
const PASSES: u64 = 10;
/// How much faster two CPUs must be than one where there is a target.
const TARGET: f64 = 1.8;
/// With how many CPUs.
pub const TARGET_CPUS: u8 = 2;
/// No boot may take longer.
const LIMIT: Duration = Duration::from_mins(5);

/// What the kernel reports of its passes.
#[derive(Debug, Deserialize)]
struct Passes {
    struct_pages: u64,
    one_cpu_ns: Vec<u64>,
    all_cpus_ns: Vec<u64>,
}

/// One place, measured with several CPUs.
#[derive(Debug)]
pub struct Parallel {
    place: Place,
    cpus: u8,
    struct_pages: u64,
    /// Medians.
    one_cpu: Duration,
    all_cpus: Duration,
}

/// Whether a target is set: for 16 GiB and more at 4K, by two CPUs.
pub fn has_target(place: &Place, cpus: u8) -> bool {
    const SIZE: u64 = 16 << 30;
    place.granule == GranuleSize::K4 && place.size >= SIZE && cpus == TARGET_CPUS
}

/// Boots each of `places` with `cpus` CPUs, one after the other.
///
/// # Errors
/// The first boot that did not pass.
pub fn run(places: &[Place], cpus: u8) -> Result<Vec<Parallel>, Stop> {
    places.iter().map(|place| one(place, cpus)).collect()
}

fn one(place: &Place, cpus: u8) -> Result<Parallel, Stop> {
    let mut job = boots::job(place)?;
    (job.smp, job.count) = (cpus, false);
    let boot = Boot { passes: PASSES, ..Boot::main_job(job) };
    let run = machine::run(&boot, LIMIT, |_| {})?;
    if run.end.status != Status::Pass {
        return Err(Stop { why: format!("{place}: {}", run.end.why), ..run.end });
    }
    let report = run.said("report").next().ok_or("there is none".to_owned());
    let passes = report.and_then(|text| read(text).map_err(|error| error.to_string()));
    let passes = passes.map_err(|why| Stop::machine(format!("{place}: the kernel's report cannot be read: {why}")))?;
    Ok(Parallel {
        place: place.clone(),
        cpus,
        struct_pages: passes.struct_pages,
        one_cpu: median(passes.one_cpu_ns),
        all_cpus: median(passes.all_cpus_ns),
    })
}

fn read(report: &str) -> Result<Passes, serde_json::Error> {
    let mut report: Value = serde_json::from_str(report)?;
    serde_json::from_value(report["passes"].take())
}

/// The middle one, or the mean of the two in the middle; nothing of nothing.
fn median(mut nanoseconds: Vec<u64>) -> Duration {
    nanoseconds.sort_unstable();
    let (low, high) = (nanoseconds.len().saturating_sub(1) / 2, nanoseconds.len() / 2);
    let at = |index: usize| nanoseconds.get(index).copied().unwrap_or_default();
    Duration::from_nanos(u64::midpoint(at(low), at(high)))
}

impl Parallel {
    /// How many times faster all CPUs are than one.
    fn factor(&self) -> f64 {
        self.one_cpu.as_secs_f64() / self.all_cpus.as_secs_f64()
    }

    /// Whether it is too slow for its target.
    pub fn misses_target(&self) -> bool {
        has_target(&self.place, self.cpus) && self.factor() < TARGET
    }

    fn object(&self) -> Value {
        let mut object = json!(self.place);
        object["cpus"] = self.cpus.into();
        object["struct_pages"] = self.struct_pages.into();
        object["one_cpu_ns"] = (self.one_cpu.as_nanos() as u64).into();
        object["all_cpus_ns"] = (self.all_cpus.as_nanos() as u64).into();
        object
    }
}

/// The object that `--json` prints.
pub fn object(all: &[Parallel], passed: bool) -> Value {
    let cases: Vec<_> = all.iter().map(Parallel::object).collect();
    json!({ "schema_version": SCHEMA_VERSION, "result": if passed { "pass" } else { "fail" }, "parallel": cases })
}

/// The lines of the screen.
pub fn lines(all: &[Parallel]) -> Vec<String> {
    let cpus = all.first().map_or(0, |parallel| parallel.cpus);
    let head = format!(
        "initialised by 1 CPU and by {cpus}: medians of {PASSES} passes each over frames that were written before"
    );
    let each = all.iter().map(|parallel| {
        let Parallel { place, cpus, struct_pages, one_cpu, all_cpus } = parallel;
        let milliseconds = |time: &Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
        let (one, all, factor) = (milliseconds(one_cpu), milliseconds(all_cpus), parallel.factor());
        let target = if has_target(place, *cpus) { format!("   at least {TARGET} wanted") } else { String::new() };
        row("", &format!("{:<24}{struct_pages:>10}{one:>16}{all:>16}{factor:>8.2} x{target}", place.to_string()))
    });
    let missed = all.iter().filter(|parallel| parallel.misses_target());
    let missed = missed.flat_map(|parallel| {
        rows_of(
            "missed",
            &format!("{}: {:.2} x, {TARGET} wanted: is the host busy?", parallel.place, parallel.factor()),
        )
    });
    rows_of("pages", &head).into_iter().chain(each).chain(missed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parallel(size: u64, cpus: u8, one: u64, all: u64) -> Parallel {
        let place = Place { granule: GranuleSize::K4, size, cpu: "max".to_owned() };
        let [one_cpu, all_cpus] = [one, all].map(Duration::from_nanos);
        Parallel { place, cpus, struct_pages: size >> 12, one_cpu, all_cpus }
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(vec![9, 1, 5]), Duration::from_nanos(5));
        assert_eq!(median(vec![10, 1, 2, 4]), Duration::from_nanos(3));
        assert_eq!(median(vec![]), Duration::ZERO);
    }

    #[test]
    fn two_cpus_must_be_1_8_times_as_fast_for_16_gib() {
        assert!(parallel(16 << 30, 2, 179, 100).misses_target());
        assert!(!parallel(16 << 30, 2, 180, 100).misses_target());
        assert!(!parallel(1 << 30, 2, 100, 100).misses_target(), "too short to tell");
        assert!(!parallel(16 << 30, 4, 100, 100).misses_target(), "who knows how many the host has");
    }

    #[test]
    fn a_report_without_passes_is_not_read() {
        assert!(read(r#"{"passes":{"struct_pages":1,"one_cpu_ns":[1],"all_cpus_ns":[2]}}"#).is_ok());
        assert!(read(r#"{"result":"pass"}"#).is_err());
    }

    #[test]
    fn a_missed_target_is_said() {
        let said = |parallel| lines(&[parallel]).join("\n");
        assert!(said(parallel(16 << 30, 2, 100, 100)).contains("4k 16 GiB max: 1.00 x, 1.8 wanted"));
        assert!(!said(parallel(16 << 30, 2, 200, 100)).contains("1.8 wanted:"));
    }
}

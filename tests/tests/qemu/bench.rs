//! `cargo xtask bench` as a user types it.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::commands::{command, ensure, run};

/// Name, flags, and what the line says; all before anything is booted.
const REFUSED: [(&str, &str, &str); 8] = [
    ("a_size_of_3m", "--size 1G,3M", "--size 0x300000: hot-plug works in multiples of 2 MiB; 0x400000 would do"),
    ("a_baseline_of_the_short_form", "--write --short", "leave --short away"),
    ("a_baseline_of_times", "--write --smp 2", "--smp takes times, which are not written down"),
    ("a_check_with_three_cpus", "--check --smp 3", "--check has a target for 2 CPUs: give --smp 2"),
    (
        "a_check_of_times_without_a_target",
        "--check --smp 2 --size 1G",
        "--check has a target for 16 GiB and more at 4k",
    ),
    ("one_cpu_beside_one", "--smp 1", "invalid value '1' for '--smp <N>'"),
    ("a_check_of_what_was_not_written_down", "--check --size 2M", "is not in docs/bench/baseline.json"),
    ("a_size_beyond_the_cpus_reach", "--granule 64k --size 1T --cpu cortex-a53", "64k 1 TiB cortex-a53: device memory"),
];

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let refused = |(name, flags, says): (&str, &'static str, &'static str)| {
        Trial::test(format!("bench::{name}_is_refused"), move || refused(flags, says))
    };
    let mut trials: Vec<_> = REFUSED.into_iter().map(refused).collect();
    trials.push(Trial::test("bench::the_short_form_holds", short_form));
    trials.push(Trial::test("bench::the_object_is_one_line_with_figures_and_no_report", object));
    trials.push(Trial::test("bench::one_cpu_and_several_are_timed", parallel));
    trials
}

fn refused(flags: &str, says: &str) -> Result<(), Failed> {
    let ended = run(command(&format!("bench {flags}"))?)?;
    ensure(ended.status == Some(2) && ended.out.is_empty(), "it is not refused", &ended)?;
    ensure(ended.err.lines().any(|line| line.starts_with("error: ") && line.contains(says)), says, &ended)
}

/// No figure at 1 GiB is more than 2 % worse than in the baseline, and two runs count the same.
fn short_form() -> Result<(), Failed> {
    let ended = run(command("bench --short --check")?)?;
    ensure(ended.status == Some(0), "a figure is worse: mend it, or `cargo xtask bench --write`", &ended)?;
    let exact = "exact     64k 1 GiB neoverse-n1 was run twice: both reports are equal in every field";
    let pass = "PASS      nothing in 3 cases is more than 2 % worse";
    ensure(ended.out.contains(exact) && ended.out.contains(pass), "it does not say so", &ended)?;
    ensure(ended.out.lines().all(|line| line.chars().count() <= 110), "more than 110 columns", &ended)
}

fn object() -> Result<(), Failed> {
    let ended = run(command("bench --json --granule 16k --size 2M,1026M --cpu max")?)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    let all: Vec<_> = object["cases"].as_array().into_iter().flatten().collect();
    ensure(object["result"] == "pass" && all.len() == 2 && object["check"].is_null(), "the whole", &ended)?;
    // A page of vmemmap describes 4 MiB at 16K: here are a half, and 256 and a half.
    ensure([&all[0], &all[1]].map(|case| &case["vmemmap_leaves"]) == [1, 257], "descriptors", &ended)?;
    let per_page = all[1]["instructions_per_page"]["add"].as_f64().unwrap_or(0.0);
    ensure((1.0..10.0).contains(&per_page), "instructions per page", &ended)
}

/// Which is faster is not asked here: that is the host's.
fn parallel() -> Result<(), Failed> {
    let ended = run(command("bench --json --granule 4k --size 2G --smp 3")?)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    let only = &object["parallel"][0];
    ensure(object["result"] == "pass" && only["cpus"] == 3 && only["struct_pages"] == 524_288, "the whole", &ended)?;
    let times = [&only["one_cpu_ns"], &only["all_cpus_ns"]].map(|time| time.as_u64().unwrap_or(0));
    ensure(times.iter().all(|time| (100_000..10_000_000_000).contains(time)), "times", &ended)
}

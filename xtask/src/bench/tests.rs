use super::case::tests::case;
use super::*;
use crate::{Cli, Command};
use clap::Parser as _;

fn bench(flags: &str) -> Bench {
    let words = ["xtask", "bench"].into_iter().chain(flags.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Bench(bench) => bench,
        other => panic!("{other:?}"),
    }
}

fn names(flags: &str) -> Vec<String> {
    bench(flags).places().unwrap().iter().map(Place::to_string).collect()
}

/// One case, and an image of 1,000 bytes.
fn measured(case: Case) -> Measured {
    sized(case, 1000)
}

fn sized(case: Case, bytes: u64) -> Measured {
    let image = serde_json::from_value(json!({ "bytes": bytes, "sections": [] })).unwrap();
    Measured { cases: vec![case], image }
}

#[test]
fn what_is_measured_follows_from_the_flags() {
    assert_eq!(names("").len(), 20);
    assert!(names("").contains(&"64k 1 TiB max".to_owned()) && !names("").contains(&"16k 1 TiB max".to_owned()));
    assert_eq!(names("--short"), ["4k 1 GiB neoverse-n1", "16k 1 GiB neoverse-n1", "64k 1 GiB neoverse-n1"]);
    assert_eq!(names("--granule 16k --short"), ["16k 1 GiB neoverse-n1"]);
    let sizes = ["64k 2 MiB max", "64k 2 GiB max"];
    assert_eq!(names("--granule 64k --size 2G,2M,2G --cpu max"), sizes);
}

#[test]
fn bad_input_is_one_line_that_says_what_to_do() {
    for (flags, says) in [
        ("--write --short", "--write writes all cases: leave --short away"),
        ("--write --granule 4k", "leave --granule, --size and --cpu away"),
        ("--write --size 1G", "leave --granule, --size and --cpu away"),
        ("--write --cpu max", "leave --granule, --size and --cpu away"),
        ("--write --check", "leave one away"),
        ("--short --size 1G", "leave --short or --size away"),
        ("--short --cpu max", "leave --short or --cpu away"),
        ("--size 3M", "--size 0x300000: hot-plug works in multiples of 2 MiB; 0x400000 would do"),
        ("--size 1G,0", "--size 0x0: hot-plug works in multiples of 2 MiB; 0x200000 would do"),
    ] {
        let bench = bench(flags);
        let stop = bench.refuse_contradictions().and_then(|()| bench.places()).unwrap_err();
        assert!(stop.status == Status::Refused && stop.why.contains(says), "{flags}: {stop:?}");
    }
    assert_eq!(bench("--short --check --json").refuse_contradictions(), Ok(()));
}

#[test]
fn two_reports_that_differ_anywhere_are_not_exact() {
    let report = json!({ "add": { "instructions": { "total": 1 }, "isb": 2 }, "leaves": [1, 2] });
    assert_eq!(difference("", &report, &report), None);
    for (place, says) in
        [("/add/instructions/total", "add.instructions.total is 1 and 7"), ("/leaves/1", "leaves is [1,2]")]
    {
        let mut other = report.clone();
        *other.pointer_mut(place).unwrap() = 7.into();
        let found = difference("", &report, &other).unwrap_or_default();
        assert!(found.starts_with(says), "{found}");
    }
    let mut other = report.clone();
    other["more"] = 1.into();
    assert!(difference("", &report, &other).is_some() && difference("", &other, &report).is_some());
}

#[test]
fn a_check_fails_on_a_worse_figure_and_on_unequal_reports() {
    let text = object(&measured(case())).to_string();
    let baseline = || serde_json::from_str::<Baseline>(&text).unwrap();
    let places = [case().place, case().place];
    let verdict = |is: Measured, reports| Verdict::of(&baseline(), &is, &places, reports);
    let equal = [json!({ "dsb": 2 }), json!({ "dsb": 2 })];
    let good = verdict(measured(case()), &equal);
    assert!(good.is_good());
    let lines = good.lines(1).join("\n");
    assert!(
        lines.contains("64k 16 GiB neoverse-n1 was run twice") && lines.contains("nothing in 1 case is"),
        "{lines}"
    );
    let mut worse = case();
    worse.add.isb += 1;
    let found = verdict(measured(worse), &equal);
    assert!(!found.is_good() && found.lines(1).join("\n").contains("ISB of the add was 2, is 3: more than 2 % worse"));
    let larger = verdict(sized(case(), 1021), &equal);
    assert!(!larger.is_good() && larger.lines(1).join("\n").contains("image: what is loaded was 1000, is 1021 bytes"));
    let inexact = verdict(measured(case()), &[json!({ "dsb": 2 }), json!({ "dsb": 3 })]);
    assert!(!inexact.is_good() && inexact.lines(1)[0].contains("counts are not exact: dsb is 2 and 3"));
    assert_eq!(inexact.lines(1).len(), 1);
}

#[test]
fn what_is_written_is_read_again_and_a_met_budget_is_not_given_up() {
    let directory = std::env::temp_dir().join(format!("vmemmap-bench-{}", std::process::id()));
    let read = |name| std::fs::read_to_string(directory.join(name)).unwrap();
    write(&directory, &measured(case())).unwrap();
    let before = read(FIGURES);
    assert!(
        before.starts_with("{\n  \"schema_version\": 1,\n  \"image\": {") && read(CHART).starts_with("<svg "),
        "{before}"
    );
    assert_eq!(Baseline::read(&directory.join(FIGURES)).unwrap().compare(&[case()]), []);
    let mut slow = case();
    slow.add.tlbi = 1;
    let stop = write(&directory, &measured(slow)).unwrap_err();
    assert!(
        stop.status == Status::Fail && stop.why.contains("TLBI of the add was 0, is 1: over its budget"),
        "{stop:?}"
    );
    assert_eq!(read(FIGURES), before);
    let mut longer = case();
    longer.add.instructions.init *= 2;
    assert_eq!(write(&directory, &measured(longer)), Ok(()));
    assert_ne!(read(FIGURES), before);
    std::fs::remove_dir_all(directory).unwrap();
}

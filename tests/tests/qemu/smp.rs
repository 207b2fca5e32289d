//! Cases that are booted with several numbers of CPUs, and what a report from another CPU says.

use libtest_mimic::{Failed, Trial};
use tests::{Case, Ends};
use xtask::{Boot, Image, Job, Run, Status};

use crate::{TIME_LIMIT, boot, built, evidence};

/// A case, on how many CPUs, and flags beside those.
struct OnCpus {
    case: Case,
    cpus: &'static [u8],
}

const fn on_cpus(name: &'static str, flags: &'static str, ends: Ends, cpus: &'static [u8]) -> OnCpus {
    OnCpus { case: Case { name, flags, on: "", ends }, cpus }
}

/// Booted at each granule.
const ON_CPUS: [OnCpus; 5] = [
    on_cpus("smp::every_cpu_takes_part_on_its_own_stack", "--virtualization", Ends::Pass, &[2, 8]),
    on_cpus("smp::every_cpu_takes_part_on_its_own_stack", "--virtualization --cpu max --va-bits 52", Ends::Pass, &[3]),
    on_cpus("smp::every_cpu_faults_after_the_removal", "", Ends::Pass, &[2, 4, 8]),
    on_cpus("smp::readers_see_no_wrong_page_while_ranges_come_and_go", "--device-size 3G", Ends::Pass, &[2, 4]),
    on_cpus(
        "smp::a_removal_that_does_not_wait_for_readers_is_seen",
        "--device-size 3G",
        Ends::Panic("load: translation fault"),
        &[2],
    ),
];

static FAULT: Case = Case {
    name: "smp::a_fault_on_another_cpu_is_reported",
    flags: "--smp 2",
    on: "",
    ends: Ends::Panic("at 0xffffffffbffffff8: "),
};

static PANICS: Case = Case {
    name: "smp::a_panic_on_all_cpus_is_reported_once",
    flags: "--smp 8",
    on: "",
    ends: Ends::Panic("on purpose, on CPU "),
};

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let on_cpus = ON_CPUS.iter().flat_map(|OnCpus { case, cpus }| {
        let machines =
            ["4k", "16k", "64k"].into_iter().flat_map(|granule| cpus.iter().map(move |cpus| (granule, cpus)));
        machines.map(move |(granule, cpus)| {
            let flags = format!("--granule {granule} --smp {cpus} {}", case.flags);
            let sentence = case.name.trim_start_matches("smp::");
            let name = format!("smp::{granule}::on_{cpus}_cpus::{sentence}");
            Trial::test(name, move || boot(&flags, case))
        })
    });
    let reports = [
        Trial::test(FAULT.name, || reported_from(&FAULT, &["load_wildly", "secondary_start"])),
        Trial::test(PANICS.name, || reported_from(&PANICS, &["reports::panics"])),
    ];
    on_cpus.chain(reports).collect()
}

/// The report is there, once, and its backtrace names these functions.
fn reported_from(case: &Case, functions: &[&str]) -> Result<(), Failed> {
    built()?;
    let job = Job::from_flags(case.flags).map_err(|stop| stop.why)?;
    let boot = Boot { image: Image::Test, test: Some(case.name.to_owned()), ..Boot::main_job(job) };
    let run = xtask::run(&boot, TIME_LIMIT, |_| {}).map_err(|stop| stop.why)?;
    let frames = xtask::backtrace(&boot.image.path(), run.frames());
    let named = functions.iter().all(|function| frames.iter().any(|frame| frame.contains(function)));
    let right = crate::ended_well(case, &run) && reports(&run) == 1 && named;
    if right && run.end.status == Status::Panic { Ok(()) } else { Err(evidence(case, &boot, &run).into()) }
}

fn reports(run: &Run) -> usize {
    run.console.iter().map(|line| line.matches("@panic").count()).sum()
}

//! One QEMU boot for each bootable test on each machine, and the commands as a user types them.
//!
//! The boots go through the code of `cargo xtask qemu`. Filters, `--list` and `cargo nextest` work as usual.

use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use tests::{CASES, Case, Ends};
use xtask::{Boot, Image, Job, Run, Status, build, shell};

mod bench;
mod commands;
mod devices;
mod gdb;
mod live;
mod machines;
mod refusals;
mod scratch;
mod size;
mod smp;
mod trees;

/// No boot may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Boots that run side by side.
const THREADS: usize = 2;

/// Name and flags of each machine; the last maps nothing by blocks, so that QEMU's TLB shows every wrong address.
const CONFIGURATIONS: [(&str, &str); 12] = [
    ("4k::cortex-a72", "--granule 4k --cpu cortex-a72"),
    ("64k::cortex-a72", "--granule 64k --cpu cortex-a72"),
    ("4k::neoverse-n1", "--granule 4k --cpu neoverse-n1"),
    ("16k::neoverse-n1", "--granule 16k --cpu neoverse-n1"),
    ("64k::neoverse-n1", "--granule 64k --cpu neoverse-n1"),
    ("4k::max", "--granule 4k --cpu max"),
    ("16k::max", "--granule 16k --cpu max"),
    ("64k::max", "--granule 64k --cpu max"),
    ("4k_52::max", "--granule 4k --cpu max --va-bits 52"),
    ("16k_52::max", "--granule 16k --cpu max --va-bits 52"),
    ("64k_52::max", "--granule 64k --cpu max --va-bits 52"),
    ("4k::neoverse-n1-pages", "--granule 4k --cpu neoverse-n1 --leaf pages"),
];

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let boots = CONFIGURATIONS.iter().flat_map(|machine| CASES.iter().filter_map(|case| boot_trial(*machine, case)));
    let trials = boots
        .chain(machines::trials())
        .chain(bench::trials())
        .chain(commands::trials())
        .chain(devices::trials())
        .chain(live::trials())
        .chain(refusals::trials())
        .chain(smp::trials())
        .chain(trees::trials())
        .chain(size::trials())
        .chain([gdb::trial()])
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Builds the images once.
fn built() -> Result<(), Failed> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build::images(&Image::ALL).map_err(|stop| stop.why));
    built.clone().map_err(Failed::from)
}

fn boot_trial((machine, flags): (&str, &str), case: &'static Case) -> Option<Trial> {
    if !machine.contains(case.on) {
        return None;
    }
    let flags = format!("{flags} {}", case.flags);
    Some(Trial::test(format!("{machine}::{}", case.name), move || boot(&flags, case)))
}

fn boot(flags: &str, case: &Case) -> Result<(), Failed> {
    built()?;
    let job = Job::from_flags(flags).map_err(|stop| stop.why)?;
    let boot = Boot { image: Image::Test, test: Some(case.name.to_owned()), ..Boot::main_job(job) };
    let run = xtask::run(&boot, TIME_LIMIT, |_| {}).map_err(|stop| stop.why)?;
    if ended_well(case, &run) { Ok(()) } else { Err(evidence(case, &boot, &run).into()) }
}

fn ended_well(case: &Case, run: &Run) -> bool {
    let (status, why) = (run.end.status, &run.end.why);
    match case.ends {
        Ends::Pass => status == Status::Pass && run.said("test").any(|text| text == format!("{} ok", case.name)),
        Ends::Fail(says) => status == Status::Fail && run.said("fail").any(|text| text.contains(says)),
        Ends::Refused(says) => status == Status::Refused && why.contains(says),
        Ends::Panic(says) => {
            // A line of its own, and what it says here or further down.
            let reported = status == Status::Panic && run.said("panic").next().is_some();
            reported && run.console.iter().any(|line| line.contains(says))
        }
    }
}

/// What a person needs: expected and actual end, QEMU's line, the console.
fn evidence(case: &Case, boot: &Boot, run: &Run) -> String {
    let ends = format!("expected {:?}, got {:?} after {:?}", case.ends, run.end, run.elapsed);
    let frames = xtask::backtrace(&boot.image.path(), run.frames());
    [ends, shell(&boot.line()), "--- console".to_owned()]
        .iter()
        .chain(&run.console)
        .chain(&frames)
        .fold(String::new(), |text, line| text + line + "\n")
}

//! The boots: a mutant is seen if the test image does not pass with it. Two more have the checker of the protocol in the
//! kernel.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::job::Job;
use crate::line::{Boot, Image};
use crate::machine;
use crate::status::{Status, Stop};

/// Boots that run side by side.
const THREADS: usize = 2;
/// A boot that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Name and flags of each machine. Base pages only at 4K is where QEMU shows most.
const CONFIGURATIONS: [(&str, &str); 4] = [
    ("4k pages", "--granule 4k --leaf pages --device-size 16M"),
    ("4k", "--granule 4k --device-size 16M"),
    ("16k", "--granule 16k --device-size 512M"),
    ("64k", "--granule 64k"),
];
/// Far from RAM, so that the table above both ranges is not boot's.
const FAR: [(&str, &str); 1] = [("4k pages", "--granule 4k --leaf pages --device-base 640G --device-size 2G")];

/// With the checker of the protocol in the kernel; the main job only.
const CHECKED: [(&str, &str); 2] =
    [("4k checked", "--granule 4k --device-size 16M --checked"), ("64k checked", "--granule 64k --checked")];

/// Where a mutant was seen.
#[derive(Debug)]
pub struct Seen {
    pub mutant: String,
    /// Names of configurations, those with the checker left out.
    pub at: Vec<String>,
    /// What the first of them said.
    pub why: String,
    /// Whether the checker was there.
    pub checked: bool,
    /// The checker's rules that it broke.
    pub broken: BTreeSet<String>,
}

/// How a boot ended.
#[derive(Clone, Debug)]
struct Ended {
    end: Stop,
    /// The checker's rule that was broken.
    broken: Option<String>,
}

/// One boot: the mutant, and a configuration.
type Case<'a> = (&'a str, (&'static str, &'static str));

/// Boots each mutant, given with what shows it, on each configuration.
pub fn run<'a>(mutants: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Vec<Seen>, Stop> {
    let mutants: Vec<_> = mutants.collect();
    let cases: Vec<Case<'_>> = mutants.iter().flat_map(|(name, boot)| on(boot).map(|at| (*name, at))).collect();
    let ended = in_parallel(&cases)?;
    Ok(mutants.iter().map(|(name, _)| collect(name, &cases, &ended)).collect())
}

fn on(boot: &str) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let machines: &[_] = match boot {
        "no" => &[],
        "cousins" => &FAR,
        _ => &CONFIGURATIONS,
    };
    let checked: &[_] = if boot == "story" { &CHECKED } else { &[] };
    machines.iter().chain(checked).copied()
}

fn collect(name: &str, cases: &[Case<'_>], ended: &[Ended]) -> Seen {
    let mine = || cases.iter().zip(ended).filter(|((mutant, _), _)| *mutant == name);
    let plain = || mine().filter(|((_, at), _)| !CHECKED.contains(at));
    let seen = || plain().filter(|(_, ended)| ended.end.status != Status::Pass);
    Seen {
        mutant: name.to_owned(),
        at: seen().map(|((_, (at, _)), _)| (*at).to_owned()).collect(),
        why: seen().next().map(|(_, ended)| ended.end.why.clone()).unwrap_or_default(),
        checked: mine().any(|((_, at), _)| CHECKED.contains(at)),
        broken: mine().filter_map(|(_, ended)| ended.broken.clone()).collect(),
    }
}

/// How each case ended.
fn in_parallel(cases: &[Case<'_>]) -> Result<Vec<Ended>, Stop> {
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(vec![None; cases.len()]);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { break };
            let end = boot(case);
            if let Ok(mut ended) = ended.lock() {
                ended[index] = Some(end);
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let ended = ended.into_inner().unwrap_or_default();
    ended.into_iter().map(|end| end.unwrap_or_else(|| Err(Stop::machine("a boot was lost")))).collect()
}

fn boot((mutant, (_, flags)): &Case<'_>) -> Result<Ended, Stop> {
    let job = Job::from_flags(&format!("{flags} --cpu max"))?;
    let boot = Boot { image: Image::Test, test: Some(format!("mutant::{mutant}")), ..Boot::main_job(job) };
    let run = machine::run(&boot, TIME_LIMIT, |_| {})?;
    let broken = run.said("broken").next().and_then(|json| serde_json::from_str::<Value>(json).ok());
    let broken = broken.and_then(|broken| broken["rule"].as_str().map(str::to_owned));
    match run.end.status {
        Status::Interrupted => Err(run.end),
        Status::Refused if run.end.why.contains("no test case") => Err(run.end),
        _ => Ok(Ended { end: run.end, broken }),
    }
}

//! The boots: a mutant is seen if the test image fails or panics with it, or hangs where that is expected. What else goes
//! wrong says nothing of a mutant, and ends the command. Two more boots have the checker of the protocol in the kernel.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::job::Job;
use crate::line::{Boot, Image};
use crate::machine;
use crate::outcome::Run;
use crate::status::{Status, Stop};

/// Boots that run side by side.
const THREADS: usize = 2;
/// A boot that takes longer hangs, or the host is busy: one that should not hang then gets `PATIENCE`.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(1);
/// Mutants that are seen by a boot that does not end.
const HANGS: [&str; 2] = ["tg1-as-tg0", "t1sz-off-by-one"];

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
    /// What the first boot that did not pass said.
    pub why: String,
    /// Whether the checker was there.
    pub checked: bool,
    /// The checker's rules that it broke.
    pub broken: BTreeSet<String>,
    /// Whether a boot with the checker did not pass, and not because of the checker.
    pub otherwise: bool,
}

/// What a boot said of its mutant.
#[derive(Clone, Debug)]
struct Ended {
    /// Why it did not pass.
    fault: Option<String>,
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
    let (checked, plain): (Vec<_>, Vec<_>) = mine().partition(|((_, at), _)| CHECKED.contains(at));
    let at = plain.iter().filter(|(_, ended)| ended.fault.is_some()).map(|((_, (at, _)), _)| (*at).to_owned());
    Seen {
        mutant: name.to_owned(),
        at: at.collect(),
        why: plain.iter().chain(&checked).find_map(|(_, ended)| ended.fault.clone()).unwrap_or_default(),
        checked: !checked.is_empty(),
        broken: checked.iter().filter_map(|(_, ended)| ended.broken.clone()).collect(),
        otherwise: checked.iter().any(|(_, ended)| ended.fault.is_some() && ended.broken.is_none()),
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

fn boot((mutant, (at, flags)): &Case<'_>) -> Result<Ended, Stop> {
    let job = Job::from_flags(&format!("{flags} --cpu max"))?;
    let boot = Boot { image: Image::Test, test: Some(format!("mutant::{mutant}")), ..Boot::main_job(job) };
    let hangs = HANGS.contains(mutant);
    let (mut limit, mut run) = (TIME_LIMIT, machine::run(&boot, TIME_LIMIT, |_| {})?);
    if is_out_of_time(&run, limit) && !hangs {
        (limit, run) = (PATIENCE, machine::run(&boot, PATIENCE, |_| {})?);
    }
    let broken = run.said("broken").next().and_then(|json| serde_json::from_str::<Value>(json).ok());
    let broken = broken.and_then(|broken| broken["rule"].as_str().map(str::to_owned));
    let fault = fault(&run.end, hangs && is_out_of_time(&run, limit));
    let fault = fault.map_err(|Stop { status, why }| Stop { status, why: format!("{mutant} on {at}: {why}") })?;
    Ok(Ended { fault, broken })
}

fn is_out_of_time(run: &Run, limit: Duration) -> bool {
    run.end.status == Status::Machine && run.elapsed >= limit
}

/// What the end of a boot says against its mutant, if anything; an error is an end that has nothing to do with it. `hung` says
/// that it did not end in time, as expected.
fn fault(end: &Stop, hung: bool) -> Result<Option<String>, Stop> {
    match end.status {
        Status::Pass => Ok(None),
        // The kernel refuses what it finds in the tables; that it refuses the machine itself, the legal variants would show.
        Status::Fail | Status::Panic | Status::Refused => Ok(Some(end.why.clone())),
        Status::Machine if hung => Ok(Some(end.why.clone())),
        Status::Machine | Status::Interrupted => Err(end.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [Case<'_>; 3] = [("m", CONFIGURATIONS[1]), ("m", CHECKED[0]), ("m", CHECKED[1])];

    fn ended(fault: Option<&str>, broken: Option<&str>) -> Ended {
        Ended { fault: fault.map(str::to_owned), broken: broken.map(str::to_owned) }
    }

    #[test]
    fn only_a_kernel_that_fails_or_panics_or_hangs_as_expected_says_something_of_its_mutant() {
        let said = |status, hung| {
            let end = Stop { status, why: "why".to_owned() };
            fault(&end, hung).map(|fault| fault.is_some()).map_err(|stop| stop.status)
        };
        assert_eq!(said(Status::Pass, false), Ok(false));
        assert_eq!(said(Status::Fail, false), Ok(true));
        assert_eq!(said(Status::Panic, false), Ok(true));
        assert_eq!(said(Status::Machine, true), Ok(true));
        assert_eq!(said(Status::Refused, false), Ok(true));
        for status in [Status::Machine, Status::Interrupted] {
            assert_eq!(said(status, false), Err(status));
        }
    }

    #[test]
    fn a_machine_that_dies_early_has_not_run_out_of_time() {
        let run = |end: Stop, seconds| Run { end, elapsed: Duration::from_secs(seconds), ..Run::new() };
        let dead = || Stop::machine("QEMU died");
        let late = [run(dead(), 3), run(dead(), 10), run(Stop::refused("no"), 10)];
        assert_eq!(late.map(|run| is_out_of_time(&run, TIME_LIMIT)), [false, true, false]);
    }

    #[test]
    fn a_boot_that_fails_beside_the_checker_is_not_the_checkers() {
        let seen = |first, second| collect("m", &CASES, &[ended(None, None), first, second]);
        let by_checker = || ended(Some("event 5"), Some("early"));
        let both = seen(by_checker(), ended(Some("stale"), None));
        assert_eq!((both.broken.len(), both.otherwise, both.at.len()), (1, true, 0));
        let one = seen(by_checker(), ended(None, None));
        assert_eq!((one.broken.len(), one.otherwise, &*one.why), (1, false, "event 5"));
        let none = seen(ended(None, None), ended(None, None));
        assert_eq!((none.broken.len(), none.otherwise, none.checked), (0, false, true));
    }
}

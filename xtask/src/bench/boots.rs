//! The boots: two at a time, each with an end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::case::Place;
use crate::job::Job;
use crate::line::Boot;
use crate::machine;
use crate::status::{Status, Stop};

/// Boots that run side by side.
const TOGETHER: usize = 2;
/// No boot may take longer: the largest take half a minute on a machine that does nothing else.
const LIMIT: Duration = Duration::from_mins(5);

/// The job of `place`, and that it can be.
///
/// # Errors
/// What can not be.
pub fn job(place: &Place) -> Result<Job, Stop> {
    let flags = format!("--granule {} --device-size {:#x} --count", place.granule.name(), place.size);
    let job = Job { cpu: place.cpu.clone(), ..Job::from_flags(&flags)? };
    job.check()?;
    Ok(job)
}

/// Boots each of `places` and returns what the kernels reported, in the same order.
///
/// # Errors
/// The first boot that did not pass; no other is begun then.
pub fn run(places: &[Place]) -> Result<Vec<Value>, Stop> {
    let done = AtomicUsize::new(0);
    each(places, |place| {
        let report = boot(place)?;
        eprintln!("bench     {}/{} {place}", done.fetch_add(1, Ordering::Relaxed) + 1, places.len());
        Ok(report)
    })
}

fn boot(place: &Place) -> Result<Value, Stop> {
    let run = machine::run(&Boot::main_job(job(place)?), LIMIT, |_| {})?;
    if run.end.status != Status::Pass {
        return Err(Stop { why: format!("{place}: {}", run.end.why), ..run.end });
    }
    let report = run.said("report").next().ok_or("there is none".to_owned());
    let report = report.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()));
    report.map_err(|why| Stop::machine(format!("{place}: the kernel's report cannot be read: {why}")))
}

/// Calls `work` for each item, for two at a time.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R, Stop> + Sync) -> Result<Vec<R>, Stop> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        while let Some((item, result)) = take(&next, &failed).and_then(|at| items.get(at).zip(results.get(at))) {
            let done = work(item);
            failed.fetch_or(done.is_err(), Ordering::Relaxed);
            *result.lock().expect("nobody panics with it") = Some(done);
        }
    };
    thread::scope(|scope| (0..TOGETHER).for_each(|_| drop(scope.spawn(worker))));
    // What was not begun stands behind what failed.
    results.into_iter().filter_map(|result| result.into_inner().expect("nobody panics with it")).collect()
}

/// The next item's place, unless something has failed.
fn take(next: &AtomicUsize, failed: &AtomicBool) -> Option<usize> {
    (!failed.load(Ordering::Relaxed)).then(|| next.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let doubled = each(&[5, 4, 3, 2, 1], |&item| {
            thread::sleep(Duration::from_millis(item));
            Ok(item * 2)
        });
        assert_eq!(doubled, Ok(vec![10, 8, 6, 4, 2]));
    }

    #[test]
    fn two_run_side_by_side_and_no_more() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_: &i32| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        assert_eq!(each(&[0; 6], work).map(|done| done.len()), Ok(6));
        assert_eq!(most.into_inner(), 2);
    }

    #[test]
    fn nothing_is_begun_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let failed: Result<Vec<()>, _> = each(&[0; 100], |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            Err(Stop::machine("no"))
        });
        assert_eq!(failed, Err(Stop::machine("no")));
        assert!(begun.into_inner() <= 2);
    }
}

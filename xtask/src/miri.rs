//! `cargo xtask miri`: the core's unit tests under Miri, which sees undefined behaviour.

use std::io::{Read, Write as _};
use std::process::Stdio;

use crate::nightly;
use crate::status::{Status, Stop};

/// Tests that take minutes each there: they boot a memory map, table by table and word by word.
const TOO_SLOW: [&str; 2] = ["hotplug::", "vmemmap::tests"];

/// Runs the tests whose name contains `filter`, those that take minutes too; without one, all but these.
pub fn miri(filter: Option<&str>) -> Result<Status, Stop> {
    nightly::ensure("Miri is one of its components")?;
    nightly::ensure_component("miri", &["miri", "rust-src"])?;
    let mut tests = nightly::cargo(&["miri", "test", "--quiet", "-p", "vmemmap", "--lib", "--"]);
    tests.args(arguments(filter)).stdout(Stdio::piped());
    if filter.is_none() {
        println!("left out  {}: minutes each under Miri; to run them: cargo xtask miri NAME", TOO_SLOW.join(", "));
    }
    let mut running = tests.spawn()?;
    let said = pass_on(running.stdout.take())?;
    match (running.wait()?.success(), tests_run(&said)) {
        (true, 0) => Err(Stop::refused(format!(
            "no test ran under Miri: none has {:?} in its name; `cargo test -p vmemmap --lib -- --list` shows the names",
            filter.unwrap_or_default()
        ))),
        (true, _) => Ok(Status::Pass),
        (false, _) => Ok(Status::Fail),
    }
}

fn arguments(filter: Option<&str>) -> Vec<&str> {
    match filter {
        Some(filter) => vec![filter],
        None => TOO_SLOW.iter().flat_map(|name| ["--skip", name]).collect(),
    }
}

/// Shows what comes, as it comes, and keeps it.
fn pass_on(pipe: Option<impl Read>) -> Result<String, Stop> {
    let (mut said, mut bytes, mut screen) = (Vec::new(), [0; 1024], std::io::stdout());
    if let Some(mut pipe) = pipe {
        while let count @ 1.. = pipe.read(&mut bytes)? {
            screen.write_all(&bytes[..count])?;
            screen.flush()?;
            said.extend_from_slice(&bytes[..count]);
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// How many tests libtest says that it ran.
fn tests_run(said: &str) -> u64 {
    let counts = said.lines().filter_map(|line| line.strip_prefix("running ")?.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_names_is_not_left_out() {
        assert_eq!(arguments(Some("hotplug")), ["hotplug"]);
        assert_eq!(arguments(None), ["--skip", "hotplug::", "--skip", "vmemmap::tests"]);
    }

    #[test]
    fn tests_that_ran_are_counted() {
        assert_eq!(tests_run("\nrunning 0 tests\n\ntest result: ok. 0 passed; 9 filtered out\n"), 0);
        assert_eq!(tests_run("running 1 test\n.\nrunning 12 tests\n"), 13);
    }
}

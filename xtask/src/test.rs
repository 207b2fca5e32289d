//! `cargo xtask test`: the host's tests, then one boot for each bootable test.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::line::Image;
use crate::status::{Status, Stop};
use crate::thorough::Tally;
use crate::tool::Tool;
use crate::{build, setup};

/// How many times as many cases the long form tries.
const THOROUGH: &str = "10";

/// The host's tests.
const HOST: &[&str] = &["-p", "vmemmap", "-p", "devices", "-p", "mutants", "-p", "xtask"];
/// The boots.
const BOOTS: &[&str] = &["-p", "tests", "--test", "qemu"];

/// Runs the tests whose name contains `filter`; the boots come last. The long form ends with what it has tried.
pub fn test(filter: Option<&str>, thorough: bool) -> Result<Status, Stop> {
    setup::ensure(&Tool::ALL, false)?;
    build::images(&Image::ALL)?;
    let mut tally = Tally::default();
    let mut passed = true;
    for packages in [HOST, BOOTS] {
        let mut tests = build::cargo(&["test", "--quiet"]);
        tests.args(packages).arg("--").args(filter);
        passed &= if thorough && packages == HOST { long(&mut tests, &mut tally)? } else { short(&mut tests)? };
    }
    if thorough {
        print!("{tally}");
    }
    Ok(if passed { Status::Pass } else { Status::Fail })
}

fn short(tests: &mut Command) -> Result<bool, Stop> {
    Ok(tests.stdout(Stdio::inherit()).status()?.success())
}

/// The same with more cases; what tests say of themselves goes into the tally and not to the screen.
fn long(tests: &mut Command, tally: &mut Tally) -> Result<bool, Stop> {
    tests.arg("--show-output").env("VMEMMAP_THOROUGH", THOROUGH).stdout(Stdio::piped());
    let mut running = tests.spawn()?;
    for line in running.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line?;
        if !tally.take(&line) {
            println!("{line}");
        }
    }
    Ok(running.wait()?.success())
}

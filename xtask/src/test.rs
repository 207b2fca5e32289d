//! `cargo xtask test`: the host's tests, then one boot for each bootable test.

use crate::status::{Status, Stop};
use crate::tool::Tool;
use crate::{build, setup};

/// Runs the tests whose name contains `filter`; the boots come last.
///
/// # Errors
/// A tool is missing, or something does not compile.
pub fn test(filter: Option<&str>) -> Result<Status, Stop> {
    setup::ensure(&[Tool::Target, Tool::Qemu, Tool::Gdb], false)?;
    build::images()?;
    let on_host = cargo_test(&["test", "--quiet", "-p", "vmemmap", "-p", "xtask"], filter)?;
    let booted = cargo_test(&["test", "--quiet", "-p", "tests", "--test", "qemu"], filter)?;
    Ok(if on_host && booted { Status::Pass } else { Status::Fail })
}

fn cargo_test(line: &[&str], filter: Option<&str>) -> Result<bool, Stop> {
    let mut command = build::cargo(line);
    command.stdout(std::process::Stdio::inherit()).arg("--").args(filter);
    Ok(command.status()?.success())
}

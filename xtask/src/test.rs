//! `cargo xtask test`: the host's tests, then one boot for each bootable test.

use std::process::Stdio;

use crate::line::Image;
use crate::status::{Status, Stop};
use crate::tool::Tool;
use crate::{build, setup};

/// Runs the tests whose name contains `filter`; the boots come last.
pub fn test(filter: Option<&str>) -> Result<Status, Stop> {
    setup::ensure(&Tool::ALL, false)?;
    build::images(&Image::ALL)?;
    let mut status = Status::Pass;
    for packages in [&["-p", "vmemmap", "-p", "xtask"][..], &["-p", "tests", "--test", "qemu"]] {
        let mut tests = build::cargo(&["test", "--quiet"]);
        tests.args(packages).arg("--").args(filter).stdout(Stdio::inherit());
        if !tests.status()?.success() {
            status = Status::Fail;
        }
    }
    Ok(status)
}

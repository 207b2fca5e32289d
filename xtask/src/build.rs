//! Builds by cargo.

use std::process::{Command, Stdio};

use crate::place::{TARGET, workspace};
use crate::status::{Status, Stop};

/// A call of the cargo that runs us, in the workspace; what it prints goes to stderr.
#[must_use]
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace()).stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    command
}

/// Builds the kernel and the test image.
///
/// # Errors
/// They do not compile; cargo has said why.
pub fn images() -> Result<(), Stop> {
    let line = ["build", "--quiet", "--release", "--target", TARGET, "-p", "kernel", "-p", "test-image"];
    if cargo(&line).status()?.success() {
        Ok(())
    } else {
        Err(Stop { status: Status::Fail, why: "the kernel does not compile".to_owned() })
    }
}

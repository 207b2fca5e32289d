//! Builds by cargo, and where they lie.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::line::Image;
use crate::status::{Status, Stop};

/// The target of the kernel and the test image.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// The workspace's directory.
#[must_use]
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target directory.
#[must_use]
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A call of the cargo that runs us, in the workspace; what it prints goes to stderr.
#[must_use]
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace()).stdin(Stdio::null()).stdout(std::io::stderr());
    command
}

/// Builds images.
///
/// # Errors
/// They do not compile; cargo has said why.
pub fn images(images: &[Image]) -> Result<(), Stop> {
    let mut line = vec!["build", "--release", "--target", TARGET];
    // The first build takes a minute or so: let cargo say what it does.
    line.extend(images.iter().all(|image| image.path().exists()).then_some("--quiet"));
    line.extend(images.iter().flat_map(|image| ["-p", image.package()]));
    let failed = || Stop { status: Status::Fail, why: "the kernel does not compile".to_owned() };
    cargo(&line).status()?.success().then_some(()).ok_or_else(failed)
}

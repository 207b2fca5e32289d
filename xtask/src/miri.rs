//! `cargo xtask miri`: the core's unit tests under Miri, which sees undefined behaviour.

use crate::nightly;
use crate::status::{Status, Stop};

/// Tests that take minutes each there: they boot a memory map, table by table and word by word.
const TOO_SLOW: [&str; 2] = ["hotplug::", "vmemmap::tests"];

/// Runs the tests whose name contains `filter`.
pub fn miri(filter: Option<&str>) -> Result<Status, Stop> {
    nightly::ensure("Miri is one of its components")?;
    nightly::ensure_component("miri", &["miri", "rust-src"])?;
    let mut tests = nightly::cargo(&["miri", "test", "--quiet", "-p", "vmemmap", "--lib", "--"]);
    tests.args(filter).args(TOO_SLOW.iter().flat_map(|name| ["--skip", name]));
    Ok(if tests.status()?.success() { Status::Pass } else { Status::Fail })
}

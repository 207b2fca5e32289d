//! One case under callgrind: instructions of its map and of its unmap.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::case::{Case, Peer, Window, Wrong};

/// Lets `memset` write a table with vectors, as for other sizes: callgrind counts a `rep stosb` as an instruction a byte.
const NO_REP_STOS: &str = "glibc.cpu.x86_rep_stosb_threshold=1048576";

/// Instructions of one case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// To map.
    pub map: u64,
    /// To unmap.
    pub unmap: u64,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// valgrind does not start.
    #[error("valgrind does not start ({0}); install it: `apt-get install valgrind`")]
    NoValgrind(io::Error),
    /// The case failed under it.
    #[error("{case} failed under valgrind: {said}")]
    Failed {
        /// The case.
        case: String,
        /// What it wrote.
        said: String,
    },
    /// A profile is missing.
    #[error("no profile at {}: {error}; was the program built without its names?", path.display())]
    NoProfile {
        /// Where it should be.
        path: PathBuf,
        /// Why it can't be read.
        error: io::Error,
    },
    /// A profile without instructions: callgrind did not meet the function.
    #[error("{} has no `totals:` above 0; build with `--release`, and keep the names of the counted functions", .0.display())]
    NoTotal(PathBuf),
}

/// What is counted as mapping: callgrind knows it by its name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "Rust" fn peers_counted_map(peer: &mut dyn Peer, window: Window) {
    peer.map(window).expect("nothing is mapped");
}

/// What is counted as unmapping.
#[unsafe(no_mangle)]
#[inline(never)]
extern "Rust" fn peers_counted_unmap(peer: &mut dyn Peer, window: Window) {
    peer.unmap(window);
}

/// Does `case`, in functions that callgrind can tell apart.
///
/// # Errors
///
/// [`Wrong`] if the library did not do it.
pub fn run(case: &Case) -> Result<(), Wrong> {
    case.run(|peer, window| peers_counted_map(peer, window), |peer, window| peers_counted_unmap(peer, window))
        .map(|_| ())
}

/// Counts `case`, done by `program` in processes of their own: one for each figure, since a profile that is dumped half-way names no
/// functions afterwards. Profiles go to `profiles`, where they stay for `callgrind_annotate`.
///
/// # Errors
///
/// [`CountError`] if there is no valgrind, or the case failed under it.
pub fn count(program: &Path, case: &Case, profiles: &Path) -> Result<Count, CountError> {
    let figure = |function| count_within(function, program, case, profiles);
    Ok(Count { map: figure("peers_counted_map")?, unmap: figure("peers_counted_unmap")? })
}

/// Instructions within `function`, and all that it calls.
fn count_within(function: &str, program: &Path, case: &Case, profiles: &Path) -> Result<u64, CountError> {
    let out = profiles.join(format!("{}-{function}", case.to_string().replace('/', "-")));
    let output = Command::new("valgrind")
        .env("GLIBC_TUNABLES", NO_REP_STOS)
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg(case.to_string())
        .output()
        .map_err(CountError::NoValgrind)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CountError::Failed { case: case.to_string(), said });
    }
    total_in(&out)
}

fn total_in(path: &Path) -> Result<u64, CountError> {
    let profile = fs::read_to_string(path).map_err(|error| CountError::NoProfile { path: path.to_owned(), error })?;
    total(&profile).ok_or_else(|| CountError::NoTotal(path.to_owned()))
}

/// The instructions of a whole profile, if there are any.
fn total(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok()).filter(|total| *total > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_tells_its_total() {
        assert_eq!(total("events: Ir\nfn=(1) map\n12 345\n\ntotals: 67890\n"), Some(67890));
        assert_eq!(total("events: Ir\nfn=(1) map\n12 345\n"), None);
        assert_eq!(total("events: Ir\n\ntotals: 0\n"), None, "the function was never entered");
    }
}

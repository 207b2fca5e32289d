//! The tools that the commands need, and how each is found.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::TARGET;
use crate::line::QEMU;

/// The oldest QEMU that will do.
pub const OLDEST_QEMU: Version = Version([7, 2, 0]);
const GDBS: [&str; 3] = ["gdb-multiarch", "aarch64-linux-gnu-gdb", "gdb"];

/// What a command may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Target,
    Qemu,
    Gdb,
}

impl Tool {
    pub const ALL: [Self; 3] = [Self::Target, Self::Qemu, Self::Gdb];

    pub fn name(self) -> &'static str {
        [TARGET, QEMU, GDBS[0]][self as usize]
    }

    /// What it is needed for.
    pub fn why(self) -> &'static str {
        ["the kernel is compiled for it", "the kernel boots in it", "it steps through the kernel"][self as usize]
    }

    /// The tool's version; none where it is not there or does not run.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Target => has_core().then(|| version_of("rustc"))?,
            Self::Qemu => version_of(QEMU),
            Self::Gdb => version_of(gdb()?),
        }
    }

    /// Whether `version` is new enough.
    pub fn accepts(self, version: Version) -> bool {
        self != Self::Qemu || version >= OLDEST_QEMU
    }
}

/// Three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

impl Version {
    /// The first `a.b` or `a.b.c` in what `--version` printed.
    fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let numbers: Option<Vec<u32>> = word.split('-').next()?.split('.').map(|part| part.parse().ok()).collect();
            match numbers?[..] {
                [a, b] => Some(Self([a, b, 0])),
                [a, b, c] => Some(Self([a, b, c])),
                _ => None,
            }
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a}.{b}.{c}")
    }
}

/// The program of a gdb that knows `AArch64`.
pub fn gdb() -> Option<&'static str> {
    let knows = |program: &&str| {
        let asked = Command::new(program).args(["-nx", "-batch", "-ex", "set architecture aarch64"]).output();
        asked.is_ok_and(|answer| answer.status.success())
    };
    GDBS.into_iter().find(knows)
}

/// A program's file, by `PATH`.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|room| room.join(program)).find(|file| file.is_file())
}

/// rustc names the target's directory whether or not it is there, so its content decides.
fn has_core() -> bool {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|answer| holds_core(Path::new(String::from_utf8_lossy(&answer.stdout).trim())))
}

fn holds_core(room: &Path) -> bool {
    let mut names = room.read_dir().into_iter().flatten().flatten().map(|file| file.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libcore-"))
}

fn version_of(program: &str) -> Option<Version> {
    let answer = Command::new(program).arg("--version").output().ok()?;
    Version::find(&String::from_utf8_lossy(&answer.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_tools_print() {
        for (text, version) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", [7, 2, 22]),
            ("QEMU emulator version 10.0 (v10.0-rc1)", [10, 0, 0]),
            ("GNU gdb (Debian 13.1-3) 13.1", [13, 1, 0]),
            ("GNU gdb (Fedora Linux) 14.2-3.fc40", [14, 2, 0]),
            ("rustc 1.95.0 (59807616e 2026-04-14)", [1, 95, 0]),
        ] {
            assert_eq!(Version::find(text), Some(Version(version)), "{text}");
        }
        assert_eq!(Version::find("command not found"), None);
    }

    #[test]
    fn an_old_qemu_is_told_from_a_new_one() {
        let versions = [[6, 2, 0], [7, 1, 9], [7, 2, 0], [10, 0, 2]];
        assert_eq!(versions.map(|numbers| Tool::Qemu.accepts(Version(numbers))), [false, false, true, true]);
    }

    #[test]
    fn a_target_directory_without_core_is_no_target() {
        assert!(!holds_core(Path::new("/nowhere")) && !holds_core(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}

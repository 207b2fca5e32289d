//! The tools that the commands need: how each is found, and how a missing one is mended.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::line::QEMU;
use crate::place::TARGET;

/// The oldest QEMU that will do.
pub const QEMU_AT_LEAST: Version = Version([7, 2, 0]);
const GDBS: [&str; 3] = ["gdb-multiarch", "aarch64-linux-gnu-gdb", "gdb"];

/// What a command may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `core` for the bare target.
    Target,
    /// QEMU for `AArch64`.
    Qemu,
    /// A gdb that knows `AArch64`.
    Gdb,
}

/// Whether a tool is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is, in this version.
    Ready(Version),
    /// It is, but this version is too old.
    TooOld(Version),
    /// It is not.
    Missing,
    /// It is there and does not run: its own words.
    Broken(String),
}

impl Tool {
    /// The tool's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        [TARGET, QEMU, GDBS[0]][self as usize]
    }

    /// What it is needed for.
    #[must_use]
    pub fn why(self) -> &'static str {
        ["the kernel is compiled for it", "the kernel boots in it", "it steps through the kernel"][self as usize]
    }

    /// Looks for the tool.
    #[must_use]
    pub fn state(self) -> State {
        match self {
            Self::Target => target_state(),
            Self::Qemu => at_least(program_state(QEMU), QEMU_AT_LEAST),
            Self::Gdb => gdb().map_or(State::Missing, program_state),
        }
    }
}

/// Three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl Version {
    /// The first `a.b` or `a.b.c` in the first line of what `--version` printed.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let words = text.lines().next()?.split([' ', '(', ')', '-']);
        words.rev().chain(text.lines().next()?.split_whitespace()).find_map(Self::read)
    }

    fn read(word: &str) -> Option<Self> {
        let numbers: Option<Vec<u32>> = word.split('.').map(|part| part.parse().ok()).collect();
        match numbers?[..] {
            [a, b] => Some(Self([a, b, 0])),
            [a, b, c] => Some(Self([a, b, c])),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a}.{b}.{c}")
    }
}

/// The program of a gdb that knows `AArch64`.
#[must_use]
pub fn gdb() -> Option<&'static str> {
    let knows = |program: &&str| {
        let asked = Command::new(program).args(["-nx", "-batch", "-ex", "set architecture aarch64"]).output();
        asked.is_ok_and(|answer| answer.status.success())
    };
    GDBS.into_iter().filter(|program| in_path(program).is_some()).find(knows)
}

/// A program's file, by `PATH`.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|room| room.join(program)).find(|file| file.is_file())
}

fn target_state() -> State {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let room = asked.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    if room.is_ok_and(|room| holds_core(Path::new(&room))) { program_state("rustc") } else { State::Missing }
}

/// rustc prints the directory whether or not it is there, so its content decides.
fn holds_core(room: &Path) -> bool {
    let is_core = |name: &str| name.starts_with("libcore-") && name.ends_with(".rlib");
    room.read_dir().is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_core(&file.file_name().to_string_lossy()))))
}

fn program_state(program: &str) -> State {
    let Ok(answer) = Command::new(program).arg("--version").output() else { return State::Missing };
    match Version::find(&String::from_utf8_lossy(&answer.stdout)) {
        Some(version) if answer.status.success() => State::Ready(version),
        _ => State::Broken(format!("{program} --version: {}", String::from_utf8_lossy(&answer.stderr).trim())),
    }
}

fn at_least(state: State, oldest: Version) -> State {
    match state {
        State::Ready(version) if version < oldest => State::TooOld(version),
        other => other,
    }
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
        assert_eq!(at_least(State::Ready(Version([6, 2, 0])), QEMU_AT_LEAST), State::TooOld(Version([6, 2, 0])));
        assert_eq!(at_least(State::Ready(Version([10, 0, 2])), QEMU_AT_LEAST), State::Ready(Version([10, 0, 2])));
    }

    #[test]
    fn a_target_directory_without_core_is_no_target() {
        assert!(!holds_core(Path::new("/nowhere")));
        assert!(!holds_core(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}

//! Set-up: names what is missing, and installs it where that was asked for or is plainly wanted.

use std::io::{IsTerminal, Write as _};
use std::process::{Command, Stdio};

use crate::place::TARGET;
use crate::status::{Status, Stop};
use crate::tool::{self, QEMU_AT_LEAST, State, Tool};

/// Who installs packages here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu
    Apt,
    /// Fedora
    Dnf,
    /// Arch
    Pacman,
    /// macOS
    Brew,
}

const MANAGERS: [(Manager, &str, &str); 4] = [
    (Manager::Apt, "apt-get", "Debian, Ubuntu"),
    (Manager::Dnf, "dnf", "Fedora"),
    (Manager::Pacman, "pacman", "Arch"),
    (Manager::Brew, "brew", "macOS"),
];

/// What decides whether packages are installed at once.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The user is root.
    pub root: bool,
    /// Somebody can answer.
    pub terminal: bool,
    /// Who installs packages.
    pub manager: Option<Manager>,
}

/// What set-up does about missing packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Install now.
    Install,
    /// Install after a yes.
    Ask,
    /// Print the command and stop.
    Tell,
}

impl Host {
    fn here() -> Self {
        let root = Command::new("id").arg("-u").output().is_ok_and(|answer| answer.stdout.trim_ascii() == b"0");
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let manager = MANAGERS.into_iter().find(|(_, program, _)| tool::in_path(program).is_some());
        Self { root, terminal, manager: manager.map(|(manager, ..)| manager) }
    }

    /// At once for root without a terminal (containers, CI) or when told so; never `sudo` unasked.
    #[must_use]
    pub fn step(&self, yes: bool) -> Step {
        match (self.manager, yes, self.root, self.terminal) {
            (Some(Manager::Apt), true, ..) | (Some(Manager::Apt), _, true, false) => Step::Install,
            (Some(Manager::Apt), _, _, true) => Step::Ask,
            _ => Step::Tell,
        }
    }
}

/// Sees to it that `tools` are there.
///
/// # Errors
/// A tool that is missing and was not installed, or one that is too old.
pub fn ensure(tools: &[Tool], yes: bool) -> Result<(), Stop> {
    let mut packages = Vec::new();
    for &tool in tools {
        match tool.state() {
            State::Ready(_) => {}
            State::Missing if tool == Tool::Target => add_target()?,
            State::Missing => packages.push(tool),
            State::Broken(words) => return Err(Stop::machine(format!("{words}; reinstall it"))),
            State::TooOld(version) => return Err(Stop::machine(too_old(tool, version))),
        }
    }
    if packages.is_empty() { Ok(()) } else { install(&packages, &Host::here(), yes) }
}

/// `cargo xtask setup`.
///
/// # Errors
/// As [`ensure`].
pub fn setup(yes: bool) -> Result<Status, Stop> {
    ensure(&[Tool::Target, Tool::Qemu, Tool::Gdb], yes)?;
    println!("ready: {TARGET}, QEMU and gdb are there");
    Ok(Status::Pass)
}

/// `cargo xtask doctor`: each tool, its version, what is wrong and how to mend it.
#[must_use]
pub fn doctor() -> Status {
    let host = Host::here();
    let mut status = Status::Pass;
    for tool in [Tool::Target, Tool::Qemu, Tool::Gdb] {
        let (version, verdict) = match tool.state() {
            State::Ready(version) => (version.to_string(), "ok".to_owned()),
            State::Missing => ("-".to_owned(), format!("missing ({}): {}", tool.why(), mend(tool, &host))),
            State::TooOld(version) => (version.to_string(), too_old(tool, version)),
            State::Broken(words) => ("-".to_owned(), format!("{words}: {}", mend(tool, &host))),
        };
        if verdict != "ok" {
            status = Status::Machine;
        }
        println!("{:32} {version:8} {verdict}", tool.name());
    }
    status
}

fn too_old(tool: Tool, version: tool::Version) -> String {
    format!("{} {version} is too old, {QEMU_AT_LEAST} or newer is needed: upgrade it, or put a newer one first in PATH", tool.name())
}

fn add_target() -> Result<(), Stop> {
    eprintln!("missing: {TARGET} ({}); adding it with rustup", Tool::Target.why());
    let added = Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::from(std::io::stderr())).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Stop::machine(format!("`rustup target add {TARGET}` did not work; install rustup from https://rustup.rs"))),
    }
}

fn install(tools: &[Tool], host: &Host, yes: bool) -> Result<(), Stop> {
    let missing: Vec<_> = tools.iter().map(|tool| format!("{} ({})", tool.name(), tool.why())).collect();
    let missing = missing.join(", ");
    let command = commands(tools, host);
    match host.step(yes) {
        Step::Install => eprintln!("missing: {missing}; installing: {command}"),
        Step::Ask if agreed(&format!("missing: {missing}; run `{command}`?")) => {}
        _ => return Err(Stop::machine(format!("missing: {missing}; install with: {command}"))),
    }
    let done = Command::new("sh").args(["-c", &command]).stdout(Stdio::from(std::io::stderr())).status()?;
    match tools.iter().find(|tool| tool.state() == State::Missing) {
        None if done.success() => Ok(()),
        _ => Err(Stop::machine(format!("could not install {missing}; try: {command}"))),
    }
}

fn agreed(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn mend(tool: Tool, host: &Host) -> String {
    match tool {
        Tool::Target => format!("rustup target add {TARGET}"),
        _ => commands(&[tool], host),
    }
}

/// The exact command of this host, or of each host that we know.
fn commands(tools: &[Tool], host: &Host) -> String {
    match host.manager {
        Some(manager) => command(tools, manager, host.root),
        None => {
            let all = MANAGERS.map(|(manager, _, system)| format!("{system}: {}", command(tools, manager, host.root)));
            all.join("; ")
        }
    }
}

fn command(tools: &[Tool], manager: Manager, root: bool) -> String {
    let names: Vec<_> = tools.iter().map(|tool| package(*tool, manager)).collect();
    let names = names.join(" ");
    let sudo = if root { "" } else { "sudo " };
    match manager {
        Manager::Apt => format!("{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {names}"),
        Manager::Dnf => format!("{sudo}dnf install {names}"),
        Manager::Pacman => format!("{sudo}pacman -S {names}"),
        Manager::Brew => format!("brew install {names}"),
    }
}

fn package(tool: Tool, manager: Manager) -> &'static str {
    match (tool, manager) {
        (Tool::Gdb, Manager::Apt) => "gdb-multiarch",
        (Tool::Gdb, Manager::Pacman) => "aarch64-linux-gnu-gdb",
        (Tool::Gdb, _) => "gdb",
        (_, Manager::Apt) => "qemu-system-arm",
        (_, Manager::Brew) => "qemu",
        (_, _) => "qemu-system-aarch64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APT: Option<Manager> = Some(Manager::Apt);

    #[test]
    fn root_without_a_terminal_installs_at_once() {
        assert_eq!(Host { root: true, terminal: false, manager: APT }.step(false), Step::Install);
    }

    #[test]
    fn a_terminal_is_asked_first_and_yes_answers() {
        for root in [true, false] {
            let host = Host { root, terminal: true, manager: APT };
            assert_eq!((host.step(false), host.step(true)), (Step::Ask, Step::Install));
        }
    }

    #[test]
    fn nobody_to_ask_and_not_root_prints_the_command() {
        assert_eq!(Host { root: false, terminal: false, manager: APT }.step(false), Step::Tell);
    }

    #[test]
    fn other_package_managers_are_never_run() {
        for manager in [Some(Manager::Dnf), Some(Manager::Pacman), Some(Manager::Brew), None] {
            assert_eq!(Host { root: true, terminal: false, manager }.step(true), Step::Tell);
        }
    }

    #[test]
    fn only_what_is_missing_is_installed_and_root_needs_no_sudo() {
        let host = |root| Host { root, terminal: true, manager: APT };
        let line = commands(&[Tool::Qemu], &host(true));
        assert!(line.ends_with("install -y --no-install-recommends qemu-system-arm") && !line.contains("sudo"), "{line}");
        assert!(commands(&[Tool::Gdb], &host(false)).contains("sudo apt-get install"));
    }

    #[test]
    fn an_unknown_host_is_told_every_command() {
        let all = commands(&[Tool::Qemu, Tool::Gdb], &Host { root: false, terminal: false, manager: None });
        for part in ["Fedora: sudo dnf install qemu-system-aarch64 gdb", "macOS: brew install qemu gdb", "Arch: sudo pacman"] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}

//! Set-up: names what is missing, and installs it where that was asked for or is plainly wanted.

use std::io::{IsTerminal, Write as _};
use std::process::Command;

use crate::build::TARGET;
use crate::status::{Status, Stop};
use crate::tool::{OLDEST_QEMU, Tool, Version, in_path};

/// Who installs packages, and what they are called there.
#[derive(Debug, PartialEq, Eq)]
struct Manager {
    program: &'static str,
    system: &'static str,
    /// The command line; `SUDO` is for those who are not root.
    install: &'static str,
    qemu: &'static str,
    gdb: &'static str,
}

/// The first is the only one that we run ourselves.
const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        system: "Debian, Ubuntu",
        install: "SUDO apt-get update && SUDO apt-get install -y --no-install-recommends",
        qemu: "qemu-system-arm",
        gdb: "gdb-multiarch",
    },
    Manager { program: "dnf", system: "Fedora", install: "SUDO dnf install", qemu: "qemu-system-aarch64", gdb: "gdb" },
    Manager {
        program: "pacman",
        system: "Arch",
        install: "SUDO pacman -S",
        qemu: "qemu-system-aarch64",
        gdb: "aarch64-linux-gnu-gdb",
    },
    Manager { program: "brew", system: "macOS", install: "brew install", qemu: "qemu", gdb: "gdb" },
];

/// What decides whether packages are installed at once.
#[derive(Clone, Copy, Debug)]
struct Host {
    root: bool,
    /// Somebody can answer.
    terminal: bool,
    manager: Option<&'static Manager>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Install,
    Ask,
    Tell,
}

impl Host {
    fn here() -> Self {
        let root = Command::new("id").arg("-u").output().is_ok_and(|answer| answer.stdout.trim_ascii() == b"0");
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self { root, terminal, manager: MANAGERS.iter().find(|manager| in_path(manager.program).is_some()) }
    }

    /// At once for root without a terminal (containers, CI) or when told so; never `sudo` unasked.
    fn step(&self, yes: bool) -> Step {
        match (yes, self.root, self.terminal) {
            _ if self.manager != Some(&MANAGERS[0]) => Step::Tell,
            (true, ..) | (_, true, false) => Step::Install,
            (_, _, true) => Step::Ask,
            _ => Step::Tell,
        }
    }

    /// The exact command of this host, or of each host that we know.
    fn commands(&self, tools: &[Tool]) -> String {
        let command = |manager: &Manager| {
            let packages = tools.iter().map(|tool| if *tool == Tool::Gdb { manager.gdb } else { manager.qemu });
            let line = manager.install.replace("SUDO ", if self.root { "" } else { "sudo " });
            packages.fold(line, |line, package| line + " " + package)
        };
        let all = || MANAGERS.iter().map(|manager| format!("{}: {}", manager.system, command(manager)));
        self.manager.map_or_else(|| all().collect::<Vec<_>>().join("; "), command)
    }

    fn mend(&self, tool: Tool) -> String {
        if tool == Tool::Target { format!("rustup target add {TARGET}") } else { self.commands(&[tool]) }
    }
}

/// Sees to it that `tools` are there.
pub fn ensure(tools: &[Tool], yes: bool) -> Result<(), Stop> {
    let mut packages = Vec::new();
    for &tool in tools {
        match tool.version() {
            Some(version) if tool.accepts(version) => {}
            Some(version) => return Err(Stop::machine(too_old(tool, version))),
            None if tool == Tool::Target => add_target()?,
            None => packages.push(tool),
        }
    }
    if packages.is_empty() { Ok(()) } else { install(&packages, &Host::here(), yes) }
}

/// `cargo xtask setup`.
pub fn setup(yes: bool) -> Result<Status, Stop> {
    ensure(&Tool::ALL, yes)?;
    Ok(doctor())
}

/// `cargo xtask doctor`: each tool, its version, what is wrong and how to mend it.
pub fn doctor() -> Status {
    let verdicts = Tool::ALL.map(|tool| match tool.version() {
        Some(version) if tool.accepts(version) => (true, format!("ok     {} {version}", tool.name())),
        Some(version) => (false, format!("WRONG  {}", too_old(tool, version))),
        None => (false, format!("WRONG  missing: {} ({}); {}", tool.name(), tool.why(), Host::here().mend(tool))),
    });
    for (_, line) in &verdicts {
        println!("{line}");
    }
    if verdicts.iter().all(|(ready, _)| *ready) { Status::Pass } else { Status::Machine }
}

fn too_old(tool: Tool, version: Version) -> String {
    let name = tool.name();
    format!("{name} {version} is too old: upgrade it to {OLDEST_QEMU} or newer, or put a newer one first in PATH")
}

fn add_target() -> Result<(), Stop> {
    eprintln!("missing: {TARGET} ({}); adding it with rustup", Tool::Target.why());
    let added = Command::new("rustup").args(["target", "add", TARGET]).stdout(std::io::stderr()).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Stop::machine(format!("`rustup target add {TARGET}` does not work here; see https://rustup.rs"))),
    }
}

fn install(tools: &[Tool], host: &Host, yes: bool) -> Result<(), Stop> {
    let missing: Vec<_> = tools.iter().map(|tool| format!("{} ({})", tool.name(), tool.why())).collect();
    let (missing, command) = (missing.join(", "), host.commands(tools));
    match host.step(yes) {
        Step::Install => eprintln!("missing: {missing}; installing: {command}"),
        Step::Ask if agreed(&format!("missing: {missing}; run `{command}`?")) => {}
        _ => return Err(Stop::machine(format!("missing: {missing}; install with: {command}"))),
    }
    let done = Command::new("sh").args(["-c", &command]).stdout(std::io::stderr()).status()?;
    let there = tools.iter().all(|tool| tool.version().is_some());
    if done.success() && there {
        Ok(())
    } else {
        Err(Stop::machine(format!("could not install {missing}; try: {command}")))
    }
}

fn agreed(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(root: bool, terminal: bool) -> Host {
        Host { root, terminal, manager: Some(&MANAGERS[0]) }
    }

    #[test]
    fn root_without_a_terminal_installs_at_once_and_a_terminal_is_asked_first() {
        let steps = |yes| {
            [host(true, false), host(true, true), host(false, true), host(false, false)].map(|host| host.step(yes))
        };
        assert_eq!(steps(false), [Step::Install, Step::Ask, Step::Ask, Step::Tell]);
        assert_eq!(steps(true), [Step::Install; 4]);
    }

    #[test]
    fn other_package_managers_are_never_run() {
        for manager in [None, Some(&MANAGERS[1]), Some(&MANAGERS[2]), Some(&MANAGERS[3])] {
            assert_eq!(Host { manager, ..host(true, false) }.step(true), Step::Tell);
        }
    }

    #[test]
    fn only_what_is_missing_is_installed_and_root_needs_no_sudo() {
        let line = host(true, true).commands(&[Tool::Qemu]);
        assert_eq!(line, "apt-get update && apt-get install -y --no-install-recommends qemu-system-arm");
        assert!(
            host(false, true)
                .commands(&[Tool::Gdb])
                .ends_with("sudo apt-get install -y --no-install-recommends gdb-multiarch")
        );
    }

    #[test]
    fn an_unknown_host_is_told_every_command() {
        let all = Host { manager: None, ..host(false, false) }.commands(&[Tool::Qemu, Tool::Gdb]);
        for part in
            ["Fedora: sudo dnf install qemu-system-aarch64 gdb", "macOS: brew install qemu gdb", "Arch: sudo pacman"]
        {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}

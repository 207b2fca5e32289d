//! A nightly compiler, for the two commands that need one. Everything else here is stable.

use std::process::{Command, Stdio};

use crate::build;
use crate::status::Stop;

/// What cargo of a nightly toolchain is asked to do, in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments).current_dir(build::workspace());
    // Those of the toolchain that runs us.
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Sees to it that there is one.
pub fn ensure(why: &str) -> Result<(), Stop> {
    let asked = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    if asked.is_ok_and(|answer| answer.status.success()) {
        return Ok(());
    }
    let install = "rustup toolchain install nightly --profile minimal";
    Err(Stop::machine(format!("missing: a nightly compiler ({why}); install with: {install}")))
}

/// Sees to it that the nightly toolchain has `components`, of which `command` of its cargo is the proof.
pub fn ensure_component(command: &str, components: &[&str]) -> Result<(), Stop> {
    let there = || cargo(&[command, "--version"]).output().is_ok_and(|answer| answer.status.success());
    if there() {
        return Ok(());
    }
    let line = format!("rustup component add --toolchain nightly {}", components.join(" "));
    eprintln!("missing: {}; adding it with: {line}", components.join(" "));
    let words: Vec<_> = line.split(' ').collect();
    let added = Command::new(words[0]).args(&words[1..]).stdout(std::io::stderr()).status();
    if added.is_ok_and(|status| status.success()) && there() {
        Ok(())
    } else {
        Err(Stop::machine(format!("`{line}` does not work here; this nightly may be without it, try a newer one")))
    }
}

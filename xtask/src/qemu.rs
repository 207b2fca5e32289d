//! `cargo xtask qemu`: build, boot, and show what the kernel reports.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::backtrace::symbolise;
use crate::console::Line;
use crate::job::Job;
use crate::line::{Boot, Hold, shell};
use crate::machine;
use crate::outcome::{Outcome, Run};
use crate::report::{Report, SCHEMA_VERSION};
use crate::screen::{self, Shown};
use crate::status::{Status, Stop};
use crate::tool::{State, Tool};
use crate::{build, place, setup};

/// How the run is shown.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub struct Qemu {
    /// The machine and the job.
    #[command(flatten)]
    pub job: Job,
    /// Print one JSON object and nothing else
    #[arg(long)]
    pub json: bool,
    /// Stay alive after the hot-add, with a gdb stub and a QMP socket, until QEMU is told to quit
    #[arg(long)]
    pub hold: bool,
    /// Print QEMU's command line and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Show the kernel's log
    #[arg(long, short)]
    pub verbose: bool,
    /// Stop QEMU after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub time_limit: u64,
}

impl Qemu {
    /// Runs the command.
    ///
    /// # Errors
    /// What could not be shown on the screen: bad input, a missing tool, a dead QEMU.
    pub fn run(&self) -> Result<Status, Stop> {
        self.job.check()?;
        let mut boot = Boot::main_job(self.job.clone());
        boot.hold = self.hold.then(hold).transpose()?;
        if self.dry_run {
            println!("{}", shell(&boot.line()));
            return Ok(Status::Pass);
        }
        setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
        build::images()?;
        let version = qemu_version();
        let run = machine::run(&boot, Duration::from_secs(self.time_limit), |line, so_far| self.hear(line, so_far, &boot, &version))?;
        if let Some(hold) = &boot.hold {
            let _ = std::fs::remove_file(&hold.qmp);
            let _ = std::fs::remove_file(place::held());
        }
        self.show_end(&run, &boot, &version)
    }

    fn hear(&self, line: &Line, so_far: &Run, boot: &Boot, version: &str) {
        match line {
            Line::Log(text) if self.verbose && self.json => eprintln!("{text}"),
            Line::Log(text) if self.verbose => println!("{text}"),
            Line::Held => {
                let object = object(so_far, boot, version);
                // Only a convenience for `walk`: the machine is held all the same.
                let _ = std::fs::write(place::held(), object.to_string());
                self.show(so_far, boot, version, &object);
            }
            _ => {}
        }
    }

    fn show_end(&self, run: &Run, boot: &Boot, version: &str) -> Result<Status, Stop> {
        if !run.is_held() {
            self.show(run, boot, version, &object(run, boot, version));
        }
        let status = run.outcome.status();
        match &run.outcome {
            Outcome::Refused(why) | Outcome::Died(why) if !self.json => Err(Stop { status, why: why.clone() }),
            _ => Ok(status),
        }
    }

    fn show(&self, run: &Run, boot: &Boot, version: &str, object: &Value) {
        if self.json {
            println!("{object}");
        }
        if let Outcome::Panic(text) = &run.outcome {
            eprintln!("PANIC     {text}");
            run.after_panic().for_each(|line| eprintln!("  {line}"));
            symbolise(&boot.image.path(), run.frames()).iter().for_each(|line| eprintln!("  {line}"));
        }
        if !self.json {
            show_screen(run, boot, version);
        }
    }
}

fn show_screen(run: &Run, boot: &Boot, version: &str) {
    let failures: Vec<_> = run.failures().collect();
    let shown = Shown { qemu: version, cpu: &boot.job.cpu, elapsed: run.elapsed, failures: &failures };
    match run.report().map(serde_json::from_str::<Report>) {
        Some(Ok(report)) => anstream::print!("{}", screen::draw(&report, &shown)),
        Some(Err(error)) => anstream::eprintln!("error: the kernel's report cannot be read: {error}"),
        None => failures.iter().for_each(|text| anstream::println!("FAIL      {text}")),
    }
    if let (Some(hold), true) = (&boot.hold, run.is_held()) {
        println!("held      gdb {}   qmp {}", hold.gdb, hold.qmp.display());
    }
}

/// What `--json` prints: the kernel's report and what only we know.
fn object(run: &Run, boot: &Boot, version: &str) -> Value {
    let (result, error) = match &run.outcome {
        Outcome::Pass => (None, None),
        Outcome::Fail => (Some("fail"), run.failures().next().map(str::to_owned)),
        Outcome::Refused(why) => (Some("refused"), Some(why.clone())),
        Outcome::Panic(why) => (Some("fail"), Some(format!("panic: {why}"))),
        Outcome::Died(why) => (Some("fail"), Some(why.clone())),
        Outcome::Interrupted => (Some("fail"), Some("interrupted".to_owned())),
    };
    let mut object = json!({ "schema_version": SCHEMA_VERSION });
    let report = run.report().and_then(|text| serde_json::from_str(text).ok());
    if let Some(Value::Object(report)) = report {
        report.into_iter().for_each(|(key, value)| object[key] = value);
    }
    if let Some(result) = result {
        object["result"] = result.into();
        object["error"] = error.into();
    }
    object["qemu_version"] = version.into();
    object["cpu"] = boot.job.cpu.clone().into();
    if let Some(Hold { qmp, gdb }) = &boot.hold {
        object["hold"] = json!({ "qmp": qmp, "gdb": gdb });
    }
    object
}

/// What `--json` prints where nothing could be booted.
#[must_use]
pub fn error_object(stop: &Stop) -> Value {
    let result = if stop.status == Status::Refused { "refused" } else { "fail" };
    json!({ "schema_version": SCHEMA_VERSION, "result": result, "error": stop.why })
}

/// QEMU's version, as text.
#[must_use]
pub fn qemu_version() -> String {
    match Tool::Qemu.state() {
        State::Ready(version) | State::TooOld(version) => version.to_string(),
        State::Missing | State::Broken(_) => "?".to_owned(),
    }
}

/// A local port that is free now.
///
/// # Errors
/// There is none.
pub fn free_address() -> Result<String, Stop> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn hold() -> Result<Hold, Stop> {
    Ok(Hold { qmp: socket(), gdb: free_address()? })
}

/// A Unix socket's path has at most 107 bytes.
fn socket() -> PathBuf {
    let name = format!("qmp-{}.sock", std::process::id());
    let near = place::target().join(&name);
    if near.is_absolute() && near.as_os_str().len() < 100 { near } else { std::env::temp_dir().join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome, console: &str) -> Value {
        let boot = Boot::main_job(Job::from_flags("").unwrap());
        let lines = console.lines().map(Line::read).collect();
        object(&Run { outcome, lines, elapsed: Duration::ZERO }, &boot, "7.2.22")
    }

    #[test]
    fn the_object_is_the_report_and_what_only_the_host_knows() {
        let object = run(Outcome::Pass, r#"@report {"result":"pass","cpus":1}"#);
        let wanted = json!({ "schema_version": 1, "result": "pass", "cpus": 1, "qemu_version": "7.2.22", "cpu": "neoverse-n1" });
        assert_eq!(object, wanted);
    }

    #[test]
    fn a_refused_run_is_an_object_too() {
        let object = run(Outcome::Refused("no 16K".to_owned()), "@refused no 16K");
        assert_eq!((&object["result"], &object["error"]), (&json!("refused"), &json!("no 16K")));
    }

    #[test]
    fn a_run_that_died_after_its_report_does_not_pass() {
        let object = run(Outcome::Died("signal 9".to_owned()), r#"@report {"result":"pass"}"#);
        assert_eq!(object["result"], json!("fail"));
    }

    #[test]
    fn sockets_stay_short_enough_to_be_bound() {
        assert!(socket().as_os_str().len() < 108 && socket().is_absolute());
    }
}

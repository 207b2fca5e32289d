//! `cargo xtask qemu`: build, boot, and show what the kernel reports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::job::Job;
use crate::line::{Boot, shell};
use crate::machine;
use crate::outcome::Run;
use crate::report::{Report, SCHEMA_VERSION};
use crate::screen::{self, Shown};
use crate::status::{Status, Stop};
use crate::symbols;
use crate::tool::Tool;
use crate::trace_file::TraceFile;
use crate::{build, setup};

/// The job, and how it is shown.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub struct Qemu {
    #[command(flatten)]
    job: Job,
    /// Write every event of the tables to a file that `cargo xtask check` reads; what breaks --checked, and what led to it
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Stay alive after the hot-add, with a gdb stub and a QMP socket, until QEMU is told to quit
    #[arg(long)]
    hold: bool,
    /// Print QEMU's command line and stop
    #[arg(long)]
    dry_run: bool,
    /// Show the kernel's log
    #[arg(long, short)]
    verbose: bool,
    /// Stop QEMU after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time_limit: u64,
}

impl Qemu {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        self.job.check()?;
        if self.trace.is_some() && self.job.count {
            return Err(Stop::refused("--count counts the machine as it is: leave --trace away"));
        }
        let mut boot = Boot { trace: self.trace.is_some(), ..Boot::main_job(self.job.clone()) };
        if self.hold {
            (boot.hold, boot.gdb) = (Some(socket_below(&build::target_directory())), Some(free_address()?));
        }
        if self.dry_run {
            println!("{}", shell(&boot.line()));
            return Ok(Status::Pass);
        }
        setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
        let mut file = self.trace.as_deref().map(TraceFile::create).transpose()?;
        build::images(&[boot.image])?;
        let shown = Show { boot: &boot, qemu: qemu_version(), json: self.json, traced: self.trace.is_some() };
        let mut saved = Ok(());
        let limit = Duration::from_secs(self.time_limit);
        let run = machine::run(&boot, limit, |run| {
            if run.is_held() {
                saved = file.take().map_or(Ok(()), |file| file.save(run));
            }
            self.hear(run, &shown);
        })?;
        saved?;
        if matches!(run.end.status, Status::Pass | Status::Fail) {
            file.map_or(Ok(()), |file| file.save(&run))?;
        }
        for file in boot.hold.iter().chain(&[held_file()]).filter(|_| self.hold) {
            let _ = std::fs::remove_file(file);
        }
        if !run.is_held() {
            shown.show(&run);
        }
        match run.end.status {
            Status::Refused | Status::Machine if !self.json => Err(run.end),
            status => Ok(status),
        }
    }

    fn hear(&self, run: &Run, shown: &Show<'_>) {
        match run.console.last().map(String::as_str) {
            Some("@held") => {
                // Only a convenience for `walk`: the machine is held all the same.
                let _ = std::fs::write(held_file(), shown.object(run).to_string());
                shown.show(run);
            }
            Some(line) if self.verbose && (!line.starts_with('@') || line.starts_with("@fail")) => {
                if self.json {
                    eprintln!("{line}");
                } else {
                    println!("{line}");
                }
            }
            _ => {}
        }
    }
}

/// Shows runs of one boot.
struct Show<'a> {
    boot: &'a Boot,
    qemu: String,
    json: bool,
    /// All of what led to an illegal step is in a file.
    traced: bool,
}

/// Events that the screen shows of what a file has.
const LAST: usize = 64;

impl Show<'_> {
    fn show(&self, run: &Run) {
        if run.end.status == Status::Panic {
            eprintln!("PANIC     {}", run.end.why);
            let frames = symbols::backtrace(&self.boot.image.path(), run.frames());
            run.after_panic().chain(frames.iter().map(String::as_str)).for_each(|line| eprintln!("  {line}"));
        }
        match run.end.status {
            _ if self.json => println!("{}", self.object(run)),
            Status::Pass | Status::Fail => self.screen(run),
            _ => {}
        }
    }

    fn screen(&self, run: &Run) {
        let failures: Vec<_> = run.said("fail").collect();
        let cpu = &self.boot.job.cpu;
        let shown = Shown { qemu: &self.qemu, cpu, elapsed: run.elapsed, failures: &failures };
        match run.said("report").next().map(serde_json::from_str::<Report>) {
            Some(Ok(report)) => anstream::print!("{}", screen::draw(&report, &shown)),
            Some(Err(error)) => anstream::eprintln!("error: the kernel's report cannot be read: {error}"),
            None => failures.iter().for_each(|text| anstream::println!("FAIL      {text}")),
        }
        if !run.window.is_empty() {
            let events = run.window.len().saturating_sub(LAST);
            let shown = if self.traced { &run.window[events..] } else { &run.window };
            println!("trace     what led to it, for `cargo xtask check`; --trace FILE saves it");
            for line in shown {
                println!("{line}");
            }
        }
        if let (Some(qmp), Some(gdb), true) = (&self.boot.hold, &self.boot.gdb, run.is_held()) {
            println!("held      gdb {gdb}   qmp {}   ends by Ctrl-C or QMP quit", qmp.display());
        }
    }

    /// What `--json` prints: the kernel's report and what only we know.
    fn object(&self, run: &Run) -> Value {
        let mut object = json!({ "schema_version": SCHEMA_VERSION });
        if let Some(Ok(Value::Object(report))) = run.said("report").next().map(serde_json::from_str) {
            report.into_iter().for_each(|(key, value)| object[key] = value);
        }
        if let Some(Ok(broken)) = run.said("broken").next().map(serde_json::from_str::<Value>) {
            object["check"] = broken;
            object["check"]["window"] = json!(run.window);
        }
        if run.end.status != Status::Pass {
            object["result"] = result(run.end.status).into();
            object["error"] = run.end.why.as_str().into();
        }
        object["qemu_version"] = self.qemu.as_str().into();
        object["cpu"] = self.boot.job.cpu.as_str().into();
        if let (Some(qmp), Some(gdb)) = (&self.boot.hold, &self.boot.gdb) {
            object["hold"] = json!({ "qmp": qmp, "gdb": gdb });
        }
        object
    }
}

/// What `--json` prints where nothing could be booted.
pub fn error_object(stop: &Stop) -> Value {
    json!({ "schema_version": SCHEMA_VERSION, "result": result(stop.status), "error": stop.why })
}

fn result(status: Status) -> &'static str {
    if status == Status::Refused { "refused" } else { "fail" }
}

fn qemu_version() -> String {
    Tool::Qemu.version().map_or("?".to_owned(), |version| version.to_string())
}

/// What a held machine leaves for `walk`.
pub fn held_file() -> PathBuf {
    build::target_directory().join("held.json")
}

/// A local port that is free now.
pub fn free_address() -> Result<String, Stop> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A Unix socket's path has at most 107 bytes.
fn socket_below(target: &Path) -> PathBuf {
    let name = format!("qmp-{}.sock", std::process::id());
    let near = target.join(&name);
    if near.is_absolute() && near.as_os_str().len() < 100 { near } else { std::env::temp_dir().join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(end: Stop, console: &str) -> String {
        let boot = Boot::main_job(Job::from_flags("").unwrap());
        let run = Run { end, console: console.lines().map(str::to_owned).collect(), ..Run::new() };
        Show { boot: &boot, qemu: "7.2.22".to_owned(), json: true, traced: false }.object(&run).to_string()
    }

    #[test]
    fn the_object_is_the_report_and_what_only_the_host_knows() {
        let object = object(Run::new().end, r#"@report {"result":"pass","cpus":1}"#);
        let text = r#"{"schema_version":1,"result":"pass","cpus":1,"qemu_version":"7.2.22","cpu":"neoverse-n1"}"#;
        assert_eq!(object, text);
    }

    #[test]
    fn runs_that_were_refused_or_died_after_their_report_do_not_pass() {
        let refused = object(Stop::refused("no 16K"), "");
        assert!(refused.contains(r#""result":"refused","error":"no 16K""#), "{refused}");
        let died = object(Stop::machine("signal 9"), r#"@report {"result":"pass"}"#);
        assert!(died.contains(r#""result":"fail""#), "{died}");
    }

    #[test]
    fn a_broken_protocol_is_in_the_object_with_what_led_to_it() {
        let console = "@fail early\n@broken {\"events\":7,\"rule\":\"early\"}";
        let run = Run {
            console: console.lines().map(str::to_owned).collect(),
            window: vec!["isb cpu=0".to_owned()],
            ..Run::new()
        };
        let boot = Boot::main_job(Job::from_flags("--checked").unwrap());
        let object = Show { boot: &boot, qemu: "7.2.22".to_owned(), json: true, traced: false }.object(&run);
        assert_eq!(object["check"].to_string(), r#"{"events":7,"rule":"early","window":["isb cpu=0"]}"#);
    }

    #[test]
    fn sockets_stay_short_enough_to_be_bound() {
        for target in ["/build/target", "target", &format!("/{}", "deep/".repeat(20))] {
            let socket = socket_below(Path::new(target));
            assert!(socket.as_os_str().len() < 108 && socket.is_absolute(), "{}", socket.display());
        }
        assert!(socket_below(Path::new("/build/target")).starts_with("/build/target"));
    }
}

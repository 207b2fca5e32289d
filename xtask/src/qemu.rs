//! `cargo xtask qemu`: build, boot, and show what the kernel reports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::job::Job;
use crate::line::{Boot, shell};
use crate::machine::{self, Leftovers};
use crate::outcome::Run;
use crate::report::{SCHEMA_VERSION, Told};
use crate::screen::{self, Shown};
use crate::status::{Status, Stop};
use crate::symbols;
use crate::tool::Tool;
use crate::trace_file::{Place, TraceFile};
use crate::{build, setup};

/// The job, and how it is shown.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub struct Qemu {
    #[command(flatten)]
    job: Job,
    /// Print the plan of each device, made against the memory before the first add, and stop: nothing is added
    #[arg(long, conflicts_with_all = ["trace", "hold", "count", "checked", "broken", "remove_order"])]
    plan: bool,
    /// Write every event of the tables to a file that `cargo xtask check` reads
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
        let mut boot = Boot { plan: self.plan, trace: self.trace.is_some(), ..Boot::main_job(self.job.clone()) };
        if self.hold {
            (boot.hold, boot.gdb) = (Some(socket_below(&build::target_directory())), Some(free_address()?));
        }
        if self.dry_run {
            println!("{}", shell(&boot.line()));
            return Ok(Status::Pass);
        }
        let place = self.trace.as_deref().map(Place::find).transpose()?;
        setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
        build::images(&[boot.image])?;
        machine::catch_interrupts();
        let mut file = place.map(Place::open).transpose()?;
        let shown = Show {
            boot: &boot,
            qemu: qemu_version(),
            json: self.json,
            verbose: self.verbose,
            trace: self.trace.as_deref(),
        };
        let mut saved = None;
        let limit = Duration::from_secs(self.time_limit);
        let leftovers = Leftovers(boot.hold.iter().cloned().chain(self.hold.then(held_file)).collect());
        let run = machine::run(&boot, limit, |run| {
            self.hear(run, &shown);
            if run.console.last().is_some_and(|line| line == "@held") {
                saved = shown.end(run, file.take());
            }
        })?;
        drop(leftovers);
        if !run.is_held() {
            saved = shown.end(&run, file);
        }
        match run.end.status {
            Status::Refused | Status::Machine if !self.json => Err(run.end),
            // It has been said.
            Status::Pass if matches!(saved, Some(Err(_))) => Ok(Status::Machine),
            status => Ok(status),
        }
    }

    fn hear(&self, run: &Run, shown: &Show<'_>) {
        match run.console.last().map(String::as_str) {
            Some("@held") => {
                // Only a convenience for `walk`: the machine is held all the same.
                let _ = std::fs::write(held_file(), shown.object(run, None).to_string());
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
    verbose: bool,
    /// The file of `--trace`, as the user named it.
    trace: Option<&'a Path>,
}

/// How many events a trace has that was saved, or why none was.
type Saved = Result<usize, String>;

impl Show<'_> {
    /// The end of a run: shows it and saves its trace. The screen comes first; an object has the trace's fate in it.
    fn end(&self, run: &Run, file: Option<TraceFile>) -> Option<Saved> {
        if run.end.status == Status::Panic {
            tell_panic(run, &run.end.why, self.boot);
        }
        if self.json {
            let saved = file.map(|file| file.save(run));
            println!("{}", self.object(run, saved.as_ref()));
            return saved;
        }
        let on_screen = matches!(run.end.status, Status::Pass | Status::Fail);
        if on_screen {
            self.screen(run);
        }
        let saved = file.map(|file| file.save(run));
        match (&saved, self.trace.unwrap_or(Path::new("")).display()) {
            (None, _) => {}
            (Some(Err(why)), _) => anstream::eprintln!("error: {why}"),
            (Some(Ok(events)), file) if on_screen => println!("{}", saved_line(*events, file)),
            (Some(Ok(events)), file) => eprintln!("{}", saved_line(*events, file)),
        }
        saved
    }

    fn screen(&self, run: &Run) {
        let failures: Vec<_> = run.said("fail").collect();
        let cpu = &self.boot.job.cpu;
        let shown = Shown { qemu: &self.qemu, cpu, elapsed: run.elapsed, peak: run.peak_bytes, failures: &failures };
        match run.said("report").next().map(Told::read) {
            Some(Ok(told)) => anstream::print!("{}", screen::show(&told, &shown)),
            Some(Err(error)) => anstream::eprintln!("error: the kernel's report cannot be read: {error}"),
            None => screen::failed(&failures).iter().for_each(|line| anstream::println!("{line}")),
        }
        if !run.window.is_empty() {
            let shown = if self.verbose { run.window.len() } else { screen::LAST_EVENTS };
            for line in screen::led_to(&run.window, shown, self.trace.is_some()) {
                println!("{line}");
            }
        }
        if let (Some(qmp), Some(gdb), true) = (&self.boot.hold, &self.boot.gdb, run.is_held()) {
            println!("held      gdb {gdb}   qmp {}   ends by Ctrl-C or QMP quit", qmp.display());
        }
    }

    /// What `--json` prints: the kernel's report and what only we know.
    fn object(&self, run: &Run, saved: Option<&Saved>) -> Value {
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
        } else if let (Some(Err(why)), false) = (saved, run.is_held()) {
            object["result"] = result(Status::Machine).into();
            object["error"] = why.as_str().into();
        }
        object["qemu_version"] = self.qemu.as_str().into();
        object["cpu"] = self.boot.job.cpu.as_str().into();
        object["elapsed_ms"] = json!(run.elapsed.as_millis() as u64);
        object["host_peak_bytes"] = run.peak_bytes.into();
        if let (Some(qmp), Some(gdb)) = (&self.boot.hold, &self.boot.gdb) {
            object["hold"] = json!({ "qmp": qmp, "gdb": gdb });
        }
        if let (Some(saved), Some(file)) = (saved, self.trace) {
            object["trace"] = json!({ "file": file, "events": saved.as_ref().ok(), "error": saved.as_ref().err() });
        }
        object
    }
}

/// Says on stderr why the kernel panicked, what it logged then, and who called whom.
pub fn tell_panic(run: &Run, why: &str, boot: &Boot) {
    eprintln!("PANIC     {why}");
    let frames = symbols::backtrace(&boot.image.path(), run.frames());
    run.after_panic().chain(frames.iter().map(String::as_str)).for_each(|line| eprintln!("  {line}"));
}

fn saved_line(events: usize, file: impl std::fmt::Display) -> String {
    let events = screen::plural(events as u64, "event");
    format!("trace     {events} in {file}, for `cargo xtask check`")
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
pub fn socket_below(target: &Path) -> PathBuf {
    let name = format!("qmp-{}.sock", std::process::id());
    let near = target.join(&name);
    if near.is_absolute() && near.as_os_str().len() < 100 { near } else { std::env::temp_dir().join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(boot: &Boot) -> Show<'_> {
        Show { boot, qemu: "7.2.22".to_owned(), json: true, verbose: false, trace: Some(Path::new("a.trace")) }
    }

    fn object(end: Stop, console: &str) -> String {
        let boot = Boot::main_job(Job::from_flags("").unwrap());
        let console = console.lines().map(str::to_owned).collect();
        let (elapsed, peak_bytes) = (Duration::from_micros(81_900), Some(61 << 20));
        show(&boot).object(&Run { end, console, elapsed, peak_bytes, ..Run::new() }, None).to_string()
    }

    #[test]
    fn the_object_is_the_report_and_what_only_the_host_knows() {
        let object = object(Run::new().end, r#"@report {"result":"pass","cpus":1}"#);
        let text = r#"{"schema_version":1,"result":"pass","cpus":1,"qemu_version":"7.2.22","cpu":"neoverse-n1","elapsed_ms":81,"host_peak_bytes":63963136}"#;
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
        let object = show(&boot).object(&run, None);
        assert_eq!(object["check"].to_string(), r#"{"events":7,"rule":"early","window":["isb cpu=0"]}"#);
    }

    #[test]
    fn a_trace_that_was_not_saved_fails_a_run_that_passed_and_hides_no_other_end() {
        let boot = Boot::main_job(Job::from_flags("").unwrap());
        let full = Err("no space".to_owned());
        let object = |status, console: &str, saved: &Saved| {
            let end = Stop { status, why: "itself".to_owned() };
            let run = Run { end, console: console.lines().map(str::to_owned).collect(), ..Run::new() };
            show(&boot).object(&run, Some(saved))
        };
        let passed = object(Status::Pass, r#"@report {"result":"pass"}"#, &full);
        assert_eq!((&passed["result"], &passed["error"]), (&json!("fail"), &json!("no space")));
        assert_eq!(passed["trace"], json!({ "file": "a.trace", "events": null, "error": "no space" }));
        assert_eq!(object(Status::Fail, "", &full)["error"], "itself");
        let held = object(Status::Pass, "@report {\"result\":\"held\"}\n@held", &full);
        assert!(held["result"] == "held" && held["error"].is_null() && held["trace"]["error"] == "no space", "{held}");
        let saved = object(Status::Pass, r#"@report {"result":"pass"}"#, &Ok(7));
        assert!(saved["result"] == "pass" && saved["trace"]["events"] == 7, "{saved}");
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

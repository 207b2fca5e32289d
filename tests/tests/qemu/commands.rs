//! The commands as a user types them: what they print, and their exit status.

use std::borrow::BorrowMut;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use xtask::{Boot, Image, Job, Qmp, build};

/// What a command left.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it complained.
    pub err: String,
}

/// The command `cargo xtask FLAGS`, from the binary that cargo built.
pub fn command(flags: &str) -> Result<Command, Failed> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let build = || build::cargo(&["build", "--quiet", "-p", "xtask"]).status().is_ok_and(|status| status.success());
    if !BUILT.get_or_init(build) {
        return Err("xtask does not compile".into());
    }
    let mut command = Command::new(build::target_directory().join("debug").join("xtask"));
    command.args(flags.split_whitespace()).current_dir(build::workspace()).stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end.
pub fn run(mut command: impl BorrowMut<Command>) -> Result<Ended, Failed> {
    let output = command.borrow_mut().output().map_err(|error| error.to_string())?;
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Ended { status: output.status.code(), out, err })
}

/// Fails with everything that the command printed.
pub fn ensure(holds: bool, what: &str, ended: &Ended) -> Result<(), Failed> {
    let Ended { status, out, err } = ended;
    if holds {
        Ok(())
    } else {
        Err(format!("{what}; exit status {status:?}\n--- stdout\n{out}\n--- stderr\n{err}").into())
    }
}

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = ["4k", "16k", "64k"]
        .into_iter()
        .map(|granule| {
            Trial::test(format!("commands::json_equals_linux_at_{granule}"), move || json_equals_linux(granule))
        })
        .collect();
    for granule in ["4k", "16k", "64k"] {
        let name = format!("commands::a_checked_run_judges_every_event_of_its_trace_at_{granule}");
        trials.push(Trial::test(name, move || checked_and_traced(granule)));
        let name = format!("commands::decorators_that_nobody_asks_for_cost_nothing_at_{granule}");
        trials.push(Trial::test(name, move || decorators_cost_nothing(granule)));
    }
    trials.push(Trial::test(
        "commands::a_checked_machine_without_tlbi_stops_and_its_trace_replays",
        checked_without_tlbi,
    ));
    trials.push(Trial::test("commands::the_screen_of_an_illegal_step_fits", illegal_step_fits));
    trials.push(Trial::test("commands::the_screen_is_plain_text_in_a_pipe", screen_in_a_pipe));
    trials.push(Trial::test("commands::a_machine_without_tlbi_fails_and_says_so", without_tlbi));
    trials.push(Trial::test("commands::a_held_machine_is_walked_and_told_to_quit", hold_walk_and_quit));
    trials.push(Trial::test("commands::a_dry_run_prints_the_line_and_starts_nothing", dry_run));
    trials
}

fn json_equals_linux(granule: &str) -> Result<(), Failed> {
    let flags = format!("qemu --json --granule {granule} --device-size 1G --leaf linux --altmap nvdimm");
    let ended = run(command(&flags)?)?;
    ensure(ended.status == Some(0), "the run does not pass", &ended)?;
    let differences = xtask::equals_linux(&ended.out).err().unwrap_or_default();
    ensure(differences.is_empty(), &differences, &ended)
}

fn screen_in_a_pipe() -> Result<(), Failed> {
    let ended = run(command("qemu --granule 64k --device-size 1G --leaf linux --altmap nvdimm")?)?;
    ensure(ended.status == Some(0) && ended.out.contains("\nPASS "), "the run does not pass", &ended)?;
    ensure(!ended.out.contains('\u{1b}'), "colour in a pipe", &ended)?;
    ensure(ended.out.matches("= Linux").count() == 3, "three rows are equal to Linux's", &ended)?;
    ensure(ended.out.lines().count() <= 25, "more than 25 lines", &ended)
}

fn without_tlbi() -> Result<(), Failed> {
    let ended = run(command("qemu --granule 64k --break tlbi")?)?;
    ensure(ended.status == Some(1) && ended.out.contains("FAIL "), "a machine without TLBI passes", &ended)?;
    ensure(ended.out.contains("stale"), "the stale read is not named", &ended)
}

/// A file of this test, which is not there yet.
fn fresh_file(name: &str) -> PathBuf {
    let file = std::env::temp_dir().join(format!("vmemmap-{name}-{}.trace", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

/// Nothing is wrong in what the kernel does, neither by its own checker nor by the adversary, and both saw the same.
fn checked_and_traced(granule: &str) -> Result<(), Failed> {
    let file = fresh_file(granule);
    let ended = run(command(&format!("qemu --json --checked --granule {granule} --trace {}", file.display()))?)?;
    ensure(ended.status == Some(0), "the run does not pass", &ended)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    let trace = std::fs::read_to_string(&file)?;
    let start = ["trace ", "regs ", "table ", "slot "];
    let events = trace.lines().filter(|line| !start.iter().any(|word| line.starts_with(word))).count();
    ensure(events > 100 && object["check"]["events"] == events, &format!("the trace has {events} events"), &ended)?;
    let operations = ["begin cpu=0 op=add ", "begin cpu=0 op=remove ", "touch ", "tlbi cpu=0 vaale1is ", "free "];
    let missing = operations.iter().find(|event| !trace.contains(*event));
    ensure(missing.is_none(), &format!("the trace has no {missing:?}"), &ended)?;
    let judged = run(command(&format!("check {}", file.display()))?)?;
    std::fs::remove_file(&file)?;
    ensure(judged.status == Some(0), "the adversary finds something wrong", &judged)
}

fn checked_without_tlbi() -> Result<(), Failed> {
    let file = fresh_file("broken");
    let flags = format!("qemu --granule 4k --device-size 64M --checked --break tlbi --trace {}", file.display());
    let ended = run(command(&flags)?)?;
    ensure(ended.status == Some(1) && ended.out.contains("FAIL "), "a machine without TLBI passes", &ended)?;
    ensure(ended.out.contains("in B1: no TLBI that covers it has followed the DSB"), "the rule is not named", &ended)?;
    let trace = std::fs::read_to_string(&file)?;
    let last = trace.lines().last().unwrap_or_default();
    ensure(last.starts_with("free ") && ended.out.contains(&format!("\n{last}\ntrace ")), "no last event", &ended)?;
    let whole = trace.contains("begin cpu=0 op=add ") && trace.contains("begin cpu=0 op=remove ");
    ensure(whole, "the file has not all that happened before", &ended)?;
    ensure(!ended.out.contains("--trace FILE"), "names a flag that is given", &ended)?;
    ensure(ended.out.ends_with(&format!(" events in {}, for `cargo xtask check`\n", file.display())), "where", &ended)?;
    let judged = run(command(&format!("check {}", file.display()))?)?;
    std::fs::remove_file(&file)?;
    ensure(judged.status == Some(1), "the adversary finds nothing wrong", &judged)
}

fn illegal_step_fits() -> Result<(), Failed> {
    let ended = run(command("qemu --checked --break tlbi")?)?;
    ensure(ended.status == Some(1) && ended.out.contains("FAIL "), "a machine without TLBI passes", &ended)?;
    let fits = ended.out.lines().count() <= 25 && ended.out.lines().all(|line| line.chars().count() <= 110);
    ensure(fits, "more than 25 lines of 110 columns", &ended)?;
    ensure(ended.out.contains("more with --verbose, --trace FILE or --json"), "where is the rest?", &ended)?;
    let verbose = run(command("qemu --checked --break tlbi --verbose")?)?;
    ensure(verbose.out.contains("\ntable pa="), "--verbose does not show all of it", &verbose)
}

/// Instructions of the default run, in all and by phase, from an image with the decorators and from one without.
fn decorators_cost_nothing(granule: &str) -> Result<(), Failed> {
    static BARE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let bare = BARE.get_or_init(build_bare).clone()?;
    super::built()?;
    let boot = Boot::main_job(Job::from_flags(&format!("--granule {granule} --count")).map_err(|stop| stop.why)?);
    let [with, without] = [boot.image.path(), bare].map(|image| instructions(&boot, &image));
    let (with, without) = (with?, without?);
    if with == without { Ok(()) } else { Err(format!("with decorators {with}, without {without}").into()) }
}

/// The kernel without decorators, beside the other.
fn build_bare() -> Result<PathBuf, String> {
    let target = build::target_directory().join("bare");
    let mut cargo = build::cargo(&["build", "--quiet", "--release", "--target", build::TARGET, "-p", "kernel"]);
    let built = cargo.arg("--no-default-features").arg("--target-dir").arg(&target).status();
    let built = built.is_ok_and(|status| status.success());
    let image = target.join(build::TARGET).join("release").join(Image::Kernel.package());
    built.then_some(image).ok_or_else(|| "the kernel without decorators does not compile".to_owned())
}

fn instructions(boot: &Boot, image: &Path) -> Result<String, Failed> {
    let mut words = boot.line();
    let here = words.iter().position(|word| word == "-kernel").ok_or("no -kernel")?;
    words[here + 1] = image.display().to_string();
    let mut command = Command::new(&words[0]);
    let ended = run(command.args(&words[1..]).stdin(Stdio::null()).current_dir(build::workspace()))?;
    let report =
        ended.out.lines().find_map(|line| line.strip_prefix("@report ")).ok_or_else(|| format!("{ended:?}"))?;
    let report: Value = serde_json::from_str(report)?;
    let counts = ["add", "remove"].map(|operation| &report[operation]["instructions"]);
    ensure(counts.iter().all(|count| count["total"].as_u64() > Some(0)), "nothing was counted", &ended)?;
    Ok(format!("add {}, remove {}", counts[0], counts[1]))
}

/// One after the other: what is held is written down in one place.
fn hold_walk_and_quit() -> Result<(), Failed> {
    ["--granule 64k", "--granule 4k --va-bits 52 --cpu max"].into_iter().try_for_each(hold_and_walk)
}

fn hold_and_walk(flags: &str) -> Result<(), Failed> {
    let mut child = command(&format!("qemu {flags} --hold --json"))?.stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take().ok_or("no pipe")?;
    let line = std::io::BufRead::lines(std::io::BufReader::new(pipe)).next().ok_or("the machine is not held")??;
    let object: Value = serde_json::from_str(&line)?;
    let first = object["memmap"]["start"].as_str().unwrap_or_default();
    let walked = run(command(&format!("walk {first}"))?)?;
    let socket = object["hold"]["qmp"].as_str().unwrap_or_default();
    Qmp::connect(socket.as_ref()).and_then(Qmp::quit).map_err(|stop| stop.why)?;
    let limit = Instant::now() + Duration::from_secs(10);
    let status = loop {
        match child.try_wait()? {
            None if Instant::now() < limit => std::thread::sleep(Duration::from_millis(10)),
            None => child.kill()?,
            Some(status) => break status,
        }
    };
    ensure(status.code() == Some(0), &format!("after quit: {status}"), &walked)?;
    ensure(object["result"] == "held" && object["remove"].is_null(), &line, &walked)?;
    let descriptor = object["memmap"]["first"][0]["descriptor"].as_str().unwrap_or("?").trim_start_matches("0x");
    ensure(walked.out.contains(descriptor), &format!("the walk does not end at {descriptor}"), &walked)
}

fn dry_run() -> Result<(), Failed> {
    let mut command = command("qemu --dry-run --granule 16k")?;
    command.env("PATH", "/nowhere");
    let ended = run(command)?;
    ensure(ended.status == Some(0) && ended.err.is_empty(), "needs a tool", &ended)?;
    ensure(ended.out.starts_with("qemu-system-aarch64 ") && ended.out.contains("granule=16k"), "no QEMU line", &ended)
}

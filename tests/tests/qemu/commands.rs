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
        for order in [[2, 0, 1], [0, 1, 2]] {
            let [a, b, c] = order;
            let name = format!("commands::three_devices_are_removed_in_the_order_{a}_{b}_{c}_at_{granule}");
            trials.push(Trial::test(name, move || three_devices(granule, order)));
        }
        let name = format!("commands::a_plan_is_what_the_add_then_takes_at_{granule}");
        trials.push(Trial::test(name, move || plan_is_kept(granule)));
    }
    trials.push(Trial::test("commands::eight_devices_fit_the_screen_and_last_in_is_first_out", eight_devices));
    trials.push(Trial::test("commands::edge_pages_are_told_as_pages_of_ram", edge_pages));
    trials.push(Trial::test("commands::each_device_has_its_own_instructions", own_instructions));
    trials.push(Trial::test("commands::a_checked_run_of_two_devices_judges_its_trace", checked_devices));
    trials.push(Trial::test("commands::several_devices_without_tlbi_fail_by_name", devices_without_tlbi));
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

/// At 64K the range starts and ends in the middle of pages of vmemmap that describe other memory too.
fn edge_pages() -> Result<(), Failed> {
    let leaves = |source: &str, count: u64| serde_json::json!({ "size": 65536, "contiguous": false, "source": source, "count": count });
    for (memmap, wanted) in [("altmap", vec![leaves("altmap", 1), leaves("ram", 2)]), ("ram", vec![leaves("ram", 3)])] {
        let ended = run(command(&format!("qemu --json --granule 64k --device 0x300200000,128M,{memmap}"))?)?;
        let object: Value = serde_json::from_str(&ended.out)?;
        ensure(object["result"] == "pass" && object["memmap"]["leaves"] == Value::from(wanted), memmap, &ended)?;
    }
    Ok(())
}

/// The first two share tables that nothing else needs (the linear map's at 4K and 64K, the vmemmap's at 4K with pages).
fn three_devices(granule: &str, order: [usize; 3]) -> Result<(), Failed> {
    let devices = "--device 8G,256M --device 0x210000000,256M,ram --device 4G,1G,nvdimm";
    let [a, b, c] = order;
    let ended = run(command(&format!("qemu --json --granule {granule} {devices} --remove-order {a},{b},{c}"))?)?;
    ensure(ended.status == Some(0), "the run does not pass", &ended)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    let together = serde_json::json!({ "proved_again": 3, "frames_difference": 0 });
    ensure(object["proof"] == together && object["remove_order"] == serde_json::json!(order), "the whole", &ended)?;
    let all: Vec<_> = object["devices"].as_array().into_iter().flatten().collect();
    ensure(all.len() == 3, "not three devices", &ended)?;
    for (number, device) in all.iter().enumerate() {
        let proof = &device["proof"];
        let agreed = proof["leaves"].as_u64() > Some(0) && proof["leaves"] == proof["leaves_at_plan"];
        let (faulted, removed) = (proof["fault"]["far"].is_string(), device["remove"]["tlbi"].as_u64() > Some(0));
        ensure(agreed && faulted && removed, &format!("device {number} is not proved"), &ended)?;
    }
    let stored = all.iter().map(|device| device["altmap"]["reserve"].as_u64().map(|reserve| reserve > 0));
    ensure(stored.eq([Some(false), None, Some(true)]), "tight, RAM, nvdimm", &ended)?;
    let tables = |number: usize, operation: &str| all[number][operation]["table_frames"].as_u64().unwrap_or(9);
    let (taken, freed) = ([0, 1].map(|number| tables(number, "add")), [0, 1].map(|number| tables(number, "remove")));
    // 0 goes before 1 in both orders: what both used, the second to go frees.
    let shared = taken[0] - freed[0];
    ensure(freed[1] == taken[1] + shared, &format!("tables taken {taken:?}, freed {freed:?}"), &ended)?;
    ensure(granule == "16k" || shared == 1, &format!("{shared} tables are shared"), &ended)
}

/// A plan and the run without `--plan` name the same leaves, frames and tables; a plan adds nothing.
fn plan_is_kept(granule: &str) -> Result<(), Failed> {
    let page = if granule == "4k" { 4096 } else { 1024 * granule.trim_end_matches('k').parse::<u64>()? };
    // The last three: edge pages, and struct pages that are boot's, all or some of them, where sections are large.
    for device in ["8G,256M", "1T,1G,ram", "4G,1G,nvdimm", "0x300200000,128M", "0x50000000,64M", "0x5c000000,128M"] {
        let flags = format!("qemu --json --granule {granule} --device {device}");
        let [planned, done] = [command(&format!("{flags} --plan"))?, command(&flags)?].map(run);
        let (planned, done) = (planned?, done?);
        let [plan, told]: [Value; 2] = [serde_json::from_str(&planned.out)?, serde_json::from_str(&done.out)?];
        ensure(planned.status == Some(0) && plan["result"] == "planned" && plan["add"].is_null(), "no plan", &planned)?;
        ensure(done.status == Some(0) && told["result"] == "pass", "the run does not pass", &done)?;
        let plan = &plan["plans"][0];
        for part in ["device", "altmap"] {
            ensure(plan[part] == told[part], &format!("{part}: {told}"), &planned)?;
        }
        for (map, part) in
            ["memmap", "linear"].into_iter().flat_map(|map| ["start", "end", "leaves"].map(|part| (map, part)))
        {
            ensure(plan[map][part] == told[map][part], &format!("{map}.{part}: {told}"), &planned)?;
        }
        let [tables, struct_pages] = ["table_frames", "struct_page_frames"].map(|key| plan["ram"][key].as_u64());
        ensure(tables == told["add"]["table_frames"].as_u64(), &format!("tables: {told}"), &planned)?;
        let bytes = tables.zip(struct_pages).map(|(tables, pages)| (tables + pages) * page);
        ensure(bytes.is_some() && bytes == told["add"]["ram_bytes"].as_u64(), &format!("RAM: {told}"), &planned)?;
    }
    Ok(())
}

fn eight_devices() -> Result<(), Failed> {
    let devices: Vec<_> = (4..12).map(|gib| format!("--device {gib}G,256M")).collect();
    let ended = run(command(&format!("qemu --granule 64k {}", devices.join(" ")))?)?;
    ensure(ended.status == Some(0) && ended.out.contains("\nPASS "), "the run does not pass", &ended)?;
    let fits = ended.out.lines().count() <= 30 && ended.out.lines().all(|line| line.chars().count() <= 110);
    ensure(fits, "more than 30 lines of 110 columns", &ended)?;
    let order = "removed in the order 7,6,5,4,3,2,1,0; those still there proved again, 28 times";
    ensure(ended.out.contains(order), "not last in, first out", &ended)
}

/// A small device that goes first and a large one: the phases of each add up to less than its own total.
fn own_instructions() -> Result<(), Failed> {
    let ended = run(command("qemu --json --count --device 4G,64M --device 8G,1G --remove-order 0,1")?)?;
    ensure(ended.status == Some(0), "the run does not pass", &ended)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    let count = |device: usize, operation: &str, what: &str| {
        object["devices"][device][operation]["instructions"][what].as_u64().unwrap_or(0)
    };
    for (device, operation) in [(0, "add"), (1, "add"), (0, "remove"), (1, "remove")] {
        let total = count(device, operation, "total");
        let phases = ["linear", "populate", "init"].map(|phase| count(device, operation, phase)).iter().sum::<u64>();
        let whole = phases > total / 2 && phases < total;
        ensure(whole, &format!("{operation} of {device}: {phases} in phases, {total} in all"), &ended)?;
    }
    ensure(count(1, "add", "init") > 8 * count(0, "add", "init"), "16 times as many struct pages", &ended)
}

fn checked_devices() -> Result<(), Failed> {
    let file = fresh_file("devices");
    let flags = "qemu --json --checked --device 8G,256M --device 4G,1G,ram --remove-order 0,1";
    let ended = run(command(&format!("{flags} --trace {}", file.display()))?)?;
    let judged = run(command(&format!("check {}", file.display()))?)?;
    let trace = std::fs::read_to_string(&file)?;
    std::fs::remove_file(&file)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    ensure(ended.status == Some(0) && object["check"]["events"].as_u64() > Some(100), "does not pass", &ended)?;
    ensure(judged.status == Some(0), "the adversary finds something wrong", &judged)?;
    // The rehearsal and the run.
    let adds = trace.lines().filter(|line| line.starts_with("begin ") && line.contains(" op=add ")).count();
    ensure(adds == 4, &format!("{adds} adds in the trace"), &ended)
}

fn devices_without_tlbi() -> Result<(), Failed> {
    let ended = run(command("qemu --granule 64k --device 4G,1G --device 5G,1G --remove-order 0,1 --break tlbi")?)?;
    ensure(ended.status == Some(1), "a machine without TLBI passes", &ended)?;
    ensure(ended.out.contains("FAIL      device 0: a load of the removed "), "the device is not named", &ended)
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

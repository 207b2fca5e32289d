//! Bad input and broken tools: one line that says what to do, the right exit status, never a hang.

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use xtask::{Boot, Job, build};

use crate::commands::{command, ensure, run};

/// Name, flags, exit status, and what the line says.
const REFUSED: [(&str, &str, i32, &str); 42] = [
    ("unknown_granule", "--granule 8k", 2, "4k, 16k and 64k"),
    ("va_size_that_4k_lacks", "--granule 4k --va-bits 47", 2, "use 39, 48 or 52"),
    ("va_size_that_64k_lacks", "--granule 64k --va-bits 39", 2, "use 42, 48 or 52"),
    ("52_bits_without_lva", "--granule 64k --va-bits 52", 2, "FEAT_LVA"),
    ("52_bits_without_lpa2", "--granule 16k --va-bits 52 --cpu max,lpa2=off", 2, "that have them: max"),
    ("lva_is_of_no_use_to_4k", "--granule 4k --va-bits 52 --cpu max,lpa2=off", 2, "FEAT_LPA2"),
    ("sixteen_k_on_cortex_a72", "--granule 16k --cpu cortex-a72", 2, "neoverse-n1"),
    ("sixteen_k_on_a64fx", "--granule 16k --cpu a64fx", 2, "max"),
    ("no_cpus", "--smp 0", 2, "0 is not in 1..=8"),
    ("nine_cpus", "--smp 9", 2, "9 is not in 1..=8"),
    ("cpus_in_words", "--smp two", 2, "--smp"),
    (
        "ram_too_small_for_the_stacks_of_eight",
        "--smp 8 --memory 6M --device-size 64M",
        2,
        "the stack of another CPU: no",
    ),
    ("unknown_cpu", "--cpu nonsense", 2, "neoverse-n1"),
    ("device_of_size_0", "--device-size 0", 2, "give a size above 0"),
    ("device_of_3m", "--device-size 3M", 2, "0x100000000..0x100200000 would do"),
    ("device_that_overlaps_ram", "--device-base 0x48000000 --device-size 64M", 2, "RAM"),
    ("device_that_wraps", "--device-base 0xffffffffffe00000 --device-size 4M", 2, "wraps"),
    ("device_beyond_the_physical_range", "--cpu cortex-a53 --device-base 1T", 2, "--cpu max"),
    ("device_beyond_the_linear_map", "--va-bits 42 --device-base 4T", 2, "linear map"),
    ("device_too_high_for_qemu", "--device 63T,1G", 2, "QEMU can't hold device memory 0x3f0000000000"),
    ("altmap_too_small", "--altmap-free 1", 2, "altmap"),
    ("too_little_ram", "--memory 2M", 2, "--memory"),
    ("device_of_a_page", "--granule 4k --device-size 4K", 2, "0x100000000..0x100200000 would do"),
    ("a_size_that_is_no_size", "--memory lots", 2, "256M"),
    ("a_count_of_a_checked_machine", "--checked --count", 2, "leave --checked away"),
    ("a_count_of_a_traced_machine", "--trace x.trace --count", 2, "leave --trace away"),
    (
        "a_trace_in_no_directory",
        "--trace no/such/room/x.trace",
        2,
        "cannot write the trace to no/such/room/x.trace: No such",
    ),
    ("a_trace_that_is_a_directory", "--trace .", 2, "it is a directory; name a file"),
    ("devices_that_overlap", "--device 4G,1G --device 0x110000000,1G", 2, "choose a base at or above 0x140000000"),
    ("one_of_several_devices_over_ram", "--device 4G,1G --device 1G,64M", 2, "overlaps RAM 0x40000000..0x50000000"),
    ("one_of_several_devices_of_size_0", "--device 4G,1G --device 5G,0", 2, "give a size above 0"),
    ("one_of_several_devices_of_3m", "--device 4G,1G --device 5G,3M", 2, "device 1: 0x140000000..0x140300000 does not"),
    ("an_altmap_too_small_for_the_second", "--device 4G,64M --device 5G,1G --altmap-free 1", 2, "device 1: the altmap"),
    (
        "ram_too_small_for_the_second_device",
        "--granule 4k --memory 32M --device 4G,1G,ram --device 8G,1G,ram",
        2,
        "device 1: out of RAM",
    ),
    ("a_device_that_is_no_triple", "--device 4G", 2, "like 4G,1G or 0x140000000,256M,ram"),
    ("a_device_with_an_unknown_memmap", "--device 4G,1G,disk", 2, "the third part is altmap, nvdimm or ram"),
    ("a_device_said_in_two_ways", "--device 4G,1G --device-size 1G", 2, "cannot be used with"),
    ("an_order_that_names_one_twice", "--device 4G,1G --device 5G,1G --remove-order 1,1", 2, "order the numbers 0,1"),
    ("an_order_of_words", "--remove-order last", 2, "like 2,0,1"),
    ("a_plan_that_is_counted", "--plan --count", 2, "cannot be used with"),
    ("a_plan_that_ram_can_not_hold", "--plan --granule 4k --memory 64M --device 8G,64G,ram", 2, "use an altmap"),
    ("a_plan_of_what_can_not_be", "--plan --device-size 3M", 2, "0x100000000..0x100200000 would do"),
];

/// What `cargo xtask qemu` never lets through: boot arguments, and what the kernel says.
const REFUSED_BY_KERNEL: [(&str, &str); 8] = [
    ("device=0x100000000,0x40000000 device=0x110000000,0x40000000", "overlaps device memory 0x100000000..0x140000000"),
    ("device=0x48000000,0x4000000", "overlaps RAM 0x40000000..0x50000000; choose a base at or above 0x50000000"),
    ("device=0xffffffffffe00000,0x400000", "wraps around the address space"),
    ("device=0x100000000,0", "give a size above 0"),
    ("device=0x100000000,0x40000000,disk", "then perhaps altmap, nvdimm or ram"),
    ("device=0x100000000,0x40000000 remove_order=0,0", "remove_order=0,0 is not an order of 1 device"),
    ("device=0x100000000,0x40000000 remove_order=first", "the numbers of the devices, like 2,0,1"),
    ("", "no device memory: give device=BASE,BYTES"),
];

/// Name, what the script does after `--version`, its version, and what our line says.
const BROKEN_QEMU: [(&str, &str, &str, &str); 4] = [
    ("qemu_too_old", "exit 1", "6.2.0", "7.2.0 or newer"),
    ("qemu_dies_at_once", "echo 'no such machine' >&2; exit 1", "7.2.22", "no such machine"),
    ("qemu_is_killed", "kill -9 $$", "7.2.22", "signal: 9"),
    ("qemu_hangs", "exec sleep 100", "7.2.22", "did not end within 1s"),
];

/// A QEMU that tells two lines of a trace, and then does what its run is named for.
struct Traced {
    name: &'static str,
    flags: &'static str,
    act: &'static str,
    status: i32,
    /// On stdout or stderr.
    says: &'static [&'static str],
    saved: bool,
}

const TRACED: [Traced; 8] = [
    Traced {
        name: "panics_keeps_its_trace",
        flags: "",
        act: "echo '@panic at x'; exit 67",
        status: 3,
        says: &["PANIC     at x", "trace     1 event in "],
        saved: true,
    },
    Traced {
        name: "the_kernel_refuses_keeps_its_trace",
        flags: "",
        act: "echo '@refused no 16k'; exit 66",
        status: 2,
        says: &["error: no 16k", "trace     1 event in "],
        saved: true,
    },
    Traced {
        name: "hangs_keeps_its_trace",
        flags: "--time-limit 1",
        act: "exec sleep 100",
        status: 4,
        says: &["--trace is slow: give more --time-limit or a smaller --device-size", "trace     1 event in "],
        saved: true,
    },
    Traced {
        name: "is_interrupted_leaves_nothing",
        flags: "",
        act: "kill -TERM $PPID; exec sleep 100",
        status: 130,
        says: &["error: no trace is saved in ", ": the run was interrupted"],
        saved: false,
    },
    Traced {
        name: "passes_and_can_not_be_saved",
        flags: "",
        act: "mkdir \"$TRACE\"; echo '@report {}'; echo @pass",
        status: 4,
        says: &["error: the kernel's report cannot be read", "error: cannot write the trace to ", "make room there"],
        saved: false,
    },
    Traced {
        name: "fails_and_can_not_be_saved",
        flags: "",
        act: "mkdir \"$TRACE\"; echo '@fail stale'; exit 65",
        status: 1,
        says: &["FAIL      stale", "error: cannot write the trace to "],
        saved: false,
    },
    Traced {
        name: "is_json_and_can_not_be_saved",
        flags: "--json",
        act: "mkdir \"$TRACE\"; echo '@report {\"result\":\"pass\"}'; echo @pass",
        status: 4,
        says: &[r#""result":"fail""#, r#""error":"cannot write the trace to "#],
        saved: false,
    },
    Traced {
        name: "is_held_and_can_not_be_saved",
        flags: "--json --hold",
        act: "mkdir \"$TRACE\"; echo '@report {\"result\":\"held\"}'; echo @held",
        status: 4,
        says: &[r#""result":"held""#, r#""error":"cannot write the trace to "#],
        saved: false,
    },
];

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let refused = REFUSED.map(|(name, flags, status, says)| {
        Trial::test(format!("refusals::{name}"), move || refuses(&format!("qemu {flags}"), &[], status, says))
    });
    let broken = BROKEN_QEMU.map(|(name, act, version, says)| {
        Trial::test(format!("refusals::{name}"), move || {
            let room = fake_qemu(name, act, version)?;
            refuses("qemu --time-limit 1", &[room, path()], 4, says)
        })
    });
    let absent = Trial::test("refusals::qemu_absent", qemu_absent);
    let json = Trial::test("refusals::json_of_a_refused_run_is_one_object", json);
    let traced = TRACED
        .map(|case| Trial::test(format!("refusals::a_traced_run_that_{}", case.name), move || keeps_its_trace(&case)));
    let others = [
        Trial::test("refusals::a_trace_that_is_no_writable_file", no_writable_file),
        Trial::test("refusals::a_trace_leaves_nothing_while_the_kernel_is_built", nothing_while_building),
        Trial::test("refusals::miri_that_runs_no_test", miri_without_tests),
        Trial::test("refusals::the_kernel_by_itself", kernel_by_itself),
    ];
    refused.into_iter().chain(broken).chain([absent, json]).chain(traced).chain(others).collect()
}

fn refuses(flags: &str, path: &[String], status: i32, says: &str) -> Result<(), Failed> {
    let start = Instant::now();
    let mut command = command(flags)?;
    if !path.is_empty() {
        command.env("PATH", path.join(":"));
    }
    let ended = run(command)?;
    ensure(ended.status == Some(status), &format!("the exit status is not {status}"), &ended)?;
    let lines: Vec<_> = ended.err.lines().collect();
    ensure(ended.out.is_empty() && lines.len() == 1, "not one line", &ended)?;
    ensure(ended.err.starts_with("error: ") && ended.err.contains(says), &format!("does not say {says:?}"), &ended)?;
    ensure(start.elapsed() < Duration::from_secs(30), "too slow", &ended)
}

fn kernel_by_itself() -> Result<(), Failed> {
    let nine = (4..13_u64).map(|gib| format!("device={:#x},0x40000000", gib << 30)).collect::<Vec<_>>().join(" ");
    let cases = REFUSED_BY_KERNEL.into_iter().chain([(nine.as_str(), "more than 8 sources of device memory")]);
    super::built()?;
    for (arguments, says) in cases {
        let mut words = Boot::main_job(Job::from_flags("").map_err(|stop| stop.why)?).line();
        *words.last_mut().ok_or("no boot arguments")? = format!("memory=0x10000000 {arguments}");
        let mut command = Command::new(&words[0]);
        let ended = run(command.args(&words[1..]).stdin(Stdio::null()).current_dir(build::workspace()))?;
        let refused = ended.out.lines().any(|line| line.starts_with("@refused ") && line.contains(says));
        ensure(ended.status == Some(66) && refused, &format!("{arguments}: does not say {says:?}"), &ended)?;
    }
    Ok(())
}

/// With nobody to install it: no package manager is in the path.
fn qemu_absent() -> Result<(), Failed> {
    let room = room("absent")?;
    for program in ["rustc", "id", "sh"] {
        let found = xtask::in_path(program).ok_or("not in PATH")?;
        symlink(found, room.join(program))?;
    }
    refuses(
        "qemu",
        &[room.display().to_string()],
        4,
        "qemu-system-aarch64 (the kernel boots in it); install with: Debian, Ubuntu:",
    )
}

fn json() -> Result<(), Failed> {
    for (flags, says) in
        [("--granule 8k", "4k, 16k"), ("--device-size 0", "above 0"), ("--granule 16k --cpu cortex-a72", "16")]
    {
        let ended = run(command(&format!("qemu --json {flags}"))?)?;
        let object: serde_json::Value =
            serde_json::from_str(&ended.out).map_err(|error| format!("{error}: {}", ended.out))?;
        ensure(
            ended.status == Some(2) && object["result"] == "refused" && object["schema_version"] == 1,
            flags,
            &ended,
        )?;
        ensure(object["error"].as_str().is_some_and(|error| error.contains(says)), says, &ended)?;
    }
    Ok(())
}

fn keeps_its_trace(case: &Traced) -> Result<(), Failed> {
    let told = "echo '@trace trace version=1'; echo '@trace isb cpu=0'";
    let path_of_qemu = fake_qemu(case.name, &format!("{told}; {}", case.act), "7.2.22")?;
    let out = room(&format!("{}-out", case.name))?;
    let file = out.join("a.trace");
    let mut command = command(&format!("qemu {} --trace {}", case.flags, file.display()))?;
    let ended = run(command.env("PATH", [path_of_qemu, path()].join(":")).env("TRACE", &file))?;
    ensure(ended.status == Some(case.status), &format!("the exit status is not {}", case.status), &ended)?;
    let all = ended.out.clone() + &ended.err;
    let missing = case.says.iter().find(|says| !all.contains(**says));
    ensure(missing.is_none(), &format!("does not say {missing:?}"), &ended)?;
    ensure(!case.flags.contains("--json") || ended.out.lines().count() == 1, "not one object", &ended)?;
    let saved = std::fs::read_to_string(&file).ok();
    let expected = case.saved.then(|| "trace version=1\nisb cpu=0\n".to_owned());
    ensure(saved == expected, &format!("saved {saved:?}, expected {expected:?}"), &ended)?;
    let left: Vec<_> = names(&out)?.into_iter().filter(|name| name != "a.trace").collect();
    ensure(left.is_empty(), &format!("left {left:?}"), &ended)
}

fn names(room: &Path) -> Result<Vec<std::ffi::OsString>, Failed> {
    Ok(std::fs::read_dir(room)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?)
}

fn no_writable_file() -> Result<(), Failed> {
    let room = room("no-file")?;
    let [pipe, link, shut] = ["pipe", "link", "shut"].map(|name| room.join(name));
    let made = Command::new("mkfifo").arg(&pipe).status()?;
    symlink(&pipe, &link)?;
    std::fs::write(&shut, "old")?;
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o444))?;
    for (path, says) in [(&pipe, "not a regular file"), (&link, "not a regular file"), (&shut, "it is read-only")] {
        refuses(&format!("qemu --trace {}", path.display()), &[], 2, says)?;
    }
    let kept = std::fs::metadata(&pipe)?.file_type().is_fifo() && std::fs::read_to_string(&shut)? == "old";
    if made.success() && kept && names(&room)?.len() == 3 { Ok(()) } else { Err("something was replaced".into()) }
}

/// With a cargo that says what is in the directory of the trace, and builds nothing.
fn nothing_while_building() -> Result<(), Failed> {
    let (room, out) = (room("build")?, room("build-out")?);
    let cargo = program(&room, "cargo", "echo \"there: $(ls -A \"$OUT\")\"; exit 1")?;
    let mut command = command(&format!("qemu --trace {}", out.join("a.trace").display()))?;
    let ended = run(command.env("CARGO", cargo).env("OUT", &out))?;
    ensure(ended.status == Some(1) && ended.err.contains("there: \n"), "something is there already", &ended)
}

/// With a rustup whose Miri finds no test of that name.
fn miri_without_tests() -> Result<(), Failed> {
    let room = room("miri")?;
    program(&room, "rustup", "echo; echo 'running 0 tests'; echo")?;
    let mut command = command("miri hotplugg")?;
    let ended = run(command.env("PATH", [room.display().to_string(), path()].join(":")))?;
    ensure(ended.status == Some(2) && ended.err.contains("none has \"hotplugg\" in its name"), "no refusal", &ended)
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// A new, empty directory.
fn room(name: &str) -> Result<PathBuf, Failed> {
    let room = std::env::temp_dir().join(format!("vmemmap-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&room);
    std::fs::create_dir_all(&room)?;
    Ok(room)
}

fn fake_qemu(name: &str, act: &str, version: &str) -> Result<String, Failed> {
    let room = room(name)?;
    let script = format!("if [ \"$1\" = --version ]; then echo 'QEMU emulator version {version}'; else {act}; fi");
    program(&room, "qemu-system-aarch64", &script)?;
    Ok(room.display().to_string())
}

fn program(room: &Path, name: &str, script: &str) -> Result<PathBuf, Failed> {
    let program = room.join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

//! `cargo xtask live` as a user types it, against a QEMU that is made up: this program itself, under QEMU's name.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

#[path = "live/edges.rs"]
mod edges;
#[path = "live/fake.rs"]
mod fake;

/// A script, in which way the machine is broken, how the command ends, and what it prints, in this order.
struct Case {
    name: &'static str,
    flags: &'static str,
    broken: &'static str,
    script: &'static str,
    status: i32,
    says: &'static [&'static str],
    /// What it never prints.
    never: &'static [&'static str],
}

/// A machine that does what it should.
const PLAIN: Case = Case { name: "", flags: "", broken: "", script: "", status: 0, says: &[], never: &[] };

const CASES: &[Case] = &[
    Case {
        name: "memory_comes_is_held_and_goes",
        flags: "",
        broken: "",
        script: "# a comment\nplug 1G\nunplug 512M\nplug 512M\nhold\nshow\n! unplug all\nrelease\nquit\n",
        status: 0,
        says: &[
            "ready     64k   virtio-mem   9 frames",
            "live> plug 1G",
            "added     virtio-mem 0x10000000000..0x10020000000   512 MiB, 8192 pages   8/8 leaves: AT = plan",
            "altmap 512 KiB   24 writes  2 DSB  0 TLBI   0 bytes of RAM",
            "held      0x10800000000..0x10820000000",
            "2 ranges, 1 GiB",
            "live> ! unplug all",
            "kept      virtio-mem 0x10800000000..0x10820000000   512 MiB   busy: 1 holder",
            "removed   virtio-mem 0x10000000000..",
            "16 clears  4 DSB  16 TLBI   then a load faults: FAR ffffffdfc1000000, level 3",
            "failed    as it must: 512 MiB of 1 GiB removed: busy: 1 holder",
            "released",
            "PASS      3 ranges added, 3 ranges removed   books as before, difference 0 frames",
        ],
        ..PLAIN
    },
    Case {
        name: "a_script_stops_at_the_first_command_that_fails_and_names_its_line",
        flags: "",
        broken: "refuses",
        script: "show\n\nplug 1G\nshow\n",
        status: 1,
        says: &[
            "live> show",
            "refused   virtio-mem 0x10000000000 + 512 MiB   out of RAM",
            "error: line 3: plug 1G: nothing was added: out of RAM",
        ],
        ..PLAIN
    },
    Case {
        name: "a_command_that_must_fail_and_does_not_fails",
        flags: "",
        broken: "",
        script: "! plug 1G\n",
        status: 1,
        says: &["error: line 1: ! plug 1G: it did not fail"],
        ..PLAIN
    },
    Case {
        name: "what_can_not_be_asked_is_told_what_to_do",
        flags: "--device virtio-mem,max=1G --device nvdimm,size=2M --device virtio-mem,size=2M,block=1G,max=1G",
        broken: "",
        script: "",
        status: 2,
        says: &["size=0x200000 is no multiple of 1 GiB: choose size=0x40000000"],
        ..PLAIN
    },
    Case {
        name: "commands_that_do_not_fit_their_device_fail",
        flags: "--device virtio-mem,max=1G --device ivshmem,size=2M --device virtio-mem,block=1G,max=1G",
        broken: "",
        script: "! plug 2G\n! plug 1M\n! plug 2M ivshmem\n! plug 2M nvdimm\n! plug 2M at=4G\n! unplug 2M\n! plug 2M virtio-mem.1\n! unplug dimm0\n! hold\nhold",
        status: 1,
        says: &[
            "virtio-mem has room for 1 GiB, of which 1 GiB are left: plug at most that",
            "0x100000 bytes are no multiple of the device's blocks of 2 MiB",
            "ivshmem is there as a whole, from the start to the end",
            "there is no device \"nvdimm\": there are virtio-mem, ivshmem, virtio-mem.1",
            "virtio-mem grows where it has place: leave at= away",
            "virtio-mem was asked to have 0 bytes: unplug at most that",
            "no multiple of the device's blocks of 1 GiB",
            "there is no DIMM dimm0",
            "as it must: no region is there",
            "error: line 10: hold: no region is there",
        ],
        ..PLAIN
    },
    Case {
        name: "dimms_are_plugged_held_and_ejected",
        flags: "--device pc-dimm",
        broken: "",
        script: "plug 2M\nplug 1G at=8G\n! plug 2M\n! unplug 2M\nhold\n! unplug dimm1\nunplug dimm0\n! unplug dimm0\nrelease\nunplug all\nplug 2M\nunplug dimm2\nquit",
        status: 0,
        says: &[
            "plugged   dimm0, 2 MiB",
            "added     pc-dimm",
            "plugged   dimm1, 1 GiB",
            "as it must: QEMU refuses: no free slots available: unplug a DIMM first",
            "as it must: a DIMM goes whole: unplug one of [dimm0, dimm1], or all",
            "as it must: nothing was removed: busy: 1 holder",
            "removed   pc-dimm",
            "as it must: there is no DIMM dimm0: there are [dimm1]",
            "PASS      3 ranges added, 3 ranges removed",
        ],
        ..PLAIN
    },
    Case {
        name: "commands_that_are_not_waited_for_are_served_with_the_next",
        flags: "--device pc-dimm --device virtio-mem",
        broken: "",
        script: "plug 2M pc-dimm &\nplug 4M virtio-mem &\nplug 2M virtio-mem\nunplug dimm0 &\nunplug all virtio-mem\nplug 2M pc-dimm\nunplug dimm1\nshow\n! unplug dimm0",
        status: 0,
        says: &[
            "plugged   dimm0, 2 MiB",
            "live> plug 2M virtio-mem",
            "added     virtio-mem",
            "added     pc-dimm",
            "live> unplug all virtio-mem",
            "as it must: there is no DIMM dimm0",
            "PASS      3 ranges added, 3 ranges removed",
        ],
        ..PLAIN
    },
    Case {
        name: "texts_are_kept_by_the_name_of_the_device",
        flags: "--device pc-dimm --device virtio-mem",
        broken: "",
        script: "plug 2M virtio-mem\nwrite virtio-mem two words\nread virtio-mem\nquit",
        status: 0,
        says: &["written   9 bytes at offset 0x80000 of virtio-mem", "read      virtio-mem   two words", "PASS"],
        ..PLAIN
    },
    Case {
        name: "a_reset_brings_the_request_back",
        flags: "",
        broken: "",
        script: "plug 512M\nreset\nunplug all\nquit",
        status: 0,
        says: &["added", "live> reset", "added", "ready", "removed", "PASS      2 ranges added, 1 range removed"],
        ..PLAIN
    },
    Case {
        name: "what_a_reset_does_not_bring_back_is_forgotten",
        flags: "",
        broken: "",
        script: "plug 1G\nhold\n! unplug all\nreset\nrandom 1 2\nquit",
        status: 0,
        says: &["kept", "live> reset", "ready", "the books agree", "PASS"],
        ..PLAIN
    },
    Case {
        name: "a_killed_machine_ends_a_script",
        flags: "",
        broken: "",
        script: "plug 2M\nkill\n# the end",
        status: 0,
        says: &["live> kill"],
        ..PLAIN
    },
    Case {
        name: "nothing_comes_after_a_kill",
        flags: "",
        broken: "",
        script: "kill\n\nshow",
        status: 1,
        says: &["error: line 3: show: the machine has ended before"],
        ..PLAIN
    },
    Case {
        name: "random_lives_keep_the_books",
        flags: "--device virtio-mem,max=4G --device pc-dimm --device virtio-mem,max=1G",
        broken: "",
        script: "random 60 7\nquit",
        status: 0,
        says: &["random    60 steps of seed 7: ", "; the books agree", "PASS"],
        ..PLAIN
    },
    Case {
        name: "random_lives_whose_books_differ_fail",
        flags: "",
        broken: "books",
        script: "random 5",
        status: 1,
        says: &["error: line 1: random 5: virtio-mem: QEMU has "],
        ..PLAIN
    },
    Case {
        name: "a_monitor_that_is_gone_is_said_to_be",
        flags: "",
        broken: "monitor",
        script: "! plug 1G\nshow\nquit",
        status: 0,
        says: &[
            "failed    as it must: the monitor is gone (",
            "the kernel runs on; show, hold, release, quit still work",
            "0 ranges",
            "PASS",
        ],
        ..PLAIN
    },
    Case {
        name: "json_is_events_and_commands_and_nothing_else",
        flags: "--json",
        broken: "",
        script: "plug 2M\n! plug 3M\nquit",
        status: 0,
        says: &[
            r#"{"event":"ready","#,
            r#"{"command":"plug 2M"}"#,
            r#"{"event":"added","#,
            r#"{"event":"synced","number":1}"#,
            r#"{"command":"! plug 3M"}"#,
            r#"{"command":"! plug 3M","failed":"0x300000 bytes are no multiple"#,
            r#"{"event":"end","added":1,"removed":1,"frames_difference":0}"#,
        ],
        ..PLAIN
    },
    Case {
        name: "json_of_a_script_that_fails_ends_with_an_object",
        flags: "--json",
        broken: "",
        script: "unplug 2M",
        status: 1,
        says: &[r#""result":"fail","error":"line 1: unplug 2M: virtio-mem was asked to have 0 bytes"#],
        ..PLAIN
    },
    Case {
        name: "a_panic_is_told_with_its_backtrace",
        flags: "",
        broken: "panics",
        script: "plug 2M",
        status: 3,
        says: &["PANIC     at kernel/src/x.rs: no", "  registers", "  0xffffffffffff0000"],
        ..PLAIN
    },
    Case {
        name: "a_machine_that_dies_says_so",
        flags: "",
        broken: "dies",
        script: "plug 2M",
        status: 4,
        says: &["error: QEMU died (signal: 6"],
        ..PLAIN
    },
    Case {
        name: "a_kernel_that_hangs_is_stopped",
        flags: "--time-limit 1",
        broken: "hangs",
        script: "plug 2M",
        status: 4,
        says: &["error: the command did not end within 1s, QEMU was stopped"],
        ..PLAIN
    },
    Case {
        name: "a_machine_that_the_kernel_refuses",
        flags: "",
        broken: "refused",
        script: "plug 2M",
        status: 2,
        says: &["error: no 16k"],
        ..PLAIN
    },
    Case {
        name: "books_that_leak_fail",
        flags: "",
        broken: "leaks",
        script: "plug 2M\nquit",
        status: 1,
        says: &["FAIL      1 frame is missing"],
        ..PLAIN
    },
    Case {
        name: "the_kernels_log_is_shown_on_demand",
        flags: "--verbose",
        broken: "",
        script: "quit",
        status: 0,
        says: &["the fake kernel is up", "ready", "PASS"],
        ..PLAIN
    },
    Case {
        name: "help_lists_the_commands",
        flags: "",
        broken: "",
        script: "help",
        status: 0,
        says: &["plug SIZE [DEVICE]", "unplug dimmN", "PASS"],
        ..PLAIN
    },
];

fn main() {
    let words: Vec<_> = std::env::args().collect();
    if Path::new(&words[0]).file_name().is_some_and(|name| name == "qemu-system-aarch64") {
        return fake::main(&words[1..]);
    }
    let cases = CASES.iter().chain(edges::CASES).map(|case| Trial::test(case.name, move || run(case)));
    let pipe = Trial::test("a_reader_that_goes_away_ends_us_quietly", edges::a_reader_that_goes_away_ends_us_quietly);
    libtest_mimic::run(&Arguments::from_args(), cases.chain([pipe]).collect()).exit();
}

fn run(case: &Case) -> Result<(), Failed> {
    let room = room(case.name)?;
    let ended = command(case, &room)?.output()?;
    let left = sockets(&room)?;
    let out = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    let _ = std::fs::remove_dir_all(&room);
    if ended.status.code() != Some(case.status) {
        return Err(format!("exit status {:?}, not {}\n{out}", ended.status.code(), case.status).into());
    }
    let mut rest = &out[..];
    for says in case.says {
        let Some(place) = rest.find(says) else {
            return Err(format!("does not say {says:?} in its place\n{out}").into());
        };
        rest = &rest[place + says.len()..];
    }
    if let Some(said) = case.never.iter().find(|said| out.contains(**said)) {
        return Err(format!("says {said:?}\n{out}").into());
    }
    if left > 0 {
        return Err("leaves the monitor's socket".into());
    }
    let objects = ended.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut objects = objects.map(serde_json::from_slice::<serde_json::Value>);
    if case.flags.contains("--json") && !objects.all(|object| object.is_ok_and(|object| object.is_object())) {
        return Err(format!("not only objects\n{out}").into());
    }
    Ok(())
}

/// `cargo xtask live` with the case's script, and the QEMU in `room`.
fn command(case: &Case, room: &Path) -> Result<Command, Failed> {
    let script = room.join("script");
    std::fs::write(&script, case.script)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(["live", "--script"])
        .arg(&script)
        .args(case.flags.split_whitespace())
        .current_dir(room)
        .env("PATH", format!("{}:{}", room.display(), std::env::var("PATH")?))
        .env("CARGO", room.join("cargo"))
        .env("CARGO_TARGET_DIR", room)
        .env("FAKE", case.broken)
        .stdin(Stdio::null());
    Ok(command)
}

/// How many monitors have left their sockets in `room`.
fn sockets(room: &Path) -> Result<usize, Failed> {
    let names: Result<Vec<_>, _> = room.read_dir()?.map(|file| file.map(|file| file.file_name())).collect();
    Ok(names?.iter().filter(|name| name.to_string_lossy().ends_with(".sock")).count())
}

/// A directory with a QEMU and a cargo that builds nothing, and with something that can be flashed in the kernel's place.
fn room(name: &str) -> Result<PathBuf, Failed> {
    let number = CASES.iter().chain(edges::CASES).position(|case| case.name == name).unwrap_or(usize::MAX);
    let short = format!("vl-{}-{number:x}", std::process::id());
    let room = std::env::temp_dir().join(short);
    let _ = std::fs::remove_dir_all(&room);
    let images = room.join("aarch64-unknown-none-softfloat/release");
    std::fs::create_dir_all(&images)?;
    let this = std::env::current_exe()?;
    symlink(&this, room.join("qemu-system-aarch64"))?;
    symlink(&this, images.join("kernel"))?;
    let cargo = room.join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755))?;
    Ok(room)
}

//! Bad input and broken tools: one line that says what to do, the right exit status, never a hang.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::commands::{command, ensure, run};

/// Name, flags, exit status, and what the line says.
const REFUSED: [(&str, &str, i32, &str); 22] = [
    ("unknown_granule", "--granule 8k", 2, "4k, 16k and 64k"),
    ("va_size_that_4k_lacks", "--granule 4k --va-bits 47", 2, "use 39 or 48"),
    ("va_size_that_64k_lacks", "--granule 64k --va-bits 39", 2, "use 42 or 48"),
    ("sixteen_k_on_cortex_a72", "--granule 16k --cpu cortex-a72", 2, "neoverse-n1"),
    ("sixteen_k_on_a64fx", "--granule 16k --cpu a64fx", 2, "max"),
    ("unknown_cpu", "--cpu nonsense", 2, "neoverse-n1"),
    ("device_of_size_0", "--device-size 0", 2, "give a size above 0"),
    ("device_of_3m", "--device-size 3M", 2, "0x100000000..0x104000000 would do"),
    ("device_that_overlaps_ram", "--device-base 0x48000000 --device-size 64M", 2, "RAM"),
    ("device_in_a_section_of_ram", "--device-base 0x54000000 --device-size 64M", 2, "section"),
    ("device_that_wraps", "--device-base 0xffffffffffe00000 --device-size 4M", 2, "wraps"),
    ("device_beyond_the_physical_range", "--cpu cortex-a53 --device-base 1T", 2, "--cpu max"),
    ("device_beyond_the_linear_map", "--va-bits 42 --device-base 4T", 2, "linear map"),
    ("altmap_too_small", "--altmap-free 1", 2, "altmap"),
    ("too_little_ram", "--memory 2M", 2, "--memory"),
    ("part_of_a_vmemmap_page_at_64k", "--device-size 2M", 2, "0x100000000..0x104000000 would do"),
    (
        "part_of_a_vmemmap_page_at_16k",
        "--granule 16k --device-base 0x100200000 --device-size 4M",
        2,
        "0x100000000..0x100800000",
    ),
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
];

/// Name, what the script does after `--version`, its version, and what our line says.
const BROKEN_QEMU: [(&str, &str, &str, &str); 4] = [
    ("qemu_too_old", "exit 1", "6.2.0", "7.2.0 or newer"),
    ("qemu_dies_at_once", "echo 'no such machine' >&2; exit 1", "7.2.22", "no such machine"),
    ("qemu_is_killed", "kill -9 $$", "7.2.22", "signal: 9"),
    ("qemu_hangs", "exec sleep 100", "7.2.22", "did not end within 1s"),
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
    refused.into_iter().chain(broken).chain([absent, json]).collect()
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
    let program = room.join("qemu-system-aarch64");
    let script =
        format!("#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'QEMU emulator version {version}'; else {act}; fi\n");
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(room.display().to_string())
}

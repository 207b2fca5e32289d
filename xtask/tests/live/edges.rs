//! The edges of a session: how it ends, what is refused before it begins, and what is told once.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use libtest_mimic::Failed;

use crate::{Case, PLAIN, command, room, sockets};

pub const CASES: &[Case] = &[
    Case {
        name: "the_time_limit_is_for_one_command",
        flags: "--time-limit 1",
        broken: "slow",
        script: "show\nshow\nshow\nshow\nquit",
        says: &["PASS"],
        ..PLAIN
    },
    Case {
        name: "the_time_limit_is_for_all_steps_of_random_together",
        flags: "--time-limit 1",
        broken: "slow",
        script: "random 8",
        status: 4,
        says: &["error: the command did not end within 1s, QEMU was stopped"],
        ..PLAIN
    },
    Case {
        name: "dimms_have_no_more_than_their_slots_may",
        flags: "--device pc-dimm,max=1G",
        script: "plug 512M\n! plug 1G\nplug 512M\n! plug 2M\nunplug dimm0\nplug 512M\nquit",
        says: &[
            "pc-dimm has room for 1 GiB, of which 512 MiB are left: plug at most that",
            "pc-dimm has room for 1 GiB, of which 0 bytes are left: plug at most that",
            "PASS      3 ranges added",
        ],
        ..PLAIN
    },
    Case {
        name: "random_lives_fail_where_the_kernel_lists_what_its_events_do_not_make",
        broken: "ledger",
        script: "random 5",
        status: 1,
        says: &["error: line 1: random 5: the kernel lists [0x1000+0x1000 held 0"],
        ..PLAIN
    },
    Case {
        name: "nothing_comes_after_a_quit",
        script: "quit\n# so far\nshow",
        status: 1,
        says: &["PASS", "error: line 3: show: the machine has ended before"],
        ..PLAIN
    },
    Case {
        name: "what_goes_goes_in_blocks",
        flags: "--device virtio-mem,max=4G,block=4M",
        script: "plug 8M\n! unplug 2M\nunplug 8M",
        says: &["failed    as it must: 0x200000 bytes are no multiple of the device's blocks of 4 MiB", "PASS"],
        ..PLAIN
    },
    Case {
        name: "what_is_on_its_way_comes_before_a_reset",
        script: "plug 512M &\nreset",
        says: &["live> reset", "added", "added", "ready", "PASS      2 ranges added"],
        ..PLAIN
    },
    Case {
        name: "a_script_is_read_before_the_machine_starts",
        broken: "refused",
        script: "show\n\n! plugg 1G\nquit",
        status: 2,
        says: &["error: line 3: ! plugg 1G: there is no command \"plugg\": `help` lists them"],
        never: &["no 16k"],
        ..PLAIN
    },
    Case {
        name: "a_word_that_never_ends_is_cut",
        script: "read xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        status: 1,
        says: &[
            "error: line 1: read xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..: there is no device \"xxxx",
            "x..\": there are virtio-mem",
        ],
        ..PLAIN
    },
    Case {
        name: "json_of_a_killed_machine_ends_with_an_object",
        flags: "--json",
        script: "plug 2M\nkill",
        says: &[r#"{"command":"kill"}"#, r#"{"schema_version":1,"result":"killed"}"#],
        ..PLAIN
    },
    Case {
        name: "a_command_line_of_qemu_is_no_json",
        flags: "--json --dry-run",
        status: 2,
        says: &[
            r#"{"schema_version":1,"result":"refused","error":"the argument '--json' cannot be used with '--dry-run'"#,
        ],
        ..PLAIN
    },
    Case {
        name: "what_the_kernel_refuses_is_told_once",
        script: "! hold\nhold",
        status: 1,
        says: &["failed    as it must: no region is there", "error: line 2: hold: no region is there"],
        never: &["kernel    no region"],
        ..PLAIN
    },
    Case {
        name: "what_the_kernel_refuses_of_an_earlier_command_is_told_too",
        script: "hold &\n! hold 0x5000\nhold &\nplug 2M\nshow",
        says: &[
            "kernel    no region is there",
            "failed    as it must: no region at 0x5000",
            "live> plug 2M",
            "kernel    no region is there",
            "PASS",
        ],
        ..PLAIN
    },
    Case {
        name: "a_file_is_locked_as_long_as_qemu_runs",
        flags: "--device virtio-mem,max=1G,file=memory",
        script: "plug 2M",
        says: &["PASS"],
        ..PLAIN
    },
];

/// As `cargo xtask live .. | head -1` does.
pub fn a_reader_that_goes_away_ends_us_quietly() -> Result<(), Failed> {
    let room = room("pipe")?;
    let script = "show\n".repeat(1000);
    // A script as long as that is no constant.
    let case = Case { script: script.leak(), ..PLAIN };
    let mut child = command(&case, &room)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut first)?;
    let ended = child.wait()?;
    let mut complaint = String::new();
    child.stderr.take().ok_or("no stderr")?.read_to_string(&mut complaint)?;
    let left = sockets(&room)?;
    let _ = std::fs::remove_dir_all(&room);
    if (ended.code(), complaint.as_str(), left) == (Some(141), "", 0) {
        return Ok(());
    }
    Err(format!("{ended}, {left} sockets left, first {first:?}\n{complaint}").into())
}

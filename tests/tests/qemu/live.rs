//! Lives of a machine, as scripts: memory comes, is held, released and taken back while the kernel runs.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::commands::{Ended, command, ensure, run};
use crate::scratch::Scratch;

const GRANULES: [&str; 3] = ["4k", "16k", "64k"];
/// Kinds whose memory outlives the machine.
const PERSISTENT: [&str; 2] = ["ivshmem", "nvdimm"];

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut trial = |name: String, test: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
        trials.push(Trial::test(format!("live::{name}"), test));
    };
    for granule in GRANULES {
        trial(format!("memory_is_plugged_held_released_and_unplugged_at_{granule}"), Box::new(|| blocks(granule)));
        trial(format!("a_dimm_comes_by_an_event_and_is_ejected_at_{granule}"), Box::new(|| dimms(granule)));
        trial(format!("a_thousand_random_steps_leave_the_books_balanced_at_{granule}"), Box::new(|| random(granule)));
        trial(format!("an_add_that_runs_out_of_ram_is_given_back_at_{granule}"), Box::new(|| out_of_ram(granule)));
        trial(
            format!("requests_that_race_with_the_kernel_are_served_in_the_end_at_{granule}"),
            Box::new(|| race(granule)),
        );
        for kind in PERSISTENT {
            trial(
                format!("a_text_on_{kind}_survives_quit_kill_and_reset_at_{granule}"),
                Box::new(|| text(granule, kind)),
            );
        }
    }
    for kind in PERSISTENT {
        trial(format!("{kind}_with_another_info_block_is_refused_and_left_alone"), Box::new(|| info_block(kind)));
    }
    trial("data_stays_where_it_is_whatever_the_altmap_would_be_like_now".to_owned(), Box::new(data_stays));
    trial("a_life_at_el2_is_the_same".to_owned(), Box::new(el2));
    trial("a_tebibyte_comes_and_goes_in_sections_at_64k".to_owned(), Box::new(tebibyte));
    trial("a_request_that_fails_is_not_asked_any_more".to_owned(), Box::new(taken_back));
    trial("every_event_of_a_life_can_be_judged".to_owned(), Box::new(checked));
    trial("a_life_can_be_counted_in_instructions".to_owned(), Box::new(counted));
    trial("a_range_that_two_devices_claim_is_refused_and_the_kernel_lives_on".to_owned(), Box::new(overlap));
    trials
}

/// A life by a script: its events, and what was typed. It must pass.
fn live(flags: &str, script: &str) -> Result<(Vec<Value>, Ended), Failed> {
    let (events, ended) = told(flags, script)?;
    ensure(ended.status == Some(0), "the life does not pass", &ended)?;
    let books = events.iter().filter(|event| event["event"] == "end").all(|end| end["frames_difference"] == 0);
    ensure(books, "the books", &ended)?;
    Ok((events, ended))
}

/// The same however it ends.
fn told(flags: &str, script: &str) -> Result<(Vec<Value>, Ended), Failed> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let file = Scratch::with(&format!("script-{}", COUNT.fetch_add(1, Ordering::Relaxed)), script)?;
    let ended = run(command(&format!("live --json {flags} --script {}", file.path()))?)?;
    let events = ended.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((events, ended))
}

/// What of `events` has this name.
fn all<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// Bytes of the ranges in events of this name.
fn bytes(events: &[Value], name: &str) -> u64 {
    all(events, name).iter().filter_map(|event| event["size"].as_u64()).sum()
}

/// The bytes that each `show` found.
fn shown(events: &[Value]) -> Vec<u64> {
    let sum =
        |shown: &&Value| shown["ranges"].as_array().into_iter().flatten().filter_map(|one| one["size"].as_u64()).sum();
    all(events, "shown").iter().map(sum).collect()
}

const MIB: u64 = 1 << 20;

fn blocks(granule: &str) -> Result<(), Failed> {
    let script = "plug 1G\nshow\nunplug 512M\nshow\nhold\n! unplug all\nshow\nunplug all &\nrelease\nshow\nplug 34M\nunplug all\nshow\nquit\n";
    let (events, ended) = live(&format!("--granule {granule}"), script)?;
    let held = if granule == "64k" { 512 } else { 128 };
    let expected = [1024, 512, held, 0, 0].map(|mib| mib * MIB);
    ensure(shown(&events) == expected, &format!("{expected:?} bytes are there in turn"), &ended)?;
    ensure(
        all(&events, "kept").len() == 2 && bytes(&events, "kept") == 2 * held * MIB,
        "what is held is kept",
        &ended,
    )?;
    let proved = all(&events, "added").iter().all(|added| added["leaves"] == added["leaves_at_plan"]);
    ensure(proved && bytes(&events, "added") == 1058 * MIB, "each arrival is proved", &ended)?;
    let faulted = all(&events, "removed").iter().all(|removed| removed["fault"]["far"].is_string());
    ensure(faulted && bytes(&events, "removed") == 1058 * MIB, "each removal is proved by a fault", &ended)
}

fn dimms(granule: &str) -> Result<(), Failed> {
    let script = "plug 256M pc-dimm\nplug 34M pc-dimm\nshow\nhold\n! unplug dimm1\nunplug dimm0\nshow\nrelease\n\
                  unplug dimm1\nshow\nplug 64M pc-dimm\nquit\n";
    let (events, ended) = live(&format!("--granule {granule} --device pc-dimm"), script)?;
    let expected = [290, 34, 0].map(|mib| mib * MIB);
    ensure(shown(&events) == expected, &format!("{expected:?} bytes are there in turn"), &ended)?;
    let kept = all(&events, "kept");
    ensure(kept.len() == 1 && kept[0]["size"] == 34 * MIB, "the DIMM that is held is kept", &ended)?;
    ensure(all(&events, "end")[0]["removed"] == 3, "three DIMMs came and went", &ended)
}

/// Two virtio-mem regions that meet in the middle of a section, DIMMs and an ivshmem device.
fn random(granule: &str) -> Result<(), Failed> {
    let devices = "--device virtio-mem,at=0x80000000,max=1022M --device virtio-mem,at=0xbfe00000,max=1026M \
                   --device pc-dimm --device ivshmem,size=64M";
    let (events, ended) = live(&format!("--granule {granule} {devices}"), "random 1000 5\nquit\n")?;
    let end = all(&events, "end");
    ensure(
        end.len() == 1 && end[0]["added"].as_u64() > Some(100) && end[0]["added"] == end[0]["removed"],
        "all of it",
        &ended,
    )
}

/// Struct pages in RAM: 60 GiB of them do not fit.
fn out_of_ram(granule: &str) -> Result<(), Failed> {
    let flags = format!("--granule {granule} --device virtio-mem,max=256G,memmap=ram");
    let (events, ended) = live(&flags, "! plug 256G\nunplug all\nshow\nplug 64M\nshow\nquit\n")?;
    let refused = all(&events, "refused");
    let in_words = refused.iter().any(|event| event["why"].as_str().is_some_and(|why| why.contains("out of RAM")));
    ensure(in_words, "RAM runs out", &ended)?;
    ensure(shown(&events) == [0, 64 * MIB], "afterwards all is as before, and less works", &ended)
}

/// The host changes its mind while the kernel plugs and adds.
fn race(granule: &str) -> Result<(), Failed> {
    let script = "plug 3G &\nunplug 2G &\nplug 512M &\nunplug 1G &\nplug 1G &\nunplug all &\nplug 512M\nshow\nunplug all\nquit\n";
    let (events, ended) = live(&format!("--granule {granule}"), script)?;
    ensure(shown(&events) == [512 * MIB], "the last word holds", &ended)
}

fn text(granule: &str, kind: &str) -> Result<(), Failed> {
    let file = Scratch::new(&format!("text-{kind}-{granule}"));
    let flags = format!("--granule {granule} --device {kind},size=64M,file={}", file.path());
    let first = format!("! read {kind}\nwrite {kind} once upon a time\nread {kind}\nreset\nread {kind}\nquit\n");
    let lives = [
        (first, vec!["once upon a time"; 2]),
        (format!("read {kind}\nwrite {kind} and then\nkill\n"), vec!["once upon a time"]),
        (format!("read {kind}\nquit\n"), vec!["and then"]),
    ];
    for (script, texts) in lives {
        let (events, ended) = live(&flags, &script)?;
        let read: Vec<_> = all(&events, "read").iter().map(|event| event["text"].clone()).collect();
        ensure(read == texts, &format!("the texts {texts:?}"), &ended)?;
    }
    Ok(())
}

/// Leaves and addresses decide how large a tight altmap is: data that is there already keeps its place.
fn data_stays() -> Result<(), Failed> {
    let (file, other) = (Scratch::new("stays"), Scratch::new("in-front"));
    let alone = format!("nvdimm,size=80M,file={}", file.path());
    let behind = format!("--device nvdimm,size=32M,file={} --device {alone}", other.path());
    live(&format!("--device {alone}"), "write nvdimm here\nquit\n")?;
    for flags in [behind, format!("--device {alone} --leaf pages"), format!("--device {alone},memmap=ram")] {
        let name = if flags.contains("size=32M") { "nvdimm.1" } else { "nvdimm" };
        let (events, ended) = live(&flags, &format!("read {name}\nquit\n"))?;
        ensure(all(&events, "read")[0]["text"] == "here", "the text", &ended)?;
    }
    let file = Scratch::new("stays-4k");
    let flags = format!("--granule 4k --device ivshmem,size=64M,file={}", file.path());
    live(&flags, "write ivshmem here\nquit\n")?;
    let (events, ended) = live(&format!("{flags} --leaf pages"), "read ivshmem\nquit\n")?;
    ensure(all(&events, "read")[0]["text"] == "here", "the text", &ended)
}

fn el2() -> Result<(), Failed> {
    let script = "plug 94M\nplug 34M pc-dimm\nunplug all\nunplug dimm0\nquit\n";
    live("--virtualization --device virtio-mem,max=1G --device pc-dimm", script).map(drop)
}

/// Each of these is refused by name, and the first mebibyte of the file is as it was.
fn info_block(kind: &str) -> Result<(), Failed> {
    let file = Scratch::new(&format!("block-{kind}"));
    let job = |granule: &str, size: &str, more: &str| {
        command(&format!("qemu --granule {granule} --device {kind},size={size},file={}{more}", file.path()))
    };
    let refused = |what: &str, job: Result<_, Failed>, says: &str| {
        let before = file.read(0, MIB as usize)?;
        let ended = run(job?)?;
        ensure(ended.status == Some(2) && ended.err.contains(says), &format!("{what} is refused: {says}"), &ended)?;
        ensure(file.read(0, MIB as usize)? == before, &format!("{what}: the file has changed"), &ended)
    };
    let ended = run(job("64k", "64M", "")?)?;
    ensure(ended.status == Some(0), "a blank device", &ended)?;
    let made = file.read(0, 4096)?;
    let ended = run(job("64k", "64M", "")?)?;
    ensure(ended.status == Some(0) && file.read(0, 4096)? == made, "the second time it is recognised", &ended)?;
    refused("another granule", job("4k", "64M", ""), "made with 64K pages")?;
    file.resize(128 * MIB)?;
    refused("a larger device", job("64k", "128M", ""), "give it no more than these")?;
    refused("a smaller device", job("64k", "32M", ""), "give all of it")?;
    file.write(2000, b"x")?;
    refused("a damaged block", job("64k", "64M", ""), "info block is damaged")?;
    file.write(0, b"something else")?;
    refused("somebody else's data", job("64k", "64M", ""), "it begins with")?;
    file.write(0, &[0; 4096])?;
    file.write(4096, b"NVDIMM_PFN_INFO\0")?;
    refused("a namespace of Linux", job("64k", "64M", ""), "holds something at offset 0x1000")?;
    file.write(0, &made)?;
    let ended = run(job("64k", "64M", "")?)?;
    ensure(ended.status == Some(0), "restored, it is ours again", &ended)
}

/// No range is as small as 30 MiB at first; were the request left lowered, the kernel would not plug the next 30.
fn taken_back() -> Result<(), Failed> {
    let (events, ended) = live("", "plug 94M\n! unplug 30M\nplug 30M\nshow\nunplug 30M\nshow\nquit\n")?;
    ensure(shown(&events) == [124 * MIB, 94 * MIB], "94 and 30 MiB, then 94", &ended)
}

fn tebibyte() -> Result<(), Failed> {
    let flags = "--granule 64k --memory 1G --device virtio-mem,max=1T";
    let (events, ended) = live(flags, "plug 1T\nunplug 512G\nunplug all\nquit\n")?;
    ensure(all(&events, "added").len() == 2048 && bytes(&events, "added") == 1 << 40, "2048 sections", &ended)
}

fn checked() -> Result<(), Failed> {
    let devices = "--device virtio-mem,max=1G --device pc-dimm";
    let script =
        "plug 94M\nplug 34M pc-dimm\nhold\n! unplug dimm0\n! unplug 30M\nunplug all\nrelease\nunplug dimm0\nquit\n";
    GRANULES.iter().try_for_each(|granule| live(&format!("--checked --granule {granule} {devices}"), script).map(drop))
}

fn counted() -> Result<(), Failed> {
    let (events, ended) = live("--count", "plug 512M\nunplug all\nquit\n")?;
    let counted = |name: &str| all(&events, name)[0]["cost"]["instructions"]["total"].as_u64().unwrap_or(0);
    ensure(counted("added") > counted("removed") && counted("removed") > 100, "instructions of both", &ended)
}

/// A carve-out of the boot arguments that is put right where a virtio-mem device has its region: QEMU knows of one of them.
fn overlap() -> Result<(), Failed> {
    let flags = "live --dry-run --device virtio-mem,at=0x80000000,size=512M,max=1G";
    let line = run(command(flags)?)?.out;
    let twice = line.trim().replace("device=virtio-mem", "device=virtio-mem device=0x90000000,0x10000000");
    ensure(twice != line.trim(), "the dry run has changed", &Ended { status: None, out: line, err: String::new() })?;
    let typed = format!("printf 'show\\nquit\\n' | timeout 30 {twice}");
    crate::built()?;
    let mut shell = std::process::Command::new("sh");
    let ended = run(shell.args(["-c", &typed]).current_dir(xtask::build::workspace()))?;
    ensure(ended.status == Some(0) && ended.out.contains("@pass"), "it lives on, and passes", &ended)?;
    let refused = ended.out.lines().find(|line| line.contains("\"event\":\"refused\""));
    let in_words = refused.is_some_and(|line| line.contains("\"source\":\"carve-out\"") && line.contains("0x90000000"));
    ensure(in_words, "the second claim is refused by name", &ended)
}

//! How a run ended, from QEMU's exit status and from what the kernel said: console lines that begin with `@` are for
//! us, all others are its log.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::line::Boot;
use crate::status::{Status, Stop};

/// A run of QEMU.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended, and why it did not pass.
    pub end: Stop,
    /// What the kernel said, but for traces.
    pub console: Vec<String>,
    /// The lines of the trace, if one was asked for.
    pub trace: Vec<String>,
    /// The trace of the last events before the one that broke the protocol.
    pub window: Vec<String>,
    /// From QEMU's start to its exit, or to where it was held.
    pub elapsed: Duration,
    /// Bytes of the host's memory that QEMU had at most; nothing while it is held, or if it was stopped.
    pub peak_bytes: Option<u64>,
}

impl Run {
    pub(crate) fn new() -> Self {
        let end = Stop { status: Status::Pass, why: String::new() };
        Self {
            end,
            console: Vec::new(),
            trace: Vec::new(),
            window: Vec::new(),
            elapsed: Duration::ZERO,
            peak_bytes: None,
        }
    }

    /// Keeps a line of the console; whether it is one for [`Run::console`].
    pub(crate) fn keep(&mut self, line: String) -> bool {
        let place = match line.split_once(' ') {
            Some(("@trace", event)) => (&mut self.trace, event.to_owned()),
            Some(("@window", event)) => (&mut self.window, event.to_owned()),
            _ => {
                self.console.push(line);
                return true;
            }
        };
        place.0.push(place.1);
        false
    }

    /// The texts of the kernel's messages of one kind: `report`, `refused`, `fail`, `broken`, `panic`, `frame`, `test`.
    pub fn said(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.console.iter().filter_map(move |line| line.strip_prefix('@')?.strip_prefix(kind)?.strip_prefix(' '))
    }

    /// Whether the machine was held after the hot-add.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.has("@held")
    }

    fn has(&self, line: &str) -> bool {
        self.console.iter().any(|said| said == line)
    }

    /// Return addresses of a panic's backtrace, innermost first.
    pub fn frames(&self) -> impl Iterator<Item = u64> {
        self.said("frame").filter_map(|text| crate::size::hex(text).ok())
    }

    /// What the kernel logged after it panicked: registers, the walk of the faulting address.
    pub fn after_panic(&self) -> impl Iterator<Item = &str> {
        let after = self.console.iter().skip_while(|line| !line.starts_with("@panic"));
        after.map(String::as_str).filter(|line| !line.starts_with('@'))
    }
}

/// What the exit status and the console say together.
pub fn judge(status: ExitStatus, run: &Run, complaint: &str, boot: &Boot) -> Stop {
    let said = |kind| run.said(kind).next().map(str::to_owned);
    let ended = run.has("@pass") || run.is_held() || run.said("test").any(|text| text.ends_with(" ok"));
    let stop = |status, why: String| Stop { status, why };
    match (status.code(), said("panic"), said("refused"), said("fail")) {
        (_, Some(text), ..) => stop(Status::Panic, text),
        (Some(67), ..) => stop(Status::Panic, "the kernel ended without a message".to_owned()),
        (_, _, Some(text), _) => stop(Status::Refused, text),
        (Some(0 | 65), _, _, Some(text)) => stop(Status::Fail, text),
        (Some(65), ..) => stop(Status::Fail, "the kernel did not say what failed".to_owned()),
        (Some(0), ..) if ended => stop(Status::Pass, String::new()),
        (Some(0), ..) => Stop::machine("QEMU ended before the kernel passed; --verbose shows its log"),
        (Some(_), ..) if !complaint.is_empty() => explain(complaint, boot),
        (None, ..) if run.console.is_empty() && complaint.contains("Assertion") && is_too_high(boot) => too_high(boot),
        _ => Stop::machine(format!("QEMU died ({status}){} {complaint}", out_of_memory(status, boot)).trim_end()),
    }
}

/// What to do about the two signals by which a host says that it has no memory left: it kills whom it finds the largest, or
/// there is no page behind an address of a file or of huge pages.
fn out_of_memory(status: ExitStatus, boot: &Boot) -> String {
    let smaller = boot.job.lower();
    match status.signal() {
        Some(libc::SIGKILL) => format!(": most likely this host ran out of memory: free some, or {smaller}"),
        Some(libc::SIGBUS) => {
            format!(": no room is left where its memory lies, a file system for instance: free some, or {smaller}")
        }
        _ => String::new(),
    }
}

/// From where on QEMU's tables for the guest do not hold the memory: its `virt` fails an assertion, in 7.2 in its SMBIOS.
const TOO_HIGH: u64 = 32 << 40;

fn is_too_high(boot: &Boot) -> bool {
    boot.job.highest().end().is_some_and(|end| end > TOO_HIGH)
}

fn too_high(boot: &Boot) -> Stop {
    let (range, lower) = (boot.job.highest().words(), boot.job.lower());
    Stop::refused(format!("QEMU can't hold {range}: that is too high; {lower}"))
}

/// What QEMU says of a device, without the words of our command line that it repeats before.
fn without_device(complaint: &str) -> &str {
    let of_device = complaint.starts_with("-device ") || complaint.starts_with("-object ");
    complaint.split_once(": ").filter(|_| of_device).map_or(complaint, |(_, why)| why)
}

/// QEMU's own refusals that come from our flags, with what to do.
fn explain(complaint: &str, boot: &Boot) -> Stop {
    let complaint = without_device(complaint);
    let (cpu, range, smaller) = (&boot.job.cpu, boot.job.highest().words(), boot.job.lower());
    let says = |texts: &[&str]| texts.iter().any(|text| complaint.contains(text));
    let window = boot.job.window();
    if says(&["Addressing limited"]) {
        Stop::refused(format!("{range} lies beyond the physical range of {cpu} ({complaint}): {smaller}, or --cpu max"))
    } else if says(&["unable to find CPU model"]) {
        Stop::refused(format!("{complaint}: choose for instance --cpu neoverse-n1, cortex-a72 or max"))
    } else if says(&["Cannot allocate memory", "expects a size", "exceeds maximum file size"]) {
        Stop::refused(format!("this host cannot back memory up to the end of {range}: {smaller}"))
    } else if says(&[
        "can't add memory device",
        "not enough space",
        "could not find position",
        "address range conflicts",
    ]) {
        let place = format!("leave at= away, or choose places at or above {window:#x} that do not meet");
        Stop::refused(format!("{range} finds no place among QEMU's memory devices ({complaint}): {place}"))
    } else if says(&["backing store", "unable to map", "larger than"]) {
        Stop::refused(format!("QEMU can't use the file of a device ({complaint}): choose another file="))
    } else {
        Stop::machine(format!("QEMU ended at once: {complaint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    fn ended(raw: i32, console: &str, complaint: &str) -> Stop {
        let run = Run { console: console.lines().map(str::to_owned).collect(), ..Run::new() };
        judge(ExitStatus::from_raw(raw), &run, complaint, &Boot::main_job(Job::from_flags("").unwrap()))
    }

    fn exited(code: i32, console: &str) -> u8 {
        ended(code << 8, console, "").status as u8
    }

    #[test]
    fn each_exit_status_of_the_kernel_has_its_own_of_ours() {
        let runs = [(0, "@pass"), (65, "@fail stale"), (66, "@refused no 16k"), (67, "@panic at x"), (1, "")];
        assert_eq!(runs.map(|(code, console)| exited(code, console)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn traces_are_kept_apart_from_the_console() {
        let mut run = Run::new();
        let kept =
            ["@trace isb cpu=0", "@window dsb cpu=0 ish", "@fail no", "@traces"].map(|line| run.keep(line.to_owned()));
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!(
            (&run.trace[..], &run.window[..]),
            (&["isb cpu=0".to_owned()][..], &["dsb cpu=0 ish".to_owned()][..])
        );
        assert_eq!(run.console, ["@fail no", "@traces"]);
    }

    #[test]
    fn exit_status_0_passes_only_if_the_kernel_says_so() {
        assert_eq!([exited(0, "@test a::b ok"), exited(0, "@held"), exited(0, "@fail stale\n@pass")], [0, 0, 1]);
        for console in ["booting", "@test a::b", "@tests a::b ok", "@passed", " @pass"] {
            assert_eq!(exited(0, console), 4, "{console}");
        }
    }

    #[test]
    fn an_assertion_of_qemus_under_high_memory_is_refused_and_any_other_death_is_not() {
        let died = |flags: &str, console: &str, complaint: &str| {
            let run = Run { console: console.lines().map(str::to_owned).collect(), ..Run::new() };
            let boot = Boot::main_job(Job::from_flags(flags).unwrap());
            judge(ExitStatus::from_raw(6), &run, complaint, &boot)
        };
        let assertion = "smbios.c:1148: smbios_get_tables: Assertion `size' failed.";
        for flags in ["--device 63T,1G", "--device-base 63T", "--device 4G,63T"] {
            let Stop { status, why } = died(flags, "", assertion);
            assert!(status == Status::Refused && why.contains("QEMU can't hold device memory 0x"), "{why}");
            assert!(why.contains("choose a smaller "), "{why}");
        }
        for (flags, console, complaint) in [
            ("--device 4G,1G", "", assertion),
            ("--device 63T,1G", "the kernel is up", assertion),
            ("--device 63T,1G", "", ""),
        ] {
            assert_eq!(died(flags, console, complaint).status, Status::Machine, "{flags} {console} {complaint}");
        }
    }

    #[test]
    fn what_qemu_refuses_becomes_a_line_that_says_what_to_do() {
        for (complaint, says) in [
            ("Addressing limited to 40 bits, but memory exceeds it by 5 bytes", "or --cpu max"),
            ("unable to find CPU model 'nonsense'", "neoverse-n1, cortex-a72 or max"),
            ("cannot set up guest memory 'ram': Cannot allocate memory", "this host cannot back"),
        ] {
            let Stop { status, why } = ended(1 << 8, "", complaint);
            assert!(status == Status::Refused && why.contains(says), "{why}");
        }
        for (complaint, says) in [
            ("can't add memory device [0x1:0x2], usable range for memory devices [..]", "at or above 0x200000000"),
            ("not enough space, currently 0x0 in use of total space for memory devices 0x7f0000000", "leave at= away"),
            ("address range conflicts with memory device id='vm'", "that do not meet"),
            ("could not find position in guest address space for memory device", "finds no place among"),
            ("can't open backing store /nowhere/x for guest RAM: No such file", "choose another file="),
            ("unable to map backing store for guest RAM: Invalid argument", "choose another file="),
            ("backing store size 0x200000 does not match 'size' option 0x400000", "choose another file="),
        ] {
            let Stop { status, why } = ended(1 << 8, "", complaint);
            assert!(status == Status::Refused && why.contains(says) && why.contains(complaint), "{why}");
        }
        for (complaint, says) in [
            (
                "-device virtio-mem-pci,id=virtio-mem.1,addr=0x2: address range conflicts with memory",
                " (address range conflicts",
            ),
            ("-object memory-backend-ram,id=a: no: luck", "at once: no: luck"),
            ("smbios: no luck", "at once: smbios: no luck"),
        ] {
            let why = ended(1 << 8, "", complaint).why;
            assert!(why.contains(says) && !why.contains("id="), "{why}");
        }
    }

    #[test]
    fn a_signal_of_a_host_without_memory_says_what_to_do_and_others_do_not() {
        for (signal, says) in
            [(9, "this host ran out of memory: free some"), (7, "no room is left where its memory lies")]
        {
            let Stop { status, why } = ended(signal, "the kernel is up", "");
            assert_eq!(status, Status::Machine);
            let what = [&format!("signal: {signal}"), says, "choose a smaller --device-base or --device-size"];
            assert!(what.iter().all(|what| why.contains(what)), "{why}");
        }
        let why = ended(11, "", "").why;
        assert!(why.contains("signal: 11") && !why.contains("smaller"), "{why}");
    }
}

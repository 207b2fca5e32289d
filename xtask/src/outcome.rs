//! How a run ended, from QEMU's exit status and from what the kernel said: console lines that begin with `@` are for
//! us, all others are its log.

use std::process::ExitStatus;
use std::time::Duration;

use crate::line::Boot;
use crate::status::Status;

/// A run of QEMU.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// Everything that the kernel said.
    pub console: Vec<String>,
    /// From QEMU's start to its exit, or to where it was held.
    pub elapsed: Duration,
}

/// How a run ended; the text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel passed, or was held and told to quit.
    Pass,
    /// Proofs failed.
    Fail,
    /// Refused: why.
    Refused(String),
    /// Panic: its message.
    Panic(String),
    /// QEMU died or hung.
    Died(String),
    /// Ctrl-C.
    Interrupted,
}

impl Outcome {
    /// The exit status that belongs to it.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Pass => Status::Pass,
            Self::Fail => Status::Fail,
            Self::Refused(_) => Status::Refused,
            Self::Panic(_) => Status::Panic,
            Self::Died(_) => Status::Machine,
            Self::Interrupted => Status::Interrupted,
        }
    }
}

impl Run {
    /// The texts of the kernel's messages of one kind: `report`, `refused`, `fail`, `panic`, `frame`, `test`.
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
pub fn judge(status: ExitStatus, run: &Run, complaint: &str, boot: &Boot) -> Outcome {
    let said = |kind| run.said(kind).next().map(str::to_owned);
    let ended = run.has("@pass") || run.is_held() || run.said("test").any(|text| text.ends_with(" ok"));
    match (status.code(), said("panic"), said("refused")) {
        (_, Some(text), _) => Outcome::Panic(text),
        (Some(67), ..) => Outcome::Panic("the kernel ended without a message".to_owned()),
        (_, _, Some(text)) => Outcome::Refused(text),
        (Some(65), ..) => Outcome::Fail,
        (Some(0), ..) if said("fail").is_some() => Outcome::Fail,
        (Some(0), ..) if ended => Outcome::Pass,
        (Some(0), ..) => Outcome::Died("QEMU ended before the kernel passed; --verbose shows its log".to_owned()),
        (Some(_), ..) if !complaint.is_empty() => explain(complaint, boot),
        _ => Outcome::Died(format!("QEMU died ({status}) {complaint}").trim_end().to_owned()),
    }
}

/// QEMU's own refusals that come from our flags, with what to do.
fn explain(complaint: &str, boot: &Boot) -> Outcome {
    let (cpu, range) = (&boot.job.cpu, boot.job.range());
    let smaller = "choose a smaller --device-base or --device-size";
    if complaint.contains("Addressing limited") {
        Outcome::Refused(format!("{range} lies beyond the physical range of {cpu} ({complaint}): {smaller}, or --cpu max"))
    } else if complaint.contains("unable to find CPU model") {
        Outcome::Refused(format!("{complaint}: choose for instance --cpu neoverse-n1, cortex-a72 or max"))
    } else if complaint.contains("Cannot allocate memory") || complaint.contains("expects a size") {
        Outcome::Refused(format!("this host cannot back memory up to the end of {range}: {smaller}"))
    } else {
        Outcome::Died(format!("QEMU ended at once: {complaint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;
    use std::os::unix::process::ExitStatusExt;

    fn ended(raw: i32, console: &str, complaint: &str) -> Outcome {
        let console = console.lines().map(str::to_owned).collect();
        let run = Run { outcome: Outcome::Pass, console, elapsed: Duration::ZERO };
        judge(ExitStatus::from_raw(raw), &run, complaint, &Boot::main_job(Job::from_flags("").unwrap()))
    }

    fn exited(code: i32, console: &str) -> Outcome {
        ended(code << 8, console, "")
    }

    #[test]
    fn each_exit_status_of_the_kernel_has_its_own_of_ours() {
        let runs = [(0, "@pass"), (65, "@fail stale"), (66, "@refused no 16k"), (67, "@panic at x"), (1, "")];
        assert_eq!(runs.map(|(code, console)| exited(code, console).status() as u8), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn exit_status_0_passes_only_if_the_kernel_says_so() {
        assert_eq!([exited(0, "@test a::b ok"), exited(0, "@held")], [Outcome::Pass, Outcome::Pass]);
        for console in ["booting", "@test a::b", "@passed", " @pass"] {
            assert!(matches!(exited(0, console), Outcome::Died(_)), "{console}");
        }
        assert_eq!(exited(0, "@fail stale\n@pass"), Outcome::Fail);
    }

    #[test]
    fn a_signal_is_named() {
        let died = ended(9, "", "");
        assert!(matches!(&died, Outcome::Died(why) if why.contains("signal: 9")), "{died:?}");
    }

    #[test]
    fn what_qemu_refuses_becomes_a_line_that_says_what_to_do() {
        for (complaint, says) in [
            ("Addressing limited to 40 bits, but memory exceeds it by 5 bytes", "or --cpu max"),
            ("unable to find CPU model 'nonsense'", "neoverse-n1, cortex-a72 or max"),
            ("cannot set up guest memory 'ram': Cannot allocate memory", "this host cannot back"),
        ] {
            let outcome = ended(1 << 8, "", complaint);
            assert!(matches!(&outcome, Outcome::Refused(why) if why.contains(says)), "{outcome:?}");
        }
    }
}

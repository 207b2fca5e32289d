//! How a run ended, from QEMU's exit status and the kernel's own words.

use std::process::ExitStatus;
use std::time::Duration;

use crate::console::Line;
use crate::line::Boot;
use crate::status::Status;

/// A run of QEMU.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// Everything that the kernel said.
    pub lines: Vec<Line>,
    /// From QEMU's start to its exit, or to where it was held.
    pub elapsed: Duration,
}

/// How a run ended.
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
    /// QEMU died or hung: one line.
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
    /// The kernel's report.
    #[must_use]
    pub fn report(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| if let Line::Report(json) = line { Some(json.as_str()) } else { None })
    }

    /// Whether the machine was held after the hot-add.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lines.contains(&Line::Held)
    }

    /// The proofs that failed.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| if let Line::Fail(text) = line { Some(text.as_str()) } else { None })
    }

    /// The bootable tests that passed.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| if let Line::Test(name) = line { Some(name.as_str()) } else { None })
    }

    /// What the kernel logged after it panicked: registers, the walk of the faulting address.
    pub fn after_panic(&self) -> impl Iterator<Item = &str> {
        let after = self.lines.iter().skip_while(|line| !matches!(line, Line::Panic(_)));
        after.filter_map(|line| if let Line::Log(text) = line { Some(text.as_str()) } else { None })
    }

    /// Return addresses of the panic's backtrace, innermost first.
    pub fn frames(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().filter_map(|line| if let Line::Frame(address) = line { Some(*address) } else { None })
    }
}

/// What the exit status and the console say together.
pub fn judge(status: ExitStatus, lines: &[Line], complaint: &str, boot: &Boot) -> Outcome {
    let said = |wanted: fn(&Line) -> Option<&String>| lines.iter().find_map(wanted).cloned();
    let refused = said(|line| if let Line::Refused(text) = line { Some(text) } else { None });
    let panic = said(|line| if let Line::Panic(text) = line { Some(text) } else { None });
    let ended = lines.iter().any(|line| matches!(line, Line::Pass | Line::Held | Line::Test(_)));
    let failed = lines.iter().any(|line| matches!(line, Line::Fail(_)));
    match (status.code(), refused, panic) {
        (_, _, Some(text)) => Outcome::Panic(text),
        (Some(67), ..) => Outcome::Panic("the kernel ended without a message".to_owned()),
        (_, Some(text), _) => Outcome::Refused(text),
        (Some(0 | 65), ..) if failed => Outcome::Fail,
        (Some(65), ..) => Outcome::Fail,
        (Some(0), ..) if ended => Outcome::Pass,
        (Some(0), ..) => Outcome::Died("QEMU ended before the kernel said that it passed; --verbose shows its log".to_owned()),
        (Some(_), ..) if !complaint.is_empty() => explain(complaint, boot),
        _ => Outcome::Died(format!("QEMU died ({status}){}", colon(complaint))),
    }
}

/// QEMU's own refusals that come from the flags, with what to do.
fn explain(complaint: &str, boot: &Boot) -> Outcome {
    let (cpu, range) = (&boot.job.cpu, boot.job.range());
    if complaint.contains("Addressing limited") {
        Outcome::Refused(format!("device memory {range} lies beyond the physical range of {cpu} ({complaint}): choose a smaller --device-base or --device-size, or --cpu max"))
    } else if complaint.contains("unable to find CPU model") {
        Outcome::Refused(format!("{complaint}: choose for instance --cpu neoverse-n1, cortex-a72 or max"))
    } else if complaint.contains("Cannot allocate memory") || complaint.contains("expects a size") {
        Outcome::Refused(format!("this host cannot back memory up to {range}: choose a smaller --device-base or --device-size"))
    } else {
        Outcome::Died(format!("QEMU ended at once: {complaint}"))
    }
}


fn colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;
    use std::os::unix::process::ExitStatusExt;

    fn boot() -> Boot {
        Boot::main_job(Job::from_flags("").unwrap())
    }

    fn ended(code: i32, console: &str, complaint: &str) -> Outcome {
        let lines: Vec<_> = console.lines().map(Line::read).collect();
        judge(ExitStatus::from_raw(code << 8), &lines, complaint, &boot())
    }

    #[test]
    fn each_exit_status_of_the_kernel_has_its_own_of_ours() {
        let runs = [(0, "@pass"), (65, "@fail stale"), (66, "@refused no 16k"), (67, "@panic at x"), (1, "")];
        let statuses = runs.map(|(code, console)| ended(code, console, "").status() as u8);
        assert_eq!(statuses, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn exit_status_0_passes_only_if_the_kernel_says_so() {
        assert_eq!(ended(0, "@test hot_add::works ok", ""), Outcome::Pass);
        assert!(matches!(ended(0, "booting", ""), Outcome::Died(_)));
        assert_eq!(ended(0, "@fail stale\n@pass", ""), Outcome::Fail);
    }

    #[test]
    fn a_signal_is_named() {
        let lines = [Line::Log(String::new())];
        let died = judge(ExitStatus::from_raw(9), &lines, "", &boot());
        assert!(matches!(&died, Outcome::Died(why) if why.contains("signal: 9")), "{died:?}");
    }

    #[test]
    fn what_qemu_refuses_becomes_a_line_that_says_what_to_do() {
        for (complaint, says) in [
            ("Addressing limited to 40 bits, but memory exceeds it by 5 bytes", "or --cpu max"),
            ("unable to find CPU model 'nonsense'", "neoverse-n1, cortex-a72 or max"),
            ("cannot set up guest memory 'ram': Cannot allocate memory", "this host cannot back"),
        ] {
            let outcome = ended(1, "", complaint);
            assert!(matches!(&outcome, Outcome::Refused(why) if why.contains(says)), "{outcome:?}");
        }
    }
}

//! The kernel's console: lines that begin with `@` are for us, all others are its log.

use std::fmt;

/// One line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// For people.
    Log(String),
    /// The report, as JSON.
    Report(String),
    /// The kernel refuses the job or the machine.
    Refused(String),
    /// A proof failed.
    Fail(String),
    /// The kernel panicked.
    Panic(String),
    /// A return address of the panic's backtrace.
    Frame(u64),
    /// The machine is held.
    Held,
    /// The run passed.
    Pass,
    /// The bootable test of this name passed.
    Test(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(text) => f.write_str(text),
            Self::Report(json) => write!(f, "@report {json}"),
            Self::Refused(text) => write!(f, "@refused {text}"),
            Self::Fail(text) => write!(f, "@fail {text}"),
            Self::Panic(text) => write!(f, "@panic {text}"),
            Self::Frame(address) => write!(f, "@frame {address:#x}"),
            Self::Held => f.write_str("@held"),
            Self::Pass => f.write_str("@pass"),
            Self::Test(name) => write!(f, "@test {name} ok"),
        }
    }
}

impl Line {
    /// Reads one line; what is no message is log.
    #[must_use]
    pub fn read(line: &str) -> Self {
        Self::message(line).unwrap_or_else(|| Self::Log(line.to_owned()))
    }

    fn message(line: &str) -> Option<Self> {
        let (word, text) = line.split_once(' ').unwrap_or((line, ""));
        let rest = || text.to_owned();
        Some(match word {
            "@report" => Self::Report(rest()),
            "@refused" => Self::Refused(rest()),
            "@fail" => Self::Fail(rest()),
            "@panic" => Self::Panic(rest()),
            "@frame" => Self::Frame(crate::size::address(text.trim()).ok()?),
            "@held" => Self::Held,
            "@pass" => Self::Pass,
            "@test" => Self::Test(text.strip_suffix(" ok")?.to_owned()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_the_log() {
        for (line, read) in [
            ("memory 0x40000000", Line::Log("memory 0x40000000".to_owned())),
            ("@report {\"a\": 1}", Line::Report("{\"a\": 1}".to_owned())),
            ("@frame 0xffffffffc0001234", Line::Frame(0xffff_ffff_c000_1234)),
            ("@pass", Line::Pass),
            ("@test hot_add::works ok", Line::Test("hot_add::works".to_owned())),
        ] {
            assert_eq!((Line::read(line).to_string().as_str(), Line::read(line)), (line, read));
        }
    }

    #[test]
    fn a_damaged_message_is_log_and_never_a_pass() {
        for line in ["@frame zzz", "@test hot_add::works", "@passed", " @pass"] {
            assert_eq!(Line::read(line), Line::Log(line.to_owned()));
        }
    }
}

//! What can be typed: one command a line.

use core::fmt;

use vmemmap::addr::PhysAddr;

use crate::config::number;

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// `hold [ADDRESS]`: takes a reference to the range with that address, or to the one added last.
    Hold(Option<PhysAddr>),
    /// `release [ADDRESS]`: gives one back; all if none is named.
    Release(Option<PhysAddr>),
    /// `show`: which ranges are there, and who holds them.
    Show,
    /// `write DEVICE TEXT`: keeps a text in the memory of a device.
    Write {
        /// The number of the device.
        device: usize,
        /// The text.
        text: &'a str,
    },
    /// `read DEVICE`: the text that is kept there.
    Read {
        /// The number of the device.
        device: usize,
    },
    /// `sync N`: an answer once all interrupts are served that are pending.
    Sync(u64),
    /// `reset`: resets the machine; nothing is removed.
    Reset,
    /// `quit`: removes all, proves the books, ends.
    Quit,
}

/// A line that is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError<'a> {
    /// There is no command of that name.
    Unknown(&'a str),
    /// What follows its name is not what the command takes.
    Usage(&'static str),
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "no command `{name}`: there are hold, release, show, write, read, sync, reset and quit")
            }
            Self::Usage(usage) => write!(f, "use {usage}"),
        }
    }
}

impl<'a> Command<'a> {
    /// Reads a line; nothing if it is empty.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn parse(line: &'a str) -> Result<Option<Self>, CommandError<'a>> {
        let line = line.trim();
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        let (command, usage) = match name {
            "" => return Ok(None),
            "hold" => (address(rest).map(Self::Hold).ok(), "hold [ADDRESS]"),
            "release" => (address(rest).map(Self::Release).ok(), "release [ADDRESS]"),
            "show" => (rest.is_empty().then_some(Self::Show), "show"),
            "write" => (write(rest), "write DEVICE TEXT"),
            "read" => (rest.parse().ok().map(|device| Self::Read { device }), "read DEVICE"),
            "sync" => (rest.parse().ok().map(Self::Sync), "sync NUMBER"),
            "reset" => (rest.is_empty().then_some(Self::Reset), "reset"),
            "quit" => (rest.is_empty().then_some(Self::Quit), "quit"),
            _ => return Err(CommandError::Unknown(name)),
        };
        command.map(Some).ok_or(CommandError::Usage(usage))
    }
}

/// An address, or nothing; an error if it is something else.
fn address(rest: &str) -> Result<Option<PhysAddr>, ()> {
    if rest.is_empty() { Ok(None) } else { number(rest).map(PhysAddr::new).map(Some).ok_or(()) }
}

fn write(rest: &str) -> Option<Command<'_>> {
    let (device, text) = rest.split_once(' ')?;
    Some(Command::Write { device: device.parse().ok()?, text })
}

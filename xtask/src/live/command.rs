//! What a user can say to a live machine.

use crate::size;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// More memory for a device: so many bytes; a DIMM may say where.
    Plug { bytes: u64, device: Option<String>, at: Option<u64> },
    /// Less memory for a device.
    Unplug { bytes: u64, device: Option<String> },
    /// None for a device.
    UnplugAll { device: Option<String> },
    /// One DIMM goes.
    UnplugDimm { name: String },
    /// Take a reference on the region with this address, or the last one.
    Hold(Option<u64>),
    /// Drop one on the region with this address, or all.
    Release(Option<u64>),
    /// List the regions.
    Show,
    /// Keep a text in a device's memory.
    Write { device: String, text: String },
    /// Read it back.
    Read { device: String },
    /// Reset the machine.
    Reset,
    /// Kill QEMU.
    Kill,
    /// Random plugs, unplugs, holds and releases.
    Random { steps: u64, seed: u64 },
    /// Remove all, prove the books, end.
    Quit,
    /// List the commands.
    Help,
}

/// What `help` prints.
pub const HELP: &str = "\
plug SIZE [DEVICE] [at=ADDRESS]   more memory: a virtio-mem device grows, or a DIMM is plugged (DIMMs alone take at=)
unplug SIZE|all [DEVICE]          a virtio-mem device shrinks; `all` takes all DIMMs too
unplug dimmN                      one DIMM goes
hold [ADDRESS]                    take a reference on the region with this address, or on the last that was added
release [ADDRESS]                 drop one; without an address, all
show                              the regions, and who holds them
write DEVICE TEXT                 keep a text in the device's memory
read DEVICE                       read it back
random N [SEED]                   N random plugs, unplugs, holds and releases
reset                             reset the machine
kill                              kill QEMU
quit                              remove all, prove the books, end (so does Ctrl-D)
COMMAND &                         do not wait for the effect: the next command races with it
! COMMAND                         the command must fail
# ...                             a comment";

/// A command, and how it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub command: Command,
    /// It begins with `!`.
    pub must_fail: bool,
    /// It does not end with `&`.
    pub waits: bool,
}

/// Reads a line; nothing where it is empty or a comment.
pub fn line(text: &str) -> Result<Option<Line>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (must_fail, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim_start()));
    let (waits, text) = text.strip_suffix('&').map_or((true, text), |rest| (false, rest.trim_end()));
    if text.is_empty() {
        return Err("write a command: `! COMMAND` must fail, `COMMAND &` is not waited for".to_owned());
    }
    let command = command(text)?;
    let races =
        matches!(command, Command::Reset | Command::Kill | Command::Random { .. } | Command::Quit | Command::Help);
    if races && !waits {
        return Err(format!("`{}` is always waited for: leave the & away", short(text)));
    }
    if must_fail && !waits {
        return Err("what is not waited for can't be seen to fail: leave the ! or the & away".to_owned());
    }
    Ok(Some(Line { command, must_fail, waits }))
}

/// A text for a message: what a user wrote may have words that never end.
pub fn short(text: &str) -> String {
    let cut = |word: &str| match word.char_indices().nth(MOST_OF_A_WORD) {
        Some((end, _)) => format!("{}..", &word[..end]),
        None => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

/// How many characters of a word a message shows.
const MOST_OF_A_WORD: usize = 60;

fn command(text: &str) -> Result<Command, String> {
    let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let words: Vec<_> = rest.split_whitespace().collect();
    let usage = |usage: &str| Err(format!("write `{usage}`"));
    let device = |word: &&str| (*word).to_owned();
    match (verb, &words[..]) {
        ("plug", [bytes, rest @ ..]) if rest.len() <= 2 => plug(bytes, rest),
        ("plug", _) => usage("plug SIZE [DEVICE] [at=ADDRESS]"),
        ("unplug", ["all", rest @ ..]) if rest.len() <= 1 => {
            Ok(Command::UnplugAll { device: rest.first().map(device) })
        }
        ("unplug", [name]) if name.starts_with("dimm") => Ok(Command::UnplugDimm { name: device(name) }),
        ("unplug", [size, rest @ ..]) if rest.len() <= 1 => {
            Ok(Command::Unplug { bytes: some_bytes(size)?, device: rest.first().map(device) })
        }
        ("unplug", _) => usage("unplug SIZE|all [DEVICE]` or `unplug dimmN"),
        ("hold", []) => Ok(Command::Hold(None)),
        ("hold", [address]) => Ok(Command::Hold(Some(size::bytes(address)?))),
        ("hold", _) => usage("hold [ADDRESS]"),
        ("release", []) => Ok(Command::Release(None)),
        ("release", [address]) => Ok(Command::Release(Some(size::bytes(address)?))),
        ("release", _) => usage("release [ADDRESS]"),
        ("write", [name, _, ..]) => {
            Ok(Command::Write { device: device(name), text: rest[name.len()..].trim().to_owned() })
        }
        ("write", _) => usage("write DEVICE TEXT"),
        ("read", [name]) => Ok(Command::Read { device: device(name) }),
        ("read", _) => usage("read DEVICE"),
        ("random", [steps]) => random(steps, "1"),
        ("random", [steps, seed]) => random(steps, seed),
        ("random", _) => usage("random N [SEED]"),
        ("show", []) => Ok(Command::Show),
        ("reset", []) => Ok(Command::Reset),
        ("kill", []) => Ok(Command::Kill),
        ("quit", []) => Ok(Command::Quit),
        ("help", []) => Ok(Command::Help),
        ("show" | "reset" | "kill" | "quit" | "help", _) => usage(verb),
        _ => Err(format!("there is no command {:?}: `help` lists them", short(verb))),
    }
}

fn plug(bytes: &str, rest: &[&str]) -> Result<Command, String> {
    let (mut device, mut at) = (None, None);
    for word in rest {
        let again = match word.strip_prefix("at=") {
            Some(address) => at.replace(size::bytes(address)?).is_some(),
            None => device.replace((*word).to_owned()).is_some(),
        };
        if again {
            return Err("write `plug SIZE [DEVICE] [at=ADDRESS]`".to_owned());
        }
    }
    Ok(Command::Plug { bytes: some_bytes(bytes)?, device, at })
}

fn some_bytes(text: &str) -> Result<u64, String> {
    let bytes = size::bytes(text)?;
    if bytes == 0 { Err("give a size above 0".to_owned()) } else { Ok(bytes) }
}

fn random(steps: &str, seed: &str) -> Result<Command, String> {
    let number =
        |text: &str| text.parse().map_err(|_| format!("{:?} is no number: write `random N [SEED]`", short(text)));
    Ok(Command::Random { steps: number(steps)?, seed: number(seed)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Command {
        line(text).unwrap().unwrap().command
    }

    #[test]
    fn every_command_is_read() {
        let device = |name: &str| Some(name.to_owned());
        for (text, command) in [
            ("plug 1G", Command::Plug { bytes: 1 << 30, device: None, at: None }),
            ("plug 2M virtio-mem.1", Command::Plug { bytes: 2 << 20, device: device("virtio-mem.1"), at: None }),
            ("plug 1G at=4G pc-dimm", Command::Plug { bytes: 1 << 30, device: device("pc-dimm"), at: Some(4 << 30) }),
            ("unplug 1G virtio-mem", Command::Unplug { bytes: 1 << 30, device: device("virtio-mem") }),
            ("unplug all", Command::UnplugAll { device: None }),
            ("unplug all pc-dimm", Command::UnplugAll { device: device("pc-dimm") }),
            ("unplug dimm3", Command::UnplugDimm { name: "dimm3".to_owned() }),
            ("hold", Command::Hold(None)),
            ("hold 0x80000000", Command::Hold(Some(2 << 30))),
            ("release", Command::Release(None)),
            ("release 2G", Command::Release(Some(2 << 30))),
            ("  show  ", Command::Show),
            ("write nvdimm a  b &c", Command::Write { device: "nvdimm".to_owned(), text: "a  b &c".to_owned() }),
            ("read nvdimm", Command::Read { device: "nvdimm".to_owned() }),
            ("random 100", Command::Random { steps: 100, seed: 1 }),
            ("random 100 7", Command::Random { steps: 100, seed: 7 }),
            ("reset", Command::Reset),
            ("kill", Command::Kill),
            ("quit", Command::Quit),
            ("help", Command::Help),
        ] {
            assert_eq!(parsed(text), command, "{text}");
        }
    }

    #[test]
    fn a_line_may_be_empty_a_comment_meant_to_fail_or_raced_with() {
        assert_eq!([line(""), line("  "), line("# plug 1G")], [Ok(None), Ok(None), Ok(None)]);
        let how = |text: &str| line(text).unwrap().map(|line| (line.must_fail, line.waits)).unwrap();
        assert_eq!(
            ["show", "! show", "!show", "show &", "show&"].map(how),
            [(false, true), (true, true), (true, true), (false, false), (false, false)]
        );
    }

    #[test]
    fn what_is_not_understood_is_told_what_to_write() {
        for (text, says) in [
            ("plug", "write `plug SIZE [DEVICE] [at=ADDRESS]`"),
            ("plug lots", "write a size like"),
            ("plug 0", "above 0"),
            ("plug 1G a b", "write `plug"),
            ("plug 1G at=1G at=1G", "write `plug"),
            ("unplug", "write `unplug SIZE|all [DEVICE]` or `unplug dimmN`"),
            ("unplug 0", "above 0"),
            ("hold 1 2", "write `hold [ADDRESS]`"),
            ("release x", "write a size"),
            ("write nvdimm", "write `write DEVICE TEXT`"),
            ("read", "write `read DEVICE`"),
            ("random", "write `random N [SEED]`"),
            ("random x", "\"x\" is no number"),
            ("quit now", "write `quit`"),
            ("plugg 1G", "there is no command \"plugg\": `help` lists them"),
            ("!", "write a command: `! COMMAND` must fail"),
            ("&", "`COMMAND &` is not waited for"),
            ("! &", "write a command: "),
            ("reset &", "leave the & away"),
            ("! plug 1G &", "leave the ! or the & away"),
        ] {
            let why = line(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn a_word_that_never_ends_is_cut_at_a_character() {
        let [long, end] = [60, 61].map(|count| "é".repeat(count));
        assert_eq!(short(&format!("a  {long} {end}")), format!("a  {long} {long}.."));
        let why = line(&"x".repeat(10_000)).unwrap_err();
        assert!(why.len() < 120 && why.ends_with("x..\": `help` lists them"), "{why}");
    }

    #[test]
    fn help_names_every_command() {
        for verb in ["plug", "unplug", "hold", "release", "show", "write", "read", "random", "reset", "kill", "quit"] {
            assert!(HELP.lines().any(|line| line.starts_with(verb)), "{verb}");
        }
    }
}

//! A small client of QEMU's monitor (QMP): one command, one answer, over its Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::status::Stop;

/// A monitor that takes commands.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves the negotiation behind.
    ///
    /// # Errors
    /// Nobody listens at `socket`, or who listens is no QMP server.
    pub fn connect(socket: &Path) -> Result<Self, Stop> {
        let nobody = |error| Stop::machine(format!("no machine is held at {} ({error}); start one with `cargo xtask qemu --hold`", socket.display()));
        let stream = UnixStream::connect(socket).map_err(nobody)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.read()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Errors
    /// The command's error, or a broken connection.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Stop> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut answer = self.read()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(Stop::machine(format!("QMP {command}: {error}")));
            }
        }
    }

    /// The 64-bit word at a physical address.
    ///
    /// # Errors
    /// As [`Qmp::execute`], or an answer that is no number.
    pub fn read_physical(&mut self, address: u64) -> Result<u64, Stop> {
        let line = format!("xp /1gx {address:#x}");
        let answer = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        let text = answer.as_str().unwrap_or_default();
        word(text).ok_or_else(|| Stop::machine(format!("QEMU cannot read physical address {address:#x}: {}", text.trim())))
    }

    /// Tells QEMU to quit.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn quit(mut self) -> Result<(), Stop> {
        self.execute("quit", &json!({})).map(drop)
    }

    fn read(&mut self) -> Result<Value, Stop> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| Stop::machine(format!("QMP: not an answer: {}", line.trim())))
    }
}

/// The value in `0000000040201000: 0x00e8000100010703`.
fn word(text: &str) -> Option<u64> {
    let (_, value) = text.trim().split_once(": 0x")?;
    u64::from_str_radix(value, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_from_the_monitors_answer() {
        assert_eq!(word("0000000040201000: 0x00e8000100010703\r\n"), Some(0x00e8_0001_0001_0703));
        assert_eq!(word("Cannot access memory"), None);
    }

    #[test]
    fn events_between_command_and_answer_are_skipped() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"{\"event\": \"STOP\"}\n{\"return\": 7}\n").unwrap();
        let mut monitor = Qmp { stream: BufReader::new(ours) };
        assert_eq!(monitor.execute("query", &json!({})), Ok(json!(7)));
    }

    #[test]
    fn a_closed_connection_and_an_error_are_errors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"{\"error\": {\"desc\": \"no such command\"}}\n").unwrap();
        let mut monitor = Qmp { stream: BufReader::new(ours) };
        assert!(monitor.execute("nonsense", &json!({})).unwrap_err().why.contains("no such command"));
        drop(theirs);
        assert!(monitor.execute("quit", &json!({})).is_err());
    }
}

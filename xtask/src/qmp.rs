//! A small client of QEMU's monitor (QMP): one command, one answer, over its Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::status::Stop;

/// A monitor that takes commands.
#[derive(Debug)]
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects and leaves the negotiation behind.
    ///
    /// # Errors
    /// Nobody listens at `socket`, or who listens is no QMP server.
    pub fn connect(socket: &Path) -> Result<Self, Stop> {
        let nobody = |error| Stop::machine(format!("no machine is held at {}: {error}", socket.display()));
        let stream = UnixStream::connect(socket).map_err(nobody)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut monitor = Self(BufReader::new(stream));
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
        self.0.get_mut().write_all(line.as_bytes())?;
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
        let text = answer.as_str().unwrap_or_default().trim();
        let word = text.split_once(": ").and_then(|(_, word)| crate::size::hex(word).ok());
        word.ok_or_else(|| Stop::machine(format!("QEMU cannot read physical address {address:#x}: {text}")))
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
        self.0.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| Stop::machine(format!("QMP: not an answer: {}", line.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that says `lines`, whatever it is asked.
    fn monitor(lines: &str) -> (Qmp, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(lines.as_bytes()).unwrap();
        (Qmp(BufReader::new(ours)), theirs)
    }

    #[test]
    fn events_between_command_and_answer_are_skipped() {
        let (mut monitor, _open) =
            monitor("{\"event\": \"STOP\"}\n{\"return\": \"0000000040201000: 0x00e8000100010703\\r\\n\"}\n");
        assert_eq!(monitor.read_physical(0x4020_1000), Ok(0x00e8_0001_0001_0703));
    }

    #[test]
    fn errors_nonsense_and_a_closed_connection_are_errors() {
        for (answer, says) in [
            ("{\"error\": {\"desc\": \"no such command\"}}\n", "no such command"),
            ("{\"return\": \"Cannot access memory\"}\n", "Cannot access memory"),
            ("hello\n", "not an answer: hello"),
            ("", "not an answer"),
        ] {
            let (mut monitor, theirs) = monitor(answer);
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(monitor.read_physical(0).unwrap_err().why.contains(says), "{answer}");
        }
    }
}

//! A small client of QEMU's monitor (QMP) on its Unix socket: one command, one answer, and events in between.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::status::Stop;

/// How long QEMU may think about a command.
const PATIENCE: Duration = Duration::from_secs(5);

/// A monitor that takes commands.
#[derive(Debug)]
pub struct Qmp {
    socket: UnixStream,
    lines: Receiver<String>,
    events: VecDeque<Value>,
}

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QmpError {
    /// QEMU refuses it, in its words.
    Refused(String),
    /// Nobody answers any more.
    Gone(String),
}

impl Qmp {
    /// Connects and leaves the negotiation behind.
    ///
    /// # Errors
    /// Nobody listens at `socket`, or who listens is no QMP server.
    pub fn connect(socket: &Path) -> Result<Self, Stop> {
        let nobody = |error| Stop::machine(format!("no machine is held at {}: {error}", socket.display()));
        Self::greet(UnixStream::connect(socket).map_err(nobody)?)
    }

    fn greet(socket: UnixStream) -> Result<Self, Stop> {
        let (sender, lines) = channel();
        let pipe = BufReader::new(socket.try_clone()?);
        std::thread::spawn(move || pipe.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut monitor = Self { socket, lines, events: VecDeque::new() };
        monitor.read(Instant::now() + PATIENCE).map_err(|error| error.of("greeting"))?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Errors
    /// The command's error, or a broken connection.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Stop> {
        self.ask(command, arguments).map_err(|error| error.of(command))
    }

    /// Runs a command and returns what it returns; events that come before it are kept.
    ///
    /// # Errors
    /// The command's error, or a broken connection, apart.
    pub fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.socket.write_all(line.as_bytes()).map_err(|error| QmpError::Gone(error.to_string()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut answer = self.read(deadline).inspect_err(|_| {
                // An answer that comes yet would be taken for the next command's.
                let _ = self.socket.shutdown(Shutdown::Both);
            })?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let words = error["desc"].as_str().map_or_else(|| error.to_string(), str::to_owned);
                return Err(QmpError::Refused(words));
            }
            self.events.push_back(answer);
        }
    }

    /// The next event, if one comes before `deadline`. A connection that breaks has no more.
    pub fn event(&mut self, deadline: Instant) -> Option<Value> {
        self.events.pop_front().or_else(|| self.read(deadline).ok())
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

    fn read(&mut self, deadline: Instant) -> Result<Value, QmpError> {
        let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Err(QmpError::Gone("no answer in time".to_owned())),
            Err(RecvTimeoutError::Disconnected) => return Err(QmpError::Gone("the connection is closed".to_owned())),
        };
        serde_json::from_str(&line).map_err(|_| QmpError::Gone(format!("not an answer: {}", line.trim())))
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        // The thread that reads holds the socket too.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl QmpError {
    fn of(self, command: &str) -> Stop {
        let (Self::Refused(why) | Self::Gone(why)) = self;
        Stop::machine(format!("QMP {command}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that says `lines`, whatever it is asked.
    fn monitor(lines: &str) -> (Qmp, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(format!("{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}\n{lines}").as_bytes()).unwrap();
        (Qmp::greet(ours).unwrap(), theirs)
    }

    #[test]
    fn events_between_command_and_answer_are_kept_for_later() {
        let (mut monitor, mut theirs) =
            monitor("{\"event\": \"STOP\"}\n{\"return\": \"0000000040201000: 0x00e8000100010703\\r\\n\"}\n");
        assert_eq!(monitor.read_physical(0x4020_1000), Ok(0x00e8_0001_0001_0703));
        let now = Instant::now();
        assert_eq!(monitor.event(now), Some(json!({ "event": "STOP" })));
        assert_eq!(monitor.event(now), None);
        theirs.write_all(b"{\"event\": \"RESET\"}\n").unwrap();
        assert_eq!(
            monitor.event(now + PATIENCE),
            Some(json!({ "event": "RESET" })),
            "waiting for an event closes nothing"
        );
    }

    #[test]
    fn errors_nonsense_and_a_closed_connection_are_errors() {
        for (answer, says) in [
            ("{\"error\": {\"desc\": \"no such command\"}}\n", "no such command"),
            ("{\"return\": \"Cannot access memory\"}\n", "Cannot access memory"),
            ("hello\n", "not an answer: hello"),
            ("", "the connection is closed"),
        ] {
            let (mut monitor, theirs) = monitor(answer);
            theirs.shutdown(Shutdown::Write).unwrap();
            assert!(monitor.read_physical(0).unwrap_err().why.contains(says), "{answer}");
        }
    }

    #[test]
    fn what_is_refused_is_told_from_a_monitor_that_is_gone() {
        let (mut monitor, theirs) = monitor("{\"error\": {\"desc\": \"no\"}}\n");
        assert_eq!(monitor.ask("stop", &json!({})), Err(QmpError::Refused("no".to_owned())));
        drop(theirs);
        assert!(matches!(monitor.ask("stop", &json!({})), Err(QmpError::Gone(_))));
    }

    #[test]
    fn a_monitor_that_is_dropped_makes_room_for_the_next() {
        let (monitor, theirs) = monitor("");
        drop(monitor);
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        let said = std::io::read_to_string(theirs).unwrap();
        assert!(said.contains("qmp_capabilities"), "{said}");
    }
}

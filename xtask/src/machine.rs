//! Runs QEMU: streams its console, keeps the time limit, and says how the run ended.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::line::{Boot, QEMU};
use crate::outcome::{Run, judge};
use crate::reap::{Reaped, try_reap};
use crate::status::{Status, Stop};

/// How often a wait looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// Boots and waits for the end. `hear` gets the run so far at each line of the console, which is its last. The time
/// limit ends where the machine is held.
///
/// # Errors
/// QEMU cannot be started.
pub fn run(boot: &Boot, limit: Duration, hear: impl FnMut(&Run)) -> Result<Run, Stop> {
    catch_interrupts();
    let start = Instant::now();
    let mut qemu = Qemu::start(boot)?;
    let mut run = Run::new();
    let ended = qemu.listen(start, limit, &mut run, hear).and_then(|()| qemu.wait());
    run.end = match ended {
        Ok(reaped) => {
            run.peak_bytes = Some(reaped.peak_bytes);
            judge(reaped.status, &run, &qemu.complaint(), boot)
        }
        Err(Cut::Interrupt) => interrupted(),
        Err(Cut::TimeLimit) => out_of_time(limit, boot),
    };
    if !run.is_held() {
        run.elapsed = start.elapsed();
    }
    Ok(run)
}

fn interrupted() -> Stop {
    Stop { status: Status::Interrupted, why: "interrupted".to_owned() }
}

fn out_of_time(limit: Duration, boot: &Boot) -> Stop {
    let slow = match (boot.trace, boot.job.checked) {
        (false, false) => "",
        (true, false) => "; --trace is slow: give more --time-limit or a smaller --device-size",
        (false, true) => "; --checked is slow: give more --time-limit or a smaller --device-size",
        (true, true) => "; --checked and --trace are slow: give more --time-limit or a smaller --device-size",
    };
    Stop::machine(format!("the kernel did not end within {limit:?}, QEMU was stopped; --verbose shows its log{slow}"))
}

/// Why we stopped waiting.
enum Cut {
    Interrupt,
    TimeLimit,
}

/// What a console said in one tick.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line.
    Line(String),
    /// Nothing.
    Nothing,
    /// It is closed: QEMU is gone, or about to be.
    Closed,
}

/// Files that are removed when this is dropped: those that a machine leaves, its monitor's socket for one.
#[derive(Debug, Default)]
pub struct Leftovers(pub Vec<PathBuf>);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for file in &self.0 {
            // One that QEMU did not come to make is not there.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// QEMU's process; killed when dropped.
pub struct Qemu {
    /// None once it has ended: its number may be another's by then.
    child: Option<Child>,
    /// The console's other direction, on a live machine.
    keyboard: Option<ChildStdin>,
    console: Receiver<String>,
    complaints: Receiver<String>,
    /// Those that hold its memory, locked.
    _files: Vec<File>,
}

impl Qemu {
    pub fn start(boot: &Boot) -> Result<Self, Stop> {
        let files = boot.prepare()?;
        let words = boot.line();
        let mut command = Command::new(&words[0]);
        let stdin = if boot.live.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(&words[1..]).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        if boot.gdb.is_some() && boot.hold.is_none() {
            // Ctrl-C in gdb is for gdb.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| Stop::machine(format!("cannot run {QEMU}: {error}")))?;
        let (console, complaints) = (lines_of(child.stdout.take()), lines_of(child.stderr.take()));
        let keyboard = child.stdin.take();
        Ok(Self { child: Some(child), keyboard, console, complaints, _files: files })
    }

    /// Says a line to the kernel. Who listens no more is heard to be gone soon.
    pub fn say(&mut self, line: &str) {
        if let Some(keyboard) = &mut self.keyboard {
            let _ = writeln!(keyboard, "{line}").and_then(|()| keyboard.flush());
        }
    }

    /// Waits a tick for a line of the console.
    ///
    /// # Errors
    /// The user has interrupted us.
    pub fn hear(&self) -> Result<Heard, Stop> {
        let heard = match self.console.recv_timeout(TICK) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::Closed,
        };
        go_on(true).map_err(|_| interrupted())?;
        Ok(heard)
    }

    /// How a run ended whose console is closed.
    pub fn ended(&mut self, run: &Run, boot: &Boot) -> Stop {
        match self.wait() {
            Ok(reaped) => judge(reaped.status, run, &self.complaint(), boot),
            Err(Cut::Interrupt) => interrupted(),
            Err(Cut::TimeLimit) => Stop::machine("QEMU closed its console and does not end"),
        }
    }

    /// Kills QEMU and returns what was still unread on its console.
    pub fn stop(mut self) -> Vec<String> {
        self.kill();
        self.console.iter().collect()
    }

    fn listen(&self, start: Instant, limit: Duration, run: &mut Run, mut hear: impl FnMut(&Run)) -> Result<(), Cut> {
        loop {
            match self.console.recv_timeout(TICK) {
                Ok(text) => {
                    run.elapsed = start.elapsed();
                    if run.keep(text) {
                        hear(run);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            go_on(run.is_held() || start.elapsed() < limit)?;
        }
    }

    /// Waits for the exit status; the console is closed, so QEMU is as good as gone.
    fn wait(&mut self) -> Result<Reaped, Cut> {
        let start = Instant::now();
        loop {
            match self.child.take().map(try_reap) {
                Some(Ok(Ok(reaped))) => return Ok(reaped),
                Some(Ok(Err(running))) => self.child = Some(running),
                // Somebody else has waited for it: there is nothing left that could end.
                Some(Err(_)) | None => {}
            }
            go_on(start.elapsed() < Duration::from_secs(5))?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
    }

    /// The last thing that QEMU itself said.
    fn complaint(&self) -> String {
        let last = self.complaints.iter().filter(|line| !line.is_empty()).last().unwrap_or_default();
        last.trim_start_matches(QEMU).trim_start_matches(": ").to_owned()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

fn go_on(in_time: bool) -> Result<(), Cut> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(Cut::Interrupt);
    }
    in_time.then_some(()).ok_or(Cut::TimeLimit)
}

fn lines_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    let mut pipe = pipe.map(BufReader::new);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        while pipe.as_mut().is_some_and(|pipe| pipe.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0)) {
            let _ = sender.send(String::from_utf8_lossy(&bytes).trim_end().to_owned());
            bytes.clear();
        }
    });
    receiver
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM end the run, not this process.
pub fn catch_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn a_run_out_of_time_says_what_makes_it_slow() {
        let why = |flags, trace| {
            let boot = Boot { trace, ..Boot::main_job(Job::from_flags(flags).unwrap()) };
            out_of_time(Duration::from_secs(1), &boot).why
        };
        let hint = "give more --time-limit or a smaller --device-size";
        assert!(!why("", false).contains(hint) && why("", false).contains("within 1s"));
        assert!(why("", true).contains("; --trace is slow") && why("--checked", false).contains("; --checked is slow"));
        assert!(why("--checked", true).ends_with(hint));
    }
}

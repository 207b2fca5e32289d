//! Runs QEMU: streams its console, keeps the time limit, and says how the run ended.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::console::Line;
use crate::line::{Boot, QEMU};
use crate::outcome::{Outcome, Run, judge};
use crate::status::Stop;

/// How often a wait looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// Boots and waits for the end. `hear` gets each line as it comes, and the run so far; the time limit ends where the machine is held.
///
/// # Errors
/// QEMU cannot be started.
pub fn run(boot: &Boot, limit: Duration, hear: impl FnMut(&Line, &Run)) -> Result<Run, Stop> {
    listen_for_interrupts();
    let start = Instant::now();
    let mut qemu = Qemu::start(boot)?;
    let mut run = Run { outcome: Outcome::Pass, lines: Vec::new(), elapsed: Duration::ZERO };
    let ended = qemu.listen(start, limit, &mut run, hear).map_or_else(|| qemu.wait(), Err);
    run.outcome = match ended {
        Ok(status) => judge(status, &run.lines, &qemu.complaint(), boot),
        Err(Cut::Interrupt) => Outcome::Interrupted,
        Err(Cut::TimeLimit) => {
            Outcome::Died(format!("the kernel did not end within {limit:?}, QEMU was stopped; --verbose shows its log"))
        }
    };
    if !run.is_held() {
        run.elapsed = start.elapsed();
    }
    Ok(run)
}

/// Why we stopped waiting.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Interrupt,
    TimeLimit,
}

/// QEMU's process; killed when dropped.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    console: Receiver<String>,
    complaints: Receiver<String>,
}

impl Qemu {
    /// Starts QEMU.
    ///
    /// # Errors
    /// The program is not there or cannot be run.
    pub fn start(boot: &Boot) -> Result<Self, Stop> {
        let words = boot.line();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if boot.gdb.is_some() {
            // Ctrl-C in gdb is for gdb.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        let mut child = command.spawn().map_err(|error| Stop::machine(format!("cannot run {QEMU}: {error}; see `cargo xtask doctor`")))?;
        let (console, complaints) = (lines_of(child.stdout.take()), lines_of(child.stderr.take()));
        Ok(Self { child, console, complaints })
    }

    /// Kills QEMU and returns what was still unread on its console.
    pub fn stop(mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.console.iter().collect()
    }

    fn listen(&self, start: Instant, limit: Duration, run: &mut Run, mut hear: impl FnMut(&Line, &Run)) -> Option<Cut> {
        loop {
            match self.console.recv_timeout(TICK) {
                Ok(text) => {
                    let line = Line::read(&text);
                    run.lines.push(line.clone());
                    run.elapsed = start.elapsed();
                    hear(&line, run);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(cut) = cut(start + limit, run.is_held()) {
                return Some(cut);
            }
        }
    }

    /// Waits for the exit status; the console is closed, so QEMU is as good as gone.
    fn wait(&mut self) -> Result<ExitStatus, Cut> {
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status);
            }
            if let Some(cut) = cut(limit, false) {
                return Err(cut);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The last thing that QEMU itself said.
    fn complaint(&self) -> String {
        let last = self.complaints.iter().filter(|line| !line.is_empty()).last().unwrap_or_default();
        last.trim_start_matches(&format!("{QEMU}: ")).to_owned()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cut(limit: Instant, held: bool) -> Option<Cut> {
    if interrupted() {
        Some(Cut::Interrupt)
    } else {
        (!held && Instant::now() >= limit).then_some(Cut::TimeLimit)
    }
}

fn lines_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(pipe) = pipe {
        std::thread::spawn(move || forward(BufReader::new(pipe), &sender));
    }
    receiver
}

fn forward(mut pipe: impl BufRead, sender: &Sender<String>) {
    let mut bytes = Vec::new();
    while pipe.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if sender.send(line).is_err() {
            return;
        }
        bytes.clear();
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM end the run instead of this process.
pub fn listen_for_interrupts() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    });
}

/// Whether the user wants to stop.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

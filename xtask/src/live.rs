//! `cargo xtask live`: a machine whose device memory comes and goes as the user says.
//!
//! - `command`: what a user can say; `input`: where it comes from
//! - `session`: the talk with the machine; `monitor`: QEMU's side of it, `event`: the kernel's
//! - `ledger`: what is there; `verdict`: whether what was asked came true
//! - `random`, `lives`: random steps; `screen`: what is shown

mod command;
mod event;
mod input;
mod ledger;
mod lives;
mod monitor;
mod random;
mod screen;
mod session;
mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::device::names;
use crate::job::Job;
use crate::line::{Boot, shell};
use crate::machine::Leftovers;
use crate::screen::{plural, row};
use crate::status::{Status, Stop};
use crate::tool::Tool;
use crate::{build, machine, qemu, setup};
use command::{Command, HELP, Line};
use input::{Input, Next, Said};
use screen::Screen;
use session::{Ended, Session};

/// A machine that stays, and where its commands come from.
#[derive(Args, Clone, Debug)]
pub struct Live {
    #[command(flatten)]
    job: Job,
    /// Take the commands from a file, and stop at the first that fails
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Print the kernel's events and the commands as JSON objects, one a line, and nothing else
    #[arg(long)]
    json: bool,
    /// Print QEMU's command line and stop
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,
    /// Show the kernel's log, and each event of `random`
    #[arg(long, short)]
    verbose: bool,
    /// Stop QEMU if a command, all steps of `random` together, takes longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time_limit: u64,
}

/// Why a command did not come true.
#[derive(Clone, Debug)]
enum Failure {
    /// It could not be; the machine runs on.
    Command(String),
    /// The machine has ended.
    Session(Stop),
}

impl Failure {
    fn command(why: impl Into<String>) -> Self {
        Self::Command(why.into())
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Session(stop)
    }
}

/// What a line of commands led to.
enum Step {
    On,
    Kill,
    Quit,
}

impl Live {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        let boot = Boot::live(self.job.clone(), qemu::socket_below(&build::target_directory()));
        boot.job.check()?;
        if self.dry_run {
            println!("{}", shell(&boot.line()));
            return Ok(Status::Pass);
        }
        let input = Input::open(self.script.as_deref())?;
        setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
        build::images(&[boot.image])?;
        machine::catch_interrupts();
        let _socket = Leftovers(boot.live.iter().cloned().collect());
        self.serve(&boot, input)
    }

    fn serve(&self, boot: &Boot, mut input: Input) -> Result<Status, Stop> {
        let names = names(&boot.job.devices());
        let screen =
            Screen { json: self.json, verbose: self.verbose, quiet: false, prompted: false, asked: false, names };
        let mut session = Session::start(boot, screen, Duration::from_secs(self.time_limit))?;
        let talked = session.ready().and_then(|()| talk(&mut session, &mut input));
        match talked {
            Ok(Step::Kill) => {
                let screen = session.screen.clone();
                session.kill();
                after(&mut input).map_or(Ok(()), Err)?;
                screen.object(screen::killed);
                Ok(Status::Pass)
            }
            Ok(Step::Quit | Step::On) => end(session.quit()?, boot, after(&mut input)),
            Err(stop) if stop.status == Status::Panic => {
                qemu::tell_panic(&session.run, &stop.why, boot);
                session.screen.object(|| screen::stopped(&stop));
                Ok(Status::Panic)
            }
            Err(stop) => Err(stop),
        }
    }
}

/// Does what the input says, until it ends.
fn talk(session: &mut Session<'_>, input: &mut Input) -> Result<Step, Stop> {
    while let Some(said) = wait(session, input)? {
        match say(session, &said, input.is_terminal()) {
            Ok(Step::On) => {}
            Ok(step) => return Ok(step),
            Err(Failure::Command(_)) if input.is_terminal() => {}
            Err(Failure::Command(why)) => {
                return Err(Stop { status: Status::Fail, why: format!("{}: {why}", said.words()) });
            }
            Err(Failure::Session(stop)) => return Err(stop),
        }
    }
    Ok(Step::Quit)
}

/// The next line; nothing where there is none any more. While nobody types, the kernel may say something.
fn wait(session: &mut Session<'_>, input: &mut Input) -> Result<Option<Said>, Stop> {
    session.screen.prompted = input.is_terminal();
    input.prompt();
    loop {
        match input.next() {
            Next::Line(said) => {
                session.screen.prompted = false;
                return Ok(Some(said));
            }
            Next::Empty => input.prompt(),
            Next::Nothing if session.hear()?.is_some() => input.prompt(),
            Next::Nothing => {}
            Next::End => return Ok(None),
        }
    }
}

/// Does one line. What fails is shown to whoever types; a script ends with it.
fn say(session: &mut Session<'_>, said: &Said, typed: bool) -> Result<Step, Failure> {
    session.screen.command(&said.text, !typed);
    let done = match &said.line {
        Ok(line) => perform(session, line, &said.text),
        Err(why) => Err(Failure::command(why)),
    };
    if let (Err(Failure::Command(why)), true) = (&done, typed) {
        session.screen.failed(&said.text, why, false);
    }
    done
}

fn perform(session: &mut Session<'_>, line: &Line, text: &str) -> Result<Step, Failure> {
    match (session.perform(&line.command, line.waits), line.must_fail) {
        (Err(Failure::Command(why)), true) => session.screen.failed(text, &why, true),
        (Ok(()), true) => return Err(Failure::command("it did not fail")),
        (done, _) => done?,
    }
    match line.command {
        Command::Kill => return Ok(Step::Kill),
        Command::Quit => return Ok(Step::Quit),
        Command::Help => session.screen.say(HELP),
        _ => {}
    }
    Ok(Step::On)
}

/// What a script still says after the machine has ended is never done.
fn after(input: &mut Input) -> Option<Stop> {
    if input.is_terminal() {
        return None;
    }
    let Next::Line(said) = input.next() else { return None };
    Some(Stop { status: Status::Fail, why: format!("{}: the machine has ended before", said.words()) })
}

/// Says how a session ended that was told to.
fn end(ended: Ended, boot: &Boot, undone: Option<Stop>) -> Result<Status, Stop> {
    let Ended { run, screen, end, stop } = ended;
    match (stop.status, end) {
        (Status::Pass, Some((added, removed, frames))) => {
            let [added, removed] = [(added, "added"), (removed, "removed")]
                .map(|(count, verb)| format!("{} {verb}", plural(count, "range")));
            screen.say(&row("PASS", &format!("{added}, {removed}   books as before, difference {frames} frames")));
            undone.map_or(Ok(Status::Pass), Err)
        }
        (Status::Pass, None) => Err(Stop::machine("the kernel passed and did not say its books")),
        (Status::Fail, _) if !screen.json => {
            screen.failures(&run.said("fail").collect::<Vec<_>>());
            Ok(Status::Fail)
        }
        (Status::Panic, _) => {
            qemu::tell_panic(&run, &stop.why, boot);
            screen.object(|| screen::stopped(&stop));
            Ok(Status::Panic)
        }
        _ => Err(stop),
    }
}

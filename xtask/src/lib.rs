//! The project's commands, `cargo xtask ...`, as a library: the boots of `tests` go through the same code.
//!
//! - `job`, `device`: the flags that say what to boot and hot-add; `line`, `attach`: QEMU's command line for it; `flash`:
//!   the kernel for a machine that boots from flash
//! - `machine`: runs QEMU; `reap`: its end, and what it took of the host; `outcome`: what the kernel said and how the run ended
//! - `report`: the kernel's report; `linux`: what Linux does; `screen`: both side by side
//! - `tool`, `setup`: what must be installed; `build`: cargo
//! - `live`: a machine that stays, and a talk with it
//! - `qemu`, `gdb`, `test`, `mutants`, `fuzz`, `miri`, `altmap`, `bench`, `decode`, `walk`: the commands; `nightly`, `qmp`, `symbols`, `size`: their helpers

use std::any::Any;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod altmap;
mod attach;
mod bench;
pub mod build;
mod check;
mod decode;
mod device;
mod flash;
mod fuzz;
mod gdb;
mod job;
mod line;
mod linux;
mod live;
mod machine;
mod miri;
mod mutants;
mod nightly;
mod outcome;
mod qemu;
mod qmp;
mod reap;
mod report;
mod screen;
mod setup;
mod size;
mod status;
mod symbols;
mod test;
mod thorough;
mod tool;
mod trace_file;
mod walk;

pub use device::Device;
pub use job::Job;
pub use line::{Boot, Image, shell};
pub use linux::equals as equals_linux;
pub use machine::run;
pub use outcome::Run;
pub use qmp::Qmp;
pub use status::{Status, Stop};
pub use symbols::backtrace;
pub use tool::in_path;

/// Hot-add device memory, prove it, hot-remove it: on QEMU, on your machine, in seconds.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Install what is missing
    Setup {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Show each tool, its version, what is wrong and how to mend it
    Doctor,
    /// Boot, hot-add a range of device memory, prove it, hot-remove it
    Qemu(qemu::Qemu),
    /// Boot a machine that stays: its device memory comes and goes as you say
    Live(live::Live),
    /// Run every test: on the host, then one boot for each bootable test
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
        /// The long form: ten times as many random cases, and a report of what was tried and reached
        #[arg(long)]
        thorough: bool,
    },
    /// Start QEMU stopped, and gdb with breakpoints for the story
    Gdb(gdb::Gdb),
    /// Judge a trace of what some kernel did to its translation tables
    Check(check::Check),
    /// Fuzz hot-plug on a hostile machine, the adversary with hostile traces, and what devices say
    Fuzz(fuzz::Fuzz),
    /// Run the core's unit tests under Miri
    Miri {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Break each rule in turn and show what notices, on the host and on QEMU
    Mutants(mutants::Mutants),
    /// Say what the struct pages of a range would take of it and of RAM
    Altmap(altmap::Altmap),
    /// Say a descriptor in words
    Decode(decode::Decode),
    /// Count what an add and a removal cost, beside Linux and against budgets and docs/bench
    Bench(bench::Bench),
    /// Cut an address into the steps of its walk; with a held machine, show the entries
    Walk(walk::Walk),
}

impl Command {
    fn run(&self) -> Result<Status, Stop> {
        match self {
            Self::Setup { yes } => setup::setup(*yes),
            Self::Doctor => Ok(setup::doctor()),
            Self::Qemu(qemu) => qemu.run(),
            Self::Live(live) => live.run(),
            Self::Test { filter, thorough } => test::test(filter.as_deref(), *thorough),
            Self::Gdb(gdb) => gdb.run(),
            Self::Check(check) => check.run(),
            Self::Fuzz(fuzz) => fuzz.run(),
            Self::Miri { filter } => miri::miri(filter.as_deref()),
            Self::Mutants(mutants) => mutants.run(),
            Self::Altmap(altmap) => altmap.run(),
            Self::Decode(decode) => decode.run(),
            Self::Bench(bench) => bench.run(),
            Self::Walk(walk) => walk.run(),
        }
    }
}

/// Reads the command line, runs it, and says in one line what went wrong. Where nobody reads what we print any more, it
/// ends quietly, by the way of all panics: QEMU and its files go.
#[must_use]
pub fn main() -> ExitCode {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_broken_pipe(panic.payload()) {
            told(panic);
        }
    }));
    std::panic::catch_unwind(run_command).unwrap_or_else(|panic| {
        if is_broken_pipe(&*panic) { ExitCode::from(BROKEN_PIPE) } else { std::panic::resume_unwind(panic) }
    })
}

/// The exit status of a program that SIGPIPE ends, as shells tell it.
const BROKEN_PIPE: u8 = 128 + 13;

/// Whether `print!` panicked because nobody reads.
fn is_broken_pipe(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.is_some_and(|text| text.starts_with("failed printing to ") && text.contains("Broken pipe"))
}

fn run_command() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => cli.command.run(),
        Err(error) if error.use_stderr() => Err(Stop::refused(one_line(&error))),
        Err(help) => help.exit(),
    };
    let status = done.unwrap_or_else(|stop| {
        if std::env::args().any(|word| word == "--json") {
            println!("{}", qemu::error_object(&stop));
        } else {
            anstream::eprintln!("{RED}error:{RED:#} {}", stop.why);
        }
        stop.status
    });
    ExitCode::from(status as u8)
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

/// clap's message without its usage and hints.
fn one_line(error: &clap::Error) -> String {
    let message = error.render().to_string();
    let words: Vec<_> = message.split("\n\n").next().unwrap_or_default().split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_stays_within_110_columns() {
        let mut cli = Cli::command();
        let helps: Vec<_> = cli.get_subcommands_mut().map(|command| command.render_help().to_string()).collect();
        let wide: Vec<_> = helps.iter().flat_map(|help| help.lines()).filter(|line| line.len() > 110).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }

    #[test]
    fn an_unknown_granule_is_one_line_that_names_the_known() {
        let error = Cli::try_parse_from(["xtask", "qemu", "--granule", "8k"]).unwrap_err();
        let line = "invalid value '8k' for '--granule <GRANULE>': the granules are 4k, 16k and 64k";
        assert_eq!(one_line(&error), line);
    }
}

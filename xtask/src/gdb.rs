//! `cargo xtask gdb`: QEMU stopped at its first instruction, and a gdb that knows the story.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;

use crate::build;
use crate::job::Job;
use crate::line::Boot;
use crate::machine::{Qemu, catch_interrupts};
use crate::qemu::free_address;
use crate::setup;
use crate::status::{Status, Stop};
use crate::symbols;
use crate::tool::{self, Tool};

/// The story's places: the symbol, whether the MMU is still off there, and what happens.
const STORY: [(&str, bool, &str); 4] = [
    ("_start", true, "entry: the first instruction, MMU off, at the physical address"),
    ("mmu_on", false, "MMU on: the first instruction at the high address"),
    ("populate", false, "populate: the vmemmap is about to be built; x0 points to its first descriptor"),
    ("remove", false, "remove: the range is about to go; x0 points to the same descriptor"),
];

/// What to debug.
#[derive(Args, Clone, Debug)]
pub struct Gdb {
    #[command(flatten)]
    job: Job,
    /// Run this gdb script instead of asking for commands, and end
    #[arg(long, value_name = "SCRIPT")]
    batch: Option<PathBuf>,
}

impl Gdb {
    /// Runs the command; its status is gdb's.
    pub fn run(&self) -> Result<Status, Stop> {
        self.job.check()?;
        setup::ensure(&Tool::ALL, false)?;
        let program =
            tool::gdb().ok_or_else(|| Stop::machine("no gdb that knows AArch64; see `cargo xtask doctor`"))?;
        let boot = Boot { gdb: Some(free_address()?), ..Boot::main_job(self.job.clone()) };
        build::images(&[boot.image])?;
        let init = build::target_directory().join(format!("story-{}.gdb", std::process::id()));
        std::fs::write(&init, init_script(&boot)?)?;
        catch_interrupts();
        let qemu = Qemu::start(&boot)?;
        let mut command = Command::new(program);
        command.args(["-nx", "-q", "-x"]).arg(&init);
        if let Some(script) = &self.batch {
            command.args(["-batch", "-x"]).arg(script).stdin(Stdio::null());
        }
        let ended = command.status();
        qemu.stop().iter().for_each(|line| println!("{line}"));
        std::fs::remove_file(&init)?;
        Ok(if ended?.success() { Status::Pass } else { Status::Fail })
    }
}

/// Symbols at both addresses, the connection, and a breakpoint for each place of the story. For scripts: `$load`, from
/// linked to physical addresses, and a variable for each place.
fn init_script(boot: &Boot) -> Result<String, Stop> {
    let path = boot.image.path();
    let elf = symbols::read(&path)?;
    let load = symbols::address(&elf, "_start").and_then(|start| symbols::load_offset(&elf, start)).unwrap_or(0);
    let (path, stub) = (path.display(), boot.gdb.as_deref().unwrap_or_default());
    let mut script = format!(
        "set pagination off\nset confirm off\nset architecture aarch64\nfile {path}\nadd-symbol-file {path} -o {load:#x}\n\
         set $load = {load:#x}\ntarget remote {stub}\n"
    );
    for (symbol, physical, text) in STORY {
        let Some(linked) = symbols::address(&elf, symbol) else {
            let _ = writeln!(script, "echo no symbol {symbol}\\n");
            continue;
        };
        let stop = if physical { linked.wrapping_add(load) } else { linked };
        let _ = writeln!(script, "set ${symbol} = {linked:#x}\nhbreak *{stop:#x}\ncommands\necho == {text}\\n\nend");
    }
    Ok(script)
}

//! `cargo xtask gdb`: QEMU stopped at its first instruction, and a gdb that knows the story.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;

use crate::job::Job;
use crate::line::Boot;
use crate::machine::{Qemu, listen_for_interrupts};
use crate::qemu::free_address;
use crate::status::{Status, Stop};
use crate::symbols::Elf;
use crate::tool::{self, Tool};
use crate::{build, place, setup};

/// The story's places: the symbol, whether the MMU is still off there, and what happens.
const STORY: [(&str, bool, &str); 4] = [
    ("_start", true, "entry: the first instruction, MMU off, at the physical address"),
    ("mmu_on", false, "MMU on: the first instruction at the high address"),
    ("populate", false, "populate: the vmemmap of the device range is about to be built"),
    ("remove", false, "remove: the range is about to go"),
];

/// What to debug.
#[derive(Args, Clone, Debug)]
pub struct Gdb {
    /// The machine and the job.
    #[command(flatten)]
    pub job: Job,
    /// Run this gdb script instead of asking for commands, and end
    #[arg(long, value_name = "SCRIPT")]
    pub batch: Option<PathBuf>,
}

impl Gdb {
    /// Runs the command; its status is gdb's.
    ///
    /// # Errors
    /// A tool is missing, or the kernel does not compile.
    pub fn run(&self) -> Result<Status, Stop> {
        self.job.check()?;
        setup::ensure(&[Tool::Target, Tool::Qemu, Tool::Gdb], false)?;
        build::images()?;
        let program = tool::gdb().ok_or_else(|| Stop::machine("no gdb that knows AArch64; see `cargo xtask doctor`"))?;
        let stub = free_address()?;
        let boot = Boot { gdb: Some(stub.clone()), ..Boot::main_job(self.job.clone()) };
        let elf = boot.image.path();
        let script = init_script(&Elf::read(&elf)?, &elf.display().to_string(), &stub);
        let init = place::target().join(format!("story-{}.gdb", std::process::id()));
        std::fs::write(&init, script)?;
        listen_for_interrupts();
        let qemu = Qemu::start(&boot)?;
        let mut command = Command::new(program);
        command.args(["-nx", "-q"]).arg("-x").arg(&init);
        if let Some(batch) = &self.batch {
            command.arg("-batch").arg("-x").arg(batch).stdin(Stdio::null());
        }
        let ended = command.status();
        qemu.stop().iter().for_each(|line| println!("{line}"));
        std::fs::remove_file(&init)?;
        Ok(if ended?.success() { Status::Pass } else { Status::Fail })
    }
}

/// Symbols at both addresses, the connection, and a breakpoint for each place of the story.
fn init_script(elf: &Elf, path: &str, stub: &str) -> String {
    let offset = elf.address("_start").and_then(|start| elf.load_offset(start)).unwrap_or(0);
    let mut script = String::from("set pagination off\nset confirm off\nset architecture aarch64\n");
    let _ = writeln!(script, "file {path}\nadd-symbol-file {path} -o {offset:#x}\ntarget remote {stub}\nset $load = {offset:#x}");
    for (symbol, physical, text) in STORY {
        let Some(address) = elf.address(symbol) else {
            let _ = writeln!(script, "echo no symbol {symbol}\\n");
            continue;
        };
        let _ = writeln!(script, "set ${symbol} = {address:#x}");
        let address = if physical { address.wrapping_add(offset) } else { address };
        let _ = writeln!(script, "hbreak *{address:#x}\ncommands\necho == {text}\\n\nend");
    }
    script
}

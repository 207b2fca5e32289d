//! Names, lines and places of an ELF.

use std::path::Path;

use addr2line::Loader;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Object as _, ObjectSymbol as _};

use crate::build::workspace;
use crate::status::Stop;

/// Linked address of the symbol `name`.
pub fn address(elf: &[u8], name: &str) -> Option<u64> {
    Some(file(elf)?.symbol_by_name(name)?.address())
}

/// Physical minus linked address of the segment that holds linked address `va`, modulo 2^64.
pub fn load_offset(elf: &[u8], va: u64) -> Option<u64> {
    let file = file(elf)?;
    let endian = file.endian();
    let holds = |start: u64, bytes: u64| va.checked_sub(start).is_some_and(|offset| offset < bytes);
    let mut headers = file.elf_program_headers().iter();
    let header = headers.find(|header| holds(header.p_vaddr(endian), header.p_memsz(endian)))?;
    Some(header.p_paddr(endian).wrapping_sub(header.p_vaddr(endian)))
}

/// Reads an ELF.
pub fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    std::fs::read(path).map_err(|error| Stop::machine(format!("{}: {error}", path.display())))
}

fn file(elf: &[u8]) -> Option<ElfFile64<'_>> {
    ElfFile64::parse(elf).ok()
}

/// The functions of a backtrace, inlined ones too, innermost first; an address without a name stays as it is.
#[must_use]
pub fn backtrace(elf: &Path, frames: impl Iterator<Item = u64>) -> Vec<String> {
    let loader = Loader::new(elf).ok();
    let named = |frame| loader.as_ref().and_then(|loader| functions(loader, frame)).filter(|lines| !lines.is_empty());
    frames.flat_map(|frame| named(frame).unwrap_or_else(|| vec![format!("{frame:#x}")])).collect()
}

fn functions(loader: &Loader, frame: u64) -> Option<Vec<String>> {
    // A return address is that of the next instruction.
    let mut found = loader.find_frames(frame.checked_sub(1)?).ok()?;
    let mut lines = Vec::new();
    while let Ok(Some(function)) = found.next() {
        let name = function.function.as_ref().and_then(|name| name.raw_name().ok());
        let name = name.map_or("?".to_owned(), |name| format!("{:#}", rustc_demangle::demangle(&name)));
        let at = function.location.as_ref().and_then(|at| Some(format!(" {}:{}", relative(at.file?), at.line?)));
        lines.push(name + &at.unwrap_or_default());
    }
    Some(lines)
}

/// A path below the workspace, or below the standard library.
fn relative(file: &str) -> &str {
    let below = file.strip_prefix(&*workspace().to_string_lossy()).map(|rest| rest.trim_start_matches('/'));
    let library = file.find("/library/").map(|start| &file[start + 1..]);
    below.or(library).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[unsafe(no_mangle)]
    extern "C" fn landmark() -> u64 {
        std::hint::black_box(7)
    }

    #[test]
    fn paths_are_shown_relative_to_the_workspace() {
        let file = workspace().join("kernel/src/main.rs");
        assert_eq!(relative(&file.to_string_lossy()), "kernel/src/main.rs");
        assert_eq!(relative("/rustc/59807616/library/core/src/fmt/mod.rs"), "library/core/src/fmt/mod.rs");
    }

    #[test]
    fn an_address_of_this_program_has_its_name_and_line() {
        assert_eq!(landmark(), 7);
        let program = std::env::current_exe().unwrap();
        let landmark = address(&read(&program).unwrap(), "landmark").unwrap();
        let lines = backtrace(&program, [landmark + 2].into_iter());
        assert!(lines[0].contains("landmark xtask/src/symbols.rs:"), "{lines:?}");
    }

    #[test]
    fn an_address_without_a_name_stays_as_it_is() {
        assert_eq!(backtrace(Path::new("/nowhere"), [0x10].into_iter()), ["0x10"]);
    }
}

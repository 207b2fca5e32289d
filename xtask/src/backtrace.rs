//! Return addresses of a panic as names and lines.

use std::path::Path;

use addr2line::Loader;

use crate::place;

/// One line for each function, inlined ones too, innermost first; an address that has no name stays as it is.
#[must_use]
pub fn symbolise(elf: &Path, frames: impl Iterator<Item = u64>) -> Vec<String> {
    let loader = Loader::new(elf).ok();
    let named = |frame| loader.as_ref().and_then(|loader| names(loader, frame)).filter(|lines| !lines.is_empty());
    frames.flat_map(|frame| named(frame).unwrap_or_else(|| vec![format!("{frame:#x}")])).collect()
}

fn names(loader: &Loader, frame: u64) -> Option<Vec<String>> {
    // A return address is that of the next instruction.
    let mut found = loader.find_frames(frame.checked_sub(1)?).ok()?;
    let mut lines = Vec::new();
    while let Ok(Some(function)) = found.next() {
        let name = function.function.as_ref().and_then(|name| name.demangle().ok().map(|name| plain(&name).to_owned()));
        let file = function.location.as_ref().and_then(|at| Some(format!("{}:{}", relative(at.file?), at.line?)));
        lines.push(format!("{} {}", name.as_deref().unwrap_or("?"), file.as_deref().unwrap_or("")).trim_end().to_owned());
    }
    Some(lines)
}

/// A name without the hash of its crate version.
fn plain(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((plain, hash)) if hash.len() == 16 => plain,
        _ => name,
    }
}

/// A path below the workspace, or below the standard library.
fn relative(file: &str) -> &str {
    let below = file.strip_prefix(&*place::workspace().to_string_lossy()).map(|rest| rest.trim_start_matches('/'));
    let library = file.find("/library/").map(|start| &file[start + 1..]);
    below.or(library).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    extern "C" fn landmark() -> u64 {
        std::hint::black_box(7)
    }

    #[test]
    fn paths_are_shown_relative_to_the_workspace() {
        let file = place::workspace().join("kernel/src/main.rs");
        assert_eq!(relative(&file.to_string_lossy()), "kernel/src/main.rs");
        assert_eq!(relative("/rustc/59807616/library/core/src/fmt/mod.rs"), "library/core/src/fmt/mod.rs");
    }

    #[test]
    fn hashes_of_names_are_dropped() {
        assert_eq!(plain("kernel::prove::leaves::h0123456789abcdef"), "kernel::prove::leaves");
        assert_eq!(plain("kernel::hold::here"), "kernel::hold::here");
    }

    #[test]
    fn an_address_of_this_program_has_its_name_and_line() {
        let program = std::env::current_exe().unwrap();
        let loader = Loader::new(&program).unwrap();
        let symbols = object_symbol(&program, "landmark");
        let lines = names(&loader, symbols + 2).unwrap();
        assert!(lines.iter().any(|line| line.contains("landmark") && line.contains("xtask/src/backtrace.rs")), "{lines:?}");
        assert_eq!(landmark(), 7);
    }

    #[test]
    fn an_address_without_a_name_stays_as_it_is() {
        assert_eq!(symbolise(Path::new("/nowhere"), [0x10].into_iter()), ["0x10"]);
    }

    fn object_symbol(program: &Path, name: &str) -> u64 {
        crate::symbols::Elf::read(program).unwrap().address_containing(name).unwrap()
    }
}

//! Symbols of an ELF, and how far it is loaded from where it is linked.

use std::path::Path;

use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Object as _, ObjectSymbol as _};

use crate::status::Stop;

/// An ELF's bytes.
#[derive(Debug)]
pub struct Elf(Vec<u8>);

impl Elf {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read or is no 64-bit ELF.
    pub fn read(path: &Path) -> Result<Self, Stop> {
        let elf = Self(std::fs::read(path).map_err(|error| Stop::machine(format!("{}: {error}", path.display())))?);
        elf.file().ok_or_else(|| Stop::machine(format!("{} is no ELF", path.display())))?;
        Ok(elf)
    }

    fn file(&self) -> Option<ElfFile64<'_>> {
        ElfFile64::parse(&*self.0).ok()
    }

    /// Linked address of the symbol with this name.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<u64> {
        self.file()?.symbol_by_name(name).map(|symbol| symbol.address())
    }

    /// Linked address of the first symbol whose name contains `part`.
    #[must_use]
    pub fn address_containing(&self, part: &str) -> Option<u64> {
        let file = self.file()?;
        let found = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains(part)));
        found.map(|symbol| symbol.address())
    }

    /// Physical minus linked address of the segment that holds linked address `va`, modulo 2^64.
    #[must_use]
    pub fn load_offset(&self, va: u64) -> Option<u64> {
        let file = self.file()?;
        let endian = file.endian();
        let segment = file.elf_program_headers().iter().find(|header| {
            let start = header.p_vaddr(endian);
            (start..start.saturating_add(header.p_memsz(endian))).contains(&va)
        })?;
        Some(segment.p_paddr(endian).wrapping_sub(segment.p_vaddr(endian)))
    }
}

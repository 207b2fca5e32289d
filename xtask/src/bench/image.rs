//! The size of the kernel's image: what a loader must bring into memory.

use std::path::Path;

use object::{Object as _, ObjectSection as _, SectionFlags, SectionKind, elf};
use serde::{Deserialize, Serialize};

use crate::size::human;
use crate::status::Stop;
use crate::symbols;

/// Bytes of the sections that are loaded from the file, without the zeros that fill each up to a page, and without what is
/// for debuggers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// All of them.
    pub bytes: u64,
    sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Section {
    name: String,
    bytes: u64,
}

impl ImageSize {
    /// That of an ELF.
    ///
    /// # Errors
    /// It can't be read.
    pub fn of(file: &Path) -> Result<Self, Stop> {
        let wrong = |error: object::Error| Stop::machine(format!("{}: {error}", file.display()));
        Self::of_elf(&symbols::read(file)?).map_err(wrong)
    }

    fn of_elf(elf: &[u8]) -> object::Result<Self> {
        let file = object::File::parse(elf)?;
        let loaded = file.sections().filter(|section| {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return false };
            sh_flags.contains(elf::SHF_ALLOC) && section.kind() != SectionKind::UninitializedData
        });
        let mut sections = Vec::new();
        for section in loaded {
            let bytes = without_padding(section.data()?);
            sections.push(Section { name: section.name()?.to_owned(), bytes });
        }
        Ok(Self { bytes: sections.iter().map(|section| section.bytes).sum(), sections })
    }

    /// In words.
    pub fn words(&self) -> String {
        let kib = |bytes: u64| human(bytes.next_multiple_of(1024));
        let sections = self.sections.iter().map(|Section { name, bytes }| format!("{name} {}", kib(*bytes)));
        format!("{} are loaded: {}", kib(self.bytes), sections.collect::<Vec<_>>().join(", "))
    }
}

/// Bytes up to the last that is not zero.
fn without_padding(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::{Object, StandardSegment};
    use object::{Architecture, BinaryFormat, Endianness};

    /// An ELF with these sections: name, kind, contents.
    fn elf(sections: &[(&str, SectionKind, &[u8])]) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
        for (name, kind, contents) in sections {
            let segment = object.segment_name(StandardSegment::Data).to_vec();
            let section = object.add_section(segment, name.as_bytes().to_vec(), *kind);
            if *kind == SectionKind::UninitializedData {
                object.append_section_bss(section, 4096, 1);
            } else {
                object.append_section_data(section, contents, 1);
            }
        }
        object.write().expect("it is well-formed")
    }

    #[test]
    fn what_is_loaded_counts_without_padding_debug_data_and_zeros() {
        let image = elf(&[
            (".text", SectionKind::Text, &[1, 2, 0, 3, 0, 0, 0, 0]),
            (".rodata", SectionKind::ReadOnlyData, &[7; 2048]),
            (".bss", SectionKind::UninitializedData, &[]),
            (".debug_info", SectionKind::Debug, &[9; 100]),
        ]);
        let size = ImageSize::of_elf(&image).expect("an ELF");
        assert_eq!(size.bytes, 4 + 2048);
        assert_eq!(size.words(), "3 KiB are loaded: .text 1 KiB, .rodata 2 KiB");
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(ImageSize::of_elf(b"no ELF").is_err());
        assert!(ImageSize::of(Path::new("/nowhere/kernel")).is_err());
    }
}

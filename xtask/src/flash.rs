//! The kernel as an image for the machine's flash: QEMU has ACPI, and so DIMMs, only on a machine that boots from it.

use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::status::Stop;
use crate::symbols;

/// What the flash of QEMU's `virt` holds.
const MOST: u64 = 64 << 20;

/// Where the flat image of an ELF lies: beside it.
#[must_use]
pub fn path_of(elf: &Path) -> PathBuf {
    elf.with_added_extension("bin")
}

/// Writes the flat image of an ELF, unless it is there and not older.
///
/// # Errors
/// The ELF can't be read, holds nothing to load, or too much for the flash; or the image can't be written.
pub fn make(elf: &Path) -> Result<(), Stop> {
    let image = path_of(elf);
    let time = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    if time(&image).zip(time(elf)).is_some_and(|(image, elf)| image >= elf) {
        return Ok(());
    }
    let flat = flat(&symbols::read(elf)?).map_err(|why| Stop::machine(format!("{}: {why}", elf.display())))?;
    let failed = |error| Stop::machine(format!("cannot write {}: {error}", image.display()));
    // Renamed when it is whole: other runs may read it meanwhile.
    let part = elf.with_added_extension(format!("bin.{}", std::process::id()));
    std::fs::write(&part, flat).and_then(|()| std::fs::rename(&part, &image)).map_err(failed)
}

/// The bytes of the file's segments at their physical addresses, from the lowest on; zeros between them.
fn flat(elf: &[u8]) -> Result<Vec<u8>, String> {
    let segments = segments(elf)?;
    let start = segments.iter().map(|&(base, _)| base).min().ok_or("it has no segment to load")?;
    let end = segments.iter().map(|(base, bytes)| base.saturating_add(bytes.len() as u64)).max().unwrap_or(start);
    if end - start > MOST {
        return Err(format!("{} bytes from its first segment to its last; the flash holds {MOST}", end - start));
    }
    let mut flat = vec![0; (end - start) as usize];
    for (base, bytes) in segments {
        let offset = (base - start) as usize;
        flat[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    Ok(flat)
}

/// Physical address and contents of each segment that the file holds something of.
fn segments(elf: &[u8]) -> Result<Vec<(u64, &[u8])>, String> {
    let header = FileHeader64::<Endianness>::parse(elf).map_err(|error| error.to_string())?;
    let endian = header.endian().map_err(|error| error.to_string())?;
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, elf).map_err(|error| error.to_string())? {
        let bytes = segment.data(endian, elf).map_err(|()| "a segment lies outside the file".to_owned())?;
        if segment.p_type(endian) == PT_LOAD && !bytes.is_empty() {
            segments.push((segment.p_paddr(endian), bytes));
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::ProgramType;

    /// An ELF with segments: type, physical address, size in memory, contents.
    fn elf(segments: &[(ProgramType, u64, u64, &[u8])]) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[20] = 1;
        elf[32] = 64;
        elf[52..58].copy_from_slice(&[64, 0, 56, 0, segments.len() as u8, 0]);
        let mut contents = Vec::new();
        for (kind, base, memory, bytes) in segments {
            let offset = (64 + 56 * segments.len() + contents.len()) as u64;
            elf.extend(kind.0.to_le_bytes());
            elf.extend([0; 4]);
            for word in [offset, !0, *base, bytes.len() as u64, *memory, 1] {
                elf.extend(word.to_le_bytes());
            }
            contents.extend_from_slice(bytes);
        }
        elf.extend(contents);
        elf
    }

    const NOTE: ProgramType = object::elf::PT_NOTE;

    #[test]
    fn segments_lie_at_their_physical_addresses_and_bss_is_left_out() {
        let two = [(PT_LOAD, 0x4020_0006, 100, &b"data"[..]), (PT_LOAD, 0x4020_0000, 4, b"text")];
        assert_eq!(flat(&elf(&two)).unwrap(), b"text\0\0data");
        let others = [(NOTE, 0, 4, &b"note"[..]), (PT_LOAD, 0x1000, 64, b""), two[1]];
        assert_eq!(flat(&elf(&others)).unwrap(), b"text");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let apart = [(PT_LOAD, 0, 4, &b"text"[..]), (PT_LOAD, MOST - 3, 4, b"data")];
        for (elf, says) in [
            (elf(&apart), "67108865 bytes from its first segment to its last; the flash holds 67108864"),
            (elf(&[]), "no segment to load"),
            (elf(&[(PT_LOAD, 0, 4, b"text")])[..120].to_vec(), "outside the file"),
            (b"text".to_vec(), "ELF"),
        ] {
            let why = flat(&elf).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        assert_eq!(flat(&elf(&[apart[0], (PT_LOAD, MOST - 4, 4, b"data")])).unwrap().len() as u64, MOST);
    }

    #[test]
    fn an_image_is_written_again_when_its_elf_is_newer() {
        let room = std::env::temp_dir().join(format!("vmemmap-flash-{}", std::process::id()));
        std::fs::create_dir_all(&room).unwrap();
        let file = room.join("kernel");
        let image = path_of(&file);
        assert_eq!(image, room.join("kernel.bin"));
        std::fs::write(&file, elf(&[(PT_LOAD, 0, 4, b"text")])).unwrap();
        make(&file).unwrap();
        std::fs::write(&image, "as it was").unwrap();
        make(&file).unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), b"as it was");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        make(&file).unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), b"text");
        assert_eq!(std::fs::read_dir(&room).unwrap().count(), 2, "nothing else is left");
    }
}

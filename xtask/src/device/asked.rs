//! The words of one `--device`, before the job fills in what was not said.

use std::path::PathBuf;

use super::{Device, Kind};
use crate::size;

/// By how much a virtio-mem device grows and shrinks if nothing is said: hot-plug's unit.
const BLOCK: u64 = vmemmap::granule::SUBSECTION_BYTES;
const CARVE_OUT: &str = "write BASE,SIZE or BASE,SIZE,MEMMAP, like 4G,1G or 0x140000000,256M,ram";

/// What one `--device` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What stands behind the memory.
    pub kind: Kind,
    /// Its first byte.
    pub base: Option<u64>,
    /// How much is there at the start, in bytes.
    pub bytes: Option<u64>,
    /// How much there can be, in bytes.
    pub most: Option<u64>,
    /// By how much it grows and shrinks, in bytes.
    pub block: Option<u64>,
    /// Where its struct pages lie.
    pub memmap: Option<String>,
    /// The host's file that holds it.
    pub file: Option<PathBuf>,
}

impl Asked {
    /// Nothing but a kind.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self { kind, base: None, bytes: None, most: None, block: None, memmap: None, file: None }
    }

    /// With `bytes` if it says no size, and room for at least `most` if it says none.
    #[must_use]
    pub fn or(self, bytes: u64, most: u64) -> Device {
        let bytes = self.bytes.unwrap_or(bytes);
        let default = if self.kind.is_pluggable() { bytes.max(most) } else { bytes };
        let (most, block) = (self.most.unwrap_or(default), self.block.unwrap_or(BLOCK));
        Device { kind: self.kind, base: self.base, bytes, most, block, memmap: self.memmap, file: self.file }
    }

    /// Takes one `KEY=VALUE`.
    fn say(&mut self, key: &str, value: &str) -> Result<(), String> {
        let accepted = self.keys();
        if !accepted.contains(&key) {
            let known = accepted.iter().map(|key| format!("{key}=")).collect::<Vec<_>>().join(", ");
            return Err(format!("{} takes no {key}=; it takes {known}", self.kind));
        }
        let again = match key {
            "size" => self.bytes.replace(size::bytes(value)?).is_some(),
            "at" => self.base.replace(size::bytes(value)?).is_some(),
            "max" => self.most.replace(size::bytes(value)?).is_some(),
            "block" => self.block.replace(size::bytes(value)?).is_some(),
            "memmap" => self.memmap.replace(memmap(value)?).is_some(),
            _ if value.is_empty() => return Err("file= names no file".to_owned()),
            _ => self.file.replace(value.into()).is_some(),
        };
        if again { Err(format!("{key}= is said twice; say it once")) } else { Ok(()) }
    }

    const fn keys(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::CarveOut => &["size", "at", "memmap"],
            Kind::VirtioMem => &["size", "at", "max", "block", "memmap", "file"],
            Kind::PcDimm => &["size", "at", "max", "memmap", "file"],
            Kind::Ivshmem => &["size", "memmap", "file"],
            Kind::Nvdimm => &["size", "at", "memmap", "file"],
        }
    }
}

/// Reads `KIND[,KEY=VALUE..]`, `BASE,SIZE` or `BASE,SIZE,MEMMAP`.
pub fn device(text: &str) -> Result<Asked, String> {
    let (first, rest) = text.split_once(',').map_or((text, None), |(first, rest)| (first, Some(rest)));
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == first) {
        return of_kind(kind, rest);
    }
    if first.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(kinds());
    }
    carve_out(text)
}

fn kinds() -> String {
    let all = Kind::ALL.map(Kind::name).join(", ");
    format!("the kinds of device are {all}; or {CARVE_OUT}")
}

fn of_kind(kind: Kind, words: Option<&str>) -> Result<Asked, String> {
    let mut asked = Asked::new(kind);
    for word in words.into_iter().flat_map(|words| words.split(',')) {
        let usage = || format!("{word:?} is no KEY=VALUE: write for instance {kind},size=1G");
        let (key, value) = word.split_once('=').ok_or_else(usage)?;
        asked.say(key, value)?;
    }
    Ok(asked)
}

fn carve_out(text: &str) -> Result<Asked, String> {
    let parts: Vec<_> = text.split(',').collect();
    let (base, bytes, third) = match parts[..] {
        [base, bytes] => (base, bytes, None),
        [base, bytes, memmap] => (base, bytes, Some(memmap)),
        _ => return Err(format!("{CARVE_OUT}; or a kind of device, like virtio-mem,size=1G")),
    };
    let memmap =
        third.map(memmap).transpose().map_err(|_| format!("the third part is altmap, nvdimm or ram; {CARVE_OUT}"))?;
    let [base, bytes] = [size::bytes(base)?, size::bytes(bytes)?];
    let asked = Asked { base: Some(base), bytes: Some(bytes), memmap, ..Asked::new(Kind::CarveOut) };
    if bytes == 0 { Err("it has no bytes; give a size above 0".to_owned()) } else { Ok(asked) }
}

fn memmap(value: &str) -> Result<String, String> {
    let known = ["altmap", "nvdimm", "ram"].contains(&value);
    if known { Ok(value.to_owned()) } else { Err("memmap= is altmap, nvdimm or ram".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_carve_out_is_a_base_a_size_and_where_its_memmap_goes() {
        let asked = device("0x140000000,1G,ram").unwrap();
        assert_eq!((asked.kind, asked.base, asked.bytes), (Kind::CarveOut, Some(5 * GIB), Some(GIB)));
        assert_eq!(asked.memmap.as_deref(), Some("ram"));
        assert_eq!(device("carve-out,at=5G,size=1G,memmap=ram"), Ok(asked));
        for (text, says) in [
            ("4G", "like 4G,1G"),
            ("", "like 4G,1G"),
            ("4G,1G,ram,ram", "like 4G,1G"),
            ("4G,lots", "write a size like"),
            ("0xx,1G", "write a size like"),
            ("4G,1G,disk", "the third part is altmap, nvdimm or ram"),
            ("4G,0", "give a size above 0"),
        ] {
            assert!(device(text).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn a_kind_takes_its_own_keys() {
        let all = "virtio-mem,size=1G,at=0x80000000,max=64G,block=4M,memmap=nvdimm,file=/dev/shm/a b";
        let wanted = Asked {
            base: Some(2 * GIB),
            bytes: Some(GIB),
            most: Some(64 * GIB),
            block: Some(4 << 20),
            memmap: Some("nvdimm".to_owned()),
            file: Some("/dev/shm/a b".into()),
            ..Asked::new(Kind::VirtioMem)
        };
        assert_eq!(device(all), Ok(wanted));
        for kind in Kind::ALL {
            assert_eq!(device(kind.name()), Ok(Asked::new(kind)));
        }
        for (text, says) in [
            (
                "virtio-pmem,size=1G",
                "the kinds of device are carve-out, virtio-mem, pc-dimm, ivshmem, nvdimm; or write BASE",
            ),
            ("virtio-mem,1G", "\"1G\" is no KEY=VALUE: write for instance virtio-mem,size=1G"),
            ("virtio-mem,", "is no KEY=VALUE"),
            ("virtio-mem,sice=1G", "virtio-mem takes no sice=; it takes size=, at=, max=, block=, memmap=, file="),
            ("virtio-mem,size=1G,size=1G", "size= is said twice"),
            ("virtio-mem,file=a,file=b", "file= is said twice"),
            ("virtio-mem,size=lots", "write a size like 256M"),
            ("virtio-mem,memmap=disk", "memmap= is altmap, nvdimm or ram"),
            ("virtio-mem,file=", "file= names no file"),
            ("carve-out,file=a", "carve-out takes no file=; it takes size=, at=, memmap="),
            ("ivshmem,at=4G", "ivshmem takes no at=; it takes size=, memmap=, file="),
            ("nvdimm,max=4G", "nvdimm takes no max="),
            ("pc-dimm,block=2M", "pc-dimm takes no block="),
        ] {
            let why = device(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_not_said_is_filled_in() {
        let device = |text: &str| device(text).unwrap().or(GIB, 64 * GIB);
        let sizes = |text: &str| (device(text).bytes, device(text).most);
        assert_eq!(sizes("virtio-mem"), (GIB, 64 * GIB));
        assert_eq!(sizes("virtio-mem,size=2G,max=3G"), (2 * GIB, 3 * GIB));
        assert_eq!(sizes("pc-dimm,size=65G"), (65 * GIB, 65 * GIB));
        assert_eq!(sizes("nvdimm"), (GIB, GIB));
        assert_eq!([device("virtio-mem").block, device("virtio-mem,block=1G").block], [2 << 20, GIB]);
    }
}

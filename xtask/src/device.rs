//! Device memory as `--device` names it: what stands behind it, how much there is, and where.

mod asked;
mod check;
pub mod file;

use std::fmt;
use std::path::PathBuf;

pub use asked::{Asked, device};
pub use check::{check, check_order};

use crate::size::human;

/// How many the kernel takes.
pub const MOST_DEVICES: usize = 8;

/// What stands behind device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A part of RAM that the boot arguments set aside.
    CarveOut,
    /// A virtio-mem device: its memory comes and goes in blocks.
    VirtioMem,
    /// The machine's DIMM slots.
    PcDimm,
    /// The memory bar of a PCI device.
    Ivshmem,
    /// A persistent DIMM.
    Nvdimm,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 5] = [Self::CarveOut, Self::VirtioMem, Self::PcDimm, Self::Ivshmem, Self::Nvdimm];

    /// As users and boot arguments name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        ["carve-out", "virtio-mem", "pc-dimm", "ivshmem", "nvdimm"][self as usize]
    }

    /// Whether memory comes and goes while the machine runs.
    #[must_use]
    pub const fn is_pluggable(self) -> bool {
        matches!(self, Self::VirtioMem | Self::PcDimm)
    }

    /// Whether it takes a part of the window that QEMU keeps for memory devices, behind RAM.
    #[must_use]
    pub const fn is_in_window(self) -> bool {
        matches!(self, Self::VirtioMem | Self::PcDimm | Self::Nvdimm)
    }

    /// Whether QEMU has it only on a machine with ACPI, which it has only when it boots from flash.
    #[must_use]
    pub const fn needs_acpi(self) -> bool {
        matches!(self, Self::PcDimm | Self::Nvdimm)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Device memory of one kind, with all that was not said filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What stands behind it.
    pub kind: Kind,
    /// Its first byte, where the user chose it.
    pub base: Option<u64>,
    /// How much is there at the start, in bytes.
    pub bytes: u64,
    /// How much there can be, in bytes: the size of a virtio-mem device's region, of all DIMMs together.
    pub most: u64,
    /// By how much a virtio-mem device grows and shrinks, in bytes.
    pub block: u64,
    /// Where its struct pages lie: `altmap` (tight), `nvdimm` or `ram`; what `--memmap` and `--altmap` say if nothing.
    pub memmap: Option<String>,
    /// The host's file that holds it.
    pub file: Option<PathBuf>,
}

impl Device {
    /// One past the last byte that it can have, where its base is known; the last address of all if that does not fit.
    pub(crate) fn end(&self) -> Option<u64> {
        self.base.map(|base| base.saturating_add(self.most))
    }

    /// As the kernel's boot arguments have it.
    pub(crate) fn boot_argument(&self) -> String {
        let memmap = self.memmap.as_ref().map(|memmap| format!(",{memmap}")).unwrap_or_default();
        match (self.kind, self.base) {
            (Kind::CarveOut, Some(base)) => format!("device={base:#x},{:#x}{memmap}", self.bytes),
            (kind, _) => format!("device={kind}{memmap}"),
        }
    }

    /// In words, for messages.
    pub(crate) fn words(&self) -> String {
        let size = human(self.most);
        match (self.kind, self.base) {
            (Kind::CarveOut, Some(base)) => format!("device memory {base:#x} + {size}"),
            (kind, Some(base)) => format!("{kind} {base:#x} + {size}"),
            (kind, None) => format!("{kind} of {size}"),
        }
    }

    fn overlaps(&self, base: u64, end: u64) -> bool {
        self.base.zip(self.end()).is_some_and(|(ours, our_end)| ours < end && base < our_end)
    }
}

/// What `devices` are called: the kind, then the kind with a number for further ones.
#[must_use]
pub fn names(devices: &[Device]) -> Vec<String> {
    let before = |place: usize| devices[..place].iter().filter(|other| other.kind == devices[place].kind).count();
    let name = |place: usize| match before(place) {
        0 => devices[place].kind.to_string(),
        number => format!("{}.{number}", devices[place].kind),
    };
    (0..devices.len()).map(name).collect()
}

/// Reads the number of a device in an order of removal.
pub fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "write the numbers of the devices, like 2,0,1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    fn devices(flags: &str) -> Vec<Device> {
        Job::from_flags(flags).unwrap().devices()
    }

    #[test]
    fn a_carve_out_is_told_by_its_range_and_every_other_kind_by_its_name() {
        let all = devices("--device 5G,1G,ram --device virtio-mem --device nvdimm,memmap=nvdimm,at=8G");
        let arguments: Vec<_> = all.iter().map(Device::boot_argument).collect();
        assert_eq!(arguments, ["device=0x140000000,0x40000000,ram", "device=virtio-mem", "device=nvdimm,nvdimm"]);
        let words: Vec<_> = all.iter().map(Device::words).collect();
        assert_eq!(words, ["device memory 0x140000000 + 1 GiB", "virtio-mem of 4 GiB", "nvdimm 0x200000000 + 4 GiB"]);
    }

    #[test]
    fn further_devices_of_a_kind_have_numbers_in_their_order() {
        let all = devices("--device virtio-mem --device nvdimm --device virtio-mem --device 8G,1G --device virtio-mem");
        assert_eq!(names(&all), ["virtio-mem", "nvdimm", "virtio-mem.1", "carve-out", "virtio-mem.2"]);
    }

    #[test]
    fn a_number_that_is_none_is_told_what_to_write() {
        assert_eq!(number("2"), Ok(2));
        assert!(["", "x", "-1"].iter().all(|text| number(text).unwrap_err().contains("like 2,0,1")));
    }
}

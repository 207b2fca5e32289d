//! What to boot and hot-add: the flags, their defaults, and the boot arguments that the kernel reads.

use std::fmt::Write as _;

use crate::size::{self, human};
use crate::status::Stop;
use clap::{Args, Command, FromArgMatches as _, ValueEnum};
use vmemmap::granule::{GranuleSize, SUBSECTION_BYTES};

const GIB: u64 = 1 << 30;
/// Where RAM begins on QEMU's `virt`.
const RAM_BASE: u64 = GIB;

/// Sizes of the virtual address space that the kernel offers with a granule.
fn va_sizes(granule: GranuleSize) -> &'static [u32] {
    match granule {
        GranuleSize::K4 => &[39, 48],
        GranuleSize::K16 => &[36, 47, 48],
        GranuleSize::K64 => &[42, 48],
    }
}

/// Reads `4k`, `16k` or `64k`.
pub fn granule(name: &str) -> Result<GranuleSize, String> {
    let found = GranuleSize::ALL.into_iter().find(|granule| granule.name() == name);
    found.ok_or_else(|| "the granules are 4k, 16k and 64k".to_owned())
}

/// Where the vmemmap's frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Memmap {
    /// The device range itself
    Altmap,
    /// Ordinary RAM
    Ram,
}

/// How the altmap's reserve and free are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Altmap {
    /// Exactly what the vmemmap needs
    Tight,
    /// What Linux's nvdimm driver leaves for it
    Nvdimm,
}

/// Which leaves map the vmemmap and the linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Leaf {
    /// Blocks and contiguous runs where they are legal
    Largest,
    /// As Linux does with large linear leaves
    Linux,
    /// Base pages only
    Pages,
}

/// What a broken machine leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Break {
    /// TLB maintenance: the run must fail
    Tlbi,
}

/// The machine and the job on it.
#[derive(Args, Clone, Debug)]
pub struct Job {
    /// Translation granule of the kernel: 4k, 16k or 64k
    #[arg(long, default_value = "64k", value_parser = granule)]
    pub granule: GranuleSize,
    /// Bits of a virtual address: 39 or 48 with 4k, 36, 47 or 48 with 16k, 42 or 48 with 64k
    #[arg(long, value_name = "N", default_value_t = 48)]
    pub va_bits: u32,
    /// QEMU's name of the CPU
    #[arg(long, default_value = "neoverse-n1")]
    pub cpu: String,
    /// RAM for the kernel
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::bytes)]
    pub memory: u64,
    /// Where device memory begins [default: the larger of 4 GiB and the first GiB boundary above RAM]
    #[arg(long, value_name = "ADDRESS", value_parser = size::bytes)]
    pub device_base: Option<u64>,
    /// Size of device memory; sparse on the host
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size::bytes)]
    pub device_size: u64,
    /// Where the vmemmap's frames come from
    #[arg(long, default_value = "altmap")]
    pub memmap: Memmap,
    /// How the altmap is cut [default: tight]
    #[arg(long)]
    pub altmap: Option<Altmap>,
    /// Frames at the start of the range that are never written
    #[arg(long, value_name = "FRAMES")]
    pub altmap_reserve: Option<u64>,
    /// Frames of the range that may hold the vmemmap
    #[arg(long, value_name = "FRAMES")]
    pub altmap_free: Option<u64>,
    /// Which leaves map the range
    #[arg(long, default_value = "largest")]
    pub leaf: Leaf,
    /// Boot a machine that leaves something out, to see the run fail
    #[arg(long = "break", value_name = "WHAT")]
    pub break_: Option<Break>,
    /// Count instructions (QEMU runs slower)
    #[arg(long)]
    pub count: bool,
    /// Enter the kernel at EL2
    #[arg(long)]
    pub virtualization: bool,
}

impl Job {
    /// A job from flags as a user types them.
    ///
    /// # Errors
    /// clap's, in one line.
    pub fn from_flags(flags: &str) -> Result<Self, Stop> {
        let words = ["job"].into_iter().chain(flags.split_whitespace());
        let matches = Self::augment_args(Command::new("job")).try_get_matches_from(words);
        let job = matches.and_then(|matches| Self::from_arg_matches(&matches));
        job.map_err(|error| Stop::refused(crate::one_line(&error)))
    }

    /// First address of device memory.
    #[must_use]
    pub fn device_base(&self) -> u64 {
        let end_of_ram = RAM_BASE.saturating_add(self.memory);
        self.device_base.unwrap_or_else(|| end_of_ram.checked_next_multiple_of(GIB).unwrap_or(!(GIB - 1)).max(4 * GIB))
    }

    /// Bytes that QEMU must back: RAM, the hole behind it, and device memory.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        let end = self.device_base().saturating_add(self.device_size).saturating_sub(RAM_BASE);
        let bytes = end.max(self.memory);
        bytes.checked_next_multiple_of(SUBSECTION_BYTES).unwrap_or(bytes)
    }

    /// Refuses what needs no machine to be seen; the kernel refuses the rest.
    ///
    /// # Errors
    /// The value, the rule, and what would do.
    pub fn check(&self) -> Result<(), Stop> {
        let (base, bytes) = (self.device_base(), self.device_size);
        if !va_sizes(self.granule).contains(&self.va_bits) {
            return Err(Stop::refused(self.no_such_va_size()));
        }
        if bytes == 0 || bytes % SUBSECTION_BYTES != 0 {
            let near = bytes.saturating_add(1).checked_next_multiple_of(SUBSECTION_BYTES).unwrap_or(SUBSECTION_BYTES);
            return Err(Stop::refused(format!(
                "--device-size {bytes:#x} is no multiple of 2 MiB above 0; the next is {near:#x}"
            )));
        }
        if base.checked_add(bytes - 1).is_none() {
            return Err(Stop::refused(format!(
                "the device range {base:#x} + {bytes:#x} wraps past 2^64; choose a lower --device-base"
            )));
        }
        Ok(())
    }

    fn no_such_va_size(&self) -> String {
        let sizes: Vec<_> = va_sizes(self.granule).iter().map(ToString::to_string).collect();
        let (granule, bits) = (self.granule.name(), self.va_bits);
        format!("--va-bits {bits} does not go with --granule {granule}; use {}", sizes.join(" or "))
    }

    /// The kernel's boot arguments, `key=value` separated by spaces.
    #[must_use]
    pub fn boot_arguments(&self) -> String {
        let mut line = format!(
            "granule={} va_bits={} memory={:#x} device={:#x},{:#x} memmap={} leaf={}",
            self.granule.name(),
            self.va_bits,
            self.memory,
            self.device_base(),
            self.device_size,
            name(self.memmap),
            name(self.leaf),
        );
        let optional = [
            ("altmap", self.altmap.map(name)),
            ("altmap_reserve", self.altmap_reserve.map(|frames| frames.to_string())),
            ("altmap_free", self.altmap_free.map(|frames| frames.to_string())),
            ("break", self.break_.map(name)),
            ("count", self.count.then(|| "1".to_owned())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                let _ = write!(line, " {key}={value}");
            }
        }
        line
    }

    /// The range in words, for messages.
    pub(crate) fn range(&self) -> String {
        format!("device memory {:#x} + {}", self.device_base(), human(self.device_size))
    }
}

/// A flag's value as it is written on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|known| known.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(flags: &str) -> Job {
        Job::from_flags(flags).unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_first_screen() {
        assert_eq!(
            job("").boot_arguments(),
            "granule=64k va_bits=48 memory=0x10000000 device=0x100000000,0x100000000 memmap=altmap leaf=largest"
        );
    }

    #[test]
    fn device_memory_moves_up_behind_large_ram() {
        assert_eq!(job("--memory 3G").device_base(), 4 * GIB);
        assert_eq!(job("--memory 8G").device_base(), 9 * GIB);
        assert_eq!(job("--memory 0x200100000").device_base(), 10 * GIB);
    }

    #[test]
    fn ram_hole_and_device_are_backed() {
        assert_eq!(job("").backed_bytes(), 7 * GIB);
        assert_eq!(job("--device-base 0x40000000 --device-size 2M").backed_bytes(), 256 << 20);
    }

    #[test]
    fn optional_flags_reach_the_kernel() {
        let line = job("--altmap nvdimm --altmap-reserve 2 --altmap-free 9 --count --break tlbi --memmap ram")
            .boot_arguments();
        assert!(
            line.ends_with("memmap=ram leaf=largest altmap=nvdimm altmap_reserve=2 altmap_free=9 break=tlbi count=1"),
            "{line}"
        );
    }

    #[test]
    fn a_va_size_that_the_granule_lacks_is_refused_with_those_it_has() {
        let stop = job("--granule 16k --va-bits 39").check().unwrap_err();
        assert_eq!(stop.why, "--va-bits 39 does not go with --granule 16k; use 36 or 47 or 48");
        for line in ["--granule 4k --va-bits 39", "--granule 16k --va-bits 36", "--granule 64k --va-bits 42"] {
            assert_eq!(job(line).check(), Ok(()), "{line}");
        }
    }

    #[test]
    fn a_device_size_of_zero_odd_or_wrapping_is_refused() {
        for (line, says) in [
            ("--device-size 0", "the next is 0x200000"),
            ("--device-size 3M", "the next is 0x400000"),
            ("--device-base 0xffffffffffe00000 --device-size 4M", "wraps"),
        ] {
            let stop = job(line).check().unwrap_err();
            assert!(stop.why.contains(says), "{line}: {}", stop.why);
        }
    }
}

//! What to boot and hot-add: the flags, their defaults, and the boot arguments that the kernel reads.

use std::fmt::Write as _;

use crate::device::{self, Device};
use crate::size;
use crate::status::Stop;
use clap::{Args, Command, FromArgMatches as _};
use vmemmap::granule::{GranuleSize, SUBSECTION_BYTES};

const GIB: u64 = 1 << 30;
/// Where RAM begins on QEMU's `virt`.
pub const RAM_BASE: u64 = GIB;

/// Reads `4k`, `16k` or `64k`.
pub fn granule(name: &str) -> Result<GranuleSize, String> {
    let found = GranuleSize::ALL.into_iter().find(|granule| granule.name() == name);
    found.ok_or_else(|| "the granules are 4k, 16k and 64k".to_owned())
}

/// The machine and the job on it.
#[derive(Args, Clone, Debug)]
pub struct Job {
    /// Translation granule of the kernel: 4k, 16k or 64k
    #[arg(long, default_value = "64k", value_parser = granule)]
    pub granule: GranuleSize,
    /// Bits of a virtual address: 39 or 48 with 4k, 36, 47 or 48 with 16k, 42 or 48 with 64k; 52 with --cpu max
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
    /// A range of device memory, in place of --device-base and --device-size; again for each of up to 8 ranges, which
    /// are added in this order. MEMMAP is altmap (tight), nvdimm or ram [default: what --memmap and --altmap say]
    #[arg(long = "device", value_name = "BASE,SIZE[,MEMMAP]", value_parser = device::device)]
    #[arg(conflicts_with_all = ["device_base", "device_size"])]
    pub devices: Vec<Device>,
    /// The order in which the devices are removed: their numbers, the first is 0 [default: last in, first out]
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = device::number)]
    pub remove_order: Vec<usize>,
    /// Where the vmemmap's frames come from: the range itself, or RAM
    #[arg(long, default_value = "altmap", value_parser = ["altmap", "ram"])]
    pub memmap: String,
    /// How the altmap is cut: as much as the vmemmap needs, or as Linux's nvdimm driver does [default: tight]
    #[arg(long, value_parser = ["tight", "nvdimm"])]
    pub altmap: Option<String>,
    /// Frames at the start of the range that are never written
    #[arg(long, value_name = "FRAMES")]
    pub altmap_reserve: Option<u64>,
    /// Frames of the range that may hold the vmemmap
    #[arg(long, value_name = "FRAMES")]
    pub altmap_free: Option<u64>,
    /// Which leaves map the range: the largest legal ones, those of Linux, or base pages only
    #[arg(long, default_value = "largest", value_parser = ["largest", "linux", "pages"])]
    pub leaf: String,
    /// Boot a machine that leaves TLB maintenance out, to see the run fail
    #[arg(long = "break", value_name = "WHAT", value_parser = ["tlbi"])]
    pub broken: Option<String>,
    /// Count instructions (QEMU runs slower)
    #[arg(long)]
    pub count: bool,
    /// Judge every write, barrier, TLBI and free by the protocol; stop at the first that breaks it
    #[arg(long)]
    pub checked: bool,
    /// Enter the kernel at EL2
    #[arg(long)]
    pub virtualization: bool,
}

impl Job {
    /// A job from flags as a user types them; the last of a kind holds.
    ///
    /// # Errors
    /// clap's, in one line.
    pub fn from_flags(flags: &str) -> Result<Self, Stop> {
        let words = ["job"].into_iter().chain(flags.split_whitespace());
        let matches = Self::augment_args(Command::new("job").args_override_self(true)).try_get_matches_from(words);
        let job = matches.and_then(|matches| Self::from_arg_matches(&matches));
        job.map_err(|error| Stop::refused(crate::one_line(&error)))
    }

    /// First address of device memory.
    #[must_use]
    pub fn device_base(&self) -> u64 {
        let end_of_ram = RAM_BASE.saturating_add(self.memory);
        self.device_base.unwrap_or_else(|| end_of_ram.checked_next_multiple_of(GIB).unwrap_or(!(GIB - 1)).max(4 * GIB))
    }

    /// The ranges of device memory, in the order in which they are added.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        if self.devices.is_empty() {
            vec![Device { base: self.device_base(), bytes: self.device_size, memmap: None }]
        } else {
            self.devices.clone()
        }
    }

    /// Bytes that QEMU must back: RAM, the hole behind it, and device memory.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        let end = self.highest().end().saturating_sub(RAM_BASE);
        let bytes = end.max(self.memory);
        bytes.checked_next_multiple_of(SUBSECTION_BYTES).unwrap_or(bytes)
    }

    /// Refuses what QEMU could not even be started for; the kernel refuses the rest.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        let devices = self.devices();
        device::check(&devices, self.memory)?;
        if !self.remove_order.is_empty() {
            device::check_order(&self.remove_order, devices.len())?;
        }
        let cut = self.altmap.is_some() || self.altmap_reserve.is_some() || self.altmap_free.is_some();
        let all_in_ram = devices.iter().all(|device| device.memmap.as_ref().unwrap_or(&self.memmap) == "ram");
        if all_in_ram && cut {
            return Err(Stop::refused("no device has an altmap: leave the --altmap flags away"));
        }
        if self.count && self.checked {
            return Err(Stop::refused("--count counts the machine as it is: leave --checked away"));
        }
        Ok(())
    }

    /// The kernel's boot arguments, `key=value` separated by spaces.
    #[must_use]
    pub fn boot_arguments(&self) -> String {
        let mut line = format!("granule={} va_bits={} memory={:#x}", self.granule.name(), self.va_bits, self.memory);
        for device in self.devices() {
            let _ = write!(line, " {}", device.boot_argument());
        }
        let _ = write!(line, " memmap={} leaf={}", self.memmap, self.leaf);
        let order: Vec<_> = self.remove_order.iter().map(usize::to_string).collect();
        let optional = [
            ("altmap", self.altmap.clone()),
            ("altmap_reserve", self.altmap_reserve.map(|frames| frames.to_string())),
            ("altmap_free", self.altmap_free.map(|frames| frames.to_string())),
            ("remove_order", (!order.is_empty()).then(|| order.join(","))),
            ("break", self.broken.clone()),
            ("count", self.count.then(|| "1".to_owned())),
            ("checked", self.checked.then(|| "1".to_owned())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                let _ = write!(line, " {key}={value}");
            }
        }
        line
    }

    /// The device that ends at the highest address.
    pub(crate) fn highest(&self) -> Device {
        self.devices().into_iter().max_by_key(Device::end).expect("there is at least one")
    }

    /// What to do about a range that ends too high.
    pub(crate) const fn lower(&self) -> &'static str {
        if self.devices.is_empty() {
            "choose a smaller --device-base or --device-size"
        } else {
            "choose a smaller base or size in --device"
        }
    }
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
    fn several_devices_reach_the_kernel_in_their_order() {
        let job = job("--device 6G,1G,nvdimm --device 4G,64M --remove-order 1,0 --memmap ram");
        let devices = "memory=0x10000000 device=0x180000000,0x40000000,nvdimm device=0x100000000,0x4000000 memmap=ram";
        let line = job.boot_arguments();
        assert!(line.contains(devices) && line.ends_with(" remove_order=1,0"), "{line}");
        assert_eq!(job.check(), Ok(()));
    }

    #[test]
    fn ram_is_backed_up_to_the_highest_end_of_a_device() {
        for flags in ["--device 6G,1G --device 4G,64M", "--device 4G,64M --device 6G,1G"] {
            assert_eq!(job(flags).backed_bytes(), 6 * GIB, "{flags}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused_before_qemu_starts() {
        for (flags, says) in [
            ("--device-base 0xffffffffffe00000 --device-size 4M", "wraps"),
            ("--device 4G,1G --device 4G,2M", "overlaps"),
            ("--device 4G,1G --device 5G,1G --remove-order 0", "order the numbers 0,1"),
            ("--remove-order 1", "order the numbers 0"),
            ("--device 4G,1G,ram --altmap nvdimm", "no device has an altmap: leave the --altmap flags away"),
            ("--device 4G,1G,ram --device 5G,1G --memmap ram --altmap-reserve 1", "leave the --altmap flags away"),
        ] {
            let why = job(flags).check().unwrap_err().why;
            assert!(why.contains(says), "{flags}: {why}");
        }
        assert_eq!(job("--device 4G,1G,ram --device 5G,1G,altmap --memmap ram --altmap-reserve 1").check(), Ok(()));
        for flags in ["--device 4G,1G --device-size 1G", "--device-base 4G --device 4G,1G"] {
            let why = Job::from_flags(flags).unwrap_err().why;
            assert!(why.contains("cannot be used with"), "{why}");
        }
    }
}

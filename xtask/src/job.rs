//! What to boot and hot-add: the flags, their defaults, and the boot arguments that the kernel reads.

use std::fmt::Write as _;

use crate::device::{self, Asked, Device, Kind};
use crate::size;
use crate::status::Stop;
use clap::{Args, Command, FromArgMatches as _};
use vmemmap::granule::{GranuleSize, SUBSECTION_BYTES};

const GIB: u64 = 1 << 30;
/// Device memory of a run that says nothing.
const DEVICE_BYTES: u64 = 4 * GIB;
/// What a device of a live machine can grow to if nothing is said.
const LIVE_BYTES: u64 = 64 * GIB;
/// Where RAM begins on QEMU's `virt`.
pub const RAM_BASE: u64 = GIB;

/// Reads `4k`, `16k` or `64k`.
pub fn granule(name: &str) -> Result<GranuleSize, String> {
    let found = GranuleSize::ALL.into_iter().find(|granule| granule.name() == name);
    found.ok_or_else(|| "the granules are 4k, 16k and 64k".to_owned())
}

/// The machine and the job on it.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
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
    /// CPUs, 1 to 8
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub smp: u8,
    /// RAM for the kernel
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::bytes)]
    pub memory: u64,
    /// Where device memory begins [default: the larger of 4 GiB and the first GiB boundary above RAM]
    #[arg(long, value_name = "ADDRESS", value_parser = size::bytes)]
    pub device_base: Option<u64>,
    /// Size of device memory that says none; sparse on the host [default: 4G; with `live`, 0 for what can be plugged]
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    pub device_size: Option<u64>,
    /// Device memory: KIND is carve-out, virtio-mem, pc-dimm, ivshmem or nvdimm, KEY is size, at (its address), max (what
    /// it can grow to), block (a virtio-mem device's), memmap (altmap, nvdimm or ram; what --memmap and --altmap say if
    /// nothing) or file (of the host, holds the memory, and is kept). BASE,SIZE or BASE,SIZE,MEMMAP is a carve-out too.
    /// Again for each of up to 8, which are added in this order
    #[arg(long = "device", value_name = "KIND[,KEY=VALUE..]", value_parser = device::device)]
    #[arg(conflicts_with = "device_base")]
    pub devices: Vec<Asked>,
    /// Cut what virtio-mem brings at multiples of this address [default: not at all; with `live`, at sections]
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    pub memory_block: Option<u64>,
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
    /// Device memory comes and goes while the kernel runs.
    #[arg(skip)]
    pub live: bool,
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

    /// First address of the carve-outs that name none.
    #[must_use]
    pub fn device_base(&self) -> u64 {
        let end_of_ram = RAM_BASE.saturating_add(self.memory);
        self.device_base.unwrap_or_else(|| next_gib(end_of_ram).max(4 * GIB))
    }

    /// The devices, in the order in which they are added.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        let usual = [Asked::new(if self.live { Kind::VirtioMem } else { Kind::CarveOut })];
        let asked = if self.devices.is_empty() { &usual[..] } else { &self.devices };
        let mut devices: Vec<Device> = Vec::new();
        for asked in asked.iter().cloned() {
            let (bytes, most) = self.bytes_of(asked.kind);
            let mut device = asked.or(bytes, most);
            if device.kind == Kind::CarveOut && device.base.is_none() {
                let taken = end_of_carve_outs(&devices).map_or(0, next_gib);
                device.base = Some(self.device_base().max(taken));
            }
            devices.push(device);
        }
        devices
    }

    /// How much a device has at the start, and can have, if nothing is said.
    fn bytes_of(&self, kind: Kind) -> (u64, u64) {
        let grows = self.live && kind.is_pluggable();
        (self.device_size.unwrap_or(if grows { 0 } else { DEVICE_BYTES }), if grows { LIVE_BYTES } else { 0 })
    }

    /// Bytes of RAM that QEMU must back: the kernel's, carve-outs, and the hole between them.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        let end = end_of_carve_outs(&self.devices()).map_or(0, |end| end.saturating_sub(RAM_BASE));
        let bytes = end.max(self.memory);
        bytes.checked_next_multiple_of(SUBSECTION_BYTES).unwrap_or(bytes)
    }

    /// Where QEMU begins to keep memory devices: the first GiB boundary behind its RAM.
    #[must_use]
    pub fn window(&self) -> u64 {
        next_gib(RAM_BASE.saturating_add(self.backed_bytes()))
    }

    /// Refuses what QEMU could not even be started for; the kernel refuses the rest.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        let devices = self.devices();
        self.check_flags()?;
        device::check(&devices, self.memory, self.window(), self.live)?;
        // What is cut is in several ranges: how many, the kernel knows.
        if !self.remove_order.is_empty() && self.memory_block.is_none() {
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

    /// Refuses flags that say the same thing twice, or nothing to this run.
    fn check_flags(&self) -> Result<(), Stop> {
        let sized = !self.devices.is_empty() && self.devices.iter().all(|asked| asked.bytes.is_some());
        if self.device_size.is_some() && sized {
            return Err(Stop::refused("--device-size cannot be used with --device that has its size: leave one away"));
        }
        if let Some(cut) = self.memory_block.filter(|&cut| cut == 0 || !cut.is_multiple_of(SUBSECTION_BYTES)) {
            return Err(Stop::refused(format!(
                "--memory-block {cut:#x} is no multiple of 2 MiB: choose for instance 128M"
            )));
        }
        if self.memory_block.is_some() && !self.has(Kind::VirtioMem) {
            return Err(Stop::refused("only virtio-mem is cut: leave --memory-block away"));
        }
        if self.live && self.devices.is_empty() && self.device_base.is_some() {
            return Err(Stop::refused("--device-base is a carve-out's: give --device carve-out,at=ADDRESS"));
        }
        if self.live && (self.broken.is_some() || !self.remove_order.is_empty()) {
            return Err(Stop::refused(
                "a live machine removes what `unplug` says: leave --break and --remove-order away",
            ));
        }
        Ok(())
    }

    /// Whether a device of this kind is there.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.devices().iter().any(|device| device.kind == kind)
    }

    /// At which addresses what virtio-mem brings is cut.
    fn memory_block(&self) -> Option<u64> {
        let section = (self.live && self.has(Kind::VirtioMem)).then(|| 1 << self.granule.section_shift());
        self.memory_block.or(section)
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
            ("memory_block", self.memory_block().map(|bytes| format!("{bytes:#x}"))),
            ("remove_order", (!order.is_empty()).then(|| order.join(","))),
            ("break", self.broken.clone()),
            ("count", self.count.then(|| "1".to_owned())),
            ("checked", self.checked.then(|| "1".to_owned())),
            ("live", self.live.then(|| "1".to_owned())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                let _ = write!(line, " {key}={value}");
            }
        }
        line
    }

    /// The device that ends at the highest address; what QEMU places lies above what the user does, unless that is high.
    pub(crate) fn highest(&self) -> Device {
        let window = self.window();
        let end = |device: &Device| device.end().unwrap_or_else(|| window.saturating_add(device.most));
        self.devices().into_iter().max_by_key(end).expect("there is at least one")
    }

    /// What to do about a range that ends too high.
    pub(crate) fn lower(&self) -> &'static str {
        match (self.devices.is_empty(), self.highest().kind) {
            (true, Kind::CarveOut) => "choose a smaller --device-base or --device-size",
            (_, Kind::CarveOut) => "choose a smaller base or size in --device",
            _ => "choose a smaller at=, size= or max= in --device",
        }
    }
}

/// Where the carve-outs among `devices` end.
fn end_of_carve_outs(devices: &[Device]) -> Option<u64> {
    devices.iter().filter(|device| device.kind == Kind::CarveOut).filter_map(Device::end).max()
}

/// The first boundary of a GiB at or above `address`, or the last of all.
fn next_gib(address: u64) -> u64 {
    address.checked_next_multiple_of(GIB).unwrap_or(!(GIB - 1))
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
            ("--device 4G,1G --device-size 1G", "--device-size cannot be used with --device that has its size"),
            ("--memory-block 128M", "only virtio-mem is cut: leave --memory-block away"),
            ("--memory-block 3M --device virtio-mem", "--memory-block 0x300000 is no multiple of 2 MiB"),
            ("--memory-block 0 --device virtio-mem", "--memory-block 0x0 is no multiple"),
            ("--device virtio-mem,at=2G --device 4G,1G", "choose an at= at or above 0x140000000"),
            ("--device 4G,1G,ram --altmap nvdimm", "no device has an altmap: leave the --altmap flags away"),
            ("--device 4G,1G,ram --device 5G,1G --memmap ram --altmap-reserve 1", "leave the --altmap flags away"),
        ] {
            let why = job(flags).check().unwrap_err().why;
            assert!(why.contains(says), "{flags}: {why}");
        }
        assert_eq!(job("--device 4G,1G,ram --device 5G,1G,altmap --memmap ram --altmap-reserve 1").check(), Ok(()));
        let why = Job::from_flags("--device-base 4G --device 4G,1G").unwrap_err().why;
        assert!(why.contains("cannot be used with"), "{why}");
    }

    #[test]
    fn a_kind_has_the_size_of_device_size_unless_it_says_one() {
        let bytes = |flags: &str| job(flags).devices().iter().map(|device| device.bytes).collect::<Vec<_>>();
        let flags = "--device-size 1G --device virtio-mem --device nvdimm,size=2G";
        assert_eq!((job(flags).check(), bytes(flags)), (Ok(()), vec![GIB, 2 * GIB]));
        assert_eq!(bytes("--device virtio-mem"), [4 * GIB]);
    }

    #[test]
    fn carve_outs_that_say_no_base_follow_each_other() {
        let bases = |flags: &str| job(flags).devices().iter().map(|device| device.base).collect::<Vec<_>>();
        let flags = "--device carve-out,size=1M --device virtio-mem --device carve-out --device carve-out";
        assert_eq!(bases(flags), [Some(4 * GIB), None, Some(5 * GIB), Some(9 * GIB)]);
        assert_eq!(job(flags).window(), 13 * GIB);
        assert_eq!(job("--device virtio-mem").window(), 2 * GIB);
    }

    #[test]
    fn memory_blocks_reach_the_kernel() {
        let line = job("--device virtio-mem --memory-block 128M --count").boot_arguments();
        assert!(
            line.ends_with(" device=virtio-mem memmap=altmap leaf=largest memory_block=0x8000000 count=1"),
            "{line}"
        );
    }

    #[test]
    fn a_live_machine_has_an_empty_virtio_mem_device_cut_at_sections() {
        let of = |flags: &str| Job { live: true, ..job(flags) };
        let device = of("").devices().remove(0);
        assert_eq!((device.kind, device.bytes, device.most), (Kind::VirtioMem, 0, 64 * GIB));
        for (flags, ends) in [
            ("", "memory_block=0x20000000 live=1"),
            ("--granule 4k", "memory_block=0x8000000 live=1"),
            ("--granule 16k --memory-block 1G", "memory_block=0x40000000 live=1"),
            ("--device pc-dimm", "device=pc-dimm memmap=altmap leaf=largest live=1"),
        ] {
            let line = of(flags).boot_arguments();
            assert!(line.ends_with(ends), "{flags}: {line}");
            assert_eq!(of(flags).check(), Ok(()));
        }
        let sizes = |flags: &str| of(flags).devices().iter().map(|device| device.bytes).collect::<Vec<_>>();
        assert_eq!(sizes("--device virtio-mem --device pc-dimm --device nvdimm"), [0, 0, 4 * GIB]);
        assert_eq!(sizes("--device-size 1G"), [GIB]);
        for (flags, says) in [
            ("--device-base 8G", "give --device carve-out,at=ADDRESS"),
            ("--break tlbi", "leave --break and --remove-order away"),
            ("--device 4G,1G --remove-order 0", "leave --break and --remove-order away"),
        ] {
            let why = of(flags).check().unwrap_err().why;
            assert!(why.contains(says), "{flags}: {why}");
        }
    }
}

//! Ranges of device memory as `--device` names them.

use crate::job::RAM_BASE;
use crate::size::{self, human};
use crate::status::Stop;

/// How many the kernel takes.
pub const MOST_DEVICES: usize = 8;

/// A range of device memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its first byte.
    pub base: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Where its struct pages lie: `altmap` (tight), `nvdimm` or `ram`; what `--memmap` and `--altmap` say if nothing.
    pub memmap: Option<String>,
}

impl Device {
    /// One past its last byte; the last address of all if that does not fit.
    pub(crate) fn end(&self) -> u64 {
        self.base.saturating_add(self.bytes)
    }

    /// As the kernel's boot arguments have it.
    pub(crate) fn boot_argument(&self) -> String {
        let memmap = self.memmap.as_ref().map(|memmap| format!(",{memmap}")).unwrap_or_default();
        format!("device={:#x},{:#x}{memmap}", self.base, self.bytes)
    }

    /// In words, for messages.
    pub(crate) fn words(&self) -> String {
        format!("device memory {:#x} + {}", self.base, human(self.bytes))
    }

    fn overlaps(&self, base: u64, end: u64) -> bool {
        self.base < end && base < self.end()
    }
}

/// Reads `BASE,SIZE` or `BASE,SIZE,MEMMAP`.
pub fn device(text: &str) -> Result<Device, String> {
    let usage = "write BASE,SIZE or BASE,SIZE,MEMMAP, like 4G,1G or 0x140000000,256M,ram";
    let parts: Vec<_> = text.split(',').collect();
    let (base, bytes, memmap) = match parts[..] {
        [base, bytes] => (base, bytes, None),
        [base, bytes, memmap] => (base, bytes, Some(memmap)),
        _ => return Err(usage.to_owned()),
    };
    if memmap.is_some_and(|memmap| !["altmap", "nvdimm", "ram"].contains(&memmap)) {
        return Err(format!("the third part is altmap, nvdimm or ram; {usage}"));
    }
    let [base, bytes] = [base, bytes].map(size::bytes);
    let device = Device { base: base?, bytes: bytes?, memmap: memmap.map(str::to_owned) };
    if device.bytes == 0 { Err("it has no bytes; give a size above 0".to_owned()) } else { Ok(device) }
}

/// Reads the number of a device in an order of removal.
pub fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "write the numbers of the devices, like 2,0,1".to_owned())
}

/// Refuses what the kernel could only refuse too, before QEMU is started; `memory` bytes are RAM.
pub fn check(devices: &[Device], memory: u64) -> Result<(), Stop> {
    if devices.len() > MOST_DEVICES {
        let more = devices.len() - MOST_DEVICES;
        return Err(Stop::refused(format!("at most {MOST_DEVICES} devices: leave {more} --device away")));
    }
    for (place, device) in devices.iter().enumerate() {
        let Device { base, bytes, .. } = *device;
        if base.checked_add(bytes.saturating_sub(1)).is_none() {
            return Err(Stop::refused(format!("the device range {base:#x} + {bytes:#x} wraps; choose a lower base")));
        }
        let end_of_ram = RAM_BASE.saturating_add(memory);
        if bytes > 0 && device.overlaps(RAM_BASE, end_of_ram) {
            let (words, ram) = (device.words(), format!("{RAM_BASE:#x}..{end_of_ram:#x}"));
            return Err(Stop::refused(format!(
                "{words} overlaps RAM {ram}; choose a base at or above {end_of_ram:#x}"
            )));
        }
        if let Some(other) = devices[..place].iter().find(|other| other.overlaps(base, device.end())) {
            let (words, others, end) = (device.words(), other.words(), other.end());
            return Err(Stop::refused(format!("{words} overlaps {others}; choose a base at or above {end:#x}")));
        }
    }
    Ok(())
}

/// Refuses an order that does not name each of `devices` devices once.
pub fn check_order(order: &[usize], devices: usize) -> Result<(), Stop> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..devices) {
        return Ok(());
    }
    let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let (order, all) = (list(order), list(&(0..devices).collect::<Vec<_>>()));
    Err(Stop::refused(format!("--remove-order {order} does not name each device once: order the numbers {all}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn devices(all: &[&str]) -> Vec<Device> {
        all.iter().map(|text| device(text).unwrap()).collect()
    }

    fn refusal(all: &[&str]) -> String {
        check(&devices(all), 256 << 20).unwrap_err().why
    }

    #[test]
    fn a_device_is_a_base_a_size_and_where_its_memmap_goes() {
        let ram = Some("ram".to_owned());
        assert_eq!(device("4G,2M"), Ok(Device { base: 4 * GIB, bytes: 2 << 20, memmap: None }));
        assert_eq!(device("0x140000000,1G,ram"), Ok(Device { base: 5 * GIB, bytes: GIB, memmap: ram }));
        assert_eq!(devices(&["5G,1G,ram"])[0].boot_argument(), "device=0x140000000,0x40000000,ram");
        for (text, says) in [
            ("4G", "like 4G,1G"),
            ("", "like 4G,1G"),
            ("4G,1G,ram,ram", "like 4G,1G"),
            ("4G,lots", "write a size like"),
            ("here,1G", "write a size like"),
            ("4G,1G,disk", "altmap, nvdimm or ram"),
            ("4G,0", "give a size above 0"),
        ] {
            assert!(device(text).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn devices_that_overlap_each_other_or_ram_are_refused() {
        assert_eq!(check(&devices(&["5G,1G", "4G,1G", "6G,1G"]), 256 << 20), Ok(()));
        assert_eq!(check(&devices(&["0x50000000,1G", "0,1G"]), 256 << 20), Ok(()));
        let overlap = "device memory 0x110000000 + 1 GiB overlaps device memory 0x100000000 + 1 GiB; \
                       choose a base at or above 0x140000000";
        assert_eq!(refusal(&["4G,1G", "0x110000000,1G"]), overlap);
        assert!(refusal(&["0x110000000,1G", "4G,1G"]).ends_with("at or above 0x150000000"));
        assert!(refusal(&["4G,1G", "0x4fe00000,1G"]).contains("overlaps RAM 0x40000000..0x50000000"));
        assert!(refusal(&["0,0x40200000"]).contains("overlaps RAM"));
    }

    #[test]
    fn a_range_that_wraps_is_refused() {
        assert!(refusal(&["4G,1G", "0xffffffffffe00000,4M"]).contains("wraps"));
        assert_eq!(check(&devices(&["0xffffffffffe00000,2M"]), 256 << 20), Ok(()));
    }

    #[test]
    fn more_than_eight_devices_are_refused() {
        let all: Vec<_> = (4..14).map(|gib| format!("{gib}G,1G")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert_eq!(check(&devices(&all[..8]), 256 << 20), Ok(()));
        assert_eq!(refusal(&all), "at most 8 devices: leave 2 --device away");
    }

    #[test]
    fn a_number_that_is_none_is_told_what_to_write() {
        assert_eq!(number("2"), Ok(2));
        assert!(["", "x", "-1"].iter().all(|text| number(text).unwrap_err().contains("like 2,0,1")));
    }

    #[test]
    fn an_order_names_each_device_once() {
        for right in [[2, 0, 1], [0, 1, 2]] {
            assert_eq!(check_order(&right, 3), Ok(()));
        }
        for wrong in [&[][..], &[0, 1], &[0, 1, 1], &[0, 1, 3], &[0, 1, 2, 2]] {
            let why = check_order(wrong, 3).unwrap_err().why;
            assert!(why.ends_with("order the numbers 0,1,2"), "{why}");
        }
    }
}

//! What can't be, told before QEMU is started. What only the kernel knows, the kernel refuses.

use vmemmap::granule::SUBSECTION_BYTES;

use super::{Device, Kind, MOST_DEVICES, file};
use crate::job::RAM_BASE;
use crate::size::human;
use crate::status::Stop;

/// Refuses devices that can't be. `memory` bytes are RAM; QEMU keeps memory devices at and above `window`; `live`
/// devices may start with nothing.
pub fn check(devices: &[Device], memory: u64, window: u64, live: bool) -> Result<(), Stop> {
    if devices.len() > MOST_DEVICES {
        let more = devices.len() - MOST_DEVICES;
        return Err(Stop::refused(format!("at most {MOST_DEVICES} devices: leave {more} --device away")));
    }
    for (place, device) in devices.iter().enumerate() {
        let others = &devices[..place];
        sizes(device, live).map_err(Stop::refused)?;
        range(device, memory, window).map_err(Stop::refused)?;
        beside(device, others).map_err(Stop::refused)?;
        file::check(device)?;
    }
    Ok(())
}

/// Sizes that the device can have. The kernel judges those of a carve-out.
fn sizes(device: &Device, live: bool) -> Result<(), String> {
    let Device { kind, bytes, most, block, .. } = *device;
    if kind == Kind::CarveOut {
        return Ok(());
    }
    if !block.is_power_of_two() || block < SUBSECTION_BYTES {
        return Err(format!("block={block:#x} is no power of two from 2M on: leave it away, or choose 2M, 4M, .."));
    }
    for (key, value) in [("size", bytes), ("max", most)] {
        multiple(key, value, if kind == Kind::VirtioMem { block } else { SUBSECTION_BYTES })?;
    }
    if bytes == 0 && !(live && kind.is_pluggable()) {
        return Err(format!("{kind} has no bytes; give a size above 0"));
    }
    if most < bytes || most == 0 {
        return Err(format!(
            "max={} is less than {kind} needs: give at least {}",
            human(most),
            human(bytes.max(block))
        ));
    }
    if device.file.is_some() && file::held(device) == 0 {
        return Err(format!("file= holds what {kind} has at the start: give it a size="));
    }
    if kind == Kind::Ivshmem && !bytes.is_power_of_two() {
        let (size, nearest) = (human(bytes), bytes.checked_next_power_of_two().unwrap_or(1 << 63));
        return Err(format!("ivshmem of {size}: a PCI device's memory is a power of two; choose size={nearest:#x}"));
    }
    Ok(())
}

fn multiple(key: &str, value: u64, unit: u64) -> Result<(), String> {
    if value.is_multiple_of(unit) {
        return Ok(());
    }
    let nearest = value.checked_next_multiple_of(unit).unwrap_or(value - value % unit);
    Err(format!("{key}={value:#x} is no multiple of {}: choose {key}={nearest:#x}", human(unit)))
}

/// Where the device lies: inside the address space, and where QEMU has place for it.
fn range(device: &Device, memory: u64, window: u64) -> Result<(), String> {
    let Device { kind, base: Some(base), most, .. } = *device else { return Ok(()) };
    if base.checked_add(most.saturating_sub(1)).is_none() {
        return Err(format!("the device range {base:#x} + {most:#x} wraps; choose a lower base"));
    }
    let end_of_ram = RAM_BASE.saturating_add(memory);
    if kind == Kind::CarveOut {
        let overlaps = most > 0 && device.overlaps(RAM_BASE, end_of_ram);
        let (words, ram) = (device.words(), format!("{RAM_BASE:#x}..{end_of_ram:#x}"));
        let why = || format!("{words} overlaps RAM {ram}; choose a base at or above {end_of_ram:#x}");
        return if overlaps { Err(why()) } else { Ok(()) };
    }
    multiple("at", base, if kind == Kind::VirtioMem { device.block } else { SUBSECTION_BYTES })?;
    if base < window {
        let words = device.words();
        return Err(format!("{words} lies below the place for memory devices; choose an at= at or above {window:#x}"));
    }
    Ok(())
}

/// What a device can't share with `others`.
fn beside(device: &Device, others: &[Device]) -> Result<(), String> {
    if device.kind == Kind::PcDimm && others.iter().any(|other| other.kind == Kind::PcDimm) {
        return Err("one pc-dimm stands for all DIMM slots: leave the others away".to_owned());
    }
    let same = |other: &&Device| device.file.iter().zip(&other.file).any(|(ours, theirs)| file::is_same(ours, theirs));
    if let Some(other) = others.iter().find(same) {
        return Err(format!("{} has the file of {}; choose another file=", device.words(), other.words()));
    }
    falling(device, others)?;
    let ends = device.base.zip(device.end());
    let hit = ends.and_then(|(base, end)| others.iter().find(|other| other.overlaps(base, end)));
    let Some(other) = hit else { return Ok(()) };
    let (words, others, end) = (device.words(), other.words(), other.end().unwrap_or(u64::MAX));
    let key = if device.kind == Kind::CarveOut { "a base" } else { "an at=" };
    Err(format!("{words} overlaps {others}; choose {key} at or above {end:#x}"))
}

/// Refuses nvdimms in another order than that of their addresses, which is the only one that the kernel sees.
fn falling(device: &Device, others: &[Device]) -> Result<(), String> {
    let last = others.iter().rfind(|other| other.kind == Kind::Nvdimm);
    let Some(last) = last.filter(|_| device.kind == Kind::Nvdimm) else { return Ok(()) };
    match (last.base, device.base) {
        (None, None) => Ok(()),
        (Some(before), Some(base)) if before < base => Ok(()),
        _ => Err("nvdimms are told apart by their addresses: give none of them at=, or all of them, rising".to_owned()),
    }
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
    use crate::device::device;

    const GIB: u64 = 1 << 30;

    fn devices(all: &[&str]) -> Vec<Device> {
        all.iter().map(|text| device(text).unwrap().or(4 * GIB, 0)).collect()
    }

    fn checked(all: &[&str]) -> Result<(), Stop> {
        check(&devices(all), 256 << 20, 2 * GIB, false)
    }

    fn refusal(all: &[&str]) -> String {
        checked(all).unwrap_err().why
    }

    #[test]
    fn devices_that_overlap_each_other_or_ram_are_refused() {
        assert_eq!(checked(&["5G,1G", "4G,1G", "6G,1G"]), Ok(()));
        assert_eq!(checked(&["0x50000000,1G", "0,1G"]), Ok(()));
        let overlap = "device memory 0x110000000 + 1 GiB overlaps device memory 0x100000000 + 1 GiB; \
                       choose a base at or above 0x140000000";
        assert_eq!(refusal(&["4G,1G", "0x110000000,1G"]), overlap);
        assert!(refusal(&["0x110000000,1G", "4G,1G"]).ends_with("at or above 0x150000000"));
        assert!(refusal(&["4G,1G", "0x4fe00000,1G"]).contains("overlaps RAM 0x40000000..0x50000000"));
        assert!(refusal(&["0,0x40200000"]).contains("overlaps RAM"));
        let overlap =
            "nvdimm 0x100000000 + 1 GiB overlaps virtio-mem 0x80000000 + 4 GiB; choose an at= at or above 0x180000000";
        assert_eq!(refusal(&["virtio-mem,at=2G", "nvdimm,at=4G,size=1G"]), overlap);
    }

    #[test]
    fn a_range_that_wraps_is_refused() {
        assert!(refusal(&["4G,1G", "0xffffffffffe00000,4M"]).contains("wraps"));
        assert_eq!(checked(&["0xffffffffffe00000,2M"]), Ok(()));
        assert!(refusal(&["virtio-mem,at=0xffffffffffe00000"]).contains("wraps"));
    }

    #[test]
    fn a_memory_device_lies_where_qemu_has_place_for_it() {
        assert_eq!(checked(&["virtio-mem,at=2G", "ivshmem"]), Ok(()));
        assert!(refusal(&["virtio-mem,at=1G"]).ends_with("choose an at= at or above 0x80000000"));
        assert!(refusal(&["pc-dimm,at=0x80100000"]).ends_with("is no multiple of 2 MiB: choose at=0x80200000"));
        assert!(refusal(&["virtio-mem,at=0x80200000,block=4M"]).ends_with("of 4 MiB: choose at=0x80400000"));
    }

    #[test]
    fn sizes_that_no_device_has_are_refused() {
        for (text, says) in [
            ("virtio-mem,size=3M", "size=0x300000 is no multiple of 2 MiB: choose size=0x400000"),
            ("virtio-mem,size=6M,block=4M", "is no multiple of 4 MiB: choose size=0x800000"),
            ("virtio-mem,size=2M,max=5M", "max=0x500000 is no multiple of 2 MiB: choose max=0x600000"),
            ("virtio-mem,size=2M,max=0xffffffffffffffff", "choose max=0xffffffffffe00000"),
            ("virtio-mem,size=4M,max=2M", "max=2 MiB is less than virtio-mem needs: give at least 4 MiB"),
            ("virtio-mem,block=3M", "block=0x300000 is no power of two from 2M on"),
            ("virtio-mem,block=1M", "is no power of two from 2M on"),
            ("virtio-mem,size=0", "virtio-mem has no bytes; give a size above 0"),
            ("nvdimm,size=0", "give a size above 0"),
            ("nvdimm,size=3M", "choose size=0x400000"),
            ("ivshmem,size=3G", "ivshmem of 3 GiB: a PCI device's memory is a power of two; choose size=0x100000000"),
        ] {
            let why = refusal(&[text]);
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn only_what_can_grow_may_start_with_nothing_and_only_live() {
        let live = |text: &str| check(&[device(text).unwrap().or(0, 64 * GIB)], 256 << 20, 2 * GIB, true);
        assert_eq!([live("virtio-mem"), live("pc-dimm")], [Ok(()), Ok(())]);
        assert!(live("nvdimm,size=0").unwrap_err().why.contains("above 0"));
        assert!(live("pc-dimm,file=a").unwrap_err().why.contains("give it a size="));
        assert!(live("virtio-mem,max=0").unwrap_err().why.contains("give at least 2 MiB"));
    }

    #[test]
    fn nvdimms_come_in_the_order_of_their_addresses() {
        for right in [["nvdimm,at=4G,size=1G", "nvdimm,at=8G,size=1G"], ["nvdimm,size=1G", "nvdimm,size=2G"]] {
            assert_eq!(checked(&right), Ok(()));
        }
        for wrong in [
            ["nvdimm,at=8G,size=1G", "nvdimm,at=4G,size=1G"],
            ["nvdimm,at=8G,size=1G", "nvdimm,size=1G"],
            ["nvdimm,size=1G", "nvdimm,at=8G,size=1G"],
        ] {
            assert!(refusal(&wrong).contains("none of them at=, or all of them, rising"), "{wrong:?}");
        }
    }

    #[test]
    fn slots_are_named_once_and_no_two_devices_share_a_file() {
        assert!(refusal(&["pc-dimm", "virtio-mem", "pc-dimm"]).contains("one pc-dimm stands for all DIMM slots"));
        let shared = refusal(&["virtio-mem,file=/dev/shm/none", "ivshmem,file=/dev/shm/none"]);
        assert_eq!(shared, "ivshmem of 4 GiB has the file of virtio-mem of 4 GiB; choose another file=");
    }

    #[test]
    fn two_names_of_one_file_are_one_file() {
        let room = std::env::temp_dir().join(format!("vmemmap-device-shared-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&room);
        std::fs::create_dir_all(&room).unwrap();
        let [file, link] = ["a", "b"].map(|name| room.join(name));
        std::fs::File::create_new(&file).unwrap().set_len(2 << 20).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        let [one, other] = [&file, &link].map(|path| format!("virtio-mem,size=2M,file={}", path.display()));
        assert!(refusal(&[&one, &other]).contains("has the file of"));
    }

    #[test]
    fn more_than_eight_devices_are_refused() {
        let all: Vec<_> = (4..14).map(|gib| format!("{gib}G,1G")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert_eq!(checked(&all[..8]), Ok(()));
        assert_eq!(refusal(&all), "at most 8 devices: leave 2 --device away");
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

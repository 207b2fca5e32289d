//! QEMU's words for device memory: the room that the machine keeps for it, and each device.

use crate::device::{Device, Kind, names};
use crate::job::Job;

const GIB: u64 = 1 << 30;
/// DIMM slots of a machine with memory devices. QEMU keeps a GiB for each beside `maxmem`, so alignment never runs out.
pub const SLOTS: u64 = 16;

/// What follows `-m SIZE` where memory devices are there: slots, and the largest that memory can become.
pub fn room(job: &Job) -> String {
    let devices: Vec<_> = job.devices().into_iter().filter(|device| device.kind.is_in_window()).collect();
    if devices.is_empty() {
        return String::new();
    }
    let window = job.window();
    let placed = devices.iter().filter_map(Device::end).max().map_or(0, |end| gibs(end.saturating_sub(window)));
    let others = devices.iter().filter(|device| device.base.is_none());
    let sum = others.fold(placed, |sum, device| sum.saturating_add(gibs(device.most)));
    format!(",slots={SLOTS},maxmem={}B", gibs(job.backed_bytes()).saturating_add(sum))
}

fn gibs(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(GIB).unwrap_or(bytes)
}

/// Words for the devices of a machine. PCI devices lie in rising slots, by which the kernel tells those of a kind apart.
pub fn devices(job: &Job) -> Vec<String> {
    let devices = job.devices();
    let mut slots = 1..;
    let named = names(&devices).into_iter().zip(&devices).filter(|(_, device)| device.kind != Kind::CarveOut);
    named.flat_map(|(name, device)| words(&name, device, &mut slots)).collect()
}

fn words(name: &str, device: &Device, slots: &mut impl Iterator<Item = u64>) -> Vec<String> {
    let at = |key: &str| device.base.map(|base| format!(",{key}={base:#x}")).unwrap_or_default();
    let mut slot = || slots.next().unwrap_or_default();
    let (bytes, driver) = match device.kind {
        Kind::CarveOut => return Vec::new(),
        Kind::PcDimm if device.bytes == 0 => return Vec::new(),
        Kind::PcDimm => {
            return plugged(&dimm(0), device.bytes, device, &format!("pc-dimm,id={}{}", dimm(0), at("addr")));
        }
        Kind::Nvdimm => (device.most, format!("nvdimm,id={name}{}", at("addr"))),
        Kind::Ivshmem => (device.most, format!("ivshmem-plain,id={name},addr={:#x}", slot())),
        Kind::VirtioMem => {
            let (wanted, block) = (device.bytes, device.block);
            let sizes = format!("requested-size={wanted}B,block-size={block}B{}", at("memaddr"));
            (device.most, format!("virtio-mem-pci,id={name},addr={:#x},{sizes}", slot()))
        }
    };
    plugged(name, bytes, device, &driver)
}

/// A device in front of its memory; `driver` begins with the driver's name and an id.
fn plugged(name: &str, bytes: u64, device: &Device, driver: &str) -> Vec<String> {
    let backend = match &device.file {
        // A comma in a file's name can't be: it would have ended the key.
        Some(file) => format!("memory-backend-file,mem-path={},share=on", file.display()),
        // The contents of these outlive a device's driver: QEMU maps them shared.
        None if matches!(device.kind, Kind::Ivshmem | Kind::Nvdimm) => "memory-backend-ram,share=on".to_owned(),
        None => "memory-backend-ram".to_owned(),
    };
    let object = format!("{backend},id={},size={bytes}B,reserve=off", memory_of(name));
    ["-object".to_owned(), object, "-device".to_owned(), format!("{driver},memdev={}", memory_of(name))].into()
}

/// What the memory behind device `name` is called.
pub fn memory_of(name: &str) -> String {
    format!("{name}-memory")
}

/// What the DIMM of this number is called.
pub fn dimm(number: usize) -> String {
    format!("dimm{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(flags: &str) -> Job {
        Job::from_flags(flags).unwrap()
    }

    fn line(flags: &str) -> String {
        devices(&job(flags)).join(" ")
    }

    #[test]
    fn a_virtio_mem_device_has_its_region_behind_it_and_a_request() {
        let wanted = "-object memory-backend-ram,id=virtio-mem-memory,size=4294967296B,reserve=off -device virtio-mem-pci,\
                      id=virtio-mem,addr=0x1,requested-size=1073741824B,block-size=2097152B,memaddr=0x80000000,memdev=virtio-mem-memory";
        assert_eq!(line("--device virtio-mem,size=1G,max=4G,at=2G"), wanted);
        let file = line("--device virtio-mem,file=/dev/shm/a");
        assert!(file.starts_with("-object memory-backend-file,mem-path=/dev/shm/a,share=on,id="), "{file}");
    }

    #[test]
    fn pci_devices_lie_in_rising_slots() {
        let line = line("--device virtio-mem --device nvdimm --device 8G,1G --device ivshmem --device virtio-mem");
        for part in [
            "id=virtio-mem,addr=0x1,",
            "id=ivshmem,addr=0x2,",
            "id=virtio-mem.1,addr=0x3,",
            "-device nvdimm,id=nvdimm,",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(line.matches("share=on").count(), 2, "{line}");
    }

    #[test]
    fn a_dimm_is_there_at_the_start_if_it_has_a_size() {
        assert!(
            line("--device pc-dimm,at=3G").ends_with("-device pc-dimm,id=dimm0,addr=0xc0000000,memdev=dimm0-memory")
        );
        assert_eq!(devices(&Job { live: true, ..job("--device pc-dimm") }), Vec::<String>::new());
    }

    #[test]
    fn memory_has_room_to_grow_for_each_region_or_up_to_the_highest() {
        let maxmem = |flags: &str| {
            room(&job(flags)).strip_prefix(",slots=16,maxmem=").map(|text| text.trim_end_matches('B').to_owned())
        };
        let gib = |count: u64| Some((count << 30).to_string());
        assert_eq!(maxmem("--device 4G,1G --device ivshmem"), None);
        assert_eq!(maxmem("--device virtio-mem,size=2M --device pc-dimm,size=1G"), gib(1 + 1 + 1));
        // From 2 GiB on, where the window begins, to 11 GiB.
        assert_eq!(maxmem("--device virtio-mem,size=1G,max=3G,at=8G --device nvdimm,size=2G"), gib(1 + 9 + 2));
    }
}

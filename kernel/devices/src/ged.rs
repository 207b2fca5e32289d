//! The Generic Event Device, by which a machine without a PC's chip set says that a DIMM was plugged in (ACPI 6.5, section
//! 5.6.9), and the registers of its DIMM slots.
//!
//! The DSDT says where they are, in AML. Nothing here runs AML: two operation regions and one interrupt are looked for by
//! the names that QEMU gives them (`hw/acpi/generic_event_device.c`, `hw/acpi/memory_hotplug.c` in QEMU).

use vmemmap::addr::PhysAddr;

use crate::bytes::field;

/// Bytes of the register of events.
pub const EVENT_BYTES: u64 = 4;
/// Bytes of the registers of the slots.
pub const MEMORY_BYTES: u64 = 0x18;

/// Where the device and the slots are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ged {
    /// The register of events: reading it clears them.
    pub events: PhysAddr,
    /// The registers of the slots.
    pub memory: PhysAddr,
    /// The number of the interrupt, at the GIC. It is edge-triggered.
    pub interrupt: u32,
}

/// What names of AML are looked for.
const EVENT_REGION: &[u8] = b"EREG";
const MEMORY_REGION: &[u8] = b"HPMR";
const HARDWARE_ID: &[u8] = b"ACPI0013";

/// `DefOpRegion` (ACPI 6.5, 20.2.5.2): `ExtOpPrefix OpRegionOp NameString RegionSpace`, where the space is system memory; then
/// the offset, a `DWordConst` or a `QWordConst`.
const OP_REGION: [u8; 2] = [0x5b, 0x80];
const SYSTEM_MEMORY: u8 = 0;
const DWORD: u8 = 0x0c;
const QWORD: u8 = 0x0e;

/// Extended Interrupt Descriptor (ACPI 6.5, 6.4.3.6) of one interrupt: its tag and length, then flags, a count and the number.
const INTERRUPT: [u8; 3] = [0x89, 6, 0];
/// Flag: the interrupt is an edge.
const EDGE: u8 = 1 << 1;
/// How far behind the device's name its interrupt is looked for, in bytes.
const NEAR: usize = 64;

/// The device that `dsdt` names, if it names one with an interrupt that is an edge, and slots.
#[must_use]
pub fn find(dsdt: &[u8]) -> Option<Ged> {
    Some(Ged { events: region(dsdt, EVENT_REGION)?, memory: region(dsdt, MEMORY_REGION)?, interrupt: interrupt(dsdt)? })
}

/// Where the operation region `name` begins.
fn region(aml: &[u8], name: &[u8]) -> Option<PhysAddr> {
    let mut regions = (0..aml.len()).filter_map(|at| aml[at..].strip_prefix(&OP_REGION)?.strip_prefix(name));
    let address = match regions.next()?.strip_prefix(&[SYSTEM_MEMORY])?.split_first()? {
        (&DWORD, rest) => u32::from_le_bytes(field(rest, 0)?).into(),
        (&QWORD, rest) => u64::from_le_bytes(field(rest, 0)?),
        _ => return None,
    };
    Some(PhysAddr::new(address))
}

fn interrupt(aml: &[u8]) -> Option<u32> {
    let name = aml.windows(HARDWARE_ID.len()).position(|window| window == HARDWARE_ID)?;
    let near = &aml[name..aml.len().min(name + NEAR)];
    let descriptor = (0..near.len()).find_map(|at| near[at..].strip_prefix(&INTERRUPT))?;
    let ([flags, 1], number) = (field(descriptor, 0)?, field(descriptor, 2)?) else { return None };
    (flags & EDGE != 0).then_some(u32::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// As in the DSDT of QEMU 7.2's `virt` with slots: the device's name and interrupt, its region and the slots'.
    fn aml() -> Vec<u8> {
        let parts: [&[u8]; 6] = [
            b"\x08_HID\x0dACPI0013\0\x08_UID\x0dGED\0\x08_CRS\x11\x0e\x0a\x0b",
            &[0x89, 6, 0, 3, 1, 41, 0, 0, 0, 0x79, 0],
            b"\x5b\x80EREG\0\x0c\0\0\x08\x09\x0a\x04",
            b"\x5b\x81\x0bEREG\x43ESEL\x20",
            b"\x5b\x80HPMR\0\x0c\0\0\x07\x09\x0a\x18",
            b"\x5b\x81\x2bHPMR",
        ];
        parts.concat()
    }

    #[test]
    fn the_device_of_qemus_tables_is_found() {
        let (events, memory) = (PhysAddr::new(0x0908_0000), PhysAddr::new(0x0907_0000));
        assert_eq!(find(&aml()), Some(Ged { events, memory, interrupt: 41 }));
    }

    #[test]
    fn without_one_of_its_parts_there_is_no_device() {
        let whole = aml();
        for name in [&b"ACPI0013"[..], b"\x89\x06\0", b"\x80EREG", b"\x80HPMR"] {
            let mut aml = whole.clone();
            let at = aml.windows(name.len()).position(|window| window == name).expect("it is there");
            aml[at] ^= 0xff;
            assert_eq!(find(&aml), None, "{name:?}");
        }
    }

    #[test]
    fn a_table_that_ends_anywhere_is_no_device_and_no_panic() {
        let whole = aml();
        let needed = whole.len() - b"\x0a\x18\x5b\x81\x2bHPMR".len();
        assert!((0..needed).all(|length| find(&whole[..length]).is_none()));
        assert!(find(&whole[..needed]).is_some());
    }

    #[test]
    fn a_level_interrupt_two_interrupts_and_ports_are_refused() {
        let whole = aml();
        let tag = whole.windows(3).position(|window| window == INTERRUPT).expect("it is there");
        let space = whole.windows(4).position(|window| window == b"HPMR").expect("it is there") + 4;
        for (at, byte) in [(tag + 3, 1), (tag + 4, 2), (space, 1), (space + 1, 0x0b)] {
            let mut aml = whole.clone();
            aml[at] = byte;
            assert_eq!(find(&aml), None, "{at}");
        }
    }
}

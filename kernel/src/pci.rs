//! The PCI bus: its functions, addresses for their BARs, and their interrupts. There is no firmware: nobody has assigned
//! anything before us. Only bus 0 is looked at.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use virtio_drivers::transport::pci::bus::{
    BarInfo, Cam, Command, ConfigurationAccess as _, DeviceFunction, MemoryBarType, MmioCam, PciRoot,
};
use vmemmap::addr::{PhysAddr, PhysRange};
use vmemmap::seam::Machine;

use crate::boot::{BootInfo, DeviceTree, PciHost};
use crate::device::Interrupt;
use crate::memory::MemoryMap;
use crate::window;

/// ECAM of one bus.
const BUS_BYTES: u64 = 1 << 20;
/// Where a function says which interrupt pin it has: bits 15:8.
const INTERRUPT_LINE_AND_PIN: u8 = 0x3c;

/// The bus.
pub struct Bus {
    root: PciRoot<MmioCam<'static>>,
    host: PciHost,
    /// A second way to configuration space, for the words that the crate has no function for.
    words: MmioCam<'static>,
}

impl Bus {
    /// The machine's bus, its configuration space mapped.
    ///
    /// # Errors
    ///
    /// In words: there is none, or it can't be mapped.
    pub fn find<M: Machine>(boot: &BootInfo, map: &mut MemoryMap<M>) -> Result<Self, String> {
        let host = DeviceTree::again(boot).pci_host().ok_or("this machine has no PCI host bridge with ECAM")?;
        let ecam = window::registers(map, host.ecam.start(), BUS_BYTES).map_err(|error| format!("{error}"))?;
        // SAFETY: that much of configuration space is mapped, for good; only bus 0 is asked for. Reads and writes of
        // configuration space by the two do not overlap: no other CPU has a job with it, and no call of one runs inside the
        // other's.
        let cam = || unsafe { MmioCam::new(ecam.as_ptr(), Cam::Ecam) };
        Ok(Self { root: PciRoot::new(cam()), host, words: cam() })
    }

    /// The functions of this vendor that have one of these device numbers, by rising number.
    #[must_use]
    pub fn functions(&self, vendor: u16, devices: &[u16]) -> Vec<DeviceFunction> {
        let all = self.root.enumerate_bus(0);
        all.filter(|(_, info)| info.vendor_id == vendor && devices.contains(&info.device_id))
            .map(|(at, _)| at)
            .collect()
    }

    /// Gives the memory BARs of `function` addresses, switches the function on, and returns them.
    ///
    /// # Errors
    ///
    /// In words: the windows of the bus are too small.
    pub fn assign(&mut self, function: DeviceFunction) -> Result<[Option<PhysRange>; 6], String> {
        let bars = self.root.bars(function).map_err(|error| format!("PCI {function}: {error}"))?;
        let mut ranges = [None; 6];
        for (bar, info) in bars.into_iter().enumerate() {
            let Some(BarInfo::Memory { address_type, size, .. }) = info else { continue };
            let wide = address_type == MemoryBarType::Width64;
            let high = if wide { self.host.memory_64.as_mut() } else { None };
            let windows = [high, self.host.memory_32.as_mut()];
            let taken = windows.into_iter().flatten().find_map(|window| take(window, size));
            let full =
                || format!("PCI {function}: no room for a BAR of {size:#x} bytes; have fewer or smaller devices");
            let range = taken.ok_or_else(full)?;
            let (bar, address) = (bar as u8, range.start().value());
            if wide {
                self.root.set_bar_64(function, bar, address);
            } else {
                self.root.set_bar_32(function, bar, address as u32);
            }
            ranges[usize::from(bar)] = Some(range);
        }
        self.root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
        Ok(ranges)
    }

    /// The interrupt of `function`, if it has one.
    #[must_use]
    pub fn interrupt(&self, function: DeviceFunction) -> Option<Interrupt> {
        let pin = (self.words.read_word(function, INTERRUPT_LINE_AND_PIN) >> 8) as u8;
        let number = if pin == 0 { None } else { self.host.interrupt(function.device, pin) };
        // PCI's pins are levels.
        number.map(|number| Interrupt { number, edge: false })
    }

    /// The root that the drivers of `virtio-drivers` use.
    pub const fn root(&mut self) -> &mut PciRoot<MmioCam<'static>> {
        &mut self.root
    }
}

/// Takes `bytes` (a power of two) off the front of the window. A BAR is aligned to its size.
fn take(window: &mut PhysRange, bytes: u64) -> Option<PhysRange> {
    let start = window.start().value().checked_next_multiple_of(bytes)?;
    let range = PhysRange::new(PhysAddr::new(start), bytes)?;
    *window = PhysRange::between(range.end(), window.end())?;
    Some(range)
}

//! The PCI host bridge: where configuration space and the windows for BARs are, and which interrupts its pins raise.
//! (Binding: PCI Bus Binding to IEEE Std 1275, `ranges` and `interrupt-map`.)

use dtoolkit::fdt::FdtNode;
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use vmemmap::addr::{PhysAddr, PhysRange};

use super::DeviceTree;

/// Cells of an address on the PCI bus: space, high, low.
const PCI_CELLS: usize = 3;
/// The first shared peripheral interrupt's number at the GIC.
const FIRST_SPI: u32 = 32;

/// A host bridge with ECAM.
#[derive(Clone, Copy, Debug)]
pub struct PciHost {
    /// Configuration space, bus 0 first.
    pub ecam: PhysRange,
    /// Where BARs may be that hold 32 bits. The bus has the CPU's addresses.
    pub memory_32: Option<PhysRange>,
    /// Where BARs may be that hold 64.
    pub memory_64: Option<PhysRange>,
    /// None with an interrupt controller that is not known here.
    interrupts: Option<InterruptMap>,
}

#[derive(Clone, Copy, Debug)]
struct InterruptMap {
    entries: &'static [u8],
    mask: [u32; PCI_CELLS + 1],
    /// Cells of an address at the interrupt controller.
    controller_cells: usize,
}

impl DeviceTree {
    /// The host bridge with ECAM, if there is one.
    #[must_use]
    pub fn pci_host(&self) -> Option<PciHost> {
        let node = self.tree.root().children().find(|node| node.is_compatible("pci-host-ecam-generic"))?;
        let ecam = node.reg().ok()??.next()?;
        let ecam = PhysRange::new(PhysAddr::new(ecam.address().ok()?), ecam.size().ok()?)?;
        Some(PciHost {
            ecam,
            memory_32: window(node, 0b10),
            memory_64: window(node, 0b11),
            interrupts: self.interrupt_map(node),
        })
    }

    fn interrupt_map(&self, host: FdtNode<'static>) -> Option<InterruptMap> {
        let controller = self.tree.root().children().find(|node| node.is_compatible("arm,gic-v3"))?;
        let mut mask = cells(host, "interrupt-map-mask")?;
        Some(InterruptMap {
            entries: host.property("interrupt-map")?.value_as().ok()?,
            mask: core::array::from_fn(|_| mask.next().unwrap_or(0)),
            controller_cells: controller.address_cells().ok()? as usize,
        })
    }
}

impl PciHost {
    /// The number, at the GIC, of the interrupt that `pin` (1 to 4) of device `device` on bus 0 raises.
    #[must_use]
    pub fn interrupt(&self, device: u8, pin: u8) -> Option<u32> {
        let InterruptMap { entries, mask, controller_cells } = self.interrupts?;
        let wanted = [u32::from(device) << 11, 0, 0, u32::from(pin)];
        // The device's address and pin, the controller, an address there, and the interrupt: kind, number, trigger.
        let interrupt = PCI_CELLS + 1 + 1 + controller_cells;
        let mut entries = entries.chunks_exact((interrupt + 3) * 4);
        let entry = entries.find(|entry| (0..=PCI_CELLS).all(|at| (cell(entry, at) ^ wanted[at]) & mask[at] == 0))?;
        Some(FIRST_SPI + cell(entry, interrupt + 1))
    }
}

/// The first window of the address space `space` (bits 25:24 of the first cell): 2 is 32-bit memory, 3 is 64-bit. None if the
/// bus has other addresses there than the CPU: drivers take one for the other.
fn window(node: FdtNode<'static>, space: u32) -> Option<PhysRange> {
    const CELLS: usize = PCI_CELLS + 2 + 2;
    let ranges: &[u8] = node.property("ranges")?.value_as().ok()?;
    let entry = ranges.chunks_exact(CELLS * 4).find(|entry| cell(entry, 0) >> 24 & 0b11 == space)?;
    let wide = |at| u64::from(cell(entry, at)) << 32 | u64::from(cell(entry, at + 1));
    let [bus, cpu, bytes] = [wide(1), wide(3), wide(5)];
    PhysRange::new(PhysAddr::new(cpu), bytes).filter(|_| bus == cpu)
}

fn cells(node: FdtNode<'static>, property: &str) -> Option<impl Iterator<Item = u32> + use<>> {
    let value: &[u8] = node.property(property)?.value_as().ok()?;
    Some((0..value.len() / 4).map(|at| cell(value, at)))
}

fn cell(cells: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(core::array::from_fn(|byte| cells[at * 4 + byte]))
}

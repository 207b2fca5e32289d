//! What the device tree says: the console, the boot arguments, RAM, how to call PSCI, and where devices are.

mod pci;

pub use pci::PciHost;

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use vmemmap::addr::{PhysAddr, PhysRange};

use super::image;
use super::info::BootInfo;
use super::ranges::Ranges;
use super::refuse::Refusal;
use crate::pointer;
use crate::psci::Conduit;

const MAGIC: u32 = 0xd00d_feed;
const GIB: u64 = 1 << 30;
/// The fields of `MPIDR_EL1` by which PSCI knows a CPU: Aff3, and Aff2 to Aff0.
const AFFINITIES: u64 = 0xff_00ff_ffff;

/// The device tree that the machine passes.
pub struct DeviceTree {
    tree: Fdt<'static>,
}

impl DeviceTree {
    /// Finds and checks it: at `x0` (the value of that register at entry), or, where nothing is passed (QEMU with an ELF
    /// image), at the start of RAM, a multiple of 1 GiB. Must run before the MMU is on.
    ///
    /// # Errors
    ///
    /// [`Refusal::DeviceTree`] if neither place holds one, or if it is broken.
    pub fn find(x0: u64) -> Result<Self, Refusal<'static>> {
        let start_of_ram = image::whole().start().align_down(GIB).value();
        let place = [x0, start_of_ram].into_iter().find(|&place| place != 0 && is_tree(place));
        let place = place.ok_or(Refusal::DeviceTree("none in x0 nor at the start of RAM"))?;
        // SAFETY: the magic number is there, so the machine put a device tree there, in RAM that nobody writes while
        // the MMU is off; the parser checks the rest.
        let tree = unsafe { Fdt::from_raw(pointer::at(place)) };
        tree.map(|tree| Self { tree }).map_err(|_| Refusal::DeviceTree("it does not parse"))
    }

    /// The one that boot found, through the linear map.
    ///
    /// # Panics
    ///
    /// If it has changed since boot: nobody writes it.
    #[must_use]
    pub fn again(boot: &BootInfo) -> Self {
        let start = boot.layout.linear_address(boot.device_tree.start());
        // SAFETY: boot found it there, and left it out of the free RAM.
        let tree = unsafe { Fdt::from_raw(pointer::at(start.value())) };
        Self { tree: tree.expect("it parsed at boot") }
    }

    /// Where it lies, with the MMU off.
    ///
    /// # Panics
    ///
    /// Never: what is in memory does not wrap.
    #[must_use]
    pub fn range(&self) -> PhysRange {
        let data = self.tree.data();
        let start = PhysAddr::new(data.as_ptr().addr() as u64);
        PhysRange::new(start, data.len() as u64).expect("what is in memory does not wrap")
    }

    /// The physical address of the PL011 that `/chosen/stdout-path` names.
    #[must_use]
    pub fn console(&self) -> Option<PhysAddr> {
        registers(self.console_node()?)
    }

    /// The interrupt of that PL011: its number at the GIC.
    #[must_use]
    pub fn console_interrupt(&self) -> Option<u32> {
        interrupt(self.console_node()?)
    }

    fn console_node(&self) -> Option<FdtNode<'static>> {
        let path = self.chosen("stdout-path")?;
        let path = path.split(':').next()?;
        let node = self.tree.find_node(self.alias(path).unwrap_or(path))?;
        node.is_compatible("arm,pl011").then_some(node)
    }

    /// Where the `GICv3` is: its distributor, and its first region of redistributors.
    #[must_use]
    pub fn gic(&self) -> Option<[PhysRange; 2]> {
        let node = self.tree.root().children().find(|node| node.is_compatible("arm,gic-v3"))?;
        let mut ranges = node.reg().ok()??.map(|entry| {
            let (start, bytes) = (entry.address::<u64>().ok()?, entry.size::<u64>().ok()?);
            PhysRange::new(PhysAddr::new(start), bytes)
        });
        Some([ranges.next()??, ranges.next()??])
    }

    /// The registers of QEMU's `fw_cfg`.
    #[must_use]
    pub fn fw_cfg(&self) -> Option<PhysAddr> {
        registers(self.tree.root().children().find(|node| node.is_compatible("qemu,fw-cfg-mmio"))?)
    }

    /// The boot arguments; none if there are none.
    #[must_use]
    pub fn boot_arguments(&self) -> &'static str {
        self.chosen("bootargs").unwrap_or_default()
    }

    /// How PSCI is called.
    #[must_use]
    pub fn conduit(&self) -> Option<Conduit> {
        match text(self.tree.find_node("/psci")?, "method")? {
            "hvc" => Some(Conduit::Hvc),
            "smc" => Some(Conduit::Smc),
            _ => None,
        }
    }

    /// The CPUs that PSCI can turn on, but for the one that runs this, which the tree may name or not: their affinities, as
    /// `MPIDR_EL1` holds them.
    pub fn other_cpus(&self) -> impl Iterator<Item = u64> {
        let this = MPIDR_EL1.get() & AFFINITIES;
        let usable = |node: &FdtNode<'static>| {
            text(*node, "device_type") == Some("cpu")
                && text(*node, "enable-method") == Some("psci")
                && text(*node, "status").is_none_or(|status| matches!(status, "okay" | "ok"))
        };
        let nodes = self.tree.find_node("/cpus").into_iter().flat_map(|cpus| cpus.children());
        let affinities = nodes.filter(usable).filter_map(registers).map(PhysAddr::value);
        affinities.filter(move |&affinities| affinities != this)
    }

    /// RAM: what all memory nodes say, in whatever order they come.
    ///
    /// # Errors
    ///
    /// [`Refusal::Ranges`] if it is in too many pieces, [`Refusal::DeviceTree`] if there is none.
    pub fn ram(&self) -> Result<Ranges, Refusal<'static>> {
        let mut ram = Ranges::new();
        for node in self.tree.root().children() {
            if text(node, "device_type") == Some("memory") {
                add_memory(node, &mut ram)?;
            }
        }
        if ram.as_slice().is_empty() { Err(Refusal::DeviceTree("no memory")) } else { Ok(ram) }
    }

    fn chosen(&self, property: &str) -> Option<&'static str> {
        text(self.tree.find_node("/chosen")?, property)
    }

    fn alias(&self, name: &str) -> Option<&'static str> {
        text(self.tree.find_node("/aliases")?, name)
    }
}

fn add_memory(node: FdtNode, ram: &mut Ranges) -> Result<(), Refusal<'static>> {
    const BROKEN: Refusal = Refusal::DeviceTree("a memory node has no usable reg");
    for entry in node.reg().ok().flatten().ok_or(BROKEN)? {
        let start = entry.address::<u64>().map_err(|_| BROKEN)?;
        let bytes = entry.size::<u64>().map_err(|_| BROKEN)?;
        ram.insert(PhysRange::new(PhysAddr::new(start), bytes).ok_or(BROKEN)?)?;
    }
    Ok(())
}

fn registers(node: FdtNode) -> Option<PhysAddr> {
    let first = node.reg().ok()??.next()?;
    first.address::<u64>().ok().map(PhysAddr::new)
}

/// The number at the GIC of a node's first interrupt: a shared one (type 0, from 32 on) or one of the CPU's own (type 1, from
/// 16 on).
fn interrupt(node: FdtNode) -> Option<u32> {
    let interrupts = node.property("interrupts")?;
    let (cells, _) = interrupts.value().as_chunks();
    let cell = |index: usize| cells.get(index).copied().map(u32::from_be_bytes);
    match cell(0)? {
        0 => cell(1)?.checked_add(32),
        1 => cell(1)?.checked_add(16),
        _ => None,
    }
}

fn text(node: FdtNode<'static>, property: &str) -> Option<&'static str> {
    node.property(property)?.value_as::<&'static str>().ok()
}

fn is_tree(place: u64) -> bool {
    // SAFETY: `place` is what the boot protocol names, or the start of RAM; a device tree is 8-byte aligned.
    place.is_multiple_of(8) && u32::from_be(unsafe { pointer::at::<u32>(place).read() }) == MAGIC
}

//! What boot leaves behind.

use aarch64_cpu::registers::{MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1};
use kernel::boot::image::Part;
use kernel::boot::{BootInfo, DeviceTree};
use kernel::exceptions::probe;
use kernel::exceptions::syndrome::FaultKind;
use kernel::window;
use vmemmap::addr::{Pfn, PhysAddr, VirtAddr};
use vmemmap::descriptor::{Attributes, Descriptor};
use vmemmap::granule::{Granule, GranuleSize, Level};
use vmemmap::meta::StructPage;
use vmemmap::regime::MAIR;
use vmemmap::seam::Machine;

use crate::world::{World, pointer};

pub fn ram_has_struct_pages<M: Machine>(world: &World<M>) {
    let shift = M::Granule::SIZE.shift();
    for range in world.boot.ram.as_slice() {
        for address in (range.start().value()..range.end().value()).step_by(1 << shift) {
            let pfn = Pfn::containing(PhysAddr::new(address), shift);
            assert!(world.map.is_valid(pfn), "{pfn:?} of RAM is not valid");
            let page = world.map.layout().page(pfn);
            let flags = probe::load(page).unwrap_or_else(|fault| panic!("{pfn:?}: {fault:?}"));
            assert_eq!(flags & (StructPage::DEVICE | StructPage::RESERVED), 0);
        }
    }
    let device = Pfn::containing(world.device.start(), shift);
    assert!(!world.map.is_valid(device), "device memory is not valid before it is added");
}

/// Registers are mapped as device memory, once; what no table can show is refused.
pub fn registers_are_device_memory<M: Machine>(world: &mut World<M>) {
    const BYTES: u64 = 24;
    let start = DeviceTree::again(world.boot).fw_cfg().expect("QEMU's virt has fw_cfg");
    let mapped = window::registers(&mut world.map, start, BYTES).expect("there is room");
    let va = VirtAddr::new(mapped.as_ptr().addr() as u64);
    let walk = world.map.tables().walk(va);
    let (step, frame) = walk.translation().expect("it is mapped");
    assert_eq!(frame, start);
    assert_eq!(Attributes::from_bits(step.descriptor.bits()).index(), Attributes::DEVICE.index());
    assert_eq!(window::registers(&mut world.map, start, BYTES).ok(), Some(mapped), "they are mapped once");
    let beyond = PhysAddr::new(1 << world.boot.pa_bits());
    assert!(window::registers(&mut world.map, beyond, BYTES).is_err());
}

/// Visits every leaf under the root.
fn for_each_leaf<M: Machine>(world: &World<M>, table: PhysAddr, level: Level, visit: &mut impl FnMut(Descriptor)) {
    let regime = world.map.tables().regime();
    for index in 0..regime.entries(level) {
        let descriptor = Descriptor::from_bits(world.map.tables().machine().read(table.add(index * 8)));
        if descriptor.is_table(level) {
            for_each_leaf(world, descriptor.address(regime.granule(), regime.output()), level.child(), visit);
        } else if descriptor.is_leaf(level) {
            visit(descriptor);
        }
    }
}

pub fn write_xor_execute<M: Machine>(world: &World<M>) {
    const READ_ONLY: u64 = 1 << 7;
    const PXN: u64 = 1 << 53;
    const UXN: u64 = 1 << 54;
    let tables = world.map.tables();
    let mut executable = 0;
    for_each_leaf(world, tables.root(), tables.regime().start_level(), &mut |leaf| {
        let bits = leaf.bits();
        assert!(bits & READ_ONLY != 0 || bits & PXN != 0, "{leaf} is writable and executable");
        assert!(bits & UXN != 0, "{leaf} is executable at EL0");
        executable += u64::from(bits & PXN == 0);
    });
    assert!(executable > 0, "the kernel's text is a leaf too");
    assert!(SCTLR_EL1.is_set(SCTLR_EL1::WXN));
}

pub fn text_is_read_only<M: Machine>(world: &World<M>) {
    let text = Part::ALL.into_iter().find(|part| part.name().contains("text")).expect("the image has text");
    let linked = text.linked().start();
    let offset = linked.since(Part::ALL[0].linked().start());
    let alias = world.map.layout().linear_address(world.boot.image.start().add(offset));
    for address in [linked, alias] {
        assert!(probe::load(address).is_ok());
        // SAFETY: if it goes through, the case has failed and the boot ends.
        let fault = unsafe { probe::store(address, 0) }.expect_err("text can be written");
        assert_eq!((fault.far, fault.status.kind), (address, FaultKind::Permission));
    }
}

pub fn lower_half_is_off() {
    for address in [0, 0x4000_0000, 0x4020_0000] {
        let fault = probe::load(VirtAddr::new(address)).expect_err("the lower half translates");
        assert_eq!(fault.status.kind, FaultKind::Translation);
    }
}

/// The register crate reads the fields that our own arithmetic wrote.
pub fn registers(boot: &BootInfo) {
    let (tg0, tg1) = match boot.config.granule {
        GranuleSize::K4 => (0, 2),
        GranuleSize::K16 => (2, 1),
        GranuleSize::K64 => (1, 3),
    };
    assert_eq!((TCR_EL1.read(TCR_EL1::TG0), TCR_EL1.read(TCR_EL1::TG1)), (tg0, tg1));
    assert_eq!(TCR_EL1.read(TCR_EL1::T1SZ), u64::from(64 - boot.config.va_bits));
    let lpa2 = boot.config.va_bits > 48 && boot.config.granule != GranuleSize::K64;
    assert_eq!(TCR_EL1.get() >> 59 & 1, u64::from(lpa2), "TCR.DS");
    let ranges = [32, 36, 40, 42, 44, 48, 52];
    let most = if boot.config.va_bits > 48 { 52 } else { 48 };
    let output = ranges[TCR_EL1.read(TCR_EL1::IPS) as usize];
    assert_eq!((output, boot.pa_bits()), (boot.cpu.pa_bits.min(most), output));
    assert_eq!((TCR_EL1.read(TCR_EL1::HA), TCR_EL1.read(TCR_EL1::HD)), (0, 0));
    assert_eq!((TCR_EL1.read(TCR_EL1::EPD0), TCR_EL1.read(TCR_EL1::EPD1)), (1, 0));
    assert_eq!((TCR_EL1.read(TCR_EL1::SH1), TCR_EL1.read(TCR_EL1::IRGN1), TCR_EL1.read(TCR_EL1::ORGN1)), (3, 1, 1));
    assert_eq!(MAIR_EL1.get(), MAIR);
    assert_eq!(boot.root.value() % boot.regime.root_alignment(), 0);
}

/// In the middle of the linear map no table is below the root, whose level may be -1: the fault names it.
pub fn load_far_away<M: Machine>(world: &World<M>) {
    let linear = world.map.layout().linear();
    let va = linear.start().add(linear.bytes() / 2);
    let end = world.map.tables().walk(va).last().expect("a walk reads the root");
    assert!(!end.descriptor.is_valid(), "{va} is mapped by {end}");
    let fault = probe::load(va).expect_err("nothing is there");
    assert_eq!((fault.status.kind, fault.status.level), (FaultKind::Translation, Some(end.level.number())));
}

/// Never returns normally: the guard page below the stack ends it.
pub fn overflow_the_stack() {
    #[inline(never)]
    fn deeper(depth: u64) -> u64 {
        let frame = core::hint::black_box([depth; 64]);
        if depth == 0 { 0 } else { deeper(depth - 1) + frame[(depth % 64) as usize] }
    }
    core::hint::black_box(deeper(1 << 40));
}

/// Loads from the struct page of device memory that was never added: the fault report ends the boot.
pub fn load_wildly(boot: &BootInfo) {
    let last = boot.layout.vmemmap().end().add(8_u64.wrapping_neg());
    // SAFETY: nothing is there, so nothing is read.
    unsafe { pointer(last).read_volatile() };
}

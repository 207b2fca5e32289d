//! Faults on addresses that are mapped by the time somebody looks: the other CPU's stores come while the fault is taken.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::boot::image::Part;
use kernel::exceptions::probe::{self, at_next_fault};
use kernel::exceptions::syndrome::FaultKind;
use kernel::memory::RamFrames;
use kernel::println;
use vmemmap::addr::{PhysRange, VirtAddr};
use vmemmap::granule::Granule;
use vmemmap::hotplug::LINEAR_PROTECTION;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, Mapping};
use vmemmap::seam::Machine;
use vmemmap_aarch64::is_spurious;

use crate::world::{World, pointer};

/// Where the other CPU writes a descriptor, and which.
static SLOT: AtomicU64 = AtomicU64::new(0);
static DESCRIPTOR: AtomicU64 = AtomicU64::new(0);
/// How often it did.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// AP\[2\] of a leaf: read-only.
const READ_ONLY: u64 = 1 << 7;

/// A page whose leaf is there, away, and there again when the next fault is taken.
struct Hidden {
    page: VirtAddr,
    slot: VirtAddr,
    leaf: u64,
}

impl Hidden {
    fn put(&self, descriptor: u64) {
        // SAFETY: the slot is that of a leaf which the test made, in a table in RAM.
        unsafe { pointer(self.slot).write_volatile(descriptor) };
        // SAFETY: forgetting translations is always allowed.
        unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
    }

    /// Takes the leaf away; the other CPU will write `descriptor` in its place.
    fn hide(&self, descriptor: u64) {
        self.put(0);
        SLOT.store(self.slot.value(), Ordering::Relaxed);
        DESCRIPTOR.store(descriptor, Ordering::Relaxed);
        at_next_fault(write_descriptor);
    }

    fn load(&self) -> u64 {
        // SAFETY: the page is mapped by the time that the load is done.
        unsafe { pointer(self.page).read_volatile() }
    }

    fn store(&self, value: u64) {
        // SAFETY: as above; nobody else uses the page.
        unsafe { pointer(self.page).write_volatile(value) };
    }
}

/// What a CPU that publishes a leaf does: the store and its barrier.
fn write_descriptor() {
    WRITES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: `hide` says that the slot is a leaf's.
    unsafe { pointer(VirtAddr::new(SLOT.load(Ordering::Relaxed))).write_volatile(DESCRIPTOR.load(Ordering::Relaxed)) };
    // SAFETY: barriers have no precondition.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
}

/// Runs `work` with a page of the device that the linear map shows.
fn with_page<M: Machine>(world: &mut World<M>, work: impl FnOnce(&Hidden)) {
    let page = PhysRange::new(world.device.start(), M::Granule::SIZE.bytes()).expect("a page of the device");
    let regime = world.map.tables().regime();
    let linear = Mapping::linear(regime, world.map.layout(), page, LeafPolicy::Pages, LINEAR_PROTECTION);
    let mut frames = RamFrames::current();
    mapping::map(world.map.tables_mut(), &mut frames, &linear).unwrap_or_else(|error| panic!("{error}"));
    let page = linear.range().start();
    let (leaf, _) = world.map.tables().walk(page).translation().expect("it was just mapped");
    let slot = world.map.layout().linear_address(leaf.slot);
    let hidden = Hidden { page, slot, leaf: leaf.descriptor.bits() };
    work(&hidden);
    hidden.put(hidden.leaf);
    // SAFETY: it was made above, and `work` is done with it.
    unsafe { mapping::unmap(world.map.tables_mut(), &mut frames, &linear) }.unwrap_or_else(|error| panic!("{error}"));
}

pub fn made_again<M: Machine>(world: &mut World<M>) {
    with_page(world, |hidden| {
        hidden.store(1);
        hidden.hide(hidden.leaf);
        assert_eq!((hidden.load(), WRITES.load(Ordering::Relaxed)), (1, 1), "the load faulted, and was made again");
        hidden.hide(hidden.leaf);
        hidden.store(2);
        assert_eq!(WRITES.load(Ordering::Relaxed), 2, "the store faulted");
        assert_eq!(hidden.load(), 2, "and was made again");
    });
}

pub fn nothing_maps_it<M: Machine>(world: &mut World<M>) {
    with_page(world, |hidden| {
        hidden.hide(0);
        let fault = probe::load(hidden.page).expect_err("nothing maps it");
        assert_eq!((fault.status.kind, fault.far), (FaultKind::Translation, hidden.page));
        assert_eq!(WRITES.load(Ordering::Relaxed), 1);
    });
}

/// A fault that is called spurious would come back as another: a permission fault.
pub fn read_only<M: Machine>(world: &mut World<M>) {
    with_page(world, |hidden| {
        hidden.store(1);
        hidden.hide(hidden.leaf | READ_ONLY);
        // SAFETY: nobody depends on what is there.
        let fault = unsafe { probe::store(hidden.page, 2) }.expect_err("a store does not go through");
        assert_eq!(fault.status.kind, FaultKind::Translation, "the fault is the first one");
        hidden.hide(hidden.leaf | READ_ONLY);
        assert_eq!(hidden.load(), 1, "a load does");
    });
}

/// The syndromes that a machine of this kind does not raise at will, on an address that is mapped read-only.
pub fn syndromes() {
    const INSTRUCTION_LOWER: u64 = 0x20 << 26;
    const INSTRUCTION: u64 = 0x21 << 26;
    const DATA_LOWER: u64 = 0x24 << 26;
    const DATA: u64 = 0x25 << 26;
    const WNR: u64 = 1 << 6;
    const S1PTW: u64 = 1 << 7;
    const CM: u64 = 1 << 8;
    const LEVEL_3: u64 = 0b00_0111;
    let text = Part::Text.linked().start();
    for (esr, spurious) in [
        (DATA | LEVEL_3, true),
        (INSTRUCTION | LEVEL_3, true),
        (DATA | 0b00_0100, true),
        (DATA | 0b10_1011, true),
        (DATA | CM | WNR | LEVEL_3, true),
        (DATA | WNR | LEVEL_3, false),
        (DATA | S1PTW | LEVEL_3, false),
        (DATA_LOWER | LEVEL_3, false),
        (INSTRUCTION_LOWER | LEVEL_3, false),
        (LEVEL_3, false),
        (DATA | 0b00_0011, false),
        (DATA | 0b00_1011, false),
        (DATA | 0b00_1111, false),
        (DATA | 0b01_0111, false),
    ] {
        assert_eq!(is_spurious(esr, text), spurious, "ESR {esr:#x}");
    }
}

/// What faults while it is printed.
struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: the lower half is off, so nothing is read.
        write!(f, "{}", unsafe { pointer(VirtAddr::new(8)).read_volatile() })
    }
}

/// A fault within a handler that has the console: what it says must not wait for that one.
pub fn while_it_prints() {
    at_next_fault(|| println!("{Unreadable}"));
    let _ = probe::load(VirtAddr::new(0));
}

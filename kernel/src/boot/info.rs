//! What boot leaves to the kernel.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr};
use vmemmap::layout::Layout;
use vmemmap::regime::Regime;

use super::cpu::Cpu;
use super::ranges::{Ranges, TooManyRanges};
use super::switch::Switch;
use crate::config::Config;

/// What boot found and built. Plain numbers: written before the MMU is on, read after.
#[derive(Clone, Copy)]
pub struct BootInfo {
    /// The boot arguments.
    pub config: Config,
    /// What the CPU can do.
    pub cpu: Cpu,
    /// The exception level that the machine started us at: 1 or 2.
    pub entry_level: u64,
    /// RAM that is ours, in whole pages: all of it is in the linear map.
    pub ram: Ranges,
    /// The image, in RAM: never free.
    pub image: PhysRange,
    /// The device tree, in RAM: never free.
    pub device_tree: PhysRange,
    /// Free RAM below this address holds the first tables; at and above it nothing does.
    pub next_free: PhysAddr,
    /// How another CPU switches its MMU on; its identity map stands if the device tree names one.
    pub switch: Switch,
    /// How the kernel half is translated.
    pub regime: Regime,
    /// Where linear map and vmemmap are.
    pub layout: Layout,
    /// The root table of the kernel half.
    pub root: PhysAddr,
    /// Where the console's registers are mapped, if there is one.
    pub console: Option<VirtAddr>,
    /// System registers, as read back once all is set up.
    pub registers: Registers,
}

/// The system registers of translation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// `TCR_EL1`.
    pub tcr: u64,
    /// `MAIR_EL1`.
    pub mair: u64,
    /// `SCTLR_EL1`.
    pub sctlr: u64,
    /// `TTBR1_EL1`.
    pub ttbr1: u64,
}

impl BootInfo {
    /// Bits of a physical address that the tables can use on this CPU.
    #[must_use]
    pub fn pa_bits(&self) -> u32 {
        self.cpu.output_bits(self.regime.output())
    }

    /// RAM that is ours and that nothing occupies: neither the image, the device tree nor the first tables.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`] if that is too many pieces.
    pub fn free_ram(&self) -> Result<Ranges, TooManyRanges> {
        let mut free = self.ram;
        free.remove(self.image)?;
        free.remove(self.device_tree)?;
        if let Some(used) = PhysRange::between(PhysAddr::new(0), self.next_free) {
            free.remove(used)?;
        }
        free.shrink_to_pages(self.regime.granule().bytes());
        Ok(free)
    }
}

struct Cell(UnsafeCell<Option<BootInfo>>);

// SAFETY: written by `publish` before `READY` is set, only read afterwards.
unsafe impl Sync for Cell {}

static INFO: Cell = Cell(UnsafeCell::new(None));
static READY: AtomicBool = AtomicBool::new(false);

/// What boot found and built, once the kernel has started.
#[must_use]
pub fn info() -> Option<&'static BootInfo> {
    if !READY.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: ready, so never written again.
    unsafe { (*INFO.0.get()).as_ref() }
}

/// Stores what boot found, before the MMU is on.
///
/// # Safety
///
/// To be called once, before [`publish`].
pub unsafe fn store(info: &BootInfo) {
    // SAFETY: by this function's contract nobody reads it yet.
    unsafe { *INFO.0.get() = Some(*info) }
}

/// Completes what was stored and lets [`info`] see it.
///
/// # Safety
///
/// To be called once, after [`store`].
pub unsafe fn publish(registers: Registers) -> &'static BootInfo {
    // SAFETY: by this function's contract nobody reads it yet, and it has been stored.
    if let Some(stored) = unsafe { &mut *INFO.0.get() } {
        stored.registers = registers;
    }
    READY.store(true, Ordering::Release);
    info().expect("boot stored it before the MMU was on")
}

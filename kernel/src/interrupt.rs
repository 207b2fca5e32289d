//! Interrupts, without ever taking one: `PSTATE.I` stays set, `WFI` wakes all the same when one is pending, and whoever
//! waited asks the GIC which.
//!
//! Most interrupts of devices are levels: the line must have gone down before the interrupt is
//! [done](Interrupts::done), or it comes again at once. A pulse that comes meanwhile is pending again. So:
//! [wait](Interrupts::wait), then for each that can be [taken](Interrupts::take): serve the device, done.

use core::fmt;

use aarch64_cpu::asm::{self, barrier};
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use arm_gic::gicv3::{GicCpuInterface, GicError, GicV3};
use arm_gic::{IntId, InterruptGroup, Trigger, UniqueMmioPointer};
use vmemmap::addr::PhysRange;
use vmemmap::seam::Machine;

use crate::boot::{BootInfo, DeviceTree};
use crate::device::Interrupt;
use crate::memory::MemoryMap;
use crate::window::{self, WindowError};

/// The number of the first interrupt that devices share; those below are a CPU's own.
const FIRST_SHARED: u32 = 32;
/// The first number that stands for no interrupt.
const END: u32 = 1020;
/// The affinities of `MPIDR_EL1`, Aff3 and Aff2 to Aff0. Bit 31 is set there, and would mean any CPU to the GIC.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// A priority mask that lets every interrupt through.
const ANY_PRIORITY: u8 = 0xff;

/// The interrupt controller, as this CPU uses it.
#[derive(Debug)]
pub struct Interrupts {
    gic: GicV3<'static>,
}

/// Why there are no interrupts.
#[derive(Clone, Copy, Debug)]
pub enum InterruptError {
    /// The device tree names no `GICv3`.
    NoGic,
    /// Its registers can't be mapped.
    Window(WindowError),
    /// It is not as the driver knows it.
    Gic(GicError),
    /// Not the number of an interrupt that devices share.
    NotShared(u32),
}

impl fmt::Display for InterruptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGic => f.write_str("this machine has no GICv3: start it with gic-version=3"),
            Self::Window(error) => write!(f, "the GIC: {error}"),
            Self::Gic(error) => write!(f, "the GIC: {error}: start the machine with gic-version=3"),
            Self::NotShared(number) => {
                write!(f, "interrupt {number} is not one that devices share: those are {FIRST_SHARED} to {}", END - 1)
            }
        }
    }
}

impl From<WindowError> for InterruptError {
    fn from(error: WindowError) -> Self {
        Self::Window(error)
    }
}

impl From<GicError> for InterruptError {
    fn from(error: GicError) -> Self {
        Self::Gic(error)
    }
}

impl Interrupts {
    /// Wakes the `GICv3` of the device tree for this CPU, with every interrupt disabled. To be called once: it is the only
    /// user.
    ///
    /// # Errors
    ///
    /// [`InterruptError`] if there is none, or its registers can't be mapped.
    pub fn new<M: Machine>(boot: &BootInfo, map: &mut MemoryMap<M>) -> Result<Self, InterruptError> {
        let [distributor, redistributors] = DeviceTree::again(boot).gic().ok_or(InterruptError::NoGic)?;
        let mut registers = |range: PhysRange| window::registers(map, range.start(), range.bytes());
        let (distributor, redistributors) = (registers(distributor)?, registers(redistributors)?);
        // SAFETY: the device tree says that a distributor is there, it is mapped as device memory for good, and by this
        // function's contract nobody else uses it.
        let distributor = unsafe { UniqueMmioPointer::new(distributor.cast()) };
        // SAFETY: as above, for the first redistributor. QEMU boots the CPU that it belongs to, and no other CPU uses one.
        let mut gic = unsafe { GicV3::new(distributor, redistributors.cast(), 1) }?;
        gic.setup(0);
        GicCpuInterface::set_priority_mask(ANY_PRIORITY);
        Ok(Self { gic })
    }

    /// Lets an interrupt reach this CPU.
    ///
    /// # Errors
    ///
    /// [`InterruptError::NotShared`].
    pub fn enable(&mut self, Interrupt { number, edge }: Interrupt) -> Result<(), InterruptError> {
        if !(FIRST_SHARED..END).contains(&number) {
            return Err(InterruptError::NotShared(number));
        }
        let interrupt = IntId::spi(number - FIRST_SHARED);
        let distributor = self.gic.distributor();
        distributor.set_routing(interrupt, Some(MPIDR_EL1.get() & AFFINITY))?;
        distributor.set_trigger(interrupt, if edge { Trigger::Edge } else { Trigger::Level })?;
        Ok(distributor.enable_interrupt(interrupt, true)?)
    }

    /// Waits until an enabled interrupt is pending. It may return early.
    pub fn wait(&self) {
        asm::wfi();
    }

    /// Takes the number of an interrupt that is pending, if one is: to be [done](Self::done).
    #[must_use]
    pub fn take(&mut self) -> Option<u32> {
        let interrupt = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)?;
        Some(interrupt.raw_value())
    }

    /// The interrupt that was [taken](Self::take) is served: its line is down.
    pub fn done(&mut self, number: u32) {
        // What lowered the line has arrived, or it would be taken for pending again.
        barrier::dsb(barrier::SY);
        GicCpuInterface::end_interrupt(IntId::spi(number - FIRST_SHARED), InterruptGroup::Group1);
    }
}

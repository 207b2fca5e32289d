//! Counting instructions: `INST_RETIRED` of the performance monitor, exact under QEMU's `-icount shift=0,sleep=off`.

use core::arch::asm;

use vmemmap::observe::{Event, Observer};
use vmemmap::seam::Phase;

/// The event number of instructions architecturally executed.
const INST_RETIRED: u64 = 0x08;

/// Event counter 0, counting instructions.
#[derive(Clone, Copy, Debug)]
pub struct InstructionCounter(());

impl InstructionCounter {
    /// Starts the counter; `None` if this machine does not count instructions (QEMU does only under `-icount`).
    #[must_use]
    pub fn start() -> Option<Self> {
        const ENABLE: u64 = 1;
        let events: u64;
        // SAFETY: the performance monitor is this function's alone, and boot lets EL1 use it.
        unsafe {
            asm!("mrs {}, pmceid0_el0", out(reg) events, options(nomem, nostack));
            asm!("msr pmevtyper0_el0, {}", in(reg) INST_RETIRED, options(nomem, nostack));
            asm!("msr pmcntenset_el0, {}", in(reg) ENABLE, options(nomem, nostack));
            asm!("msr pmcr_el0, {0}", "isb", in(reg) ENABLE, options(nomem, nostack));
        }
        (events >> INST_RETIRED & 1 == 1).then_some(Self(()))
    }

    /// Instructions so far, modulo 2^32.
    #[must_use]
    pub fn now(self) -> u32 {
        let count: u64;
        // SAFETY: reading a counter has no effect. No `nomem`: what is counted may not move across.
        unsafe { asm!("isb", "mrs {}, pmevcntr0_el0", out(reg) count, options(nostack)) };
        count as u32
    }

    /// Runs `work` and returns what it returned and the instructions that it took; good up to 2^32.
    pub fn count<T>(self, work: impl FnOnce() -> T) -> (T, u64) {
        let start = self.now();
        let done = work();
        (done, u64::from(self.now().wrapping_sub(start)))
    }
}

/// Instructions by phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Phases {
    /// The linear map.
    pub linear: u64,
    /// The vmemmap.
    pub populate: u64,
    /// Struct pages.
    pub initialise: u64,
}

/// Counts the instructions of each phase, and looks at nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    counter: InstructionCounter,
    started: u32,
    phases: Phases,
}

impl Stopwatch {
    /// A stopwatch that reads `counter`.
    #[must_use]
    pub const fn new(counter: InstructionCounter) -> Self {
        Self { counter, started: 0, phases: Phases { linear: 0, populate: 0, initialise: 0 } }
    }

    /// The counts so far, which start again at zero.
    pub fn take(&mut self) -> Phases {
        core::mem::take(&mut self.phases)
    }
}

impl Observer for Stopwatch {
    #[inline]
    fn event(&mut self, event: Event) {
        match event {
            Event::Begin(_) => self.started = self.counter.now(),
            Event::End(phase) => {
                let taken = u64::from(self.counter.now().wrapping_sub(self.started));
                *match phase {
                    Phase::Linear => &mut self.phases.linear,
                    Phase::Populate => &mut self.phases.populate,
                    Phase::Initialise => &mut self.phases.initialise,
                    Phase::Add(_) | Phase::Remove(_) => return,
                } += taken;
            }
            _ => (),
        }
    }
}

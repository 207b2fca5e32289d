//! The table walk as the hardware does it: from the root down, one descriptor a level.

use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::Descriptor;
use crate::granule::Level;
use crate::regime::Regime;

/// One step: the slot that was read and what it held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Level of the table.
    pub level: Level,
    /// Physical address of the slot.
    pub slot: PhysAddr,
    /// Its content.
    pub descriptor: Descriptor,
}

/// A walk: its steps from the root to the descriptor that ends it.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    steps: [Option<Step>; 5],
    regime: Regime,
    va: VirtAddr,
}

impl Walk {
    /// Walks from the table at `root`, reading slots through `read`.
    pub fn new(regime: Regime, root: PhysAddr, va: VirtAddr, mut read: impl FnMut(PhysAddr) -> u64) -> Self {
        let mut steps = [None; 5];
        let mut table = root;
        let mut level = regime.start_level();
        for step in &mut steps {
            let slot = table.add(regime.index(va, level) * 8);
            let descriptor = Descriptor::from_bits(read(slot));
            *step = Some(Step { level, slot, descriptor });
            if !descriptor.is_table(level) {
                break;
            }
            table = descriptor.address(regime.granule(), regime.output());
            level = level.child();
        }
        Self { steps, regime, va }
    }

    /// The address walked.
    #[must_use]
    pub const fn address(&self) -> VirtAddr {
        self.va
    }

    /// The regime walked in.
    #[must_use]
    pub const fn regime(&self) -> Regime {
        self.regime
    }

    /// The steps, from the root.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.steps.iter().flatten().copied()
    }

    /// The last step: a leaf, or what the walk faulted on.
    #[must_use]
    pub fn last(&self) -> Option<Step> {
        self.steps().last()
    }

    /// The leaf that translates the address and the physical address that it gives; `None` where the walk faults.
    #[must_use]
    pub fn translation(&self) -> Option<(Step, PhysAddr)> {
        let last = self.last()?;
        let granule = self.regime.granule();
        let offset = self.va.value() & ((1 << granule.level_shift(last.level)) - 1);
        let frame = last.descriptor.address(granule, self.regime.output());
        last.descriptor.is_leaf(last.level).then(|| (last, frame.add(offset)))
    }
}

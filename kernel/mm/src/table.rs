//! Translation tables that are written in place: built off-line, linked when complete, cleared, invalidated, unlinked.
//!
//! The protocol, which every room of this floor keeps:
//! 1. A slot goes from empty to valid, for a link by way of parked, and from valid to empty or parked and then empty. A
//!    valid descriptor is never replaced by another valid one, so break-before-make never arises.
//! 2. A new table is zeroed and filled while the only descriptor that names it is parked (invalid, address kept). The
//!    link is made valid after a DSB ISHST, so a walk never reads a table that is not complete.
//! 3. What a cleared leaf mapped, and what an unlinked table held, is given back only after DSB ISHST, TLBI, DSB ISH, ISB.
//! 4. Only tables that hot-plug allocated (their descriptor says so) are ever unlinked, whichever range empties them.

mod map;
mod prune;
mod unmap;

pub use map::{Occupied, Protection};
pub use unmap::WouldSplit;

use crate::addr::{PhysAddr, VirtAddr};
use crate::descriptor::Descriptor;
use crate::granule::{Granule, Level};
use crate::leaf::Piece;
use crate::observe::{Observed, Observer};
use crate::regime::Regime;
use crate::seam::Machine;
use crate::tlb;
use crate::walk::Walk;

/// The translation tables under one root.
#[derive(Debug)]
pub struct Tables<M> {
    machine: M,
    root: PhysAddr,
    regime: Regime,
}

impl<M: Machine> Tables<M> {
    /// Takes charge of windows of addresses under the root table at `root`, which may be someone else's.
    ///
    /// What others have outside of those windows is never looked at. In them, a table of theirs on the way is used and never
    /// freed, and anything else that is not zero is [`Occupied`]. No register is read or assumed but what `regime` says and the
    /// memory attributes of the leaves ([`Layout::attributes`](crate::layout::Layout::attributes)): a kernel that sets its own
    /// `MAIR_EL1` and `TCR_EL1` does not call [`come_online`](Self::come_online).
    ///
    /// # Safety
    ///
    /// `root` must be the physical address of the root of live or future tables of this regime that `machine` reaches;
    /// nobody else may change, under the same root, descriptors of the windows that this value is used for. Bit 55 of
    /// table descriptors there must be clear or ours: it says that a table came from our allocator and may go back to it.
    ///
    /// # Panics
    ///
    /// If the regime's granule is not the machine's.
    #[must_use]
    #[inline]
    pub unsafe fn adopt(machine: M, root: PhysAddr, regime: Regime) -> Self {
        assert!(
            regime.granule() == M::Granule::SIZE,
            "a regime of {} on a machine of another granule",
            regime.granule()
        );
        Self { machine, root, regime }
    }

    /// What a CPU does before it takes part: forgets what its TLB holds from before, and is known to translate by these
    /// tables from then on. `ips` is the output size in its `TCR_EL1`. The registers that observers are told are those of
    /// [`Regime::registers`]: Linux's.
    pub fn come_online(&mut self, ips: u64) {
        tlb::forget(&mut self.machine);
        self.machine.uses(self.regime.registers(self.root, ips));
    }

    /// The machine below.
    #[must_use]
    #[inline]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    #[inline]
    pub(crate) const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// How these tables translate.
    #[must_use]
    #[inline]
    pub const fn regime(&self) -> Regime {
        self.regime.at(M::Granule::SIZE)
    }

    /// The root table.
    #[must_use]
    #[inline]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Walks the tables for `va` as the hardware would.
    #[inline]
    pub fn walk(&self, va: VirtAddr) -> Walk {
        Walk::new(self.regime(), self.root, va, |slot| self.machine.read(slot))
    }

    #[inline]
    pub(crate) fn on<N: Machine<Granule = M::Granule>>(self, change: impl FnOnce(M) -> N) -> Tables<N> {
        Tables { machine: change(self.machine), root: self.root, regime: self.regime }
    }

    #[inline]
    fn read(&self, slot: PhysAddr) -> Descriptor {
        Descriptor::from_bits(self.machine.read(slot))
    }

    #[inline]
    fn write(&mut self, slot: PhysAddr, descriptor: Descriptor) {
        self.machine.write(slot, descriptor.bits());
    }

    #[inline]
    fn address_in(&self, descriptor: Descriptor) -> PhysAddr {
        descriptor.address(self.regime().granule(), self.regime().output())
    }

    /// The slot of `table` that translates `va`.
    #[inline]
    fn slot(&self, table: PhysAddr, va: VirtAddr, level: Level) -> PhysAddr {
        table.add(self.regime().index(va, level) * 8)
    }

    /// The table of `level` on the way to `va`, where every level above has one.
    #[inline]
    fn table_at(&self, va: VirtAddr, level: Level) -> Option<PhysAddr> {
        let mut table = self.root;
        let mut at = self.regime().start_level();
        while at < level {
            let descriptor = self.read(self.slot(table, va, at));
            if !descriptor.is_table(at) {
                return None;
            }
            table = self.address_in(descriptor);
            at = at.child();
        }
        Some(table)
    }

    /// The slots of a piece in its table.
    #[inline]
    fn slots(table: PhysAddr, piece: Piece) -> impl Iterator<Item = PhysAddr> {
        (piece.index..piece.index + piece.count).map(move |index| table.add(index * 8))
    }
}

impl<M: Machine, O: Observer> Tables<Observed<M, O>> {
    /// Who watches the machine below.
    pub const fn observer(&mut self) -> &mut O {
        self.machine.observer()
    }
}

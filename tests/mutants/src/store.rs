//! Mutants whose descriptors are altered.

use vmemmap::addr::PhysAddr;
use vmemmap::descriptor::Attributes;
use vmemmap::granule::{GranuleSize, Level};
use vmemmap::seam::{Dsb, Machine, Phase};
use vmemmap::tlbi::{Operand, Tlbi};

use crate::fault::Store;
use crate::machine::Mutated;
use crate::ring::Changed;
use crate::track::{ADDRESS, CONTIGUOUS, Change, is_block, is_page};

const BLOCK: u64 = 0b01;
const PAGE: u64 = 0b11;
const ACCESS_FLAG: u64 = 1 << 10;
/// Members of a run at 4K, taken for those of every granule.
const MEMBERS_AT_4K: u64 = 16;

impl<M: Machine> Mutated<M> {
    /// Does in place of a store what the mutant does.
    pub(crate) fn store_altered(&mut self, fault: Store, change: Change, changed: Changed) {
        let Changed { slot, old, new } = changed;
        let memmap = self.track.phase == Some(Phase::Populate);
        match (fault, change) {
            (Store::BlockToTable, Change::Cleared) if is_block(old) && old & CONTIGUOUS == 0 && !self.struck => {
                self.split_in_place(slot, old);
            }
            (Store::TableToBlock, Change::Cut) if memmap && !self.struck => self.fold_in_place(slot, old),
            (Store::ClearsWholeTable, Change::Cleared) if memmap && !self.struck => self.clear_last_link(),
            (Store::MovesLeaf, Change::Leaf) if memmap && is_page(new) => self.leaves = [self.leaves[1], changed],
            (Store::FoldsLiveRun, Change::Leaf) if memmap && new & CONTIGUOUS != 0 => self.note_member(slot),
            _ => {}
        }
        let new = if change == Change::Leaf || change == Change::Linked { self.alter(fault, changed) } else { new };
        self.machine.write(slot, new);
    }

    /// No altmap of a scenario is larger.
    const MOST_ALTMAP: u64 = 1 << 30;

    /// What is written in place of a new descriptor.
    fn alter(&self, fault: Store, Changed { slot, new, .. }: Changed) -> u64 {
        let memmap = self.track.phase == Some(Phase::Populate);
        // RAM is below all device memory.
        let hands_out = self.altmap_end.saturating_sub(Self::MOST_ALTMAP);
        match fault {
            Store::BlockTooHigh if !is_page(new) && !is_block(new) => Attributes::KERNEL.bits() | BLOCK,
            Store::BlockMisaligned if is_block(new) => new | Self::granule().bytes(),
            Store::NoAccessFlag if is_page(new) || is_block(new) => new & !ACCESS_FLAG,
            Store::HighBitsInPlace => Self::high_bits_in_place(new),
            Store::ShortRun if memmap && slot.value() / 8 % Self::members() >= MEMBERS_AT_4K => new & !CONTIGUOUS,
            Store::RunByVirtualAddress if memmap && is_page(new) => new | CONTIGUOUS,
            Store::FoldsLiveRun if memmap => new & !CONTIGUOUS,
            // The frame behind those that the altmap has handed out.
            Store::EdgeInAltmap if memmap && is_page(new) && new & ADDRESS < hands_out => {
                new & !ADDRESS | self.altmap_end
            }
            _ => new,
        }
    }

    /// Members of a run of pages.
    fn members() -> u64 {
        Self::granule().contiguous_entries(Level::L3).unwrap_or(1)
    }

    /// Bits 51:48 (64K) or 51:50 (the others) of the address, which descriptors keep in bits 15:12 or 9:8.
    fn high_bits_in_place(descriptor: u64) -> u64 {
        match Self::granule() {
            GranuleSize::K64 => descriptor & !0xf000 | (descriptor >> 12 & 0xf) << 48,
            _ => descriptor & !0x300 | (descriptor >> 8 & 0x3) << 50,
        }
    }

    /// Replaces a live block by a table of pages that map the same.
    fn split_in_place(&mut self, slot: PhysAddr, block: u64) {
        self.struck = true;
        let (granule, table) = (Self::granule(), self.hands.spare);
        self.machine.zero_table(table, granule.bytes());
        for index in 0..granule.entries() {
            self.machine.write(table.add(index * 8), (block | PAGE) + (index << granule.shift()));
        }
        self.machine.dsb(Dsb::InnerShareableStores);
        self.machine.write(slot, table.value() | PAGE);
    }

    /// Replaces a live link by a block.
    fn fold_in_place(&mut self, slot: PhysAddr, link: u64) {
        self.struck = true;
        let block = 1_u64 << Self::granule().level_shift(Level::L2);
        self.machine.write(slot, link & ADDRESS & !(block - 1) | Attributes::KERNEL.bits() | BLOCK);
    }

    /// Clears the entry that all struct pages around hang from.
    fn clear_last_link(&mut self) {
        self.struck = true;
        if let Some(link) = self.track.last_link() {
            self.machine.write(link, 0);
        }
    }

    fn note_member(&mut self, slot: PhysAddr) {
        self.run = match self.run {
            None => Some((slot, 1)),
            Some((first, count)) if first.add(count * 8) == slot => Some((first, count + 1)),
            other => other,
        };
    }

    /// Sets the Contiguous bit of a run that is live already.
    pub(crate) fn fold_live_run(&mut self) {
        let Some((first, count)) = self.run.take() else { return };
        for slot in (0..count).map(|member| first.add(member * 8)) {
            let member = self.machine.read(slot);
            self.machine.write(slot, member | CONTIGUOUS);
        }
        self.forget_everything();
    }

    /// Lets the last page of struct pages show the frame of the one before, as `HUGETLB_PAGE_OPTIMIZE_VMEMMAP` does.
    pub(crate) fn move_leaf(&mut self) {
        let (Some(va), [before, last]) = (self.touched, self.leaves) else { return };
        if before.new == 0 {
            return;
        }
        self.machine.write(last.slot, last.new & !ADDRESS | before.new & ADDRESS);
        self.machine.dsb(Dsb::InnerShareableStores);
        self.machine.tlbi(Tlbi::LastLevel(Operand::new(va)));
        self.machine.dsb(Dsb::InnerShareable);
        self.machine.isb();
    }
}

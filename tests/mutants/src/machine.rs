//! The machine of a mutant.

use core::cell::RefCell;
use core::mem::MaybeUninit;

use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::granule::{Granule, GranuleSize};
use vmemmap::lifetime::State;
use vmemmap::regime::{Regime, Registers};
use vmemmap::seam::{Allocation, Dsb, Machine, Memory, Mmu, Phase, Source};
use vmemmap::tlbi::Tlbi;

use crate::fault::{Astray, Blind, Fault, Invalidation, Order, Place, Store, Wrong};
use crate::frames::Ledger;
use crate::order::Late;
use crate::recall::Recall;
use crate::ring::{Changed, Ring};
use crate::track::{Batch, Change, Track, is_leaf, is_link};

/// How many changes of a batch are remembered: a whole run at 16K, and some.
const BATCH: usize = 160;
/// How many links can be held back.
const LINKS: usize = 8;

/// What a mutant can't do through the seam.
#[derive(Clone, Copy, Debug)]
pub struct Hands {
    /// The CPU that it runs on.
    pub cpu: u8,
    /// Executes a TLB invalidation on a CPU, by its name and operand.
    pub tlbi: fn(cpu: u8, name: &'static str, operand: u64),
    /// Lets another CPU run.
    pub elsewhere: fn(),
    /// A frame that nobody uses.
    pub spare: PhysAddr,
    /// The regime of the tables.
    pub regime: Regime,
    /// Shared with the allocator.
    pub ledger: &'static Ledger,
}

/// A machine with one fault.
#[derive(Debug)]
pub struct Mutated<M> {
    pub(crate) machine: M,
    pub(crate) fault: Fault,
    pub(crate) hands: Hands,
    pub(crate) track: Track,
    /// The leaves of the batch at hand, in the order in which they were cleared and will be invalidated.
    pub(crate) batch: Ring<BATCH>,
    /// Links whose clearing is held back.
    pub(crate) links: Ring<LINKS>,
    pub(crate) late: Late,
    /// The last page leaves written, oldest first: for what comes back to them.
    pub(crate) leaves: [Changed; 2],
    /// The first member of the run written last, and how many.
    pub(crate) run: Option<(PhysAddr, u64)>,
    /// The last struct pages written.
    pub(crate) touched: Option<VirtAddr>,
    /// The fault has struck, where once is enough.
    pub(crate) struck: bool,
    registers: Option<Registers>,
    recall: RefCell<Recall>,
    /// The frames of the altmap that the range at hand has been given end here.
    pub(crate) altmap_end: u64,
}

impl<M: Machine> Mutated<M> {
    /// `machine` with `fault`.
    pub const fn new(machine: M, fault: Fault, hands: Hands) -> Self {
        Self {
            machine,
            fault,
            hands,
            track: Track::new(),
            batch: Ring::new(),
            links: Ring::new(),
            late: Late::Nothing,
            leaves: [Changed::NOTHING; 2],
            run: None,
            touched: None,
            struck: false,
            registers: None,
            recall: RefCell::new(Recall::new()),
            altmap_end: 0,
        }
    }

    pub(crate) fn granule() -> GranuleSize {
        M::Granule::SIZE
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// DSB ISHST, TLBI VMALLE1IS, DSB ISH, ISB: all is well again.
    pub(crate) fn forget_everything(&mut self) {
        self.machine.dsb(Dsb::InnerShareableStores);
        self.machine.tlbi(Tlbi::AllInnerShareable);
        self.machine.dsb(Dsb::InnerShareable);
        self.machine.isb();
    }

    /// What the core is to believe about a slot.
    fn believed(&self, slot: PhysAddr) -> u64 {
        let held = match self.fault {
            Fault::Order(Order::MemberByMember | Order::LeafByLeaf) => self.batch.find(slot),
            Fault::Order(Order::FreeBeforeUnlink) => self.links.find(slot),
            _ => None,
        };
        held.map_or_else(|| self.machine.read(slot), |held| held.new)
    }

    /// Whether a look at tables misses what `slot` holds.
    fn misses(&self, slot: PhysAddr, value: u64) -> bool {
        self.track.looking
            && match self.fault {
                Fault::Blind(Blind::OthersTables) => is_link(value) && !self.track.is_on_path(slot),
                Fault::Blind(Blind::OthersLeaves) => is_leaf(value),
                _ => false,
            }
    }

    /// Inside a removal, before anything is unmapped.
    const fn is_leaving(&self) -> bool {
        matches!(self.track.phase, Some(Phase::Remove(_)))
    }

    /// What the core is to believe that a word of a record holds.
    fn recalled(&self, word: PhysAddr, value: u64) -> u64 {
        let recall = self.recall.borrow();
        match self.fault {
            Fault::Blind(Blind::Neighbours) if self.is_leaving() && recall.before(word).is_some() => 0,
            Fault::Blind(Blind::Ghosts) if self.is_leaving() && recall.before(word).is_some() => u64::MAX,
            Fault::Blind(Blind::Tenants) if recall.is_host(word) => 0,
            _ => value,
        }
    }

    fn altered(&self, mut registers: Registers) -> Registers {
        const TG1: u64 = 0b11 << 30;
        let Fault::Registers(wrong) = self.fault else { return registers };
        match wrong {
            Wrong::Tg1AsTg0 => registers.tcr = registers.tcr & !TG1 | (registers.tcr >> 14 & 0b11) << 30,
            Wrong::T1sz => registers.tcr += 1 << 16,
            Wrong::RootMisaligned => registers.ttbr1 += 8,
            // Attribute 5, which nothing uses, becomes Normal write-back.
            Wrong::MairChanges | Wrong::MairChangesRightly if self.registers.is_some() => {
                registers.mair |= 0xff << 40;
            }
            Wrong::MairChanges | Wrong::MairChangesRightly => {}
        }
        registers
    }
}

// SAFETY: it is not: that is the point. Only suites that expect the damage run on it, each on a machine of its own.
unsafe impl<M: Machine> Memory for Mutated<M> {
    fn read(&self, slot: PhysAddr) -> u64 {
        let value = self.believed(slot);
        if self.misses(slot, value) {
            return 0;
        }
        if self.track.phase.is_some() && !self.track.looking && is_link(value) {
            self.track.walked(slot);
        }
        value
    }

    fn write(&mut self, slot: PhysAddr, descriptor: u64) {
        let changed = Changed { slot, old: self.believed(slot), new: descriptor };
        let change = Change::of(changed.old, descriptor);
        self.track.saw(change);
        if change == Change::Cleared && self.batch.push(changed) && self.holds_back(changed) {
            return;
        }
        match self.fault {
            Fault::Order(Order::FreeBeforeUnlink) => self.unlink_late(change, changed),
            Fault::Order(Order::OtherCpuBetween) if change == Change::Cut => {
                (self.hands.elsewhere)();
                self.machine.write(slot, descriptor);
            }
            Fault::Store(store) => self.store_altered(store, change, changed),
            _ => self.machine.write(slot, descriptor),
        }
    }

    fn zero_table(&mut self, table: PhysAddr, bytes: u64) {
        if !self.is(Fault::Store(Store::NoZero)) {
            self.machine.zero_table(table, bytes);
        }
    }

    fn load(&self, word: PhysAddr) -> u64 {
        self.recalled(word, self.machine.load(word))
    }

    fn store(&mut self, word: PhysAddr, value: u64) {
        if self.is_leaving() {
            let old = self.machine.load(word);
            self.recall.get_mut().stores(word, old);
        }
        self.machine.store(word, value);
    }

    unsafe fn exchange(&self, word: PhysAddr, old: u64, new: u64) -> Result<u64, u64> {
        let mut recall = self.recall.borrow_mut();
        if self.is_leaving() {
            recall.stores(word, old);
        } else if (old, new) == (State::Vacant.encode(), State::Live { holders: 0 }.encode()) {
            recall.names(word);
        }
        // SAFETY: the caller's promise.
        unsafe { self.machine.exchange(word, old, new) }
    }

    fn access(&mut self, range: VirtRange, write: impl FnOnce(&mut [MaybeUninit<u8>])) {
        if self.is(Fault::Store(Store::NotPutBack)) && self.is_leaving() {
            return;
        }
        self.touched = Some(range.start());
        self.machine.access(range, write);
    }
}

// SAFETY: as above.
unsafe impl<M: Machine> Mmu for Mutated<M> {
    fn dsb(&mut self, kind: Dsb) {
        self.catch_up();
        let place = self.track.barrier(kind);
        if place == Place::Complete {
            self.batch.clear();
        }
        match self.fault {
            Fault::Dsb(at, instead) if at == place => {
                if let Some(instead) = instead {
                    self.machine.dsb(instead);
                }
            }
            Fault::Order(Order::FreeBeforeComplete)
                if place == Place::Complete && self.track.batch == Batch::Leaves =>
            {
                self.late = Late::Completion;
            }
            Fault::Order(Order::MoreBarriers) => {
                self.machine.dsb(Dsb::InnerShareable);
                self.machine.isb();
                self.machine.dsb(kind);
            }
            _ => self.machine.dsb(kind),
        }
    }

    fn isb(&mut self) {
        let unsynchronised =
            self.is(Fault::Unsynchronised) && (self.is_leaving() || self.track.phase == Some(Phase::Initialise));
        let left_out = self.late == Late::Completion || self.is(Fault::NoIsb(self.track.place)) || unsynchronised;
        if !left_out {
            self.machine.isb();
        }
        if self.is(Fault::Store(Store::FoldsLiveRun)) && self.track.place == Place::Publish {
            self.fold_live_run();
        }
    }

    fn tlbi(&mut self, operation: Tlbi) {
        self.catch_up();
        if matches!(self.fault, Fault::Order(Order::MemberByMember | Order::LeafByLeaf)) {
            self.clear_next(operation);
        }
        self.invalidate(operation);
    }

    fn has_range_invalidations(&self) -> bool {
        // The other faults are mistakes with single operations.
        matches!(self.fault, Fault::Tlbi(Invalidation::ByRange(_))) && self.machine.has_range_invalidations()
    }
}

impl<M: Machine> Machine for Mutated<M> {
    type Granule = M::Granule;

    fn uses(&mut self, registers: Registers) {
        let altered = self.altered(registers);
        self.registers = Some(altered);
        self.machine.uses(altered);
        if self.is(Fault::Registers(Wrong::MairChangesRightly)) {
            self.machine.isb();
            self.forget_everything();
        }
    }

    fn allocated(&mut self, frames: Allocation) {
        if frames.source == Source::Altmap {
            self.altmap_end = frames.start.value() + frames.bytes;
        }
        self.machine.allocated(frames);
    }

    fn freed(&mut self, frames: Allocation) {
        if self.is(Fault::Frames(Astray::Swapped)) && frames.source == Source::Altmap {
            // The allocator of RAM will be given them.
            self.hands.ledger.lose(frames);
            return;
        }
        self.machine.freed(frames);
    }

    fn begin(&mut self, phase: Phase) {
        self.catch_up();
        self.track.begin(phase);
        if matches!(phase, Phase::Remove(_)) {
            self.recall.get_mut().forget_words();
        }
        (self.struck, self.run) = (false, None);
        if phase == Phase::Populate {
            self.leaves = [Changed::NOTHING; 2];
        }
        self.machine.begin(phase);
    }

    fn end(&mut self, phase: Phase) {
        self.catch_up();
        self.unlink_now();
        if self.is(Fault::Store(Store::MovesLeaf)) && phase == Phase::Initialise {
            self.move_leaf();
        }
        self.track.end(phase);
        self.machine.end(phase);
    }
}

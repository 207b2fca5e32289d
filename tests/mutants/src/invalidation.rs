//! Mutants whose TLB invalidations are other ones.

use vmemmap::addr::VirtAddr;
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::{GranuleSize, Level};
use vmemmap::seam::Machine;
use vmemmap::tlbi::{Operand, Tlbi};

use crate::fault::{Fault, Invalidation, Store};
use crate::machine::Mutated;
use crate::track::{Batch, CONTIGUOUS, is_block};

/// Addresses whose single invalidations become one for a range.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    start: VirtAddr,
    bytes: u64,
}

/// The address that an operand names.
fn address(operand: Operand) -> VirtAddr {
    VirtAddr::new(((operand.bits() << 20).cast_signed() >> 8).cast_unsigned())
}

/// The granule as level hints and range forms encode it.
const fn tg(granule: GranuleSize) -> u64 {
    match granule {
        GranuleSize::K4 => 1,
        GranuleSize::K16 => 2,
        GranuleSize::K64 => 3,
    }
}

/// The granule as `TCR.TG1` encodes it.
const fn tg1(granule: GranuleSize) -> u64 {
    match granule {
        GranuleSize::K4 => 2,
        GranuleSize::K16 => 1,
        GranuleSize::K64 => 3,
    }
}

/// The operand with a hint for level 3.
const fn hinted(operand: Operand, granule: GranuleSize) -> u64 {
    operand.bits() | (tg(granule) << 2 | 3) << 44
}

impl<M: Machine> Mutated<M> {
    /// Does in place of `operation` what the mutant does.
    pub(crate) fn invalidate(&mut self, operation: Tlbi) {
        match self.fault {
            Fault::Tlbi(fault) => self.invalidate_wrongly(fault, operation),
            Fault::Store(Store::BlockToTable | Store::ClearsWholeTable) if self.struck => {
                self.machine.tlbi(Tlbi::AllInnerShareable);
            }
            _ => self.machine.tlbi(operation),
        }
    }

    fn invalidate_wrongly(&mut self, fault: Invalidation, operation: Tlbi) {
        let cleared = if matches!(operation, Tlbi::LastLevel(_)) { self.batch.pop() } else { None };
        let granule = Self::granule();
        match (fault, operation) {
            (Invalidation::None, _)
            | (Invalidation::NoneForTables, Tlbi::AnyLevel(_))
            | (Invalidation::NoneAtStart, Tlbi::AllLocal) => {}
            (Invalidation::NoneForLeaves, _) if self.track.batch == Batch::Leaves => {}
            (Invalidation::LastLevelForTables, Tlbi::AnyLevel(operand)) => self.machine.tlbi(Tlbi::LastLevel(operand)),
            (Invalidation::OneAsidForTables, Tlbi::AnyLevel(operand)) => self.raw("vae1is", operand.bits()),
            (Invalidation::HintForTables, Tlbi::AnyLevel(operand)) => self.raw("vaae1is", hinted(operand, granule)),
            (Invalidation::PageHint, Tlbi::LastLevel(operand)) => self.raw("vaale1is", hinted(operand, granule)),
            (Invalidation::Local, operation) => self.invalidate_here(operation),
            (Invalidation::FirstMember, Tlbi::LastLevel(_)) => {
                if cleared.is_none_or(|cleared| Self::is_first(cleared.slot.value(), cleared.old)) {
                    self.machine.tlbi(operation);
                }
            }
            (Invalidation::Everything, Tlbi::LastLevel(_) | Tlbi::AnyLevel(_)) => {
                self.machine.tlbi(Tlbi::AllInnerShareable);
            }
            (Invalidation::AnyLevel, Tlbi::LastLevel(operand)) => self.machine.tlbi(Tlbi::AnyLevel(operand)),
            (Invalidation::Range | Invalidation::RangeTooShort | Invalidation::RangeOtherGranule, _) => {
                self.gather(operation, cleared.map_or(0, |cleared| cleared.old));
            }
            (fault, operation) => self.invalidate_other_address(fault, operation),
        }
    }

    /// The same operation with another operand.
    fn invalidate_other_address(&mut self, fault: Invalidation, operation: Tlbi) {
        let (Tlbi::LastLevel(operand) | Tlbi::AnyLevel(operand)) = operation else {
            return self.machine.tlbi(operation);
        };
        let va = address(operand);
        let bits = match fault {
            Invalidation::ElsewhereByAddress => Operand::new(va.add(64 << 20)).bits(),
            Invalidation::OperandInPages => va.value() >> Self::granule().shift() & ((1 << 44) - 1),
            Invalidation::OperandUnmasked => va.value() >> 12,
            _ => return self.machine.tlbi(operation),
        };
        self.raw(operation.name(), bits);
    }

    fn invalidate_here(&mut self, operation: Tlbi) {
        match operation {
            Tlbi::AllInnerShareable | Tlbi::AllLocal => self.machine.tlbi(Tlbi::AllLocal),
            Tlbi::LastLevel(operand) => self.raw("vaale1", operand.bits()),
            Tlbi::AnyLevel(operand) => self.raw("vaae1", operand.bits()),
        }
    }

    fn raw(&mut self, name: &'static str, operand: u64) {
        (self.hands.tlbi)(self.hands.cpu, name, operand);
    }

    /// Whether a descriptor is no member of a run, or its first.
    fn is_first(slot: u64, descriptor: u64) -> bool {
        let members: u64 = match (Self::granule(), is_block(descriptor)) {
            (GranuleSize::K4, _) => 16,
            (GranuleSize::K16, false) => 128,
            (GranuleSize::K16 | GranuleSize::K64, _) => 32,
        };
        descriptor & CONTIGUOUS == 0 || (slot / 8).is_multiple_of(members)
    }

    /// Puts a single invalidation of a leaf to those before it, if it is the next page or block.
    fn gather(&mut self, operation: Tlbi, old: u64) {
        let Tlbi::LastLevel(operand) = operation else {
            self.finish_range();
            return self.machine.tlbi(operation);
        };
        let granule = Self::granule();
        let shift = if is_block(old) { granule.level_shift(Level::L2) } else { granule.shift() };
        let (va, bytes) = (address(operand), 1 << shift);
        match &mut self.range {
            Some(range) if range.start.add(range.bytes) == va => range.bytes += bytes,
            _ => {
                self.finish_range();
                self.range = Some(Range { start: va, bytes });
            }
        }
    }

    /// log2 of the unit of a range's first address: with LPA2 it is 64 KiB at every granule.
    fn base_shift(&self) -> u32 {
        if self.hands.regime.output() == OutputFormat::Lpa2 { 16 } else { Self::granule().shift() }
    }

    /// Invalidates what was gathered: pages by themselves until what is left is even and starts where a range may, then
    /// range forms, the largest scale first, so that each starts aligned.
    pub(crate) fn finish_range(&mut self) {
        let Some(Range { mut start, bytes }) = self.range.take() else { return };
        let granule = Self::granule();
        let mut pages = bytes >> granule.shift();
        while pages % 2 == 1 || pages > 0 && !start.is_aligned(1 << self.base_shift()) {
            self.machine.tlbi(Tlbi::LastLevel(Operand::new(start)));
            (start, pages) = (start.add(granule.bytes()), pages - 1);
        }
        for scale in (0..4).rev() {
            let unit = 5 * scale + 1;
            let count = pages >> unit & 0x1f;
            if count > 0 {
                self.invalidate_range(start, scale, count);
                start = start.add(count << unit << granule.shift());
            }
        }
    }

    fn invalidate_range(&mut self, start: VirtAddr, scale: u64, count: u64) {
        let granule = Self::granule();
        let (tg, num) = match self.fault {
            Fault::Tlbi(Invalidation::RangeTooShort) if count == 1 => return,
            Fault::Tlbi(Invalidation::RangeTooShort) => (tg(granule), count - 2),
            Fault::Tlbi(Invalidation::RangeOtherGranule) => (tg1(granule), count - 1),
            _ => (tg(granule), count - 1),
        };
        let base = start.value() >> self.base_shift() & ((1 << 37) - 1);
        self.raw("rvaale1is", tg << 46 | scale << 44 | num << 39 | base);
    }
}

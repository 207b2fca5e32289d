//! Mutants whose TLB invalidations are other ones.

use vmemmap::addr::VirtAddr;
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::GranuleSize;
use vmemmap::seam::Machine;
use vmemmap::tlbi::{Operand, Tlbi};

use crate::fault::{ByRange, Fault, Invalidation, Store};
use crate::machine::Mutated;
use crate::track::{Batch, CONTIGUOUS, is_block};

/// The address that an operand names.
fn address(operand: Operand) -> VirtAddr {
    VirtAddr::new(((operand.bits() << 20).cast_signed() >> 8).cast_unsigned())
}

/// The first address of a range, whose base counts units of 2^`base_shift` bytes.
const fn range_start(bits: u64, base_shift: u32) -> u64 {
    ((bits << 27).cast_signed() >> 27).cast_unsigned() << base_shift
}

/// The granule as level hints encode it.
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
            (Invalidation::ByRange(fault), Tlbi::LastLevelRange(range) | Tlbi::AnyLevelRange(range)) => {
                self.invalidate_range(fault, operation, range.bits());
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
            // Only asked for by what is about them.
            Tlbi::LastLevelRange(_) | Tlbi::AnyLevelRange(_) => self.machine.tlbi(operation),
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

    fn invalidate_range(&mut self, fault: ByRange, operation: Tlbi, bits: u64) {
        const NUM: u64 = 1 << 39;
        const SCALE: u64 = 1 << 44;
        const TG: u64 = 3 << 46;
        const BASE: u64 = (1 << 37) - 1;
        let granule = Self::granule();
        let base_shift = if self.hands.regime.output() == OutputFormat::Lpa2 { 16 } else { granule.shift() };
        let with_base = |shift: u32| bits & !BASE | (range_start(bits, base_shift) >> shift) & BASE;
        let wrong = match fault {
            ByRange::TooShort if bits & (0x1f * NUM) == 0 => return,
            ByRange::TooShort => bits - NUM,
            ByRange::ScaleTooSmall if bits & (3 * SCALE) > 0 => bits - SCALE,
            ByRange::OtherGranule => bits & !TG | tg1(granule) << 46,
            ByRange::BaseIn4K => with_base(12),
            ByRange::BaseInPages => with_base(granule.shift()),
            ByRange::LastLevelForTables if operation.name() == "rvaae1is" => return self.raw("rvaale1is", bits),
            ByRange::Right | ByRange::ScaleTooSmall | ByRange::LastLevelForTables => {
                return self.machine.tlbi(operation);
            }
        };
        self.raw(operation.name(), wrong);
    }
}

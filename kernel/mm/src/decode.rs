//! One descriptor, or one address, in words: the fault report, `cargo xtask decode` and `cargo xtask walk` say the same.

use core::fmt;

use crate::addr::VirtAddr;
use crate::descriptor::Descriptor;
use crate::granule::Level;
use crate::layout::Layout;
use crate::regime::{MAIR, Regime};
use crate::walk::{Step, Walk};

/// A descriptor as it stands in a table of a level, in words.
#[derive(Clone, Copy, Debug)]
pub struct InWords {
    descriptor: Descriptor,
    level: Level,
    regime: Regime,
    mair: Option<u64>,
}

impl InWords {
    /// `descriptor`, read in a table of `level`, with the `MAIR_EL1` that this crate sets.
    #[must_use]
    pub const fn new(descriptor: Descriptor, level: Level, regime: Regime) -> Self {
        Self { descriptor, level, regime, mair: Some(MAIR) }
    }

    /// The same where `MAIR_EL1` may be another's: the memory attribute is a number.
    #[must_use]
    pub const fn with_any_mair(self) -> Self {
        Self { mair: None, ..self }
    }

    const fn bit(&self, bit: u32) -> bool {
        self.descriptor.bits() >> bit & 1 == 1
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}", self.descriptor.address(self.regime.granule(), self.regime.output()))?;
        let flags = [(59, " PXNTable"), (60, " UXNTable"), (62, " read-only"), (55, " hot-plug's")];
        flags.iter().filter(|(bit, _)| self.bit(*bit)).try_for_each(|(_, name)| f.write_str(name))
    }

    fn leaf(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let granule = self.regime.granule();
        let kind = if self.level == Level::L3 { "page" } else { "block" };
        write!(f, "{kind} {}", self.descriptor.address(granule, self.regime.output()))?;
        write!(f, " {}", Bytes(1 << granule.level_shift(self.level)))?;
        f.write_str(if self.bit(7) { " RO" } else { " RW" })?;
        f.write_str(if self.bit(6) { " EL0" } else { "" })?;
        let flags =
            [(53, " PXN"), (54, " UXN"), (10, " AF"), (11, " nG"), (50, " GP"), (51, " DBM"), (52, " contiguous")];
        flags.iter().filter(|(bit, _)| self.bit(*bit)).try_for_each(|(_, name)| f.write_str(name))?;
        if !self.bit(10) {
            f.write_str(" (AF clear: faults)")?;
        }
        write!(f, " {} ", self.shareability())?;
        self.memory_type(f)
    }

    fn shareability(&self) -> &'static str {
        match (self.regime.output(), self.descriptor.bits() >> 8 & 3) {
            (crate::descriptor::OutputFormat::Lpa2, _) => "TCR.SH1",
            (_, 0) => "non-shareable",
            (_, 1) => "reserved-SH",
            (_, 2) => "outer",
            (_, _) => "inner",
        }
    }

    fn memory_type(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.descriptor.bits() >> 2 & 7;
        match self.mair.map(|mair| mair >> (index * 8) & 0xff) {
            None => write!(f, "attribute {index}"),
            Some(0xff) => f.write_str("Normal-WB"),
            Some(0x44) => f.write_str("Normal-NC"),
            Some(0x04) => f.write_str("Device-nGnRE"),
            Some(_) => f.write_str("Device-nGnRnE"),
        }
    }
}

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (descriptor, level) = (self.descriptor, self.level);
        if descriptor.is_table(level) {
            self.table(f)
        } else if descriptor.is_leaf(level) {
            self.leaf(f)
        } else if descriptor.is_valid() {
            write!(f, "reserved at {level}: bits 1:0 are 01 (faults)")
        } else if descriptor.is_empty() {
            f.write_str("invalid, empty")
        } else {
            write!(f, "invalid, parked {}", descriptor.address(self.regime.granule(), self.regime.output()))
        }
    }
}

/// A size with the largest unit that divides it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
            .into_iter()
            .find(|(shift, _)| self.0.trailing_zeros() >= *shift)
            .unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{:x}] {}", self.level, self.slot.value(), self.descriptor)
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps() {
            let index = self.regime().index(self.address(), step.level);
            let words = InWords::new(step.descriptor, step.level, self.regime());
            writeln!(f, "  {} index {index:<5} at {:<12} {}  {words}", step.level, step.slot, step.descriptor)?;
        }
        match self.translation() {
            Some((_, pa)) => write!(f, "  -> {pa}"),
            None => write!(f, "  -> faults at {}", self.last().map_or(Level::L0, |step| step.level)),
        }
    }
}

/// An address cut into what each level of the walk takes of it, without any table.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The address.
    pub va: VirtAddr,
    /// How it would be translated.
    pub regime: Regime,
}

impl Cut {
    /// Whether the kernel half holds the address at all.
    #[must_use]
    pub const fn is_canonical(&self) -> bool {
        self.va.value() >= self.regime.lowest().value()
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { va, regime } = self;
        let (granule, bits) = (regime.granule(), regime.va_bits());
        write!(f, "{:016x}  {granule} granule, {bits} bits", va.value())?;
        if !self.is_canonical() {
            return write!(f, "\n  below {:016x}: not an address of TTBR1", regime.lowest().value());
        }
        for number in regime.start_level().number()..=3 {
            let level = Level::new(number).unwrap_or(Level::L3);
            let (shift, entries) = (granule.level_shift(level), regime.entries(level));
            let top = shift + entries.trailing_zeros() - 1;
            write!(f, "\n  {level}  bits {top:>2}:{shift:<2}  index {:<5} of {entries:<5}", regime.index(*va, level))?;
            write!(f, " each entry {}", Bytes(1 << shift))?;
        }
        let offset = va.value() & (granule.bytes() - 1);
        write!(f, "\n      bits {:>2}:0   offset {offset:#x}", granule.shift() - 1)
    }
}

/// The window of a layout that an address lies in, by name.
#[must_use]
pub fn window(layout: &Layout, va: VirtAddr) -> Option<&'static str> {
    let windows = [(layout.linear(), "linear map"), (layout.vmemmap(), "vmemmap"), (crate::layout::PCI_IO, "PCI I/O")];
    windows.iter().find(|(range, _)| range.contains(va)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::OutputFormat;
    use crate::granule::GranuleSize;

    fn words(bits: u64, level: Level, granule: GranuleSize) -> String {
        let regime = Regime::new(granule, 48, OutputFormat::Bits48).unwrap();
        InWords::new(Descriptor::from_bits(bits), level, regime).to_string()
    }

    #[test]
    fn a_vmemmap_page_reads_as_the_manual_says() {
        assert_eq!(
            words(0x00e8_0001_0001_0703, Level::L3, GranuleSize::K64),
            "page 0x100010000 64K RW PXN UXN AF DBM inner Normal-WB"
        );
        assert_eq!(
            words(0x00f8_0001_0000_0701, Level::L2, GranuleSize::K16),
            "block 0x100000000 32M RW PXN UXN AF DBM contiguous inner Normal-WB"
        );
    }

    #[test]
    fn tables_and_invalid_descriptors_are_told_apart() {
        assert_eq!(
            words(0x1880_0000_4321_0403, Level::L2, GranuleSize::K64),
            "table 0x43210000 PXNTable UXNTable hot-plug's"
        );
        assert_eq!(words(0, Level::L3, GranuleSize::K64), "invalid, empty");
        assert_eq!(words(0x4321_0702, Level::L3, GranuleSize::K64), "invalid, parked 0x43210000");
        assert_eq!(words(0x4321_0701, Level::L3, GranuleSize::K64), "reserved at L3: bits 1:0 are 01 (faults)");
    }

    #[test]
    fn an_address_is_cut_into_its_indices() {
        let regime = Regime::new(GranuleSize::K64, 48, OutputFormat::Bits48).unwrap();
        let cut = Cut { va: VirtAddr::new(0xffff_ffdf_c030_0000), regime }.to_string();
        assert!(cut.contains("L1  bits 47:42  index 63    of 64"), "{cut}");
        assert!(cut.contains("L2  bits 41:29  index 7934  of 8192"), "{cut}");
        assert!(cut.contains("L3  bits 28:16  index 48    of 8192"), "{cut}");
    }
}

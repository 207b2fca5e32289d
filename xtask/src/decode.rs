//! `cargo xtask decode`: a descriptor in words, those of the kernel's fault report.

use clap::Args;
use vmemmap::decode::InWords;
use vmemmap::descriptor::Descriptor;
use vmemmap::granule::{GranuleSize, Level};
use vmemmap::regime::Regime;

use crate::size;
use crate::status::{Status, Stop};

/// A descriptor and where it stands.
#[derive(Args, Clone, Debug)]
pub struct Decode {
    /// The descriptor, hexadecimal
    #[arg(value_parser = size::hex)]
    descriptor: u64,
    /// Granule of the table that it stands in: 4k, 16k or 64k
    #[arg(long, default_value = "64k", value_parser = crate::job::granule)]
    granule: GranuleSize,
    /// Level of that table [default: 2 for a block, else 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-1..=3))]
    level: Option<i8>,
    /// Bits of a virtual address, 25 to 52: above 48, descriptors have the layout of LPA2 (4K, 16K) or LPA (64K)
    #[arg(long, value_name = "N", default_value_t = 48)]
    va_bits: u32,
}

impl Decode {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        println!("{:016x}  {}", self.descriptor, self.words()?);
        Ok(Status::Pass)
    }

    fn words(&self) -> Result<InWords, Stop> {
        let (regime, level) = (self.regime()?, self.level());
        let (granule, bits, root) = (self.granule, self.va_bits, regime.start_level().number());
        if level.number() < root {
            let asked = level.number();
            let rule = format!("walks of {bits} bits at {granule} begin at level {root}");
            return Err(Stop::refused(format!("--level {asked}: {rule}; choose a level from {root} to 3")));
        }
        Ok(in_words(self.descriptor, regime, level))
    }

    fn regime(&self) -> Result<Regime, Stop> {
        let why = "descriptors are read for 25 to 52 bits, above 48 in the layout of LPA2 (4K, 16K) or LPA (64K)";
        let refused = |_| Stop::refused(format!("--va-bits {}: {why}", self.va_bits));
        Regime::of_size(self.granule, self.va_bits).map_err(refused)
    }

    /// Bits 1:0 are 01 in blocks only.
    fn level(&self) -> Level {
        let default = if self.descriptor & 3 == 1 { Level::L2 } else { Level::L3 };
        self.level.and_then(Level::new).unwrap_or(default)
    }
}

/// The descriptor in words.
pub fn in_words(descriptor: u64, regime: Regime, level: Level) -> InWords {
    InWords::new(Descriptor::from_bits(descriptor), level, regime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_as_a_block_without_being_told_the_level() {
        let decode = |descriptor, level| Decode { descriptor, granule: GranuleSize::K4, level, va_bits: 48 }.level();
        assert_eq!(decode(0x00e8_0001_0020_0701, None), Level::L2);
        assert_eq!(decode(0x00e8_0001_0020_0703, None), Level::L3);
        assert_eq!(decode(0x00e8_0001_4000_0701, Some(1)), Level::L1);
    }

    #[test]
    fn with_52_bits_the_layout_of_the_descriptor_is_that_of_the_granule() {
        let words = |descriptor, granule, va_bits| {
            Decode { descriptor, granule, level: None, va_bits }.words().map(|words| words.to_string())
        };
        let lpa2 = words(0x00ea_0001_0001_0603, GranuleSize::K16, 52);
        assert_eq!(lpa2, Ok("page 0xa000100010000 16K RW PXN UXN AF DBM TCR.SH1 Normal-WB".to_owned()));
        let lpa = words(0x00e8_0001_0001_a703, GranuleSize::K64, 52);
        assert_eq!(lpa, Ok("page 0xa000100010000 64K RW PXN UXN AF DBM inner Normal-WB".to_owned()));
    }

    #[test]
    fn bits_that_no_regime_has_are_told_which_there_are() {
        let words = |va_bits| Decode { descriptor: 0x703, granule: GranuleSize::K64, level: None, va_bits }.words();
        for bits in [10, 24, 53] {
            assert!(words(bits).is_err_and(|stop| stop.why.contains("25 to 52 bits, above 48 in")), "{bits}");
        }
        assert!([25, 48, 49, 52].into_iter().all(|bits| words(bits).is_ok()));
    }

    #[test]
    fn a_level_above_the_root_is_refused() {
        let words = |granule, va_bits, level| {
            Decode { descriptor: 0x0000_0001_0020_0703, granule, level: Some(level), va_bits }.words()
        };
        for (granule, bits, root) in [(GranuleSize::K4, 48, 0), (GranuleSize::K4, 52, -1), (GranuleSize::K64, 42, 2)] {
            assert!(words(granule, bits, root).is_ok(), "{granule} {bits}");
            let says = format!("choose a level from {root} to 3");
            if root > -1 {
                assert!(
                    words(granule, bits, root - 1).is_err_and(|stop| stop.why.ends_with(&says)),
                    "{granule} {bits}"
                );
            }
        }
    }
}

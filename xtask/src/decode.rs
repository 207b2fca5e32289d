//! `cargo xtask decode`: a descriptor in words, those of the kernel's fault report.

use clap::Args;
use vmemmap::decode::InWords;
use vmemmap::descriptor::{Descriptor, OutputFormat};
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
}

impl Decode {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        println!("{:016x}  {}", self.descriptor, in_words(self.descriptor, self.granule, self.level())?);
        Ok(Status::Pass)
    }

    /// Bits 1:0 are 01 in blocks only.
    fn level(&self) -> Level {
        let default = if self.descriptor & 3 == 1 { Level::L2 } else { Level::L3 };
        self.level.and_then(Level::new).unwrap_or(default)
    }
}

/// The descriptor in words, with output addresses of 48 bits.
pub fn in_words(descriptor: u64, granule: GranuleSize, level: Level) -> Result<InWords, Stop> {
    let regime = Regime::new(granule, 48, OutputFormat::Bits48).map_err(|error| Stop::refused(error.to_string()))?;
    Ok(InWords::new(Descriptor::from_bits(descriptor), level, regime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_as_a_block_without_being_told_the_level() {
        let decode = |descriptor, level| Decode { descriptor, granule: GranuleSize::K4, level }.level();
        assert_eq!(decode(0x00e8_0001_0020_0701, None), Level::L2);
        assert_eq!(decode(0x00e8_0001_0020_0703, None), Level::L3);
        assert_eq!(decode(0x00e8_0001_4000_0701, Some(1)), Level::L1);
    }
}

//! `cargo xtask decode`: a descriptor in words.

use clap::Args;
use vmemmap::granule::{GranuleSize, Level};
use vmemmap::walk::{Step, Walk};

use crate::size;
use crate::status::{Status, Stop};

/// A descriptor and where it stands.
#[derive(Args, Clone, Debug)]
pub struct Decode {
    /// The descriptor, hexadecimal
    #[arg(value_parser = size::address)]
    pub descriptor: u64,
    /// Granule of the table that it stands in: 4k, 16k or 64k
    #[arg(long, default_value = "64k", value_parser = crate::job::granule)]
    pub granule: GranuleSize,
    /// Level of that table
    #[arg(long, default_value_t = 3, allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-1..=3))]
    pub level: i8,
}

impl Decode {
    /// Runs the command.
    ///
    /// # Errors
    /// The level does not exist.
    pub fn run(&self) -> Result<Status, Stop> {
        let level = Level::new(self.level).ok_or_else(|| Stop::refused("levels are -1 to 3"))?;
        println!("{}", words(self.descriptor, self.granule, level));
        Ok(Status::Pass)
    }
}

/// The descriptor in words.
#[must_use]
pub fn words(_descriptor: u64, _granule: GranuleSize, _level: Level) -> String {
    String::new()
}

/// One line a step: the slot, its descriptor, and that in words.
#[must_use]
pub fn steps(walk: &Walk) -> Vec<String> {
    let regime = walk.regime();
    let line = |step: Step| {
        let index = regime.index(walk.address(), step.level);
        let words = words(step.descriptor.bits(), regime.granule(), step.level);
        format!("{}[{index}] at {}  {}  {words}", step.level, step.slot, step.descriptor)
    };
    walk.steps().map(line).collect()
}

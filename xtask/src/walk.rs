//! `cargo xtask walk`: an address cut into the steps of its walk; with a held machine, the entries that it meets.

use std::path::Path;

use clap::Args;
use serde_json::Value;
use vmemmap::addr::{PhysAddr, VirtAddr};
use vmemmap::decode::Cut;
use vmemmap::granule::GranuleSize;
use vmemmap::regime::Regime;
use vmemmap::walk;

use crate::qemu::held_file;
use crate::qmp::Qmp;
use crate::size;
use crate::status::{Status, Stop};

/// An address and how it is translated.
#[derive(Args, Clone, Debug)]
pub struct Walk {
    /// The virtual address, hexadecimal
    #[arg(value_parser = size::hex)]
    address: u64,
    /// Translation granule: 4k, 16k or 64k [default: the held machine's, or 64k]
    #[arg(long, value_parser = crate::job::granule)]
    granule: Option<GranuleSize>,
    /// Bits of a virtual address [default: the held machine's, or 48]
    #[arg(long, value_name = "N")]
    va_bits: Option<u32>,
}

impl Walk {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        let held = Held::read(&held_file());
        let regime = self.regime(held.as_ref())?;
        let va = VirtAddr::new(self.address);
        let cut = Cut { va, regime };
        println!("{cut}");
        if !cut.is_canonical() {
            return Ok(Status::Refused);
        }
        if let Some(held) = held.filter(|held| held.regime == regime) {
            println!("entries of the held machine\n{}", held.walk(va)?);
        }
        Ok(Status::Pass)
    }

    fn regime(&self, held: Option<&Held>) -> Result<Regime, Stop> {
        let granule = self.granule.or(held.map(|held| held.regime.granule())).unwrap_or(GranuleSize::K64);
        let bits = self.va_bits.or(held.map(|held| held.regime.va_bits())).unwrap_or(48);
        Regime::of_size(granule, bits).map_err(|error| Stop::refused(error.to_string()))
    }
}

/// A machine that `cargo xtask qemu --hold` keeps alive.
#[derive(Debug)]
struct Held {
    regime: Regime,
    root: PhysAddr,
    qmp: String,
}

impl Held {
    fn read(file: &Path) -> Option<Self> {
        let object: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
        let granule = crate::job::granule(object["granule"].as_str()?).ok()?;
        let bits = u32::try_from(object["va_bits"].as_u64()?).ok()?;
        let regime = Regime::of_size(granule, bits).ok()?;
        let ttbr1 = size::hex(object["registers"]["ttbr1_el1"].as_str()?).ok()?;
        Some(Self { regime, root: regime.root(ttbr1), qmp: object["hold"]["qmp"].as_str()?.to_owned() })
    }

    fn walk(&self, va: VirtAddr) -> Result<walk::Walk, Stop> {
        let mut monitor = Qmp::connect(Path::new(&self.qmp))?;
        let mut broken = None;
        let read = |slot: PhysAddr| {
            monitor.read_physical(slot.value()).unwrap_or_else(|stop| {
                broken.get_or_insert(stop);
                0
            })
        };
        let walk = walk::Walk::new(self.regime, self.root, va, read);
        broken.map_or(Ok(walk), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(address: u64) -> Walk {
        Walk { address, granule: Some(GranuleSize::K4), va_bits: Some(48) }
    }

    #[test]
    fn a_user_address_is_refused() {
        assert_eq!(walk(0x1000).run(), Ok(Status::Refused));
        assert_eq!(walk(0xffff_fdff_c300_0000).run(), Ok(Status::Pass));
    }
}

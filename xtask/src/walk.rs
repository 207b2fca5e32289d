//! `cargo xtask walk`: an address cut into the steps of its walk; with a held machine, the entries that it meets.

use std::path::Path;

use clap::Args;
use serde_json::Value;
use vmemmap::addr::{PhysAddr, VirtAddr};
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::{GranuleSize, Level};
use vmemmap::regime::Regime;
use vmemmap::walk;

use crate::qmp::Qmp;
use crate::status::{Status, Stop};
use crate::{decode, place, size};

/// Bits of `TTBR1_EL1` that are the root's address.
const ROOT: u64 = 0x0000_ffff_ffff_fffe;

/// An address and how it is translated.
#[derive(Args, Clone, Debug)]
pub struct Walk {
    /// The virtual address, hexadecimal
    #[arg(value_parser = size::address)]
    pub address: u64,
    /// Translation granule: 4k, 16k or 64k [default: the held machine's, or 64k]
    #[arg(long, value_parser = crate::job::granule)]
    pub granule: Option<GranuleSize>,
    /// Bits of a virtual address [default: the held machine's, or 48]
    #[arg(long, value_name = "N")]
    pub va_bits: Option<u32>,
}

impl Walk {
    /// Runs the command.
    ///
    /// # Errors
    /// The address is not one of the kernel half, or the held machine cannot be read.
    pub fn run(&self) -> Result<Status, Stop> {
        let held = Held::read(&place::held());
        let regime = self.regime(held.as_ref())?;
        let va = VirtAddr::new(self.address);
        if va < regime.lowest() {
            return Err(Stop::refused(format!("{va} is no kernel address of {} bits: these begin at {}", regime.va_bits(), regime.lowest())));
        }
        println!("{}", indices(regime, va));
        if let Some(held) = held.filter(|held| held.regime == regime) {
            held.walk(va)?.iter().for_each(|line| println!("{line}"));
        }
        Ok(Status::Pass)
    }

    fn regime(&self, held: Option<&Held>) -> Result<Regime, Stop> {
        let granule = self.granule.or(held.map(|held| held.regime.granule())).unwrap_or(GranuleSize::K64);
        let bits = self.va_bits.or(held.map(|held| held.regime.va_bits())).unwrap_or(48);
        Regime::new(granule, bits, OutputFormat::Bits48).map_err(|error| Stop::refused(error.to_string()))
    }
}

/// The address in pieces: one index a level, and the offset in a page.
fn indices(regime: Regime, va: VirtAddr) -> String {
    let levels = (regime.start_level().number()..=3).filter_map(Level::new);
    let pieces: Vec<_> = levels.map(|level| format!("{level}[{}]", regime.index(va, level))).collect();
    let offset = va.value() & (regime.granule().bytes() - 1);
    format!("{:016x}  {} {} bit   {}  offset {offset:#x}", va.value(), regime.granule(), regime.va_bits(), pieces.join("  "))
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
        let root = size::address(object["registers"]["ttbr1_el1"].as_str()?).ok()?;
        Some(Self {
            regime: Regime::new(granule, bits, OutputFormat::Bits48).ok()?,
            root: PhysAddr::new(root & ROOT),
            qmp: object["hold"]["qmp"].as_str()?.to_owned(),
        })
    }

    fn walk(&self, va: VirtAddr) -> Result<Vec<String>, Stop> {
        let mut monitor = Qmp::connect(Path::new(&self.qmp))?;
        let mut broken = None;
        let read = |slot: PhysAddr| monitor.read_physical(slot.value()).unwrap_or_else(|stop| {
            broken.get_or_insert(stop);
            0
        });
        let walk = walk::Walk::new(self.regime, self.root, va, read);
        match broken {
            Some(stop) => Err(stop),
            None => Ok(decode::steps(&walk)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regime(granule: GranuleSize) -> Regime {
        Regime::new(granule, 48, OutputFormat::Bits48).unwrap()
    }

    /// Walk indices measured on Linux.
    #[test]
    fn an_address_is_cut_as_linux_walks_it() {
        for (granule, va, wanted) in [
            (GranuleSize::K64, 0xffff_ffdf_c030_0000, "L1[63]  L2[7934]  L3[48]  offset 0x0"),
            (GranuleSize::K16, 0xffff_ff7f_c0c0_0000, "L0[1]  L1[2039]  L2[2016]  L3[768]  offset 0x0"),
            (GranuleSize::K4, 0xffff_fdff_c300_0040, "L0[507]  L1[511]  L2[24]  L3[0]  offset 0x40"),
        ] {
            let line = indices(regime(granule), VirtAddr::new(va));
            assert!(line.ends_with(wanted), "{line}");
        }
    }

    #[test]
    fn a_user_address_is_refused() {
        let walk = Walk { address: 0x1000, granule: Some(GranuleSize::K4), va_bits: None };
        assert_eq!(walk.run().unwrap_err().status, Status::Refused);
    }
}

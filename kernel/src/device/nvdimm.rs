//! NVDIMMs that were there when the machine started: ranges of persistent memory in ACPI's NFIT.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use devices::{acpi, nfit};
use vmemmap::addr::PhysRange;
use vmemmap::seam::Machine;

use crate::boot::BootInfo;
use crate::firmware;
use crate::memory::MemoryMap;

/// The ranges, by rising address.
///
/// # Errors
///
/// In words: the tables are broken.
pub fn ranges<M: Machine>(boot: &BootInfo, map: &mut MemoryMap<M>) -> Result<Vec<PhysRange>, String> {
    let tables = firmware::acpi_tables(boot, map)?;
    let table = acpi::find(&tables, nfit::SIGNATURE).map_err(|error| format!("{error}"))?;
    let ranges = table.map_or(Ok(Vec::new()), nfit::persistent);
    let mut ranges = ranges.map_err(|error| format!("{error}"))?;
    ranges.sort_by_key(|range| range.start());
    Ok(ranges)
}

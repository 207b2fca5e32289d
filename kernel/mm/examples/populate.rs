//! The seed alone, for a kernel that keeps its own books of sections: the vmemmap of one range, stored in the range itself.
//! `cargo run -p vmemmap --example populate` runs it on a hostile MMU; for the bare target it builds as it is.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod machine;

use core::fmt::{self, Write};

use vmemmap::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::descriptor::OutputFormat;
use vmemmap::frames::BitmapFrames;
use vmemmap::granule::{GranuleSize, K4};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::regime::{Regime, RegimeError};
use vmemmap::seam::{Machine, Memory};
use vmemmap::table::Tables;
use vmemmap::vmemmap::{Memmap, PopulateError, Shared, Storage, depopulate, populate};

/// My windows: struct pages of 32 bytes for the memory from 4 GiB on. No linear map of ours is used here.
const DIRECT_MAP: VirtRange = VirtRange::new(VirtAddr::new(0xffff_ff80_0000_0000), 1 << 36);
const PAGES: VirtRange = VirtRange::new(VirtAddr::new(0xffff_fffe_c000_0000), 1 << 29);
const LAYOUT: Layout = Layout::new(GranuleSize::K4, DIRECT_MAP, PAGES, 4 << 30, 5);
/// My RAM for tables.
const RAM: Option<PhysRange> = PhysRange::new(PhysAddr::new(0x4800_0000), 64 << 12);

/// Populates the vmemmap of `device` and takes it away. `root` is my root table, with my own mappings beside that window.
fn populate_and_depopulate(
    machine: impl Machine<Granule = K4>,
    root: PhysAddr,
    _memory: impl Memory,
    device: PhysRange,
    log: &mut impl Write,
) -> Result<(), Failed> {
    let regime = Regime::new(GranuleSize::K4, 39, OutputFormat::Bits48)?;
    // SAFETY: nobody else writes descriptors of the window.
    let mut tables = unsafe { Tables::adopt(machine, root, regime) };
    let mut words = [0];
    let ram = RAM.expect("below 2^64");
    let mut frames = BitmapFrames::new(&mut words, ram, GranuleSize::K4);
    // SAFETY: nobody else uses that RAM.
    unsafe { frames.release(ram) };

    let altmap = Altmap::tight(&LAYOUT, device, LeafPolicy::Largest, 2); // two pages are the driver's
    let memmap = Memmap::new(&LAYOUT, device, LeafPolicy::Largest);
    let populated = populate(&mut tables, &mut frames, memmap, Storage::Altmap(altmap))?;
    writeln!(log, "{} for {device}, {} tables", populated.memmap().range(), populated.tables())?;
    let first = Pfn::containing(device.start(), 12);
    writeln!(log, "{}", tables.walk(LAYOUT.page(first)))?;

    // Here my kernel writes its struct pages, makes the pfns valid, uses the memory, and makes them invalid again.

    // SAFETY: the same frames, and nobody else's struct pages are in its pages.
    let (storage, freed) = unsafe { depopulate(&mut tables, &mut frames, populated, Shared::default()) };
    writeln!(log, "{freed} tables freed; the altmap is as it was: {}", storage.altmap() == Some(altmap))?;
    writeln!(log, "{}", tables.walk(LAYOUT.page(first)))?;
    Ok(())
}

/// Whatever can go wrong; each says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Failed {
    Regime(#[from] RegimeError),
    Populate(#[from] PopulateError),
    Log(#[from] fmt::Error),
}

machine::runs!(populate_and_depopulate);

//! Device memory in a kernel of one's own: its struct page, its allocator, its readers, under a root table that is not
//! hot-plug's. `cargo run -p vmemmap --example hotplug` runs it on a hostile MMU; for the bare target it builds as it is.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod machine;

use core::fmt::{self, Write};

use vmemmap::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::descriptor::OutputFormat;
use vmemmap::frames::OutOfFrames;
use vmemmap::granule::{GranuleSize, K4};
use vmemmap::hotplug::{AddError, Hotplug, Obstacle, PlanError, Request};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::lifetime::Readers;
use vmemmap::meta::{Meta, Role, struct_page_shift};
use vmemmap::regime::{Regime, RegimeError};
use vmemmap::seam::{Frames, Machine, Memory, Quiesce};
use vmemmap::table::Tables;

/// My struct page.
#[derive(Clone, Copy)]
#[repr(C)]
struct MyPage {
    pfn: u64,
    in_use: u64,
}

// SAFETY: two words, 16 bytes, no padding.
unsafe impl Meta for MyPage {
    fn new(pfn: Pfn, role: Role) -> Self {
        Self { pfn: pfn.number(), in_use: u64::from(role != Role::Device) }
    }
}

const PAGE: u64 = 4096;
/// My RAM for tables: 64 pages.
const RAM: PhysAddr = PhysAddr::new(0x4800_0000);

/// My allocator: a bit for each page that is free. With an altmap single pages are all that is asked for.
struct MyFrames(u64);

// SAFETY: a page whose bit is set is nobody's, and the linear map shows it.
unsafe impl Frames for MyFrames {
    fn take(&mut self, bytes: u64) -> Option<PhysAddr> {
        let page = u64::from(self.0.trailing_zeros());
        if bytes != PAGE || self.0 == 0 {
            return None;
        }
        self.0 &= self.0 - 1;
        Some(RAM.add(page * PAGE))
    }

    fn give(&mut self, frame: PhysAddr, _bytes: u64) {
        self.0 |= 1 << ((frame.value() - RAM.value()) / PAGE);
    }
}

/// The read sections of my four CPUs, for want of an RCU.
static READERS: Readers<4> = Readers::new();

// SAFETY: all readers of my struct pages open their sections here.
unsafe impl Quiesce for MyFrames {
    fn wait_for_readers(&mut self) {
        READERS.wait();
    }
}

/// Where my kernel has its linear map, and its array of struct pages.
const DIRECT_MAP: VirtRange = VirtRange::new(VirtAddr::new(0xffff_ff80_0000_0000), 1 << 38);
const PAGES: VirtRange = VirtRange::new(VirtAddr::new(0xffff_fffe_c000_0000), 1 << 30);

/// Adds `device`, uses it, removes it. `root` is my root table, with my own mappings beside the windows; `memory`
/// reaches the same memory as `machine`.
fn add_and_remove(
    machine: impl Machine<Granule = K4>,
    root: PhysAddr,
    memory: impl Memory,
    device: PhysRange,
    log: &mut impl Write,
) -> Result<(), Failed> {
    let regime = Regime::new(GranuleSize::K4, 39, OutputFormat::Bits48)?;
    // SAFETY: nobody else writes descriptors of the two windows.
    let tables = unsafe { Tables::adopt(machine, root, regime) };
    let layout = Layout::new(GranuleSize::K4, DIRECT_MAP, PAGES, 0, struct_page_shift::<MyPage>());
    let mut hotplug = Hotplug::<_, _, MyPage>::new(tables, MyFrames(!0), layout, 40)?;
    // SAFETY: it is the same memory.
    let view = unsafe { hotplug.view(memory) };

    let altmap = Altmap::tight(&layout, device, LeafPolicy::Largest, 0);
    // SAFETY: the device is mine alone until the region is removed.
    let plan = hotplug.plan(unsafe { Request::new(device) }.altmap(altmap))?;
    writeln!(log, "{plan}")?;
    let region = plan.commit()?; // all or nothing

    let last = Pfn::new((device.end().value() >> 12) - 1);
    let (_, page) = hotplug.tables().walk(layout.page(last)).translation().expect("it is mapped");
    let first_word = hotplug.tables().machine().load(page);
    writeln!(log, "struct page of pfn {:#x} at {page}, first word {first_word:#x}", last.number())?;

    let reading = READERS.enter(0); // for a moment: the struct page stays until this is dropped
    writeln!(log, "valid: {}", view.is_valid(last))?;
    drop(reading);
    let held = view.reference(last); // for as long as I like: no removal meanwhile
    let busy = hotplug.remove(region).expect_err("it is held");
    writeln!(log, "{busy}")?;
    drop(held);
    let removed = hotplug.remove(busy.region).map_err(|busy| busy.why)?;
    writeln!(log, "removed, {} tables freed; valid: {}", removed.tables_freed, view.is_valid(last))?;
    Ok(())
}

/// Whatever can go wrong; each says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Failed {
    Regime(#[from] RegimeError),
    Frames(#[from] OutOfFrames),
    Plan(#[from] PlanError),
    Add(#[from] AddError),
    Remove(#[from] Obstacle),
    Log(#[from] fmt::Error),
}

machine::runs!(add_and_remove);

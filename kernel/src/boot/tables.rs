//! The first tables: the kernel image, the linear map of RAM and the console in the kernel half, and, for the moment of
//! the switch, an identity map of the code that switches the MMU on.

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use vmemmap::descriptor::{Attributes, TableAttributes};
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, MapError, Mapping};
use vmemmap::regime::{Regime, TTBR0_VA_BITS};
use vmemmap::seam::{Frames, Memory};
use vmemmap::table::{Protection, Tables};
use vmemmap_aarch64::El1;

use super::frames::Bump;
use super::image::{self, Part};
use super::ranges::Ranges;
use super::refuse::Refusal;

unsafe extern "C" {
    /// In `entry.s`; both addresses are multiples of 4 KiB.
    fn discard_cache_lines(start: u64, end: u64);
}

/// Where the console's registers are mapped: in a window of their own, above the image's.
pub const CONSOLE_WINDOW: VirtAddr = VirtAddr::new(0xffff_ffff_e000_0000);

/// What is to be mapped, and how.
pub struct Plan {
    /// The kernel half.
    pub regime: Regime,
    /// Where the linear map goes.
    pub layout: Layout,
    /// RAM, in whole pages.
    pub ram: Ranges,
    /// RAM that nothing occupies.
    pub free: Ranges,
    /// Which leaves map RAM.
    pub policy: LeafPolicy,
    /// The console's registers.
    pub console: Option<PhysAddr>,
    /// Other CPUs will switch their MMU on.
    pub more_cpus: bool,
}

/// What was built.
pub struct FirstTables {
    /// Root of the identity map.
    pub identity: PhysAddr,
    /// Root of the kernel half.
    pub root: PhysAddr,
    /// Free RAM below this address holds the tables that stay.
    pub next_free: PhysAddr,
}

/// Builds them.
///
/// # Errors
///
/// [`Refusal::TooLittleRam`] if they don't fit in the free RAM.
pub fn build(plan: &Plan) -> Result<FirstTables, Refusal<'static>> {
    match plan.regime.granule() {
        GranuleSize::K4 => build_with::<K4>(plan),
        GranuleSize::K16 => build_with::<K16>(plan),
        GranuleSize::K64 => build_with::<K64>(plan),
    }
}

fn build_with<G: Granule>(plan: &Plan) -> Result<FirstTables, Refusal<'static>> {
    let mut frames = Bump::new(&plan.free);
    let mut half = Half::<G>::new(plan.regime, &mut frames, plan.ram.bytes())?;
    map_image(&mut half, &mut frames, plan.policy)?;
    map_ram(&mut half, &mut frames, plan)?;
    map_console(&mut half, &mut frames, plan.console)?;
    let without_identity = frames.next();
    let identity = map_identity::<G>(plan, &mut frames)?;
    // Once the MMU is on, nobody but other CPUs needs the identity map.
    let next_free = if plan.more_cpus { frames.next() } else { without_identity };
    discard_stale_lines(&plan.free, frames.next());
    Ok(FirstTables { identity, root: half.tables.root(), next_free })
}

/// One half of the address space, as its tables are built with the MMU off.
struct Half<G> {
    tables: Tables<El1<G>>,
    ram_bytes: u64,
}

impl<G: Granule> Half<G> {
    fn new(regime: Regime, frames: &mut Bump, ram_bytes: u64) -> Result<Self, Refusal<'static>> {
        let page = G::SIZE.bytes();
        let root = frames.take(page).ok_or(Refusal::TooLittleRam { ram_bytes })?;
        // SAFETY: with the MMU off RAM is reachable at its physical address, and the tables are not in use yet.
        let mut machine = unsafe { El1::<G>::new(0) };
        machine.zero_table(root, page);
        // SAFETY: as above; nobody else changes them.
        let tables = unsafe { Tables::adopt(machine, root, regime) };
        Ok(Self { tables, ram_bytes })
    }

    fn map(&mut self, frames: &mut Bump, mapping: &Mapping) -> Result<(), Refusal<'static>> {
        match mapping::map(&mut self.tables, frames, mapping) {
            Ok(_) => Ok(()),
            Err(MapError::Frames(_)) => Err(Refusal::TooLittleRam { ram_bytes: self.ram_bytes }),
            Err(wrong) => panic!("the first tables are laid out wrongly: {wrong}"),
        }
    }
}

/// The image where it is linked. Guard pages stay unmapped.
fn map_image<G: Granule>(half: &mut Half<G>, frames: &mut Bump, policy: LeafPolicy) -> Result<(), Refusal<'static>> {
    for part in Part::ALL {
        let leaf = match part {
            Part::Text => Attributes::KERNEL_TEXT,
            Part::Rodata => Attributes::KERNEL_READ_ONLY,
            Part::Data | Part::MainStack | Part::ExceptionStack => Attributes::KERNEL,
            Part::MainGuard | Part::ExceptionGuard => continue,
        };
        let protection = Protection { leaf, table: TableAttributes::KERNEL };
        let (va, pa) = (part.linked(), part.physical().start());
        half.map(frames, &Mapping::new(half.tables.regime(), va, pa, policy, protection))?;
    }
    Ok(())
}

/// All of RAM, writable and never executable, but for what the image must not lose through its alias: text and rodata
/// are read-only here too.
fn map_ram<G: Granule>(half: &mut Half<G>, frames: &mut Bump, plan: &Plan) -> Result<(), Refusal<'static>> {
    let read_only = PhysRange::between(Part::Text.physical().start(), Part::Rodata.physical().end());
    let read_only = read_only.expect("linker.ld puts rodata behind the text");
    let mut writable = plan.ram;
    writable.remove(read_only)?;
    let tagged_read_only = Attributes::from_bits(Attributes::KERNEL_READ_ONLY.bits() | TAGGED);
    let mut map = |range, leaf| {
        let protection = Protection { leaf, table: TableAttributes::LINEAR };
        half.map(frames, &Mapping::linear(plan.regime, &plan.layout, range, plan.policy, protection))
    };
    writable.as_slice().iter().try_for_each(|&range| map(range, Attributes::KERNEL_TAGGED))?;
    map(read_only, tagged_read_only)
}

/// Memory attribute 1, with which Linux maps boot RAM.
const TAGGED: u64 = 1 << 2;

fn map_console<G: Granule>(
    half: &mut Half<G>,
    frames: &mut Bump,
    console: Option<PhysAddr>,
) -> Result<(), Refusal<'static>> {
    let Some(registers) = console else { return Ok(()) };
    let page = G::SIZE.bytes();
    let va = VirtRange::new(CONSOLE_WINDOW, page);
    let protection = Protection { leaf: Attributes::DEVICE, table: TableAttributes::KERNEL };
    let regime = half.tables.regime();
    half.map(frames, &Mapping::new(regime, va, registers.align_down(page), LeafPolicy::Pages, protection))
}

/// The page of the image that holds the switch, at its physical address: below 2^48, by the boot protocol of Linux. Its
/// descriptors have the format of the kernel half: `TCR.DS` is one bit for both.
fn map_identity<G: Granule>(plan: &Plan, frames: &mut Bump) -> Result<PhysAddr, Refusal<'static>> {
    let regime = Regime::new(G::SIZE, TTBR0_VA_BITS, plan.regime.output());
    let regime = regime.expect("48 bits go with every granule");
    let mut half = Half::<G>::new(regime, frames, plan.ram.bytes())?;
    let start = image::whole().start();
    let va = VirtRange::new(VirtAddr::new(start.value()), G::SIZE.bytes());
    let protection = Protection { leaf: Attributes::KERNEL_TEXT, table: TableAttributes::KERNEL };
    half.map(frames, &Mapping::new(regime, va, start, LeafPolicy::Pages, protection))?;
    Ok(half.tables.root())
}

/// The tables were written with the caches off: discards what the caches may hold of them from before.
fn discard_stale_lines(free: &Ranges, next: PhysAddr) {
    for piece in free.as_slice() {
        let end = piece.end().min(next);
        if piece.start() < end {
            // SAFETY: these frames hold the tables, which went to memory directly: no line of theirs is worth keeping.
            unsafe { discard_cache_lines(piece.start().value(), end.value()) }
        }
    }
}

//! The tables, by the MMU's own word: `AT S1E1R` for every leaf of the vmemmap.

use alloc::format;

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::Granule;
use vmemmap::layout::Layout;
use vmemmap::leaf::Stretches;
use vmemmap::seam::Machine;
use vmemmap::table::Tables;
use vmemmap::vmemmap::Memmap;
use vmemmap_aarch64::translate;

use super::Failures;
use crate::exceptions::probe;

/// A leaf: its address and descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The first address that it translates.
    pub va: VirtAddr,
    /// Its descriptor; 0 if there is none.
    pub descriptor: u64,
}

/// What each descriptor of `stretches` translates, contiguous members one by one.
pub fn leaf_ranges<G: Granule>(stretches: Stretches) -> impl Iterator<Item = VirtRange> {
    stretches.flat_map(|stretch| {
        let bytes = 1_u64 << G::SIZE.level_shift(stretch.leaf.level);
        (0..stretch.descriptors(G::SIZE)).map(move |index| VirtRange::new(stretch.va.add(index * bytes), bytes))
    })
}

/// The first address that each of them translates.
pub fn leaf_vas<G: Granule>(stretches: Stretches) -> impl Iterator<Item = VirtAddr> {
    leaf_ranges::<G>(stretches).map(VirtRange::start)
}

/// The leaves as the tables hold them now.
pub fn leaves<M: Machine>(tables: &Tables<M>, stretches: Stretches) -> impl Iterator<Item = Leaf> {
    leaf_vas::<M::Granule>(stretches).map(|va| {
        let descriptor = tables.walk(va).translation().map_or(0, |(step, _)| step.descriptor.bits());
        Leaf { va, descriptor }
    })
}

/// Asks the MMU for every leaf of `memmap`; returns how many lie in the frame that the plan gave them.
///
/// With an altmap the frames of the interior follow from `planned`, the altmap before the range was added. In RAM, where
/// the allocator chose them, and where edge pages are, the walk of the tables is what AT must agree with.
pub fn at_agrees<M: Machine>(
    tables: &Tables<M>,
    memmap: &Memmap,
    planned: Option<Altmap>,
    failures: &mut Failures,
) -> u64 {
    let mut agreed = 0;
    let size = M::Granule::SIZE;
    let zone = planned.map(|altmap| altmap.storage());
    let in_zone = |frame: PhysAddr| {
        zone.is_some_and(|(first, end)| first.address(size.shift()) <= frame && frame < end.address(size.shift()))
    };
    let mut expect = |va: VirtAddr, frame: Option<PhysAddr>, in_altmap: bool| {
        let found = translate(va);
        if found.ok() == frame && frame.is_some_and(|frame| in_zone(frame) == in_altmap) {
            agreed += 1;
        } else if failures.len() < super::books::MOST_FAILURES {
            failures.push(format!("AT of {:#x} gives {found:x?}, the plan {frame:x?}", va.value()));
        }
    };
    for va in memmap.edges().into_iter().flatten() {
        expect(va, tables.walk(va).translation().map(|(_, frame)| frame), false);
    }
    match planned {
        Some(mut altmap) => {
            let served = memmap.allocate_from(&mut altmap, |stretch, first| {
                let step = 1_u64 << size.level_shift(stretch.leaf.level);
                for index in 0..stretch.descriptors(size) {
                    let frame = first.address(size.shift()).add(index * step);
                    expect(stretch.va.add(index * step), Some(frame), true);
                }
            });
            if let Err(error) = served {
                failures.push(format!("the plan's altmap no longer serves it: {error}"));
            }
        }
        None => leaf_vas::<M::Granule>(memmap.interior_stretches())
            .for_each(|va| expect(va, tables.walk(va).translation().map(|(_, frame)| frame), false)),
    }
    agreed
}

/// How many addresses of a linear map are asked for, evenly spread, the last page included.
const LINEAR_SAMPLES: u64 = 1 << 10;

/// Asks the MMU for addresses all over a linear map: each must show the memory that it stands for.
pub fn linear_agrees(layout: &Layout, range: PhysRange, failures: &mut Failures) {
    let wrong = failures.len();
    for address in samples(layout, range) {
        let shown = translate(layout.linear_address(address));
        if shown != Ok(address) && failures.len() < wrong + super::books::MOST_FAILURES {
            failures.push(format!("the linear map of {address} shows {shown:x?}"));
        }
    }
}

/// Loads from addresses all over a linear map: none may fault.
pub fn linear_reads(layout: &Layout, range: PhysRange, failures: &mut Failures) {
    let faults = samples(layout, range)
        .filter_map(|address| Some((address, probe::load(layout.linear_address(address)).err()?)));
    failures.extend(
        faults
            .take(super::books::MOST_FAILURES)
            .map(|(address, fault)| format!("a load of {address} by the linear map faults: {:?}", fault.status)),
    );
}

/// Pages of `range`, evenly spread, the last one included.
fn samples(layout: &Layout, range: PhysRange) -> impl Iterator<Item = PhysAddr> + use<> {
    let granule = layout.granule().bytes();
    let pages = range.bytes() / granule;
    let every = pages.div_ceil(LINEAR_SAMPLES).max(1);
    (0..pages).step_by(every as usize).chain([pages - 1]).map(move |index| range.start().add(index * granule))
}

/// Every leaf of `stretches` must be what Linux writes for kernel data, Normal write-back, read-write, never executable,
/// with the Contiguous bit where a run was planned and nowhere else.
pub fn attributes_agree<M: Machine>(tables: &Tables<M>, stretches: &Stretches, failures: &mut Failures) {
    const CONTIGUOUS: u64 = 1 << 52;
    // With LPA2 bits 49:48 and 9:8 are the address's, and shareability is TCR's.
    let (data, address_and_type) = match tables.regime().output() {
        OutputFormat::Bits48 | OutputFormat::Lpa => (0x00e8_0000_0000_0700, 0x0000_ffff_ffff_f003),
        OutputFormat::Lpa2 => (0x00e8_0000_0000_0400, 0x0003_ffff_ffff_f303),
    };
    let wrong = failures.len();
    for stretch in stretches.clone() {
        let expected: u64 = data | if stretch.leaf.contiguous { CONTIGUOUS } else { 0 };
        let one = core::iter::once(stretch);
        let step = 1_u64 << M::Granule::SIZE.level_shift(stretch.leaf.level);
        let vas = one.flat_map(|s| (0..s.descriptors(M::Granule::SIZE)).map(move |index| s.va.add(index * step)));
        for va in vas {
            let bits = tables.walk(va).translation().map_or(0, |(step, _)| step.descriptor.bits());
            if bits & !address_and_type != expected && failures.len() < wrong + super::books::MOST_FAILURES {
                failures.push(format!("the leaf at {va} is {bits:016x}: its attributes should be {expected:016x}"));
            }
        }
    }
}

//! The TLB: only a *load* that faults proves that a removed address is gone. QEMU's AT walks afresh and can't.

use alloc::format;
use alloc::vec::Vec;

use vmemmap::addr::{VirtAddr, VirtRange};
use vmemmap::granule::Granule;
use vmemmap::leaf::Stretches;
use vmemmap::seam::Machine;
use vmemmap::table::Tables;

use super::Failures;
use super::tables::leaf_ranges;
use crate::exceptions::probe;
use crate::exceptions::syndrome::FaultKind;

/// How many addresses of each map are touched before a removal: few enough for QEMU to keep all of them in its TLB.
const TOUCHED: usize = 12;

/// What an entry of QEMU's TLB covers, whatever the granule.
const QEMU_PAGE_BYTES: u64 = 4096;

/// Entries of QEMU's TLB when it is smallest: it shrinks to this on a busy host (`CPU_TLB_DYN_MIN_BITS`).
const PLACES: u64 = 64;

/// How far apart neighbours among the touched pages are, in places.
const SPREAD: u64 = 21;

/// A fault on a removed address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// `FAR_EL1`.
    pub far: VirtAddr,
    /// The level of the translation fault.
    pub level: i8,
}

/// Loads from some of the leaves of each of `maps`, evenly spread, so that their translations are cached; returns the
/// addresses loaded.
///
/// QEMU's TLB is direct mapped by 4 KiB page, 256 places and more: leaves far apart tend to fall into one place and push
/// each other out. So each load goes to a page with a place of its own.
pub fn touch<G: Granule>(maps: &[&Stretches], failures: &mut Failures) -> Vec<VirtAddr> {
    let mut touched = Vec::new();
    for &map in maps {
        let before = touched.len();
        let every = leaf_ranges::<G>(map.clone()).count().div_ceil(TOUCHED).max(1);
        for first in (0..TOUCHED).map(|index| index * every) {
            let mut leaves = leaf_ranges::<G>(map.clone()).skip(first).take(PLACES as usize);
            touched.extend(leaves.find_map(|leaf| page_with_own_place(leaf, &touched)));
        }
        if touched.len() == before {
            touched.extend(leaf_ranges::<G>(map.clone()).next().map(VirtRange::start));
        }
    }
    for &va in &touched {
        if let Err(fault) = probe::load(va) {
            failures.push(format!("a load of {va} faults before the removal: {:?}", fault.status));
        }
    }
    touched
}

/// A page of `leaf` that falls into another place of QEMU's TLB than all that were touched; which one differs from leaf to
/// leaf, since the code that runs meanwhile has places too.
fn page_with_own_place(leaf: VirtRange, touched: &[VirtAddr]) -> Option<VirtAddr> {
    let place = |va: VirtAddr| va.value() / QEMU_PAGE_BYTES % PLACES;
    let pages = leaf.bytes() / QEMU_PAGE_BYTES;
    let first = touched.len() as u64 * SPREAD;
    let mut candidates = (0..pages.min(PLACES)).map(|page| leaf.start().add((first + page) % pages * QEMU_PAGE_BYTES));
    candidates.find(|&va| touched.iter().all(|&other| place(other) != place(va)))
}

/// Loads from each removed address: it must take a translation fault, with the right FAR, at the level where the walk of
/// the tables ends now. Returns the first fault.
pub fn gone<M: Machine>(tables: &Tables<M>, addresses: &[VirtAddr], failures: &mut Failures) -> Option<Gone> {
    let mut first = None;
    // All loads before the first word about them: what else runs pushes stale translations out.
    let loads: Vec<_> = addresses.iter().map(|&va| probe::load(va)).collect();
    for (&va, load) in addresses.iter().zip(loads) {
        let level = tables.walk(va).last().map(|step| step.level.number());
        match load {
            Ok(value) => failures.push(format!("a load of the removed {va} reads {value:#018x}: a stale translation")),
            Err(fault) => {
                let right =
                    fault.far == va && fault.status.kind == FaultKind::Translation && fault.status.level == level;
                if !right {
                    failures.push(format!("a load of the removed {va} faults as {fault:?}, not at level {level:?}"));
                }
                first = first.or(fault.status.level.map(|level| Gone { far: fault.far, level }));
            }
        }
    }
    first
}

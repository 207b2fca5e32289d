//! Two ways to the same bytes: what is written through the vmemmap is read through the linear map, and back.

use alloc::format;

use vmemmap::addr::VirtAddr;
use vmemmap::layout::Layout;
use vmemmap::leaf::Stretches;
use vmemmap::seam::Machine;
use vmemmap::table::Tables;

use super::tables::leaf_vas;
use super::{Failures, books::MOST_FAILURES};

/// The last word of a struct page of ours, [`vmemmap::meta::StructPage::private`]: its owner's to write.
const PRIVATE_OFFSET: u64 = 56;

/// Writes a pattern through each leaf and reads it where the linear map shows its frame, then the other way round. What
/// was there is put back. Returns how many leaves agreed.
pub fn patterns_agree<M: Machine>(
    tables: &Tables<M>,
    layout: &Layout,
    stretches: Stretches,
    failures: &mut Failures,
) -> u64 {
    let mut agreed = 0;
    for va in leaf_vas::<M::Granule>(stretches) {
        let by_vmemmap = va.add(PRIVATE_OFFSET);
        let Some((_, frame)) = tables.walk(by_vmemmap).translation() else {
            failures.push(format!("{:#x} is not mapped", va.value()));
            continue;
        };
        let by_linear = layout.linear_address(frame);
        if exchange(by_vmemmap, by_linear) && exchange(by_linear, by_vmemmap) {
            agreed += 1;
        } else if failures.len() < MOST_FAILURES {
            failures.push(format!("{by_vmemmap} and {by_linear} show different memory"));
        }
    }
    agreed
}

/// Writes a pattern at `there`, reads it `here`, and puts back what was there.
fn exchange(there: VirtAddr, here: VirtAddr) -> bool {
    let pattern = there.value().rotate_left(17) ^ 0x5bd1_e995_9d2c_5680;
    let pointer = |va: VirtAddr| core::ptr::with_exposed_provenance_mut::<u64>(va.value() as usize);
    let (there, here) = (pointer(there), pointer(here));
    // SAFETY: both addresses are mapped read-write, which the walk and the linear map have just shown; the word belongs
    // to a struct page that no one else holds yet.
    unsafe {
        let before = there.read_volatile();
        there.write_volatile(pattern);
        let seen = here.read_volatile();
        there.write_volatile(before);
        seen == pattern && here.read_volatile() == before
    }
}

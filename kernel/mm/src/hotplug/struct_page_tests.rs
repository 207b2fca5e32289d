//! Struct pages of an adopter: any power-of-two size, knowing pfn and role.

use super::*;
use crate::altmap::Altmap;
use crate::granule::{GranuleSize, K16};
use crate::testing::{DEVICE, GIB, MIB, ask, range};

/// A struct page of `WORDS` 8-byte words that knows its pfn.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Numbered<const WORDS: usize>(pub(super) [u64; WORDS]);

// SAFETY: an array of words has no padding; the sizes below are powers of two.
unsafe impl<const WORDS: usize> Meta for Numbered<WORDS> {
    fn new(pfn: Pfn, role: Role) -> Self {
        Self([pfn.number() | u64::from(role == Role::Altmap) << 63 | u64::from(role == Role::Reserve) << 62; WORDS])
    }
}

fn struct_page_size<const WORDS: usize>() {
    let linux = crate::layout::Layout::linux(GranuleSize::K16, 48, GIB);
    let shift = struct_page_shift::<Numbered<WORDS>>();
    let bytes = linux.vmemmap().bytes() >> 6 << shift;
    let start = crate::layout::VMEMMAP_END.add(bytes.wrapping_neg());
    let vmemmap = crate::addr::VirtRange::new(start, bytes);
    let layout = Layout::new(GranuleSize::K16, linux.linear(), vmemmap, GIB, shift);
    let tables = crate::testing::tables::<K16>(48);
    let mut map = Hotplug::<_, _, Numbered<WORDS>>::new(tables, crate::testing::Ram::default(), layout, 48).unwrap();
    let device = range(DEVICE, 256 * MIB);
    let altmap = Altmap::tight(&layout, device, LeafPolicy::Largest, 1);
    let region = map.plan(ask(device).altmap(altmap)).unwrap().commit().unwrap();
    let (first, end) = altmap.storage();
    let last = Pfn::new(device.end().value() / (16 << 10) - 1);
    for (pfn, role) in [(altmap.base_pfn(), 1 << 62), (first, 1 << 63), (end, 0), (last, 0)] {
        let (_, at) = map.tables().walk(layout.page(pfn)).translation().unwrap();
        let leaf = map.tables().machine().written.range(..=at.value()).next_back().unwrap();
        let offset = (at.value() - leaf.0) as usize;
        let expected = pfn.number() | role;
        for word in leaf.1[offset..offset + WORDS * 8].chunks(8) {
            assert_eq!(u64::from_le_bytes(word.try_into().unwrap()), expected, "{WORDS} words, {pfn:?}");
        }
    }
    map.remove(region).unwrap();
}

#[test]
fn struct_pages_may_have_any_power_of_two_size() {
    struct_page_size::<2>();
    struct_page_size::<4>();
    struct_page_size::<8>();
    struct_page_size::<16>();
}

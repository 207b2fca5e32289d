//! Addresses mapped to consecutive frames: the linear map of a range, a kernel image, a device's registers.

use crate::addr::{PhysAddr, PhysRange, VirtRange};
use crate::frames::{OutOfFrames, Reserved};
use crate::granule::{Granule, GranuleSize};
use crate::layout::Layout;
use crate::leaf::{LeafPolicy, LeafSizes, Stretches};
use crate::regime::Regime;
use crate::seam::{Frames, Machine};
use crate::table::{Occupied, Protection, Tables, WouldSplit};

/// A range of addresses, the first frame that it shows, and how.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    va: VirtRange,
    pa: PhysAddr,
    sizes: LeafSizes,
    protection: Protection,
    granule: GranuleSize,
}

/// Why a mapping can't be made. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// Addresses or frames that are not whole pages.
    #[error("{va} or the frames from {pa} are not whole pages of {granule}; align them")]
    Misaligned {
        /// The addresses.
        va: VirtRange,
        /// The first frame.
        pa: PhysAddr,
        /// The granule.
        granule: GranuleSize,
    },
    /// The window is in use.
    #[error(transparent)]
    Occupied(#[from] Occupied),
    /// RAM can't hold its tables.
    #[error(transparent)]
    Frames(#[from] OutOfFrames),
}

impl Mapping {
    /// `va` shows the frames from `pa` on, with the leaves that `policy` allows. All are multiples of the granule.
    #[must_use]
    pub fn new(regime: Regime, va: VirtRange, pa: PhysAddr, policy: LeafPolicy, protection: Protection) -> Self {
        Self { va, pa, sizes: LeafSizes::linear(regime, policy), protection, granule: regime.granule() }
    }

    /// The linear map of `range` in `layout`.
    #[must_use]
    pub fn linear(
        regime: Regime,
        layout: &Layout,
        range: PhysRange,
        policy: LeafPolicy,
        protection: Protection,
    ) -> Self {
        Self::new(regime, layout.linear_range(range), range.start(), policy, protection)
    }

    /// Its addresses.
    #[must_use]
    pub const fn range(&self) -> VirtRange {
        self.va
    }

    /// Its leaves, ascending.
    #[must_use]
    pub const fn stretches(&self) -> Stretches {
        let start = self.va.start();
        Stretches::new(self.sizes, start, self.va.bytes(), self.pa.value().wrapping_sub(start.value()))
    }

    /// Tables that are missing; reads only.
    pub(crate) fn check<M: Machine>(&self, tables: &Tables<M>) -> Result<u64, Occupied> {
        tables.missing_tables(self.stretches())
    }

    /// Takes away the leaves that [`map`](Self::map) wrote, and the tables that are empty then.
    pub(crate) fn unmap<M: Machine, F: Frames>(&self, tables: &mut Tables<M>, frames: &mut F) -> u64 {
        tables.unmap(self.stretches());
        tables.prune(self.stretches(), frames)
    }

    fn is_whole_pages(&self) -> bool {
        let page = self.granule.bytes();
        self.va.start().is_aligned(page) && self.va.end().is_aligned(page) && self.pa.is_aligned(page)
    }

    /// Writes the leaves with the tables `taken`, links them, and returns the tables that it did not need.
    pub(crate) fn map<M: Machine>(&self, tables: &mut Tables<M>, mut taken: Reserved) -> Reserved {
        let made = taken.count();
        for stretch in self.stretches() {
            let first = self.pa.add(stretch.va.since(self.va.start()));
            tables.map_consecutive(stretch, self.protection, &mut taken, first);
        }
        tables.publish(self.stretches(), made - taken.count());
        taken
    }
}

/// Maps; returns the tables that it took from `frames`.
///
/// # Errors
///
/// [`MapError`] if it is not whole pages, something is mapped there already, or there is no RAM for tables; then nothing changed.
pub fn map<M: Machine, F: Frames>(tables: &mut Tables<M>, frames: &mut F, mapping: &Mapping) -> Result<u64, MapError> {
    if !mapping.is_whole_pages() {
        return Err(MapError::Misaligned { va: mapping.va, pa: mapping.pa, granule: mapping.granule });
    }
    let missing = mapping.check(tables)?;
    let taken = Reserved::take(tables.machine_mut(), frames, missing, M::Granule::SIZE.bytes())?;
    mapping.map(tables, taken).give_back(tables.machine_mut(), frames);
    Ok(missing)
}

/// Takes away what [`map`] made; returns how many tables were freed. The frames belong to somebody else.
///
/// # Errors
///
/// [`WouldSplit`] if a leaf at either end also maps something beyond the mapping: it was made with larger leaves. Then
/// nothing has changed. (Linux's check in `prevent_memory_remove_notifier()` of 7.1.)
///
/// # Safety
///
/// What `mapping` covers must have been made by one call of [`map`] in these tables, with the same policy, and nobody may use
/// its addresses any more. (Two neighbours taken away as one may ask for a larger leaf than either has: its slot holds a table.)
pub unsafe fn unmap<M: Machine, F: Frames>(
    tables: &mut Tables<M>,
    frames: &mut F,
    mapping: &Mapping,
) -> Result<u64, WouldSplit> {
    tables.check_ends(mapping.va)?;
    Ok(mapping.unmap(tables, frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtAddr;
    use crate::descriptor::Descriptor;
    use crate::granule::{K4, K16, K64};
    use crate::seam::Memory;
    use crate::testing::{Ram, tables};
    use crate::vmemmap::{EARLY_PROTECTION, PROTECTION};

    /// B14: half of what was added in one leaf, at either end and in the middle.
    fn refuses_to_split<G: Granule>() {
        let mut tables = tables::<G>(48);
        let (mut frames, regime) = (Ram::default(), tables.regime());
        let leaf = LeafSizes::linear(regime, LeafPolicy::Largest).kinds().next().unwrap().bytes(G::SIZE);
        let start = VirtAddr::new(0xffff_0000_0000_0000);
        let mapping = |offset, bytes| {
            let va = VirtRange::new(start.add(offset), bytes);
            Mapping::new(regime, va, PhysAddr::new(offset), LeafPolicy::Largest, PROTECTION)
        };
        map(&mut tables, &mut frames, &mapping(0, 2 * leaf)).unwrap();
        let page = G::SIZE.bytes();
        for (offset, bytes) in [(0, leaf / 2), (leaf / 2, leaf / 2), (page, 2 * leaf - page), (0, 2 * leaf - page)] {
            let before = tables.machine().image();
            // SAFETY: nobody uses the model's addresses.
            let split = unsafe { unmap(&mut tables, &mut frames, &mapping(offset, bytes)) }.unwrap_err();
            assert!(split.to_string().contains("would be split"), "{split}");
            assert_eq!(before, tables.machine().image(), "{}: {offset:#x}, {bytes:#x}", G::SIZE);
        }
        // SAFETY: as above.
        let whole = unsafe { unmap(&mut tables, &mut frames, &mapping(0, 2 * leaf)) };
        assert!(whole.is_ok() && frames.out.is_empty());
    }

    #[test]
    fn removing_part_of_a_leaf_is_refused() {
        refuses_to_split::<K4>();
        refuses_to_split::<K16>();
        refuses_to_split::<K64>();
    }

    /// Pages whose frames lie on both sides of a multiple of 2^48 or 2^50, where address bits move elsewhere.
    fn crosses<G: Granule>(boundary: u64) {
        let mut tables = tables::<G>(52);
        let (regime, page) = (tables.regime(), G::SIZE.bytes());
        let (va, pa) = (VirtRange::new(regime.lowest(), 24 * page), PhysAddr::new(boundary - 11 * page));
        let mapping = Mapping::new(regime, va, pa, LeafPolicy::Pages, PROTECTION);
        map(&mut tables, &mut Ram::default(), &mapping).unwrap();
        for offset in (0..va.bytes()).step_by(page as usize) {
            let shown = tables.walk(va.start().add(offset)).translation().map(|(_, frame)| frame);
            assert_eq!(shown, Some(pa.add(offset)), "{}", G::SIZE);
        }
    }

    #[test]
    fn frames_go_on_beyond_what_a_descriptor_keeps_in_place() {
        crosses::<K64>(1 << 48);
        crosses::<K16>(1 << 50);
        crosses::<K4>(3 << 50);
    }

    /// Kernels make the upper tables of a window when they boot; ours come and go below.
    #[test]
    fn an_empty_table_of_boot_above_ours_stays() {
        let mut tables = tables::<K4>(48);
        let (regime, table) = (tables.regime(), PhysAddr::new(0x10_0000_0000));
        let link = Descriptor::table(table, EARLY_PROTECTION.table, regime.output()).bits();
        let slot = tables.root();
        tables.machine_mut().zero_table(table, K4::SIZE.bytes());
        tables.machine_mut().write(slot, link);
        let va = VirtRange::new(regime.lowest(), K4::SIZE.bytes());
        let mapping = Mapping::new(regime, va, PhysAddr::new(0), LeafPolicy::Pages, PROTECTION);
        let mut frames = Ram::default();
        assert_eq!(map(&mut tables, &mut frames, &mapping), Ok(2));
        // SAFETY: mapped above, and nobody uses it.
        assert_eq!(unsafe { unmap(&mut tables, &mut frames, &mapping) }, Ok(2));
        assert_eq!(tables.machine().read(slot), link);
    }

    #[test]
    fn whatever_is_not_whole_pages_is_refused() {
        let mut tables = tables::<K4>(48);
        let mut map = |va: u64, bytes, pa| {
            let va = VirtRange::new(VirtAddr::new(0xffff_0000_0000_0000 + va), bytes);
            let regime = tables.regime();
            let mapping = Mapping::new(regime, va, PhysAddr::new(pa), LeafPolicy::Pages, PROTECTION);
            map(&mut tables, &mut Ram::default(), &mapping)
        };
        for (va, bytes, pa) in [(8, 0x1000, 0x1000), (0, 0x1008, 0x1000), (0, 0x1000, 0x1008)] {
            assert!(matches!(map(va, bytes, pa), Err(MapError::Misaligned { .. })), "{va:#x} {bytes:#x} {pa:#x}");
        }
        assert_eq!(map(0, 0x1000, 0x1000), Ok(3), "tables of levels 1 to 3");
    }
}

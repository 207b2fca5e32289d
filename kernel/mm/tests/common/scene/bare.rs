//! What is used below hot-plug: struct pages populated on their own, frames mapped outside of the windows.

use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::altmap::Altmap;
use vmemmap::descriptor::{Attributes, TableAttributes};
use vmemmap::granule::Granule;
use vmemmap::hotplug::RangeKind;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, MapError, Mapping};
use vmemmap::meta::Meta;
use vmemmap::table::Protection;
use vmemmap::vmemmap::{Memmap, PopulateError, Shared, Storage, depopulate, populate};

use super::super::geometry::{Arena, MEMSTART, range};
use super::super::invariants;
use super::super::operation::{Cut, Store};
use super::super::watch::Target;
use super::hotplug::{Asked, overlap};
use super::{Bare, Done, Mapped, Scene, TOP_FRAMES, Verdict};

/// Kinds of mapping: what the library is asked for, and its bits as Linux writes them.
const KINDS: [(Attributes, u64); 4] = [
    (Attributes::KERNEL, invariants::KERNEL),
    (Attributes::KERNEL_READ_ONLY, 0x00e0_0000_0000_0780),
    (Attributes::KERNEL_TEXT, 0x00c0_0000_0000_0780),
    (Attributes::DEVICE, 0x00e8_0000_0000_0710),
];

impl<G: Granule, P: Meta> Scene<G, P> {
    fn occupied(&self, asked: (u64, u64)) -> bool {
        self.meets_bare(asked)
            || self.added.iter().any(|added| self.pages_meet(asked, self.own(added.start, added.bytes)))
    }

    /// Which memory's struct pages are to be populated: in pages of vmemmap, which may describe less than 2 MiB.
    fn described_by_pages(&self, at: u64, count: u64, cut: Cut) -> (u64, u64) {
        let (unit, first) = (self.described(), self.row.arena(Arena::Bare));
        let end = MEMSTART + (self.layout.vmemmap().bytes() >> self.page_shift << self.form.shift);
        match cut {
            Cut::Whole => (first + at * unit, count * unit),
            Cut::Ragged | Cut::Claimed => (first + at * unit, count * unit - (1 << self.form.shift)),
            Cut::Outside => (end - unit, 2 * unit),
        }
    }

    pub(super) fn populate(
        &mut self,
        cpu: u8,
        (at, count): (u64, u64),
        store: Store,
        policy: LeafPolicy,
        cut: Cut,
    ) -> Done {
        let (start, bytes) = self.described_by_pages(at, count, cut);
        let asked = Asked { start, bytes, store, policy, kind: RangeKind::Device };
        let (device, pages) = (range(start, bytes), self.pages((start, bytes)));
        let tight = |device, reserve| Altmap::tight(&self.layout, device, policy, reserve);
        let altmap = self.altmap(&asked, (start, bytes), tight);
        let expected = match self.altmap_flaw(&asked, altmap, pages.interior.1) {
            _ if cut == Cut::Outside => Verdict::Window,
            // Of an edge page that is there it is true that it is shared.
            _ if cut == Cut::Claimed && self.occupied((start, bytes)) => return Done::refused(Verdict::Idle),
            _ if cut == Cut::Claimed => Verdict::NotShared,
            // Bare populating takes the altmap's word for where it is.
            Some(Verdict::AltmapElsewhere | Verdict::AltmapTooLarge) => return Done::refused(Verdict::Idle),
            Some(flaw) => flaw,
            None if self.occupied((start, bytes)) => Verdict::Occupied,
            None => Verdict::Populated,
        };
        let shared = Shared { first: false, last: cut == Cut::Claimed };
        let memmap = Memmap::new(&self.layout, device, policy).beside(shared);
        let storage = altmap.map_or(Storage::Ram, Storage::Altmap);
        if expected != Verdict::Populated {
            let mut ram = self.world.ram();
            let error = populate(self.on(cpu).tables_mut(), &mut ram, memmap, storage).expect_err("it can't be there");
            assert_eq!(refusal(&error), expected, "{error}");
            return Done::refused(expected);
        }
        self.device(start, bytes, true);
        let interior = self.claim_pages(pages.interior);
        let edges: Vec<_> =
            pages.edges.iter().filter_map(|page| self.claim_pages((*page, 1 << self.form.shift))).collect();
        let claims: Vec<_> = interior.into_iter().chain(edges.iter().copied()).collect();
        let mut ram = self.world.ram();
        let populated =
            self.bracket(cpu, "populate", |scene| populate(scene.on(cpu).tables_mut(), &mut ram, memmap, storage));
        match populated {
            Ok(populated) => {
                let touched = self.arrived(cpu, &claims);
                self.bare.push(Bare { populated, start, bytes, altmap, interior, edges });
                Done { verdict: Verdict::Populated, touched }
            }
            Err(error) => {
                for claim in &claims {
                    self.watch.gone(*claim);
                }
                self.device(start, bytes, false);
                Done::refused(refusal(&error))
            }
        }
    }

    pub(super) fn depopulate(&mut self, cpu: u8, which: usize) -> Done {
        if self.bare.is_empty() {
            return Done::refused(Verdict::Idle);
        }
        let Bare { populated, start, bytes, altmap, interior, edges } = self.bare.remove(which % self.bare.len());
        let claims: Vec<_> = interior.into_iter().chain(edges).collect();
        for claim in &claims {
            self.watch.leaving(*claim);
        }
        let mut ram = self.world.ram();
        let (storage, _) = self.bracket(cpu, "populate", |scene| {
            // SAFETY: populated with the same RAM, and whole pages.
            unsafe { depopulate(scene.on(cpu).tables_mut(), &mut ram, populated, Shared::default()) }
        });
        assert_eq!(storage, altmap.map_or(Storage::Ram, Storage::Altmap), "L1: the altmap as it was");
        let touched = self.stretches(&claims);
        for claim in &claims {
            self.watch.gone(*claim);
        }
        self.device(start, bytes, false);
        Done { verdict: Verdict::Depopulated, touched }
    }

    pub(super) fn map_top(
        &mut self,
        cpu: u8,
        below: u64,
        pages: u64,
        kind: usize,
        whole: bool,
        policy: LeafPolicy,
    ) -> Done {
        let page = 1 << self.form.shift;
        let (distance, bytes) = ((below + pages) * page, pages * page);
        // The frames are in step with the addresses, so that large leaves fit.
        let (va, pa) = (distance.wrapping_neg(), TOP_FRAMES + super::super::geometry::TOP_BYTES - distance);
        let (leaf, bits) = KINDS[kind % KINDS.len()];
        let protection = Protection { leaf, table: TableAttributes::KERNEL.owned() };
        let odd = if whole { 0 } else { 8 };
        let window = VirtRange::new(VirtAddr::new(va), bytes - odd);
        let mapping = Mapping::new(self.row.regime(), window, PhysAddr::new(pa), policy, protection);
        let occupied =
            self.mapped.iter().any(|mapped| overlap((pa, bytes), (mapped.pa, mapped.mapping.range().bytes())));
        let mut ram = self.world.ram();
        if !whole || occupied {
            let error = mapping::map(self.on(cpu).tables_mut(), &mut ram, &mapping).expect_err("it can't be there");
            let expected = if whole { Verdict::Occupied } else { Verdict::Misaligned };
            assert_eq!(map_refusal(&error), expected, "{error}");
            return Done::refused(expected);
        }
        self.device(pa, bytes, true);
        let claim = self.watch.claim(va, bytes, Target::Frames { pa, attributes: self.form.attributes(bits) });
        let result = self.bracket(cpu, "linear", |scene| mapping::map(scene.on(cpu).tables_mut(), &mut ram, &mapping));
        match result {
            Ok(_) => {
                self.watch.arrived(claim, cpu, &self.picture());
                self.mapped.push(Mapped { mapping, pa, claim });
                Done { verdict: Verdict::Mapped, touched: vec![(va, bytes)] }
            }
            Err(error) => {
                self.watch.gone(claim);
                self.device(pa, bytes, false);
                Done::refused(map_refusal(&error))
            }
        }
    }

    pub(super) fn unmap_top(&mut self, cpu: u8, which: usize) -> Done {
        if self.mapped.is_empty() {
            return Done::refused(Verdict::Idle);
        }
        let Mapped { mapping, pa, claim } = self.mapped.remove(which % self.mapped.len());
        self.watch.leaving(claim);
        let mut ram = self.world.ram();
        self.bracket(cpu, "linear", |scene| {
            // SAFETY: `map` made it in these tables, and nobody uses it.
            unsafe { mapping::unmap(scene.on(cpu).tables_mut(), &mut ram, &mapping) }.expect("made whole")
        });
        self.watch.gone(claim);
        self.device(pa, mapping.range().bytes(), false);
        let touched = (mapping.range().start().value(), mapping.range().bytes());
        Done { verdict: Verdict::Unmapped, touched: vec![touched] }
    }
}

fn refusal(error: &PopulateError) -> Verdict {
    match error {
        PopulateError::Memmap(error) => error.into(),
        PopulateError::Frames(_) => Verdict::OutOfRam,
        PopulateError::Added { .. } => unreachable!("of boot RAM only"),
    }
}

fn map_refusal(error: &MapError) -> Verdict {
    match error {
        MapError::Misaligned { .. } => Verdict::Misaligned,
        MapError::Occupied(_) => Verdict::Occupied,
        MapError::Frames(_) => Verdict::OutOfRam,
    }
}

//! What is used below hot-plug: struct pages populated on their own, frames mapped outside of the windows.

use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::descriptor::{Attributes, TableAttributes};
use vmemmap::granule::Granule;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, MapError, Mapping};
use vmemmap::meta::Meta;
use vmemmap::table::Protection;
use vmemmap::vmemmap::{Memmap, MemmapError, PopulateError, Shared, Storage, depopulate, populate};

use super::super::geometry::{Arena, range};
use super::super::invariants;
use super::super::operation::Store;
use super::super::watch::Target;
use super::hotplug::overlap;
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
        let bare = self.bare.iter().map(|bare| (bare.start, bare.bytes));
        let added = self.added.iter().map(|added| added.region.range());
        let added = added.map(|range| (range.start().value(), range.bytes()));
        bare.chain(added).any(|live| overlap(asked, live))
    }

    pub(super) fn populate(
        &mut self,
        cpu: u8,
        at: u64,
        count: u64,
        store: Store,
        policy: LeafPolicy,
        whole: bool,
    ) -> Done {
        // Pages of vmemmap, which may describe less than hot-plug's unit.
        let described = (1 << self.form.shift >> self.page_shift) << self.form.shift;
        let (start, bytes) = (self.row.arena(Arena::Bare) + at * described, count * described);
        let (bytes, store) = if whole { (bytes, store) } else { (bytes - (1 << self.form.shift), Store::Ram) };
        let device = range(start, bytes);
        let altmap = self.altmap(device, policy, store);
        let expected = if !whole {
            Verdict::Window
        } else if store == Store::Short {
            Verdict::AltmapTooSmall
        } else if self.occupied((start, bytes)) {
            Verdict::Occupied
        } else {
            Verdict::Populated
        };
        // Bare populating takes the altmap's word for where it is.
        if whole && expected == Verdict::Populated && self.altmap_flaw(device, store, altmap).is_some() {
            return Done::refused(Verdict::Idle);
        }
        let memmap = Memmap::new(&self.layout, device, policy);
        let storage = altmap.map_or(Storage::Ram, Storage::Altmap);
        if expected != Verdict::Populated {
            let mut ram = self.world.ram();
            let error = populate(self.on(cpu).tables_mut(), &mut ram, memmap, storage).expect_err("it can't be there");
            assert_eq!(refusal(&error), expected, "{error}");
            return Done::refused(expected);
        }
        self.device(start, bytes, true);
        let claim = self.claim_memmap(start, bytes);
        let mut ram = self.world.ram();
        let populated =
            self.bracket(cpu, "populate", |scene| populate(scene.on(cpu).tables_mut(), &mut ram, memmap, storage));
        match populated {
            Ok(populated) => {
                self.watch.arrived(claim, cpu, &self.picture());
                self.bare.push(Bare { populated, start, bytes, altmap, memmap: claim });
                Done { verdict: Verdict::Populated, touched: vec![self.memmap(start, bytes)] }
            }
            Err(error) => {
                self.watch.gone(claim);
                self.device(start, bytes, false);
                Done::refused(refusal(&error))
            }
        }
    }

    pub(super) fn depopulate(&mut self, cpu: u8, which: usize) -> Done {
        if self.bare.is_empty() {
            return Done::refused(Verdict::Idle);
        }
        let Bare { populated, start, bytes, altmap, memmap } = self.bare.remove(which % self.bare.len());
        self.watch.leaving(memmap);
        let mut ram = self.world.ram();
        let (storage, _) = self.bracket(cpu, "populate", |scene| {
            depopulate(scene.on(cpu).tables_mut(), &mut ram, populated, Shared::default())
        });
        assert_eq!(storage, altmap.map_or(Storage::Ram, Storage::Altmap), "L1: the altmap as it was");
        self.watch.gone(memmap);
        self.device(start, bytes, false);
        Done { verdict: Verdict::Depopulated, touched: vec![self.memmap(start, bytes)] }
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
        PopulateError::Memmap(MemmapError::Window { .. }) => Verdict::Window,
        PopulateError::Memmap(MemmapError::Occupied(_)) => Verdict::Occupied,
        PopulateError::Memmap(MemmapError::Altmap(_)) => Verdict::AltmapTooSmall,
        PopulateError::Memmap(MemmapError::AltmapInUse { .. } | MemmapError::NotShared { .. }) => Verdict::Other,
        PopulateError::Frames(_) => Verdict::OutOfRam,
    }
}

fn map_refusal(error: &MapError) -> Verdict {
    match error {
        MapError::Misaligned { .. } => Verdict::Misaligned,
        MapError::Occupied(_) => Verdict::Occupied,
        MapError::Frames(_) => Verdict::OutOfRam,
    }
}

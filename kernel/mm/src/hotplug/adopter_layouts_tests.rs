//! Random lives in an adopter's windows: odd starts of memory, struct pages of 8 to 4096 bytes, RAM at the start or at the end
//! of a section, every kind, tenants, altmaps one frame too small, and adds that run out of frames.

use super::struct_page_tests::Numbered;
use super::subsection_tests::{MapOf, flags, frames_and_tables};
use super::*;
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::granule::{GranuleSize, K4, K16, K64};
use crate::testing::{DEVICE, GIB, MIB, Ram, ask, range, tables, take_log, thinned};
use crate::vmemmap::MemmapError;

const UNIT: u64 = 2 * MIB;
const POLICIES: [LeafPolicy; 3] = [LeafPolicy::Largest, LeafPolicy::Linux, LeafPolicy::Pages];
/// How many ranges live at a time: fewer than a page of records holds, so that a failed add needs none.
const MOST: usize = 50;

/// Xorshift: the same lives each time.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// Where RAM is in the area: nowhere, or 10 MiB of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Boot {
    Without,
    AtStart,
    AtEnd,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// How far below 1 GiB, modulo 2^64, the windows start.
    below: u64,
    boot: Boot,
    seed: u64,
}

/// A memory map, and all that lives in it.
struct Life<G: Granule, const WORDS: usize> {
    map: MapOf<G, Numbered<WORDS>>,
    area: PhysRange,
    ram: PhysRange,
    live: Vec<Region>,
    random: Random,
    what: String,
}

/// Runs a case with struct pages of `WORDS` words.
fn life<G: Granule, const WORDS: usize>(case: Case) {
    let mut life = Life::<G, WORDS>::new(case);
    let before = frames_and_tables(&life.map);
    for step in 0..Life::<G, WORDS>::STEPS {
        life.what = format!("{} {WORDS} words {case:x?} step {step}", G::SIZE);
        if life.live.len() < MOST && life.random.below(3) > 0 {
            life.add();
        } else {
            life.remove();
        }
        if step % 4 == 0 {
            life.check();
        }
        take_log();
    }
    while !life.live.is_empty() {
        life.remove();
    }
    assert_eq!(before, frames_and_tables(&life.map), "{}: something stays", life.what);
    life.check();
}

impl<G: Granule, const WORDS: usize> Life<G, WORDS> {
    /// More than a 64th of memory goes into them: their ranges stay small, and their lives short.
    const LARGE_STRUCT_PAGES: bool = WORDS as u64 * 8 * 64 > G::SIZE.bytes();
    const STEPS: u64 = if Self::LARGE_STRUCT_PAGES { 8 } else { 32 };

    fn new(case: Case) -> Self {
        let linear = VirtRange::new(VirtAddr::new(0xffff_0000_0000_0000), 1 << 46);
        let vmemmap = VirtRange::new(VirtAddr::new(0xffff_c000_0000_0000), 1 << 43);
        let shift = struct_page_shift::<Numbered<WORDS>>();
        let layout = Layout::new(G::SIZE, linear, vmemmap, GIB.wrapping_sub(case.below), shift);
        let mut map = MapOf::<G, Numbered<WORDS>>::new(tables(48), Ram::default(), layout, 48).unwrap();
        let section = 1 << G::SIZE.section_shift();
        let area = range(DEVICE, 4 * section);
        map.sections.prepare(map.tables.machine_mut(), &mut map.frames, area).unwrap();
        let ram = match case.boot {
            Boot::Without => PhysRange::EMPTY,
            Boot::AtStart => range(DEVICE.add(2 * section), 5 * UNIT),
            Boot::AtEnd => range(DEVICE.add(3 * section - 5 * UNIT), 5 * UNIT),
        };
        if !ram.is_empty() {
            map.add_boot_ram(ram, LeafPolicy::Linux).unwrap();
        }
        Self { map, area, ram, live: Vec::new(), random: Random(case.seed | 1), what: String::new() }
    }

    /// Small ones for edge pages, large ones for blocks and runs.
    fn range(&mut self) -> PhysRange {
        let units = self.area.bytes() / UNIT;
        let first = self.random.below(units);
        let large = !Self::LARGE_STRUCT_PAGES && self.random.below(3) == 0;
        let most = if large { units / 2 } else { 8 };
        let count = 1 + self.random.below(most.min(units - first));
        range(self.area.start().add(first * UNIT), count * UNIT)
    }

    /// Asks for any range in any way, and adds it if nothing is there.
    fn add(&mut self) {
        let (device, policy) = (self.range(), self.random.of(&POLICIES));
        let free = !self.ram.overlaps(device) && !self.live.iter().any(|region| region.range().overlaps(device));
        let added = match self.random.below(6) {
            0 => self.attempt(Request::private(device).policy(policy)),
            // SAFETY: nobody else uses the model's memory.
            1 => self.attempt(unsafe { Request::peer_to_peer(device) }.policy(policy)),
            2 => self.attempt(ask(device).policy(policy)),
            3 | 4 => self.attempt_in_altmap(device, policy, free),
            _ => self.attempt_as_tenant(device, policy, free),
        };
        match added {
            Ok(region) => {
                assert!(free, "{}: {device} was added over something", self.what);
                self.live.push(region);
            }
            Err(PlanError::Overlap { .. } | PlanError::BootRam { .. }) => assert!(!free, "{}: {device}", self.what),
            Err(error) => panic!("{}: {error}", self.what),
        }
    }

    /// First with a few frames of RAM only, then with as many as it takes.
    fn attempt<K: Kind + Copy>(&mut self, request: Request<K>) -> Result<Region, PlanError> {
        let before = frames_and_tables(&self.map);
        self.map.frames.budget = self.random.below(6);
        let added = self.map.plan(request).map(Plan::commit);
        self.map.frames.budget = u64::MAX;
        if let Ok(region) = added? {
            return Ok(region);
        }
        assert_eq!(before, frames_and_tables(&self.map), "{}: a failed add changed something", self.what);
        Ok(self.map.plan(request)?.commit().expect("there are frames"))
    }

    /// In the tightest altmap, or a larger one; one frame fewer is refused.
    fn attempt_in_altmap(&mut self, device: PhysRange, policy: LeafPolicy, free: bool) -> Result<Region, PlanError> {
        let reserve = self.random.below(3);
        let tight = self.map.tight_altmap(device, policy, reserve);
        let frames = device.bytes() >> G::SIZE.shift();
        let request = |frames| ask(device).altmap(Altmap::new(device, G::SIZE, reserve, frames)).policy(policy);
        let Some(spare) = frames.checked_sub(reserve + tight.free()) else {
            let refused = self.map.plan(request(tight.free())).map(drop);
            assert!(!free || matches!(refused, Err(PlanError::AltmapTooLarge { .. })), "{}: {refused:?}", self.what);
            return self.attempt(ask(device).policy(policy));
        };
        if let Some(fewer) = tight.free().checked_sub(1).filter(|_| free) {
            let refused = self.map.plan(request(fewer)).map(drop);
            assert!(matches!(refused, Err(PlanError::Memmap(MemmapError::Altmap(_)))), "{}: {refused:?}", self.what);
        }
        let more = if self.random.below(2) == 0 { 0 } else { self.random.below(spare + 1) };
        self.attempt(request(tight.free() + more))
    }

    /// In the altmap of any range, if it has one and there is room; in RAM otherwise.
    fn attempt_as_tenant(&mut self, device: PhysRange, policy: LeafPolicy, free: bool) -> Result<Region, PlanError> {
        let request = ask(device).policy(policy);
        if self.live.is_empty() {
            return self.attempt(request);
        }
        let host = self.random.below(self.live.len() as u64) as usize;
        match self.attempt(request.altmap_of(&self.live[host])) {
            Err(PlanError::HostWithoutAltmap { .. } | PlanError::Memmap(MemmapError::Altmap(_))) if free => {
                self.attempt(request)
            }
            tried => tried,
        }
    }

    /// Removes any range, unless others live in its altmap.
    fn remove(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let index = self.random.below(self.live.len() as u64) as usize;
        let region = self.live.swap_remove(index);
        let host = Some(region.range());
        let hosts = self.map.regions().any(|listed| listed.stored_in == host && Some(listed.range) != host);
        match self.map.remove(region) {
            Ok(_) => assert!(!hosts, "{}: a host went before its tenants", self.what),
            Err(error) => {
                assert!(hosts && matches!(error.why, Obstacle::Hosts { .. }), "{}: {error}", self.what);
                self.live.push(error.region);
            }
        }
    }

    fn check(&self) {
        self.check_struct_pages();
        self.check_frames();
    }

    /// The first and the last pfn of each sub-section: valid where something lives or RAM is in the section, and then with
    /// the struct page of that pfn in its role.
    fn check_struct_pages(&self) {
        let early = self.ram.widen(1 << G::SIZE.section_shift()).expect("low");
        for unit in (self.area.start().value()..self.area.end().value()).step_by(UNIT as usize) {
            let at = PhysAddr::new(unit);
            let region = self.live.iter().find(|region| region.range().contains(at));
            for pfn in [at, at.add(UNIT - 1)].map(|at| Pfn::containing(at, G::SIZE.shift())) {
                let valid = region.is_some() || early.contains(at);
                assert_eq!(self.map.is_valid(pfn), valid, "{}: {at}", self.what);
                if valid {
                    let role = region.map_or(Role::Ram, |region| role(region, pfn));
                    let Numbered(expected) = Numbered::<1>::new(pfn, role);
                    assert_eq!([flags(&self.map, pfn)], expected, "{}: {at} as {role:?}", self.what);
                }
            }
        }
    }

    /// No frame is behind two leaves, and each leaf has the alignment that it needs.
    fn check_frames(&self) {
        let mut frames = Vec::new();
        for stretch in self.live.iter().flat_map(|region| region.memmap().interior_stretches()) {
            let bytes = stretch.leaf.bytes(G::SIZE);
            for va in (0..stretch.count).map(|index| stretch.va.add(index * bytes)) {
                let (step, frame) = self.map.tables().walk(va).translation().expect("mapped");
                assert!(frame.is_aligned(bytes), "{}: {va} shows {frame}", self.what);
                assert_eq!(step.descriptor.is_contiguous(), stretch.leaf.contiguous, "{}: {va}", self.what);
                frames.push(range(frame, bytes));
            }
        }
        frames.sort_unstable_by_key(|frame| frame.start());
        let twice = frames.windows(2).find(|pair| pair[0].overlaps(pair[1]));
        assert_eq!(twice, None, "{}: behind two leaves", self.what);
    }
}

/// What `pfn` of `region` is: with an altmap of its own the reserve and the storage are not its owner's.
fn role(region: &Region, pfn: Pfn) -> Role {
    let own = region.storage().altmap().filter(|_| region.ask.host.is_none()).map(|altmap| altmap.storage());
    match own {
        Some((first, _)) if pfn < first => Role::Reserve,
        Some((_, end)) if pfn < end => Role::Altmap,
        _ => region.kind().role(),
    }
}

/// Starts of memory that pages, sub-sections, or what a page of vmemmap describes are multiples of, or not; one is below 0.
fn cases(granule: GranuleSize) -> impl Iterator<Item = Case> {
    let page = granule.bytes();
    let below = [0, page, 5 * page, UNIT, 3 * UNIT, 66 * MIB, 3 * GIB + 34 * MIB];
    let boots = [Boot::Without, Boot::AtStart, Boot::AtEnd];
    let all = below.into_iter().flat_map(move |below| boots.map(|boot| (below, boot)));
    all.zip(1..).map(|((below, boot), number)| Case { below, boot, seed: number * 7919 })
}

fn lives<G: Granule>() {
    let sizes = [life::<G, 1>, life::<G, 2>, life::<G, 8>, life::<G, 64>, life::<G, 512>];
    for case in thinned(cases(G::SIZE)) {
        for life in sizes {
            life(case);
        }
    }
}

#[test]
fn any_life_in_an_adopters_windows_leaves_nothing_at_4k() {
    lives::<K4>();
}

#[test]
fn any_life_in_an_adopters_windows_leaves_nothing_at_16k() {
    lives::<K16>();
}

#[test]
fn any_life_in_an_adopters_windows_leaves_nothing_at_64k() {
    lives::<K64>();
}

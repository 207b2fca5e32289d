//! A scene: one memory map on a world, what has been done to it, and what is therefore expected of it.

mod bare;
mod held;
mod hotplug;
mod judge;
mod model;
mod refused;
mod verdict;

pub use verdict::Verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use vmemmap::addr::PhysAddr;
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::hotplug::{Hotplug, RangeKind, Region, Request};
use vmemmap::layout::Layout;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::Mapping;
use vmemmap::meta::Meta;
use vmemmap::sim::world::Cpu;
use vmemmap::sim::{SimRam, World};
use vmemmap::table::Tables;
use vmemmap::trace::{Event, Word};
use vmemmap::vmemmap::Populated;

use super::abstraction::{Form, Picture};
use super::geometry::{BOOT_RAM, MEMSTART, Row, range};
use super::invariants;
use super::operation::{Case, Operation, Step};
use super::page::Page;
use super::watch::{Target, Watch};
use super::{Counts, GIB};
use held::Held;
use hotplug::Asked;

/// A range that has been added.
struct Added {
    /// `None` once its handle was dropped.
    region: Option<Region>,
    start: u64,
    bytes: u64,
    kind: RangeKind,
    /// Its own altmap as it was given, and what has become of it, or of its part of a host's.
    given: Option<Altmap>,
    altmap: Option<Altmap>,
    /// The first byte of the range that its struct pages are in, if that is another.
    host: Option<u64>,
    /// Claims.
    linear: Option<u64>,
    interior: Option<u64>,
    /// Edge pages of the vmemmap that hold struct pages of it.
    edges: Vec<u64>,
    closed: bool,
}

/// Struct pages that were populated without a hot-plug.
struct Bare {
    populated: Populated,
    start: u64,
    bytes: u64,
    altmap: Option<Altmap>,
    /// Claims: nobody shares its edge pages.
    interior: Option<u64>,
    edges: Vec<u64>,
}

/// Frames that were mapped outside of the windows.
struct Mapped {
    mapping: Mapping,
    pa: u64,
    claim: u64,
}

/// The state of things before an operation.
pub struct Snapshot {
    pub picture: Picture,
    pub frames_out: BTreeMap<u64, u64>,
    pub section_bytes: u64,
    steps: u64,
    events: usize,
}

/// What an operation did: how it ended, and the stretches of addresses that it was allowed to change.
pub struct Done {
    pub verdict: Verdict,
    pub touched: Vec<(u64, u64)>,
}

impl Done {
    const fn refused(verdict: Verdict) -> Self {
        Self { verdict, touched: Vec::new() }
    }
}

/// The scene.
pub struct Scene<G: Granule, P: Meta> {
    row: Row,
    page_shift: u32,
    form: Form,
    layout: Layout,
    world: World,
    watch: Arc<Watch>,
    counts: Arc<Counts>,
    map: Option<Hotplug<Cpu<G>, SimRam, P>>,
    added: Vec<Added>,
    bare: Vec<Bare>,
    mapped: Vec<Mapped>,
    held: Vec<Held<G>>,
    /// Claims of the edge pages that hot-plug has, by address.
    edges: BTreeMap<u64, u64>,
    /// The range that went last of those that had an altmap, and a request for it in that altmap.
    gone_host: Option<(u64, u64, Request)>,
    boot: Option<u64>,
    cpus: u8,
    online: u8,
    mair: u64,
    first: Picture,
}

/// What scenes of every granule and struct page have in common.
pub trait Play {
    /// Does a step, and checks every invariant.
    fn apply(&mut self, step: &Step) -> Verdict;
    /// Lets every allocation of the step fail in turn; how many there were.
    fn apply_with_failures(&mut self, step: &Step) -> u64;
    /// Takes everything away and checks that nothing is left.
    fn finish(&mut self);
    /// The machine, for its frames and its hook.
    fn world(&self) -> &World;
    /// Who probes it.
    fn watch(&self) -> &Arc<Watch>;
}

/// A scene for `row` with struct pages of 2^`page_shift` bytes.
pub fn scene(row: Row, page_shift: u32, case: &Case, counts: &Arc<Counts>) -> Box<dyn Play> {
    fn of<G: Granule>(row: Row, page_shift: u32, case: &Case, counts: &Arc<Counts>) -> Box<dyn Play> {
        match page_shift {
            4 => Box::new(Scene::<G, Page<2>>::new(row, page_shift, case, counts)),
            5 => Box::new(Scene::<G, Page<4>>::new(row, page_shift, case, counts)),
            6 => Box::new(Scene::<G, Page<8>>::new(row, page_shift, case, counts)),
            _ => Box::new(Scene::<G, Page<16>>::new(row, page_shift, case, counts)),
        }
    }
    match row.granule {
        GranuleSize::K4 => of::<K4>(row, page_shift, case, counts),
        GranuleSize::K16 => of::<K16>(row, page_shift, case, counts),
        GranuleSize::K64 => of::<K64>(row, page_shift, case, counts),
    }
}

impl<G: Granule, P: Meta> Scene<G, P> {
    /// An empty memory map, but for boot RAM.
    pub fn new(row: Row, page_shift: u32, case: &Case, counts: &Arc<Counts>) -> Self {
        let (regime, pa_bits) = (row.regime(), row.pa_bits());
        let new = if case.booting { World::booting } else { World::new };
        let world = new(regime, pa_bits, case.cpus);
        world.set_range_invalidations(case.ranges);
        world.keep_events();
        let online = if case.booting { 1 } else { case.cpus };
        let watch = Watch::new(&world, online, counts.clone());
        let hook = watch.clone();
        world.set_hook(Arc::new(move |world, _| hook.look(world)));
        // SAFETY: the root is this world's, and nobody else writes below it.
        let tables = unsafe { Tables::adopt(world.cpu::<G>(0), world.root(), regime) };
        let layout = row.layout(page_shift);
        let map = Hotplug::new(tables, world.ram(), layout, pa_bits).expect("there is RAM");
        let form = row.form(world.root().value());
        let world_events = world.events();
        let mut scene = Self {
            row,
            page_shift,
            form,
            layout,
            world,
            watch,
            counts: counts.clone(),
            map: Some(map),
            added: Vec::new(),
            bare: Vec::new(),
            mapped: Vec::new(),
            held: Vec::new(),
            edges: BTreeMap::new(),
            gone_host: None,
            boot: None,
            cpus: case.cpus,
            online,
            mair: mair(&world_events),
            first: Picture::default(),
        };
        if case.boot_ram {
            scene.add_boot_ram();
        }
        scene.first = scene.picture();
        scene
    }

    /// Its struct pages are those of a whole section.
    fn add_boot_ram(&mut self) {
        let section = (MEMSTART, 1 << self.row.granule.section_shift());
        let claim = self.claim_pages(self.pages(section).interior).expect("whole pages");
        self.bracket(0, "populate", |scene| {
            scene.on(0).add_boot_ram(range(MEMSTART, BOOT_RAM), LeafPolicy::Linux).expect("there is RAM");
        });
        self.watch.arrived(claim, 0, &self.picture());
        self.boot = Some(claim);
        self.judge_violations();
    }

    /// The memory map, run by `cpu`.
    fn on(&mut self, cpu: u8) -> &mut Hotplug<Cpu<G>, SimRam, P> {
        let map = self.map.take().expect("it is always put back");
        let machine = self.world.cpu(cpu);
        // SAFETY: a CPU of the same world; that of before is dropped.
        self.map.insert(unsafe { map.on(|_| machine) })
    }

    /// The memory map as it stands, on the CPU that ran it last.
    const fn map(&self) -> &Hotplug<Cpu<G>, SimRam, P> {
        self.map.as_ref().expect("it is always put back")
    }

    /// Marks the bounds of what the library does not announce by itself.
    fn bracket<R>(&mut self, cpu: u8, name: &str, run: impl FnOnce(&mut Self) -> R) -> R {
        let op = Word::new(name);
        self.world.event(Event::Begin { cpu, op, start: 0, end: 0 });
        let result = run(self);
        self.world.event(Event::End { cpu, op, result: 0 });
        result
    }

    /// Frames of a device begin or cease to be somebody's: then no alias of them may be left anywhere.
    fn device(&self, start: u64, bytes: u64, taken: bool) {
        let device = Word::new("device");
        self.world.event(if taken {
            Event::Alloc { pa: start, len: bytes, from: device }
        } else {
            Event::Free { pa: start, len: bytes, to: device }
        });
    }

    /// Claims pages of the vmemmap, if there are any.
    fn claim_pages(&self, (va, bytes): (u64, u64)) -> Option<u64> {
        (bytes > 0).then(|| self.watch.claim(va, bytes, Target::Pages(BTreeMap::new())))
    }

    /// What `cpu` did is complete; which stretches of addresses it was.
    fn arrived(&self, cpu: u8, claims: &[u64]) -> Vec<(u64, u64)> {
        let picture = self.picture();
        for claim in claims {
            self.watch.arrived(*claim, cpu, &picture);
        }
        self.stretches(claims)
    }

    fn stretches(&self, claims: &[u64]) -> Vec<(u64, u64)> {
        claims.iter().map(|id| self.watch.get(*id)).map(|claim| (claim.va, claim.bytes)).collect()
    }

    /// What the tables say.
    fn picture(&self) -> Picture {
        self.form.read(|pa, count| self.world.words(PhysAddr::new(pa), count))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            picture: self.picture(),
            frames_out: self.world.frames_out(),
            section_bytes: self.map().section_bytes(),
            steps: self.world.steps(),
            events: self.world.events_kept(),
        }
    }

    fn synchronise(&self, cpu: u8) -> Done {
        self.world.event(Event::Isb { cpu });
        Done::refused(Verdict::Idle)
    }

    fn bring_online(&mut self) -> Done {
        if self.online < self.cpus {
            let cpu = self.online;
            // SAFETY: used only for this CPU to come online.
            let mut tables = unsafe { Tables::adopt(self.world.cpu::<G>(cpu), self.world.root(), self.row.regime()) };
            tables.come_online(self.world.ips());
            self.watch.online(cpu);
            self.online += 1;
        }
        Done::refused(Verdict::Idle)
    }

    fn perform(&mut self, step: &Step) -> Done {
        let cpu = step.cpu % self.online;
        match step.operation {
            Operation::Add { arena, extent, store, policy, kind } => {
                let (start, bytes) = self.extent(arena, extent);
                self.add(cpu, Asked { start, bytes, store, policy, kind })
            }
            Operation::Remove(which) => self.remove(cpu, which),
            Operation::Forget(which) => self.forget(which),
            Operation::Close(which) => self.close(cpu, which, true),
            Operation::Reopen(which) => self.close(cpu, which, false),
            Operation::Hold { which, at } => self.hold(cpu, which, at),
            Operation::LetGo(which) => self.let_go(which),
            Operation::AddIntoGone => self.add_into_gone(cpu),
            Operation::AddBeyond(which) => self.add_beyond(cpu, which),
            Operation::AddOver { which, from_before, to_behind } => self.add_over(cpu, which, from_before, to_behind),
            Operation::RemoveForeign(which) => self.remove_foreign(cpu, which),
            Operation::AddMisaligned { start, by_page, empty } => self.add_misaligned(cpu, start, by_page, empty),
            Operation::Populate { at, count, store, policy, cut } => {
                self.populate(cpu, (at, count), store, policy, cut)
            }
            Operation::Depopulate(which) => self.depopulate(cpu, which),
            Operation::Map { below, pages, kind, whole, policy } => {
                self.map_top(cpu, below, pages, kind, whole, policy)
            }
            Operation::Unmap(which) => self.unmap_top(cpu, which),
            Operation::Synchronise => self.synchronise(cpu),
            Operation::Online => self.bring_online(),
        }
    }

    /// Does the step with one more frame each time until that is enough: how often it was not, and how it ended then. With
    /// `retry` it must succeed after each failure, and leave nothing when it is undone.
    fn fail_in_turn(&mut self, step: &Step, retry: bool) -> (u64, Verdict) {
        for budget in 0.. {
            let refused = self.world.frames_refused();
            self.world.set_budget(Some(budget));
            let verdict = self.apply(step);
            self.world.set_budget(None);
            if self.world.frames_refused() == refused {
                assert_ne!(verdict, Verdict::OutOfRam, "nothing was refused");
                return (budget, verdict);
            }
            assert_eq!(verdict, Verdict::OutOfRam, "allocation {budget} of {step:?} was refused");
            Counts::add(&self.counts.failures, 1);
            if retry {
                // Its steps are probed when it succeeds for good.
                self.watch.mute(true);
                let before = (self.world.frames_out(), self.picture());
                let verdict = self.apply(step);
                assert!(verdict.is_change(), "{step:?} after allocation {budget} was refused: {verdict:?}");
                self.undo(step.cpu % self.online, verdict);
                self.watch.mute(false);
                assert_eq!(before, (self.world.frames_out(), self.picture()), "{step:?} leaves something");
            }
        }
        unreachable!("no operation takes that many frames")
    }

    fn undo(&mut self, cpu: u8, verdict: Verdict) {
        let done = match verdict {
            Verdict::Added => self.remove_at(cpu, self.added.len() - 1),
            Verdict::Populated => self.depopulate(cpu, self.bare.len() - 1),
            Verdict::Mapped => self.unmap_top(cpu, self.mapped.len() - 1),
            _ => return,
        };
        assert!(done.verdict.is_change());
    }
}

impl<G: Granule, P: Meta> Play for Scene<G, P> {
    fn apply(&mut self, step: &Step) -> Verdict {
        let before = self.snapshot();
        let done = self.perform(step);
        self.counts.ended(done.verdict);
        self.judge(&before, &done);
        done.verdict
    }

    fn apply_with_failures(&mut self, step: &Step) -> u64 {
        // At first section records are made as well, and stay; after that nothing may.
        let (first, verdict) = self.fail_in_turn(step, false);
        if first == 0 {
            return 0;
        }
        self.undo(step.cpu % self.online, verdict);
        first + self.fail_in_turn(step, true).0
    }

    fn finish(&mut self) {
        let step = |operation| Step { cpu: 0, operation };
        while !self.held.is_empty() {
            self.apply(&step(Operation::LetGo(0)));
        }
        // Hosts go when their tenants have gone; ranges whose handles were dropped stay, and their hosts.
        let mut busy = 0;
        while busy < self.added.iter().filter(|added| added.region.is_some()).count() {
            let gone = self.apply(&step(Operation::Remove(busy))) == Verdict::Removed;
            busy = if gone { 0 } else { busy + 1 };
        }
        while !self.bare.is_empty() {
            self.apply(&step(Operation::Depopulate(0)));
        }
        while !self.mapped.is_empty() {
            self.apply(&step(Operation::Unmap(0)));
        }
        self.judge_boot(true);
        if self.added.is_empty() {
            invariants::i6_what_is_removed_leaves_nothing(&self.first, &self.picture());
        }
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

/// The memory attributes that CPUs use.
fn mair(events: &[Event]) -> u64 {
    let mair = events.iter().find_map(|event| match event {
        Event::Regs { mair, .. } => Some(*mair),
        _ => None,
    });
    mair.expect("a CPU says what it uses")
}

/// Frames that nobody else uses, for mappings at the top of the address space: they are below every arena.
const TOP_FRAMES: u64 = MEMSTART + GIB;

//! A scene: one memory map on a world, what has been done to it, and what is therefore expected of it.

mod bare;
mod hotplug;

use std::collections::BTreeMap;
use std::sync::Arc;

use vmemmap::addr::{Pfn, PhysAddr};
use vmemmap::altmap::Altmap;
use vmemmap::granule::{Granule, GranuleSize, K4, K16, K64};
use vmemmap::hotplug::{Hotplug, Region};
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
use super::geometry::{MEMSTART, Row, range};
use super::invariants::{self, Change, RegionView};
use super::operation::{Case, Operation, Step};
use super::page::Page;
use super::watch::{Target, Watch};
use super::{Counts, GIB};

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    Added,
    Removed,
    Populated,
    Depopulated,
    Mapped,
    Unmapped,
    Overlap,
    Occupied,
    Misaligned,
    Empty,
    Window,
    AltmapTooSmall,
    AltmapTooLarge,
    AltmapElsewhere,
    NotOurs,
    OutOfRam,
    /// Another refusal, which nothing here expects.
    Other,
    /// There was nothing to do it to.
    Idle,
}

impl Verdict {
    /// All that a sequence of operations can end with while there is RAM.
    pub const ALL: [Self; 16] = [
        Self::Added,
        Self::Removed,
        Self::Populated,
        Self::Depopulated,
        Self::Mapped,
        Self::Unmapped,
        Self::Overlap,
        Self::Occupied,
        Self::Misaligned,
        Self::Empty,
        Self::Window,
        Self::AltmapTooSmall,
        Self::AltmapTooLarge,
        Self::AltmapElsewhere,
        Self::NotOurs,
        Self::Idle,
    ];

    /// Whether tables have changed.
    pub const fn is_change(self) -> bool {
        use Verdict::{Added, Depopulated, Mapped, Populated, Removed, Unmapped};
        matches!(self, Added | Removed | Populated | Depopulated | Mapped | Unmapped)
    }
}

/// A range that has been added.
struct Added {
    region: Region,
    altmap: Option<Altmap>,
    linear: u64,
    memmap: u64,
}

/// Struct pages that were populated without a hot-plug.
struct Bare {
    populated: Populated,
    start: u64,
    bytes: u64,
    altmap: Option<Altmap>,
    memmap: u64,
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

    fn add_boot_ram(&mut self) {
        let bytes = 1 << self.row.granule.section_shift();
        let claim = self.claim_memmap(MEMSTART, bytes);
        self.bracket(0, "populate", |scene| {
            scene.on(0).add_boot_ram(range(MEMSTART, bytes), LeafPolicy::Linux).expect("there is RAM");
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

    /// Where the struct pages of a range are: first address and bytes.
    fn memmap(&self, start: u64, bytes: u64) -> (u64, u64) {
        let shift = self.form.shift;
        let window = self.layout.vmemmap().start().value();
        (window.wrapping_add((start - MEMSTART) >> shift << self.page_shift), bytes >> shift << self.page_shift)
    }

    fn claim_memmap(&self, start: u64, bytes: u64) -> u64 {
        let (va, bytes) = self.memmap(start, bytes);
        self.watch.claim(va, bytes, Target::Pages(BTreeMap::new()))
    }

    fn claim_linear(&self, start: u64, bytes: u64) -> u64 {
        let attributes = self.form.attributes(invariants::KERNEL);
        self.watch.claim(self.row.linear(start), bytes, Target::Frames { pa: start, attributes })
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

    fn regions(&self) -> Vec<RegionView> {
        let added = self.added.iter().map(|added| RegionView {
            start: added.region.range().start().value(),
            bytes: added.region.range().bytes(),
            given: added.altmap,
            altmap: added.region.storage().altmap(),
            memmap: self.watch.get(added.memmap),
            hotplugged: true,
        });
        let bare = self.bare.iter().map(|bare| RegionView {
            start: bare.start,
            bytes: bare.bytes,
            given: bare.altmap,
            altmap: bare.populated.storage().altmap(),
            memmap: self.watch.get(bare.memmap),
            hotplugged: false,
        });
        added.chain(bare).collect()
    }

    /// All that must hold whatever has been done, and what must hold of this operation.
    fn judge(&self, before: &Snapshot, done: &Done) {
        self.watch.probe_all(&self.world);
        self.judge_violations();
        let after = self.snapshot();
        let events = self.world.events_from(before.events);
        let change = Change { form: &self.form, before, after: &after, touched: &done.touched, events: &events };
        if done.verdict.is_change() {
            invariants::l11_shared_tables_survive(&change, &self.watch.claims());
            invariants::i2_nothing_outside_of_the_range_changes(&change);
            invariants::i8_barriers_and_invalidations_are_bounded(&change, done.verdict);
        } else {
            invariants::i9_a_refusal_changes_nothing(&change);
            let silent = matches!(done.verdict, Verdict::OutOfRam | Verdict::Idle);
            assert!(silent || before.steps == after.steps, "{:?} is decided before anything is done", done.verdict);
        }
        invariants::l2_frames_go_back_where_they_came_from(&change);
        invariants::l3_no_valid_descriptor_replaces_another(&change);
        self.judge_state(&after);
    }

    fn judge_state(&self, after: &Snapshot) {
        let (claims, regions) = (self.watch.claims(), self.regions());
        let boot = self.boot.map(|id| self.watch.get(id));
        invariants::i1_tables_say_what_was_promised(&after.picture, &claims);
        invariants::i3_tables_and_frames_are_accounted_for(&self.form, after, &regions, boot.as_ref());
        invariants::i7_leaves_are_well_formed(&self.form, &after.picture, self.mair);
        for region in &regions {
            invariants::i4_the_altmap_adds_up(&self.form, region);
            if region.hotplugged {
                let words = (1 << self.page_shift) / 8;
                invariants::l6_struct_pages_are_initialised(&self.form, region, words, &self.world);
            }
        }
        invariants::l10_altmaps_are_apart(&self.form, &regions);
        let shift = self.form.shift;
        let is_valid = |pa: u64| self.map().is_valid(Pfn::new(pa >> shift));
        invariants::l5_a_pfn_is_valid_where_its_struct_page_is(&regions, self.row.unit(self.page_shift), is_valid);
    }

    /// I5, and what probes saw.
    fn judge_violations(&self) {
        let failures = self.watch.take_failures();
        if let Some(violation) = self.world.take_violations().first() {
            let events = violation.history.iter().map(|(number, event)| format!("\n  {number}: {event}"));
            panic!("I5: {violation}{}\nprobes: {failures:#?}", events.collect::<String>());
        }
        assert!(failures.is_empty(), "I5: {failures:#?}");
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
            Operation::Add { arena, extent, store, policy } => {
                let (start, bytes) = self.extent(arena, extent);
                self.add(cpu, start, bytes, store, policy)
            }
            Operation::Remove(which) => self.remove(cpu, which),
            Operation::AddOver { which, from_before, to_behind } => self.add_over(cpu, which, from_before, to_behind),
            Operation::RemoveForeign(which) => self.remove_foreign(cpu, which),
            Operation::AddMisaligned { start, by_page, empty } => self.add_misaligned(cpu, start, by_page, empty),
            Operation::Populate { at, count, store, policy, whole } => {
                self.populate(cpu, at, count, store, policy, whole)
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
            Verdict::Added => self.remove(cpu, self.added.len() - 1),
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
        while !self.added.is_empty() {
            self.apply(&step(Operation::Remove(0)));
        }
        while !self.bare.is_empty() {
            self.apply(&step(Operation::Depopulate(0)));
        }
        while !self.mapped.is_empty() {
            self.apply(&step(Operation::Unmap(0)));
        }
        invariants::i6_what_is_removed_leaves_nothing(&self.first, &self.picture());
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

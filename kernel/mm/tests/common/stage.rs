//! Several CPUs with tables under one root, each with a program; what came of a schedule.

use std::sync::Arc;

use vmemmap::addr::{PhysAddr, VirtAddr, VirtRange};
use vmemmap::descriptor::{Attributes, TableAttributes};
use vmemmap::granule::Granule;
use vmemmap::leaf::LeafPolicy;
use vmemmap::mapping::{self, Mapping};
use vmemmap::seam::Mmu;
use vmemmap::sim::world::Cpu;
use vmemmap::sim::{Rule, Violation, World};
use vmemmap::table::{Protection, Tables};
use vmemmap::trace::{Event, Word};

use super::abstraction::Picture;
use super::baton::{Baton, Program};
use super::geometry::Row;
use super::watch::{Target, Watch};
use super::{Counts, invariants};

/// A machine whose tables are shared, and what is claimed of it.
pub struct Stage {
    pub row: Row,
    pub world: World,
    pub watch: Arc<Watch>,
}

/// What came of a run.
pub struct Outcome {
    pub violations: Vec<Violation>,
    pub failures: Vec<String>,
    pub panics: Vec<String>,
}

impl Outcome {
    /// Fails unless everything went as it must.
    pub fn expect_clean(&self, schedule: u64) {
        if let Some(violation) = self.violations.first() {
            let events = violation.history.iter().map(|(number, event)| format!("\n  {number}: {event}"));
            panic!("schedule {schedule}: {violation}{}", events.collect::<String>());
        }
        let Self { failures, panics, .. } = self;
        assert!(failures.is_empty() && panics.is_empty(), "schedule {schedule}: {failures:#?} {panics:#?}");
    }

    /// The rules that were broken.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        self.violations.iter().map(|violation| violation.rule)
    }
}

impl Stage {
    /// `cpus` CPUs and an empty root.
    pub fn new(row: Row, cpus: u8, counts: &Arc<Counts>) -> Self {
        let world = World::new(row.regime(), row.pa_bits(), cpus);
        world.keep_events();
        let watch = Watch::new(&world, cpus, counts.clone());
        Self { row, world, watch }
    }

    /// The tables, in the hands of `cpu`.
    pub fn tables<G: Granule>(&self, cpu: u8) -> Tables<Cpu<G>> {
        // SAFETY: writers of one stage have windows of their own, but where a test breaks that on purpose.
        unsafe { Tables::adopt(self.world.cpu::<G>(cpu), self.world.root(), self.row.regime()) }
    }

    /// Page `index` of four lowest tables' worth at the top of the address space, and the frame behind it.
    pub fn page(&self, index: u64) -> (u64, u64) {
        let (page, entries) = (self.row.granule.bytes(), self.row.granule.entries());
        ((4 * entries * page).wrapping_neg() + index * page, 0x1_0000_0000 + index * page)
    }

    fn mapping(&self, va: u64, pa: u64, pages: u64, table: TableAttributes) -> Mapping {
        let window = VirtRange::new(VirtAddr::new(va), pages * self.row.granule.bytes());
        let protection = Protection { leaf: Attributes::KERNEL, table };
        Mapping::new(self.row.regime(), window, PhysAddr::new(pa), LeafPolicy::Pages, protection)
    }

    /// Makes the tables on the way to `va`, for ever: what several writers share has to be there before them.
    pub fn prepare<G: Granule>(&self, va: u64) {
        let (mut tables, mut ram) = (self.tables::<G>(0), self.world.ram());
        let mapping = self.mapping(va, 0x1_0000_0000, 1, TableAttributes::LINEAR);
        self.bracket(0, || mapping::map(&mut tables, &mut ram, &mapping)).expect("there is RAM");
        // SAFETY: just made, used by nobody.
        self.bracket(0, || unsafe { mapping::unmap(&mut tables, &mut ram, &mapping) }).expect("made whole");
    }

    /// Marks the bounds of what the library does not announce by itself.
    pub fn bracket<R>(&self, cpu: u8, run: impl FnOnce() -> R) -> R {
        let op = Word::new("linear");
        self.world.event(Event::Begin { cpu, op, start: 0, end: 0 });
        let result = run();
        self.world.event(Event::End { cpu, op, result: 0 });
        result
    }

    /// Maps `pages` pages from page `index` on.
    pub fn map<G: Granule>(&self, cpu: u8, index: u64, pages: u64) -> (Mapping, u64) {
        let (mut tables, mut ram) = (self.tables::<G>(cpu), self.world.ram());
        let (va, pa) = self.page(index);
        let mapping = self.mapping(va, pa, pages, TableAttributes::LINEAR.owned());
        let attributes = self.row.form(0).attributes(invariants::KERNEL);
        let claim = self.watch.claim(va, pages * self.row.granule.bytes(), Target::Frames { pa, attributes });
        self.bracket(cpu, || mapping::map(&mut tables, &mut ram, &mapping)).expect("there is RAM");
        self.watch.arrived(claim, cpu, &Picture::default());
        (mapping, claim)
    }

    /// Unmaps them.
    pub fn unmap<G: Granule>(&self, cpu: u8, (mapping, claim): (Mapping, u64)) {
        let (mut tables, mut ram) = (self.tables::<G>(cpu), self.world.ram());
        self.watch.leaving(claim);
        // SAFETY: made in these tables, used by nobody.
        self.bracket(cpu, || unsafe { mapping::unmap(&mut tables, &mut ram, &mapping) }).expect("made whole");
        self.watch.gone(claim);
    }

    /// A writer: maps so many pages and unmaps them again.
    pub fn writer<G: Granule>(&self, cpu: u8, index: u64, pages: u64) -> Program<'_> {
        Box::new(move || {
            let mapped = self.map::<G>(cpu, index, pages);
            self.unmap::<G>(cpu, mapped);
        })
    }

    /// A reader of a page that is mapped all the time: it synchronises its context, and reads.
    pub fn reader<G: Granule>(&self, cpu: u8, index: u64) -> Program<'_> {
        Box::new(move || {
            for _ in 0..2 {
                self.world.cpu::<G>(cpu).isb();
                self.world.event(Event::Touch { cpu, va: self.page(index).0, write: false });
            }
        })
    }

    /// Runs the programs in the schedule that the baton is at.
    pub fn run(&self, baton: &Arc<Baton>, programs: Vec<Program>) -> Outcome {
        let (hook, watch) = (baton.clone(), self.watch.clone());
        self.world.set_hook(Arc::new(move |world, cpu| {
            watch.look(world);
            hook.pause(world, cpu);
        }));
        let panics = baton.run(programs);
        self.world.remove_hook();
        self.watch.probe_all(&self.world);
        Outcome { violations: self.world.take_violations(), failures: self.watch.take_failures(), panics }
    }

    /// What the tables say.
    pub fn picture(&self) -> Picture {
        self.row.form(self.world.root().value()).read(|pa, count| self.world.words(PhysAddr::new(pa), count))
    }
}

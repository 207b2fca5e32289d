//! A world with a mutant in it: what scenarios are played on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr};
use vmemmap::altmap::Altmap;
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::Granule;
use vmemmap::hotplug::{AddError, Hotplug, Kind, Region, Request};
use vmemmap::layout::Layout;
use vmemmap::leaf::{LeafPolicy, Stretches};
use vmemmap::mapping::Mapping;
use vmemmap::meta::StructPage;
use vmemmap::regime::Regime;
use vmemmap::seam::Frames as _;
use vmemmap::sim::world::Cpu;
use vmemmap::sim::{Outcome, SimRam, World};
use vmemmap::table::Tables;
use vmemmap::trace::{Event, Word};

use crate::{Fault, Hands, Ledger, Mutated, MutatedFrames};

/// What the scenarios find out by themselves, beside the rules of the adversary: invariants by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// `I1`: the map is what was planned; `I3`: frames come back; `I4`: frames are where they may be; `I8`: no more
    /// invalidations than needed; `I9`: nothing is half done; `I10`: nothing goes that others need; `L6`: struct pages hold
    /// what they should; `panic`.
    pub code: &'static str,
    /// In words.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.why)
    }
}

/// What another CPU does.
type Work = Box<dyn FnOnce(&World)>;

/// The stage that is being played on: what [`Hands`], which are functions without a context, reach for, and what is left
/// when the core panics.
struct Reach {
    world: World,
    elsewhere: Option<Work>,
    found: Vec<Finding>,
}

std::thread_local! {
    static REACH: RefCell<Option<Reach>> = const { RefCell::new(None) };
}

/// The world that was played in last, and what was found there.
pub fn take() -> Option<(World, Vec<Finding>)> {
    REACH.take().map(|reach| (reach.world, reach.found))
}

fn tlbi(cpu: u8, name: &'static str, operand: u64) {
    let world = REACH.with_borrow(|reach| reach.as_ref().map(|reach| reach.world.clone()));
    if let Some(world) = world {
        world.event(Event::Tlbi { cpu, op: Word::new(name), operand: Some(operand) });
    }
}

fn elsewhere() {
    let run = REACH.with_borrow_mut(|reach| {
        let reach = reach.as_mut()?;
        Some((reach.world.clone(), reach.elsewhere.take()?))
    });
    if let Some((world, run)) = run {
        run(&world);
    }
}

/// The shape of a world.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bits of input and output addresses: 48 or 52.
    pub bits: u32,
    /// CPUs, of which the first `online` run from the start.
    pub cpus: u8,
    /// See `cpus`.
    pub online: u8,
}

impl Shape {
    /// Two CPUs, 48 bits.
    pub const PAIR: Self = Self { bits: 48, cpus: 2, online: 2 };
}

/// The memory map of a mutant.
pub type Map<G> = Hotplug<Mutated<Cpu<G>>, MutatedFrames<SimRam>, StructPage>;

/// A world, and the mutant's memory map on its CPU 0.
pub struct Stage<G: Granule> {
    /// The world.
    pub world: World,
    /// The memory map.
    pub map: Map<G>,
    fault: Fault,
    hands: Hands,
    shape: Shape,
    policy: LeafPolicy,
    /// How many ranges each edge page of the vmemmap holds struct pages of.
    edges: BTreeMap<VirtAddr, u32>,
}

impl<G: Granule> Stage<G> {
    /// A world of this shape with a mutant in it.
    pub fn new(fault: Fault, shape: Shape, policy: LeafPolicy) -> Self {
        let world = if shape.online == shape.cpus {
            World::new(regime::<G>(shape.bits), shape.bits, shape.cpus)
        } else {
            World::booting(regime::<G>(shape.bits), shape.bits, shape.cpus)
        };
        world.keep_events();
        world.set_range_invalidations(true);
        REACH.set(Some(Reach { world: world.clone(), elsewhere: None, found: Vec::new() }));
        let ledger: &Ledger = Box::leak(Box::default());
        let spare = world.ram().take(G::SIZE.bytes()).expect("a fresh world has frames");
        let hands = Hands { cpu: 0, tlbi, elsewhere, spare, regime: world.regime(), ledger };
        let machine = Mutated::new(world.cpu::<G>(0), fault, hands);
        // SAFETY: nobody else has the root.
        let tables = unsafe { Tables::adopt(machine, world.root(), world.regime()) };
        let frames = MutatedFrames::new(world.ram(), fault, ledger);
        let layout = Layout::linux(G::SIZE, shape.bits, 0);
        let map = Hotplug::new(tables, frames, layout, shape.bits).expect("a fresh world has frames");
        Self { world, map, fault, hands, shape, policy, edges: BTreeMap::new() }
    }

    /// A request for `range`; with an altmap that is just large enough behind `reserve` frames, if there is one.
    pub fn ask(&self, range: PhysRange, reserve: Option<u64>) -> Request {
        // SAFETY: memory of a world is nobody else's.
        let request = unsafe { Request::new(range) }.policy(self.policy);
        match reserve {
            Some(reserve) => request.altmap(Altmap::tight(self.map.layout(), range, self.policy, reserve)),
            None => request,
        }
    }

    /// Plans and commits.
    ///
    /// # Errors
    ///
    /// As of commit.
    pub fn try_add<K: Kind>(&mut self, request: Request<K>) -> Result<Region, AddError> {
        let region = self.map.plan(request).expect("the scenario's plan is right").commit()?;
        for edge in region.memmap().edges().into_iter().flatten() {
            *self.edges.entry(edge).or_default() += 1;
        }
        Ok(region)
    }

    /// Adds a range, which must work, and looks at it from every CPU.
    pub fn add<K: Kind + Copy>(&mut self, request: Request<K>) -> Region {
        let region = self.try_add(request).expect("there are frames");
        self.synchronise_others();
        self.look(&region, &request);
        region
    }

    /// Removes a region, which must work; afterwards nothing is mapped there but what others need.
    pub fn remove(&mut self, region: Region) {
        let interior = region.memmap().interior_stretches();
        let edges = region.memmap().edges().into_iter().flatten();
        let maps = self.linear(&region).into_iter().chain([interior]);
        self.map.remove(region).expect("it is a region of this map");
        for va in maps.flat_map(leaf_vas::<G>) {
            self.expect_gone(va);
        }
        for edge in edges {
            let users = self.edges.entry(edge).or_default();
            *users -= 1;
            if *users > 0 {
                self.expect_in_ram(edge);
            } else {
                self.expect_gone(edge);
            }
        }
    }

    fn expect_gone(&self, va: VirtAddr) {
        let written = self.world.written(va.value());
        expect("I1", written == Outcome::Fault, || format!("{va} is removed and still {written:x?}"));
    }

    fn expect_in_ram(&self, edge: VirtAddr) {
        let written = self.world.written(edge.value());
        let in_ram = matches!(written, Outcome::Map { pa, .. } if self.world.frames_out().contains_key(&pa));
        expect(if written == Outcome::Fault { "I1" } else { "I4" }, in_ram, || {
            format!("the page {edge}, which several ranges may need, should be in RAM and is {written:x?}")
        });
    }

    /// The same with the memory map in the hands of another CPU.
    #[must_use]
    pub fn on(self, cpu: u8) -> Self {
        let Self { world, map, fault, hands, shape, policy, edges } = self;
        let hands = Hands { cpu, ..hands };
        // SAFETY: a CPU of the same world; that of before is dropped.
        let map = unsafe { map.on(|_| Mutated::new(world.cpu::<G>(cpu), fault, hands)) };
        Self { world, map, fault, hands, shape, policy, edges }
    }

    /// Every leaf must be what the plan says, and every CPU must see it.
    pub fn look<K: Kind>(&self, region: &Region, request: &Request<K>) {
        let layout = *self.map.layout();
        for va in self.linear(region).into_iter().flat_map(leaf_vas::<G>) {
            self.expect_at(va, layout.physical_address(va));
        }
        for edge in region.memmap().edges().into_iter().flatten() {
            self.expect_in_ram(edge);
        }
        if let Some(mut altmap) = request.storage().altmap() {
            let mut leaves = Vec::new();
            let served = region.memmap().allocate_from(&mut altmap, |stretch, first| {
                let step = 1 << G::SIZE.level_shift(stretch.leaf.level);
                let frame = first.address(G::SIZE.shift());
                let count = stretch.descriptors(G::SIZE);
                leaves.extend((0..count).map(|index| (stretch.va.add(index * step), frame.add(index * step))));
            });
            served.expect("the plan served it");
            for (va, frame) in leaves {
                self.expect_at(va, frame);
            }
        }
        self.touch(region);
    }

    /// Every CPU touches every leaf.
    pub fn touch(&self, region: &Region) {
        let stretches = self.linear(region).into_iter().chain([region.memmap().interior_stretches()]);
        let edges = region.memmap().edges().into_iter().flatten();
        for va in stretches.flat_map(leaf_vas::<G>).chain(edges) {
            for cpu in 0..self.shape.online {
                self.world.event(Event::Touch { cpu, va: va.value(), write: true });
            }
        }
    }

    /// A CPU touches an address, if another has made it.
    pub fn touch_if_there(&self, cpu: u8, va: VirtAddr) {
        if REACH.with_borrow(|reach| reach.as_ref().is_some_and(|reach| reach.elsewhere.is_none())) {
            self.world.event(Event::Touch { cpu, va: va.value(), write: true });
        }
    }

    fn expect_at(&self, va: VirtAddr, frame: PhysAddr) {
        let written = self.world.written(va.value());
        let right = matches!(written, Outcome::Map { pa, .. } if pa == frame.value());
        expect("I1", right, || format!("{va} should map {frame} and is {written:x?}"));
    }

    /// Another CPU that has just been told of new memory has synchronised its context.
    fn synchronise_others(&self) {
        (1..self.shape.online).for_each(|cpu| self.world.event(Event::Isb { cpu }));
    }

    fn linear(&self, region: &Region) -> Option<Stretches> {
        let (regime, layout) = (self.world.regime(), self.map.layout());
        let protection = region.kind().linear_protection(layout)?;
        Some(Mapping::linear(regime, layout, region.range(), self.policy, protection).stretches())
    }

    /// Bytes of RAM that are out, but for section records.
    pub fn ram_out(&self) -> u64 {
        self.world.frames_out().values().sum::<u64>() - self.map.section_bytes()
    }

    /// CPU `cpu` comes online through a mutant of its own.
    pub fn come_online(&mut self, cpu: u8) {
        let machine = Mutated::new(self.world.cpu::<G>(cpu), self.fault, Hands { cpu, ..self.hands });
        // SAFETY: this value writes nothing.
        let mut tables = unsafe { Tables::adopt(machine, self.world.root(), self.world.regime()) };
        tables.come_online(self.world.ips());
        self.shape.online = self.shape.online.max(cpu + 1);
    }
}

/// Notes a finding unless `holds`.
pub fn expect(code: &'static str, holds: bool, why: impl FnOnce() -> String) {
    if !holds {
        let finding = Finding { code, why: why() };
        REACH.with_borrow_mut(|reach| reach.iter_mut().for_each(|reach| reach.found.push(finding.clone())));
    }
}

/// What another CPU does when the mutant lets it.
pub fn let_elsewhere(run: impl FnOnce(&World) + 'static) {
    REACH.with_borrow_mut(|reach| {
        if let Some(reach) = reach {
            reach.elsewhere = Some(Box::new(run));
        }
    });
}

fn regime<G: Granule>(bits: u32) -> Regime {
    let output = match (bits, G::SIZE) {
        (..=48, _) => OutputFormat::Bits48,
        (_, vmemmap::granule::GranuleSize::K64) => OutputFormat::Lpa,
        _ => OutputFormat::Lpa2,
    };
    Regime::new(G::SIZE, bits, output).expect("48 and 52 bits go with every granule")
}

/// The first address of every descriptor.
fn leaf_vas<G: Granule>(stretches: Stretches) -> impl Iterator<Item = VirtAddr> {
    stretches.flat_map(|stretch| {
        let step = 1_u64 << G::SIZE.level_shift(stretch.leaf.level);
        (0..stretch.descriptors(G::SIZE)).map(move |index| stretch.va.add(index * step))
    })
}

//! Probing: what an access may see on every CPU, before every call of the seam.
//!
//! A scene claims stretches of addresses and says what each is to show. While a claim arrives or leaves, an access sees what
//! it is to show or a fault; while it is there, exactly what it is to show, and on a CPU that has not synchronised its
//! context since it came also a fault (the API's contract); where nothing is claimed, a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmemmap::sim::{Outcome, World};
use vmemmap::trace::Event;

use super::Counts;
use super::abstraction::Picture;

/// What a claim is to show.
#[derive(Clone, Debug)]
pub enum Target {
    /// Consecutive frames.
    Frames { pa: u64, attributes: u64 },
    /// Whatever frame the allocator or the altmap gives each page: known once it is there.
    Pages(BTreeMap<u64, (u64, u64)>),
}

/// How far a claim is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Arriving,
    There,
    Leaving,
}

/// A stretch of addresses that somebody is answerable for.
#[derive(Clone, Debug)]
pub struct Claim {
    pub va: u64,
    pub bytes: u64,
    pub target: Target,
    pub stage: Stage,
    /// CPUs that have synchronised their context since it came.
    synchronised: u8,
    /// What was seen before it was known what it shows.
    seen: BTreeMap<u64, BTreeSet<Outcome>>,
}

impl Claim {
    const fn contains(&self, va: u64) -> bool {
        va.wrapping_sub(self.va) < self.bytes
    }

    /// What an access to `va` is to see, if that is known.
    pub fn shows(&self, va: u64) -> Option<Outcome> {
        let (pa, attributes) = match &self.target {
            Target::Frames { pa, attributes } => (pa + va.wrapping_sub(self.va), *attributes),
            Target::Pages(pages) => {
                let (page, (pa, attributes)) = pages.range(..=va).next_back()?;
                (pa + (va - page), *attributes)
            }
        };
        Some(Outcome::Map { pa, attributes })
    }

    /// Both ends, the middle, and what lies before and behind.
    fn points(&self) -> [u64; 5] {
        let Self { va, bytes, .. } = *self;
        [va, va.wrapping_add(bytes - 1), va.wrapping_add(bytes / 2), va.wrapping_sub(1), va.wrapping_add(bytes)]
    }
}

/// The claims of a scene, and the probes of them.
pub struct Watch {
    state: Mutex<State>,
    counts: Arc<Counts>,
    lowest: u64,
    page: u64,
}

#[derive(Default)]
struct State {
    claims: BTreeMap<u64, Claim>,
    next: u64,
    online: Vec<u8>,
    /// Events that have been looked at, and those there had been at the last probe.
    events: usize,
    steps: u64,
    turn: usize,
    muted: bool,
    failures: Vec<String>,
}

impl Watch {
    /// Watches CPUs 0 to `online` - 1 of `world`, whose events must be kept.
    pub fn new(world: &World, online: u8, counts: Arc<Counts>) -> Arc<Self> {
        let regime = world.regime();
        let state = State { online: (0..online).collect(), ..State::default() };
        let (lowest, page) = (regime.lowest().value(), regime.granule().bytes());
        Arc::new(Self { state: Mutex::new(state), counts, lowest, page })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another CPU takes part.
    pub fn online(&self, cpu: u8) {
        let mut state = self.state();
        state.online.push(cpu);
        state.claims.values_mut().for_each(|claim| claim.synchronised |= 1 << cpu);
    }

    /// A stretch of addresses is about to show `target`.
    pub fn claim(&self, va: u64, bytes: u64, target: Target) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let claim = Claim { va, bytes, target, stage: Stage::Arriving, synchronised: 0, seen: BTreeMap::new() };
        state.claims.insert(id, claim);
        id
    }

    /// What `cpu` did is complete: the claim is there. What it shows is read from `picture` if it was not known.
    pub fn arrived(&self, id: u64, cpu: u8, picture: &Picture) {
        let mut state = self.state();
        let claim = state.claims.get_mut(&id).expect("a claim");
        (claim.stage, claim.synchronised) = (Stage::There, 1 << cpu);
        if let Target::Pages(pages) = &mut claim.target {
            for va in (0..claim.bytes).step_by(self.page as usize).map(|offset| claim.va + offset) {
                pages.extend(picture.at(va).map(|(pa, leaf)| (va, (pa, leaf.attributes))));
            }
        }
        let seen = std::mem::take(&mut claim.seen);
        let wrong = seen.into_iter().find(|(va, seen)| seen.iter().any(|outcome| Some(*outcome) != claim.shows(*va)));
        if let Some((va, seen)) = wrong {
            let shows = claim.shows(va);
            state.failures.push(format!("{va:#x} was {seen:x?} on its way to {shows:x?}"));
        }
    }

    /// The claim is about to go.
    pub fn leaving(&self, id: u64) {
        self.state().claims.get_mut(&id).expect("a claim").stage = Stage::Leaving;
    }

    /// The claim is gone, or never came.
    pub fn gone(&self, id: u64) {
        self.state().claims.remove(&id);
    }

    /// A claim as it stands.
    pub fn get(&self, id: u64) -> Claim {
        self.state().claims[&id].clone()
    }

    /// All claims, by their first address.
    pub fn claims(&self) -> Vec<Claim> {
        self.state().claims.values().cloned().collect()
    }

    /// What went wrong since the last call.
    pub fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut self.state().failures)
    }

    /// Whether to leave out the probes before each call, until told otherwise.
    pub fn mute(&self, muted: bool) {
        self.state().muted = muted;
    }

    /// Probes everything, on every CPU.
    pub fn probe_all(&self, world: &World) {
        let mut state = self.state();
        state.notice(world);
        let points: Vec<_> = state.claims.values().flat_map(Claim::points).collect();
        self.probe(&mut state, world, &points);
    }

    /// The hook: probes if anything has happened since the last time. After barriers and at the ends of operations
    /// everything, else some of what is in motion and of what is not, in turn.
    pub fn look(&self, world: &World) {
        let mut state = self.state();
        let steps = world.steps();
        if std::mem::replace(&mut state.steps, steps) == steps || state.muted {
            return;
        }
        let points = if state.notice(world) { state.all_points() } else { state.some_points(self.page) };
        self.probe(&mut state, world, &points);
    }

    fn probe(&self, state: &mut State, world: &World, points: &[u64]) {
        let kernel = |va: &&u64| **va >= self.lowest;
        for &va in points.iter().filter(kernel) {
            for at in 0..state.online.len() {
                let cpu = state.online[at];
                let may = world.may(cpu, va);
                Counts::add(&self.counts.probes, 1);
                state.judge(cpu, va, &may);
            }
        }
    }
}

impl State {
    /// Looks at what happened: who has synchronised, and whether the last event deserves a probe of everything.
    fn notice(&mut self, world: &World) -> bool {
        let events = world.events_from(self.events);
        self.events += events.len();
        for event in &events {
            if let Event::Isb { cpu } = event {
                let there = self.claims.values_mut().filter(|claim| claim.stage == Stage::There);
                there.for_each(|claim| claim.synchronised |= 1 << cpu);
            }
        }
        let quiet = |event: &Event| {
            matches!(
                event,
                Event::Write { .. }
                    | Event::Tlbi { .. }
                    | Event::Zero { .. }
                    | Event::Alloc { .. }
                    | Event::Free { .. }
            ) || matches!(event, Event::Touch { .. })
        };
        !events.iter().all(quiet)
    }

    fn all_points(&self) -> Vec<u64> {
        self.claims.values().flat_map(Claim::points).collect()
    }

    fn some_points(&mut self, page: u64) -> Vec<u64> {
        self.turn += 1;
        let turn = self.turn;
        let (moving, still): (Vec<_>, Vec<_>) = self.claims.values().partition(|claim| claim.stage != Stage::There);
        let mut points = Vec::new();
        for claim in moving {
            points.push(claim.points()[turn % 5]);
            points.push(claim.va.wrapping_add(turn as u64 * page % claim.bytes));
        }
        if !still.is_empty() {
            points.extend([0, 1].map(|more| still[(turn + more) % still.len()].points()[(turn / still.len()) % 5]));
        }
        points
    }

    fn judge(&mut self, cpu: u8, va: u64, may: &BTreeSet<Outcome>) {
        let claim = self.claims.values_mut().find(|claim| claim.contains(va));
        let allowed = match claim {
            None => may.iter().all(|outcome| *outcome == Outcome::Fault),
            Some(claim) => {
                let shows = claim.shows(va);
                let known = |outcome: &Outcome| *outcome == Outcome::Fault || Some(*outcome) == shows;
                match claim.stage {
                    Stage::There => {
                        let fault = claim.synchronised >> cpu & 1 == 0;
                        shows.is_some_and(|shows| may.contains(&shows))
                            && may.iter().all(|outcome| Some(*outcome) == shows || fault && *outcome == Outcome::Fault)
                    }
                    Stage::Arriving if shows.is_none() => {
                        let seen = may.iter().copied().filter(|outcome| *outcome != Outcome::Fault);
                        claim.seen.entry(va).or_default().extend(seen);
                        true
                    }
                    Stage::Arriving | Stage::Leaving => may.iter().all(known),
                }
            }
        };
        if !allowed && self.failures.len() < 8 {
            let claim = self.claims.values().find(|claim| claim.contains(va));
            let claim = claim.map(|claim| (claim.stage, claim.synchronised, claim.shows(va)));
            self.failures.push(format!("CPU {cpu} at {va:#x} may see {may:x?}, which is claimed as {claim:x?}"));
        }
    }
}

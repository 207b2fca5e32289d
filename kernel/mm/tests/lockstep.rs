//! The adversary beside a machine that is not: random programs run on both, and whatever the concrete machine does,
//! with stores, TLBs and walk caches of its own, the adversary must have thought of.

#[path = "lockstep/geometry.rs"]
mod geometry;
#[path = "lockstep/machine.rs"]
mod machine;
#[path = "lockstep/program.rs"]
mod program;
#[path = "lockstep/random.rs"]
mod random;
#[path = "lockstep/tlb.rs"]
mod tlb;
#[path = "lockstep/tlbi.rs"]
mod tlbi;

use geometry::{GEOMETRIES, Geometry};
use machine::Machine;
use program::{Program, ROOT};
use random::Random;
use vmemmap::sim::{Adversary, Outcome, Rule};
use vmemmap::trace::{Event, Header};

/// Events of one program.
const LENGTH: usize = 300;

/// Programs break rules all the time, and the adversary goes on. But once a table is in two places, or given back while
/// in use, or linked before it was zeroed, it no longer knows what memory holds; there a program ends.
const ENDS: [Rule; 3] = [Rule::Accounts, Rule::FreedTable, Rule::Unordered];

#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    /// Events, and things that happen by themselves.
    steps: usize,
    outcomes: usize,
    /// Those that are not what the tables say.
    stale: usize,
    /// Those where the adversary knew no other.
    sure: usize,
}

/// An outcome that the adversary had not thought of.
#[derive(Debug)]
struct Escape {
    cpu: u8,
    va: u64,
    seen: Outcome,
    may: Vec<Outcome>,
    /// How many events came before.
    after: usize,
}

/// A program, the machine that it runs on, and the adversary beside it.
#[derive(Clone, Debug)]
struct Case {
    /// A rule that the adversary does not know.
    without: Option<Rule>,
    geometry: Geometry,
    cpus: usize,
    /// The state at the start is told in this many of the events.
    opening: usize,
    events: Vec<Event>,
    addresses: Vec<u64>,
}

impl Case {
    fn random(seed: u64, without: Option<Rule>) -> Self {
        let geometry = GEOMETRIES[seed as usize % GEOMETRIES.len()];
        let mut random = Random::new(seed);
        let cpus = 1 + random.below(3);
        let Geometry { granule, va_bits, pa_bits, .. } = geometry;
        let header = Header { granule, va_bits, pa_bits, cpus: cpus as u32 };
        let mut program = Program::new(geometry, cpus);
        let mut events = vec![Event::Trace(header)];
        events.extend(program.opening(&mut random));
        let opening = events.len();
        events.extend((0..LENGTH).map(|_| program.next(&mut random)));
        Self { without, geometry, cpus, opening, events, addresses: program.addresses() }
    }

    /// Both run it.
    fn run(&self, seed: u64, counts: &mut Counts) -> Result<(), Escape> {
        let Event::Trace(header) = self.events[0] else { unreachable!("a case begins with its header") };
        let mut random = Random::new(!seed);
        let others = Rule::ALL.iter().filter(|rule| rule.code().starts_with('E') && !ENDS.contains(rule));
        let mut adversary = others.copied().chain(self.without).fold(Adversary::new(header), Adversary::without);
        let mut machine = Machine::new(self.geometry, self.geometry.at(ROOT), self.cpus);
        for (number, event) in self.events.iter().enumerate() {
            if adversary.step(*event).is_err() {
                return Ok(());
            }
            machine.step(*event, &mut random);
            if number >= self.opening {
                let stirs = random.below(6);
                (0..stirs).for_each(|_| machine.stir(&self.addresses, &mut random));
                counts.steps += 1 + stirs;
                self.compare(&adversary, &mut machine, &mut random, counts)
                    .map_err(|escape| Escape { after: number + 1, ..escape })?;
            }
        }
        Ok(())
    }

    /// One CPU looks at one address.
    fn compare(
        &self,
        adversary: &Adversary,
        machine: &mut Machine,
        random: &mut Random,
        counts: &mut Counts,
    ) -> Result<(), Escape> {
        let (cpu, va) = (random.below(self.cpus) as u8, random.of(&self.addresses));
        let seen = machine.access(cpu, va, random);
        let (may, written) = (adversary.may(cpu, va), adversary.written(va));
        counts.outcomes += seen.len();
        counts.stale += seen.iter().filter(|seen| **seen != written).count();
        counts.sure += usize::from(may.len() == 1);
        match seen.into_iter().find(|seen| !may.contains(seen)) {
            None => Ok(()),
            Some(seen) => Err(Escape { cpu, va, seen, may: may.into_iter().collect(), after: 0 }),
        }
    }

    /// An escape of this case on some machine.
    fn escapes(&self) -> Option<Escape> {
        (0..1000).find_map(|seed| self.run(seed, &mut Counts::default()).err())
    }

    /// The same case without what an escape can do without, as text.
    fn shrunk(mut self, mut escape: Escape) -> String {
        self.events.truncate(escape.after);
        let near = self.addresses.iter().filter(|va| **va >> 30 == escape.va >> 30).copied();
        self.addresses = near.chain([escape.va; 5]).collect();
        for size in [64, 16, 4, 1] {
            let mut at = self.events.len();
            while at > self.opening {
                at = at.saturating_sub(size).max(self.opening);
                let mut less = self.clone();
                less.events.drain(at..(at + size).min(self.events.len()));
                if let Some(found) = less.escapes() {
                    less.events.truncate(found.after);
                    (self, escape) = (less, found);
                    at = at.min(self.events.len());
                }
            }
        }
        let lines = self.events.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let Escape { cpu, va, seen, may, .. } = escape;
        format!("CPU {cpu} saw {seen:x?} at {va:#x}, where it may see {may:x?}\n{lines}")
    }
}

/// `VMEMMAP_THOROUGH=n` runs n times as many programs.
#[test]
fn whatever_a_machine_shows_the_adversary_has_thought_of() {
    let times = std::env::var("VMEMMAP_THOROUGH").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let mut counts = Counts::default();
    for seed in 0..3_000 * times {
        let case = Case::random(seed, None);
        if let Err(escape) = case.run(seed, &mut counts) {
            panic!("seed {seed}: {}", case.shrunk(escape));
        }
    }
    let Counts { steps, outcomes, stale, sure } = counts;
    println!("@count steps={steps} outcomes={outcomes} stale={stale} sure={sure}");
    assert!(steps >= 100_000 && stale > outcomes / 100, "{counts:?}: too tame to show anything");
    assert!(sure > outcomes / 20, "{counts:?}: an adversary who allows everything is not refuted by anything");
}

/// The machine is hostile enough: without any one rule of what it takes to forget (R1 to R16) it shows something new.
#[test]
fn an_adversary_who_forgets_too_early_is_caught() {
    let removal = Rule::ALL.iter().copied().filter(|rule| rule.code().starts_with('R'));
    let missed: Vec<_> = removal.filter(|rule| programs_until_caught(*rule).is_none()).map(Rule::code).collect();
    assert!(missed.is_empty(), "without any of {missed:?} no machine showed anything new");
}

fn programs_until_caught(rule: Rule) -> Option<u64> {
    let escapes = |seed, without| Case::random(seed, without).run(seed, &mut Counts::default()).is_err();
    let caught = (0..4_000).find(|seed| escapes(*seed, Some(rule)) && !escapes(*seed, None));
    println!("@count without={} programs={caught:?}", rule.code());
    caught
}

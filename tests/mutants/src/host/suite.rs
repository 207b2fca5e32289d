//! The runner: plays, judges, and plays back without each rule.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::thread;

use vmemmap::sim::{Rule, Violation};
use vmemmap::trace::{Event, Header};

use super::scenarios::{SCENARIOS, Scenario};
use super::stage::{self, Finding};
use super::{cost, replay};
use crate::list::{CONTROLS, MUTANTS, Mutant};

/// Threads that mutants are shared out to.
const THREADS: usize = 2;

/// Who noticed something first, where, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The code of the rule or invariant.
    pub by: String,
    /// The scenario.
    pub scenario: &'static str,
    /// In words.
    pub why: String,
}

/// One mutant in one scenario.
#[derive(Debug)]
pub struct Trial {
    scenario: &'static str,
    header: Header,
    trace: Vec<Event>,
    violations: Vec<Violation>,
    findings: Vec<Finding>,
}

impl Trial {
    fn play(mutant: &Mutant, scenario: &Scenario) -> Self {
        let ended = quietly(|| (scenario.play)(mutant.fault));
        let (world, mut findings) = stage::take().expect("every scenario sets a stage");
        let trace = world.events();
        let Some(Event::Trace(header)) = trace.first().copied() else { unreachable!("a trace begins with its header") };
        findings.extend(ended.err().map(|why| Finding { code: "panic", why }));
        findings.extend(cost::judge(header, &trace));
        Self { scenario: scenario.name, header, trace, violations: world.take_violations(), findings }
    }

    /// The adversary's first objection, else the scenario's.
    fn notice(&self) -> Option<Notice> {
        let by_rule = self.violations.first().map(|violation| (violation.rule.code(), violation.to_string()));
        let by_suite = || self.findings.first().map(|finding| (finding.code, finding.why.clone()));
        let (by, why) = by_rule.or_else(by_suite)?;
        Some(Notice { by: by.to_owned(), scenario: self.scenario, why })
    }

    fn codes(&self) -> impl Iterator<Item = &'static str> {
        let rules = self.violations.iter().map(|violation| violation.rule.code());
        rules.chain(self.findings.iter().map(|finding| finding.code))
    }

    /// Who notices it without a rule; what only costs too much does not count.
    fn noticed_without(&self, rule: Rule) -> Option<&'static str> {
        let other = || self.violations.iter().find(|violation| is_check(rule) && violation.rule != rule);
        let replayed = || replay::first_without(rule, self.header, &self.trace);
        let finding = || self.findings.iter().find(|finding| finding.code != "I8");
        let other = other().map(|violation| violation.rule.code());
        let code = other.or_else(|| replayed().map(|violation| violation.rule.code()));
        code.or_else(|| finding().map(|finding| finding.code))
    }
}

/// Whether a rule only forbids; the others also say what is forgotten when, and change what the checks see.
fn is_check(rule: Rule) -> bool {
    rule.code().starts_with('E')
}

/// What became of a mutant.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The mutant.
    pub mutant: &'static Mutant,
    /// Who noticed it first; nobody if it survives.
    pub notice: Option<Notice>,
    /// Everybody who notices it in any scenario, by code.
    pub all: BTreeSet<&'static str>,
    /// What changes without each rule that something hangs on.
    pub gaps: Vec<Gap>,
    /// Events of all its scenarios.
    pub events: usize,
}

/// What changes for a mutant without one rule.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The rule.
    pub rule: Rule,
    /// How many scenarios no longer notice the mutant.
    pub blind: usize,
    /// Of how many that did.
    pub of: usize,
    /// Who notices it in the rule's place in the others.
    pub instead: BTreeSet<&'static str>,
}

/// The whole suite's outcome.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Of the mutants.
    pub mutants: Vec<Verdict>,
    /// Of the legal variants.
    pub controls: Vec<Verdict>,
}

/// Runs the mutants whose name contains `filter`, and the controls; with `rules` also without each rule.
#[must_use]
pub fn run(filter: &str, rules: bool) -> Suite {
    let chosen: Vec<_> = MUTANTS.iter().filter(|mutant| mutant.name.contains(filter)).collect();
    let controls: Vec<_> = CONTROLS.iter().collect();
    Suite { mutants: in_parallel(&chosen, rules), controls: in_parallel(&controls, false) }
}

fn in_parallel(mutants: &[&'static Mutant], rules: bool) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = judge(mutant, rules);
            verdicts.lock().expect("no judge panics").push(verdict);
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no judge panics");
    verdicts.sort_by_key(|verdict| mutants.iter().position(|mutant| mutant.name == verdict.mutant.name));
    verdicts
}

fn judge(mutant: &'static Mutant, rules: bool) -> Verdict {
    let trials: Vec<_> = SCENARIOS.iter().map(|scenario| Trial::play(mutant, scenario)).collect();
    let without = if rules { Rule::ALL } else { &[] };
    Verdict {
        mutant,
        notice: first(&trials),
        all: trials.iter().flat_map(Trial::codes).collect(),
        gaps: without.iter().filter_map(|rule| gap(*rule, &trials)).collect(),
        events: trials.iter().map(|trial| trial.trace.len()).sum(),
    }
}

/// What changes without `rule`; nothing where neither the rule itself noticed anything nor a scenario goes blind.
fn gap(rule: Rule, trials: &[Trial]) -> Option<Gap> {
    let mut gap = Gap { rule, blind: 0, of: 0, instead: BTreeSet::new() };
    let mut concerned = !is_check(rule);
    for trial in trials.iter().filter(|trial| !trial.violations.is_empty()) {
        concerned |= trial.violations.iter().any(|violation| violation.rule == rule);
        let noticed = trial.noticed_without(rule);
        gap.of += 1;
        gap.blind += usize::from(noticed.is_none());
        gap.instead.extend(noticed);
    }
    (concerned && (gap.blind > 0 || is_check(rule))).then_some(gap)
}

/// What a rule of the adversary notices goes before what the scenarios do.
fn first(trials: &[Trial]) -> Option<Notice> {
    let notices = || trials.iter().filter_map(Trial::notice);
    notices().find(|notice| notice.by.starts_with('E')).or_else(|| notices().next())
}

std::thread_local! {
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `work`; a panic is returned, not printed.
fn quietly(work: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let ended = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    ended.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

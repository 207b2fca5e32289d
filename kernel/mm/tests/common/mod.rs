//! What the tests on the host machine share: geometries, the abstraction function, a scene that operations are applied to,
//! probes, and the invariants that hold after each.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod abstraction;
pub mod baton;
pub mod geometry;
pub mod invariants;
pub mod operation;
pub mod page;
pub mod scene;
pub mod stage;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use scene::Verdict;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// How much has been tried; printed at the end of a test.
#[derive(Debug, Default)]
pub struct Counts {
    pub operations: AtomicU64,
    pub probes: AtomicU64,
    pub schedules: AtomicU64,
    pub failures: AtomicU64,
    /// How operations ended.
    verdicts: Mutex<BTreeMap<Verdict, u64>>,
}

impl Counts {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Relaxed);
    }

    /// Counts an operation.
    pub fn ended(&self, verdict: Verdict) {
        Self::add(&self.operations, 1);
        *self.verdicts.lock().expect("nobody panics with it").entry(verdict).or_default() += 1;
    }

    /// How many operations ended like this.
    pub fn how_many(&self, verdict: Verdict) -> u64 {
        self.verdicts.lock().expect("nobody panics with it").get(&verdict).copied().unwrap_or(0)
    }

    /// One line for a report, and one for how operations ended.
    pub fn print(&self, test: &str) {
        let Self { operations, probes, schedules, failures, verdicts } = self;
        let [operations, probes, schedules, failures] =
            [operations, probes, schedules, failures].map(|counter| counter.load(Relaxed));
        println!(
            "@count test={test} operations={operations} probes={probes} schedules={schedules} failures={failures}"
        );
        let verdicts = verdicts.lock().expect("nobody panics with it");
        if !verdicts.is_empty() {
            let words: Vec<_> = verdicts.iter().map(|(verdict, count)| format!("{verdict:?}={count}")).collect();
            println!("@verdicts test={test} {}", words.join(" "));
        }
    }
}

/// A whole number from the environment.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// How many times as many cases as usual are to be tried: `VMEMMAP_THOROUGH`.
pub fn thorough() -> u64 {
    setting("VMEMMAP_THOROUGH").unwrap_or(1).max(1)
}

/// What random cases start from: `VMEMMAP_SEED`. The same seed gives the same cases.
pub fn seed() -> u64 {
    setting("VMEMMAP_SEED").unwrap_or(0)
}

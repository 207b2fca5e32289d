//! The adversary: a machine as hostile as the architecture permits, to judge event traces against.
//!
//! It does not play one TLB. It keeps, for every CPU, *all* that a TLB or a walk cache may hold: whatever can be walked
//! now counts as cached, whatever could be walked before is cached until a rule of the architecture says that it is gone.
//! So one run judges every behaviour that hardware may show, and a mistake that no machine at hand would punish is an error
//! here.
//!
//! It takes [`trace`](crate::trace) events and knows nothing of the rest of this crate: descriptors, operands and geometry are read
//! from their bits by its own code. What it does not model is listed in `docs/adversary.md`.

mod rule;

pub use rule::Rule;

use std::collections::BTreeSet;
use std::fmt;

use crate::trace::{Event, Header};

/// What an access may see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// A translation fault.
    Fault,
    /// This output address, with these attributes (bits 11:2 and 54:50 of the leaf, Contiguous bit left out).
    Map {
        /// The output address.
        pa: u64,
        /// The attributes.
        attributes: u64,
    },
    /// Anything: the CPU has come online with a TLB that nobody has emptied.
    Garbage,
}

/// A rule that was broken, by which event, and what came before.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What is wrong.
    pub why: String,
    /// The number of the event, from 1 on.
    pub number: usize,
    /// The event.
    pub event: Event,
    /// The events up to it, with it, as far back as they are kept.
    pub history: Vec<(usize, Event)>,
}

/// The adversary.
#[derive(Debug)]
pub struct Adversary {
    header: Header,
}

impl Adversary {
    /// An adversary for machines with this geometry, who enforces every rule.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self { header }
    }

    /// The same without one rule: for tests that show what the rule is needed for.
    #[must_use]
    pub fn without(self, _rule: Rule) -> Self {
        self
    }

    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] of this event. The adversary goes on as if the event had been legal.
    pub fn step(&mut self, _event: Event) -> Result<(), Box<Violation>> {
        Ok(())
    }

    /// All that an access of `cpu` to `va` may see now.
    #[must_use]
    pub fn may(&self, _cpu: u8, _va: u64) -> BTreeSet<Outcome> {
        BTreeSet::new()
    }

    /// What `va` is by the tables as they were last written, every store visible and nothing cached.
    #[must_use]
    pub fn written(&self, _va: u64) -> Outcome {
        Outcome::Fault
    }

    /// The geometry.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: event {}: {}: {} ({})", self.rule, self.number, self.event, self.why, self.rule.source())
    }
}

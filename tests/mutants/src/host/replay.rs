//! Traces judged again by an adversary without one rule.

use vmemmap::sim::{Adversary, Rule, Violation};
use vmemmap::trace::{Event, Header};

/// The first violation of a trace.
pub fn first_without(rule: Rule, header: Header, trace: &[Event]) -> Option<Box<Violation>> {
    let mut adversary = Adversary::new(header).without(rule);
    trace.iter().find_map(|event| adversary.step(*event).err())
}

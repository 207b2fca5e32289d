//! The suite on the host: every mutant in every scenario against the adversary, and again without each rule.

mod cost;
mod replay;
mod report;
mod scenarios;
mod shared;
mod stage;
mod suite;

pub use report::json;
pub use scenarios::{SCENARIOS, Scenario};
pub use stage::Finding;
pub use suite::{Gap, Notice, Suite, Trial, Verdict, run};

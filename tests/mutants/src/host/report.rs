//! The outcome as one JSON object, for `cargo xtask mutants`.

use serde_json::{Value, json};
use vmemmap::sim::Rule;

use super::suite::{Gap, Suite, Verdict};
use crate::list::{Boot, OTHERWISE};

/// The outcome as JSON.
#[must_use]
pub fn json(suite: &Suite) -> Value {
    json!({
        "mutants": suite.mutants.iter().map(verdict).collect::<Vec<_>>(),
        "controls": suite.controls.iter().map(verdict).collect::<Vec<_>>(),
        "rules": Rule::ALL.iter().map(|rule| of_rule(*rule)).collect::<Vec<_>>(),
    })
}

fn verdict(Verdict { mutant, notice, all, gaps, events }: &Verdict) -> Value {
    let notice =
        notice.as_ref().map(|notice| json!({ "by": notice.by, "scenario": notice.scenario, "why": notice.why }));
    let why_not = if let Boot::No(why) = mutant.boot { Some(why) } else { None };
    json!({
        "number": mutant.number,
        "name": mutant.name,
        "what": mutant.what,
        "expected": mutant.expected,
        "otherwise": OTHERWISE.iter().find(|(number, ..)| *number == mutant.number).map(|(_, _, why)| why),
        "notice": notice,
        "all": all,
        "gaps": gaps.iter().map(gap).collect::<Vec<_>>(),
        "events": events,
        "boot": mutant.boot.name(),
        "why_no_boot": why_not,
    })
}

fn gap(Gap { rule, blind, of, instead }: &Gap) -> Value {
    json!({ "rule": rule.code(), "blind": blind, "of": of, "instead": instead })
}

fn of_rule(rule: Rule) -> Value {
    json!({ "code": rule.code(), "text": rule.text(), "source": rule.source() })
}

//! The adversary against litmus shapes: programs of a few events on which the architecture, a published model or a
//! paper has given a verdict. Both ways: what is allowed must be in its sets, what is forbidden must not be.
//!
//! Names are the published ones where there is a published test; the events are ours.

#[path = "litmus/leaves.rs"]
mod leaves;
#[path = "litmus/programs.rs"]
mod programs;
#[path = "litmus/runs.rs"]
mod runs;
#[path = "litmus/shape.rs"]
mod shape;
#[path = "litmus/stage.rs"]
mod stage;
#[path = "litmus/tables.rs"]
mod tables;
#[path = "litmus/wide.rs"]
mod wide;

use std::collections::BTreeSet;

use shape::{Shape, Verdict};
use vmemmap::sim::Rule;

const GROUPS: &[&[Shape]] = &[
    leaves::OWN,
    leaves::MADE,
    leaves::REMOTE,
    leaves::REACH,
    leaves::CAUTIOUS,
    tables::UNLINKED,
    tables::LINKED,
    tables::CORNERS,
    tables::ROOTS,
    runs::RUNS,
    programs::OPERATIONS,
    programs::FRAMES,
    programs::DESCRIPTORS,
    programs::OTHERS,
    wide::LEVELS,
    wide::BLOCKS,
    wide::OPERANDS,
];

/// Shapes about what 52 bits change: their counterparts are in [`wide`].
const NARROW: &[&str] =
    &["TLBI+ttl-reserved", "block at level 1 of 16K", "TLBI+ttl0 of 4K without LPA2", "DS set, descriptors of 48 bits"];

fn shapes() -> impl Iterator<Item = &'static Shape> {
    GROUPS.iter().copied().flatten()
}

#[test]
fn every_shape_has_its_verdict() {
    let wrong = shapes().filter_map(|shape| {
        let why = shape.judge(None).err()?;
        Some(format!("{} ({})\n    {:?}\n    {why}\n", shape.name, shape.source, shape.verdict))
    });
    let wrong: Vec<_> = wrong.collect();
    println!("@count shapes={}", shapes().count());
    assert!(wrong.is_empty(), "{} shapes of {}:\n{}", wrong.len(), shapes().count(), wrong.concat());
}

/// Verdicts do not depend on the layout of descriptors nor on the number of levels, but for those of [`NARROW`].
#[test]
fn every_shape_has_its_verdict_with_52_bits_too() {
    let wrong = shapes().filter(|shape| !NARROW.contains(&shape.name)).filter_map(|shape| {
        let wide = Shape { stage: shape.stage.wide(), ..*shape };
        let why = wide.judge(None).err()?;
        Some(format!("{} ({})\n    {:?}\n    {why}\n", shape.name, shape.source, shape.verdict))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{} shapes of {}:\n{}", wrong.len(), shapes().count(), wrong.concat());
}

#[test]
fn shapes_are_many_in_both_directions_and_each_has_a_source() {
    let with = |wanted: fn(&Verdict) -> bool| shapes().filter(|shape| wanted(&shape.verdict)).count();
    assert!(with(|verdict| matches!(verdict, Verdict::Allowed(..))) >= 24);
    assert!(with(|verdict| matches!(verdict, Verdict::Forbidden(..))) >= 24);
    assert!(with(|verdict| matches!(verdict, Verdict::Clean)) >= 8);
    let names: BTreeSet<_> = shapes().map(|shape| shape.name).collect();
    assert_eq!(names.len(), shapes().count(), "names are unique");
    assert_eq!(shapes().find(|shape| shape.source.is_empty()).map(|shape| shape.name), None);
}

/// Each rule of the model decides: without it some verdict is wrong.
#[test]
fn without_any_one_rule_a_verdict_changes() {
    let mut idle = Vec::new();
    for &rule in Rule::ALL {
        let decides = |shape: &&Shape| shape.judge(None).is_ok() && shape.judge(Some(rule)).is_err();
        let changed: Vec<_> = shapes().filter(decides).collect();
        if std::env::var_os("LITMUS_WITHOUT").is_some() {
            for shape in &changed {
                println!("@without {} {}", rule.code(), shape.name);
            }
        }
        println!("@all rules {}", rule.code());
        if changed.is_empty() {
            idle.push(rule.to_string());
        } else {
            println!("@reached rules {}", rule.code());
        }
    }
    assert!(idle.is_empty(), "no verdict depends on: {idle:#?}");
}

/// A weaker model may only turn "allowed" and "breaks" over: it never forbids less.
#[test]
fn a_model_with_a_rule_less_forbids_no_less() {
    for &rule in Rule::ALL {
        let wrong = shapes().find(|shape| {
            let must_not = matches!(shape.verdict, Verdict::Forbidden(..) | Verdict::Clean);
            must_not && shape.judge(None).is_ok() && shape.judge(Some(rule)).is_err()
        });
        assert_eq!(wrong.map(|shape| shape.name), None, "without {rule}");
    }
}

//! Every mutant is noticed on the host, and nothing that is legal is.

use std::sync::OnceLock;

use mutants::host::{self, Suite, Verdict};
use mutants::{CONTROLS, MUTANTS, OTHERWISE};

fn suite() -> &'static Suite {
    static SUITE: OnceLock<Suite> = OnceLock::new();
    SUITE.get_or_init(|| host::run("", false))
}

#[test]
fn the_list_has_56_mutants_each_with_a_name_of_its_own() {
    assert!(MUTANTS.iter().map(|mutant| mutant.number).eq(1..=56));
    let mut names: Vec<_> = MUTANTS.iter().chain(CONTROLS).map(|mutant| mutant.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), MUTANTS.len() + CONTROLS.len());
}

#[test]
fn every_mutant_is_noticed() {
    let surviving = suite().mutants.iter().filter(|verdict| verdict.notice.is_none());
    assert_eq!(surviving.map(|verdict| verdict.mutant.name).collect::<Vec<_>>(), [""; 0]);
}

/// One of the rules that were expected to notice it does, if not always first.
#[test]
fn every_mutant_is_noticed_for_a_reason_that_was_expected() {
    for Verdict { mutant, all, .. } in &suite().mutants {
        let otherwise = OTHERWISE.iter().find(|(number, ..)| *number == mutant.number);
        let expected = otherwise.map_or(mutant.expected, |(_, codes, _)| codes);
        assert!(expected.split(' ').any(|code| all.contains(code)), "{}: {all:?}, not {expected}", mutant.name);
    }
}

#[test]
fn legal_variants_pass() {
    for verdict in &suite().controls {
        assert_eq!(verdict.notice, None, "{}", verdict.mutant.name);
    }
}

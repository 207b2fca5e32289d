//! The protocol of validity, references and removal (`vmemmap::lifetime`) in every order and with every outcome that the
//! memory model allows, by loom.
//!
//! A struct page is a cell that loom watches: an access that is not ordered against mapping, initialising and unmapping is
//! found, even where the values happen to be right. Then each ordering of the module is weakened in turn, and each rule that
//! its callers follow is broken: some scenario must fail every time.
//!
//! Two limits of loom: its sequentially consistent fences also synchronise, so that what is ordered by nothing but two of
//! them looks safer than it is (`Readers` relies on them for "one of the two sees the other" alone, never for what happens
//! before what); and it keeps the last seven values of a word.

#[path = "loom/model.rs"]
mod model;
#[path = "loom/scenarios.rs"]
mod scenarios;

use model::{Site, Verdict, explore};
use scenarios::{BROKEN, SCENARIOS};

#[test]
fn no_struct_page_is_used_before_it_is_there_or_after_it_is_gone() {
    for scenario in SCENARIOS {
        let run = explore(None, scenario);
        println!("{}: {} executions", scenario.name, run.executions);
        assert_eq!(run.verdict, Verdict::Holds, "{}", scenario.name);
    }
}

#[test]
fn callers_that_break_the_rules_are_caught() {
    for scenario in BROKEN {
        let name = scenario.name;
        let Verdict::Fails(why) = explore(None, scenario).verdict else { panic!("{name}: nothing is found") };
        assert!(model::is_misuse(&why), "{name} fails for another reason: {why}");
        println!("{name}: {}", model::first_line(&why));
    }
}

#[test]
fn each_ordering_is_needed() {
    let sites: Vec<Site> = model::sites(SCENARIOS);
    assert_eq!(sites.len(), model::orderings_in_the_source(), "every ordering is met in a scenario: {sites:#?}");
    for site in sites {
        let caught = SCENARIOS.iter().find_map(|scenario| match explore(Some(site), *scenario).verdict {
            Verdict::Holds => None,
            Verdict::Fails(why) => Some((scenario.name, why)),
        });
        let (name, why) = caught.unwrap_or_else(|| panic!("{site}: nothing shows that it is needed"));
        assert!(model::is_misuse(&why), "{site} fails for another reason: {why}");
        println!("{site}: {name}: {}", model::first_line(&why));
    }
}

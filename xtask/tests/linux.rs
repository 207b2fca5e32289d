//! `docs/linux.md` against the tests that it names: every name is that of a test, every bug and hazard of Linux has its row,
//! every deviation its test.

#[path = "linux/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How a row says why a failure can't happen, where it names no test.
const REASONS: [&str; 3] = ["By type: ", "By construction: ", "Not applicable: "];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_owned()
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/linux.md")).expect("docs/linux.md is there")
}

/// Names of tests in `text`: code spans of lower case with `::` in them.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.'));
    text.split('`').skip(1).step_by(2).filter(move |span| span.contains("::") && span.split("::").all(word))
}

/// The rows of the list: item, and what is said of it here.
fn rows(document: &str) -> Vec<(&str, &str)> {
    let cells = document.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.filter_map(|row| {
        let mut cells = row.split(" | ");
        let (item, _, here) = (cells.next()?, cells.next()?, cells.next()?);
        assert_eq!(cells.next(), None, "{item}: a row has three cells");
        let number = item.strip_prefix(['B', 'H'])?;
        number.bytes().all(|digit| digit.is_ascii_digit()).then_some((item, here))
    });
    rows.collect()
}

fn misses<'a>(document: &'a str, known: &BTreeSet<String>) -> Vec<&'a str> {
    names(document).filter(|name| !known.contains(*name)).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let (document, known) = (document(), sources::tests(&root()));
    let missing = misses(&document, &known);
    assert!(missing.is_empty(), "docs/linux.md names what is no test: {missing:#?}");
    assert!(names(&document).count() > 100, "the names are found");
}

#[test]
fn a_misspelt_name_is_noticed() {
    let known = sources::tests(&root());
    let right = "`hotplug::tests::ranges_go_in_any_order`, `loom::each_ordering_is_needed`, `hot_remove::books_balance`, \
                 `layout::tests::struct_pages_are_where_linux_has_them`, `commands::json_equals_linux_at_16k`, \
                 `hotplug::refused::private_memory_with_an_altmap`, `refusals::unknown_granule`";
    assert_eq!(misses(right, &known), Vec::<&str>::new());
    for wrong in [
        "`hotplug::tests::ranges_go_in_an_order`",
        "`hotplug::ranges_go_in_any_order`",
        "`hot_remove::book_balance`",
        "`hotplug::refused::private`",
        // Functions that are no tests, and what is only part of a name.
        "`hotplug::subsection_tests::all_pairs`",
        "`hotplug::tests`",
        "`hotplug::tests::..`",
        "`..::ranges_go_in_any_order`",
        "`commands::json_equals_linux_at_`",
    ] {
        assert_eq!(misses(wrong, &known), [wrong.trim_matches('`')]);
    }
}

#[test]
fn each_bug_and_hazard_has_one_row_with_a_test_or_a_reason() {
    let document = document();
    let rows = rows(&document);
    let wanted = (1..=34).map(|number| format!("B{number}")).chain((1..=15).map(|number| format!("H{number}")));
    let wanted: Vec<_> = wanted.collect();
    assert_eq!(rows.iter().map(|(item, _)| *item).collect::<Vec<_>>(), wanted, "in this order, each once");
    for (item, here) in rows {
        let why = REASONS.iter().find(|reason| here.starts_with(**reason));
        let tests = names(here).count();
        assert!(why.is_some() || tests > 0, "{item} names no test and does not say why it can't happen");
        assert!(why != Some(&REASONS[0]) || tests > 0, "{item}: what the compiler refuses has a test");
    }
}

/// A deviation is a paragraph that begins in bold.
#[test]
fn each_deviation_names_a_test() {
    let document = document();
    let (_, deviations) = document.split_once("\n## What differs on purpose\n").expect("it has this heading");
    let (deviations, _) = deviations.split_once("\n## ").expect("another follows");
    let mut count = 0;
    for deviation in deviations.split("\n**").skip(1) {
        count += 1;
        let title = deviation.lines().next().unwrap_or_default();
        assert!(names(deviation).count() > 0, "no test holds: **{title}");
    }
    assert!(count > 15, "only {count} deviations are found");
}

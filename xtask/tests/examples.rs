//! The examples of `vmemmap` as an adopter builds them.

use xtask::build::{TARGET, cargo};

/// Linked without std and without an allocator: so the library needs neither.
#[test]
fn the_examples_build_for_the_bare_target_without_an_allocator() {
    let line = ["build", "--quiet", "--release", "--target", TARGET, "-p", "vmemmap"];
    let examples = ["--example", "hotplug", "--example", "populate"];
    assert!(cargo(&[&line[..], &examples].concat()).status().expect("cargo runs").success(), "cargo has said why");
}

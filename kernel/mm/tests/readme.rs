//! The front page shows what `cargo test` runs.

#[test]
fn the_front_page_shows_the_example_word_for_word() {
    let (page, example) = (include_str!("../README.md"), include_str!("../examples/hotplug.rs"));
    let shown = page.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```\n")).expect("a block of Rust").0;
    assert!(example.contains(shown), "copy examples/hotplug.rs, from its first `use` on, to README.md");
}

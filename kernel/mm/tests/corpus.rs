//! What fuzzing has kept, replayed: inputs that together reach all that it reached, and those that once found something.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::panic::catch_unwind;
use std::path::Path;

/// Runs `target` over its corpus; how many inputs there were.
fn replay(name: &str, target: fn(&[u8])) {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = room.read_dir().unwrap_or_else(|error| panic!("{}: {error}", room.display()));
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", room.display());
    let failed = |file: &&std::path::PathBuf| {
        let input = std::fs::read(file).expect("it can be read");
        catch_unwind(|| target(&input)).is_err()
    };
    let failures: Vec<_> = files.iter().filter(failed).collect();
    assert!(failures.is_empty(), "{} of {} inputs fail: {failures:#?}", failures.len(), files.len());
}

#[test]
fn hot_plug_on_a_hostile_machine_stands_what_fuzzing_kept() {
    replay("hotplug", fuzz::hotplug::run);
}

#[test]
fn the_adversary_stands_the_traces_that_fuzzing_kept() {
    replay("trace", fuzz::trace::run);
}

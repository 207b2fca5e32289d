//! What fuzzing has kept, replayed on a stable compiler.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::panic::catch_unwind;
use std::path::Path;

/// Runs `target` over its corpus.
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
fn the_walk_of_tables_stands_what_fuzzing_kept() {
    replay("nfit", fuzz::nfit::run);
}

#[test]
fn the_info_block_stands_what_fuzzing_kept() {
    replay("info_block", fuzz::info_block::run);
}

#[test]
fn the_directory_stands_what_fuzzing_kept() {
    replay("fw_cfg", fuzz::fw_cfg::run);
}

#[test]
fn the_configuration_of_virtio_mem_stands_what_fuzzing_kept() {
    replay("config", fuzz::config::run);
}

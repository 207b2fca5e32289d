//! Mapping and unmapping with `vmemmap`, beside other crates that write page tables, counted in instructions by callgrind.
//!
//! `cargo run --release` prints the table of 1 GiB; `cargo run --release -- 1 64` that of 1 and of 64 GiB. With the name of
//! a case, as in `vmemmap/pages/none/1`, it is done and nothing is counted: so does each process under callgrind.
//! What the figures mean is in `docs/peers.md`.

mod arena;
mod arm;
mod callgrind;
mod case;
mod multiarch;
mod ours;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use case::Case;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    if let [name] = arguments
        && name.contains('/')
    {
        return Ok(callgrind::run(&name.parse()?)?);
    }
    let sizes: Vec<u64> = match arguments {
        [] => vec![1],
        sizes => sizes.iter().map(|gib| gib.parse()).collect::<Result<_, _>>()?,
    };
    sizes.into_iter().try_for_each(table)
}

/// Counts every case of `gib` GiB, and prints each as a row when it is known.
fn table(gib: u64) -> Result<(), Box<dyn Error>> {
    let program = env::current_exe()?;
    let profiles: PathBuf = program.with_file_name("callgrind");
    fs::create_dir_all(&profiles)?;
    println!("| {gib} GiB | map | unmap | map, per 4K page | unmap, per 4K page |\n|---|---|---|---|---|");
    for case in Case::all(gib) {
        let count = callgrind::count(&program, &case, &profiles)?;
        println!(
            "| {case} | {} | {} | {:.2} | {:.2} |",
            count.map,
            count.unmap,
            per_page(count.map, &case),
            per_page(count.unmap, &case)
        );
    }
    println!("\nprofiles: {}", profiles.display());
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^52 instructions")]
fn per_page(instructions: u64, case: &Case) -> f64 {
    instructions as f64 / case.pages() as f64
}

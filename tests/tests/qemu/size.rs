//! A tebibyte: what the host must have for it are the struct pages, and nothing of the rest.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::commands::{command, ensure, run};

const TIB: u64 = 1 << 40;
/// What QEMU has beside the struct pages: itself, the kernel, its page tables, and whole pages for patterns of the proofs.
const BESIDE: u64 = 384 << 20;

/// The tests of this room. At 4K, 16 GiB of struct pages would have to be there.
pub fn trials() -> Vec<Trial> {
    [("64k", TIB >> 10), ("16k", TIB >> 8)]
        .map(|(granule, struct_pages)| {
            Trial::test(format!("size::a_tebibyte_at_{granule}"), move || a_tebibyte(granule, struct_pages))
        })
        .into()
}

/// Added, proved and removed; the host had its struct pages, of 64 bytes, and little else.
fn a_tebibyte(granule: &str, struct_pages: u64) -> Result<(), Failed> {
    let ended = run(command(&format!("qemu --json --granule {granule} --device-size 1T --time-limit 180"))?)?;
    ensure(ended.status == Some(0), "the run does not pass", &ended)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    ensure(object["device"]["size"] == TIB, "all of it", &ended)?;
    let proof = &object["proof"];
    ensure(proof["leaves"].as_u64() > Some(0) && proof["leaves"] == proof["leaves_at_plan"], "AT agrees", &ended)?;
    ensure(proof["frames_difference"] == 0 && proof["fault"]["far"].is_string(), "it is gone", &ended)?;
    let peak = object["host_peak_bytes"].as_u64().ok_or("no peak")?;
    let sparse = (struct_pages..struct_pages + BESIDE).contains(&peak);
    ensure(sparse, &format!("QEMU had {peak} bytes, struct pages take {struct_pages}"), &ended)?;
    ensure(object["elapsed_ms"].as_u64() > Some(100), "so many struct pages take their time", &ended)
}

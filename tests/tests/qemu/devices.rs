//! The main job on device memory of every kind that QEMU has.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::commands::{Ended, command, ensure, run};
use crate::scratch::Scratch;

const GRANULES: [&str; 3] = ["4k", "16k", "64k"];
const KINDS: [&str; 5] = ["carve-out", "virtio-mem", "pc-dimm", "ivshmem", "nvdimm"];

/// The first address that 48 bits do not hold.
const BEYOND_48_BITS: u64 = 1 << 48;

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for granule in GRANULES {
        for kind in KINDS {
            let name = format!("devices::{kind}_is_added_proved_and_removed_at_{granule}");
            trials.push(Trial::test(name, move || one(granule, kind, "size=1G")));
            let name = format!("devices::{kind}_keeps_its_struct_pages_in_ram_at_{granule}");
            trials.push(Trial::test(name, move || one(granule, kind, "size=256M,memmap=ram")));
        }
        for (order, last) in [("2,0,4,1,3", "in_one_order"), ("1,3,0,4,2", "in_another")] {
            let name = format!("devices::five_kinds_share_sections_and_go_{last}_at_{granule}");
            trials.push(Trial::test(name, move || five(granule, order)));
        }
        let name = format!("devices::an_address_beyond_48_bits_is_in_every_descriptor_at_{granule}");
        trials.push(Trial::test(name, move || beyond_48_bits(granule)));
        let name = format!("devices::a_plan_of_each_kind_plugs_and_writes_nothing_at_{granule}");
        trials.push(Trial::test(name, move || plans(granule)));
    }
    trials.push(Trial::test("devices::registers_beyond_what_the_tables_show_are_refused", registers_too_high));
    trials.push(Trial::test("devices::a_plan_goes_on_behind_the_first_memory_block", plan_of_blocks));
    for size in ["64G", "1T"] {
        let name = format!("devices::{size}_of_sparse_virtio_mem_at_64k");
        trials.push(Trial::test(name, move || huge(size)));
    }
    for (what, flags) in [
        ("on_a_cpu_with_40_bits", "--cpu cortex-a76 --granule 16k"),
        ("entered_at_el2", "--virtualization"),
        ("with_42_bits", "--va-bits 42"),
        ("with_every_event_judged", "--checked"),
    ] {
        for kind in ["virtio-mem", "pc-dimm"] {
            let name = format!("devices::{kind}_{what}");
            trials.push(Trial::test(name, move || passes(&format!("{flags} --device {kind},size=1G")).map(drop)));
        }
    }
    trials
}

/// Runs the main job; what it reports.
fn passes(flags: &str) -> Result<(Value, Ended), Failed> {
    let ended = run(command(&format!("qemu --json {flags}"))?)?;
    ensure(ended.status == Some(0), "the run does not pass", &ended)?;
    Ok((serde_json::from_str(&ended.out)?, ended))
}

fn one(granule: &str, kind: &str, rest: &str) -> Result<(), Failed> {
    let (object, ended) = passes(&format!("--granule {granule} --device {kind},{rest}"))?;
    ensure(object["device"]["source"] == kind, "the device's source", &ended)?;
    let in_ram = rest.contains("memmap=ram");
    ensure(object["altmap"].is_null() == in_ram, "where the struct pages are", &ended)?;
    let reserve = object["altmap"]["reserve"].as_u64().unwrap_or(0);
    let persistent = ["ivshmem", "nvdimm"].contains(&kind);
    ensure(in_ram || (reserve > 0) == persistent, "persistent memory has a reserve, for its info block", &ended)?;
    let proof = &object["proof"];
    let leaves = proof["leaves"].as_u64();
    ensure(leaves > Some(0) && proof["leaves"] == proof["leaves_at_plan"], "every leaf is at the plan", &ended)?;
    ensure(proof["frames_difference"] == 0 && proof["fault"]["far"].is_string(), "it is gone", &ended)
}

/// All five lie in two sections at 64K, and share pages of the vmemmap: none but ivshmem, whose address is the bus's, starts
/// or ends where a page's struct pages do.
fn five(granule: &str, order: &str) -> Result<(), Failed> {
    let devices = "--device virtio-mem,at=0x80000000,size=94M,max=512M --device pc-dimm,at=0xa0000000,size=34M \
                   --device nvdimm,at=0xa2200000,size=30M --device ivshmem,size=64M \
                   --device carve-out,at=0x5fe00000,size=6M";
    let (object, ended) = passes(&format!("--checked --granule {granule} {devices} --remove-order {order}"))?;
    let sources: Vec<_> =
        object["devices"].as_array().into_iter().flatten().map(|one| &one["device"]["source"]).collect();
    ensure(sources == ["virtio-mem", "pc-dimm", "nvdimm", "ivshmem", "carve-out"], "five sources", &ended)?;
    ensure(object["proof"]["proved_again"] == 10, "those that stay are proved again", &ended)?;
    ensure(object["proof"]["frames_difference"] == 0, "the books", &ended)
}

/// Where a descriptor keeps bit 48 of an address: in its place with `FEAT_LPA2` (4K, 16K), in bit 12 with `FEAT_LPA` (64K).
fn has_bit_48(granule: &str, descriptor: &Value) -> bool {
    let bits = descriptor.as_str().and_then(|hex| u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
    bits.is_some_and(|bits| bits >> (if granule == "64k" { 12 } else { 48 }) & 1 == 1)
}

fn beyond_48_bits(granule: &str) -> Result<(), Failed> {
    let at = format!("{BEYOND_48_BITS:#x}");
    let flags = format!("--granule {granule} --va-bits 52 --cpu max --device virtio-mem,at={at},size=1G");
    let (object, ended) = passes(&flags)?;
    ensure(object["device"]["base"] == at && object["pa_bits"] == 52, "where it is", &ended)?;
    let [memmap, linear] = ["memmap", "linear"].map(|map| &object[map]);
    let leaves = [&memmap["first"][0], &memmap["last"], &linear["first"], &linear["last"]];
    let high = leaves.iter().all(|leaf| has_bit_48(granule, &leaf["descriptor"]));
    ensure(high, "bit 48 of the address is in the leaves of both maps", &ended)?;
    ensure(object["proof"]["leaves"] == object["proof"]["leaves_at_plan"], "AT agrees", &ended)
}

/// The bus's registers move up behind the memory, and 48 bits can't show them.
fn registers_too_high() -> Result<(), Failed> {
    let ended = run(command(&format!("qemu --cpu max --device virtio-mem,at={BEYOND_48_BITS:#x},size=1G"))?)?;
    ensure(ended.status == Some(2) && ended.err.contains("beyond the 48 bits of address"), "refused", &ended)
}

/// Afterwards the file of a persistent device is as it was, and the next plan is the same.
fn plans(granule: &str) -> Result<(), Failed> {
    for kind in KINDS {
        let scratch = Scratch::new(&format!("plan-{kind}-{granule}"));
        let file =
            if ["ivshmem", "nvdimm"].contains(&kind) { format!(",file={}", scratch.path()) } else { String::new() };
        let ended = run(command(&format!("qemu --json --plan --granule {granule} --device {kind},size=256M{file}"))?)?;
        ensure(ended.status == Some(0), "no plan", &ended)?;
        let object: Value = serde_json::from_str(&ended.out)?;
        ensure(object["plans"][0]["device"]["source"] == kind, "whose plan it is", &ended)?;
        if !file.is_empty() {
            let begin = scratch.read(0, 4096)?;
            ensure(begin.iter().all(|&byte| byte == 0), "a plan wrote an info block", &ended)?;
        }
    }
    Ok(())
}

fn plan_of_blocks() -> Result<(), Failed> {
    let ended = run(command("qemu --json --plan --device virtio-mem,size=1G --memory-block 256M")?)?;
    ensure(ended.status == Some(0), "no plan", &ended)?;
    let object: Value = serde_json::from_str(&ended.out)?;
    ensure(object["plans"].as_array().is_some_and(|plans| plans.len() == 4), "four blocks of 256 MiB", &ended)
}

fn huge(size: &str) -> Result<(), Failed> {
    let (object, ended) = passes(&format!("--granule 64k --memory 1G --device virtio-mem,size={size}"))?;
    let bytes = if size == "1T" { 1_u64 << 40 } else { 64 << 30 };
    ensure(object["device"]["size"] == bytes, "all of it", &ended)?;
    ensure(object["proof"]["leaves"] == object["proof"]["leaves_at_plan"], "every leaf is at the plan", &ended)
}

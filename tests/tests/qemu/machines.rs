//! The main job on every machine that it promises to run on.

use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use xtask::{Boot, Job, Status, shell};

use crate::{TIME_LIMIT, built};

const CPUS: [&str; 7] = ["cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1", "a64fx", "max"];
/// Of them, those without 16K pages.
const WITHOUT_16K: [&str; 4] = ["cortex-a53", "cortex-a57", "cortex-a72", "a64fx"];
/// Of them, those with 52-bit addresses at every granule (`FEAT_LVA`, `FEAT_LPA2`).
const WITH_52_BITS: [&str; 1] = ["max"];
const GEOMETRIES: [(&str, u32); 10] = [
    ("4k", 39),
    ("4k", 48),
    ("4k", 52),
    ("16k", 36),
    ("16k", 47),
    ("16k", 48),
    ("16k", 52),
    ("64k", 42),
    ("64k", 48),
    ("64k", 52),
];

/// The same job with something else about the machine.
const VARIANTS: [(&str, &str); 17] = [
    ("128m_of_ram", "--memory 128M"),
    ("8g_of_ram", "--memory 8G"),
    ("entered_at_el2", "--virtualization"),
    ("entered_at_el2_on_max", "--virtualization --cpu max"),
    ("base_pages_only", "--leaf pages"),
    ("sparse_256g", "--device-size 256G"),
    ("two_mebibytes", "--device-base 0x100200000 --device-size 2M"),
    ("beside_ram_in_its_section", "--memory 998M --device-base 0x7e600000 --device-size 64M"),
    (
        "from_a_section_of_ram_on",
        "--memory 998M --device-base 0x7e600000 --device-size 2G --leaf linux --altmap nvdimm",
    ),
    ("52_bits_entered_at_el2", "--va-bits 52 --cpu max --virtualization"),
    ("52_bits_in_base_pages", "--va-bits 52 --cpu max --leaf pages --device-size 1G"),
    ("52_bits_and_8g_of_ram", "--va-bits 52 --cpu max --memory 8G"),
    ("two_cpus", "--smp 2"),
    ("eight_cpus_entered_at_el2", "--smp 8 --virtualization"),
    ("eight_cpus_and_little_ram", "--smp 8 --memory 16M"),
    ("52_bits_on_four_cpus", "--va-bits 52 --cpu max --smp 4"),
    ("52_bits_checked", "--va-bits 52 --cpu max --checked"),
];

/// The tests of this room.
pub fn trials() -> Vec<Trial> {
    let cpus = CPUS.into_iter().flat_map(|cpu| {
        let has = move |(granule, va_bits): &(&str, u32)| {
            (*granule != "16k" || !WITHOUT_16K.contains(&cpu)) && (*va_bits <= 48 || WITH_52_BITS.contains(&cpu))
        };
        GEOMETRIES.into_iter().filter(has).map(move |(granule, va_bits)| {
            let flags = format!("--cpu {cpu} --granule {granule} --va-bits {va_bits}");
            Trial::test(format!("machines::{cpu}::{granule}_{va_bits}"), move || passes(&flags))
        })
    });
    let variants = ["4k", "16k", "64k"].into_iter().flat_map(|granule| {
        VARIANTS.into_iter().map(move |(name, flags)| {
            let flags = format!("--granule {granule} {flags}");
            Trial::test(format!("machines::{granule}::{name}"), move || passes(&flags))
        })
    });
    let odd = [
        Trial::test("machines::memory_nodes_in_falling_order", falling_memory_nodes),
        Trial::test("machines::without_semihosting", without_semihosting),
        Trial::test("machines::entered_at_el3_is_refused", entered_at_el3),
        Trial::test("machines::virtio_mem_beside_a_gic_v2", virtio_mem_beside_a_gic_v2),
        Trial::test("machines::all_cpus_initialise_struct_pages", all_cpus),
    ];
    cpus.chain(variants).chain(odd).collect()
}

fn passes(flags: &str) -> Result<(), Failed> {
    built()?;
    let boot = Boot::main_job(Job::from_flags(flags).map_err(|stop| stop.why)?);
    let run = xtask::run(&boot, TIME_LIMIT, |_| {}).map_err(|stop| stop.why)?;
    let evidence = || format!("{:?}\n{}\n{}", run.end, shell(&boot.line()), run.console.join("\n"));
    if run.end.status == Status::Pass { Ok(()) } else { Err(evidence().into()) }
}

/// Boots the default job with other words for QEMU, and expects its exit status and a line on the console.
fn boot(change: impl Fn(Vec<String>) -> Vec<String>, status: i32, line: &str) -> Result<(), Failed> {
    boot_with("", change, status, line)
}

/// The same with flags.
pub fn boot_with(
    flags: &str,
    change: impl Fn(Vec<String>) -> Vec<String>,
    status: i32,
    line: &str,
) -> Result<(), Failed> {
    built()?;
    let words = change(Boot::main_job(Job::from_flags(flags).map_err(|stop| stop.why)?).line());
    let output = Command::new("timeout").arg("30").args(&words).output().map_err(|error| error.to_string())?;
    let console = String::from_utf8_lossy(&output.stdout);
    let right = output.status.code() == Some(status) && console.lines().any(|seen| seen.starts_with(line));
    if right { Ok(()) } else { Err(format!("{:?}\n{}\n{console}", output.status, shell(&words)).into()) }
}

/// Two memory nodes: QEMU's device tree names the higher one first.
fn falling_memory_nodes() -> Result<(), Failed> {
    let split = |words: Vec<String>| {
        let change = |word: String| match word.as_str() {
            word if word.starts_with("memory-backend-ram") => words_of(
                "memory-backend-ram,id=low,size=64M,reserve=off -object memory-backend-ram,id=high,size=7104M,reserve=off \
                 -numa node,memdev=low -numa node,memdev=high",
            ),
            word => vec![word.replace(",memory-backend=ram", "")],
        };
        words.into_iter().flat_map(change).collect()
    };
    boot(split, 0, "@pass")
}

/// The status line is printed, then PSCI powers the machine off.
fn without_semihosting() -> Result<(), Failed> {
    let quiet = |words: Vec<String>| {
        let keep = |word: &String| !word.starts_with("-semihosting") && !word.starts_with("enable=on");
        words.into_iter().filter(keep).collect()
    };
    boot(quiet, 0, "@pass")
}

fn entered_at_el3() -> Result<(), Failed> {
    const TURNS: usize = 10;
    let secure = |words: Vec<String>| {
        words.into_iter().map(|word| word.replace("virt,gic-version=3,", "virt,gic-version=3,secure=on,")).collect()
    };
    boot(secure, 66, "@refused entered at EL3")?;
    // All CPUs start at once, in any order; one of them says it.
    (0..TURNS).try_for_each(|_| boot_with("--cpu max --smp 8 --virtualization", secure, 66, "@refused entered at EL3"))
}

/// The main job waits for no interrupt.
fn virtio_mem_beside_a_gic_v2() -> Result<(), Failed> {
    let old = |words: Vec<String>| {
        words.into_iter().map(|word| word.replace("virt,gic-version=3,", "virt,gic-version=2,")).collect()
    };
    boot_with("--device virtio-mem,size=1G", old, 0, "@pass")
}

/// 128 chunks: one CPU is not done with all before the other is there.
fn all_cpus() -> Result<(), Failed> {
    const STRUCT_PAGES: u64 = 16 << 30 >> 12;
    built()?;
    let boot = Boot::main_job(Job::from_flags("--granule 4k --device-size 16G --smp 2").map_err(|stop| stop.why)?);
    let run = xtask::run(&boot, TIME_LIMIT, |_| {}).map_err(|stop| stop.why)?;
    let report = run.said("report").next().ok_or_else(|| format!("no report: {:?}", run.end))?;
    let report: Value = serde_json::from_str(report).map_err(|error| error.to_string())?;
    let by_cpu: Vec<_> =
        report["struct_pages_by_cpu"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let right = by_cpu.len() == 2 && by_cpu.iter().sum::<u64>() == STRUCT_PAGES && !by_cpu.contains(&0);
    if right { Ok(()) } else { Err(format!("{STRUCT_PAGES} struct pages, by CPU {by_cpu:?}").into()) }
}

fn words_of(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

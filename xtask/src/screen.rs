//! The screen: what the kernel reported, beside Linux, and what the run cannot show.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use vmemmap::granule::{GranuleSize, Level};

use crate::linux::{self, Vector};
use crate::report::{Altmap, Cost, Hex, Leaf, Leaves, Report, Verdict};
use crate::size::human;

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const BOLD: Style = Style::new().bold();
/// Where the comparison with Linux stands.
const MARK_COLUMN: usize = 94;

/// What the screen shows beside the report.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// QEMU's version.
    pub qemu: &'a str,
    /// QEMU's name of the CPU.
    pub cpu: &'a str,
    /// From QEMU's start to its exit.
    pub elapsed: Duration,
    /// The proofs that failed.
    pub failures: &'a [&'a str],
}

/// Draws the screen; colours are for the writer to drop where they are not wanted.
#[must_use]
pub fn draw(report: &Report, shown: &Shown<'_>) -> String {
    let mut lines = head(report, shown);
    lines.extend(memmap(report));
    lines.extend(costs(report));
    lines.extend(proofs(report));
    lines.extend(end(report, shown));
    lines.join("\n") + "\n"
}

fn row(name: &str, text: &str) -> String {
    format!("{BOLD}{name:<9}{BOLD:#} {text}").trim_end().to_owned()
}

fn head(report: &Report, shown: &Shown<'_>) -> Vec<String> {
    let (registers, device) = (&report.registers, &report.device);
    let levels = levels(report);
    let (base, bytes) = (device.base.0, device.size.0);
    let section = 1 << report.granule.section_shift();
    let sections = (base.saturating_add(bytes)).div_ceil(section) - base / section;
    let tables = format!(
        "TTBR1 {}, {} bit, {levels} levels   TCR {:016x}  MAIR {:016x}   memstart {:#x}",
        report.granule, report.va_bits, registers.tcr_el1.0, registers.mair_el1.0, report.memstart.0
    );
    let range = format!("{} {base:#x}..{:#x}", device.source, base.saturating_add(bytes));
    let pages = bytes >> report.granule.shift();
    vec![
        row("machine", &machine(report, shown)),
        row("tables", &tables),
        row("device", &format!("{range}   {}, {pages} pages, {}", human(bytes), plural(sections, "section"))),
    ]
}

fn machine(report: &Report, shown: &Shown<'_>) -> String {
    let mut text = format!("QEMU {} TCG, {}", shown.qemu, shown.cpu);
    if let Some(machine) = &report.machine {
        let upper: Vec<_> = machine.granules.iter().map(|name| name.to_uppercase()).collect();
        text += &format!(", entered EL{}   {}", machine.entered_el, upper.join(" "));
        if !machine.lacks.is_empty() {
            text += &format!("   no {}", machine.lacks.join(", "));
        }
    }
    text
}

fn levels(report: &Report) -> u32 {
    (report.va_bits - report.granule.shift()).div_ceil(report.granule.index_bits())
}

fn memmap(report: &Report) -> Vec<String> {
    let linux = linux::comparable(report);
    let map = &report.memmap;
    let words = crate::decode::words(map.first.first().map_or(0, |leaf| leaf.descriptor.0), report.granule, leaf_level(report));
    let tables = plural(report.add.table_frames.unwrap_or(0), "table");
    let linear = format!("linear: {}", leaves(&report.linear.leaves, report.granule));
    let text = format!("{:x}..{:x}   {}, {tables}   {linear}", map.start.0, map.end.0, leaves(&map.leaves, report.granule));
    let mut lines = vec![altmap(report, linux), row("memmap", &text)];
    if let Some(first) = map.first.first() {
        lines.push(leaf("  first", *first, &words, mark(Some(*first), linux.map(|linux| linux.first[0]))));
    }
    let last = format!("{:#x}", map.last.descriptor.0 & 0x0000_ffff_ffff_f000);
    lines.push(leaf("  last", map.last, &last, mark(Some(map.last), linux.map(|linux| linux.last))));
    lines
}

fn leaf_level(report: &Report) -> Level {
    let size = report.memmap.leaves.first().map_or(0, |leaves| leaves.size.0);
    level_of(report.granule, size).unwrap_or(Level::L3)
}

fn altmap(report: &Report, linux: Option<&Vector>) -> String {
    let Some(Altmap { base_pfn, reserve, free, alloc, align, .. }) = &report.altmap else {
        return row("altmap", &format!("none: the memmap takes {} of RAM", human(report.add.ram_bytes.unwrap_or(0))));
    };
    let bytes = alloc << report.granule.shift();
    let share = per(bytes * 100, report.device.size.0);
    let fields = format!("base {:#x}  reserve {reserve}  free {free}  ->  alloc {alloc}  align {align}", base_pfn.0);
    let text = format!("{fields}        ({}, {share:.3} % of the range)", human(bytes));
    let mark = mark(report.altmap.clone(), linux.map(|linux| linux.altmap.clone()));
    with_mark(row("altmap", &text), &mark)
}

fn leaf(name: &str, leaf: Leaf, words: &str, mark: String) -> String {
    with_mark(row(name, &format!("{:x} -> {:016x}  {words}", leaf.va.0, leaf.descriptor.0)), &mark)
}

fn with_mark(line: String, mark: &str) -> String {
    if mark.is_empty() {
        return line;
    }
    let shown = anstream::adapter::strip_str(&line).to_string().chars().count();
    format!("{line}{:gap$} {mark}", "", gap = MARK_COLUMN.saturating_sub(shown))
}

/// The comparison with Linux, made now; nothing where Linux was not measured.
fn mark<T: PartialEq>(ours: Option<T>, linux: Option<T>) -> String {
    match linux {
        None => String::new(),
        Some(_) if ours == linux => format!("{GREEN}= Linux{GREEN:#}"),
        Some(_) => format!("{RED}NOT Linux's{RED:#}"),
    }
}

fn leaves(all: &[Leaves], granule: GranuleSize) -> String {
    let kinds: Vec<_> = all.iter().map(|leaves| kind(leaves, granule)).collect();
    kinds.join(" + ")
}

fn kind(leaves: &Leaves, granule: GranuleSize) -> String {
    let (count, bytes) = (leaves.count, leaves.size.0);
    match (leaves.contiguous, level_of(granule, bytes)) {
        (true, _) => format!("{} of {}", plural(count, "contiguous run"), human(bytes)),
        (false, Some(Level::L3)) => format!("{} at L3", plural(count, "page")),
        (false, Some(level)) => format!("{} at {level}", plural(count, "block")),
        (false, None) => format!("{} of {}", plural(count, "leave"), human(bytes)),
    }
}

fn level_of(granule: GranuleSize, bytes: u64) -> Option<Level> {
    [Level::L3, Level::L2, Level::L1].into_iter().find(|&level| bytes == 1 << granule.level_shift(level))
}

fn costs(report: &Report) -> Vec<String> {
    let add = &report.add;
    let [best, default] = match report.altmap {
        Some(_) => linux::costs(report.granule, report.device.size.0).map(Some),
        None => [None; 2],
    };
    let events = |cost: Option<linux::Cost>| cost.and_then(|cost| cost.events).map(|(dsb, tlbi)| format!("{dsb} / {tlbi}"));
    let ram = |cost: Option<linux::Cost>| cost.and_then(|cost| cost.ram_bytes).map(|bytes| bytes.to_string());
    let instructions = add.instructions.as_ref().zip(add.struct_pages);
    let ours = instructions.map_or("--count".to_owned(), |(counted, pages)| format!("{:.2}", per(counted.total, pages)));
    vec![
        format!("{BOLD}cost of add{BOLD:#}    ours     Linux, large leaves  Linux 7.3 default  ours gives up"),
        column("DSB / TLBI", &format!("{}/{}", add.dsb, add.tlbi), events(best), events(default), gives_up(report)),
        column("instr / page", &ours, best.map(|cost| format!("{:.1} (6.12)", cost.per_page)), default.map(|cost| format!("{:.1}", cost.per_page)), ""),
        column("RAM bytes", &add.ram_bytes.unwrap_or(0).to_string(), ram(best), ram(default), ""),
        removal(report.remove.as_ref()),
    ]
}

fn column(name: &str, ours: &str, best: Option<String>, default: Option<String>, note: &str) -> String {
    let [best, default] = [best, default].map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
    format!("  {name:<12} {ours:<8} {best:<20} {default:<18} {note}").trim_end().to_owned()
}

fn gives_up(report: &Report) -> &'static str {
    if report.leaf_policy == "pages" { "nothing" } else { "per-page linear permissions (as large leaves)" }
}

fn removal(remove: Option<&Cost>) -> String {
    match remove {
        Some(cost) => row("remove", &format!("{} clears, {} DSB, {} TLBI, then frames freed", cost.descriptor_writes, cost.dsb, cost.tlbi)),
        None => row("remove", "not yet: the machine is held"),
    }
}

fn proofs(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(proof) = &report.proof {
        let tables = format!("{}/{} leaves: AT = plan; pattern written by vmemmap read by linear map, and back", proof.leaves_at_plan, proof.leaves);
        lines.push(row("proved", &format!("tables    {tables}")));
        if let Some(fault) = proof.fault {
            let stale = "with --break tlbi it reads stale";
            lines.push(row("", &format!("TLB       after remove a LOAD faults: FAR {:x}, level {}; {stale}", fault.far.0, fault.level)));
        }
        if let Some(frames) = proof.frames_difference {
            lines.push(row("", &format!("books     RAM, tables, altmap as before, difference {frames} frames")));
        }
    }
    lines.push(row("not here", "barriers, walk caches, TTL, contiguous: QEMU hides them -> host adversary, `cargo xtask mutants`"));
    lines
}

fn end(report: &Report, shown: &Shown<'_>) -> Vec<String> {
    let ms = shown.elapsed.as_millis();
    let Hex(start) = report.memmap.start;
    let next = format!("next: --break tlbi   walk {start:x}   gdb");
    match report.result {
        _ if !shown.failures.is_empty() => shown.failures.iter().map(|text| verdict(RED, "FAIL", text)).collect(),
        Verdict::Pass => vec![verdict(GREEN, "PASS", &format!("{:<17} {next}", format!("{ms} ms")))],
        Verdict::Held => vec![verdict(GREEN, "HELD", &format!("{:<17} next: walk {start:x}", format!("{ms} ms")))],
        Verdict::Fail | Verdict::Refused => vec![verdict(RED, "FAIL", &format!("{ms} ms"))],
    }
}

fn verdict(style: Style, word: &str, text: &str) -> String {
    format!("{style}{word:<9}{style:#} {text}")
}

fn plural(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[expect(clippy::cast_precision_loss, reason = "figures of three digits")]
fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;

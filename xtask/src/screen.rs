//! The screen: what the kernel reported, beside Linux, and what the run cannot show.

mod plan;
mod several;

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use vmemmap::descriptor::Descriptor;
use vmemmap::granule::{GranuleSize, Level};
use vmemmap::regime::Regime;

use crate::linux::{self, Equal};
use crate::report::{Altmap, Check, Cost, Device, Head, Leaf, Leaves, Proof, Report, Told};
use crate::size::human;

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const BOLD: Style = Style::new().bold();
/// Where the comparison with Linux stands.
const MARK_COLUMN: usize = 98;
const COLUMNS: usize = 110;
/// How many lines failed proofs take.
const FAILURES: usize = 8;
/// How many events are shown of what led to an illegal step.
pub const LAST_EVENTS: usize = 8;

/// What the screen shows beside the report.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub qemu: &'a str,
    pub cpu: &'a str,
    pub elapsed: Duration,
    /// Bytes of the host's memory that QEMU had at most, once it has ended.
    pub peak: Option<u64>,
    pub failures: &'a [&'a str],
}

/// Draws the screen; colours are for the writer to drop where they are not wanted.
pub fn show(told: &Told, shown: &Shown<'_>) -> String {
    match told {
        Told::One(report) => draw(report, shown),
        Told::Several(report) => several::draw(report, shown),
        Told::Plans(report) => plan::draw(report, shown),
    }
}

fn draw(report: &Report, shown: &Shown<'_>) -> String {
    let equal = linux::compare(report);
    let mut lines = head(&report.head, shown);
    lines.push(device(&report.device, report.head.granule));
    lines.push(altmap(report, equal.as_ref()));
    lines.extend(memmap(report, equal.as_ref()));
    lines.extend(costs(report));
    lines.push(removal(report.remove.as_ref()));
    if shown.failures.is_empty() {
        lines.extend(report.proof.iter().flat_map(|proof| proved(proof, report.remove.is_some())));
        lines.extend(report.check.map(judged));
    }
    lines.push(not_here());
    lines.extend(end(&report.head, report.memmap.start.0, shown));
    lines.join("\n") + "\n"
}

fn judged(check: Check) -> String {
    row("checked", &format!("{} events judged one by one, none breaks the protocol of the tables", check.events))
}

fn not_here() -> String {
    let hidden = "barriers, walk caches, TTL, contiguous: QEMU hides them -> host adversary, `cargo xtask mutants`";
    row("not here", hidden)
}

pub fn row(name: &str, text: &str) -> String {
    format!("{BOLD}{name:<9}{BOLD:#} {text}")
}

fn head(head: &Head, shown: &Shown<'_>) -> Vec<String> {
    let (granule, registers) = (head.granule, &head.registers);
    let mut machine = format!("QEMU {} TCG, {}", shown.qemu, shown.cpu);
    let _ = if head.cpus == 1 { Ok(()) } else { write!(machine, " x {}", head.cpus) };
    if let Some(found) = &head.machine {
        let _ = write!(machine, ", entered EL{}   {}", found.entered_el, found.granules.join(" ").to_uppercase());
        let _ = if found.lacks.is_empty() { Ok(()) } else { write!(machine, "   no {}", found.lacks.join(", ")) };
    }
    let levels = (head.va_bits - granule.shift()).div_ceil(granule.index_bits());
    let tables = format!("TTBR1 {granule}, {} bit{}, {levels} levels", head.va_bits, feature(head));
    let (tcr, mair) = (registers.tcr_el1.0, registers.mair_el1.0);
    vec![
        row("machine", &machine),
        row("tables", &format!("{tables}   TCR {tcr:016x}  MAIR {mair:016x}   memstart {:#x}", head.memstart.0)),
    ]
}

fn device(device: &Device, granule: GranuleSize) -> String {
    let (base, bytes, section) = (device.base.0, device.size.0, granule.section_shift());
    let end = base.saturating_add(bytes);
    let sections = plural(end.div_ceil(1 << section) - (base >> section), "section");
    let pages = bytes >> granule.shift();
    row("device", &format!("{} {base:#x}..{end:#x}   {}, {pages} pages, {sections}", device.source, human(bytes)))
}

/// What the CPU needs for so many bits.
fn feature(head: &Head) -> &'static str {
    match (head.va_bits, head.granule) {
        (..=48, _) => "",
        (_, GranuleSize::K64) => " LVA",
        (_, GranuleSize::K4 | GranuleSize::K16) => " LPA2",
    }
}

fn altmap(report: &Report, equal: Option<&Equal>) -> String {
    let Some(Altmap { base_pfn, reserve, free, alloc, align, .. }) = &report.altmap else {
        return row("altmap", &format!("none: {} of RAM", human(report.add.ram_bytes.unwrap_or(0))));
    };
    let bytes = alloc << report.head.granule.shift();
    let share = per(bytes * 100, report.device.size.0);
    let fields = format!("base {:#x}  reserve {reserve}  free {free}  ->  alloc {alloc}  align {align}", base_pfn.0);
    let text = format!("{fields}   ({}, {share:.3} % of the range)", human(bytes));
    marked(row("altmap", &text), equal.map(|equal| equal.altmap))
}

fn memmap(report: &Report, equal: Option<&Equal>) -> Vec<String> {
    let (granule, map) = (report.head.granule, &report.memmap);
    let tables = plural(report.add.table_frames.unwrap_or(0), "table");
    let ours = memmap_leaves(&map.leaves, report.altmap.as_ref(), granule);
    let linear = format!("{}, {tables} for both maps", leaves(&report.linear.leaves, granule));
    let line =
        |name, leaf: Leaf, words: &str| row(name, &format!("{:x} -> {:016x}  {words}", leaf.va.0, leaf.descriptor.0));
    let memmap = row("memmap", &format!("{:x}..{:x}   {ours}", map.start.0, map.end.0));
    let both = format!("{memmap}   linear: {linear}");
    let fits = width(&both) <= COLUMNS;
    let mut lines = vec![if fits { both } else { memmap }];
    if let (Some(first), Some(kind)) = (map.first.first(), map.leaves.first()) {
        let words = in_brief(first.descriptor.0, &report.head, level_of(kind, granule));
        lines.push(marked(line("  first", *first, &words), equal.map(|equal| equal.first)));
    }
    if let Some(last) = map.last {
        let regime = regime(&report.head);
        let descriptor = Descriptor::from_bits(last.descriptor.0);
        let frame = regime.map(|regime| descriptor.address(granule, regime.output()).to_string()).unwrap_or_default();
        lines.push(marked(line("  last", last, &frame), equal.map(|equal| equal.last)));
    }
    lines.extend((!fits).then(|| row("linear", &linear)));
    lines
}

/// The words of `decode` without kind and size, which stand in the line above.
fn in_brief(descriptor: u64, head: &Head, level: Level) -> String {
    let words = regime(head).map(|regime| crate::decode::in_words(descriptor, regime, level).to_string());
    let words = words.unwrap_or_default();
    let brief = words.split(' ').enumerate().filter(|(place, _)| ![0, 2].contains(place)).map(|(_, word)| word);
    brief.collect::<Vec<_>>().join(" ")
}

fn regime(head: &Head) -> Option<Regime> {
    Regime::of_size(head.granule, head.va_bits).ok()
}

/// Columns that a line takes.
fn width(line: &str) -> usize {
    anstream::adapter::strip_str(line).to_string().chars().count()
}

/// Adds the comparison with Linux, made now; nothing where Linux was not measured.
fn marked(line: String, equal: Option<bool>) -> String {
    let gap = " ".repeat(MARK_COLUMN.saturating_sub(width(&line)));
    match equal {
        None => line,
        Some(true) => format!("{line}{gap} {GREEN}= Linux{GREEN:#}"),
        Some(false) => format!("{line}{gap} {RED}not Linux's{RED:#}"),
    }
}

/// The leaves of a vmemmap. What is not in its altmap is an edge page.
fn memmap_leaves(all: &[Leaves], altmap: Option<&Altmap>, granule: GranuleSize) -> String {
    let (edges, others) = edges_apart(all, altmap);
    match (others, edges) {
        ([], 0) => "none of its own: boot's serve".to_owned(),
        (_, 0) => leaves(others, granule),
        ([], _) => format!("{} in RAM", plural(edges, "edge page")),
        (_, _) => format!("{} + {} in RAM", leaves(others, granule), plural(edges, "edge page")),
    }
}

/// How many edge pages a vmemmap with an altmap has, which stand last, and the leaves before them.
fn edges_apart<'a>(all: &'a [Leaves], altmap: Option<&Altmap>) -> (u64, &'a [Leaves]) {
    match all.split_last() {
        Some((last, others)) if altmap.is_some() && last.source == "ram" => (last.count, others),
        _ => (0, all),
    }
}

fn leaves(all: &[Leaves], granule: GranuleSize) -> String {
    let kind = |leaves: &Leaves| match (leaves.contiguous, level_of(leaves, granule)) {
        (true, _) => format!("{} of {}", plural(leaves.count, "run"), human(leaves.size.0)),
        (false, Level::L3) => format!("{} at L3", plural(leaves.count, "page")),
        (false, level) => format!("{} at {level}", plural(leaves.count, "block")),
    };
    all.iter().map(kind).collect::<Vec<_>>().join(" + ")
}

/// The level of leaves; a contiguous run is larger than the leaves that it is made of.
fn level_of(leaves: &Leaves, granule: GranuleSize) -> Level {
    let fits = |level: &Level| leaves.size.0 >= 1 << granule.level_shift(*level);
    [Level::L1, Level::L2].into_iter().find(fits).unwrap_or(Level::L3)
}

fn costs(report: &Report) -> Vec<String> {
    let add = &report.add;
    let linux =
        report.altmap.as_ref().map(|_| linux::costs(report.head.granule, report.device.base.0, report.device.size.0));
    let figures = |figure: fn(linux::Cost) -> Option<String>| {
        [0, 1].map(|which| linux.and_then(|costs| figure(costs[which])).unwrap_or_else(|| "-".to_owned()))
    };
    let events = figures(|cost| cost.events.map(|(dsb, tlbi)| format!("{dsb} / {tlbi}")));
    let ram = figures(|cost| cost.ram_bytes.map(|bytes| bytes.to_string()));
    let [best, default] = figures(|cost| Some(format!("{:.1}", cost.per_page)));
    let best = if linux.is_some() { best + " (6.12)" } else { best };
    let counted = add.instructions.as_ref().zip(add.struct_pages);
    let counted = counted.map_or("--count".to_owned(), |(counted, pages)| format!("{:.2}", per(counted.total, pages)));
    let gives_up =
        if report.head.leaf_policy == "pages" { "nothing" } else { "per-page linear permissions (as large leaves)" };
    vec![
        format!("{BOLD}cost of add{BOLD:#}    ours     Linux, large leaves  Linux 7.3 default  ours gives up"),
        column("DSB / TLBI", &format!("{}/{}", add.dsb, add.tlbi), events, gives_up),
        column("instr / page", &counted, [best, default], ""),
        column("RAM bytes", &add.ram_bytes.unwrap_or(0).to_string(), ram, ""),
    ]
}

fn column(name: &str, ours: &str, [best, default]: [String; 2], note: &str) -> String {
    format!("  {name:<12} {ours:<8} {best:<20} {default:<18} {note}").trim_end().to_owned()
}

fn removal(remove: Option<&Cost>) -> String {
    let clears = |cost: &Cost| format!("{} clears, {} DSB, {} TLBI", cost.descriptor_writes, cost.dsb, cost.tlbi);
    let text = remove.map(|cost| {
        let nothing = [cost.ram_bytes, cost.altmap_bytes] == [Some(0); 2];
        clears(cost) + if nothing { "; no frames to free" } else { ", then frames freed" }
    });
    row("remove", &text.unwrap_or_else(|| "not yet: the machine is held".to_owned()))
}

/// On how many of `leaves` vmemmap leaves AT agreed with the plan; there are none where boot's struct pages serve.
pub fn agree(at_plan: u64, leaves: u64) -> String {
    if leaves == 0 { "boot's struct pages serve".to_owned() } else { format!("{at_plan}/{leaves} leaves: AT = plan") }
}

fn proved(proof: &Proof, removed: bool) -> Vec<String> {
    let agree = agree(proof.leaves_at_plan, proof.leaves);
    let tables = format!("tables    {agree}; pattern written by vmemmap read by linear map, and back");
    let fault = proof.fault.map(|fault| {
        let fault = format!("FAR {:x}, level {} (--break tlbi: it reads stale)", fault.far.0, fault.level);
        row("", &format!("TLB       after remove a LOAD faults: {fault}"))
    });
    let books = proof
        .frames_difference
        .filter(|_| removed)
        .map(|frames| row("", &format!("books     RAM, tables, altmap as before, difference {frames} frames")));
    [Some(row("proved", &tables)), fault, books].into_iter().flatten().collect()
}

/// How it ended, and what to do next; `memmap` is an address that is worth a walk.
fn end(head: &Head, memmap: u64, shown: &Shown<'_>) -> Vec<String> {
    let took = took(shown);
    let walk = format!("walk {memmap:x}{}", regime_flags(head));
    match head.result.as_str() {
        _ if !shown.failures.is_empty() => failed(shown.failures),
        "pass" => vec![verdict(GREEN, "PASS", &format!("{took:<20} next: --break tlbi   {walk}   gdb"))],
        "held" => vec![verdict(GREEN, "HELD", &format!("{took:<20} next: {walk}"))],
        "planned" => vec![verdict(GREEN, "PLANNED", &format!("{took:<20} nothing was added; without --plan it is"))],
        _ => vec![verdict(RED, "FAIL", &took)],
    }
}

/// What the run took of the host: time, and memory if QEMU has ended.
fn took(shown: &Shown<'_>) -> String {
    let memory = shown.peak.map(|bytes| format!(", QEMU {} MiB", bytes.div_ceil(1 << 20)));
    format!("{} ms{}", shown.elapsed.as_millis(), memory.unwrap_or_default())
}

fn verdict(style: Style, word: &str, text: &str) -> String {
    format!("{style}{word:<9}{style:#} {text}")
}

/// The failed proofs, as many as fit; the first always does.
pub fn failed(failures: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for (shown, text) in failures.iter().enumerate() {
        let wrapped = wrap(text);
        if shown > 0 && lines.len() + wrapped.len() > FAILURES {
            lines.push(row("", &format!("and {} more: --verbose", failures.len() - shown)));
            break;
        }
        let named = wrapped.iter().enumerate().map(|(place, text)| match place {
            0 => verdict(RED, "FAIL", text),
            _ => row("", text),
        });
        lines.extend(named);
    }
    lines
}

/// Cuts a text between its words into lines that fit behind a row's name.
pub fn wrap(text: &str) -> Vec<String> {
    const MOST: usize = COLUMNS - 10;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].is_empty() || lines[last].len() + 1 + word.len() <= MOST {
            let gap = if lines[last].is_empty() { "" } else { " " };
            lines[last] += gap;
            lines[last] += word;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The last of `window`, the trace of what led to an illegal step, and where the rest is.
pub fn led_to(window: &[String], most: usize, saved: bool) -> Vec<String> {
    let shown = &window[window.len().saturating_sub(most)..];
    let rest = match (shown.len() < window.len(), saved) {
        (false, _) => "",
        (true, false) => "; more with --verbose, --trace FILE or --json",
        (true, true) => "; more with --verbose",
    };
    let head = format!("trace     what led to it, the last {} lines of its trace{rest}", shown.len());
    [head].into_iter().chain(shown.iter().cloned()).collect()
}

/// The flags that tell `walk` what is not its default.
fn regime_flags(head: &Head) -> String {
    let granule = match head.granule {
        GranuleSize::K64 => String::new(),
        other => format!(" --granule {}", other.name()),
    };
    granule + &if head.va_bits == 48 { String::new() } else { format!(" --va-bits {}", head.va_bits) }
}

/// A count of things.
pub fn plural(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[expect(clippy::cast_precision_loss, reason = "figures of three digits")]
pub fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;

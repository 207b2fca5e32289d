//! The screen of a run with several devices: one line for each, what each add and removal cost, and what was proved.

use vmemmap::granule::GranuleSize;

use super::{Shown, agree, edges_apart, end, head, judged, level_of, not_here, per, plural, row};
use crate::report::{Altmap, Cost, Leaves, One, Several};
use crate::size::human;

/// Draws it.
pub fn draw(report: &Several, shown: &Shown<'_>) -> String {
    let granule = report.head.granule;
    let mut lines = head(&report.head, shown);
    lines.push(row("devices", &titles(DEVICES)));
    lines.extend(report.devices.iter().enumerate().map(|(number, one)| device(number, one, granule)));
    lines.push(row("cost", &titles(COSTS)));
    lines.extend(report.devices.iter().enumerate().map(|(number, one)| cost(number, one, granule)));
    if shown.failures.is_empty() {
        lines.extend(proved(report));
        lines.extend(report.check.map(judged));
    }
    lines.push(not_here());
    let memmap = report.devices.first().map_or(0, |one| one.memmap.start.0);
    lines.extend(end(&report.head, memmap, shown));
    lines.join("\n") + "\n"
}

type Column = (&'static str, usize);

const DEVICES: [Column; 4] = [("range", 31), ("pages", 9), ("reserve+free -> alloc+align", 28), ("memmap leaves", 0)];
const COSTS: [Column; 7] = [
    ("add DSB/TLBI", 13),
    ("RAM", 10),
    ("instr/page", 11),
    ("remove DSB/TLBI", 16),
    ("clears", 8),
    ("instr", 9),
    ("linear leaves", 0),
];

fn titles<const N: usize>(columns: [Column; N]) -> String {
    cells(columns, columns.map(|(title, _)| title.to_owned()))
}

fn cells<const N: usize>(columns: [Column; N], cells: [String; N]) -> String {
    let padded = columns.iter().zip(cells).map(|((_, width), cell)| format!("{cell:<width$}"));
    padded.collect::<String>().trim_end().to_owned()
}

fn device(number: usize, one: &One, granule: GranuleSize) -> String {
    let (base, bytes) = (one.device.base.0, one.device.size.0);
    let storage = match &one.altmap {
        Some(Altmap { reserve, free, alloc, align, .. }) => format!("{reserve}+{free} -> {alloc}+{align}"),
        None => "none: RAM".to_owned(),
    };
    let range = format!("{base:#x}..{:#x}", base.saturating_add(bytes));
    let pages = (bytes >> granule.shift()).to_string();
    row(&format!("  {number}"), &cells(DEVICES, [range, pages, storage, memmap(one, granule)]))
}

fn cost(number: usize, one: &One, granule: GranuleSize) -> String {
    let events = |cost: &Cost| format!("{}/{}", cost.dsb, cost.tlbi);
    let per_page = |cost: &Cost| {
        let counted = cost.instructions.as_ref().zip(cost.struct_pages);
        counted.map_or("--count".to_owned(), |(counted, pages)| format!("{:.2}", per(counted.total, pages)))
    };
    let total = |cost: &Cost| cost.instructions.as_ref().map_or("--count".to_owned(), |count| count.total.to_string());
    let (add, remove) = (&one.add, one.remove.as_ref());
    let removal = |figure: fn(&Cost) -> String| remove.map_or("-".to_owned(), figure);
    let figures = [
        events(add),
        add.ram_bytes.filter(|&bytes| bytes > 0).map_or("0".to_owned(), human),
        per_page(add),
        removal(events),
        removal(|cost| cost.descriptor_writes.to_string()),
        removal(total),
        leaves(&one.linear.leaves, granule),
    ];
    row(&format!("  {number}"), &cells(COSTS, figures))
}

/// A vmemmap's in short: `1 L3 + 2 edges in RAM`.
fn memmap(one: &One, granule: GranuleSize) -> String {
    let (edges, others) = edges_apart(&one.memmap.leaves, one.altmap.as_ref());
    match (others, edges) {
        ([], 0) => "boot's serve".to_owned(),
        (_, 0) => leaves(others, granule),
        ([], _) => format!("{} in RAM", plural(edges, "edge")),
        (_, _) => format!("{} + {} in RAM", leaves(others, granule), plural(edges, "edge")),
    }
}

/// In short: `31 L2 + 1 L3 run + 15 L3`.
fn leaves(all: &[Leaves], granule: GranuleSize) -> String {
    let kind = |leaves: &Leaves| {
        let (count, level) = (leaves.count, level_of(leaves, granule));
        if leaves.contiguous { plural(count, &format!("{level} run")) } else { format!("{count} {level}") }
    };
    all.iter().map(kind).collect::<Vec<_>>().join(" + ")
}

fn proved(report: &Several) -> Vec<String> {
    let sum = |figure: fn(&One) -> u64| report.devices.iter().map(figure).sum::<u64>();
    let (at_plan, total) = (sum(|one| one.proof.leaves_at_plan), sum(|one| one.proof.leaves));
    let data = "patterns written by vmemmap read by linear map, and back";
    let tables = row("proved", &format!("tables    {}; {data}", agree(at_plan, total)));
    let order: Vec<_> = report.remove_order.iter().map(usize::to_string).collect();
    let order = order.join(",");
    if report.head.result == "held" {
        return vec![tables, row("", &format!("removal   not yet: the machine is held; the order would be {order}"))];
    }
    let faults = report.devices.iter().filter(|one| one.proof.fault.is_some()).count();
    let faults = format!("{faults}/{}", report.devices.len());
    let again = plural(report.proof.proved_again, "time");
    let frames = report.proof.frames_difference;
    vec![
        tables,
        row(
            "",
            &format!("TLB       after each removal its LOADs fault: {faults} devices (--break tlbi: they read stale)"),
        ),
        row("", &format!("others    removed in the order {order}; those still there proved again, {again}")),
        row("", &format!("books     RAM, tables, altmaps as before, difference {frames} frames")),
    ]
}

#[cfg(test)]
#[path = "several_tests.rs"]
mod tests;

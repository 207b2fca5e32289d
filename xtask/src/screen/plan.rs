//! The screen of `--plan`: what adding each device would take.

use vmemmap::granule::GranuleSize;

use super::{Shown, device, end, head, leaves, memmap_leaves, per, plural, row};
use crate::report::{Altmap, Plan, PlannedMap, Plans};
use crate::size::human;

/// Draws it.
pub fn draw(report: &Plans, shown: &Shown<'_>) -> String {
    let mut lines = head(&report.head, shown);
    let several = report.plans.len() > 1;
    lines.extend(several.then(|| row("plan", "of each device, against the memory as it is before the first add")));
    lines.extend(report.plans.iter().flat_map(|plan| rows(plan, report.head.granule)));
    let memmap = report.plans.first().map_or(0, |plan| plan.memmap.start.0);
    lines.extend(end(&report.head, memmap, shown));
    lines.join("\n") + "\n"
}

fn rows(plan: &Plan, granule: GranuleSize) -> [String; 5] {
    let map = |map: &PlannedMap, leaves: &str| {
        let tables = plural(map.table_frames, "table");
        format!("{:x}..{:x}   {leaves}, {tables}", map.start.0, map.end.0)
    };
    let memmap = memmap_leaves(&plan.memmap.leaves, plan.altmap.as_ref(), granule);
    let (tables, pages) = (plan.ram.table_frames, plan.ram.struct_page_frames);
    let ram = format!("{}: {tables} for tables, {pages} for struct pages", plural(tables + pages, "frame"));
    [
        device(&plan.device, granule),
        row("  linear", &map(&plan.linear, &leaves(&plan.linear.leaves, granule))),
        row("  memmap", &map(&plan.memmap, &memmap)),
        row("  storage", &storage(plan, granule)),
        row("  RAM", &format!("{ram}; section records apart")),
    ]
}

fn storage(plan: &Plan, granule: GranuleSize) -> String {
    let Some(Altmap { base_pfn, reserve, free, alloc, align, .. }) = &plan.altmap else {
        return "RAM".to_owned();
    };
    let bytes = alloc << granule.shift();
    let share = per(bytes * 100, plan.device.size.0);
    let padding = plural(*align, "frame");
    format!(
        "altmap base {:#x}  reserve {reserve}  free {free}  ->  alloc {alloc}, padding {padding}   ({}, {share:.3} %)",
        base_pfn.0,
        human(bytes)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::COLUMNS;
    use super::*;

    /// What the kernel reports for `--plan --granule 4k --device 4G,1G,nvdimm --device 8G,64M,ram`.
    const PLANS: &str = include_str!("../../tests/plans.json");

    fn screen(change: fn(&mut Plans)) -> String {
        let mut report = serde_json::from_str(PLANS).unwrap();
        change(&mut report);
        let shown = Shown {
            qemu: "7.2.22",
            cpu: "neoverse-n1",
            elapsed: Duration::from_millis(40),
            peak: Some(61 << 20),
            failures: &[],
        };
        anstream::adapter::strip_str(&draw(&report, &shown)).to_string()
    }

    #[test]
    fn a_plan_names_maps_storage_and_ram_in_110_columns() {
        let text = screen(|_| {});
        for says in [
            "\n  memmap  fffffdffc3000000..fffffdffc4000000   8 blocks at L2, 0 tables\n",
            "\n  storage altmap base 0x100000  reserve 2  free 4606  ->  alloc 4096, padding 510 frames   (16 MiB, 1.562 %)\n",
            "\n  storage RAM\n",
            "\n  RAM     258 frames: 2 for tables, 256 for struct pages; section records apart\n",
            "\nPLANNED  ",
        ] {
            assert!(text.contains(says), "{says}{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }

    #[test]
    fn edge_pages_are_in_ram() {
        let text = screen(|report| {
            let memmap = &mut report.plans[0].memmap;
            let edges = crate::report::Leaves { source: "ram".to_owned(), count: 2, ..memmap.leaves[0].clone() };
            memmap.leaves.push(edges);
        });
        assert!(text.contains("   8 blocks at L2 + 2 edge pages in RAM, 0 tables\n"), "{text}");
    }

    #[test]
    fn several_plans_say_what_they_are_made_against() {
        let says = "before the first add";
        assert!(screen(|_| {}).contains(says) && !screen(|report| report.plans.truncate(1)).contains(says));
    }
}

use std::time::Duration;

use super::super::COLUMNS;
use super::*;
use crate::report::Told;

/// What the kernel reports for `--granule 64k --device 4G,1G --device 5G,1G,ram --device 8G,256M,nvdimm --remove-order
/// 2,0,1 --count`.
const REPORT: &str = include_str!("../../tests/several.json");

type Change = fn(&mut Several);

fn screen(change: Change, failures: &[&str]) -> String {
    let Ok(Told::Several(mut report)) = Told::read(REPORT) else { panic!("not several devices") };
    change(&mut report);
    let shown = Shown {
        qemu: "7.2.22",
        cpu: "neoverse-n1",
        elapsed: Duration::from_millis(90),
        peak: Some(61 << 20),
        failures,
    };
    anstream::adapter::strip_str(&draw(&report, &shown)).to_string()
}

/// Eight devices with as many kinds of leaves as there can be, and the largest figures.
fn widest(report: &mut Several) {
    let kind = |size, contiguous, count| {
        let source = "altmap".to_owned();
        Leaves { size: crate::report::Bits(size), contiguous, source, count }
    };
    let mut one = report.devices[0].clone();
    report.head.granule = GranuleSize::K4;
    (one.device.base.0, one.device.size.0) = (0xffff_0000_0000, 0xf_ffe0_0000);
    one.altmap = one.altmap.map(|altmap| Altmap { free: 1_049_598, alloc: 1_048_576, align: 510, ..altmap });
    one.memmap.leaves = vec![kind(2 << 20, false, 511), kind(64 << 10, true, 31), kind(4 << 10, false, 15)];
    one.linear.leaves = vec![kind(1 << 30, false, 62), kind(32 << 20, true, 31), kind(2 << 20, false, 15)];
    report.devices = vec![one; 8];
}

fn fits(text: &str) {
    assert!(text.lines().count() <= 30, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
}

#[test]
fn the_screen_of_eight_devices_fits_30_lines_of_110_columns() {
    let checked: Change = |report| {
        widest(report);
        report.check = Some(crate::report::Check { events: 8120 });
    };
    fits(&screen(checked, &[]));
    fits(&screen(widest, &["a stale read, said at some length so that it takes more than one line of the screen"; 20]));
}

#[test]
fn each_device_has_its_range_its_altmap_or_ram_and_its_leaves() {
    let text = screen(|_| {}, &[]);
    for says in [
        "\n  0       0x100000000..0x140000000       16384    0+16 -> 16+0                16 L3\n",
        "\n  1       0x140000000..0x180000000       16384    none: RAM                   16 L3\n",
        "\n  2       0x200000000..0x210000000       4096     1+31 -> 4+0                 4 L3\n",
    ] {
        assert!(text.contains(says), "{says}{text}");
    }
}

#[test]
fn each_device_has_the_cost_of_its_add_and_of_its_removal() {
    let text = screen(|_| {}, &[]);
    let line = text.lines().rev().find(|line| line.starts_with("  2 ")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[1..5], ["3/0", "64", "KiB", words[4]]);
    assert_eq!((words[5], words[6], &words[8..]), ("6/4101", "4102", &["128", "L3", "runs"][..]));
    assert!(words[4].parse::<f64>().is_ok() && words[7].parse::<u64>().is_ok(), "{line}");
    let uncounted: Change = |report| report.devices[2].add.instructions = None;
    assert!(screen(uncounted, &[]).contains("--count"));
}

#[test]
fn what_was_proved_names_the_order_and_those_that_stayed() {
    let text = screen(|_| {}, &[]);
    for says in [
        "tables    36/36 leaves: AT = plan",
        "after each removal its LOADs fault: 3/3 devices",
        "removed in the order 2,0,1; those still there proved again, 3 times",
        "difference 0 frames",
        "\nPASS ",
    ] {
        assert!(text.contains(says), "{says}\n{text}");
    }
}

#[test]
fn a_failed_proof_is_said_and_nothing_passes() {
    let text = screen(|_| {}, &["device 1: stale"]);
    assert!(
        text.contains("FAIL      device 1: stale") && !text.contains("PASS") && !text.contains("proved "),
        "{text}"
    );
}

#[test]
fn held_devices_have_no_cost_of_removal_yet() {
    let held: Change = |report| {
        report.head.result = "held".to_owned();
        report.devices.iter_mut().for_each(|one| one.remove = None);
    };
    let text = screen(held, &[]);
    assert!(
        text.contains("not yet: the machine is held") && text.contains("\nHELD ") && !text.contains("books"),
        "{text}"
    );
}

#[test]
fn edge_pages_are_told_apart_and_boots_struct_pages_serve() {
    let edges: Change = |report| {
        let page = report.devices[0].memmap.leaves[0].clone();
        let edges = Leaves { source: "ram".to_owned(), count: 2, ..page.clone() };
        report.devices[0].memmap.leaves = vec![page, edges.clone()];
        report.devices[1].memmap.leaves.clear();
        report.devices[2].memmap.leaves = vec![Leaves { count: 1, ..edges }];
    };
    let text = screen(edges, &[]);
    for says in [" 16 L3 + 2 edges in RAM\n", " boot's serve\n", " 1 edge in RAM\n"] {
        assert!(text.contains(says), "{says}{text}");
    }
    fits(&text);
    let early: Change = |report| {
        report.devices.iter_mut().for_each(|one| (one.proof.leaves, one.proof.leaves_at_plan) = (0, 0));
    };
    assert!(screen(early, &[]).contains("tables    boot's struct pages serve; patterns"));
}

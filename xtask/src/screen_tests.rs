use super::*;

/// What the kernel reports for `--granule 64k --device-size 1G --leaf linux --altmap nvdimm --count`.
const REPORT: &str = include_str!("../tests/report.json");

type Change = fn(&mut Report);

fn screen(change: Change, failures: &[&str]) -> String {
    let mut report = serde_json::from_str(REPORT).unwrap();
    change(&mut report);
    let shown = Shown {
        qemu: "7.2.22",
        cpu: "neoverse-n1",
        elapsed: Duration::from_millis(81),
        peak: Some(61 << 20),
        failures,
    };
    anstream::adapter::strip_str(&draw(&report, &shown)).to_string()
}

#[test]
fn the_screen_fits_25_lines_of_110_columns() {
    let changes: [Change; 3] = [
        |_| {},
        |report| report.memmap.leaves = vec![report.memmap.leaves[0].clone(); 3],
        |report| report.altmap = None,
    ];
    for change in changes {
        let text = screen(change, &[]);
        assert!(text.lines().count() <= 25, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }
}

#[test]
fn a_run_like_linuxs_is_marked_where_it_is_equal() {
    let text = screen(|_| {}, &[]);
    for line in ["altmap ", "  first", "  last"] {
        let line = text.lines().find(|row| row.starts_with(line)).unwrap();
        assert!(line.ends_with("= Linux"), "{line}");
    }
    assert!(text.contains("21 / 1") && text.contains("29 / 3") && text.contains("131072"), "{text}");
    assert_eq!(linux::equals(REPORT), Ok(()));
}

#[test]
fn what_is_not_linuxs_is_marked_too() {
    let changes: [(Change, &str); 5] = [
        (|report| report.memmap.first[0].descriptor.0 ^= 1 << 55, "first leaves"),
        (|report| report.memmap.last.as_mut().unwrap().va.0 += 1, "last leaf"),
        (|report| report.memmap.end.0 += 1, "memmap"),
        (|report| report.linear.last.descriptor.0 ^= 1 << 52, "linear map"),
        (|report| report.altmap.as_mut().unwrap().align = 1, "altmap"),
    ];
    for (change, what) in changes {
        let mut report = serde_json::from_str(REPORT).unwrap();
        change(&mut report);
        let equal = linux::compare(&report).unwrap();
        assert!(matches!(&equal.differences[..], [only] if only.starts_with(what)), "{equal:?}");
        assert_eq!(screen(change, &[]).contains("not Linux's"), what != "linear map");
    }
}

#[test]
fn there_is_no_mark_where_linux_was_not_measured() {
    let changes: [Change; 6] = [
        |report| report.device.size.0 *= 2,
        |report| report.device.base.0 <<= 1,
        |report| report.head.va_bits = 42,
        |report| report.head.leaf_policy = "largest".to_owned(),
        |report| report.altmap.as_mut().unwrap().free = 15,
        |report| report.altmap = None,
    ];
    for change in changes {
        let text = screen(change, &[]);
        assert!(!text.contains("Linux\n"), "{text}");
    }
}

#[test]
fn events_are_shown_only_for_the_measured_sizes() {
    let text = screen(|report| report.device.size.0 = 4 << 30, &[]);
    assert!(!text.contains("29 / 3") && text.contains("47.7") && text.contains("34.3 (6.12)"), "{text}");
}

#[test]
fn instructions_that_were_not_counted_show_how_to_count_them() {
    assert!(screen(|_| {}, &[]).contains("2.50"));
    assert!(screen(|report| report.add.instructions = None, &[]).contains("--count"));
}

#[test]
fn a_checked_run_says_how_many_events_were_judged() {
    use crate::report::Check;
    let checked: Change = |report| report.check = Some(Check { events: 812 });
    assert!(screen(checked, &[]).contains("\nchecked   812 events judged"));
    assert!(!screen(|_| {}, &[]).contains("checked") && !screen(checked, &["stale"]).contains("checked"));
}

#[test]
fn a_failed_proof_is_said_and_nothing_passes() {
    let text = screen(|_| {}, &["a stale read at ffffffdfc0300000"]);
    assert!(screen(|_| {}, &["stale"; 20]).ends_with("FAIL      stale\n          and 12 more: --verbose\n"));
    assert!(text.contains("FAIL      a stale read at") && !text.contains("PASS") && !text.contains("proved"), "{text}");
}

#[test]
fn a_screen_that_fails_fits_too() {
    let long = "event 254: freed-frame: a frame is given back while a leaf maps it, or is not forgotten: the descriptor at \
                0x48020180 is in B1: no TLBI that covers it has followed the DSB";
    let wide: Change = |report| report.memmap.leaves = vec![report.memmap.leaves[0].clone(); 3];
    for failures in [vec![long], vec![long; 20], vec!["stale"; 20]] {
        let text = screen(wide, &failures);
        assert!(text.lines().count() <= 25 - 2, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }
    let text = screen(wide, &[long; 20]);
    let words: Vec<_> = text.split_once("FAIL ").unwrap().1.split_whitespace().collect();
    assert!(words.join(" ").starts_with(long), "{text}");
    assert!(text.ends_with("and 16 more: --verbose\n"), "{text}");
}

#[test]
fn what_led_to_an_illegal_step_is_short_and_says_where_the_rest_is() {
    let window: Vec<_> = (0..138).map(|number| format!("isb cpu={number}")).collect();
    let lines = led_to(&window, LAST_EVENTS, false);
    assert_eq!((lines.len(), lines.last().unwrap().as_str()), (9, "isb cpu=137"));
    let head = "trace     what led to it, the last 8 lines of its trace; more with --verbose, --trace FILE or --json";
    assert_eq!(lines[0], head);
    assert!(!led_to(&window, LAST_EVENTS, true)[0].contains("--trace"), "it is given already");
    assert_eq!(led_to(&window, window.len(), false)[0], "trace     what led to it, the last 138 lines of its trace");
}

#[test]
fn what_the_run_cannot_show_and_what_it_costs_stay_on_the_screen() {
    let text = screen(|_| {}, &[]);
    assert!(
        text.contains("\nnot here ") && text.contains("ours gives up") && text.contains("per-page linear permissions")
    );
}

#[test]
fn the_next_walk_names_what_is_not_its_default() {
    assert!(screen(|_| {}, &[]).contains("walk ffffffdfc0300000   gdb"));
    let changed: Change = |report| (report.head.granule, report.head.va_bits) = (GranuleSize::K16, 47);
    assert!(screen(changed, &[]).contains("walk ffffffdfc0300000 --granule 16k --va-bits 47   gdb"));
}

#[test]
fn a_machine_with_52_bits_is_named_and_its_descriptors_are_read_in_their_layout() {
    let changed: Change = |report| {
        (report.head.granule, report.head.va_bits) = (GranuleSize::K16, 52);
        report.memmap.last.as_mut().unwrap().descriptor.0 = 0x00ea_0001_0001_0603;
    };
    let text = screen(changed, &[]);
    assert!(text.contains("TTBR1 16K, 52 bit LPA2, 4 levels   TCR"), "{text}");
    assert!(text.contains("  0xa000100010000\n") && text.contains("TCR.SH1"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    assert!(screen(|report| report.head.va_bits = 52, &[]).contains("TTBR1 64K, 52 bit LVA, 3 levels"));
}

fn leaves_of(size: u64, contiguous: bool, source: &str, count: u64) -> Leaves {
    Leaves { size: crate::report::Bits(size), contiguous, source: source.to_owned(), count }
}

#[test]
fn edge_pages_are_told_apart_from_the_altmaps_leaves() {
    let edges: Change = |report| {
        report.memmap.leaves = vec![leaves_of(1 << 16, false, "altmap", 1), leaves_of(1 << 16, false, "ram", 2)];
    };
    let text = screen(edges, &[]);
    assert!(text.contains("   1 page at L3 + 2 edge pages in RAM\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    let only: Change = |report| report.memmap.leaves = vec![leaves_of(1 << 16, false, "ram", 1)];
    assert!(screen(only, &[]).contains("   1 edge page in RAM\n"));
    let in_ram: Change = |report| {
        report.altmap = None;
        report.memmap.leaves = vec![leaves_of(1 << 16, false, "ram", 3)];
    };
    assert!(screen(in_ram, &[]).contains("   3 pages at L3   linear: "));
}

#[test]
fn tables_are_those_of_both_maps() {
    let text = screen(|report| report.add.table_frames = Some(3), &[]);
    assert!(text.contains("16 pages at L3   linear: 2 blocks at L2, 3 tables for both maps\n"), "{text}");
}

#[test]
fn a_range_that_boots_struct_pages_serve_has_no_leaves_to_prove_and_no_frames_to_free() {
    let early: Change = |report| {
        report.memmap.leaves.clear();
        report.memmap.first.clear();
        report.memmap.last = None;
        let proof = report.proof.as_mut().unwrap();
        (proof.leaves, proof.leaves_at_plan) = (0, 0);
        let remove = report.remove.as_mut().unwrap();
        (remove.ram_bytes, remove.altmap_bytes) = (Some(0), Some(0));
    };
    let text = screen(early, &[]);
    assert!(text.contains("proved    tables    boot's struct pages serve; pattern written"), "{text}");
    assert!(text.contains("none of its own: boot's serve") && text.contains("TLBI; no frames to free\n"), "{text}");
    assert!(!text.contains("0/0") && screen(|_| {}, &[]).contains("TLBI, then frames freed\n"), "{text}");
}

#[test]
fn the_last_line_says_what_the_run_took_of_the_host() {
    let last = |text: String| text.lines().last().unwrap().to_owned();
    let walk = "next: --break tlbi   walk ffffffdfc0300000   gdb";
    assert_eq!(last(screen(|_| {}, &[])), format!("PASS      81 ms, QEMU 61 MiB   {walk}"));
    let (report, held) = (serde_json::from_str(REPORT).unwrap(), Duration::from_millis(81));
    let shown = Shown { qemu: "7.2.22", cpu: "neoverse-n1", elapsed: held, peak: None, failures: &[] };
    assert!(anstream::adapter::strip_str(&draw(&report, &shown)).to_string().contains("PASS      81 ms    "));
    let long = Shown { elapsed: Duration::from_secs(29), peak: Some(4 << 30), ..shown };
    let mut report: Report = report;
    (report.head.granule, report.head.va_bits) = (GranuleSize::K16, 47);
    let line = last(anstream::adapter::strip_str(&draw(&report, &long)).to_string());
    assert!(line.starts_with("PASS      29000 ms, QEMU 4096 MiB ") && line.len() <= COLUMNS, "{line}");
}

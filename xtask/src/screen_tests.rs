use super::*;

/// What the kernel reports for `--granule 64k --device-size 1G --leaf linux --altmap nvdimm --count`.
const REPORT: &str = include_str!("../tests/report.json");

fn report() -> Report {
    serde_json::from_str(REPORT).unwrap()
}

fn screen(report: &Report, failures: &[&str]) -> String {
    let shown = Shown { qemu: "7.2.22", cpu: "neoverse-n1", elapsed: Duration::from_millis(81), failures };
    anstream::adapter::strip_str(&draw(report, &shown)).to_string()
}

#[test]
fn the_screen_fits_25_lines_of_110_columns() {
    for pages in [false, true] {
        let mut report = report();
        if pages {
            report.leaf_policy = "pages".to_owned();
            report.altmap = None;
        }
        let text = screen(&report, &[]);
        assert!(text.lines().count() <= 25, "{text}");
        let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 110, "{}: {widest}", widest.chars().count());
    }
}

#[test]
fn a_run_like_linuxs_is_marked_where_it_is_equal() {
    let text = screen(&report(), &[]);
    for line in ["altmap ", "  first", "  last"] {
        let line = text.lines().find(|row| row.starts_with(line)).unwrap();
        assert!(line.ends_with("= Linux"), "{line}");
    }
    assert!(text.contains("21 / 1") && text.contains("29 / 3") && text.contains("131072"), "{text}");
}

#[test]
fn a_descriptor_that_is_not_linuxs_is_marked_too() {
    let mut report = report();
    report.memmap.first[0].descriptor.0 ^= 1 << 55;
    assert!(screen(&report, &[]).contains("NOT Linux's"));
    assert_eq!(linux::differences(&report, linux::comparable(&report).unwrap()).len(), 1);
}

#[test]
fn there_is_no_mark_where_linux_was_not_measured() {
    let changes: [fn(&mut Report); 5] = [
        |report| report.device.size.0 *= 2,
        |report| report.device.base.0 <<= 1,
        |report| report.va_bits = 42,
        |report| report.leaf_policy = "largest".to_owned(),
        |report| report.altmap.as_mut().unwrap().free = 15,
    ];
    for change in changes {
        let mut report = report();
        change(&mut report);
        assert!(!screen(&report, &[]).contains("Linux\n"), "{}", screen(&report, &[]));
    }
}

#[test]
fn events_are_shown_only_for_the_measured_sizes() {
    let mut report = report();
    report.device.size.0 = 4 << 30;
    let text = screen(&report, &[]);
    assert!(!text.contains("29 / 3") && text.contains("47.7") && text.contains("34.3 (6.12)"), "{text}");
}

#[test]
fn instructions_that_were_not_counted_show_how_to_count_them() {
    let mut report = report();
    assert!(screen(&report, &[]).contains("2.50"));
    report.add.instructions = None;
    assert!(screen(&report, &[]).contains("--count"));
}

#[test]
fn a_failed_proof_is_said_and_nothing_passes() {
    let text = screen(&report(), &["a stale read at ffffffdfc0300000"]);
    assert!(text.contains("FAIL      a stale read at") && !text.contains("PASS"), "{text}");
}

#[test]
fn what_the_run_cannot_show_and_what_it_costs_stay_on_the_screen() {
    let text = screen(&report(), &[]);
    assert!(text.contains("\nnot here ") && text.contains("ours gives up") && text.contains("per-page linear permissions"));
}

#[test]
fn colours_are_the_writers_to_drop() {
    let shown = Shown { qemu: "7.2.22", cpu: "max", elapsed: Duration::ZERO, failures: &[] };
    assert!(draw(&report(), &shown).contains("\u{1b}[32mPASS"));
}

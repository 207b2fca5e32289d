//! What the screen shows: ours and Linux's, row by row, and which budgets are missed.

use super::budget;
use super::case::{ADD, Case, FREE, INIT, LINEAR, POPULATE, POPULATE_BY_PAGE, REMOVE};
use super::linux::{self, Linux};
use crate::screen::{per, plural, row, wrap};
use crate::size::human;

/// Columns of a granule and a size, and of whose figures they are.
const WHERE: usize = 12;
const WHOSE: usize = 25;
/// Columns of each figure: instructions, then events and memory.
const INSTRUCTIONS: [usize; 7] = [9; 7];
const EVENTS: [usize; 7] = [13, 13, 6, 12, 10, 10, 8];

/// Draws the cases; those of one granule and size stand together.
pub fn draw(cases: &[Case]) -> String {
    let groups: Vec<_> = cases.chunk_by(is_same_range).collect();
    let mut lines = vec![
        columns("instructions (no time)", "per struct page", "per vmemmap leaf"),
        line(
            "",
            "",
            INSTRUCTIONS,
            ["add", "linear", "populate", "init", "remove", "populate", "free"].map(str::to_owned),
        ),
    ];
    lines.extend(groups.iter().flat_map(|group| rows(group, INSTRUCTIONS, instructions, linux_instructions)));
    lines.push("events, add / removal".to_owned());
    let heads = ["writes", "DSB", "ISB", "TLBI", "RAM", "altmap", "records"];
    lines.push(line("", "", EVENTS, heads.map(str::to_owned)));
    lines.extend(groups.iter().flat_map(|group| rows(group, EVENTS, events, linux_events)));
    lines.push(row(
        "gives up",
        "ours and Linux's large leaves: per-page linear permissions; Linux's default keeps them",
    ));
    lines.extend(budgets(cases));
    lines.join("\n") + "\n"
}

fn is_same_range(a: &Case, b: &Case) -> bool {
    (a.place.granule, a.place.size) == (b.place.granule, b.place.size)
}

/// The heads of two groups of columns.
fn columns(name: &str, five: &str, two: &str) -> String {
    format!("{name:<indent$}{five:>45}{two:>18}", indent = WHERE + WHOSE)
}

fn line<const N: usize>(at: &str, whose: &str, widths: [usize; N], cells: [String; N]) -> String {
    let start = format!("{at:<WHERE$}{whose:<WHOSE$}");
    widths.iter().zip(cells).fold(start, |line, (width, cell)| line + &format!("{cell:>width$}"))
}

/// The rows of one granule and size: ours on each CPU, then Linux's where they were measured.
fn rows<const N: usize>(
    group: &[Case],
    widths: [usize; N],
    ours: fn(&Case) -> [String; N],
    theirs: fn(&Linux) -> [String; N],
) -> Vec<String> {
    let place = &group[0].place;
    let measured = linux::measured(place.granule, place.size);
    let ours = group.iter().map(|case| (whose(case), ours(case)));
    let linux = measured.iter().flatten().map(|linux| (linux.name.to_owned(), theirs(linux)));
    let at = format!("{} {}", place.granule, human(place.size));
    let name = |number| if number == 0 { at.as_str() } else { "" };
    ours.chain(linux).enumerate().map(|(number, (whose, cells))| line(name(number), &whose, widths, cells)).collect()
}

/// Ours, cut to its column.
fn whose(case: &Case) -> String {
    format!("ours, {}", case.place.cpu).chars().take(WHOSE - 1).collect()
}

fn instructions(case: &Case) -> [String; 7] {
    [ADD, LINEAR, POPULATE_BY_PAGE, INIT, REMOVE, POPULATE, FREE].map(|figure| figure.of(case).to_string())
}

fn linux_instructions(linux: &Linux) -> [String; 7] {
    linux.figures().map(|figure| figure.to_string())
}

fn events(case: &Case) -> [String; 7] {
    let (add, remove) = (&case.add, &case.remove);
    [
        format!("{}/{}", add.descriptor_writes, remove.descriptor_writes),
        format!("{}/{}", add.dsb, remove.dsb),
        format!("{}/{}", add.isb, remove.isb),
        format!("{}/{}", add.tlbi, remove.tlbi),
        bytes(add.ram_bytes),
        bytes(add.altmap_bytes),
        bytes(add.section_bytes),
    ]
}

fn linux_events(linux: &Linux) -> [String; 7] {
    let both = |figure: fn((u64, u64)) -> u64| {
        let [add, remove] =
            [linux.add, linux.remove].map(|events| events.map_or("-".to_owned(), |events| figure(events).to_string()));
        if (linux.add, linux.remove) == (None, None) { "-".to_owned() } else { format!("{add}/{remove}") }
    };
    let [dsb, tlbi] = [both(|events| events.0), both(|events| events.1)];
    let ram = linux.ram_bytes.map_or("-".to_owned(), bytes);
    ["-".to_owned(), dsb, "-".to_owned(), tlbi, ram, "-".to_owned(), "-".to_owned()]
}

/// Bytes in few columns.
fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        0x400_0000.. if !bytes.is_multiple_of(1 << 20) => format!("{:.1} MiB", per(bytes, 1 << 20)),
        _ => human(bytes),
    }
}

/// How many budgets are met, and which are not.
fn budgets(cases: &[Case]) -> Vec<String> {
    let met: usize =
        cases.iter().map(|case| budget::of(case).iter().filter(|budget| budget.is_met(case)).count()).sum();
    let count = format!("{} met; the design sets them for 16 GiB and more", plural(met as u64, "budget"));
    rows_of("budgets", &count).into_iter().chain(cases.iter().flat_map(missed)).collect()
}

/// The budgets that `case` misses.
fn missed(case: &Case) -> Vec<String> {
    let missed: Vec<_> = budget::of(case).into_iter().filter(|budget| !budget.is_met(case)).collect();
    let words: Vec<_> = missed.iter().map(|budget| budget.in_words(case)).collect();
    if words.is_empty() { Vec::new() } else { rows_of("missed", &format!("{}: {}", case.place, words.join(", "))) }
}

/// A row, and as many below it as the text needs.
pub fn rows_of(name: &str, text: &str) -> Vec<String> {
    wrap(text).iter().enumerate().map(|(at, text)| row(if at == 0 { name } else { "" }, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;
    use vmemmap::granule::GranuleSize;

    fn plain(cases: &[Case]) -> String {
        anstream::adapter::strip_str(&draw(cases)).to_string()
    }

    fn on(cpu: &str, granule: GranuleSize, size: u64) -> Case {
        let mut case = case();
        case.place = super::super::case::Place { granule, size, cpu: cpu.to_owned() };
        case
    }

    #[test]
    fn ours_and_linuxs_stand_below_each_other() {
        let text = plain(&[on("neoverse-n1", GranuleSize::K64, 16 << 30), on("max", GranuleSize::K64, 16 << 30)]);
        for row in [
            "64K 16 GiB  ours, neoverse-n1             4.50  0.00391  0.00977     4.00  0.01000    10.00    10.00",
            "            ours, max                     4.50",
            "            Linux 6.12, large leaves     34.32  0.00637   0.1626    34.01   0.2646      166    79.38",
            "            Linux 7.3, default           47.70    11.42   0.1284    36.02    30.32      132    86.62",
            "64K 16 GiB  ours, neoverse-n1              288/288          2/4   2/2       0/288         0    16 MiB       0",
            "            Linux 7.3, default                   -      419/578     -      33/289     2 MiB         -       -",
            "            Linux 6.12, large leaves             -            -     -           -         0         -       -",
            "per-page linear permissions",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert_eq!(text.matches("64K 16 GiB  ").count(), 2, "{text}");
    }

    #[test]
    fn there_is_no_row_where_linux_was_not_measured() {
        let text = plain(&[on("max", GranuleSize::K4, 2 << 30)]);
        assert!(!text.contains("Linux 7.3, default") && text.contains("4K 2 GiB    ours, max"), "{text}");
    }

    #[test]
    fn large_figures_fit_110_columns() {
        let cases = [GranuleSize::K4, GranuleSize::K16, GranuleSize::K64].map(|granule| {
            let mut case = on("a-cpu-with-a-long-name,x=off", granule, 256 << 30);
            for operation in [&mut case.add, &mut case.remove] {
                (operation.descriptor_writes, operation.dsb, operation.tlbi) = (199_999, 41_171, 16_674);
                (operation.ram_bytes, operation.altmap_bytes) = (302_063_616 + 4096, (64 << 30) + (2 << 20));
                (operation.section_bytes, operation.instructions.total) = (999 << 10, 90_000_000);
            }
            case
        });
        let text = plain(&cases);
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        assert!(text.contains("199999/199999  41171/41171"), "{text}");
    }

    #[test]
    fn missed_budgets_are_listed_by_case() {
        let mut slow = case();
        (slow.remove.instructions.total, slow.add.tlbi) = (18_979, 1);
        let text = plain(&[case(), slow]);
        assert!(text.contains("budgets   12 budgets met; the"), "{text}");
        let missed = "missed    64k 16 GiB neoverse-n1: remove 0.0724 of 0.02, TLBI of the add 1 of 0\n";
        assert!(text.ends_with(missed) && text.matches("missed").count() == 1, "{text}");
    }
}

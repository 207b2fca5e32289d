//! What fuzzing has found, as the shortest trace that shows it. All of it was arithmetic of the adversary that overflowed.

use vmemmap::sim::{Adversary, Rule};
use vmemmap::trace::Event;

/// The rules that a trace breaks, in order.
fn broken(lines: &[&str]) -> Vec<Rule> {
    let mut events = lines.iter().map(|line| Event::parse(line).expect("an event").expect("not a comment"));
    let Some(Event::Trace(header)) = events.next() else { panic!("a trace begins with its header") };
    let mut adversary = Adversary::new(header);
    events.filter_map(|event| adversary.step(event).err()).map(|violation| violation.rule).collect()
}

/// `va + page size - 1` is no address if the sum is taken first.
#[test]
fn the_last_page_below_the_top_can_be_invalidated() {
    for (granule, operand) in [("4k", "0xfffffffffff"), ("16k", "0xffffffffffc"), ("64k", "0xffffffffff0")] {
        let header = format!("trace version=1 granule={granule} va_bits=48 pa_bits=48 cpus=1");
        for op in ["vaae1is", "vaale1is", "vaae1"] {
            assert_eq!(broken(&[&header, &format!("tlbi cpu=0 {op} {operand}")]), [], "{granule} {op}");
        }
    }
}

/// The first event names memory that can't be; nothing that follows depends on it.
#[test]
fn memory_that_wraps_is_no_memory() {
    for event in [
        "alloc pa=0xffffff0a6d61723d len=0x78ffffffffffffff from=ram",
        "free pa=0xb7b7b7b7b7b7b7b7 len=0xb7b7b7b7b7beb7b7 to=ram",
        "zero cpu=0 pa=0xb7b7b7b76961efef len=0xb7b7b7b76d6f7266",
        "write cpu=0 slot=0xffffffffffffffff old=0x0 new=0xffffffffffffffff",
        "table pa=0xffffffffffffffff level=-1 va=0xffffffffffffffff",
    ] {
        assert_eq!(
            broken(&["trace version=1 granule=4k va_bits=26 pa_bits=48 cpus=1", event]),
            [Rule::Accounts],
            "{event}"
        );
    }
}

/// Nor is what it then holds judged: there is no telling which addresses it translates.
#[test]
fn a_table_that_stands_where_none_can_is_no_table() {
    for [geometry, table, write] in [
        ["granule=64k va_bits=30", "pa=0x40000000 level=-1 va=0xffffffffffff8000", "slot=0x40000398 new=0x40000003"],
        ["granule=4k va_bits=26", "pa=0x40000008 level=0 va=0xfffffffffffff000", "slot=0x40000020 new=0x0"],
        ["granule=64k va_bits=26", "pa=0x40000038 level=0 va=0xfffffffffc640000", "slot=0x40010000 new=0x0"],
        [
            "granule=4k va_bits=26",
            "pa=0x40050000 level=1 va=0xfffffffffc020000",
            "slot=0x40050000 new=0x70000000610703",
        ],
        [
            "granule=4k va_bits=37",
            "pa=0x40050000 level=1 va=0xfffffffffffff000",
            "slot=0x40050000 new=0x60000000300703",
        ],
    ] {
        let header = format!("trace version=1 {geometry} pa_bits=48 cpus=1");
        let lines = [&header, &format!("table {table}"), &format!("write cpu=0 {write} old=0x0")];
        assert_eq!(broken(&lines.map(String::as_str)), [Rule::Accounts], "{geometry} {table}");
    }
}

/// Its own slots were taken for those of a table behind the top of the address space.
#[test]
fn a_root_that_is_its_own_table_ends_in_a_verdict() {
    let lines = [
        "trace version=1 granule=64k va_bits=30 pa_bits=48 cpus=1",
        "slot pa=0x40050000 value=0x40050003",
        "write cpu=0 slot=0x40050020 old=0x0 new=0x60000000200703",
        "regs cpu=0 ttbr1=0x40050000 tcr=0x5c0220000 mair=0x0 sctlr=0x1",
        "table pa=0x40050000 level=1 va=0xffffffffc0200000",
        "write cpu=0 slot=0x40050000 old=0x0 new=0x3",
    ];
    assert_eq!(
        broken(&lines),
        [Rule::Accounts, Rule::Race],
        "no place for a table, and a slot that holds something else"
    );
}

//! Hostile traces: whatever a file says, reading and judging it ends with a verdict.
//!
//! The first byte chooses: text, as it stands in a file, or a list of events with values that tend to meet.

use vmemmap::granule::GranuleSize;
use vmemmap::sim::Adversary;
use vmemmap::trace::{Event, Header, Word};

use super::bytes::Bytes;

/// Longer inputs find nothing that these do not.
const MOST_EVENTS: usize = 300;

const TLBIS: [&str; 18] = [
    "vmalle1",
    "vmalle1is",
    "vmalle1os",
    "vaae1is",
    "vaale1is",
    "vaae1os",
    "vaae1",
    "vaale1",
    "vae1is",
    "vale1is",
    "aside1is",
    "rvaae1is",
    "rvaale1is",
    "rvae1is",
    "rvale1",
    "rvaae1os",
    "rvmalle1is",
    "nothing",
];
const BARRIERS: [&str; 14] =
    ["ish", "ishst", "ishld", "nsh", "nshst", "nshld", "osh", "oshst", "oshld", "sy", "st", "ld", "", "none"];

/// Judges what `input` says.
pub fn run(input: &[u8]) {
    let mut events = read(input).into_iter();
    if let Some(Event::Trace(header)) = events.next()
        && exists(header)
    {
        judge(header, events);
    }
}

/// The events that `input` stands for: as a trace, they are for `cargo xtask check`.
#[must_use]
pub fn read(input: &[u8]) -> Vec<Event> {
    let mut bytes = Bytes::new(input);
    if bytes.byte() & 1 == 0 { read_text(&String::from_utf8_lossy(bytes.rest())) } else { make(bytes) }
}

fn read_text(text: &str) -> Vec<Event> {
    let events = text.lines().take(MOST_EVENTS).map_while(|line| {
        let event = Event::parse(line).inspect_err(|error| drop(error.to_string())).ok()?;
        event.into_iter().for_each(assert_reads_back);
        Some(event)
    });
    events.flatten().collect()
}

/// An event prints as a line that reads as the same event.
fn assert_reads_back(event: Event) {
    let line = event.to_string();
    // A word with blanks, quotes or nothing in it can't be written again.
    let plain = |word: Word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let words = match event {
        Event::Begin { op, .. } | Event::End { op, .. } | Event::Tlbi { op, .. } => op,
        Event::Alloc { from: word, .. } | Event::Free { to: word, .. } => word,
        Event::Dsb { option, .. } | Event::Dmb { option, .. } => option,
        _ => Word::new("none"),
    };
    assert!(!plain(words) || Event::parse(&line) == Ok(Some(event)), "{line}");
}

/// Geometries that exist, as `cargo xtask check` asks.
const fn exists(header: Header) -> bool {
    let Header { va_bits, pa_bits, cpus, .. } = header;
    let most = if pa_bits > 48 { 52 } else { 48 };
    va_bits >= 25 && va_bits <= most && pa_bits >= 32 && pa_bits <= 52 && cpus >= 1 && cpus <= 4
}

fn judge(header: Header, events: impl Iterator<Item = Event>) {
    let mut adversary = Adversary::new(header);
    for event in events {
        if let Err(violation) = adversary.step(event) {
            drop(violation.to_string());
        }
        if let Event::Touch { va, .. } = event {
            let _ = (adversary.may(0, va), adversary.written(va));
        }
    }
    let _ = (adversary.unjudged(), adversary.outstanding().count());
}

fn make(mut bytes: Bytes<'_>) -> Vec<Event> {
    let pa_bits = bytes.choose(&[48, 52, 32, 40]);
    let most = if pa_bits > 48 { 52 } else { 48 };
    let header = Header {
        granule: bytes.choose(&GranuleSize::ALL),
        va_bits: 25 + bytes.below(most - 24) as u32,
        pa_bits,
        cpus: 1 + bytes.below(4) as u32,
    };
    let regs = (0..header.cpus as u8).map(|cpu| regs(cpu, header, ROOT));
    let events = std::iter::from_fn(|| (!bytes.is_empty()).then(|| event(&mut bytes, header)));
    [Event::Trace(header)].into_iter().chain(regs).chain(events.take(MOST_EVENTS)).collect()
}

const ROOT: u64 = 0x4000_0000;

fn regs(cpu: u8, header: Header, ttbr1: u64) -> Event {
    let tg1 = match header.granule {
        GranuleSize::K4 => 2,
        GranuleSize::K16 => 1,
        GranuleSize::K64 => 3,
    };
    let ds = u64::from(header.pa_bits > 48 && header.granule != GranuleSize::K64);
    let tcr = u64::from(64 - header.va_bits) << 16 | tg1 << 30 | ds << 59;
    Event::Regs { cpu, ttbr1, tcr, mair: 0, sctlr: 1 }
}

/// Addresses of memory: eight tables, slots of them, and anything.
fn physical(bytes: &mut Bytes<'_>) -> u64 {
    let table = ROOT + u64::from(bytes.byte() & 7) * 0x1_0000;
    match bytes.below(8) {
        0..=3 => table + u64::from(bytes.byte() & 7) * 8,
        4 => table + u64::from(bytes.byte()) * 8,
        5 => table,
        6 => 8 * u64::from(bytes.byte()),
        _ => bytes.word(),
    }
}

fn virtual_address(bytes: &mut Bytes<'_>, header: Header) -> u64 {
    let shift = header.granule.shift();
    match bytes.below(4) {
        0 => (u64::MAX << header.va_bits) + (u64::from(bytes.byte()) << shift),
        1 => u64::MAX << shift.saturating_sub(u32::from(bytes.byte()) % 4),
        2 => (u64::MAX << header.va_bits) | u64::from(bytes.byte()) << (bytes.byte() & 63),
        _ => bytes.word(),
    }
}

/// Descriptors: tables, leaves with and without a run, and anything.
fn descriptor(bytes: &mut Bytes<'_>) -> u64 {
    const LEAF: u64 = 0x0060_0000_0000_0700;
    match bytes.below(8) {
        0 => 0,
        1 | 2 => physical(bytes) & !0xfff | 3,
        3 => u64::from(bytes.byte()) << 21 | LEAF | 1,
        4 => u64::from(bytes.byte()) << 16 | LEAF | 3,
        5 => u64::from(bytes.byte()) << 16 | LEAF | 1 << 52 | 3,
        6 => physical(bytes),
        _ => bytes.word(),
    }
}

fn length(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.below(4) {
        0..=2 => bytes.choose(&[0x1000, 0x4000, 0x1_0000, 0x2_0000, 0, 8, 0x20_0000, 1]),
        _ => bytes.word(),
    }
}

fn event(bytes: &mut Bytes<'_>, header: Header) -> Event {
    let cpu = bytes.byte() & 7;
    let cpu = if u32::from(cpu) < header.cpus { cpu } else { bytes.byte() & 1 };
    let store = Word::new(["ram", "altmap"][bytes.below(2)]);
    match bytes.below(24) {
        0 => Event::Regs { cpu, ttbr1: physical(bytes), tcr: bytes.word(), mair: 0, sctlr: 1 },
        1 => regs(cpu, header, physical(bytes)),
        2 | 3 => {
            let level = bytes.below(5) as i8 - 1;
            Event::Table { pa: physical(bytes), level, va: virtual_address(bytes, header) }
        }
        4 | 5 => Event::Slot { pa: physical(bytes), value: descriptor(bytes) },
        6 => Event::Begin { cpu, op: store, start: 0, end: 0 },
        7 => Event::End { cpu, op: store, result: 0 },
        8 | 9 => Event::Alloc { pa: physical(bytes), len: length(bytes), from: store },
        10 => Event::Free { pa: physical(bytes), len: length(bytes), to: store },
        11 => Event::Zero { cpu, pa: physical(bytes), len: length(bytes) },
        12..=16 => Event::Write { cpu, slot: physical(bytes), old: 0, new: descriptor(bytes) },
        17 | 18 => Event::Dsb { cpu, option: Word::new(bytes.choose(&BARRIERS)) },
        19 => Event::Dmb { cpu, option: Word::new(bytes.choose(&BARRIERS)) },
        20 => Event::Isb { cpu },
        21 | 22 => Event::Tlbi { cpu, op: Word::new(bytes.choose(&TLBIS)), operand: operand(bytes, header) },
        _ => Event::Touch { cpu, va: virtual_address(bytes, header), write: bytes.byte() & 1 == 1 },
    }
}

fn operand(bytes: &mut Bytes<'_>, header: Header) -> Option<u64> {
    match bytes.below(4) {
        0 => None,
        1 => Some(bytes.word()),
        2 => Some(virtual_address(bytes, header) >> 12 & ((1 << 44) - 1) | u64::from(bytes.byte()) << 44),
        _ => Some(virtual_address(bytes, header) >> 12 & ((1 << 44) - 1)),
    }
}

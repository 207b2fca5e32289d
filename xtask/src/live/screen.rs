//! How a live machine looks: a line or two for each event, or the kernel's own objects.

use serde_json::{Value, json};

use super::event::{Cost, Event, Range, Region, Told};
use crate::report::SCHEMA_VERSION;
use crate::screen::{agree, failed, per, plural, row};
use crate::size::human;
use crate::status::Stop;

/// Where a session is shown.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Screen {
    /// Objects and nothing else.
    pub json: bool,
    /// The kernel's log too.
    pub verbose: bool,
    /// Events are not shown now.
    pub quiet: bool,
    /// The last thing on the terminal is a prompt, to be written over.
    pub prompted: bool,
    /// The kernel was told something, and what it can't do is told as the command's failure.
    pub asked: bool,
    /// What the devices are called.
    pub names: Vec<String>,
}

impl Screen {
    /// An event of the kernel's.
    pub fn event(&self, told: &Told) {
        if self.quiet && !self.verbose {
            return;
        }
        if self.json {
            println!("{}", told.object);
        } else {
            let over = if self.prompted { "\r" } else { "" };
            self.lines(&told.event).iter().for_each(|line| anstream::println!("{over}{line}"));
        }
    }

    /// A line of the kernel's log.
    pub fn log(&self, line: &str) {
        match (self.verbose, self.json) {
            (false, _) => {}
            (true, true) => eprintln!("{line}"),
            (true, false) => println!("{line}"),
        }
    }

    /// A line of ours.
    pub fn say(&self, line: &str) {
        if !self.json {
            anstream::println!("{line}");
        }
    }

    /// A command that was typed, or read from a script.
    pub fn command(&self, text: &str, echo: bool) {
        match (self.json, echo) {
            (true, _) => println!("{}", json!({ "command": text })),
            (false, true) => println!("live> {text}"),
            (false, false) => {}
        }
    }

    /// A DIMM that was plugged: by its name it can go again.
    pub fn dimm(&self, name: &str, bytes: u64) {
        match (self.json, self.quiet && !self.verbose) {
            (_, true) => {}
            (true, false) => println!("{}", json!({ "command": "plug", "dimm": name })),
            (false, false) => self.say(&row("plugged", &format!("{name}, {}", human(bytes)))),
        }
    }

    /// A command that failed; whether it was meant to.
    pub fn failed(&self, text: &str, why: &str, meant: bool) {
        match (self.json, meant) {
            (true, _) => println!("{}", json!({ "command": text, "failed": why })),
            (false, true) => self.say(&row("failed", &format!("as it must: {why}"))),
            (false, false) => anstream::eprintln!("error: {why}"),
        }
    }

    /// Proofs that failed.
    pub fn failures(&self, texts: &[&str]) {
        for line in failed(texts) {
            self.say(&line);
        }
    }

    /// How the session ended where no event says so.
    pub fn object(&self, object: impl FnOnce() -> Value) {
        if self.json {
            println!("{}", object());
        }
    }

    fn lines(&self, event: &Event) -> Vec<String> {
        match event {
            Event::Ready { granule, frames_free, .. } => {
                let devices = self.names.join(", ");
                vec![row(
                    "ready",
                    &format!("{granule}   {devices}   {frames_free} frames of RAM free   `help` lists commands"),
                )]
            }
            Event::Added { range, struct_pages, cost, leaves, leaves_at_plan } => vec![
                row(
                    "added",
                    &format!("{}, {struct_pages} pages   {}", self.range(range), agree(*leaves_at_plan, *leaves)),
                ),
                row("", &added(cost, *struct_pages)),
            ],
            Event::Removed { range, cost, fault } => {
                let clears = did(cost, "clears", |total| plural(total, "instruction"));
                let fault = fault.map_or("no load was tried".to_owned(), |fault| {
                    format!("then a load faults: FAR {:x}, level {}", fault.far.0, fault.level)
                });
                vec![row("removed", &self.range(range)), row("", &format!("{clears}   {fault}"))]
            }
            Event::Kept { range, why } => vec![row("kept", &format!("{}   {why}", self.range(range)))],
            Event::Refused { device, source, base, size, why } => {
                let name = self.name(*device, source);
                let base = base.map(|base| format!(" {:#x}", base.0)).unwrap_or_default();
                let size = size.map(|size| format!(" + {}", human(size))).unwrap_or_default();
                vec![row("refused", &format!("{name}{base}{size}   {why}"))]
            }
            Event::Held { base, size } => vec![row("held", &region(base.0, *size))],
            Event::Released { base, size } => vec![row("released", &region(base.0, *size))],
            Event::Shown { ranges, frames_free, tables } => self.table(ranges, *frames_free, *tables),
            Event::Written { device, offset, bytes } => {
                let name = self.name(*device, "?");
                vec![row("written", &format!("{} at offset {:#x} of {name}", plural(*bytes, "byte"), offset.0))]
            }
            Event::Read { device, text } => vec![row("read", &format!("{}   {text}", self.name(*device, "?")))],
            Event::Error { .. } if self.asked => Vec::new(),
            Event::Error { why } => vec![row("kernel", why)],
            Event::Synced { .. } | Event::End { .. } => Vec::new(),
        }
    }

    fn name<'a>(&'a self, device: usize, source: &'a str) -> &'a str {
        self.names.get(device).map_or(source, String::as_str)
    }

    fn range(&self, range: &Range) -> String {
        format!("{} {}", self.name(range.device, &range.source), region(range.base.0, range.size))
    }

    fn table(&self, ranges: &[Region], frames_free: u64, tables: u64) -> Vec<String> {
        let titles = format!("{:<14} {:<35} {:<10} holders", "device", "range", "size");
        let mut lines = vec![row("shown", &titles)];
        lines.extend(ranges.iter().map(|Region { range: Range { device, source, base, size }, holders }| {
            let place = format!("{:#x}..{:#x}", base.0, base.0.saturating_add(*size));
            row("", &format!("{:<14} {place:<35} {:<10} {holders}", self.name(*device, source), human(*size)))
        }));
        let sum = human(ranges.iter().map(|region| region.range.size).sum());
        let all = plural(ranges.len() as u64, "range");
        lines.push(row("", &format!("{all}, {sum}   {frames_free} frames of RAM free, {}", plural(tables, "table"))));
        lines
    }
}

fn region(base: u64, size: u64) -> String {
    format!("{base:#x}..{:#x}   {}", base.saturating_add(size), human(size))
}

fn added(cost: &Cost, pages: u64) -> String {
    let did = did(cost, "writes", |total| format!("{:.2} instr/page", per(total, pages)));
    format!("altmap {}   {did}   {} of RAM", human(cost.altmap_bytes), human(cost.ram_bytes))
}

/// The events of an operation, or its instructions where those were counted.
fn did(cost: &Cost, writes: &str, counted: impl Fn(u64) -> String) -> String {
    let Cost { descriptor_writes, dsb, tlbi, instructions, .. } = cost;
    let events = descriptor_writes.zip(*dsb).zip(*tlbi);
    let events = events.map(|((count, dsb), tlbi)| format!("{count} {writes}  {dsb} DSB  {tlbi} TLBI"));
    let counted = instructions.as_ref().map(|instructions| counted(instructions.total));
    [events, counted].into_iter().flatten().collect::<Vec<_>>().join("  ")
}

/// The last object of a session whose QEMU was killed.
pub fn killed() -> Value {
    json!({ "schema_version": SCHEMA_VERSION, "result": "killed" })
}

/// The last object of a session that an error ended.
pub fn stopped(stop: &Stop) -> Value {
    crate::qemu::error_object(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::event::read;

    fn drawn(json: &str) -> Vec<String> {
        let names = ["virtio-mem", "pc-dimm"].map(str::to_owned).to_vec();
        let screen = Screen { json: false, verbose: false, quiet: false, prompted: false, asked: false, names };
        let told = read(&format!("@live {json}")).unwrap().unwrap();
        let plain = |line: &String| anstream::adapter::strip_str(line).to_string();
        screen.lines(&told.event).iter().map(plain).collect()
    }

    const RANGE: &str = r#""device":0,"source":"virtio-mem","base":"0x80000000","size":536870912"#;

    fn added(events: &str, instructions: &str) -> Vec<String> {
        drawn(&format!(
            r#"{{"event":"added",{RANGE},"struct_pages":8192,"leaves":8,"leaves_at_plan":8,"cost":{{"struct_pages":8192,
            {events},"ram_bytes":0,"altmap_bytes":524288,"instructions":{instructions}}}}}"#
        ))
    }

    #[test]
    fn an_arrival_is_its_range_and_its_cost() {
        let wanted = [
            "added     virtio-mem 0x80000000..0xa0000000   512 MiB, 8192 pages   8/8 leaves: AT = plan",
            "          altmap 512 KiB   24 writes  2 DSB  0 TLBI   0 bytes of RAM",
        ];
        assert_eq!(added(r#""descriptor_writes":24,"dsb":2,"tlbi":0"#, "null"), wanted);
        let counted = added(r#""descriptor_writes":null,"dsb":null,"tlbi":null"#, r#"{"total":36946}"#);
        assert_eq!(counted, [wanted[0], "          altmap 512 KiB   4.51 instr/page   0 bytes of RAM"]);
    }

    #[test]
    fn a_removal_ends_with_a_fault() {
        let cost = r#""cost":{"descriptor_writes":16,"dsb":4,"tlbi":16}"#;
        let fault = r#""fault":{"far":"0xffffffdfc1000000","level":3}"#;
        let wanted = [
            "removed   virtio-mem 0x80000000..0xa0000000   512 MiB",
            "          16 clears  4 DSB  16 TLBI   then a load faults: FAR ffffffdfc1000000, level 3",
        ];
        assert_eq!(drawn(&format!(r#"{{"event":"removed",{RANGE},{cost},{fault}}}"#)), wanted);
    }

    #[test]
    fn what_stays_and_what_is_refused_say_why() {
        let kept = drawn(&format!(r#"{{"event":"kept",{RANGE},"why":"busy: 1 holder"}}"#));
        assert_eq!(kept, ["kept      virtio-mem 0x80000000..0xa0000000   512 MiB   busy: 1 holder"]);
        let refused = |base: &str, size: &str| {
            drawn(&format!(
                r#"{{"event":"refused","device":1,"source":"pc-dimm","base":{base},"size":{size},"why":"no RAM"}}"#
            ))
        };
        assert_eq!(refused("\"0x80000000\"", "2097152"), ["refused   pc-dimm 0x80000000 + 2 MiB   no RAM"]);
        assert_eq!(refused("null", "null"), ["refused   pc-dimm   no RAM"]);
    }

    #[test]
    fn regions_are_listed_with_their_holders() {
        let other = r#""device":1,"source":"pc-dimm","base":"0x1000000000000","size":2097152"#;
        let ranges = format!(r#"[{{{RANGE},"holders":0}},{{{other},"holders":2}}]"#);
        let table = drawn(&format!(r#"{{"event":"shown","ranges":{ranges},"frames_free":3000,"tables":1}}"#));
        let wanted = [
            "shown     device         range                               size       holders",
            "          virtio-mem     0x80000000..0xa0000000              512 MiB    0",
            "          pc-dimm        0x1000000000000..0x1000000200000    2 MiB      2",
            "          2 ranges, 514 MiB   3000 frames of RAM free, 1 table",
        ];
        assert_eq!(table, wanted);
    }

    #[test]
    fn other_events_are_a_line_or_none() {
        for (json, line) in [
            (r#"{"event":"held","base":"0x80000000","size":2097152}"#, "held      0x80000000..0x80200000   2 MiB"),
            (r#"{"event":"released","base":"0x80000000","size":2097152}"#, "released  0x80000000..0x80200000   2 MiB"),
            (
                r#"{"event":"written","device":0,"offset":"0x80000","bytes":5}"#,
                "written   5 bytes at offset 0x80000 of virtio-mem",
            ),
            (r#"{"event":"read","device":1,"text":"a b"}"#, "read      pc-dimm   a b"),
            (r#"{"event":"error","why":"no region"}"#, "kernel    no region"),
        ] {
            assert_eq!(drawn(json), [line]);
        }
        assert_eq!(drawn(r#"{"event":"synced","number":1}"#), Vec::<String>::new());
    }
}

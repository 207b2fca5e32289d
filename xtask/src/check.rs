//! `cargo xtask check`: judge a trace of what some kernel did to its translation tables.

use std::path::PathBuf;

use clap::Args;
use vmemmap::sim::{Adversary, Violation};
use vmemmap::trace::{Event, Header};

use crate::status::{Status, Stop};

/// Events shown before the one that breaks a rule.
const SHOWN: usize = 12;

/// The trace.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// The trace: one event a line, as docs/traces.md says
    file: PathBuf,
    /// Go on after the first broken rule, and show up to this many
    #[arg(long, value_name = "N", default_value_t = 1)]
    most: usize,
    /// Judge it as if this many CPUs had been running, where the trace has fewer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    cpus: u32,
}

/// What came of it.
struct Verdict {
    header: Header,
    events: usize,
    violations: Vec<Violation>,
    /// The lines and events, as the adversary has numbered them.
    taken: Vec<(usize, Event)>,
    /// Frames that were taken and not given back.
    outstanding: usize,
    /// Stores into tables that the trace does not show.
    unjudged: usize,
}

impl Check {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        let name = self.file.display();
        let text = std::fs::read_to_string(&self.file).map_err(|error| Stop::refused(format!("{name}: {error}")))?;
        let verdict = judge(&text, self.cpus).map_err(|why| Stop::refused(format!("{name}: {why}")))?;
        verdict.show(self.most.max(1));
        match (verdict.violations.len(), verdict.unjudged) {
            (0, 0) => Ok(Status::Pass),
            (0, unjudged) => Err(Stop::refused(format!(
                "{name}: {} into tables that it does not show; add `table` and `slot` lines for them",
                count(unjudged, "store goes", "stores go")
            ))),
            _ => Ok(Status::Fail),
        }
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Takes every event; an error says what can't be read, with its line.
fn judge(text: &str, cpus: u32) -> Result<Verdict, String> {
    let mut events = text.lines().zip(1..).filter_map(|(line, number)| match Event::parse(line) {
        Ok(None) => None,
        Ok(Some(event)) => Some(Ok((number, event))),
        Err(error) => Some(Err(format!("line {number}: {error}"))),
    });
    let Some((_, Event::Trace(mut header))) = events.next().transpose()? else {
        return Err("its first line is not `trace version=1 granule=.. va_bits=.. pa_bits=.. cpus=..`".to_owned());
    };
    check_header(header)?;
    let running = header.cpus as u8;
    header.cpus = header.cpus.max(cpus);
    let mut court =
        Court { adversary: Adversary::new(header), running, is_under_way: false, verdict: Verdict::new(header) };
    for event in events {
        let (line, event) = event?;
        court.hear(line, event)?;
    }
    court.close()
}

/// Geometries that exist.
fn check_header(header: Header) -> Result<(), String> {
    let Header { granule, va_bits, pa_bits, cpus } = header;
    match () {
        () if !(25..=52).contains(&va_bits) => Err(format!("va_bits={va_bits}: {granule} tables take 25 to 52 bits")),
        () if !(32..=52).contains(&pa_bits) => Err(format!("pa_bits={pa_bits}: output addresses have 32 to 52 bits")),
        () if !(1..=4).contains(&cpus) => Err(format!("cpus={cpus}: the adversary plays 1 to 4 CPUs")),
        () => Ok(()),
    }
}

/// The adversary, and what it has found.
struct Court {
    adversary: Adversary,
    /// CPUs of the trace itself.
    running: u8,
    /// The state at the start has been told.
    is_under_way: bool,
    verdict: Verdict,
}

impl Court {
    fn hear(&mut self, line: usize, event: Event) -> Result<(), String> {
        if matches!(event, Event::Trace(_)) {
            return Err(format!("line {line}: a second `trace` line; judge one trace at a time"));
        }
        if !self.adversary.knows(&event) {
            return Err(format!("line {line}: `{event}`: no such CPU, operation or option"));
        }
        let is_state = matches!(event, Event::Regs { .. } | Event::Table { .. } | Event::Slot { .. });
        if self.verdict.events == 0 && !is_state && self.verdict.taken.is_empty() {
            return Err(format!("line {line}: an event before any `regs` line: nothing is known of the tables"));
        }
        if self.is_under_way && matches!(event, Event::Table { .. } | Event::Slot { .. }) {
            return Err(format!("line {line}: `table` and `slot` lines come before the first store"));
        }
        // What was taken and zeroed before the trace starts may be told among the tables.
        self.is_under_way |=
            matches!(event, Event::Write { .. } | Event::Tlbi { .. } | Event::Free { .. } | Event::Touch { .. });
        self.verdict.events += usize::from(self.verdict.events > 0 || !is_state);
        self.step(line, event);
        // CPUs that only look on run from the start, as the first one does.
        if let (Event::Regs { cpu: 0, ttbr1, tcr, mair, sctlr }, 0) = (event, self.verdict.events) {
            for cpu in self.running..self.verdict.header.cpus as u8 {
                self.step(line, Event::Regs { cpu, ttbr1, tcr, mair, sctlr });
            }
        }
        Ok(())
    }

    fn step(&mut self, line: usize, event: Event) {
        self.verdict.taken.push((line, event));
        self.verdict.violations.extend(self.adversary.step(event).err().map(|violation| *violation));
    }

    fn close(mut self) -> Result<Verdict, String> {
        if self.verdict.events == 0 {
            return Err("it has no events".to_owned());
        }
        self.verdict.violations.extend(self.adversary.finish().err().map(|violation| *violation));
        self.verdict.unjudged = self.adversary.unjudged();
        self.verdict.outstanding = self.adversary.outstanding().count();
        Ok(self.verdict)
    }
}

impl Verdict {
    const fn new(header: Header) -> Self {
        Self { header, events: 0, violations: Vec::new(), taken: Vec::new(), outstanding: 0, unjudged: 0 }
    }

    /// What led to a violation: the event that took out what is at stake, if it was long before, and the last ones, by line.
    fn events_of(&self, violation: &Violation) -> impl Iterator<Item = (usize, Event)> {
        let first = violation.number.saturating_sub(SHOWN);
        let since = violation.since.filter(|since| *since <= first);
        since.map(|since| self.taken[since - 1]).into_iter().chain(self.taken[first..violation.number].iter().copied())
    }

    fn show(&self, most: usize) {
        let Header { granule, va_bits, cpus, .. } = self.header;
        let (cpus, events) = (count(cpus as usize, "CPU", "CPUs"), count(self.events, "event", "events"));
        println!("trace     {granule}, {va_bits}-bit addresses, {cpus}, {events}");
        for violation in self.violations.iter().take(most) {
            println!("broken    {}", violation.rule);
            println!("  source  {}", violation.rule.source());
            println!("  why     {}", violation.why);
            self.events_of(violation).for_each(|(line, event)| println!("  {line:>7} {event}"));
        }
        match self.violations.len() {
            0 if self.unjudged > 0 => println!("verdict   nothing is wrong in what could be judged"),
            0 => println!("verdict   nothing is wrong"),
            1 => println!("verdict   1 event breaks a rule"),
            count => println!("verdict   {count} events break a rule; {} shown, --most shows more", most.min(count)),
        }
        if self.outstanding > 0 {
            println!("          {} still out at the end", count(self.outstanding, "allocation is", "allocations are"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGS: &str = "regs cpu=0 ttbr1=0x1000 tcr=0x35b5503510 mair=0xff sctlr=0x1";

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kernel/mm/tests/traces").join(name)
    }

    fn check(file: PathBuf, cpus: u32) -> Result<Status, Stop> {
        Check { file, most: 1, cpus }.run()
    }

    #[test]
    fn a_trace_passes_or_fails_by_what_it_did() {
        for cpus in 1..=4 {
            assert_eq!(check(fixture("linux-6.12-64k-add-remove.trace"), cpus), Ok(Status::Pass));
            assert_eq!(check(fixture("linux-6.12-64k-neighbours.trace"), cpus), Ok(Status::Fail));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_refused() {
        let stop = check(fixture("nothing.trace"), 1).unwrap_err();
        assert_eq!(stop.status, Status::Refused);
        assert!(stop.why.contains("nothing.trace: No such file"), "{}", stop.why);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let why = |text: &str| judge(text, 1).map(|_| ()).unwrap_err();
        let header = "trace version=1 granule=4k va_bits=48 pa_bits=48 cpus=1\n";
        assert!(why("").starts_with("its first line is not `trace"));
        assert!(why("isb cpu=0\n").starts_with("its first line is not `trace"));
        assert_eq!(why(&format!("{header}# nothing\n")), "it has no events");
        assert_eq!(why(&format!("{header}\nhop cpu=0\n")), "line 3: there is no event hop");
        assert!(why(&format!("{header}isb cpu=0\n")).starts_with("line 2: an event before any `regs` line"));
        let header = format!("{header}{REGS}\n");
        assert!(why(&format!("{header}{header}")).starts_with("line 3: a second `trace` line"));
        for line in
            ["dsb cpu=0 is", "dmb cpu=0 i", "tlbi cpu=0 foo", "tlbi cpu=0 vaale1is", "tlbi cpu=0 alle2", "isb cpu=1"]
        {
            assert_eq!(
                why(&format!("{header}{line}\n")),
                format!("line 3: `{line}`: no such CPU, operation or option")
            );
        }
        assert!(why("trace version=1 granule=4k va_bits=60 pa_bits=48 cpus=1").starts_with("va_bits=60: 4K tables"));
        assert!(why("trace version=1 granule=4k va_bits=48 pa_bits=60 cpus=1").starts_with("pa_bits=60"));
        assert!(why("trace version=1 granule=4k va_bits=48 pa_bits=48 cpus=9").starts_with("cpus=9"));
    }

    #[test]
    fn stores_that_can_not_be_judged_are_counted() {
        let header = "trace version=1 granule=4k va_bits=48 pa_bits=48 cpus=1";
        let text = format!("{header}\n{REGS}\nwrite cpu=0 slot=0x5000 old=0x0 new=0x3\ndsb cpu=0 ishst\n");
        let verdict = judge(&text, 1).unwrap();
        assert_eq!((verdict.unjudged, verdict.violations.len()), (1, 0));
    }
}

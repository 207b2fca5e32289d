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
    /// As the adversary has numbered them.
    taken: Vec<Event>,
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
        Ok(if verdict.violations.is_empty() { Status::Pass } else { Status::Fail })
    }
}

/// Takes every event; an error says what can't be read, with its line.
fn judge(text: &str, cpus: u32) -> Result<Verdict, String> {
    let mut events = text.lines().zip(1..).filter_map(|(line, number)| match Event::parse(line) {
        Ok(None) => None,
        Ok(Some(event)) => Some(Ok(event)),
        Err(error) => Some(Err(format!("line {number}: {error}"))),
    });
    let Some(Event::Trace(mut header)) = events.next().transpose()? else {
        return Err("its first line is not `trace version=1 granule=.. va_bits=.. pa_bits=.. cpus=..`".to_owned());
    };
    check_header(header)?;
    let running = header.cpus as u8;
    header.cpus = header.cpus.max(cpus);
    let mut adversary = Adversary::new(header);
    let mut verdict =
        Verdict { header, events: 0, violations: Vec::new(), taken: Vec::new(), outstanding: 0, unjudged: 0 };
    for event in events {
        verdict.events +=
            usize::from(!matches!(event, Ok(Event::Regs { .. } | Event::Table { .. } | Event::Slot { .. })));
        let event = event?;
        verdict.taken.push(event);
        if let Err(violation) = adversary.step(event) {
            verdict.violations.push(*violation);
        }
        // CPUs that only look on run from the start, as the first one does.
        if let (Event::Regs { cpu: 0, ttbr1, tcr, mair, sctlr }, 0) = (event, verdict.events) {
            for cpu in running..header.cpus as u8 {
                verdict.taken.push(Event::Regs { cpu, ttbr1, tcr, mair, sctlr });
                let _ = adversary.step(Event::Regs { cpu, ttbr1, tcr, mair, sctlr });
            }
        }
    }
    if verdict.events == 0 {
        return Err("it has no events".to_owned());
    }
    verdict.unjudged = adversary.unjudged();
    verdict.outstanding = adversary.outstanding().count();
    Ok(verdict)
}

/// Geometries that exist.
fn check_header(header: Header) -> Result<(), String> {
    let Header { granule, va_bits, pa_bits, cpus } = header;
    let most = if pa_bits > 48 { 52 } else { 48 };
    match () {
        () if !(25..=most).contains(&va_bits) => {
            Err(format!("va_bits={va_bits}: {granule} tables take 25 to {most} bits"))
        }
        () if !(32..=52).contains(&pa_bits) => Err(format!("pa_bits={pa_bits}: output addresses have 32 to 52 bits")),
        () if !(1..=4).contains(&cpus) => Err(format!("cpus={cpus}: the adversary plays 1 to 4 CPUs")),
        () => Ok(()),
    }
}

impl Verdict {
    /// What led to a violation: the event that took out what is at stake, if it was long before, and the last ones.
    fn events_of<'a>(&'a self, violation: &'a Violation) -> impl Iterator<Item = (usize, Event)> + 'a {
        let from = violation.history.len().saturating_sub(SHOWN);
        let last = violation.history[from..].iter().copied();
        let first = last.clone().next().map_or(0, |(number, _)| number);
        let since = violation.since.filter(|since| *since < first).map(|since| (since, self.taken[since - 1]));
        since.into_iter().chain(last)
    }

    fn show(&self, most: usize) {
        let Header { granule, va_bits, cpus, .. } = self.header;
        println!("trace     {granule}, {va_bits}-bit addresses, {cpus} CPU, {} events", self.events);
        for violation in self.violations.iter().take(most) {
            println!("broken    {}", violation.rule);
            println!("  source  {}", violation.rule.source());
            println!("  why     {}", violation.why);
            self.events_of(violation).for_each(|(number, event)| println!("  {number:>7} {event}"));
        }
        match self.violations.len() {
            0 => println!("verdict   nothing is wrong"),
            1 => println!("verdict   1 event breaks a rule"),
            count => println!("verdict   {count} events break a rule; {} shown, --most shows more", most.min(count)),
        }
        if self.unjudged > 0 {
            println!("          {} stores went into tables that the trace does not show: not judged", self.unjudged);
        }
        if self.outstanding > 0 {
            println!("          {} allocations are still out at the end", self.outstanding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(why("trace version=1 granule=4k va_bits=60 pa_bits=48 cpus=1").starts_with("va_bits=60: 4K tables"));
        assert!(why("trace version=1 granule=4k va_bits=48 pa_bits=60 cpus=1").starts_with("pa_bits=60"));
        assert!(why("trace version=1 granule=4k va_bits=48 pa_bits=48 cpus=9").starts_with("cpus=9"));
    }

    #[test]
    fn stores_that_can_not_be_judged_are_counted() {
        let header = "trace version=1 granule=4k va_bits=48 pa_bits=48 cpus=1";
        let text = format!("{header}\nwrite cpu=0 slot=0x5000 old=0x0 new=0x3\n");
        let verdict = judge(&text, 1).unwrap();
        assert_eq!((verdict.unjudged, verdict.violations.len()), (1, 0));
    }
}

//! A shape: a short program, a question about where it may end, and the verdict that others gave on it.

use std::collections::HashMap;

use vmemmap::sim::{Adversary, Outcome, Rule};
use vmemmap::trace::Event;

use crate::stage::Stage;

/// A question and its verdict.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// After the program this CPU may see this at this address: a frame, `fault` or `garbage`.
    Allowed(u8, &'static str, &'static str),
    /// It may not.
    Forbidden(u8, &'static str, &'static str),
    /// The program breaks this rule.
    Breaks(Rule),
    /// The program breaks no rule.
    Clean,
}

/// A program of events in trace format, separated by `;`, with the names of its [`Stage`].
///
/// `old=` is filled in. `run*` and `run2*` before an event: one for each member of a contiguous run at level 3 or 2,
/// `+i` its number, `+j` the next.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its published name, or one in the same style.
    pub name: &'static str,
    /// Whose verdict it is.
    pub source: &'static str,
    pub stage: Stage,
    pub events: &'static str,
    pub verdict: Verdict,
}

/// Herd's catalogue of VMSA tests, whose `VMSA-kinds.txt` has a verdict for each.
macro_rules! herd {
    ($verdict:literal) => {
        concat!("herdtools7 catalogue/aarch64-VMSA, VMSA-kinds.txt: ", $verdict)
    };
}
pub(crate) use herd;

/// The results of isla-axiomatic for the tests of "Relaxed virtual memory in Armv8-A" (ESOP 2022).
macro_rules! esop {
    ($verdict:literal) => {
        concat!("Simner et al., ESOP 2022, isla-axiomatic (ETS and strong): ", $verdict)
    };
}
pub(crate) use esop;

impl Shape {
    /// What the adversary says: whether the verdict is so, and if not, why.
    pub fn judge(&self, without: Option<Rule>) -> Result<(), String> {
        let events = self.program();
        let Event::Trace(header) = events[0] else { panic!("{}: no header", self.name) };
        let mut adversary = without.into_iter().fold(Adversary::new(header), Adversary::without);
        let mut broken = Vec::new();
        for event in &events {
            broken.extend(adversary.step(*event).err());
        }
        match self.verdict {
            Verdict::Clean | Verdict::Forbidden(..) if adversary.unjudged() > 0 => {
                Err("a store goes to no table that is known: the verdict is empty".to_owned())
            }
            Verdict::Allowed(cpu, va, what) => self.sees(&adversary, cpu, va, what, true),
            Verdict::Forbidden(cpu, va, what) => self.sees(&adversary, cpu, va, what, false),
            Verdict::Breaks(rule) if broken.iter().any(|violation| violation.rule == rule) => Ok(()),
            Verdict::Breaks(rule) => Err(format!("{rule} is not reported; reported: {broken:#?}")),
            Verdict::Clean if broken.is_empty() => Ok(()),
            Verdict::Clean => Err(broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    fn sees(&self, adversary: &Adversary, cpu: u8, va: &str, what: &str, allowed: bool) -> Result<(), String> {
        let may = adversary.may(cpu, self.stage.value(va));
        let seen = may.iter().any(|outcome| match (what, outcome) {
            ("fault", Outcome::Fault) | ("garbage", Outcome::Garbage) => true,
            ("fault" | "garbage", _) | (_, Outcome::Fault | Outcome::Garbage) => false,
            (frame, Outcome::Map { pa, .. }) => *pa == self.stage.value(&format!("f{frame}")),
        });
        let verdict = if seen { "allowed" } else { "forbidden" };
        if seen == allowed { Ok(()) } else { Err(format!("CPU {cpu} at {va}: {what} is {verdict}; may be {may:x?}")) }
    }

    /// All events, with the header and the scene.
    pub fn program(&self) -> Vec<Event> {
        let mut lines = self.stage.lines();
        for text in self.events.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            lines.extend(self.each(text));
        }
        let mut words = HashMap::new();
        lines.iter().map(|line| self.event(line, &mut words)).collect()
    }

    fn each(&self, text: &str) -> Vec<String> {
        let [pages, blocks] = self.stage.runs;
        let (members, text) = match (text.strip_prefix("run* "), text.strip_prefix("run2* ")) {
            (Some(rest), _) => (pages, rest),
            (_, Some(rest)) => (blocks, rest),
            _ => return vec![self.stage.text(text)],
        };
        (0..members)
            .map(|i| self.stage.text(&text.replace("+i", &format!("+{i}")).replace("+j", &format!("+{}", i + 1))))
            .collect()
    }

    fn event(&self, line: &str, words: &mut HashMap<u64, u64>) -> Event {
        let filled = line.replace("new=", "old=0x0 new=");
        let parsed = Event::parse(&filled).unwrap_or_else(|why| panic!("{}: {line}: {why}", self.name));
        let event = parsed.unwrap_or_else(|| panic!("{}: {line}: no event", self.name));
        match event {
            Event::Slot { pa, value } => {
                words.insert(pa, value);
                event
            }
            Event::Write { cpu, slot, new, .. } => {
                let old = words.insert(slot, new).unwrap_or(0);
                Event::Write { cpu, slot, old, new }
            }
            _ => event,
        }
    }
}

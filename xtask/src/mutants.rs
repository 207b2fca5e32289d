//! `cargo xtask mutants`: every mutant on the host, against the adversary, and on QEMU; which rule notices it.

mod boots;
mod page;

use std::process::Stdio;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Deserialize;

use crate::build;
use crate::line::Image;
use crate::setup;
use crate::status::{Status, Stop};
use crate::tool::Tool;
use boots::Seen;

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();

/// Which mutants, and where.
#[derive(Args, Clone, Debug)]
pub struct Mutants {
    /// Only mutants whose name contains this
    #[arg(conflicts_with = "write")]
    name: Option<String>,
    /// Leave the boots out
    #[arg(long, conflicts_with = "write")]
    no_qemu: bool,
    /// Also judge without each rule, and write docs/mutants.md
    #[arg(long)]
    write: bool,
}

/// What the host's suite says.
#[derive(Deserialize, Debug)]
struct Suite {
    mutants: Vec<Mutant>,
    /// Legal variants.
    controls: Vec<Mutant>,
    rules: Vec<Rule>,
}

#[derive(Deserialize, Debug)]
struct Mutant {
    number: u8,
    name: String,
    what: String,
    expected: String,
    /// Why none of the expected rules notices it.
    otherwise: Option<String>,
    notice: Option<Notice>,
    /// Every rule and invariant that notices it.
    all: Vec<String>,
    gaps: Vec<Gap>,
    boot: String,
    why_no_boot: Option<String>,
}

/// Who noticed it first.
#[derive(Deserialize, Debug)]
struct Notice {
    by: String,
    scenario: String,
    why: String,
}

/// What changes without a rule: how many scenarios of how many no longer notice the mutant, and who does instead.
#[derive(Deserialize, Debug)]
struct Gap {
    rule: String,
    blind: usize,
    of: usize,
    instead: Vec<String>,
}

#[derive(Deserialize, Debug)]
struct Rule {
    code: String,
    text: String,
}

impl Mutants {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        let suite = self.on_host()?;
        if suite.mutants.is_empty() {
            let name = self.name.as_deref().unwrap_or_default();
            return Err(Stop::refused(format!("no mutant's name contains {name}; docs/mutants.md lists them")));
        }
        let seen = if self.no_qemu { Vec::new() } else { on_qemu(&suite)? };
        let every = || suite.mutants.iter().chain(&suite.controls);
        for mutant in every() {
            anstream::println!("{}", line(mutant, find(&seen, mutant)));
            if self.name.is_some() {
                mutant.notice.iter().for_each(|notice| println!("     host: {}", notice.why));
                if let Some(Seen { why, .. }) = find(&seen, mutant) {
                    println!("     QEMU: {why}");
                }
            }
        }
        let good = every().filter(|mutant| is_well(mutant, find(&seen, mutant))).count();
        let total = every().count();
        println!("{good} of {total} as it should be");
        if self.write {
            if suite.controls.iter().any(|control| !is_well(control, find(&seen, control))) {
                return Err(failed("docs/mutants.md is not written: something objects to a legal variant"));
            }
            let page = page::write(&suite, &seen, &litmus()?);
            std::fs::write(build::workspace().join("docs/mutants.md"), page)?;
        }
        Ok(if good == total { Status::Pass } else { Status::Fail })
    }

    /// Runs the host's suite, without each rule too if that is to be written down.
    fn on_host(&self) -> Result<Suite, Stop> {
        let mut cargo = build::cargo(&["run", "--quiet", "--profile", "test", "-p", "mutants", "--features", "host"]);
        cargo.args(["--bin", "mutants-host", "--"]).args(self.write.then_some("--rules")).args(&self.name);
        let output = cargo.stdout(Stdio::piped()).stderr(Stdio::inherit()).output()?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| failed(&format!("the host's suite did not end well: {error}")))
    }
}

fn failed(why: &str) -> Stop {
    Stop { status: Status::Fail, why: why.to_owned() }
}

fn on_qemu(suite: &Suite) -> Result<Vec<Seen>, Stop> {
    setup::ensure(&[Tool::Target, Tool::Qemu], false)?;
    build::images(&[Image::Test])?;
    boots::run(suite.mutants.iter().chain(&suite.controls).map(|mutant| (mutant.name.as_str(), mutant.boot.as_str())))
}

fn find<'a>(seen: &'a [Seen], mutant: &Mutant) -> Option<&'a Seen> {
    seen.iter().find(|seen| seen.mutant == mutant.name)
}

/// Mutants are noticed on the host; legal variants nowhere.
fn is_well(mutant: &Mutant, seen: Option<&Seen>) -> bool {
    let mutated = mutant.number > 0;
    let silent = |seen: &Seen| seen.at.is_empty() && seen.broken.is_empty() && !seen.otherwise;
    mutant.notice.is_some() == mutated && (mutated || seen.is_none_or(silent))
}

fn line(mutant: &Mutant, seen: Option<&Seen>) -> String {
    let Mutant { number, name, notice, .. } = mutant;
    let style = if is_well(mutant, seen) { GREEN } else { RED };
    let (verdict, by) = match notice {
        Some(Notice { by, scenario, .. }) if *number > 0 => ("killed", format!("{by} in {scenario}")),
        Some(Notice { by, why, .. }) => ("ALARM", format!("{by}: {why}")),
        None if *number > 0 => ("SURVIVED", String::new()),
        None if !is_well(mutant, seen) => ("ALARM", seen.map_or(String::new(), |seen| format!("QEMU: {}", seen.why))),
        None => ("legal", String::new()),
    };
    let number = if *number > 0 { number.to_string() } else { String::new() };
    let qemu = seen.map(|seen| format!("QEMU: {:<34} checker: {}", on_qemu_in_words(mutant, seen), by_checker(seen)));
    let qemu = qemu.unwrap_or_default();
    format!("{number:>2} {name:<28} {style}{verdict:<8}{style:#} {by:<32} {qemu}").trim_end().to_owned()
}

/// Whether QEMU shows it, and where.
fn on_qemu_in_words(mutant: &Mutant, seen: &Seen) -> String {
    match (&mutant.why_no_boot, seen.at.is_empty()) {
        (Some(_), _) => "not run".to_owned(),
        (None, true) => "not seen".to_owned(),
        (None, false) => format!("seen at {}", seen.at.join(", ")),
    }
}

/// What the checker in the kernel says to it.
fn by_checker(seen: &Seen) -> String {
    let otherwise = seen.otherwise.then_some("fails otherwise");
    let says: Vec<_> = seen.broken.iter().map(String::as_str).chain(otherwise).collect();
    match (seen.checked, says.is_empty()) {
        (false, _) => "not run".to_owned(),
        (true, true) => "silent".to_owned(),
        (true, false) => says.join(", "),
    }
}

/// Litmus shapes whose verdict changes without a rule: its code, and the shape.
fn litmus() -> Result<Vec<(String, String)>, Stop> {
    let mut cargo = build::cargo(&["test", "--quiet", "-p", "vmemmap", "--test", "litmus", "--", "--nocapture"]);
    let output = cargo.env("LITMUS_WITHOUT", "1").stdout(Stdio::piped()).output()?;
    if !output.status.success() {
        return Err(failed("the litmus shapes fail; mend them first"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let changed = text.lines().filter_map(|line| line.split_once("@without ")?.1.split_once(' '));
    Ok(changed.map(|(code, shape)| (code.to_owned(), shape.trim().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(number: u8) -> Mutant {
        let json = format!(
            r#"{{"number": {number}, "name": "m", "what": "", "expected": "", "all": [], "gaps": [], "boot": "story"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn seen(at: &[&str], broken: &[&str], otherwise: bool) -> Seen {
        let at = at.iter().map(|at| (*at).to_owned()).collect();
        let broken = broken.iter().map(|rule| (*rule).to_owned()).collect();
        Seen { mutant: "m".to_owned(), at, why: "stale".to_owned(), checked: true, broken, otherwise }
    }

    #[test]
    fn a_legal_variant_that_any_boot_objects_to_is_an_alarm() {
        let said = |seen: &Seen| line(&mutant(0), Some(seen));
        for objection in [seen(&["4k"], &[], false), seen(&[], &["early"], false), seen(&[], &[], true)] {
            assert!(!is_well(&mutant(0), Some(&objection)));
            assert!(said(&objection).contains("ALARM") && said(&objection).contains("QEMU: stale"), "{objection:?}");
        }
        assert!(said(&seen(&[], &[], false)).contains("legal"));
    }

    #[test]
    fn the_checker_is_silent_only_where_its_boots_pass() {
        assert_eq!(by_checker(&seen(&["4k"], &[], false)), "silent");
        assert_eq!(by_checker(&seen(&[], &[], true)), "fails otherwise");
        assert_eq!(by_checker(&seen(&[], &["early"], true)), "early, fails otherwise");
    }
}

//! `docs/mutants.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::boots::Seen;
use super::{Gap, Mutant, Rule, Suite, by_checker, find, on_qemu_in_words};

/// Width of a paragraph.
const COLUMNS: usize = 118;
/// Checks that look at a value by itself, not at what a CPU could see because of it.
const OF_FORM: [&str; 5] = ["E6", "E8", "E9", "E11", "I8"];

const HEAD: &str = "\
# Mutants

This page is written by `cargo xtask mutants --write`.

A mutant is the core, unchanged, on a seam that breaks one rule (`tests/mutants`): it drops, replaces, reorders or alters
what passes, as if the mistake stood in the core. On the host each one lives through every scenario
(`tests/mutants/src/host/scenarios.rs`) against the [adversary](adversary.md), which must notice. In the test image it does
its work on QEMU, which mostly does not notice. The image that `cargo xtask qemu` boots holds none of this.

`E` and `R` are the adversary's rules. `I` are invariants that the scenarios check by themselves: I1 every address maps what
was planned, I3 frames come back, I8 no more is invalidated than needed, I9 a failed operation has changed nothing.
";

const FIRST: &str = "
\"First\" is what the run ends with: a rule goes before an invariant. It is not always the rule that was expected, which
then comes later in the same run (\"also\"). Frames go back before an operation ends, so what leaves something cached is most
often met by E3a or E3b first and would be by E2b a moment later. What cuts a neighbour off is met by E2b, since the
neighbour's entries are still cached when the removal ends, before E1 meets it at the neighbour's next access.
";

/// The page.
pub fn write(suite: &Suite, seen: &[Seen], litmus: &[(String, String)]) -> String {
    let mut page = HEAD.to_owned();
    page += &counts(suite, seen);
    page += FIRST;
    for (mutant, why) in suite.mutants.iter().filter_map(|mutant| Some((mutant, mutant.otherwise.as_ref()?))) {
        let text = format!("`{}` is noticed by none of the expected rules: {why}.", mutant.name);
        page.extend(["\n", &wrapped(&text)]);
    }
    page += "\n| # | mutant | what is wrong | expected | first | also | QEMU | checker |\n|---|---|---|---|---|---|---|---|\n";
    suite.mutants.iter().for_each(|mutant| page += &row(mutant, find(seen, mutant)));
    page += "\n## Legal variants\n\nNothing may object to these, neither on the host nor on QEMU.\n\n";
    page += "| variant | what it does | host | QEMU | checker |\n|---|---|---|---|---|\n";
    for control in &suite.controls {
        let host = control.notice.as_ref().map_or("passes", |notice| &notice.by);
        let qemu = find(seen, control).map_or("not run", |seen| if seen.at.is_empty() { "passes" } else { "fails" });
        let checker = find(seen, control).map_or_else(|| "not run".to_owned(), by_checker);
        let _ = writeln!(page, "| `{}` | {} | {host} | {qemu} | {checker} |", control.name, control.what);
    }
    page + &rules(suite, litmus)
}

fn counts(suite: &Suite, seen: &[Seen]) -> String {
    let killed = suite.mutants.iter().filter(|mutant| mutant.notice.is_some()).count();
    let run: Vec<_> = suite.mutants.iter().filter(|mutant| mutant.why_no_boot.is_none()).collect();
    let is_seen = |mutant: &&&Mutant| find(seen, mutant).is_some_and(|seen| !seen.at.is_empty());
    let all = seen;
    let seen = run.iter().filter(is_seen).count();
    let checked: Vec<_> =
        suite.mutants.iter().filter_map(|mutant| find(all, mutant)).filter(|seen| seen.checked).collect();
    let broken = checked.iter().filter(|seen| !seen.broken.is_empty()).count();
    let of_form: Vec<_> = suite.mutants.iter().filter(|mutant| is_noticed_by_form_only(mutant)).collect();
    let names = of_form.iter().map(|mutant| format!("`{}` ({})", mutant.name, mutant.all.join(" ")));
    let names = names.collect::<Vec<_>>().join(", ");
    let not_run = suite
        .mutants
        .iter()
        .filter_map(|mutant| mutant.why_no_boot.as_ref().map(|why| format!("`{}` is not booted: {why}.", mutant.name)));
    let on_qemu = format!(
        "Of {} mutants {killed} are killed on the host. {} can be booted: {seen} of them are seen on QEMU, which means that the \
         boot does not pass, be it for a stale translation, a proof of the tables or the allocator's own assertion. The \
         other {} pass every proof there. With the checker in the kernel (`--checked`, \
         at 4K and 64K, the main job) {broken} of {} are stopped. {}",
        suite.mutants.len(),
        run.len(),
        run.len() - seen,
        checked.len(),
        not_run.collect::<Vec<_>>().join(" "),
    );
    let apart = format!(
        "{} are killed only by a check of form ({}), which looks at a value by itself and is as good as written for its \
         mutant. They are counted apart: {names}.",
        of_form.len(),
        OF_FORM.join(", "),
    );
    format!("\n{}\n{}", wrapped(&on_qemu), wrapped(&apart))
}

/// A paragraph in lines.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < COLUMNS => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn is_noticed_by_form_only(mutant: &Mutant) -> bool {
    let mut correct = mutant.all.iter().filter(|code| *code != "I8").peekable();
    match correct.peek() {
        None => mutant.notice.is_some(),
        Some(_) => correct.all(|code| OF_FORM.contains(&code.as_str())),
    }
}

fn row(mutant: &Mutant, seen: Option<&Seen>) -> String {
    let Mutant { number, name, what, expected, notice, all, .. } = mutant;
    let first = notice.as_ref().map_or("**survives**", |notice| &notice.by);
    let also = all.iter().filter(|code| *code != first).cloned().collect::<Vec<_>>().join(" ");
    let qemu = seen.map_or_else(|| "not run".to_owned(), |seen| on_qemu_in_words(mutant, seen));
    let checker = seen.map_or_else(|| "not run".to_owned(), by_checker);
    format!("| {number} | `{name}` | {what} | {expected} | {first} | {also} | {qemu} | {checker} |\n")
}

/// What one rule is needed for.
#[derive(Default)]
struct Need {
    survivors: Vec<String>,
    partly: Vec<String>,
    /// Who notices instead, where the rule itself notices something.
    instead: BTreeSet<String>,
    shapes: Vec<String>,
}

fn rules(suite: &Suite, litmus: &[(String, String)]) -> String {
    let mut needs: BTreeMap<&str, Need> = BTreeMap::new();
    for (mutant, gap) in suite.mutants.iter().flat_map(|mutant| mutant.gaps.iter().map(move |gap| (mutant, gap))) {
        needs.entry(&gap.rule).or_default().take(mutant, gap);
    }
    for (code, shape) in litmus {
        needs.entry(code).or_default().shapes.push(format!("`{shape}`"));
    }
    let nothing = Need::default();
    let need = |rule: &Rule| needs.get(rule.code.as_str()).unwrap_or(&nothing);
    let twins: Vec<_> =
        suite.rules.iter().filter(|rule| need(rule).is_twin_only()).map(|rule| rule.code.as_str()).collect();
    let text = format!(
        "The same runs judged again without one rule: what nobody notices any more, and which [litmus \
         shapes](adversary.md) get another verdict. \"3 of 40\" means that as many of the scenarios that notice the mutant no \
         longer do. Where nothing survives in all scenarios, others notice in the rule's place: its twins. {}",
        match twins.len() {
            0 => "Every rule is needed for a mutant or for a verdict.".to_owned(),
            _ => format!("Neither a mutant nor a verdict needs {}: they have twins only.", twins.join(", ")),
        },
    );
    let mut page = format!("\n## What each rule is needed for\n\n{}\n", wrapped(&text));
    page += "| rule | | survives without it | verdicts that change | twins |\n|---|---|---|---|---|\n";
    for rule in &suite.rules {
        page += &need(rule).row(rule);
    }
    page
}

impl Need {
    fn take(&mut self, mutant: &Mutant, Gap { blind, of, instead, .. }: &Gap) {
        if blind == of {
            self.survivors.push(format!("`{}`", mutant.name));
        } else if *blind > 0 {
            self.partly.push(format!("`{}` ({blind} of {of})", mutant.name));
        }
        self.instead.extend(instead.iter().cloned());
    }

    fn is_twin_only(&self) -> bool {
        self.survivors.is_empty() && self.shapes.is_empty()
    }

    fn row(&self, rule: &Rule) -> String {
        let survivors = [&self.survivors[..], &self.partly].concat().join(", ");
        let shapes = self.shapes.join(", ");
        let instead = self.instead.iter().cloned().collect::<Vec<_>>().join(" ");
        let twins = if self.survivors.is_empty() { instead } else { String::new() };
        format!("| {} | {} | {survivors} | {shapes} | {twins} |\n", rule.code, rule.text)
    }
}

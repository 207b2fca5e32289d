//! What the long form of the tests has tried, and what it has reached, from the lines that the tests print of
//! themselves: `@count key=number ..`, `@all kind name ..` and `@reached kind name ..`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Sums and sets over all tests.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<String, u64>,
    all: BTreeMap<String, BTreeSet<String>>,
    reached: BTreeMap<String, BTreeSet<String>>,
}

impl Tally {
    /// Takes a line, if it is one of these.
    pub fn take(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let sets = match words.next() {
            Some("@count") => {
                let numbers = words.filter_map(|word| word.split_once('='));
                numbers.for_each(|(key, number)| self.add(key, number));
                return true;
            }
            Some("@all") => &mut self.all,
            Some("@reached") => &mut self.reached,
            _ => return false,
        };
        let kind = words.next().unwrap_or_default();
        sets.entry(kind.to_owned()).or_default().extend(words.map(str::to_owned));
        true
    }

    fn add(&mut self, key: &str, number: &str) {
        if let Ok(number) = number.parse::<u64>() {
            *self.counts.entry(key.to_owned()).or_default() += number;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() && self.all.is_empty() {
            return writeln!(f, "tried     none of the tests that ran tells what it tries");
        }
        if !self.counts.is_empty() {
            writeln!(f, "tried")?;
        }
        self.counts.iter().try_for_each(|(key, number)| writeln!(f, "  {number:>14} {key}"))?;
        if !self.all.is_empty() {
            writeln!(f, "reached")?;
        }
        for (kind, all) in &self.all {
            let reached = self.reached.get(kind).cloned().unwrap_or_default();
            write!(f, "  {:>7} of {:>3} {kind}", all.intersection(&reached).count(), all.len())?;
            let missing: Vec<_> = all.difference(&reached).map(String::as_str).collect();
            if !missing.is_empty() {
                write!(f, ", not: {}", missing.join(" "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_heading_with_nothing_below_it() {
        let told = |lines: &[&str]| {
            let mut tally = Tally::default();
            for line in lines {
                assert!(tally.take(line));
            }
            tally.to_string()
        };
        assert_eq!(told(&[]), "tried     none of the tests that ran tells what it tries\n");
        assert_eq!(told(&["@count a=3"]), "tried\n               3 a\n");
        assert_eq!(told(&["@all errors Empty"]), "reached\n        0 of   1 errors, not: Empty\n");
    }

    #[test]
    fn counts_add_up_and_what_is_missing_is_named() {
        let mut tally = Tally::default();
        let lines = [
            "@count test=a probes=3 operations=1",
            "@count test=b probes=4",
            "@all errors Overlap Empty",
            "@reached errors Empty",
        ];
        assert!(lines.into_iter().all(|line| tally.take(line)) && !tally.take("test a ... ok"));
        let text = "tried\n               1 operations\n               7 probes\nreached\n        1 of   2 errors, not: Overlap\n";
        assert_eq!(tally.to_string(), text);
    }
}

//! `cargo xtask fuzz`: libFuzzer over the targets of `kernel/mm/fuzz` and of `kernel/devices/fuzz`, for a while.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use crate::build;
use crate::nightly;
use crate::status::{Status, Stop};
use crate::tool::in_path;

/// What to fuzz, and how long.
#[derive(Args, Clone, Debug)]
pub struct Fuzz {
    /// The target; each of them in turn if none is given
    target: Option<Target>,
    /// How long each runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// A fuzz target.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Hot-plug on a hostile machine: geometries, operations, failing allocations, schedules
    Hotplug,
    /// The adversary against traces of others
    Trace,
    /// The configuration of a virtio-mem device
    Config,
    /// ACPI's tables, and of these the one that names persistent memory
    Nfit,
    /// What a persistent device begins with
    #[value(name = "info_block")]
    InfoBlock,
    /// The directory of QEMU's files
    #[value(name = "fw_cfg")]
    FwCfg,
}

/// A package whose targets they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Package {
    Vmemmap,
    Devices,
}

impl Package {
    const fn name(self) -> &'static str {
        match self {
            Self::Vmemmap => "vmemmap",
            Self::Devices => "devices",
        }
    }

    /// Where the targets are, in the workspace.
    const fn room(self) -> &'static str {
        match self {
            Self::Vmemmap => "kernel/mm/fuzz",
            Self::Devices => "kernel/devices/fuzz",
        }
    }
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Hotplug => "hotplug",
            Self::Trace => "trace",
            Self::Config => "config",
            Self::Nfit => "nfit",
            Self::InfoBlock => "info_block",
            Self::FwCfg => "fw_cfg",
        }
    }

    const fn package(self) -> Package {
        match self {
            Self::Hotplug | Self::Trace => Package::Vmemmap,
            Self::Config | Self::Nfit | Self::InfoBlock | Self::FwCfg => Package::Devices,
        }
    }

    /// The longest input that is worth trying.
    const fn most_bytes(self) -> u32 {
        match self {
            Self::Hotplug => 400,
            Self::Trace => 16384,
            // The space, and a little more.
            Self::Config => 64,
            Self::Nfit | Self::FwCfg => 2048,
            // Which kind, and the block.
            Self::InfoBlock => 4097,
        }
    }

    /// Words of its input, if it reads any.
    fn dictionary(self) -> Option<String> {
        let file = build::workspace().join(self.package().room()).join(self.name()).with_extension("dict");
        file.is_file().then(|| format!("-dict={}", file.display()))
    }

    /// Inputs that are kept, with the sources.
    fn kept(self) -> PathBuf {
        build::workspace().join(self.package().room()).join("corpus").join(self.name())
    }
}

impl Fuzz {
    /// Runs the command.
    pub fn run(&self) -> Result<Status, Stop> {
        nightly::ensure("libFuzzer needs its instrumentation")?;
        if in_path("cargo-fuzz").is_none() {
            return Err(Stop::machine("missing: cargo-fuzz; install with: cargo install cargo-fuzz"));
        }
        let targets = self.target.map_or(Target::value_variants().to_vec(), |target| vec![target]);
        for target in targets {
            if !self.fuzz(target)? {
                return Ok(Status::Fail);
            }
        }
        Ok(Status::Pass)
    }

    /// Whether nothing was found.
    fn fuzz(&self, target: Target) -> Result<bool, Stop> {
        let name = target.name();
        let room = build::target_directory().join("fuzz");
        let (corpus, found) = (room.join("corpus").join(name), room.join("found"));
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&found)?;
        if !cargo_fuzz("build", target, &room).stderr(Stdio::inherit()).status()?.success() {
            return Err(Stop { status: Status::Fail, why: format!("the fuzz target {name} does not compile") });
        }
        let mut run = cargo_fuzz("run", target, &room);
        run.args([corpus.as_path(), &target.kept()]).arg("--");
        run.arg(format!("-max_total_time={}", self.seconds));
        run.arg(format!("-max_len={}", target.most_bytes()));
        run.arg(format!("-artifact_prefix={}/{name}-", found.display()));
        run.args(["-timeout=60", "-print_final_stats=1"]).args(target.dictionary());
        println!("fuzz      {name}, {} s, log {}", self.seconds, room.join(name).with_extension("log").display());
        let mut child = run.stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().map(BufReader::new);
        let mut log = std::fs::File::create(room.join(name).with_extension("log"))?;
        let mut said = Said::default();
        for line in stderr.into_iter().flat_map(BufReader::split_lines) {
            writeln!(log, "{line}")?;
            said.hear(&line);
        }
        let fine = child.wait()?.success();
        said.show(target);
        if !fine && said.input.is_none() {
            return Err(Stop::machine(format!("libFuzzer did not run to its end: {}", said.last)));
        }
        Ok(fine)
    }
}

/// Lines of what may not be text.
trait SplitLines {
    fn split_lines(self) -> impl Iterator<Item = String>;
}

impl<R: std::io::Read> SplitLines for BufReader<R> {
    fn split_lines(self) -> impl Iterator<Item = String> {
        self.split(b'\n').map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned())
    }
}

/// A call of cargo-fuzz. It instruments for coverage only: memory errors are Miri's to find, words are in a dictionary, and
/// this is several times as fast.
fn cargo_fuzz(command: &str, target: Target, room: &Path) -> Command {
    let mut cargo = nightly::cargo(&["fuzz", command, "--fuzz-dir", target.package().room()]);
    cargo.args(["--sanitizer", "none", "--no-trace-compares", "--target-dir"]).arg(room).arg(target.name());
    cargo
}

/// What libFuzzer said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    executions: String,
    edges: String,
    corpus: String,
    /// Where it panicked, and the line behind it.
    panic: Vec<String>,
    /// The input that did it.
    input: Option<String>,
    last: String,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let after = |key| line.split_once(key).and_then(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned);
        if line.contains(" cov: ") {
            self.edges = after(" cov: ").unwrap_or_default();
            self.corpus = after(" corp: ").unwrap_or_default();
        }
        if let Some(count) = after("stat::number_of_executed_units:") {
            self.executions = count;
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.input = Some(file.to_owned());
        }
        let wanted = line.contains("panicked at") || line.starts_with("SUMMARY:") && self.panic.is_empty();
        if wanted || self.panic.len() == 1 && self.panic[0].contains("panicked at") {
            self.panic.push(line.to_owned());
        }
        if !line.trim().is_empty() {
            line.clone_into(&mut self.last);
        }
    }

    fn show(&self, target: Target) {
        let (name, room, package) = (target.name(), target.package().room(), target.package().name());
        println!("{name:9} {} executions, {} edges, corpus {}", self.executions, self.edges, self.corpus);
        let Some(input) = &self.input else { return println!("verdict   nothing found") };
        println!("FOUND     {input}");
        self.panic.iter().for_each(|line| println!("          {line}"));
        println!(
            "replay    cargo +nightly fuzz run --fuzz-dir {room} --sanitizer none --no-trace-compares {name} {input}"
        );
        println!("          or copy it to {room}/corpus/{name} and: cargo test -p {package} --test corpus");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_found_is_read_from_its_log() {
        let mut said = Said::default();
        for line in [
            "INFO: Running with entropic power schedule (0xFF, 100).",
            "#1617\tNEW    cov: 5686 ft: 16596 corp: 234/12Kb lim: 48 exec/s: 22 rss: 91Mb L: 30/48 MS: 1 CopyPart-",
            "thread '<unnamed>' (175) panicked at kernel/mm/src/sim/operand.rs:67:29:",
            "attempt to add with overflow",
            "stack backtrace:",
            "SUMMARY: libFuzzer: deadly signal",
            "artifact_prefix='found/'; Test unit written to found/hotplug-crash-80",
            "###### Recommended dictionary. ######",
            "stat::number_of_executed_units: 1620",
            "",
        ] {
            said.hear(line);
        }
        assert_eq!((&*said.executions, &*said.edges, &*said.corpus), ("1620", "5686", "234/12Kb"));
        assert_eq!(said.input.as_deref(), Some("found/hotplug-crash-80"));
        assert_eq!(said.panic.len(), 2, "{said:?}");
        assert_eq!(said.panic[1], "attempt to add with overflow");
    }

    #[test]
    fn what_is_no_panic_has_libfuzzers_own_words() {
        let mut said = Said::default();
        said.hear("SUMMARY: libFuzzer: timeout");
        assert_eq!(said.panic, ["SUMMARY: libFuzzer: timeout"]);
    }

    #[test]
    fn every_target_has_a_kept_corpus_and_a_source() {
        for target in Target::value_variants() {
            let inputs = target.kept().read_dir().unwrap_or_else(|error| panic!("{target:?}: {error}")).count();
            assert!((1..300).contains(&inputs), "{target:?} has {inputs} inputs");
            let targets = build::workspace().join(target.package().room()).join("fuzz_targets");
            let source = targets.join(target.name()).with_extension("rs");
            assert!(source.is_file(), "{}", source.display());
        }
    }
}

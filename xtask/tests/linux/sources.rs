//! The names of all tests, as they are in the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The harness's own tests whose names are made of two parts.
const GRANULES: [&str; 3] = ["4k", "16k", "64k"];

/// Unit tests by their module, integration tests by their file, bootable ones and those of the harness by their room.
pub fn tests(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for krate in ["kernel/mm/src/lib.rs", "xtask/src/lib.rs"] {
        unit_tests(&Module::root(root.join(krate)), "", &mut names);
    }
    for folder in ["kernel/mm/tests", "tests/mutants/tests", "xtask/tests"] {
        for file in rust_files(&root.join(folder)) {
            let name = file.file_stem().expect("it ends in .rs").to_string_lossy().into_owned();
            unit_tests(&Module::root(file), &format!("{name}::"), &mut names);
        }
    }
    names.extend(tests::CASES.iter().map(|case| case.name.to_owned()));
    names.extend(harness(root));
    names
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn rust_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a file").path()).filter(|path| path.extension().is_some_and(|end| end == "rs"))
}

/// A module's file, and the folder in which the modules are that it declares.
struct Module {
    file: PathBuf,
    folder: PathBuf,
}

impl Module {
    /// The root of a crate, or what a `#[path]` names.
    fn root(file: PathBuf) -> Self {
        Self { folder: file.with_file_name(""), file }
    }

    fn below(&self, name: &str) -> Self {
        let (file, folder) = (self.folder.join(format!("{name}.rs")), self.folder.join(name));
        if file.exists() { Self { file, folder } } else { Self { file: folder.join("mod.rs"), folder } }
    }
}

/// The tests in `module`, whose name is `prefix`, and in the modules below it.
fn unit_tests(module: &Module, prefix: &str, names: &mut BTreeSet<String>) {
    let mut inline = String::new();
    let mut above = Above::default();
    let mut in_macro = false;
    for line in read(&module.file).lines() {
        let code = line.trim_start();
        if line == "}" {
            (inline, in_macro) = (String::new(), false);
        } else if line == "every_granule! {" {
            in_macro = true;
        } else if let Some(name) = declared(line, "{") {
            inline = format!("{name}::");
        } else if let Some(name) = declared(line, ";") {
            let by_path = above.path.take().map(|path| Module::root(module.file.with_file_name(path)));
            unit_tests(&by_path.unwrap_or_else(|| module.below(name)), &format!("{prefix}{name}::"), names);
        } else if let Some((name, _)) = code.split_once(" => ").filter(|_| in_macro) {
            names.insert(format!("{prefix}{name}"));
        } else if let Some(name) = function(code).filter(|_| above.test) {
            names.insert(format!("{prefix}{inline}{name}"));
        }
        above.take(code);
    }
}

/// What the lines right above an item say of it.
#[derive(Default)]
struct Above {
    test: bool,
    path: Option<String>,
}

impl Above {
    fn take(&mut self, code: &str) {
        if !code.starts_with('#') && !code.starts_with("///") {
            *self = Self::default();
        }
        self.test |= code == "#[test]" || code.starts_with("/// ```compile_fail");
        if let Some(path) = code.strip_prefix("#[path = \"").and_then(|path| path.strip_suffix("\"]")) {
            self.path = Some(path.to_owned());
        }
    }
}

/// The name of the module that the line declares, or opens.
fn declared<'a>(line: &'a str, end: &str) -> Option<&'a str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(end).map(str::trim_end)
}

fn function(code: &str) -> Option<&str> {
    Some(code.strip_prefix("fn ")?.split_once('(')?.0)
}

/// `refusals::`, `commands::` and `smp::`, which have no function each.
fn harness(root: &Path) -> impl Iterator<Item = String> {
    let folder = root.join("tests/tests/qemu");
    let refused = read(&folder.join("refusals.rs"));
    let refused: Vec<_> = refused
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches('(').strip_prefix('"')?.split_once("\","))
        .map(|(name, _)| format!("refusals::{name}"))
        .collect();
    let named: Vec<_> = ["commands", "smp"].into_iter().flat_map(|room| quoted(&folder, room)).collect();
    refused.into_iter().chain(named)
}

/// The names of a room's tests that stand in its file, quoted.
fn quoted(folder: &Path, room: &str) -> Vec<String> {
    let (file, start) = (read(&folder.join(format!("{room}.rs"))), format!("{room}::"));
    let names = file.split('"').skip(1).step_by(2).filter(|text| text.starts_with(&start));
    names.flat_map(|name| GRANULES.map(|granule| name.replace("{granule}", granule))).collect()
}

//! `mutants-host [--rules] [NAME]`: runs the suite and prints its outcome as JSON.

use mutants::host;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter = words.iter().find(|word| !word.starts_with("--")).map_or("", String::as_str);
    println!("{}", host::json(&host::run(filter, words.iter().any(|word| word == "--rules"))));
}

//! A file of ACPI tables that says anything: the walk ends, stays inside, and every range that it finds is one.

use devices::acpi::{HEADER_BYTES, Tables};
use devices::nfit;

/// Walks all tables of `input`, and reads each as an NFIT.
pub fn run(input: &[u8]) {
    let mut bytes = 0;
    for table in Tables::new(input) {
        let Ok(table) = table else { continue };
        bytes += table.bytes().len();
        assert!(table.bytes().len() >= HEADER_BYTES && bytes <= input.len(), "{bytes} of {} bytes", input.len());
        for range in nfit::persistent(table).into_iter().flatten() {
            assert!(!range.is_empty(), "{range}");
        }
    }
}

//! A file of ACPI tables that says anything: no lengths make the walk of it panic, leave it, or go on without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| devices_fuzz::nfit::run(input));

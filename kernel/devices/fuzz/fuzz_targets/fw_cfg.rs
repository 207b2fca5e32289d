//! A `fw_cfg` device that says anything: no directory makes the walk of it panic or go on without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| devices_fuzz::fw_cfg::run(input));

//! The first 4 KiB of a device, of anybody: none but our own are taken for ours.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| devices_fuzz::info_block::run(input));

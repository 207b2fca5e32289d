//! The configuration space of a virtio-mem device that says anything: none that can't be is taken.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| devices_fuzz::config::run(input));

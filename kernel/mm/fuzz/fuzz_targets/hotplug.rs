//! Hot-plug on a hostile machine: no input makes it break a rule, lose a frame, or panic.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vmemmap_fuzz::hotplug::run(input));

//! The adversary against traces of others: no text and no events make it panic.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vmemmap_fuzz::trace::run(input));

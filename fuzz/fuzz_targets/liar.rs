//! Engines among which one lies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemesh_fuzz::liar(data));

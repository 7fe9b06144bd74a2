//! A mesh of engines under any order of events.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemesh_fuzz::honest(data));

//! The environment of a node.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemesh_fuzz::settings(data));

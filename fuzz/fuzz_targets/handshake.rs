//! The messages of joining.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemesh_fuzz::handshake(data));

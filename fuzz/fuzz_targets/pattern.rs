//! The pattern files of the Game of Life.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemesh_fuzz::pattern(data));

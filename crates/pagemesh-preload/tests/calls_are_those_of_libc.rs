//! A library that stands in front of libc in every program must be noticed by none: for private buffers each call returns
//! what libc returns, errno included; for shared ones too, although the kernel cannot use their pages by itself.
//!
//! The programs are in C, built here by the system's compiler, and run with and without the library.

#[path = "../../pagemesh/tests/cluster/public_folder.rs"]
mod public_folder;

use public_folder::public_folder;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;

/// Calls of each run; every kind of call comes up some twenty times.
const CALLS: &str = "500";

/// A folder with the programs, built once.
fn programs() -> &'static Path {
    static BUILT: Once = Once::new();
    let folder = public_folder();
    BUILT.call_once(|| {
        build(folder, "random_calls", "random_calls", &[]);
        build(folder, "random_calls", "random_calls_checked", &["-D_FORTIFY_SOURCE=3"]);
        build(folder, "waiting_calls", "waiting_calls", &[]);
    });
    folder
}

fn build(folder: &Path, source: &str, program: &str, options: &[&str]) {
    let source = format!("{}/tests/c/{source}.c", env!("CARGO_MANIFEST_DIR"));
    let built = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result"])
        .args(["-U_FORTIFY_SOURCE", "-pthread"])
        .args(options)
        .args([&source, "-o"])
        .arg(folder.join(program))
        .arg("-ldl")
        .output()
        .expect("a C compiler is there: cc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// The library, which cargo builds beside the tests.
fn library() -> PathBuf {
    let tests = std::env::current_exe().expect("this program");
    let library = tests.with_file_name("libpagemesh_preload.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

fn run(program: &str, arguments: &[&str], preload: bool) -> Output {
    let mut command = Command::new(programs().join(program));
    command.args(arguments).env_remove("LD_PRELOAD");
    if preload {
        command.env("LD_PRELOAD", library());
    }
    command.output().expect("it runs")
}

fn calls(program: &str, mode: &str, seed: u32, preload: bool) -> String {
    let ran = run(program, &[mode, &seed.to_string(), CALLS], preload);
    assert!(ran.status.success(), "{program} {mode} {seed}: {ran:?}");
    String::from_utf8(ran.stdout).expect("text")
}

#[track_caller]
fn assert_equal(found: &str, expected: &str, what: &str) {
    assert_eq!(found.lines().count(), expected.lines().count(), "{what}");
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{what}, line {}", number + 1);
    }
}

fn compare(program: &str, seeds: std::ops::Range<u32>) {
    for seed in seeds {
        let expected = calls(program, "private", seed, false);
        for mode in ["private", "kept", "taken"] {
            let found = calls(program, mode, seed, true);
            assert_equal(&found, &expected, &format!("{program} {mode} {seed}"));
        }
    }
}

#[test]
fn random_calls_return_what_they_return_without_it() {
    compare("random_calls", 0..3);
}

#[test]
fn so_do_the_forms_that_check_the_size_of_the_buffer() {
    compare("random_calls_checked", 3..5);
}

#[test]
fn a_buffer_that_is_too_small_is_still_found_out() {
    let program = std::fs::read(programs().join("random_calls_checked")).expect("it was built");
    for name in ["__read_chk", "__pread_chk", "__recv_chk", "__recvfrom_chk", "__fread_chk"] {
        let called = program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        assert!(called, "the compiler did not make use of {name}");
    }
    // 2457600 bytes of room: libc ends the program for asking for more, whatever stands in front of it.
    for mode in ["private", "kept"] {
        let ran = run("random_calls_checked", &[mode, "too-many", "1"], true);
        assert_eq!(ran.status.signal(), Some(6), "{mode}: {ran:?}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("buffer overflow detected"), "{mode}: {ran:?}");
    }
}

#[test]
fn nothing_is_pinned_while_a_call_waits_and_signals_and_cancels_get_through() {
    let ran = run("waiting_calls", &[], true);
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(ran.stdout, b"ok\n");
}

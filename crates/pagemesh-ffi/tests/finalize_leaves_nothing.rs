//! A server that joins and leaves meshes for months must not grow: after dsm_finalize there is no thread, descriptor, mapping or
//! signal handler of ours, and no memory that nobody can free.

mod common;

use common::{Linkage, Process, command, compile, here, program, settings, start_nodes};

#[test]
fn a_hundred_rounds_alone() {
    let rounds = program("rounds.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&rounds, 1, *setting, &["100"]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn many_rounds_of_two() {
    let rounds = program("rounds.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&rounds, 2, *setting, &["40"]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn a_sanitizer_finds_nothing() {
    // With the static library: its allocations are then the program's, and watched. The sanitizer's own thread stays out of the count.
    let source = here().join("tests/c/calls.c");
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let calls = compile(&source, Linkage::Static, &options);
    let log = common::folder().join("sanitized.csv");
    let said = Process::start(command(&calls).arg(&log).env("ASAN_OPTIONS", "detect_leaks=1")).said();
    assert_eq!(said, ["done"]);
}

/// The same, over and over: what is not given back would be found at the end. The handlers are the program's here, not the sanitizer's.
#[test]
fn a_sanitizer_finds_nothing_after_a_hundred_rounds() {
    let source = here().join("tests/c/rounds.c");
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let rounds = compile(&source, Linkage::Static, &options);
    let mut command = command(&rounds);
    command.arg("100").env("ASAN_OPTIONS", "detect_leaks=1:handle_segv=0:handle_sigbus=0");
    command.env("PAGEMESH_NODE", "0").env("PAGEMESH_NODES", "1").env("PAGEMESH_COORDINATOR", "127.0.0.1:1");
    assert_eq!(Process::start(&mut command).said(), ["done"]);
}

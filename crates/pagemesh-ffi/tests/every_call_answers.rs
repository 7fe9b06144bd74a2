//! A C program finds out what a call does with a wrong argument when it passes one: then it has to get an error and a text, not a
//! crash, before it has joined and after it has left too. Every call, by both libraries.

mod common;

use common::{Linkage, Process, Setting, command_in, folder, program, run, settings};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn every_call_answers(linkage: Linkage) {
    let calls = program("calls.c", linkage);
    for setting in settings() {
        every_call_answers_in(*setting, &calls);
    }
}

fn every_call_answers_in(setting: Setting, calls: &Path) {
    // For everybody to write to, as /tmp is.
    let logs = tempfile::tempdir_in(folder()).expect("a folder");
    fs::set_permissions(logs.path(), Permissions::from_mode(0o1777)).expect("ours");
    let log = logs.path().join("log.csv");
    assert_eq!(Process::start(command_in(calls, setting).arg(&log)).said(), ["done"], "{setting}");
    let lines = fs::read_to_string(&log).expect("the log was written");
    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3, "titles and two exports: {lines:?}");
    assert_eq!(lines[0][..3], ["time_ms", "node_id", "page_faults"]);
    assert!(lines.iter().all(|line| line.len() == 2 + 19), "{lines:?}");
    assert!(lines[1].iter().all(|number| number.parse::<u64>().is_ok()), "{lines:?}");
}

#[test]
fn of_the_shared_library() {
    every_call_answers(Linkage::Shared);
}

#[test]
fn of_the_static_library() {
    every_call_answers(Linkage::Static);
}

#[test]
fn those_on_locks_semaphores_and_conditions_too() {
    for linkage in [Linkage::Shared, Linkage::Static] {
        let objects = program("objects.c", linkage);
        for setting in settings() {
            let said = Process::start(&mut command_in(&objects, *setting)).said();
            assert_eq!(said, ["done"], "{linkage:?} {setting}");
        }
    }
}

/// From any thread, at any time: also while others join and leave.
#[test]
fn while_others_join_and_leave() {
    assert_eq!(run::<&str>(&program("threads.c", Linkage::Shared), &[]), ["done"]);
}

#[test]
fn only_printing_calls_print() {
    use common::command;
    let log = folder().join("quiet.csv");
    let quiet = Process::start(command(&program("calls.c", Linkage::Shared)).arg(&log)).output();
    let titles = quiet.iter().filter(|line| line.as_str() == "node 0 of 1").count();
    let summaries = quiet.iter().filter(|line| line.starts_with("node 0 of 1: ")).count();
    let numbers = quiet.iter().filter(|line| line.starts_with("  ")).count();
    assert_eq!((titles, summaries, numbers, quiet.len()), (1, 1, 19, 22), "{quiet:#?}");
}

//! A C program finds out what a call does with a wrong argument when it passes one: then it has to get an error and a text, not a
//! crash, before it has joined and after it has left too. Every call, by both libraries.

mod common;

use common::{Linkage, folder, program, run};

fn every_call_answers(linkage: Linkage) {
    let log = folder().join(format!("{linkage:?}.csv"));
    assert_eq!(run(&program("calls.c", linkage), &[&log]), ["done"]);
    let lines = std::fs::read_to_string(&log).expect("the log was written");
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

/// From any thread, at any time: also while others join and leave.
#[test]
fn while_others_join_and_leave() {
    assert_eq!(run::<&str>(&program("threads.c", Linkage::Shared), &[]), ["done"]);
}

#[test]
fn only_printing_calls_print() {
    use common::{Process, command};
    let log = folder().join("quiet.csv");
    let quiet = Process::start(command(&program("calls.c", Linkage::Shared)).arg(&log)).output();
    let titles = quiet.iter().filter(|line| line.as_str() == "node 0 of 1").count();
    let summaries = quiet.iter().filter(|line| line.starts_with("node 0 of 1: ")).count();
    let numbers = quiet.iter().filter(|line| line.starts_with("  ")).count();
    assert_eq!((titles, summaries, numbers, quiet.len()), (1, 1, 19, 22), "{quiet:#?}");
}

//! A command line that makes no sense starts nothing, says what is wrong with it and returns 2, as every command does.

mod run_support;

use std::process::Command;

use run_support::{PAGEMESH, finish};

#[test]
fn bad_arguments_name_what_is_wrong() {
    let cases: [(&[&str], &str); 8] = [
        (&["run", "-n", "0", "true"], "0 is not in 1..=64"),
        (&["run", "-n", "65", "true"], "65 is not in 1..=64"),
        (&["run", "-n", "-1", "true"], "-1"),
        (&["run", "-n", "many", "true"], "invalid"),
        (&["run", "true"], "--nodes <N>"),
        (&["run", "-n", "2"], "<PROGRAM>"),
        (&["run", "-n", "2", "--"], "<PROGRAM>"),
        (&["run", "-n", "2", "--no-such-option", "true"], "--no-such-option"),
    ];
    for (arguments, part) in cases {
        let mut command = Command::new(PAGEMESH);
        command.args(arguments);
        let finished = finish(command);
        assert_eq!(finished.code(), Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.err().contains(part), "{arguments:?}: {finished:?}");
        assert!(finished.out.is_empty());
    }
}

#[test]
fn the_help_tells_what_a_program_can_rely_on() {
    let mut command = Command::new(PAGEMESH);
    command.args(["run", "--help"]);
    let finished = finish(command);
    assert_eq!(finished.code(), Some(0));
    for word in
        ["PAGEMESH_NODE", "PAGEMESH_NODES", "PAGEMESH_COORDINATOR", "stdin", "--keep-going", "--no-prefix"]
    {
        assert!(finished.out().contains(word), "{word}");
    }
    // Hidden commands stay hidden.
    assert!(!finished.out().contains("__"));
}

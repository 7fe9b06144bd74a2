//! Nodes of one mesh depend on each other: when one fails, the others must not run on for ever, and the user must learn
//! which one failed and how, both from the message and from the exit code.

mod run_support;

use std::io::Write;

use run_support::{Launcher, finish, is_alive, numbers, run_script, until_gone};

#[test]
fn the_first_failing_node_is_named_and_its_code_returned() {
    let finished = finish(run_script(&["-n", "3"], "[ $PAGEMESH_NODE = 1 ] && exit 7; exec sleep 1000"));
    assert_eq!(finished.code(), Some(7));
    assert_eq!(finished.err(), "pagemesh run: node 1 exited with code 7\n");
}

#[test]
fn a_killed_node_is_named_with_its_signal() {
    let finished = finish(run_script(&["-n", "3"], "[ $PAGEMESH_NODE = 2 ] && kill -9 $$; exec sleep 1000"));
    assert_eq!(finished.code(), Some(137));
    assert_eq!(finished.err(), "pagemesh run: node 2 was killed by signal 9 (SIGKILL)\n");
}

#[test]
fn the_others_can_report_before_they_are_told_to_end() {
    // Node 0 ends by itself after a moment, as a node does that has lost a peer: no SIGTERM may disturb it.
    let script =
        "trap 'echo disturbed' TERM; [ $PAGEMESH_NODE = 1 ] && exit 3; sleep 1; echo lost a peer; exit 4";
    let finished = finish(run_script(&["-n", "2"], script));
    assert_eq!(finished.code(), Some(3));
    assert_eq!(finished.out(), "[0] lost a peer\n");
    let expected = "pagemesh run: node 1 exited with code 3\npagemesh run: node 0 exited with code 4\n";
    assert_eq!(finished.err(), expected);
}

#[test]
fn the_others_are_told_with_sigterm() {
    let script =
        "[ $PAGEMESH_NODE = 0 ] && exit 3; trap 'echo told; exit 0' TERM; while :; do sleep 0.1; done";
    let finished = finish(run_script(&["-n", "3"], script));
    assert_eq!(finished.code(), Some(3));
    assert_eq!(finished.out().matches("told").count(), 2, "{finished:?}");
    // The shells have a word to say about their `sleep`; the launcher's only one is this.
    let messages = finished.err();
    let messages: Vec<&str> = messages.lines().filter(|line| line.starts_with("pagemesh")).collect();
    assert_eq!(messages, ["pagemesh run: node 0 exited with code 3"]);
}

#[test]
fn those_that_do_not_listen_are_killed_with_all_they_started() {
    let script = "[ $PAGEMESH_NODE = 0 ] && { read go; exit 3; }; trap '' TERM; sleep 1000 & echo ids $$ $!; \
                  while :; do sleep 0.1; done";
    let mut launcher = Launcher::start(run_script(&["-n", "2"], script));
    let ids = numbers(&launcher.wait_for("ids", 1), "ids");
    assert!(ids.len() == 2 && ids.iter().all(|id| is_alive(*id)));
    launcher.stdin().write_all(b"go\n").unwrap();
    let finished = launcher.finish();
    until_gone(&ids);
    assert_eq!(finished.code(), Some(3));
    assert!(
        finished.err().contains("pagemesh run: node 1 did not end in time and is killed"),
        "{finished:?}"
    );
}

#[test]
fn a_stopped_node_ends_too() {
    let script = "[ $PAGEMESH_NODE = 0 ] && { read go; exit 3; }; echo ids $$; kill -STOP $$";
    let mut launcher = Launcher::start(run_script(&["-n", "2"], script));
    let ids = numbers(&launcher.wait_for("ids", 1), "ids");
    launcher.stdin().write_all(b"go\n").unwrap();
    assert_eq!(launcher.finish().code(), Some(3));
    until_gone(&ids);
}

#[test]
fn with_keep_going_the_others_run_on() {
    let script =
        "[ $PAGEMESH_NODE = 1 ] && exit 5; read line; sleep 0.1; echo finished; [ $PAGEMESH_NODE != 2 ]";
    let mut launcher = Launcher::start(run_script(&["-n", "4", "--keep-going"], script));
    launcher.wait_for("[3] finished", 1);
    launcher.stdin().write_all(b"go on\n").unwrap();
    let finished = launcher.finish();
    assert_eq!(finished.code(), Some(5));
    assert_eq!(finished.out().matches("finished").count(), 3);
    let err = finished.err();
    assert!(
        err.contains("node 1 exited with code 5\n") && err.contains("node 2 exited with code 1\n"),
        "{err}"
    );
}

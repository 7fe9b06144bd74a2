//! A program finds in its environment all it needs to be one node of N: without that nothing works, and whoever writes
//! a program relies on these three names. Programs that use none of it must run just as well.

mod run_support;

use std::io::Write;
use std::net::TcpListener;

use run_support::{Launcher, PAGEMESH, finish, run_script};

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_node_gets_its_number_and_the_number_of_nodes() {
    let finished = finish(run_script(&["-n", "3"], "echo node $PAGEMESH_NODE of $PAGEMESH_NODES"));
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert_eq!(sorted(&finished.out()), ["[0] node 0 of 3", "[1] node 1 of 3", "[2] node 2 of 3"]);
    assert_eq!(finished.err(), "");
}

#[test]
fn sixty_four_nodes_are_possible() {
    let finished = finish(run_script(&["-n", "64"], "echo $PAGEMESH_NODE"));
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let out = finished.out();
    let mut numbers: Vec<u32> =
        out.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..64).collect::<Vec<u32>>());
}

#[test]
fn all_nodes_get_one_coordinator_on_which_node_0_can_listen() {
    let mut launcher =
        Launcher::start(run_script(&["-n", "3"], "echo at $PAGEMESH_COORDINATOR; read line; :"));
    let lines = launcher.wait_for("at ", 3);
    let address = lines[0].split_once("at ").unwrap().1.trim().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(lines.iter().all(|line| line.trim().ends_with(&address)), "{lines:?}");
    // As node 0 does: the launcher still holds its reservation.
    let listener = TcpListener::bind(&address).unwrap();
    drop(listener);
    assert_eq!(launcher.finish().code(), Some(0));
}

#[test]
fn the_environment_reaches_the_nodes() {
    let mut command = run_script(&["-n", "2"], "echo $GREETING");
    command.env("GREETING", "good morning").env("PAGEMESH_NODE", "17");
    assert_eq!(sorted(&finish(command).out()), ["[0] good morning", "[1] good morning"]);
}

#[test]
fn arguments_arrive_as_they_were_given() {
    let mut command = std::process::Command::new(PAGEMESH);
    command.args([
        "run",
        "-n",
        "1",
        "printf",
        "<%s>\n",
        "-n",
        "two words",
        "",
        "--keep-going",
        "$HOME",
        "--",
        "*",
    ]);
    let finished = finish(command);
    let expected = "[0] <-n>\n[0] <two words>\n[0] <>\n[0] <--keep-going>\n[0] <$HOME>\n[0] <-->\n[0] <*>\n";
    assert_eq!(finished.out(), expected);
}

#[test]
fn node_0_reads_stdin_and_the_others_read_nothing() {
    let mut launcher =
        Launcher::start(run_script(&["-n", "3"], "while read line; do echo got $line; done; echo end"));
    launcher.stdin().write_all(b"one\ntwo\n").unwrap();
    launcher.wait_for("[0] got two", 1);
    launcher.close_stdin();
    let finished = launcher.finish();
    let lines = ["[0] end", "[0] got one", "[0] got two", "[1] end", "[2] end"];
    assert_eq!(sorted(&finished.out()), lines);
}

#[test]
fn a_node_that_ends_well_does_not_end_the_others() {
    let script = "[ $PAGEMESH_NODE = 1 ] && { echo leaving; exit 0; }; read line; echo still here";
    let mut launcher = Launcher::start(run_script(&["-n", "2"], script));
    launcher.wait_for("[1] leaving", 1);
    launcher.stdin().write_all(b"go on\n").unwrap();
    let finished = launcher.finish();
    assert_eq!(finished.code(), Some(0));
    assert!(finished.out().contains("[0] still here\n"), "{finished:?}");
}

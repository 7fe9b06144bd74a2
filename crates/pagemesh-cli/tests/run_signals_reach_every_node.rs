//! Whoever stops the launcher means the whole mesh: the signal goes to every node and all it started, once; nodes may
//! tidy up, but not for ever; and the exit code tells which signal it was.

mod run_support;

use std::fs;
use std::process::Command;
use std::time::Instant;

use run_support::{Launcher, PAGEMESH, PATIENCE, numbers, run_script, until, until_gone};
use rustix::process::Signal;

const TIDY: &str = "for s in INT TERM HUP QUIT; do trap \"echo got $s; exit 0\" $s; done; echo ready; \
                    while :; do sleep 0.1; done";

#[test]
fn every_ending_signal_is_passed_on_and_told_by_the_code() {
    let signals = [
        (Signal::INT, "INT", 130),
        (Signal::TERM, "TERM", 143),
        (Signal::HUP, "HUP", 129),
        (Signal::QUIT, "QUIT", 131),
    ];
    for (signal, name, code) in signals {
        let mut launcher = Launcher::start(run_script(&["-n", "3"], TIDY));
        launcher.wait_for("ready", 3);
        launcher.signal(signal);
        let finished = launcher.finish();
        assert_eq!(finished.code(), Some(code), "{finished:?}");
        assert_eq!(finished.out().matches(&format!("got {name}\n")).count(), 3, "{finished:?}");
        assert!(!finished.err().contains("pagemesh run:"), "{finished:?}");
    }
}

#[test]
fn what_a_node_started_gets_the_signal_too() {
    let script = "sleep 1000 & echo ids $!; wait";
    let mut launcher = Launcher::start(run_script(&["-n", "2"], script));
    let ids = numbers(&launcher.wait_for("ids", 2), "ids");
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.finish().code(), Some(143));
    until_gone(&ids);
}

#[test]
fn nodes_that_ignore_the_signal_are_killed_in_the_end_and_get_it_once() {
    let script = "trap 'echo counted' INT; echo ready; while :; do sleep 0.1; done";
    let mut launcher = Launcher::start(run_script(&["-n", "2"], script));
    launcher.wait_for("ready", 2);
    launcher.signal(Signal::INT);
    let finished = launcher.finish();
    assert_eq!(finished.code(), Some(130));
    assert_eq!(finished.out().matches("counted").count(), 2, "{finished:?}");
    for node in 0..2 {
        let line = format!("pagemesh run: node {node} did not end in time and is killed\n");
        assert!(finished.err().contains(&line), "{finished:?}");
    }
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let mut launcher =
        Launcher::start(run_script(&["-n", "2"], "trap '' INT; echo ready; while :; do sleep 0.1; done"));
    launcher.wait_for("ready", 2);
    // Two that come together count as one, so some are sent.
    let mut sent_at: Option<Instant> = None;
    until("the launcher ends", || {
        if sent_at.is_none_or(|at| at.elapsed() > PATIENCE / 200) && !launcher.has_ended() {
            launcher.signal(Signal::INT);
            sent_at = Some(Instant::now());
        }
        launcher.has_ended()
    });
    let finished = launcher.finish();
    assert_eq!(finished.code(), Some(130));
    assert_eq!(finished.err().matches("is killed at once").count(), 2, "{finished:?}");
}

#[test]
fn a_launcher_under_nohup_survives_the_hang_up() {
    let script = "trap '' HUP; exec \"$0\" run -n 1 -- sh -c 'echo ready; exec sleep 1000'";
    let mut command = Command::new("sh");
    command.args(["-c", script, PAGEMESH]);
    let mut launcher = Launcher::start(command);
    launcher.wait_for("ready", 1);
    let status = fs::read_to_string(format!("/proc/{}/status", launcher.pid())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&ignored, 16).unwrap() & 1, 1, "{status}");
    launcher.signal(Signal::HUP);
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.finish().code(), Some(143));
}

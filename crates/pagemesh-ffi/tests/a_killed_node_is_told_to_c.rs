//! A node that dies must not leave a C program hanging: whatever waits for it returns DSM_ERROR_NODE_DOWN within five seconds, and
//! dsm_finalize returns within another five. Real processes, killed by SIGKILL, with each pager.

mod common;

use common::{Linkage, PATIENCE, program, settings, start_nodes};
use std::time::Duration;

/// How soon a killed node is told, and how soon one can leave then.
const PROMISED: Duration = Duration::from_secs(5);

/// Kills one of three nodes, the coordinator and another, in every setting; what the others find is checked.
fn kill_one(what: &str) {
    let killed = program("killed.c", Linkage::Shared);
    for setting in settings() {
        for victim in [2, 0] {
            // Shown when the test fails.
            println!("{what}: node {victim} is killed, {setting}");
            let mut nodes = start_nodes(&killed, 3, *setting, &[what, &victim.to_string()]);
            for node in &nodes {
                assert_eq!(node.hear_within(PATIENCE), "ready");
            }
            nodes.remove(victim).kill();
            if what.ends_with("lock") && !what.starts_with("its") {
                let found: Vec<String> = nodes.iter().map(|node| node.hear_within(PROMISED)).collect();
                check_locks(&found);
            } else if what == "once" {
                let found: Vec<String> = nodes.iter().map(|node| node.hear_within(PROMISED)).collect();
                assert_eq!(found[0], found[1], "both are told of each");
            } else if what == "range" {
                let mut found: Vec<String> = nodes.iter().map(|node| node.hear_within(PROMISED)).collect();
                found.sort();
                assert_eq!(found, ["0", "1"], "one is told");
            }
            for end in ["told", "left"] {
                for node in &nodes {
                    assert_eq!(node.hear_within(PROMISED), end);
                }
            }
            for node in nodes {
                assert!(node.said().is_empty());
            }
        }
    }
}

/// Of 12 locks those with a home left were inherited, each by one of the two.
fn check_locks(found: &[String]) {
    let numbers =
        |text: &String| -> Vec<u32> { text.split(' ').map(|n| n.parse().expect("a number")).collect() };
    let [one, other] = [numbers(&found[0]), numbers(&found[1])];
    assert_eq!(one[1], other[1], "both find the same homes lost");
    assert_eq!(one[0] + other[0] + one[1], 12, "each lock is inherited once: {found:?}");
}

#[test]
fn in_a_barrier() {
    kill_one("barrier");
}

#[test]
fn in_a_broadcast() {
    kill_one("broadcast");
}

#[test]
fn in_a_wait_for_a_lock() {
    kill_one("lock");
}

/// Locked and left: nothing went to anyone when the node gave them back.
#[test]
fn in_a_wait_for_a_lock_that_it_kept() {
    kill_one("kept lock");
}

#[test]
fn in_a_wait_for_a_range() {
    kill_one("range");
}

#[test]
fn in_what_was_to_be_done_once() {
    kill_one("once");
}

#[test]
fn in_a_read_of_its_pages() {
    kill_one("pages");
}

#[test]
fn while_its_pages_are_read_and_written() {
    kill_one("reading");
}

#[test]
fn while_it_waits_itself() {
    kill_one("its barrier");
    kill_one("its wait for a lock");
}

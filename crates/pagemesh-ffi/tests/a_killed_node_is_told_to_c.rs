//! A node that dies must not leave a C program hanging: whatever waits for it returns DSM_ERROR_NODE_DOWN within five seconds, and
//! dsm_finalize returns within another five. Real processes, killed by SIGKILL, with each pager.

mod common;

use common::{Linkage, PATIENCE, pagers, program, start_nodes};
use std::time::Duration;

/// How soon a killed node is told, and how soon one can leave then.
const PROMISED: Duration = Duration::from_secs(5);

/// Kills node 2 of 3 and returns what the others have found.
fn kill_one(what: &str) {
    let killed = program("killed.c", Linkage::Shared);
    for pager in pagers() {
        let mut nodes = start_nodes(&killed, 3, pager, &[what]);
        for node in &nodes {
            assert_eq!(node.hear_within(PATIENCE), "ready");
        }
        nodes.pop().expect("node 2").kill();
        let found: Vec<String> = nodes.iter().map(|node| node.hear_within(PROMISED)).collect();
        if what == "lock" {
            check_locks(&found);
            for node in &nodes {
                assert_eq!(node.hear_within(PROMISED), "told");
            }
        } else {
            assert_eq!(found, ["told", "told"]);
        }
        for node in &nodes {
            assert_eq!(node.hear_within(PROMISED), "left");
        }
        for node in nodes {
            assert!(node.said().is_empty());
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
fn in_a_wait_for_a_lock() {
    kill_one("lock");
}

#[test]
fn in_a_read_of_its_pages() {
    kill_one("pages");
}

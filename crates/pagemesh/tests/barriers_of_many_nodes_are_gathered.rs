//! More processes than one node answers one by one meet at barriers, which are gathered in a tree then: everyone sees what all others
//! wrote before, calls that give up do not count, other participants are named, and when a node in the middle of the tree is killed
//! everyone is told.

mod cluster;

use cluster::{Node, play, run, start};
use pagemesh::{Mesh, NodeId, Protocol, RegionOptions, SharedSlice, SyncError};
use pagemesh_protocol::{BarrierId, barrier_home};
use std::time::Duration;

const NODES: usize = 12;
const ROUNDS: u64 = 8;

fn words(mesh: &Mesh) -> SharedSlice<u64> {
    let options = RegionOptions::new(4 * 4096).protocol(Protocol::Release);
    mesh.region("words", options).unwrap().slice(0, 2048).unwrap()
}

/// Everyone writes its word, all meet, and everyone reads all words; then all meet again.
fn exchange(mesh: &Mesh, words: &SharedSlice<u64>, barrier: u64, round: u64) {
    let me = mesh.node().index();
    words.set(me * 100, round * 100 + me as u64).unwrap();
    mesh.barrier(barrier).wait().unwrap();
    for other in 0..NODES {
        assert_eq!(words.get(other * 100).unwrap(), round * 100 + other as u64, "round {round}");
    }
    mesh.barrier(barrier).wait().unwrap();
}

#[test]
fn everyone_sees_what_all_wrote_before() {
    const TEST: &str = "everyone_sees_what_all_wrote_before";
    play(TEST, |mesh| {
        let words = words(&mesh);
        (1..=ROUNDS).for_each(|round| exchange(&mesh, &words, 1, round));
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn who_gives_up_does_not_count() {
    const TEST: &str = "who_gives_up_does_not_count";
    play(TEST, |mesh| {
        let words = words(&mesh);
        (1..=2).for_each(|round| exchange(&mesh, &words, 1, round));
        if mesh.node() != NodeId::new(5) {
            let waited = mesh.barrier(1).wait_within(Duration::from_millis(300));
            assert!(matches!(waited, Err(SyncError::TimedOut { .. })), "{waited:?}");
        }
        // By another barrier, so that the one that was given up comes to it after all have.
        mesh.barrier(2).wait().unwrap();
        (3..=5).for_each(|round| exchange(&mesh, &words, 1, round));
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn other_participants_are_named() {
    const TEST: &str = "other_participants_are_named";
    const ODD: u32 = NODES as u32 - 1;
    play(TEST, |mesh| {
        for _ in 0..3 {
            mesh.barrier(1).wait().unwrap();
        }
        let odd = mesh.node() == NodeId::new(7);
        let participants = if odd { ODD } else { NODES as u32 };
        let waited = mesh.barrier_of(1, participants).wait_within(Duration::from_secs(2));
        match waited {
            Err(SyncError::BarrierMismatch { first, this, .. }) => say!("named {first} {this}"),
            Err(SyncError::TimedOut { .. }) => say!("waited"),
            other => panic!("{other:?}"),
        }
        mesh.barrier(2).wait().unwrap();
        mesh.leave().unwrap();
    });
    let said = run(TEST, NODES).concat();
    // Which of the two came first is chance.
    let (one, other) = (format!("named {} {ODD}", ODD + 1), format!("named {ODD} {}", ODD + 1));
    assert!(said.contains(&one) || said.contains(&other), "{said:?}");
}

fn home_of(barrier: u64) -> usize {
    barrier_home(BarrierId(barrier), NODES as u16).index()
}

/// A barrier, the node that stands between its home and others in the tree, and a barrier that needs that node for nothing. Neither
/// home nor node is the coordinator.
fn barrier_with_middle() -> (u64, NodeId, u64) {
    let fits = |barrier: &u64| home_of(*barrier) != 0 && home_of(*barrier) + 1 < NODES;
    let barrier = (10..100).find(fits).expect("a hash of many numbers meets every home");
    let middle = home_of(barrier) + 1;
    let other = (100..200).find(|other| home_of(*other) != middle);
    (barrier, NodeId::new(middle as u16), other.expect("a hash of many numbers meets every home"))
}

#[test]
fn everyone_is_told_of_a_node_that_is_killed_in_the_middle() {
    const TEST: &str = "everyone_is_told_of_a_node_that_is_killed_in_the_middle";
    let (barrier, victim, other) = barrier_with_middle();
    play(TEST, |mesh| {
        for _ in 0..4 {
            mesh.barrier(barrier).wait().unwrap();
        }
        say!("there");
        if mesh.node() == victim {
            loop {
                std::thread::park();
            }
        }
        match mesh.barrier(barrier).wait() {
            Err(SyncError::PeerLost { node, .. }) => say!("lost {}", node.index()),
            other => panic!("{other:?}"),
        }
        // And from now on at once.
        let again = mesh.barrier(barrier).wait();
        assert!(matches!(again, Err(SyncError::PeerLost { node, .. }) if node == victim), "{again:?}");
        // Those who are left can still meet.
        mesh.barrier_of(other, NODES as u32 - 1).wait().unwrap();
        let _ = mesh.leave();
    });
    let mut nodes = start(TEST, NODES);
    for node in &nodes {
        assert_eq!(node.hear(), "there");
    }
    let mut killed = nodes.remove(victim.index());
    killed.kill();
    let said: Vec<Vec<String>> = nodes.into_iter().map(Node::rest).collect();
    assert!(said.iter().flatten().all(|line| *line == format!("lost {}", victim.index())), "{said:?}");
}

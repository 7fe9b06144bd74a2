//! A broadcast gives every node the bytes of one, of any size, once; and when the nodes do not mean the same, or one dies, all are told and
//! nobody waits. Real processes, with every pager.

mod cluster;

use cluster::{everywhere, play, run, start};
use pagemesh::{Mesh, NodeId, SyncError};
use std::time::Duration;

const NODES: usize = 3;

fn bytes(seed: usize, count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 + index / 4096 * 7 + seed) as u8).collect()
}

#[test]
fn bytes_of_any_size_come_from_any_node() {
    const TEST: &str = "bytes_of_any_size_come_from_any_node";
    play(TEST, |mesh| {
        let before = mesh.stats();
        let mut moved = 0;
        for (round, size) in
            [0, 1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, 3_333_333].into_iter().enumerate()
        {
            let root = NodeId::new((round % NODES) as u16);
            let expected = bytes(round, size);
            let mut found = if mesh.node() == root { expected.clone() } else { vec![0xee; size] };
            mesh.receive_broadcast(root, &mut found).unwrap();
            assert!(found == expected, "{size} bytes from node {root}");
            moved += if mesh.node() == root { 0 } else { size as u64 };
        }
        let received = mesh.stats().bytes_received - before.bytes_received;
        assert!(received >= moved && received < moved + moved / 50 + 20_000, "{received} bytes for {moved}");
        assert_eq!(mesh.stats().pages_fetched, before.pages_fetched);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// Threads of one node take turns; which of them meets which of another node does not matter where all say the same.
#[test]
fn threads_of_one_node_take_turns() {
    const TEST: &str = "threads_of_one_node_take_turns";
    play(TEST, |mesh| {
        let expected = bytes(3, 10_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let mut found =
                            if mesh.node().get() == 1 { expected.clone() } else { vec![0; 10_000] };
                        mesh.receive_broadcast(NodeId::new(1), &mut found).unwrap();
                        assert!(found == expected);
                    }
                });
            }
        });
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn all_are_told_when_they_do_not_mean_the_same() {
    const TEST: &str = "all_are_told_when_they_do_not_mean_the_same";
    play(TEST, |mesh| {
        let me = mesh.node().get();
        let differs = |result: Result<(), SyncError>| {
            let error = result.unwrap_err();
            assert!(matches!(error, SyncError::BroadcastMismatch { .. }), "{error}");
        };
        let mut found = [0; 10];
        differs(mesh.receive_broadcast(NodeId::new(1), &mut found[..8 + usize::from(me == 2)]));
        differs(mesh.receive_broadcast(NodeId::new(u16::from(me == 2)), &mut found));
        differs(if me == 0 {
            mesh.decline_broadcast()
        } else {
            mesh.receive_broadcast(NodeId::new(1), &mut found)
        });
        // And then it works as ever.
        found = if me == 2 { [5; 10] } else { [0; 10] };
        mesh.receive_broadcast(NodeId::new(2), &mut found).unwrap();
        assert_eq!(found, [5; 10]);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// How soon a killed node is reported.
const PROMISED: Duration = Duration::from_secs(5);

#[test]
fn a_lost_node_is_reported_to_all() {
    const TEST: &str = "a_lost_node_is_reported_to_all";
    fn stay(mesh: &Mesh) {
        mesh.barrier(99).wait().unwrap();
        say!("ready");
        if mesh.node().get() == 2 {
            loop {
                std::thread::park();
            }
        }
    }
    play(TEST, |mesh| {
        stay(&mesh);
        for _ in 0..2 {
            let error = mesh.receive_broadcast(NodeId::new(1), &mut [7; 5000]).unwrap_err();
            let lost = NodeId::new(2);
            assert!(matches!(error, SyncError::PeerLost { node, .. } if node == lost), "{error}");
        }
        say!("told");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, NODES);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes.pop().expect("node 2").kill();
        for node in &nodes {
            assert_eq!(node.hear_within(PROMISED), "told");
        }
        for node in nodes {
            node.rest();
        }
    });
}

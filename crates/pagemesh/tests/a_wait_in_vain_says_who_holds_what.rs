//! Who waits in vain for a lock is told little by "it took too long": in a program of many nodes the next question is always who has
//! it, and since when. So whoever gives up learns which node holds what it wanted, for how long, and who else waits, and from
//! nodes that hang that they do not answer.

mod cluster;

use cluster::{PATIENCE, play, run, start};
use pagemesh::{
    Access, Holders, Mesh, NodeHold, NodeId, Placement, Protocol, RangeError, RegionOptions, SyncError,
};
use pagemesh_protocol::{LockId, lock_home};
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Node 0 waits so long at a time, and gives the others as long to answer.
const WAIT: Duration = Duration::from_millis(500);
/// Between two looks at the coarse clock and at the other may lie a tick of each, and what rounding to milliseconds takes.
const TICKS: Duration = Duration::from_millis(30);
/// Node 0 has seen what it wanted to see.
const SEEN: u64 = 100;

/// The holders and the text of a wait that was in vain; `None` when it was not.
fn in_vain<T>(got: Result<T, SyncError>) -> Option<(Holders, String)> {
    let error = got.err()?;
    let text = error.to_string();
    match error {
        SyncError::TimedOut { holders, .. } => Some((holders, text)),
        other => panic!("{other}"),
    }
}

/// Waits in vain until what is told is as `wanted`; nodes answer late on a busy machine, and come late to where they are to wait.
fn until<T>(
    mut attempt: impl FnMut() -> Result<T, SyncError>,
    wanted: impl Fn(&[NodeHold]) -> bool,
) -> (Vec<NodeHold>, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (holders, text) = in_vain(attempt()).expect("it cannot be had");
        if wanted(holders.nodes()) {
            return (holders.nodes().to_vec(), text);
        }
        assert!(Instant::now() < deadline, "{text}");
    }
}

fn seen(mesh: &Mesh) {
    for _ in 1..NODES {
        mesh.semaphore(SEEN).post().unwrap();
    }
}

fn await_seen(mesh: &Mesh) {
    mesh.semaphore(SEEN).wait(Some(PATIENCE)).unwrap();
}

fn meet(mesh: &Mesh) {
    mesh.barrier(1).wait().unwrap();
}

/// Some of a node's threads have held it since after `began`, and all the time that node 0 waited.
fn assert_held_since(hold: &NodeHold, access: Access, began: Instant) {
    assert_eq!(hold.held, Some(access), "{hold:?}");
    assert!(hold.held_for + TICKS >= WAIT, "{hold:?} for {WAIT:?} at least");
    assert!(hold.held_for <= began.elapsed() + TICKS, "{hold:?}, but {:?} ago nobody did", began.elapsed());
}

#[test]
fn a_lock_has_a_holder() {
    const TEST: &str = "a_lock_has_a_holder";
    play(TEST, |mesh| {
        let lock = mesh.lock(7);
        // The first time it comes from elsewhere, the second it is here already: both ways are to be known.
        for way in 0..2 {
            let began = Instant::now();
            meet(&mesh);
            let held = (mesh.node().get() == 2).then(|| lock.acquire().unwrap());
            meet(&mesh);
            match mesh.node().get() {
                0 => {
                    let (nodes, text) = until(
                        || lock.inherit(Some(WAIT)),
                        |n| n.iter().all(|n| n.answered) && n[1].waiting == 1,
                    );
                    assert_held_since(&nodes[2], Access::Write, began);
                    assert_eq!((nodes[0].held, nodes[1].held), (None, None), "{text}");
                    assert!(text.starts_with("lock 7: waited 500ms; held by node 2 for "), "{text}");
                    assert!(text.ends_with("; 2 threads of nodes 0 and 1 wait for it"), "{text}");
                    seen(&mesh);
                }
                1 => {
                    drop(lock.inherit(Some(PATIENCE)).unwrap());
                    await_seen(&mesh);
                }
                _ => {
                    await_seen(&mesh);
                    drop(held);
                }
            }
            meet(&mesh);
            if mesh.node().get() == 2 {
                drop(lock.acquire().unwrap());
                if way == 0 {
                    // The next time it takes it, it is the second in a row.
                    assert!(lock.try_inherit().unwrap().is_some());
                }
            }
        }
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

/// Others can have the lock meanwhile, and then they are who holds it.
#[test]
fn who_waits_for_a_signal_holds_no_lock() {
    const TEST: &str = "who_waits_for_a_signal_holds_no_lock";
    play(TEST, |mesh| {
        let (lock, signal) = (mesh.lock(8), mesh.condvar(1));
        let (has_it, waits) = (mesh.semaphore(1), mesh.semaphore(2));
        match mesh.node().get() {
            0 => {
                waits.wait(Some(PATIENCE)).unwrap();
                let (nodes, text) =
                    until(|| lock.inherit(Some(WAIT)), |nodes| nodes.iter().all(|node| node.answered));
                assert_eq!(
                    nodes.iter().map(|n| n.held.is_some()).collect::<Vec<_>>(),
                    [false, false, true],
                    "{text}"
                );
                seen(&mesh);
            }
            1 => {
                // Taken again, as most are.
                drop(lock.acquire().unwrap());
                let guard = lock.acquire().unwrap();
                has_it.post().unwrap();
                let guard = signal.wait_lock(guard, Some(PATIENCE)).unwrap();
                drop(guard);
                await_seen(&mesh);
            }
            _ => {
                has_it.wait(Some(PATIENCE)).unwrap();
                // Only when node 1 waits for the signal.
                let guard = lock.inherit(Some(PATIENCE)).unwrap();
                waits.post().unwrap();
                await_seen(&mesh);
                signal.notify_all().unwrap();
                drop(guard);
            }
        }
        meet(&mesh);
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn a_reader_writer_lock_has_readers_or_a_writer() {
    const TEST: &str = "a_reader_writer_lock_has_readers_or_a_writer";
    play(TEST, |mesh| {
        let lock = mesh.read_write_lock(7);
        for access in [Access::Read, Access::Write] {
            let began = Instant::now();
            meet(&mesh);
            let holds = match access {
                Access::Read => mesh.node().get() != 0,
                Access::Write => mesh.node().get() == 1,
            };
            let held = holds.then(|| lock.acquire(access, Some(PATIENCE)).unwrap());
            meet(&mesh);
            if mesh.node().get() == 0 {
                let (nodes, text) = until(
                    || lock.acquire(Access::Write, Some(WAIT)),
                    |nodes| nodes.iter().all(|node| node.answered),
                );
                assert_held_since(&nodes[1], access, began);
                if access == Access::Read {
                    assert_held_since(&nodes[2], access, began);
                    assert!(text.contains("held for reading by node 1 for "), "{text}");
                    assert!(text.contains(", for reading by node 2 for "), "{text}");
                } else {
                    assert_eq!(nodes[2].held, None);
                    assert!(text.contains("waited 500ms; held for writing by node 1 for "), "{text}");
                }
                assert!(text.ends_with("; 1 thread of node 0 waits for it"), "{text}");
                seen(&mesh);
            } else {
                await_seen(&mesh);
            }
            drop(held);
            meet(&mesh);
        }
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn a_range_is_held_where_some_of_it_is() {
    const TEST: &str = "a_range_is_held_where_some_of_it_is";
    play(TEST, |mesh| {
        let region = mesh
            .region(
                "ranges",
                RegionOptions::new(8192)
                    .protocol(Protocol::Entry)
                    .placement(Placement::Single(NodeId::COORDINATOR)),
            )
            .unwrap();
        let began = Instant::now();
        meet(&mesh);
        let held = match mesh.node().get() {
            0 => None,
            1 => Some(region.lock_range(0..200, Access::Read, Some(PATIENCE)).unwrap()),
            _ => Some(region.lock_range(300..5000, Access::Write, Some(PATIENCE)).unwrap()),
        };
        meet(&mesh);
        if mesh.node().get() == 0 {
            let take = |bytes: std::ops::Range<usize>| {
                region.lock_range(bytes, Access::Write, Some(WAIT)).map_err(|error| match error {
                    RangeError::Sync(error) => error,
                    other => panic!("{other}"),
                })
            };
            let all = |nodes: &[NodeHold]| nodes.iter().all(|node| node.answered);
            let (nodes, text) = until(|| take(100..400), all);
            assert_held_since(&nodes[1], Access::Read, began);
            assert_held_since(&nodes[2], Access::Write, began);
            assert!(
                text.starts_with("bytes 100..400 of region \"ranges\": waited 500ms; held for reading"),
                "{text}"
            );
            let (nodes, text) = until(|| take(4999..6000), all);
            assert_eq!((nodes[1].held, nodes[2].held), (None, Some(Access::Write)), "{text}");
            drop(take(5000..6000).expect("nobody has these"));
            seen(&mesh);
        } else {
            await_seen(&mesh);
        }
        drop(held);
        meet(&mesh);
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn a_semaphore_has_threads_that_wait() {
    const TEST: &str = "a_semaphore_has_threads_that_wait";
    play(TEST, |mesh| {
        let empty = mesh.semaphore(7);
        match mesh.node().get() {
            0 => {
                let (_, text) = until(
                    || empty.wait(Some(WAIT)),
                    |n| n.iter().all(|n| n.answered) && n[1].waiting == 1 && n[2].waiting == 2,
                );
                assert_eq!(text, "semaphore 7: waited 500ms; 4 threads of nodes 0, 1 and 2 wait for a unit");
                for _ in 0..3 {
                    empty.post().unwrap();
                }
            }
            node => std::thread::scope(|scope| {
                for _ in 0..node {
                    scope.spawn(|| empty.wait(Some(PATIENCE)).unwrap());
                }
            }),
        }
        meet(&mesh);
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn a_barrier_lacks_those_who_have_not_come() {
    const TEST: &str = "a_barrier_lacks_those_who_have_not_come";
    play(TEST, |mesh| {
        let barrier = mesh.barrier_of(5, 4);
        match mesh.node().get() {
            0 => {
                let (_, text) = until(
                    || barrier.wait_within(WAIT),
                    |nodes| nodes.iter().all(|node| node.answered) && nodes[2].waiting == 2,
                );
                assert_eq!(
                    text,
                    "barrier 5: waited 500ms; 3 of 4 have come: nodes 0 (1), 2 (2); nobody of node 1"
                );
                seen(&mesh);
                barrier.wait_within(PATIENCE).unwrap();
            }
            1 => {
                await_seen(&mesh);
                barrier.wait_within(PATIENCE).unwrap();
            }
            _ => {
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| barrier.wait_within(PATIENCE).unwrap());
                    }
                });
                await_seen(&mesh);
            }
        }
        meet(&mesh);
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

/// A node that hangs with a lock says nothing, and that is said of it; when it is killed, the wait ends as it always did.
#[test]
fn a_holder_that_hangs_holds_nobody_up() {
    const TEST: &str = "a_holder_that_hangs_holds_nobody_up";
    play(TEST, |mesh| {
        let at_home = |id: &u64| lock_home(LockId(*id), NODES as u16) == NodeId::COORDINATOR;
        let lock = mesh.lock((1..1000).find(at_home).expect("one of them is at home at node 0"));
        if mesh.node().get() == 2 {
            let _guard = lock.acquire().unwrap();
            meet(&mesh);
            // SAFETY: stops this process; what it had begun is not touched.
            unsafe { libc::raise(libc::SIGSTOP) };
            unreachable!("nobody lets it go on");
        }
        meet(&mesh);
        if mesh.node().get() == 0 {
            // It may stop a little later than the others begin to wait.
            let silent = |nodes: &[NodeHold]| nodes[1].answered && !nodes[2].answered;
            let (nodes, text) = until(|| lock.inherit(Some(WAIT)), silent);
            assert_eq!(nodes[2].held, None);
            assert!(text.contains("; nobody who answered holds it; "), "{text}");
            assert!(text.ends_with("; node 2 did not answer"), "{text}");
            say!("silent");
            let guard = lock.inherit(Some(PATIENCE)).unwrap();
            say!("left by {}", guard.left_by().expect("it died with the lock").node);
            drop(guard);
        }
        // Homes went with node 2, so that nothing is left to meet at.
        while mesh.node().get() == 1 && mesh.wait_departure(PATIENCE).expect("node 0 ends").node.get() != 0 {}
    });
    let mut nodes = start(TEST, NODES);
    assert_eq!(nodes[0].hear(), "silent");
    nodes[2].kill();
    assert_eq!(nodes[0].hear(), "left by 2");
    nodes.truncate(2);
    for node in nodes {
        node.rest();
    }
}

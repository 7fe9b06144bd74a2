//! A node that is killed leaves nobody waiting: whatever needed it returns an error that names it, within five seconds, and what
//! did not need it goes on. Real processes, killed by SIGKILL.

mod cluster;

use cluster::{Node, everywhere, play, start};
use pagemesh::{
    AccessError, AtomicError, AtomicU64, DepartureKind, Mesh, NodeId, Placement, RegionOptions, SyncError,
};
use std::time::{Duration, Instant};

/// How soon a killed node is reported.
const PROMISED: Duration = Duration::from_secs(5);

const VICTIM: NodeId = NodeId::new(2);

/// Says that this node is ready to have the victim killed; the victim waits for that here.
fn ready(mesh: &Mesh) {
    mesh.barrier(99).wait().unwrap();
    say!("ready");
    if mesh.node() == VICTIM {
        loop {
            std::thread::park();
        }
    }
}

/// Starts three nodes, kills the victim when all are ready, and returns what the other two say after that.
fn kill_one(test: &str) -> Vec<Vec<String>> {
    let mut nodes = start(test, 3);
    for node in &nodes {
        assert_eq!(node.hear(), "ready");
    }
    let mut victim = nodes.remove(VICTIM.index());
    victim.kill();
    let killed = Instant::now();
    for node in &nodes {
        let said = node.hear_within(PROMISED);
        assert!(said.contains("node 2") && said.contains("died"), "{said}");
    }
    assert!(killed.elapsed() < PROMISED, "reported too late");
    nodes.into_iter().map(Node::rest).collect()
}

#[test]
fn a_barrier_that_waits_for_it_fails_and_so_do_later_ones() {
    const TEST: &str = "a_barrier_that_waits_for_it_fails_and_so_do_later_ones";
    play(TEST, |mesh| {
        ready(&mesh);
        let error = mesh.barrier(1).wait().unwrap_err();
        assert!(matches!(error, SyncError::PeerLost { node: VICTIM, how: DepartureKind::Died, .. }));
        say!("{error}");
        for id in 0..10 {
            let again = mesh.barrier(id).wait().unwrap_err();
            assert!(matches!(again, SyncError::PeerLost { node: VICTIM, .. }), "{again}");
        }
        let departure = mesh.wait_departure(PROMISED).unwrap();
        assert_eq!((departure.node, departure.how), (VICTIM, DepartureKind::Died));
        // A barrier of those who are left still works, and so does leaving, which says who is missing.
        let home = (0..100).find(|id| mesh.barrier_of(*id, 2).wait().is_ok());
        say!("{home:?}");
        assert!(matches!(mesh.leave(), Err(SyncError::PeerLost { node: VICTIM, .. })));
    });
    everywhere(|| {
        let rest = kill_one(TEST);
        assert_eq!(rest[0], rest[1], "both found the same barrier to work");
    });
}

#[test]
fn a_lock_that_it_held_is_reported_once_and_then_free() {
    const TEST: &str = "a_lock_that_it_held_is_reported_once_and_then_free";
    play(TEST, |mesh| {
        // Locks of every home; those whose home is the victim are lost with it.
        let held: Vec<_> =
            (0..12).map(|id| (mesh.node() == VICTIM).then(|| mesh.lock(id).acquire())).collect();
        ready(&mesh);
        let mut outcomes = Vec::new();
        for id in 0..12 {
            match mesh.lock(id).acquire() {
                Ok(_) => outcomes.push("taken"),
                Err(SyncError::OwnerDied { node: VICTIM, .. }) => {
                    outcomes.push("owner died");
                    assert!(mesh.lock(id).acquire().is_ok());
                }
                Err(SyncError::PeerLost { node: VICTIM, .. }) => outcomes.push("home lost"),
                Err(other) => panic!("{other}"),
            }
        }
        drop(held);
        say!("node 2 died");
        say!("{}", outcomes.join(","));
        let _ = mesh.leave();
    });
    everywhere(|| {
        let rest = kill_one(TEST);
        for lock in 0..12 {
            let mut both: Vec<&str> = rest.iter().map(|said| said[0].split(',').nth(lock).unwrap()).collect();
            both.sort_unstable();
            assert!(
                both == ["owner died", "taken"] || both == ["home lost", "home lost"],
                "lock {lock}: one is told that its holder died, or its home is gone: {both:?}"
            );
        }
        assert!(rest[0][0].contains("home lost"), "no lock had its home at the victim");
    });
}

#[test]
fn a_lock_that_it_held_can_be_inherited() {
    const TEST: &str = "a_lock_that_it_held_can_be_inherited";
    play(TEST, |mesh| {
        let held: Vec<_> =
            (0..12).map(|id| (mesh.node() == VICTIM).then(|| mesh.lock(id).acquire())).collect();
        ready(&mesh);
        for id in 0..12 {
            let lock = mesh.lock(id);
            let busy = Duration::from_millis(1);
            let got = loop {
                match lock.inherit(Some(busy)) {
                    Err(SyncError::TimedOut { .. }) => {}
                    got => break got,
                }
            };
            match got {
                Ok(guard) => {
                    assert!(lock.try_inherit().unwrap().is_none(), "held here, inherited or not");
                    say!(
                        "{}",
                        guard.left_by().map_or("taken", |departure| {
                            assert_eq!((departure.node, departure.how), (VICTIM, DepartureKind::Died));
                            "inherited: node 2 died"
                        })
                    );
                }
                Err(SyncError::PeerLost { node: VICTIM, .. }) => say!("home lost: node 2 died"),
                Err(other) => panic!("{other}"),
            }
        }
        drop(held);
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, 3);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes.remove(VICTIM.index()).kill();
        let said: Vec<_> = nodes.into_iter().map(Node::rest).collect();
        for lock in 0..12 {
            let mut both: Vec<&str> = said.iter().map(|said| said[lock].as_str()).collect();
            both.sort_unstable();
            let lost = "home lost: node 2 died";
            assert!(both == ["inherited: node 2 died", "taken"] || both == [lost, lost], "{lock}: {both:?}");
        }
    });
}

#[test]
fn a_page_is_lost_only_with_its_last_copy_and_never_reads_as_zero() {
    const TEST: &str = "a_page_is_lost_only_with_its_last_copy_and_never_reads_as_zero";
    play(TEST, |mesh| {
        let region = mesh.region("pages", RegionOptions::new(9 * 4096)).unwrap();
        let bytes = region.slice::<u8>(0, 9 * 4096).unwrap();
        let at = |page: usize| page * 4096;
        // Pages 0..3: only the victim wrote. 3..6: the victim wrote, node 0 has a copy. 6..9: nobody touched.
        if mesh.node() == VICTIM {
            for page in 0..6 {
                bytes.set(at(page), 10 + page as u8).unwrap();
            }
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(0) {
            // Not one after the other: nothing is to be read ahead.
            for page in [4, 3, 5] {
                assert_eq!(bytes.get(at(page)).unwrap(), 10 + page as u8);
            }
        }
        ready(&mesh);
        assert_eq!(mesh.wait_departure(PROMISED).unwrap().node, VICTIM);
        let mut first = None;
        for page in 0..9 {
            let home = region.page_home(page).unwrap().unwrap();
            let copied = (3..6).contains(&page);
            let got = bytes.get(at(page));
            let mine = mesh.node() == NodeId::new(0);
            match (&got, home == VICTIM) {
                // A copy that is here stays readable whatever became of its home.
                (Ok(value), _) if copied => assert_eq!(*value, 10 + page as u8),
                (Ok(value), false) => assert!(page >= 6 && *value == 0, "page {page} read as {value}"),
                (Err(AccessError::PageLost { node: VICTIM, page: named, .. }), false) => {
                    assert!(page < 3 && *named == page as u64);
                }
                (Err(AccessError::PeerLost { node: VICTIM, page: named, .. }), true) => {
                    assert!(!(copied && mine) && *named == page as u64);
                }
                other => panic!("page {page}: {other:?}"),
            }
            first = first.or(got.err());
        }
        say!("{}", first.unwrap());
        let _ = mesh.leave();
    });
    everywhere(|| {
        kill_one(TEST);
    });
}

#[test]
fn the_last_node_left_may_write_what_it_holds() {
    const TEST: &str = "the_last_node_left_may_write_what_it_holds";
    play(TEST, |mesh| {
        let region = mesh.region("pages", RegionOptions::new(4 * 4096)).unwrap();
        let bytes = region.slice::<u8>(0, 4 * 4096).unwrap();
        for page in 0..4 {
            let _ = bytes.get(page * 4096).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        say!("ready");
        if mesh.node() == NodeId::new(1) {
            loop {
                std::thread::park();
            }
        }
        mesh.wait_departure(cluster::PATIENCE).unwrap();
        for page in 0..4 {
            bytes.set(page * 4096, 5).unwrap();
            assert_eq!(bytes.get(page * 4096).unwrap(), 5);
        }
        say!("done");
    });
    everywhere(|| {
        let mut nodes = start(TEST, 2);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes[1].kill();
        assert_eq!(nodes[0].hear_within(PROMISED), "done");
    });
}

#[test]
fn a_plain_load_of_a_lost_page_raises_sigbus() {
    use std::os::unix::process::ExitStatusExt;
    const TEST: &str = "a_plain_load_of_a_lost_page_raises_sigbus";
    play(TEST, |mesh| {
        let options = RegionOptions::new(4096).placement(Placement::Single(NodeId::new(1)));
        let region = mesh.region("page", options).unwrap();
        if mesh.node() == NodeId::new(1) {
            region.slice::<u8>(0, 1).unwrap().set(0, 1).unwrap();
        }
        // Who leaves before the other has the region takes that with it.
        mesh.barrier(0).wait().unwrap();
        if mesh.node() == NodeId::new(1) {
            // Leaves at once; its page goes with it.
            return;
        }
        let departure = mesh.wait_departure(cluster::PATIENCE).unwrap();
        assert_eq!(departure.how, DepartureKind::Left);
        // SAFETY: the first byte of a live region; the load is expected to end the process.
        let byte = unsafe { region.as_ptr().read_volatile() };
        say!("read {byte}");
    });
    everywhere(|| {
        let mut nodes = start(TEST, 2);
        assert_eq!(nodes[0].end().signal(), Some(libc::SIGBUS));
    });
}

/// The victim has one page alone, and is the home of another.
#[test]
fn an_atomic_operation_says_whether_it_was_done() {
    const TEST: &str = "an_atomic_operation_says_whether_it_was_done";
    play(TEST, |mesh| {
        let at = |home| RegionOptions::new(4096).placement(Placement::Single(NodeId::new(home)));
        let held = mesh.region("held", at(0)).unwrap();
        let homed = mesh.region("homed", at(VICTIM.get())).unwrap();
        let [held, homed] = [&held, &homed].map(|region| AtomicU64::new(region, 0).unwrap());
        if mesh.node() == VICTIM {
            mesh.region("held", at(0)).unwrap().slice::<u64>(0, 1).unwrap().set(0, 1).unwrap();
        }
        assert!(homed.fetch_add(1).unwrap() < 3);
        ready(&mesh);
        // Until the loss is noticed, additions to its page may still be under way.
        let error = loop {
            if let Err(error) = homed.fetch_add(1) {
                break error;
            }
        };
        say!("{error}");
        let gone = |error: &AtomicError| match error {
            AtomicError::NodeLost { node, .. } | AtomicError::Access(AccessError::PeerLost { node, .. }) => {
                *node == VICTIM
            }
            _ => false,
        };
        assert!(gone(&error), "{error}");
        mesh.wait_departure(PROMISED).unwrap();
        let later = homed.swap(1).unwrap_err();
        assert!(matches!(later, AtomicError::Access(AccessError::PeerLost { node: VICTIM, .. })), "{later}");
        let lost = held.fetch_add(1).unwrap_err();
        assert!(matches!(lost, AtomicError::Access(AccessError::PageLost { node: VICTIM, .. })), "{lost}");
        let _ = mesh.leave();
    });
    everywhere(|| {
        kill_one(TEST);
    });
}

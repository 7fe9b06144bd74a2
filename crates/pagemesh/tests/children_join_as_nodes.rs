//! Programs fork, and the one that joins is not always the one that was started. A child has no part in its parent's mesh:
//! what it inherited must neither hang it nor disturb the parent, and its being alive must not hide the parent's death. But it can join
//! as a node of its own, also when it inherited everything that a node has.

mod cluster;

use cluster::{PATIENCE, everywhere, free_address, play, run, start};
use pagemesh::{Config, DepartureKind, Mesh, NodeId, RegionOptions, SyncError};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Forks. In the child runs `child` and ends, with 0 unless it panics. The tests run on the only thread of their process that
/// does anything, except for the runtime's own, so the child may do whatever a program may.
fn forked(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: see above.
    forked_by(|| unsafe { libc::fork() }, child)
}

fn forked_by(fork: impl FnOnce() -> libc::pid_t, child: impl FnOnce()) -> libc::pid_t {
    let process = fork();
    assert!(process >= 0);
    if process == 0 {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the child at once, without what the parent registered for its own end.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    process
}

/// Waits for a child, which must end well.
fn reap(child: libc::pid_t) {
    let deadline = Instant::now() + PATIENCE;
    let mut status = 0;
    // SAFETY: waits for a child of ours.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        assert!(Instant::now() < deadline, "the child does not end");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert_eq!(status, 0, "how the child ended");
}

/// Which number both count up.
const COUNTER: usize = 7;

/// What a node and the one that it was forked from do with each other.
fn share(node: u16, coordinator: SocketAddr) {
    let mesh = Mesh::join(Config::new(node, 2, coordinator)).expect("joins");
    let region = mesh.region("between", RegionOptions::new(64 * 4096)).expect("a region");
    let numbers = region.slice::<u64>(0, 64 * 512).expect("fits");
    for index in (usize::from(node)..numbers.len()).step_by(2).filter(|index| *index != COUNTER) {
        numbers.set(index, index as u64 * 3).expect("a page");
    }
    for _ in 0..200 {
        let _guard = mesh.lock(1).acquire().expect("the lock");
        numbers.set(COUNTER, numbers.get(COUNTER).expect("a page") + 1).expect("a page");
    }
    mesh.barrier(1).wait().expect("the other comes");
    for index in (0..numbers.len()).filter(|index| *index != COUNTER) {
        assert_eq!(numbers.get(index).expect("a page"), index as u64 * 3);
    }
    assert_eq!(numbers.get(COUNTER).expect("a page"), 400);
    mesh.barrier(2).wait().expect("the other comes");
    mesh.leave().expect("leaves");
}

#[test]
fn a_child_forked_before_its_parent_joins_becomes_a_node() {
    const TEST: &str = "a_child_forked_before_its_parent_joins_becomes_a_node";
    // `play` joins first: here the parent's first mesh is one of its own.
    play(TEST, |mesh| {
        mesh.leave().unwrap();
        let coordinator = free_address();
        let child = forked(|| share(1, coordinator));
        share(0, coordinator);
        reap(child);
    });
    everywhere(|| {
        run(TEST, 1);
    });
}

/// Nobody tells such a child that it is one.
#[test]
fn a_child_of_a_bare_system_call_becomes_a_node_too() {
    const TEST: &str = "a_child_of_a_bare_system_call_becomes_a_node_too";
    play(TEST, |mesh| {
        // With no thread of the runtime about, nobody can be in the middle of an allocation.
        mesh.leave().unwrap();
        let coordinator = free_address();
        // SAFETY: as in `forked`; the allocator is at rest.
        let fork = || unsafe { libc::syscall(libc::SYS_fork) } as libc::pid_t;
        let child = forked_by(fork, || share(1, coordinator));
        share(0, coordinator);
        reap(child);
    });
    everywhere(|| {
        run(TEST, 1);
    });
}

/// A child has locks as they were when it was forked: some other thread of its parent may have had them, and gives them back to nobody.
#[test]
fn a_child_that_was_forked_while_locks_were_held_is_told_so_and_does_not_hang() {
    let mesh = Mesh::join(Config::single()).expect("joins");
    let region = mesh.region("busy", RegionOptions::new(64 * 4096)).expect("a region");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    region.page_state(3);
                }
            });
        }
        for _ in 0..30 {
            let guard = mesh.lock(1).acquire().expect("the lock");
            let child = forked(|| {
                assert!(region.prefetch(0..64).is_err());
                assert!(region.prefetch_for_writing(0..64).is_err());
                assert!(region.pin(0..8192, pagemesh::Access::Write).is_err());
                assert_eq!(region.page_state(3), pagemesh::PageState::Invalid);
                assert!(mesh.read_write_lock(2).acquire(pagemesh::Access::Read, None).is_err());
                assert!(mesh.semaphore(3).wait(None).is_err());
                assert!(mesh.barrier(4).wait().is_err());
                region.evict(0..64);
                drop(guard);
            });
            reap(child);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_child_of_a_node_becomes_a_node_of_its_own() {
    const TEST: &str = "a_child_of_a_node_becomes_a_node_of_its_own";
    play(TEST, |mesh| {
        let region = mesh.region("first", RegionOptions::new(16 * 4096)).unwrap();
        let bytes = region.slice::<u8>(0, 16 * 4096).unwrap();
        mesh.barrier(1).wait().unwrap();
        let coordinator = free_address();
        if mesh.node() == NodeId::new(0) {
            bytes.set(5 * 4096, 1).unwrap();
            let guard = mesh.lock(9).acquire().unwrap();
            let child = forked(|| {
                // What it inherited says so, and touches neither the parent's locks nor its connections.
                let closed = mesh.lock(1).acquire().unwrap_err();
                assert!(matches!(closed, SyncError::Closed { .. }), "{closed}");
                assert!(mesh.barrier(1).wait().is_err() && mesh.wait_departure(PATIENCE).is_none());
                assert!(region.prefetch(0..16).is_err());
                assert!(mesh.region("another", RegionOptions::new(4096)).is_err());
                drop(guard);
                share(1, coordinator);
                // A child of the child, too.
                let again = free_address();
                let grandchild = forked(|| share(1, again));
                share(0, again);
                reap(grandchild);
            });
            share(0, coordinator);
            reap(child);
        }
        // The first mesh is as it was, for every node.
        mesh.barrier(2).wait().unwrap();
        assert_eq!(bytes.get(5 * 4096).unwrap(), 1);
        drop(mesh.lock(9).acquire().unwrap());
        mesh.leave().unwrap();
        say!("done");
    });
    everywhere(|| {
        let said = run(TEST, 2);
        assert!(said.iter().all(|lines| lines.last().is_some_and(|line| line == "done")), "{said:?}");
    });
}

#[test]
fn a_child_that_lives_does_not_hide_its_parents_death() {
    const TEST: &str = "a_child_that_lives_does_not_hide_its_parents_death";
    play(TEST, |mesh| {
        let region = mesh.region("shared", RegionOptions::new(4096)).unwrap();
        region.slice::<u8>(0, 1).unwrap().set(0, 1).unwrap();
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(1) {
            // SAFETY: the child only waits for its end.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: sleeps, and ends.
                unsafe {
                    libc::alarm(60);
                    libc::pause();
                    libc::_exit(0);
                }
            }
            say!("{child}");
            mesh.wait_departure(PATIENCE);
        } else {
            say!("ready");
            let gone = mesh.wait_departure(PATIENCE).expect("the death is noticed");
            assert_eq!((gone.node, gone.how), (NodeId::new(1), DepartureKind::Died));
            say!("noticed");
        }
    });
    let mut nodes = start(TEST, 2);
    assert_eq!(nodes[0].hear(), "ready");
    let child: libc::pid_t = nodes[1].hear().parse().expect("a number");
    nodes[1].kill();
    let noticed = nodes[0].hear_within(Duration::from_secs(5));
    // SAFETY: the child of our node; it is no zombie yet, since it waits for this.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child outlived its parent");
    assert_eq!(noticed, "noticed");
}

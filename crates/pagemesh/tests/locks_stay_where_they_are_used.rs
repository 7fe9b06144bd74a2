//! A lock that asked another node each time it is taken would make every critical section cost a round trip, and one that stays where
//! it is would starve all others. So a lock that one node uses sends nothing, a node that waits has it soon however busy others
//! are with it, and a node that goes in peace leaves its locks to the others.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::{Access, DepartureKind, Protocol, RegionOptions, SyncError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NODES: usize = 3;

#[test]
fn a_lock_that_one_node_uses_sends_nothing() {
    const TEST: &str = "a_lock_that_one_node_uses_sends_nothing";
    const ROUNDS: u64 = 5_000;
    play(TEST, |mesh| {
        let options = RegionOptions::new(4096 * NODES).protocol(Protocol::Release);
        let words = mesh.region("words", options).unwrap().slice::<u64>(0, 512 * NODES).unwrap();
        let own = mesh.node().index();
        // The page's home may be another node: it hears of the writes when others may have to.
        let (lock, place) = (mesh.lock(100 + own as u64), 512 * own);
        for _ in 0..2 {
            let _guard = lock.acquire().unwrap();
            words.set(place, 0).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        words.set(place, 0).unwrap();
        let before = mesh.stats();
        for round in 0..ROUNDS {
            let guard =
                if round % 2 == 0 { lock.acquire().unwrap() } else { lock.try_inherit().unwrap().unwrap() };
            words.set(place, words.get(place).unwrap() + 1).unwrap();
            drop(guard);
        }
        let after = mesh.stats();
        assert_eq!(after.lock_acquires - before.lock_acquires, ROUNDS);
        // Others may still be fetching their pages from here.
        let sent = after.messages_sent - before.messages_sent;
        assert!(sent < ROUNDS / 50, "{sent} messages for {ROUNDS} rounds");
        mesh.barrier(1).wait().unwrap();
        let sums: Vec<u64> = (0..NODES).map(|node| words.get(512 * node).unwrap()).collect();
        assert_eq!(sums, [ROUNDS; NODES]);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// All nodes read under one lock, and each writes under one of its own; then one of them writes under the common one.
#[test]
fn a_reader_writer_lock_that_nobody_writes_under_costs_no_message() {
    const TEST: &str = "a_reader_writer_lock_that_nobody_writes_under_costs_no_message";
    const COMMON: u64 = 1000;
    const ROUNDS: u64 = 2_000;
    play(TEST, |mesh| {
        let place = mesh.node().index();
        let (common, own) = (mesh.read_write_lock(COMMON), mesh.read_write_lock(place as u64));
        let words = mesh.region("words", RegionOptions::new(4096 * NODES)).unwrap();
        let words = words.slice::<u64>(0, 512 * NODES).unwrap();
        // The first time each comes from its home.
        drop(common.acquire(Access::Read, None).unwrap());
        drop(own.acquire(Access::Write, None).unwrap());
        words.set(512 * place, 0).unwrap();
        mesh.barrier(1).wait().unwrap();
        let before = mesh.stats();
        for round in 0..ROUNDS {
            let shared = if round % 2 == 0 {
                common.acquire(Access::Read, None).unwrap()
            } else {
                common.try_acquire(Access::Read).unwrap().unwrap()
            };
            let alone = if round % 2 == 0 {
                own.acquire(Access::Write, None).unwrap()
            } else {
                own.try_acquire(Access::Write).unwrap().unwrap()
            };
            words.set(512 * place, words.get(512 * place).unwrap() + 1).unwrap();
            drop((shared, alone));
        }
        let sent = mesh.stats().messages_sent - before.messages_sent;
        // Others may still be fetching their pages from here.
        assert!(sent < ROUNDS / 50, "{sent} messages for {ROUNDS} rounds");
        mesh.barrier(1).wait().unwrap();
        for turn in 0..NODES {
            if turn == place {
                let alone = common.acquire(Access::Write, None).unwrap();
                words.set(1, words.get(1).unwrap() + 1).unwrap();
                drop(alone);
            }
            let shared = common.acquire(Access::Read, None).unwrap();
            assert!(words.get(1).unwrap() <= NODES as u64);
            drop(shared);
        }
        mesh.barrier(1).wait().unwrap();
        let shared = common.acquire(Access::Read, None).unwrap();
        assert_eq!(words.get(1).unwrap(), NODES as u64);
        drop(shared);
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn a_node_that_waits_has_its_turn_however_busy_the_others_are() {
    const TEST: &str = "a_node_that_waits_has_its_turn_however_busy_the_others_are";
    const TURNS: u64 = 40;
    play(TEST, |mesh| {
        let (lock, turns) = (mesh.lock(5), mesh.barrier(1));
        let words = mesh.region("count", RegionOptions::new(4096)).unwrap().slice::<u64>(0, 2).unwrap();
        turns.wait().unwrap();
        if mesh.node().index() == 0 {
            for _ in 0..TURNS {
                let _guard = lock.acquire().unwrap();
                words.set(0, words.get(0).unwrap() + 1).unwrap();
            }
            words.set(1, 1).unwrap();
        } else {
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            let _guard = lock.acquire().unwrap();
                            if words.get(1).unwrap() == 1 {
                                over.store(true, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
        }
        turns.wait().unwrap();
        assert_eq!(words.get(0).unwrap(), TURNS);
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}

#[test]
fn a_node_that_says_goodbye_leaves_its_locks_to_the_others() {
    const TEST: &str = "a_node_that_says_goodbye_leaves_its_locks_to_the_others";
    const LOCKS: u64 = 16;
    play(TEST, |mesh| {
        let together = mesh.barrier(1);
        if mesh.node().index() == 2 {
            for id in 0..LOCKS {
                drop(mesh.lock(id).acquire().unwrap());
                drop(mesh.read_write_lock(id).acquire(Access::Write, None).unwrap());
            }
            together.wait().unwrap();
            drop(mesh);
            return;
        }
        together.wait().unwrap();
        let gone = mesh.wait_departure(Duration::from_mins(1)).unwrap();
        assert_eq!(gone.how, DepartureKind::Left);
        let mut had = 0;
        for id in 0..LOCKS {
            match mesh.lock(id).inherit(None) {
                Ok(guard) => {
                    assert!(guard.left_by().is_none(), "lock {id} was idle");
                    had += 1;
                }
                Err(SyncError::PeerLost { .. }) => {}
                Err(other) => panic!("lock {id}: {other}"),
            }
            match mesh.read_write_lock(id).acquire(Access::Write, None) {
                Ok(guard) => assert!(guard.left_by().is_none(), "nobody wrote under {id}"),
                Err(SyncError::PeerLost { .. }) => {}
                Err(other) => panic!("reader-writer lock {id}: {other}"),
            }
        }
        assert!(had > 0, "some have their home here");
    });
    run(TEST, NODES);
}

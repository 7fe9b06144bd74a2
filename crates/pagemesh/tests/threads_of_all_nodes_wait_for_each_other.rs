//! Reader-writer locks, semaphores and condition variables between threads of real processes: nobody is let in who may not, nobody
//! is forgotten, what was written before is seen, and when a node is killed whoever needed it is told. A signal that were lost, or
//! a writer that readers kept out, would let these tests run out of their time.

mod cluster;

use cluster::{Node, everywhere, play, run, start};
use pagemesh::{Access, LockGuard, Mesh, NodeId, Protocol, RegionOptions, SharedSlice, SyncError, WaitError};
use std::time::Duration;

const NODES: usize = 3;
const THREADS: usize = 2;
const VICTIM: NodeId = NodeId::new(2);

fn words(mesh: &Mesh, protocol: Protocol) -> SharedSlice<u64> {
    let options = RegionOptions::new(4096).protocol(protocol);
    mesh.region(&format!("{protocol:?}"), options).unwrap().slice(0, 512).unwrap()
}

fn add(words: &SharedSlice<u64>, place: usize, value: u64) -> u64 {
    let sum = words.get(place).unwrap().wrapping_add(value);
    words.set(place, sum).unwrap();
    sum
}

/// Runs `work` in every thread of this node, with the thread's number in the mesh.
fn in_threads(mesh: &Mesh, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, mesh) = (&work, mesh);
            scope.spawn(move || work(mesh.node().index() * THREADS + thread));
        }
    });
}

#[test]
fn readers_see_whole_writes_and_writers_get_their_turn() {
    const TEST: &str = "readers_see_whole_writes_and_writers_get_their_turn";
    const TURNS: u64 = 60;
    play(TEST, |mesh| {
        for protocol in [Protocol::Release, Protocol::WriteInvalidate] {
            let shared = words(&mesh, protocol);
            let lock = mesh.read_write_lock(7);
            in_threads(&mesh, |me| {
                for turn in 0..TURNS {
                    if (turn + me as u64).is_multiple_of(3) {
                        let guard = lock.acquire(Access::Write, None).unwrap();
                        add(&shared, 0, 1);
                        add(&shared, 300, 1);
                        drop(guard);
                    } else {
                        let guard = lock.acquire(Access::Read, None).unwrap();
                        assert_eq!(shared.get(0).unwrap(), shared.get(300).unwrap());
                        drop(guard);
                    }
                }
            });
            mesh.barrier(1).wait().unwrap();
            assert_eq!(shared.get(0).unwrap(), TURNS / 3 * (NODES * THREADS) as u64);
            // Two readers at once, and no writer beside them.
            let reading = lock.acquire(Access::Read, None).unwrap();
            mesh.barrier(1).wait().unwrap();
            assert!(lock.try_acquire(Access::Write).unwrap().is_none());
            let short = Some(Duration::from_millis(1));
            assert!(matches!(lock.acquire(Access::Write, short), Err(SyncError::TimedOut { .. })));
            mesh.barrier(1).wait().unwrap();
            assert!(lock.try_acquire(Access::Read).unwrap().is_some(), "nobody waits to write any more");
            drop(reading);
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// A buffer of four places, between threads that fill it and threads that empty it.
#[test]
fn semaphores_pass_everything_on_once() {
    const TEST: &str = "semaphores_pass_everything_on_once";
    const PLACES: u64 = 4;
    const EACH: u64 = 60;
    play(TEST, |mesh| {
        for (round, protocol) in [Protocol::Release, Protocol::WriteInvalidate].into_iter().enumerate() {
            let shared = words(&mesh, protocol);
            let [free, full, turn] = [1, 2, 3].map(|id| mesh.semaphore(round as u64 * 10 + id));
            free.init(PLACES as u32).unwrap();
            turn.init(1).unwrap();
            in_threads(&mesh, |me| {
                for item in 1..=EACH {
                    let (wanted, given, counter) =
                        if me % 2 == 0 { (&free, &full, 0) } else { (&full, &free, 1) };
                    wanted.wait(None).unwrap();
                    turn.wait(None).unwrap();
                    let place = 10 + (add(&shared, counter, 1) % PLACES) as usize;
                    if counter == 0 {
                        assert_eq!(shared.get(place).unwrap(), 0, "the place is free");
                        shared.set(place, item).unwrap();
                        add(&shared, 2, item);
                    } else {
                        let taken = shared.get(place).unwrap();
                        assert!(taken > 0, "something is there");
                        shared.set(place, 0).unwrap();
                        add(&shared, 3, taken);
                    }
                    turn.post().unwrap();
                    given.post().unwrap();
                }
            });
            mesh.barrier(1).wait().unwrap();
            assert_eq!(shared.get(2).unwrap(), shared.get(3).unwrap());
            assert!(!full.try_wait().unwrap());
            let short = Some(Duration::from_millis(1));
            assert!(matches!(full.wait(short), Err(SyncError::TimedOut { .. })));
            assert!(matches!(free.init(1), Err(SyncError::SemaphoreMismatch { first: 4, this: 1, .. })));
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// All threads go round in turn; each waits until the number is its own. A lost signal stops the round.
#[test]
fn signals_reach_those_who_wait() {
    const TEST: &str = "signals_reach_those_who_wait";
    const ROUNDS: u64 = 15;
    play(TEST, |mesh| {
        let all = (NODES * THREADS) as u64;
        for protocol in [Protocol::Release, Protocol::WriteInvalidate] {
            let shared = words(&mesh, protocol);
            let (lock, condvar) = (mesh.lock(1), mesh.condvar(2));
            in_threads(&mesh, |me| {
                for _ in 0..ROUNDS {
                    let mut guard = lock.acquire().unwrap();
                    while shared.get(0).unwrap() % all != me as u64 {
                        guard = condvar.wait_lock(guard, None).unwrap();
                    }
                    add(&shared, 0, 1);
                    condvar.notify_all().unwrap();
                    drop(guard);
                }
            });
            mesh.barrier(1).wait().unwrap();
            assert_eq!(shared.get(0).unwrap(), ROUNDS * all);
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// One signal for one item, and waits that give up in between: what was signalled to one that gave up reaches another.
#[test]
fn signals_to_those_who_gave_up_reach_others() {
    const TEST: &str = "signals_to_those_who_gave_up_reach_others";
    const ITEMS: u64 = 120;
    play(TEST, |mesh| {
        let shared = words(&mesh, Protocol::Release);
        let (lock, condvar) = (mesh.lock(1), mesh.condvar(1));
        in_threads(&mesh, |me| {
            if me == 0 {
                for _ in 0..ITEMS {
                    let guard = lock.acquire().unwrap();
                    add(&shared, 0, 1);
                    condvar.notify_one().unwrap();
                    drop(guard);
                }
                let _guard = lock.acquire().unwrap();
                shared.set(1, 1).unwrap();
                condvar.notify_all().unwrap();
                return;
            }
            let patient = me % 2 == 1;
            let take = |mut guard: LockGuard| loop {
                if shared.get(0).unwrap() > 0 {
                    add(&shared, 0, u64::MAX);
                    add(&shared, 2, 1);
                    return true;
                }
                if shared.get(1).unwrap() == 1 {
                    return false;
                }
                let wait = (!patient).then_some(Duration::from_micros(300));
                guard = match condvar.wait_lock(guard, wait) {
                    Ok(guard) => guard,
                    Err(failed) => {
                        assert!(failed.timed_out() && !patient, "{failed}");
                        failed.into_guard().unwrap()
                    }
                };
            };
            while take(lock.acquire().unwrap()) {}
        });
        mesh.barrier(1).wait().unwrap();
        assert_eq!((shared.get(0).unwrap(), shared.get(2).unwrap()), (0, ITEMS));
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// What node 0 and 1 say when node 2 is killed.
fn kill_one(test: &str) -> Vec<Vec<String>> {
    let mut nodes = start(test, NODES);
    for node in &nodes {
        assert_eq!(node.hear(), "ready");
    }
    nodes.remove(VICTIM.index()).kill();
    nodes.into_iter().map(Node::rest).collect()
}

fn ready(mesh: &Mesh) {
    mesh.barrier(99).wait().unwrap();
    say!("ready");
    if mesh.node() == VICTIM {
        loop {
            std::thread::park();
        }
    }
    mesh.wait_departure(cluster::PATIENCE).unwrap();
}

#[test]
fn readers_are_told_of_a_dead_writer_until_a_writer_was() {
    const TEST: &str = "readers_are_told_of_a_dead_writer_until_a_writer_was";
    play(TEST, |mesh| {
        let locks = (0..12).map(|id| mesh.read_write_lock(id));
        let locks: Vec<_> = locks.collect();
        let write = |lock: &pagemesh::ReadWriteLock| lock.acquire(Access::Write, None);
        let held: Vec<_> =
            locks.iter().map(|lock| (mesh.node() == VICTIM).then(|| write(lock).unwrap())).collect();
        ready(&mesh);
        let mut told = Vec::new();
        for lock in &locks {
            let got = lock.acquire(Access::Read, None);
            told.push(match &got {
                Ok(guard) => guard.left_by().is_some_and(|departure| departure.node == VICTIM),
                Err(SyncError::PeerLost { node: VICTIM, .. }) => continue,
                Err(other) => panic!("{other}"),
            });
        }
        assert!(!told.is_empty() && told.len() < locks.len(), "homes on all nodes");
        assert!(told.iter().all(|told| *told), "every reader");
        mesh.barrier_of(2, 2).wait().or_else(|_| mesh.barrier_of(3, 2).wait()).unwrap();
        let writers = locks.iter().filter_map(|lock| write(lock).ok());
        say!("{}", writers.filter(|guard| guard.left_by().is_some()).count());
        drop(held);
        let _ = mesh.leave();
        say!("{}", told.len());
    });
    everywhere(|| {
        let said = kill_one(TEST);
        let number = |node: usize, line: usize| said[node][line].parse::<usize>().unwrap();
        assert_eq!(number(0, 0) + number(1, 0), number(0, 1), "one writer is told of each lock");
    });
}

#[test]
fn waits_at_a_dead_home_fail_and_others_go_on() {
    const TEST: &str = "waits_at_a_dead_home_fail_and_others_go_on";
    play(TEST, |mesh| {
        let me = mesh.node();
        let ids = || 0..12_u64;
        let is_lost = |error: &SyncError| matches!(error, SyncError::PeerLost { node: VICTIM, .. });
        std::thread::scope(|scope| {
            // The victim does not wait: a unit that its home grants it before that home knows is gone with it.
            let waits = ids().filter(|_| me != VICTIM).map(|id| {
                let mesh = &mesh;
                scope.spawn(move || {
                    let semaphore = mesh.semaphore(id).wait(Some(cluster::PATIENCE));
                    // Each thread has a lock of its own, whose home may be gone too.
                    let Ok(guard) = mesh.lock(100 * (1 + u64::from(me.get())) + id).acquire() else {
                        return (semaphore, None);
                    };
                    let signal = mesh.condvar(id).wait_lock(guard, Some(Duration::from_millis(20)));
                    (semaphore, Some(signal.map(drop).map_err(WaitError::into_parts)))
                })
            });
            let waits: Vec<_> = waits.collect();
            ready(&mesh);
            // A unit for each waiter, where the home lives.
            let posted: Vec<bool> = ids().map(|id| mesh.semaphore(id).post().is_ok()).collect();
            assert!(posted.contains(&true) && posted.contains(&false), "homes on all nodes");
            for (id, wait) in waits.into_iter().enumerate() {
                let (semaphore, signal) = wait.join().unwrap();
                assert_eq!(semaphore.is_ok(), posted[id], "{semaphore:?}");
                assert!(semaphore.as_ref().err().is_none_or(is_lost), "{semaphore:?}");
                let Some(Err((error, guard))) = signal else { continue };
                let timed_out = matches!(error, SyncError::TimedOut { .. });
                assert!(guard.is_some() && (timed_out || is_lost(&error)), "{error}");
            }
        });
        let lost = ids().filter(|id| mesh.condvar(*id).notify_all().is_err_and(|error| is_lost(&error)));
        assert!((1..12).contains(&lost.count()));
        let _ = mesh.leave();
    });
    everywhere(|| {
        kill_one(TEST);
    });
}

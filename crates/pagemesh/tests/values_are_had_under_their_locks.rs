//! A value that belongs to a lock is changed by one thread of all nodes at a time, whole, and nobody sees it between two changes. A
//! thread that panics, and a node that dies, leave it as it was and say so to the next. What is to be done once is done
//! once.

mod cluster;

use cluster::{everywhere, play, run, start};
use pagemesh::{
    Access, Condvar, LockError, Mesh, Mutex, MutexGuard, NodeId, Once, OnceState, Placement, Protocol,
    RangeError, Region, RegionError, RegionOptions, RwLock,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const NODES: usize = 3;
const THREADS: u64 = 2;

const PROTOCOLS: [Protocol; 4] =
    [Protocol::Release, Protocol::WriteInvalidate, Protocol::Migration, Protocol::Entry];

type Queue = [u64; 20];

fn region(mesh: &Mesh, protocol: Protocol) -> Region {
    let options = RegionOptions::new(8192).protocol(protocol);
    let options = match protocol {
        Protocol::Entry => options.placement(Placement::Single(NodeId::COORDINATOR)),
        _ => options,
    };
    mesh.region(&format!("{protocol:?}"), options).unwrap()
}

fn in_threads(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(&work);
        }
    });
}

/// Two mutexes and a reader-writer lock on one page, and one mutex that lies on two pages.
#[test]
fn values_of_all_locks_are_changed_whole() {
    const TEST: &str = "values_of_all_locks_are_changed_whole";
    const EACH: u64 = 40;
    play(TEST, |mesh| {
        for protocol in PROTOCOLS {
            let region = region(&mesh, protocol);
            let one = Mutex::<u64>::new(&region, 0).unwrap();
            let pair = RwLock::<[u64; 2]>::new(&region, 16).unwrap();
            let wide = Mutex::<Queue>::new(&region, 4096 - 64).unwrap();
            let once = Once::new(&region, 4096 - 128).unwrap();
            in_threads(|| {
                once.call_once(|| *one.lock().unwrap() += 1000).unwrap();
                assert!(once.is_completed().unwrap());
                for _ in 0..EACH {
                    *one.lock().unwrap() += 1;
                    let mut write = pair.write().unwrap();
                    write[0] += 1;
                    write[1] += 1;
                    drop(write);
                    let read = pair.read().unwrap();
                    assert_eq!(read[0], read[1]);
                    drop(read);
                    let mut guard = wide.lock().unwrap();
                    assert!(guard.iter().all(|word| *word == guard[0]), "{guard:?}");
                    guard.iter_mut().for_each(|word| *word += 1);
                    MutexGuard::unlock(guard).unwrap();
                }
            });
            mesh.barrier(1).wait().unwrap();
            let all = EACH * THREADS * NODES as u64;
            assert_eq!(*one.lock().unwrap(), 1000 + all, "once by all nodes");
            assert_eq!(*pair.read().unwrap(), [all; 2]);
            assert_eq!(*wide.lock().unwrap(), [all; 20]);
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// A queue between threads that add and threads that take, who wait while it is full or empty.
#[test]
fn a_queue_between_nodes_passes_everything_on() {
    const TEST: &str = "a_queue_between_nodes_passes_everything_on";
    const EACH: u64 = 40;
    const ROOM: u64 = 5;
    play(TEST, |mesh| {
        for protocol in [Protocol::Release, Protocol::Entry] {
            let region = region(&mesh, protocol);
            // Added, taken, sum of what was taken, and the places.
            let queue = Mutex::<Queue>::new(&region, 128).unwrap();
            let (not_full, not_empty): (Condvar, Condvar) = (mesh.condvar(1), mesh.condvar(2));
            let change =
                |has_room: fn(&Queue) -> bool, wait: &Condvar, tell: &Condvar, work: fn(&mut Queue)| {
                    for _ in 0..EACH {
                        let mut guard = queue.lock().unwrap();
                        while !has_room(&guard) {
                            guard = wait.wait(guard).unwrap();
                        }
                        work(&mut guard);
                        drop(guard);
                        tell.notify_one().unwrap();
                    }
                };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    change(
                        |queue| queue[0] - queue[1] < ROOM,
                        &not_full,
                        &not_empty,
                        |queue| {
                            queue[0] += 1;
                            queue[3 + (queue[0] % ROOM) as usize] = queue[0];
                        },
                    );
                });
                scope.spawn(|| {
                    change(
                        |queue| queue[0] > queue[1],
                        &not_empty,
                        &not_full,
                        |queue| {
                            queue[1] += 1;
                            queue[2] += queue[3 + (queue[1] % ROOM) as usize];
                        },
                    );
                });
            });
            mesh.barrier(1).wait().unwrap();
            let all = EACH * NODES as u64;
            let (guard, timed_out) =
                not_empty.wait_timeout(queue.lock().unwrap(), Duration::from_millis(1)).unwrap();
            assert!(timed_out);
            assert_eq!(guard[..3], [all, all, all * (all + 1) / 2]);
            drop(guard);
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn a_panic_leaves_the_value_as_it_was_and_poisons_it() {
    const TEST: &str = "a_panic_leaves_the_value_as_it_was_and_poisons_it";
    play(TEST, |mesh| {
        std::panic::set_hook(Box::new(|_| {}));
        for protocol in PROTOCOLS {
            let region = region(&mesh, protocol);
            let mutex = Mutex::<u64>::new(&region, 0).unwrap();
            let rwlock = RwLock::<u64>::new(&region, 64).unwrap();
            let once = Once::new(&region, 128).unwrap();
            let done = Mutex::<u64>::new(&region, 192).unwrap();
            if mesh.node() == NodeId::new(1) {
                *mutex.lock().unwrap() = 7;
                let fails = |work: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
                fails(&|| {
                    let mut guard = mutex.lock().unwrap();
                    *guard = 8;
                    panic!("on purpose");
                });
                fails(&|| {
                    let _guard = rwlock.write().unwrap();
                    panic!("on purpose");
                });
                fails(&|| once.call_once(|| panic!("on purpose")).unwrap());
            }
            mesh.barrier(1).wait().unwrap();
            let guard = mutex.lock().expect_err("poisoned").into_poisoned().unwrap();
            assert_eq!(*guard, 7);
            drop(guard);
            let guard = rwlock.read().expect_err("poisoned").into_poisoned().unwrap();
            assert_eq!(*guard, 0);
            drop(guard);
            assert!(matches!(once.call_once(|| ()), Err(LockError::Poisoned(()))));
            assert!(!once.is_completed().unwrap());
            mesh.barrier(1).wait().unwrap();
            // Whoever comes first knows that something may be half done; nobody does it after that.
            let count = |state: &OnceState| {
                assert!(state.is_poisoned());
                *done.lock().unwrap() += 1;
            };
            once.call_once_force(count).unwrap();
            once.call_once(|| unreachable!("it was done")).unwrap();
            assert!(once.is_completed().unwrap());
            assert_eq!(*done.lock().unwrap(), 1);
            if mesh.node() == NodeId::new(0) {
                let mut guard = mutex.lock().expect_err("still poisoned").into_poisoned().unwrap();
                *guard += 1;
                MutexGuard::clear_poison(&guard).unwrap();
            }
            mesh.barrier(1).wait().unwrap();
            assert_eq!(*mutex.lock().unwrap(), 8);
        }
        mesh.leave().unwrap();
    });
    run(TEST, 2);
}

/// What a node leaves that dies while it writes under reader-writer locks, and while it does what is to be done once.
#[test]
fn a_dead_writer_and_a_dead_doer_poison_what_they_were_at() {
    const TEST: &str = "a_dead_writer_and_a_dead_doer_poison_what_they_were_at";
    const EACH: usize = 6;
    play(TEST, |mesh| {
        let places = [Protocol::Release, Protocol::Entry].map(|protocol| {
            let region = region(&mesh, protocol);
            let locks = (0..EACH).map(|nth| RwLock::<[u64; 2]>::new(&region, nth * 128).unwrap());
            let onces = (0..EACH).map(|nth| Once::new(&region, 4096 + nth * 64).unwrap());
            (locks.collect::<Vec<_>>(), onces.collect::<Vec<_>>())
        });
        if mesh.node() == NodeId::new(2) {
            let busy = std::sync::Barrier::new(1 + 2 * EACH);
            let forever = || loop {
                std::thread::park();
            };
            std::thread::scope(|scope| {
                for once in places.iter().flat_map(|(_, onces)| onces) {
                    scope.spawn(|| {
                        once.call_once(|| {
                            busy.wait();
                            forever();
                        })
                    });
                }
                let mut held: Vec<_> =
                    places.iter().flat_map(|(locks, _)| locks).map(|lock| lock.write().unwrap()).collect();
                for guard in &mut held {
                    guard[0] = 99;
                }
                busy.wait();
                mesh.barrier(99).wait().unwrap();
                say!("ready");
                forever();
            });
        }
        mesh.barrier(99).wait().unwrap();
        say!("ready");
        // Homes of some locks, and of none of the pages, die with it.
        for (locks, onces) in &places {
            let mut told = 0;
            for lock in locks {
                match lock.read() {
                    Err(LockError::Poisoned(guard)) => {
                        assert_eq!(*guard, [0, 0], "as it was");
                        told += 1;
                    }
                    Err(LockError::Sync(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            let mut undone = 0;
            for once in onces {
                match once.call_once(|| unreachable!("somebody was at it")) {
                    Err(LockError::Poisoned(())) => undone += 1,
                    Err(LockError::Sync(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            say!("{told} {undone}");
        }
        let _ = mesh.leave();
    });
    everywhere(|| {
        let said = said_after_a_death(TEST);
        assert!(
            said.iter().all(|line| !line.contains("0 ") && !line.ends_with(" 0")),
            "no lock lived on: {said:?}"
        );
    });
}

/// Where the bytes are locked as a range by somebody who is in no mutex, a mutex of them has to wait, and says so.
#[test]
fn a_value_in_an_entry_region_is_a_range_of_it_too() {
    let mesh = Mesh::join(pagemesh::Config::single()).unwrap();
    let region = region(&mesh, Protocol::Entry);
    let (mutex, lock) = (Mutex::<u64>::new(&region, 64).unwrap(), RwLock::<u64>::new(&region, 128).unwrap());
    let once = Once::new(&region, 192).unwrap();
    *mutex.lock().unwrap() = 5;
    let held = region.lock_write(72..200).unwrap();
    assert!(matches!(mutex.lock(), Err(LockError::Range(RangeError::AlreadyHeld { .. }))));
    assert!(matches!(lock.read(), Err(LockError::Range(RangeError::AlreadyHeld { held_start: 72, .. }))));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(mutex.try_lock().unwrap().is_none());
            assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
            assert!(!once.is_completed().unwrap());
            let soon = Duration::from_millis(20);
            assert!(matches!(mutex.lock_within(soon), Err(LockError::Range(RangeError::Sync(_)))));
        });
    });
    held.unlock().unwrap();
    assert_eq!(*mutex.lock().unwrap(), 5, "the mutex was free again each time");
    let reading = lock.read().unwrap();
    let again = lock.read().unwrap_err().to_string();
    assert!(again.contains("give that back first"), "one thread has a range once: {again}");
    drop(reading);
    once.call_once(|| *mutex.lock().unwrap() += 1).unwrap();
    let all = region.lock_read(0..8192).unwrap();
    assert_eq!(region.slice::<u64>(72, 1).unwrap().get(0).unwrap(), 6, "after the word that may be poisoned");
    drop(all);
}

/// Who waits as long as there can be waited does not reckon with the end of the clock.
#[test]
fn forever_is_a_time_to_wait_for() {
    let forever = Duration::MAX;
    let config =
        pagemesh::Config::single().join_timeout(forever).wait_timeout(forever).fault_timeout(forever);
    let mesh = Mesh::join(config.pin_deadline(forever)).unwrap();
    let region = region(&mesh, Protocol::Entry);
    let (mutex, lock) = (Mutex::<u64>::new(&region, 0).unwrap(), RwLock::<u64>::new(&region, 64).unwrap());
    *mutex.lock_within(forever).unwrap() += 1;
    *lock.write_within(forever).unwrap() = 7;
    assert_eq!(*lock.read_within(forever).unwrap(), 7);
    region.lock_range(0..100, Access::Read, Some(forever)).unwrap().unlock().unwrap();
    mesh.barrier_of(1, 1).wait_within(forever).unwrap();
    mesh.semaphore(1).post().unwrap();
    mesh.semaphore(1).wait(Some(forever)).unwrap();
    mesh.attach(region.name(), forever).unwrap();
    let changed = mesh.condvar(1);
    let guard = mutex.lock().unwrap();
    std::thread::scope(|scope| {
        // It has the mutex when the other waits.
        scope.spawn(|| {
            *mutex.lock().unwrap() += 1;
            changed.notify_all().unwrap();
        });
        let (guard, timed_out) = changed.wait_timeout_while(guard, forever, |value| *value < 2).unwrap();
        assert_eq!((*guard, timed_out), (2, false));
    });
    mesh.leave().unwrap();
}

/// Numbers that no value can be at, of which some would overflow.
#[test]
fn a_place_that_cannot_be_is_refused_with_words() {
    let mesh = Mesh::join(pagemesh::Config::single()).unwrap();
    let region = region(&mesh, Protocol::WriteInvalidate);
    for offset in [3, 4, 8184, 8192, usize::MAX - 7, usize::MAX - 15, usize::MAX] {
        let refused = |error: RegionError| {
            let text = error.to_string();
            assert!(matches!(error, RegionError::Slice { offset: asked, .. } if asked == offset), "{text}");
            let words =
                format!("at offset {offset} were asked for; it has 8192 bytes, and the offset has to be");
            assert!(text.contains(&words), "{text}");
        };
        refused(Mutex::<u64>::new(&region, offset).unwrap_err());
        refused(RwLock::<[u8; 3]>::new(&region, offset).unwrap_err());
        refused(Mutex::<u128>::new(&region, offset).unwrap_err());
        refused(region.slice::<u64>(offset, 2).unwrap_err());
        if offset != 8184 {
            refused(Once::new(&region, offset).unwrap_err());
            refused(pagemesh::AtomicU64::new(&region, offset).unwrap_err());
        }
    }
    assert!(Mutex::<u128>::new(&region, 8).is_err() && Mutex::<u128>::new(&region, 8160).is_ok());
}

#[test]
fn a_dead_holder_poisons_the_value() {
    const TEST: &str = "a_dead_holder_poisons_the_value";
    play(TEST, |mesh| {
        let region = region(&mesh, Protocol::Release);
        let mutexes: Vec<_> = (0..8).map(|nth| Mutex::<u64>::new(&region, nth * 512).unwrap()).collect();
        let victim = mesh.node() == NodeId::new(2);
        let mut held: Vec<_> = mutexes.iter().filter(|_| victim).map(|mutex| mutex.lock().unwrap()).collect();
        for guard in &mut held {
            **guard = 99;
        }
        mesh.barrier(99).wait().unwrap();
        say!("ready");
        if victim {
            loop {
                std::thread::park();
            }
        }
        let mut poisoned = 0;
        for mutex in &mutexes {
            match mutex.lock().map(drop) {
                Err(LockError::Poisoned(guard)) => {
                    poisoned += 1;
                    assert_eq!(*guard, 0, "as it was");
                }
                // Its lock, or its page, was at home with the victim.
                Err(LockError::Sync(_) | LockError::Access(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        say!("{poisoned}");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let said = said_after_a_death(TEST);
        assert_ne!(said, ["0"], "no lock lived on");
    });
}

/// What std has: to try, to wait for a time, to wait while something holds.
#[test]
fn who_does_not_want_to_wait_need_not() {
    let mesh = Mesh::join(pagemesh::Config::single()).unwrap();
    let region = region(&mesh, Protocol::WriteInvalidate);
    let pair = RwLock::<[u64; 2]>::new(&region, 16).unwrap();
    let soon = Duration::from_millis(20);
    let reading = pair.try_read().unwrap().expect("nobody has it");
    assert!(pair.try_write().unwrap().is_none());
    assert!(matches!(pair.write_within(soon), Err(LockError::Sync(pagemesh::SyncError::TimedOut { .. }))));
    assert_eq!(*pair.read_within(soon).unwrap(), *reading);
    drop(reading);
    let mut writing = pair.try_write().unwrap().expect("nobody has it");
    writing[1] = 7;
    assert!(pair.try_read().unwrap().is_none());
    assert!(matches!(pair.read_within(soon), Err(LockError::Sync(pagemesh::SyncError::TimedOut { .. }))));
    drop(writing);
    assert_eq!(*pair.write_within(soon).unwrap(), [0, 7]);
    let missing = mesh.barrier_of(5, 2);
    assert!(matches!(missing.wait_within(soon), Err(pagemesh::SyncError::TimedOut { .. })));
    let (value, changed) = (Mutex::<u64>::new(&region, 64).unwrap(), mesh.condvar(5));
    let (guard, holds) =
        changed.wait_timeout_while(value.lock().unwrap(), soon, |value| *value == 0).unwrap();
    assert!(holds);
    let held = value.lock_within(soon).map(drop).unwrap_err().to_string();
    let whose = format!("lock of the value at {:#x}: waited 20ms; held by node 0 for ", region.base() + 64);
    assert!(held.starts_with(&whose), "{held}");
    drop(guard);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| *changed.wait_while(value.lock().unwrap(), |value| *value < 3).unwrap());
        for _ in 0..3 {
            *value.lock().unwrap() += 1;
            changed.notify_all().unwrap();
        }
        assert_eq!(waiting.join().unwrap(), 3);
        // With one who waits for the barrier, the one who had given up is not counted.
        let other = scope.spawn(|| missing.wait());
        missing.wait().unwrap();
        other.join().unwrap().unwrap();
    });
}

/// What the living nodes say, each the same, after node 2 was killed when all were ready.
fn said_after_a_death(test: &str) -> Vec<String> {
    let mut nodes = start(test, NODES);
    for node in &nodes {
        assert_eq!(node.hear(), "ready");
    }
    nodes.remove(2).kill();
    let mut said: Vec<_> = nodes.into_iter().map(cluster::Node::rest).collect();
    assert_eq!(said[0], said[1], "all takers find it poisoned, not only the first");
    said.swap_remove(0)
}

//! Many writers may have copies of one page at the same time, and nothing that any of them wrote may be lost: not the byte beside
//! the one that another node writes, not what a thread has written and not released while another thread of its node takes
//! a lock. Programs that synchronise see one memory.

mod cluster;

use cluster::{Node, everywhere, play, run, start_with};
use pagemesh::{Access, Mesh, Placement, Protocol, RegionOptions, SharedSlice};
use std::sync::atomic::{AtomicBool, Ordering};

const NODES: usize = 4;

fn options(bytes: usize, placement: Placement) -> RegionOptions {
    RegionOptions::new(bytes).protocol(Protocol::Release).placement(placement)
}

fn bytes(mesh: &Mesh, name: &str, len: usize, placement: Placement) -> SharedSlice<u8> {
    mesh.region(name, options(len, placement)).unwrap().slice(0, len).unwrap()
}

fn words(mesh: &Mesh, name: &str, len: usize, placement: Placement) -> SharedSlice<u64> {
    mesh.region(name, options(len * 8, placement)).unwrap().slice(0, len).unwrap()
}

/// As `run`, where pages are fetched before threads ask for them.
fn run_with_foresight(test: &str) {
    let nodes = start_with(test, NODES, &[("PAGEMESH_FORESIGHT", "yes")]);
    let said: Vec<Vec<String>> = nodes.into_iter().map(Node::rest).collect();
    assert_eq!(said.len(), NODES);
}

fn placements() -> [Placement; 4] {
    [Placement::Cyclic, Placement::Block, Placement::FirstTouch, Placement::Single(pagemesh::NodeId::new(1))]
}

/// Every node writes every fourth byte, so that each word has bytes of all.
#[test]
fn bytes_of_one_word_by_four_nodes_are_all_kept() {
    const TEST: &str = "bytes_of_one_word_by_four_nodes_are_all_kept";
    const BYTES: usize = 3 * 4096;
    play(TEST, |mesh| {
        let me = mesh.node().index();
        for placement in placements() {
            let shared = bytes(&mesh, &format!("{placement:?}"), BYTES, placement);
            for round in 1..=5_usize {
                for place in (me..BYTES).step_by(NODES).filter(|place| (place / NODES).is_multiple_of(round))
                {
                    shared.set(place, (round * 16 + me) as u8).unwrap();
                }
                mesh.barrier(1).wait().unwrap();
                let mut all = vec![0; BYTES];
                shared.read(0, &mut all).unwrap();
                for (place, byte) in all.iter().enumerate() {
                    let last =
                        (1..=round).rev().find(|round| (place / NODES).is_multiple_of(*round)).unwrap();
                    assert_eq!(*byte as usize, last * 16 + place % NODES, "byte {place}, {placement:?}");
                }
                mesh.barrier(1).wait().unwrap();
            }
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
        run_with_foresight(TEST);
    });
}

/// Counters of different locks lie on one page; all nodes and threads count all of them.
#[test]
fn counters_under_locks_lose_nothing() {
    const TEST: &str = "counters_under_locks_lose_nothing";
    const LOCKS: usize = 3;
    const THREADS: usize = 2;
    const EACH: u64 = 100;
    play(TEST, |mesh| {
        for placement in placements() {
            let counters = words(&mesh, &format!("{placement:?}"), 1024, placement);
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (mesh, counters) = (&mesh, &counters);
                    scope.spawn(move || {
                        for turn in 0..EACH as usize {
                            let lock = (turn + thread) % LOCKS;
                            let guard = mesh.lock(lock as u64).acquire().unwrap();
                            let place = lock * 5;
                            counters.set(place, counters.get(place).unwrap() + 1).unwrap();
                            drop(guard);
                        }
                    });
                }
            });
            mesh.barrier(1).wait().unwrap();
            let sum: u64 = (0..LOCKS).map(|lock| counters.get(lock * 5).unwrap()).sum();
            assert_eq!(sum, EACH * (NODES * THREADS) as u64, "{placement:?}");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// One thread of each node writes words of a page for a long time without a release. Another thread of the node takes locks
/// meanwhile, under which all nodes write to the same page, so that the node's copy is dropped again and again.
#[test]
fn an_acquire_by_one_thread_loses_nothing_of_another() {
    const TEST: &str = "an_acquire_by_one_thread_loses_nothing_of_another";
    const MINE: usize = 50;
    play(TEST, |mesh| {
        let me = mesh.node().index();
        let page = words(&mesh, "page", 512, Placement::Cyclic);
        std::thread::scope(|scope| {
            let (mesh, page) = (&mesh, &page);
            scope.spawn(move || {
                for round in 1..=200 {
                    for own in 0..MINE {
                        page.set(10 + own * NODES + me, round).unwrap();
                    }
                }
            });
            scope.spawn(move || {
                for _ in 0..200 {
                    let guard = mesh.lock(7).acquire().unwrap();
                    page.set(0, page.get(0).unwrap() + 1).unwrap();
                    drop(guard);
                }
            });
        });
        mesh.barrier(1).wait().unwrap();
        assert_eq!(page.get(0).unwrap(), 200 * NODES as u64);
        for place in 10..10 + MINE * NODES {
            assert_eq!(page.get(place).unwrap(), 200, "word {place}");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
        run_with_foresight(TEST);
    });
}

/// As before, while a third thread has the page pinned for writing most of the time. A pinned page stays writable until an acquire takes it;
/// whoever stores to it at that moment finds its store in the page that comes back.
#[test]
fn an_acquire_that_takes_a_pinned_page_loses_nothing_of_another() {
    const TEST: &str = "an_acquire_that_takes_a_pinned_page_loses_nothing_of_another";
    const ROUNDS: u64 = 200;
    play(TEST, |mesh| {
        let (me, over) = (mesh.node().index(), AtomicBool::new(false));
        let options = options(4096, Placement::Single(pagemesh::NodeId::new(1)));
        let region = mesh.region("pinned", options).unwrap();
        let page: SharedSlice<u64> = region.slice(0, 512).unwrap();
        std::thread::scope(|scope| {
            let (mesh, page, region, over) = (&mesh, &page, &region, &over);
            let writer = scope.spawn(move || {
                let mut value = 0;
                while !over.load(Ordering::Relaxed) {
                    value += 1;
                    page.set(8 + me, value).unwrap();
                    assert_eq!(page.get(8 + me), Ok(value), "a store was lost");
                }
                value
            });
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let pin = region.pin(0..8, Access::Write).unwrap();
                    while pin.is_held() && !over.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    // It says when the page went; that is what is wanted here.
                    let _ = pin.release();
                }
            });
            for round in 1..=ROUNDS {
                page.set(me, round).unwrap();
                mesh.barrier(1).wait().unwrap();
                assert_eq!(page.get(1 - me), Ok(round));
                mesh.barrier(1).wait().unwrap();
            }
            over.store(true, Ordering::Relaxed);
            let value = writer.join().unwrap();
            page.set(16 + me, value).unwrap();
        });
        mesh.barrier(1).wait().unwrap();
        for node in 0..2 {
            assert_eq!(page.get(8 + node), page.get(16 + node), "what node {node} wrote last");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
        // Where the kernel notes writes, and where it does not.
        for node in start_with(TEST, 2, &[("PAGEMESH_TRACK_WRITES", "off")]) {
            node.rest();
        }
    });
}

/// More pages between two barriers than there are twins, and more bytes than a connection queues.
#[test]
fn more_is_written_than_twins_are_kept() {
    const TEST: &str = "more_is_written_than_twins_are_kept";
    const PAGES: usize = 6000;
    play(TEST, |mesh| {
        let me = mesh.node().index();
        let all = words(&mesh, "much", PAGES * 512, Placement::Single(pagemesh::NodeId::new(0)));
        let page: Vec<u64> = (0..512).map(|word| word * 3 + me as u64).collect();
        if me > 0 {
            for number in (me - 1..PAGES).step_by(NODES - 1) {
                all.write(number * 512, &page).unwrap();
            }
        }
        mesh.barrier(1).wait().unwrap();
        for number in (0..PAGES).step_by(17) {
            let writer = 1 + number % (NODES - 1);
            let mut found = vec![0; 512];
            all.read(number * 512, &mut found).unwrap();
            assert!(found.iter().enumerate().all(|(word, value)| *value == (word * 3 + writer) as u64));
        }
        mesh.leave().unwrap();
    });
    // With every pager: the write fault that ends the interval may be on the small stack of a signal handler.
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// A writer whose bytes are those that were there has touched the page, and its home must be able to show it.
#[test]
fn zeros_written_to_an_untouched_page_can_be_read_at_its_home() {
    const TEST: &str = "zeros_written_to_an_untouched_page_can_be_read_at_its_home";
    const PAGES: usize = 40;
    play(TEST, |mesh| {
        let home = Placement::Single(pagemesh::NodeId::new(0));
        let all = words(&mesh, "zeros", PAGES * 512, home);
        if mesh.node().index() == 1 {
            all.write(0, &vec![0; PAGES * 512]).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node().index() == 0 {
            for page in 0..PAGES {
                let place = page * 512 + page;
                assert_eq!(all.get(place).unwrap(), 0, "page {page}");
                all.set(place, 1).unwrap();
            }
        }
        mesh.barrier(1).wait().unwrap();
        assert!((0..PAGES).all(|page| all.get(page * 512 + page).unwrap() == 1));
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

/// Regions of all protocols, ordered by one lock.
#[test]
fn regions_of_all_protocols_are_ordered_by_one_lock() {
    const TEST: &str = "regions_of_all_protocols_are_ordered_by_one_lock";
    play(TEST, |mesh| {
        let protocols = [Protocol::Release, Protocol::WriteInvalidate, Protocol::Migration];
        let shared = protocols.map(|protocol| {
            let options = RegionOptions::new(4096).protocol(protocol);
            mesh.region(&format!("{protocol:?}"), options).unwrap().slice::<u64>(0, 512).unwrap()
        });
        let master = Placement::Single(pagemesh::NodeId::new(2));
        let entry = RegionOptions::new(4096).protocol(Protocol::Entry).placement(master);
        let entry = mesh.region("Entry", entry).unwrap();
        let ranged = entry.slice::<u64>(0, 512).unwrap();
        for turn in 0..150 {
            let guard = mesh.lock(3).acquire().unwrap();
            let values: Vec<u64> = shared.iter().map(|words| words.get(9).unwrap()).collect();
            assert!(values.iter().all(|value| *value == values[0]), "turn {turn}: {values:?}");
            for words in &shared {
                words.set(9, values[0] + 1).unwrap();
            }
            // Where only locked ranges bring bytes, one is locked beside the lock, and comes later than it.
            let range = entry.lock_write(64..80).unwrap();
            assert_eq!(ranged.get(9).unwrap(), values[0], "turn {turn}");
            ranged.set(9, values[0] + 1).unwrap();
            range.unlock().unwrap();
            drop(guard);
        }
        mesh.barrier(1).wait().unwrap();
        assert_eq!(shared[0].get(9).unwrap(), 150 * NODES as u64);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// Regions of all protocols, with threads of all nodes that meet at barriers and take the same locks.
#[test]
fn regions_of_all_protocols_are_ordered_by_the_same_locks_and_barriers() {
    const TEST: &str = "regions_of_all_protocols_are_ordered_by_the_same_locks_and_barriers";
    const THREADS: usize = 2;
    const ALL: usize = NODES * THREADS;
    const ROUNDS: u64 = 15;
    play(TEST, |mesh| {
        let protocols = [Protocol::Release, Protocol::WriteInvalidate, Protocol::Migration];
        let shared = protocols.map(|protocol| {
            let options = RegionOptions::new(2 * 4096).protocol(protocol);
            mesh.region(&format!("{protocol:?}"), options).unwrap().slice::<u64>(0, 1024).unwrap()
        });
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (mesh, shared) = (&mesh, &shared);
                scope.spawn(move || {
                    let own = mesh.node().index() * THREADS + thread;
                    let barrier = mesh.barrier_of(9, ALL as u32);
                    for round in 1..=ROUNDS {
                        for words in shared {
                            words.set(own, round * 100 + own as u64).unwrap();
                        }
                        barrier.wait().unwrap();
                        for words in shared {
                            for other in 0..ALL {
                                let found = words.get(other).unwrap();
                                assert_eq!(found, round * 100 + other as u64, "round {round}");
                            }
                        }
                        // Every region counts under the same lock, on its other page.
                        let guard = mesh.lock(4).acquire().unwrap();
                        let counts: Vec<u64> = shared.iter().map(|words| words.get(600).unwrap()).collect();
                        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
                        for words in shared {
                            words.set(600, counts[0] + 1).unwrap();
                        }
                        drop(guard);
                        barrier.wait().unwrap();
                    }
                });
            }
        });
        for words in &shared {
            assert_eq!(words.get(600).unwrap(), ROUNDS * ALL as u64);
        }
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
        run_with_foresight(TEST);
    });
}

/// Threads of each node write bytes of the same words, while others release and acquire.
#[test]
fn bytes_of_one_word_by_threads_of_four_nodes_are_all_kept() {
    const TEST: &str = "bytes_of_one_word_by_threads_of_four_nodes_are_all_kept";
    const THREADS: usize = 2;
    const ALL: usize = NODES * THREADS;
    const ROUNDS: u8 = 10;
    play(TEST, |mesh| {
        let shared = bytes(&mesh, "threads", 2 * 4096, Placement::Cyclic);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (mesh, shared) = (&mesh, &shared);
                scope.spawn(move || {
                    let own = mesh.node().index() * THREADS + thread;
                    for round in 1..=ROUNDS {
                        for place in (own..2 * 4096).step_by(ALL) {
                            shared.set(place, round * 8 + own as u8).unwrap();
                            // The threads of a node release at different times, and so end each other's intervals.
                            if place % 1024 == own {
                                drop(mesh.lock(own as u64 % 3).acquire().unwrap());
                            }
                        }
                    }
                });
            }
        });
        mesh.barrier(1).wait().unwrap();
        let mut all = vec![0; 2 * 4096];
        shared.read(0, &mut all).unwrap();
        for (place, byte) in all.iter().enumerate() {
            assert_eq!(*byte as usize, ROUNDS as usize * 8 + place % ALL, "byte {place}");
        }
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
        run_with_foresight(TEST);
    });
}

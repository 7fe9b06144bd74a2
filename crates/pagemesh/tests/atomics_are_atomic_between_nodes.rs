//! Atomic instructions on shared pages are atomic between all threads of all nodes, although the page moves from node to node between
//! any two of them: a counter counts, a spin lock excludes, a lock-free stack loses and doubles nothing.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::{Mesh, RegionOptions, SharedSlice};
use std::collections::BTreeSet;

const NODES: usize = 4;
const THREADS: usize = 4;

/// Runs `body` on every thread of this node, with the thread's number among all.
fn on_all_threads(mesh: &Mesh, words: &SharedSlice<u64>, body: impl Fn(usize, &SharedSlice<u64>) + Sync) {
    let first = mesh.node().index() * THREADS;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let body = &body;
            scope.spawn(move || body(first + thread, words));
        }
    });
}

fn shared(mesh: &Mesh, pages: usize) -> SharedSlice<u64> {
    let region = mesh.region("words", RegionOptions::new(pages * 4096)).unwrap();
    region.slice(0, pages * 512).unwrap()
}

#[test]
fn a_counter_counts_every_increment_once() {
    const TEST: &str = "a_counter_counts_every_increment_once";
    const ROUNDS: u64 = 500;
    play(TEST, |mesh| {
        let words = shared(&mesh, 1);
        let region = words.region().clone();
        on_all_threads(&mesh, &words, |thread, words| {
            let mut last = None;
            for _ in 0..ROUNDS {
                let before = words.fetch_add(0, 1).unwrap();
                assert!(last.is_none_or(|last| before > last), "a counter went back");
                last = Some(before);
                // The same page through the standard library's atomics, as any program would use them.
                let word = std::ptr::with_exposed_provenance_mut(region.base() + 64);
                // SAFETY: word 8 of a region that outlives this thread; it is only ever accessed atomically.
                let plain = unsafe { std::sync::atomic::AtomicU64::from_ptr(word) };
                plain.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            words.set(16 + thread, ROUNDS).unwrap();
        });
        mesh.barrier(1).wait().unwrap();
        let all = ROUNDS * (NODES * THREADS) as u64;
        assert_eq!((words.get(0).unwrap(), words.get(8).unwrap()), (all, all));
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn a_spin_lock_excludes_all_threads_of_all_nodes() {
    const TEST: &str = "a_spin_lock_excludes_all_threads_of_all_nodes";
    const ROUNDS: u64 = 20;
    play(TEST, |mesh| {
        let words = shared(&mesh, 2);
        on_all_threads(&mesh, &words, |_, words| {
            for _ in 0..ROUNDS {
                // Test and test-and-set: waiting only reads, so the page stays with the holder between two tries.
                while words.get(0).unwrap() != 0 || words.compare_exchange(0, 0, 1).unwrap().is_err() {
                    std::thread::yield_now();
                }
                // On another page: the lock's page moves about, what it protects follows.
                words.set(512, words.get(512).unwrap() + 1).unwrap();
                assert_eq!(words.swap(0, 0).unwrap(), 1, "the lock was taken from its holder");
            }
        });
        mesh.barrier(1).wait().unwrap();
        assert_eq!(words.get(512).unwrap(), ROUNDS * (NODES * THREADS) as u64);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn a_lock_free_stack_gives_back_what_it_was_given() {
    const TEST: &str = "a_lock_free_stack_gives_back_what_it_was_given";
    const EACH: usize = 60;
    const CELLS: usize = NODES * THREADS * EACH;
    // The head is in word 0: the top cell's number plus one in the low half, a tag against reuse (ABA) in the high half. The links
    // begin on the next page; link `c` is the cell below cell `c`, plus one.
    const LINKS: usize = 512;
    let push = |words: &SharedSlice<u64>, cell: usize| loop {
        let head = words.get(0).unwrap();
        words.set(LINKS + cell, head & 0xffff_ffff).unwrap();
        let tag = (head >> 32).wrapping_add(1);
        let next = (tag << 32) | (cell as u64 + 1);
        if words.compare_exchange(0, head, next).unwrap().is_ok() {
            return;
        }
    };
    let pop = |words: &SharedSlice<u64>| loop {
        let head = words.get(0).unwrap();
        let top = (head & 0xffff_ffff).checked_sub(1)? as usize;
        let below = words.get(LINKS + top).unwrap();
        let tag = (head >> 32).wrapping_add(1);
        if words.compare_exchange(0, head, (tag << 32) | below).unwrap().is_ok() {
            return Some(top);
        }
    };
    play(TEST, |mesh| {
        let words = shared(&mesh, 1 + CELLS.div_ceil(512));
        let popped = std::sync::Mutex::new(Vec::new());
        on_all_threads(&mesh, &words, |thread, words| {
            // Two in, one out, so that pushes and pops of all threads meet.
            for cell in (thread * EACH..(thread + 1) * EACH).step_by(2) {
                push(words, cell);
                push(words, cell + 1);
                popped.lock().unwrap().push(pop(words).expect("more were pushed than popped"));
            }
        });
        mesh.barrier(1).wait().unwrap();
        while let Some(cell) = pop(&words) {
            popped.lock().unwrap().push(cell);
        }
        for cell in popped.into_inner().unwrap() {
            say!("{cell}");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, NODES).concat();
        let cells: BTreeSet<usize> = said.iter().map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(said.len(), CELLS, "a cell was lost or popped twice");
        assert_eq!(cells, (0..CELLS).collect());
    });
}

//! A counter that all nodes add to must count each addition once, wherever its page is and whatever else happens to the page; and a page that
//! was not to move must not move. When a node hangs or dies, a caller must be able to tell what was not done from what nobody knows.
//! Real processes, with every pager.

mod cluster;

use cluster::{PATIENCE, everywhere, play, run, start_with};
use pagemesh::{
    AccessError, AtomicBool, AtomicError, AtomicI64, AtomicU64, AtomicUsize, Mesh, NodeId, PageState,
    Placement, Protocol, RangeError, Region, RegionOptions,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Names the file that appears when the holder stands still.
const GO: &str = "PAGEMESH_TEST_GO";
const NODES: usize = 3;
const THREADS: usize = 3;

const PROTOCOLS: [(&str, Protocol); 3] = [
    ("write-invalidate", Protocol::WriteInvalidate),
    ("migration", Protocol::Migration),
    ("release", Protocol::Release),
];

/// One page, of which this node is the home.
fn page_at(mesh: &Mesh, name: &str, protocol: Protocol, home: u16) -> Region {
    let placement = Placement::Single(NodeId::new(home));
    mesh.region(name, RegionOptions::new(4096).protocol(protocol).placement(placement)).unwrap()
}

fn on_all_threads(body: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(&body);
        }
    });
}

#[test]
fn in_an_entry_region_the_word_is_locked_for_it() {
    const TEST: &str = "in_an_entry_region_the_word_is_locked_for_it";
    const ROUNDS: u64 = 20;
    play(TEST, |mesh| {
        let region = page_at(&mesh, "entry", Protocol::Entry, 1);
        let counter = AtomicU64::new(&region, 24).unwrap();
        on_all_threads(|| {
            for _ in 0..ROUNDS {
                counter.fetch_add(1).unwrap();
            }
        });
        mesh.barrier(1).wait().unwrap();
        assert_eq!(counter.load().unwrap(), ROUNDS * (NODES * THREADS) as u64);
        let held = region.lock_read(0..100).unwrap();
        assert!(matches!(counter.fetch_add(1), Err(AtomicError::Range(RangeError::AlreadyHeld { .. }))));
        held.unlock().unwrap();
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn a_word_can_be_a_number_with_a_sign_a_size_or_a_flag() {
    const TEST: &str = "a_word_can_be_a_number_with_a_sign_a_size_or_a_flag";
    const ROUNDS: i64 = 10;
    let all = NODES * THREADS;
    play(TEST, |mesh| {
        for (name, protocol) in PROTOCOLS {
            let region = page_at(&mesh, name, protocol, 1);
            let balance = AtomicI64::new(&region, 0).unwrap();
            let bits = AtomicUsize::new(&region, 8).unwrap();
            let taken = AtomicBool::new(&region, 16).unwrap();
            let (lowest, highest) =
                (AtomicI64::new(&region, 24).unwrap(), AtomicU64::new(&region, 32).unwrap());
            let first = std::sync::atomic::AtomicUsize::new(0);
            let thread = std::sync::atomic::AtomicUsize::new(0);
            on_all_threads(|| {
                let thread = thread.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let own = mesh.node().get() as usize * THREADS + thread;
                for _ in 0..ROUNDS {
                    balance.fetch_sub(2).unwrap();
                    balance.fetch_add(-1).unwrap();
                }
                bits.fetch_or(1 << own).unwrap();
                let number = u32::try_from(own).unwrap();
                lowest.fetch_min(-i64::from(number)).unwrap();
                highest.fetch_max(number.into()).unwrap();
                let is_first = !taken.swap(true).unwrap();
                first.fetch_add(is_first.into(), std::sync::atomic::Ordering::Relaxed);
            });
            let counted = AtomicUsize::new(&region, 40).unwrap();
            counted.fetch_add(first.into_inner()).unwrap();
            mesh.barrier(1).wait().unwrap();
            assert_eq!(balance.load().unwrap(), -3 * ROUNDS * i64::try_from(all).unwrap(), "{name}");
            assert_eq!(bits.load().unwrap(), (1 << all) - 1, "{name}");
            assert_eq!(lowest.load().unwrap(), 1 - i64::try_from(all).unwrap(), "{name}");
            assert_eq!(highest.load().unwrap(), all as u64 - 1, "{name}");
            assert!(taken.load().unwrap(), "{name}");
            assert_eq!(counted.load().unwrap(), 1, "{name}: several found that nobody had been first");
            mesh.barrier(1).wait().unwrap();
            if mesh.node().get() == 0 {
                bits.fetch_and(0b110).unwrap();
                assert_eq!(bits.fetch_xor(0b011).unwrap(), 0b110, "{name}");
                assert_eq!(bits.load().unwrap(), 0b101, "{name}");
                // Any word but 0 is true, also one that no flag has stored.
                AtomicU64::new(&region, 16).unwrap().store(6).unwrap();
                assert!(taken.load().unwrap(), "{name}");
                assert_eq!(taken.compare_exchange(false, true).unwrap(), Err(true), "{name}");
                assert_eq!(taken.compare_exchange(true, false).unwrap(), Ok(true), "{name}");
                assert_eq!(
                    taken.fetch_update(|found| (!found).then_some(true)).unwrap(),
                    Ok(false),
                    "{name}"
                );
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn every_addition_counts_once() {
    const TEST: &str = "every_addition_counts_once";
    const ROUNDS: u64 = 40;
    play(TEST, |mesh| {
        for (name, protocol) in PROTOCOLS {
            let region = page_at(&mesh, name, protocol, 1);
            let (counter, words) =
                (AtomicU64::new(&region, 24).unwrap(), region.slice::<u64>(0, 512).unwrap());
            let found = std::sync::Mutex::new(Vec::new());
            on_all_threads(|| {
                for round in 0..ROUNDS {
                    // The processor's own additions move the page; in a release region they would go to a copy.
                    let here = round % 4 == 0 && protocol != Protocol::Release;
                    let before =
                        if here { words.fetch_add(3, 1).unwrap() } else { counter.fetch_add(1).unwrap() };
                    found.lock().unwrap().push(before);
                    if round % 8 == 1 {
                        // Copies to be dropped, and in a release region diffs of the same page.
                        words.get(100).unwrap();
                        words.set(200 + mesh.node().index(), round).unwrap();
                    }
                }
            });
            mesh.barrier(1).wait().unwrap();
            let all = ROUNDS * (NODES * THREADS) as u64;
            assert_eq!(counter.load().unwrap(), all, "{name}");
            assert_eq!(words.get(3).unwrap(), all, "{name}: what everyone sees after a barrier");
            let last = ROUNDS - 1 - (ROUNDS - 1 - 1) % 8;
            assert_eq!((0..NODES).map(|n| words.get(200 + n).unwrap()).collect::<Vec<_>>(), [last; NODES]);
            for before in found.into_inner().unwrap() {
                say!("{name} {before}");
            }
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, NODES).concat();
        let different: BTreeSet<&String> = said.iter().collect();
        let all = ROUNDS as usize * NODES * THREADS * PROTOCOLS.len();
        assert_eq!((said.len(), different.len()), (all, all), "two additions found the same");
    });
}

#[test]
fn the_page_stays_where_it_is() {
    const TEST: &str = "the_page_stays_where_it_is";
    play(TEST, |mesh| {
        for (name, protocol) in [PROTOCOLS[0], PROTOCOLS[1]] {
            let region = page_at(&mesh, name, protocol, 1);
            let (word, slice) = (AtomicU64::new(&region, 0).unwrap(), region.slice::<u64>(0, 2).unwrap());
            if mesh.node().get() == 2 {
                slice.set(1, 7).unwrap();
            }
            mesh.barrier(1).wait().unwrap();
            let before = mesh.stats();
            mesh.barrier(1).wait().unwrap();
            for _ in 0..100 {
                // The holder adds by its own processor meanwhile.
                if mesh.node().get() == 2 {
                    slice.fetch_add(0, 1).unwrap()
                } else {
                    word.fetch_add(1).unwrap()
                };
            }
            mesh.barrier(1).wait().unwrap();
            let after = mesh.stats();
            assert_eq!((after.pages_sent, after.pages_fetched), (before.pages_sent, before.pages_fetched));
            if mesh.node().get() == 2 {
                assert_eq!(region.page_state(0), PageState::Modified, "{name}");
                assert_eq!(slice.get(0).unwrap(), 300, "{name}");
                assert_eq!(after.atomics_for_others - before.atomics_for_others, 200);
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn a_word_can_be_a_lock_of_what_lies_in_release_regions() {
    const TEST: &str = "a_word_can_be_a_lock_of_what_lies_in_release_regions";
    const ROUNDS: u64 = 15;
    play(TEST, |mesh| {
        let release = RegionOptions::new(8 * 4096).protocol(Protocol::Release);
        let region = mesh.region("guarded", release.placement(Placement::FirstTouch)).unwrap();
        let (lock, data) = (AtomicU64::new(&region, 0).unwrap(), region.slice::<u64>(0, 8 * 512).unwrap());
        on_all_threads(|| {
            for _ in 0..ROUNDS {
                while lock.compare_exchange(0, 1).unwrap().is_err() {
                    std::thread::yield_now();
                }
                // On the lock's own page, and on others.
                for place in [1, 600, 2000] {
                    data.set(place, data.get(place).unwrap() + 1).unwrap();
                }
                assert_eq!(lock.swap(0).unwrap(), 1, "the lock was taken from its holder");
            }
        });
        mesh.barrier(1).wait().unwrap();
        let all = ROUNDS * (NODES * THREADS) as u64;
        assert_eq!([1, 600, 2000].map(|place| data.get(place).unwrap()), [all; 3]);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

#[test]
fn words_have_all_that_std_has() {
    let mesh = Mesh::join(pagemesh::Config::single()).unwrap();
    let region = mesh.region("words", RegionOptions::new(4096)).unwrap();
    let word = AtomicU64::new(&region, 8).unwrap();
    assert_eq!((word.fetch_sub(1).unwrap(), word.load().unwrap()), (0, u64::MAX));
    word.store(10).unwrap();
    assert_eq!(
        (word.fetch_max(7).unwrap(), word.fetch_max(12).unwrap(), word.fetch_min(11).unwrap()),
        (10, 10, 12)
    );
    assert_eq!(word.fetch_update(|found| (found < 11).then_some(0)).unwrap(), Err(11));
    assert_eq!(word.fetch_update(|found| Some(found * 2)).unwrap(), Ok(11));
    let base = region.base();
    assert_eq!(mesh.fetch_add_u64(base + 8, 1).unwrap(), 22);
    assert_eq!(mesh.compare_swap_u64(base + 8, 23, 1).unwrap(), 23);
    assert_eq!(mesh.swap_u64(base + 8, 2).unwrap(), 1);
    for address in [base + 4, base + 4096, 8] {
        assert_eq!(mesh.swap_u64(address, 0), Err(AtomicError::Address { address }));
    }
    assert!(AtomicU64::new(&region, 4).is_err() && AtomicU64::new(&region, 4096).is_err());
}

/// A holder that stands still: one operation has reached it, another stands in line behind.
#[test]
fn what_was_not_begun_in_time_is_not_done_later() {
    const TEST: &str = "what_was_not_begun_in_time_is_not_done_later";
    play(TEST, |mesh| {
        let region = page_at(&mesh, "page", Protocol::WriteInvalidate, 1);
        let word = AtomicU64::new(&region, 0).unwrap();
        if mesh.node().get() == 2 {
            region.slice::<u64>(0, 1).unwrap().set(0, 5).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        say!("ready");
        if mesh.node().get() == 0 {
            until("the holder stands still", || Path::new(&std::env::var(GO).unwrap()).exists());
            let began = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                let first = scope.spawn(|| {
                    began.wait();
                    word.fetch_add(1)
                });
                began.wait();
                let second = word.fetch_add(10);
                let outcomes = [first.join().unwrap(), second];
                let unknown =
                    outcomes.iter().filter(|o| matches!(o, Err(AtomicError::NoAnswer { .. }))).count();
                let refused = outcomes
                    .iter()
                    .filter(|o| matches!(o, Err(AtomicError::Access(AccessError::TimedOut { .. }))))
                    .count();
                assert_eq!((unknown, refused), (1, 1), "{outcomes:?}");
                let added = if matches!(outcomes[0], Err(AtomicError::NoAnswer { .. })) { 1 } else { 10 };
                say!("gave up, {added} may have been added");
                until("what was begun is done, and nothing else", || word.load().ok() == Some(5 + added));
            });
        }
        mesh.barrier(2).wait().unwrap();
        mesh.leave().unwrap();
    });
    // No pager has a part in it.
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let variables = [("PAGEMESH_FAULT_TIMEOUT_MS", "3000"), (GO, go.to_str().unwrap())];
    let nodes = start_with(TEST, NODES, &variables);
    for node in &nodes {
        assert_eq!(node.hear(), "ready");
    }
    signal(nodes[2].id(), libc::SIGSTOP);
    std::fs::write(&go, "").unwrap();
    let said = nodes[0].hear();
    signal(nodes[2].id(), libc::SIGCONT);
    assert!(said.starts_with("gave up"), "{said}");
    for node in nodes {
        node.rest();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::yield_now();
    }
}

fn signal(process: u32, signal: i32) {
    // SAFETY: a signal to a child of this test that has not been waited for.
    assert_eq!(unsafe { libc::kill(process.cast_signed(), signal) }, 0);
}

//! Whoever has a range of an entry region has the newest bytes of it and is alone with what it writes, to the byte, from whatever thread
//! of whatever node; and whoever dies, leaves what was published before. Real processes, with every pager.

mod cluster;

use cluster::{Node, PATIENCE, everywhere, play, run, start};
use pagemesh::{
    Access, Config, DepartureKind, Heap, HeapError, Mesh, NodeId, PageState, Placement, Protocol, RangeError,
    Region, RegionError, RegionOptions, SyncError,
};
use std::time::Duration;

const MASTER: NodeId = NodeId::new(0);

fn region(mesh: &Mesh, bytes: usize) -> Region {
    let options = RegionOptions::new(bytes).protocol(Protocol::Entry).placement(Placement::Single(MASTER));
    mesh.region("ranges", options).unwrap()
}

/// Threads of all nodes add to counters that lie across each other's ranges, inside one page and over page borders.
#[test]
fn every_addition_is_seen_by_the_next() {
    const TEST: &str = "every_addition_is_seen_by_the_next";
    const THREADS: usize = 2;
    const ROUNDS: usize = 120;
    const COUNTERS: usize = 9;
    play(TEST, |mesh| {
        let region = region(&mesh, 4 * 4096);
        // The fourth counter lies over the border of two pages.
        let place = |counter: usize| 4096 - 3 * 8 - 4 + counter * 8;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (region, mesh) = (&region, &mesh);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let first = (round * 7 + thread * 3 + mesh.node().index()) % COUNTERS;
                        let last = (first + round % 3 + 1).min(COUNTERS);
                        let _guard = region.lock_write(place(first)..place(last)).unwrap();
                        for counter in first..last {
                            let bytes = region.slice::<u8>(place(counter), 8).unwrap();
                            let mut word = [0; 8];
                            bytes.read(0, &mut word).unwrap();
                            let word = (u64::from_le_bytes(word) + 1).to_le_bytes();
                            bytes.write(0, &word).unwrap();
                        }
                    }
                });
            }
        });
        mesh.barrier(1).wait().unwrap();
        let guard = region.lock_read(0..region.bytes()).unwrap();
        let sum: u64 = (0..COUNTERS)
            .map(|counter| {
                let mut word = [0; 8];
                region.slice::<u8>(place(counter), 8).unwrap().read(0, &mut word).unwrap();
                u64::from_le_bytes(word)
            })
            .sum();
        guard.unlock().unwrap();
        let added: usize = (0..mesh.nodes())
            .flat_map(|node| (0..THREADS).map(move |thread| (node, thread)))
            .flat_map(|(node, thread)| (0..ROUNDS).map(move |round| (round * 7 + thread * 3 + node, round)))
            .map(|(first, round)| (first % COUNTERS + round % 3 + 1).min(COUNTERS) - first % COUNTERS)
            .sum();
        assert_eq!(sum, added as u64);
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 4)));
}

/// Writers of different bytes of one page have them at the same time.
#[test]
fn one_page_has_many_writers() {
    const TEST: &str = "one_page_has_many_writers";
    play(TEST, |mesh| {
        let region = region(&mesh, 4096);
        let (me, count) = (mesh.node().index(), mesh.nodes());
        let bytes = region.slice::<u8>(0, 4096).unwrap();
        for round in 1..=20u8 {
            let guard = region.lock_write(me * 100..me * 100 + 100).unwrap();
            // All of them have theirs now.
            mesh.barrier(1).wait().unwrap();
            bytes.write(me * 100, &[round + me as u8; 100]).unwrap();
            mesh.barrier(1).wait().unwrap();
            guard.unlock().unwrap();
            mesh.barrier(1).wait().unwrap();
            let guard = region.lock_read(0..4096).unwrap();
            let mut all = [0; 4096];
            bytes.read(0, &mut all).unwrap();
            guard.unlock().unwrap();
            for node in 0..count {
                assert!(all[node * 100..node * 100 + 100].iter().all(|byte| *byte == round + node as u8));
            }
            assert!(all[count * 100..].iter().all(|byte| *byte == 0));
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

/// More than any queue holds goes through, and what nobody wrote is not sent again.
#[test]
fn much_comes_in_parts_and_only_what_is_new() {
    const TEST: &str = "much_comes_in_parts_and_only_what_is_new";
    const BYTES: usize = 12 << 20;
    play(TEST, |mesh| {
        let region = region(&mesh, BYTES);
        let words = region.slice::<u64>(0, BYTES / 8).unwrap();
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        if me == 1 {
            let guard = region.lock_write(0..BYTES).unwrap();
            for page in 0..BYTES / 4096 {
                words.set(page * 512 + page % 512, page as u64 + 1).unwrap();
            }
            guard.unlock().unwrap();
        }
        turn.wait().unwrap();
        let read = |expected: fn(usize) -> u64| {
            let before = mesh.stats().bytes_received;
            let guard = region.lock_read(0..BYTES).unwrap();
            for page in 0..BYTES / 4096 {
                assert_eq!(words.get(page * 512 + page % 512).unwrap(), expected(page));
            }
            guard.unlock().unwrap();
            mesh.stats().bytes_received - before
        };
        read(|page| page as u64 + 1);
        let again = read(|page| page as u64 + 1);
        // The master hears also what the others ask for.
        assert!(me == 0 || again < 2000, "nobody wrote, and {again} bytes came");
        turn.wait().unwrap();
        if me == 1 {
            let guard = region.lock_write(0..BYTES).unwrap();
            words.set(3 * 512 + 3, 77).unwrap();
            guard.unlock().unwrap();
        }
        turn.wait().unwrap();
        let little = read(|page| if page == 3 { 77 } else { page as u64 + 1 });
        assert!(me == 0 || little < 2000, "a word was written, and {little} bytes came");
        turn.wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

#[test]
fn who_waits_comes_before_who_comes_later() {
    const TEST: &str = "who_waits_comes_before_who_comes_later";
    play(TEST, |mesh| {
        let region = region(&mesh, 4096);
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        let short = Some(Duration::from_millis(50));
        let timed_out =
            |got: Result<_, RangeError>| matches!(got, Err(RangeError::Sync(SyncError::TimedOut { .. })));
        if me == 0 {
            let guard = region.lock_read(0..100).unwrap();
            turn.wait().unwrap();
            turn.wait().unwrap();
            turn.wait().unwrap();
            guard.unlock().unwrap();
        } else {
            turn.wait().unwrap();
            if me == 1 {
                assert!(timed_out(region.lock_range(50..60, Access::Write, short)), "a reader is there");
                assert!(region.try_lock_range(99..101, Access::Write).unwrap().is_none());
                assert!(region.try_lock_range(100..101, Access::Write).unwrap().is_some(), "nobody is there");
                assert!(
                    region.try_lock_range(50..60, Access::Read).unwrap().is_some(),
                    "who gave up is gone"
                );
            }
            turn.wait().unwrap();
            std::thread::scope(|scope| {
                if me == 1 {
                    let (region, turn) = (&region, &turn);
                    let writer = scope.spawn(|| region.lock_write(0..10).unwrap().unlock());
                    // It stands in line from when a reader is turned away.
                    while region.try_lock_range(0..1, Access::Read).unwrap().is_some() {}
                    assert!(timed_out(region.lock_range(9..10, Access::Read, short)));
                    turn.wait().unwrap();
                    writer.join().unwrap().unwrap();
                } else {
                    turn.wait().unwrap();
                }
            });
        }
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

#[test]
fn a_writer_that_dies_leaves_what_was_published_and_word_of_it() {
    const TEST: &str = "a_writer_that_dies_leaves_what_was_published_and_word_of_it";
    play(TEST, |mesh| {
        let region = region(&mesh, 8192);
        let bytes = region.slice::<u8>(0, 8192).unwrap();
        let me = mesh.node().get();
        if me == 2 {
            let guard = region.lock_write(0..8192).unwrap();
            bytes.write(0, &[1; 8192]).unwrap();
            guard.unlock().unwrap();
            let _guard = region.lock_write(4000..5000).unwrap();
            bytes.write(4000, &[2; 1000]).unwrap();
            mesh.barrier(1).wait().unwrap();
            say!("ready");
            loop {
                std::thread::park();
            }
        }
        mesh.barrier(1).wait().unwrap();
        say!("ready");
        let guard = region.lock_read(0..8192).unwrap();
        let mut all = [0; 8192];
        bytes.read(0, &mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 1), "what was not published is lost");
        match guard.left_by() {
            Some(departure) => {
                assert_eq!((departure.node, departure.how), (NodeId::new(2), DepartureKind::Died));
                say!("told");
            }
            None => say!("not told"),
        }
        guard.unlock().unwrap();
        assert!(region.lock_write(4500..4501).unwrap().left_by().is_none(), "once");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, 3);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes[2].kill();
        let mut told: Vec<String> = nodes[..2].iter().map(Node::hear).collect();
        told.sort_unstable();
        assert_eq!(told, ["not told", "told"]);
        nodes.truncate(2);
        for node in nodes {
            assert!(node.rest().is_empty());
        }
    });
}

/// Each addition changes two words of one range, so that half of one would show.
#[test]
fn a_node_that_dies_at_work_leaves_no_half_of_it() {
    const TEST: &str = "a_node_that_dies_at_work_leaves_no_half_of_it";
    const ROUNDS: u64 = 400;
    const VICTIM: usize = 3;
    play(TEST, |mesh| {
        let region = region(&mesh, 4096);
        let words = region.slice::<u64>(0, 512).unwrap();
        let (me, count) = (mesh.node().index(), mesh.nodes());
        let sum = || (1..=count).map(|node| words.get(node).unwrap()).sum::<u64>();
        mesh.barrier(1).wait().unwrap();
        say!("at work");
        let (mut rounds, mut told) = (0, 0);
        while rounds < ROUNDS || me == VICTIM {
            let guard = region.lock_write(0..8 * (count + 1)).unwrap();
            told += u32::from(guard.left_by().is_some());
            assert_eq!(words.get(0).unwrap(), sum(), "half of an addition");
            words.set(0, words.get(0).unwrap() + 1).unwrap();
            words.set(me + 1, words.get(me + 1).unwrap() + 1).unwrap();
            guard.unlock().unwrap();
            rounds += 1;
        }
        assert_eq!(mesh.wait_departure(PATIENCE).unwrap().node.index(), VICTIM);
        // Nobody of the living lost anything.
        while {
            let guard = region.lock_read(0..4096).unwrap();
            told += u32::from(guard.left_by().is_some());
            (1..=count).any(|node| node != VICTIM + 1 && words.get(node).unwrap() < ROUNDS)
        } {}
        let guard = region.lock_read(0..4096).unwrap();
        assert_eq!(words.get(0).unwrap(), sum());
        guard.unlock().unwrap();
        say!("{told}");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, 4);
        for node in &nodes {
            assert_eq!(node.hear(), "at work");
        }
        nodes[VICTIM].kill();
        nodes.truncate(VICTIM);
        let told: u32 = nodes.into_iter().map(|node| node.rest()[0].parse::<u32>().unwrap()).sum();
        assert!(told <= 1, "at most one was told, if it died with the range: {told}");
    });
}

#[test]
fn without_the_master_every_call_says_so() {
    const TEST: &str = "without_the_master_every_call_says_so";
    play(TEST, |mesh| {
        let region = region(&mesh, 4096);
        let bytes = region.slice::<u8>(0, 4096).unwrap();
        let (me, turn) = (mesh.node(), mesh.barrier_of(0, mesh.nodes() as u32));
        if me == MASTER {
            turn.wait().unwrap();
            say!("ready");
            loop {
                std::thread::park();
            }
        }
        let start = me.index() * 100;
        let held = region.lock_write(start..start + 100).unwrap();
        bytes.set(start, 9).unwrap();
        turn.wait().unwrap();
        say!("ready");
        assert_eq!(mesh.wait_departure(PATIENCE).unwrap().node, MASTER);
        let lost = |got: Result<(), RangeError>| {
            matches!(got, Err(RangeError::Sync(SyncError::PeerLost { node: MASTER, .. })))
        };
        assert!(lost(region.lock_read(0..1).map(drop)));
        assert!(lost(region.try_lock_range(0..1, Access::Write).map(drop)));
        assert!(lost(held.unlock()), "nobody will see what was written");
        assert_eq!(bytes.get(start).unwrap(), 9, "the memory is still there");
        assert!(matches!(region.unlock_range(start..start + 100), Err(RangeError::NotHeld { .. })));
        say!("done");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, 3);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes[0].kill();
        for node in nodes.drain(..).skip(1) {
            assert_eq!(node.rest(), ["done"]);
        }
    });
}

#[test]
fn what_cannot_be_is_refused_with_words() {
    let mesh = Mesh::join(Config::single()).unwrap();
    let entry = region(&mesh, 2 * 4096);
    // Two readers who both waited to become a writer would wait for each other, so nobody does.
    let reading = entry.lock_read(100..200).unwrap();
    for bytes in [100..200, 150..160] {
        let upgrade = entry.lock_range(bytes, Access::Write, None).unwrap_err();
        assert!(
            matches!(upgrade, RangeError::AlreadyHeld { held_start: 100, held_end: 200, .. }),
            "{upgrade}"
        );
    }
    reading.unlock().unwrap();
    let guard = entry.lock_write(100..200).unwrap();
    for (bytes, access) in [(100..200, Access::Write), (199..300, Access::Read), (0..101, Access::Write)] {
        let error = entry.lock_range(bytes.clone(), access, None).unwrap_err();
        let expected = RangeError::AlreadyHeld {
            region: "ranges".to_owned(),
            start: bytes.start,
            end: bytes.end,
            held_start: 100,
            held_end: 200,
        };
        assert_eq!(error, expected);
        assert_eq!(entry.try_lock_range(bytes, access).unwrap_err(), expected);
    }
    let not_held = |bytes| matches!(entry.unlock_range(bytes), Err(RangeError::NotHeld { .. }));
    assert!(not_held(100..199) && not_held(0..1) && not_held(0..8192));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(not_held(100..200), "another thread has it");
            assert!(entry.try_lock_range(100..101, Access::Read).unwrap().is_none());
            let short = Some(Duration::from_millis(20));
            let late = entry.lock_range(150..160, Access::Read, short).unwrap_err();
            assert!(matches!(late, RangeError::Sync(SyncError::TimedOut { .. })), "{late}");
        });
    });
    guard.unlock().unwrap();
    // Its pages are there for system calls, and stay.
    let pin = entry.pin(0..8192, Access::Write).unwrap();
    entry.evict(0..2);
    assert!((0..2).all(|page| entry.page_state(page) == PageState::Modified));
    assert!(pin.release().is_ok());
    assert_eq!((entry.page_home(1).unwrap(), entry.page_owner(1).unwrap()), (Some(MASTER), Some(MASTER)));
    assert!(not_held(100..200), "once");
    let out = |bytes| matches!(entry.lock_read(bytes), Err(RangeError::OutOfBounds { .. }));
    #[expect(clippy::reversed_empty_ranges, reason = "this is what is to be refused")]
    let reversed = 5..4;
    assert!(out(0..8193) && out(0..0) && out(8192..8192) && out(0..usize::MAX) && out(reversed));

    let other = mesh.region("pages", RegionOptions::new(4096)).unwrap();
    let error = other.lock_read(0..1).unwrap_err();
    assert!(matches!(error, RangeError::NotEntry { .. }), "{error}");
    assert!(error.to_string().contains("Protocol::Entry"), "{error}");
    let spread = mesh.region("spread", RegionOptions::new(4096).protocol(Protocol::Entry)).unwrap_err();
    assert!(matches!(&spread, RegionError::Option { what, .. } if what.contains("Placement::Single")));

    let refused = |error: &RegionError| error.to_string().contains("cannot be in an entry region");
    assert!(
        matches!(Heap::in_region(&mesh, entry.clone()), Err(HeapError::Region(error)) if refused(&error))
    );

    let nowhere = mesh.lock_range_at(1, 1, Access::Read, None).unwrap_err();
    assert_eq!(nowhere, RangeError::NoRegion { address: 1, bytes: 1 });
    assert_eq!(mesh.lock_range_at(entry.base() + 5, 10, Access::Write, None).unwrap(), None);
    assert!(mesh.unlock_range_at(entry.base() + 5, 9).is_err());
    mesh.unlock_range_at(entry.base() + 5, 10).unwrap();
    let too_long = mesh.try_lock_range_at(entry.base() + 5, usize::MAX, Access::Write).unwrap_err();
    assert!(matches!(too_long, RangeError::NoRegion { .. }));
    mesh.leave().unwrap();
    let closed = entry.lock_read(0..1).unwrap_err();
    assert!(matches!(closed, RangeError::Sync(SyncError::Closed { .. })), "{closed}");
}

//! A node that gives pages back must not take them from anyone: the bytes go to the home, copies of others stay, threads that
//! are using a page go on with it, and who gave it back can have it again. Real processes, with every pager.

mod cluster;

use cluster::{PATIENCE, everywhere, play, run};
use pagemesh::PageState::{Invalid, Modified, Shared};
use pagemesh::{Mesh, NodeId, PageState, Placement, Protocol, Region, RegionOptions};
use std::time::{Duration, Instant};

const HOME: u16 = 0;
const PAGES: usize = 8;

/// A region whose pages all have their home at node 0.
fn region(mesh: &Mesh, name: &str, protocol: Protocol) -> Region {
    let placement = Placement::Single(NodeId::new(HOME));
    let options = RegionOptions::new(PAGES * 4096).protocol(protocol).placement(placement);
    mesh.region(name, options).unwrap()
}

/// Waits until this node's copies of all pages are in `state`; a hint may take its time.
fn await_state(region: &Region, state: PageState) {
    let deadline = Instant::now() + PATIENCE;
    while (0..PAGES).any(|page| region.page_state(page) != state) {
        assert!(Instant::now() < deadline, "the pages do not become {state}");
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

#[test]
fn the_home_gets_what_was_given_back() {
    const TEST: &str = "the_home_gets_what_was_given_back";
    play(TEST, |mesh| {
        for protocol in [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release] {
            let region = region(&mesh, &format!("{protocol:?}"), protocol);
            let words = region.slice::<u64>(0, PAGES * 512).unwrap();
            let (me, turn) = (mesh.node().get(), mesh.barrier(1));
            if me == 1 {
                for page in 0..PAGES {
                    words.set(page * 512 + 7, 100 + page as u64).unwrap();
                }
                region.evict(0..PAGES);
                await_state(&region, Invalid);
            }
            turn.wait().unwrap();
            let at_home = mesh.stats().pages_fetched;
            if me == HOME && protocol != Protocol::Release {
                assert!((0..PAGES).all(|page| region.page_state(page) == Modified), "{protocol:?}");
                assert_eq!(region.page_owner(0).unwrap(), Some(NodeId::new(HOME)));
            }
            if me == HOME {
                for page in 0..PAGES {
                    assert_eq!(words.get(page * 512 + 7).unwrap(), 100 + page as u64, "{protocol:?}");
                }
                assert_eq!(mesh.stats().pages_fetched, at_home, "the home has to ask nobody");
            }
            turn.wait().unwrap();
            if me == 1 {
                let before = mesh.stats();
                assert_eq!(words.get(7).unwrap(), 100, "{protocol:?}");
                let after = mesh.stats();
                assert_eq!(after.pages_fetched, before.pages_fetched + 1, "it had gone");
                assert_eq!(after.read_faults, before.read_faults + 1);
            }
            turn.wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 2)));
}

#[test]
fn the_copies_of_others_stay() {
    const TEST: &str = "the_copies_of_others_stay";
    play(TEST, |mesh| {
        let region = region(&mesh, "shared", Protocol::WriteInvalidate);
        let words = region.slice::<u64>(0, PAGES * 512).unwrap();
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        let read_all = || (0..PAGES).map(|page| words.get(page * 512).unwrap()).sum::<u64>();
        if me == 2 {
            words.set(0, 5).unwrap();
        }
        turn.wait().unwrap();
        assert_eq!(read_all(), 5);
        turn.wait().unwrap();
        if me == 1 {
            region.evict(0..PAGES);
            await_state(&region, Invalid);
        }
        turn.wait().unwrap();
        if me != 1 {
            assert!((0..PAGES).all(|page| region.page_state(page) == Shared));
        }
        turn.wait().unwrap();
        assert_eq!(read_all(), 5);
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

/// Every node gives pages back all the time while all add to them.
#[test]
fn nothing_that_is_written_meanwhile_is_lost() {
    const TEST: &str = "nothing_that_is_written_meanwhile_is_lost";
    const ROUNDS: u64 = 300;
    play(TEST, |mesh| {
        for protocol in [Protocol::WriteInvalidate, Protocol::Migration] {
            let region = region(&mesh, &format!("{protocol:?}"), protocol);
            let words = region.slice::<u64>(0, PAGES * 512).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let (words, region) = (&words, &region);
                    scope.spawn(move || {
                        for round in 0..ROUNDS as usize {
                            let page = (round + thread) % 3;
                            words.fetch_add(page * 512, 1).unwrap();
                            region.evict(page..page + 2);
                        }
                    });
                }
            });
            mesh.barrier(1).wait().unwrap();
            let counted: u64 = (0..3).map(|page| words.get(page * 512).unwrap()).sum();
            assert_eq!(counted, 2 * ROUNDS * mesh.nodes() as u64, "{protocol:?}");
            mesh.barrier(1).wait().unwrap();
        }
        // Where many write, each its own words: what is given back before a release is sent home by that.
        let region = region(&mesh, "release", Protocol::Release);
        let words = region.slice::<u64>(0, PAGES * 512).unwrap();
        let (me, count) = (mesh.node().index(), mesh.nodes());
        for round in 1..=ROUNDS {
            words.set(me, round).unwrap();
            region.evict(0..1);
            assert_eq!(words.get(me).unwrap(), round);
        }
        mesh.barrier(1).wait().unwrap();
        assert!((0..count).all(|node| words.get(node).unwrap() == ROUNDS));
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

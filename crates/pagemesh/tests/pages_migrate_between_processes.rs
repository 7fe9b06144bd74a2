//! Where pages migrate, one process at a time has each page, and whoever touches it gets it: nothing that was written may be lost on
//! the way, no two processes may have it, and nobody may be kept from it by others who pass it around. Real processes,
//! many threads in each.

mod cluster;

use cluster::{PATIENCE, everywhere, play, run};
use pagemesh::PageState::{Invalid, Modified};
use pagemesh::{Mesh, NodeId, Placement, Protocol, Region, RegionOptions};
use std::time::Instant;

fn migrating(mesh: &Mesh, name: &str, pages: usize, placement: Placement) -> Region {
    let options = RegionOptions::new(pages * 4096).protocol(Protocol::Migration).placement(placement);
    mesh.region(name, options).unwrap()
}

#[test]
fn every_increment_of_every_thread_survives_the_moves() {
    const TEST: &str = "every_increment_of_every_thread_survives_the_moves";
    const THREADS: usize = 4;
    const ROUNDS: u64 = 150;
    const PAGES: usize = 3;
    play(TEST, |mesh| {
        for placement in [Placement::Cyclic, Placement::Block, Placement::FirstTouch] {
            let region = migrating(&mesh, &format!("{placement:?}"), PAGES, placement);
            let words = region.slice::<u64>(0, PAGES * 512).unwrap();
            let me = mesh.node().index();
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let words = words.clone();
                    scope.spawn(move || {
                        for round in 0..ROUNDS as usize {
                            // A counter of everyone, a word of one's own, and a look at a neighbour's.
                            let page = (round + thread) % PAGES * 512;
                            words.fetch_add(page, 1).unwrap();
                            let mine = page + 8 + me * THREADS + thread;
                            words.set(mine, words.get(mine).unwrap() + 1).unwrap();
                            assert!(words.get(page).unwrap() > 0);
                        }
                    });
                }
            });
            mesh.barrier(1).wait().unwrap();
            let all = ROUNDS * (THREADS * mesh.nodes()) as u64;
            let counted: u64 = (0..PAGES).map(|page| words.get(page * 512).unwrap()).sum();
            assert_eq!(counted, all, "{placement:?}: increments were lost");
            let own = |page: usize| 8 + page * 512..8 + page * 512 + THREADS * mesh.nodes();
            let written: u64 = (0..PAGES).flat_map(own).map(|word| words.get(word).unwrap()).sum();
            assert_eq!(written, all, "{placement:?}: writes were lost");
            mesh.barrier(1).wait().unwrap();
            let states: Vec<String> =
                (0..PAGES).map(|page| format!("{page} {}", region.page_state(page))).collect();
            say!("{}", states.join(", "));
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 3);
        for placement in 0..3 {
            let states = said.iter().map(|lines| lines[placement].as_str()).collect::<Vec<_>>().join(", ");
            assert!(!states.contains("SHARED"), "{states}");
            for page in 0..PAGES {
                let holders = states.matches(&format!("{page} MODIFIED")).count();
                assert_eq!(holders, 1, "page {page} is at one node: {states}");
            }
        }
    });
}

/// Two processes, at an address that was agreed on beforehand; each owns one half at the start.
#[test]
fn a_master_and_a_slave_start_with_one_half_each_at_a_fixed_address() {
    const TEST: &str = "a_master_and_a_slave_start_with_one_half_each_at_a_fixed_address";
    const START: usize = 1 << 32;
    const PAGES: usize = 8;
    play(TEST, |mesh| {
        let options = RegionOptions::new(PAGES * 4096)
            .protocol(Protocol::Migration)
            .placement(Placement::Block)
            .address(START);
        let region = mesh.region("pages", options).unwrap();
        assert_eq!(region.base(), START);
        let (me, turn) = (mesh.node(), mesh.barrier(1));
        let bytes = region.slice::<u8>(0, PAGES * 4096).unwrap();
        let halves = [0..PAGES / 2, PAGES / 2..PAGES];
        for (node, half) in halves.iter().enumerate() {
            for page in half.clone() {
                assert_eq!(region.page_home(page).unwrap(), Some(NodeId::new(node as u16)));
            }
        }
        // What is one's own from the start costs no message; the barrier before and after costs the slave one each.
        turn.wait().unwrap();
        let before = mesh.stats();
        for page in halves[me.index()].clone() {
            bytes.set(page * 4096, 10 + page as u8).unwrap();
        }
        let after = mesh.stats();
        assert_eq!(after.pages_fetched + after.pages_sent, 0);
        assert!(
            after.messages_sent <= before.messages_sent + 1,
            "only a barrier's answer may be sent meanwhile"
        );
        turn.wait().unwrap();
        // The master reads a page of the slave's: now it has it, and the slave has not.
        let page = PAGES - 1;
        if me == NodeId::COORDINATOR {
            assert_eq!(bytes.get(page * 4096).unwrap(), 10 + page as u8);
        }
        turn.wait().unwrap();
        assert_eq!(region.page_state(page), if me == NodeId::COORDINATOR { Modified } else { Invalid });
        assert_eq!(region.page_owner(page).unwrap(), Some(NodeId::COORDINATOR));
        turn.wait().unwrap();
        // And back, by a plain store.
        if me != NodeId::COORDINATOR {
            // SAFETY: the last page of a live region; the other process waits at the barrier.
            unsafe { ((START + page * 4096) as *mut u8).write_volatile(77) };
        }
        turn.wait().unwrap();
        assert_eq!(region.page_state(page), if me == NodeId::COORDINATOR { Invalid } else { Modified });
        turn.wait().unwrap();
        assert_eq!(bytes.get(page * 4096).unwrap(), 77);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

/// Two nodes take a page from each other without end, until a third has used it often enough: the home of the page, and a node that is
/// not.
#[test]
fn two_nodes_that_bounce_a_page_do_not_starve_a_third() {
    const TEST: &str = "two_nodes_that_bounce_a_page_do_not_starve_a_third";
    const USES: u64 = 200;
    play(TEST, |mesh| {
        let me = mesh.node().index();
        for (round, home) in [2, 0].into_iter().enumerate() {
            let placement = Placement::Single(NodeId::new(home));
            let region = migrating(&mesh, &format!("bounced {round}"), 1, placement);
            let words = region.slice::<u64>(0, 512).unwrap();
            mesh.barrier(1).wait().unwrap();
            if me == 2 {
                for _ in 0..USES {
                    words.fetch_add(2, 1).unwrap();
                    // The next use has to wait for the page again.
                    let deadline = Instant::now() + PATIENCE;
                    while region.page_state(0) == Modified {
                        assert!(Instant::now() < deadline, "nobody takes the page");
                        std::thread::yield_now();
                    }
                }
                words.set(3, 1).unwrap();
            } else {
                while words.get(3).unwrap() == 0 {
                    words.fetch_add(me, 1).unwrap();
                }
            }
            mesh.barrier(1).wait().unwrap();
            assert_eq!(words.get(2).unwrap(), USES);
            if me == 2 {
                for other in 0..2 {
                    assert!(words.get(other).unwrap() > 0, "node {other} was kept out");
                }
                let stats = mesh.stats();
                say!(
                    "{} faults, {} us each",
                    stats.write_faults,
                    stats.fault_wait_ns / 1000 / stats.write_faults
                );
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 3);
        println!("home and not home: {:?}", said[2]);
        assert_eq!(said[2].len(), 2);
    });
}

#[test]
fn regions_of_both_protocols_live_side_by_side() {
    const TEST: &str = "regions_of_both_protocols_live_side_by_side";
    play(TEST, |mesh| {
        let moving = migrating(&mesh, "moving", 1, Placement::Cyclic);
        let copied = mesh.region("copied", RegionOptions::new(4096)).unwrap();
        assert_eq!((moving.protocol(), copied.protocol()), (Protocol::Migration, Protocol::WriteInvalidate));
        let (m, c) = (moving.slice::<u64>(0, 1).unwrap(), copied.slice::<u64>(0, 1).unwrap());
        if mesh.node().index() == 1 {
            m.set(0, 5).unwrap();
            c.set(0, 6).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        assert_eq!((m.get(0).unwrap(), c.get(0).unwrap()), (5, 6));
        mesh.barrier(1).wait().unwrap();
        say!("{} {}", moving.page_state(0), copied.page_state(0));
        let other = RegionOptions::new(4096).protocol(Protocol::Migration);
        let differs = mesh.region("copied", other).unwrap_err().to_string();
        assert!(differs.contains("asked for with protocol Migration, placement Cyclic"), "{differs}");
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 3).concat();
        assert_eq!(said.iter().filter(|line| line.starts_with("MODIFIED")).count(), 1, "{said:?}");
        assert_eq!(said.iter().filter(|line| line.ends_with("SHARED")).count(), 3, "{said:?}");
    });
}

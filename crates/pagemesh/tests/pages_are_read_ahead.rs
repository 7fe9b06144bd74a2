//! A thread that reads or writes page after page does not wait for each: the next ones are on their way before it comes to them. That must be
//! worth it, must stop where it is not, and must never show a byte that was not to be seen: a page that was asked for ahead and
//! written by another node since is as gone as any other.

mod cluster;

use cluster::{AS_IT_COMES, Node, everywhere, play, run, start_with, with_setting};
use pagemesh::{Mesh, NodeId, Placement, Protocol, Region, RegionOptions};

const PAGES: usize = 2000;

fn region(mesh: &Mesh, name: &str, protocol: Protocol) -> Region {
    let options =
        RegionOptions::new(PAGES * 4096).placement(Placement::Single(NodeId::new(0))).protocol(protocol);
    mesh.region(name, options).unwrap()
}

/// Reads the pages of `order`, which hold their numbers and `more`; returns faults and pages asked for ahead.
fn read(mesh: &Mesh, region: &Region, order: impl Iterator<Item = usize>, more: u64) -> (u64, u64) {
    let words = region.slice::<u64>(0, PAGES * 512).unwrap();
    let before = mesh.stats();
    for page in order {
        assert_eq!(words.get(page * 512 + 5).unwrap(), page as u64 + more, "page {page}");
    }
    let after = mesh.stats();
    (after.read_faults - before.read_faults, after.pages_prefetched - before.pages_prefetched)
}

#[test]
fn pages_on_a_way_come_ahead_and_others_do_not() {
    const TEST: &str = "pages_on_a_way_come_ahead_and_others_do_not";
    play(TEST, |mesh| {
        let turn = mesh.barrier(1);
        for (protocol, name) in [(Protocol::WriteInvalidate, "invalidate"), (Protocol::Release, "release")] {
            let region = region(&mesh, name, protocol);
            let words = region.slice::<u64>(0, PAGES * 512).unwrap();
            // Each time, node 0 writes all, so that node 1 has nothing.
            let orders: [(&str, Vec<usize>); 4] = [
                ("up", (0..PAGES).collect()),
                ("down", (0..PAGES).rev().collect()),
                ("every third", (0..PAGES).step_by(3).collect()),
                ("scattered", (0..PAGES).map(|index| index * 769 % PAGES).collect()),
            ];
            // Each of several shards sees a part of this order, in which there are ways.
            let has_shards = std::env::var("PAGEMESH_SHARDS").is_ok_and(|shards| shards != "1");
            let orders = orders.into_iter().filter(|(way, _)| !has_shards || *way != "scattered");
            for (round, (way, order)) in orders.enumerate() {
                let more = round as u64 * 1_000_000;
                if mesh.node() == NodeId::new(0) {
                    for page in 0..PAGES {
                        words.set(page * 512 + 5, page as u64 + more).unwrap();
                    }
                }
                turn.wait().unwrap();
                if mesh.node() != NodeId::new(0) {
                    let pages = order.len() as u64;
                    let (faults, ahead) = read(&mesh, &region, order.into_iter(), more);
                    let fits = match way {
                        "up" => ahead > pages * 9 / 10 && faults < pages * 7 / 10,
                        "scattered" => ahead < pages / 20 && faults == pages,
                        _ => ahead > pages * 8 / 10 && faults < pages * 9 / 10,
                    };
                    assert!(fits, "{name}, {way}: {faults} faults and {ahead} pages ahead, of {pages}");
                }
                turn.wait().unwrap();
            }
        }
        mesh.leave().unwrap();
    });
    let run = |shards| {
        // Pages that are sent along are neither missed nor asked for.
        for node in start_with(TEST, 2, &[("PAGEMESH_UPDATES", "off"), ("PAGEMESH_SHARDS", shards)]) {
            node.rest();
        }
    };
    everywhere(|| run("1"));
    with_setting(AS_IT_COMES, || run("4"));
}

#[test]
fn pages_that_are_written_in_order_come_ahead_and_no_write_is_lost() {
    const TEST: &str = "pages_that_are_written_in_order_come_ahead_and_no_write_is_lost";
    play(TEST, |mesh| {
        let region = region(&mesh, "written in order", Protocol::WriteInvalidate);
        let words = region.slice::<u64>(0, PAGES * 512).unwrap();
        let turn = mesh.barrier(1);
        let me = u64::from(mesh.node().get());
        let orders: [(&str, Vec<usize>); 3] = [
            ("up", (0..PAGES).collect()),
            ("down", (0..PAGES).rev().collect()),
            ("scattered", (0..PAGES).map(|index| index * 769 % PAGES).collect()),
        ];
        for (round, (way, order)) in orders.into_iter().enumerate() {
            // Node 0 has all of it first, and all bytes of the other come back.
            if me == 0 {
                for page in 0..PAGES {
                    words.set(page * 512 + 7, round as u64).unwrap();
                }
            }
            turn.wait().unwrap();
            if me == 1 {
                let (before, pages) = (mesh.stats(), order.len() as u64);
                for page in order {
                    words.set(page * 512 + 8, (page + round) as u64).unwrap();
                }
                let faults = mesh.stats().write_faults - before.write_faults;
                let ahead = mesh.stats().pages_prefetched - before.pages_prefetched;
                let fits = match way {
                    "up" => ahead > pages * 9 / 10 && faults < pages / 5,
                    _ => ahead == 0 && faults == pages,
                };
                assert!(fits, "{way}: {faults} faults and {ahead} pages ahead, of {pages}");
            }
            turn.wait().unwrap();
            for page in (0..PAGES).filter(|_| me == 0) {
                let found = [7, 8].map(|word| words.get(page * 512 + word).unwrap());
                assert_eq!(found, [round as u64, (page + round) as u64], "page {page}");
            }
            turn.wait().unwrap();
        }
        // All write all pages in order at the same time, each its own word.
        for round in 1..=5 {
            for page in 0..PAGES / 10 {
                words.set(page * 512 + 20 + me as usize, round).unwrap();
            }
        }
        turn.wait().unwrap();
        for page in 0..PAGES / 10 {
            let found: Vec<u64> = (0..2).map(|node| words.get(page * 512 + 20 + node).unwrap()).collect();
            assert_eq!(found, [5, 5], "page {page}");
        }
        turn.wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn it_can_be_turned_off_and_is_off_where_pages_migrate() {
    const TEST: &str = "it_can_be_turned_off_and_is_off_where_pages_migrate";
    play(TEST, |mesh| {
        let off = std::env::var("PAGEMESH_READ_AHEAD").is_ok();
        let region =
            region(&mesh, "pages", if off { Protocol::WriteInvalidate } else { Protocol::Migration });
        let words = region.slice::<u64>(0, PAGES * 512).unwrap();
        if mesh.node() == NodeId::new(0) {
            for page in 0..100 {
                words.set(page * 512 + 5, page as u64).unwrap();
            }
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() != NodeId::new(0) {
            assert_eq!(read(&mesh, &region, 0..100, 0), (100, 0));
        }
        mesh.leave().unwrap();
    });
    for variables in [&[][..], &[("PAGEMESH_READ_AHEAD", "off")][..]] {
        let nodes = with_setting(AS_IT_COMES, || start_with(TEST, 2, variables));
        nodes.into_iter().map(Node::rest).for_each(drop);
    }
}

#[test]
fn a_page_that_was_written_since_is_not_seen_as_it_was() {
    const TEST: &str = "a_page_that_was_written_since_is_not_seen_as_it_was";
    const SOME: usize = 200;
    const ROUNDS: u64 = 30;
    play(TEST, |mesh| {
        let region = region(&mesh, "written", Protocol::WriteInvalidate);
        let words = region.slice::<u64>(0, PAGES * 512).unwrap();
        let turn = mesh.barrier(1);
        turn.wait().unwrap();
        if mesh.node() == NodeId::new(0) {
            // Upwards: a reader that finds a round on one page finds at least that on all pages before it.
            for round in 1..=ROUNDS {
                for page in 0..SOME {
                    words.set(page * 512, round).unwrap();
                }
            }
        } else {
            let mut seen = vec![0; SOME];
            loop {
                // Downwards, as that order asks.
                let mut least = 0;
                for page in (0..SOME).rev() {
                    let now = words.get(page * 512).unwrap();
                    assert!(now >= seen[page], "page {page} went back from {} to {now}", seen[page]);
                    assert!(now >= least, "page {page} is at {now}, and one behind it was at {least} before");
                    seen[page] = now;
                    least = now;
                }
                if seen[SOME - 1] == ROUNDS {
                    break;
                }
            }
        }
        turn.wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

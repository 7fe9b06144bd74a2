//! A node with many cores divides its pages among shards that know nothing of each other, so that its threads do not wait for each other's
//! faults. Programs must not notice: what locks order is in order whichever shards the pages are of and whatever their regions' protocols,
//! nodes with different numbers of shards are one mesh, and a lost node or a region that ends is known to every shard.

mod cluster;

use cluster::{Node, everywhere, free_address, play};
use pagemesh::{
    Access, AccessError, AtomicU64, Mesh, NodeId, Placement, Protocol, Region, RegionOptions, SharedSlice,
};
use std::time::Duration;

/// Pages that are neighbours in one shard.
const STRIPE_PAGES: usize = 512;
const STRIPES: usize = 5;
const BYTES: usize = STRIPES * STRIPE_PAGES * 4096;
const THREADS: usize = 4;
const VICTIM: NodeId = NodeId::new(2);
const PROMISED: Duration = Duration::from_secs(5);

/// Starts a node for each of `shards`, with so many.
fn start(test: &str, shards: &[&str]) -> Vec<Node> {
    let coordinator = free_address();
    let node = |(place, count): (usize, &&str)| {
        Node::start_with(test, place, shards.len(), coordinator, &[("PAGEMESH_SHARDS", count)])
    };
    shards.iter().enumerate().map(node).collect()
}

fn await_all(nodes: Vec<Node>) {
    for node in nodes {
        node.rest();
    }
}

/// The first word of the last page of a stripe, and of the first of the next.
fn word(cell: usize) -> usize {
    let stripe = (cell / 2 % (STRIPES - 1) + 1) * STRIPE_PAGES;
    (stripe - 1 + cell % 2) * 512 + cell / 8
}

const CELLS: usize = 8;
const ROUNDS: usize = 48;

/// Adds to one cell in each region, under its lock; or under the range's, where memory is bound to that.
fn add(mesh: &Mesh, regions: &[(Region, SharedSlice<u64>)], cell: usize) {
    for (region, words) in regions {
        let at = word(cell);
        if region.protocol() == Protocol::Entry {
            let guard = region.lock_write(at * 8..at * 8 + 8).unwrap();
            words.set(at, words.get(at).unwrap() + 1).unwrap();
            guard.unlock().unwrap();
        }
    }
    let guard = mesh.lock(cell as u64).acquire().unwrap();
    for (region, words) in regions {
        if region.protocol() != Protocol::Entry {
            let at = word(cell);
            words.set(at, words.get(at).unwrap() + 1).unwrap();
        }
    }
    drop(guard);
}

#[test]
fn what_locks_order_is_in_order_in_regions_of_all_protocols() {
    const TEST: &str = "what_locks_order_is_in_order_in_regions_of_all_protocols";
    play(TEST, |mesh| {
        let protocols = [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release, Protocol::Entry];
        let regions = protocols.map(|protocol| {
            let placement = match protocol {
                Protocol::WriteInvalidate => Placement::FirstTouch,
                Protocol::Entry => Placement::Single(NodeId::new(1)),
                _ => Placement::Cyclic,
            };
            let options = RegionOptions::new(BYTES).protocol(protocol).placement(placement);
            let region = mesh.region(&format!("{protocol:?}"), options).unwrap();
            let words = region.slice::<u64>(0, BYTES / 8).unwrap();
            (region, words)
        });
        let counter = |cell: usize| AtomicU64::new(&regions[0].0, (100 + word(cell)) * 8).unwrap();
        mesh.barrier(1).wait().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (mesh, regions, counter) = (&mesh, &regions, &counter);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        add(mesh, regions, (round * 3 + thread * 2) % CELLS);
                        counter(round % CELLS).fetch_add(1).unwrap();
                        if round % 8 == thread {
                            // Over the edge between two shards.
                            let edge = (thread + 1) * STRIPE_PAGES * 4096;
                            let pin = regions[0].0.pin(edge - 8192..edge + 8192, Access::Write).unwrap();
                            pin.release().unwrap();
                        }
                    }
                });
            }
        });
        mesh.barrier(1).wait().unwrap();
        let expected = (mesh.nodes() * THREADS * ROUNDS / CELLS) as u64;
        for (region, words) in &regions {
            let _guard = (region.protocol() == Protocol::Entry).then(|| region.lock_read(0..BYTES).unwrap());
            for cell in 0..CELLS {
                let found = words.get(word(cell)).unwrap();
                assert_eq!(found, expected, "cell {cell} of {}", region.name());
            }
        }
        for cell in 0..CELLS {
            assert_eq!(counter(cell).load().unwrap(), expected);
        }
        mesh.leave().unwrap();
    });
    everywhere(|| await_all(start(TEST, &["4", "3"])));
}

#[test]
fn a_lost_node_is_known_to_every_shard() {
    const TEST: &str = "a_lost_node_is_known_to_every_shard";
    play(TEST, |mesh| {
        let region = mesh.region("divided", RegionOptions::new(BYTES)).unwrap();
        let words = region.slice::<u64>(0, BYTES / 8).unwrap();
        // In each stripe: a page that only the victim has, one that the victim is the home of, and one of the others.
        let page = |stripe: usize, home: usize| {
            let first = stripe * STRIPE_PAGES;
            first + (home + 3 - first % 3) % 3
        };
        if mesh.node() == VICTIM {
            (0..STRIPES).for_each(|stripe| words.set(page(stripe, 0) * 512, 1).unwrap());
        }
        if mesh.node() == NodeId::new(0) {
            (0..STRIPES).for_each(|stripe| words.set(page(stripe, 1) * 512, 7).unwrap());
        }
        mesh.barrier(1).wait().unwrap();
        say!("ready");
        if mesh.node() == VICTIM {
            loop {
                std::thread::park();
            }
        }
        let departure = mesh.wait_departure(PROMISED).expect("it is killed");
        assert_eq!(departure.node, VICTIM);
        std::thread::scope(|scope| {
            for stripe in 0..STRIPES {
                let words = &words;
                scope.spawn(move || {
                    let lost = words.get(page(stripe, 0) * 512).unwrap_err();
                    assert!(matches!(lost, AccessError::PageLost { node: VICTIM, .. }), "{lost}");
                    let homeless = words.get(page(stripe, 2) * 512).unwrap_err();
                    assert!(matches!(homeless, AccessError::PeerLost { node: VICTIM, .. }), "{homeless}");
                    assert_eq!(words.get(page(stripe, 1) * 512), Ok(7));
                });
            }
        });
        say!("done");
        let _ = mesh.leave();
    });
    everywhere(|| {
        let mut nodes = start(TEST, &["4", "2", "1"]);
        for node in &nodes {
            assert_eq!(node.hear(), "ready");
        }
        nodes[VICTIM.index()].kill();
        let rest: Vec<Vec<String>> = nodes.into_iter().take(2).map(Node::rest).collect();
        assert_eq!(rest, [["done"], ["done"]]);
    });
}

#[test]
fn a_region_that_ends_is_forgotten_by_every_shard() {
    const TEST: &str = "a_region_that_ends_is_forgotten_by_every_shard";
    play(TEST, |mesh| {
        for (round, protocol) in [Protocol::WriteInvalidate, Protocol::Migration, Protocol::WriteInvalidate]
            .into_iter()
            .enumerate()
        {
            let region = mesh.region("again", RegionOptions::new(BYTES).protocol(protocol)).unwrap();
            let words = region.slice::<u64>(0, BYTES / 8).unwrap();
            for stripe in 0..STRIPES {
                let at = stripe * STRIPE_PAGES * 512 + mesh.node().index() * 512;
                assert_eq!(words.get(at), Ok(0), "round {round}: the region is new");
                words.set(at, 1 + round as u64).unwrap();
            }
            mesh.barrier(1).wait().unwrap();
            drop(words);
            drop(region);
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| await_all(start(TEST, &["4", "4"])));
}

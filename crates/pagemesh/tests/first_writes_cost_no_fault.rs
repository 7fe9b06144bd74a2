//! Where the kernel notes which pages of a release region were written, the first write to a page that is here costs no fault; and nothing
//! may be lost by it. Nobody knows of such a write until it is looked for, so it is easily forgotten: by a thread that hands over a lock
//! while another goes on writing, or by one that takes a lock, for which the page is dropped.

mod cluster;

use cluster::{Node, everywhere, play, start_with};
use pagemesh::{Mesh, Placement, Protocol, RegionOptions, SharedSlice, Stats};
use pagemesh_memory::{FaultSink, Mapping, MappingOptions, RegionKey, Resolution};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGES: usize = 64;

fn bytes(mesh: &Mesh, name: &str, pages: usize, placement: Placement) -> SharedSlice<u8> {
    let options = RegionOptions::new(pages * 4096).protocol(Protocol::Release).placement(placement);
    mesh.region(name, options).unwrap().slice(0, pages * 4096).unwrap()
}

struct Nobody;

impl FaultSink for Nobody {
    fn resolve(&self, _: pagemesh_memory::Fault) -> Resolution {
        Resolution::Failed
    }
}

/// Whether the kernel notes writes with the pager that this node has.
fn can_track(mesh: &Mesh) -> bool {
    let options = MappingOptions::new(RegionKey(1 << 30), 4096).pager(mesh.pager().kind).track_writes(true);
    Mapping::new(options, Arc::new(Nobody)).unwrap().tracks_writes()
}

fn run_with(test: &str, nodes: usize, tracking: &str) -> Vec<Vec<String>> {
    let nodes = start_with(test, nodes, &[("PAGEMESH_TRACK_WRITES", tracking)]);
    nodes.into_iter().map(Node::rest).collect()
}

/// Each node reads pages of the other, and writes them in round after round.
#[test]
fn a_page_that_is_here_is_written_without_a_fault() {
    const TEST: &str = "a_page_that_is_here_is_written_without_a_fault";
    const ROUNDS: u8 = 5;
    play(TEST, |mesh| {
        let tracks = std::env::var("PAGEMESH_TRACK_WRITES").as_deref() == Ok("on") && can_track(&mesh);
        let me = mesh.node().index();
        // Of each page, both nodes write a half, so that nobody is lent any; and nobody's copy is dropped before all have written.
        let shared = bytes(&mesh, "shared", PAGES, Placement::Cyclic);
        let place = |page: usize, node: usize| page * 4096 + node * 2048;
        let mut before = Stats::default();
        for round in 1..=ROUNDS {
            for page in 0..PAGES {
                shared.get(place(page, me)).unwrap();
            }
            mesh.barrier(1).wait().unwrap();
            let faults = mesh.stats().write_faults;
            for page in 0..PAGES {
                shared.set(place(page, me), round).unwrap();
            }
            let faults = mesh.stats().write_faults - faults;
            if tracks {
                assert_eq!(faults, 0, "round {round}");
            }
            mesh.barrier(1).wait().unwrap();
            let found = mesh.stats().pages_found_written - before.pages_found_written;
            // A home's pages that it alone has are not looked for.
            assert_eq!(found >= PAGES as u64 / 2, tracks, "{found} pages of round {round}");
            before = mesh.stats();
            for page in 0..PAGES {
                for node in 0..2 {
                    assert_eq!(shared.get(place(page, node)).unwrap(), round, "page {page}, node {node}");
                }
            }
            mesh.barrier(1).wait().unwrap();
        }
        assert_eq!(mesh.stats().looks > 0, tracks);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        for tracking in ["on", "off"] {
            run_with(TEST, 2, tracking);
        }
    });
}

/// Who has a page to read can write it: so who writes pages in order, none of which is here, has the next ones asked for to be read.
#[test]
fn pages_that_are_written_in_order_come_ahead_and_every_byte_arrives() {
    const TEST: &str = "pages_that_are_written_in_order_come_ahead_and_every_byte_arrives";
    const MANY: usize = 600;
    const ROUNDS: u8 = 3;
    play(TEST, |mesh| {
        let tracks = std::env::var("PAGEMESH_TRACK_WRITES").as_deref() == Ok("on") && can_track(&mesh);
        let (me, other) = (mesh.node().index(), 1 - mesh.node().index());
        let shared = bytes(&mesh, "in order", MANY, Placement::Single(pagemesh::NodeId::new(0)));
        let place = |page: usize, node: usize| page * 4096 + node * 2048;
        for round in 1..=ROUNDS {
            // Node 0 first, so that the other has none of them any more; then both, each its own half.
            if me == 0 {
                (0..MANY).for_each(|page| shared.set(place(page, 0), round).unwrap());
            }
            mesh.barrier(1).wait().unwrap();
            let before = mesh.stats();
            for page in 0..MANY {
                shared.set(place(page, me) + 1, round).unwrap();
            }
            let after = mesh.stats();
            if me == 1 && round == 1 {
                let faults = after.write_faults - before.write_faults;
                let ahead = after.pages_prefetched - before.pages_prefetched;
                let told = format!("{faults} faults, {ahead} of {MANY} pages asked for");
                // Those that come late are faulted on all the same, and waited for.
                assert_eq!(ahead > MANY as u64 * 9 / 10, tracks, "{told}");
                assert!(!tracks || faults < MANY as u64 * 7 / 10, "{told}");
            }
            mesh.barrier(1).wait().unwrap();
            for page in 0..MANY {
                let found = [place(page, 0), place(page, 0) + 1, place(page, other) + 1];
                assert_eq!(found.map(|at| shared.get(at).unwrap()), [round; 3], "page {page}");
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        for tracking in ["on", "off"] {
            run_with(TEST, 2, tracking);
        }
    });
}

/// On each node one thread sets its bytes in order, and never synchronises. Another tells under a lock how many are set, and
/// checks that those of which the other node has told are. Bytes of both lie beside each other on all pages, so each notice drops copies that are being
/// written.
#[test]
fn threads_go_on_writing_while_others_hand_over_a_lock() {
    const TEST: &str = "threads_go_on_writing_while_others_hand_over_a_lock";
    const BYTES: usize = 3 * 4096;
    play(TEST, |mesh| {
        let (me, other) = (mesh.node().index(), 1 - mesh.node().index());
        for placement in [Placement::Cyclic, Placement::Single(pagemesh::NodeId::new(0))] {
            let shared = bytes(&mesh, &format!("shared {placement:?}"), 3, placement);
            let told = bytes(&mesh, &format!("told {placement:?}"), 1, placement);
            let told = |node: usize| (&told, 8 * node);
            let set = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 0..BYTES / 2 {
                        shared.set(number * 2 + me, 1).unwrap();
                        set.store(number + 1, Ordering::Release);
                        if number % 16 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
                let mut seen = 0;
                while seen < BYTES / 2 || set.load(Ordering::Acquire) < BYTES / 2 {
                    let guard = mesh.lock(1).acquire().unwrap();
                    let mut count = [0; 8];
                    let (words, at) = told(other);
                    words.read(at, &mut count).unwrap();
                    let count = usize::from_le_bytes(count);
                    for number in seen..count {
                        assert_eq!(shared.get(number * 2 + other).unwrap(), 1, "byte {number} of {count}");
                    }
                    seen = count;
                    let mine = set.load(Ordering::Acquire);
                    let (words, at) = told(me);
                    words.write(at, &mine.to_le_bytes()).unwrap();
                    drop(guard);
                }
            });
            // Until the other has been told of all.
            let guard = mesh.lock(1).acquire().unwrap();
            let (words, at) = told(me);
            words.write(at, &(BYTES / 2).to_le_bytes()).unwrap();
            drop(guard);
            mesh.barrier(1).wait().unwrap();
            let mut all = vec![0; BYTES];
            shared.read(0, &mut all).unwrap();
            assert!(all.iter().all(|byte| *byte == 1), "{placement:?}");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run_with(TEST, 2, "on");
    });
}

/// Nodes that track writes and nodes that do not have the same memory.
#[test]
fn nodes_that_track_and_nodes_that_do_not_see_one_memory() {
    const TEST: &str = "nodes_that_track_and_nodes_that_do_not_see_one_memory";
    const NODES: usize = 3;
    play(TEST, |mesh| {
        let me = mesh.node().index();
        let shared = bytes(&mesh, "shared", 4, Placement::Cyclic);
        for round in 1..=20_u8 {
            for place in (me..4 * 4096).step_by(NODES * 7) {
                shared.set(place, round.wrapping_add(me as u8)).unwrap();
            }
            mesh.barrier(1).wait().unwrap();
            for node in 0..NODES {
                for place in (node..4 * 4096).step_by(NODES * 7) {
                    assert_eq!(shared.get(place).unwrap(), round.wrapping_add(node as u8), "byte {place}");
                }
            }
            mesh.barrier(1).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let coordinator = cluster::free_address();
        let start = |node: usize| {
            let tracking = if node == 1 { "off" } else { "on" };
            Node::start_with(TEST, node, NODES, coordinator, &[("PAGEMESH_TRACK_WRITES", tracking)])
        };
        let nodes: Vec<Node> = (0..NODES).map(start).collect();
        let said: Vec<Vec<String>> = nodes.into_iter().map(Node::rest).collect();
        assert_eq!(said.len(), NODES);
    });
}

//! A page that one node writes over and over, and whose home is another, costs a diff each time. So its home lends it to the writer, and no
//! more is sent; whoever reads it still sees every write, from wherever it now is. When others write it too it comes back, and nothing that
//! anybody wrote is lost on the way.

mod cluster;

use cluster::{Node, everywhere, play, start_with};
use pagemesh::{Barrier, Mesh, NodeId, Placement, Protocol, RegionOptions, SharedSlice};
use pagemesh_protocol::{BarrierId, barrier_home};

const HOME: usize = 0;
const WRITER: usize = 1;
const READER: usize = 2;
const PAGES: usize = 16;
const WORDS: usize = 512;
const ROUNDS: u64 = 20;

fn words(mesh: &Mesh, name: &str) -> SharedSlice<u64> {
    let placement = Placement::Single(NodeId::new(HOME as u16));
    let options = RegionOptions::new(PAGES * WORDS * 8).protocol(Protocol::Release).placement(placement);
    mesh.region(name, options).unwrap().slice(0, PAGES * WORDS).unwrap()
}

/// What the home says to the writer about a page comes before what it says about this barrier.
fn barrier(mesh: &Mesh) -> Barrier {
    let nodes = mesh.nodes() as u16;
    let at_home = |id: &u64| barrier_home(BarrierId(*id), nodes) == NodeId::new(HOME as u16);
    mesh.barrier((0..1000).find(at_home).expect("every node is home of some barrier"))
}

fn value(round: u64, place: usize) -> u64 {
    round * 100_000 + place as u64
}

/// Node `WRITER` writes all of `shared` in each round, and `READER` reads it after the barrier; the home only passes the barriers.
/// Returns how many diffs this node sent in the second half.
fn write_and_read(mesh: &Mesh, shared: &SharedSlice<u64>) -> u64 {
    let me = mesh.node().index();
    let mut before = 0;
    for round in 1..=ROUNDS {
        if round == ROUNDS / 2 {
            before = mesh.stats().diffs_sent;
        }
        if me == WRITER {
            for place in 0..PAGES * WORDS {
                shared.set(place, value(round, place)).unwrap();
            }
        }
        barrier(mesh).wait().unwrap();
        if me == READER {
            let mut found = vec![0; PAGES * WORDS];
            shared.read(0, &mut found).unwrap();
            let wrong = found.iter().enumerate().find(|(place, found)| **found != value(round, *place));
            assert_eq!(wrong, None, "round {round}");
        }
        barrier(mesh).wait().unwrap();
    }
    mesh.stats().diffs_sent - before
}

fn said(nodes: Vec<Node>) -> Vec<String> {
    nodes.into_iter().flat_map(Node::rest).collect()
}

#[test]
fn the_only_writer_of_a_page_stops_sending_diffs() {
    const TEST: &str = "the_only_writer_of_a_page_stops_sending_diffs";
    play(TEST, |mesh| {
        let shared = words(&mesh, "lent");
        let diffs = write_and_read(&mesh, &shared);
        if mesh.node().index() == WRITER {
            say!("{diffs} {}", mesh.stats().pages_borrowed);
        }
        // What is kept elsewhere is there for the home as well.
        let mut found = vec![0; PAGES * WORDS];
        shared.read(0, &mut found).unwrap();
        assert!(found.iter().enumerate().all(|(place, found)| *found == value(ROUNDS, place)));
        barrier(&mesh).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        assert_eq!(said(start_with(TEST, 3, &[])), [format!("0 {PAGES}")]);
        let never = [("PAGEMESH_LEND_AFTER", "0")];
        let each_round = PAGES as u64 * (ROUNDS / 2 + 1);
        assert_eq!(said(start_with(TEST, 3, &never)), [format!("{each_round} 0")]);
    });
}

/// The home has used the page before, and has a copy that it does not use any more.
#[test]
fn a_page_that_its_home_filled_and_left_alone_is_lent() {
    const TEST: &str = "a_page_that_its_home_filled_and_left_alone_is_lent";
    play(TEST, |mesh| {
        let shared = words(&mesh, "filled");
        if mesh.node().index() == HOME {
            for place in 0..PAGES * WORDS {
                shared.set(place, 1).unwrap();
            }
        }
        barrier(&mesh).wait().unwrap();
        let diffs = write_and_read(&mesh, &shared);
        if mesh.node().index() == WRITER {
            say!("{diffs} {}", mesh.stats().pages_borrowed);
        }
        mesh.leave().unwrap();
    });
    everywhere(|| assert_eq!(said(start_with(TEST, 3, &[])), [format!("0 {PAGES}")]));
}

/// After it was lent, all nodes write every page, each with two threads, each thread its own words: some under locks, between which
/// the page comes back.
#[test]
fn a_page_that_is_lent_comes_back_with_what_everyone_wrote() {
    const TEST: &str = "a_page_that_is_lent_comes_back_with_what_everyone_wrote";
    const THREADS: usize = 2;
    const TURNS: u64 = 20;
    play(TEST, |mesh| {
        let me = mesh.node().index();
        let shared = words(&mesh, "shared");
        for phase in 1..=3 {
            write_and_read(&mesh, &shared);
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (mesh, shared) = (&mesh, &shared);
                    scope.spawn(move || {
                        for turn in 1..=TURNS {
                            for page in 0..PAGES {
                                let own = 10 + (me * THREADS + thread) * 20;
                                shared.set(page * WORDS + own, phase * 1000 + turn).unwrap();
                            }
                            let guard = mesh.lock(5).acquire().unwrap();
                            let place = (turn as usize % PAGES) * WORDS;
                            shared.set(place, shared.get(place).unwrap() + 1).unwrap();
                            drop(guard);
                        }
                    });
                }
            });
            barrier(&mesh).wait().unwrap();
            let counted: u64 =
                (0..PAGES).map(|page| shared.get(page * WORDS).unwrap() - value(ROUNDS, page * WORDS)).sum();
            assert_eq!(counted, TURNS * (3 * THREADS) as u64);
            for page in 0..PAGES {
                for number in 0..3 * THREADS {
                    let found = shared.get(page * WORDS + 10 + number * 20).unwrap();
                    assert_eq!(found, phase * 1000 + TURNS, "page {page}, thread {number}");
                }
                assert_eq!(shared.get(page * WORDS + 1).unwrap(), value(ROUNDS, page * WORDS + 1));
            }
            barrier(&mesh).wait().unwrap();
        }
        let stats = mesh.stats();
        if me == WRITER {
            assert!(stats.pages_borrowed > 0 && stats.pages_returned == stats.pages_borrowed, "{stats:?}");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        said(start_with(TEST, 3, &[]));
    });
}

/// What was released is gone with the node that keeps it, and is reported; it is never shown as it was before.
#[test]
fn a_page_is_lost_with_the_node_that_keeps_it() {
    const TEST: &str = "a_page_is_lost_with_the_node_that_keeps_it";
    play(TEST, |mesh| {
        let shared = words(&mesh, "lost");
        write_and_read(&mesh, &shared);
        if mesh.node().index() == WRITER {
            assert_eq!(mesh.stats().pages_borrowed, PAGES as u64);
            say!("keeps");
            loop {
                std::thread::park();
            }
        }
        if mesh.node().index() == HOME {
            mesh.wait_departure(cluster::PATIENCE).expect("a node is lost");
            let lost = shared.get(0);
            say!("{}", lost.is_err());
        }
        mesh.leave().unwrap_err();
    });
    everywhere(|| {
        let mut nodes = start_with(TEST, 3, &[]);
        assert_eq!(nodes[WRITER].hear(), "keeps");
        nodes[WRITER].kill();
        assert_eq!(nodes[HOME].hear(), "true");
    });
}

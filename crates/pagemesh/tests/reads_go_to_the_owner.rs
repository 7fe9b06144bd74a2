//! Who has heard which node writes a page should get it from that node in two steps, not by way of the page's home in three; and what
//! it reads there must be what was written last, also while others write, read and give the page back, and while hints are wrong.

mod cluster;

use cluster::{Node, everywhere, play, start_with};
use pagemesh::{Mesh, NodeId, OwnerHints, Placement, RegionOptions, SharedSlice, Stats};

const WRITER: usize = 1;
const READER: usize = 2;
const PAGES: usize = 16;
const WORDS: usize = 512;
const ROUNDS: u64 = 20;

fn words(mesh: &Mesh, name: &str) -> SharedSlice<u64> {
    let options = RegionOptions::new(PAGES * WORDS * 8).placement(Placement::Single(NodeId::new(0)));
    mesh.region(name, options).unwrap().slice(0, PAGES * WORDS).unwrap()
}

/// In each round one node writes a word of each page, and another reads them after a barrier.
fn write_and_read(mesh: &Mesh, shared: &SharedSlice<u64>) -> Stats {
    let (me, barrier) = (mesh.node().index(), mesh.barrier(1));
    for round in 1..=ROUNDS {
        for page in (0..PAGES).filter(|_| me == WRITER) {
            shared.set(page * WORDS, round * 1000 + page as u64).unwrap();
        }
        barrier.wait().unwrap();
        for page in (0..PAGES).filter(|_| me == READER) {
            assert_eq!(shared.get(page * WORDS).unwrap(), round * 1000 + page as u64, "page {page}");
        }
        barrier.wait().unwrap();
    }
    mesh.stats()
}

fn variables(hints: &'static str) -> [(&'static str, &'static str); 2] {
    [("PAGEMESH_OWNER_HINTS", hints), ("PAGEMESH_READ_AHEAD", "off")]
}

/// The hints of the reader that were right and wrong.
fn heard(test: &str, hints: &'static str) -> (u64, u64) {
    let said: Vec<String> = start_with(test, 3, &variables(hints)).into_iter().flat_map(Node::rest).collect();
    let [said] = &said[..] else { panic!("the reader says one line: {said:?}") };
    let (right, wrong) = said.split_once(' ').expect("two numbers");
    (right.parse().unwrap(), wrong.parse().unwrap())
}

#[test]
fn a_reader_gets_the_page_from_who_writes_it() {
    const TEST: &str = "a_reader_gets_the_page_from_who_writes_it";
    play(TEST, |mesh| {
        let stats = write_and_read(&mesh, &words(&mesh, "words"));
        if mesh.node().index() == READER {
            say!("{} {}", stats.owner_hints_right, stats.owner_hints_wrong);
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        // Only the first read of a page knows nothing; and a writer that is just about to use a page turns readers away.
        let most = (ROUNDS - 1) * PAGES as u64;
        for hints in ["on", "auto"] {
            let (right, wrong) = heard(TEST, hints);
            println!("{hints}: {right} right, {wrong} wrong, of {most}");
            assert!(right > most / 2 && right + wrong <= most, "{hints}: {right} right, {wrong} wrong");
        }
        assert_eq!(heard(TEST, "off"), (0, 0));
    });
}

#[test]
fn hints_are_turned_on_for_one_region() {
    const TEST: &str = "hints_are_turned_on_for_one_region";
    play(TEST, |mesh| {
        let without = words(&mesh, "without");
        let with = words(&mesh, "with");
        with.region().owner_hints(OwnerHints::On);
        let before = write_and_read(&mesh, &without);
        assert_eq!((before.owner_hints_right, before.owner_hints_wrong), (0, 0));
        let after = write_and_read(&mesh, &with);
        if mesh.node().index() == READER {
            assert!(after.owner_hints_right > 0, "{after:?}");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        for node in start_with(TEST, 3, &variables("off")) {
            node.rest();
        }
    });
}

/// All nodes add to, read and write all pages at once, and give some back: the sums are right, and who reads a word again never reads an older one.
#[test]
fn whoever_writes_nobody_reads_what_was_before() {
    const TEST: &str = "whoever_writes_nobody_reads_what_was_before";
    const TURNS: usize = 400;
    play(TEST, |mesh| {
        let (me, shared) = (mesh.node().index(), words(&mesh, "words"));
        let mut seen = [[0; 4]; PAGES];
        for turn in 0..TURNS {
            let page = (turn * 7 + me * 3) % PAGES;
            if turn % 3 == me % 3 {
                // Each node has a word of its own on every page.
                let place = page * WORDS + me;
                shared.set(place, shared.get(place).unwrap() + 1).unwrap();
            }
            for (node, seen) in seen[page].iter_mut().enumerate() {
                let now = shared.get(page * WORDS + node).unwrap();
                assert!(now >= *seen, "n{node} wrote {now} to page {page} after {seen}");
                *seen = now;
            }
            if turn % 50 == 49 {
                shared.region().evict(page..page + 1);
            }
        }
        mesh.barrier(1).wait().unwrap();
        let expected = (0..TURNS).filter(|turn| turn % 3 == me % 3).count() as u64;
        let own: u64 = (0..PAGES).map(|page| shared.get(page * WORDS + me).unwrap()).sum();
        assert_eq!(own, expected);
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        for shards in ["1", "3"] {
            let variables = [variables("on").as_slice(), &[("PAGEMESH_SHARDS", shards)]].concat();
            for node in start_with(TEST, 4, &variables) {
                node.rest();
            }
        }
    });
}

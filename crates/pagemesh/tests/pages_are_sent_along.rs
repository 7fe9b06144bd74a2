//! Who reads the same pages after each barrier should not have to fetch them each time: they come along with it. Its threads find there
//! what was written last, whoever wrote it and wherever the page is kept, and fault no more.

mod cluster;

use cluster::{Node, everywhere, play, start_with};
use pagemesh::{Barrier, Mesh, NodeId, Placement, Protocol, RegionOptions, SharedSlice};
use pagemesh_protocol::{BarrierId, barrier_home};

const HOME: usize = 0;
const WRITER: usize = 1;
const READER: usize = 2;
const PAGES: usize = 8;
const WORDS: usize = 512;
/// In the first rounds it is found out who wants what.
const EARLY: u64 = 10;
const ROUNDS: u64 = 60;

fn words(mesh: &Mesh, name: &str) -> SharedSlice<u64> {
    let placement = Placement::Single(NodeId::new(HOME as u16));
    let options = RegionOptions::new(PAGES * WORDS * 8).protocol(Protocol::Release).placement(placement);
    mesh.region(name, options).unwrap().slice(0, PAGES * WORDS).unwrap()
}

/// What `sender` sends along comes before what it says about this barrier.
fn barrier(mesh: &Mesh, sender: usize) -> Barrier {
    let nodes = mesh.nodes() as u16;
    let is_there = |id: &u64| barrier_home(BarrierId(*id), nodes) == NodeId::new(sender as u16);
    mesh.barrier((0..1000).find(is_there).expect("every node is home of some barrier"))
}

fn value(round: u64, place: usize) -> u64 {
    round * 100_000 + place as u64
}

/// In each round `writer` writes all words but those that the reader writes itself, one a page where it `answers`; after the barrier the reader reads all.
/// Returns how often it faulted after the early rounds.
fn write_and_read(mesh: &Mesh, (writer, sender): (usize, usize), answers: bool) -> u64 {
    let (me, shared) = (mesh.node().index(), words(mesh, "words"));
    let mut before = 0;
    for round in 1..=ROUNDS {
        if round == EARLY {
            before = mesh.stats().read_faults;
        }
        for page in 0..PAGES {
            let start = page * WORDS;
            if me == writer {
                let last = WORDS - usize::from(answers);
                let written: Vec<u64> = (start..start + last).map(|place| value(round, place)).collect();
                shared.write(start, &written).unwrap();
            }
            if me == READER && answers {
                shared.set(start + WORDS - 1, value(round, start + WORDS - 1)).unwrap();
            }
        }
        barrier(mesh, sender).wait().unwrap();
        if me == READER {
            let mut found = vec![0; PAGES * WORDS];
            shared.read(0, &mut found).unwrap();
            let wrong = found.iter().enumerate().find(|(place, found)| **found != value(round, *place));
            assert_eq!(wrong, None, "round {round}");
        }
        barrier(mesh, sender).wait().unwrap();
    }
    mesh.stats().read_faults - before
}

/// What the reader said: its faults, and the updates that it took over.
fn heard(test: &str, variables: &[(&str, &str)]) -> (u64, u64) {
    let nodes = start_with(test, 3, &[&[("PAGEMESH_READ_AHEAD", "off")], variables].concat());
    let said: Vec<String> = nodes.into_iter().flat_map(Node::rest).collect();
    let [said] = &said[..] else { panic!("the reader says one line: {said:?}") };
    let (faults, adopted) = said.split_once(' ').expect("two numbers");
    (faults.parse().unwrap(), adopted.parse().unwrap())
}

fn play_round(test: &str, roles: (usize, usize)) {
    play(test, |mesh| {
        let faults = write_and_read(&mesh, roles, false);
        if mesh.node().index() == READER {
            say!("{faults} {}", mesh.stats().updates_adopted);
        }
        mesh.leave().unwrap();
    });
}

/// With updates the reader's pages are let go a few times, to see whether it wants them; without, they go in each round.
fn faults_stop(test: &str, variables: &[(&str, &str)]) {
    everywhere(|| {
        let (faults, adopted) = heard(test, &[variables, &[("PAGEMESH_UPDATES", "on")]].concat());
        println!("{faults} faults, {adopted} updates taken over");
        assert!(faults <= 5 * PAGES as u64, "{faults} faults, {adopted} updates taken over");
        assert!(adopted >= (ROUNDS - 20) * PAGES as u64, "{adopted} updates taken over");
        let off = heard(test, &[variables, &[("PAGEMESH_UPDATES", "off")]].concat());
        assert_eq!(off, ((ROUNDS - EARLY + 1) * PAGES as u64, 0));
    });
}

#[test]
fn a_reader_is_sent_what_the_home_writes() {
    const TEST: &str = "a_reader_is_sent_what_the_home_writes";
    play_round(TEST, (HOME, HOME));
    faults_stop(TEST, &[]);
}

#[test]
fn a_reader_is_sent_what_the_owner_of_a_page_writes() {
    const TEST: &str = "a_reader_is_sent_what_the_owner_of_a_page_writes";
    play_round(TEST, (WRITER, WRITER));
    faults_stop(TEST, &[]);
}

#[test]
fn a_reader_is_sent_what_diffs_have_brought() {
    const TEST: &str = "a_reader_is_sent_what_diffs_have_brought";
    play_round(TEST, (WRITER, HOME));
    faults_stop(TEST, &[("PAGEMESH_LEND_AFTER", "0")]);
}

/// Both write each page in each round. How often an update comes that has the reader's own diff is a matter of time; that nothing is lost is not.
#[test]
fn what_a_reader_wrote_itself_is_never_lost() {
    const TEST: &str = "what_a_reader_wrote_itself_is_never_lost";
    play(TEST, |mesh| {
        write_and_read(&mesh, (WRITER, HOME), true);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let nodes = start_with(TEST, 3, &[("PAGEMESH_UPDATES", "on")]);
        assert!(nodes.into_iter().flat_map(Node::rest).next().is_none());
    });
}

//! In a region with a larger unit, one miss brings the whole unit, so that who goes through it faults once for many pages; but what threads
//! see stays what they see page by page, and every node has to ask for the same unit.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::{Mesh, NodeId, PageState, Placement, Protocol, RegionError, RegionOptions, SharedSlice, Unit};
use std::ops::Range;
use std::time::Instant;

const PAGES: usize = 1100;
const WORDS: usize = 512;

fn options(unit: Unit) -> RegionOptions {
    RegionOptions::new(PAGES * 4096).placement(Placement::Single(NodeId::new(0))).unit(unit.bytes())
}

fn words(mesh: &Mesh, unit: Unit) -> SharedSlice<u64> {
    let region = mesh.region(&format!("units of {}", unit.bytes()), options(unit)).unwrap();
    assert_eq!(region.unit(), unit);
    region.slice(0, PAGES * WORDS).unwrap()
}

/// What a page holds tells the page and the round.
fn write_all(words: &SharedSlice<u64>, round: u64) {
    for page in 0..PAGES {
        words.set(page * WORDS + 7, round << 32 | page as u64).unwrap();
    }
}

fn check_all(words: &SharedSlice<u64>, round: u64) {
    for page in 0..PAGES {
        assert_eq!(words.get(page * WORDS + 7).unwrap(), round << 32 | page as u64);
    }
}

/// Until this node has copies of `pages`, though nobody touches them.
fn wait_for_copies(words: &SharedSlice<u64>, pages: Range<usize>) {
    let deadline = Instant::now() + cluster::PATIENCE;
    for page in pages {
        while words.region().page_state(page) == PageState::Invalid {
            assert!(Instant::now() < deadline, "page {page} does not come with its unit");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_miss_brings_its_unit_to_be_read_or_written() {
    const TEST: &str = "a_miss_brings_its_unit_to_be_read_or_written";
    play(TEST, |mesh| {
        let turn = mesh.barrier(1);
        for unit in [Unit::KiB16, Unit::KiB64, Unit::MiB2] {
            let words = words(&mesh, unit);
            let is_home = mesh.node() == NodeId::new(0);
            let asked = || mesh.stats().pages_prefetched;
            if is_home {
                write_all(&words, 1);
            }
            turn.wait().unwrap();
            if !is_home {
                // In the middle of a unit, and in the last, which the region cuts short.
                for page in [5, PAGES - 1] {
                    let first = page - page % unit.pages() as usize;
                    let pages = first..PAGES.min(first + unit.pages() as usize);
                    let before = asked();
                    words.get(page * WORDS).unwrap();
                    assert_eq!(asked() - before, pages.len() as u64 - 1, "{unit:?}");
                    wait_for_copies(&words, pages);
                }
                check_all(&words, 1);
                let before = mesh.stats().write_faults;
                write_all(&words, 2);
                let faults = mesh.stats().write_faults - before;
                assert!(faults < PAGES as u64 * 3 / 4, "{unit:?}: {faults} write faults for {PAGES} pages");
                assert_eq!(words.region().page_state(17), PageState::Modified);
            }
            turn.wait().unwrap();
            if is_home {
                check_all(&words, 2);
            }
            turn.wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn nodes_that_write_next_to_each_other_lose_nothing() {
    const TEST: &str = "nodes_that_write_next_to_each_other_lose_nothing";
    const ROUNDS: u64 = 100;
    play(TEST, |mesh| {
        for protocol in [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release] {
            let name = format!("next to each other, {protocol:?}");
            let options = RegionOptions::new(64 * 4096).protocol(protocol).unit(Unit::KiB64.bytes());
            let words: SharedSlice<u64> = mesh.region(&name, options).unwrap().slice(0, 64 * WORDS).unwrap();
            let (own, nodes) = (mesh.node().index(), mesh.nodes());
            mesh.barrier(1).wait().unwrap();
            for round in 1..=ROUNDS {
                // Each node has its own pages, in units that all of them write.
                for page in (own..64).step_by(nodes) {
                    assert_eq!(words.get(page * WORDS).unwrap(), round - 1, "page {page}");
                    words.set(page * WORDS, round).unwrap();
                }
            }
            mesh.barrier(2).wait().unwrap();
            for page in 0..64 {
                assert_eq!(words.get(page * WORDS).unwrap(), ROUNDS, "page {page}, {protocol:?}");
            }
            mesh.barrier(3).wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

#[test]
fn other_units_are_refused() {
    const TEST: &str = "other_units_are_refused";
    play(TEST, |mesh| {
        for bytes in [0, 1, 4095, 8192, 1 << 20, 4 << 20, usize::MAX] {
            let refused = mesh.region("odd", RegionOptions::new(4096).unit(bytes)).unwrap_err();
            assert!(matches!(refused, RegionError::Unit { bytes: found, .. } if found == bytes), "{refused}");
        }
        let entry = options(Unit::KiB16).protocol(Protocol::Entry);
        assert!(matches!(mesh.region("entry", entry), Err(RegionError::Option { .. })));
        let turn = mesh.barrier(1);
        let kept = (mesh.node() == NodeId::new(0)).then(|| mesh.region("one", options(Unit::KiB64)).unwrap());
        turn.wait().unwrap();
        if kept.is_none() {
            let other = mesh.region("one", options(Unit::KiB16));
            assert!(matches!(other, Err(RegionError::OptionsDiffer { .. })));
            assert_eq!(mesh.attach("one", cluster::PATIENCE).unwrap().unit(), Unit::KiB64);
        }
        turn.wait().unwrap();
        mesh.leave().unwrap();
    });
    run(TEST, 2);
}

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

/// A third of them, in no order.
fn some_of(units: &[usize]) -> Vec<usize> {
    let mut order = units.to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for place in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(place, (state % (place as u64 + 1)) as usize);
    }
    order.truncate(units.len() / 3);
    order
}

/// Goes through the units in this order, each from its first page to its last; returns faults, pages asked for beside them, and messages that were sent.
fn go_through(mesh: &Mesh, words: &SharedSlice<u64>, order: &[usize], unit: usize, writes: bool) -> [u64; 3] {
    let before = mesh.stats();
    for page in order.iter().flat_map(|first| *first..PAGES.min(first + unit)) {
        if writes {
            words.set(page * WORDS + 8, page as u64).unwrap();
        } else {
            assert_eq!(words.get(page * WORDS + 7).unwrap(), 3 << 32 | page as u64, "page {page}");
        }
    }
    let after = mesh.stats();
    let faults = if writes {
        after.write_faults - before.write_faults
    } else {
        after.read_faults - before.read_faults
    };
    [faults, after.pages_prefetched - before.pages_prefetched, after.messages_sent - before.messages_sent]
}

#[test]
fn units_in_order_come_ahead_and_others_bring_only_themselves() {
    const TEST: &str = "units_in_order_come_ahead_and_others_bring_only_themselves";
    play(TEST, |mesh| {
        let turn = mesh.barrier(1);
        let is_home = mesh.node() == NodeId::new(0);
        for unit in [Unit::KiB16, Unit::KiB64] {
            let words = words(&mesh, unit);
            let pages = unit.pages() as usize;
            let up: Vec<usize> = (0..PAGES).step_by(pages).collect();
            let down: Vec<usize> = up.iter().rev().copied().collect();
            let scattered = some_of(&up);
            for (way, order) in [("up", &up), ("down", &down), ("scattered", &scattered)] {
                for writes in [false, true] {
                    if is_home {
                        write_all(&words, 3);
                    }
                    turn.wait().unwrap();
                    if !is_home {
                        let [faults, ahead, messages] = go_through(&mesh, &words, order, pages, writes);
                        let units = order.len() as u64;
                        let told = format!(
                            "{unit:?}, {way}, writes: {writes}: {faults} faults, {ahead} pages ahead, {messages} messages for {units} units"
                        );
                        match way {
                            // One by one, each unit would need one, and a few more where its pages come apart.
                            "up" => assert!(messages < units * 3 / 4, "{told}"),
                            "down" => assert!(faults < PAGES as u64 * 3 / 4, "{told}"),
                            _ => assert!(ahead <= units * pages as u64, "{told}"),
                        }
                    }
                    turn.wait().unwrap();
                    if is_home && writes && way != "scattered" {
                        for page in 0..PAGES {
                            assert_eq!(words.get(page * WORDS + 7).unwrap(), 3 << 32 | page as u64);
                            assert_eq!(words.get(page * WORDS + 8).unwrap(), page as u64);
                        }
                    }
                    turn.wait().unwrap();
                }
            }
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

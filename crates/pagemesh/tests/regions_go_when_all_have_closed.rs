//! A program that opens a region for each piece of work must not run out of regions, and must not find in a new one what it left in an old
//! one; nor may a node that is done with a region take it from one that is not. Real processes, with every pager.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::{Access, Heap, Mesh, NodeId, Placement, Protocol, Region, RegionError, RegionOptions};

const PAGES: usize = 4;
/// More than there can be at a time.
const ROUNDS: u64 = 300;

fn options(protocol: Protocol) -> RegionOptions {
    RegionOptions::new(PAGES * 4096).protocol(protocol).placement(Placement::Single(NodeId::new(1)))
}

fn open(mesh: &Mesh, protocol: Protocol) -> Region {
    mesh.region("work", options(protocol)).unwrap()
}

fn sum(region: &Region) -> u64 {
    let words = region.slice::<u64>(0, PAGES * 512).unwrap();
    (0..PAGES).map(|page| words.get(page * 512 + 3).unwrap()).sum()
}

#[test]
fn a_region_is_new_when_all_had_closed_it() {
    const TEST: &str = "a_region_is_new_when_all_had_closed_it";
    play(TEST, |mesh| {
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        // The same name, with other options each time.
        for protocol in [Protocol::WriteInvalidate, Protocol::Release, Protocol::Migration, Protocol::Entry] {
            let region = open(&mesh, protocol);
            turn.wait().unwrap();
            let guard = (protocol == Protocol::Entry).then(|| region.lock_write(0..PAGES * 4096).unwrap());
            if protocol == Protocol::Entry {
                assert_eq!(sum(&region), 0, "{protocol:?}: what was there before came back");
            }
            if guard.is_none() {
                if me == 0 {
                    assert_eq!(sum(&region), 0, "{protocol:?}: what was there before came back");
                    let words = region.slice::<u64>(0, PAGES * 512).unwrap();
                    (0..PAGES).for_each(|page| words.set(page * 512 + 3, 5).unwrap());
                }
                turn.wait().unwrap();
                assert_eq!(sum(&region), 5 * PAGES as u64, "{protocol:?}");
            }
            drop(guard);
            drop(region);
            turn.wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

#[test]
fn who_has_it_open_keeps_it() {
    const TEST: &str = "who_has_it_open_keeps_it";
    play(TEST, |mesh| {
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        for protocol in [Protocol::WriteInvalidate, Protocol::Release] {
            let region = open(&mesh, protocol);
            let base = region.base();
            turn.wait().unwrap();
            if me == 0 {
                let words = region.slice::<u64>(0, PAGES * 512).unwrap();
                (0..PAGES).for_each(|page| words.set(page * 512 + 3, 7).unwrap());
            }
            turn.wait().unwrap();
            // The writer and the home go on serving.
            // Others drop theirs here.
            let kept = (me == 2).then_some(region);
            turn.wait().unwrap();
            assert!(kept.as_ref().is_none_or(|region| sum(region) == 7 * PAGES as u64), "{protocol:?}");
            drop(kept);
            turn.wait().unwrap();
            // Node 2 has closed it by now.
            let again = open(&mesh, protocol);
            turn.wait().unwrap();
            assert_eq!(sum(&again), 0, "{protocol:?}");
            assert_ne!(again.base(), base, "{protocol:?}: addresses are not used again at once");
            turn.wait().unwrap();
            drop(again);
            turn.wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| drop(run(TEST, 3)));
}

#[test]
fn three_hundred_one_after_the_other() {
    const TEST: &str = "three_hundred_one_after_the_other";
    play(TEST, |mesh| {
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        let fixed = options(Protocol::WriteInvalidate).address(0x3100_0000_0000);
        for round in 0..ROUNDS {
            let region = mesh.region("work", fixed).unwrap();
            turn.wait().unwrap();
            let word = region.slice::<u64>(0, 2).unwrap();
            assert_eq!(word.get(usize::from(me)).unwrap(), 0);
            word.set(usize::from(me), round + 1).unwrap();
            turn.wait().unwrap();
            assert_eq!(word.get(usize::from(1 - me)).unwrap(), round + 1);
            drop((word, region));
            turn.wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    drop(run(TEST, 2));
}

#[test]
fn what_is_pinned_by_address_is_in_use() {
    const TEST: &str = "what_is_pinned_by_address_is_in_use";
    play(TEST, |mesh| {
        let region = open(&mesh, Protocol::WriteInvalidate);
        mesh.pin_address(region.base() + 10, 5000, Access::Write).unwrap();
        assert!(matches!(region.check_unused(), Err(RegionError::InUse { .. })));
        mesh.unpin_address(region.base() + 10, 5000).unwrap();
        region.check_unused().unwrap();
        mesh.leave().unwrap();
    });
    drop(run(TEST, 2));
}

/// What tells which blocks are allocated must stay as long as the blocks, though nobody uses the heap; and no longer.
#[test]
fn the_tables_of_a_heap_go_with_its_region() {
    const TEST: &str = "the_tables_of_a_heap_go_with_its_region";
    play(TEST, |mesh| {
        let (me, turn) = (mesh.node().get(), mesh.barrier(1));
        for round in 0..ROUNDS {
            let region = mesh.region("heap", RegionOptions::new(1 << 20)).unwrap();
            turn.wait().unwrap();
            let blocks = |first: usize| {
                let heap = Heap::in_region(&mesh, region.clone()).unwrap();
                (first..first + 3)
                    .map(|_| heap.alloc(64, 16).unwrap().get() - region.base())
                    .collect::<Vec<_>>()
            };
            // One after the other, and each closes its heap before the next opens it.
            let mut mine = Vec::new();
            for node in 0..2 {
                if node == me {
                    mine = blocks(0);
                    let words = region.slice::<u64>(0, 1 << 17).unwrap();
                    for block in &mine {
                        assert_eq!(words.get(block / 8).unwrap(), 0, "round {round}: the block is in use");
                        words.set(block / 8, 1 + u64::from(me)).unwrap();
                    }
                }
                turn.wait().unwrap();
            }
            assert_eq!(mine.len(), 3);
            drop(region);
            turn.wait().unwrap();
        }
        mesh.leave().unwrap();
    });
    drop(run(TEST, 2));
}

//! A program that keeps to its range locks has to see one memory: what was published last, to the byte, whoever else writes the same page,
//! dies, or gives up. These seeds compare all that threads have locked with what was published, and each grant with the line.

use pagemesh_protocol::Planted;
use pagemesh_sim::entry::{EntryReport, run};

#[test]
fn every_seed_shows_what_was_published_last() {
    let mut sum = EntryReport::default();
    for seed in 0..3000 {
        match run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{sum:?}");
    assert!(sum.grants > 50_000 && sum.reads > 500_000, "the seeds reach too little: {sum:?}");
    assert!(sum.told > 50 && sum.losses > 500, "the seeds reach too few losses: {sum:?}");
    assert!(sum.busy > 1000 && sum.given_up > 1000, "the seeds are too patient: {sum:?}");
}

#[test]
fn every_planted_fault_is_seen() {
    for fault in Planted::OF_ENTRY {
        let seen = (0..1000).find(|seed| run(*seed, Some(fault)).is_err());
        println!("{fault:?}: seen by seed {seen:?}");
        assert!(seen.is_some(), "{fault:?} was not seen within 1000 seeds");
    }
}

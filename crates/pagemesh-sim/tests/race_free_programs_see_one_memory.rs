//! A release region promises little to those who race, and everything to those who do not. These seeds run programs
//! without data races on it, beside regions of the other protocols, and compare every read.

use pagemesh_sim::racefree::{FAULTS, RaceFreeReport, run};

#[test]
fn every_seed_reads_what_was_written_last() {
    let mut sum = RaceFreeReport::default();
    for seed in 0..3000 {
        match run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{sum:?}");
    assert!(sum.signals > 100, "hardly anybody was signalled: {sum:?}");
    assert!(sum.diffs > 1000 && sum.reads > 10_000 && sum.losses > 0, "the seeds reach too little: {sum:?}");
    assert!(sum.atomics > 10_000, "the seeds reach too little of atomic operations: {sum:?}");
    assert!(sum.pins > 1000 && sum.pins_taken > 0, "the seeds reach too little of pins: {sum:?}");
    assert!(sum.found_unwritten > 1000, "the seeds reach too little of pins that last: {sum:?}");
}

/// Found in longer campaigns: a thread that never got a page of which others of its node changed words; a page that came for a pin and for
/// an operation at once; threads that spun on a word while they had pages pinned, of which each try told, so that who fetched them never came to
/// an end; an atomic operation whose requester was sent the page with what it was told before, as it was until then.
#[test]
fn seeds_that_failed_once_pass() {
    for seed in [33, 12409, 21062, 138_987, 219_631] {
        if let Err(failure) = run(seed, None) {
            panic!("{failure}");
        }
    }
}

#[test]
fn every_planted_fault_is_seen() {
    for fault in FAULTS {
        let seen = (0..2000).find(|seed| run(*seed, Some(fault)).is_err());
        println!("{fault:?}: seen by seed {seen:?}");
        assert!(seen.is_some(), "{fault:?} was not seen within 2000 seeds");
    }
}

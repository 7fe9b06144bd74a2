//! A region that was closed everywhere must leave nothing behind: what its pages held, who had them, who waits for them, and what is still under way
//! about them would all look like news about the region that comes next. These seeds open and close a few names over and over while their pages
//! are used, by every protocol, with late messages, calls that give up, and losses.

use pagemesh_sim::lives::{LivesReport, run};

/// How many seeds, unless `PAGEMESH_LIVES` names a number.
const SEEDS: u64 = 3000;

#[test]
fn a_new_region_has_nothing_of_an_old_one() {
    let seeds = std::env::var("PAGEMESH_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut sum = LivesReport::default();
    for seed in 0..seeds {
        match run(seed) {
            Ok(report) => sum.add(&report),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{sum:?}");
    assert!(sum.openings > 10 * seeds && sum.gone > 10 * seeds, "the seeds reach too little: {sum:?}");
    assert!(
        sum.late > 100 && sum.ended > 100 && sum.losses > seeds / 5,
        "the seeds reach too little: {sum:?}"
    );
}

//! Runs many seeds of race-free programs: `race_free FIRST COUNT`.

use pagemesh_sim::racefree::{RaceFreeReport, run};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap_or(0));
    let (first, count) = (arguments.next().unwrap_or(0), arguments.next().unwrap_or(10_000));
    let mut sum = RaceFreeReport::default();
    for seed in first..first + count {
        match run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(failure) => {
                println!("{failure}");
                std::process::exit(1);
            }
        }
    }
    println!("{count} seeds from {first}: {sum:?}");
}

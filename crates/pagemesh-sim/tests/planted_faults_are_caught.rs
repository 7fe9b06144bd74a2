//! Checks that never fail prove nothing. Here a known fault is planted in the simulated machine, one kind at a time, and
//! the run has to fail within a few seeds; a run of the same seeds without it has to pass.

use pagemesh_sim::{Breach, Options, Sabotage, run};

/// Seeds within which each fault has to be caught.
const SEEDS: u64 = 100;

/// Runs seeds with `sabotage` until one fails; returns how many that took, how many had the fault, and the breach.
fn hunt(sabotage: Sabotage) -> Option<(u64, Breach)> {
    let options = Options { sabotage: Some(sabotage), ..Options::default() };
    (0..SEEDS).find_map(|seed| run(seed, options).err().map(|failed| (seed + 1, failed.breach)))
}

#[test]
fn every_planted_fault_is_caught() {
    // A planted fault may also trip an assertion of an engine: that is a catch, and its text is in the breach.
    std::panic::set_hook(Box::new(|_| {}));
    let caught = Sabotage::ALL.map(|sabotage| (sabotage, hunt(sabotage)));
    let _ = std::panic::take_hook();
    for (sabotage, result) in &caught {
        match result {
            Some((seeds, breach)) => println!("{sabotage:?}: caught within {seeds} seeds: {breach}"),
            None => println!("{sabotage:?}: not caught in {SEEDS} seeds"),
        }
    }
    let missed: Vec<Sabotage> =
        caught.iter().filter(|(_, result)| result.is_none()).map(|(sabotage, _)| *sabotage).collect();
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
}

#[test]
fn the_same_seeds_pass_without_a_fault() {
    for seed in 0..SEEDS {
        if let Err(failed) = run(seed, Options::default()) {
            panic!("{failed}");
        }
    }
}

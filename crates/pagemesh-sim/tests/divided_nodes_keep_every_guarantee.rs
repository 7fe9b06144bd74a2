//! A node with many cores has several engines that know nothing of each other. What the runtime relies on is checked here: that the pages of
//! write-invalidate and migration regions need no common order, that nodes with different numbers of engines work together, and that
//! an engine which is not told what it has to know is noticed.

use pagemesh_sim::{Counts, Misdivision, Options, Sharding, racefree, run};

/// Seeds of each world.
const SEEDS: u64 = 1500;
/// Seeds within which each fault has to be noticed.
const HUNT: u64 = 200;

fn divided() -> Options {
    Options { sharding: Sharding::up_to(4), ..Options::default() }
}

#[test]
fn coherence_holds_where_pages_are_divided() {
    let mut sum = Counts::default();
    for seed in 0..SEEDS {
        match run(seed, divided()) {
            Ok(report) => sum.lost += report.counts.lost,
            Err(failed) => panic!("with up to 4 engines a node: {failed}"),
        }
    }
    assert!(sum.lost > 0, "nodes are lost in these runs");
}

#[test]
fn one_engine_is_the_default_and_means_what_it_did() {
    for seed in 0..50 {
        let alone = Options { sharding: Sharding::up_to(1), ..Options::default() };
        let [one, other] = [alone, Options::default()].map(|options| run(seed, options).expect("it holds"));
        assert_eq!(one.counts, other.counts);
    }
}

#[test]
fn programs_without_races_see_one_memory_in_divided_and_other_regions() {
    for seed in 0..SEEDS {
        if let Err(failure) = racefree::run_divided(seed, None, Sharding::up_to(3)) {
            panic!("with up to 3 engines a node: {failure}");
        }
    }
}

#[test]
fn what_an_engine_is_not_told_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Misdivision> = Misdivision::ALL
        .into_iter()
        .filter(|fault| {
            let sharding = Sharding { fault: Some(*fault), ..Sharding::up_to(3) };
            let options = Options { sharding, ..Options::default() };
            let noticed = (0..HUNT).find_map(|seed| {
                let coherence = run(seed, options).err().map(|failed| failed.breach.to_string());
                coherence.or_else(|| {
                    racefree::run_divided(seed, None, sharding).err().map(|failure| failure.what.clone())
                })
            });
            println!("{fault:?}: {noticed:?}");
            noticed.is_none()
        })
        .collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not noticed within {HUNT} seeds: {missed:?}");
}

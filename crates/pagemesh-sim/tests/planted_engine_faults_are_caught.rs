//! A check that never fails proves nothing. Here the engine itself is made wrong, one line at a time, and the seeded
//! simulator, programs without data races, or the model checker have to notice. The table that this prints stands in docs/verification.md.

use pagemesh_protocol::Planted;
use pagemesh_sim::racefree::{self, Fault};
use pagemesh_sim::{Options, model, run};
use std::path::Path;

/// Seeds within which the simulator is to catch what it can.
const SEEDS: u64 = 200;
/// Seeds of programs without data races within which they are to catch what is about them.
const RACE_FREE_SEEDS: u64 = 20_000;
/// States within which the model checker is.
const STATES: usize = 30_000;
/// The same for meshes with release regions.
const INTERVAL_STATES: usize = 100_000;
/// The same where a second thread of each node stores at any moment.
const TRACKING_STATES: usize = 200_000;

/// How many seeds it took, and what was noticed.
fn simulate(planted: Planted) -> Option<(u64, String)> {
    let options = Options { planted: Some(planted), ..Options::default() };
    (0..SEEDS).find_map(|seed| Some((seed + 1, run(seed, options).err()?.breach.to_string())))
}

/// How many seeds of programs without data races it took, and what was noticed.
fn play(planted: Planted, most: u64) -> Option<(u64, String)> {
    let fault = Some(Fault::Engine(planted));
    (0..most).find_map(|seed| Some((seed + 1, racefree::run(seed, fault).err()?.what)))
}

/// In which mesh it was found, after how many states, and how many events it takes.
fn model_check(planted: Planted) -> Option<(String, usize, usize, String)> {
    match modelled(planted) {
        Modelled::Copies => model::hunting_plans().into_iter().find_map(|plan| {
            let mesh = plan.to_string();
            let broken = model::check(&plan.planted(planted), STATES).err()?;
            Some((mesh, broken.states, broken.trace.len(), broken.breach.to_string()))
        }),
        Modelled::Intervals => hunt(model::hunting_interval_plans(), planted, INTERVAL_STATES),
        Modelled::Tracking => hunt(model::tracking_interval_plans(), planted, TRACKING_STATES),
        Modelled::Updates => hunt(model::update_interval_plans(), planted, INTERVAL_STATES),
        Modelled::Nowhere => None,
    }
}

fn hunt(
    plans: Vec<model::IntervalPlan>,
    planted: Planted,
    states: usize,
) -> Option<(String, usize, usize, String)> {
    plans.into_iter().find_map(|plan| {
        let mesh = plan.to_string();
        let broken = model::check_intervals(&plan.planted(planted), states).err()?;
        Some((mesh, broken.states, broken.trace.len(), broken.breach.to_string()))
    })
}

/// In which meshes of the model checker there is what a fault is in.
#[derive(PartialEq, Eq)]
enum Modelled {
    Copies,
    Intervals,
    /// Where kernels note writes.
    Tracking,
    /// Where pages are sent along.
    Updates,
    /// The newer objects of synchronisation.
    Nowhere,
}

fn modelled(planted: Planted) -> Modelled {
    // No message is put off there.
    if planted == Planted::NeverHurries {
        return Modelled::Nowhere;
    }
    let place = |fault: Planted| Planted::ALL.iter().position(|planted| *planted == fault);
    if place(planted) < place(Planted::LoseDiff) {
        return Modelled::Copies;
    }
    if place(planted) < place(Planted::WriterBesideReaders) {
        return Modelled::Intervals;
    }
    match planted {
        Planted::FlushBeforeUnmap | Planted::ForgetFlushed => Modelled::Tracking,
        Planted::UpdateOverOwnWrites
        | Planted::SpareUnheard
        | Planted::UpdateBeforeDiff
        | Planted::UpdateUncounted => Modelled::Updates,
        _ => Modelled::Nowhere,
    }
}

struct Caught {
    planted: Planted,
    simulated: Option<(u64, String)>,
    played: Option<(u64, String)>,
    checked: Option<(String, usize, usize, String)>,
}

impl Caught {
    fn hunt(planted: Planted) -> Caught {
        let (simulated, checked) = (simulate(planted), model_check(planted));
        let coherence = modelled(planted) == Modelled::Copies;
        let played = play(planted, if coherence { SEEDS } else { RACE_FREE_SEEDS });
        Caught { planted, simulated, played, checked }
    }

    fn row(&self) -> String {
        let seeds =
            |found: &Option<(u64, String)>| found.as_ref().map_or("-".into(), |(seeds, _)| seeds.to_string());
        let checked = self.checked.as_ref();
        let states =
            checked.map_or("-".into(), |(name, states, events, _)| format!("{states}, {events}: {name}"));
        let noticed = checked.map(|found| &found.3);
        let noticed = noticed.or(self.simulated.as_ref().map(|found| &found.1));
        // The guarantee; what comes after the colon tells of this one case.
        let noticed = noticed.and_then(|text| text.split(':').next()).map(str::to_owned);
        let noticed = noticed.or(self.played.as_ref().map(|found| guarantee(&found.1).to_owned()));
        let (simulated, played) = (seeds(&self.simulated), seeds(&self.played));
        let planted = self.planted;
        format!(
            "| {planted:?} | {simulated} | {played} | {states} | {} |",
            noticed.unwrap_or("nothing".into())
        )
    }
}

/// What a program without data races has noticed, without the numbers of the one case.
fn guarantee(text: &str) -> &'static str {
    let known = [
        ("written last was", "a wrong value"),
        ("waits for ever", "no progress"),
        ("broke the protocol", "a message was refused"),
        ("panic", "a panic"),
        ("without a twin", "an action that its description forbids"),
        ("being written", "an action that its description forbids"),
        ("one signal woke", "two woken by one signal"),
        ("leaves a meeting", "a barrier failed"),
        ("counts somebody", "no progress"),
        ("not at rest", "no progress"),
    ];
    known.into_iter().find(|(part, _)| text.contains(part)).map_or("another", |(_, name)| name)
}

#[test]
fn every_fault_that_is_planted_in_the_engine_is_caught() {
    // Some trip an assertion of the engine: that is a catch, and its text is in the breach.
    std::panic::set_hook(Box::new(|_| {}));
    let caught = Planted::ALL.map(Caught::hunt);
    let _ = std::panic::take_hook();
    println!(
        "| planted fault | simulator: seeds | race-free: seeds | model checker: states, events | what was noticed |"
    );
    println!("|---|---|---|---|---|");
    for caught in &caught {
        println!("{}", caught.row());
    }
    let unseen =
        |caught: &&Caught| caught.simulated.is_none() && caught.played.is_none() && caught.checked.is_none();
    let missed: Vec<Planted> = caught.iter().filter(unseen).map(|caught| caught.planted).collect();
    assert!(missed.is_empty(), "nothing noticed {missed:?}");
    // What the checker sees does not depend on luck. Opening regions is not modelled, nor what words hold; nor are threads of one node that
    // acquire while others fetch, nor programs long enough that an interval of several diffs is asked for before all have come, or that
    // notices are settled before. Nor are meshes of three nodes with noted writes of two threads and with locks and barriers, in which somebody
    // reads an old copy because what was flushed was not told of.
    let unmodelled = caught
        .iter()
        .filter(|caught| modelled(caught.planted) != Modelled::Nowhere && caught.checked.is_none());
    let unmodelled: Vec<Planted> = unmodelled.map(|caught| caught.planted).collect();
    let excused = [
        // A loss of each other by two who both live.
        Planted::CountOwnLoss,
        Planted::AtomicTwice,
        Planted::KeepOldAddress,
        Planted::RegionReadyEarly,
        Planted::FirstDiffIsLast,
        Planted::ForgetAwaitedDiffs,
        Planted::UseOutdatedData,
        Planted::ForgetFlushed,
    ];
    assert_eq!(unmodelled, excused);
}

/// Seeds within which barriers in trees are to show what is wrong with them: giving up and dissolving at the right moment are rare.
const TREE_SEEDS: u64 = 5000;

#[test]
fn every_fault_of_barriers_in_trees_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = Planted::OF_TREES.map(|planted| {
        let trees = model::hunting_interval_plans().into_iter().filter(|plan| plan.nodes > plan.barrier_fan);
        let checked = hunt(trees.collect(), planted, INTERVAL_STATES);
        Caught { planted, simulated: simulate(planted), played: play(planted, TREE_SEEDS), checked }
    });
    let _ = std::panic::take_hook();
    for caught in &caught {
        println!("{}", caught.row());
    }
    let missed: Vec<Planted> =
        caught.iter().filter(|caught| caught.played.is_none()).map(|caught| caught.planted).collect();
    assert!(missed.is_empty(), "nothing noticed {missed:?}");
}

/// Seeds within which hand-overs of reader-writer locks are to show what is wrong with them.
const HAND_OVER_SEEDS: u64 = 15_000;

#[test]
fn every_fault_of_hand_overs_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = Planted::OF_HAND_OVERS.map(|planted| Caught {
        planted,
        simulated: None,
        played: play(planted, HAND_OVER_SEEDS),
        checked: None,
    });
    let _ = std::panic::take_hook();
    for caught in &caught {
        println!("{}", caught.row());
    }
    let missed: Vec<Planted> =
        caught.iter().filter(|caught| caught.played.is_none()).map(|caught| caught.planted).collect();
    assert!(missed.is_empty(), "nothing noticed {missed:?}");
}

/// Seeds within which reads that go to owners are to show what is wrong with them: a quarter have none, and owners change in between.
const HINT_SEEDS: u64 = 3000;

#[test]
fn every_fault_of_hints_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let options = |planted| Options { planted: Some(planted), ..Options::default() };
    let caught = Planted::OF_HINTS.map(|planted| Caught {
        planted,
        simulated: (0..HINT_SEEDS)
            .find_map(|seed| Some((seed + 1, run(seed, options(planted)).err()?.breach.to_string()))),
        played: None,
        checked: model::plans_with_hints().into_iter().find_map(|plan| {
            let mesh = plan.to_string();
            let broken = model::check(&plan.planted(planted), STATES).err()?;
            Some((mesh, broken.states, broken.trace.len(), broken.breach.to_string()))
        }),
    });
    let _ = std::panic::take_hook();
    for caught in &caught {
        println!("{}", caught.row());
    }
    let missed: Vec<Planted> =
        caught.iter().filter(|caught| caught.simulated.is_none()).map(|caught| caught.planted).collect();
    assert!(missed.is_empty(), "nothing noticed {missed:?}");
}

#[test]
fn the_document_names_every_fault() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verification.md");
    let document = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let unnamed: Vec<Planted> = Planted::ALL
        .into_iter()
        .chain(Planted::OF_TREES)
        .chain(Planted::OF_HAND_OVERS)
        .chain(Planted::OF_HINTS)
        .filter(|planted| !document.contains(&format!("| {planted:?} |")))
        .collect();
    assert!(unnamed.is_empty(), "docs/verification.md does not have {unnamed:?}");
}

/// Faults and canonical states are for checkers: no crate that ships may ask for them.
#[test]
fn nothing_that_ships_can_be_given_a_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let members = text(&root.join("Cargo.toml"));
    let members = members.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let members = members.expect("the workspace lists its members").0;
    let asking: Vec<&str> = members
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|member| {
            let manifest = text(&root.join(member).join("Cargo.toml"));
            manifest
                .lines()
                .any(|line| line.starts_with("pagemesh-protocol") && line.contains("verification"))
        })
        .collect();
    assert_eq!(asking, ["crates/pagemesh-sim"]);
    assert!(!text(&root.join("Cargo.toml")).contains("verification"), "it is asked for in the crate itself");
}

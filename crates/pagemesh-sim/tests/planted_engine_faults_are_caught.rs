//! A check that never fails proves nothing. Here the engine itself is made wrong, one line at a time, and the seeded
//! simulator or the model checker has to notice. The table that this prints stands in docs/verification.md.

use pagemesh_protocol::Planted;
use pagemesh_sim::{Options, model, run};
use std::path::Path;

/// Seeds within which the simulator is to catch what it can.
const SEEDS: u64 = 200;
/// States within which the model checker is.
const STATES: usize = 30_000;

/// How many seeds it took, and what was noticed.
fn simulate(planted: Planted) -> Option<(u64, String)> {
    let options = Options { planted: Some(planted), ..Options::default() };
    (0..SEEDS).find_map(|seed| Some((seed + 1, run(seed, options).err()?.breach.to_string())))
}

/// In which mesh it was found, after how many states, and how many events it takes.
fn model_check(planted: Planted) -> Option<(String, usize, usize, String)> {
    model::hunting_plans().into_iter().find_map(|plan| {
        let mesh = plan.to_string();
        let broken = model::check(&plan.planted(planted), STATES).err()?;
        Some((mesh, broken.states, broken.trace.len(), broken.breach.to_string()))
    })
}

#[test]
fn every_fault_that_is_planted_in_the_engine_is_caught() {
    // Some trip an assertion of the engine: that is a catch, and its text is in the breach.
    std::panic::set_hook(Box::new(|_| {}));
    let caught = Planted::ALL.map(|planted| (planted, simulate(planted), model_check(planted)));
    let _ = std::panic::take_hook();
    println!("| planted fault | simulator: seeds | model checker: states, events | what was noticed |");
    println!("|---|---|---|---|");
    for (planted, simulated, checked) in &caught {
        let seeds = simulated.as_ref().map_or("-".into(), |(seeds, _)| seeds.to_string());
        let states = checked
            .as_ref()
            .map_or("-".into(), |(name, states, events, _)| format!("{states}, {events}: {name}"));
        let noticed = checked.as_ref().map(|found| &found.3).or(simulated.as_ref().map(|found| &found.1));
        // The guarantee; what comes after the colon tells of this one case.
        let guarantee = noticed.and_then(|text| text.split(':').next());
        println!("| {planted:?} | {seeds} | {states} | {} |", guarantee.unwrap_or("nothing"));
    }
    let missed: Vec<Planted> = caught
        .iter()
        .filter(|(_, simulated, checked)| simulated.is_none() && checked.is_none())
        .map(|(planted, ..)| *planted)
        .collect();
    assert!(missed.is_empty(), "nothing noticed {missed:?}");
    // Which the checker sees does not depend on luck; opening regions is not modelled.
    let unmodelled: Vec<Planted> =
        caught.iter().filter(|(.., checked)| checked.is_none()).map(|(planted, ..)| *planted).collect();
    assert_eq!(unmodelled, [Planted::KeepOldAddress, Planted::RegionReadyEarly]);
}

#[test]
fn the_document_names_every_fault() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verification.md");
    let document = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let unnamed: Vec<Planted> =
        Planted::ALL.into_iter().filter(|planted| !document.contains(&format!("| {planted:?} |"))).collect();
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

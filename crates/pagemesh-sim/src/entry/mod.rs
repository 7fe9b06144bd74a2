//! Ranges of entry regions, locked by threads of a whole mesh: what a locked range shows must be what was published last.
//!
//! Threads lock random ranges for reading or writing, waiting, trying or giving up, write unique values to single bytes of what they have for
//! writing, and publish them exactly or with all that lies around them. Ranges overlap in all ways, inside of pages and over many.
//! Links are slow and fast, nodes die, and pairs of living nodes lose each other. [`run`] compares whatever a thread can read with what
//! was published last, and each grant of a master with a model of the line that it keeps: nobody has what another has for
//! writing, nobody overtakes, and nobody waits for nothing.

mod plan;
mod referee;
mod world;

use crate::random::Random;
use pagemesh_protocol::Planted;
use plan::Plan;
use std::fmt;
use world::World;

/// What happened in one run, or in many.
#[derive(Clone, Copy, Default, Debug)]
pub struct EntryReport {
    /// Events given to engines.
    pub steps: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Messages with bytes among them.
    pub pieces: u64,
    /// Ranges that were granted.
    pub grants: u64,
    /// Bytes of locked ranges that were compared.
    pub reads: u64,
    /// Grants that came with a writer's death.
    pub told: u64,
    /// Calls that were told that others are in the way.
    pub busy: u64,
    /// Calls that gave up.
    pub given_up: u64,
    /// Calls that failed because a node was lost.
    pub losses: u64,
}

impl EntryReport {
    /// Counts `other` in.
    pub fn add(&mut self, other: &EntryReport) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.pieces += other.pieces;
        self.grants += other.grants;
        self.reads += other.reads;
        self.told += other.told;
        self.busy += other.busy;
        self.given_up += other.given_up;
        self.losses += other.losses;
    }
}

/// What did not hold.
#[derive(Clone, Debug)]
pub struct EntryFailure {
    /// The seed that shows it again.
    pub seed: u64,
    /// What was found.
    pub what: String,
    /// What happened before, an event a line.
    pub trace: Vec<String>,
}

impl fmt::Display for EntryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "entry seed {}: {}", self.seed, self.what)
    }
}

/// Runs the program and the mesh that `seed` stands for, on engines with a planted fault or none.
///
/// # Errors
/// When a locked range shows anything else than it should, a grant is not the next one's, or a thread waits for ever.
pub fn run(seed: u64, fault: Option<Planted>) -> Result<EntryReport, Box<EntryFailure>> {
    let attempt = |traced| {
        let plan = Plan::draw(&mut Random::stream(seed, 0));
        World::new(plan, Random::stream(seed, 1), fault, traced).run()
    };
    attempt(false).map_err(|_| {
        // The same again, written down this time.
        let (what, trace) = attempt(true).expect_err("a seed means the same each time");
        Box::new(EntryFailure { seed, what, trace })
    })
}

//! Regions that come and go: nodes open and close a few names over and over, under any protocol, and use the pages meanwhile.
//!
//! Every value that is ever written carries the number of the region that it was written to. So a region that shows anything of one that was there
//! before, in its bytes or through a late message, is seen. Links deliver in any order between each other; what maps memory is handled
//! later than what came after it; threads give up at any moment; a node may die, or two may lose each other.

mod memory;
mod world;

use crate::random::Random;
use std::fmt;

/// What seeds had.
#[derive(Clone, Copy, Debug, Default)]
pub struct LivesReport {
    /// Events.
    pub steps: u64,
    /// Calls that were given a region.
    pub openings: u64,
    /// Regions that were gone, counted at each node.
    pub gone: u64,
    /// Reads and writes.
    pub accesses: u64,
    /// Messages about regions that were gone at the receiver.
    pub late: u64,
    /// Calls that ended because their region was gone.
    pub ended: u64,
    /// Nodes that died, and pairs that lost each other.
    pub losses: u64,
}

impl LivesReport {
    /// Adds what another run had.
    pub fn add(&mut self, other: &LivesReport) {
        self.steps += other.steps;
        self.openings += other.openings;
        self.gone += other.gone;
        self.accesses += other.accesses;
        self.late += other.late;
        self.ended += other.ended;
        self.losses += other.losses;
    }
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct LivesFailed {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// Its last events.
    pub trace: Vec<String>,
}

impl fmt::Display for LivesFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// Runs one seed.
///
/// # Errors
/// When something that must hold does not.
pub fn run(seed: u64) -> Result<LivesReport, LivesFailed> {
    let world = world::World::new(Random::stream(seed, 77));
    world.run().map_err(|(what, trace)| LivesFailed { seed, what, trace })
}

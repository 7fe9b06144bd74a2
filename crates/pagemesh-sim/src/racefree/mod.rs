//! Programs without data races, on a whole mesh: what they read must be what was written last.
//!
//! The other worlds of this crate check each access against an order of accesses, which a release region does not promise. Here
//! threads follow the rules that such regions ask for: every cell of the shared memory either belongs to a lock (a mutex, a
//! reader-writer lock, a range of bytes, a semaphore of one unit, or a word that is changed by atomic operations), or has one
//! writer, or only readers, until the next barrier, or is only changed by atomic operations until then. Cells of all kinds lie on the same pages. Then there is just one value that a
//! read may find, and the checks need to know nothing of the protocol: [`run`] compares every read with a memory that
//! all threads write at once. Regions of other protocols lie beside those of the release protocol and obey the same rule.
//!
//! Some accesses are those of system calls, on pages that are pinned for them: while a pin holds the kernel may touch the page, and when it
//! does not any more its end has to say so.
//!
//! The kernels of some nodes note which pages are written, so that the first write costs no fault; threads of these nodes, and in some seeds
//! of all nodes, go on reading and writing between any two actions of an event, as on a machine with many processors.
//!
//! Messages are delayed and overtake those of other links, threads give up waiting for locks, wait for signals and signal each other,
//! and nodes die. What
//! a dead node wrote last may be lost or may not; it is never mixed with anything else, and whoever waits is told.

mod pins;
mod plan;
mod threads;
mod world;

pub use plan::{FAULTS, Fault};

use crate::engines::Sharding;
use crate::random::Random;
use plan::Plan;
use std::fmt;
use world::World;

/// What happened in one run, or in many.
#[derive(Clone, Copy, Default, Debug)]
pub struct RaceFreeReport {
    /// Events given to engines.
    pub steps: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Diffs among them.
    pub diffs: u64,
    /// Pages that were lent to their only writers.
    pub lent: u64,
    /// Pages that came back.
    pub returned: u64,
    /// Pages that were fetched before a thread asked for them.
    pub foreseen: u64,
    /// Times that a page was left writable at a barrier.
    pub left_writable: u64,
    /// Updates that were taken over.
    pub updates_adopted: u64,
    /// Updates that were left alone.
    pub updates_ignored: u64,
    /// Messages of barriers that were gathered in trees.
    pub gathered: u64,
    /// Times that this was dissolved, as told to one node.
    pub dissolved: u64,
    /// Reads that were compared.
    pub reads: u64,
    /// Accesses that failed because a node was lost.
    pub losses: u64,
    /// Atomic operations that were done.
    pub atomics: u64,
    /// Pages pinned for system calls.
    pub pins: u64,
    /// Pins whose pages went before they ended.
    pub pins_taken: u64,
    /// Waits for signals that ended well.
    pub signals: u64,
    /// Pages that were found written without a fault.
    pub found_written: u64,
    /// Times that a page which is pinned for writing was found not to be written.
    pub found_unwritten: u64,
    /// Pages to which something was written after that and before they were unmapped.
    pub flushed: u64,
    /// Most runs of pages that an engine held notices of.
    pub notices_most: u64,
}

impl RaceFreeReport {
    /// Counts `other` in.
    pub fn add(&mut self, other: &RaceFreeReport) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.diffs += other.diffs;
        self.lent += other.lent;
        self.returned += other.returned;
        self.foreseen += other.foreseen;
        self.left_writable += other.left_writable;
        self.updates_adopted += other.updates_adopted;
        self.updates_ignored += other.updates_ignored;
        self.gathered += other.gathered;
        self.dissolved += other.dissolved;
        self.reads += other.reads;
        self.losses += other.losses;
        self.atomics += other.atomics;
        self.pins += other.pins;
        self.pins_taken += other.pins_taken;
        self.signals += other.signals;
        self.found_written += other.found_written;
        self.found_unwritten += other.found_unwritten;
        self.flushed += other.flushed;
        self.notices_most = self.notices_most.max(other.notices_most);
    }
}

/// What did not hold.
#[derive(Clone, Debug)]
pub struct RaceFreeFailure {
    /// The seed that shows it again.
    pub seed: u64,
    /// What was found.
    pub what: String,
    /// What happened before, an event a line.
    pub trace: Vec<String>,
}

impl fmt::Display for RaceFreeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "race-free seed {}: {}", self.seed, self.what)
    }
}

/// Runs the program and the mesh that `seed` stands for, with a planted fault or none.
///
/// # Errors
/// When a read finds what it may not, a thread waits for ever, or the engines are not at rest in the end.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<RaceFreeReport, Box<RaceFreeFailure>> {
    run_divided(seed, fault, Sharding::default())
}

/// As [`run`], where nodes divide the pages of regions that are not of the release protocol among several engines.
///
/// # Errors
/// As [`run`].
pub fn run_divided(
    seed: u64,
    fault: Option<Fault>,
    sharding: Sharding,
) -> Result<RaceFreeReport, Box<RaceFreeFailure>> {
    let attempt = |traced| {
        let mut plan = Plan::draw(&mut Random::stream(seed, 0), &mut Random::stream(seed, 8));
        plan.add_atomics(&mut Random::stream(seed, 2));
        // Half of the seeds; the others have kept what they meant before there was any tracking.
        if matches!(seed % 4, 0 | 3) {
            plan.add_tracking(&mut Random::stream(seed, 3));
        }
        // Some with tracking and some without.
        plan.busy = matches!(seed % 8, 2 | 5 | 7);
        plan.add_ranges(&mut Random::stream(seed, 6));
        let randoms = (Random::stream(seed, 1), Random::stream(seed, 4));
        let sharding = sharding.draw(plan.nodes, &mut Random::stream(seed, 12));
        World::new(plan, randoms, (fault, &sharding), traced).run()
    };
    attempt(false).map_err(|_| {
        // The same again, written down this time.
        let (what, trace) = attempt(true).expect_err("a seed means the same each time");
        Box::new(RaceFreeFailure { seed, what, trace })
    })
}

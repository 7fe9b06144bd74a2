//! A simulated application thread: how far it is in its program.

use crate::config::Config;
use crate::program::{Place, Program, Step};
use pagemesh_protocol::{BarrierId, PageAddress, RegionId, Ticket};
use std::collections::{BTreeMap, VecDeque};

/// Whether a thread runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activity {
    /// Goes on at this time, microseconds.
    Ready(u64),
    /// Waits for the end of a call, given up at `deadline`.
    Waiting { ticket: Ticket, deadline: Option<u64> },
    /// Has come to its end, or died with its node.
    Over,
}

/// A simulated application thread.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) index: usize,
    pub(crate) node: usize,
    pub(crate) activity: Activity,
    /// What is left of the current operation.
    pub(crate) plan: VecDeque<Step<PageAddress>>,
    /// Locks held: index, and the ticket that proves it.
    pub(crate) locks: Vec<(usize, Ticket)>,
    /// What was read of each counter.
    pub(crate) loaded: Vec<u64>,
    /// How many common barriers it has gone through, well or not.
    pub(crate) generation: usize,
    /// Whether it passed the last of them together with all others.
    pub(crate) met_all: bool,
    /// How often it came to each barrier.
    pub(crate) turns: BTreeMap<BarrierId, u32>,
    /// Regions that could be opened, by their place in the configuration.
    pub(crate) regions: Vec<Option<(RegionId, u64)>>,
    /// The fault that has ended and whose page is held for this thread, and whether the thread has used it.
    pub(crate) resuming: Option<(Ticket, bool)>,
    /// It has asked whether its operation was begun, and to leave it if not.
    pub(crate) asked_back: bool,
    /// Faults on the access that is being tried.
    pub(crate) retries: u64,
    /// The call that ended last.
    pub(crate) ended: Option<Ticket>,
    program: Program,
    /// The next operation.
    next: usize,
}

impl Thread {
    pub(crate) fn new(config: &Config, index: usize) -> Thread {
        Thread {
            index,
            node: index / config.threads,
            activity: Activity::Ready(0),
            plan: VecDeque::new(),
            locks: Vec::new(),
            loaded: vec![0; config.locks.len()],
            generation: 0,
            met_all: false,
            turns: BTreeMap::new(),
            regions: vec![None; config.regions.len()],
            resuming: None,
            asked_back: false,
            retries: 0,
            ended: None,
            program: config.programs[index].clone(),
            next: 0,
        }
    }

    /// Runs `program` after its own is over.
    pub(crate) fn begin(&mut self, program: Program, now: u64) {
        self.program = program;
        self.next = 0;
        self.activity = Activity::Ready(now);
    }

    /// Fills the empty plan; leaves it empty when the program is over. What needs a region that could not be had is left out.
    pub(crate) fn refill(&mut self) {
        while self.plan.is_empty() {
            let Some(operation) = self.program.operations.get(self.next) else { return };
            self.next += 1;
            let regions = &self.regions;
            let name = |place: Place| {
                let (region, pages) = regions[place.region]?;
                Some(PageAddress::new(region, place.page % pages))
            };
            for step in &operation.steps {
                let Some(step) = step.named(name) else {
                    self.plan.clear();
                    break;
                };
                self.plan.push_back(step);
            }
        }
    }

    /// Gives up what it was about, except for what it owes others.
    pub(crate) fn abort(&mut self) {
        self.plan.clear();
        self.retries = 0;
        for (lock, _) in self.locks.iter().rev() {
            self.plan.push_back(Step::Unlock(*lock));
        }
    }
}

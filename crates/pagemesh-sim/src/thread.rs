//! A simulated application thread: a little program that is drawn while it runs.

use crate::config::{Config, PATTERNS, Pattern};
use crate::event::WORDS;
use crate::random::Random;
use pagemesh_protocol::{BarrierId, PageAddress, RegionId, Ticket};
use std::collections::VecDeque;

/// The word of a page that belongs to the counter of a lock; the others are for everyone.
pub(crate) const COUNTER_WORD: usize = WORDS - 1;

/// The barrier of all threads.
pub(crate) const COMMON_BARRIER: BarrierId = BarrierId(1);
/// The barrier that threads give up after a time.
pub(crate) const TIMED_BARRIER: BarrierId = BarrierId(2);
const TIMED_PARTICIPANTS: u32 = 2;
/// Pairs of threads have barriers from here on.
const PAIR_BARRIERS: u64 = 100;

/// One thing that a thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Open(usize),
    Read(PageAddress, usize),
    Write(PageAddress, usize),
    /// Reads a lock's counter.
    Load(PageAddress, usize),
    /// Writes what was read plus one.
    Increment(PageAddress, usize),
    Lock(usize),
    Unlock(usize),
    Barrier {
        barrier: BarrierId,
        participants: u32,
        timed: bool,
    },
    Owner(PageAddress),
    Home(PageAddress),
}

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
    pub(crate) plan: VecDeque<Step>,
    /// Locks held: index, and the ticket that proves it.
    pub(crate) locks: Vec<(usize, Ticket)>,
    /// What was read of each counter.
    pub(crate) loaded: Vec<u64>,
    /// How many common barriers it has passed.
    pub(crate) generation: usize,
    /// Regions that could be opened, by their place in the configuration.
    pub(crate) regions: Vec<Option<(RegionId, u64)>>,
    /// The fault that has ended and whose page is held for this thread, and whether the thread has used it.
    pub(crate) resuming: Option<(Ticket, bool)>,
    /// Faults on the access that is being tried.
    pub(crate) retries: u64,
    pub(crate) random: Random,
    round: u32,
    operation: u32,
    audited: bool,
}

impl Thread {
    pub(crate) fn new(config: &Config, index: usize, random: Random) -> Thread {
        Thread {
            index,
            node: index / config.threads,
            activity: Activity::Ready(0),
            plan: (0..config.regions.len()).map(Step::Open).collect(),
            locks: Vec::new(),
            loaded: vec![0; config.locks.len()],
            generation: 0,
            regions: vec![None; config.regions.len()],
            resuming: None,
            retries: 0,
            random,
            round: 0,
            operation: 0,
            audited: false,
        }
    }

    /// Fills the empty plan; leaves it empty when the program is over.
    pub(crate) fn refill(&mut self, config: &Config) {
        while self.plan.is_empty() {
            if self.round < config.rounds {
                if self.operation < config.operations {
                    self.operation += 1;
                    self.plan_operation(config);
                } else {
                    self.operation = 0;
                    self.round += 1;
                    self.plan_barriers(config);
                }
            } else if config.audit && !self.audited && self.index.is_multiple_of(config.threads) {
                self.audited = true;
                self.plan_audit();
            } else {
                return;
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

    fn plan_barriers(&mut self, config: &Config) {
        let timed = false;
        let all = config.nodes as usize * config.threads;
        if config.pair_barriers && self.index ^ 1 < all {
            let barrier = BarrierId(PAIR_BARRIERS + self.index as u64 / 2);
            // A pair cannot know that its partner died: only a deadline ends such a wait.
            self.plan.push_back(Step::Barrier { barrier, participants: 2, timed: config.has_losses() });
        }
        if config.common_barrier {
            self.plan.push_back(Step::Barrier { barrier: COMMON_BARRIER, participants: all as u32, timed });
        }
    }

    fn plan_audit(&mut self) {
        for (region, pages) in self.regions.iter().flatten().copied() {
            for page in 0..pages {
                self.plan.push_back(Step::Read(PageAddress::new(region, page), 0));
            }
        }
    }

    fn plan_operation(&mut self, config: &Config) {
        let pattern = self.draw_pattern(config);
        match pattern {
            Pattern::LockedCounter | Pattern::NestedLocks => {
                self.plan_counters(config, pattern == Pattern::NestedLocks);
            }
            Pattern::TimedBarrier => {
                let (barrier, participants) = (TIMED_BARRIER, TIMED_PARTICIPANTS);
                self.plan.push_back(Step::Barrier { barrier, participants, timed: true });
            }
            _ => {
                if let Some((region, pages)) = self.draw_region() {
                    self.plan_accesses(config, pattern, region, pages);
                }
            }
        }
    }

    fn draw_pattern(&mut self, config: &Config) -> Pattern {
        let total: u32 = config.weights.iter().sum();
        let mut left = self.random.below(total as u64) as u32;
        for (pattern, weight) in PATTERNS.iter().zip(config.weights) {
            if left < weight {
                return *pattern;
            }
            left -= weight;
        }
        Pattern::Uniform
    }

    fn draw_region(&mut self) -> Option<(RegionId, u64)> {
        let start = self.random.index(self.regions.len());
        let count = self.regions.len();
        (0..count).find_map(|offset| self.regions[(start + offset) % count])
    }

    fn plan_accesses(&mut self, config: &Config, pattern: Pattern, region: RegionId, pages: u64) {
        let random = &mut self.random;
        let at = |page: u64| PageAddress::new(region, page % pages);
        let word = random.index(COUNTER_WORD);
        let write = random.chance(50);
        match pattern {
            Pattern::Migratory => {
                let page = at(random.below(3));
                self.plan.extend([Step::Read(page, word), Step::Write(page, word)]);
            }
            Pattern::ProducerConsumer => {
                let own = self.node as u64;
                let other = random.below(config.nodes as u64);
                self.plan.push_back(if write {
                    Step::Write(at(own), word)
                } else {
                    Step::Read(at(other), word)
                });
            }
            Pattern::FalseSharing => {
                self.plan.push_back(Step::Write(at(pages - 1), self.index % COUNTER_WORD));
            }
            Pattern::OwnerQuery => {
                let page = at(random.below(pages));
                self.plan.push_back(if word == 0 { Step::Home(page) } else { Step::Owner(page) });
            }
            Pattern::Scan => {
                let first = random.below(pages);
                let count = random.between(2, 5);
                self.plan.extend((first..first + count).map(|page| Step::Read(at(page), word)));
            }
            _ => {
                let page = at(if pattern == Pattern::Hot { 0 } else { random.below(pages) });
                self.plan.push_back(if write { Step::Write(page, word) } else { Step::Read(page, word) });
            }
        }
    }

    /// Locks are taken in the order of their numbers, so that nobody waits in a circle.
    fn plan_counters(&mut self, config: &Config, nested: bool) {
        let first = self.random.index(config.locks.len());
        let second = first + 1;
        let mut locks = vec![first];
        if nested && second < config.locks.len() {
            locks.push(second);
        }
        self.plan.extend(locks.iter().map(|lock| Step::Lock(*lock)));
        if let Some((region, _)) = self.regions[0] {
            for lock in &locks {
                let page = PageAddress::new(region, *lock as u64);
                self.plan.extend([Step::Load(page, *lock), Step::Increment(page, *lock)]);
            }
        }
        self.plan.extend(locks.iter().rev().map(|lock| Step::Unlock(*lock)));
    }
}

//! What the threads of a run do: programs that are drawn before the first step, so that a failure can be made smaller by taking
//! parts out of them.

use crate::config::Config;
use crate::event::WORDS;
use crate::random::Random;
use pagemesh_protocol::{Access, BarrierId};
use std::fmt;

/// What threads do, each with its weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pattern {
    /// Reads and writes anywhere.
    Uniform,
    /// Reads and writes on one page.
    Hot,
    /// Read, then write the same word, on few pages.
    Migratory,
    /// Each node writes its own page and reads those of others.
    ProducerConsumer,
    /// Each thread writes its own word of one page.
    FalseSharing,
    /// Adds to a word: as an atomic instruction does under the right to write, or by an operation that is done where the page is.
    Atomic,
    /// Asks for pages without waiting for them, and uses one later.
    Prefetch,
    /// A counter and other words behind a lock.
    Critical,
    /// The same behind two to four locks, taken in order.
    NestedLocks,
    /// Who owns a page, or who is its home?
    OwnerQuery,
    /// A barrier that is given up after a time.
    TimedBarrier,
    /// Reads several pages in a row.
    Scan,
    /// Drawn beside the others: gives back pages that the operation before it used, as other threads of the node may be using them.
    Evict,
    /// Not drawn: opens a region.
    Open,
    /// Not drawn: writes the thread's own word before a barrier of all.
    Publish,
    /// Not drawn: reads others' words after it.
    Collect,
    /// Not drawn: a barrier of all, or of a group, that ends a round.
    Barrier,
    /// Not drawn: when all faults are over, one thread of each node uses the pages and locks.
    Audit,
}

/// The patterns that are drawn, in the order of [`Workload::weights`].
pub const PATTERNS: [Pattern; 12] = [
    Pattern::Uniform,
    Pattern::Hot,
    Pattern::Migratory,
    Pattern::ProducerConsumer,
    Pattern::FalseSharing,
    Pattern::Atomic,
    Pattern::Prefetch,
    Pattern::Critical,
    Pattern::NestedLocks,
    Pattern::OwnerQuery,
    Pattern::TimedBarrier,
    Pattern::Scan,
];

/// Words that anyone may read and write.
pub(crate) const FREE_WORDS: usize = 3;
/// The word that belongs to the lock of the page's number, and its counter.
const DATA_WORD: usize = 3;
const COUNTER_WORD: usize = 4;
/// The words that one thread writes in even and odd rounds, and others read after the barrier: whoever reads one has not
/// arrived at the barrier after which it is written again.
const SLOT_WORDS: [usize; 2] = [5, 6];
pub(crate) const ATOMIC_WORD: usize = 7;
const _: () = assert!(ATOMIC_WORD < WORDS);

/// The barrier of all threads.
pub(crate) const COMMON_BARRIER: BarrierId = BarrierId(1);
/// The barrier that threads give up after a time.
const TIMED_BARRIER: BarrierId = BarrierId(2);
/// Groups of threads have barriers from here on.
const GROUP_BARRIERS: u64 = 100;

/// What the programs of a run are drawn from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Workload {
    /// Rounds of each thread's program, each ended by the barriers there are.
    pub rounds: u32,
    /// Patterns drawn in each round.
    pub operations: u32,
    /// Weight of each of [`PATTERNS`].
    pub weights: [u32; PATTERNS.len()],
    /// Whether all threads meet after each round.
    pub common_barrier: bool,
    /// Threads of the groups that meet after each round; 0: there are none.
    pub group: usize,
}

impl Workload {
    pub(crate) fn draw(random: &mut Random) -> Workload {
        let (rounds, operations) = (random.between(1, 4) as u32, random.between(2, 10) as u32);
        let common_barrier = random.chance(60);
        let group = if random.chance(35) { random.between(2, 4) as usize } else { 0 };
        let mut weights = [0; PATTERNS.len()];
        for weight in &mut weights {
            *weight = if random.chance(45) { 0 } else { random.between(1, 10) as u32 };
        }
        weights[random.index(PATTERNS.len())] += 3;
        Workload { rounds, operations, weights, common_barrier, group }
    }

    /// Patterns of all threads together.
    pub(crate) fn steps(&self, threads: usize) -> u64 {
        self.rounds as u64 * self.operations as u64 * threads as u64 + 1
    }

    fn pattern(&self, random: &mut Random) -> Pattern {
        let total: u32 = self.weights.iter().sum();
        let mut left = random.below(total as u64) as u32;
        for (pattern, weight) in PATTERNS.iter().zip(self.weights) {
            if left < weight {
                return *pattern;
            }
            left -= weight;
        }
        Pattern::Uniform
    }
}

/// A page of a program: the region's place in the configuration, since its number is not known yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) region: usize,
    pub(crate) page: u64,
}

/// One thing that a thread does; `P` names a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step<P> {
    Open {
        plan: usize,
        create: bool,
    },
    Read(P, usize),
    Write(P, usize),
    /// Reads and adds one, with nothing in between.
    Add(P),
    /// Has one added to the same word, wherever the page is.
    AddRemotely(P),
    /// Asks for the page and goes on.
    Prefetch(P, Access),
    /// Gives the node's copy back and goes on.
    Evict(P),
    /// Reads the counter of this lock.
    Load(P, usize),
    /// Writes what was read plus one.
    Increment(P, usize),
    /// Reads a word that only holders of this lock use.
    ReadData(P, usize),
    WriteData(P, usize),
    /// Writes the thread's own word of this round's parity.
    Publish(P, usize),
    /// Reads that of thread `.2`.
    Collect(P, usize, usize),
    Lock(usize),
    Unlock(usize),
    Barrier {
        barrier: BarrierId,
        participants: u32,
        timed: bool,
    },
    Owner(P),
    Home(P),
}

impl<P: Copy> Step<P> {
    /// The page and word that a step loads or stores, and what it needs; `None` when it does neither.
    pub(crate) fn target(self) -> Option<(P, usize, Access)> {
        Some(match self {
            Step::Read(page, word) => (page, word, Access::Read),
            Step::Write(page, word) => (page, word, Access::Write),
            Step::Add(page) => (page, ATOMIC_WORD, Access::Write),
            Step::Load(page, _) => (page, COUNTER_WORD, Access::Read),
            Step::Increment(page, _) => (page, COUNTER_WORD, Access::Write),
            Step::ReadData(page, _) => (page, DATA_WORD, Access::Read),
            Step::WriteData(page, _) => (page, DATA_WORD, Access::Write),
            Step::Publish(page, parity) => (page, SLOT_WORDS[parity], Access::Write),
            Step::Collect(page, parity, _) => (page, SLOT_WORDS[parity], Access::Read),
            _ => return None,
        })
    }

    /// The same with other names of pages; `None` when `name` knows none.
    pub(crate) fn named<Q>(self, name: impl Fn(P) -> Option<Q>) -> Option<Step<Q>> {
        Some(match self {
            Step::Open { plan, create } => Step::Open { plan, create },
            Step::Read(page, word) => Step::Read(name(page)?, word),
            Step::Write(page, word) => Step::Write(name(page)?, word),
            Step::Add(page) => Step::Add(name(page)?),
            Step::AddRemotely(page) => Step::AddRemotely(name(page)?),
            Step::Prefetch(page, access) => Step::Prefetch(name(page)?, access),
            Step::Evict(page) => Step::Evict(name(page)?),
            Step::Load(page, lock) => Step::Load(name(page)?, lock),
            Step::Increment(page, lock) => Step::Increment(name(page)?, lock),
            Step::ReadData(page, lock) => Step::ReadData(name(page)?, lock),
            Step::WriteData(page, lock) => Step::WriteData(name(page)?, lock),
            Step::Publish(page, parity) => Step::Publish(name(page)?, parity),
            Step::Collect(page, parity, thread) => Step::Collect(name(page)?, parity, thread),
            Step::Lock(lock) => Step::Lock(lock),
            Step::Unlock(lock) => Step::Unlock(lock),
            Step::Barrier { barrier, participants, timed } => Step::Barrier { barrier, participants, timed },
            Step::Owner(page) => Step::Owner(name(page)?),
            Step::Home(page) => Step::Home(name(page)?),
        })
    }
}

/// Steps that belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    pub(crate) pattern: Pattern,
    pub(crate) steps: Vec<Step<Place>>,
    /// Operations of one number, in several programs, wait for each other: none makes sense without the others.
    pub(crate) meeting: Option<u32>,
}

impl Operation {
    /// The regions that it opens or uses.
    pub(crate) fn regions(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().filter_map(|step| match *step {
            Step::Open { plan, .. } => Some(plan),
            Step::Prefetch(place, _)
            | Step::AddRemotely(place)
            | Step::Evict(place)
            | Step::Owner(place)
            | Step::Home(place) => Some(place.region),
            step => step.target().map(|(place, ..)| place.region),
        })
    }
}

/// What one thread does.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Program {
    pub(crate) operations: Vec<Operation>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} operations", self.operations.len())
    }
}

impl Program {
    /// After `percent` of 100 operations, gives back the pages that it used.
    pub(crate) fn add_evictions(&mut self, percent: u32, random: &mut Random) {
        let used = |operation: &Operation| {
            let pages = operation.steps.iter().filter_map(|step| step.target());
            pages.map(|(place, ..)| Step::Evict(place)).collect::<Vec<_>>()
        };
        for operation in std::mem::take(&mut self.operations) {
            let steps = if random.chance(percent) { used(&operation) } else { Vec::new() };
            self.operations.push(operation);
            if !steps.is_empty() {
                self.operations.push(Operation { pattern: Pattern::Evict, steps, meeting: None });
            }
        }
    }

    /// The patterns of its operations.
    pub fn patterns(&self) -> impl Iterator<Item = Pattern> {
        self.operations.iter().map(|operation| operation.pattern)
    }

    /// Its operations, one a line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.operations.iter().map(|operation| {
            let steps: Vec<String> = operation.steps.iter().map(|step| format!("{step:?}")).collect();
            format!("{:?}: {}", operation.pattern, steps.join(", "))
        })
    }

    /// The programs of all threads.
    pub(crate) fn draw_all(config: &Config, random: &mut Random) -> Vec<Program> {
        (0..config.thread_count())
            .map(|thread| Drawing { config, random, thread, operations: Vec::new() }.program())
            .collect()
    }

    /// What thread `thread` does when all faults are over: its node uses some of every region's pages, all nodes together every
    /// one, and every lock.
    pub(crate) fn audit(config: &Config, thread: usize) -> Program {
        let mut operations = Vec::new();
        let mut push = |steps: Vec<Step<Place>>| {
            operations.push(Operation { pattern: Pattern::Audit, steps, meeting: None });
        };
        let node = (thread / config.threads) as u64;
        let share = (config.nodes as u64).min(3);
        for (region, plan) in config.regions.iter().enumerate() {
            for page in (0..plan.pages).filter(|page| (page + node).is_multiple_of(share)) {
                let place = Place { region, page };
                push(vec![if (page / share).is_multiple_of(2) {
                    Step::Read(place, 0)
                } else {
                    Step::Add(place)
                }]);
            }
        }
        for lock in 0..config.locks.len() {
            push(critical(config, &[lock], false));
        }
        Program { operations }
    }
}

/// Takes `locks`, uses their words, gives them back.
fn critical(config: &Config, locks: &[usize], data: bool) -> Vec<Step<Place>> {
    let mut steps: Vec<Step<Place>> = locks.iter().map(|lock| Step::Lock(*lock)).collect();
    for lock in locks.iter().copied() {
        let page = lock as u64;
        let counter = Place { region: 0, page };
        steps.extend([Step::Load(counter, lock), Step::Increment(counter, lock)]);
        if data {
            for region in 0..config.regions.len().min(2) {
                let place = Place { region, page };
                steps.extend([Step::ReadData(place, lock), Step::WriteData(place, lock)]);
            }
        }
    }
    steps.extend(locks.iter().rev().map(|lock| Step::Unlock(*lock)));
    steps
}

/// Draws the program of one thread.
struct Drawing<'a> {
    config: &'a Config,
    random: &'a mut Random,
    thread: usize,
    operations: Vec<Operation>,
}

impl Drawing<'_> {
    fn program(mut self) -> Program {
        let workload = self.config.workload;
        for round in 0..workload.rounds {
            self.open(round);
            if workload.common_barrier {
                self.publish(round);
            }
            for _ in 0..workload.operations {
                let pattern = workload.pattern(self.random);
                self.operation(pattern);
            }
            self.barriers(round);
        }
        Program { operations: self.operations }
    }

    fn push(&mut self, pattern: Pattern, steps: Vec<Step<Place>>) {
        self.operations.push(Operation { pattern, steps, meeting: None });
    }

    fn open(&mut self, round: u32) {
        for (plan, region) in self.config.regions.iter().enumerate().filter(|(_, plan)| plan.round == round) {
            // A region at an address of its own is created by everyone: after a refusal nobody else would.
            let create = self.thread == 0 || region.address != 0 || self.random.chance(50);
            self.push(Pattern::Open, vec![Step::Open { plan, create }]);
        }
    }

    /// Where a thread's own words are; the pages do not suffice for all.
    fn slot(&self, thread: usize) -> Option<Place> {
        let (region, page) =
            (thread % self.config.regions.len(), (thread / self.config.regions.len()) as u64);
        (page < self.config.regions[region].pages).then_some(Place { region, page })
    }

    fn publish(&mut self, round: u32) {
        if let Some(place) = self.slot(self.thread) {
            self.push(Pattern::Publish, vec![Step::Publish(place, round as usize % 2)]);
        }
    }

    fn barriers(&mut self, round: u32) {
        let (workload, all) = (self.config.workload, self.config.thread_count());
        if workload.group > 1 {
            let group = self.thread / workload.group;
            let size = workload.group.min(all - group * workload.group);
            let barrier = BarrierId(GROUP_BARRIERS + group as u64);
            // A small group cannot know that one of it died: only a deadline ends such a wait.
            let timed = self.config.has_losses();
            let step = Step::Barrier { barrier, participants: size as u32, timed };
            let meeting = Some(1 + 2 * (round * all as u32 + group as u32));
            self.operations.push(Operation { pattern: Pattern::Barrier, steps: vec![step], meeting });
        }
        if workload.common_barrier {
            let step = Step::Barrier { barrier: COMMON_BARRIER, participants: all as u32, timed: false };
            let meeting = Some(2 * round);
            self.operations.push(Operation { pattern: Pattern::Barrier, steps: vec![step], meeting });
            let first = self.random.index(all);
            let owners = (0..all.min(3)).map(|offset| (first + offset) % all);
            let steps: Vec<Step<Place>> = owners
                .filter_map(|owner| Some(Step::Collect(self.slot(owner)?, round as usize % 2, owner)))
                .collect();
            self.push(Pattern::Collect, steps);
        }
    }

    fn operation(&mut self, pattern: Pattern) {
        let steps = match pattern {
            Pattern::Critical => {
                let lock = self.random.index(self.config.locks.len());
                let data = self.random.chance(60);
                critical(self.config, &[lock], data)
            }
            // Locks are taken in the order of their numbers, so that nobody waits in a circle.
            Pattern::NestedLocks => {
                let first = self.random.index(self.config.locks.len() - 1);
                let last = self.random.between(first as u64 + 1, self.config.locks.len() as u64 - 1) as usize;
                let locks: Vec<usize> = (first..=last).collect();
                critical(self.config, &locks, false)
            }
            Pattern::TimedBarrier => {
                let (barrier, participants) = (TIMED_BARRIER, self.config.timed_participants);
                vec![Step::Barrier { barrier, participants, timed: true }]
            }
            _ => self.accesses(pattern),
        };
        self.push(pattern, steps);
    }

    fn accesses(&mut self, pattern: Pattern) -> Vec<Step<Place>> {
        let random = &mut *self.random;
        let region = random.index(self.config.regions.len());
        let pages = self.config.regions[region].pages;
        let at = |page: u64| Place { region, page: page % pages };
        let word = random.index(FREE_WORDS);
        let write = random.chance(50);
        match pattern {
            Pattern::Migratory => {
                let page = at(random.below(3));
                vec![Step::Read(page, word), Step::Write(page, word)]
            }
            Pattern::ProducerConsumer => {
                let own = (self.thread / self.config.threads) as u64;
                let other = random.below(self.config.nodes as u64);
                vec![if write { Step::Write(at(own), word) } else { Step::Read(at(other), word) }]
            }
            Pattern::FalseSharing => vec![Step::Write(at(pages - 1), self.thread % FREE_WORDS)],
            Pattern::Atomic => {
                let page = at(random.below(2));
                vec![if write { Step::Add(page) } else { Step::AddRemotely(page) }]
            }
            Pattern::Prefetch => {
                let first = random.below(pages);
                let access = if write { Access::Write } else { Access::Read };
                let mut steps: Vec<Step<Place>> = (first..first + random.between(1, 4))
                    .map(|page| Step::Prefetch(at(page), access))
                    .collect();
                steps.push(if write { Step::Write(at(first), word) } else { Step::Read(at(first), word) });
                steps
            }
            Pattern::OwnerQuery => {
                let page = at(random.below(pages));
                vec![if word == 0 { Step::Home(page) } else { Step::Owner(page) }]
            }
            Pattern::Scan => {
                let first = random.below(pages);
                let count = random.between(2, 5);
                (first..first + count).map(|page| Step::Read(at(page), word)).collect()
            }
            _ => {
                let page = at(if pattern == Pattern::Hot { 0 } else { random.below(pages) });
                vec![if write { Step::Write(page, word) } else { Step::Read(page, word) }]
            }
        }
    }
}

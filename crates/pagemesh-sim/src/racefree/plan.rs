//! What a seed stands for: the mesh, its regions, the program, and what goes wrong.

use crate::random::Random;
use pagemesh_protocol::{NodeId, Placement, Planted, Protocol, limits};
use std::fmt;

/// Cells of a page; each holds one number.
pub(super) const CELLS: usize = 4;

/// A fault that is planted to show that the checks see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A diff is not applied.
    LostDiff,
    /// A write notice does not arrive.
    MissedNotice,
    /// A twin is taken after the first write.
    LateTwin,
    /// A home answers before it has what the requester's time demands.
    EarlyAnswer,
    /// A diff is applied a second time, later.
    RepeatedDiff,
    /// Notices are forgotten before everyone knows them.
    EarlySettlement,
    /// A whole page is sent home instead of what changed.
    WholePage,
    /// The twin of a page that is pinned for writing is not brought up to what was sent.
    OldTwin,
    /// A node to which a page is lent does not take over what others wrote.
    StaleOwner,
    /// A page that comes back overwrites what others wrote meanwhile.
    BareReturn,
    /// An owner is not told to give a page back.
    LostCallIn,
    /// An atomic operation is done twice.
    RepeatedAtomic,
    /// Nobody looks for written pages before a release.
    MissedLook,
    /// What was written to a copy until it was unmapped is not sent.
    LostFlush,
    /// The twin of a page that others send along stays as it was.
    UpdateBesideTwin,
    /// Every page that is pinned for writing is taken for one that was not written.
    BlindLook,
    /// Every engine has this fault.
    Engine(Planted),
}

impl Fault {
    /// The fault of this name, in any letter case.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::all().find(|fault| fault.to_string().eq_ignore_ascii_case(name))
    }

    /// Those of the simulated machine, then those of the engines.
    pub fn all() -> impl Iterator<Item = Fault> {
        let engines = Planted::ALL
            .into_iter()
            .chain(Planted::OF_TREES)
            .chain(Planted::OF_HAND_OVERS)
            .chain(Planted::OF_HINTS);
        FAULTS.into_iter().chain(engines.map(Fault::Engine))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Engine(planted) => write!(f, "{planted:?}"),
            machine => write!(f, "{machine:?}"),
        }
    }
}

/// Those of the simulated machine.
pub const FAULTS: [Fault; 16] = [
    Fault::LostDiff,
    Fault::MissedNotice,
    Fault::LateTwin,
    Fault::EarlyAnswer,
    Fault::RepeatedDiff,
    Fault::EarlySettlement,
    Fault::WholePage,
    Fault::OldTwin,
    Fault::StaleOwner,
    Fault::BareReturn,
    Fault::LostCallIn,
    Fault::RepeatedAtomic,
    Fault::MissedLook,
    Fault::LostFlush,
    Fault::UpdateBesideTwin,
    Fault::BlindLook,
];

/// Who may touch a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Guard {
    /// Whoever holds the lock.
    Lock(usize),
    /// One writer or any readers, until the next barrier.
    Phase,
    /// Anyone, by atomic operations in every other round; in between it is read.
    Counter,
    /// Whoever wants the lock whose word it is, by atomic operations.
    LockWord,
}

/// How a lock lets threads in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One at a time. Threads that have it may wait for signals.
    Mutex,
    /// One that writes, or many that read.
    ReadersAndWriters,
    /// As readers and writers, by a range of bytes of the first region, which is a release region.
    Range,
    /// One at a time, by a semaphore of one unit.
    Semaphore,
    /// One at a time: who changes this cell from 0 to 1 by an atomic operation. Others try again.
    Word(usize),
}

#[derive(Clone, Debug)]
pub(super) struct RegionPlan {
    pub(super) pages: u64,
    pub(super) protocol: Protocol,
    pub(super) placement: Placement,
}

/// What a seed stands for.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: u16,
    /// The node of each thread.
    pub(super) threads: Vec<usize>,
    pub(super) regions: Vec<RegionPlan>,
    /// Of each cell, over all regions.
    pub(super) guards: Vec<Guard>,
    /// The kind of each lock.
    pub(super) locks: Vec<Kind>,
    /// Of 100 accesses under a mutex, how many are followed by a signal or a wait for one.
    pub(super) signals: u32,
    pub(super) rounds: u64,
    /// Critical sections of a thread in a round, at most.
    pub(super) sections: u64,
    /// Accesses of a critical section, or of a phase, at most.
    pub(super) accesses: u64,
    /// Of 100 accesses, how many are followed by giving the page back.
    pub(super) evictions: u32,
    /// Of 100 lock calls, how many give up if they have to wait.
    pub(super) impatience: u32,
    /// Of 100 accesses, how many are a system call's.
    pub(super) pins: u32,
    /// The step at which a node dies, and which.
    pub(super) death: Option<(u64, usize)>,
    /// How likely the next message of a link comes next, by link.
    pub(super) weights: Vec<u64>,
    pub(super) thread_weight: u64,
    /// Diffs by one node alone after which a page is lent to it; 0 never.
    pub(super) lend_after: u32,
    /// Whether nodes fetch what they expect to be wanted.
    pub(super) foresees: bool,
    /// Of each node, whether its kernel notes which pages are written.
    pub(super) tracked: Vec<bool>,
    /// Whether threads and system calls of all nodes go on between two actions of an event, not only those of nodes whose kernel notes writes.
    pub(super) busy: bool,
    /// Whether pages are sent to who fetches them each time, and of 100 such, how many are left out.
    pub(super) updates: bool,
    pub(super) updates_lost: u32,
    /// Children of a node in the tree of a barrier.
    pub(super) barrier_fan: u16,
    /// Barriers of one home that are gathered in a tree.
    pub(super) gathered: usize,
    /// How likely, of 100, a thread comes to the barrier that it may give up, up to three times a round.
    pub(super) meetings: u32,
}

impl Plan {
    /// With `trees`, barriers of all nodes are gathered in trees, and there may be more nodes.
    pub(super) fn draw(random: &mut Random, trees: &mut Random) -> Plan {
        let has_trees = trees.chance(50);
        let (fewest, most) = if has_trees && trees.chance(10) { (6, 12) } else { (1, 5) };
        let nodes = random.between(fewest, most) as u16;
        // Only what is the same on all nodes can be gathered.
        let even = has_trees && trees.chance(85);
        let each = trees.between(1, if nodes > 5 { 1 } else { 3 });
        let mut threads_of = |_| if even { each } else { random.between(1, 3) };
        let threads: Vec<usize> = (0..nodes as usize)
            .flat_map(|node| std::iter::repeat_n(node, threads_of(node) as usize).collect::<Vec<_>>())
            .collect();
        let small = [1, 1, 2, 2, 3, 8][trees.index(6)];
        let regions: Vec<RegionPlan> =
            (0..random.between(1, 3)).map(|index| RegionPlan::draw(index, nodes, random)).collect();
        let death =
            (nodes > 1 && random.chance(25)).then(|| (random.below(600), random.index(nodes as usize)));
        // The unit that a dead node had taken does not come back.
        let kinds = if death.is_some() { 2 } else { 3 };
        let kind = |random: &mut Random| {
            [Kind::Mutex, Kind::ReadersAndWriters, Kind::Semaphore][random.index(kinds)]
        };
        let locks: Vec<Kind> = (0..random.between(1, 4)).map(|_| kind(random)).collect();
        let phases = random.below(101) as u32;
        let cells = regions.iter().map(|region| region.pages as usize * CELLS).sum();
        let guard = |random: &mut Random| {
            if random.chance(phases) { Guard::Phase } else { Guard::Lock(random.index(locks.len())) }
        };
        let links = (nodes as usize).pow(2);
        let mut plan = Plan {
            nodes,
            threads,
            guards: (0..cells).map(|_| guard(random)).collect(),
            regions,
            locks,
            signals: if random.chance(40) { 40 } else { 0 },
            rounds: if random.chance(10) { random.between(5, 10) } else { random.between(1, 4) },
            sections: random.below(6),
            accesses: random.between(1, 8),
            evictions: [0, 10, 50][random.index(3)],
            impatience: if random.chance(30) { 20 } else { 0 },
            pins: if random.chance(50) { random.between(1, 60) as u32 } else { 0 },
            death,
            weights: (0..links).map(|_| [1, 64, 4096][random.index(3)]).collect(),
            thread_weight: [2, 16, 64, 1024][random.index(4)],
            lend_after: [0, 1, 1, 2][random.index(4)],
            foresees: random.chance(75),
            tracked: vec![false; nodes as usize],
            busy: false,
            updates: random.chance(75),
            updates_lost: [0, 0, 20, 70][random.index(4)],
            barrier_fan: if has_trees { small } else { limits::BARRIER_FAN },
            gathered: [limits::GATHERED_BARRIERS, 1][trees.index(2)],
            meetings: if has_trees && trees.chance(40) { [80, 100][trees.index(2)] } else { 0 },
        };
        if plan.updates && random.chance(20) {
            // A page has to be fetched again and again before it is sent along.
            plan.rounds = random.between(8, 14);
        }
        plan
    }
}

impl Plan {
    /// Lets kernels note which pages are written: those of all nodes, or of some.
    pub(super) fn add_tracking(&mut self, random: &mut Random) {
        let share = [100, 50][random.index(2)];
        self.tracked.fill_with(|| random.chance(share));
    }

    /// Makes counters of some cells, and words of some locks.
    pub(super) fn add_atomics(&mut self, random: &mut Random) {
        if random.chance(40) {
            return;
        }
        let share = random.between(5, 30) as u32;
        for guard in &mut self.guards {
            if random.chance(share) {
                *guard = Guard::Counter;
            }
        }
        // Who dies with such a lock leaves it taken. Only words of a release region order what is in one: the first region is one.
        let cells = self.regions[0].pages as usize * CELLS;
        for lock in 0..self.locks.len() {
            let cell = random.index(cells);
            let signals = self.locks[lock] == Kind::Mutex && self.signals > 0;
            if signals {
                continue;
            }
            if self.death.is_none() && random.chance(40) && self.guards[cell] != Guard::LockWord {
                self.guards[cell] = Guard::LockWord;
                self.locks[lock] = Kind::Word(cell);
            }
        }
    }
}

impl Plan {
    /// Makes ranges of some reader-writer locks.
    pub(super) fn add_ranges(&mut self, random: &mut Random) {
        if random.chance(50) {
            return;
        }
        for kind in &mut self.locks {
            if *kind == Kind::ReadersAndWriters && random.chance(60) {
                *kind = Kind::Range;
            }
        }
    }
}

impl RegionPlan {
    fn draw(index: u64, nodes: u16, random: &mut Random) -> RegionPlan {
        let others = [Protocol::WriteInvalidate, Protocol::Migration];
        let other = index > 0 && random.chance(50);
        let placement = match random.below(4) {
            0 => Placement::Cyclic,
            1 => Placement::Block,
            2 => Placement::Single(NodeId::new(random.below(nodes as u64) as u16)),
            _ => Placement::FirstTouch,
        };
        RegionPlan {
            pages: random.between(1, 5),
            protocol: if other { others[random.index(2)] } else { Protocol::Release },
            placement,
        }
    }
}

//! What a seed decides before the first step: the size of the mesh, which patterns and which faults exist.
//!
//! Each seed first picks what it has at all (swarm testing, Groce et al. 2012): runs in which one pattern is absent
//! find what runs with a little of everything hide.

use crate::random::Random;
use pagemesh_protocol::{NodeId, Placement, Protocol, limits};

/// How long messages travel and threads think.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Shortest time on a link, microseconds; with [`Timing::unordered`] everything is 0.
    pub delay_us: u64,
    /// Random addition of up to so much, microseconds.
    pub jitter_us: u64,
    /// How many of 100 messages take much longer.
    pub tail_percent: u32,
    /// How much longer those take at most, microseconds.
    pub tail_us: u64,
    /// How many of 100 links are slow.
    pub slow_link_percent: u32,
    /// How many times slower those are.
    pub slow_factor: u64,
    /// A node all of whose links are slow.
    pub slow_node: Option<u16>,
    /// A thread's pause between two steps is below this, microseconds.
    pub think_us: u64,
    /// No delays at all: whatever link or thread is next is chosen evenly.
    pub unordered: bool,
}

/// What threads do, each with its weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// A counter behind a lock.
    LockedCounter,
    /// Two counters behind two locks, taken in order.
    NestedLocks,
    /// Who owns a page, or who is its home?
    OwnerQuery,
    /// A barrier that is given up after a time.
    TimedBarrier,
    /// Reads several pages in a row.
    Scan,
}

/// Patterns, in the order of [`Config::weights`].
pub const PATTERNS: [Pattern; 10] = [
    Pattern::Uniform,
    Pattern::Hot,
    Pattern::Migratory,
    Pattern::ProducerConsumer,
    Pattern::FalseSharing,
    Pattern::LockedCounter,
    Pattern::NestedLocks,
    Pattern::OwnerQuery,
    Pattern::TimedBarrier,
    Pattern::Scan,
];

/// A region that the threads open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionPlan {
    /// Pages.
    pub pages: u64,
    /// Homes.
    pub placement: Placement,
    /// How copies are kept coherent.
    pub protocol: Protocol,
    /// 0: any address.
    pub address: u64,
}

/// A node that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossPlan {
    /// Which.
    pub node: u16,
    /// After how many steps.
    pub step: u64,
    /// It says goodbye first, and what it sent arrives; else it dies.
    pub goodbye: bool,
}

/// Everything that a seed decides before the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is drawn by itself and excludes none of the others")]
pub struct Config {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: u16,
    /// Application threads of each node.
    pub threads: usize,
    /// Regions.
    pub regions: Vec<RegionPlan>,
    /// Per node, addresses at which something else lies.
    pub blocked: Vec<Vec<u64>>,
    /// Rounds of each thread's program, each ended by the barriers there are.
    pub rounds: u32,
    /// Patterns drawn in each round.
    pub operations: u32,
    /// Weight of each of [`PATTERNS`].
    pub weights: [u32; PATTERNS.len()],
    /// Times.
    pub timing: Timing,
    /// How many of 100 actions are preceded by an access of a running thread of the same node.
    pub interleave_percent: u32,
    /// How many of 100 waits are given up after a time.
    pub cancel_percent: u32,
    /// How many of 100 accesses fault though the rights are there.
    pub spurious_percent: u32,
    /// Names of the locks.
    pub locks: Vec<u64>,
    /// Locks that one home can have in use.
    pub lock_bound: usize,
    /// Whether all threads meet after each round.
    pub common_barrier: bool,
    /// Whether pairs of threads meet after each round.
    pub pair_barriers: bool,
    /// Nodes that go.
    pub losses: Vec<LossPlan>,
    /// Whether one thread of each node reads everything at its end.
    pub audit: bool,
    /// Whether the nodes leave at the end.
    pub leave: bool,
    /// A run that takes more steps makes no progress.
    pub step_bound: u64,
}

/// The stream of a seed from which its configuration is drawn.
const CONFIG_STREAM: u64 = 0;
/// A stream of its own, so that it moves no other draw.
const SLOW_NODE_STREAM: u64 = 4;
/// As have the protocols of regions, and some placements.
const PROTOCOL_STREAM: u64 = 5;

impl Config {
    /// What `seed` stands for.
    pub fn draw(seed: u64) -> Config {
        let random = &mut Random::stream(seed, CONFIG_STREAM);
        let nodes = random.between(2, 6) as u16;
        let threads = random.between(1, 3) as usize;
        let regions = draw_protocols(seed, draw_regions(random, nodes));
        let blocked = draw_blocked(random, nodes, &regions);
        let (rounds, operations) = (random.between(1, 4) as u32, random.between(3, 14) as u32);
        let steps = rounds as u64 * operations as u64 * nodes as u64 * threads as u64 * 8;
        let losses = draw_losses(random, nodes, steps);
        Config {
            seed,
            nodes,
            threads,
            regions,
            blocked,
            rounds,
            operations,
            weights: draw_weights(random),
            timing: Timing { slow_node: draw_slow_node(seed, nodes), ..draw_timing(random) },
            interleave_percent: if random.chance(50) { 20 } else { 0 },
            cancel_percent: if random.chance(30) { random.between(1, 30) as u32 } else { 0 },
            spurious_percent: if random.chance(30) { 5 } else { 0 },
            locks: (0..random.between(2, 4)).map(|_| random.bits()).collect(),
            lock_bound: if random.chance(10) { 1 } else { 64 },
            common_barrier: random.chance(60),
            pair_barriers: random.chance(30),
            losses,
            audit: random.chance(50),
            leave: random.chance(50),
            step_bound: 300_000,
        }
    }

    /// Nodes and nothing else: no threads, no region, no delays. For tests that drive the world by hand.
    pub fn bare(nodes: u16) -> Config {
        let mut config = Config::draw(0);
        config.nodes = nodes;
        config.threads = 0;
        config.regions.clear();
        config.blocked = vec![Vec::new(); nodes as usize];
        config.losses.clear();
        config.interleave_percent = 0;
        config.cancel_percent = 0;
        config.spurious_percent = 0;
        config.lock_bound = 64;
        config.leave = false;
        config.timing = Timing { unordered: true, ..draw_timing(&mut Random::stream(0, CONFIG_STREAM)) };
        config
    }

    /// Whether calls may fail because a node goes.
    pub fn has_losses(&self) -> bool {
        !self.losses.is_empty()
    }
}

fn draw_regions(random: &mut Random, nodes: u16) -> Vec<RegionPlan> {
    (0..random.between(1, 2))
        .map(|_| {
            let pages = random.between(4, 20);
            let placement = if random.chance(70) {
                Placement::Cyclic
            } else {
                Placement::Single(NodeId::new(random.below(nodes as u64) as u16))
            };
            let slot = if random.chance(50) { 1 } else { 40 };
            let fixed = limits::REGION_BASE + slot * limits::REGION_ALIGN;
            let address = if random.chance(25) { fixed } else { 0 };
            RegionPlan { pages, placement, protocol: Protocol::WriteInvalidate, address }
        })
        .collect()
}

/// Some regions migrate; some have homes in blocks, or by first touch.
fn draw_protocols(seed: u64, mut regions: Vec<RegionPlan>) -> Vec<RegionPlan> {
    let random = &mut Random::stream(seed, PROTOCOL_STREAM);
    for plan in &mut regions {
        if random.chance(40) {
            plan.protocol = Protocol::Migration;
        }
        if random.chance(50) {
            plan.placement = if random.chance(40) { Placement::Block } else { Placement::FirstTouch };
        }
    }
    regions
}

/// On some nodes the first addresses that the coordinator proposes are taken; sometimes also the one asked for.
fn draw_blocked(random: &mut Random, nodes: u16, regions: &[RegionPlan]) -> Vec<Vec<u64>> {
    let mut blocked = vec![Vec::new(); nodes as usize];
    if random.chance(40) {
        for slot in 0..random.between(1, 4) {
            let node = random.index(nodes as usize);
            blocked[node].push(limits::REGION_BASE + slot * limits::REGION_ALIGN);
        }
    }
    for plan in regions {
        if plan.address != 0 && random.chance(30) {
            blocked[random.index(nodes as usize)].push(plan.address);
        }
    }
    blocked
}

fn draw_losses(random: &mut Random, nodes: u16, steps: u64) -> Vec<LossPlan> {
    if !random.chance(35) {
        return Vec::new();
    }
    let count = if random.chance(30) { 2 } else { 1 };
    let mut losses: Vec<LossPlan> = (0..count)
        .map(|_| LossPlan {
            node: random.below(nodes as u64) as u16,
            step: random.below(steps),
            goodbye: random.chance(25),
        })
        .collect();
    losses.dedup_by_key(|loss| loss.node);
    losses
}

fn draw_weights(random: &mut Random) -> [u32; PATTERNS.len()] {
    let mut weights = [0; PATTERNS.len()];
    for weight in &mut weights {
        *weight = if random.chance(40) { 0 } else { random.between(1, 10) as u32 };
    }
    weights[random.index(PATTERNS.len())] += 3;
    weights
}

fn draw_slow_node(seed: u64, nodes: u16) -> Option<u16> {
    let random = &mut Random::stream(seed, SLOW_NODE_STREAM);
    random.chance(15).then(|| random.below(nodes as u64) as u16)
}

fn draw_timing(random: &mut Random) -> Timing {
    Timing {
        delay_us: random.between(5, 60),
        jitter_us: random.below(100),
        tail_percent: if random.chance(50) { random.between(1, 20) as u32 } else { 0 },
        tail_us: random.between(100, 5000),
        slow_link_percent: if random.chance(30) { 25 } else { 0 },
        slow_factor: random.between(2, 30),
        slow_node: None,
        think_us: random.between(1, 200),
        unordered: random.chance(35),
    }
}

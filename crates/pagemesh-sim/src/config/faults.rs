//! Which faults a seed has, and how long things take.

use crate::random::Random;

/// How long messages travel and threads think.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
    /// A node all of whose links and threads are slow.
    pub slow_node: Option<u16>,
    /// A thread's pause between two steps is below this, microseconds.
    pub think_us: u64,
    /// No delays at all: whatever link or thread is next is chosen evenly.
    pub unordered: bool,
}

impl Timing {
    pub(super) fn draw(random: &mut Random, nodes: u16) -> Timing {
        Timing {
            delay_us: random.between(5, 60),
            jitter_us: random.below(100),
            tail_percent: if random.chance(50) { random.between(1, 20) as u32 } else { 0 },
            tail_us: random.between(100, 5000),
            slow_link_percent: if random.chance(30) { 25 } else { 0 },
            slow_factor: random.between(2, 30),
            slow_node: random.chance(15).then(|| random.below(nodes as u64) as u16),
            think_us: random.between(1, 200),
            unordered: random.chance(35),
        }
    }

    /// Without what makes some messages late.
    #[must_use]
    pub(crate) fn calm(self) -> Timing {
        Timing { tail_percent: 0, slow_link_percent: 0, slow_node: None, ..self }
    }
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

/// Two nodes whose connection breaks while both live. Each takes the other for lost, at a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPlan {
    /// One end.
    pub one: u16,
    /// The other.
    pub other: u16,
    /// After how many steps.
    pub step: u64,
}

/// A node in which nothing happens for a while: nobody runs, nothing is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PausePlan {
    /// Which.
    pub node: u16,
    /// After how many steps.
    pub step: u64,
    /// For how long, microseconds; a step takes one where there are no delays.
    pub length_us: u64,
}

/// The faults of a run. All of them end when the run calms down.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FaultPlan {
    /// How many of 100 waits are given up after a time.
    pub cancel_percent: u32,
    /// How many of 100 calls are given up after they have ended, which must change nothing.
    pub late_cancel_percent: u32,
    /// How many of 100 accesses fault though the rights are there.
    pub spurious_percent: u32,
    /// How many of 100 actions are preceded by an access of a running thread of the same node.
    pub interleave_percent: u32,
    /// Nodes that go.
    pub losses: Vec<LossPlan>,
    /// Connections that break.
    pub cuts: Vec<CutPlan>,
    /// Nodes that stand still.
    pub pauses: Vec<PausePlan>,
    /// The step from which on there are no faults; `None`: when all programs are over.
    pub calm_step: Option<u64>,
}

impl FaultPlan {
    /// Faults of a run of about `length` steps; one seed in eight has none.
    pub(super) fn draw(random: &mut Random, nodes: u16, length: u64) -> FaultPlan {
        if random.chance(12) {
            return FaultPlan::default();
        }
        let mut plan = FaultPlan {
            cancel_percent: if random.chance(30) { random.between(1, 30) as u32 } else { 0 },
            late_cancel_percent: if random.chance(20) { random.between(1, 20) as u32 } else { 0 },
            spurious_percent: if random.chance(25) { 5 } else { 0 },
            interleave_percent: if random.chance(50) { 20 } else { 0 },
            ..FaultPlan::default()
        };
        if random.chance(35) {
            plan.losses = draw_losses(random, nodes, length);
        }
        if random.chance(12) {
            plan.cuts = draw_cuts(random, nodes, length);
        }
        if random.chance(20) {
            plan.pauses = (0..random.between(1, 3))
                .map(|_| PausePlan {
                    node: random.below(nodes as u64) as u16,
                    step: random.below(length),
                    length_us: random.between(20, 20_000),
                })
                .collect();
        }
        plan.calm_step = random.chance(30).then(|| random.below(length));
        plan
    }
}

/// At least one node stays.
fn draw_losses(random: &mut Random, nodes: u16, length: u64) -> Vec<LossPlan> {
    let most = (nodes as u64 - 1).min(3);
    let count = if random.chance(35) { random.between(1, most) } else { 1 };
    let mut losses: Vec<LossPlan> = (0..count)
        .map(|_| LossPlan {
            node: random.below(nodes as u64) as u16,
            step: random.below(length),
            goodbye: random.chance(25),
        })
        .collect();
    losses.sort_by_key(|loss| loss.node);
    losses.dedup_by_key(|loss| loss.node);
    losses
}

fn draw_cuts(random: &mut Random, nodes: u16, length: u64) -> Vec<CutPlan> {
    let count = if random.chance(40) { random.between(1, 3) } else { 1 };
    (0..count)
        .map(|_| {
            let one = random.below(nodes as u64) as u16;
            let other = (one + random.between(1, nodes as u64 - 1) as u16) % nodes;
            CutPlan { one, other, step: random.below(length) }
        })
        .collect()
}

//! The standard workloads.

use pagemesh_protocol::{Access, NodeId, Placement, Protocol, limits};

/// One operation of a node's thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Reads or writes a page of the one region.
    Page(u64, Access),
    /// Takes the lock of this number.
    Lock(u64),
    /// Gives the lock back that is held.
    Unlock,
    /// Meets all others at the one barrier.
    Barrier,
}

/// What nodes do at the same time; the next phase begins when all are done.
pub(super) type Phase = Vec<(u16, Vec<Step>)>;

const READ: fn(u64) -> Step = |page| Step::Page(page, Access::Read);
const WRITE: fn(u64) -> Step = |page| Step::Page(page, Access::Write);

/// Pages of each node, and touches of each page, where nodes keep to themselves.
const PRIVATE_PAGES: u64 = 4;
const PRIVATE_TOUCHES: usize = 4;
/// How often a phase is repeated.
const ROUNDS: usize = 4;
/// Reads of each node for one write of the hot page.
const HOT_READS: usize = 8;

/// A pattern of sharing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Every node writes pages that no other touches; homes by first touch.
    Private,
    /// One page that one node writes now and then and all others read often.
    HotPage,
    /// One page that each node in turn reads and then writes.
    Migratory,
    /// Pairs of nodes: one writes a page, then the other reads it.
    ProducerConsumer,
    /// All nodes write the same page at the same time.
    FalseSharing,
    /// All nodes want the same lock at the same time.
    HotLock,
    /// All nodes meet at one barrier.
    Barrier,
    /// As [`Workload::Private`], and all meet at a barrier after each round.
    PrivateRounds,
    /// As [`Workload::HotPage`], and all meet at a barrier after the write and after the reads.
    HotPageRounds,
    /// As [`Workload::ProducerConsumer`], each pair with a lock that it takes to write and to read.
    ProducerConsumerLocks,
    /// As [`Workload::FalseSharing`], and all meet at a barrier after each write.
    FalseSharingRounds,
}

impl Workload {
    /// All of them: first those whose programs do not synchronise, or do nothing else.
    pub const ALL: [Workload; 11] = [
        Workload::Private,
        Workload::HotPage,
        Workload::Migratory,
        Workload::ProducerConsumer,
        Workload::FalseSharing,
        Workload::HotLock,
        Workload::Barrier,
        Workload::PrivateRounds,
        Workload::HotPageRounds,
        Workload::ProducerConsumerLocks,
        Workload::FalseSharingRounds,
    ];

    /// A name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Workload::Private => "private pages",
            Workload::HotPage => "read-mostly hot page",
            Workload::Migratory => "migratory page",
            Workload::ProducerConsumer => "producer-consumer",
            Workload::FalseSharing => "false sharing",
            Workload::HotLock => "one hot lock",
            Workload::Barrier => "barrier",
            Workload::PrivateRounds => "private pages + barriers",
            Workload::HotPageRounds => "hot page + barriers",
            Workload::ProducerConsumerLocks => "producer-consumer + locks",
            Workload::FalseSharingRounds => "false sharing + barriers",
        }
    }

    /// The protocols that it makes sense with; `None` where no page is touched.
    pub const fn protocols(self) -> &'static [Option<Protocol>] {
        match self {
            Workload::HotLock | Workload::Barrier => &[None],
            rounds if rounds.synchronises() => &[Some(Protocol::WriteInvalidate), Some(Protocol::Release)],
            _ => &[Some(Protocol::WriteInvalidate), Some(Protocol::Migration)],
        }
    }

    /// Whether its nodes synchronise what they do with pages, as a release region asks for.
    pub const fn synchronises(self) -> bool {
        matches!(
            self,
            Workload::PrivateRounds
                | Workload::HotPageRounds
                | Workload::ProducerConsumerLocks
                | Workload::FalseSharingRounds
        )
    }

    /// The most nodes that it is run with: notices go from every writer to every node, so there are as many as the nodes squared.
    pub const fn nodes_max(self, protocol: Option<Protocol>) -> u16 {
        match (self, protocol) {
            (Workload::FalseSharingRounds, Some(Protocol::Release)) => 256,
            _ => limits::NODES as u16,
        }
    }

    /// Pages of its region, and how they are given homes.
    pub(super) fn region(self, nodes: u16) -> (u64, Placement) {
        match self {
            Workload::Private | Workload::PrivateRounds => {
                (nodes as u64 * PRIVATE_PAGES, Placement::FirstTouch)
            }
            Workload::ProducerConsumer | Workload::ProducerConsumerLocks => (nodes as u64, Placement::Cyclic),
            _ => (1, Placement::Single(NodeId::new(0))),
        }
    }

    pub(super) fn phases(self, nodes: u16) -> Vec<Phase> {
        let everyone = |steps: Vec<Step>| -> Phase { (0..nodes).map(|node| (node, steps.clone())).collect() };
        match self {
            Workload::Private => {
                let own =
                    |node| (node, own_pages(node).flat_map(|page| [WRITE(page); PRIVATE_TOUCHES]).collect());
                vec![(0..nodes).map(own).collect()]
            }
            Workload::PrivateRounds => {
                let round = |node| own_pages(node).map(WRITE).chain([Step::Barrier]).collect::<Vec<_>>();
                vec![(0..nodes).map(|node| (node, round(node).repeat(PRIVATE_TOUCHES))).collect()]
            }
            Workload::HotPage => {
                let readers: Phase = (0..nodes)
                    .filter(|node| *node != 1)
                    .map(|node| (node, vec![READ(0); HOT_READS]))
                    .collect();
                vec![[vec![(1, vec![WRITE(0)])], readers]; ROUNDS].concat()
            }
            Workload::HotPageRounds => {
                let round = |node| {
                    let (write, read) = if node == 1 { (1, 0) } else { (0, HOT_READS) };
                    [vec![WRITE(0); write], vec![Step::Barrier], vec![READ(0); read], vec![Step::Barrier]]
                        .concat()
                };
                vec![(0..nodes).map(|node| (node, round(node).repeat(ROUNDS))).collect()]
            }
            Workload::Migratory => {
                let turns = (0..2).flat_map(|_| 0..nodes);
                turns.map(|node| vec![(node, vec![READ(0), WRITE(0)])]).collect()
            }
            Workload::ProducerConsumer => producer_consumer(nodes, |_, touch| vec![touch]),
            Workload::ProducerConsumerLocks => {
                producer_consumer(nodes, |pair, touch| vec![Step::Lock(pair as u64), touch, Step::Unlock])
            }
            Workload::FalseSharing => vec![everyone(vec![WRITE(0)]); ROUNDS],
            Workload::FalseSharingRounds => vec![everyone([WRITE(0), Step::Barrier].repeat(ROUNDS))],
            Workload::HotLock => vec![everyone([Step::Lock(0), Step::Unlock].repeat(ROUNDS))],
            Workload::Barrier => vec![everyone(vec![Step::Barrier; ROUNDS])],
        }
    }
}

fn own_pages(node: u16) -> impl Iterator<Item = u64> {
    let first = node as u64 * PRIVATE_PAGES;
    first..first + PRIVATE_PAGES
}

/// The steps of every pair for each of its touches, in turns.
fn producer_consumer(nodes: u16, steps: impl Fn(u16, Step) -> Vec<Step>) -> Vec<Phase> {
    let pairs = nodes / 2;
    // The home of a page is neither of the two, where there are others.
    let page = |pair: u16| (2 * pair as u64 + 2) % nodes as u64;
    let write: Phase = (0..pairs).map(|pair| (2 * pair, steps(pair, WRITE(page(pair))))).collect();
    let read: Phase = (0..pairs).map(|pair| (2 * pair + 1, steps(pair, READ(page(pair))))).collect();
    vec![[write, read]; 2 * ROUNDS].concat()
}

//! The standard workloads.

use pagemesh_protocol::{Access, NodeId, Placement, Protocol};

/// One operation of a node's thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Reads or writes a page of the one region.
    Page(u64, Access),
    /// Takes the one lock.
    Lock,
    /// Gives it back.
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
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 7] = [
        Workload::Private,
        Workload::HotPage,
        Workload::Migratory,
        Workload::ProducerConsumer,
        Workload::FalseSharing,
        Workload::HotLock,
        Workload::Barrier,
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
        }
    }

    /// The protocols that it makes sense with; `None` where no page is touched.
    pub const fn protocols(self) -> &'static [Option<Protocol>] {
        match self {
            Workload::HotLock | Workload::Barrier => &[None],
            _ => &[Some(Protocol::WriteInvalidate), Some(Protocol::Migration)],
        }
    }

    /// Pages of its region, and how they are given homes.
    pub(super) fn region(self, nodes: u16) -> (u64, Placement) {
        match self {
            Workload::Private => (nodes as u64 * PRIVATE_PAGES, Placement::FirstTouch),
            Workload::ProducerConsumer => (nodes as u64, Placement::Cyclic),
            _ => (1, Placement::Single(NodeId::new(0))),
        }
    }

    pub(super) fn phases(self, nodes: u16) -> Vec<Phase> {
        let everyone = |steps: Vec<Step>| -> Phase { (0..nodes).map(|node| (node, steps.clone())).collect() };
        match self {
            Workload::Private => {
                let own = |node: u16| {
                    let first = node as u64 * PRIVATE_PAGES;
                    let pages = (first..first + PRIVATE_PAGES).flat_map(|page| [page; PRIVATE_TOUCHES]);
                    (node, pages.map(WRITE).collect())
                };
                vec![(0..nodes).map(own).collect()]
            }
            Workload::HotPage => {
                let readers: Phase = (0..nodes)
                    .filter(|node| *node != 1)
                    .map(|node| (node, vec![READ(0); HOT_READS]))
                    .collect();
                let round = [vec![(1, vec![WRITE(0)])], readers];
                [round.clone(), round.clone(), round.clone(), round].concat()
            }
            Workload::Migratory => {
                let turns = (0..2).flat_map(|_| 0..nodes);
                turns.map(|node| vec![(node, vec![READ(0), WRITE(0)])]).collect()
            }
            Workload::ProducerConsumer => {
                let pairs = nodes / 2;
                // The home of a page is neither of the two, where there are others.
                let page = |pair: u16| (2 * pair as u64 + 2) % nodes as u64;
                let write: Phase = (0..pairs).map(|pair| (2 * pair, vec![WRITE(page(pair))])).collect();
                let read: Phase = (0..pairs).map(|pair| (2 * pair + 1, vec![READ(page(pair))])).collect();
                vec![[write, read]; 2 * ROUNDS].concat()
            }
            Workload::FalseSharing => vec![everyone(vec![WRITE(0)]); ROUNDS],
            Workload::HotLock => vec![everyone([Step::Lock, Step::Unlock].repeat(ROUNDS))],
            Workload::Barrier => vec![everyone(vec![Step::Barrier; ROUNDS])],
        }
    }
}

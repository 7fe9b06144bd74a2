//! What is checked of release regions: how large the mesh is, and what its threads may do.

use super::super::plan::{LOCKS, plural};
use pagemesh_protocol::{Access, LockId, NodeId, Placement, Planted, limits, lock_home};
use std::fmt;

/// Nodes of a checked mesh, at most.
pub(super) const NODES: usize = 3;
/// Pages, at most.
pub(super) const PAGES: usize = 2;
/// Cells of a page, at most: one for each lock, and one for each node.
pub(super) const CELLS: usize = 2 + NODES;

/// A mesh with a release region, of one thread a node, whose every run is looked at.
///
/// Every page has a cell for each lock, which only the lock's holder touches, and, where there is a barrier, one for each node: before
/// the first arrival, and between any even one and the next, only that node touches it, and in between everyone reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing that there is or is not, whatever else there is"
)]
pub struct IntervalPlan {
    /// Nodes, 2 or 3.
    pub nodes: u16,
    /// Pages of the one region, 1 or 2.
    pub pages: u64,
    /// Their homes.
    pub placement: Placement,
    /// Locks, at most 2, whose home is node 0.
    pub locks: usize,
    /// Whether threads meet at a barrier.
    pub barrier: bool,
    /// Children of a node in the tree of a barrier; with as many nodes or fewer there is none.
    pub barrier_fan: u16,
    /// Whether nodes give copies back.
    pub evict: bool,
    /// Whether the kernels of all nodes note which pages are written.
    pub tracked: bool,
    /// Whether pages are sent along. Then it begins after some rounds in which one node wrote and the others read, so that they follow the pages.
    pub updates: bool,
    /// How often a second thread of each node stores to the node's own cell of the first page, where it can without a fault: between events
    /// and, beside one, before any of the first few actions that take a right or make a diff. Before its node arrives at the barrier.
    pub stores: u8,
    /// How many operations each thread makes; giving a lock back is none.
    pub operations: u8,
    /// A fault to plant in every engine.
    pub planted: Option<Planted>,
}

impl IntervalPlan {
    /// Nodes and pages, whose homes are all at node 0, one lock, and so many operations a thread.
    pub fn new(nodes: u16, pages: u64, operations: u8) -> IntervalPlan {
        let placement = Placement::Single(NodeId::new(0));
        IntervalPlan {
            nodes,
            pages,
            placement,
            locks: 1,
            barrier: false,
            barrier_fan: limits::BARRIER_FAN,
            evict: false,
            tracked: false,
            updates: false,
            stores: 0,
            operations,
            planted: None,
        }
    }

    /// With this placement.
    #[must_use]
    pub fn of(self, placement: Placement) -> IntervalPlan {
        IntervalPlan { placement, ..self }
    }

    /// With so many locks.
    #[must_use]
    pub fn locks(self, locks: usize) -> IntervalPlan {
        IntervalPlan { locks, ..self }
    }

    /// With a barrier.
    #[must_use]
    pub fn with_barrier(self) -> IntervalPlan {
        IntervalPlan { barrier: true, ..self }
    }

    /// With a barrier that is gathered in a tree, of so many children a node.
    #[must_use]
    pub fn with_tree(self, barrier_fan: u16) -> IntervalPlan {
        IntervalPlan { barrier: true, barrier_fan, ..self }
    }

    /// With copies that are given back.
    #[must_use]
    pub fn with_evictions(self) -> IntervalPlan {
        IntervalPlan { evict: true, ..self }
    }

    /// With kernels that note which pages are written.
    #[must_use]
    pub fn tracked(self) -> IntervalPlan {
        IntervalPlan { tracked: true, ..self }
    }

    /// With pages that are sent along.
    #[must_use]
    pub fn with_updates(self) -> IntervalPlan {
        IntervalPlan { updates: true, ..self }
    }

    /// With so many stores of a second thread a node.
    #[must_use]
    pub fn with_stores(self, stores: u8) -> IntervalPlan {
        IntervalPlan { stores, ..self }
    }

    /// With a fault in every engine.
    #[must_use]
    pub fn planted(self, fault: Planted) -> IntervalPlan {
        IntervalPlan { planted: Some(fault), ..self }
    }

    pub(super) fn cells(&self) -> usize {
        self.locks + if self.barrier { self.nodes as usize } else { 0 }
    }

    /// Whether a thread of `node` that holds `held` and has passed the barrier `phase` times may touch this cell of a page.
    pub(super) fn allows(
        &self,
        node: NodeId,
        held: Option<u8>,
        phase: u8,
        cell: usize,
        access: Access,
    ) -> bool {
        if cell < self.locks {
            held == Some(cell as u8)
        } else if phase.is_multiple_of(2) {
            cell - self.locks == node.index()
        } else {
            access == Access::Read
        }
    }

    /// The name of the lock with this index, whose home is node 0.
    pub(super) fn lock(&self, index: u8) -> LockId {
        let all = (index as u64..).step_by(LOCKS).map(LockId);
        let mut fitting = all.filter(|lock| lock_home(*lock, self.nodes) == NodeId::new(0));
        fitting.next().expect("a hash of all numbers meets every home")
    }

    /// # Panics
    /// When it is larger than the checker's tables.
    pub(super) fn check(&self) {
        assert!((2..=NODES).contains(&(self.nodes as usize)), "{self:?}: 2 to {NODES} nodes");
        assert!((1..=PAGES as u64).contains(&self.pages), "{self:?}: 1 to {PAGES} pages");
        assert!(self.locks <= 2, "{self:?}: at most 2 locks");
        assert!(self.stores == 0 || self.barrier, "{self:?}: a node's own cell is for barriers");
    }
}

impl fmt::Display for IntervalPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IntervalPlan { nodes, pages, locks, operations, .. } = self;
        write!(f, "{nodes} nodes x {pages} {}, release", plural(*pages, "page"))?;
        match self.placement {
            Placement::Cyclic => write!(f, ", cyclic")?,
            Placement::Block => write!(f, ", block")?,
            Placement::Single(home) => write!(f, ", all at {home:?}")?,
            _ => write!(f, ", first-touch")?,
        }
        if *locks > 0 {
            write!(f, ", {locks} {}", plural(*locks as u64, "lock"))?;
        }
        let barrier = if self.nodes > self.barrier_fan { "barrier in a tree" } else { "barrier" };
        let all = [
            (self.barrier, barrier),
            (self.evict, "evictions"),
            (self.tracked, "noted writes"),
            (self.updates, "updates"),
        ];
        for (_, what) in all.into_iter().filter(|(has, _)| *has) {
            write!(f, ", {what}")?;
        }
        if self.stores > 0 {
            write!(f, ", {} {} beside", self.stores, plural(u64::from(self.stores), "store"))?;
        }
        write!(f, ", {operations} {} a thread", plural(*operations as u64, "operation"))?;
        self.planted.map_or(Ok(()), |fault| write!(f, ", with {fault:?}"))
    }
}

/// Neither the home of the locks nor that of the barrier, where there are three nodes: diffs and notices go different ways.
const ELSEWHERE: Placement = Placement::Single(NodeId::new(2));

/// Meshes that are checked with every run of the tests.
pub fn small_interval_plans() -> Vec<IntervalPlan> {
    let other_home = Placement::Single(NodeId::new(1));
    vec![
        IntervalPlan::new(2, 2, 4),
        IntervalPlan::new(2, 2, 4).of(Placement::Cyclic).with_evictions(),
        IntervalPlan::new(2, 1, 4).locks(2),
        IntervalPlan::new(2, 1, 5).of(Placement::FirstTouch).with_evictions(),
        IntervalPlan::new(2, 1, 4).of(other_home).locks(0).with_barrier(),
        IntervalPlan::new(2, 1, 3).with_barrier(),
        IntervalPlan::new(3, 1, 3),
        IntervalPlan::new(3, 1, 3).of(ELSEWHERE),
        IntervalPlan::new(2, 1, 5).locks(0).with_tree(1),
        IntervalPlan::new(3, 1, 3).locks(0).with_tree(1),
        IntervalPlan::new(2, 1, 4).tracked().with_evictions(),
        IntervalPlan::new(2, 1, 3).with_barrier().tracked().with_stores(1),
        IntervalPlan::new(2, 1, 3).of(other_home).with_barrier().with_stores(2),
        IntervalPlan::new(2, 1, 4).locks(0).with_barrier().with_updates(),
        IntervalPlan::new(2, 1, 4).of(other_home).locks(0).with_barrier().with_updates(),
        IntervalPlan::new(2, 1, 4).with_updates(),
        IntervalPlan::new(3, 1, 2).of(ELSEWHERE).locks(0).with_barrier().with_updates(),
        IntervalPlan::new(2, 1, 3).locks(0).with_barrier().tracked().with_updates().with_stores(1),
    ]
}

/// Those, and meshes that take minutes.
pub fn full_interval_plans() -> Vec<IntervalPlan> {
    let mut plans = small_interval_plans();
    plans.extend([
        IntervalPlan::new(2, 1, 4).with_barrier(),
        IntervalPlan::new(2, 2, 5).with_evictions(),
        IntervalPlan::new(2, 2, 5).of(Placement::FirstTouch),
        IntervalPlan::new(2, 2, 4).locks(2).of(Placement::Cyclic).with_evictions(),
        IntervalPlan::new(2, 2, 5).locks(0).with_barrier(),
        IntervalPlan::new(3, 1, 4),
        IntervalPlan::new(3, 1, 4).of(ELSEWHERE),
        IntervalPlan::new(3, 1, 3).of(Placement::FirstTouch).with_evictions(),
        IntervalPlan::new(3, 2, 3).of(ELSEWHERE),
        IntervalPlan::new(3, 1, 4).locks(0).with_tree(1),
        IntervalPlan::new(3, 1, 4).locks(0).with_tree(2),
        IntervalPlan::new(2, 2, 4).of(Placement::Cyclic).tracked().with_evictions(),
        IntervalPlan::new(2, 1, 4).with_barrier().tracked().with_stores(1),
        IntervalPlan::new(3, 1, 3).of(ELSEWHERE).tracked(),
        IntervalPlan::new(2, 1, 5).with_evictions().with_updates(),
        IntervalPlan::new(2, 1, 5).locks(0).with_barrier().tracked().with_updates(),
        IntervalPlan::new(3, 1, 3).of(ELSEWHERE).with_updates(),
        IntervalPlan::new(3, 1, 3).of(ELSEWHERE).locks(0).with_barrier().with_updates(),
        IntervalPlan::new(3, 1, 3).of(ELSEWHERE).tracked().with_updates(),
    ]);
    plans
}

/// Meshes in which planted faults of noted writes are looked for, the smallest first.
pub fn tracking_interval_plans() -> Vec<IntervalPlan> {
    vec![
        IntervalPlan::new(2, 1, 3).with_barrier().tracked().with_stores(1),
        IntervalPlan::new(2, 1, 4).with_barrier().tracked().with_stores(1),
    ]
}

/// Meshes in which planted faults of updates are looked for, the smallest first.
pub fn update_interval_plans() -> Vec<IntervalPlan> {
    let other_home = Placement::Single(NodeId::new(1));
    vec![
        IntervalPlan::new(2, 1, 3).locks(0).with_barrier().with_updates(),
        IntervalPlan::new(2, 1, 3).of(other_home).locks(0).with_barrier().with_updates(),
        IntervalPlan::new(3, 1, 2).of(ELSEWHERE).locks(0).with_barrier().with_updates(),
    ]
}

/// Meshes in which planted faults are looked for, the smallest first.
pub fn hunting_interval_plans() -> Vec<IntervalPlan> {
    vec![
        IntervalPlan::new(2, 1, 3),
        IntervalPlan::new(2, 2, 4),
        IntervalPlan::new(2, 1, 4).locks(0).with_barrier(),
        IntervalPlan::new(2, 1, 4).with_barrier(),
        IntervalPlan::new(3, 1, 3).of(ELSEWHERE),
        IntervalPlan::new(3, 2, 3).of(ELSEWHERE),
        IntervalPlan::new(3, 1, 3).locks(0).with_tree(1),
        IntervalPlan::new(3, 1, 4).locks(0).with_tree(1),
    ]
}

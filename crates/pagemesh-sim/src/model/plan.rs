//! What is checked: how large the mesh is, what its threads may do, and what may go wrong.

use pagemesh_protocol::{LockId, NodeId, Placement, Planted, Protocol, limits, lock_home};
use std::fmt;

/// Nodes of a checked mesh, at most.
pub(super) const NODES: usize = 4;
/// Threads of one node, at most.
pub(super) const THREADS: usize = 2;
/// Pages, at most.
pub(super) const PAGES: usize = 4;
/// Locks, at most.
pub(super) const LOCKS: usize = 4;

/// A mesh whose every run is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each adds transitions by itself and excludes none of the others"
)]
pub struct Plan {
    /// Nodes, 2 to 4.
    pub nodes: u16,
    /// Application threads of each node, 1 or 2.
    pub threads: usize,
    /// Pages of the one region, at most 4.
    pub pages: u64,
    /// Their homes.
    pub placement: Placement,
    /// How copies are kept coherent.
    pub protocol: Protocol,
    /// Homes of the locks that threads take, at most 4.
    pub locks: Vec<NodeId>,
    /// Whether all threads meet at a barrier.
    pub barrier: bool,
    /// Children of a node in the tree of a barrier; with as many nodes or fewer there is none.
    pub barrier_fan: u16,
    /// Whether threads ask for pages that they are not about to touch.
    pub prefetch: bool,
    /// Whether nodes give copies back, at any moment.
    pub evict: bool,
    /// Whether threads have atomic operations done where a page is.
    pub atomics: bool,
    /// Whether nodes ask the owner of a page for it, when they have heard who that is.
    pub hints: bool,
    /// Whether threads give up waiting for pages and locks.
    pub cancel: bool,
    /// Nodes of which one may die, at any moment.
    pub mortal: Vec<NodeId>,
    /// How many operations each thread makes; `None` is any number.
    pub operations: Option<u8>,
    /// A fault to plant in every engine.
    pub planted: Option<Planted>,
}

impl Plan {
    /// Nodes of one thread each and pages, whose placement and protocol are the first of each; threads read and write, nodes give copies back.
    pub fn new(nodes: u16, pages: u64) -> Plan {
        Plan {
            nodes,
            threads: 1,
            pages,
            placement: Placement::Cyclic,
            protocol: Protocol::WriteInvalidate,
            locks: Vec::new(),
            barrier: false,
            barrier_fan: limits::BARRIER_FAN,
            prefetch: false,
            evict: true,
            atomics: false,
            hints: false,
            cancel: false,
            mortal: Vec::new(),
            operations: None,
            planted: None,
        }
    }

    /// With this protocol and placement.
    #[must_use]
    pub fn of(self, protocol: Protocol, placement: Placement) -> Plan {
        Plan { placement, protocol, ..self }
    }

    /// With so many threads a node.
    #[must_use]
    pub fn threads(self, threads: usize) -> Plan {
        Plan { threads, ..self }
    }

    /// With one lock, whose home is node 0.
    #[must_use]
    pub fn lock_at_first(self) -> Plan {
        Plan { locks: vec![NodeId::new(0)], ..self }
    }

    /// With a barrier.
    #[must_use]
    pub fn with_barrier(self) -> Plan {
        Plan { barrier: true, ..self }
    }

    /// With a barrier that is gathered in a tree, of so many children a node. Its rounds are numbered without end, so there must be a bound
    /// of operations.
    #[must_use]
    pub fn with_tree(self, barrier_fan: u16) -> Plan {
        Plan { barrier: true, barrier_fan, ..self }
    }

    /// With prefetches.
    #[must_use]
    pub fn with_prefetch(self) -> Plan {
        Plan { prefetch: true, ..self }
    }

    /// With atomic operations.
    #[must_use]
    pub fn with_atomics(self) -> Plan {
        Plan { atomics: true, ..self }
    }

    /// With reads that go to the owner of a page.
    #[must_use]
    pub fn with_hints(self) -> Plan {
        Plan { hints: true, ..self }
    }

    /// Without copies that are given back: what is possible in the largest meshes.
    #[must_use]
    pub fn without_evictions(self) -> Plan {
        Plan { evict: false, ..self }
    }

    /// With threads that give up waiting.
    #[must_use]
    pub fn with_cancel(self) -> Plan {
        Plan { cancel: true, ..self }
    }

    /// With so many operations a thread. Where threads take locks and give up, there must be a bound: who does so for ever
    /// fills a link without end.
    #[must_use]
    pub fn operations(self, operations: u8) -> Plan {
        Plan { operations: Some(operations), ..self }
    }

    /// With a death of one node, whichever it is.
    #[must_use]
    pub fn any_may_die(self) -> Plan {
        Plan { mortal: (0..self.nodes).map(NodeId::new).collect(), ..self }
    }

    /// With a fault in every engine.
    #[must_use]
    pub fn planted(self, fault: Planted) -> Plan {
        Plan { planted: Some(fault), ..self }
    }

    /// The name of the lock with this index: the first number whose home is the one asked for, another for each index.
    pub(super) fn lock(&self, index: usize) -> LockId {
        let home = self.locks[index];
        let fitting =
            (index as u64..).step_by(LOCKS).map(LockId).find(|lock| lock_home(*lock, self.nodes) == home);
        fitting.expect("a hash of all numbers meets every home")
    }

    /// Threads of the whole mesh: so many make the barrier full.
    pub(super) fn participants(&self) -> u32 {
        self.nodes as u32 * self.threads as u32
    }

    /// # Panics
    /// When it is larger than the checker's tables.
    pub(super) fn check(&self) {
        assert!((2..=NODES).contains(&(self.nodes as usize)), "{self:?}: 2 to {NODES} nodes");
        assert!((1..=THREADS).contains(&self.threads), "{self:?}: 1 to {THREADS} threads");
        assert!((1..=PAGES as u64).contains(&self.pages), "{self:?}: 1 to {PAGES} pages");
        assert!(self.locks.len() <= LOCKS, "{self:?}: at most {LOCKS} locks");
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { nodes, threads, pages, locks, mortal, .. } = self;
        write!(f, "{nodes} nodes x {pages} {}", plural(*pages, "page"))?;
        if *threads > 1 {
            write!(f, ", {threads} threads each")?;
        }
        write!(
            f,
            ", {}",
            match self.protocol {
                Protocol::Migration => "migration",
                _ => "write-invalidate",
            }
        )?;
        match self.placement {
            Placement::Cyclic => write!(f, ", cyclic")?,
            Placement::Block => write!(f, ", block")?,
            Placement::Single(home) => write!(f, ", all at {home:?}")?,
            _ => write!(f, ", first-touch")?,
        }
        if !locks.is_empty() {
            write!(f, ", {} {}", locks.len(), plural(locks.len() as u64, "lock"))?;
        }
        for (has, what) in [
            (self.barrier, if self.nodes > self.barrier_fan { "barrier in a tree" } else { "barrier" }),
            (self.prefetch, "prefetch"),
            (self.atomics, "atomic operations"),
            (self.hints, "hints"),
            (self.cancel, "giving up"),
            (!self.evict, "no evictions"),
        ] {
            if has {
                write!(f, ", {what}")?;
            }
        }
        if !mortal.is_empty() {
            write!(f, ", a death")?;
        }
        if let Some(operations) = self.operations {
            write!(f, ", {operations} {} a thread", plural(operations as u64, "operation"))?;
        }
        match self.planted {
            Some(fault) => write!(f, ", with {fault:?}"),
            None => Ok(()),
        }
    }
}

pub(super) fn plural(count: u64, one: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{one}s") }
}

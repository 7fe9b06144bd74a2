//! Locks and barriers between threads of all nodes.

use crate::SyncError;
use crate::runtime::Runtime;
use pagemesh_protocol::{BarrierId, LockId, Ticket};
use std::fmt;
use std::sync::Arc;

/// A mutual-exclusion lock, named by a number: the same number is the same lock on every node. It needs no creation.
///
/// Takers wait in the order in which their requests reach the lock's home. A thread that takes a lock that it holds waits for
/// itself until the time runs out.
#[derive(Clone)]
pub struct Lock {
    runtime: Arc<Runtime>,
    id: LockId,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({})", self.id.0)
    }
}

impl Lock {
    pub(crate) fn new(runtime: Arc<Runtime>, id: u64) -> Lock {
        Lock { runtime, id: LockId(id) }
    }

    /// Waits until no other thread on any node holds the lock, and holds it until the guard is dropped.
    ///
    /// # Errors
    /// When the lock's home is gone, its holder died, or the configured wait ran out. Then the lock is not held.
    pub fn acquire(&self) -> Result<LockGuard, SyncError> {
        let ticket = self.runtime.lock(self.id)?;
        Ok(LockGuard { lock: self.clone(), ticket })
    }
}

/// Holds a [`Lock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct LockGuard {
    lock: Lock,
    ticket: Ticket,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.lock.runtime.unlock(self.lock.id, self.ticket);
    }
}

/// A point that threads leave only when all have arrived. Named by a number, in a name space of its own; it can be used again at
/// once.
#[derive(Clone)]
pub struct Barrier {
    runtime: Arc<Runtime>,
    id: BarrierId,
    participants: u32,
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Barrier({} of {})", self.id.0, self.participants)
    }
}

impl Barrier {
    pub(crate) fn new(runtime: Arc<Runtime>, id: u64, participants: u32) -> Barrier {
        assert!(participants > 0, "a barrier has at least one participant");
        Barrier { runtime, id: BarrierId(id), participants }
    }

    /// Waits until all participants are here.
    ///
    /// # Errors
    /// When a node is gone without which they cannot all come, when others gave another number of participants, or when the
    /// configured wait ran out.
    pub fn wait(&self) -> Result<(), SyncError> {
        self.runtime.barrier(self.id, self.participants)
    }
}

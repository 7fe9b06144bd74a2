//! Locks and barriers between threads of all nodes.

use crate::runtime::{Held, Runtime};
use crate::shared::lock_name;
use crate::{Departure, SyncError};
use pagemesh_protocol::{BarrierId, LockId, Ticket};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A mutual-exclusion lock, named by a number: the same number is the same lock on every node. It needs no creation.
///
/// The lock stays on the node that used it last: taking it again there sends nothing. Nodes have it in the order in which their
/// requests reach the lock's home, threads of one node in the order in which they came; a node that waits has it before
/// threads of the other that came later. A thread that takes a lock that it holds waits for itself until the time runs out.
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
        let guard = self.guard(self.runtime.lock(self.id, None)?);
        match guard.left_by {
            None => Ok(guard),
            Some(Departure { node, how }) => {
                Err(SyncError::OwnerDied { what: lock_name("lock", self.id.0), node, how })
            }
        }
    }

    /// As [`acquire`](Lock::acquire), for callers that can mend what a dead holder left behind: the lock is then held all the
    /// same, and [`LockGuard::left_by`] tells whose it was. Waits at most `timeout`, by default as long as is configured.
    ///
    /// # Errors
    /// When the lock's home is gone or the time ran out. Then the lock is not held.
    pub fn inherit(&self, timeout: Option<Duration>) -> Result<LockGuard, SyncError> {
        Ok(self.guard(self.runtime.lock(self.id, timeout)?))
    }

    /// As [`inherit`](Lock::inherit), but does not wait for another holder: `None` when there is one.
    ///
    /// # Errors
    /// When the lock's home is gone or does not answer.
    pub fn try_inherit(&self) -> Result<Option<LockGuard>, SyncError> {
        Ok(self.runtime.try_lock(self.id)?.map(|held| self.guard(held)))
    }

    pub(crate) fn guard(&self, held: Held) -> LockGuard {
        LockGuard { lock: self.clone(), left_by: held.left_by, held: Some(held.ticket) }
    }

    pub(crate) fn id(&self) -> LockId {
        self.id
    }
}

/// Holds a [`Lock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct LockGuard {
    lock: Lock,
    left_by: Option<Departure>,
    /// What proves it, until it is given back.
    held: Option<Ticket>,
}

impl LockGuard {
    /// The node that was lost while it held the lock, if this guard's holder is the first since: what the lock protects may be half
    /// written.
    pub fn left_by(&self) -> Option<Departure> {
        self.left_by
    }

    /// The lock, which stays held, and what proves it.
    pub(crate) fn into_parts(mut self) -> (Lock, Ticket) {
        let held = self.held.take().expect("a guard that was not dropped holds its lock");
        (self.lock.clone(), held)
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.lock.runtime.unlock(self.lock.id, held);
        }
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
        Barrier { runtime, id: BarrierId(id), participants }
    }

    /// Waits until all participants are here.
    ///
    /// # Errors
    /// When a node is gone without which they cannot all come, when others gave another number of participants, when that is
    /// none, or when the configured wait ran out.
    pub fn wait(&self) -> Result<(), SyncError> {
        self.meet(None)
    }

    /// As [`wait`](Barrier::wait), at most `timeout`. Who gave up does not count as having arrived.
    ///
    /// # Errors
    /// As for [`wait`](Barrier::wait).
    pub fn wait_within(&self, timeout: Duration) -> Result<(), SyncError> {
        self.meet(Some(timeout))
    }

    fn meet(&self, timeout: Option<Duration>) -> Result<(), SyncError> {
        if self.participants == 0 {
            let bound = "it was asked for with no participants; ask for one at least";
            return Err(SyncError::Limit { what: format!("barrier {}", self.id.0), bound });
        }
        self.runtime.barrier(self.id, self.participants, timeout)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Mesh};

    #[test]
    fn a_barrier_of_none_is_refused_and_one_of_one_opens() {
        let mesh = Mesh::join(Config::single()).unwrap();
        let text = mesh.barrier_of(7, 0).wait().unwrap_err().to_string();
        assert_eq!(text, "barrier 7: it was asked for with no participants; ask for one at least");
        mesh.barrier_of(7, 1).wait().unwrap();
    }
}

//! Locks that many readers can have at a time.

use crate::runtime::{Held, Runtime};
use crate::{Access, Departure, SyncError};
use pagemesh_protocol::RwLockId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A lock that one writer or any number of readers of all nodes hold at a time, named by a number in a name space of its own: the same
/// number is the same lock on every node. It needs no creation.
///
/// Readers and writers stand in one line, in the order in which their requests reach the lock's home: readers that keep coming do not
/// keep a writer out, and neither do writers a reader. So a thread that holds the lock must not ask for it again, not even for
/// reading: with a writer in line it would wait for itself until the time runs out.
///
/// The lock stays with the nodes that took it, until somebody wants it who cannot have it beside them: readers on any number of nodes
/// take it again and give it back without a message, and so do writers and readers of one node alone.
#[derive(Clone)]
pub struct ReadWriteLock {
    runtime: Arc<Runtime>,
    id: RwLockId,
}

impl fmt::Debug for ReadWriteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadWriteLock({})", self.id.0)
    }
}

impl ReadWriteLock {
    pub(crate) fn new(runtime: Arc<Runtime>, id: u64) -> ReadWriteLock {
        ReadWriteLock { runtime, id: RwLockId(id) }
    }

    /// Waits until the lock can be had for `access`, at most `timeout`, by default as long as is configured.
    ///
    /// When a node died that was writing, or to which the lock had been left for that, everyone who gets the lock is told by [`ReadWriteGuard::left_by`], up to and with the
    /// next writer, who can mend what was left half written.
    ///
    /// # Errors
    /// When the lock's home is gone, has too many locks in use, or the time ran out. Then the lock is not held.
    pub fn acquire(&self, access: Access, timeout: Option<Duration>) -> Result<ReadWriteGuard, SyncError> {
        Ok(self.guard(access, self.runtime.rw_lock(self.id, access, timeout)?))
    }

    /// As [`acquire`](ReadWriteLock::acquire), but does not wait for others: `None` when it would have to. A writer that waits is in a
    /// reader's way too.
    ///
    /// # Errors
    /// When the lock's home is gone, has too many locks in use, or does not answer.
    pub fn try_acquire(&self, access: Access) -> Result<Option<ReadWriteGuard>, SyncError> {
        Ok(self.runtime.try_rw_lock(self.id, access)?.map(|held| self.guard(access, held)))
    }

    fn guard(&self, access: Access, held: Held) -> ReadWriteGuard {
        ReadWriteGuard { lock: self.clone(), access, held }
    }
}

/// Holds a [`ReadWriteLock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct ReadWriteGuard {
    lock: ReadWriteLock,
    access: Access,
    held: Held,
}

impl ReadWriteGuard {
    /// What it is held for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The node that was lost while it wrote under the lock, if no writer had it since: what the lock protects may be half written.
    pub fn left_by(&self) -> Option<Departure> {
        self.held.left_by
    }
}

impl Drop for ReadWriteGuard {
    fn drop(&mut self) {
        self.lock.runtime.rw_unlock(self.lock.id, self.held.ticket);
    }
}

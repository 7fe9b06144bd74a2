//! Condition variables.

use crate::runtime::{Runtime, Woken};
use crate::{LockGuard, SyncError};
use pagemesh_protocol::ConditionId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A place where threads of all nodes wait for a signal without the lock that they hold, named by a number in a name space of its
/// own. It needs no creation.
///
/// A thread that waits stands in the queue before anyone else can have its lock: who takes the lock after it and signals wakes it. It
/// has the lock again before it goes on. As with the standard library's, a wait may end although nobody meant it: look again at
/// what was waited for.
///
/// ```
/// use pagemesh::{Config, Mesh};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let (lock, condvar) = (mesh.lock(1), mesh.condvar(1));
/// let guard = lock.acquire()?;
/// condvar.notify_one()?;
/// // Nobody signals any more.
/// let failed = condvar.wait_lock(guard, Some(Duration::from_millis(5))).unwrap_err();
/// assert!(failed.timed_out());
/// let _guard = failed.into_guard().expect("it has the lock again");
/// assert!(lock.try_inherit()?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Condvar {
    runtime: Arc<Runtime>,
    id: ConditionId,
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condvar({})", self.id.0)
    }
}

impl Condvar {
    pub(crate) fn new(runtime: Arc<Runtime>, id: u64) -> Condvar {
        Condvar { runtime, id: ConditionId(id) }
    }

    /// Gives the lock back, waits for a signal, at most `timeout`, by default as long as is configured, and takes the lock again.
    /// When its holder died meanwhile, [`LockGuard::left_by`] tells.
    ///
    /// # Errors
    /// When the time ran out, or the condition's or the lock's home is gone. The error has the lock, if that could be had again.
    pub fn wait_lock(&self, guard: LockGuard, timeout: Option<Duration>) -> Result<LockGuard, WaitError> {
        let (lock, held) = guard.into_parts();
        let Woken { failed, held } = self.runtime.condition_wait(self.id, (lock.id(), held), timeout);
        let guard = held.map(|held| lock.guard(held));
        match (failed, guard) {
            (None, Some(guard)) => Ok(guard),
            (error, guard) => {
                let closed = || SyncError::Closed { what: format!("condition {}", self.id.0) };
                Err(WaitError { error: error.unwrap_or_else(closed), guard })
            }
        }
    }

    /// Wakes the thread that has waited longest, if one waits.
    ///
    /// # Errors
    /// When the condition's home is gone, or this node has left.
    pub fn notify_one(&self) -> Result<(), SyncError> {
        self.runtime.notify(self.id, false)
    }

    /// Wakes all threads that wait.
    ///
    /// # Errors
    /// When the condition's home is gone, or this node has left.
    pub fn notify_all(&self) -> Result<(), SyncError> {
        self.runtime.notify(self.id, true)
    }
}

/// Why a wait for a signal ended without one.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct WaitError {
    error: SyncError,
    guard: Option<LockGuard>,
}

impl WaitError {
    /// Why.
    pub fn error(&self) -> &SyncError {
        &self.error
    }

    /// Whether it is only that the time ran out.
    pub fn timed_out(&self) -> bool {
        matches!(self.error, SyncError::TimedOut { .. }) && self.guard.is_some()
    }

    /// The lock, which is held again; `None` when it cannot be had any more.
    pub fn into_guard(self) -> Option<LockGuard> {
        self.guard
    }

    /// Both.
    pub fn into_parts(self) -> (SyncError, Option<LockGuard>) {
        (self.error, self.guard)
    }
}

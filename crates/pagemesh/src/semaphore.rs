//! Counting semaphores.

use crate::SyncError;
use crate::runtime::Runtime;
use pagemesh_protocol::SemaphoreId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Units that threads of all nodes take and give, named by a number in a name space of its own. It needs no creation, and has no units
/// until somebody gives it some.
///
/// Takers wait in the order in which their requests reach the semaphore's home. Units have no owners: those that a dead node had taken
/// do not come back.
#[derive(Clone)]
pub struct Semaphore {
    runtime: Arc<Runtime>,
    id: SemaphoreId,
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Semaphore({})", self.id.0)
    }
}

impl Semaphore {
    pub(crate) fn new(runtime: Arc<Runtime>, id: u64) -> Semaphore {
        Semaphore { runtime, id: SemaphoreId(id) }
    }

    /// Gives it `units` units, at most 2^31 - 1, once in the life of the mesh: every node may say so, and the first to come counts. Units that
    /// were posted before are there too.
    ///
    /// # Errors
    /// When it was given another number before, when there would be too many units, or when its home is gone, has no room, or does
    /// not answer.
    pub fn init(&self, units: u32) -> Result<(), SyncError> {
        if units > pagemesh_protocol::limits::SEMAPHORE_UNITS {
            let (what, bound) =
                (format!("semaphore {}", self.id.0), "a semaphore has at most 2^31 - 1 units");
            return Err(SyncError::Limit { what, bound });
        }
        self.runtime.semaphore_init(self.id, units)
    }

    /// Waits for a unit and takes it; waits at most `timeout`, by default as long as is configured.
    ///
    /// # Errors
    /// When its home is gone or has no room, or the time ran out. Then no unit was taken.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<(), SyncError> {
        self.runtime.semaphore_wait(self.id, timeout)
    }

    /// Takes a unit if there is one; false when there is none.
    ///
    /// # Errors
    /// When its home is gone or does not answer.
    pub fn try_wait(&self) -> Result<bool, SyncError> {
        self.runtime.semaphore_try(self.id)
    }

    /// Gives a unit. What this thread did before is seen by whoever takes it.
    ///
    /// # Errors
    /// When its home is gone, has no room, or does not answer, and when there would be too many units. After a
    /// [`SyncError::TimedOut`] the unit may be there or not.
    pub fn post(&self) -> Result<(), SyncError> {
        self.runtime.semaphore_post(self.id)
    }
}

//! Reader-writer locks, semaphores and condition variables: calls that wait for other threads of the mesh.

use super::calls::Call;
use super::{CallFailure, Held, Runtime};
use crate::SyncError;
use crate::config::FOREVER;
use crate::holders::Awaited;
use crate::shared::lock_name;
use crate::stats::count;
use pagemesh_protocol::{
    Access, ConditionId, Failure, LockId, Outcome, RwLockId, SemaphoreId, SyncObject, Ticket,
};
use std::time::{Duration, Instant};

/// How a wait for a signal ended, and what became of the lock.
#[derive(Debug)]
pub(crate) struct Woken {
    /// Why it ended without a signal.
    pub(crate) failed: Option<SyncError>,
    /// The lock, unless it cannot be had again.
    pub(crate) held: Option<Held>,
}

fn about_rw(id: RwLockId) -> String {
    lock_name("reader-writer lock", id.0)
}

fn about_semaphore(id: SemaphoreId) -> String {
    format!("semaphore {}", id.0)
}

fn about_condition(id: ConditionId) -> String {
    format!("condition {}", id.0)
}

impl Runtime {
    /// Waits for the lock, by default as long as is configured.
    pub(crate) fn rw_lock(
        &self,
        id: RwLockId,
        access: Access,
        timeout: Option<Duration>,
    ) -> Result<Held, SyncError> {
        if let Some(held) = self.rw_retake(id, access) {
            return Ok(held);
        }
        let mut held = Ticket::new(0, 0);
        let timeout = timeout.unwrap_or(self.wait_timeout);
        let got = self.call_for(SyncObject::RwLock(id), timeout, |engine, ticket, out| {
            held = ticket;
            engine.on_rw_acquire(ticket, id, access, true, out);
        });
        self.rw_held((id, access), held, got)
    }

    /// Takes the lock if nobody is in the way; `None` when somebody is.
    pub(crate) fn try_rw_lock(&self, id: RwLockId, access: Access) -> Result<Option<Held>, SyncError> {
        if let Some(held) = self.rw_retake(id, access) {
            return Ok(Some(held));
        }
        let mut held = Ticket::new(0, 0);
        let got = self.call(self.fault_timeout, |engine, ticket, out| {
            held = ticket;
            engine.on_rw_acquire(ticket, id, access, false, out);
        });
        match got {
            Err(CallFailure::Failed(Failure::Busy)) => Ok(None),
            got => self.rw_held((id, access), held, got).map(Some),
        }
    }

    fn rw_held(
        &self,
        (id, access): (RwLockId, Access),
        ticket: Ticket,
        got: Result<Outcome, CallFailure>,
    ) -> Result<Held, SyncError> {
        let object = SyncObject::RwLock(id);
        let held = self.held(|| (about_rw(id), object, Awaited::Shared), ticket, got)?;
        self.hold_begins(object, access, ticket);
        Ok(held)
    }

    /// Takes a lock that is left with this node, if nobody is in the way.
    fn rw_retake(&self, id: RwLockId, access: Access) -> Option<Held> {
        let ticket = self.retake_object(SyncObject::RwLock(id), access, |engine, ticket| {
            engine.on_rw_retake(ticket, id, access)
        })?;
        count(&self.counters.lock_acquires);
        Some(Held { ticket, left_by: None })
    }

    pub(crate) fn rw_unlock(&self, id: RwLockId, ticket: Ticket) {
        let object = SyncObject::RwLock(id);
        if self.keep_object(object, ticket, |engine| engine.on_rw_keep(ticket, id)) {
            return;
        }
        self.wait_room(Instant::now() + self.fault_timeout);
        if self.event(|engine, out| engine.on_rw_release(ticket, id, out)).is_some() {
            self.hold_ends(object, ticket);
            self.switch.flush();
        }
    }

    pub(crate) fn semaphore_init(&self, id: SemaphoreId, value: u32) -> Result<(), SyncError> {
        let answer = self.call(self.fault_timeout, |engine, ticket, out| {
            engine.on_semaphore_init(ticket, id, value, out);
        });
        self.answered(about_semaphore(id), answer).map_err(|error| match error {
            SyncError::SemaphoreMismatch { what, first, .. } => {
                SyncError::SemaphoreMismatch { what, first, this: value }
            }
            other => other,
        })
    }

    pub(crate) fn semaphore_post(&self, id: SemaphoreId) -> Result<(), SyncError> {
        let answer =
            self.call(self.fault_timeout, |engine, ticket, out| engine.on_semaphore_post(ticket, id, out));
        self.answered(about_semaphore(id), answer)
    }

    /// Waits for a unit, by default as long as is configured.
    pub(crate) fn semaphore_wait(&self, id: SemaphoreId, timeout: Option<Duration>) -> Result<(), SyncError> {
        let (object, timeout) = (SyncObject::Semaphore(id), timeout.unwrap_or(self.wait_timeout));
        let answer = self.call_for(object, timeout, |engine, ticket, out| {
            engine.on_semaphore_wait(ticket, id, true, out);
        });
        answer
            .map(|_| ())
            .map_err(|failed| self.wait_failed(failed, (about_semaphore(id), object, Awaited::Unit)))
    }

    /// Takes a unit if there is one; false when there is none.
    pub(crate) fn semaphore_try(&self, id: SemaphoreId) -> Result<bool, SyncError> {
        let answer = self.call(self.fault_timeout, |engine, ticket, out| {
            engine.on_semaphore_wait(ticket, id, false, out);
        });
        match answer {
            Err(CallFailure::Failed(Failure::Busy)) => Ok(false),
            answer => self.answered(about_semaphore(id), answer).map(|()| true),
        }
    }

    fn answered(&self, what: String, answer: Result<Outcome, CallFailure>) -> Result<(), SyncError> {
        answer.map(|_| ()).map_err(|failed| failed.into_sync_error(self, what))
    }

    pub(crate) fn notify(&self, id: ConditionId, all: bool) -> Result<(), SyncError> {
        self.wait_room(Instant::now() + self.fault_timeout);
        let notified = self.event(|engine, out| engine.on_condition_notify(id, all, out));
        if notified.is_some() {
            self.switch.flush();
        }
        let failed = match notified {
            Some(Ok(())) => return Ok(()),
            Some(Err(failure)) => CallFailure::Failed(failure),
            None => CallFailure::Closed,
        };
        Err(failed.into_sync_error(self, about_condition(id)))
    }

    /// Gives back `lock`, which is held under `held`, waits for a signal, by default as long as is configured, and takes the lock again,
    /// for which it waits as long as is configured.
    pub(crate) fn condition_wait(
        &self,
        id: ConditionId,
        (lock, held): (LockId, Ticket),
        timeout: Option<Duration>,
    ) -> Woken {
        let timeout = timeout.unwrap_or(self.wait_timeout);
        let deadline = Instant::now() + timeout.min(FOREVER);
        self.wait_room(deadline);
        let fails = |failed: CallFailure| Some(failed.into_sync_error(self, about_condition(id)));
        let Some(call) = self.calls.claim(deadline) else {
            // The lock was never given back.
            let held = Some(Held { ticket: held, left_by: None });
            return Woken { failed: fails(CallFailure::TimedOut(timeout)), held };
        };
        let ticket = call.ticket();
        if self.event(|engine, out| engine.on_condition_wait(ticket, id, (lock, held), out)).is_none() {
            return Woken { failed: fails(CallFailure::Closed), held: None };
        }
        self.hold_is_lent(SyncObject::Lock(lock), held);
        let signalled = self.await_signal(&call, deadline);
        self.hold_ends(SyncObject::Lock(lock), held);
        let failed = match signalled {
            Ok(outcome) => {
                let held = self.lock_held(lock, ticket, Ok(outcome)).ok();
                return Woken { failed: None, held };
            }
            Err(CallFailure::Failed(Failure::NotSignalled)) => CallFailure::TimedOut(timeout),
            Err(failed) => failed,
        };
        drop(call);
        Woken { failed: fails(failed), held: self.lock(lock, None).ok() }
    }

    /// Waits until the call was signalled and has its lock again. After the deadline it waits only for the answer whether
    /// it was signalled and, if so, for the lock.
    fn await_signal(&self, call: &Call<'_>, deadline: Instant) -> Result<Outcome, CallFailure> {
        if self.wait(call, deadline) {
            return call.take_result();
        }
        self.event(|engine, out| engine.on_condition_give_up(call.ticket(), out));
        self.finish_call(call, Instant::now() + self.wait_timeout, self.wait_timeout)
    }
}

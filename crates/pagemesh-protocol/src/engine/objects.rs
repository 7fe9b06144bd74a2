//! Reader-writer locks, semaphores and condition variables, as the application calls them and as their messages arrive.

use super::tickets::Wait;
use super::{Engine, Handled, barrier_home, lock_home, sync_home};
use crate::action::{Actions, Failure, Outcome};
use crate::ids::{Access, ConditionId, LockId, NodeId, RwLockId, SemaphoreId, Ticket};
use crate::message::Message;

impl Engine {
    /// A thread wants a reader-writer lock, for reading with others or for writing alone; `ticket` completes when it has it, and
    /// proves it from then on. With `waits` false, and others in the way, it completes with [`Failure::Busy`].
    pub fn on_rw_acquire(
        &mut self,
        ticket: Ticket,
        lock: RwLockId,
        access: Access,
        waits: bool,
        out: &mut Actions,
    ) {
        self.rw_acquire(ticket, lock, access, waits, out);
        self.settle(out);
    }

    /// A thread gives back the reader-writer lock that it was granted under `ticket`.
    pub fn on_rw_release(&mut self, ticket: Ticket, lock: RwLockId, out: &mut Actions) {
        self.rw_release(ticket, lock, out);
        self.settle(out);
    }

    /// As [`on_rw_acquire`](Engine::on_rw_acquire), for a lock that is left with this node and that nobody is in the way of: true, and the lock is
    /// held under `ticket`, which needs not be one of a call. There is nothing to perform. False when it takes more than that, and
    /// nothing has changed.
    pub fn on_rw_retake(&mut self, ticket: Ticket, lock: RwLockId, access: Access) -> bool {
        self.retake_rwlock(ticket, lock, access)
    }

    /// As [`on_rw_release`](Engine::on_rw_release), for a lock that is left with this node and that no call of it waits for: true. There is
    /// nothing to perform. False for any other, and nothing has changed.
    pub fn on_rw_keep(&mut self, ticket: Ticket, lock: RwLockId) -> bool {
        self.keep_rwlock(ticket, lock)
    }

    /// Gives a semaphore its first units, at most [`limits::SEMAPHORE_UNITS`](crate::limits::SEMAPHORE_UNITS); the second time
    /// the same value changes nothing, and another is [`Failure::SemaphoreMismatch`].
    pub fn on_semaphore_init(
        &mut self,
        ticket: Ticket,
        semaphore: SemaphoreId,
        value: u32,
        out: &mut Actions,
    ) {
        self.semaphore_add(ticket, semaphore, Some(value), out);
        self.settle(out);
    }

    /// A thread wants a unit of a semaphore; `ticket` completes when it has one. With `waits` false, and none there, it
    /// completes with [`Failure::Busy`].
    pub fn on_semaphore_wait(
        &mut self,
        ticket: Ticket,
        semaphore: SemaphoreId,
        waits: bool,
        out: &mut Actions,
    ) {
        self.semaphore_wait(ticket, semaphore, waits, out);
        self.settle(out);
    }

    /// Adds one unit to a semaphore; `ticket` completes when it is there.
    pub fn on_semaphore_post(&mut self, ticket: Ticket, semaphore: SemaphoreId, out: &mut Actions) {
        self.semaphore_add(ticket, semaphore, None, out);
        self.settle(out);
    }

    /// A thread that holds `lock` under the ticket `held` gives it back and waits for a signal; `ticket` completes when it was
    /// signalled and has the lock again, under `ticket`. Whenever it fails, the lock is not held.
    pub fn on_condition_wait(
        &mut self,
        ticket: Ticket,
        condition: ConditionId,
        (lock, held): (LockId, Ticket),
        out: &mut Actions,
    ) {
        self.condition_wait(ticket, condition, (lock, held), out);
        self.settle(out);
    }

    /// The time of such a call is over. It completes soon: with [`Failure::NotSignalled`], or as one that was signalled.
    pub fn on_condition_give_up(&mut self, ticket: Ticket, out: &mut Actions) {
        self.condition_give_up(ticket, out);
        self.settle(out);
    }

    /// Wakes who has waited longest for a signal of `condition` or, with `all`, everyone who waits.
    ///
    /// # Errors
    /// When the condition's home is lost.
    pub fn on_condition_notify(
        &mut self,
        condition: ConditionId,
        all: bool,
        out: &mut Actions,
    ) -> Result<(), Failure> {
        let notified = self.condition_notify(condition, all, out);
        self.settle(out);
        notified
    }

    /// What this call waits for, if that is the lock.
    fn rw_wait(&self, lock: RwLockId, ticket: Ticket) -> Wait {
        let wait = self.tickets.wait(ticket);
        if matches!(wait, Wait::RwLock { lock: wanted, .. } if wanted == lock) { wait } else { Wait::Idle }
    }

    /// The node that answers a call which waits for an object of synchronisation.
    pub(super) fn home_of_wait(&self, wait: Wait) -> Option<NodeId> {
        let nodes = self.config.nodes;
        match wait {
            Wait::Lock(lock) => Some(lock_home(lock, nodes)),
            Wait::Barrier(barrier) => Some(barrier_home(barrier, nodes)),
            Wait::RwLock { lock, .. } => Some(sync_home(lock.0, nodes)),
            Wait::Semaphore(semaphore) | Wait::SemaphoreAnswer(semaphore) => {
                Some(sync_home(semaphore.0, nodes))
            }
            Wait::Condition(wait) => Some(sync_home(wait.condition.0, nodes)),
            Wait::Range { range, .. } => self.master(range.region),
            _ => None,
        }
    }

    /// A home has no room for one more object.
    pub(super) fn sync_refused(&mut self, from: NodeId, ticket: Ticket, out: &mut Actions) -> Handled {
        if self.lock_refused(from, ticket, out) {
            return Ok(());
        }
        let wait = self.tickets.wait(ticket);
        let Some(home) = self.home_of_wait(wait) else { return Ok(()) };
        let failure = Failure::Limit(match wait {
            Wait::Range { .. } => "too many ranges are locked at one master",
            _ => "too many locks or barriers in use at one home",
        });
        match wait {
            Wait::Condition(wait) if from == home => {
                self.fail_condition_wait(ticket, wait, failure, out);
                Ok(())
            }
            wait => self.conclude(from, Some(home), ticket, wait, Outcome::Failed(failure), out),
        }
    }

    pub(super) fn handle_object(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        let nodes = self.config.nodes;
        match *message {
            Message::RwAcquire { lock, ticket, access, waits } => {
                self.rw_wanted(from, lock, (ticket, access), waits, out)
            }
            Message::RwGrant { lock, ticket, died } => self.rw_granted(lock, ticket, died, out),
            Message::RwBusy { lock, ticket } => {
                let (home, outcome) = (sync_home(lock.0, nodes), Outcome::Failed(Failure::Busy));
                let wait = self.rw_wait(lock, ticket);
                self.conclude(from, Some(home), ticket, wait, outcome, out)
            }
            Message::RwRelease { lock, ticket } => self.rw_released(from, lock, ticket, out),
            Message::RwLeave { lock, access, .. } => self.rw_left(from, lock, access, out),
            Message::RwRecall { lock, next } => self.rw_recalled(from, lock, next, out),
            Message::RwHold { lock, ticket, access } => self.rw_hold(from, lock, ticket, access),
            Message::RwYield { lock, next } => self.rw_yielded(from, lock, next, out),
            Message::RwHandOver { lock, ticket, step } => self.rw_hand_over(from, lock, ticket, step, out),
            Message::SemaphoreInit { semaphore, ticket, value } => {
                self.semaphore_initialised(from, semaphore, ticket, value, out)
            }
            Message::SemaphoreWait { semaphore, ticket, waits } => {
                self.semaphore_wanted(from, semaphore, ticket, waits, out)
            }
            Message::SemaphoreGrant { semaphore, ticket } => {
                self.semaphore_granted(from, semaphore, ticket, out)
            }
            Message::SemaphoreBusy { semaphore, ticket } => {
                let (home, outcome) = (sync_home(semaphore.0, nodes), Outcome::Failed(Failure::Busy));
                self.conclude(from, Some(home), ticket, Wait::Semaphore(semaphore), outcome, out)
            }
            Message::SemaphoreCancel { semaphore, ticket } => {
                self.semaphore_cancelled(from, semaphore, ticket, out)
            }
            Message::SemaphorePost { semaphore, ticket } => {
                self.semaphore_posted(from, semaphore, ticket, out)
            }
            Message::SemaphoreReturn { semaphore } => self.semaphore_returned(semaphore, out),
            Message::SemaphoreDone { semaphore, ticket } => {
                self.semaphore_answered(from, semaphore, ticket, Outcome::Done, out)
            }
            Message::SemaphoreMismatch { semaphore, ticket, first } => {
                let outcome = Outcome::Failed(Failure::SemaphoreMismatch { first });
                self.semaphore_answered(from, semaphore, ticket, outcome, out)
            }
            Message::SemaphoreFull { semaphore, ticket } => {
                let outcome = Outcome::Failed(Failure::Limit("a semaphore has at most 2^31 - 1 units"));
                self.semaphore_answered(from, semaphore, ticket, outcome, out)
            }
            _ => self.handle_condition(from, message, out),
        }
    }

    fn handle_condition(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        match *message {
            Message::ConditionWait { condition, ticket } => {
                self.condition_wanted(from, condition, ticket, out)
            }
            Message::ConditionQueued { condition, ticket } => {
                self.condition_queued(from, condition, ticket, out)
            }
            Message::ConditionSignal { condition, all } => self.condition_signalled(condition, all, out),
            Message::ConditionWoken { condition, ticket } => {
                self.condition_woken(from, condition, ticket, out)
            }
            Message::ConditionCancel { condition, ticket } => {
                self.condition_cancelled(from, condition, ticket, out)
            }
            Message::ConditionWithdrawn { condition, ticket } => {
                self.condition_withdrawn(from, condition, ticket, out)
            }
            _ => self.handle_range(from, message, out),
        }
    }
}

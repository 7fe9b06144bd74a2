//! Condition variables: a queue at each one's home, first come, first woken.
//!
//! A wait is one call of the engine that goes from home to home: the caller stands in the condition's queue before it gives
//! the lock back, so that whoever takes the lock after it, changes something and signals finds it there:
//!
//! | step | message |
//! |---|---|
//! | 1 | ConditionWait to the condition's home, which queues the call |
//! | 2 | ConditionQueued from there |
//! | 3 | none, or what giving the lock back takes (`tokens.rs`) |
//! | 4 | ConditionWoken, when it is signalled |
//! | 5 | none, or what taking the lock takes: the call is over and holds the lock |
//!
//! A call whose time is over says ConditionCancel and waits for what comes: ConditionWithdrawn, or the ConditionWoken that
//! crossed it. So no signal is lost on a call that gave up. One that finds nobody at the node goes back as a signal, for the next in
//! the queue. However a call fails, it does not hold the lock then: its caller takes it again by a call of its own.

use super::locks::{Caller, NumberMap, TOO_MANY_CALLS};
use super::planted::Planted;
use super::queue::{Arena, Queue};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, lock_home, sync_home};
use crate::action::{Actions, Failure};
use crate::ids::{ConditionId, LockId, NodeId, Ticket};
use crate::limits;
use crate::message::Message;

const NOT_ITS_HOME: &str = "this node is not the home of the condition";
const NOT_FROM_HOME: &str = "it is not the one to answer this";

/// A call that waits for a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct ConditionWait {
    pub(super) condition: ConditionId,
    pub(super) lock: LockId,
    /// What proves that the lock is held.
    held: Ticket,
    /// The lock was given back.
    released: bool,
    /// The call's time is over.
    giving_up: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Conditions {
    bound: usize,
    /// Those that somebody waits for; others take no room.
    used: NumberMap<ConditionId, Queue>,
    queued: Arena<Caller>,
}

impl Conditions {
    pub(super) fn new(config: EngineConfig) -> Conditions {
        let mut used = NumberMap::default();
        used.reserve(config.locks.min(limits::OBJECTS_AT_HAND));
        Conditions { bound: config.locks, used, queued: Arena::with_capacity(config.tickets, config.nodes) }
    }

    /// Conditions that somebody waits for, and calls that wait.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.used.len(), self.queued.len())
    }
}

/// The caller's part.
impl Engine {
    pub(super) fn condition_wait(
        &mut self,
        ticket: Ticket,
        condition: ConditionId,
        (lock, held): (LockId, Ticket),
        out: &mut Actions,
    ) {
        let wait = ConditionWait { condition, lock, held, released: false, giving_up: false };
        self.tickets.begin(ticket, Wait::Condition(wait));
        let home = sync_home(condition.0, self.config.nodes);
        if self.live.contains(home) {
            self.tell_what_is_known(home, out);
            self.send(home, Message::ConditionWait { condition, ticket }, out);
        } else {
            self.fail_condition_wait(ticket, wait, Failure::PeerLost(home), out);
        }
    }

    pub(super) fn condition_notify(
        &mut self,
        condition: ConditionId,
        all: bool,
        out: &mut Actions,
    ) -> Result<(), Failure> {
        let home = sync_home(condition.0, self.config.nodes);
        self.release_interval(out);
        if !self.live.contains(home) {
            return Err(Failure::PeerLost(home));
        }
        self.tell(home, out);
        self.send(home, Message::ConditionSignal { condition, all }, out);
        Ok(())
    }

    /// The call's time is over. It ends all the same only by an answer.
    pub(super) fn condition_give_up(&mut self, ticket: Ticket, out: &mut Actions) {
        if let Wait::Condition(wait) = self.tickets.wait(ticket)
            && !wait.giving_up
        {
            let condition = wait.condition;
            self.change_wait(ticket, ConditionWait { giving_up: true, ..wait });
            let home = sync_home(condition.0, self.config.nodes);
            self.send(home, Message::ConditionCancel { condition, ticket }, out);
        }
    }

    /// Nobody waits under `ticket` any more.
    pub(super) fn abandon_condition_wait(&mut self, ticket: Ticket, wait: ConditionWait, out: &mut Actions) {
        self.condition_give_up(ticket, out);
        self.release_for(wait, out);
    }

    fn change_wait(&mut self, ticket: Ticket, wait: ConditionWait) {
        self.tickets.end(ticket);
        self.tickets.begin(ticket, Wait::Condition(wait));
    }

    fn release_for(&mut self, wait: ConditionWait, out: &mut Actions) {
        if !wait.released {
            self.lock_release(wait.held, wait.lock, out);
        }
    }

    pub(super) fn fail_condition_wait(
        &mut self,
        ticket: Ticket,
        wait: ConditionWait,
        failure: Failure,
        out: &mut Actions,
    ) {
        self.release_for(wait, out);
        self.fail(ticket, failure, out);
    }

    /// What this node's call about `condition` waits for, if it still does.
    fn waits_for(
        &self,
        from: NodeId,
        condition: ConditionId,
        ticket: Ticket,
    ) -> Result<Option<ConditionWait>, &'static str> {
        if sync_home(condition.0, self.config.nodes) != from {
            return Err(NOT_FROM_HOME);
        }
        Ok(match self.tickets.wait(ticket) {
            Wait::Condition(wait) if wait.condition == condition => Some(wait),
            _ => None,
        })
    }

    pub(super) fn condition_queued(
        &mut self,
        from: NodeId,
        condition: ConditionId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        if let Some(wait) = self.waits_for(from, condition, ticket)? {
            self.release_for(wait, out);
            self.change_wait(ticket, ConditionWait { released: true, ..wait });
        }
        Ok(())
    }

    pub(super) fn condition_woken(
        &mut self,
        from: NodeId,
        condition: ConditionId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        match self.waits_for(from, condition, ticket)? {
            Some(wait) => {
                self.drop_written(out);
                self.release_for(wait, out);
                self.tickets.end(ticket);
                self.lock_acquire(ticket, wait.lock, out);
            }
            None => self.send(from, Message::ConditionSignal { condition, all: false }, out),
        }
        Ok(())
    }

    pub(super) fn condition_withdrawn(
        &mut self,
        from: NodeId,
        condition: ConditionId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        if let Some(wait) = self.waits_for(from, condition, ticket)? {
            self.fail_condition_wait(ticket, wait, Failure::NotSignalled, out);
        }
        Ok(())
    }

    /// Fails those whose condition, or whose lock, was at home with the lost node.
    pub(super) fn fail_condition_waits(&mut self, lost: NodeId, out: &mut Actions) {
        let nodes = self.config.nodes;
        let failed: Vec<(Ticket, ConditionWait)> = self
            .tickets
            .waiting()
            .filter_map(|(ticket, wait)| match wait {
                Wait::Condition(wait) => Some((ticket, wait)),
                _ => None,
            })
            .filter(|(_, wait)| {
                lost == sync_home(wait.condition.0, nodes) || lost == lock_home(wait.lock, nodes)
            })
            .collect();
        for (ticket, wait) in failed {
            self.condition_give_up(ticket, out);
            self.fail_condition_wait(ticket, wait, Failure::PeerLost(lost), out);
        }
    }
}

/// The home's part.
impl Engine {
    fn check_condition_here(&self, condition: ConditionId) -> Handled {
        let home = sync_home(condition.0, self.config.nodes);
        if home == self.config.node { Ok(()) } else { Err(NOT_ITS_HOME) }
    }

    pub(super) fn condition_wanted(
        &mut self,
        from: NodeId,
        condition: ConditionId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        self.check_condition_here(condition)?;
        if self.conditions.queued.of(from) >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        }
        let full = self.conditions.used.len() >= self.conditions.bound;
        let answer = if full && !self.conditions.used.contains_key(&condition) {
            Message::SyncRefused { ticket }
        } else {
            let queue = self.conditions.used.entry(condition).or_default();
            self.conditions.queued.push(queue, Caller { node: from, ticket });
            Message::ConditionQueued { condition, ticket }
        };
        self.send(from, answer, out);
        Ok(())
    }

    /// Wakes the first in the queue, or all that are in it now.
    pub(super) fn condition_signalled(
        &mut self,
        condition: ConditionId,
        all: bool,
        out: &mut Actions,
    ) -> Handled {
        self.check_condition_here(condition)?;
        let Some(queue) = self.conditions.used.get(&condition) else { return Ok(()) };
        let mut queue = *queue;
        let mut one_more = self.planted(Planted::WakeTwo);
        while let Some(Caller { node, ticket }) = self.conditions.queued.pop(&mut queue) {
            self.tell(node, out);
            if !self.planted(Planted::LoseSignal) {
                self.send(node, Message::ConditionWoken { condition, ticket }, out);
            }
            if !all && !std::mem::take(&mut one_more) {
                break;
            }
        }
        self.keep_queue(condition, queue);
        Ok(())
    }

    fn keep_queue(&mut self, condition: ConditionId, queue: Queue) {
        if queue.is_empty() {
            self.conditions.used.remove(&condition);
        } else {
            self.conditions.used.insert(condition, queue);
        }
    }

    /// A call gave up. When it is no longer queued, it was woken, and hears of that.
    pub(super) fn condition_cancelled(
        &mut self,
        from: NodeId,
        condition: ConditionId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        self.check_condition_here(condition)?;
        let Some(queue) = self.conditions.used.get(&condition) else { return Ok(()) };
        let (mut queue, caller) = (*queue, Caller { node: from, ticket });
        if self.conditions.queued.remove_where(&mut queue, |waiting| *waiting == caller) > 0 {
            self.send(from, Message::ConditionWithdrawn { condition, ticket }, out);
        }
        self.keep_queue(condition, queue);
        Ok(())
    }

    pub(super) fn mend_conditions(&mut self, lost: NodeId) {
        let all: Vec<(ConditionId, Queue)> =
            self.conditions.used.iter().map(|(condition, queue)| (*condition, *queue)).collect();
        for (condition, mut queue) in all {
            self.conditions.queued.remove_node(&mut queue, lost);
            self.keep_queue(condition, queue);
        }
    }
}

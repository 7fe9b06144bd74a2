//! Mutual-exclusion locks: a queue at each lock's home, first come, first served.
//!
//! A taker asks the home and waits; the home grants, and on release grants to the next. A lock whose holder was lost
//! goes to the next taker together with that news. Who only tries is told that the lock is held instead of being queued.

use super::planted::{Planted, push_first};
use super::queue::{Arena, Queue, Waiter};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, lock_home, scramble};
use crate::action::{Actions, Failure};
use crate::ids::{LockId, NodeId, Ticket};
use crate::limits;
use crate::message::Message;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(super) const TOO_MANY_CALLS: &str = "it has more calls waiting than a node may";

/// Hashes numbers without a random seed, so that a run can be repeated; nothing depends on the order of iteration.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(*byte as u64);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = scramble(self.0 ^ number);
    }
}

/// A map keyed by numbers that allocates nothing before its capacity is reached.
pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// A waiting call of some node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Caller {
    pub(super) node: NodeId,
    pub(super) ticket: Ticket,
}

impl Waiter for Caller {
    fn node(&self) -> NodeId {
        self.node
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Holder {
    Caller(Caller),
    /// Nobody: the holder died, and no taker was told yet.
    Died(NodeId),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lock {
    pub(super) holder: Holder,
    pub(super) queue: Queue,
}

#[derive(Clone, Debug)]
pub(super) struct Locks {
    bound: usize,
    /// Locks that are held, waited for, or left behind by a dead holder; free ones take no room.
    pub(super) used: NumberMap<LockId, Lock>,
    pub(super) queued: Arena<Caller>,
}

impl Locks {
    pub(super) fn new(config: EngineConfig) -> Locks {
        let mut used = NumberMap::default();
        used.reserve(config.locks);
        Locks { bound: config.locks, used, queued: Arena::with_capacity(config.tickets, config.nodes) }
    }

    /// Locks in use, and calls that wait for one.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.used.len(), self.queued.len())
    }
}

impl Engine {
    pub(super) fn lock_acquire(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.ask_for_lock(ticket, lock, Message::LockAcquire { lock, ticket }, out);
    }

    pub(super) fn lock_try(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.ask_for_lock(ticket, lock, Message::LockTry { lock, ticket }, out);
    }

    fn ask_for_lock(&mut self, ticket: Ticket, lock: LockId, question: Message, out: &mut Actions) {
        self.tickets.begin(ticket, Wait::Lock(lock));
        let home = lock_home(lock, self.config.nodes);
        if self.live.contains(home) {
            self.tell_what_is_known(home, out);
            self.send(home, question, out);
        } else {
            self.fail(ticket, Failure::PeerLost(home), out);
        }
    }

    pub(super) fn lock_release(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        let home = lock_home(lock, self.config.nodes);
        self.end_interval(out);
        self.tell(home, out);
        self.send(home, Message::LockRelease { lock, ticket }, out);
    }

    /// Grants the lock to a caller or, with `died`, tells it that its holder died; with what was written before.
    fn grant_lock(&mut self, to: Caller, lock: LockId, died: Option<NodeId>, out: &mut Actions) {
        self.tell(to.node, out);
        self.send(to.node, Message::LockGrant { lock, ticket: to.ticket, died }, out);
    }

    pub(super) fn lock_wanted(
        &mut self,
        from: NodeId,
        lock: LockId,
        ticket: Ticket,
        waits: bool,
        out: &mut Actions,
    ) -> Handled {
        if lock_home(lock, self.config.nodes) != self.config.node {
            return Err("this node is not the home of the lock");
        }
        let caller = Caller { node: from, ticket };
        let full = self.locks.used.len() >= self.locks.bound;
        let twice = self.planted(Planted::DoubleLockGrant);
        let newest_first = self.planted(Planted::LockNewestFirst);
        match self.locks.used.get_mut(&lock) {
            None if full => {
                self.send(from, Message::SyncRefused { ticket }, out);
            }
            None => {
                self.locks
                    .used
                    .insert(lock, Lock { holder: Holder::Caller(caller), queue: Queue::default() });
                self.grant_lock(caller, lock, None, out);
            }
            Some(Lock { holder, .. }) if let Holder::Died(node) = *holder => {
                *holder = Holder::Caller(caller);
                self.grant_lock(caller, lock, Some(node), out);
            }
            Some(_) if !waits => self.send(from, Message::LockBusy { lock, ticket }, out),
            Some(_) if self.locks.queued.of(from) >= limits::TICKETS => return Err(TOO_MANY_CALLS),
            Some(_) if twice => self.send(from, Message::LockGrant { lock, ticket, died: None }, out),
            Some(used) if newest_first => push_first(&mut self.locks.queued, &mut used.queue, caller),
            Some(used) => self.locks.queued.push(&mut used.queue, caller),
        }
        Ok(())
    }

    /// A release by the holder, or a waiting call that gave up. Anything else is a late one and means nothing.
    pub(super) fn lock_released(
        &mut self,
        from: NodeId,
        lock: LockId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        if lock_home(lock, self.config.nodes) != self.config.node {
            return Err("this node is not the home of the lock");
        }
        let caller = Caller { node: from, ticket };
        let forgets = self.planted(Planted::GrantCancelledLock);
        let Some(used) = self.locks.used.get_mut(&lock) else { return Ok(()) };
        if used.holder == Holder::Caller(caller) {
            self.pass_lock(lock, out);
        } else if !forgets {
            self.locks.queued.remove_where(&mut used.queue, |waiting| *waiting == caller);
        }
        Ok(())
    }

    /// Grants the lock to the next in its queue, or forgets it.
    fn pass_lock(&mut self, lock: LockId, out: &mut Actions) {
        let Some(used) = self.locks.used.get_mut(&lock) else { return };
        if let Some(next) = self.locks.queued.pop(&mut used.queue) {
            used.holder = Holder::Caller(next);
            self.grant_lock(next, lock, None, out);
        } else {
            self.locks.used.remove(&lock);
        }
    }

    pub(super) fn mend_locks(&mut self, lost: NodeId, out: &mut Actions) {
        let mut all: Vec<LockId> = self.locks.used.keys().copied().collect();
        all.sort_unstable();
        let keeps = self.planted(Planted::KeepDeadLockHolder);
        for lock in all {
            let Some(used) = self.locks.used.get_mut(&lock) else { continue };
            self.locks.queued.remove_node(&mut used.queue, lost);
            if keeps || !matches!(used.holder, Holder::Caller(holder) if holder.node == lost) {
                continue;
            }
            let Some(told) = self.locks.queued.pop(&mut used.queue) else {
                used.holder = Holder::Died(lost);
                continue;
            };
            used.holder = Holder::Caller(told);
            self.grant_lock(told, lock, Some(lost), out);
        }
    }
}

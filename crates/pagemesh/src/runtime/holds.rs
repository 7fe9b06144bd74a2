//! Who holds what: each node knows it of its own threads, and asks the others when one of them has waited in vain.
//!
//! What a lock costs that is taken again decides how much may be written down of it. A lock that was taken without a call has no
//! other name than a number, so that number is where it is written down; it costs a coarse look at the clock
//! (`CLOCK_MONOTONIC_COARSE`, `clock_gettime(2)`: a tick of the kernel, 1 to 10 ms) and a line of memory that the last to do so used
//! too. Those that came by a call are found by their tickets. Locked ranges stand in [`super::entry::Ranges`].

use super::{CallFailure, Held, Runtime, lock, sends};
use crate::config::FOREVER;
use crate::holders::{Awaited, Holders, NodeHold};
use crate::shared::lock_name;
use crate::{Access, NodeId, SyncError};
use pagemesh_protocol::{Actions, Engine, LockId, Message, Outcome, RwLockId, SyncObject, Ticket};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most that a call which has waited in vain waits for the others' answers, and the least that it gives them.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
const ANSWERS_WITHIN_LEAST: Duration = Duration::from_millis(10);

/// Locks that one node holds at a time, before there has to be more room.
const AT_HAND: usize = 64;

/// The slot of tickets that no call has.
const RETAKEN: u16 = u16::MAX;

/// The coarse clock, milliseconds.
pub(super) fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
}

/// One thread's hold of what a lock's number names.
#[derive(Clone, Copy, Debug)]
struct Hold {
    since_ms: u64,
    access: Access,
    /// Its thread waits for a signal meanwhile, and others can have the lock.
    is_lent: bool,
}

/// A lock that was taken without a call, in as few words as there can be.
#[derive(Clone, Copy, Debug)]
struct Retaken {
    number: u64,
    /// Of reader-writer locks.
    is_shared: bool,
    /// `None` when the place is free.
    hold: Option<Hold>,
}

/// The locks that threads of this node hold.
#[derive(Debug)]
pub(super) struct Holds {
    /// Those that were taken without a call, at the place that is their ticket's generation.
    retaken: Vec<Retaken>,
    /// Places of it that are free.
    free: Vec<u16>,
    granted: HashMap<(SyncObject, Ticket), Hold>,
}

impl Default for Holds {
    fn default() -> Holds {
        Holds {
            retaken: Vec::with_capacity(AT_HAND),
            free: Vec::with_capacity(AT_HAND),
            granted: HashMap::with_capacity(AT_HAND),
        }
    }
}

impl Holds {
    /// What proves that a lock is held which is taken without a call: no call has the same, and no other lock has it meanwhile. `None`
    /// when there are too many.
    pub(super) fn next_retake(&self) -> Option<Ticket> {
        let place = match self.free.last() {
            Some(place) => *place,
            None => u16::try_from(self.retaken.len()).ok()?,
        };
        Some(Ticket::new(RETAKEN, place))
    }

    /// A thread holds a lock under the ticket that [`next_retake`](Holds::next_retake) just gave.
    fn begin_retaken(&mut self, object: SyncObject, access: Access) {
        let (number, is_shared) = match object {
            SyncObject::Lock(id) => (id.0, false),
            SyncObject::RwLock(id) => (id.0, true),
            _ => unreachable!("nothing else stays where it was used"),
        };
        let hold = Some(Hold { since_ms: coarse_ms(), access, is_lent: false });
        let retaken = Retaken { number, is_shared, hold };
        match self.free.pop() {
            Some(place) => self.retaken[place as usize] = retaken,
            None => self.retaken.push(retaken),
        }
    }

    /// A thread holds `object` under the ticket of a call.
    fn begin(&mut self, object: SyncObject, access: Access, ticket: Ticket) {
        self.granted.insert((object, ticket), Hold { since_ms: coarse_ms(), access, is_lent: false });
    }

    fn end(&mut self, object: SyncObject, ticket: Ticket) {
        if ticket.slot != RETAKEN {
            self.granted.remove(&(object, ticket));
        } else if let Some(retaken) = self.retaken.get_mut(ticket.generation as usize)
            && retaken.hold.take().is_some()
        {
            self.free.push(ticket.generation);
        }
    }

    /// The thread begins to wait for a signal without the lock. Its ticket stays in use until the lock was given back.
    fn lend(&mut self, object: SyncObject, ticket: Ticket) {
        let hold = if ticket.slot == RETAKEN {
            self.retaken.get_mut(ticket.generation as usize).and_then(|retaken| retaken.hold.as_mut())
        } else {
            self.granted.get_mut(&(object, ticket))
        };
        if let Some(hold) = hold {
            hold.is_lent = true;
        }
    }

    fn of(&self, object: SyncObject) -> Option<(Access, u64)> {
        let retaken = self.retaken.iter().filter_map(|retaken| {
            let Retaken { number, is_shared, hold } = *retaken;
            let what = if is_shared {
                SyncObject::RwLock(RwLockId(number))
            } else {
                SyncObject::Lock(LockId(number))
            };
            hold.filter(|_| what == object)
        });
        let granted = self.granted.iter().filter(|((held, _), _)| *held == object).map(|(_, hold)| *hold);
        let held = retaken.chain(granted).filter(|hold| !hold.is_lent);
        strongest(held.map(|hold| (hold.access, hold.since_ms)))
    }
}

/// The first writer or, where there is none, the first reader, of holds with their beginnings.
pub(super) fn strongest(holds: impl Iterator<Item = (Access, u64)>) -> Option<(Access, u64)> {
    holds.reduce(|one, other| match one.0.cmp(&other.0) {
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Equal => (one.0, one.1.min(other.1)),
    })
}

/// Whether who has or wants `one` is in the way of who wants `other`.
pub(super) fn meets(one: SyncObject, other: SyncObject) -> bool {
    match (one, other) {
        (SyncObject::Range(one), SyncObject::Range(other)) => one.overlaps(other),
        _ => one == other,
    }
}

/// Questions to all nodes that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Questions {
    next: AtomicU32,
    open: Mutex<HashMap<u32, Vec<NodeHold>>>,
    /// Something was answered, or a node is gone.
    changed: Condvar,
}

impl Questions {
    /// What `said` tells; if it answers nothing that is asked, it is late, and nothing is to be done.
    fn answer(&self, question: u32, said: NodeHold) {
        let mut open = lock(&self.open);
        let place = open
            .get_mut(&question)
            .and_then(|nodes| nodes.iter_mut().find(|place| place.node == said.node && !place.answered));
        if let Some(place) = place {
            *place = said;
            self.changed.notify_all();
        }
    }

    /// A node is gone: nobody waits for its answer.
    pub(super) fn lose(&self, node: NodeId) {
        for nodes in lock(&self.open).values_mut() {
            nodes.retain(|place| place.node != node || place.answered);
        }
        self.changed.notify_all();
    }

    fn await_answers(&self, question: u32, within: Duration) -> Vec<NodeHold> {
        let missing = |open: &mut HashMap<u32, Vec<NodeHold>>| {
            open.get(&question).is_some_and(|nodes| nodes.iter().any(|place| !place.answered))
        };
        let waited = self.changed.wait_timeout_while(lock(&self.open), within, missing);
        let (mut open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        open.remove(&question).unwrap_or_default()
    }
}

impl Runtime {
    /// As [`call`](Runtime::call), for one that waits for what other threads have: until it is over this node says so to who asks.
    pub(super) fn call_for(
        &self,
        object: SyncObject,
        timeout: Duration,
        start: impl FnOnce(&mut Engine, Ticket, &mut Actions),
    ) -> Result<Outcome, CallFailure> {
        let deadline = Instant::now() + timeout.min(FOREVER);
        self.wait_room(deadline);
        let call = self.calls.claim(deadline).ok_or(CallFailure::TimedOut(timeout))?;
        call.awaits(Some(object));
        let started = self.event(|engine, out| start(engine, call.ticket(), out));
        let got =
            started.ok_or(CallFailure::Closed).and_then(|()| self.finish_call(&call, deadline, timeout));
        call.awaits(None);
        got
    }

    /// What becomes of a call that asked for a lock.
    pub(super) fn lock_held(
        &self,
        id: LockId,
        ticket: Ticket,
        got: Result<Outcome, CallFailure>,
    ) -> Result<Held, SyncError> {
        let object = SyncObject::Lock(id);
        let about = || (lock_name("lock", id.0), object, Awaited::Lock);
        let held = self.held(about, ticket, got)?;
        self.hold_begins(object, Access::Write, ticket);
        Ok(held)
    }

    /// A thread holds `object` from now on, which it got by a call.
    pub(super) fn hold_begins(&self, object: SyncObject, access: Access, ticket: Ticket) {
        self.shards.first().holds.begin(object, access, ticket);
    }

    /// It was given back, and the engine knows.
    pub(super) fn hold_ends(&self, object: SyncObject, ticket: Ticket) {
        self.shards.first().holds.end(object, ticket);
    }

    /// Its thread waits for a signal from now on.
    pub(super) fn hold_is_lent(&self, object: SyncObject, ticket: Ticket) {
        self.shards.first().holds.lend(object, ticket);
    }

    /// What a failed wait for `object` says: who was in its way, if its time ran out.
    pub(super) fn wait_failed(
        &self,
        failed: CallFailure,
        (what, object, awaited): (String, SyncObject, Awaited),
    ) -> SyncError {
        match failed.into_sync_error(self, what) {
            SyncError::TimedOut { what, after, .. } => {
                let nodes = self.who_holds(object, after);
                let awaited = if nodes.is_empty() { Awaited::Other } else { awaited };
                SyncError::TimedOut { what, after, holders: Holders { awaited, nodes } }
            }
            other => other,
        }
    }

    /// Asks every node, for a call of this one that has waited `after`. So a call that was to be short does not become a long one.
    fn who_holds(&self, object: SyncObject, after: Duration) -> Vec<NodeHold> {
        let within = after.clamp(ANSWERS_WITHIN_LEAST, ANSWERS_WITHIN);
        if self.is_inherited() {
            return Vec::new();
        }
        self.wait_room(Instant::now() + within);
        let question = self.questions.next.fetch_add(1, Ordering::Relaxed);
        let (view, peers) = {
            let shard = self.shards.first();
            if shard.is_closed() {
                return Vec::new();
            }
            let peers = shard.engine.live().without(self.node);
            // Before the lock is given back: who is lost from now on is taken out again.
            let nodes = peers.iter().map(NodeHold::unanswered).collect();
            lock(&self.questions.open).insert(question, nodes);
            (shard.engine.view(), peers)
        };
        for peer in peers.iter() {
            sends::enqueue(&self.switch, view, peer, &Message::HoldQuery { object, question });
        }
        self.switch.flush();
        let mut nodes = self.questions.await_answers(question, within);
        let own = self.holds_here(object);
        // With the call that has just given up.
        nodes.push(NodeHold { waiting: own.waiting + 1, ..own });
        nodes.sort_unstable_by_key(|place| place.node);
        nodes
    }

    /// What this node's own threads have to do with `object`.
    fn holds_here(&self, object: SyncObject) -> NodeHold {
        let held = match object {
            SyncObject::Range(range) => lock(&self.ranges).hold_of(range),
            _ => self.shards.first().holds.of(object),
        };
        let since_ms = held.map_or(0, |(_, since_ms)| coarse_ms().saturating_sub(since_ms));
        NodeHold {
            node: self.node,
            answered: true,
            held: held.map(|(access, _)| access),
            held_for: Duration::from_millis(since_ms),
            waiting: self.calls.waiting_for(object),
        }
    }

    /// A peer asks, or answers.
    pub(super) fn hear_of_holds(&self, from: NodeId, message: &Message) {
        match *message {
            Message::HoldQuery { object, question } => {
                let NodeHold { held: hold, held_for, waiting, .. } = self.holds_here(object);
                let since_ms = held_for.as_millis() as u64;
                let view = self.shards.first().engine.view();
                let reply = Message::HoldReply { question, hold, waiting, since_ms };
                sends::enqueue(&self.switch, view, from, &reply);
                self.switch.flush();
            }
            Message::HoldReply { question, hold, waiting, since_ms } => {
                let held_for = Duration::from_millis(since_ms);
                let said = NodeHold { node: from, answered: true, held: hold, held_for, waiting };
                self.questions.answer(question, said);
            }
            _ => {}
        }
    }

    /// Takes a lock that is left with this node and that nobody here has or wants: without a call, since nothing is to be waited
    /// for.
    pub(super) fn retake_object(
        &self,
        object: SyncObject,
        access: Access,
        take: impl FnOnce(&mut Engine, Ticket) -> bool,
    ) -> Option<Ticket> {
        if self.is_inherited() {
            return None;
        }
        let mut shard = self.shards.first();
        let ticket = shard.holds.next_retake()?;
        if shard.is_closed() || !take(&mut shard.engine, ticket) {
            return None;
        }
        shard.holds.begin_retaken(object, access);
        Some(ticket)
    }

    /// Gives a lock back that nobody waits for; false when somebody does, and the engine is to be told.
    pub(super) fn keep_object(
        &self,
        object: SyncObject,
        ticket: Ticket,
        keep: impl FnOnce(&mut Engine) -> bool,
    ) -> bool {
        if self.is_inherited() {
            return false;
        }
        let mut shard = self.shards.first();
        let kept = !shard.is_closed() && keep(&mut shard.engine);
        if kept {
            shard.holds.end(object, ticket);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: SyncObject = SyncObject::Lock(LockId(7));

    #[test]
    fn no_two_locks_are_held_under_one_ticket() {
        let mut holds = Holds::default();
        let take = |holds: &mut Holds, number| {
            let ticket = holds.next_retake().unwrap();
            holds.begin_retaken(SyncObject::RwLock(RwLockId(number)), Access::Read);
            ticket
        };
        let tickets: Vec<Ticket> = (0..100).map(|number| take(&mut holds, number)).collect();
        assert!(tickets.iter().enumerate().all(|(place, ticket)| ticket.generation as usize == place));
        for number in [70, 3] {
            holds.end(SyncObject::RwLock(RwLockId(number)), tickets[number as usize]);
            assert_eq!(holds.of(SyncObject::RwLock(RwLockId(number))), None);
        }
        assert_eq!([take(&mut holds, 500), take(&mut holds, 501)], [tickets[3], tickets[70]]);
        assert_eq!(take(&mut holds, 502).generation, 100);
        assert!(holds.of(SyncObject::RwLock(RwLockId(501))).is_some());
        // A number is not the same lock in both name spaces.
        assert_eq!(holds.of(SyncObject::Lock(LockId(501))), None);
        holds.end(SyncObject::RwLock(RwLockId(500)), tickets[3]);
        holds.end(SyncObject::RwLock(RwLockId(500)), tickets[3]);
        assert_eq!([take(&mut holds, 1), take(&mut holds, 2)].map(|ticket| ticket.generation), [3, 101]);
    }

    #[test]
    fn when_all_tickets_are_taken_there_is_no_other() {
        let mut holds = Holds::default();
        while holds.next_retake().is_some() {
            holds.begin_retaken(LOCK, Access::Write);
        }
        assert_eq!(holds.retaken.len(), 1 << 16);
    }

    #[test]
    fn a_lock_that_is_lent_has_no_holder_and_keeps_its_ticket() {
        let mut holds = Holds::default();
        let ticket = holds.next_retake().unwrap();
        holds.begin_retaken(LOCK, Access::Write);
        holds.lend(LOCK, ticket);
        assert_eq!(holds.of(LOCK), None);
        assert_ne!(holds.next_retake(), Some(ticket));
        let granted = Ticket::new(1, 1);
        holds.begin(LOCK, Access::Write, granted);
        assert!(holds.of(LOCK).is_some());
        holds.end(LOCK, granted);
        holds.end(LOCK, ticket);
        assert_eq!((holds.of(LOCK), holds.next_retake()), (None, Some(ticket)));
    }

    #[test]
    fn the_first_writer_counts_and_else_the_first_reader() {
        let (read, write) = (Access::Read, Access::Write);
        assert_eq!(strongest([(read, 5), (read, 3)].into_iter()), Some((read, 3)));
        assert_eq!(strongest([(read, 1), (write, 9), (write, 8), (read, 2)].into_iter()), Some((write, 8)));
        assert_eq!(strongest([].into_iter()), None);
    }

    fn said(node: u16, waiting: u32) -> NodeHold {
        NodeHold { answered: true, waiting, ..NodeHold::unanswered(NodeId::new(node)) }
    }

    #[test]
    fn answers_to_nothing_that_was_asked_change_nothing() {
        let questions = Questions::default();
        let asked = [1, 2].map(|node| NodeHold::unanswered(NodeId::new(node)));
        lock(&questions.open).insert(5, asked.to_vec());
        questions.answer(6, said(1, 9));
        questions.answer(5, said(3, 9));
        assert_eq!(lock(&questions.open)[&5], asked);
        questions.answer(5, said(1, 4));
        // Said twice: the first counts.
        questions.answer(5, said(1, 7));
        assert_eq!(questions.await_answers(5, Duration::ZERO), [said(1, 4), asked[1]]);
        assert!(lock(&questions.open).is_empty());
        questions.answer(5, said(2, 1));
        assert!(lock(&questions.open).is_empty());
    }

    #[test]
    fn nobody_waits_for_a_node_that_is_gone() {
        let questions = Questions::default();
        lock(&questions.open).insert(5, vec![said(1, 1), NodeHold::unanswered(NodeId::new(2))]);
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| questions.await_answers(5, Duration::from_mins(10)));
            questions.lose(NodeId::new(1));
            questions.lose(NodeId::new(2));
            assert_eq!(answers.join().unwrap(), [said(1, 1)]);
        });
    }
}

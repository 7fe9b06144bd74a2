//! Reader-writer locks that are left with a node: the keeper's part.
//!
//! A home that lets a node in while nobody stands in line leaves the lock with that node (RwLeave), as file servers leave files with their
//! clients until they call them back (Howard and others 1988). From then on the threads of that node take it and give it back among themselves,
//! in a line of their own, without a message. When somebody else wants the lock the home calls it back, and the node says who of its threads has it;
//! those give it back to the home. Its calls that wait ask the home anew.
//!
//! | kept for | left | what the keeper lets in | who else has it meanwhile |
//! |---|---|---|---|
//! | reading | to a reader, when no writer has it | its readers | other readers, and other keepers for reading |
//! | writing | to a writer | its readers and writers | nobody |
//!
//! | event at the keeper | kept for reading | kept for writing |
//! |---|---|---|
//! | a call to read | is let in | stands in the keeper's line |
//! | a call to write | the lock goes back, and the call asks the home | stands in the keeper's line |
//! | a thread gives it back | nothing is sent | nothing is sent; the next in the keeper's line comes in |
//! | RwRecall | RwGrant to the one that is named, if none has it; RwHold for each that has it, RwYield, RwAcquire for each that waits | the same |
//!
//! There is one thing that both must know without asking: what becomes of calls that were on their way to the home when it left the lock. The keeper takes them
//! for its own when the lock comes, and the home ignores what a keeper asks for; since a keeper says RwYield before it asks again,
//! both agree.
//!
//! As with tokens, no interval ends while a thread of the same node is next. It ends when the lock goes back, and then what was written is told.

use super::locks::{Caller, NumberMap};
use super::planted::Planted;
use super::queue::{Arena, Queue};
use super::rwlocks::Turn;
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, sync_home};
use crate::action::{Actions, Failure, Outcome};
use crate::ids::{Access, NodeId, RwLockId, Ticket};
use crate::limits;
use crate::message::{Message, Named};
use slab::Slab;

const NOT_ITS_HOME: &str = "it is not the home of the reader-writer lock";

/// How many kept locks are looked at to find one that nobody has.
const LOOKED_AT: usize = 16;

/// A lock that is left with this node.
#[derive(Clone, Copy, Debug)]
struct Kept {
    lock: RwLockId,
    /// What its home left it for.
    right: Access,
    readers: Queue,
    reading: usize,
    writer: Option<Caller>,
    /// Calls of this node.
    line: Queue,
}

impl Kept {
    fn admits(&self, access: Access) -> bool {
        self.writer.is_none() && (access == Access::Read || self.reading == 0)
    }

    fn is_idle(&self) -> bool {
        self.writer.is_none() && self.reading == 0 && self.line.is_empty()
    }
}

/// All locks that are left with this node.
#[derive(Clone, Debug)]
pub(super) struct KeptLocks {
    bound: usize,
    all: Slab<Kept>,
    by_lock: NumberMap<RwLockId, u32>,
    reading: Arena<Caller>,
    in_line: Arena<Turn>,
    /// Where the next search for an idle one begins.
    hand: usize,
    /// Counts calls, so that those of one lock can be put into their order.
    calls: u64,
}

impl KeptLocks {
    pub(super) fn new(config: EngineConfig) -> KeptLocks {
        KeptLocks {
            bound: config.locks.min(limits::RWLOCKS_KEPT),
            all: Slab::with_capacity(limits::OBJECTS_AT_HAND),
            by_lock: NumberMap::default(),
            reading: Arena::with_capacity(config.tickets, config.nodes),
            in_line: Arena::with_capacity(config.tickets, config.nodes),
            hand: 0,
            calls: 0,
        }
    }

    /// Locks that are kept, how often they are held for reading, and calls in line for them.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.all.len(), self.reading.len(), self.in_line.len())
    }

    /// A name for a call's place in the order of all.
    pub(super) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    fn find(&mut self, lock: RwLockId) -> Option<(&mut Kept, &mut Arena<Caller>, &mut Arena<Turn>)> {
        let index = self.by_lock.get(&lock)?;
        Some((&mut self.all[*index as usize], &mut self.reading, &mut self.in_line))
    }

    fn insert(&mut self, lock: RwLockId, right: Access) {
        let (readers, line) = (Queue::default(), Queue::default());
        let index = self.all.insert(Kept { lock, right, readers, reading: 0, writer: None, line });
        self.by_lock.insert(lock, index as u32);
    }

    fn remove(&mut self, lock: RwLockId) -> Option<Kept> {
        self.by_lock.remove(&lock).map(|index| self.all.remove(index as usize))
    }

    /// A lock that nobody here has or wants, of the few that are looked at.
    fn idle(&mut self) -> Option<RwLockId> {
        let end = self.all.capacity();
        for _ in 0..LOOKED_AT.min(end) {
            self.hand = (self.hand + 1) % end;
            if let Some(kept) = self.all.get(self.hand).filter(|kept| kept.is_idle()) {
                return Some(kept.lock);
            }
        }
        None
    }

    /// The locks that `wanted` picks, in the order of their numbers.
    fn locks(&self, wanted: impl Fn(&Kept) -> bool) -> Vec<RwLockId> {
        let mut locks: Vec<RwLockId> =
            self.all.iter().filter(|(_, kept)| wanted(kept)).map(|(_, kept)| kept.lock).collect();
        locks.sort_unstable();
        locks
    }
}

/// The caller's part.
impl Engine {
    pub(super) fn rw_acquire(
        &mut self,
        ticket: Ticket,
        lock: RwLockId,
        access: Access,
        waits: bool,
        out: &mut Actions,
    ) {
        let order = self.kept.next_call();
        self.tickets.begin(ticket, Wait::RwLock { lock, access, waits, order });
        let caller = Caller { node: self.config.node, ticket };
        self.seek_rwlock(lock, Turn { caller, access, waits }, out);
    }

    /// A call that waits for an answer gets one here, or asks the home.
    fn seek_rwlock(&mut self, lock: RwLockId, turn: Turn, out: &mut Actions) {
        let full = self.kept.reading.len() >= limits::READERS_KEPT && turn.access == Access::Read;
        match self.kept.find(lock) {
            Some((kept, ..)) if !full && (kept.right == Access::Write || turn.access == Access::Read) => {
                return self.take_kept(lock, turn, out);
            }
            Some(_) => self.yield_rwlock(lock, None, out),
            None => {}
        }
        let home = sync_home(lock.0, self.config.nodes);
        let Turn { caller: Caller { ticket, .. }, access, waits } = turn;
        if self.live.contains(home) {
            self.tell_of_losses(home, out);
            self.tell_what_is_known(home, out);
            self.send(home, Message::RwAcquire { lock, ticket, access, waits }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(home), out);
        }
    }

    fn take_kept(&mut self, lock: RwLockId, turn: Turn, out: &mut Actions) {
        let Some((kept, _, in_line)) = self.kept.find(lock) else { return };
        if kept.line.is_empty() && kept.admits(turn.access) {
            self.let_in_here(lock, turn, out);
        } else if turn.waits {
            in_line.push(&mut kept.line, turn);
        } else {
            self.fail(turn.caller.ticket, Failure::Busy, out);
        }
    }

    fn let_in_here(&mut self, lock: RwLockId, turn: Turn, out: &mut Actions) {
        self.hold_here(lock, turn.caller, turn.access);
        self.complete(turn.caller.ticket, Outcome::Done, out);
    }

    fn hold_here(&mut self, lock: RwLockId, caller: Caller, access: Access) {
        let Some((kept, reading, _)) = self.kept.find(lock) else { return };
        match access {
            Access::Read => {
                reading.push(&mut kept.readers, caller);
                kept.reading += 1;
            }
            Access::Write => kept.writer = Some(caller),
        }
    }

    fn serve_kept(&mut self, lock: RwLockId, out: &mut Actions) {
        while let Some((kept, _, in_line)) = self.kept.find(lock)
            && let Some(turn) = in_line.first(kept.line).filter(|turn| kept.admits(turn.access))
        {
            in_line.pop(&mut kept.line);
            self.let_in_here(lock, turn, out);
        }
    }

    pub(super) fn rw_release(&mut self, ticket: Ticket, lock: RwLockId, out: &mut Actions) {
        if self.give_back_here(ticket, lock) {
            return self.serve_kept(lock, out);
        }
        self.rw_give_back(ticket, lock, out);
    }

    /// Whether the lock is left with this node.
    pub(super) fn keeps(&self, lock: RwLockId) -> bool {
        self.kept.by_lock.contains_key(&lock)
    }

    /// Whether this call had the lock from here; now it has it no more.
    fn give_back_here(&mut self, ticket: Ticket, lock: RwLockId) -> bool {
        let caller = Caller { node: self.config.node, ticket };
        let Some((kept, reading, _)) = self.kept.find(lock) else { return false };
        if kept.writer.take_if(|writer| *writer == caller).is_some() {
            return true;
        }
        let left = reading.take_first(&mut kept.readers, |reader| *reader == caller).is_some();
        kept.reading -= usize::from(left);
        left
    }

    /// Takes a lock that is kept here and that nobody is in the way of; false, with nothing changed, for any other.
    pub(super) fn retake_rwlock(&mut self, ticket: Ticket, lock: RwLockId, access: Access) -> bool {
        let full = self.kept.reading.len() >= limits::READERS_KEPT && access == Access::Read;
        let caller = Caller { node: self.config.node, ticket };
        let Some((kept, ..)) = self.kept.find(lock) else { return false };
        let has_right = kept.right == Access::Write || access == Access::Read;
        if full || !has_right || !kept.line.is_empty() || !kept.admits(access) {
            return false;
        }
        self.hold_here(lock, caller, access);
        true
    }

    /// Gives back a lock that is kept here and that nobody here waits for; false, with nothing changed, for any other.
    pub(super) fn keep_rwlock(&mut self, ticket: Ticket, lock: RwLockId) -> bool {
        let unwanted = self.kept.find(lock).is_some_and(|(kept, ..)| kept.line.is_empty());
        unwanted && self.give_back_here(ticket, lock)
    }

    /// A call gave up. Its answer may be on the way.
    pub(super) fn rw_given_up(&mut self, ticket: Ticket, lock: RwLockId, out: &mut Actions) {
        let caller = Caller { node: self.config.node, ticket };
        if let Some((kept, _, in_line)) = self.kept.find(lock)
            && in_line.remove_where(&mut kept.line, |turn| turn.caller == caller) > 0
        {
            return self.serve_kept(lock, out);
        }
        self.hands.forget(lock, ticket);
        self.send(sync_home(lock.0, self.config.nodes), Message::RwRelease { lock, ticket }, out);
    }

    /// The lock goes back to its home, with those who have it, and with what was written; or straight to the next, if nobody here has it.
    fn yield_rwlock(&mut self, lock: RwLockId, next: Option<Caller>, out: &mut Actions) {
        let Some(kept) = self.kept.remove(lock) else { return };
        let Kept { right, mut readers, reading, writer, mut line, .. } = kept;
        let home = sync_home(lock.0, self.config.nodes);
        let told = !self.planted(Planted::YieldUntold);
        if told {
            self.release_interval(out);
        }
        let next = next.filter(|next| self.live.contains(next.node));
        let is_free = writer.is_none() && reading == 0;
        if let Some(next) = next.filter(|_| is_free) {
            self.hand_over(next, lock, None, out);
        }
        if told {
            self.tell(home, out);
        }
        let names_nobody = self.planted(Planted::YieldAsFree);
        let writes = writer.map(|caller| (caller, Access::Write));
        let reads = std::iter::from_fn(|| self.kept.reading.pop(&mut readers));
        let holds: Vec<(Caller, Access)> =
            writes.into_iter().chain(reads.map(|caller| (caller, Access::Read))).collect();
        for (Caller { ticket, .. }, access) in &holds {
            if !names_nobody {
                self.send(home, Message::RwHold { lock, ticket: *ticket, access: *access }, out);
            }
        }
        let named = self.keep_holds(lock, &holds, next);
        self.send(home, Message::RwYield { lock, next: named }, out);
        if self.planted(Planted::KeepYieldedLock) {
            self.kept.insert(lock, right);
            let Some((kept, arena, _)) = self.kept.find(lock) else { return };
            (kept.reading, kept.writer) = (reading, writer);
            for (caller, access) in holds {
                if access == Access::Read {
                    arena.push(&mut kept.readers, caller);
                }
            }
        }
        while let Some(turn) = self.kept.in_line.pop(&mut line) {
            self.seek_rwlock(lock, turn, out);
        }
    }

    /// The calls that have a lock which goes back have it from its home now. What becomes of the one that is named to come next.
    fn keep_holds(&mut self, lock: RwLockId, holds: &[(Caller, Access)], next: Option<Caller>) -> Named {
        for (Caller { ticket, .. }, access) in holds {
            self.hands.begin(lock, *ticket, *access, None);
        }
        match (holds, next) {
            ([], Some(_)) => Named::LetIn,
            ([(Caller { ticket, .. }, _)], Some(next)) if self.hands.name(lock, *ticket, next) => {
                Named::KeptInMind
            }
            _ => Named::Left,
        }
    }

    /// Gives all kept locks back: this node is about to go.
    pub(super) fn return_kept_rwlocks(&mut self, out: &mut Actions) {
        for lock in self.kept.locks(|_| true) {
            self.yield_rwlock(lock, None, out);
        }
    }

    /// With its home a kept lock is lost too. Whoever has it gives it back to nobody.
    pub(super) fn mend_kept(&mut self, lost: NodeId) {
        let nodes = self.config.nodes;
        for lock in self.kept.locks(|kept| sync_home(kept.lock.0, nodes) == lost) {
            let Some(Kept { mut readers, mut line, .. }) = self.kept.remove(lock) else { continue };
            while self.kept.reading.pop(&mut readers).is_some() {}
            while self.kept.in_line.pop(&mut line).is_some() {}
        }
        self.hands.lose(|lock| sync_home(lock.0, nodes) == lost);
    }
}

/// What the home says.
impl Engine {
    pub(super) fn check_rw_home(&self, from: NodeId, lock: RwLockId) -> Handled {
        if sync_home(lock.0, self.config.nodes) == from { Ok(()) } else { Err(NOT_ITS_HOME) }
    }

    /// The lock is left here, at the request of this call. It and all calls that asked after it are this node's to serve.
    pub(super) fn rw_left(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        right: Access,
        out: &mut Actions,
    ) -> Handled {
        self.check_rw_home(from, lock)?;
        if self.kept.by_lock.contains_key(&lock) {
            return Err("the lock was left here before");
        }
        self.drop_written(out);
        self.kept.insert(lock, right);
        let node = self.config.node;
        let held = self.hands.leave(lock);
        // Only what can be beside each other: a node that lies may have let in more.
        let writes = |(_, access): &(Ticket, Access)| *access == Access::Write;
        let only = right == Access::Write && held.len() == 1;
        for (ticket, access) in held.into_iter().filter(|hold| only || !writes(hold)) {
            self.hold_here(lock, Caller { node, ticket }, access);
        }
        let of_lock = |(ticket, wait)| match wait {
            Wait::RwLock { lock: wanted, access, waits, order } if wanted == lock => {
                Some((order, Turn { caller: Caller { node, ticket }, access, waits }))
            }
            _ => None,
        };
        let mut calls: Vec<(u64, Turn)> = self.tickets.waiting().filter_map(of_lock).collect();
        calls.sort_unstable_by_key(|(order, _)| *order);
        for (_, turn) in calls {
            // Also beyond what may be held for reading here: a call that asked anew would have the lock left here again, for ever.
            match self.kept.find(lock) {
                Some((kept, ..)) if kept.right == Access::Write || turn.access == Access::Read => {
                    self.take_kept(lock, turn, out);
                }
                _ => self.seek_rwlock(lock, turn, out),
            }
        }
        if self.kept.reading.len() > limits::READERS_KEPT {
            self.yield_rwlock(lock, None, out);
        } else if self.kept.all.len() > self.kept.bound {
            let back = self.kept.idle().unwrap_or(lock);
            self.yield_rwlock(back, None, out);
        }
        Ok(())
    }

    /// Somebody else wants a lock that was left here. When it has gone back meanwhile, that was the answer.
    pub(super) fn rw_recalled(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        next: Option<(NodeId, Ticket)>,
        out: &mut Actions,
    ) -> Handled {
        self.check_rw_home(from, lock)?;
        if let Some((node, _)) = next {
            self.check_next(node)?;
        }
        self.yield_rwlock(lock, next.map(|(node, ticket)| Caller { node, ticket }), out);
        Ok(())
    }
}

//! Reader-writer locks: one line for readers and writers at each lock's home, first come, first served.
//!
//! Who holds the lock is either one writer or any number of readers. A reader comes in at once when no writer has the lock and nobody
//! stands in line; with a writer in line it stands behind that writer. So readers that keep coming do not keep a writer out: a
//! writer waits for those who came before it, and for nobody else, and a reader likewise. When the lock is given back, the first
//! in line comes in, and with a reader all readers up to the next writer.
//!
//! When a writer is lost with the lock, all who get it are told, up to and with the next writer: readers cannot mend what was
//! left half written. A reader that is lost leaves nothing behind.

use super::locks::{Caller, NumberMap, TOO_MANY_CALLS};
use super::planted::Planted;
use super::queue::{Arena, Queue, Waiter};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, sync_home};
use crate::action::{Actions, Failure};
use crate::ids::{Access, NodeId, RwLockId, Ticket};
use crate::limits;
use crate::message::Message;

const NOT_ITS_HOME: &str = "this node is not the home of the reader-writer lock";

/// A call in line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Turn {
    caller: Caller,
    access: Access,
}

impl Waiter for Turn {
    fn node(&self) -> NodeId {
        self.caller.node
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct RwLock {
    readers: Queue,
    reading: usize,
    writer: Option<Caller>,
    /// The node that was lost while it wrote, until the next writer was told.
    died: Option<NodeId>,
    line: Queue,
}

impl RwLock {
    fn admits(&self, access: Access) -> bool {
        self.writer.is_none() && (access == Access::Read || self.reading == 0)
    }

    fn is_idle(&self) -> bool {
        self.writer.is_none() && self.reading == 0 && self.line.is_empty() && self.died.is_none()
    }
}

#[derive(Clone, Debug)]
pub(super) struct RwLocks {
    bound: usize,
    used: NumberMap<RwLockId, RwLock>,
    reading: Arena<Caller>,
    in_line: Arena<Turn>,
}

impl RwLocks {
    pub(super) fn new(config: EngineConfig) -> RwLocks {
        let mut used = NumberMap::default();
        used.reserve(config.locks.min(limits::OBJECTS_AT_HAND));
        RwLocks {
            bound: config.locks,
            used,
            reading: Arena::with_capacity(config.tickets, config.nodes),
            in_line: Arena::with_capacity(config.tickets, config.nodes),
        }
    }

    /// Locks in use, read holds, and calls in line.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.used.len(), self.reading.len(), self.in_line.len())
    }
}

impl Engine {
    pub(super) fn rw_acquire(
        &mut self,
        ticket: Ticket,
        lock: RwLockId,
        access: Access,
        waits: bool,
        out: &mut Actions,
    ) {
        self.tickets.begin(ticket, Wait::RwLock(lock));
        let home = sync_home(lock.0, self.config.nodes);
        if self.live.contains(home) {
            self.tell_what_is_known(home, out);
            self.send(home, Message::RwAcquire { lock, ticket, access, waits }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(home), out);
        }
    }

    pub(super) fn rw_release(&mut self, ticket: Ticket, lock: RwLockId, out: &mut Actions) {
        let home = sync_home(lock.0, self.config.nodes);
        self.release_interval(out);
        self.tell(home, out);
        self.send(home, Message::RwRelease { lock, ticket }, out);
    }

    pub(super) fn rw_wanted(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        (ticket, access): (Ticket, Access),
        waits: bool,
        out: &mut Actions,
    ) -> Handled {
        if sync_home(lock.0, self.config.nodes) != self.config.node {
            return Err(NOT_ITS_HOME);
        }
        let turn = Turn { caller: Caller { node: from, ticket }, access };
        let full = self.rwlocks.used.len() >= self.rwlocks.bound;
        let many = access == Access::Read && self.rwlocks.reading.len() >= limits::READERS;
        if many || (full && !self.rwlocks.used.contains_key(&lock)) {
            self.send(from, Message::SyncRefused { ticket }, out);
            return Ok(());
        }
        let beside = self.planted(Planted::WriterBesideReaders);
        let used = self.rwlocks.used.entry(lock).or_default();
        if used.line.is_empty() && (used.admits(access) || beside && used.writer.is_none()) {
            self.let_in(lock, turn, out);
        } else if !waits {
            self.send(from, Message::RwBusy { lock, ticket }, out);
        } else if self.rwlocks.in_line.of(from) >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        } else {
            self.rwlocks.in_line.push(&mut used.line, turn);
        }
        Ok(())
    }

    /// Gives the lock to a caller, with what was written before.
    fn let_in(&mut self, lock: RwLockId, turn: Turn, out: &mut Actions) {
        let used = self.rwlocks.used.get_mut(&lock).expect("the caller has found it");
        let died = used.died;
        match turn.access {
            Access::Read => {
                self.rwlocks.reading.push(&mut used.readers, turn.caller);
                used.reading += 1;
            }
            Access::Write => {
                used.writer = Some(turn.caller);
                used.died = None;
            }
        }
        let Caller { node, ticket } = turn.caller;
        self.tell(node, out);
        self.send(node, Message::RwGrant { lock, ticket, died }, out);
    }

    /// Lets those in whose turn has come; forgets the lock when nobody has or wants it.
    fn serve_line(&mut self, lock: RwLockId, out: &mut Actions) {
        let starves = self.planted(Planted::StarveReaders);
        while let Some(used) = self.rwlocks.used.get_mut(&lock) {
            match self.rwlocks.in_line.first(used.line) {
                Some(turn) if used.admits(turn.access) && !(starves && turn.access == Access::Read) => {
                    self.rwlocks.in_line.pop(&mut used.line);
                    self.let_in(lock, turn, out);
                }
                _ => break,
            }
        }
        if self.rwlocks.used.get(&lock).is_some_and(RwLock::is_idle) {
            self.rwlocks.used.remove(&lock);
        }
    }

    /// Given back by a holder, or no longer wanted by a call that gave up. Anything else is a late one and means nothing.
    pub(super) fn rw_released(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        if sync_home(lock.0, self.config.nodes) != self.config.node {
            return Err(NOT_ITS_HOME);
        }
        let caller = Caller { node: from, ticket };
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return Ok(()) };
        if used.writer == Some(caller) {
            used.writer = None;
        } else {
            let left = self.rwlocks.reading.remove_where(&mut used.readers, |reader| *reader == caller);
            used.reading -= left;
            if left == 0 {
                self.rwlocks.in_line.remove_where(&mut used.line, |turn| turn.caller == caller);
            }
        }
        self.serve_line(lock, out);
        Ok(())
    }

    pub(super) fn mend_rwlocks(&mut self, lost: NodeId, out: &mut Actions) {
        let mut all: Vec<RwLockId> = self.rwlocks.used.keys().copied().collect();
        all.sort_unstable();
        let keeps = self.planted(Planted::KeepDeadReader);
        for lock in all {
            let Some(used) = self.rwlocks.used.get_mut(&lock) else { continue };
            self.rwlocks.in_line.remove_node(&mut used.line, lost);
            if !keeps {
                used.reading -= self.rwlocks.reading.remove_node(&mut used.readers, lost);
            }
            if used.writer.take_if(|writer| writer.node == lost).is_some() {
                used.died = Some(lost);
            }
            self.serve_line(lock, out);
        }
    }
}

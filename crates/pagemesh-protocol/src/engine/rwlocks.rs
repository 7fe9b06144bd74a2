//! Reader-writer locks: one line for readers and writers at each lock's home, first come, first served.
//!
//! Who holds the lock is either one writer or any number of readers. A reader comes in at once when no writer has the lock and nobody
//! stands in line; with a writer in line it stands behind that writer. So readers that keep coming do not keep a writer out: a
//! writer waits for those who came before it, and for nobody else, and a reader likewise. When the lock is given back, the first
//! in line comes in, and with a reader all readers up to the next writer.
//!
//! When it lets somebody in and nobody stands in line, the home leaves the lock with that node, whose threads then need it no more for theirs (`kept.rs`):
//! for reading with any number of nodes, for writing with one. With somebody in line it calls back all that it has left.
//!
//! When a writer is lost with the lock, all who get it are told, up to and with the next writer: readers cannot mend what was
//! left half written. A reader that is lost leaves nothing behind. Of a node that is lost with a lock that was left with it for writing nobody
//! knows whether it wrote; it counts as one that did.

use super::locks::{Caller, NumberMap, TOO_MANY_CALLS};
use super::planted::Planted;
use super::queue::{Arena, Queue, Waiter};
use super::{Engine, EngineConfig, Handled, sync_home};
use crate::action::Actions;
use crate::ids::{Access, NodeId, RwLockId, Ticket};
use crate::limits;
use crate::message::Message;

const NOT_ITS_HOME: &str = "this node is not the home of the reader-writer lock";
const NOT_LEFT: &str = "the reader-writer lock is not left with it";

/// A call in line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Turn {
    pub(super) caller: Caller,
    pub(super) access: Access,
    /// Whether it waits for others. One that does not stands in line only until those with whom the lock is left have answered.
    pub(super) waits: bool,
}

impl Waiter for Turn {
    fn node(&self) -> NodeId {
        self.caller.node
    }
}

#[derive(Clone, Copy, Debug)]
struct RwLock {
    readers: Queue,
    reading: usize,
    writer: Option<Caller>,
    /// The node that was lost while it wrote, until the next writer was told.
    died: Option<NodeId>,
    line: Queue,
    /// Nodes with whom the lock is left, what for, and whether it was called back.
    keepers: Queue,
    kept_for: Access,
    recalled: bool,
}

impl Default for RwLock {
    fn default() -> RwLock {
        RwLock {
            readers: Queue::default(),
            reading: 0,
            writer: None,
            died: None,
            line: Queue::default(),
            keepers: Queue::default(),
            kept_for: Access::Read,
            recalled: false,
        }
    }
}

/// A node with which a lock is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Keeper(NodeId);

impl Waiter for Keeper {
    fn node(&self) -> NodeId {
        self.0
    }
}

impl RwLock {
    /// Whether somebody is known to have it who is in the way.
    fn is_held_against(&self, access: Access) -> bool {
        self.writer.is_some() || (access == Access::Write && self.reading > 0)
    }

    /// Whether somebody may have it, who is in the way, because it is left with his node.
    fn is_kept_against(&self, access: Access) -> bool {
        !self.keepers.is_empty() && (access == Access::Write || self.kept_for == Access::Write)
    }

    fn admits(&self, access: Access) -> bool {
        !self.is_held_against(access) && !self.is_kept_against(access)
    }

    fn is_idle(&self) -> bool {
        let unused = self.writer.is_none() && self.reading == 0 && self.keepers.is_empty();
        unused && self.line.is_empty() && self.died.is_none()
    }
}

#[derive(Clone, Debug)]
pub(super) struct RwLocks {
    bound: usize,
    used: NumberMap<RwLockId, RwLock>,
    reading: Arena<Caller>,
    in_line: Arena<Turn>,
    keepers: Arena<Keeper>,
    /// How many keepers there may be, and how many locks have some.
    left_bound: usize,
    left: usize,
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
            keepers: Arena::with_capacity(config.rwlocks_left.min(limits::OBJECTS_AT_HAND), config.nodes),
            left_bound: config.rwlocks_left,
            left: 0,
        }
    }

    /// Locks in use that are not left with anyone, read holds, and calls in line.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.used.len() - self.left, self.reading.len(), self.in_line.len())
    }

    /// How often locks are left with nodes.
    pub(super) fn left(&self) -> usize {
        self.keepers.len()
    }

    fn is_kept_by(&self, lock: RwLockId, node: NodeId) -> bool {
        self.used
            .get(&lock)
            .is_some_and(|used| self.keepers.iter(used.keepers).any(|keeper| keeper.0 == node))
    }

    /// Forgets that the lock is left with this node; false when it is not.
    fn take_back(&mut self, lock: RwLockId, node: NodeId) -> bool {
        let Some(used) = self.used.get_mut(&lock) else { return false };
        let taken = self.keepers.remove_node(&mut used.keepers, node) > 0;
        if taken && used.keepers.is_empty() {
            used.recalled = false;
            self.left -= 1;
        }
        taken
    }
}

impl Engine {
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
        if self.rwlocks.is_kept_by(lock, from) {
            // It has not heard yet that the lock is left with it, and takes the call for its own when it does.
            return Ok(());
        }
        let turn = Turn { caller: Caller { node: from, ticket }, access, waits };
        let full = self.rwlocks.used.len() - self.rwlocks.left >= self.rwlocks.bound;
        let many = access == Access::Read && self.rwlocks.reading.len() >= limits::READERS;
        if many || (full && !self.rwlocks.used.contains_key(&lock)) {
            self.send(from, Message::SyncRefused { ticket }, out);
            return Ok(());
        }
        let beside = self.planted(Planted::WriterBesideReaders);
        let beside_keepers = self.planted(Planted::WriterBesideKeepers);
        let used = self.rwlocks.used.entry(lock).or_default();
        let admits = used.admits(access)
            || beside && used.writer.is_none() && !used.is_kept_against(access)
            || beside_keepers && used.kept_for == Access::Read && !used.is_held_against(access);
        // Whether others have what a try wants is known only when the keepers have answered.
        let answered = !used.is_kept_against(access)
            || used.is_held_against(access)
            || self.rwlocks.in_line.iter(used.line).any(|turn| turn.waits);
        if used.line.is_empty() && admits {
            self.let_in(lock, turn, out);
        } else if !waits && answered {
            self.send(from, Message::RwBusy { lock, ticket }, out);
        } else if self.rwlocks.in_line.of(from) >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        } else {
            self.rwlocks.in_line.push(&mut used.line, turn);
            self.recall_rwlock(lock, out);
        }
        Ok(())
    }

    /// Calls back what is left with others, once.
    fn recall_rwlock(&mut self, lock: RwLockId, out: &mut Actions) {
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        if used.recalled || used.keepers.is_empty() || used.line.is_empty() {
            return;
        }
        used.recalled = true;
        let keepers: Vec<Keeper> = self.rwlocks.keepers.iter(used.keepers).collect();
        for Keeper(node) in keepers {
            self.send(node, Message::RwRecall { lock }, out);
        }
    }

    /// Whether the lock, which `turn` is about to get, is then left with its node.
    fn leaves_rwlock(&self, lock: RwLockId, turn: Turn) -> bool {
        let unwanted = |used: &RwLock| used.line.is_empty() && used.died.is_none() && !used.recalled;
        turn.caller.node != self.config.node
            && self.live.contains(turn.caller.node)
            && self.rwlocks.keepers.len() < self.rwlocks.left_bound
            && self.rwlocks.used.get(&lock).is_some_and(unwanted)
    }

    /// Gives the lock to a caller, with what was written before.
    fn let_in(&mut self, lock: RwLockId, turn: Turn, out: &mut Actions) {
        let leaves = self.leaves_rwlock(lock, turn);
        let used = self.rwlocks.used.get_mut(&lock).expect("the caller has found it");
        let died = used.died;
        if leaves {
            self.rwlocks.left += usize::from(used.keepers.is_empty());
            used.kept_for = turn.access;
            self.rwlocks.keepers.push(&mut used.keepers, Keeper(turn.caller.node));
            let Turn { caller: Caller { node, ticket }, access, .. } = turn;
            self.tell(node, out);
            return self.send(node, Message::RwLeave { lock, ticket, access }, out);
        }
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
                Some(Turn { caller: Caller { node, ticket }, access, waits: false })
                    if used.is_held_against(access) =>
                {
                    self.rwlocks.in_line.pop(&mut used.line);
                    self.send(node, Message::RwBusy { lock, ticket }, out);
                }
                _ => break,
            }
        }
        self.recall_rwlock(lock, out);
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
            // Names go round: two of a node that hold it for very different times can have one, and each gives back one.
            let left = self.rwlocks.reading.remove_one(&mut used.readers, caller);
            used.reading -= usize::from(left);
            if !left {
                self.rwlocks.in_line.remove_where(&mut used.line, |turn| turn.caller == caller);
            }
        }
        self.serve_line(lock, out);
        Ok(())
    }

    /// A node with which the lock was left says that one of its calls has it. More follows.
    pub(super) fn rw_hold(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        ticket: Ticket,
        access: Access,
    ) -> Handled {
        if sync_home(lock.0, self.config.nodes) != self.config.node {
            return Err(NOT_ITS_HOME);
        }
        if !self.rwlocks.is_kept_by(lock, from) {
            return Err(NOT_LEFT);
        }
        if self.rwlocks.reading.of(from) >= limits::READERS_OF_ONE_NODE {
            return Err("it holds more locks than it can");
        }
        let used = self.rwlocks.used.get_mut(&lock).expect("it is kept");
        let may_write = used.kept_for == Access::Write && used.reading == 0;
        if used.writer.is_some() || (access == Access::Write && !may_write) {
            return Err("it cannot have the lock beside those who have it");
        }
        let caller = Caller { node: from, ticket };
        match access {
            Access::Read => {
                self.rwlocks.reading.push(&mut used.readers, caller);
                used.reading += 1;
            }
            Access::Write => used.writer = Some(caller),
        }
        Ok(())
    }

    /// A node with which the lock was left gives it back; it has said who has it.
    pub(super) fn rw_yielded(&mut self, from: NodeId, lock: RwLockId, out: &mut Actions) -> Handled {
        if sync_home(lock.0, self.config.nodes) != self.config.node {
            return Err(NOT_ITS_HOME);
        }
        if !self.rwlocks.take_back(lock, from) {
            return Err(NOT_LEFT);
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
            let for_writing = used.kept_for == Access::Write;
            if self.rwlocks.take_back(lock, lost)
                && for_writing
                && let Some(used) = self.rwlocks.used.get_mut(&lock)
            {
                used.died = Some(lost);
            }
            self.serve_line(lock, out);
        }
    }
}

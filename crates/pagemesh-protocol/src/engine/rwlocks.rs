//! Reader-writer locks: one line for readers and writers at each lock's home, first come, first served.
//!
//! Who holds the lock is either one writer or any number of readers. A reader comes in at once when no writer has the lock and nobody
//! stands in line; with a writer in line it stands behind that writer. So readers that keep coming do not keep a writer out: a
//! writer waits for those who came before it, and for nobody else, and a reader likewise. When the lock is given back, the first
//! in line comes in, and with a reader all readers up to the next writer. Where it can be, that is done by who gives it back (`naming.rs`, `handing.rs`).
//!
//! When it lets somebody in and nobody stands in line, the home leaves the lock with that node, whose threads then need it no more for theirs (`kept.rs`):
//! for reading with any number of nodes, for writing with one. With somebody in line it calls back all that it has left.
//!
//! When a writer is lost with the lock, all who get it are told, up to and with the next writer: readers cannot mend what was
//! left half written. A reader that is lost leaves nothing behind. Of a node that is lost with a lock that was left with it for writing nobody
//! knows whether it wrote; it counts as one that did.

use super::locks::{Caller, NumberMap, TOO_MANY_CALLS};
use super::naming::Name;
use super::planted::Planted;
use super::queue::{Arena, Queue, Waiter};
use super::{Engine, EngineConfig, Handled, sync_home};
use crate::action::Actions;
use crate::ids::{Access, NodeId, RwLockId, Ticket};
use crate::limits;
use crate::message::{Message, Named};

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

/// A call in line at its lock's home.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct InLine {
    pub(super) turn: Turn,
    /// It has had the lock from who stood before it, and given it back, and let in so many of those who stand behind it; of all which the home
    /// hears here before it hears of the one before.
    pub(super) over: Option<usize>,
    /// Somebody who is lost may have let it in.
    pub(super) may_have_it: bool,
}

impl Waiter for InLine {
    fn node(&self) -> NodeId {
        self.turn.caller.node
    }
}

/// A call that has a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Holder {
    pub(super) caller: Caller,
    /// Who let it in, if that was not the home, and it is not certain to have heard of it.
    pub(super) from: Option<NodeId>,
    /// The news that it was to hear.
    pub(super) died: Option<NodeId>,
}

impl Waiter for Holder {
    fn node(&self) -> NodeId {
        self.caller.node
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RwLock {
    pub(super) readers: Queue,
    pub(super) reading: usize,
    pub(super) writer: Option<Holder>,
    /// The node that was lost while it wrote, until the next writer was told.
    pub(super) died: Option<NodeId>,
    pub(super) line: Queue,
    /// Who comes next, as it was told to those before.
    pub(super) names: Queue,
    /// Nodes with whom the lock is left, what for, and whether it was called back.
    pub(super) keepers: Queue,
    kept_for: Access,
    recalled: bool,
    /// Who is to have it from its only keeper; and whether that is a writer that was lost.
    pub(super) promised: Option<(Caller, bool)>,
}

impl Default for RwLock {
    fn default() -> RwLock {
        RwLock {
            readers: Queue::default(),
            reading: 0,
            writer: None,
            died: None,
            line: Queue::default(),
            names: Queue::default(),
            keepers: Queue::default(),
            kept_for: Access::Read,
            recalled: false,
            promised: None,
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
    pub(super) used: NumberMap<RwLockId, RwLock>,
    pub(super) reading: Arena<Holder>,
    pub(super) in_line: Arena<InLine>,
    pub(super) names: Arena<Name>,
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
            names: Arena::with_capacity(config.tickets, config.nodes),
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

    /// Calls that were named to others.
    pub(super) fn named(&self) -> usize {
        self.names.len()
    }

    /// The call has the lock, which this node let it in with, or the home; returns the news that it is to hear.
    pub(super) fn hold(
        &mut self,
        lock: RwLockId,
        caller: Caller,
        access: Access,
        from: Option<NodeId>,
    ) -> Option<NodeId> {
        let used = self.used.get_mut(&lock)?;
        let holder = Holder { caller, from, died: used.died };
        match access {
            Access::Read => {
                self.reading.push(&mut used.readers, holder);
                used.reading += 1;
            }
            Access::Write => {
                used.writer = Some(holder);
                used.died = None;
            }
        }
        holder.died
    }

    /// This node is lost, and may have let in those that were named to it.
    fn suspect(&mut self, lock: RwLockId, lost: NodeId) {
        let Some(used) = self.used.get_mut(&lock) else { return };
        let promised =
            used.promised.filter(|_| self.keepers.iter(used.keepers).any(|keeper| keeper.0 == lost));
        let named = self.names.iter(used.names).filter(|name| name.to.node == lost).map(|name| name.next);
        for next in named.chain(promised.map(|(next, _)| next)) {
            self.in_line.change(
                used.line,
                |entry| entry.turn.caller == next,
                |entry| entry.may_have_it = true,
            );
        }
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
            (used.recalled, used.promised) = (false, None);
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
        let in_doubt = self.rwlocks.is_in_doubt(lock);
        let beside = self.planted(Planted::WriterBesideReaders);
        let beside_keepers = self.planted(Planted::WriterBesideKeepers);
        let used = self.rwlocks.used.entry(lock).or_default();
        let admits = used.admits(access)
            || beside && used.writer.is_none() && !used.is_kept_against(access)
            || beside_keepers && used.kept_for == Access::Read && !used.is_held_against(access);
        // Whether others have what a try wants is known only when the keepers have answered.
        let unknown = used.is_kept_against(access) || in_doubt;
        let answered = !unknown
            || used.is_held_against(access)
            || self.rwlocks.in_line.iter(used.line).any(|entry| entry.turn.waits);
        if used.line.is_empty() && admits && !in_doubt {
            self.let_in(lock, turn, false, out);
        } else if !waits && answered {
            self.send(from, Message::RwBusy { lock, ticket }, out);
        } else if self.rwlocks.in_line.of(from) >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        } else {
            self.rwlocks.in_line.push(&mut used.line, InLine { turn, over: None, may_have_it: false });
            self.recall_rwlock(lock, out);
            self.name_next(lock, out);
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
        let alone = keepers.len() == 1 && used.writer.is_none() && used.reading == 0;
        let next = self.rwlocks.in_line.first(used.line).filter(|next| {
            let (node, own) = (next.turn.caller.node, self.config.node);
            alone && next.turn.waits && node != own && !self.is_cut(keepers[0].0, node)
        });
        let next = next.map(|next| next.turn.caller);
        if let Some(used) = self.rwlocks.used.get_mut(&lock) {
            used.promised = next.map(|next| (next, false));
        }
        let next = next.map(|Caller { node, ticket }| (node, ticket));
        for Keeper(node) in keepers {
            self.send(node, Message::RwRecall { lock, next }, out);
        }
    }

    /// Whether the lock, which `turn` is about to get, is then left with its node.
    fn leaves_rwlock(&self, lock: RwLockId, turn: Turn) -> bool {
        let unwanted = |used: &RwLock| used.line.is_empty() && used.died.is_none() && !used.recalled;
        // Who has given back so many for want of room would give this one back with all of them.
        let has_room =
            turn.access == Access::Write || self.rwlocks.reading.of(turn.caller.node) < limits::READERS_KEPT;
        has_room
            && turn.caller.node != self.config.node
            && self.live.contains(turn.caller.node)
            && self.rwlocks.keepers.len() < self.rwlocks.left_bound
            && self.rwlocks.used.get(&lock).is_some_and(unwanted)
    }

    /// Gives the lock to a caller, with what was written before. One that may have it already is not left with it, as it would not know which of its calls
    /// are meant.
    fn let_in(&mut self, lock: RwLockId, turn: Turn, may_have_it: bool, out: &mut Actions) {
        let leaves = !may_have_it && self.leaves_rwlock(lock, turn);
        if leaves {
            return self.leave_rwlock(lock, turn, out);
        }
        let Caller { node, ticket } = turn.caller;
        let died = self.rwlocks.hold(lock, turn.caller, turn.access, None);
        self.tell(node, out);
        self.send(node, Message::RwGrant { lock, ticket, died }, out);
    }

    /// Leaves the lock with the node of this call, whose calls that have it are the keeper's from now on.
    fn leave_rwlock(&mut self, lock: RwLockId, turn: Turn, out: &mut Actions) {
        let Turn { caller: Caller { node, ticket }, access, .. } = turn;
        let forgets = !self.planted(Planted::LeaveBesideHold);
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        self.rwlocks.left += usize::from(used.keepers.is_empty());
        used.kept_for = access;
        self.rwlocks.keepers.push(&mut used.keepers, Keeper(node));
        if forgets {
            used.reading -= self.rwlocks.reading.remove_node(&mut used.readers, node);
            used.writer = used.writer.filter(|writer| writer.node() != node);
        }
        self.tell(node, out);
        self.send(node, Message::RwLeave { lock, ticket, access }, out);
    }

    /// Leaves the lock with the node that has it, if another let it in and nobody stands in line any more.
    fn leave_with_holder(&mut self, lock: RwLockId, out: &mut Actions) {
        let Some(used) = self.rwlocks.used.get(&lock).filter(|used| used.names.is_empty()) else { return };
        let Some(holder) = used.writer.or(self.rwlocks.reading.first(used.readers)) else { return };
        let access = if used.writer.is_some() { Access::Write } else { Access::Read };
        let elsewhere = |reader: &Holder| reader.node() != holder.node();
        let alone = used.keepers.is_empty() && self.rwlocks.reading.find(used.readers, elsewhere).is_none();
        let turn = Turn { caller: holder.caller, access, waits: true };
        if alone && holder.from.is_some() && self.leaves_rwlock(lock, turn) {
            self.leave_rwlock(lock, turn, out);
        }
    }

    /// Lets those in whose turn has come; forgets the lock when nobody has or wants it.
    pub(super) fn serve_line(&mut self, lock: RwLockId, out: &mut Actions) {
        let starves = self.planted(Planted::StarveReaders);
        loop {
            let in_doubt = self.rwlocks.is_in_doubt(lock);
            let Some(used) = self.rwlocks.used.get_mut(&lock) else { break };
            let Some(entry) = self.rwlocks.in_line.first(used.line) else { break };
            let InLine { turn, over, may_have_it } = entry;
            let Turn { caller, access, waits } = turn;
            let may_have_it =
                may_have_it || self.rwlocks.names.find(used.names, |name| name.next == caller).is_some();
            if used.admits(access) && !in_doubt && !(starves && access == Access::Read) {
                self.rwlocks.in_line.pop(&mut used.line);
                self.unname(lock, caller, false, out);
                match over {
                    None => self.let_in(lock, turn, may_have_it, out),
                    Some(passed) => {
                        self.rwlocks.hold(lock, caller, access, None);
                        self.end_hold(lock, caller, passed, out);
                    }
                }
            } else if !waits && used.is_held_against(access) {
                self.rwlocks.in_line.pop(&mut used.line);
                self.send(caller.node, Message::RwBusy { lock, ticket: caller.ticket }, out);
            } else {
                break;
            }
        }
        self.recall_rwlock(lock, out);
        self.name_next(lock, out);
        self.leave_with_holder(lock, out);
        if let Some(used) = self.rwlocks.used.get(&lock).filter(|used| used.is_idle()) {
            debug_assert!(used.names.is_empty(), "whoever names were told to is gone");
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
        // Names go round: two of a node that hold it for very different times can have one, and each gives back one.
        let has = |holder: Holder| holder.caller == caller;
        if used.writer.is_some_and(has) || self.rwlocks.reading.iter(used.readers).any(has) {
            self.end_hold(lock, caller, 0, out);
        } else {
            self.leave_line(lock, caller, false, out);
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
        let used = &self.rwlocks.used[&lock];
        let may_write = used.kept_for == Access::Write && used.reading == 0;
        if used.writer.is_some() || (access == Access::Write && !may_write) {
            return Err("it cannot have the lock beside those who have it");
        }
        self.rwlocks.hold(lock, Caller { node: from, ticket }, access, None);
        Ok(())
    }

    /// A node with which the lock was left gives it back; it has said who has it.
    pub(super) fn rw_yielded(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        named: Named,
        out: &mut Actions,
    ) -> Handled {
        if sync_home(lock.0, self.config.nodes) != self.config.node {
            return Err(NOT_ITS_HOME);
        }
        if !self.rwlocks.is_kept_by(lock, from) {
            return Err(NOT_LEFT);
        }
        let used = &self.rwlocks.used[&lock];
        let promised = used.promised;
        let waits = promised.is_some_and(|(next, _)| {
            self.rwlocks.in_line.find(used.line, |waits| waits.turn.caller == next).is_some()
        });
        let is_its = |holder: &Holder| holder.caller.node == from;
        let reader = self.rwlocks.reading.find(used.readers, is_its);
        let only = used.writer.filter(is_its).or(reader).map(|holder| holder.caller);
        let all = used.reading + usize::from(used.writer.is_some());
        // Others may have come in when the one that was named has given up.
        let possible = match named {
            Named::Left => true,
            Named::LetIn => promised.is_some() && only.is_none() && (all == 0 || !waits),
            Named::KeptInMind => promised.is_some() && only.is_some() && (all == 1 || !waits),
        };
        if !possible {
            return Err("nobody can have the lock straight from it");
        }
        self.rwlocks.take_back(lock, from);
        match (named, promised, only) {
            (Named::LetIn, Some(next), _) => {
                if let Some((caller, passed)) = self.enter_from(from, lock, next, out) {
                    self.end_hold(lock, caller, passed, out);
                }
            }
            (Named::KeptInMind, Some(next), Some(caller)) => {
                self.name_to_hold(lock, caller, next, out);
            }
            _ => {}
        }
        self.serve_line(lock, out);
        Ok(())
    }

    pub(super) fn mend_rwlocks(&mut self, lost: NodeId, out: &mut Actions) {
        let mut all: Vec<RwLockId> = self.rwlocks.used.keys().copied().collect();
        all.sort_unstable();
        let keeps = self.planted(Planted::KeepDeadReader);
        for lock in all {
            self.rwlocks.suspect(lock, lost);
            while let Some(used) = self.rwlocks.used.get(&lock)
                && let Some(gone) = self.rwlocks.in_line.find(used.line, |gone| gone.node() == lost)
            {
                self.leave_line(lock, gone.turn.caller, true, out);
            }
            self.lose_holders(lock, lost, keeps);
            self.serve_line(lock, out);
        }
        self.let_in_again(lost, None, out);
    }

    /// A node is lost with what it has of this lock. What it had for writing, or was to hand over to a writer that is lost, may have been written under.
    fn lose_holders(&mut self, lock: RwLockId, lost: NodeId, keeps_readers: bool) {
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        let handed = self.rwlocks.names.iter(used.names).find(|name| name.lost && name.to.node == lost);
        used.died = handed.map(|name| name.next.node).or(used.died);
        if !keeps_readers {
            used.reading -= self.rwlocks.reading.remove_node(&mut used.readers, lost);
        }
        if used.writer.take_if(|writer| writer.node() == lost).is_some() {
            used.died = Some(lost);
        }
        self.rwlocks.names.remove_where(&mut used.names, |name| name.to.node == lost);
        let for_writing = used.kept_for == Access::Write;
        let promised = used.promised.filter(|(_, is_lost)| *is_lost);
        if self.rwlocks.take_back(lock, lost)
            && let Some(used) = self.rwlocks.used.get_mut(&lock)
        {
            used.died =
                if for_writing { Some(lost) } else { promised.map(|(next, _)| next.node).or(used.died) };
        }
    }
}

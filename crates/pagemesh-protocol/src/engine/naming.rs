//! Reader-writer locks that go straight from who has them to the next: the home's part.
//!
//! Where one call has the lock alone, or is to have it alone, the home names to that call who stands behind it: a writer, or readers up to the next
//! writer (Next). That one lets them in (`handing.rs`), and the home hears of it afterwards (Passed). So a hand-over is one hop, and the next is known
//! long before, however short the time for which each has the lock. Several readers who have it together are gathered here.
//!
//! The home never looks for a lock after a loss. A grant is for one call of one node, and who does not wait for it any more drops it. So whatever
//! became of a lock that somebody let others in with, the home lets them in once more where that may have been lost:
//!
//! | what is lost | what the home does |
//! |---|---|
//! | who had the lock, to whom others were named | lets them in, as it does with all who come next |
//! | who let others in that have it now | lets them in once more |
//! | the link between those two | the same, when it hears of it; it names them to each other no more |
//! | who was named, to a call that lives | has that call forget; the lost one counts as having had the lock if it was let in |
//!
//! Reports may come in any order: who was let in may have let in the next before the home has heard of the first. Then it stands in line as one that is over
//! until its turn comes in the books, too.
//!
//! Who gave up is named no more (Forget). The home does not name anybody else to that call until it has answered (Forgotten): so what was named
//! is always what both think, and a count is enough to say who was let in.

use super::locks::Caller;
use super::planted::Planted;
use super::queue::{Queue, Waiter};
use super::rwlocks::{Holder, InLine, RwLocks};
use super::{Engine, Handled, sync_home};
use crate::action::Actions;
use crate::ids::{Access, NodeId, RwLockId, Ticket};
use crate::limits;
use crate::message::{HandOver, Message};

const NOT_ITS_HOME: &str = "this node is not the home of the reader-writer lock";
const NOT_NAMED: &str = "it let in more calls than were named to it";

/// Who comes next, as it was told to a call that has the lock or stands before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Name {
    pub(super) to: Caller,
    pub(super) next: Caller,
    /// It was to write, and its node was lost: if it was let in, it may have written.
    pub(super) lost: bool,
    /// `to` was told to forget it, and has not answered.
    pub(super) void: bool,
}

impl Waiter for Name {
    fn node(&self) -> NodeId {
        self.to.node
    }
}

/// Calls that stand in line together: one writer, or readers.
struct Run {
    access: Access,
    calls: usize,
    /// A writer that others can be named to. A reader will perhaps not be alone: when the writer before it gives up, it joins those before that.
    hands_over: Option<Caller>,
    /// Whether all of it were named so far.
    named: bool,
}

impl RwLocks {
    /// Whether a lost one may have the lock, or have had it, from a call that has not given it back as far as is known here.
    pub(super) fn is_in_doubt(&self, lock: RwLockId) -> bool {
        let Some(used) = self.used.get(&lock) else { return false };
        let has = |caller: Caller| {
            let writes = used.writer.is_some_and(|writer| writer.caller == caller);
            writes || self.reading.iter(used.readers).any(|reader| reader.caller == caller)
        };
        self.names.iter(used.names).any(|name| name.lost && has(name.to))
    }

    /// Who is to be named next, and to whom, of those whom `can` is right about.
    fn nameable(
        &self,
        lock: RwLockId,
        among_readers: bool,
        can: impl Fn(Caller, &InLine) -> bool,
    ) -> Option<(Caller, Caller)> {
        let used = self.used.get(&lock)?;
        let names = || self.names.iter(used.names);
        let reader = || self.reading.first(used.readers).map(|reader| reader.caller);
        let alone = used.reading == 1 || (among_readers && used.reading > 0);
        let mut before = match used.writer {
            _ if !used.keepers.is_empty() => None,
            Some(writer) => Some(writer.caller),
            None => reader().filter(|_| alone),
        };
        let mut run: Option<Run> = None;
        for waits in self.in_line.iter(used.line).take(limits::RWLOCK_NAMED) {
            let (caller, access) = (waits.turn.caller, waits.turn.access);
            let stays = waits.turn.waits && waits.over.is_none();
            let joins = |run: &Run| run.access == Access::Read && access == Access::Read;
            if !run.as_ref().is_some_and(joins) {
                if let Some(run) = run {
                    before = run.hands_over;
                }
                let hands_over = Some(caller).filter(|_| stays && access == Access::Write);
                run = Some(Run { access, calls: 0, hands_over, named: true });
            }
            let Some(run) = run.as_mut() else { break };
            run.calls += 1;
            if names().any(|name| name.next == caller) {
                continue;
            }
            if let Some(to) = before.filter(|to| stays && run.named && can(*to, &waits))
                && names().filter(|name| name.to == to).count() + 1 == run.calls
                && !names().any(|name| name.to == to && name.void)
            {
                return Some((to, caller));
            }
            run.named = false;
        }
        None
    }
}

impl Engine {
    /// Whether these two cannot reach each other, as far as is known here.
    pub(super) fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        self.locks.mends.cut.iter().any(|pair| *pair == (one, other) || *pair == (other, one))
    }

    /// Whether the home may name this call of the line to that one. What this node gives back or gets goes from here in one hop as it is.
    fn can_hand_over(&self, to: Caller, next: &InLine) -> bool {
        let own = self.config.node;
        let comes_home = next.turn.access == Access::Write && next.turn.caller.node == own;
        to.node != own && !comes_home && !self.is_cut(to.node, next.turn.caller.node)
    }

    /// Names those who stand in line to those before them, as far as that is of use.
    pub(super) fn name_next(&mut self, lock: RwLockId, out: &mut Actions) {
        let among_readers = self.planted(Planted::NameAmongReaders);
        let can = |to, next: &InLine| self.can_hand_over(to, next);
        let Some((to, next)) = self.rwlocks.nameable(lock, among_readers, can) else { return };
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        self.rwlocks.names.push(&mut used.names, Name { to, next, lost: false, void: false });
        let step = HandOver::Next { node: next.node, ticket: next.ticket };
        self.send(to.node, Message::RwHandOver { lock, ticket: to.ticket, step }, out);
        self.name_next(lock, out);
    }

    fn say_forget(&mut self, to: Caller, lock: RwLockId, out: &mut Actions) {
        self.send(to.node, Message::RwHandOver { lock, ticket: to.ticket, step: HandOver::Forget }, out);
    }

    /// The only call of a keeper that has the lock knows who comes next.
    pub(super) fn name_to_hold(
        &mut self,
        lock: RwLockId,
        to: Caller,
        (next, lost): (Caller, bool),
        out: &mut Actions,
    ) {
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        let void = !self.rwlocks.in_line.iter(used.line).any(|waits| waits.turn.caller == next);
        self.rwlocks.names.push(&mut used.names, Name { to, next, lost, void });
        if void {
            self.say_forget(to, lock, out);
        }
    }

    /// Takes a call out of the line that gave up, or whose node is lost.
    pub(super) fn leave_line(&mut self, lock: RwLockId, caller: Caller, is_lost: bool, out: &mut Actions) {
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        let is_it = |waits: &InLine| waits.turn.caller == caller;
        let Some(gone) = self.rwlocks.in_line.take_first(&mut used.line, is_it) else { return };
        let lost = is_lost && gone.turn.access == Access::Write && gone.over.is_none();
        if let Some(promise) = used.promised.as_mut().filter(|promise| promise.0 == caller) {
            promise.1 |= lost;
        }
        self.rwlocks.names.remove_where(&mut used.names, |name| name.to == caller);
        self.unname(lock, caller, lost, out);
    }

    /// A call does not wait for the one that it was named to any more: that is to forget it, and all that were named with it.
    pub(super) fn unname(&mut self, lock: RwLockId, next: Caller, lost: bool, out: &mut Actions) {
        let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
        let names = &mut self.rwlocks.names;
        let Some(Name { to, .. }) = names.find(used.names, |name| name.next == next) else { return };
        names.change(used.names, |name| name.next == next, |name| name.lost |= lost);
        let told = names.find(used.names, |name| name.to == to && name.void).is_some();
        while names.find(used.names, |name| name.to == to && !name.void).is_some() {
            names.change(used.names, |name| name.to == to && !name.void, |name| name.void = true);
        }
        if !told {
            self.say_forget(to, lock, out);
        }
    }

    /// A call that had the lock has given it back, and let in the first so many of those that were named to it.
    pub(super) fn end_hold(&mut self, lock: RwLockId, caller: Caller, passed: usize, out: &mut Actions) {
        let mut over = Some((caller, passed));
        while let Some((caller, mut passed)) = over.take() {
            let Some(used) = self.rwlocks.used.get_mut(&lock) else { return };
            if used.writer.take_if(|writer| writer.caller == caller).is_none() {
                let is_it = |reader: &Holder| reader.caller == caller;
                let left = self.rwlocks.reading.take_first(&mut used.readers, is_it);
                used.reading -= usize::from(left.is_some());
            }
            let (mut names, mut kept) = (std::mem::take(&mut used.names), Queue::default());
            while let Some(name) = self.rwlocks.names.pop(&mut names) {
                if name.to != caller {
                    self.rwlocks.names.push(&mut kept, name);
                } else if passed > 0 {
                    passed -= 1;
                    over = self.enter_from(caller.node, lock, (name.next, name.lost), out).or(over);
                }
            }
            if let Some(used) = self.rwlocks.used.get_mut(&lock) {
                used.names = kept;
            }
        }
    }

    /// A call of the line was let in by this node. When it has given the lock back since: that, and how many it let in.
    pub(super) fn enter_from(
        &mut self,
        by: NodeId,
        lock: RwLockId,
        (next, lost): (Caller, bool),
        out: &mut Actions,
    ) -> Option<(Caller, usize)> {
        let used = self.rwlocks.used.get_mut(&lock)?;
        let is_it = |waits: &InLine| waits.turn.caller == next;
        let Some(entry) = self.rwlocks.in_line.take_first(&mut used.line, is_it) else {
            // It gave up before, and lets nobody in; or it was lost.
            used.died = used.died.or(lost.then_some(next.node));
            if self.planted(Planted::CountGivenUp) && !lost {
                self.rwlocks.hold(lock, next, Access::Read, Some(by));
            }
            return None;
        };
        let died = self.rwlocks.hold(lock, next, entry.turn.access, Some(by));
        if entry.over.is_none() && self.is_cut(by, next.node) {
            self.hand_over(next, lock, died, out);
        }
        entry.over.map(|passed| (next, passed))
    }

    /// A call has given the lock back and let others in.
    pub(super) fn rw_passed(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        ticket: Ticket,
        count: usize,
        out: &mut Actions,
    ) -> Handled {
        if sync_home(lock.0, self.config.nodes) != self.config.node {
            return Err(NOT_ITS_HOME);
        }
        let caller = Caller { node: from, ticket };
        let Some(used) = self.rwlocks.used.get(&lock) else { return Ok(()) };
        let is_it = |holder: Holder| holder.caller == caller;
        let has = used.writer.is_some_and(is_it) || self.rwlocks.reading.iter(used.readers).any(is_it);
        // Who let it in has not said so yet.
        let waits = |waits: &InLine| waits.turn.caller == caller && waits.over.is_none();
        let early = !has && self.rwlocks.in_line.find(used.line, waits).is_some();
        let named = self.rwlocks.names.iter(used.names).filter(|name| name.to == caller).count();
        if (has || early) && count > named {
            return Err(NOT_NAMED);
        }
        if has {
            self.end_hold(lock, caller, count, out);
            self.serve_line(lock, out);
        } else if early && !self.planted(Planted::ForgetEarlyHandOver) {
            self.rwlocks.in_line.change(used.line, waits, |entry| entry.over = Some(count));
        }
        Ok(())
    }

    /// A call has forgotten whom it was to let in.
    pub(super) fn rw_forgotten(
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
        if let Some(used) = self.rwlocks.used.get_mut(&lock)
            && !self
                .rwlocks
                .in_line
                .iter(used.line)
                .any(|waits| waits.turn.caller == caller && waits.over.is_some())
        {
            self.rwlocks.names.remove_where(&mut used.names, |name| name.to == caller && name.void);
            self.serve_line(lock, out);
        }
        Ok(())
    }

    /// These calls have the lock from a node that is lost, or that they cannot reach: what it sent them may be lost, too.
    pub(super) fn let_in_again(&mut self, by: NodeId, only: Option<NodeId>, out: &mut Actions) {
        let mut all: Vec<RwLockId> = self.rwlocks.used.keys().copied().collect();
        all.sort_unstable();
        for lock in all {
            let Some(used) = self.rwlocks.used.get_mut(&lock) else { continue };
            let wanted = |holder: &Holder| {
                holder.from == Some(by) && only.is_none_or(|only| holder.caller.node == only)
            };
            if let Some(writer) = used.writer.as_mut().filter(|writer| wanted(writer)) {
                writer.from = None;
                let Holder { caller, died, .. } = *writer;
                self.hand_over(caller, lock, died, out);
            }
            while let Some(used) = self.rwlocks.used.get_mut(&lock)
                && let Some(reader) = self.rwlocks.reading.find(used.readers, wanted)
            {
                self.rwlocks.reading.change(used.readers, wanted, |holder| holder.from = None);
                self.hand_over(reader.caller, lock, reader.died, out);
            }
        }
    }
}

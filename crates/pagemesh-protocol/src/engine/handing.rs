//! Reader-writer locks that go straight from who has them to the next: the holder's part.
//!
//! The home, which keeps the line, names to a call that has the lock alone, or is to have it, who comes next (`naming.rs`). When that call gives the
//! lock back, its node lets those in itself, with what was written before, and then tells the home how many it were:
//!
//! | event, about a call that has the lock or waits for it | what happens |
//! |---|---|
//! | Next | the one that is named is kept in mind |
//! | the call gives the lock back, nobody is named | RwRelease to the home |
//! | the call gives the lock back, some are named | RwGrant to each, then Passed to the home with how many they were |
//! | the call gives up | those that were named are forgotten, and RwRelease goes to the home |
//! | Forget | those that were named are forgotten, and Forgotten goes to the home |
//!
//! A named one that this node has lost is not let in, nor is any after it: the home does that.

use super::locks::{Caller, NumberMap};
use super::planted::Planted;
use super::queue::{Arena, Queue};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, sync_home};
use crate::action::{Actions, Outcome};
use crate::ids::{Access, NodeId, RwLockId, Ticket};
use crate::limits;
use crate::message::{HandOver, Message};

const NO_NEXT: &str = "the next to have the reader-writer lock is no node of the mesh";

/// A call of this node that has a reader-writer lock of another home, or waits for it and was told who comes next.
#[derive(Clone, Copy, Debug)]
struct Hand {
    /// How often the lock is held under this name: names go round.
    holds: u32,
    access: Access,
    /// The news that the next are to hear, too.
    died: Option<NodeId>,
    next: Queue,
    named: usize,
}

/// All of them: as many as there are threads of this node that have such locks, and calls that wait for them.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    all: NumberMap<(RwLockId, Ticket), Hand>,
    next: Arena<Caller>,
}

impl Hands {
    pub(super) fn new(config: EngineConfig) -> Hands {
        let mut all = NumberMap::default();
        all.reserve(config.locks.min(limits::OBJECTS_AT_HAND));
        Hands { all, next: Arena::with_capacity(config.tickets, config.nodes) }
    }

    /// Calls that are kept in mind, and those that are named to them.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.all.len(), self.next.len())
    }

    fn find(&mut self, lock: RwLockId, ticket: Ticket) -> &mut Hand {
        let fresh = Hand { holds: 0, access: Access::Read, died: None, next: Queue::default(), named: 0 };
        self.all.entry((lock, ticket)).or_insert(fresh)
    }

    /// The call has the lock now; with `died`, the next are told so, too.
    pub(super) fn begin(&mut self, lock: RwLockId, ticket: Ticket, access: Access, died: Option<NodeId>) {
        let hand = self.find(lock, ticket);
        hand.holds += 1;
        hand.access = access;
        hand.died = died;
    }

    /// Keeps in mind who comes after a call. False when more are named than a home does.
    pub(super) fn name(&mut self, lock: RwLockId, ticket: Ticket, next: Caller) -> bool {
        let hand = self.find(lock, ticket);
        if hand.named >= limits::RWLOCK_NAMED {
            return false;
        }
        hand.named += 1;
        let mut queue = hand.next;
        self.next.push(&mut queue, next);
        if let Some(hand) = self.all.get_mut(&(lock, ticket)) {
            hand.next = queue;
        }
        true
    }

    /// Forgets those that were named, and how many that were.
    fn unname(&mut self, lock: RwLockId, ticket: Ticket) {
        if let Some(hand) = self.all.get_mut(&(lock, ticket)) {
            let mut queue = std::mem::take(&mut hand.next);
            hand.named = 0;
            while self.next.pop(&mut queue).is_some() {}
        }
    }

    /// The lock is left with this node: its calls that have it are the keeper's, once for each time that they have it.
    pub(super) fn leave(&mut self, lock: RwLockId) -> Vec<(Ticket, Access)> {
        let mut held = Vec::new();
        let next = &mut self.next;
        self.all.retain(|(held_lock, ticket), hand| {
            let goes = *held_lock == lock;
            while goes && next.pop(&mut hand.next).is_some() {}
            held.extend((0..hand.holds).filter(|_| goes).map(|_| (*ticket, hand.access)));
            !goes
        });
        held.sort_unstable_by_key(|(ticket, _)| ticket.to_wire());
        held
    }

    /// The call waits no more, and does not have the lock from its home.
    pub(super) fn forget(&mut self, lock: RwLockId, ticket: Ticket) {
        self.unname(lock, ticket);
        if self.all.get(&(lock, ticket)).is_some_and(|hand| hand.holds == 0) {
            self.all.remove(&(lock, ticket));
        }
    }

    /// The call gives the lock back: the news that goes with it, and those to whom it goes.
    fn end(&mut self, lock: RwLockId, ticket: Ticket) -> (Option<NodeId>, Queue) {
        let Some(hand) = self.all.get_mut(&(lock, ticket)) else { return (None, Queue::default()) };
        if hand.holds > 1 {
            // Another has it under the same name, and nobody is let in beside that.
            hand.holds -= 1;
            self.unname(lock, ticket);
            return (None, Queue::default());
        }
        let Hand { died, next, .. } = *hand;
        self.all.remove(&(lock, ticket));
        (died, next)
    }

    /// All locks of a home that is lost.
    pub(super) fn lose(&mut self, mut gone: impl FnMut(RwLockId) -> bool) {
        let next = &mut self.next;
        self.all.retain(|(lock, _), hand| {
            let goes = gone(*lock);
            while goes && next.pop(&mut hand.next).is_some() {}
            !goes
        });
    }
}

impl Engine {
    /// The lock comes, from its home or from who had it before, for the call of this name. When that does not wait for it, it is a late one and means
    /// nothing.
    pub(super) fn rw_granted(
        &mut self,
        lock: RwLockId,
        ticket: Ticket,
        died: Option<NodeId>,
        out: &mut Actions,
    ) -> Handled {
        self.check_news(died)?;
        self.drop_written(out);
        if let Wait::RwLock { lock: wanted, access, .. } = self.tickets.wait(ticket)
            && wanted == lock
            && !self.keeps(lock)
        {
            if sync_home(lock.0, self.config.nodes) != self.config.node {
                self.hands.begin(lock, ticket, access, died.filter(|_| access == Access::Read));
            }
            self.complete(ticket, died.map_or(Outcome::Done, Outcome::OwnerDied), out);
        }
        Ok(())
    }

    /// A thread gives back a lock that it had from its home or from another holder.
    pub(super) fn rw_give_back(&mut self, ticket: Ticket, lock: RwLockId, out: &mut Actions) {
        let home = sync_home(lock.0, self.config.nodes);
        self.release_interval(out);
        let (died, mut next) = self.hands.end(lock, ticket);
        let (mut count, mut stopped) = (0, false);
        while let Some(caller) = self.hands.next.pop(&mut next) {
            stopped |= !self.live.contains(caller.node);
            if !stopped {
                self.hand_over(caller, lock, died, out);
                count += 1;
            }
        }
        if !self.planted(Planted::HandOverHomeUntold) || count == 0 {
            self.tell(home, out);
        }
        let message = match count {
            0 => Message::RwRelease { lock, ticket },
            count => Message::RwHandOver { lock, ticket, step: HandOver::Passed { count } },
        };
        self.send(home, message, out);
    }

    /// Lets a call in, after what this node wrote was told.
    pub(super) fn hand_over(&mut self, to: Caller, lock: RwLockId, died: Option<NodeId>, out: &mut Actions) {
        if !self.planted(Planted::HandOverUntold) {
            self.tell(to.node, out);
        }
        self.send(to.node, Message::RwGrant { lock, ticket: to.ticket, died }, out);
    }

    pub(super) fn check_next(&self, node: NodeId) -> Handled {
        if node.get() < self.config.nodes { Ok(()) } else { Err(NO_NEXT) }
    }

    /// What is said about the lock's way from call to call, by the home or to it.
    pub(super) fn rw_hand_over(
        &mut self,
        from: NodeId,
        lock: RwLockId,
        ticket: Ticket,
        step: HandOver,
        out: &mut Actions,
    ) -> Handled {
        match step {
            HandOver::Next { node, ticket: next } => {
                self.check_rw_home(from, lock)?;
                self.check_next(node)?;
                let waits =
                    matches!(self.tickets.wait(ticket), Wait::RwLock { lock: wanted, .. } if wanted == lock);
                let known = self.hands.all.contains_key(&(lock, ticket)) || (waits && !self.keeps(lock));
                let named = !known || self.hands.name(lock, ticket, Caller { node, ticket: next });
                if named { Ok(()) } else { Err("it names more calls at a time than a home does") }
            }
            HandOver::Forget => {
                self.check_rw_home(from, lock)?;
                self.hands.unname(lock, ticket);
                self.send(from, Message::RwHandOver { lock, ticket, step: HandOver::Forgotten }, out);
                Ok(())
            }
            HandOver::Passed { count } => self.rw_passed(from, lock, ticket, count as usize, out),
            HandOver::Forgotten => self.rw_forgotten(from, lock, ticket, out),
        }
    }
}

//! Mutual-exclusion locks, the home's part: who has had a lock, has it or waits for it, in the order in which they asked.
//!
//! A lock that is in use somewhere is a *token*: one node has it, and its threads take it and give it back without a message
//! (`tokens.rs`). The home does not follow it around. It keeps the *chain* of the nodes that asked, and tells the last of them
//! who comes next; that one sends the token there itself, with what was written before:
//!
//! | message | from | to | meaning |
//! |---|---|---|---|
//! | LockAcquire | a node that lacks the token | the home | it is the last in the chain now |
//! | LockForward | the home | who was the last before | who comes next; or, for a try, who wants it if it is idle |
//! | LockGrant | who has the token, or the home when nobody had it | the next | the token |
//! | LockRelease | who has the token | the home | nobody here needs it; for whom it is, if somebody tries |
//! | LockHeld | who has or awaits the token | the home | it is not idle: nothing for one who tries |
//! | LockBusy | the home | who tries | the same |
//!
//! Where in the chain the token is, the home knows only from what it hears: who asks again has passed it on, and so have all before.
//! What is before that is cut off the chain, so a chain never has a node twice. When a node of the chain is lost, the
//! others are asked (`lock_mending.rs`).

use super::lock_mending::Mends;
use super::planted::Planted;
use super::queue::{Arena, Queue, Waiter};
use super::{Engine, EngineConfig, Handled, lock_home, scramble};
use crate::action::Actions;
use crate::ids::{LockId, NodeId, Ticket};
use crate::limits;
use crate::message::Message;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(super) const TOO_MANY_CALLS: &str = "it has more calls waiting than a node may";
const NOT_ITS_HOME: &str = "this node is not the home of the lock";
const ASKED_ALREADY: &str = "it asks for a lock that it has or waits for";

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

/// A waiting call of some node; of a lock, the call under whose name the node asked.
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

/// A lock whose token is not at home.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lock {
    /// Who asked, in order: some that have had the token, the one that has it, then those that wait.
    pub(super) chain: Queue,
    /// From whom the first of them got the token, or is to get it.
    pub(super) before: NodeId,
    /// The token was lost with this node, and nobody was told.
    pub(super) died: Option<NodeId>,
    /// Where the token is has to be found out first.
    pub(super) suspended: bool,
}

/// Somebody tries for a lock, and who would have the token if it is idle was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Try {
    pub(super) lock: LockId,
    pub(super) caller: Caller,
    pub(super) asked: Caller,
}

#[derive(Clone, Debug)]
pub(super) struct Locks {
    bound: usize,
    /// Locks whose token is not at home; others take no room.
    pub(super) used: NumberMap<LockId, Lock>,
    pub(super) queued: Arena<Caller>,
    pub(super) tries: Vec<Try>,
    pub(super) mends: Mends,
}

impl Locks {
    pub(super) fn new(config: EngineConfig) -> Locks {
        let mut used = NumberMap::default();
        used.reserve(config.locks);
        let room = config.locks.max(config.tickets);
        Locks {
            bound: config.locks,
            used,
            queued: Arena::with_capacity(room, config.nodes),
            tries: Vec::with_capacity(config.tickets),
            mends: Mends::default(),
        }
    }

    /// Locks whose token is not at home; and requests behind the first of each, with those that only try.
    pub(super) fn load(&self) -> (usize, usize) {
        let chains = self.used.values().filter(|lock| !lock.chain.is_empty()).count();
        (self.used.len(), self.queued.len() - chains + self.tries.len())
    }
}

impl Engine {
    pub(super) fn handle_lock(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        match *message {
            Message::LockAcquire { lock, ticket } => self.lock_wanted(from, lock, ticket, true, out),
            Message::LockTry { lock, ticket } => self.lock_wanted(from, lock, ticket, false, out),
            Message::LockRelease { lock, ticket, died, wanted } => {
                self.lock_released(from, lock, ticket, (died, wanted), out)
            }
            Message::LockGrant { lock, ticket, died } => self.lock_granted(lock, ticket, died, out),
            Message::LockBusy { lock, ticket } => self.lock_busy(from, lock, ticket, out),
            Message::LockHeld { lock, ticket, node } => {
                self.lock_held(from, lock, Caller { node, ticket }, out)
            }
            Message::LockForward { lock, ticket, node, wanted, waits } => {
                let caller = Caller { node, ticket: wanted };
                self.lock_forwarded(from, lock, ticket, (caller, waits), out)
            }
            Message::LockQuery { lock, round } => self.lock_queried(from, lock, round, out),
            Message::LockState { lock, round, state } => self.lock_stated(from, lock, round, state, out),
            Message::LockCut { node } => self.lock_cut(from, node, out),
            _ => self.handle_object(from, message, out),
        }
    }

    pub(super) fn check_lock_here(&self, lock: LockId) -> Handled {
        if lock_home(lock, self.config.nodes) == self.config.node { Ok(()) } else { Err(NOT_ITS_HOME) }
    }

    /// Gives a token that is at home to a caller, with what was written before or, with `died`, with the news of who had it.
    pub(super) fn grant_lock(&mut self, to: Caller, lock: LockId, died: Option<NodeId>, out: &mut Actions) {
        self.tell(to.node, out);
        self.send(to.node, Message::LockGrant { lock, ticket: to.ticket, died }, out);
    }

    /// Tells `to` who comes next. When the two cannot reach each other, that is this home, which passes the token on.
    pub(super) fn forward(&mut self, lock: LockId, to: Caller, next: Caller, waits: bool, out: &mut Actions) {
        let own = self.config.node;
        let node = if self.is_cut(to.node, next.node) && waits && to.node != own { own } else { next.node };
        let wanted = next.ticket;
        self.send(to.node, Message::LockForward { lock, ticket: to.ticket, node, wanted, waits }, out);
    }

    pub(super) fn lock_wanted(
        &mut self,
        from: NodeId,
        lock: LockId,
        ticket: Ticket,
        waits: bool,
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_here(lock)?;
        let (caller, own) = (Caller { node: from, ticket }, self.config.node);
        let full = self.locks.used.len() >= self.locks.bound;
        let Some(used) = self.locks.used.get_mut(&lock) else {
            if full {
                self.send(from, Message::SyncRefused { ticket }, out);
            } else {
                let mut chain = Queue::default();
                self.locks.queued.push(&mut chain, caller);
                let fresh = Lock { chain, before: own, died: None, suspended: false };
                self.locks.used.insert(lock, fresh);
                self.grant_lock(caller, lock, None, out);
            }
            return Ok(());
        };
        if used.suspended {
            return self.wanted_meanwhile(caller, lock, waits);
        }
        let Some(last) = self.locks.queued.last(used.chain) else {
            let died = used.died.take();
            self.locks.queued.push(&mut used.chain, caller);
            used.before = own;
            self.grant_lock(caller, lock, died, out);
            return Ok(());
        };
        if last.node == from {
            return Err(ASKED_ALREADY);
        }
        if self.planted(Planted::DoubleLockGrant) {
            self.grant_lock(caller, lock, None, out);
            return Ok(());
        }
        if waits {
            self.cut_chain(lock, |asked| asked.node == from);
            let used = self.locks.used.get_mut(&lock).expect("found above");
            self.locks.queued.push(&mut used.chain, caller);
        } else {
            if self.locks.tries.iter().filter(|tries| tries.caller.node == from).count() >= limits::TICKETS {
                return Err(TOO_MANY_CALLS);
            }
            self.locks.tries.push(Try { lock, caller, asked: last });
        }
        self.forward(lock, last, caller, waits, out);
        Ok(())
    }

    /// The token is not idle where it was asked for on behalf of a try. One that is not known is over.
    pub(super) fn lock_held(
        &mut self,
        from: NodeId,
        lock: LockId,
        caller: Caller,
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_here(lock)?;
        let tries = &mut self.locks.tries;
        let known = |tries: &Try| tries.lock == lock && tries.caller == caller && tries.asked.node == from;
        if let Some(place) = tries.iter().position(known) {
            tries.swap_remove(place);
            self.send(caller.node, Message::LockBusy { lock, ticket: caller.ticket }, out);
        }
        Ok(())
    }

    /// Takes out those who try for this lock, with the answer of such a request to come, or of any.
    pub(super) fn take_tries(&mut self, lock: LockId, asked: Option<Caller>) -> Vec<Caller> {
        let chosen = |tries: &mut Try| tries.lock == lock && asked.is_none_or(|caller| caller == tries.asked);
        self.locks.tries.extract_if(.., chosen).map(|tries| tries.caller).collect()
    }

    /// Cuts off the chain up to and with who has passed the token on. False when nobody in it is the one.
    fn cut_chain(&mut self, lock: LockId, passed: impl Fn(&Caller) -> bool) -> bool {
        let Some(used) = self.locks.used.get_mut(&lock) else { return false };
        if !self.locks.queued.iter(used.chain).any(|asked| passed(&asked)) {
            return false;
        }
        while let Some(gone) = self.locks.queued.pop(&mut used.chain) {
            used.before = gone.node;
            if passed(&gone) {
                break;
            }
        }
        true
    }

    /// The token comes back, because nobody at `from` needs it, because `wanted` tries for it, or because `from` cannot reach the
    /// next. From one that is not in the chain it is a late one, and means nothing.
    pub(super) fn lock_released(
        &mut self,
        from: NodeId,
        lock: LockId,
        ticket: Ticket,
        (died, wanted): (Option<NodeId>, Option<(NodeId, Ticket)>),
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_here(lock)?;
        self.check_news(died)?;
        let gone = Caller { node: from, ticket };
        let Some(used) = self.locks.used.get(&lock) else { return Ok(()) };
        if used.suspended {
            self.released_meanwhile(gone, lock, died, out);
        } else if self.cut_chain(lock, |asked| *asked == gone) {
            // Nobody else answers them now. Whoever waits comes first: then they hear that the lock is not idle.
            let mut tries = self.take_tries(lock, Some(gone));
            tries.sort_by_key(|caller| wanted != Some((caller.node, caller.ticket)));
            self.pass_from_home(lock, died, out);
            self.try_again(lock, tries, out);
        }
        Ok(())
    }

    pub(super) fn try_again(&mut self, lock: LockId, tries: Vec<Caller>, out: &mut Actions) {
        for Caller { node, ticket } in tries {
            if self.live.contains(node) && self.lock_wanted(node, lock, ticket, false, out).is_err() {
                self.send(node, Message::LockBusy { lock, ticket }, out);
            }
        }
    }

    /// The token is at home: gives it to the first in the chain, or forgets the lock.
    pub(super) fn pass_from_home(&mut self, lock: LockId, died: Option<NodeId>, out: &mut Actions) {
        let Some(used) = self.locks.used.get_mut(&lock) else { return };
        used.before = self.config.node;
        match self.locks.queued.first(used.chain) {
            Some(first) => self.grant_lock(first, lock, died, out),
            None if died.is_some() => used.died = died,
            None => {
                self.locks.used.remove(&lock);
            }
        }
    }
}

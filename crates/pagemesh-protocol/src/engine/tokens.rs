//! Mutual-exclusion locks, the taker's part: the tokens that are at this node, and the calls that wait for them.
//!
//! A node asks for a token once, under the name of one of its calls, however many of them wait. It keeps the token when nobody else
//! wants it: then a thread takes the lock and gives it back without a message. When the home has said who comes next (LockForward),
//! the calls that waited here before that are served, and then the token goes: so a thread here overtakes no other node for
//! longer than the word of the home needs to come. Calls that came later ask anew.
//!
//! | token here | event | what happens |
//! |---|---|---|
//! | none | take | LockAcquire to the home; asked |
//! | none | try | LockTry to the home; trying |
//! | idle | take or try | held |
//! | held, asked or trying | take | the call waits here |
//! | held, asked or trying | try | busy |
//! | asked or trying | LockGrant | held by the first that waits, sent on to the next, or idle |
//! | trying | LockBusy | asked when calls wait here, else none |
//! | held | give back | held by the next that waits here, sent on to the next node, or idle |
//! | idle | LockForward | sent on, or for a try back to the home |
//! | held or asked | LockForward | kept in mind; for a try LockHeld to the home |
//!
//! Giving a lock back ends no interval of the release protocol as long as the token stays: whoever takes it next is a thread of this
//! node and sees the same memory. The interval ends when the token goes.

use super::locks::{Caller, NumberMap};
use super::planted::{Planted, push_first};
use super::queue::{Arena, Queue};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, lock_home, sync_home};
use crate::action::{Actions, Failure, Outcome};
use crate::ids::{LockId, NodeId, Ticket};
use crate::limits;
use crate::message::Message;
use slab::Slab;

const FULL_HERE: &str = "too many locks held or waited for at this node";
const FULL_HOME: &str = "too many locks or barriers in use at one home";

/// How many tokens are looked at to find one that lies idle.
const LOOKED_AT: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Possession {
    /// The home was asked.
    Asked,
    /// The home was asked by a call that does not wait.
    Trying,
    /// It is here, and this call has the lock.
    Held(Ticket),
    /// It is here, and nobody has the lock.
    Idle,
}

/// Where a token goes from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Next {
    pub(super) caller: Caller,
    /// How many calls of this node waited when that was said, and have not been served.
    pub(super) ahead: usize,
}

/// A token that is at this node, or is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) lock: LockId,
    /// The name under which this node asked for it.
    pub(super) name: Ticket,
    pub(super) possession: Possession,
    /// It was lost with this node, and nobody was told.
    pub(super) died: Option<NodeId>,
    /// Calls of this node that wait.
    pub(super) waiting: Queue,
    pub(super) next: Option<Next>,
}

#[derive(Clone, Debug)]
pub(super) struct Tokens {
    bound: usize,
    pub(super) all: Slab<Token>,
    by_lock: NumberMap<LockId, u32>,
    pub(super) waiting: Arena<Caller>,
    /// Where the next search for an idle token begins.
    hand: usize,
    /// Nodes that this one has lost, in order; and how many of them each home was told of.
    pub(super) lost: Vec<NodeId>,
    pub(super) told: Vec<usize>,
}

impl Tokens {
    pub(super) fn new(config: EngineConfig) -> Tokens {
        let room = config.locks.min(limits::OBJECTS_AT_HAND);
        let mut by_lock = NumberMap::default();
        by_lock.reserve(room);
        Tokens {
            bound: config.locks,
            all: Slab::with_capacity(room),
            by_lock,
            waiting: Arena::with_capacity(config.tickets, config.nodes),
            hand: 0,
            lost: Vec::new(),
            told: vec![0; config.nodes as usize],
        }
    }

    pub(super) fn get(&self, lock: LockId) -> Option<&Token> {
        self.by_lock.get(&lock).map(|index| &self.all[*index as usize])
    }

    fn get_mut(&mut self, lock: LockId) -> Option<&mut Token> {
        self.by_lock.get(&lock).map(|index| &mut self.all[*index as usize])
    }

    /// A token, and the calls that wait for any.
    fn with_waiting(&mut self, lock: LockId) -> Option<(&mut Token, &mut Arena<Caller>)> {
        let index = self.by_lock.get(&lock)?;
        Some((&mut self.all[*index as usize], &mut self.waiting))
    }

    fn insert(&mut self, token: Token) {
        let index = self.all.insert(token) as u32;
        self.by_lock.insert(token.lock, index);
    }

    fn remove(&mut self, lock: LockId) {
        if let Some(index) = self.by_lock.remove(&lock) {
            self.all.remove(index as usize);
        }
    }

    /// Tokens that are here or asked for, and calls that wait for them.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.all.len(), self.waiting.len())
    }

    /// A token that nobody needs, of the few that are looked at.
    fn idle(&mut self) -> Option<LockId> {
        let end = self.all.capacity();
        for _ in 0..LOOKED_AT.min(end) {
            self.hand = (self.hand + 1) % end;
            let found = self.all.get(self.hand).filter(|token| token.possession == Possession::Idle);
            if let Some(token) = found {
                return Some(token.lock);
            }
        }
        None
    }

    /// The locks of all tokens that `wanted` picks, in the order of their numbers.
    fn locks(&self, wanted: impl Fn(&Token) -> bool) -> Vec<LockId> {
        let wanted = self.all.iter().filter(|(_, token)| wanted(token));
        let mut locks: Vec<LockId> = wanted.map(|(_, token)| token.lock).collect();
        locks.sort_unstable();
        locks
    }
}

/// The caller's part.
impl Engine {
    pub(super) fn lock_acquire(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.take_lock(ticket, lock, true, out);
    }

    pub(super) fn lock_try(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.take_lock(ticket, lock, false, out);
    }

    /// Takes a lock whose token lies idle here, with no news; false, with nothing changed, when it does not.
    pub(super) fn retake_lock(&mut self, ticket: Ticket, lock: LockId) -> bool {
        let idle = |token: &&mut Token| token.possession == Possession::Idle && token.died.is_none();
        let found = self.tokens.get_mut(lock).filter(idle);
        found.map(|token| token.possession = Possession::Held(ticket)).is_some()
    }

    /// Gives a lock back that nobody waits for; false, with nothing changed, when somebody does.
    pub(super) fn keep_lock(&mut self, ticket: Ticket, lock: LockId) -> bool {
        let unwanted = |token: &&mut Token| {
            let held = token.possession == Possession::Held(ticket);
            held && token.next.is_none() && token.waiting.is_empty()
        };
        let found = self.tokens.get_mut(lock).filter(unwanted);
        found.map(|token| token.possession = Possession::Idle).is_some()
    }

    fn take_lock(&mut self, ticket: Ticket, lock: LockId, waits: bool, out: &mut Actions) {
        self.tickets.begin(ticket, Wait::Lock(lock));
        let newest_first = self.planted(Planted::LockNewestFirst);
        let caller = Caller { node: self.config.node, ticket };
        match self.tokens.with_waiting(lock) {
            Some((token, _)) if token.possession == Possession::Idle => {
                token.possession = Possession::Held(ticket);
                let died = token.died.take();
                self.complete(ticket, died.map_or(Outcome::Done, Outcome::OwnerDied), out);
            }
            Some(_) if !waits => self.fail(ticket, Failure::Busy, out),
            Some((token, waiting)) if newest_first => push_first(waiting, &mut token.waiting, caller),
            Some((token, waiting)) => waiting.push(&mut token.waiting, caller),
            None => self.ask_for_lock(ticket, lock, waits, out),
        }
    }

    fn ask_for_lock(&mut self, ticket: Ticket, lock: LockId, waits: bool, out: &mut Actions) {
        let home = lock_home(lock, self.config.nodes);
        if !self.live.contains(home) {
            return self.fail(ticket, Failure::PeerLost(home), out);
        }
        if self.tokens.all.len() >= self.tokens.bound.min(limits::IDLE_TOKENS)
            && let Some(idle) = self.tokens.idle()
        {
            self.return_token(idle, None, out);
        }
        if self.tokens.all.len() >= self.tokens.bound {
            return self.fail(ticket, Failure::Limit(FULL_HERE), out);
        }
        let mut waiting = Queue::default();
        let (possession, question) = if waits {
            self.tokens.waiting.push(&mut waiting, Caller { node: self.config.node, ticket });
            (Possession::Asked, Message::LockAcquire { lock, ticket })
        } else {
            (Possession::Trying, Message::LockTry { lock, ticket })
        };
        self.tokens.insert(Token { lock, name: ticket, possession, died: None, waiting, next: None });
        self.tell_of_losses(home, out);
        self.send(home, question, out);
    }

    /// A thread gives the lock back. With any other ticket than the holder's it means nothing.
    pub(super) fn lock_release(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        if let Some(token) = self.tokens.get_mut(lock)
            && token.possession == Possession::Held(ticket)
        {
            token.possession = Possession::Idle;
            self.serve_token(lock, out);
        }
    }

    /// The token of `lock` is here and idle: the next call of this node has it, or another node.
    fn serve_token(&mut self, lock: LockId, out: &mut Actions) {
        let Some((token, waiting)) = self.tokens.with_waiting(lock) else { return };
        match &mut token.next {
            Some(next) if next.ahead == 0 => {
                let to = next.caller;
                return self.pass_token(lock, to, out);
            }
            Some(next) => next.ahead -= 1,
            None => {}
        }
        if let Some(Caller { ticket, .. }) = waiting.pop(&mut token.waiting) {
            token.possession = Possession::Held(ticket);
            let died = token.died.take();
            self.complete(ticket, died.map_or(Outcome::Done, Outcome::OwnerDied), out);
        }
    }

    /// The token goes to another node, with what this one wrote and knows; back to the home when that is the node, and by way of it
    /// when the node cannot be reached.
    fn pass_token(&mut self, lock: LockId, to: Caller, out: &mut Actions) {
        let home = lock_home(lock, self.config.nodes);
        if to.node == home || !self.live.contains(to.node) {
            return self.return_token(lock, None, out);
        }
        let died = self.tokens.get(lock).and_then(|token| token.died);
        self.release_interval(out);
        self.tell(to.node, out);
        self.send(to.node, Message::LockGrant { lock, ticket: to.ticket, died }, out);
        self.ask_again(lock, out);
    }

    /// The token goes back to the home, to be kept there or, with `wanted`, for one who tries.
    fn return_token(&mut self, lock: LockId, wanted: Option<Caller>, out: &mut Actions) {
        let Some(Token { name, died, .. }) = self.tokens.get(lock).copied() else { return };
        let home = lock_home(lock, self.config.nodes);
        self.release_interval(out);
        self.tell(home, out);
        let wanted = wanted.map(|Caller { node, ticket }| (node, ticket));
        self.send(home, Message::LockRelease { lock, ticket: name, died, wanted }, out);
        self.ask_again(lock, out);
    }

    /// The token is not here: the node asks for it when calls wait, under the name of the first.
    fn ask_again(&mut self, lock: LockId, out: &mut Actions) {
        let Some((token, waiting)) = self.tokens.with_waiting(lock) else { return };
        let Some(Caller { ticket, .. }) = waiting.first(token.waiting) else {
            return self.tokens.remove(lock);
        };
        let possession = Possession::Asked;
        *token = Token { name: ticket, possession, died: None, next: None, ..*token };
        let home = lock_home(lock, self.config.nodes);
        self.tell_of_losses(home, out);
        self.send(home, Message::LockAcquire { lock, ticket }, out);
    }

    /// Before a home is asked for a lock of any kind: from whom it cannot come.
    pub(super) fn tell_of_losses(&mut self, home: NodeId, out: &mut Actions) {
        for place in self.tokens.told[home.index()]..self.tokens.lost.len() {
            let node = self.tokens.lost[place];
            self.send(home, Message::LockCut { node }, out);
        }
        self.tokens.told[home.index()] = self.tokens.lost.len();
    }

    /// A call that waits for a lock gave up. The token comes all the same, when this node was to have it.
    pub(super) fn lock_given_up(&mut self, ticket: Ticket, lock: LockId) {
        if self.planted(Planted::GrantCancelledLock) {
            return;
        }
        let gone = Caller { node: self.config.node, ticket };
        let Some((token, waiting)) = self.tokens.with_waiting(lock) else { return };
        let place = waiting.iter(token.waiting).position(|waits| waits == gone);
        if let Some(place) = place {
            waiting.remove_where(&mut token.waiting, |waits| *waits == gone);
            if let Some(next) = token.next.as_mut().filter(|next| place < next.ahead) {
                next.ahead -= 1;
            }
        }
    }

    /// Gives all tokens back that nobody needs: this node is about to go.
    pub(super) fn return_idle_tokens(&mut self, out: &mut Actions) {
        for lock in self.tokens.locks(|token| token.possession == Possession::Idle) {
            self.return_token(lock, None, out);
        }
    }

    /// With the home of a lock its token is void. Where another node was lost, a token may have been on its way from there: the homes
    /// are told, as they may still reach that node.
    pub(super) fn mend_tokens(&mut self, lost: NodeId, out: &mut Actions) {
        let nodes = self.config.nodes;
        self.tokens.lost.push(lost);
        for lock in self.tokens.locks(|token| lock_home(token.lock, nodes) == lost) {
            if let Some((token, waiting)) = self.tokens.with_waiting(lock) {
                while waiting.pop(&mut token.waiting).is_some() {}
            }
            self.tokens.remove(lock);
        }
        let awaited = |token: &Token| matches!(token.possession, Possession::Asked | Possession::Trying);
        let mut homes: Vec<NodeId> =
            self.tokens.locks(awaited).into_iter().map(|lock| lock_home(lock, nodes)).collect();
        let rw_home = |(_, wait)| match wait {
            Wait::RwLock { lock, .. } => Some(sync_home(lock.0, nodes)),
            _ => None,
        };
        homes.extend(self.tickets.waiting().filter_map(rw_home));
        for home in homes {
            self.tell_of_losses(home, out);
        }
    }
}

/// What others say.
impl Engine {
    /// The token comes, for the request of this name. When that has had one already, it is a late one, and means nothing.
    pub(super) fn lock_granted(
        &mut self,
        lock: LockId,
        ticket: Ticket,
        died: Option<NodeId>,
        out: &mut Actions,
    ) -> Handled {
        self.check_news(died)?;
        let Some(token) = self.tokens.get_mut(lock).filter(|token| token.name == ticket) else {
            return Ok(());
        };
        let before = token.possession;
        if !matches!(before, Possession::Asked | Possession::Trying) {
            return Ok(());
        }
        (token.possession, token.died) = (Possession::Idle, died);
        self.drop_written(out);
        if before == Possession::Trying && self.tickets.wait(ticket) == Wait::Lock(lock) {
            let token = self.tokens.get_mut(lock).expect("found above");
            token.possession = Possession::Held(ticket);
            token.died = None;
            self.complete(ticket, died.map_or(Outcome::Done, Outcome::OwnerDied), out);
        } else {
            self.serve_token(lock, out);
        }
        Ok(())
    }

    /// Whether such a node can have been lost with a token.
    pub(super) fn check_news(&self, died: Option<NodeId>) -> Handled {
        let strange = died.is_some_and(|node| node.get() >= self.config.nodes);
        if strange { Err("the node that was lost with the lock is not a member of the mesh") } else { Ok(()) }
    }

    /// Somebody else has the lock for which this node tried.
    pub(super) fn lock_busy(
        &mut self,
        from: NodeId,
        lock: LockId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_home(from, lock)?;
        let tried = |token: &Token| token.name == ticket && token.possession == Possession::Trying;
        if self.tokens.get(lock).is_some_and(tried) {
            if self.tickets.wait(ticket) == Wait::Lock(lock) {
                self.fail(ticket, Failure::Busy, out);
            }
            self.ask_again(lock, out);
        }
        Ok(())
    }

    /// The home says who comes after the request of this name, or who tries for an idle token. For a request that is over it
    /// is a late one: the token is on its way back to the home.
    pub(super) fn lock_forwarded(
        &mut self,
        from: NodeId,
        lock: LockId,
        ticket: Ticket,
        (caller, waits): (Caller, bool),
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_home(from, lock)?;
        if caller.node.get() >= self.config.nodes || caller.node == self.config.node {
            return Err("the next to have the lock is no other node of the mesh");
        }
        let Some((token, waiting)) = self.tokens.with_waiting(lock).filter(|(token, _)| token.name == ticket)
        else {
            return Ok(());
        };
        let idle = token.possession == Possession::Idle;
        if waits {
            if token.next.is_none_or(|next| next.caller != caller) {
                token.next = Some(Next { caller, ahead: waiting.iter(token.waiting).count() });
            }
            if idle {
                self.serve_token(lock, out);
            }
        } else if idle {
            self.return_token(lock, Some(caller), out);
        } else {
            let Caller { node, ticket } = caller;
            self.send(from, Message::LockHeld { lock, ticket, node }, out);
        }
        Ok(())
    }

    fn check_lock_home(&self, from: NodeId, lock: LockId) -> Handled {
        let home = lock_home(lock, self.config.nodes);
        if from == home { Ok(()) } else { Err("it is not the home of the lock") }
    }

    /// The home asks whether the token is here. Until it says who comes next, the token stays.
    pub(super) fn lock_queried(
        &mut self,
        from: NodeId,
        lock: LockId,
        round: u64,
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_home(from, lock)?;
        let keeps = self.planted(Planted::KeepNextOverQuery);
        let state = self.tokens.get_mut(lock).map(|token| {
            token.next = token.next.filter(|_| keeps);
            (token.name, matches!(token.possession, Possession::Held(_) | Possession::Idle))
        });
        if state.is_none_or(|(_, here)| !here) {
            // What went along with the token, should that be lost on its way.
            self.tell(from, out);
        }
        self.send(from, Message::LockState { lock, round, state }, out);
        Ok(())
    }

    /// The home has no room for the lock that this node asked for under this name: all calls that wait for it here fail. False when
    /// there is no such request.
    pub(super) fn lock_refused(&mut self, from: NodeId, ticket: Ticket, out: &mut Actions) -> bool {
        let nodes = self.config.nodes;
        let refused = |token: &Token| {
            let asked = matches!(token.possession, Possession::Asked | Possession::Trying);
            asked && token.name == ticket && lock_home(token.lock, nodes) == from
        };
        let Some((_, token)) = self.tokens.all.iter().find(|(_, token)| refused(token)) else { return false };
        let Token { lock, mut waiting, possession, .. } = *token;
        while let Some(caller) = self.tokens.waiting.pop(&mut waiting) {
            self.fail(caller.ticket, Failure::Limit(FULL_HOME), out);
        }
        if possession == Possession::Trying && self.tickets.wait(ticket) == Wait::Lock(lock) {
            self.fail(ticket, Failure::Limit(FULL_HOME), out);
        }
        self.tokens.remove(lock);
        true
    }
}

//! Where the token of a lock is, after a node was lost that may have had it.
//!
//! The home *suspends* the lock: it says nobody any more who comes next, and asks every node of the chain (LockQuery). Each forgets
//! who comes next, so that the token stays where it is, and answers (LockState): the token is here, this node waits, or neither: then it
//! has passed the token on. Before that it tells the home what it knows of writes, as it told the node that the token went to.
//! When all have answered:
//!
//! | answers | the token | who gets it |
//! |---|---|---|
//! | one has it | is there | it stays |
//! | it came back to the home meanwhile | is at home | the first that waits |
//! | nobody has it; before the first that waits is a lost node | went with that | the first that waits, with the news |
//! | nobody has it; before the first that waits is a living one | is on its way to the first | the home sends that one a second |
//! | nobody has it or waits | went with the last | the next to come, with the news |
//!
//! The same is done when one node of the chain has lost another that the home can still reach (LockCut): a token between them is
//! lost. From then on, when one comes after the other, the token goes by way of the home.
//!
//! A request takes one token and no more: of the two that may come to the first that waits, the later one finds the request
//! fulfilled and is dropped. So nobody has to find out what is still on its way on which connection. Last, everyone that
//! waits is told anew who comes next, and requests that came meanwhile stand at the end.

use super::locks::{Caller, TOO_MANY_CALLS};
use super::planted::Planted;
use super::queue::Queue;
use super::{Engine, Handled};
use crate::action::Actions;
use crate::ids::{LockId, NodeId, Ticket};
use crate::limits;
use crate::message::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What a node of the chain says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Answer {
    Owed,
    Has,
    Waits,
    /// It has passed the token on, or is lost.
    Neither,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Member {
    pub(super) caller: Caller,
    pub(super) answer: Answer,
}

/// A lock whose token is being looked for.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Mend {
    round: u64,
    pub(super) members: Vec<Member>,
    /// The token came home meanwhile.
    home: bool,
    /// With this news.
    news: Option<NodeId>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Mends {
    pub(super) under_way: BTreeMap<LockId, Mend>,
    /// Those whose turn has not come: so many questions at a time, and no more.
    pub(super) to_do: BTreeSet<LockId>,
    /// Who tries for one of these.
    pub(super) tries: Vec<(LockId, Caller)>,
    rounds: u64,
    /// Nodes that told of others, which live as far as is known here, that they have lost these.
    pub(super) cut: Vec<(NodeId, NodeId)>,
}

impl Mends {
    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.to_do.is_empty()
    }
}

impl Engine {
    /// Looks for the tokens of all locks that the lost node asked for.
    pub(super) fn mend_locks(&mut self, lost: NodeId, out: &mut Actions) {
        if self.planted(Planted::KeepDeadLockHolder) {
            return;
        }
        let queued = &self.locks.queued;
        let touched = self.locks.used.iter().filter(|(_, used)| {
            used.before == lost || queued.iter(used.chain).any(|caller| caller.node == lost)
        });
        let mut touched: Vec<LockId> = touched.map(|(lock, _)| *lock).collect();
        touched.sort_unstable();
        for lock in touched {
            self.suspend(lock);
        }
        self.locks.tries.retain(|tries| tries.caller.node != lost);
        // It was to answer these, though it has passed the token on since and is in no chain any more.
        let unanswered = self.locks.tries.extract_if(.., |tries| tries.asked.node == lost);
        let unanswered: Vec<(LockId, Caller)> = unanswered.map(|tries| (tries.lock, tries.caller)).collect();
        self.locks.mends.cut.retain(|(one, other)| *one != lost && *other != lost);
        self.start_mends(out);
        for (lock, caller) in unanswered {
            self.try_again(lock, vec![caller], out);
        }
    }

    /// From now on the lock waits until it was found out where its token is; from the beginning, when that is under way already.
    fn suspend(&mut self, lock: LockId) {
        let tries = self.take_tries(lock, None);
        let Some(used) = self.locks.used.get_mut(&lock) else { return };
        used.suspended = true;
        self.locks.mends.tries.extend(tries.into_iter().map(|caller| (lock, caller)));
        if let Some(mend) = self.locks.mends.under_way.get_mut(&lock) {
            mend.members.clear();
        }
        self.locks.mends.to_do.insert(lock);
    }

    fn start_mends(&mut self, out: &mut Actions) {
        loop {
            let mends = &mut self.locks.mends;
            // One that begins anew needs no room.
            let again = mends.to_do.iter().find(|lock| mends.under_way.contains_key(lock)).copied();
            let room = mends.under_way.len() < limits::LOCKS_MENDED_AT_A_TIME;
            let Some(lock) = again.or_else(|| mends.to_do.first().copied().filter(|_| room)) else { return };
            mends.to_do.remove(&lock);
            mends.rounds += 1;
            let round = mends.rounds;
            let chain = self.locks.used.get(&lock).map_or_else(Queue::default, |used| used.chain);
            let live = &self.live;
            let members = self.locks.queued.iter(chain).map(|caller| {
                let owed = live.contains(caller.node);
                Member { caller, answer: if owed { Answer::Owed } else { Answer::Neither } }
            });
            let members: Vec<Member> = members.collect();
            let mut asked: Vec<NodeId> = members
                .iter()
                .filter(|member| member.answer == Answer::Owed)
                .map(|member| member.caller.node)
                .collect();
            asked.sort_unstable();
            asked.dedup();
            let mend = self.locks.mends.under_way.entry(lock).or_default();
            (mend.round, mend.members) = (round, members);
            for node in asked {
                self.send(node, Message::LockQuery { lock, round }, out);
            }
            self.end_mend(lock, out);
        }
    }

    /// A node asks for a suspended lock.
    pub(super) fn wanted_meanwhile(&mut self, caller: Caller, lock: LockId, waits: bool) -> Handled {
        let Some(used) = self.locks.used.get_mut(&lock) else { return Ok(()) };
        if waits {
            // One that has passed the token on is in it once more.
            let before = self.locks.queued.iter(used.chain).filter(|asked| asked.node == caller.node).count();
            if before > 1 {
                return Err("it asks for a lock that it has or waits for");
            }
            self.locks.queued.push(&mut used.chain, caller);
        } else {
            let tries = &mut self.locks.mends.tries;
            if tries.iter().filter(|(_, tries)| tries.node == caller.node).count() >= limits::TICKETS {
                return Err(TOO_MANY_CALLS);
            }
            tries.push((lock, caller));
        }
        Ok(())
    }

    /// The token of a suspended lock comes back.
    pub(super) fn released_meanwhile(
        &mut self,
        gone: Caller,
        lock: LockId,
        died: Option<NodeId>,
        out: &mut Actions,
    ) {
        let Some(used) = self.locks.used.get_mut(&lock) else { return };
        if self.locks.queued.remove_where(&mut used.chain, |asked| *asked == gone) == 0 {
            return;
        }
        let mend = self.locks.mends.under_way.entry(lock).or_default();
        (mend.home, mend.news) = (true, died);
        for member in mend.members.iter_mut().filter(|member| member.caller == gone) {
            member.answer = Answer::Neither;
        }
        // Its answer may never come.
        self.end_mend(lock, out);
        self.start_mends(out);
    }

    pub(super) fn lock_stated(
        &mut self,
        from: NodeId,
        lock: LockId,
        round: u64,
        state: Option<(Ticket, bool)>,
        out: &mut Actions,
    ) -> Handled {
        self.check_lock_here(lock)?;
        let Some(mend) = self.locks.mends.under_way.get_mut(&lock) else { return Ok(()) };
        if mend.round != round {
            return Ok(());
        }
        for member in &mut mend.members {
            if member.caller.node == from && member.answer == Answer::Owed {
                member.answer = match state {
                    Some((name, true)) if name == member.caller.ticket => Answer::Has,
                    Some((name, false)) if name == member.caller.ticket => Answer::Waits,
                    _ => Answer::Neither,
                };
            }
        }
        self.end_mend(lock, out);
        self.start_mends(out);
        Ok(())
    }

    /// A node that asks for tokens, or is about to, has lost another: none may be sent from that one to it, and one that was is lost.
    pub(super) fn lock_cut(&mut self, from: NodeId, lost: NodeId, out: &mut Actions) -> Handled {
        if lost.get() >= self.config.nodes || lost == from {
            return Err("it cannot have lost such a node");
        }
        // Of one that is lost here, too, everything is known.
        if !self.live.contains(lost) || self.locks.mends.cut.contains(&(from, lost)) {
            return Ok(());
        }
        self.locks.mends.cut.push((from, lost));
        let queued = &self.locks.queued;
        let touched = self.locks.used.iter().filter(|(_, used)| {
            let has = |node| queued.iter(used.chain).any(|caller| caller.node == node);
            has(from) && (used.before == lost || has(lost))
        });
        let mut touched: Vec<LockId> = touched.map(|(lock, _)| *lock).collect();
        touched.sort_unstable();
        for lock in touched {
            self.suspend(lock);
        }
        self.start_mends(out);
        self.let_in_again(lost, Some(from), out);
        Ok(())
    }

    /// When all have answered, the lock goes on.
    fn end_mend(&mut self, lock: LockId, out: &mut Actions) {
        let Some(mend) = self.locks.mends.under_way.get(&lock) else { return };
        if mend.members.iter().any(|member| member.answer == Answer::Owed)
            || self.locks.mends.to_do.contains(&lock)
        {
            return;
        }
        let Some(Mend { members, home, news, .. }) = self.locks.mends.under_way.remove(&lock) else { return };
        let tries = self.locks.mends.tries.extract_if(.., |(tried, _)| *tried == lock);
        let tries: Vec<Caller> = tries.map(|(_, caller)| caller).collect();
        let Some(used) = self.locks.used.get_mut(&lock) else { return };
        used.suspended = false;
        let has = members.iter().find(|member| member.answer == Answer::Has).map(|member| member.caller);
        let waits = |caller: &Caller| {
            let member = members.iter().find(|member| member.caller == *caller);
            member.is_none_or(|member| member.answer == Answer::Waits)
        };
        let mut chain: Vec<Caller> = has.into_iter().collect();
        while let Some(caller) = self.locks.queued.pop(&mut used.chain) {
            if waits(&caller) && self.live.contains(caller.node) {
                chain.push(caller);
            }
        }
        for caller in &chain {
            self.locks.queued.push(&mut used.chain, *caller);
        }
        let passed = members.iter().take_while(|member| member.answer == Answer::Neither);
        let last = passed.last().map_or(used.before, |member| member.caller.node);
        let died = used.died.or((!self.live.contains(last)).then_some(last));
        used.before = self.config.node;
        if has.is_none() {
            self.pass_from_home(lock, if home { news } else { died }, out);
        }
        for pair in chain.windows(2) {
            self.forward(lock, pair[0], pair[1], true, out);
        }
        self.try_again(lock, tries, out);
    }
}

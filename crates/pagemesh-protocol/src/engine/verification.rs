//! What a model checker needs: to tell whether two engines will behave alike, and to keep names that are never used again
//! from making them differ.
//!
//! Two things in an engine's memory mean nothing: at which index of a table something stands, and which name was drawn for
//! a request or a call, as long as it is another than those that somebody still knows. The first is left out here. The
//! second is for the checker, which sees all nodes: it gives each event a name that nobody knows
//! ([`Engine::names`], [`Engine::set_next_request`]), so that the states of a mesh that runs for ever are finitely many.

use super::Engine;
use super::coherence::{Phase, Request};
use super::lock_mending::Member;
use super::locks::Caller;
use super::pages::Region;
use super::queue::{Arena, Queue, Waiter};
use super::tokens::Possession;
use super::uses::Want;
use crate::ids::{NodeId, PageAddress, RegionId, RequestId, Ticket};
use crate::placement::Protocol;
use std::hash::{Hash, Hasher};

/// A name that an engine has in mind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Name {
    /// A page request of this node.
    Request(NodeId, RequestId),
    /// A call of this node.
    Call(NodeId, Ticket),
}

impl Engine {
    /// Feeds `hasher` with everything that decides what this engine does from now on, and nothing else. Two engines of the
    /// same node whose bytes are equal behave alike, up to the names of requests that they have yet to draw, and to the order
    /// in which they mend several pages after one loss.
    ///
    /// Every field is named here, so that a new one cannot be forgotten.
    ///
    /// # Panics
    /// When a reader-writer lock, a semaphore, a condition or a range is in use, or when a page is pinned: nothing here looks at those.
    pub fn hash_behaviour(&self, hasher: &mut impl Hasher) {
        let Engine {
            config: _,
            view,
            live,
            leaving,
            tickets,
            pages,
            coherence,
            uses,
            hints,
            release,
            pins,
            locks: _,
            tokens: _,
            barriers,
            gatherings,
            rwlocks,
            kept,
            hands,
            semaphores,
            conditions,
            entry,
            meetings,
            agreements,
            loopback,
            planted: _,
        } = self;
        debug_assert!(loopback.is_empty(), "between events nothing waits in it");
        assert_eq!(entry.load(), (0, 0, 0), "ranges are not modelled");
        let objects = (rwlocks.load(), semaphores.load(), conditions.load());
        assert_eq!(objects, ((0, 0, 0), (0, 0), (0, 0)), "these objects are not modelled");
        assert_eq!((rwlocks.left(), kept.load(), hands.load()), (0, (0, 0, 0), (0, 0)), "nor are these");
        assert!(pins.is_empty(), "pins are not modelled");
        assert!(meetings.is_untouched(), "meetings are not modelled");
        let is_release = |region: &Region| region.spec.protocol == Protocol::Release;
        if pages.regions.iter().flatten().any(is_release) {
            assert!(!self.config.foresees, "foresight is not modelled");
            release.hash(hasher);
        }
        (view, live, leaving, agreements, &coherence.open).hash(hasher);
        for (ticket, wait) in tickets.waiting() {
            (ticket, wait).hash(hasher);
        }
        u32::MAX.hash(hasher);
        for region in &pages.regions {
            let region = region.as_ref();
            region.map(|region| region.spec).hash(hasher);
            region.map(|region| region.doubt).hash(hasher);
            if let Some(region) = region {
                self.hash_pages(region.id, region, hasher);
            }
        }
        // Only whether a page is in it counts, and how often.
        let mut in_use = uses.in_use.clone();
        in_use.sort_unstable();
        (in_use, &uses.demands).hash(hasher);
        hints.staked.hash(hasher);
        self.hash_locks(hasher);
        let mut entered: Vec<_> = barriers.used.iter().collect();
        entered.sort_unstable_by_key(|(barrier, _)| **barrier);
        for (barrier, used) in entered {
            (true, barrier, used.participants, used.arrived).hash(hasher);
            hash_queue(&barriers.queued, used.queue, hasher);
        }
        gatherings.hash_behaviour(hasher);
    }

    fn hash_locks(&self, hasher: &mut impl Hasher) {
        let (locks, tokens) = (&self.locks, &self.tokens);
        let mut asked: Vec<_> = locks.used.iter().collect();
        asked.sort_unstable_by_key(|(lock, _)| **lock);
        for (lock, used) in asked {
            (true, lock, used.before, used.died, used.suspended).hash(hasher);
            hash_queue(&locks.queued, used.chain, hasher);
        }
        let mends = &locks.mends;
        (false, &locks.tries, &mends.under_way, &mends.to_do, &mends.tries, &mends.cut).hash(hasher);
        (&tokens.lost, &tokens.told).hash(hasher);
        let mut here: Vec<_> = tokens.all.iter().map(|(_, token)| token).collect();
        here.sort_unstable_by_key(|token| token.lock);
        for token in here {
            (true, token.lock, token.name, token.possession, token.died, token.next).hash(hasher);
            hash_queue(&tokens.waiting, token.waiting, hasher);
        }
        false.hash(hasher);
    }

    fn hash_pages(&self, id: RegionId, region: &Region, hasher: &mut impl Hasher) {
        for page in (0..region.spec.pages).map(|page| PageAddress::new(id, page)) {
            let home = self.home(page);
            let local = self.pages.local(page).expect("the region is mapped");
            (home, local.state, local.pending.is_some()).hash(hasher);
            if let Some(index) = local.pending {
                let pending = self.coherence.pending[index as usize];
                let asked = (pending.asked, pending.claims, pending.request, pending.access);
                (asked, pending.first, pending.noticed).hash(hasher);
                (pending.owed, pending.gone, pending.counted, pending.hinted).hash(hasher);
            }
            if self.pages.keeps_hints(page) {
                self.pages.owner_hint(page).hash(hasher);
            }
            if home.is_some_and(|home| home != self.config.node) {
                if self.config.updates && region.spec.protocol == Protocol::Release {
                    self.habit_of_fetching(page).hash(hasher);
                }
                continue;
            }
            let entry = self.pages.entry(page);
            (entry.state, entry.holders, entry.busy.is_some()).hash(hasher);
            if region.spec.protocol == Protocol::Release {
                self.pages.habit(page).hash(hasher);
            }
            if let Some(index) = entry.busy {
                let transaction = self.coherence.transactions[index as usize];
                (transaction.request, transaction.phase).hash(hasher);
                hash_queue(&self.coherence.queued, transaction.queue, hasher);
            }
        }
    }

    /// Calls `visit` with every name that this engine has in mind, some of them more than once.
    pub fn names(&self, mut visit: impl FnMut(Name)) {
        let node = self.config.node;
        let coherence = &self.coherence;
        for (_, pending) in &coherence.pending {
            visit(Name::Request(node, pending.request));
        }
        for (_, transaction) in &coherence.transactions {
            visit(transaction.request.name());
            for queued in coherence.queued.iter(transaction.queue) {
                visit(queued.name());
            }
        }
        for demand in &self.uses.demands {
            if let Want::Fetch { request, requester, .. } | Want::Drop { request, requester, .. } =
                demand.want
            {
                visit(Name::Request(requester, request));
            }
        }
        for staked in &self.hints.staked {
            visit(Name::Request(staked.reader, staked.request));
        }
        for (ticket, _) in self.tickets.waiting() {
            visit(Name::Call(node, ticket));
        }
        for lock in self.locks.used.values() {
            for asked in self.locks.queued.iter(lock.chain) {
                visit(Name::Call(asked.node, asked.ticket));
            }
        }
        for mend in self.locks.mends.under_way.values() {
            for Member { caller: Caller { node, ticket }, .. } in &mend.members {
                visit(Name::Call(*node, *ticket));
            }
        }
        let tries = self.locks.tries.iter().map(|tries| tries.caller);
        for Caller { node, ticket } in tries.chain(self.locks.mends.tries.iter().map(|(_, caller)| *caller)) {
            visit(Name::Call(node, ticket));
        }
        for (_, token) in &self.tokens.all {
            visit(Name::Call(node, token.name));
            if let Possession::Held(holder) = token.possession {
                visit(Name::Call(node, holder));
            }
            if let Some(next) = token.next {
                visit(Name::Call(next.caller.node, next.caller.ticket));
            }
        }
        for barrier in self.barriers.used.values() {
            for queued in self.barriers.queued.iter(barrier.queue) {
                visit(Name::Call(queued.node, queued.ticket));
            }
        }
    }

    /// For whom this home has asked the owner of `page` for its copy, or is about to.
    pub fn moving_to(&self, page: PageAddress) -> Option<NodeId> {
        self.directory(page)?;
        let running = self.coherence.transactions[self.pages.busy(page)? as usize];
        let is_moving = matches!(running.phase, Phase::Moving { .. }) && running.request.atomic.is_none();
        is_moving.then_some(running.request.node)
    }

    /// The name of the next page request that this engine makes; those after it follow by number. It must be one that no
    /// engine and no message has in mind.
    pub fn set_next_request(&mut self, request: RequestId) {
        self.coherence.next_request = request.0;
    }

    /// The name that the next page request would have.
    pub fn next_request(&self) -> RequestId {
        RequestId(self.coherence.next_request)
    }
}

impl Request {
    fn name(&self) -> Name {
        match self.atomic {
            Some(asked) => Name::Call(self.node, asked.ticket),
            None => Name::Request(self.node, self.id),
        }
    }
}

fn hash_queue<T: Waiter + Hash>(arena: &Arena<T>, queue: Queue, hasher: &mut impl Hasher) {
    for item in arena.iter(queue) {
        (true, item).hash(hasher);
    }
    false.hash(hasher);
}

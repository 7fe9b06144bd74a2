//! Barriers: the home counts who has arrived and lets all go when the count is full. A barrier can be entered again at once.
//! In large meshes those of all nodes are gathered in a tree (`gathering.rs`).

use super::locks::{Caller, NumberMap, TOO_MANY_CALLS};
use super::planted::Planted;
use super::queue::{Arena, Queue};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, barrier_home};
use crate::action::{Actions, Failure};
use crate::ids::{BarrierId, NodeId, NodeSet, Ticket};
use crate::limits;
use crate::message::Message;

#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    pub(super) participants: u32,
    pub(super) arrived: u32,
    pub(super) queue: Queue,
}

#[derive(Clone, Debug)]
pub(super) struct Barriers {
    bound: usize,
    pub(super) used: NumberMap<BarrierId, Barrier>,
    pub(super) queued: Arena<Caller>,
}

impl Barriers {
    pub(super) fn new(config: EngineConfig) -> Barriers {
        let mut used = NumberMap::default();
        used.reserve(config.barriers);
        Barriers { bound: config.barriers, used, queued: Arena::with_capacity(config.tickets, config.nodes) }
    }

    /// Barriers in use, and calls that wait at one.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.used.len(), self.queued.len())
    }
}

impl Engine {
    pub(super) fn barrier_arrive(
        &mut self,
        ticket: Ticket,
        barrier: BarrierId,
        participants: u32,
        out: &mut Actions,
    ) {
        assert!(participants > 0, "a barrier of nobody");
        self.tickets.begin(ticket, Wait::Barrier(barrier));
        let home = barrier_home(barrier, self.config.nodes);
        let opens = home == self.config.node && !self.gatherings.all.contains_key(&barrier);
        self.end_round(opens, out);
        if !self.live.contains(home) {
            self.fail(ticket, Failure::PeerLost(home), out);
        } else if !self.gather(ticket, barrier, participants, out) {
            self.arrive_alone(ticket, barrier, participants, out);
        }
    }

    /// Tells the home that this call has arrived.
    pub(super) fn arrive_alone(
        &mut self,
        ticket: Ticket,
        barrier: BarrierId,
        participants: u32,
        out: &mut Actions,
    ) {
        let home = barrier_home(barrier, self.config.nodes);
        self.tell(home, out);
        self.confirm(home, out);
        self.send(home, Message::BarrierArrive { barrier, ticket, participants }, out);
    }

    /// A call no longer waits.
    pub(super) fn barrier_given_up(&mut self, barrier: BarrierId, ticket: Ticket, out: &mut Actions) {
        if !self.gathered_given_up(barrier, ticket, out) {
            let home = barrier_home(barrier, self.config.nodes);
            self.send(home, Message::BarrierCancel { barrier, ticket }, out);
        }
    }

    pub(super) fn barrier_arrived(
        &mut self,
        from: NodeId,
        barrier: BarrierId,
        ticket: Ticket,
        participants: u32,
        out: &mut Actions,
    ) -> Handled {
        if barrier_home(barrier, self.config.nodes) != self.config.node {
            return Err("this node is not the home of the barrier");
        }
        if let Some(node) = self.missing_for(participants) {
            self.send(from, Message::BarrierBroken { barrier, ticket, node }, out);
            return Ok(());
        }
        if self.barriers.queued.of(from) >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        }
        if let Err(first) = self.dissolve_for(barrier, participants, out) {
            self.send(from, Message::BarrierMismatch { barrier, ticket, first, this: participants }, out);
            return Ok(());
        }
        let full = self.barriers.used.len() >= self.barriers.bound;
        if full && !self.barriers.used.contains_key(&barrier) {
            self.send(from, Message::SyncRefused { ticket }, out);
            return Ok(());
        }
        let too_many = u32::from(self.planted(Planted::BarrierOneEarly));
        let fresh = Barrier { participants, arrived: 0, queue: Queue::default() };
        let used = self.barriers.used.entry(barrier).or_insert(fresh);
        if used.participants != participants {
            let first = used.participants;
            self.send(from, Message::BarrierMismatch { barrier, ticket, first, this: participants }, out);
            return Ok(());
        }
        self.barriers.queued.push(&mut used.queue, Caller { node: from, ticket });
        used.arrived += 1;
        if used.arrived + too_many >= participants {
            let queue = used.queue;
            self.barriers.used.remove(&barrier);
            self.open_barrier(barrier, participants, queue, out);
        }
        Ok(())
    }

    /// Lets all go who arrived, each node with what others wrote before.
    fn open_barrier(&mut self, barrier: BarrierId, participants: u32, mut queue: Queue, out: &mut Actions) {
        let plan = self.plan_barrier(barrier, participants, queue, out);
        let settled = self.settle_known();
        let mut told = NodeSet::only(self.config.node);
        while let Some(Caller { node, ticket }) = self.barriers.queued.pop(&mut queue) {
            self.tell(node, out);
            for (writer, interval) in settled.iter().filter(|_| !told.contains(node)) {
                self.send(node, Message::Settled { writer: *writer, interval: *interval }, out);
            }
            told = told.with(node);
            self.send(node, Message::BarrierRelease { barrier, ticket, plan }, out);
        }
    }

    /// A node whose loss keeps a barrier of so many from ever being full: there are fewer nodes left than
    /// participants. A smaller barrier may still fill up.
    fn missing_for(&self, participants: u32) -> Option<NodeId> {
        let lost = self.lost_node()?;
        (participants as usize > self.live.len()).then_some(lost)
    }

    pub(super) fn barrier_cancelled(&mut self, from: NodeId, barrier: BarrierId, ticket: Ticket) -> Handled {
        if barrier_home(barrier, self.config.nodes) != self.config.node {
            return Err("this node is not the home of the barrier");
        }
        let gone = Caller { node: from, ticket };
        self.withdraw(barrier, |caller| *caller == gone);
        Ok(())
    }

    fn withdraw(&mut self, barrier: BarrierId, gone: impl FnMut(&Caller) -> bool) {
        let Some(used) = self.barriers.used.get_mut(&barrier) else { return };
        used.arrived -= self.barriers.queued.remove_where(&mut used.queue, gone) as u32;
        if used.arrived == 0 {
            self.barriers.used.remove(&barrier);
        }
    }

    pub(super) fn mend_barriers(&mut self, lost: NodeId, out: &mut Actions) {
        let mut all: Vec<BarrierId> = self.barriers.used.keys().copied().collect();
        all.sort_unstable();
        for barrier in all {
            self.withdraw(barrier, |caller| caller.node == lost);
            let Some(used) = self.barriers.used.get(&barrier).copied() else { continue };
            let Some(node) = self.missing_for(used.participants) else { continue };
            let mut queue = used.queue;
            self.barriers.used.remove(&barrier);
            while let Some(caller) = self.barriers.queued.pop(&mut queue) {
                let ticket = caller.ticket;
                self.send(caller.node, Message::BarrierBroken { barrier, ticket, node }, out);
            }
        }
    }
}

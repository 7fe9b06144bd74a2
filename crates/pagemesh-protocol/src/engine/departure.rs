//! What happens when a call gives up waiting, when nodes leave, and when one is lost.

use super::tickets::Wait;
use super::{Engine, sync_home};
use crate::action::{Actions, Failure, Outcome};
use crate::ids::{NodeId, NodeSet, Ticket};
use crate::message::Message;

impl Engine {
    pub(super) fn cancel(&mut self, ticket: Ticket, out: &mut Actions) {
        let nodes = self.config.nodes;
        match self.tickets.wait(ticket) {
            Wait::Idle => return,
            Wait::Page { page, purpose, .. } => self.cancel_page_wait(ticket, page, purpose),
            Wait::Resuming(_) => return self.resumed(ticket, out),
            Wait::Lock(lock) => self.lock_given_up(ticket, lock),
            Wait::Barrier(barrier) => self.barrier_given_up(barrier, ticket, out),
            Wait::RwLock { lock, .. } => self.rw_given_up(ticket, lock, out),
            Wait::Semaphore(semaphore) => {
                let message = Message::SemaphoreCancel { semaphore, ticket };
                self.send(sync_home(semaphore.0, nodes), message, out);
            }
            Wait::Range { range, .. } => self.abandon_range(ticket, range, out),
            Wait::Condition(wait) => self.abandon_condition_wait(ticket, wait, out),
            Wait::Atomic { page, asked } => {
                self.send(asked, Message::AtomicCancel { page, ticket }, out);
            }
            Wait::Meeting => {
                let root = NodeId::COORDINATOR;
                self.send(root, Message::MeetingArrive { ticket, root, number: 0, leaves: true }, out);
            }
            Wait::Owner { .. }
            | Wait::Home { .. }
            | Wait::Pieces { .. }
            | Wait::AtomicHome { .. }
            | Wait::Region
            | Wait::RegionClose
            | Wait::Leave
            | Wait::SemaphoreAnswer(_) => {}
        }
        self.tickets.end(ticket);
    }

    pub(super) fn peer_lost(&mut self, lost: NodeId, out: &mut Actions) {
        assert!(lost != self.config.node, "a node does not lose itself");
        if !self.live.contains(lost) {
            return;
        }
        self.live = self.live.without(lost);
        self.forget_demands_of(lost);
        self.fail_requests_to(lost, out);
        self.mend_hints(lost, out);
        self.miss_drops(lost, out);
        self.mend_transactions(lost, out);
        self.mend_release(lost, out);
        self.mend_locks(lost, out);
        self.mend_tokens(lost, out);
        self.mend_gatherings(lost, out);
        self.mend_barriers(lost, out);
        self.mend_rwlocks(lost, out);
        self.mend_kept(lost);
        self.mend_semaphores(lost, out);
        self.mend_conditions(lost);
        self.mend_ranges(lost, out);
        self.fail_condition_waits(lost, out);
        if self.config.node == NodeId::COORDINATOR {
            self.mend_meetings(lost, out);
            self.mend_agreements(lost, out);
        }
        let answerer = |wait| match wait {
            Wait::Owner { asked, .. }
            | Wait::Home { asked, .. }
            | Wait::Atomic { asked, .. }
            | Wait::AtomicHome { asked, .. } => Some(asked),
            Wait::Region | Wait::RegionClose | Wait::Meeting => Some(NodeId::COORDINATOR),
            Wait::Pieces { root, .. } => Some(root),
            wait => self.home_of_wait(wait),
        };
        let failed: Vec<Ticket> = self
            .tickets
            .waiting()
            .filter(|(_, wait)| answerer(*wait) == Some(lost))
            .map(|(ticket, _)| ticket)
            .collect();
        for ticket in failed {
            let sent = matches!(self.tickets.wait(ticket), Wait::Atomic { .. });
            let failure = if sent { Failure::Unanswered(lost) } else { Failure::PeerLost(lost) };
            self.fail(ticket, failure, out);
        }
        // A transaction that lingered for pins may be over, and the next may have nothing in its way.
        self.meet_awaited(out);
        self.end_leaving(out);
    }

    pub(super) fn leave(&mut self, ticket: Ticket, out: &mut Actions) {
        self.tickets.begin(ticket, Wait::Leave);
        for node in self.live.iter() {
            self.send(node, Message::Leaving, out);
        }
    }

    pub(super) fn peer_leaves(&mut self, from: NodeId, out: &mut Actions) {
        self.leaving = self.leaving.with(from);
        self.end_leaving(out);
    }

    /// Lets those go who wait for everyone to be done, once nobody is left who is not; with a failure when a node was lost
    /// before it was.
    fn end_leaving(&mut self, out: &mut Actions) {
        if !self.live.less(self.leaving).is_empty() {
            return;
        }
        let members = NodeSet::first(self.config.nodes as usize);
        let outcome = match members.less(self.leaving).lowest() {
            Some(lost) => Outcome::Failed(Failure::PeerLost(lost)),
            None => Outcome::Done,
        };
        let over: Vec<Ticket> = self
            .tickets
            .waiting()
            .filter(|(_, wait)| *wait == Wait::Leave)
            .map(|(ticket, _)| ticket)
            .collect();
        for ticket in over {
            self.complete(ticket, outcome, out);
        }
    }
}

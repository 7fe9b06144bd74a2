//! What homes say, as the referees hear it; and faults planted there.

use super::World;
use crate::breach::Breach;
use crate::event::Wanted;
use crate::sabotage::Sabotage;
use pagemesh_protocol::{Collect, Message, NodeId, PageAddress};

impl World {
    /// A home serves a request by answering it, or by having the owner answer it.
    pub(super) fn observe_service(&mut self, at: usize, to: NodeId, message: &Message) -> Result<(), Breach> {
        let is_home = |page| self.nodes[at].engine.home(page) == Some(self.nodes[at].id);
        match *message {
            Message::Grant { page, .. }
            | Message::Deny { page, .. }
            | Message::Collect { page, step: Collect::Data(_), .. } => self.note_service(page, to),
            // A sharer may pass it on.
            Message::Collect { page, step: Collect::Grant(_), .. } if is_home(page) => {
                self.note_service(page, to)
            }
            Message::Collect { page, step: Collect::Drop { requester, grant, .. }, .. }
                if !grant.is_empty() =>
            {
                self.note_service(page, requester)
            }
            Message::Data { page, .. } if is_home(page) => self.note_service(page, to),
            Message::Fetch { page, requester, .. } => self.note_service(page, requester),
            _ => Ok(()),
        }
    }

    /// Who gives up waiting, or asks for what is there, leaves no trace at the home: then turns are not counted.
    pub(super) fn note_service(&mut self, page: PageAddress, node: NodeId) -> Result<(), Breach> {
        if !self.counts_turns {
            return Ok(());
        }
        let served = self.turns.serves(page, node);
        self.counts.passed_max = self.turns.most;
        served
    }

    /// A planted fault: the anchor tells a claimer that it is the home itself.
    pub(super) fn plant_second_home(&mut self, to: NodeId, message: Message) -> Message {
        match message {
            Message::HomeNamed { page, request, home }
                if home != to && self.saboteur.strikes(Sabotage::TwoHomes) =>
            {
                Message::HomeNamed { page, request, home: to }
            }
            other => other,
        }
    }

    /// Lets the referee see what a home answers.
    pub(super) fn observe_sync(&mut self, at: usize, to: NodeId, message: &Message) -> Result<(), Breach> {
        self.referee.says(self.nodes[at].id, to, message)?;
        match *message {
            Message::LockGrant { lock, .. } => self.plant_second_grant(at, lock),
            Message::BarrierRelease { barrier, ticket, .. } => {
                self.referee.released(barrier, (to, ticket))?;
            }
            Message::BarrierBroken { ticket, .. } | Message::SyncRefused { ticket } => {
                self.referee.refused((to, ticket));
            }
            _ => {}
        }
        Ok(())
    }

    /// A planted fault: the next in the queue is granted the lock as well.
    fn plant_second_grant(&mut self, at: usize, lock: pagemesh_protocol::LockId) {
        if let Some((node, ticket)) = self.referee.next_waiting(lock)
            && node.index() != at
            && self.saboteur.strikes(Sabotage::DoubleLockGrant)
        {
            self.post(at, node.index(), Message::LockGrant { lock, ticket, died: None }, None);
        }
    }

    /// A planted fault: a remote thread that has just arrived passes at once.
    pub(super) fn plant_early_release(
        &mut self,
        from: usize,
        wanted: Wanted,
        ticket: pagemesh_protocol::Ticket,
    ) {
        let Wanted::Barrier(barrier) = wanted else { return };
        let home = pagemesh_protocol::barrier_home(barrier, self.config.nodes).index();
        if home != from && self.nodes[home].alive && self.saboteur.strikes(Sabotage::EarlyBarrierRelease) {
            self.post(home, from, Message::BarrierRelease { barrier, ticket, plan: None }, None);
        }
    }
}

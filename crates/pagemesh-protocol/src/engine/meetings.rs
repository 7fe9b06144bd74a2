//! Meetings of all nodes, and what one node then sends to all others.
//!
//! A meeting is a barrier of one call of every node, at the coordinator, to which each comes with a claim: a node and a number. When all have come
//! they are let go together, with the number of the round, if all claims are the same; else all are told what the first to come
//! had claimed. It has no name, so no name that a program gives to a barrier can be in its way. When a node is lost, whoever waits or comes later is
//! told so.
//!
//! To pass on a run of bytes, all meet first, so that everyone has room for it; then one node sends it in pieces, stamped with the round.
//! The pieces of one sender come in order, so the last says that all are there. They may come before the end of the meeting, which
//! another node tells. Pieces of an older round than the newest that was heard of are left over from a call that gave up.

use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled};
use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{NodeId, Ticket};
use crate::limits;
use crate::message::{MeetingEnd, Message};

/// What a call comes with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Claim {
    pub(super) root: NodeId,
    pub(super) number: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Meetings {
    /// At the coordinator: who has come, at most one call of each node.
    arrived: Vec<(NodeId, Ticket, Claim)>,
    /// At the coordinator: how many meetings ended well.
    rounds: u64,
    /// The newest round of which a piece has come, and whether all have.
    pieces: (u64, bool),
}

impl Meetings {
    pub(super) fn new(config: EngineConfig) -> Meetings {
        Meetings { arrived: Vec::with_capacity(config.nodes as usize), rounds: 0, pieces: (0, false) }
    }

    /// Whether nobody ever met.
    #[cfg(feature = "verification")]
    pub(super) fn is_untouched(&self) -> bool {
        self.arrived.is_empty() && self.rounds == 0 && self.pieces.0 == 0
    }
}

/// The caller's part.
impl Engine {
    /// A thread comes to the meeting of all nodes, of which no other call of this node may be under way. `ticket` completes with
    /// [`Outcome::Met`] when all nodes have come with the same `root` and `number`, and with [`Failure::ClaimsDiffer`] when they have come with
    /// others. Orders memory as a barrier does.
    pub fn on_meeting(&mut self, ticket: Ticket, root: NodeId, number: u64, out: &mut Actions) {
        self.tickets.begin(ticket, Wait::Meeting);
        let home = NodeId::COORDINATOR;
        self.release_interval(out);
        if self.live.contains(home) {
            self.tell(home, out);
            self.confirm(home, out);
            self.send(home, Message::MeetingArrive { ticket, root, number, leaves: false }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(home), out);
        }
        self.settle(out);
    }

    /// A thread waits for the pieces that `root` sends in `round`; `ticket` completes when all have come.
    pub fn on_pieces_wanted(&mut self, ticket: Ticket, root: NodeId, round: u64, out: &mut Actions) {
        if self.meetings.pieces == (round, true) {
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
            return;
        }
        self.tickets.begin(ticket, Wait::Pieces { root, round });
        if !self.live.contains(root) {
            self.fail(ticket, Failure::PeerLost(root), out);
        }
    }

    pub(super) fn meeting_over(
        &mut self,
        from: NodeId,
        ticket: Ticket,
        end: MeetingEnd,
        out: &mut Actions,
    ) -> Handled {
        let outcome = match end {
            MeetingEnd::Agreed { round } => Outcome::Met(round),
            MeetingEnd::Differs { root, number } => Outcome::Failed(Failure::ClaimsDiffer { root, number }),
            MeetingEnd::Broken { lost } => Outcome::Failed(Failure::PeerLost(lost)),
        };
        self.conclude_acquire(from, NodeId::COORDINATOR, ticket, Wait::Meeting, outcome, out)
    }

    pub(super) fn piece(
        &mut self,
        from: NodeId,
        round: u64,
        offset: u32,
        last: bool,
        out: &mut Actions,
    ) -> Handled {
        if offset as usize >= limits::PIECES_BYTES {
            return Err("a piece lies beyond what is passed on at once");
        }
        if round < self.meetings.pieces.0 {
            return Ok(());
        }
        out.push(Action::TakePiece { round, offset });
        self.meetings.pieces = (round, last);
        if last {
            let wait = Wait::Pieces { root: from, round };
            let waiting = self.tickets.waiting().find(|(_, waits)| *waits == wait);
            if let Some((ticket, _)) = waiting {
                self.complete(ticket, Outcome::Done, out);
            }
        }
        Ok(())
    }
}

/// The coordinator's part.
impl Engine {
    pub(super) fn meeting_arrived(
        &mut self,
        from: NodeId,
        ticket: Ticket,
        claim: Claim,
        leaves: bool,
        out: &mut Actions,
    ) -> Handled {
        if self.config.node != NodeId::COORDINATOR {
            return Err("this node is not the coordinator");
        }
        if leaves {
            self.meetings.arrived.retain(|(node, call, _)| (*node, *call) != (from, ticket));
            return Ok(());
        }
        if self.meetings.arrived.iter().any(|(node, ..)| *node == from) {
            return Err("it is at the meeting already");
        }
        if let Some(lost) = self.lost_node() {
            self.send(from, Message::MeetingOver { ticket, end: MeetingEnd::Broken { lost } }, out);
            return Ok(());
        }
        self.meetings.arrived.push((from, ticket, claim));
        if self.meetings.arrived.len() == self.config.nodes as usize {
            let first = self.meetings.arrived[0].2;
            let agreed = self.meetings.arrived.iter().all(|(_, _, claim)| *claim == first);
            self.meetings.rounds += u64::from(agreed);
            let round = self.meetings.rounds;
            let Claim { root, number } = first;
            self.end_meeting(
                if agreed { MeetingEnd::Agreed { round } } else { MeetingEnd::Differs { root, number } },
                out,
            );
        }
        Ok(())
    }

    fn end_meeting(&mut self, end: MeetingEnd, out: &mut Actions) {
        for (node, ticket, _) in std::mem::take(&mut self.meetings.arrived) {
            self.tell(node, out);
            self.send(node, Message::MeetingOver { ticket, end }, out);
        }
        self.meetings.arrived.reserve(self.config.nodes as usize);
    }

    pub(super) fn mend_meetings(&mut self, lost: NodeId, out: &mut Actions) {
        self.meetings.arrived.retain(|(node, ..)| *node != lost);
        self.end_meeting(MeetingEnd::Broken { lost }, out);
    }
}

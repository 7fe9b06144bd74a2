//! Names that somebody still knows, so that a new request or call gets one that nobody does.
//!
//! A name is compared with others and nothing else, so which one is drawn does not matter as long as it is new. Real engines
//! count upwards; here the lowest free one is taken, and the states of a mesh that runs for ever are finitely many.

use super::plan::NODES;
use super::step::{Parcel, REQUESTS_AN_EVENT};
use pagemesh_protocol::{Collect, Hint, Message, Name, NodeId, RequestId, Ticket};

/// Generations of one slot that can be told apart.
const GENERATIONS: u32 = 16;

/// A set of names, by the node whose they are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Names {
    requests: [u32; NODES],
    calls: [u32; NODES],
}

impl Names {
    pub(super) fn add(&mut self, name: Name) {
        match name {
            Name::Request(node, request) => {
                assert!(request.0 < u32::BITS, "more requests are known than the checker counts");
                self.requests[node.index()] |= 1 << request.0;
            }
            Name::Call(node, ticket) => {
                assert!(
                    (ticket.generation as u32) < GENERATIONS,
                    "more calls are known than the checker counts"
                );
                self.calls[node.index()] |=
                    1 << (ticket.slot as u32 * GENERATIONS + ticket.generation as u32);
            }
        }
    }

    pub(super) fn join(&mut self, other: &Names) {
        for node in 0..NODES {
            self.requests[node] |= other.requests[node];
            self.calls[node] |= other.calls[node];
        }
    }

    /// From where on `node` finds as many free names as one event may need.
    pub(super) fn next_request(&self, node: usize) -> RequestId {
        let wanted = (1 << REQUESTS_AN_EVENT) - 1;
        let free = (0..u32::BITS - REQUESTS_AN_EVENT)
            .find(|first| self.requests[node] >> first & wanted == 0)
            .expect("fewer requests are known than the checker counts");
        RequestId(free)
    }

    /// A generation in which nobody knows this slot of `node`.
    pub(super) fn next_generation(&self, node: usize, slot: u8) -> u16 {
        let used = self.calls[node] >> (slot as u32 * GENERATIONS);
        used.trailing_ones() as u16
    }

    pub(super) fn add_parcel(&mut self, from: NodeId, to: NodeId, parcel: &Parcel) {
        let call = |node: NodeId, ticket: Ticket| Name::Call(node, ticket);
        let name = match parcel.message {
            Message::PageRequest { request, .. }
            | Message::Done { request, .. }
            | Message::HomeClaim { request, .. } => Name::Request(from, request),
            Message::Data { request, .. }
            | Message::Grant { request, .. }
            | Message::Deny { request, .. }
            | Message::Recall { request, .. }
            | Message::HomeNamed { request, .. } => Name::Request(to, request),
            Message::Fetch { request, requester, .. } => Name::Request(requester, request),
            Message::Collect { request, step, .. } => match step {
                Collect::Drop { requester, .. } => Name::Request(requester, request),
                Collect::Unheard(_) => Name::Request(from, request),
                Collect::Dropped | Collect::Grant(_) | Collect::Data(_) | Collect::Gone { .. } => {
                    Name::Request(to, request)
                }
            },
            Message::Hint { request, step, .. } => match step {
                Hint::Read | Hint::Got(_) => Name::Request(from, request),
                Hint::Miss => Name::Request(to, request),
                Hint::Served { reader, .. } => Name::Request(reader, request),
                // It says what the owner keeps in mind until then.
                Hint::Known => return,
            },
            Message::AtomicForward { requester, ticket, .. }
            | Message::AtomicDone { requester, ticket, .. } => call(requester, ticket),
            Message::LockForward { ticket, node, wanted, .. } => {
                self.add(call(node, wanted));
                call(to, ticket)
            }
            Message::AtomicRequest { ticket, .. }
            | Message::HomeQuery { ticket, .. }
            | Message::AtomicCancel { ticket, .. }
            | Message::LockState { state: Some((ticket, _)), .. }
            | Message::LockAcquire { ticket, .. }
            | Message::LockRelease { ticket, .. }
            | Message::BarrierArrive { ticket, .. }
            | Message::BarrierCancel { ticket, .. } => call(from, ticket),
            Message::AtomicReply { ticket, .. }
            | Message::AtomicDeny { ticket, .. }
            | Message::AtomicWithdrawn { ticket, .. }
            | Message::HomeReply { ticket, .. }
            | Message::LockGrant { ticket, .. }
            | Message::BarrierRelease { ticket, .. }
            | Message::BarrierMismatch { ticket, .. }
            | Message::BarrierBroken { ticket, .. }
            | Message::SyncRefused { ticket } => call(to, ticket),
            Message::Invalidate { .. }
            | Message::InvalidateAck { .. }
            | Message::Evict { .. }
            | Message::LockQuery { .. }
            | Message::LockCut { .. }
            | Message::LockState { .. }
            | Message::BarrierGathered { .. }
            | Message::BarrierOpened { .. }
            | Message::BarrierDissolve { .. } => return,
            other => unreachable!("nobody sends {other:?} here"),
        };
        self.add(name);
    }
}

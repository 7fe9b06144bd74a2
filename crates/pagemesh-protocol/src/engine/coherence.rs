//! What the holder's and the home's part of page coherence share: the tables of requests and of transactions, and the one
//! question that a protocol answers.
//!
//! Every node plays two parts. As a *holder* (`holder.rs`) it has a copy in a state of [`PageState`] and at most one
//! request under way a page. As a *home* (`home.rs`) it keeps the directory of its pages and runs one transaction a page
//! at a time; requests that meet one queue up. A home that holds a copy itself does so as a holder, by messages to itself
//! that never reach the wire. Both parts are the same for every protocol. A protocol is a file with its two tables and
//! one pure function: what a home does with a request, given what its directory says.
//!
//! The order of messages on one link is relied on in one place: a Grant or Data that the home itself sends is not
//! acknowledged, so what the home says next about the page must come after it (`collecting.rs` adds what losses make of it). Messages on different links may pass
//! each other freely.

use super::EngineConfig;
use super::atomics::Asked;
use super::migration;
use super::pages::{DirectoryEntry, DirectoryState};
use super::queue::{Arena, Queue, Waiter};
use super::write_invalidate;
use crate::action::Action;
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RequestId};
use crate::limits;
use crate::placement::Protocol;
use crate::sharers::Sharers;
use slab::Slab;

pub(super) const NO_SUCH_PAGE: &str = "the page does not exist here";
pub(super) const NOT_ITS_HOME: &str = "it is not the home of the page";
pub(super) const NOT_HOME_HERE: &str = "this node is not the home of the page";
pub(super) const NOT_ITS_ANCHOR: &str = "it does not settle the home of the page";
pub(super) const NOT_ANCHOR_HERE: &str = "this node does not settle the home of the page";
pub(super) const NOT_OF_THIS_PROTOCOL: &str = "the page's protocol knows no such access";

/// A request of this node that was not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) page: PageAddress,
    /// Who is to answer next: the home or, before it is known, the anchor.
    pub(super) asked: NodeId,
    /// The home is not known yet.
    pub(super) claims: bool,
    pub(super) request: RequestId,
    pub(super) access: Access,
    /// First of the tickets that wait, linked by their slots.
    pub(super) first: Option<u16>,
    pub(super) noticed: Noticed,
    /// Who must have dropped its copy before the page may be written; known when the home has said so.
    pub(super) owed: Option<Sharers>,
    /// Who has.
    pub(super) gone: NodeSet,
    /// Of these, who has not said so itself: the home counts it as one that has.
    pub(super) counted: Sharers,
    /// Who was asked in the home's place (`hints.rs`).
    pub(super) hinted: Option<NodeId>,
}

/// Whose writes a node was told of while it waits for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Noticed {
    Nobodys,
    /// Those of this node alone, which told of them itself: an answer that comes from it was sent later, and has them.
    ItsOwn(NodeId),
    Others,
}

impl Noticed {
    /// Adds what `writer` wrote.
    pub(super) fn and(self, writer: NodeId, by_itself: bool) -> Noticed {
        match self {
            Noticed::Nobodys if by_itself => Noticed::ItsOwn(writer),
            Noticed::ItsOwn(before) if by_itself && before == writer => self,
            _ => Noticed::Others,
        }
    }

    /// Whether an answer of `from` may lack something of it.
    pub(super) fn outdates(self, from: NodeId) -> bool {
        match self {
            Noticed::Nobodys => false,
            Noticed::ItsOwn(writer) => writer != from,
            Noticed::Others => true,
        }
    }
}

/// A request as the home sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Request {
    pub(super) node: NodeId,
    pub(super) id: RequestId,
    pub(super) access: Access,
    /// The page is not wanted itself, but this is to be done to it. Such a request has no name of its own.
    pub(super) atomic: Option<Asked>,
}

impl Waiter for Request {
    fn node(&self) -> NodeId {
        self.node
    }
}

/// What a transaction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Phase {
    /// The anchor, which has told others that this node is the home, has still to tell this node.
    Settling,
    /// Threads of this home that have not yet used its copy, which is to be sent.
    Lingering,
    /// Sharers that have not yet said that their copy is gone.
    Invalidating { missing: NodeSet },
    /// The requester, who waits for these sharers to tell it that their copies are gone; some are asked to tell this home,
    /// and some have told it so.
    Collecting { sharers: Sharers, asked: Sharers, told: Sharers },
    /// One of several sharers, who has given its copy back and has not yet said that it is gone. No request stands behind it.
    Evicting { sharer: NodeId },
    /// The owner sends its copy to the requester, who will say that it came.
    Moving { from: NodeId },
    /// The only holder does an atomic operation on its copy and says when it is done.
    Operating { at: NodeId },
    /// The owner was lost; the requester was asked whether the copy came before.
    Recalling { from: NodeId },
}

/// The one transaction that is under way on a page, and who is next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transaction {
    pub(super) page: PageAddress,
    pub(super) request: Request,
    pub(super) phase: Phase,
    pub(super) queue: Queue,
}

/// What a home does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// The only copy went with this node: no.
    Deny(NodeId),
    /// Nobody ever had the page: it is zero.
    GrantZero,
    /// The requester has the last copy and may write it.
    Grant,
    /// These drop their copies; then it is decided anew.
    Invalidate(NodeSet),
    /// This node sends its copy.
    Move(NodeId),
}

/// The access that a node asks for when its application needs `needed`.
pub(super) const fn asked_access(protocol: Protocol, needed: Access) -> Access {
    match protocol {
        Protocol::WriteInvalidate | Protocol::Release | Protocol::Entry => needed,
        Protocol::Migration => migration::ASKED,
    }
}

/// What `home` does with the request `asked`, by what its directory says.
pub(super) fn decide(protocol: Protocol, entry: &DirectoryEntry, asked: Request, home: NodeId) -> Decision {
    match protocol {
        Protocol::WriteInvalidate => write_invalidate::decide(entry, asked, home),
        Protocol::Migration => migration::decide(entry),
        Protocol::Release => unreachable!("a home answers requests of this protocol without transactions"),
        Protocol::Entry => unreachable!("no page of this protocol is ever requested"),
    }
}

/// The requests of this node, and as a home the transactions on its pages.
#[derive(Clone, Debug)]
pub(super) struct Coherence {
    pub(super) next_request: u32,
    /// How far apart the names of requests are: engines of one node share the numbers.
    request_step: u32,
    pub(super) pending: Slab<Pending>,
    pub(super) transactions: Slab<Transaction>,
    pub(super) queued: Arena<Request>,
    /// Requests of each node that this home has not answered.
    pub(super) open: Vec<u32>,
}

impl Coherence {
    /// For engine number `part` of `parts` of this node.
    pub(super) fn new(config: EngineConfig, (part, parts): (u16, u16)) -> Coherence {
        Coherence {
            next_request: part.into(),
            request_step: u32::from(parts).next_power_of_two(),
            pending: Slab::with_capacity(config.tickets + limits::EVICTIONS),
            transactions: Slab::with_capacity(config.tickets + limits::EVICTIONS),
            queued: Arena::with_capacity(config.tickets, config.nodes),
            open: vec![0; config.nodes as usize],
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.transactions.is_empty() && self.queued.is_empty()
    }

    /// A name for a request that no earlier one of this node has, until 2^32 of them are over.
    pub(super) fn fresh_request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request = request.0.wrapping_add(self.request_step);
        request
    }
}

/// The state of a copy that was granted for `access`.
pub(super) const fn granted(access: Access) -> PageState {
    match access {
        Access::Read => PageState::Shared,
        Access::Write => PageState::Modified,
    }
}

/// What the directory says of a page that only `node` has, for `access`.
pub(super) const fn owned(access: Access, node: NodeId) -> DirectoryState {
    match access {
        Access::Read => DirectoryState::Shared(node),
        Access::Write => DirectoryState::Modified(node),
    }
}

/// Lets the application use a copy that is in `state`.
pub(super) const fn map(page: PageAddress, state: PageState) -> Action {
    match state {
        PageState::Modified => Action::MapWrite(page),
        _ => Action::MapRead(page),
    }
}

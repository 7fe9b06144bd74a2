//! The write-invalidate protocol: MSI a page, many readers or one writer, directory at the page's home (Li and Hudak 1989's
//! fixed distributed manager, with the home serialising the transactions on a page).
//!
//! Every node plays two parts. As a *holder* it has a copy in a state of [`PageState`] and at most one request under
//! way a page. As a *home* it keeps the directory of its pages and runs one transaction a page at a time; requests that meet
//! one queue up. A home that holds a copy itself does so as a holder, by messages to itself that never reach the wire.
//!
//! The holder's part (`docs/protocol.md` has the same table, and a test holds both against the engine):
//!
//! | state | event | actions | next state |
//! |---|---|---|---|
//! | INVALID | read fault | PageRequest(Read) to home | INVALID |
//! | INVALID | write fault | PageRequest(Write) to home | INVALID |
//! | SHARED | read fault | MapRead, Complete | SHARED |
//! | SHARED | write fault | PageRequest(Write) to home | SHARED |
//! | MODIFIED | read fault | MapWrite, Complete | MODIFIED |
//! | MODIFIED | write fault | MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Read) from home | Fill, MapRead, Complete | SHARED |
//! | INVALID | Data(Read) from owner | Fill, MapRead, Done to home, Complete | SHARED |
//! | INVALID | Data(Write) from home | Fill, MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Write) from owner | Fill, MapWrite, Done to home, Complete | MODIFIED |
//! | INVALID | Grant(Read, zero) | FillZero, MapRead, Complete | SHARED |
//! | INVALID | Grant(Write, zero) | FillZero, MapWrite, Complete | MODIFIED |
//! | SHARED | Grant(Write) | Unprotect, Complete | MODIFIED |
//! | INVALID | Deny | Complete(PageLost) | INVALID |
//! | SHARED | Invalidate | Unmap, InvalidateAck to home | INVALID |
//! | SHARED | Fetch(Read) | Data(Read) to requester | SHARED |
//! | SHARED | Fetch(Write) | Unmap, Data(Write) to requester | INVALID |
//! | MODIFIED | Fetch(Read) | Protect, Data(Read) to requester | SHARED |
//! | MODIFIED | Fetch(Write) | Unmap, Data(Write) to requester | INVALID |
//!
//! What the home does with a request, by what its directory says, is told at [`Engine::serve`]. The order of messages on
//! one link is relied on in one place: a Grant or Data that the home itself sends is not acknowledged, so what the
//! home says next about the page must come after it. Messages on different links may pass each other freely.

use super::pages::{DirectoryEntry, DirectoryState, LocalPage};
use super::queue::{Arena, Queue, Waiter};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled};
use crate::action::{Action, Actions, Failure, Outcome, PageOwner};
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RequestId, Ticket};
use crate::limits;
use crate::message::Message;
use slab::Slab;

const NO_SUCH_PAGE: &str = "the page does not exist here";
const NOT_ITS_HOME: &str = "it is not the home of the page";
const NOT_HOME_HERE: &str = "this node is not the home of the page";

/// A request of this node that its home has not answered.
#[derive(Clone, Copy, Debug)]
struct Pending {
    page: PageAddress,
    request: RequestId,
    access: Access,
    /// First of the tickets that wait, linked by their slots.
    first: Option<u16>,
}

/// A request as the home sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Request {
    node: NodeId,
    id: RequestId,
    access: Access,
}

impl Waiter for Request {
    fn node(&self) -> NodeId {
        self.node
    }
}

/// What a transaction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Sharers that have not yet said that their copy is gone.
    Invalidating { missing: NodeSet },
    /// The owner sends its copy to the requester, who will say that it came.
    Moving { from: NodeId },
    /// The owner was lost; the requester was asked whether the copy came before.
    Recalling { from: NodeId },
}

/// The one transaction that is under way on a page, and who is next.
#[derive(Clone, Copy, Debug)]
struct Transaction {
    page: PageAddress,
    request: Request,
    phase: Phase,
    queue: Queue,
}

#[derive(Clone, Debug)]
pub(super) struct WriteInvalidate {
    next_request: u32,
    pending: Slab<Pending>,
    transactions: Slab<Transaction>,
    queued: Arena<Request>,
    /// Requests of each node that this home has not answered.
    open: [u32; limits::NODES],
}

impl WriteInvalidate {
    pub(super) fn new(config: EngineConfig) -> WriteInvalidate {
        WriteInvalidate {
            next_request: 0,
            pending: Slab::with_capacity(config.tickets),
            transactions: Slab::with_capacity(config.tickets),
            queued: Arena::with_capacity(config.tickets),
            open: [0; limits::NODES],
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.transactions.is_empty() && self.queued.is_empty()
    }
}

/// The holder's part.
impl Engine {
    pub(super) fn fault(&mut self, ticket: Ticket, page: PageAddress, access: Access, out: &mut Actions) {
        let local = self.pages.local(page).expect("a fault is reported for a page that is mapped");
        if local.state.allows(access) {
            // Another thread was quicker, or the kernel dropped the page-table entry of a page that is held.
            out.push(map(page, local.state));
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
            return;
        }
        self.tickets.begin(ticket, Wait::Page { page, access, next: None });
        if let Some(index) = local.pending {
            let pending = &mut self.coherence.pending[index as usize];
            let first = pending.first.replace(ticket.slot);
            self.tickets.link(ticket.slot, first);
        } else {
            self.request_page(page, access, ticket.slot, out);
        }
    }

    /// Asks the home for `page` on behalf of the calls linked from `first`.
    fn request_page(&mut self, page: PageAddress, access: Access, first: u16, out: &mut Actions) {
        let home = self.pages.home(page).expect("checked by the caller");
        let local = self.pages.local(page).expect("checked by the caller");
        if !self.live.contains(home) {
            self.page_without_home(page, local, home, Some(first), out);
            return;
        }
        let request = RequestId(self.coherence.next_request);
        self.coherence.next_request = request.0.wrapping_add(1);
        let index = self.coherence.pending.insert(Pending { page, request, access, first: Some(first) });
        self.pages.set_local(page, LocalPage { pending: Some(index as u32), ..local });
        self.send(home, Message::PageRequest { page, request, access }, out);
    }

    /// The home of `page` was lost with its directory. A copy that is held here stays; when nobody else is left, it
    /// is the only one and may be written.
    fn page_without_home(
        &mut self,
        page: PageAddress,
        local: LocalPage,
        home: NodeId,
        first: Option<u16>,
        out: &mut Actions,
    ) {
        if local.state == PageState::Shared && self.live == NodeSet::only(self.config.node) {
            self.pages.set_local(page, LocalPage { state: PageState::Modified, pending: None });
            out.push(Action::Unprotect(page));
            self.complete_list(first, PageState::Modified, Outcome::Done, out);
        } else {
            self.pages.set_local(page, LocalPage { pending: None, ..local });
            let failed = Outcome::Failed(Failure::PeerLost(home));
            self.complete_list(first, PageState::Modified, failed, out);
        }
    }

    /// Completes the calls linked from `first` that a copy in `state` serves; returns the first of the others.
    fn complete_list(
        &mut self,
        first: Option<u16>,
        state: PageState,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Option<u16> {
        let mut rest = None;
        let mut cursor = first;
        while let Some(slot) = cursor {
            let (ticket, Wait::Page { access, next, .. }) = self.tickets.slot(slot) else {
                unreachable!("only calls that wait for a page are linked");
            };
            cursor = next;
            if state.allows(access) {
                self.complete(ticket, outcome, out);
            } else {
                self.tickets.link(slot, rest);
                rest = Some(slot);
            }
        }
        rest
    }

    /// The request of this node that `request` answers, if it still waits.
    fn answered(
        &self,
        page: PageAddress,
        request: RequestId,
    ) -> Result<Option<(LocalPage, Pending)>, &'static str> {
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        let pending = local.pending.map(|index| self.coherence.pending[index as usize]);
        Ok(pending.filter(|pending| pending.request == request).map(|pending| (local, pending)))
    }

    /// Ends the pending request of `page`, whose copy is now in `state`.
    fn installed(
        &mut self,
        page: PageAddress,
        local: LocalPage,
        state: PageState,
        done: Option<(NodeId, Message)>,
        out: &mut Actions,
    ) {
        let index = local.pending.expect("an answer is taken only for a pending request");
        let pending = self.coherence.pending.remove(index as usize);
        self.pages.set_local(page, LocalPage { state, pending: None });
        if let Some((home, message)) = done {
            self.send(home, message, out);
        }
        // A writer that came while a read was under way still needs its upgrade.
        if let Some(writers) = self.complete_list(pending.first, state, Outcome::Done, out) {
            self.request_page(page, Access::Write, writers, out);
        }
    }

    pub(super) fn data(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        access: Access,
        out: &mut Actions,
    ) -> Handled {
        // Bytes that nobody waits for: a recall was answered before they came.
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if pending.access != access || local.state != PageState::Invalid {
            return Err("the page was not asked for in this way");
        }
        let home = self.pages.home(page).ok_or(NO_SUCH_PAGE)?;
        let state = granted(access);
        out.push(Action::Fill(page));
        out.push(map(page, state));
        let done = (from != home).then_some((home, Message::Done { page, request, installed: true }));
        self.installed(page, local, state, done, out);
        Ok(())
    }

    pub(super) fn grant(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        access: Access,
        zero: bool,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != from {
            return Err(NOT_ITS_HOME);
        }
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if pending.access != access {
            return Err("the page was not asked for in this way");
        }
        let state = granted(access);
        match (zero, local.state, access) {
            (true, PageState::Invalid, _) => {
                out.push(Action::FillZero(page));
                out.push(map(page, state));
            }
            (false, PageState::Shared, Access::Write) => out.push(Action::Unprotect(page)),
            _ => return Err("the grant does not fit the copy that is held"),
        }
        self.installed(page, local, state, None, out);
        Ok(())
    }

    pub(super) fn deny(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        lost_with: NodeId,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != from {
            return Err(NOT_ITS_HOME);
        }
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        self.coherence.pending.remove(local.pending.expect("it was answered") as usize);
        self.pages.set_local(page, LocalPage { pending: None, ..local });
        let lost = Outcome::Failed(Failure::PageLost(lost_with));
        self.complete_list(pending.first, PageState::Modified, lost, out);
        Ok(())
    }

    pub(super) fn fetch(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        access: Access,
        requester: NodeId,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != from {
            return Err(NOT_ITS_HOME);
        }
        if self.page_state(page) == PageState::Invalid {
            return Err("there is no copy here to be fetched");
        }
        if requester == self.config.node || requester.get() >= self.config.nodes {
            return Err("the copy cannot go to this requester");
        }
        self.supply(page, requester, request, access, out);
        Ok(())
    }

    /// Gives up the rights that `access` by another node takes, then sends it this node's bytes.
    fn supply(
        &mut self,
        page: PageAddress,
        requester: NodeId,
        request: RequestId,
        access: Access,
        out: &mut Actions,
    ) {
        let local = self.pages.local(page).expect("checked by the caller");
        let state = match (access, local.state) {
            (Access::Write, _) => {
                out.push(Action::Unmap(page));
                PageState::Invalid
            }
            (Access::Read, PageState::Modified) => {
                out.push(Action::Protect(page));
                PageState::Shared
            }
            (Access::Read, state) => state,
        };
        self.pages.set_local(page, LocalPage { state, ..local });
        self.send_page(requester, Message::Data { page, request, access }, page, out);
    }

    pub(super) fn invalidate(&mut self, from: NodeId, page: PageAddress, out: &mut Actions) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != from {
            return Err(NOT_ITS_HOME);
        }
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        if local.state != PageState::Shared {
            return Err("there is no shared copy here to be dropped");
        }
        out.push(Action::Unmap(page));
        self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
        self.send(from, Message::InvalidateAck { page }, out);
        Ok(())
    }

    pub(super) fn recall(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != from {
            return Err(NOT_ITS_HOME);
        }
        // Once the bytes have come, a Done is on its way ahead of any answer.
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        self.send(from, Message::Done { page, request, installed: false }, out);
        // The bytes may still come, on another link: asked for under a new name, they are told apart.
        let again = RequestId(self.coherence.next_request);
        self.coherence.next_request = again.0.wrapping_add(1);
        let index = local.pending.expect("it waits for an answer") as usize;
        self.coherence.pending[index].request = again;
        self.send(from, Message::PageRequest { page, request: again, access: pending.access }, out);
        Ok(())
    }

    pub(super) fn cancel_page_wait(&mut self, ticket: Ticket, page: PageAddress) {
        let local = self.pages.local(page).expect("a call waits only for pages that are mapped");
        let Some(index) = local.pending else { return };
        let mut kept = None;
        let mut cursor = self.coherence.pending[index as usize].first;
        while let Some(slot) = cursor {
            let (_, Wait::Page { next, .. }) = self.tickets.slot(slot) else { break };
            cursor = next;
            if slot != ticket.slot {
                self.tickets.link(slot, kept);
                kept = Some(slot);
            }
        }
        self.coherence.pending[index as usize].first = kept;
    }
}

/// The home's part.
impl Engine {
    pub(super) fn page_request(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        access: Access,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != self.config.node {
            return Err(NOT_HOME_HERE);
        }
        let open = &mut self.coherence.open[from.index()];
        if *open >= limits::REQUESTS_PER_PEER {
            return Err("it has more requests open than a node may");
        }
        *open += 1;
        let request = Request { node: from, id: request, access };
        match self.pages.entry(page).busy {
            Some(index) => {
                let queue = &mut self.coherence.transactions[index as usize].queue;
                self.coherence.queued.push(queue, request);
            }
            None => self.serve_all(page, request, Queue::default(), out),
        }
        Ok(())
    }

    /// Serves `request` and then those of `queue`, until one has to wait for other nodes.
    fn serve_all(&mut self, page: PageAddress, request: Request, mut queue: Queue, out: &mut Actions) {
        let mut next = Some(request);
        while let Some(request) = next {
            if let Some(phase) = self.serve(page, request, out) {
                let transaction = Transaction { page, request, phase, queue };
                let index = self.coherence.transactions.insert(transaction) as u32;
                let entry = self.pages.entry(page);
                self.pages.set_entry(page, DirectoryEntry { busy: Some(index), ..entry });
                return;
            }
            self.coherence.open[request.node.index()] -= 1;
            next = self.coherence.queued.pop(&mut queue);
        }
    }

    /// The home's decision on one request. `None` when it is answered for good, else what the transaction waits for.
    ///
    /// | directory | request | what happens | messages |
    /// |---|---|---|---|
    /// | untouched | any | zero grant | 2 |
    /// | shared, home holds a copy | read | the home sends it | 2 |
    /// | shared, home holds none | read | the owner sends its copy, the requester reports | 4 |
    /// | shared, requester among k+1 holders | write | the k others drop theirs, then the grant | 2 + 2k |
    /// | shared, requester holds none | write | all but one drop theirs; the last sends its copy and drops it | 2 + 2(k-1), or 4 + 2(k-1) |
    /// | modified at the home | any | the home sends it | 2 |
    /// | modified at a third node | any | it sends its copy, the requester reports | 4 |
    /// | lost | any | denied | 2 |
    fn serve(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> Option<Phase> {
        let Request { node, id: request, access } = asked;
        if !self.live.contains(node) {
            return None;
        }
        let entry = self.usable_entry(page);
        let sole = |state| DirectoryEntry { state, holders: NodeSet::only(node), busy: None };
        match entry.state {
            DirectoryState::Lost(lost_with) => {
                self.pages.set_entry(page, DirectoryEntry { busy: None, ..entry });
                self.answer(node, Message::Deny { page, request, lost_with }, out);
                None
            }
            DirectoryState::Untouched => {
                self.pages.set_entry(page, sole(owned(access, node)));
                self.answer(node, Message::Grant { page, request, access, zero: true }, out);
                None
            }
            DirectoryState::Shared(owner) if access == Access::Write => {
                let supplier = self.supplier(entry.holders, owner);
                let spared = if entry.holders.contains(node) { node } else { supplier };
                let missing = entry.holders.without(spared);
                self.pages.set_entry(page, entry);
                if missing.is_empty() {
                    return self.take_last_copy(page, asked, spared, out);
                }
                for sharer in missing.iter() {
                    self.send(sharer, Message::Invalidate { page }, out);
                }
                Some(Phase::Invalidating { missing })
            }
            DirectoryState::Shared(owner) | DirectoryState::Modified(owner) => {
                let supplier = self.supplier(entry.holders, owner);
                self.pages.set_entry(page, entry);
                self.move_copy(page, asked, supplier, out)
            }
        }
    }

    /// The home itself when it holds a copy: that saves two messages; else the owner.
    fn supplier(&self, holders: NodeSet, owner: NodeId) -> NodeId {
        if holders.contains(self.config.node) { self.config.node } else { owner }
    }

    /// The directory entry, with what lost nodes held taken out.
    fn usable_entry(&mut self, page: PageAddress) -> DirectoryEntry {
        let entry = self.pages.entry(page);
        let holders = entry.holders.and(self.live);
        let state = match entry.state {
            DirectoryState::Modified(owner) if !holders.contains(owner) => DirectoryState::Lost(owner),
            DirectoryState::Shared(owner) if !holders.contains(owner) => {
                holders.lowest().map_or(DirectoryState::Lost(owner), DirectoryState::Shared)
            }
            state => state,
        };
        DirectoryEntry { state, holders, ..entry }
    }

    /// A write request to a shared page has only one copy left besides none: the requester's own, or `last`'s.
    fn take_last_copy(
        &mut self,
        page: PageAddress,
        asked: Request,
        last: NodeId,
        out: &mut Actions,
    ) -> Option<Phase> {
        let Request { node, id: request, access } = asked;
        if last != node {
            return self.move_copy(page, asked, last, out);
        }
        self.settle_entry(page, asked, NodeSet::EMPTY);
        self.answer(node, Message::Grant { page, request, access, zero: false }, out);
        None
    }

    /// Has `supplier` send its copy to the requester.
    fn move_copy(
        &mut self,
        page: PageAddress,
        asked: Request,
        supplier: NodeId,
        out: &mut Actions,
    ) -> Option<Phase> {
        let Request { node, id: request, access } = asked;
        if supplier == self.config.node {
            let others = self.pages.entry(page).holders;
            self.supply(page, node, request, access, out);
            self.settle_entry(page, asked, others);
            return None;
        }
        self.send(supplier, Message::Fetch { page, request, access, requester: node }, out);
        Some(Phase::Moving { from: supplier })
    }

    /// Records that the requester has what it asked for; `others` held copies before.
    fn settle_entry(&mut self, page: PageAddress, asked: Request, others: NodeSet) {
        let entry = self.pages.entry(page);
        let (state, holders) = match (asked.access, entry.state) {
            (Access::Write, _) => (DirectoryState::Modified(asked.node), NodeSet::only(asked.node)),
            (Access::Read, DirectoryState::Shared(owner) | DirectoryState::Modified(owner)) => {
                (DirectoryState::Shared(self.supplier(others, owner)), others.with(asked.node))
            }
            (Access::Read, state) => (state, others.with(asked.node)),
        };
        self.pages.set_entry(page, DirectoryEntry { state, holders, busy: None });
    }

    /// The transaction under way on `page`, and its number.
    fn transaction(&self, page: PageAddress) -> Result<Option<(u32, Transaction)>, &'static str> {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != self.config.node {
            return Err(NOT_HOME_HERE);
        }
        let busy = self.pages.entry(page).busy;
        Ok(busy.map(|index| (index, self.coherence.transactions[index as usize])))
    }

    /// Removes the transaction and serves the next request.
    fn end_transaction(&mut self, index: u32, out: &mut Actions) {
        let ended = self.coherence.transactions.remove(index as usize);
        self.coherence.open[ended.request.node.index()] -= 1;
        let entry = self.pages.entry(ended.page);
        self.pages.set_entry(ended.page, DirectoryEntry { busy: None, ..entry });
        let mut queue = ended.queue;
        if let Some(next) = self.coherence.queued.pop(&mut queue) {
            self.serve_all(ended.page, next, queue, out);
        }
    }

    pub(super) fn invalidate_ack(&mut self, from: NodeId, page: PageAddress, out: &mut Actions) -> Handled {
        let Some((index, transaction)) = self.transaction(page)? else {
            return Err("no sharer was told to drop its copy");
        };
        match transaction.phase {
            Phase::Invalidating { missing } if missing.contains(from) => {
                self.sharer_gone(index, from, missing, out);
                Ok(())
            }
            _ => Err("it was not told to drop its copy"),
        }
    }

    fn sharer_gone(&mut self, index: u32, sharer: NodeId, missing: NodeSet, out: &mut Actions) {
        let missing = missing.without(sharer);
        let Transaction { page, request: asked, .. } = self.coherence.transactions[index as usize];
        let entry = self.pages.entry(page);
        let holders = entry.holders.without(sharer);
        let state = match entry.state {
            DirectoryState::Shared(owner) if owner == sharer => {
                holders.lowest().map_or(DirectoryState::Lost(sharer), DirectoryState::Shared)
            }
            state => state,
        };
        self.pages.set_entry(page, DirectoryEntry { state, holders, ..entry });
        if !missing.is_empty() {
            self.coherence.transactions[index as usize].phase = Phase::Invalidating { missing };
            return;
        }
        self.resume(index, asked, page, out);
    }

    /// Goes on with a transaction after what it waited for: what is left to do follows from the directory.
    fn resume(&mut self, index: u32, asked: Request, page: PageAddress, out: &mut Actions) {
        match self.serve(page, asked, out) {
            Some(phase) => {
                self.coherence.transactions[index as usize].phase = phase;
                let entry = self.pages.entry(page);
                self.pages.set_entry(page, DirectoryEntry { busy: Some(index), ..entry });
            }
            None => self.end_transaction(index, out),
        }
    }

    pub(super) fn done(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        installed: bool,
        out: &mut Actions,
    ) -> Handled {
        let Some((index, transaction)) = self.transaction(page)? else {
            return Err("no copy is on its way");
        };
        let asked = transaction.request;
        let (Phase::Moving { from: supplier } | Phase::Recalling { from: supplier }) = transaction.phase
        else {
            return Err("no copy is on its way");
        };
        if asked.node != from || asked.id != request {
            return Err("the copy is on its way to another");
        }
        if installed {
            let others = self.pages.entry(page).holders.and(self.live);
            self.settle_entry(page, asked, others);
            self.end_transaction(index, out);
            return Ok(());
        }
        if !matches!(transaction.phase, Phase::Recalling { .. }) {
            return Err("it was not asked whether the copy came");
        }
        // A read leaves the others' copies; a write had dropped them all but the lost one.
        let entry = self.pages.entry(page);
        let holders = entry.holders.without(supplier);
        self.pages.set_entry(page, DirectoryEntry { holders, ..entry });
        self.end_transaction(index, out);
        Ok(())
    }

    pub(super) fn owner_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        let home = self.pages.home(page).expect("only pages that are mapped are asked about");
        self.tickets.begin(ticket, Wait::Owner(page));
        if self.live.contains(home) {
            self.send(home, Message::OwnerQuery { page, ticket }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(home), out);
        }
    }

    pub(super) fn owner_asked(
        &mut self,
        from: NodeId,
        page: PageAddress,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page).ok_or(NO_SUCH_PAGE)? != self.config.node {
            return Err(NOT_HOME_HERE);
        }
        let owner = match self.usable_entry(page).state {
            DirectoryState::Untouched => PageOwner::Nobody,
            DirectoryState::Shared(owner) | DirectoryState::Modified(owner) => PageOwner::Node(owner),
            DirectoryState::Lost(node) => PageOwner::Lost(node),
        };
        self.send(from, Message::OwnerReply { page, ticket, owner }, out);
        Ok(())
    }
}

/// What the loss of a node does to pages.
impl Engine {
    /// Requests that the lost node was to answer as a home.
    pub(super) fn fail_requests_to(&mut self, lost: NodeId, out: &mut Actions) {
        let orphans: Vec<(usize, Pending)> = self
            .coherence
            .pending
            .iter()
            .filter(|(_, pending)| self.pages.home(pending.page) == Some(lost))
            .map(|(index, pending)| (index, *pending))
            .collect();
        for (index, pending) in orphans {
            self.coherence.pending.remove(index);
            let local = self.pages.local(pending.page).expect("a pending page is mapped");
            self.page_without_home(pending.page, local, lost, pending.first, out);
        }
    }

    /// Transactions of this home that the lost node took part in.
    pub(super) fn mend_transactions(&mut self, lost: NodeId, out: &mut Actions) {
        let running: Vec<u32> = self.coherence.transactions.iter().map(|(index, _)| index as u32).collect();
        for index in running {
            let mut queue = self.coherence.transactions[index as usize].queue;
            let removed = self.coherence.queued.remove_node(&mut queue, lost);
            self.coherence.open[lost.index()] -= removed as u32;
            self.coherence.transactions[index as usize].queue = queue;
            self.mend_transaction(index, lost, out);
        }
    }

    fn mend_transaction(&mut self, index: u32, lost: NodeId, out: &mut Actions) {
        let Transaction { page, request: asked, phase, .. } = self.coherence.transactions[index as usize];
        match phase {
            Phase::Invalidating { missing } if missing.contains(lost) => {
                self.sharer_gone(index, lost, missing, out);
            }
            Phase::Moving { from } | Phase::Recalling { from } if asked.node == lost => {
                // A read left the owner a copy; a write took it away, and it went to the lost node.
                let entry = self.pages.entry(page);
                let entry = match asked.access {
                    Access::Read => DirectoryEntry {
                        state: DirectoryState::Shared(from),
                        holders: entry.holders.without(lost),
                        ..entry
                    },
                    Access::Write => {
                        DirectoryEntry { state: DirectoryState::Lost(lost), holders: NodeSet::EMPTY, ..entry }
                    }
                };
                self.pages.set_entry(page, entry);
                self.end_transaction(index, out);
            }
            Phase::Moving { from } if from == lost => {
                self.coherence.transactions[index as usize].phase = Phase::Recalling { from };
                self.send(asked.node, Message::Recall { page, request: asked.id }, out);
            }
            Phase::Invalidating { .. } | Phase::Moving { .. } | Phase::Recalling { .. } => {}
        }
    }
}

fn granted(access: Access) -> PageState {
    match access {
        Access::Read => PageState::Shared,
        Access::Write => PageState::Modified,
    }
}

fn owned(access: Access, node: NodeId) -> DirectoryState {
    match access {
        Access::Read => DirectoryState::Shared(node),
        Access::Write => DirectoryState::Modified(node),
    }
}

fn map(page: PageAddress, state: PageState) -> Action {
    match state {
        PageState::Modified => Action::MapWrite(page),
        _ => Action::MapRead(page),
    }
}

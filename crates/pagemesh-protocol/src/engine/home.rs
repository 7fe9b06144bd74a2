//! The home's part of page coherence, whatever the protocol: requests, the transactions that serve them, and what the loss
//! of a node does to both. What is done with a request is the protocol's decision.

use super::coherence::{
    Decision, NOT_HOME_HERE, NOT_OF_THIS_PROTOCOL, Phase, Request, Transaction, asked_access, decide, owned,
};
use super::pages::{DirectoryEntry, DirectoryState};
use super::planted::{Planted, push_first};
use super::queue::Queue;
use super::{Engine, Handled};
use crate::action::{Action, Actions};
use crate::ids::{Access, NodeId, NodeSet, PageAddress, RequestId};
use crate::limits;
use crate::message::Message;

impl Engine {
    pub(super) fn page_request(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        access: Access,
        out: &mut Actions,
    ) -> Handled {
        let request = Request { node: from, id: request, access, atomic: None };
        self.admit(page, request, out)
    }

    /// Serves a request that has come, or has it wait for its turn.
    pub(super) fn admit(&mut self, page: PageAddress, request: Request, out: &mut Actions) -> Handled {
        let (from, access) = (request.node, request.access);
        let home = self.pages.home(page)?;
        if home.map_or_else(|| !self.may_be_home(page), |home| home != self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        if asked_access(self.pages.protocol(page), access) != access {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        if home.is_some() && self.supply_reader(page, request, out) {
            return Ok(());
        }
        let open = &mut self.coherence.open[from.index()];
        // What this node asks of itself is bounded where it asks.
        if *open >= limits::REQUESTS_PER_PEER && from != self.config.node {
            return Err("it has more requests open than a node may");
        }
        *open += 1;
        if home.is_some() && self.is_release(page) {
            self.serve_release(page, request, out);
            return Ok(());
        }
        match self.pages.busy(page) {
            Some(index) => {
                let newest_first = self.planted(Planted::ServeNewestFirst);
                let queue = &mut self.coherence.transactions[index as usize].queue;
                if newest_first {
                    push_first(&mut self.coherence.queued, queue, request);
                } else {
                    self.coherence.queued.push(queue, request);
                }
                self.hurry_report(index, out);
            }
            None if home.is_none() => self.settle_first(page, request, out),
            None => self.serve_all(page, request, Queue::default(), out),
        }
        Ok(())
    }

    /// Serves `request` and then those of `queue`, until one has to wait for other nodes.
    fn serve_all(&mut self, page: PageAddress, request: Request, mut queue: Queue, out: &mut Actions) {
        let mut next = Some(request);
        while let Some(request) = next {
            if self.is_release(page) {
                self.serve_release(page, request, out);
                next = self.coherence.queued.pop(&mut queue);
                continue;
            }
            if let Some(phase) = self.serve(page, request, out) {
                let index = self.begin_transaction(Transaction { page, request, phase, queue });
                self.hurry_report(index, out);
                self.await_pins(out);
                return;
            }
            self.coherence.open[request.node.index()] -= 1;
            next = self.coherence.queued.pop(&mut queue);
        }
    }

    /// Where requests wait for a requester to say that it has the page, it is to say so at once.
    fn hurry_report(&self, index: u32, out: &mut Actions) {
        let Transaction { request: asked, phase, queue, .. } = self.coherence.transactions[index as usize];
        let reports =
            matches!(phase, Phase::Moving { .. } | Phase::Recalling { .. } | Phase::Collecting { .. });
        let is_awaited = !queue.is_empty() || matches!(phase, Phase::Recalling { .. });
        let is_elsewhere = asked.node != self.config.node;
        if reports && is_awaited && is_elsewhere && !self.planted(Planted::NeverHurries) {
            out.push(Action::Hurry(asked.node));
        }
    }

    pub(super) fn begin_transaction(&mut self, transaction: Transaction) -> u32 {
        let index = self.coherence.transactions.insert(transaction) as u32;
        let entry = self.pages.entry(transaction.page);
        self.pages.set_entry(transaction.page, DirectoryEntry { busy: Some(index), ..entry });
        index
    }

    /// Does what the protocol decides about one request. `None` when that answers it for good, else what its transaction
    /// waits for.
    fn serve(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> Option<Phase> {
        let Request { node, id: request, access, atomic } = asked;
        if !self.live.contains(node) {
            return None;
        }
        if let Some(operation) = atomic {
            return self.serve_atomic(page, asked, operation, out);
        }
        if node == self.config.node && self.has_come_meanwhile(page, asked, out) {
            return None;
        }
        let found = self.pages.entry(page);
        let entry = DirectoryEntry { busy: None, ..self.usable(found) };
        if entry != found {
            self.pages.set_entry(page, entry);
        }
        match decide(self.pages.protocol(page), &entry, asked, self.config.node) {
            Decision::Deny(lost_with) => {
                self.answer(node, Message::Deny { page, request, lost_with }, out);
                None
            }
            Decision::GrantZero => {
                let (state, holders) = (owned(access, node), NodeSet::only(node));
                self.pages.set_entry(page, DirectoryEntry { state, holders, busy: None });
                self.answer(node, Message::Grant { page, request, access, zero: true }, out);
                None
            }
            Decision::Grant => {
                self.settle_entry(page, asked, NodeSet::EMPTY);
                self.answer(node, Message::Grant { page, request, access, zero: false }, out);
                None
            }
            Decision::Invalidate(missing)
                if self.planted(Planted::MoveWithoutInvalidate) && !entry.holders.contains(node) =>
            {
                self.move_copy(page, asked, missing.lowest().unwrap_or(node), out)
            }
            Decision::Invalidate(missing) => {
                if let Some(collecting) = self.begin_collecting(page, asked, missing, out) {
                    return Some(collecting);
                }
                for sharer in missing.iter() {
                    self.send(sharer, Message::Invalidate { page }, out);
                }
                Some(Phase::Invalidating { missing })
            }
            Decision::Move(supplier) => self.move_copy(page, asked, supplier, out),
        }
    }

    /// An atomic operation has brought this home the page that it had asked itself for: ends the request, if so.
    fn has_come_meanwhile(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> bool {
        let Ok(Some((local, _))) = self.answered(page, asked.id) else { return false };
        let is_here = local.state.allows(asked.access);
        if is_here {
            self.installed(page, local, local.state, None, out);
        }
        is_here
    }

    /// The directory entry, with what lost nodes held taken out.
    pub(super) fn usable_entry(&self, page: PageAddress) -> DirectoryEntry {
        self.usable(self.pages.entry(page))
    }

    fn usable(&self, entry: DirectoryEntry) -> DirectoryEntry {
        let holders = entry.holders.and(self.live);
        let state = match entry.state {
            DirectoryState::Modified(owner)
                if !holders.contains(owner) && self.planted(Planted::ZeroLostPage) =>
            {
                DirectoryState::Untouched
            }
            DirectoryState::Modified(owner) if !holders.contains(owner) => DirectoryState::Lost(owner),
            DirectoryState::Shared(owner) if !holders.contains(owner) => {
                holders.lowest().map_or(DirectoryState::Lost(owner), DirectoryState::Shared)
            }
            state => state,
        };
        DirectoryEntry { state, holders, ..entry }
    }

    /// Has `supplier` send its copy to the requester.
    fn move_copy(
        &mut self,
        page: PageAddress,
        asked: Request,
        supplier: NodeId,
        out: &mut Actions,
    ) -> Option<Phase> {
        let Request { node, id: request, access, .. } = asked;
        if supplier == self.config.node {
            if self.must_wait(page, access) {
                self.linger(page);
                return Some(Phase::Lingering);
            }
            let others = self.pages.entry(page).holders;
            self.supply(page, node, request, access, out);
            self.settle_entry(page, asked, others);
            return None;
        }
        // An owner that asks for what it has will say to whom it has sent it (`hints.rs`).
        if supplier != node {
            self.send(supplier, Message::Fetch { page, request, access, requester: node }, out);
        }
        Some(Phase::Moving { from: supplier })
    }

    /// Records that the requester has what it asked for; `others` held copies before.
    pub(super) fn settle_entry(&mut self, page: PageAddress, asked: Request, others: NodeSet) {
        let entry = self.pages.entry(page);
        let (state, holders) = match (asked.access, entry.state) {
            (Access::Write, DirectoryState::Modified(owner)) if self.planted(Planted::KeepOldOwner) => {
                (DirectoryState::Modified(owner), NodeSet::only(owner))
            }
            (Access::Read, state) if self.planted(Planted::ForgetSharer) => (state, others),
            (Access::Write, _) => (DirectoryState::Modified(asked.node), NodeSet::only(asked.node)),
            (Access::Read, DirectoryState::Shared(owner) | DirectoryState::Modified(owner)) => {
                let owner = if others.contains(self.config.node) { self.config.node } else { owner };
                (DirectoryState::Shared(owner), others.with(asked.node))
            }
            (Access::Read, state) => (state, others.with(asked.node)),
        };
        self.pages.set_entry(page, DirectoryEntry { state, holders, busy: None });
    }

    /// The transaction under way on `page`, and its number.
    pub(super) fn transaction(&self, page: PageAddress) -> Result<Option<(u32, Transaction)>, &'static str> {
        if self.pages.home(page)? != Some(self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        let busy = self.pages.entry(page).busy;
        Ok(busy.map(|index| (index, self.coherence.transactions[index as usize])))
    }

    /// Who was granted the page to write, and has not yet said that it has it.
    pub(super) fn next_owner(&self, page: PageAddress) -> Option<NodeId> {
        let Transaction { request: asked, phase, .. } =
            self.coherence.transactions[self.pages.entry(page).busy? as usize];
        let is_granted = matches!(phase, Phase::Moving { .. } | Phase::Collecting { .. });
        let owns = is_granted
            && asked.atomic.is_none()
            && asked.access == Access::Write
            && self.live.contains(asked.node);
        owns.then_some(asked.node)
    }

    /// Removes the transaction and serves the next request.
    pub(super) fn end_transaction(&mut self, index: u32, out: &mut Actions) {
        let ended = self.coherence.transactions.remove(index as usize);
        self.coherence.open[ended.request.node.index()] -= 1;
        let entry = self.pages.entry(ended.page);
        self.pages.set_entry(ended.page, DirectoryEntry { busy: None, ..entry });
        let mut queue = ended.queue;
        if self.planted(Planted::SkipQueuedRequest) {
            self.coherence.queued.pop(&mut queue);
        }
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
            Phase::Evicting { sharer } if sharer == from => {
                self.evicted(index, from, out);
                Ok(())
            }
            Phase::Collecting { asked, .. } if asked.contains(from) => {
                self.sharer_has_told_home(index, from, out);
                Ok(())
            }
            _ => Err("it was not told to drop its copy"),
        }
    }

    fn sharer_gone(&mut self, index: u32, sharer: NodeId, missing: NodeSet, out: &mut Actions) {
        let mut missing = missing.without(sharer);
        let Transaction { page, request: asked, .. } = self.coherence.transactions[index as usize];
        self.forget_sharer(page, sharer);
        if self.planted(Planted::GrantBeforeLastAck) {
            for early in missing.iter() {
                self.forget_sharer(page, early);
            }
            missing = NodeSet::EMPTY;
        }
        if !missing.is_empty() {
            self.coherence.transactions[index as usize].phase = Phase::Invalidating { missing };
            return;
        }
        self.resume(index, asked, page, out);
    }

    /// Takes a sharer whose copy is gone out of the directory.
    pub(super) fn forget_sharer(&mut self, page: PageAddress, sharer: NodeId) {
        let entry = self.pages.entry(page);
        let holders = entry.holders.without(sharer);
        let state = match entry.state {
            DirectoryState::Shared(owner) if owner == sharer => {
                holders.lowest().map_or(DirectoryState::Lost(sharer), DirectoryState::Shared)
            }
            state => state,
        };
        self.pages.set_entry(page, DirectoryEntry { state, holders, ..entry });
    }

    /// Goes on with a transaction after what it waited for: what is left to do follows from the directory.
    pub(super) fn resume(&mut self, index: u32, asked: Request, page: PageAddress, out: &mut Actions) {
        if self.is_release(page) {
            // Only the home itself was to be settled.
            let ended = self.coherence.transactions.remove(index as usize);
            let entry = self.pages.entry(page);
            self.pages.set_entry(page, DirectoryEntry { busy: None, ..entry });
            self.serve_all(page, asked, ended.queue, out);
            return;
        }
        match self.serve(page, asked, out) {
            Some(phase) => {
                self.coherence.transactions[index as usize].phase = phase;
                let entry = self.pages.entry(page);
                self.pages.set_entry(page, DirectoryEntry { busy: Some(index), ..entry });
                self.hurry_report(index, out);
                self.await_pins(out);
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
        if self.pages.home(page)? == Some(self.config.node) && self.is_release(page) {
            self.passed_is_over(from, page, request);
            return Ok(());
        }
        let Some((index, transaction)) = self.transaction(page)? else {
            return Err("no copy is on its way");
        };
        let asked = transaction.request;
        let collecting = matches!(transaction.phase, Phase::Collecting { .. });
        if collecting && asked.node == from && asked.id == request && installed {
            self.end_transaction(index, out);
            return Ok(());
        }
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
            Phase::Settling if self.pages.anchor(page) == Ok(Some(lost)) => {
                self.deny_unsettled(index, lost, out);
            }
            Phase::Lingering if asked.node == lost => self.resume(index, asked, page, out),
            Phase::Invalidating { missing }
                if missing.contains(lost) && !self.planted(Planted::AwaitLostSharer) =>
            {
                self.sharer_gone(index, lost, missing, out);
            }
            Phase::Evicting { sharer } if sharer == lost => self.evicted(index, lost, out),
            Phase::Collecting { asked: again, .. } if asked.node == lost => {
                self.writer_lost(index, again, lost, out);
            }
            Phase::Collecting { sharers, .. } if sharers.contains(lost) => self.tell_gone(index, lost, out),
            Phase::Operating { at } if at == lost => self.resume(index, asked, page, out),
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
                self.hurry_report(index, out);
            }
            _ => {}
        }
    }
}

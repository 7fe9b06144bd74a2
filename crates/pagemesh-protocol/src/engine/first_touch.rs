//! Homes that are given by first touch.
//!
//! Every page has an anchor, known to all from its number. A node that faults on a page whose home it does not know sends
//! the anchor a HomeClaim. The first claim to come settles the home, for ever: it is the claimer. Each claim is answered by
//! HomeNamed, and the node goes on with its request to the home (which may be itself, or the anchor); it never asks about
//! this page again.
//!
//! The anchor may name a home to others before the home itself has heard of it, since links do not know of each other. So
//! a node that has claimed a page, and is asked for it, lets the requests wait until the anchor has answered. When the
//! anchor is lost before that, nobody has the page and nobody can say who should be its home: the requests are denied.

use super::atomics::Asked;
use super::coherence::{NOT_ANCHOR_HERE, NOT_ITS_ANCHOR, Noticed, Phase, Request, Transaction};
use super::pages::DirectoryEntry;
use super::planted::Planted;
use super::queue::Queue;
use super::{Engine, Handled};
use crate::action::Actions;
use crate::ids::{NodeId, PageAddress, RequestId};
use crate::message::Message;

/// The anchor's part.
impl Engine {
    pub(super) fn home_claimed(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        out: &mut Actions,
    ) -> Handled {
        self.check_anchor_here(page)?;
        let settled = self.pages.home(page)?.filter(|_| !self.planted(Planted::SettleHomeTwice));
        let home = settled.unwrap_or(from);
        self.pages.settle_home(page, home);
        self.send(from, Message::HomeNamed { page, request, home }, out);
        Ok(())
    }

    pub(super) fn check_anchor_here(&self, page: PageAddress) -> Handled {
        if self.pages.anchor(page)? == Some(self.config.node) { Ok(()) } else { Err(NOT_ANCHOR_HERE) }
    }

    /// Only its anchor may say who is the home of this page, and says it of one member for ever.
    pub(super) fn check_anchor_says(&self, page: PageAddress, from: NodeId, home: Option<NodeId>) -> Handled {
        if self.pages.anchor(page)? != Some(from) {
            return Err(NOT_ITS_ANCHOR);
        }
        if home.is_some_and(|home| home.get() >= self.config.nodes) {
            return Err("the home is not a member of the mesh");
        }
        match self.pages.home(page)? {
            Some(known) if home != Some(known) => Err("the home of the page was settled before"),
            _ => Ok(()),
        }
    }
}

/// The claimer's part.
impl Engine {
    pub(super) fn home_named(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        home: NodeId,
        out: &mut Actions,
    ) -> Handled {
        self.check_anchor_says(page, from, Some(home))?;
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if !pending.claims {
            return Err("the home of the page was not asked for");
        }
        let index = local.pending.expect("it waits for an answer") as usize;
        self.learn_home(page, home);
        if self.live.contains(home) {
            let pending = &mut self.coherence.pending[index];
            (pending.asked, pending.claims) = (home, false);
            pending.noticed = Noticed::Nobodys;
            let access = pending.access;
            self.send_request(page, home, request, access, out);
        } else {
            self.coherence.pending.remove(index);
            self.page_without_home(page, local, home, pending.first, out);
        }
        if home == self.config.node && !self.planted(Planted::ForgetEarlyRequests) {
            self.serve_settled(page, out);
        }
        Ok(())
    }

    /// The anchor has said who is the home of `page`.
    pub(super) fn learn_home(&mut self, page: PageAddress, home: NodeId) {
        if self.pages.home(page) == Ok(None) {
            if home != self.config.node {
                self.forget_unsettled(page);
            }
            self.pages.settle_home(page, home);
        }
    }

    /// Whether others may take this node for the home of `page` before it knows: it has claimed the page, or the anchor that
    /// would tell was lost.
    pub(super) fn may_be_home(&self, page: PageAddress) -> bool {
        let Ok(Some(anchor)) = self.pages.anchor(page) else { return false };
        let pending = self.pages.local(page).and_then(|local| local.pending);
        let claims = pending.is_some_and(|index| self.coherence.pending[index as usize].claims);
        claims || !self.live.contains(anchor)
    }

    /// A request for a page whose home this node may be: waits for the anchor's word, or is denied when that was lost.
    pub(super) fn settle_first(&mut self, page: PageAddress, request: Request, out: &mut Actions) {
        let (anchor, _) = self.who_tells(page);
        if self.live.contains(anchor) {
            let (phase, queue) = (Phase::Settling, Queue::default());
            self.begin_transaction(Transaction { page, request, phase, queue });
        } else {
            self.deny_request(page, request, anchor, out);
        }
    }

    /// This node is the home of `page` and knows it now: those who knew before are served.
    fn serve_settled(&mut self, page: PageAddress, out: &mut Actions) {
        if let Some(index) = self.pages.entry(page).busy {
            let asked = self.coherence.transactions[index as usize].request;
            self.resume(index, asked, page, out);
        }
    }

    /// This node is not the home: those who took it for one were not told so by the anchor, and are not owed an answer.
    fn forget_unsettled(&mut self, page: PageAddress) {
        let entry = self.pages.entry(page);
        let Some(index) = entry.busy else { return };
        let Transaction { request, mut queue, .. } = self.coherence.transactions.remove(index as usize);
        self.pages.set_entry(page, DirectoryEntry { busy: None, ..entry });
        let mut next = Some(request);
        while let Some(request) = next {
            self.coherence.open[request.node.index()] -= 1;
            next = self.coherence.queued.pop(&mut queue);
        }
    }

    /// The anchor was lost, so it will not be known whether this node is the home.
    pub(super) fn deny_unsettled(&mut self, index: u32, anchor: NodeId, out: &mut Actions) {
        let Transaction { page, request, mut queue, .. } = self.coherence.transactions.remove(index as usize);
        let entry = self.pages.entry(page);
        self.pages.set_entry(page, DirectoryEntry { busy: None, ..entry });
        let mut next = Some(request);
        while let Some(request) = next {
            self.deny_request(page, request, anchor, out);
            next = self.coherence.queued.pop(&mut queue);
        }
    }

    fn deny_request(&mut self, page: PageAddress, asked: Request, lost_with: NodeId, out: &mut Actions) {
        self.coherence.open[asked.node.index()] -= 1;
        if let Some(Asked { ticket, .. }) = asked.atomic {
            self.send(asked.node, Message::AtomicDeny { page, ticket, lost_with }, out);
            return;
        }
        self.send(asked.node, Message::Deny { page, request: asked.id, lost_with }, out);
    }
}

//! Giving a copy back before anyone wants it.
//!
//! A node may *evict* its copy of a page at any time. That is a hint. Where a home serialises who has what, a copy cannot
//! just go: the home may be about to ask for it, and what is left of the page must be somewhere. So the holder only says Evict and keeps its copy
//! until the home takes it, by the ordinary messages:
//!
//! * where others hold copies too, the home begins a transaction that no request stands behind, in which the sender
//!   alone drops its copy;
//! * where the sender is the only holder, the home asks for the page itself, as for a prefetch, and gets the bytes.
//!
//! A home that has anything else under way for the page lets the hint go: it is old by then, or the copy goes anyway. So it does
//! with a hint of a node that does not hold the page. On one link a node's hint comes before what it asks next, so a home
//! that finds the sender among the holders, and nothing under way, has a hint about just this copy.
//!
//! In a release region nobody but its own node decides about a copy, and its home has, or is sent, every byte that it differs
//! by. There a copy goes at once, its diff first.

use super::coherence::{NO_SUCH_PAGE, NOT_HOME_HERE, NOT_OF_THIS_PROTOCOL, Phase, Request, Transaction};
use super::pages::{DirectoryEntry, LocalPage};
use super::planted::Planted;
use super::queue::Queue;
use super::{Engine, Handled};
use crate::action::{Action, Actions};
use crate::ids::{Access, NodeId, PageAddress, PageState, RequestId};
use crate::limits;
use crate::message::Message;

/// The holder's part.
impl Engine {
    /// This node has no more use for its copy of `page`, and would have the page's home keep the bytes. A hint: nothing happens when
    /// there is no copy, when it is in use, pinned, or wanted here or elsewhere, when this node is the page's home, and when the home is lost.
    /// In a release region the copy goes at once, and when it was written the interval ends; elsewhere it goes when the home has
    /// heard of it and has nothing else to do with the page.
    ///
    /// # Panics
    /// When the page does not exist here.
    pub fn on_evict(&mut self, page: PageAddress, out: &mut Actions) {
        if self.is_gone(page.region) {
            return;
        }
        let local = self.pages.local(page).expect("a page is evicted from a region that is mapped");
        let wanted = local.pending.is_some() || self.must_wait(page, Access::Write);
        let home = self.pages.home(page).ok().flatten().filter(|home| self.live.contains(*home));
        let Some(home) = home.filter(|home| *home != self.config.node) else { return };
        if wanted || local.state == PageState::Invalid || self.is_entry(page.region) {
            return;
        }
        if self.is_release(page) {
            self.evict_at_once(page, local, out);
        } else {
            self.send(home, Message::Evict { page }, out);
            if self.planted(Planted::EvictWithoutUnmap) {
                self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
            }
        }
        self.settle(out);
    }

    fn evict_at_once(&mut self, page: PageAddress, local: LocalPage, out: &mut Actions) {
        if local.state == PageState::Modified {
            self.end_interval(out);
        }
        if self.release.lending.owns(page) {
            self.give_back(page, out);
        }
        self.unfollow(page, out);
        out.push(Action::Unmap(page));
        self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
        if self.is_tracked(page) {
            self.flush(page, out);
        }
    }
}

/// The home's part.
impl Engine {
    pub(super) fn evict(&mut self, from: NodeId, page: PageAddress, out: &mut Actions) -> Handled {
        if self.pages.home(page)? != Some(self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        if self.is_release(page) {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        let entry = self.usable_entry(page);
        let under_way = entry.busy.is_some() || local.pending.is_some();
        let full = self.coherence.pending.len() >= limits::EVICTIONS
            || self.coherence.transactions.len() >= limits::EVICTIONS;
        if under_way || full || !entry.holders.contains(from) {
            return Ok(());
        }
        if entry.holders.len() > 1 || self.planted(Planted::EvictOnlyCopy) {
            self.begin_eviction(from, page, entry, out);
        } else {
            self.request_page(page, Access::Write, None, out);
        }
        Ok(())
    }

    /// Has `sharer`, who is not the only one, drop its copy.
    pub(super) fn begin_eviction(
        &mut self,
        sharer: NodeId,
        page: PageAddress,
        entry: DirectoryEntry,
        out: &mut Actions,
    ) {
        self.pages.set_entry(page, entry);
        // The table of transactions wants a request. This one is never served and its name never said.
        let own = self.config.node;
        let request = Request { node: own, id: RequestId(0), access: Access::Write, atomic: None };
        self.coherence.open[own.index()] += 1;
        let phase = Phase::Evicting { sharer };
        self.begin_transaction(Transaction { page, request, phase, queue: Queue::default() });
        self.send(sharer, Message::Invalidate { page }, out);
    }

    /// The copy that was to go is gone, or its node is.
    pub(super) fn evicted(&mut self, index: u32, sharer: NodeId, out: &mut Actions) {
        self.forget_sharer(self.coherence.transactions[index as usize].page, sharer);
        self.end_transaction(index, out);
    }
}

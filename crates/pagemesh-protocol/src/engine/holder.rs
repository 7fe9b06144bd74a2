//! The holder's part of page coherence, whatever the protocol: faults, and what the home and other holders say about this
//! node's copies. The protocols' own files have the tables.

use super::coherence::{
    NO_SUCH_PAGE, NOT_ITS_HOME, NOT_OF_THIS_PROTOCOL, Noticed, Pending, asked_access, granted, map,
};
use super::pages::LocalPage;
use super::planted::{Planted, swap_last};
use super::tickets::{Purpose, Wait};
use super::uses::Want;
use super::{Engine, Handled};
use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RequestId, Ticket};
use crate::message::{Hint, Message};
use crate::placement::Protocol;
use crate::sharers::Sharers;

impl Engine {
    pub(super) fn fault(
        &mut self,
        ticket: Ticket,
        page: PageAddress,
        access: Access,
        purpose: Purpose,
        out: &mut Actions,
    ) {
        if self.is_gone(page.region) {
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(Failure::RegionClosed) });
            return;
        }
        if self.map_entry_page(page, out) {
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
            return;
        }
        if access == Access::Write
            && let Some(action) = self.write_alone(page)
        {
            out.push(action);
            self.tickets.begin(ticket, Wait::Page { page, access, purpose, next: None });
            self.complete_list(Some(ticket.slot), PageState::Modified, Outcome::Done, out);
            return;
        }
        let local = self.pages.local(page).expect("a fault is reported for a page that is mapped");
        if local.state.allows(access) {
            // Another thread was quicker, or the kernel dropped the page-table entry of a page that is held.
            out.push(map(page, local.state));
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
            return;
        }
        if local.state == PageState::Shared && self.is_tracked(page) {
            // The kernel has taken it out of the page table, or it was asked for ahead.
            out.push(Action::MapRead(page));
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
            return;
        }
        if local.state == PageState::Shared && self.is_release(page) {
            let begun = self.begin_writing(page, out);
            out.push(Action::Complete {
                ticket,
                outcome: begun.map_or_else(Outcome::Failed, |()| Outcome::Done),
            });
            return;
        }
        self.tickets.begin(ticket, Wait::Page { page, access, purpose, next: None });
        let mut access = access;
        if self.is_release(page) && local.pending.is_none() {
            self.foresee_use(page);
            access = self.expected_access(page, access);
        }
        self.join_or_request(page, access, ticket.slot, out);
    }

    /// Has the call in `slot` wait for `page`: with those that wait already, or by a request.
    pub(super) fn join_or_request(
        &mut self,
        page: PageAddress,
        access: Access,
        slot: u16,
        out: &mut Actions,
    ) {
        let local = self.pages.local(page).expect("checked by the caller");
        if let Some(index) = local.pending {
            let pending = &mut self.coherence.pending[index as usize];
            let first = pending.first.replace(slot);
            self.tickets.link(slot, first);
        } else {
            self.request_page(page, access, Some(slot), out);
        }
    }

    /// Asks the home for `page` on behalf of the calls linked from `first`; or first, where that is not settled or not
    /// known here, the page's anchor for the home.
    pub(super) fn request_page(
        &mut self,
        page: PageAddress,
        access: Access,
        first: Option<u16>,
        out: &mut Actions,
    ) {
        let local = self.pages.local(page).expect("checked by the caller");
        let (asked, claims) = self.who_tells(page);
        if !self.live.contains(asked) {
            self.page_without_home(page, local, asked, first, out);
            return;
        }
        let access = asked_access(self.pages.protocol(page), access);
        let request = self.coherence.fresh_request();
        let (noticed, owed, gone, counted) = (Noticed::Nobodys, None, NodeSet::EMPTY, Sharers::NONE);
        let hinted = if claims { None } else { self.hinted_owner(page, asked, access, first) };
        let pending =
            Pending { page, asked, claims, request, access, first, noticed, owed, gone, counted, hinted };
        let index = self.coherence.pending.insert(pending);
        self.pages.set_local(page, LocalPage { pending: Some(index as u32), ..local });
        if claims {
            self.send(asked, Message::HomeClaim { page, request }, out);
        } else if let Some(owner) = hinted {
            self.send(owner, Message::Hint { page, request, step: Hint::Read }, out);
        } else {
            self.send_request(page, asked, request, access, out);
        }
    }

    pub(super) fn send_request(
        &mut self,
        page: PageAddress,
        home: NodeId,
        request: RequestId,
        access: Access,
        out: &mut Actions,
    ) {
        if self.is_release(page) {
            if self.release.lending.owns(page) {
                self.give_back(page, out);
            }
            self.send_needs(page, home, request, out);
            self.follow_if_worth(page, home, out);
        }
        self.send(home, Message::PageRequest { page, request, access }, out);
    }

    /// The home of a page that exists here; or its anchor, and true, while the home is not known.
    pub(super) fn who_tells(&self, page: PageAddress) -> (NodeId, bool) {
        let home = self.pages.home(page).expect("checked by the caller");
        let anchor = || self.pages.anchor(page).expect("checked by the caller");
        home.map_or_else(
            || (anchor().expect("only first touches are settled late"), true),
            |home| (home, false),
        )
    }

    /// Only its home may say something about this page.
    pub(super) fn check_home_says(&self, page: PageAddress, from: NodeId) -> Handled {
        if self.pages.home(page)? == Some(from) { Ok(()) } else { Err(NOT_ITS_HOME) }
    }

    /// The home of `page` was lost with its directory, or nobody can say any more who that is. A copy that is held here stays; when nobody else is left, it
    /// is the only one and may be written.
    pub(super) fn page_without_home(
        &mut self,
        page: PageAddress,
        local: LocalPage,
        home: NodeId,
        first: Option<u16>,
        out: &mut Actions,
    ) {
        if self.is_release(page) {
            self.release_without_home(page, local, home, first, out);
        } else if local.state == PageState::Shared && self.live == NodeSet::only(self.config.node) {
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
    pub(super) fn complete_list(
        &mut self,
        first: Option<u16>,
        state: PageState,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Option<u16> {
        let (mut rest, mut atomics) = (None, None);
        let mut cursor = first;
        while let Some(slot) = cursor {
            let (ticket, Wait::Page { page, access, purpose, next }) = self.tickets.slot(slot) else {
                unreachable!("only calls that wait for a page are linked");
            };
            cursor = next;
            if !state.allows(access) {
                self.tickets.link(slot, rest);
                rest = Some(slot);
                continue;
            }
            match (purpose, outcome) {
                (Purpose::Touch, Outcome::Done) => self.let_go(ticket, page, out),
                (Purpose::Atomic(_), Outcome::Done) => {
                    self.tickets.link(slot, atomics);
                    atomics = Some(slot);
                }
                (Purpose::Pin(pin), Outcome::Done) => {
                    self.pin_arrived(page, pin);
                    self.complete(ticket, outcome, out);
                }
                (Purpose::Pin(pin), _) => {
                    self.pin_failed(page, pin);
                    self.complete(ticket, outcome, out);
                }
                _ => self.complete(ticket, outcome, out),
            }
        }
        // Last: they may end an interval, which has to know of the pins.
        self.atomics_touched(atomics, out);
        rest
    }

    /// The request of this node that `request` answers, if it still waits.
    pub(super) fn answered(
        &self,
        page: PageAddress,
        request: RequestId,
    ) -> Result<Option<(LocalPage, Pending)>, &'static str> {
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        let pending = local.pending.map(|index| self.coherence.pending[index as usize]);
        Ok(pending.filter(|pending| pending.request == request).map(|pending| (local, pending)))
    }

    /// Whether [`Message::Data`] of `page` for `request` would bring bytes that are waited for.
    pub(super) fn bytes_are_awaited(&self, page: PageAddress, request: RequestId, access: Access) -> bool {
        let Ok(Some((local, pending))) = self.answered(page, request) else { return false };
        !pending.claims && pending.access == access && local.state == PageState::Invalid
    }

    /// Ends the pending request of `page`, whose copy is now in `state`.
    pub(super) fn installed(
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
        if let Some((home, message)) = done
            && !self.planted(Planted::ForgetReport)
        {
            self.send(home, message, out);
        }
        // A writer that came while a read was under way still needs its upgrade.
        let Some(writers) = self.complete_list(pending.first, state, Outcome::Done, out) else { return };
        if self.is_release(page) {
            let begun = self.begin_writing(page, out);
            let outcome = begun.map_or_else(Outcome::Failed, |()| Outcome::Done);
            self.complete_list(Some(writers), PageState::Modified, outcome, out);
        } else if !self.planted(Planted::ForgetJoinedWriter) {
            self.request_page(page, Access::Write, Some(writers), out);
        }
    }

    /// Asks again when a notice has come since that the answer may not reflect; true when it did.
    fn asked_again(&mut self, from: NodeId, local: LocalPage, pending: Pending, out: &mut Actions) -> bool {
        if !pending.noticed.outdates(from) {
            return false;
        }
        self.ask_anew(local, Pending { noticed: Noticed::Nobodys, ..pending }, out);
        true
    }

    /// Asks the home again, under a new name: the answer that came is not used.
    fn ask_anew(&mut self, local: LocalPage, pending: Pending, out: &mut Actions) {
        let Pending { page, asked, access, .. } = pending;
        let request = self.coherence.fresh_request();
        let index = local.pending.expect("it waits for an answer") as usize;
        self.coherence.pending[index] = Pending { request, ..pending };
        self.send_request(page, asked, request, access, out);
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
        let is_open = !pending.claims && pending.owed.is_none();
        if !is_open || pending.access != access || local.state != PageState::Invalid {
            return Err("the page was not asked for in this way");
        }
        if pending.hinted.is_some_and(|owner| owner != from) {
            return Err("another node was asked for the page");
        }
        let home = pending.asked;
        let state = granted(access);
        if self.is_release(page) {
            // The owner of a page sends it to readers.
            if from != home && access == Access::Write {
                return Err(NOT_ITS_HOME);
            }
            if self.asked_again(from, local, pending, out) {
                if from != home {
                    self.send(home, Message::Done { page, request, installed: true }, out);
                }
                return Ok(());
            }
            out.push(Action::Fill(page));
            self.release.updates.filled(page, from);
            self.install_release(page, access, out);
        } else {
            if access == Access::Write || !self.planted(Planted::StaleRefetch) {
                out.push(Action::Fill(page));
            }
            out.push(map(page, state));
            if access == Access::Read {
                self.note_owner(page, from);
            }
        }
        if pending.hinted.is_some() {
            self.hint_held(page);
            let got = Message::Hint { page, request, step: Hint::Got(true) };
            self.installed(page, local, state, Some((from, got)), out);
            return Ok(());
        }
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
        self.check_home_says(page, from)?;
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if pending.access != access || pending.owed.is_some() {
            return Err("the page was not asked for in this way");
        }
        let state = granted(access);
        if self.is_release(page) {
            return self.release_granted(from, local, pending, zero, out);
        }
        if self.is_asked_too_early(page) {
            self.ask_anew(local, pending, out);
            return Ok(());
        }
        match (zero, local.state, access) {
            (true, PageState::Invalid, _) => {
                out.push(Action::FillZero(page));
                out.push(map(page, state));
            }
            (false, PageState::Shared, Access::Write) => {
                self.meet_all(page, out);
                if self.page_state(page) != PageState::Shared {
                    // No home asks for a copy and grants it.
                    return Ok(());
                }
                out.push(Action::Unprotect(page));
            }
            _ => return Err("the grant does not fit the copy that is held"),
        }
        self.installed(page, local, state, None, out);
        self.admit_pins(out);
        Ok(())
    }

    fn release_granted(
        &mut self,
        from: NodeId,
        local: LocalPage,
        pending: Pending,
        zero: bool,
        out: &mut Actions,
    ) -> Handled {
        let Pending { page, access, .. } = pending;
        if local.state != PageState::Invalid || (!zero && from != self.config.node) {
            return Err("the grant does not fit the copy that is held");
        }
        if self.asked_again(from, local, pending, out) {
            return Ok(());
        }
        if zero {
            out.push(Action::FillZero(page));
        }
        self.release.updates.filled(page, from);
        self.install_release(page, access, out);
        self.installed(page, local, granted(access), None, out);
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
        self.check_home_says(page, from)?;
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
        self.check_home_says(page, from)?;
        if self.is_release(page) && access == Access::Read {
            if requester == self.config.node || requester.get() >= self.config.nodes {
                return Err("the copy cannot go to this requester");
            }
            self.fetch_from_owner(page, request, requester, out);
            return Ok(());
        }
        if self.is_asked_too_early(page) {
            return Ok(());
        }
        if self.page_state(page) == PageState::Invalid {
            return Err("there is no copy here to be fetched");
        }
        if self.is_release(page) || asked_access(self.pages.protocol(page), access) != access {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        if requester == self.config.node || requester.get() >= self.config.nodes {
            return Err("the copy cannot go to this requester");
        }
        if self.must_wait(page, access) {
            return self.postpone(page, from, Want::Fetch { request, access, requester }, out);
        }
        self.supply(page, requester, request, access, out);
        Ok(())
    }

    /// Gives up the rights that `access` by another node takes, then sends it this node's bytes.
    pub(super) fn supply(
        &mut self,
        page: PageAddress,
        requester: NodeId,
        request: RequestId,
        access: Access,
        out: &mut Actions,
    ) {
        self.supply_by(page, requester, access, Message::Data { page, request, access }, out);
    }

    /// As `supply`, where `message` goes with the bytes.
    pub(super) fn supply_by(
        &mut self,
        page: PageAddress,
        requester: NodeId,
        access: Access,
        message: Message,
        out: &mut Actions,
    ) {
        let local = self.pages.local(page).expect("checked by the caller");
        let state = match (access, local.state) {
            (Access::Write, state)
                if self.pages.protocol(page) == Protocol::Migration
                    && self.planted(Planted::KeepMigratedCopy) =>
            {
                state
            }
            (Access::Read, state) if self.planted(Planted::DowngradeStaysWritable) => state,
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
        self.pins.take(page, access);
        self.pages.set_local(page, LocalPage { state, ..local });
        if access == Access::Write {
            self.note_owner(page, requester);
        }
        self.send_page(requester, message, page, out);
        if self.planted(Planted::SendBeforeProtect) {
            swap_last(out);
        }
    }

    pub(super) fn invalidate(&mut self, from: NodeId, page: PageAddress, out: &mut Actions) -> Handled {
        self.check_home_says(page, from)?;
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        if self.is_release(page) {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        if local.state == PageState::Invalid && self.has_none_to_drop(page, local.pending, out) {
            self.send(from, Message::InvalidateAck { page }, out);
            return Ok(());
        }
        if local.state != PageState::Shared {
            return Err("there is no shared copy here to be dropped");
        }
        if self.must_wait(page, Access::Write) {
            if self.planted(Planted::AckBeforeDrop) {
                self.send(from, Message::InvalidateAck { page }, out);
            }
            return self.postpone(page, from, Want::Invalidate, out);
        }
        self.drop_copy(page, from, out);
        Ok(())
    }

    pub(super) fn recall(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        out: &mut Actions,
    ) -> Handled {
        self.check_home_says(page, from)?;
        if self.is_release(page) {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        // Once the bytes have come, a Done is on its way ahead of any answer.
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if self.planted(Planted::IgnoreRecall) {
            return Ok(());
        }
        self.send(from, Message::Done { page, request, installed: false }, out);
        if self.planted(Planted::AnswerRecallTwice) {
            self.send(from, Message::Done { page, request, installed: false }, out);
        }
        // The bytes may still come, on another link: asked for under a new name, they are told apart.
        let keeps = self.planted(Planted::RecallKeepsNumber);
        let again = if keeps { request } else { self.coherence.fresh_request() };
        let index = local.pending.expect("it waits for an answer") as usize;
        self.coherence.pending[index].request = again;
        self.send(from, Message::PageRequest { page, request: again, access: pending.access }, out);
        Ok(())
    }

    pub(super) fn cancel_page_wait(&mut self, ticket: Ticket, page: PageAddress, purpose: Purpose) {
        if let Purpose::Pin(pin) = purpose {
            self.pin_failed(page, pin);
        }
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

    /// Requests that the lost node was to answer as a home or an anchor.
    pub(super) fn fail_requests_to(&mut self, lost: NodeId, out: &mut Actions) {
        let orphans: Vec<(usize, Pending)> = self
            .coherence
            .pending
            .iter()
            .filter(|(_, pending)| pending.asked == lost)
            .map(|(index, pending)| (index, *pending))
            .collect();
        for (index, pending) in orphans {
            self.coherence.pending.remove(index);
            if let Some(owner) = pending.hinted {
                let (page, request) = (pending.page, pending.request);
                self.send(owner, Message::Hint { page, request, step: Hint::Got(false) }, out);
            }
            let local = self.pages.local(pending.page).expect("a pending page is mapped");
            self.page_without_home(pending.page, local, lost, pending.first, out);
        }
    }
}

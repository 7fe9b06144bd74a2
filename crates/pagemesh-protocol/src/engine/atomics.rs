//! Atomic operations on a word of a page, done where the page is instead of bringing it here.
//!
//! In a region whose home serialises who has what, an operation stands in line at the home like a request to write the page. A node that has
//! the page writable does it at once, without a message. What the home does with it (`docs/protocol.md` has the same table):
//!
//! | directory | what happens | messages |
//! |---|---|---|
//! | untouched | the home takes the page, all zeros, and does it | 2 |
//! | modified at the home | the home does it | 2 |
//! | modified at a third node | that node does it and tells the home | 4 |
//! | modified at the requester | the requester does it and tells the home | 4 |
//! | shared, the home among k+1 holders | the k others drop their copies; the home does it | 2 + 2k |
//! | shared, the home not among k+1 holders | all but the owner drop their copies; the owner does it | 4 + 2k |
//! | lost | denied | 2 |
//!
//! Whoever does it has the only copy then, and keeps it with the rights that it had. So the operation is a write at one moment of the
//! page's one order of writes, and atomic with what the threads of that node do to the word by their own processors. Nobody waits for
//! those threads or for pins: nothing is taken from them.
//!
//! In a release region the home does it on its own bytes, as soon as the diffs have come that the requester's time demands. The request
//! is a release of its node and the answer an acquire, as with a semaphore; and to everyone else the home itself has written the page, in an interval of
//! its own that the requester is told of. While nobody else has a copy, no notice is needed.
//!
//! **Once.** An operation is sent once and never again, so it is done at most once. A call that ends well was done. One that is denied was
//! not done to any byte that anyone can still read. One that is given up ([`Engine::on_atomic_give_up`]) hears from the home whether it
//! was begun: it is withdrawn, or ends as if it had not been given up. Only when the home is lost after it was asked, or does not
//! answer, is it not known whether it was done ([`Failure::Unanswered`]).

use super::coherence::{NOT_HOME_HERE, NOT_ITS_HOME, NOT_OF_THIS_PROTOCOL, Phase, Request};
use super::pages::{DirectoryEntry, DirectoryState, LocalPage};
use super::planted::Planted;
use super::tickets::{Purpose, Wait};
use super::{Engine, Handled};
use crate::action::{Action, Actions, AtomicAnswer, Failure, Outcome};
use crate::atomic::AtomicOperation;
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RequestId, Ticket};

use crate::message::Message;

/// What a request asks for beyond the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) operation: AtomicOperation,
}

/// The caller's part.
impl Engine {
    /// A thread wants an atomic operation on a word of `page`. `ticket` completes with [`Outcome::Word`]; or it is answered by an
    /// [`Action::Atomic`] whose answer is [`AtomicAnswer::Call`], and over when that is performed.
    ///
    /// # Panics
    /// When the page or the word does not exist here, or in an entry region, where locked ranges are what changes words.
    pub fn on_atomic(
        &mut self,
        ticket: Ticket,
        page: PageAddress,
        operation: AtomicOperation,
        out: &mut Actions,
    ) {
        assert!(operation.word < crate::atomic::WORDS_OF_PAGE, "a page has no word {}", operation.word);
        if self.is_gone(page.region) {
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(Failure::RegionClosed) });
            return;
        }
        assert!(self.pages.local(page).is_some(), "an atomic operation on a page that is not mapped");
        if self.is_release(page) {
            // What the caller has written is out before its thread waits, whoever is asked first.
            self.release_interval(out);
        }
        assert!(!self.is_entry(page.region), "an atomic operation on a page of an entry region");
        self.atomic(ticket, page, operation, out);
        self.settle(out);
    }

    /// The time of such a call is over. It completes soon: with [`Failure::Withdrawn`] when nothing was done, or else as it would have.
    pub fn on_atomic_give_up(&mut self, ticket: Ticket, out: &mut Actions) {
        match self.tickets.wait(ticket) {
            Wait::Atomic { page, asked } => self.send(asked, Message::AtomicCancel { page, ticket }, out),
            Wait::AtomicHome { .. } => self.fail(ticket, Failure::Withdrawn, out),
            Wait::Page { page, purpose: purpose @ Purpose::Atomic(_), .. } => {
                self.cancel_page_wait(ticket, page, purpose);
                self.fail(ticket, Failure::Withdrawn, out);
            }
            _ => {}
        }
        self.settle(out);
    }

    pub(super) fn atomic(
        &mut self,
        ticket: Ticket,
        page: PageAddress,
        operation: AtomicOperation,
        out: &mut Actions,
    ) {
        let (asked, homeless) = self.who_tells(page);
        let is_release = self.is_release(page);
        if !is_release && self.page_state(page) == PageState::Modified {
            let (requester, answer) = (self.config.node, AtomicAnswer::Call);
            out.push(Action::Atomic { page, operation, requester, ticket, answer });
            return;
        }
        if !self.live.contains(asked) && (homeless || is_release) {
            self.tickets.begin(ticket, Wait::Atomic { page, asked });
            self.fail(ticket, Failure::PeerLost(asked), out);
        } else if !self.live.contains(asked) {
            // As with a write: who is left alone with a copy may use it.
            self.atomic_by_touch(ticket, page, operation, out);
        } else if homeless {
            self.tickets.begin(ticket, Wait::AtomicHome { page, asked, operation });
            self.send(asked, Message::HomeQuery { page, ticket }, out);
        } else {
            if is_release {
                self.end_interval(out);
                self.tell(asked, out);
                self.tell_what_is_known(asked, out);
            }
            self.tickets.begin(ticket, Wait::Atomic { page, asked });
            self.send(asked, Message::AtomicRequest { page, ticket, operation }, out);
        }
    }

    /// Brings the page here first: it has no home yet, or no longer.
    fn atomic_by_touch(
        &mut self,
        ticket: Ticket,
        page: PageAddress,
        operation: AtomicOperation,
        out: &mut Actions,
    ) {
        let (access, purpose) = (Access::Write, Purpose::Atomic(operation));
        self.tickets.begin(ticket, Wait::Page { page, access, purpose, next: None });
        self.join_or_request(page, access, ticket.slot, out);
    }

    /// The anchor has said who is the home of the page that `ticket` waits to change; nobody, while nobody has touched it.
    pub(super) fn atomic_home_told(
        &mut self,
        ticket: Ticket,
        (page, operation): (PageAddress, AtomicOperation),
        home: Option<NodeId>,
        out: &mut Actions,
    ) {
        self.tickets.end(ticket);
        if home.is_some() {
            self.atomic(ticket, page, operation, out);
        } else {
            self.atomic_by_touch(ticket, page, operation, out);
        }
    }

    /// A page has come, and its home is known, for the operations linked from `first`.
    pub(super) fn atomics_touched(&mut self, first: Option<u16>, out: &mut Actions) {
        let mut cursor = first;
        while let Some(slot) = cursor {
            let (ticket, wait) = self.tickets.slot(slot);
            let Wait::Page { page, purpose: Purpose::Atomic(operation), next, .. } = wait else {
                unreachable!("only calls that wait to change a page are linked");
            };
            cursor = next;
            self.tickets.end(ticket);
            self.atomic(ticket, page, operation, out);
        }
    }

    /// The home's answer to a call; a late one finds nobody.
    pub(super) fn atomic_answered(
        &mut self,
        from: NodeId,
        page: PageAddress,
        ticket: Ticket,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page)? != Some(from) {
            return Err(NOT_ITS_HOME);
        }
        if self.is_release(page) && matches!(outcome, Outcome::Word(_)) {
            self.drop_written(out);
        }
        self.conclude(from, Some(from), ticket, Wait::Atomic { page, asked: from }, outcome, out)
    }
}

/// The holder's part.
impl Engine {
    pub(super) fn atomic_forwarded(
        &mut self,
        from: NodeId,
        page: PageAddress,
        (requester, asked): (NodeId, Asked),
        out: &mut Actions,
    ) -> Handled {
        if self.pages.home(page)? != Some(from) {
            return Err(NOT_ITS_HOME);
        }
        if self.is_release(page) || from == self.config.node {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        if self.is_asked_too_early(page) {
            return Ok(());
        }
        if self.page_state(page) == PageState::Invalid {
            return Err("there is no copy here to be changed");
        }
        if requester.get() >= self.config.nodes {
            return Err("the answer cannot go to this requester");
        }
        let Asked { ticket, operation } = asked;
        let answer = AtomicAnswer::Home(from);
        if self.planted(Planted::AtomicTwice) {
            let answer = AtomicAnswer::Nobody;
            out.push(Action::Atomic { page, operation, requester, ticket, answer });
        }
        out.push(Action::Atomic { page, operation, requester, ticket, answer });
        Ok(())
    }
}

/// The home's part.
impl Engine {
    pub(super) fn atomic_requested(
        &mut self,
        from: NodeId,
        page: PageAddress,
        asked: Asked,
        out: &mut Actions,
    ) -> Handled {
        let id = RequestId(0);
        let request = Request { node: from, id, access: Access::Write, atomic: Some(asked) };
        self.admit(page, request, out)
    }

    /// Does an operation of the queue's front, or has it done. `None` when that ends it, else what its transaction waits for.
    pub(super) fn serve_atomic(
        &mut self,
        page: PageAddress,
        request: Request,
        asked: Asked,
        out: &mut Actions,
    ) -> Option<Phase> {
        let own = self.config.node;
        let entry = DirectoryEntry { busy: None, ..self.usable_entry(page) };
        self.pages.set_entry(page, entry);
        let owner = match entry.state {
            DirectoryState::Lost(lost_with) => {
                let ticket = asked.ticket;
                self.answer(request.node, Message::AtomicDeny { page, ticket, lost_with }, out);
                return None;
            }
            DirectoryState::Untouched => {
                self.take_untouched(page, out);
                self.operate(page, request, asked, out);
                return None;
            }
            DirectoryState::Shared(owner) | DirectoryState::Modified(owner) => owner,
        };
        let at = if entry.holders.contains(own) { own } else { owner };
        let others = entry.holders.without(at);
        if !others.is_empty() && !self.planted(Planted::AtomicBesideSharers) {
            for sharer in others.iter() {
                self.send(sharer, Message::Invalidate { page }, out);
            }
            return Some(Phase::Invalidating { missing: others });
        }
        if at == own {
            self.operate(page, request, asked, out);
            return None;
        }
        let (requester, Asked { ticket, operation }) = (request.node, asked);
        self.send(at, Message::AtomicForward { page, requester, ticket, operation }, out);
        Some(Phase::Operating { at })
    }

    /// This home has the only copy of a page of zeros from now on.
    fn take_untouched(&mut self, page: PageAddress, out: &mut Actions) {
        let (own, local) = (self.config.node, self.pages.local(page).expect("checked when the request came"));
        out.push(Action::FillZero(page));
        out.push(Action::MapWrite(page));
        self.pages.set_local(page, LocalPage { state: PageState::Modified, ..local });
        let (state, holders) = (DirectoryState::Modified(own), NodeSet::only(own));
        self.pages.set_entry(page, DirectoryEntry { state, holders, busy: None });
    }

    /// Does the operation on this home's bytes.
    fn operate(&mut self, page: PageAddress, request: Request, asked: Asked, out: &mut Actions) {
        let (own, requester) = (self.config.node, request.node);
        let Asked { ticket, operation } = asked;
        let answer = if requester != own {
            AtomicAnswer::Requester
        } else if self.tickets.wait(ticket) == (Wait::Atomic { page, asked: own }) {
            self.tickets.end(ticket);
            AtomicAnswer::Call
        } else {
            AtomicAnswer::Nobody
        };
        out.push(Action::Atomic { page, operation, requester, ticket, answer });
    }

    /// As `operate`, in a release region: the home has written the page.
    pub(super) fn operate_released(
        &mut self,
        page: PageAddress,
        request: Request,
        asked: Asked,
        out: &mut Actions,
    ) {
        self.touch(page);
        // With what it is told the requester would be sent the page as it was before, and nothing would tell it of the operation.
        self.release.updates.forget_due(page, request.node);
        if !self.is_alone_with(page) && !self.planted(Planted::AtomicUntold) {
            self.release.notices.close(&[page]);
            self.forget_copies(page);
            self.drop_shadow(page, out);
        }
        if request.node == self.config.node {
            self.drop_written(out);
        } else {
            self.tell(request.node, out);
        }
        self.operate(page, request, asked, out);
    }

    pub(super) fn atomic_done(
        &mut self,
        from: NodeId,
        page: PageAddress,
        (requester, ticket): (NodeId, Ticket),
        old: u64,
        out: &mut Actions,
    ) -> Handled {
        let Some((index, transaction)) = self.transaction(page)? else {
            return Err("nobody was told to change the page");
        };
        let request = transaction.request;
        let asked = request.atomic.filter(|asked| request.node == requester && asked.ticket == ticket);
        if transaction.phase != (Phase::Operating { at: from }) || asked.is_none() {
            return Err("it was not told to change the page for this call");
        }
        self.answer(requester, Message::AtomicReply { page, ticket, old }, out);
        self.end_transaction(index, out);
        Ok(())
    }

    /// A call has given up: what stands in line is taken out. What was begun will be answered.
    pub(super) fn atomic_cancelled(
        &mut self,
        from: NodeId,
        page: PageAddress,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        let home = self.pages.home(page)?;
        if home.map_or_else(|| !self.may_be_home(page), |home| home != self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        let is_it =
            |request: &Request| request.node == from && request.atomic.is_some_and(|a| a.ticket == ticket);
        let mut removed = self.release.withdraw(page, is_it);
        if let Some(index) = self.pages.entry(page).busy {
            let queue = &mut self.coherence.transactions[index as usize].queue;
            removed += self.coherence.queued.remove_where(queue, is_it);
        }
        self.coherence.open[from.index()] -= removed as u32;
        if removed > 0 {
            self.send(from, Message::AtomicWithdrawn { page, ticket }, out);
        }
        Ok(())
    }
}

//! Writers that hear from the sharers themselves that their copies are gone.
//!
//! A page that others share may be written when the last of their copies is gone. The home knows that late: it tells the
//! sharers, hears of each, and only then tells the writer, four messages one after the other. So, where few share the page, they
//! tell the writer, which is three (Lenoski and others 1990, the DASH protocol, whose requesters collect acknowledgements so). The
//! writer has to know whom to wait for. Where it has the bytes, one of the sharers tells it that too, in the home's name: so it takes no
//! more messages than before, and the writer, who waits, is not woken for nothing.
//!
//! The home begins this when a node other than itself wants to write, up to [`limits::COLLECTED`](crate::limits::COLLECTED) others
//! have copies that are to go, and the bytes are at the requester or at the home. Otherwise the sharers tell the home
//! (Invalidate, `home.rs`). A home's own copy goes before anything is said; while a thread or a pin holds it, nothing is collected.
//!
//! | who | hears | does |
//! |---|---|---|
//! | sharer | Drop | gives its copy up as for an Invalidate, and tells the requester: Dropped, or the Grant that the Drop brought |
//! | requester | Dropped | keeps in mind who has said so, also before the home's word comes, which takes another link |
//! | requester | Grant, or the home's Data with the bytes | may write when all who are named in it have said so, and reports to the home: Done |
//! | home | Done | goes on with the page's queue |
//!
//! The home's transaction is open until Done. So nobody else gets the page before, and the requester is asked for nothing while it
//! waits. Each sharer that is waited for is known by its number to both, so that nobody else can take its part, nor one twice.
//!
//! A Grant that comes by a sharer may overtake what the home says to the requester. Nothing about the page is then under way on that link,
//! since each transaction ends with the word of those whom the home has asked; but for one that ended because a requester was lost. So a
//! home that has lost a node says its Grants itself.
//!
//! **Losses.** Only the home decides that a sharer counts no more: a requester that has lost one cannot know whether others still read
//! there. It asks the home (Unheard). A home that has lost the sharer says so to the requester by itself (Gone). One that has not asks
//! the sharer again, tells the requester when that has answered, and also when it loses the sharer then. Its Grant may have been with that
//! sharer, so it says it first. When the requester is lost, it may have
//! written, and the page is lost with it.

use super::coherence::{
    NO_SUCH_PAGE, NOT_ITS_HOME, NOT_OF_THIS_PROTOCOL, Pending, Phase, Request, Transaction,
};
use super::pages::{DirectoryEntry, DirectoryState, LocalPage};
use super::planted::Planted;
use super::uses::Want;
use super::{Engine, Handled};
use crate::action::{Action, Actions};
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RequestId};
use crate::message::{Collect, Message};
use crate::placement::Protocol;
use crate::sharers::Sharers;

const NOT_ASKED: &str = "the page was not asked for in this way";
const NOT_AWAITED: &str = "nobody waits for its copy to go";

impl Engine {
    /// A message about a page whose sharers tell the writer.
    pub(super) fn collect(
        &mut self,
        from: NodeId,
        (page, request): (PageAddress, RequestId),
        step: Collect,
        out: &mut Actions,
    ) -> Handled {
        let home = self.pages.home(page)?;
        if self.pages.protocol(page) != Protocol::WriteInvalidate {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        let from_home = home == Some(from);
        match step {
            Collect::Unheard(sharer) => self.sharer_unheard(from, (page, request), sharer, out),
            Collect::Dropped if from_home => Err("it names in its grant who has still to say so"),
            Collect::Dropped => self.sharer_dropped(from, page, request, out),
            Collect::Grant(sharers) => self.granted_after(from, (page, request), sharers, false, out),
            _ if !from_home => Err(NOT_ITS_HOME),
            Collect::Drop { requester, again, grant } => {
                self.drop_asked(from, (page, request), (requester, grant), again, out)
            }
            Collect::Data(sharers) => self.granted_after(from, (page, request), sharers, true, out),
            Collect::Gone { sharer, grant } => self.sharer_counted((page, request), sharer, grant, out),
        }
    }
}

/// The home's part.
impl Engine {
    /// Has those who hold copies beside the requester tell it that they are gone, if it can be done so.
    pub(super) fn begin_collecting(
        &mut self,
        page: PageAddress,
        asked: Request,
        missing: NodeSet,
        out: &mut Actions,
    ) -> Option<Phase> {
        let (own, Request { node: requester, id: request, .. }) = (self.config.node, asked);
        let sharers = Sharers::of(missing.without(own)).filter(|sharers| !sharers.is_empty())?;
        let holders = self.pages.entry(page).holders;
        let (upgrades, is_here) = (holders.contains(requester), holders.contains(own));
        let has_bytes = upgrades || is_here;
        if requester == own || !has_bytes || is_here && self.must_wait(page, Access::Write) {
            return None;
        }
        if upgrades && is_here && !self.planted(Planted::KeepOwnSharedCopy) {
            // Before the Drops: with one of them goes the grant.
            self.give_copy_up(page, out);
        }
        let all_live = self.live.len() == self.config.nodes as usize;
        let messenger = sharers.iter().last().filter(|_| upgrades && all_live);
        for sharer in sharers.iter() {
            let grant = if Some(sharer) == messenger { sharers } else { Sharers::NONE };
            let step = Collect::Drop { requester, again: false, grant };
            self.send(sharer, Message::Collect { page, request, step }, out);
        }
        if upgrades {
            if messenger.is_none() {
                self.send(requester, Message::Collect { page, request, step: Collect::Grant(sharers) }, out);
            }
        } else {
            let message = Message::Collect { page, request, step: Collect::Data(sharers) };
            self.supply_by(page, requester, Access::Write, message, out);
        }
        self.settle_entry(page, asked, NodeSet::EMPTY);
        Some(Phase::Collecting { sharers, asked: Sharers::NONE, told: Sharers::NONE })
    }

    /// The requester cannot hear `sharer`.
    fn sharer_unheard(
        &mut self,
        from: NodeId,
        (page, request): (PageAddress, RequestId),
        sharer: NodeId,
        out: &mut Actions,
    ) -> Handled {
        // One that has not been named its sharers asks about whomever it loses.
        let Some((index, transaction)) = self.transaction(page)? else { return Ok(()) };
        let Phase::Collecting { sharers, asked, told } = transaction.phase else { return Ok(()) };
        let is_its = transaction.request.node == from && transaction.request.id == request;
        // Asked once more, the sharer could answer when all is over.
        let is_known = asked.contains(sharer) || told.contains(sharer);
        if !is_its || !sharers.contains(sharer) || is_known {
            return Ok(());
        }
        // Of one that this home has lost it was told when that happened.
        if self.live.contains(sharer) {
            let asked = asked.with(sharer).expect("they are no more than the sharers");
            self.coherence.transactions[index as usize].phase = Phase::Collecting { sharers, asked, told };
            let step = Collect::Drop { requester: from, again: true, grant: Sharers::NONE };
            self.send(sharer, Message::Collect { page, request, step }, out);
        }
        Ok(())
    }

    /// The requester was lost, and may have written the page already.
    pub(super) fn writer_lost(&mut self, index: u32, asked: Sharers, lost: NodeId, out: &mut Actions) {
        let page = self.coherence.transactions[index as usize].page;
        let entry = self.pages.entry(page);
        let (state, holders) = (DirectoryState::Lost(lost), NodeSet::EMPTY);
        self.pages.set_entry(page, DirectoryEntry { state, holders, ..entry });
        // Those who were asked again answer still.
        let missing = asked.iter().collect::<NodeSet>().and(self.live);
        if missing.is_empty() {
            self.end_transaction(index, out);
        } else {
            self.coherence.transactions[index as usize].phase = Phase::Invalidating { missing };
        }
    }

    /// A sharer that was asked again has told this home.
    pub(super) fn sharer_has_told_home(&mut self, index: u32, sharer: NodeId, out: &mut Actions) {
        let phase = &mut self.coherence.transactions[index as usize].phase;
        if let Phase::Collecting { asked, told, .. } = phase {
            *asked = asked.without(sharer);
            *told = told.with(sharer).expect("they are no more than the sharers");
        }
        self.tell_gone(index, sharer, out);
    }

    /// The copy of `sharer` counts no more, or the sharer does not.
    pub(super) fn tell_gone(&mut self, index: u32, sharer: NodeId, out: &mut Actions) {
        if self.planted(Planted::ForgetLostSharer) {
            return;
        }
        let Transaction { page, request: asked, phase, .. } = self.coherence.transactions[index as usize];
        if let Phase::Collecting { sharers: grant, .. } = phase {
            let step = Collect::Gone { sharer, grant };
            self.send(asked.node, Message::Collect { page, request: asked.id, step }, out);
        }
    }
}

/// The sharer's part.
impl Engine {
    fn drop_asked(
        &mut self,
        home: NodeId,
        (page, request): (PageAddress, RequestId),
        (requester, grant): (NodeId, Sharers),
        again: bool,
        out: &mut Actions,
    ) -> Handled {
        let own = self.config.node;
        if requester == own || requester == home || requester.get() >= self.config.nodes {
            return Err("the copy cannot be dropped for this requester");
        }
        if !grant.is_empty() && !grant.contains(own) {
            return Err("this node is not among the sharers of the grant");
        }
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        if again {
            if self.tell_home_instead(page, (request, requester)) {
                return Ok(());
            }
            if local.state != PageState::Invalid {
                return Err("it was not told before to drop its copy");
            }
            self.send(home, Message::InvalidateAck { page }, out);
            return Ok(());
        }
        if local.state != PageState::Shared {
            return Err("there is no shared copy here to be dropped");
        }
        if self.must_wait(page, Access::Write) {
            return self.postpone(page, home, Want::Drop { request, requester, grant }, out);
        }
        self.drop_for(page, request, (requester, grant), out);
        Ok(())
    }

    /// Drops this node's copy and tells who wants to write the page, with the home's grant if it came with the demand.
    pub(super) fn drop_for(
        &mut self,
        page: PageAddress,
        request: RequestId,
        (requester, grant): (NodeId, Sharers),
        out: &mut Actions,
    ) {
        self.give_copy_up(page, out);
        self.note_owner(page, requester);
        let step = if grant.is_empty() { Collect::Dropped } else { Collect::Grant(grant) };
        if !self.planted(Planted::DropUntold) {
            self.send(requester, Message::Collect { page, request, step }, out);
        }
    }
}

/// The requester's part.
impl Engine {
    fn sharer_dropped(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        out: &mut Actions,
    ) -> Handled {
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if pending.claims || pending.access != Access::Write {
            return Err(NOT_ASKED);
        }
        Engine::check_says_first(from, &pending)?;
        if pending.owed.is_some() || !self.planted(Planted::ForgetEarlyDrop) {
            self.note_gone(local, from);
        }
        self.end_collecting(page, out);
        Ok(())
    }

    /// A sharer says that its copy is gone: it must be one of those who are waited for, if these are known, and say so once.
    fn check_says_first(from: NodeId, pending: &Pending) -> Handled {
        // It may have said so before it was lost, and the home was heard first.
        if pending.gone.contains(from) && !pending.counted.contains(from) {
            return Err("it has said so before");
        }
        if pending.owed.is_some_and(|owed| !owed.contains(from)) {
            return Err(NOT_AWAITED);
        }
        Ok(())
    }

    fn note_gone(&mut self, local: LocalPage, sharer: NodeId) {
        let index = local.pending.expect("it waits for an answer") as usize;
        let pending = &mut self.coherence.pending[index];
        pending.gone = pending.gone.with(sharer);
        pending.counted = pending.counted.without(sharer);
    }

    /// The home's word, perhaps by one of them: the page may be written when the copies of `sharers` are gone.
    fn granted_after(
        &mut self,
        from: NodeId,
        (page, request): (PageAddress, RequestId),
        sharers: Sharers,
        with_bytes: bool,
        out: &mut Actions,
    ) -> Handled {
        let home = self.check_can_share(page, sharers)?;
        let by_home = from == home;
        if !by_home && !sharers.contains(from) {
            return Err("it is neither the home nor among the sharers");
        }
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        // The home may have said it before the sharer whom it had asked to.
        let is_known = pending.owed.is_some();
        if pending.claims
            || pending.access != Access::Write
            || is_known && (by_home || pending.owed != Some(sharers))
        {
            return Err(NOT_ASKED);
        }
        let needed = if with_bytes { PageState::Invalid } else { PageState::Shared };
        if local.state != needed {
            return Err("the grant does not fit the copy that is held");
        }
        if !by_home {
            Engine::check_says_first(from, &pending)?;
        }
        if with_bytes {
            out.push(Action::Fill(page));
        } else if by_home {
            self.meet_all(page, out);
            if self.page_state(page) != PageState::Shared {
                // No home asks for a copy and grants it.
                return Ok(());
            }
        }
        if !by_home {
            self.note_gone(local, from);
        }
        if !is_known {
            self.await_sharers(local, sharers, out);
        }
        self.end_collecting(page, out);
        Ok(())
    }

    /// The home of a page whose sharers are said to be these.
    fn check_can_share(&self, page: PageAddress, sharers: Sharers) -> Result<NodeId, &'static str> {
        let home = self.pages.home(page)?.ok_or(NOT_ITS_HOME)?;
        let can_share =
            |node: NodeId| node.get() < self.config.nodes && node != self.config.node && node != home;
        if sharers.iter().all(can_share) { Ok(home) } else { Err("these nodes cannot be its sharers") }
    }

    fn await_sharers(&mut self, local: LocalPage, sharers: Sharers, out: &mut Actions) {
        let index = local.pending.expect("it waits for an answer") as usize;
        self.coherence.pending[index].owed = Some(sharers);
        let pending = self.coherence.pending[index];
        let live = self.live;
        for lost in sharers.iter().filter(|sharer| !live.contains(*sharer)) {
            self.miss_sharer(&pending, lost, out);
        }
    }

    fn sharer_counted(
        &mut self,
        (page, request): (PageAddress, RequestId),
        sharer: NodeId,
        grant: Sharers,
        out: &mut Actions,
    ) -> Handled {
        self.check_can_share(page, grant)?;
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        let is_known = pending.owed.is_some();
        let is_write = !pending.claims && pending.access == Access::Write;
        if !is_write || !grant.contains(sharer) || is_known && pending.owed != Some(grant) {
            return Err(NOT_AWAITED);
        }
        if !is_known && local.state != PageState::Shared {
            return Err("the grant does not fit the copy that is held");
        }
        if !pending.gone.contains(sharer) {
            self.count(local, sharer);
        }
        if !is_known {
            self.await_sharers(local, grant, out);
        }
        self.end_collecting(page, out);
        Ok(())
    }

    /// The copy of `sharer` counts as gone, although it has not said so.
    fn count(&mut self, local: LocalPage, sharer: NodeId) {
        let index = local.pending.expect("it waits for an answer") as usize;
        let pending = &mut self.coherence.pending[index];
        pending.gone = pending.gone.with(sharer);
        pending.counted = pending.counted.with(sharer).expect("they are no more than the sharers");
    }

    /// Takes the right to write, if nothing is missing.
    fn end_collecting(&mut self, page: PageAddress, out: &mut Actions) {
        let Some(local) = self.pages.local(page) else { return };
        let Some(index) = local.pending else { return };
        let Pending { owed, gone, asked: home, request, .. } = self.coherence.pending[index as usize];
        let Some(owed) = owed else { return };
        let heard = owed.iter().filter(|sharer| gone.contains(*sharer)).count();
        let enough = if self.planted(Planted::WriteBeforeLastDrop) { 0 } else { owed.iter().count() };
        if heard < enough {
            return;
        }
        let is_upgrade = local.state == PageState::Shared;
        out.push(if is_upgrade { Action::Unprotect(page) } else { Action::MapWrite(page) });
        let done = Some((home, Message::Done { page, request, installed: true }));
        self.installed(page, local, PageState::Modified, done, out);
        self.admit_pins(out);
    }

    /// This node has lost `lost`, which may have been about to say that its copies are gone.
    pub(super) fn miss_drops(&mut self, lost: NodeId, out: &mut Actions) {
        // Who is not told yet whom it waits for cannot know whether it was to hear that from this one.
        let waits = |pending: &Pending| match pending.owed {
            Some(owed) => owed.contains(lost),
            None => self.may_be_told(pending),
        };
        let missed: Vec<Pending> =
            self.coherence.pending.iter().map(|(_, pending)| *pending).filter(waits).collect();
        for pending in missed {
            self.miss_sharer(&pending, lost, out);
            self.end_collecting(pending.page, out);
        }
    }

    /// Whether the page is one that this node has asked to write while it reads it.
    fn may_be_told(&self, pending: &Pending) -> bool {
        let Pending { page, claims, access, .. } = *pending;
        let is_upgrade = !claims && access == Access::Write && self.page_state(page) == PageState::Shared;
        is_upgrade && self.pages.protocol(page) == Protocol::WriteInvalidate
    }

    fn miss_sharer(&mut self, pending: &Pending, lost: NodeId, out: &mut Actions) {
        let Pending { page, asked: home, request, gone, .. } = *pending;
        if gone.contains(lost) {
            return;
        }
        if self.planted(Planted::CountOwnLoss) {
            let local = self.pages.local(page).expect("a pending page is mapped");
            self.count(local, lost);
            return;
        }
        self.send(home, Message::Collect { page, request, step: Collect::Unheard(lost) }, out);
    }
}

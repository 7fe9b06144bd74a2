//! Reads that go straight to the owner of a page, when the reader knows who that is.
//!
//! A read of a page that a third node has written takes three messages one after the other: to the home, from there to the owner, and
//! back. A node that has heard who owns the page asks that one: two. What it has heard may be old, so it is a *hint* (Li and Hudak 1989
//! call it a probable owner), and only an owner that has the page MODIFIED goes by it. Everyone else answers Miss, and the reader asks the home. Nobody
//! passes such a request on.
//!
//! | who | hears | does |
//! |---|---|---|
//! | reader | a read fault, and has a hint | Read to the supposed owner |
//! | owner | Read, and has the page MODIFIED, with nothing in the way | Protect, Data(Read) to the reader; the page is *at stake* |
//! | owner | Read, and anything else | Miss |
//! | reader | Data(Read) | Fill, MapRead, Got to the owner, Complete |
//! | reader | Miss | PageRequest(Read) to the home |
//! | owner | Got | Served to the home |
//! | home | Served | writes down who shares the page, Known to the owner, begins again what it has under way about the page |
//! | owner | Known | the page is no longer at stake |
//!
//! **Why this is right.** While a page is at stake, its owner and perhaps the reader have copies for reading, and the home takes the
//! owner's for the only one. The home cannot give the page to anybody without the owner, and the owner does not do what the home asks
//! of it: it forgets every Fetch and AtomicForward. So nobody writes until the home knows of the reader. What the home sent before it said Known was
//! forgotten, all of it, and what it sends after that is not, by the order of the link; so the home knows exactly what to say again. An owner that wants to
//! write itself asks the home, as for every shared page, and the home, which takes it for the writer, waits for Served. (It may take it for the only reader, when
//! one for whom it had sent a Fetch was lost, and grant the write. The owner forgets that too, and asks anew: now it is the writer.) The reader is never asked for a copy that it does not have yet, because the home hears of
//! it only when the copy is there.
//!
//! **Losses.** A reader that has lost the owner asks the home, under a new number, so that bytes which come late are not used. An owner that has lost
//! the reader cannot know whether the copy came (Unheard): the home, unless it has lost the reader too, has it drop whatever it may have before anything else
//! happens to the page. A reader that has no copy says then that it has none. An owner that is lost before the home has heard of the reader takes the page with it, as if it had
//! written it again; the reader's copy stays, for reading.
//!
//! Hints are kept for regions of write-invalidate in which a miss brings one page, in meshes of three nodes and more, and used for reads that a thread waits for. Where several in a row were wrong in one region, none is used there for a while.

use super::coherence::{NOT_HOME_HERE, NOT_ITS_HOME, NOT_OF_THIS_PROTOCOL, Pending, Phase};
use super::pages::{DirectoryEntry, DirectoryState};
use super::planted::Planted;
use super::tickets::{Purpose, Wait};
use super::{Engine, Handled};
use crate::action::Actions;
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RegionId, RequestId};
use crate::limits;
use crate::message::{Hint, Message, ReaderCopy};
use crate::placement::Protocol;

/// A page that this node had MODIFIED and has sent to a reader, and of which the home has not said that it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Staked {
    pub(super) page: PageAddress,
    pub(super) reader: NodeId,
    pub(super) request: RequestId,
    /// The home was told.
    told: bool,
}

/// How far the hints of a region are trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(super) struct Doubt {
    /// Hints that were wrong, since one was right.
    wrong: u8,
    /// Misses for which no hint is to be used.
    paused: u8,
}

impl Doubt {
    /// Whether a hint is to be used for one more miss.
    fn allows(&mut self) -> bool {
        let allows = self.paused == 0;
        self.paused = self.paused.saturating_sub(1);
        allows
    }

    fn was_wrong(&mut self, patience: u8) {
        if patience == u8::MAX {
            return;
        }
        // They may have been turned off since it was asked.
        let patience = patience.max(1);
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong >= patience {
            // The first one after the pause decides whether there is another.
            self.wrong = patience - 1;
            self.paused = limits::HINTS_PAUSED;
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Hints {
    /// In the order in which they were sent.
    pub(super) staked: Vec<Staked>,
    right: u64,
    wrong: u64,
}

impl Hints {
    pub(super) fn new() -> Hints {
        Hints { staked: Vec::with_capacity(limits::STAKED), right: 0, wrong: 0 }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.staked.is_empty()
    }

    /// The region is gone.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        self.staked.retain(|staked| staked.page.region != region);
    }

    /// Whether the home does not know yet who has a copy of `page`, which it takes to be written here.
    pub(super) fn is_at_stake(&self, page: PageAddress) -> bool {
        self.staked.iter().any(|staked| staked.page == page)
    }
}

impl Engine {
    /// How many reads went straight to the owner of a page and were served there, and how many were turned away.
    pub fn hints_used(&self) -> (u64, u64) {
        (self.hints.right, self.hints.wrong)
    }

    /// From now on this node has patience for so many wrong hints in a row in `region`, as [`EngineConfig::hint_patience`] tells of all; nothing
    /// changes where hints are of no use. What it had heard is forgotten when they are turned off.
    ///
    /// [`EngineConfig::hint_patience`]: super::EngineConfig::hint_patience
    pub fn set_hint_patience(&mut self, region: RegionId, patience: u8) {
        self.pages.set_hint_patience(region, patience);
    }

    /// Whether this node has sent its copy of `page` to a reader and its home does not know of that yet.
    pub fn is_at_stake(&self, page: PageAddress) -> bool {
        self.hints.is_at_stake(page)
    }

    /// A message about a read that goes to the owner of a page.
    pub(super) fn hint(
        &mut self,
        from: NodeId,
        (page, request): (PageAddress, RequestId),
        step: Hint,
        out: &mut Actions,
    ) -> Handled {
        let home = self.pages.home(page)?;
        if self.pages.protocol(page) != Protocol::WriteInvalidate {
            return Err(NOT_OF_THIS_PROTOCOL);
        }
        match step {
            Hint::Read => self.hint_read(from, home, (page, request), out),
            Hint::Miss => self.hint_missed(from, page, request, out),
            Hint::Got(is_here) => self.hint_got(from, (page, request), is_here, out),
            Hint::Served { reader, copy } => self.hint_served(from, (page, request), (reader, copy), out),
            Hint::Known if home == Some(from) => self.hint_known(page, request),
            Hint::Known => Err(NOT_ITS_HOME),
        }
    }
}

/// The reader's part.
impl Engine {
    /// Keeps in mind that `owner` is likely to own `page`; or, when that is the home, that there is nothing to gain.
    pub(super) fn note_owner(&mut self, page: PageAddress, owner: NodeId) {
        if !self.pages.keeps_hints(page) {
            return;
        }
        let home = self.pages.home(page).ok().flatten();
        let of_use = home.is_some_and(|home| home != owner && home != self.config.node);
        let owner = Some(owner).filter(|owner| of_use && *owner != self.config.node);
        if self.pages.owner_hint(page) != owner {
            self.pages.set_owner_hint(page, owner);
        }
    }

    /// Whom to ask for `page` instead of its home `asked`, for the call in the slot `first`.
    pub(super) fn hinted_owner(
        &mut self,
        page: PageAddress,
        asked: NodeId,
        access: Access,
        first: Option<u16>,
    ) -> Option<NodeId> {
        if access != Access::Read || asked == self.config.node || !self.pages.keeps_hints(page) {
            return None;
        }
        // Nobody waits for what is fetched ahead, and neighbours are asked of one home by one message.
        let (_, Wait::Page { purpose, .. }) = self.tickets.slot(first?) else { return None };
        if purpose == Purpose::Prefetch {
            return None;
        }
        let live = self.live;
        let owner = self.pages.owner_hint(page).filter(|owner| live.contains(*owner) && *owner != asked)?;
        self.pages.doubt(page).allows().then_some(owner)
    }

    /// The hint was right.
    pub(super) fn hint_held(&mut self, page: PageAddress) {
        self.hints.right += 1;
        self.pages.doubt(page).wrong = 0;
    }

    fn hint_missed(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        out: &mut Actions,
    ) -> Handled {
        let Some((local, pending)) = self.answered(page, request)? else { return Ok(()) };
        if pending.hinted != Some(from) {
            return Err("it was not asked for the page");
        }
        self.hints.wrong += 1;
        let patience = self.pages.hint_patience(page);
        self.pages.doubt(page).was_wrong(patience);
        if self.pages.keeps_hints(page) {
            self.pages.set_owner_hint(page, None);
        }
        let index = local.pending.expect("it waits for an answer") as usize;
        self.coherence.pending[index].hinted = None;
        self.send_request(page, pending.asked, request, pending.access, out);
        Ok(())
    }

    /// Asks the home for what was asked of an owner, whose bytes are not used if they still come.
    pub(super) fn abandon_hint(&mut self, index: usize, out: &mut Actions) {
        let Pending { page, asked, access, request, hinted, .. } = self.coherence.pending[index];
        let Some(owner) = hinted else { return };
        self.send(owner, Message::Hint { page, request, step: Hint::Got(false) }, out);
        let again = self.coherence.fresh_request();
        let pending = &mut self.coherence.pending[index];
        (pending.request, pending.hinted) = (again, None);
        self.send_request(page, asked, again, access, out);
    }

    /// The home wants to be sure that this node has no copy of `page`, and there is none: an owner that has lost this node had sent one. True if so.
    pub(super) fn has_none_to_drop(
        &mut self,
        page: PageAddress,
        pending: Option<u32>,
        out: &mut Actions,
    ) -> bool {
        let hinted = pending.filter(|index| self.coherence.pending[*index as usize].hinted.is_some());
        if let Some(index) = hinted {
            self.abandon_hint(index as usize, out);
        }
        let has_lost = self.live.len() < self.config.nodes as usize;
        self.pages.protocol(page) == Protocol::WriteInvalidate && (hinted.is_some() || has_lost)
    }
}

/// The owner's part.
impl Engine {
    fn hint_read(
        &mut self,
        from: NodeId,
        home: Option<NodeId>,
        (page, request): (PageAddress, RequestId),
        out: &mut Actions,
    ) -> Handled {
        if home == Some(from) || home == Some(self.config.node) {
            return Err("between a home and an owner there is nothing to hint");
        }
        let is_owner = match self.page_state(page) {
            PageState::Modified => true,
            PageState::Shared => self.planted(Planted::HintServesShared),
            PageState::Invalid => false,
        };
        let serves = is_owner
            && home.is_some_and(|home| self.live.contains(home))
            && !self.must_wait(page, Access::Read)
            && !self.hints.is_at_stake(page)
            && self.hints.staked.len() < limits::STAKED;
        if !serves {
            self.send(from, Message::Hint { page, request, step: Hint::Miss }, out);
            return Ok(());
        }
        self.supply(page, from, request, Access::Read, out);
        self.hints.staked.push(Staked { page, reader: from, request, told: false });
        if self.planted(Planted::HintToldEarly) {
            self.tell_served(self.hints.staked.len() - 1, ReaderCopy::Here, out);
        }
        Ok(())
    }

    fn hint_got(
        &mut self,
        from: NodeId,
        (page, request): (PageAddress, RequestId),
        is_here: bool,
        out: &mut Actions,
    ) -> Handled {
        let is_it = |staked: &Staked| (staked.page, staked.reader, staked.request) == (page, from, request);
        let Some(place) = self.hints.staked.iter().position(is_it) else {
            // A reader may ask its home before it hears that it was turned away; and with the home all that was at stake is over.
            let home = self.pages.home(page)?;
            let may_be_late = !is_here || home.is_none_or(|home| !self.live.contains(home));
            return if may_be_late { Ok(()) } else { Err("no copy of the page was sent to it in this way") };
        };
        if self.planted(Planted::HintUntold) {
            self.hints.staked.remove(place);
            return Ok(());
        }
        if self.hints.staked[place].told {
            let early = self.planted(Planted::HintToldEarly);
            return if early { Ok(()) } else { Err("it has said so before") };
        }
        let copy = if is_here { ReaderCopy::Here } else { ReaderCopy::Unused };
        self.tell_served(place, copy, out);
        Ok(())
    }

    /// Tells the home who has been sent a copy.
    fn tell_served(&mut self, place: usize, copy: ReaderCopy, out: &mut Actions) {
        let staked = &mut self.hints.staked[place];
        staked.told = true;
        let Staked { page, reader, request, .. } = *staked;
        let home = self.pages.home(page).ok().flatten().expect("a page at stake has a home");
        self.send(home, Message::Hint { page, request, step: Hint::Served { reader, copy } }, out);
    }

    fn hint_known(&mut self, page: PageAddress, request: RequestId) -> Handled {
        let is_it = |staked: &Staked| staked.page == page && staked.request == request && staked.told;
        let place = self.hints.staked.iter().position(is_it).ok_or("it was not told who has the page")?;
        self.hints.staked.remove(place);
        Ok(())
    }

    /// Whether what the home says of this node's copy is to be forgotten: it does not know yet who has one too, and will say it again when it does.
    pub(super) fn is_asked_too_early(&self, page: PageAddress) -> bool {
        self.hints.is_at_stake(page) && !self.planted(Planted::HintAnswersEarly)
    }
}

/// The home's part.
impl Engine {
    fn hint_served(
        &mut self,
        from: NodeId,
        (page, request): (PageAddress, RequestId),
        (reader, copy): (NodeId, ReaderCopy),
        out: &mut Actions,
    ) -> Handled {
        let own = self.config.node;
        if self.pages.home(page)? != Some(own) {
            return Err(NOT_HOME_HERE);
        }
        if reader == from || reader == own || reader.get() >= self.config.nodes {
            return Err("this node cannot have been sent the page");
        }
        let entry = self.usable_entry(page);
        let running = entry.busy.map(|index| (index, self.coherence.transactions[index as usize]));
        let owned = match entry.state {
            // Who was to get it was lost, and the page counts as lost with it.
            DirectoryState::Lost(_) => None,
            DirectoryState::Modified(owner) | DirectoryState::Shared(owner)
                if owner == from && entry.holders == NodeSet::only(from) =>
            {
                Some(entry)
            }
            _ => return Err("its copy of the page is not known to be the only one"),
        };
        let from_owner =
            |phase| matches!(phase, Phase::Moving { from: at } | Phase::Operating { at } if at == from);
        if owned.is_some() && running.is_some_and(|(_, running)| !from_owner(running.phase)) {
            return Err("the page is under way between others");
        }
        self.send(from, Message::Hint { page, request, step: Hint::Known }, out);
        let Some(entry) = owned else { return Ok(()) };
        let (holders, in_doubt) = self.readers_beside(from, (reader, copy));
        self.pages.set_entry(page, DirectoryEntry { state: DirectoryState::Shared(from), holders, ..entry });
        match running {
            None if in_doubt => self.begin_eviction(reader, page, self.pages.entry(page), out),
            None => {}
            Some((index, _)) if in_doubt => {
                self.coherence.transactions[index as usize].phase =
                    Phase::Invalidating { missing: NodeSet::only(reader) };
                self.send(reader, Message::Invalidate { page }, out);
            }
            Some(_) if self.planted(Planted::HintForgetsWaiting) => {}
            Some((index, running)) => self.resume(index, running.request, page, out),
        }
        Ok(())
    }

    /// Who shares the page, and whether the reader has to drop a copy that it may have.
    fn readers_beside(&self, owner: NodeId, (reader, copy): (NodeId, ReaderCopy)) -> (NodeSet, bool) {
        let alone = NodeSet::only(owner);
        let is_counted = copy != ReaderCopy::Unused && self.live.contains(reader);
        if !is_counted || self.planted(Planted::HintForgetsReader) {
            return (alone, false);
        }
        (alone.with(reader), copy == ReaderCopy::Unheard)
    }
}

impl Engine {
    /// Reads that went to the lost node, and what this node has sent to it or was to tell it.
    pub(super) fn mend_hints(&mut self, lost: NodeId, out: &mut Actions) {
        let to_lost = |(index, pending): (usize, &Pending)| (pending.hinted == Some(lost)).then_some(index);
        while let Some(index) = self.coherence.pending.iter().find_map(to_lost) {
            self.abandon_hint(index, out);
        }
        let mut place = 0;
        while let Some(staked) = self.hints.staked.get(place).copied() {
            if self.pages.home(staked.page) == Ok(Some(lost)) {
                self.hints.staked.remove(place);
                continue;
            }
            if staked.reader == lost && !staked.told && !self.planted(Planted::HintForgetsLoss) {
                self.tell_served(place, ReaderCopy::Unheard, out);
            }
            place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_are_wrong_again_and_again_pause() {
        let mut doubt = Doubt::default();
        for _ in 0..3 {
            assert!(doubt.allows());
            doubt.was_wrong(3);
        }
        let skipped = (0..1000).take_while(|_| !doubt.allows()).count();
        assert_eq!(skipped, limits::HINTS_PAUSED as usize);
        doubt.was_wrong(3);
        assert!(!doubt.allows(), "one wrong hint after a pause begins the next");
    }

    #[test]
    fn endless_patience_never_pauses() {
        let mut doubt = Doubt::default();
        for _ in 0..1000 {
            doubt.was_wrong(u8::MAX);
            assert!(doubt.allows());
        }
    }
}

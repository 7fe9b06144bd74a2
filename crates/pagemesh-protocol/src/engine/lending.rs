//! Lending: the bytes of a page of a release region follow the node that alone writes it.
//!
//! A page that one node writes interval after interval, and whose home is another node, costs a twin and a diff each time. So
//! after some diffs of one node and none of others ([`limits::LEND_AFTER`]) the home *lends* it the page. The writer is from then on the
//! page's *owner*: it writes in place, sends no diffs, and answers for the page. The home stays where everyone asks, and passes
//! readers on to the owner; that is one hop more for them, and none of them has to be told anything. It *calls* the page *in* when
//! it is no longer one node's: when another node sends a diff, or asks for it to write it, or when the home itself wants it. Then the bytes come
//! back, and the page has to be written by one node alone for twice as long before it is lent again.
//!
//! | at the home | event | what happens | then |
//! |---|---|---|---|
//! | at home | the third diff in a row of one node | Lend + page to the node | offered |
//! | offered | LendReply(no) | | at home |
//! | offered | LendReply(yes) | | lent |
//! | offered, called in | a request | it waits | the same |
//! | lent | a request to read, of a third node | Fetch(Read) to the owner, which sends Data to the requester | lent |
//! | lent | any other request; a diff of a third node | CallIn to the owner | called in |
//! | lent, called in | Return + page | | at home |
//! | lent, called in | the owner is lost | the page is lost | |
//!
//! What makes it right:
//!
//! * The page comes with the offer, and the writer takes over what others changed. It declines when a diff of its own is still on its way,
//!   which it can tell by the interval that the offer names, and when it has no copy.
//! * Diffs of others always go to the home, which writes them into its own bytes and marks where. When the owner's bytes come back they
//!   are filled in around the marks: what others wrote was written at the same time (then these are other bytes, in a program
//!   without data races) or after the owner's (who wrote it had the page from the owner). It was not written before: when the owner hears that
//!   others wrote the page, it drops its own access, and gives the page back before it asks for it.
//! * Whoever asks is answered when the home has all diffs that it needs, as always; those of the owner need not come, since the owner answers.
//!   With the page the owner says up to which interval all its diffs have been sent, so that nobody waits for diffs that never come.
//! * The owner's notices are those of any writer. It keeps to itself what a home does: a page that nobody has had from it since its
//!   last notice stays writable, and is not told.
//!
//! The home must not be a reader of the page, or each diff that it is spared would be a fetch. It finds out by dropping its own access
//! first, and lends the page only when it has not come to use it by the next diff.

use super::coherence::{NOT_HOME_HERE, Request};
use super::pages::{DirectoryState, LocalPage};
use super::planted::Planted;
use super::release::{NO_SUCH_INTERVAL, NOT_RELEASE, Waiting};
use super::{Engine, Handled};
use crate::action::{Action, Actions};
use crate::ids::{Access, NodeId, PageAddress, PageState, RegionId, RequestId};
use crate::limits;
use crate::message::Message;
use std::collections::BTreeMap;

/// How far the home is with a page that is not at home, or may not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Stage {
    /// The node has not said whether it takes it.
    Offered,
    /// The node is its owner.
    Lent,
    /// It was told to give it back.
    CalledIn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Loan {
    to: NodeId,
    stage: Stage,
    /// Others have written the page meanwhile: their bytes are marked, and the page is to come back.
    marked: bool,
}

/// Who has written a page lately, as its home sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Habit {
    writer: Option<NodeId>,
    /// Diffs of this writer since anybody else wrote.
    diffs: u32,
    /// How often the page was called in, or used at home when it was about to be lent.
    doublings: u32,
}

impl Habit {
    fn pack(self) -> u32 {
        let writer = self.writer.map_or(0, |writer| writer.get() as u32 + 1);
        writer | self.diffs.min(0xff) << 16 | self.doublings << 24
    }

    fn unpack(word: u32) -> Habit {
        let writer = (word as u16).checked_sub(1).map(NodeId::new);
        Habit { writer, diffs: word >> 16 & 0xff, doublings: word >> 24 }
    }

    /// One node alone no longer writes the page.
    fn broken(self) -> Habit {
        Habit { writer: None, diffs: 0, doublings: (self.doublings + 1).min(limits::LEND_DOUBLINGS) }
    }
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lending {
    /// Pages of this home that are not at home, or may not be.
    lent: BTreeMap<PageAddress, Loan>,
    /// How many of these are only offered.
    offers: usize,
    /// Requests that were passed on to owners, and have not been said to be over.
    passed: Vec<Waiting>,
    /// Pages of other homes of which this node is the owner; true when nobody has had the page from here since the last notice.
    owned: BTreeMap<PageAddress, bool>,
    /// Pages that this node has given back after it had written them in the interval under way: the notice is still to come.
    pub(super) owed: Vec<PageAddress>,
}

impl Lending {
    pub(super) fn is_quiet(&self) -> bool {
        self.passed.is_empty() && self.lent.values().all(|loan| loan.stage == Stage::Lent)
    }

    /// The region is gone. Returns the requests for it that owners were to answer.
    pub(super) fn forget_region(&mut self, region: RegionId) -> Vec<Waiting> {
        let of = |page: PageAddress| page.region == region;
        self.lent.retain(|page, _| !of(*page));
        self.offers = self.lent.values().filter(|loan| loan.stage == Stage::Offered).count();
        self.owned.retain(|page, _| !of(*page));
        self.owed.retain(|page| !of(*page));
        let (over, rest) = std::mem::take(&mut self.passed).into_iter().partition(|passed| of(passed.page));
        self.passed = rest;
        over
    }

    /// Whether this node keeps the page for another home.
    pub(super) fn owns(&self, page: PageAddress) -> bool {
        self.owned.contains_key(&page)
    }

    /// Whether it does, and nobody has had the page since the last notice.
    pub(super) fn owns_alone(&self, page: PageAddress) -> bool {
        self.owned.get(&page) == Some(&true)
    }

    /// A notice goes out for the page.
    pub(super) fn noticed(&mut self, page: PageAddress) {
        if let Some(alone) = self.owned.get_mut(&page) {
            *alone = true;
        }
    }

    /// Whether a page of this home is not at home, or may not be.
    pub(super) fn is_away(&self, page: PageAddress) -> bool {
        self.lent.contains_key(&page)
    }

    /// The owner of a page of this home.
    pub(super) fn owner(&self, page: PageAddress) -> Option<NodeId> {
        self.lent.get(&page).filter(|loan| loan.stage != Stage::Offered).map(|loan| loan.to)
    }
}

/// What becomes of a request for a page that may not be at home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passage {
    /// The page is at home.
    AtHome,
    /// The owner will answer it.
    Passed,
    /// It waits for the page.
    Waits,
}

/// The home's part.
impl Engine {
    /// A diff of `from` has come for a page of this home that is at home.
    pub(super) fn note_writer(&mut self, page: PageAddress, from: NodeId, interval: u64, out: &mut Actions) {
        let after = self.config.lend_after;
        if after == 0 {
            return;
        }
        let mut habit = Habit::unpack(self.pages.habit(page));
        if habit.writer != Some(from) {
            habit = Habit { writer: Some(from), diffs: 0, ..habit };
        }
        habit.diffs += 1;
        if habit.diffs >= after << habit.doublings {
            let local = self.pages.local(page).expect("checked by the caller");
            match local.state {
                PageState::Invalid if self.may_lend(page, local) => {
                    self.release.lending.offers += 1;
                    let loan = Loan { to: from, stage: Stage::Offered, marked: false };
                    self.release.lending.lent.insert(page, loan);
                    self.send_page(from, Message::Lend { page, interval }, page, out);
                }
                PageState::Invalid => {}
                PageState::Shared if !self.is_in_use(page) && !self.pins.block(page, Access::Write) => {
                    out.push(Action::Unmap(page));
                    self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
                    if self.is_tracked(page) {
                        self.flush(page, out);
                    }
                    // One diff more, in which the home could come to use it.
                    habit.diffs -= 1;
                }
                _ => habit.diffs = 0,
            }
        }
        self.pages.set_habit(page, habit.pack());
    }

    fn may_lend(&self, page: PageAddress, local: LocalPage) -> bool {
        let lending = &self.release.lending;
        let wanted = lending.lent.contains_key(&page)
            || local.pending.is_some()
            || self.pages.entry(page).busy.is_some()
            || self.release.waiting.iter().any(|waiting| waiting.page == page);
        !wanted && lending.offers < limits::OFFERS && lending.lent.len() < limits::LENT
    }

    /// The home itself uses a page: it is not written by one other node alone, or not only written.
    pub(super) fn note_own_use(&mut self, page: PageAddress) {
        let habit = Habit::unpack(self.pages.habit(page));
        if habit.writer.is_some() {
            self.pages.set_habit(page, habit.broken().pack());
        }
    }

    /// Where a request is answered for which all diffs have come.
    pub(super) fn pass_on(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> Passage {
        let Some(loan) = self.release.lending.lent.get(&page).copied() else { return Passage::AtHome };
        let Request { node: requester, id: request, access, .. } = asked;
        let third = requester != self.config.node && requester != loan.to;
        match loan.stage {
            Stage::Lent if third && access == Access::Read => {
                self.pass_on_follower(page, requester, loan.to, out);
                self.send(loan.to, Message::Fetch { page, request, access, requester }, out);
                self.release.lending.passed.push(Waiting { page, request: asked });
                Passage::Passed
            }
            Stage::Lent => {
                self.call_in(page, out);
                Passage::Waits
            }
            Stage::Offered | Stage::CalledIn => Passage::Waits,
        }
    }

    fn call_in(&mut self, page: PageAddress, out: &mut Actions) {
        let Some(loan) = self.release.lending.lent.get_mut(&page) else { return };
        if loan.stage == Stage::Lent {
            loan.stage = Stage::CalledIn;
            let to = loan.to;
            self.send(to, Message::CallIn { page }, out);
            self.note_own_use(page);
        }
    }

    /// A diff of `from` for a page of this home. True when the page is lent to another, and that was seen to.
    pub(super) fn diff_of_lent(
        &mut self,
        from: NodeId,
        page: PageAddress,
        out: &mut Actions,
    ) -> Result<bool, &'static str> {
        let Some(loan) = self.release.lending.lent.get_mut(&page) else { return Ok(false) };
        if loan.to == from {
            // The offer will be declined: it has crossed this diff.
            return if loan.stage == Stage::Offered {
                Ok(false)
            } else {
                Err("its owner has nothing to tell")
            };
        }
        loan.marked = true;
        out.push(Action::ApplyMarked(page));
        self.call_in(page, out);
        Ok(true)
    }

    pub(super) fn lend_answered(
        &mut self,
        from: NodeId,
        page: PageAddress,
        taken: bool,
        out: &mut Actions,
    ) -> Handled {
        let offered = |loan: &&mut Loan| loan.to == from && loan.stage == Stage::Offered;
        let loan = self.release.lending.lent.get_mut(&page).filter(offered);
        let loan = loan.ok_or("the page was not offered to it")?;
        let marked = loan.marked;
        loan.stage = Stage::Lent;
        self.release.lending.offers -= 1;
        if taken {
            self.release.updates.forget_reader(page, from);
            let entry = self.pages.entry(page);
            let (state, holders) = (DirectoryState::Modified(from), entry.holders.with(from));
            self.pages.set_entry(page, super::DirectoryEntry { state, holders, ..entry });
            if marked {
                self.call_in(page, out);
            }
        } else {
            self.release.lending.lent.remove(&page);
            if marked {
                out.push(Action::DropTwin(page));
            }
        }
        self.serve_waiting(out);
        Ok(())
    }

    pub(super) fn returned(
        &mut self,
        from: NodeId,
        page: PageAddress,
        interval: u64,
        out: &mut Actions,
    ) -> Handled {
        if interval >= limits::INTERVALS {
            return Err(NO_SUCH_INTERVAL);
        }
        let lent = |loan: &&Loan| loan.to == from && loan.stage != Stage::Offered;
        self.release.lending.lent.get(&page).filter(lent).ok_or("the page was not lent to it")?;
        self.release.lending.lent.remove(&page);
        out.push(Action::FillAround(page));
        self.touch(page);
        let flushed = &mut self.release.flushed[from.index()];
        *flushed = interval.max(*flushed);
        // The owner may have had them, or may not.
        self.wait_again(|waiting| waiting.page == page);
        self.serve_waiting(out);
        Ok(())
    }

    fn wait_again(&mut self, which: impl Fn(&Waiting) -> bool) {
        let passed = std::mem::take(&mut self.release.lending.passed);
        let (again, rest) = passed.into_iter().partition(which);
        self.release.lending.passed = rest;
        let mut again: Vec<Waiting> = again;
        for waiting in &again {
            self.release.await_diffs(*waiting);
        }
        self.release.waiting.append(&mut again);
    }

    /// The requester has what the owner sent it.
    pub(super) fn passed_is_over(&mut self, from: NodeId, page: PageAddress, request: RequestId) {
        let passed = &mut self.release.lending.passed;
        let over = |waiting: &Waiting| {
            waiting.page == page && waiting.request.node == from && waiting.request.id == request
        };
        if let Some(place) = passed.iter().position(over) {
            passed.swap_remove(place);
            self.coherence.open[from.index()] -= 1;
        }
    }

    /// What was lent to a lost node is lost with it; what was offered is not.
    pub(super) fn mend_loans(&mut self, lost: NodeId, out: &mut Actions) {
        let over: Vec<(PageAddress, Loan)> = self
            .release
            .lending
            .lent
            .iter()
            .filter(|(_, loan)| loan.to == lost)
            .map(|(p, l)| (*p, *l))
            .collect();
        for (page, loan) in over {
            self.release.lending.lent.remove(&page);
            if loan.marked {
                out.push(Action::DropTwin(page));
            }
            if loan.stage == Stage::Offered {
                self.release.lending.offers -= 1;
            } else {
                let entry = self.pages.entry(page);
                let entry = super::DirectoryEntry { state: DirectoryState::Lost(lost), ..entry };
                self.pages.set_entry(page, entry);
                self.wait_again(|waiting| waiting.page == page);
            }
        }
        self.wait_again(|waiting| waiting.request.node == lost);
    }
}

/// The owner's part.
impl Engine {
    pub(super) fn lend(
        &mut self,
        from: NodeId,
        page: PageAddress,
        interval: u64,
        out: &mut Actions,
    ) -> Handled {
        self.check_home_says(page, from)?;
        if !self.is_release(page) {
            return Err(NOT_RELEASE);
        }
        if self.release.lending.owns(page) {
            return Err("the page is kept here already");
        }
        let local = self.pages.local(page).expect("its home is known");
        let taken = self.config.lend_after > 0
            && local.state != PageState::Invalid
            && self.release.lending.owned.len() < limits::OWNED
            && self.release.notices.written_here(page) == Some(interval);
        if taken {
            self.release.lending.owned.insert(page, false);
            self.release.updates.forget_followed(page);
            out.push(Action::Adopt(page));
        }
        self.send(from, Message::LendReply { page, taken }, out);
        Ok(())
    }

    pub(super) fn called_in(&mut self, from: NodeId, page: PageAddress, out: &mut Actions) -> Handled {
        self.check_home_says(page, from)?;
        if !self.is_release(page) {
            return Err(NOT_RELEASE);
        }
        if self.release.lending.owns(page) {
            self.give_back(page, out);
        }
        Ok(())
    }

    /// The home has passed on the request of a reader. It is answered by the home if the page has gone back meanwhile.
    pub(super) fn fetch_from_owner(
        &mut self,
        page: PageAddress,
        request: RequestId,
        requester: NodeId,
        out: &mut Actions,
    ) {
        if !self.release.lending.owns(page) {
            return;
        }
        self.note_copy_of_owned(page, out);
        self.send_page(requester, Message::Data { page, request, access: Access::Read }, page, out);
    }

    /// Somebody is about to get a copy of a page that is kept here. What was written without being kept in mind goes with it; what is
    /// written from now on must be told.
    pub(super) fn note_copy_of_owned(&mut self, page: PageAddress, out: &mut Actions) {
        let local = self.pages.local(page).expect("it is kept here");
        if local.state == PageState::Modified && self.release.lending.owns_alone(page) {
            if self.is_in_use(page) || self.release.is_dirty(page) {
                self.release.note_dirty(page);
            } else if self.is_written_on(page) {
                self.keep_shadow(page, out);
                self.release.note_dirty(page);
            } else {
                out.push(Action::Protect(page));
                self.pages.set_local(page, LocalPage { state: PageState::Shared, ..local });
            }
        }
        self.release.lending.owned.insert(page, false);
    }

    /// This node keeps `page` no longer: its bytes go home. A copy that is here stays, as one among others.
    pub(super) fn give_back(&mut self, page: PageAddress, out: &mut Actions) {
        let told = self.release.lending.owned.remove(&page) == Some(true);
        self.release.updates.forget_readers(page);
        let local = self.pages.local(page).expect("it was kept here");
        if self.is_written_on(page) {
            // The kernel may be writing: what it writes from now on is in the next diff. What it has written goes home, and is still to be told.
            self.drop_shadow(page, out);
            out.push(Action::TwinWhileWritten(page));
            self.release.note_dirty(page);
            if !told {
                self.release.lending.owed.push(page);
            }
        } else {
            if local.state == PageState::Modified {
                out.push(Action::Protect(page));
                self.pages.set_local(page, LocalPage { state: PageState::Shared, ..local });
            }
            let tracked = self.is_tracked(page) && local.state != PageState::Invalid;
            if tracked && !self.planted(Planted::ReturnWithoutTwin) {
                // Threads can write the copy that stays without a word.
                out.push(Action::TwinWhileWritten(page));
            }
            // What was written without a word since the last look goes home with the page; it may never be found by another.
            let unsaid = tracked && local.state == PageState::Shared;
            if self.release.forget_dirty(page) || unsaid {
                self.release.lending.owed.push(page);
            }
        }
        let home = self.pages.home(page).ok().flatten().expect("a page that is kept has a home");
        let interval = self.release.notices.known(self.config.node);
        self.send_page(home, Message::Return { page, interval }, page, out);
    }

    pub(super) fn check_is_home(&self, page: PageAddress) -> Handled {
        if self.pages.home(page)? != Some(self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        if self.is_release(page) { Ok(()) } else { Err(NOT_RELEASE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_survive_packing() {
        for writer in [None, Some(NodeId::new(0)), Some(NodeId::new(1023))] {
            for (diffs, doublings) in [(0, 0), (3, 0), (96, limits::LEND_DOUBLINGS)] {
                let habit = Habit { writer, diffs, doublings };
                assert_eq!(Habit::unpack(habit.pack()), habit);
            }
        }
    }
}

//! The release protocol: home-based lazy release consistency with many writers a page (Zhou, Iftode and Li 1996; the notices
//! are those of Keleher, Cox and Zwaenepoel 1992).
//!
//! Between two synchronisations a node reads and writes its copies without a word to anyone. Before its first write to a
//! copy it keeps a *twin*. A release (giving a lock back, arriving at a barrier) ends an *interval*: what differs from the
//! twins goes as *diffs* to the pages' homes, and the list of the pages written becomes a write notice. An acquire (getting a
//! lock, leaving a barrier) comes with the notices of all that happened before it, and drops the copies of pages that others
//! wrote. The home has no twin and is sent nothing of its own: it writes in place. A page of which no other node has a copy stays
//! writable at its home over releases, without a notice, until another node asks for it. A program without data races can not tell
//! the difference from sequential consistency.
//!
//! The holder's part (`docs/protocol.md` has the same table, and a test holds both against the engine). A page of the home
//! itself is in the same states, without twin, Fill and Diff:
//!
//! | state | event | actions | next state |
//! |---|---|---|---|
//! | INVALID | read fault | PageRequest(Read) to home | INVALID |
//! | INVALID | write fault | PageRequest(Write) to home | INVALID |
//! | SHARED | read fault | MapRead, Complete | SHARED |
//! | SHARED | write fault | MakeTwin, Unprotect, Complete | MODIFIED |
//! | MODIFIED | read fault | MapWrite, Complete | MODIFIED |
//! | MODIFIED | write fault | MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Read) from home | Fill, MapRead, Complete | SHARED |
//! | INVALID | Data(Write) from home | Fill, MakeTwin, MapWrite, Complete | MODIFIED |
//! | INVALID | Grant(Read, zero) | FillZero, MapRead, Complete | SHARED |
//! | INVALID | Grant(Write, zero) | FillZero, MakeTwin, MapWrite, Complete | MODIFIED |
//! | INVALID | Deny | Complete(PageLost) | INVALID |
//! | MODIFIED | release | Protect, Diff to home | SHARED |
//! | SHARED | acquire with a notice | Unmap | INVALID |
//! | MODIFIED | acquire with a notice | Protect, Diff to home, Unmap | INVALID |
//! | SHARED | evict | Unmap | INVALID |
//! | MODIFIED | evict | Protect, Diff to home, Unmap | INVALID |
//!
//! The home answers at once, from its service view, whoever writes what meanwhile; except that a request waits until the
//! diffs have come that the requester's time demands:
//!
//! | directory | request | what happens | messages |
//! |---|---|---|---|
//! | untouched | any | zero grant | 2 |
//! | touched | any | the home sends it | 2 |
//! | touched, a diff is on its way | any | the home sends it when the diff has come | 2 |
//! | touched, a diff went with a lost node | any | denied | 2 |
//!
//! What the requester's time demands is known twice: from the notices that the requester has, which it says in a Need each, and
//! from those that the home itself has when the request comes. Only the latter counts for notices that everyone knows, which requesters have forgotten.
//!
//! A page that a reader fetches after every notice is sent to it unasked, and stays: that is told in `updates.rs`.
//!
//! A page that one node alone writes is lent to it, which is told in `lending.rs`: this node then writes in place too, though it is not the home.
//!
//! The order of messages on one link is relied on in four places: a node's diffs come to a home before what it asks of that
//! home next; notices come before the grant or the release that they belong to; a Need comes before its request; and the page
//! that a home sends has all that the home said before that it wrote there.

use super::coherence::Request;
use super::foresight::Foresight;
use super::gone::Forgotten;
use super::lending::{Lending, Passage};
use super::notices::{Notices, Tale};
use super::pages::{DirectoryEntry, DirectoryState, LocalPage};
use super::planted::{Planted, swap_twin};
use super::sorted::SortedMap;
use super::updates::Updates;
use super::{Engine, EngineConfig, Handled};
use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RegionId, RequestId};
use crate::limits;
use crate::message::Message;
use crate::placement::Protocol;

pub(super) const NOT_RELEASE: &str = "the page's protocol knows no intervals";
pub(super) const NO_SUCH_INTERVAL: &str = "it speaks of an interval that cannot be";

/// Room from the start, for what is added where nobody should allocate: in a fault, and where a fault of another node is served. More is
/// rarely needed.
const DIRTY: usize = 4 * limits::TWINS;
const WAITING: usize = 256;

/// What a requester's time demands of a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Need {
    from: NodeId,
    request: RequestId,
    writer: NodeId,
    interval: u64,
}

/// A request that waits until diffs have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Waiting {
    pub(super) page: PageAddress,
    pub(super) request: Request,
}

/// What this home knew, when a request came, of diffs that had not come. Of those that it hears of later the requester need not know; to wait
/// for them too could take for ever, where a node releases again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Awaited {
    by: Waiting,
    writer: NodeId,
    interval: u64,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// It is answered.
    Given,
    /// The page's owner answers it.
    Passed,
    /// Not yet.
    Waits,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Release {
    pub(super) notices: Notices,
    /// Pages that this node wrote in the interval that is under way; some may stand here twice.
    dirty: Vec<PageAddress>,
    /// Room for those of the next interval.
    spare: Vec<PageAddress>,
    /// How many of them have a twin; those of other homes that this node keeps count too, since they need one when they go back.
    twins: usize,
    /// How many of these were pinned when the last interval ended, and kept theirs: to end another would not bring them back.
    kept: usize,
    /// Of each writer, the interval whose diffs for pages of this home have all come.
    pub(super) flushed: Vec<u64>,
    /// What requests said that they need: of those that wait, and of those that come next on their links.
    needs: Vec<Need>,
    pub(super) waiting: Vec<Waiting>,
    awaited: Vec<Awaited>,
    pub(super) lending: Lending,
    pub(super) foresight: Foresight,
    pub(super) updates: Updates,
    pub(super) tales: Vec<Tale>,
    /// The caller has looked for written pages before the event that is under way.
    pub(super) looked: bool,
    /// Pages that are pinned for writing and were found to be as their twins are, before the event that is under way; in order.
    pub(super) unwritten: Vec<PageAddress>,
    /// Pages that are written in place and pinned for writing, and have a twin that is what others have who have copies.
    pub(super) shadows: SortedMap<PageAddress, ()>,
}

impl Release {
    pub(super) fn new(config: EngineConfig) -> Release {
        Release {
            notices: Notices::new(config.node, config.nodes),
            dirty: Vec::with_capacity(DIRTY),
            spare: Vec::with_capacity(DIRTY),
            twins: 0,
            kept: 0,
            flushed: vec![0; config.nodes as usize],
            needs: Vec::with_capacity(WAITING),
            waiting: Vec::with_capacity(WAITING),
            awaited: Vec::with_capacity(WAITING),
            lending: Lending::default(),
            foresight: Foresight::default(),
            updates: Updates::new(config.updates),
            tales: Vec::new(),
            looked: false,
            unwritten: Vec::with_capacity(config.pins),
            shadows: SortedMap::with_capacity(config.pins),
        }
    }

    /// What was found before an event holds for that event alone.
    pub(super) fn forget_look(&mut self) {
        self.looked = false;
        self.unwritten.clear();
    }

    /// Page requests that wait for diffs.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes requests for `page` that `unwanted` picks out of those that wait; returns how many.
    pub(super) fn withdraw(&mut self, page: PageAddress, unwanted: impl Fn(&Request) -> bool) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.page != page || !unwanted(&waiting.request));
        self.tidy_awaited();
        before - self.waiting.len()
    }

    /// `by` is to wait for all diffs for its page that this home knows to come.
    pub(super) fn await_diffs(&mut self, by: Waiting) {
        let Release { notices, flushed, awaited, .. } = self;
        let missing =
            notices.writers_of(by.page).filter(|(writer, interval)| flushed[writer.index()] < *interval);
        awaited.extend(missing.map(|(writer, interval)| Awaited { by, writer, interval }));
    }

    /// Nobody waits any more for some of what was awaited.
    fn tidy_awaited(&mut self) {
        let Release { waiting, awaited, .. } = self;
        awaited.retain(|awaited| waiting.contains(&awaited.by));
    }

    /// The region is gone. Returns the requests of this home that were for it.
    pub(super) fn forget_region(&mut self, region: RegionId) -> Vec<Forgotten> {
        let of = |page: PageAddress| page.region == region;
        self.notices.forget_region(region);
        self.updates.forget_region(region);
        self.dirty.retain(|page| !of(*page));
        self.shadows.retain(|page, ()| !of(page));
        let mut over = self.lending.forget_region(region);
        over.extend(self.waiting.iter().filter(|waiting| of(waiting.page)).copied());
        self.waiting.retain(|waiting| !of(waiting.page));
        self.tidy_awaited();
        over.into_iter().map(|Waiting { request, .. }| (request.node, request.id)).collect()
    }

    /// What was said that a request needs is of no use any more.
    pub(super) fn forget_needs(&mut self, from: NodeId, request: RequestId) {
        self.needs.retain(|need| (need.from, need.request) != (from, request));
    }

    /// Counts anew how many of the pages that are written have twins: all whose home is another.
    pub(super) fn count_twins(&mut self, is_home: impl Fn(PageAddress) -> bool) {
        self.twins = self.dirty.iter().filter(|page| !is_home(**page)).count();
        self.kept = self.kept.min(self.twins);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.needs.is_empty() && self.waiting.is_empty() && self.lending.is_quiet()
    }

    /// A page that others keep no twin for here was written, or is about to be.
    pub(super) fn note_dirty(&mut self, page: PageAddress) {
        if !self.dirty.contains(&page) {
            self.dirty.push(page);
            self.twins += 1;
        }
    }

    /// Whether a notice of the page goes out when the interval ends.
    pub(super) fn is_dirty(&self, page: PageAddress) -> bool {
        self.dirty.contains(&page)
    }

    /// Forgets that a page of another home was written; false when it was not.
    pub(super) fn forget_dirty(&mut self, page: PageAddress) -> bool {
        let before = self.dirty.len();
        self.dirty.retain(|dirty| *dirty != page);
        let gone = before - self.dirty.len();
        self.twins -= gone;
        gone > 0
    }
}

/// The holder's part.
impl Engine {
    pub(super) fn is_release(&self, page: PageAddress) -> bool {
        self.pages.protocol(page) == Protocol::Release
    }

    /// Whether what this node writes to the page is in its place at once, so that it has no twin and needs no diff.
    pub(super) fn writes_in_place(&self, page: PageAddress) -> bool {
        self.is_home_of(page) || self.release.lending.owns(page)
    }

    pub(super) fn is_home_of(&self, page: PageAddress) -> bool {
        self.pages.home(page) == Ok(Some(self.config.node))
    }

    /// Makes a copy that can be read writable.
    ///
    /// # Errors
    /// When its home is lost, which could not be told what is written.
    pub(super) fn begin_writing(&mut self, page: PageAddress, out: &mut Actions) -> Result<(), Failure> {
        let home = self.pages.home(page).ok().flatten().expect("a page that is held has a home");
        if !self.live.contains(home) {
            return Err(Failure::PeerLost(home));
        }
        self.foresee_writing(page);
        let has_twin = self.is_tracked(page);
        self.mark_dirty(page, !has_twin, out);
        out.push(Action::Unprotect(page));
        if self.planted(Planted::TwinAfterWriting) {
            swap_twin(out);
        }
        let local = self.pages.local(page).expect("checked by the caller");
        self.pages.set_local(page, LocalPage { state: PageState::Modified, ..local });
        Ok(())
    }

    /// Keeps in mind that `page`, which is here and which nobody can write yet, will be written. It may want a twin.
    fn mark_dirty(&mut self, page: PageAddress, wants_twin: bool, out: &mut Actions) {
        if self.writes_in_place(page) {
            self.foresee_writing_in_place(page);
        }
        if self.is_home_of(page) {
            self.touch(page);
            self.note_own_use(page);
        } else {
            if self.release.twins >= self.release.kept + limits::TWINS {
                self.end_interval(out);
            }
            self.release.twins += 1;
            if wants_twin && !self.release.lending.owns(page) {
                out.push(Action::MakeTwin(page));
            }
        }
        self.release.dirty.push(page);
    }

    /// `page` was found written, of which that was not known.
    pub(super) fn note_written(&mut self, page: PageAddress) {
        if self.writes_in_place(page) {
            self.foresee_writing_in_place(page);
        }
        if self.is_home_of(page) {
            self.note_own_use(page);
        } else {
            self.release.twins += 1;
        }
        self.release.dirty.push(page);
    }

    /// Lets the application use a copy that has just come.
    pub(super) fn install_release(&mut self, page: PageAddress, access: Access, out: &mut Actions) {
        match access {
            Access::Read => {
                if self.is_tracked(page) && self.is_home_of(page) {
                    // It may be written from now on, and no longer be zero.
                    self.touch(page);
                } else if self.is_tracked(page) && !self.writes_in_place(page) {
                    out.push(Action::MakeTwin(page));
                }
                out.push(Action::MapRead(page));
            }
            Access::Write => {
                self.mark_dirty(page, true, out);
                out.push(Action::MapWrite(page));
            }
        }
        if self.planted(Planted::TwinAfterWriting) {
            swap_twin(out);
        }
    }

    /// Says before a request what the home must have to answer it.
    pub(super) fn send_needs(
        &mut self,
        page: PageAddress,
        home: NodeId,
        request: RequestId,
        out: &mut Actions,
    ) {
        let own = self.config.node;
        if home == own {
            return;
        }
        // What the home wrote is in place there, and this node's own diffs come before the request.
        let others =
            (0..self.config.nodes).map(NodeId::new).filter(|writer| *writer != own && *writer != home);
        for writer in others {
            if let Some(interval) = self.release.notices.interval_of(writer, page) {
                self.send(home, Message::Need { page, request, writer, interval }, out);
            }
        }
    }

    /// What this node is known to have written since the last interval goes to the homes, and becomes a notice. A release also knows of all
    /// that it has written: `release_interval`.
    pub(super) fn end_interval(&mut self, out: &mut Actions) {
        self.end_interval_and(None, out);
    }

    /// As `release_interval`, at a barrier, which this node opens when all have come, or does not: another interval follows, which is as long.
    pub(super) fn end_round(&mut self, opens: bool, out: &mut Actions) {
        self.check_looked();
        self.end_interval_and(Some(opens), out);
    }

    fn end_interval_and(&mut self, round: Option<bool>, out: &mut Actions) {
        if self.release.dirty.is_empty() && self.release.lending.owed.is_empty() {
            return;
        }
        let spare = std::mem::take(&mut self.release.spare);
        let mut pages = std::mem::replace(&mut self.release.dirty, spare);
        self.release.twins = 0;
        pages.sort_unstable();
        pages.dedup();
        pages.retain(|page| !self.is_alone_with(*page) && !self.pass_over(*page));
        self.release.kept = self.release.twins;
        let mut owed = std::mem::take(&mut self.release.lending.owed);
        if pages.is_empty() && owed.is_empty() {
            self.release.spare = pages;
            return;
        }
        owed.sort_unstable();
        owed.retain(|page| pages.binary_search(page).is_err());
        let mut told = [&pages[..], &owed].concat();
        told.sort_unstable();
        told.dedup();
        let unsaid = usize::from(self.planted(Planted::MissNotice)).min(told.len());
        let interval = self.release.notices.close(&told[..told.len() - unsaid]);
        for page in &pages {
            self.forget_copies(*page);
            self.drop_shadow(*page, out);
            let local = self.pages.local(*page).expect("a page that was written is mapped");
            let in_place = self.writes_in_place(*page);
            let stays = round.is_some() && local.state == PageState::Modified && in_place;
            if self.is_written_on(*page) && in_place {
                // It counts as written again when somebody gets a copy.
            } else if self.is_written_on(*page) {
                self.keep_dirty(*page);
                self.release.unwritten.push(*page);
            } else if stays && self.stays_writable(*page) {
                self.keep_dirty(*page);
            } else if local.state == PageState::Modified {
                out.push(Action::Protect(*page));
                self.pages.set_local(*page, LocalPage { state: PageState::Shared, ..local });
            }
        }
        self.release.kept = self.release.twins;
        // What has just been told need not be told again in this event.
        self.release.unwritten.sort_unstable();
        self.send_updates(&told, interval, round.unwrap_or(false), out);
        pages.clear();
        self.release.spare = pages;
        self.send_diffs(&mut told, &owed, interval, out);
    }

    /// Whether a release passes over `page`, which counts as written in the next interval too.
    fn pass_over(&mut self, page: PageAddress) -> bool {
        let passes = self.is_unwritten(page);
        if passes {
            self.keep_dirty(page);
        }
        passes
    }

    /// `page`, which was written in the interval that ends, counts as written in the next.
    fn keep_dirty(&mut self, page: PageAddress) {
        self.release.dirty.push(page);
        self.release.twins += usize::from(!self.is_home_of(page));
    }

    /// Whether the kernel may be writing `page` for a system call, so that it stays as it is over a release.
    pub(super) fn is_written_on(&self, page: PageAddress) -> bool {
        self.page_state(page) == PageState::Modified && self.pins.block(page, Access::Read)
    }

    /// Whether this node is the home, or the owner, of a page of which nobody else has a copy, but for such as will be dropped because of
    /// a notice that is out already.
    pub(super) fn is_alone_with(&self, page: PageAddress) -> bool {
        let own = NodeSet::only(self.config.node);
        self.release.lending.owns_alone(page)
            || self.is_home_of(page) && self.pages.entry(page).holders == own
    }

    /// A notice goes out for a page: when the home has written it, or the owner, every other copy will be dropped before anyone may expect to
    /// read there what the home writes next.
    pub(super) fn forget_copies(&mut self, page: PageAddress) {
        self.release.lending.noticed(page);
        if self.is_home_of(page) {
            let holders = NodeSet::only(self.config.node);
            self.pages.set_entry(page, DirectoryEntry { holders, ..self.pages.entry(page) });
        }
    }

    /// Tells the homes of `pages` what was written there; what was written to those that are `owed` is there already.
    fn send_diffs(
        &mut self,
        pages: &mut Vec<PageAddress>,
        owed: &[PageAddress],
        interval: u64,
        out: &mut Actions,
    ) {
        pages.retain(|page| !self.writes_in_place(*page));
        let home = |page: &PageAddress| self.pages.home(*page).ok().flatten();
        pages.sort_by_key(|page| (home(page), *page));
        for (place, page) in pages.iter().enumerate() {
            let to = home(page).expect("a page that was written has a home");
            let last = pages.get(place + 1).is_none_or(|next| home(next) != Some(to));
            let message = Message::Diff { page: *page, interval, last };
            self.release.updates.diffed(*page, interval);
            match (self.live.contains(to), owed.binary_search(page).is_ok()) {
                (true, true) => out.push(Action::Send { to, message, payload: None }),
                (true, false) => {
                    let keep_twin = self.is_written_on(*page) || self.is_tracked(*page);
                    out.push(Action::SendDiff { to, message, page: *page, keep_twin });
                }
                (false, false) if !self.is_written_on(*page) && !self.is_tracked(*page) => {
                    out.push(Action::DropTwin(*page));
                }
                (false, _) => {}
            }
        }
    }

    /// An acquire: copies of pages go that others wrote before it.
    pub(super) fn drop_written(&mut self, out: &mut Actions) {
        let mut news = Vec::new();
        self.release.notices.apply(&mut news);
        let mut held: Vec<(NodeId, u64, PageAddress)> = news
            .into_iter()
            .flat_map(|(writer, interval, run)| {
                self.pages.in_use(run).map(move |page| (writer, interval, page)).collect::<Vec<_>>()
            })
            .collect();
        self.spare_updated(&mut held, out);
        if !self.planted(Planted::DiffWhilePinned) {
            // The last diff of what goes is made when nobody can write it any more, the kernel neither.
            for (writer, interval, page) in &held {
                if self.goes_with(*page, (*writer, *interval)) {
                    self.pins.take(*page, Access::Write);
                }
            }
        }
        let is_dirty = |page| self.page_state(page) == PageState::Modified && !self.writes_in_place(page);
        if held.iter().any(|(_, _, page)| is_dirty(*page)) && !self.planted(Planted::DropUnreleased) {
            // What threads of this node wrote and have not released must not go with the copy.
            self.end_interval(out);
        }
        let (mut dropped, mut written_until_now) = (Vec::new(), Vec::new());
        for (writer, interval, page) in held {
            if self.goes_with(page, (writer, interval)) {
                if self.page_state(page) != PageState::Invalid {
                    dropped.push(page);
                }
                let by_itself = self.release.notices.told_by_itself(writer) >= interval;
                if self.drop_stale(page, (writer, by_itself), out) {
                    written_until_now.push(page);
                }
            }
        }
        // After all of them are unmapped, at once, and before they are asked for.
        for page in written_until_now {
            self.flush(page, out);
        }
        if !dropped.is_empty() {
            self.fetch_again(&dropped, out);
        }
    }

    /// Whether the copy of `page` goes with the notice that `writer` wrote it: a home keeps what its diffs have reached.
    fn goes_with(&self, page: PageAddress, (writer, interval): (NodeId, u64)) -> bool {
        !self.is_home_of(page) || self.release.flushed[writer.index()] < interval
    }

    /// With a fault that loses it: what was written to `page` is of no interest any more.
    fn forget_unreleased(&mut self, page: PageAddress, out: &mut Actions) {
        if self.release.forget_dirty(page) && !self.is_tracked(page) {
            out.push(Action::DropTwin(page));
        }
    }

    /// Drops a copy that lacks what `writer` wrote, which may have told of it `by_itself`. An answer that is on its way may lack it too. True
    /// when threads could write the copy without a word until now.
    fn drop_stale(
        &mut self,
        page: PageAddress,
        (writer, by_itself): (NodeId, bool),
        out: &mut Actions,
    ) -> bool {
        let local = self.pages.local(page).expect("the page is in use");
        if self.planted(Planted::KeepNoticedCopy) && local.state == PageState::Shared {
            return false;
        }
        if let Some(index) = local.pending
            && !self.planted(Planted::UseOutdatedData)
        {
            let pending = &mut self.coherence.pending[index as usize];
            pending.noticed = pending.noticed.and(writer, by_itself);
        }
        self.pins.take(page, Access::Write);
        self.drop_shadow(page, out);
        let loses = self.planted(Planted::DropUnreleased) || self.planted(Planted::DiffWhilePinned);
        if loses && local.state == PageState::Modified && !self.writes_in_place(page) {
            self.forget_unreleased(page, out);
        }
        if local.state == PageState::Invalid {
            return false;
        }
        let unsaid = local.state == PageState::Shared || !self.writes_in_place(page);
        let flush = self.is_tracked(page) && unsaid;
        if flush && self.planted(Planted::FlushBeforeUnmap) {
            self.flush(page, out);
        }
        out.push(Action::Unmap(page));
        self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
        flush && !self.planted(Planted::FlushBeforeUnmap)
    }
}

/// The home's part.
impl Engine {
    pub(super) fn need(
        &mut self,
        from: NodeId,
        page: PageAddress,
        request: RequestId,
        writer: NodeId,
        interval: u64,
    ) -> Handled {
        self.check_is_home(page)?;
        self.check_interval(writer, interval)?;
        let open = self.release.needs.iter().filter(|need| need.from == from).count();
        if open >= limits::NEEDS_PER_PEER {
            return Err("it needs more than a node may");
        }
        self.release.needs.push(Need { from, request, writer, interval });
        Ok(())
    }

    /// A request for a page of this home; it was counted.
    pub(super) fn serve_release(&mut self, page: PageAddress, request: Request, out: &mut Actions) {
        if request.node == self.config.node {
            self.note_own_use(page);
        }
        let by = Waiting { page, request };
        self.release.await_diffs(by);
        match self.release_answer(page, request, out) {
            Answer::Given => self.coherence.open[request.node.index()] -= 1,
            Answer::Passed => {}
            Answer::Waits => return self.release.waiting.push(by),
        }
        self.release.awaited.retain(|awaited| awaited.by != by);
    }

    /// Whether all diffs are here that a request needs; and if not, a writer of which they will never come.
    fn missing_diffs(&self, page: PageAddress, asked: Request) -> (bool, Option<NodeId>) {
        let Request { node, id: request, .. } = asked;
        let (own, owner) = (self.config.node, self.release.lending.owner(page));
        let flushed = &self.release.flushed;
        let said = self.release.needs.iter().filter(|need| need.from == node && need.request == request);
        let by = Waiting { page, request: asked };
        let awaited = self.release.awaited.iter().filter(|awaited| awaited.by == by);
        let mut missing = said
            .map(|need| (need.writer, need.interval))
            .chain(awaited.map(|awaited| (awaited.writer, awaited.interval)))
            .filter(|(writer, _)| *writer != own && Some(*writer) != owner)
            .filter(|(writer, interval)| flushed[writer.index()] < *interval)
            .map(|(writer, _)| writer)
            .peekable();
        (missing.peek().is_none(), missing.find(|writer| !self.live.contains(*writer)))
    }

    /// Answers a request if what it needs is here, or never will be.
    fn release_answer(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> Answer {
        let Request { node, id: request, access, atomic } = asked;
        let own = self.config.node;
        let (is_complete, writer_lost) = self.missing_diffs(page, asked);
        let state = self.pages.entry(page).state;
        let lost = match state {
            DirectoryState::Lost(with) => Some(with),
            _ => writer_lost,
        };
        let passage = if lost.is_some() {
            Passage::AtHome
        } else if is_complete || self.planted(Planted::ServeBeforeDiffs) {
            self.pass_on(page, asked, out)
        } else {
            Passage::Waits
        };
        if passage == Passage::Waits {
            return Answer::Waits;
        }
        self.release.needs.retain(|need| need.from != node || need.request != request);
        if let Some(asked_for) = atomic {
            match lost {
                Some(lost_with) => {
                    let ticket = asked_for.ticket;
                    self.answer(node, Message::AtomicDeny { page, ticket, lost_with }, out);
                }
                None => self.operate_released(page, asked, asked_for, out),
            }
            return Answer::Given;
        }
        let touched = state != DirectoryState::Untouched;
        if lost.is_none() {
            self.note_copy(page, node, out);
        }
        if passage == Passage::Passed {
            return Answer::Passed;
        }
        if let Some(lost_with) = lost {
            self.answer(node, Message::Deny { page, request, lost_with }, out);
        } else if touched && node != own {
            self.send_page(node, Message::Data { page, request, access }, page, out);
        } else {
            self.answer(node, Message::Grant { page, request, access, zero: !touched }, out);
        }
        Answer::Given
    }

    /// `node` is about to get a copy. What this node has written to the page, as its home, without keeping it in mind, goes with that;
    /// what it writes from now on must be told.
    pub(super) fn note_copy(&mut self, page: PageAddress, node: NodeId, out: &mut Actions) {
        let own = self.config.node;
        let entry = self.pages.entry(page);
        let local = self.pages.local(page).expect("checked when the request came");
        let untold = self.planted(Planted::HomeWritesUntold);
        if node != own && local.state == PageState::Modified && self.is_alone_with(page) && !untold {
            if self.release.is_dirty(page) {
                // It was left writable, and is told of.
            } else if self.is_in_use(page) {
                // A thread is about to write that asked for it.
                self.release.dirty.push(page);
            } else if self.is_written_on(page) {
                self.keep_shadow(page, out);
                self.release.dirty.push(page);
            } else {
                out.push(Action::Protect(page));
                self.pages.set_local(page, LocalPage { state: PageState::Shared, ..local });
            }
        }
        self.pages.set_entry(page, DirectoryEntry { holders: entry.holders.with(node), ..entry });
    }

    /// The page is no longer zero for sure.
    pub(super) fn touch(&mut self, page: PageAddress) {
        let own = self.config.node;
        if matches!(self.pages.entry(page).state, DirectoryState::Lost(_)) {
            return;
        }
        let holders = self.pages.entry(page).holders.with(own);
        self.pages
            .set_entry(page, DirectoryEntry { state: DirectoryState::Shared(own), holders, busy: None });
    }

    pub(super) fn diff(
        &mut self,
        from: NodeId,
        page: PageAddress,
        interval: u64,
        last: bool,
        out: &mut Actions,
    ) -> Handled {
        self.check_is_home(page)?;
        let is_old = interval <= self.release.flushed[from.index()];
        if is_old && !self.planted(Planted::FirstDiffIsLast) || interval >= limits::INTERVALS {
            return Err(NO_SUCH_INTERVAL);
        }
        let lent = self.diff_of_lent(from, page, out)?;
        if !lent {
            self.touch(page);
            let early = self.planted(Planted::UpdateBeforeDiff);
            if early {
                self.update_readers(page, from, interval, out);
            }
            if !self.planted(Planted::LoseDiff) {
                out.push(Action::ApplyDiff(page));
            }
            if !early {
                self.release.updates.applied(from, page);
            }
        }
        if last || self.planted(Planted::FirstDiffIsLast) {
            self.release.flushed[from.index()] = interval;
            self.send_applied(from, interval, out);
            self.serve_waiting(out);
        }
        if !lent {
            self.note_writer(page, from, interval, out);
        }
        Ok(())
    }

    pub(super) fn serve_waiting(&mut self, out: &mut Actions) {
        let mut waiting = std::mem::take(&mut self.release.waiting);
        waiting.retain(|waiting| {
            let answer = self.release_answer(waiting.page, waiting.request, out);
            self.coherence.open[waiting.request.node.index()] -= u32::from(answer == Answer::Given);
            answer == Answer::Waits
        });
        // What this node asked itself for meanwhile was put there.
        waiting.append(&mut self.release.waiting);
        self.release.waiting = waiting;
        self.release.tidy_awaited();
    }

    pub(super) fn mend_release(&mut self, lost: NodeId, out: &mut Actions) {
        self.release.needs.retain(|need| need.from != lost);
        self.mend_loans(lost, out);
        self.mend_updates(lost);
        let open = &mut self.coherence.open;
        self.release.waiting.retain(|waiting| {
            let stays = waiting.request.node != lost;
            open[lost.index()] -= u32::from(!stays);
            stays
        });
        self.serve_waiting(out);
    }

    /// Fails the calls of pages whose home is lost; copies that are held can still be read.
    pub(super) fn release_without_home(
        &mut self,
        page: PageAddress,
        local: LocalPage,
        home: NodeId,
        first: Option<u16>,
        out: &mut Actions,
    ) {
        self.pages.set_local(page, LocalPage { pending: None, ..local });
        let failed = Outcome::Failed(Failure::PeerLost(home));
        self.complete_list(first, PageState::Modified, failed, out);
    }
}

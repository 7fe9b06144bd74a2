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
//! from those that the home itself has. Only the latter counts for notices that everyone knows, which requesters have forgotten.
//!
//! The order of messages on one link is relied on in three places: a node's diffs come to a home before what it asks of that
//! home next; notices come before the grant or the release that they belong to; and a Need comes before its request.

use super::coherence::{NO_SUCH_PAGE, NOT_HOME_HERE, Request};
use super::notices::{Notices, PageRun, Tale};
use super::pages::{DirectoryEntry, DirectoryState, LocalPage};
use super::planted::{Planted, swap_twin};
use super::{Engine, EngineConfig, Handled};
use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{Access, NodeId, NodeSet, PageAddress, PageState, RequestId};
use crate::limits;
use crate::message::Message;
use crate::placement::Protocol;

const NOT_RELEASE: &str = "the page's protocol knows no intervals";
const NO_SUCH_INTERVAL: &str = "it speaks of an interval that cannot be";

/// What a requester's time demands of a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Need {
    from: NodeId,
    request: RequestId,
    writer: NodeId,
    interval: u64,
}

/// A request that waits until diffs have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiting {
    page: PageAddress,
    request: Request,
}

#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) notices: Notices,
    /// Pages that this node wrote in the interval that is under way; some may stand here twice.
    dirty: Vec<PageAddress>,
    /// How many of them have a twin.
    twins: usize,
    /// How many of these were pinned when the last interval ended, and kept theirs: to end another would not bring them back.
    kept: usize,
    /// Of each writer, the interval whose diffs for pages of this home have all come.
    flushed: Vec<u64>,
    /// What requests said that they need: of those that wait, and of those that come next on their links.
    needs: Vec<Need>,
    waiting: Vec<Waiting>,
    tales: Vec<Tale>,
}

impl Release {
    pub(super) fn new(config: EngineConfig) -> Release {
        Release {
            notices: Notices::new(config.node, config.nodes),
            dirty: Vec::new(),
            twins: 0,
            kept: 0,
            flushed: vec![0; config.nodes as usize],
            needs: Vec::new(),
            waiting: Vec::new(),
            tales: Vec::new(),
        }
    }

    /// Whether no page of a release region was ever written or told of.
    #[cfg(feature = "verification")]
    pub(super) fn is_untouched(&self) -> bool {
        self.is_quiet() && self.dirty.is_empty() && self.notices.held() == 0
    }

    /// Page requests that wait for diffs.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.needs.is_empty() && self.waiting.is_empty()
    }
}

/// The holder's part.
impl Engine {
    pub(super) fn is_release(&self, page: PageAddress) -> bool {
        self.pages.protocol(page) == Protocol::Release
    }

    fn is_home_of(&self, page: PageAddress) -> bool {
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
        self.mark_dirty(page, out);
        out.push(Action::Unprotect(page));
        if self.planted(Planted::TwinAfterWriting) {
            swap_twin(out);
        }
        let local = self.pages.local(page).expect("checked by the caller");
        self.pages.set_local(page, LocalPage { state: PageState::Modified, ..local });
        Ok(())
    }

    /// Keeps in mind that `page`, which is here and which nobody can write yet, will be written.
    fn mark_dirty(&mut self, page: PageAddress, out: &mut Actions) {
        if self.is_home_of(page) {
            self.touch(page);
        } else {
            if self.release.twins >= self.release.kept + limits::TWINS {
                self.end_interval(out);
            }
            self.release.twins += 1;
            out.push(Action::MakeTwin(page));
        }
        self.release.dirty.push(page);
    }

    /// Lets the application use a copy that has just come.
    pub(super) fn install_release(&mut self, page: PageAddress, access: Access, out: &mut Actions) {
        match access {
            Access::Read => out.push(Action::MapRead(page)),
            Access::Write => {
                self.mark_dirty(page, out);
                out.push(Action::MapWrite(page));
                if self.planted(Planted::TwinAfterWriting) {
                    swap_twin(out);
                }
            }
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
        let needs: Vec<(NodeId, u64)> = self
            .release
            .notices
            .writers_of(page)
            .filter(|(writer, _)| *writer != own && *writer != home)
            .collect();
        for (writer, interval) in needs {
            self.send(home, Message::Need { page, request, writer, interval }, out);
        }
    }

    /// A release: what this node wrote since the last one goes to the homes, and becomes a notice.
    pub(super) fn end_interval(&mut self, out: &mut Actions) {
        if self.release.dirty.is_empty() {
            return;
        }
        let mut pages = std::mem::take(&mut self.release.dirty);
        self.release.twins = 0;
        pages.sort_unstable();
        pages.dedup();
        pages.retain(|page| !self.is_alone_with(*page));
        if pages.is_empty() {
            self.release.dirty = pages;
            return;
        }
        let unsaid = usize::from(self.planted(Planted::MissNotice));
        let interval = self.release.notices.close(&pages[..pages.len() - unsaid]);
        for page in &pages {
            self.forget_copies(*page);
            let local = self.pages.local(*page).expect("a page that was written is mapped");
            if self.is_written_on(*page) {
                self.release.dirty.push(*page);
                self.release.twins += usize::from(!self.is_home_of(*page));
            } else if local.state == PageState::Modified {
                out.push(Action::Protect(*page));
                self.pages.set_local(*page, LocalPage { state: PageState::Shared, ..local });
            }
        }
        self.release.kept = self.release.twins;
        self.send_diffs(&mut pages, interval, out);
    }

    /// Whether the kernel may be writing `page` for a system call, so that it stays as it is over a release.
    fn is_written_on(&self, page: PageAddress) -> bool {
        self.page_state(page) == PageState::Modified && self.pins.block(page, Access::Read)
    }

    /// Whether this node is the home of a page of which nobody else has a copy, but for such as will be dropped because of a notice
    /// that is out already.
    fn is_alone_with(&self, page: PageAddress) -> bool {
        self.is_home_of(page) && self.pages.entry(page).holders == NodeSet::only(self.config.node)
    }

    /// A notice goes out for a page: when the home has written it, every other copy will be dropped before anyone may expect to
    /// read there what the home writes next.
    fn forget_copies(&mut self, page: PageAddress) {
        if self.is_home_of(page) {
            let holders = NodeSet::only(self.config.node);
            self.pages.set_entry(page, DirectoryEntry { holders, ..self.pages.entry(page) });
        }
    }

    fn send_diffs(&mut self, pages: &mut Vec<PageAddress>, interval: u64, out: &mut Actions) {
        pages.retain(|page| !self.is_home_of(*page));
        let home = |page: &PageAddress| self.pages.home(*page).ok().flatten();
        pages.sort_by_key(|page| (home(page), *page));
        for (place, page) in pages.iter().enumerate() {
            let to = home(page).expect("a page that was written has a home");
            let last = pages.get(place + 1).is_none_or(|next| home(next) != Some(to));
            if self.live.contains(to) {
                let message = Message::Diff { page: *page, interval, last };
                let keep_twin = self.is_written_on(*page);
                out.push(Action::SendDiff { to, message, page: *page, keep_twin });
            } else if !self.is_written_on(*page) {
                out.push(Action::DropTwin(*page));
            }
        }
    }

    /// An acquire: copies of pages go that others wrote before it.
    pub(super) fn drop_written(&mut self, out: &mut Actions) {
        let mut news = Vec::new();
        self.release.notices.apply(&mut news);
        let held: Vec<(NodeId, u64, PageAddress)> = news
            .into_iter()
            .flat_map(|(writer, interval, run)| {
                self.pages.in_use(run).map(move |page| (writer, interval, page)).collect::<Vec<_>>()
            })
            .collect();
        let is_dirty = |page| self.page_state(page) == PageState::Modified && !self.is_home_of(page);
        if held.iter().any(|(_, _, page)| is_dirty(*page)) && !self.planted(Planted::DropUnreleased) {
            // What threads of this node wrote and have not released must not go with the copy.
            self.end_interval(out);
        }
        for (writer, interval, page) in held {
            if !self.is_home_of(page) || self.release.flushed[writer.index()] < interval {
                self.drop_stale(page, out);
            }
        }
    }

    fn drop_stale(&mut self, page: PageAddress, out: &mut Actions) {
        let local = self.pages.local(page).expect("the page is in use");
        if self.planted(Planted::KeepNoticedCopy) && local.state == PageState::Shared {
            return;
        }
        if let Some(index) = local.pending
            && !self.planted(Planted::UseOutdatedData)
        {
            self.coherence.pending[index as usize].outdated = true;
        }
        self.pins.take(page, Access::Write);
        if local.state == PageState::Modified
            && !self.is_home_of(page)
            && let Some(place) = self.release.dirty.iter().position(|dirty| *dirty == page)
        {
            // Only a page that was pinned for writing is still being written here; its diff has gone.
            self.release.dirty.swap_remove(place);
            self.release.twins -= 1;
            out.push(Action::DropTwin(page));
        }
        if local.state != PageState::Invalid {
            out.push(Action::Unmap(page));
            self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
        }
    }

    /// Before a message that passes on a lock or opens a barrier: what the receiver lacks of what this node knows.
    pub(super) fn tell(&mut self, to: NodeId, out: &mut Actions) {
        if self.planted(Planted::TellNothing) {
            return;
        }
        let mut tales = std::mem::take(&mut self.release.tales);
        self.release.notices.tell(to, &mut tales);
        self.send_tales(to, tales, out);
    }

    /// Before a message that is answered by such a one: what need not be told.
    pub(super) fn tell_what_is_known(&mut self, to: NodeId, out: &mut Actions) {
        let mut tales = std::mem::take(&mut self.release.tales);
        self.release.notices.ask(to, &mut tales);
        self.send_tales(to, tales, out);
    }

    /// Before arriving at a barrier, where it is found out what everyone knows.
    pub(super) fn confirm(&mut self, to: NodeId, out: &mut Actions) {
        let mut tales = std::mem::take(&mut self.release.tales);
        self.release.notices.confirm(to, &mut tales);
        self.send_tales(to, tales, out);
    }

    fn send_tales(&mut self, to: NodeId, mut tales: Vec<Tale>, out: &mut Actions) {
        for tale in tales.drain(..) {
            let message = match tale {
                Tale::Wrote { writer, interval, run } => {
                    Message::Wrote { writer, interval, first: run.first, count: run.count as u32 }
                }
                Tale::Told { writer, interval } => Message::Told { writer, interval },
                Tale::Knows { writer, interval } => Message::Knows { writer, interval },
            };
            self.send(to, message, out);
        }
        self.release.tales = tales;
    }

    fn check_interval(&self, writer: NodeId, interval: u64) -> Handled {
        if writer.get() >= self.config.nodes {
            return Err("the writer is not a member of the mesh");
        }
        let own = writer == self.config.node && interval > self.release.notices.known(writer);
        if own || interval >= limits::INTERVALS { Err(NO_SUCH_INTERVAL) } else { Ok(()) }
    }

    pub(super) fn wrote(&mut self, writer: NodeId, interval: u64, run: PageRun) -> Handled {
        self.check_interval(writer, interval)?;
        let last = PageAddress::new(run.first.region, run.first.page.saturating_add(run.count - 1));
        if self.pages.local(last).is_none() {
            return Err(NO_SUCH_PAGE);
        }
        if !self.is_release(last) {
            return Err(NOT_RELEASE);
        }
        if self.release.notices.held() >= limits::NOTICES {
            return Err("there are more notices than a mesh can have");
        }
        self.release.notices.heard_of(writer, interval, run);
        Ok(())
    }

    pub(super) fn told(&mut self, from: NodeId, writer: NodeId, interval: u64) -> Handled {
        self.check_interval(writer, interval)?;
        self.release.notices.told_by(from, writer, interval);
        Ok(())
    }

    pub(super) fn knows(&mut self, from: NodeId, writer: NodeId, interval: u64) -> Handled {
        self.check_interval(writer, interval)?;
        self.release.notices.peer_knows(from, writer, interval);
        Ok(())
    }

    pub(super) fn settled(&mut self, writer: NodeId, interval: u64) -> Handled {
        self.check_interval(writer, interval)?;
        self.settle_notices(writer, interval);
        Ok(())
    }

    fn settle_notices(&mut self, writer: NodeId, interval: u64) {
        let flushed = self.release.flushed[writer.index()];
        let (pages, own) = (&self.pages, self.config.node);
        let forgets = self.planted(Planted::ForgetAwaitedDiffs);
        // The requesters no longer say that they need these.
        let still_needed = |interval: u64, run: PageRun| {
            let mut homes = run.pages().map(|page| pages.home(page));
            !forgets && writer != own && interval > flushed && homes.any(|home| home == Ok(Some(own)))
        };
        self.release.notices.settle(writer, interval, still_needed);
    }

    /// What all nodes know by now, to be told to those who leave a barrier.
    pub(super) fn settle_known(&mut self) -> Vec<(NodeId, u64)> {
        let live: Vec<NodeId> = self.live.iter().collect();
        let known = self.planted(Planted::SettleUnknown);
        let live = if known { vec![self.config.node] } else { live };
        let agreed = self.release.notices.agreed(&live);
        for (writer, interval) in &agreed {
            self.settle_notices(*writer, *interval);
        }
        agreed
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
        if self.pages.home(page)? != Some(self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        if !self.is_release(page) {
            return Err(NOT_RELEASE);
        }
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
        if self.release_answer(page, request, out) {
            self.coherence.open[request.node.index()] -= 1;
        } else {
            self.release.waiting.push(Waiting { page, request });
        }
    }

    /// Answers a request if what it needs is here, or never will be.
    fn release_answer(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> bool {
        let Request { node, id: request, access } = asked;
        let own = self.config.node;
        let flushed = &self.release.flushed;
        let said = self.release.needs.iter().filter(|need| need.from == node && need.request == request);
        let missing: Vec<NodeId> = said
            .map(|need| (need.writer, need.interval))
            .chain(self.release.notices.writers_of(page))
            .filter(|(writer, interval)| *writer != own && flushed[writer.index()] < *interval)
            .map(|(writer, _)| writer)
            .collect();
        let lost = missing.iter().copied().find(|writer| !self.live.contains(*writer));
        if lost.is_none() && !missing.is_empty() && !self.planted(Planted::ServeBeforeDiffs) {
            return false;
        }
        self.release.needs.retain(|need| need.from != node || need.request != request);
        let touched = self.pages.entry(page).state != DirectoryState::Untouched;
        if lost.is_none() {
            self.note_copy(page, node, out);
        }
        if let Some(lost_with) = lost {
            self.answer(node, Message::Deny { page, request, lost_with }, out);
        } else if touched && node != own {
            self.send_page(node, Message::Data { page, request, access }, page, out);
        } else {
            self.answer(node, Message::Grant { page, request, access, zero: !touched }, out);
        }
        true
    }

    /// `node` is about to get a copy. What this node has written to the page, as its home, without keeping it in mind, goes with that;
    /// what it writes from now on must be told.
    fn note_copy(&mut self, page: PageAddress, node: NodeId, out: &mut Actions) {
        let own = self.config.node;
        let entry = self.pages.entry(page);
        let local = self.pages.local(page).expect("checked when the request came");
        let untold = self.planted(Planted::HomeWritesUntold);
        if node != own && local.state == PageState::Modified && self.is_alone_with(page) && !untold {
            if self.is_in_use(page) || self.is_written_on(page) {
                // A thread is about to write that asked for it, or the kernel does.
                self.release.dirty.push(page);
            } else {
                out.push(Action::Protect(page));
                self.pages.set_local(page, LocalPage { state: PageState::Shared, ..local });
            }
        }
        self.pages.set_entry(page, DirectoryEntry { holders: entry.holders.with(node), ..entry });
    }

    /// The page is no longer zero for sure.
    fn touch(&mut self, page: PageAddress) {
        let own = self.config.node;
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
        if self.pages.home(page)? != Some(self.config.node) {
            return Err(NOT_HOME_HERE);
        }
        if !self.is_release(page) {
            return Err(NOT_RELEASE);
        }
        let is_old = interval <= self.release.flushed[from.index()];
        if is_old && !self.planted(Planted::FirstDiffIsLast) || interval >= limits::INTERVALS {
            return Err(NO_SUCH_INTERVAL);
        }
        self.touch(page);
        if !self.planted(Planted::LoseDiff) {
            out.push(Action::ApplyDiff(page));
        }
        if last || self.planted(Planted::FirstDiffIsLast) {
            self.release.flushed[from.index()] = interval;
            self.serve_waiting(out);
        }
        Ok(())
    }

    fn serve_waiting(&mut self, out: &mut Actions) {
        let mut waiting = std::mem::take(&mut self.release.waiting);
        waiting.retain(|waiting| {
            let answered = self.release_answer(waiting.page, waiting.request, out);
            self.coherence.open[waiting.request.node.index()] -= u32::from(answered);
            !answered
        });
        // What this node asked itself for meanwhile was put there.
        waiting.append(&mut self.release.waiting);
        self.release.waiting = waiting;
    }

    pub(super) fn mend_release(&mut self, lost: NodeId, out: &mut Actions) {
        self.release.needs.retain(|need| need.from != lost);
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

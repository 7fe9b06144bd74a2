//! Updates: a page that a node fetches again after every notice is sent along with what it synchronises by, without being asked for.
//!
//! A reader that lost its copy to a notice and fetched it again, twice, *follows* the page from then on: with the second request it says so to
//! the home, which passes that on to the page's owner. Whoever writes in place, the home or the owner, sends followers the page when an interval
//! ends in which it was written, and a home when all diffs of an interval have come. With the page it says whose writes, up to which interval, are in
//! there. The reader takes over into its copy what is new, at once, and a notice of what the copy has takes nothing.
//!
//! | at the reader | event | what happens | then |
//! |---|---|---|---|
//! | fetches | a second request after a notice | Follow, then PageRequest | follows |
//! | follows, copy from the sender | Update | Update (the copy and its twin) | follows |
//! | follows, no such copy, or own diffs missing | Update | | follows |
//! | follows | acquire with notices, all of which the copy has | | follows |
//! | follows | as before, after 4, 8, 16 and then each 32 times | Unmap | follows, to see |
//! | follows | acquire with a notice that the copy lacks | Unmap | follows |
//! | follows | a third Update, or a fourth lacking notice, in a row | Unfollow | fetches |
//! | fetches | Update | Unfollow | fetches |
//!
//! What makes it right:
//!
//! * In a program without data races nobody here uses bytes that others write before an acquire has come that orders them. So they may
//!   change as early as they like. Where there is a twin it changes with the page: what differs between them is still what this node wrote.
//! * An update is older than what this node has diffed when it does not say that it has that diff. It is left alone then.
//! * Updates are taken only from the node that the copy came from. They come in the order in which they were sent, after the copy, and what is
//!   written in place only grows: no update takes anything back.
//! * Whoever sends an update counts the reader among those who have a copy (`Engine::note_copy`): it tells of what it writes next. A reader that
//!   left the update alone loses its copy by the notice that is out.
//!
//! Nobody waits for an update, and any may be lost on the way: what it would have spared is fetched. A reader can not see whether its threads use a
//! page that is there, so now and then it lets the page go and looks whether they want it. Who has followed in vain must fetch the page
//! more often before it follows it again, and lets it go sooner.

use super::coherence::{NO_SUCH_PAGE, NOT_HOME_HERE, NOT_ITS_HOME};
use super::planted::Planted;
use super::release::{NO_SUCH_INTERVAL, NOT_RELEASE};
use super::sorted::SortedMap;
use super::{Engine, Handled};
use crate::action::{Action, Actions};
use crate::ids::{NodeId, PageAddress, PageState, RegionId};
use crate::limits;
use crate::message::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;

/// Updates in a row that a reader takes, or leaves alone, without a notice that they spare it.
const UNUSED_MOST: u32 = 2;
/// Notices in a row that take a page from its follower.
const MISSED_MOST: u32 = 3;
/// Notices that are spared before the page is let go to see whether it is wanted: at first, less where it was followed in vain before, and at
/// most.
const SPARED_FIRST: u32 = 4;
const SPARED_MOST: u32 = 32;

/// Writers of one page of which a reader keeps in mind what updates have brought; what others write takes the page.
const WRITERS_KEPT: usize = 4;

/// Pages whose updates wait for a barrier to open. More take longer to send than a wake-up costs, and are better sent while others are at work.
const HELD_MOST: usize = 64;

/// A page that this node follows, and what its copy has.
#[derive(Clone, Debug, Hash)]
struct Followed {
    /// The node that the copy came from.
    source: Option<NodeId>,
    /// The interval of this node of which it has sent a diff of the page last since the copy came.
    own: u64,
    /// Of each writer, the interval up to which updates have brought what it wrote.
    has: [Option<(NodeId, u64)>; WRITERS_KEPT],
    /// Acquires that took nothing since the page was last let go, and after how many it will be.
    spared: u32,
    period: u32,
    unused: u32,
    missed: u32,
}

impl Followed {
    fn new(period: u32) -> Followed {
        Followed { source: None, own: 0, has: [None; WRITERS_KEPT], spared: 0, period, unused: 0, missed: 0 }
    }

    fn has(&self, writer: NodeId) -> u64 {
        self.has.iter().flatten().find(|(known, _)| *known == writer).map_or(0, |(_, interval)| *interval)
    }

    fn raise(&mut self, writer: NodeId, interval: u64) {
        let is_it = |place: &&mut Option<(NodeId, u64)>| place.is_none_or(|(known, _)| known == writer);
        if let Some(place) = self.has.iter_mut().find(is_it) {
            *place = Some((writer, place.map_or(interval, |(_, known)| known.max(interval))));
        }
    }
}

/// The pages that this node follows, and who follows those that it writes in place.
#[derive(Clone, Debug)]
pub(super) struct Updates {
    followed: SortedMap<PageAddress, Followed>,
    readers: SortedMap<(PageAddress, NodeId), ()>,
    /// Updates that go to their readers with what opens the barrier, and which interval of this node they are of.
    due: SortedMap<(NodeId, PageAddress), u64>,
    /// Pages with readers of which diffs have come from a node whose interval is not complete here: another of the same interval may follow.
    applied: SortedMap<(NodeId, PageAddress), ()>,
    /// Updates that were taken over, and those that were left alone.
    adopted: u64,
    ignored: u64,
}

impl Hash for Updates {
    /// What was counted decides nothing.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Updates { followed, readers, due, applied, adopted: _, ignored: _ } = self;
        (followed, readers, due, applied).hash(hasher);
    }
}

impl Updates {
    /// With room for all that there may be, where updates are wanted: a fault may not ask for memory.
    pub(super) fn new(wanted: bool) -> Updates {
        let (followed, readers) = if wanted { (limits::FOLLOWED, limits::FOLLOWERS) } else { (0, 0) };
        Updates {
            followed: SortedMap::with_capacity(followed),
            readers: SortedMap::with_capacity(readers),
            due: SortedMap::with_capacity(readers),
            applied: SortedMap::with_capacity(readers),
            adopted: 0,
            ignored: 0,
        }
    }

    /// The region is gone.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        self.followed.retain(|page, _| page.region != region);
        self.readers.retain(|(page, _), ()| page.region != region);
        self.due.retain(|(_, page), _| page.region != region);
        self.applied.retain(|(_, page), ()| page.region != region);
    }

    /// A diff of `page` has come from `writer`.
    pub(super) fn applied(&mut self, writer: NodeId, page: PageAddress) {
        if self.readers_of(page).any(|reader| reader != writer) {
            self.applied.insert((writer, page), ());
        }
    }

    /// A page of which a diff has come from `writer`, once.
    fn take_applied(&mut self, writer: NodeId) -> Option<PageAddress> {
        let (_, page) = self.applied.range(of_node(writer)).next()?.0;
        self.applied.remove((writer, page));
        Some(page)
    }

    /// This node writes `page` in place no longer, and is not its home.
    pub(super) fn forget_readers(&mut self, page: PageAddress) {
        self.readers.retain(|(read, _), ()| read != page);
    }

    /// This node writes `page` in place from now on.
    pub(super) fn forget_followed(&mut self, page: PageAddress) {
        self.followed.remove(page);
    }

    /// `reader` writes `page` in place from now on, or is lost.
    pub(super) fn forget_reader(&mut self, page: PageAddress, reader: NodeId) {
        self.readers.remove((page, reader));
    }

    /// What waits to be sent to `reader` is about to change.
    pub(super) fn forget_due(&mut self, page: PageAddress, reader: NodeId) {
        self.due.remove((reader, page));
    }

    fn readers_of(&self, page: PageAddress) -> impl Iterator<Item = NodeId> + '_ {
        let all = (page, NodeId::COORDINATOR)..=(page, NodeId::new(limits::NODES as u16 - 1));
        self.readers.range(all).map(|((_, reader), ())| reader)
    }

    pub(super) fn is_reader(&self, page: PageAddress, reader: NodeId) -> bool {
        self.readers.contains((page, reader))
    }

    /// A copy of `page` came from `source`, with all that this node has written.
    pub(super) fn filled(&mut self, page: PageAddress, source: NodeId) {
        if let Some(followed) = self.followed.get_mut(page) {
            followed.source = Some(source);
            followed.own = 0;
            followed.has = [None; WRITERS_KEPT];
        }
    }

    /// A diff of `page` goes to the home.
    pub(super) fn diffed(&mut self, page: PageAddress, interval: u64) {
        if let Some(followed) = self.followed.get_mut(page) {
            followed.own = interval;
        }
    }
}

/// All that there may be of one node.
fn of_node(node: NodeId) -> RangeInclusive<(NodeId, PageAddress)> {
    (node, PageAddress::new(RegionId(0), 0))..=(node, PageAddress::new(RegionId(u16::MAX), u64::MAX))
}

/// The reader's part.
impl Engine {
    /// How many updates this node has taken over, and how many it has left alone.
    pub fn updates(&self) -> (u64, u64) {
        (self.release.updates.adopted, self.release.updates.ignored)
    }

    /// This node is about to ask `home` for `page`.
    pub(super) fn follow_if_worth(&mut self, page: PageAddress, home: NodeId, out: &mut Actions) {
        let followed = &self.release.updates.followed;
        if !self.config.updates
            || home == self.config.node
            || followed.contains(page)
            || followed.len() >= limits::FOLLOWED
            || !self.is_fetched_each_time(page)
        {
            return;
        }
        let period = SPARED_FIRST >> self.followed_in_vain(page);
        self.release.updates.followed.insert(page, Followed::new(period.max(1)));
        self.send(home, Message::Follow { page, reader: self.config.node }, out);
    }

    /// This node has no use for updates of `page`.
    pub(super) fn unfollow(&mut self, page: PageAddress, out: &mut Actions) {
        if self.release.updates.followed.remove(page).is_some() {
            self.note_followed_in_vain(page);
            self.send_unfollow(page, out);
        }
    }

    fn send_unfollow(&mut self, page: PageAddress, out: &mut Actions) {
        if let Ok(Some(home)) = self.pages.home(page) {
            self.send(home, Message::Unfollow { page, reader: self.config.node }, out);
        }
    }

    pub(super) fn update(
        &mut self,
        from: NodeId,
        page: PageAddress,
        (writer, interval, own): (NodeId, u64, u64),
        out: &mut Actions,
    ) -> Handled {
        let node = self.config.node;
        let home = self.pages.home(page)?;
        if !self.is_release(page) {
            return Err(NOT_RELEASE);
        }
        // An owner, of whom nobody else is told, speaks for itself alone.
        if home.is_none() || home == Some(node) || writer == node || home != Some(from) && writer != from {
            return Err(NOT_ITS_HOME);
        }
        self.check_interval(writer, interval)?;
        if own > self.release.notices.known(node) {
            return Err(NO_SUCH_INTERVAL);
        }
        let local = self.pages.local(page).ok_or(NO_SUCH_PAGE)?;
        let unchecked = self.planted(Planted::UpdateOverOwnWrites);
        let updates = &mut self.release.updates;
        let Some(followed) = updates.followed.get_mut(page) else {
            // It was said before, or the node that is to send updates has changed since.
            updates.ignored += 1;
            self.send_unfollow(page, out);
            return Ok(());
        };
        followed.unused += 1;
        let wanted = followed.unused <= UNUSED_MOST;
        let is_newer = followed.own <= own || unchecked;
        let is_ours = followed.source == Some(from);
        if wanted && is_newer && is_ours && local.state != PageState::Invalid && local.pending.is_none() {
            followed.raise(writer, interval);
            updates.adopted += 1;
            out.push(Action::Update(page));
        } else {
            updates.ignored += 1;
        }
        if !wanted {
            self.unfollow(page, out);
        }
        Ok(())
    }

    /// An acquire: takes from `held` the notices of pages whose copies have all that they tell of.
    pub(super) fn spare_updated(&mut self, held: &mut Vec<(NodeId, u64, PageAddress)>, out: &mut Actions) {
        if self.release.updates.followed.is_empty() {
            return;
        }
        let unheard = self.planted(Planted::SpareUnheard);
        let mut lacking: BTreeMap<PageAddress, bool> = BTreeMap::new();
        for (writer, interval, page) in held.iter() {
            let Some(followed) = self.release.updates.followed.get(*page) else { continue };
            let is_here = followed.source.is_some() && self.page_state(*page) != PageState::Invalid;
            let has = followed.has(*writer);
            *lacking.entry(*page).or_default() |= !is_here || has < *interval && !(unheard && has > 0);
        }
        let mut spared = BTreeSet::new();
        for (page, lacks) in lacking {
            if lacks {
                self.note_missed(page, out);
            } else if !self.is_let_go(page) {
                spared.insert(page);
            }
        }
        held.retain(|(_, _, page)| !spared.contains(page));
    }

    fn note_missed(&mut self, page: PageAddress, out: &mut Actions) {
        let Some(followed) = self.release.updates.followed.get_mut(page) else { return };
        followed.missed += 1;
        if followed.missed > MISSED_MOST {
            self.unfollow(page, out);
        }
    }

    /// Whether a page that need not go is let go all the same, to see whether the threads of this node come for it.
    fn is_let_go(&mut self, page: PageAddress) -> bool {
        let is_used = self.page_state(page) == PageState::Modified
            || self.is_in_use(page)
            || self.pins.block(page, crate::ids::Access::Write);
        let Some(followed) = self.release.updates.followed.get_mut(page) else { return true };
        (followed.unused, followed.missed) = (0, 0);
        followed.spared += 1;
        let is_time = followed.spared > followed.period;
        if is_time || is_used {
            followed.spared = 0;
        }
        if is_time {
            followed.period = (2 * followed.period).min(SPARED_MOST);
        }
        is_time && !is_used
    }

    /// What `lost` was to send, or to be sent, is over.
    pub(super) fn mend_updates(&mut self, lost: NodeId) {
        self.release.updates.readers.retain(|(_, reader), ()| reader != lost);
        self.release.updates.due.retain(|(reader, _), _| reader != lost);
        self.release.updates.applied.retain(|(writer, _), ()| writer != lost);
        let pages = &self.pages;
        self.release.updates.followed.retain(|page, followed| {
            followed.source = followed.source.filter(|source| *source != lost);
            pages.home(page) != Ok(Some(lost))
        });
    }
}

/// The part of the home, and of the owner.
impl Engine {
    /// Whether `from` may say that `reader` follows `page`, or does no longer; true when this node is the page's home.
    fn check_reader(&self, from: NodeId, page: PageAddress, reader: NodeId) -> Result<bool, &'static str> {
        let home = self.pages.home(page)?;
        if !self.is_release(page) {
            return Err(NOT_RELEASE);
        }
        if reader.get() >= self.config.nodes || reader == self.config.node {
            return Err("the page cannot be sent to this reader");
        }
        let is_home = home == Some(self.config.node);
        if is_home && from != reader {
            return Err("only the reader itself follows a page, or does no longer");
        }
        if is_home || home == Some(from) { Ok(is_home) } else { Err(NOT_HOME_HERE) }
    }

    pub(super) fn follow(&mut self, from: NodeId, page: PageAddress, reader: NodeId) -> Handled {
        let is_home = self.check_reader(from, page, reader)?;
        let writes_here = is_home || self.release.lending.owns(page);
        let readers = &mut self.release.updates.readers;
        if self.config.updates
            && writes_here
            && self.live.contains(reader)
            && readers.len() < limits::FOLLOWERS
        {
            readers.insert((page, reader), ());
        }
        Ok(())
    }

    pub(super) fn unfollowed(
        &mut self,
        from: NodeId,
        page: PageAddress,
        reader: NodeId,
        out: &mut Actions,
    ) -> Handled {
        let is_home = self.check_reader(from, page, reader)?;
        self.release.updates.forget_reader(page, reader);
        if is_home
            && let Some(owner) = self.release.lending.owner(page)
            && owner != reader
        {
            self.send(owner, Message::Unfollow { page, reader }, out);
        }
        Ok(())
    }

    /// The owner of a page of this home is about to be asked for it on behalf of `reader`.
    pub(super) fn pass_on_follower(
        &mut self,
        page: PageAddress,
        reader: NodeId,
        owner: NodeId,
        out: &mut Actions,
    ) {
        if self.release.updates.is_reader(page, reader) {
            self.send(owner, Message::Follow { page, reader }, out);
        }
    }

    /// An interval of this node has ended, in which it wrote `pages`. At a barrier of which it `opens` the way itself a few go with what does that: a
    /// message of their own would only wake who is still at work.
    pub(super) fn send_updates(
        &mut self,
        pages: &[PageAddress],
        interval: u64,
        opens: bool,
        out: &mut Actions,
    ) {
        if self.release.updates.readers.is_empty() {
            return;
        }
        let here: Vec<PageAddress> =
            pages.iter().filter(|page| self.writes_in_place(**page)).copied().collect();
        let waits = opens && here.len() <= HELD_MOST;
        for page in here {
            if waits {
                let readers: Vec<NodeId> = self.release.updates.readers_of(page).collect();
                let due = &mut self.release.updates.due;
                for reader in readers {
                    due.insert((reader, page), interval);
                }
            } else {
                self.update_readers(page, self.config.node, interval, out);
            }
        }
    }

    /// Something is about to be said to `reader` that lets it go on.
    pub(super) fn send_due_updates(&mut self, reader: NodeId, out: &mut Actions) {
        let updates = &mut self.release.updates;
        if updates.due.is_empty() {
            return;
        }
        let due: Vec<(PageAddress, u64)> =
            updates.due.range(of_node(reader)).map(|((_, page), interval)| (page, *interval)).collect();
        for (page, interval) in due {
            self.release.updates.due.remove((reader, page));
            let is_here = self.writes_in_place(page) && !self.release.lending.is_away(page);
            if is_here && self.release.updates.is_reader(page, reader) {
                self.send_update(page, reader, (self.config.node, interval), out);
            }
        }
    }

    /// All diffs of `writer` up to `interval` have come.
    pub(super) fn send_applied(&mut self, writer: NodeId, interval: u64, out: &mut Actions) {
        while let Some(page) = self.release.updates.take_applied(writer) {
            self.update_readers(page, writer, interval, out);
        }
    }

    /// What `writer` wrote to `page` up to `interval` is in its place here.
    pub(super) fn update_readers(
        &mut self,
        page: PageAddress,
        writer: NodeId,
        interval: u64,
        out: &mut Actions,
    ) {
        if self.release.updates.readers.is_empty() || self.release.lending.is_away(page) {
            return;
        }
        let readers: Vec<NodeId> =
            self.release.updates.readers_of(page).filter(|reader| *reader != writer).collect();
        for reader in readers {
            self.send_update(page, reader, (writer, interval), out);
        }
    }

    fn send_update(
        &mut self,
        page: PageAddress,
        reader: NodeId,
        (writer, interval): (NodeId, u64),
        out: &mut Actions,
    ) {
        let is_home = !self.release.lending.owns(page);
        let own = if is_home { self.release.flushed[reader.index()] } else { 0 };
        if !self.planted(Planted::UpdateUncounted) {
            if is_home {
                self.note_copy(page, reader, out);
            } else {
                self.note_copy_of_owned(page, out);
            }
        }
        self.send_page(reader, Message::Update { page, writer, interval, own }, page, out);
    }
}

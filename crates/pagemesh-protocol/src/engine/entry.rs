//! The entry protocol: ranges of bytes under reader-writer locks, whose grants bring the bytes (Bershad, Zekauskas and Sawdon 1993).
//!
//! All pages of an entry region have one home, the *master*. It has the newest bytes, and grants ranges of any bytes for reading or for
//! writing. Ranges that overlap are granted first come, first served: a call waits for all who hold or want an overlapping range and came
//! before it, unless both only read, and for nobody else. So neither readers nor writers starve.
//!
//! | call | is granted when | comes with |
//! |---|---|---|
//! | read | nobody has or, earlier in line, wants an overlapping range for writing | the bytes that were written since the caller last had them |
//! | write | nobody has or, earlier in line, wants an overlapping range | the same |
//!
//! A writer sends what it wrote to the master before it gives the range back, on the same link; so the next grant has it. The master
//! writes in place and is sent nothing. What a node loads and stores outside of ranges that it holds is its own affair: no page of such a region ever
//! faults for the network, and none ever goes.
//!
//! *Times.* The master counts grants for writing. It keeps for every byte at which count it was written last, a locker up to which
//! count it has all that was written ([`Stamps`]). A request says the oldest of these for its range, and the grant brings what is newer. That is
//! exact: bytes with a count up to that of a grant were written before it, since the range was not granted for writing meanwhile.
//!
//! Bytes come in pieces of at most a page, so many at a time that a queue has room for those of all calls; then the
//! locker asks for more.
//!
//! *Release regions* have the same locks on ranges, with the same line and the same errors. There a range brings no bytes: it orders, as every lock
//! does. Who gives a range back has ended its interval; the master tells who gets one later what was written, and that one drops its
//! stale copies. So the ranges of such a region synchronise all memory, and every other lock synchronises the region. Its master is the
//! node of a single placement, else one that follows from its number.
//!
//! A node that dies with a range for writing has written nothing, unless it died while it gave the range back. The next who gets an
//! overlapping range, for reading or writing, is told, once. When the master is lost, so are the ranges.

use super::coherence::NOT_OF_THIS_PROTOCOL;
use super::locks::{Caller, TOO_MANY_CALLS};
use super::pages::LocalPage;
use super::planted::Planted;
use super::stamps::Stamps;
use super::tickets::Wait;
use super::{Engine, Handled, sync_home};
use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{Access, ByteRange, NodeId, PageAddress, PageState, RegionId, Ticket};
use crate::limits;
use crate::message::Message;
use crate::placement::{Placement, Protocol};
use crate::region::RegionSpec;

const NOT_MASTER_HERE: &str = "this node is not the master of the region";
const NOT_ITS_MASTER: &str = "it is not the master of the region";
const NO_SUCH_RANGE: &str = "the range does not lie in a region whose ranges are locked";
const BYTES_OF_PAGES: &str = "the bytes of this region come by page";

/// A call for a range, in line or served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Turn {
    caller: Caller,
    range: ByteRange,
    access: Access,
    /// What the caller says that it has.
    since: u64,
}

impl Turn {
    fn is_in_the_way_of(&self, other: &Turn) -> bool {
        let one_writes = self.access == Access::Write || other.access == Access::Write;
        one_writes && self.range.overlaps(other.range)
    }
}

/// A range that somebody has.
#[derive(Clone, Copy, Debug)]
struct Held {
    turn: Turn,
    /// The master's time when it was granted.
    stamp: u64,
    /// What the holder was told.
    died: Option<NodeId>,
}

/// A range whose writer was lost.
#[derive(Clone, Copy, Debug)]
struct Orphan {
    range: ByteRange,
    writer: NodeId,
    /// Who was told, and may not have lived or waited to hear it.
    told: Option<Caller>,
}

/// What an engine keeps in mind of entry regions.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// By region. Where this node is the master, when bytes were written; elsewhere, how new this node's are.
    stamps: Vec<Option<Stamps>>,
    /// Of all regions whose master this is.
    held: Vec<Held>,
    /// In the order of their arrival.
    line: Vec<Turn>,
    orphans: Vec<Orphan>,
    /// This master's time.
    stamp: u64,
}

impl Entry {
    pub(super) fn new() -> Entry {
        let at_hand = limits::OBJECTS_AT_HAND;
        Entry {
            stamps: Vec::new(),
            held: Vec::with_capacity(at_hand),
            line: Vec::with_capacity(at_hand),
            orphans: Vec::new(),
            stamp: 0,
        }
    }

    /// A region was mapped here.
    pub(super) fn add(&mut self, region: RegionId, spec: &RegionSpec) {
        if self.stamps.len() <= region.index() {
            self.stamps.resize_with(region.index() + 1, || None);
        }
        self.stamps[region.index()] = (spec.protocol == Protocol::Entry).then(Stamps::new);
    }

    /// The region is gone.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        if let Some(stamps) = self.stamps.get_mut(region.index()) {
            *stamps = None;
        }
        self.held.retain(|held| held.turn.range.region != region);
        self.line.retain(|turn| turn.range.region != region);
        self.orphans.retain(|orphan| orphan.range.region != region);
    }

    /// Ranges that are held, calls in line, and ranges of lost writers.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.held.len(), self.line.len(), self.orphans.len())
    }

    fn of(&self, region: RegionId) -> Option<&Stamps> {
        self.stamps.get(region.index())?.as_ref()
    }

    fn of_mut(&mut self, region: RegionId) -> Option<&mut Stamps> {
        self.stamps.get_mut(region.index())?.as_mut()
    }

    /// Whether `turn` may be served before those in line from place `before` on.
    fn admits(&self, turn: &Turn, before: usize) -> bool {
        let free = self.held.iter().all(|held| !held.turn.is_in_the_way_of(turn));
        free && self.line[..before].iter().all(|earlier| !earlier.is_in_the_way_of(turn))
    }

    /// Takes note that whoever next gets some of `range` is to be told.
    fn orphan(&mut self, range: ByteRange, writer: NodeId) {
        let full = self.orphans.len() >= limits::RANGES;
        let same = |orphan: &&mut Orphan| orphan.range.region == range.region;
        match self.orphans.iter_mut().find(same).filter(|_| full) {
            // Who has lost so many tells somebody without need rather than nobody.
            Some(wide) => {
                let (start, end) = (wide.range.start.min(range.start), wide.range.end().max(range.end()));
                *wide = Orphan { range: ByteRange::new(range.region, start, end), writer, told: None };
            }
            None => self.orphans.push(Orphan { range, writer, told: None }),
        }
    }

    /// The writer whose death `turn` is the first to be told of.
    fn tell(&mut self, turn: &Turn) -> Option<NodeId> {
        let mut died = None;
        for orphan in &mut self.orphans {
            if orphan.told.is_none() && orphan.range.overlaps(turn.range) {
                orphan.told = Some(turn.caller);
                died = died.or(Some(orphan.writer));
            }
        }
        died
    }

    /// A range is given back. What its holder was told is settled, or, when it did not hear of it, news again.
    fn settle(&mut self, turn: &Turn, heard: bool) {
        let told = |orphan: &Orphan| orphan.told == Some(turn.caller) && orphan.range.overlaps(turn.range);
        if heard {
            self.orphans.retain(|orphan| !told(orphan));
        } else {
            self.orphans.iter_mut().filter(|orphan| told(orphan)).for_each(|orphan| orphan.told = None);
        }
    }
}

/// The part of whoever uses the memory.
impl Engine {
    /// Whether a region follows this protocol.
    pub(super) fn is_entry(&self, region: RegionId) -> bool {
        self.pages.protocol_of(region) == Some(Protocol::Entry)
    }

    /// The node that grants ranges of a region that is mapped here; `None` when it has none.
    pub(super) fn master(&self, region: RegionId) -> Option<NodeId> {
        let RegionSpec { protocol, placement, .. } = self.pages.spec(region)?;
        match (protocol, placement) {
            (Protocol::Entry | Protocol::Release, Placement::Single(node)) => Some(node),
            (Protocol::Release, _) => Some(sync_home(region.0 as u64, self.config.nodes)),
            _ => None,
        }
    }

    /// Whether ranges of the region order memory and bring no bytes.
    fn orders_only(&self, region: RegionId) -> bool {
        self.pages.protocol_of(region) == Some(Protocol::Release)
    }

    /// Lets the application use a page of an entry region, with the bytes that are there; false for other pages, and for one that is
    /// mapped already.
    pub(super) fn map_entry_page(&mut self, page: PageAddress, out: &mut Actions) -> bool {
        let is_new = self.page_state(page) == PageState::Invalid && self.is_entry(page.region);
        if is_new {
            out.push(Action::Materialise(page));
            out.push(Action::MapWrite(page));
            self.pages.set_local(page, LocalPage { state: PageState::Modified, pending: None });
        }
        is_new
    }

    /// Nobody asks for pages of entry regions, nor has anything else to say about one, but who its home and its owner are.
    pub(super) fn check_has_pages(&self, message: &Message) -> Handled {
        let is_question = matches!(
            message,
            Message::OwnerQuery { .. }
                | Message::OwnerReply { .. }
                | Message::HomeClaim { .. }
                | Message::HomeNamed { .. }
                | Message::HomeQuery { .. }
                | Message::HomeReply { .. }
        );
        match message.page() {
            Some(page) if !is_question && self.is_entry(page.region) => Err(NOT_OF_THIS_PROTOCOL),
            _ => Ok(()),
        }
    }

    fn check_range(&self, range: ByteRange) -> Result<NodeId, &'static str> {
        let master = self.master(range.region).ok_or(NO_SUCH_RANGE)?;
        let pages = self.pages.spec(range.region).map_or(0, |spec| spec.pages);
        if range.bytes == 0 || range.start.checked_add(range.bytes).is_none_or(|end| end > pages * 4096) {
            return Err(NO_SUCH_RANGE);
        }
        Ok(master)
    }

    /// As `check_range`, for bytes that go with a message.
    fn check_bytes(&self, range: ByteRange) -> Result<NodeId, &'static str> {
        if self.is_entry(range.region) { self.check_range(range) } else { Err(BYTES_OF_PAGES) }
    }
}

/// The locker's part.
impl Engine {
    /// A thread wants a range of an entry region, or of a release region, for reading with others or for writing alone. `ticket` completes when
    /// it has it and its bytes are here, or stale copies of the release region are not; from then on it proves that. With `waits` false, and others in the way, it completes with
    /// [`Failure::Busy`].
    ///
    /// # Panics
    /// When the range does not lie in such a region that is mapped here.
    pub fn on_range_acquire(
        &mut self,
        ticket: Ticket,
        range: ByteRange,
        access: Access,
        waits: bool,
        out: &mut Actions,
    ) {
        if self.is_gone(range.region) {
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(Failure::RegionClosed) });
            return;
        }
        let master = self.check_range(range).expect("the caller has checked the range");
        let since = self.entry.of(range.region).map_or(0, |known| known.least(range.start, range.end()));
        self.tickets.begin(ticket, Wait::Range { range, since });
        if self.live.contains(master) {
            if self.orders_only(range.region) {
                self.tell_what_is_known(master, out);
            }
            self.send(master, Message::RangeAcquire { range, ticket, access, waits, since }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(master), out);
        }
        self.settle(out);
    }

    /// A thread wrote `piece`, at most [`limits::RANGE_PIECE_BYTES`] of a range of an entry region that it was granted for writing under `ticket`. To
    /// be called for all that it wrote before [`on_range_release`](Engine::on_range_release).
    ///
    /// # Errors
    /// When the master is lost: nobody will see what was written.
    ///
    /// # Panics
    /// When the piece is too long, or lies in no entry region that is mapped here.
    pub fn on_range_write(
        &mut self,
        ticket: Ticket,
        piece: ByteRange,
        out: &mut Actions,
    ) -> Result<(), Failure> {
        if self.is_gone(piece.region) {
            return Err(Failure::RegionClosed);
        }
        let master = self.check_bytes(piece).expect("the caller has checked the range");
        assert!(piece.bytes <= limits::RANGE_PIECE_BYTES, "{piece:?} is more than one message carries");
        let message = Message::RangeWrite { range: piece, ticket };
        if master == self.config.node {
            self.send(master, message, out);
            self.settle(out);
        } else if self.live.contains(master) {
            out.push(Action::SendBytes { to: master, message, range: piece });
        } else {
            return Err(Failure::PeerLost(master));
        }
        Ok(())
    }

    /// A thread gives back a range that it was granted under `ticket`. In a release region that ends the interval.
    ///
    /// # Errors
    /// When the master is lost, and the range with it.
    pub fn on_range_release(
        &mut self,
        ticket: Ticket,
        range: ByteRange,
        out: &mut Actions,
    ) -> Result<(), Failure> {
        let Some(master) = self.master(range.region) else { return Ok(()) };
        if !self.live.contains(master) {
            return Err(Failure::PeerLost(master));
        }
        if self.orders_only(range.region) {
            self.release_interval(out);
            self.tell(master, out);
        }
        self.send(master, Message::RangeRelease { range, ticket, unused: false }, out);
        self.settle(out);
        Ok(())
    }

    pub(super) fn abandon_range(&mut self, ticket: Ticket, range: ByteRange, out: &mut Actions) {
        if let Some(master) = self.master(range.region) {
            self.send(master, Message::RangeRelease { range, ticket, unused: true }, out);
        }
    }

    pub(super) fn handle_range(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        match *message {
            Message::RangeAcquire { range, ticket, access, waits, since } => {
                let turn = Turn { caller: Caller { node: from, ticket }, range, access, since };
                self.range_wanted(turn, waits, out)
            }
            Message::RangeGrant { region, ticket, stamp, died } => {
                self.range_granted(from, region, ticket, (stamp, died), out)
            }
            Message::RangeBusy { region, ticket } => {
                let Some(wait) = self.range_wait(from, region, ticket)? else { return Ok(()) };
                self.conclude(from, Some(from), ticket, wait, Outcome::Failed(Failure::Busy), out)
            }
            Message::RangeRelease { range, ticket, unused } => {
                self.range_released(Caller { node: from, ticket }, range, unused, out)
            }
            Message::RangeBytes { range, .. } => {
                if self.check_bytes(range)? != from {
                    return Err(NOT_ITS_MASTER);
                }
                out.push(Action::StoreBytes(range));
                Ok(())
            }
            Message::RangePart { region, ticket, next } => self.range_begun(from, region, ticket, next, out),
            Message::RangeMore { range, ticket, since } => {
                self.range_continued(Caller { node: from, ticket }, range, since, out)
            }
            Message::RangeWrite { range, ticket } => {
                self.range_written(Caller { node: from, ticket }, range, out)
            }
            _ => Err("it does not belong here"),
        }
    }

    /// What `ticket` waits for in `region`, if it still does.
    fn range_wait(
        &self,
        from: NodeId,
        region: RegionId,
        ticket: Ticket,
    ) -> Result<Option<Wait>, &'static str> {
        if self.master(region) != Some(from) {
            return Err(NOT_ITS_MASTER);
        }
        let wait = self.tickets.wait(ticket);
        Ok(matches!(wait, Wait::Range { range, .. } if range.region == region).then_some(wait))
    }

    fn range_granted(
        &mut self,
        from: NodeId,
        region: RegionId,
        ticket: Ticket,
        (stamp, died): (u64, Option<NodeId>),
        out: &mut Actions,
    ) -> Handled {
        let wait = self.range_wait(from, region, ticket)?;
        let Some(Wait::Range { range, .. }) = wait else { return Ok(()) };
        if self.orders_only(region) {
            self.drop_written(out);
        } else if from != self.config.node {
            let (mut start, mut end) = (range.start, range.end());
            if self.planted(Planted::RangeKnowsWholePages) {
                (start, end) = (start & !4095, end.next_multiple_of(4096));
            }
            if let Some(known) = self.entry.of_mut(region) {
                known.received(start, end, stamp);
            }
        }
        self.complete(ticket, died.map_or(Outcome::Done, Outcome::OwnerDied), out);
        Ok(())
    }

    fn range_begun(
        &mut self,
        from: NodeId,
        region: RegionId,
        ticket: Ticket,
        next: u64,
        out: &mut Actions,
    ) -> Handled {
        let wait = self.range_wait(from, region, ticket)?;
        let Some(Wait::Range { range, since }) = wait else { return Ok(()) };
        if self.orders_only(region) {
            return Err(BYTES_OF_PAGES);
        }
        if next <= range.start || next >= range.end() {
            return Err("it would go on outside of the range");
        }
        let range = ByteRange::new(region, next, range.end());
        self.send(from, Message::RangeMore { range, ticket, since }, out);
        Ok(())
    }
}

/// The master's part.
impl Engine {
    fn check_master_here(&self, range: ByteRange) -> Handled {
        if self.check_range(range)? == self.config.node { Ok(()) } else { Err(NOT_MASTER_HERE) }
    }

    fn range_wanted(&mut self, turn: Turn, waits: bool, out: &mut Actions) -> Handled {
        self.check_master_here(turn.range)?;
        let Caller { node, ticket } = turn.caller;
        let in_line = self.entry.line.iter().filter(|other| other.caller.node == node).count();
        if in_line >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        }
        let misses = |turn: &Turn| {
            self.planted(Planted::RangeMissesOverlap)
                && !self.entry.held.iter().any(|held| held.turn.range.contains(turn.range))
        };
        let missed = misses(&turn);
        let before = if self.planted(Planted::RangeBargesIn) { 0 } else { self.entry.line.len() };
        if self.entry.held.len() + self.entry.line.len() >= limits::RANGES {
            self.send(node, Message::SyncRefused { ticket }, out);
        } else if missed || self.entry.admits(&turn, before) {
            self.grant_range(turn, out);
        } else if waits {
            self.entry.line.push(turn);
        } else {
            self.send(node, Message::RangeBusy { region: turn.range.region, ticket }, out);
        }
        Ok(())
    }

    fn grant_range(&mut self, turn: Turn, out: &mut Actions) {
        if turn.access == Access::Write {
            self.entry.stamp += 1;
        }
        let died = self.entry.tell(&turn).filter(|_| !self.planted(Planted::RangeForgetDied));
        let held = Held { turn, stamp: self.entry.stamp, died };
        self.entry.held.push(held);
        self.send_newer(held, turn.range, turn.since, out);
    }

    /// Sends the holder of a range what is newer in `rest`, or some of it.
    fn send_newer(&mut self, held: Held, rest: ByteRange, since: u64, out: &mut Actions) {
        let Caller { node: to, ticket } = held.turn.caller;
        let region = rest.region;
        let (mut at, end) = (rest.start, rest.end());
        let mut sent = 0;
        // The master's own bytes are the newest.
        while at < end
            && to != self.config.node
            && let Some(stamps) = self.entry.of(region)
            && let Some(first) = stamps.first_newer(at, end, since)
        {
            if sent == limits::RANGE_BURST {
                if self.planted(Planted::RangeSkipsRest) {
                    break;
                }
                self.send(to, Message::RangePart { region, ticket, next: first }, out);
                return;
            }
            let page_end = (first / 4096 + 1) * 4096;
            let last = stamps.end_of_newer(first, page_end.min(end), since).expect("the first is one");
            let range = ByteRange::new(region, first, last);
            if self.live.contains(to) {
                out.push(Action::SendBytes { to, message: Message::RangeBytes { range, ticket }, range });
            }
            (at, sent) = (last, sent + 1);
        }
        let Held { stamp, died, .. } = held;
        if self.orders_only(region) {
            self.tell(to, out);
        }
        self.send(to, Message::RangeGrant { region, ticket, stamp, died }, out);
    }

    /// A locker asks for the bytes that did not come with the grant. Without the range it has given up meanwhile.
    fn range_continued(&mut self, caller: Caller, rest: ByteRange, since: u64, out: &mut Actions) -> Handled {
        self.check_master_here(rest)?;
        self.check_bytes(rest)?;
        let holds = |held: &&Held| held.turn.caller == caller && held.turn.range.contains(rest);
        let Some(held) = self.entry.held.iter().find(holds).copied() else { return Ok(()) };
        self.send_newer(held, rest, since, out);
        Ok(())
    }

    /// A writer's bytes have come.
    fn range_written(&mut self, caller: Caller, piece: ByteRange, out: &mut Actions) -> Handled {
        self.check_master_here(piece)?;
        self.check_bytes(piece)?;
        let writes = |held: &&Held| {
            let Turn { caller: holder, range, access, .. } = held.turn;
            holder == caller && access == Access::Write && range.contains(piece)
        };
        let stamp = self.entry.held.iter().find(writes).map(|held| held.stamp);
        let stamp = stamp.ok_or("it does not have these bytes for writing")?;
        if caller.node != self.config.node {
            out.push(Action::StoreBytes(piece));
        }
        if !self.planted(Planted::RangeForgetWrite)
            && let Some(stamps) = self.entry.of_mut(piece.region)
        {
            stamps.written(piece.start, piece.end(), stamp);
        }
        Ok(())
    }

    /// Given back by a holder, or no longer wanted by a call that gave up. Anything else is a late one and means nothing.
    fn range_released(
        &mut self,
        caller: Caller,
        range: ByteRange,
        unused: bool,
        out: &mut Actions,
    ) -> Handled {
        self.check_master_here(range)?;
        let is_it = |turn: &Turn| turn.caller == caller && turn.range == range;
        if let Some(place) = self.entry.held.iter().position(|held| is_it(&held.turn)) {
            let held = self.entry.held.swap_remove(place);
            self.entry.settle(&held.turn, !unused);
        } else if !self.planted(Planted::RangeKeepsCancelled) {
            self.entry.line.retain(|turn| !is_it(turn));
        }
        self.serve_ranges(|turn| turn.range.overlaps(range), out);
        Ok(())
    }

    /// Serves those in line whose turn has come, as far as something may have changed for them.
    fn serve_ranges(&mut self, is_concerned: impl Fn(&Turn) -> bool, out: &mut Actions) {
        let mut place = 0;
        while let Some(turn) = self.entry.line.get(place).copied() {
            if is_concerned(&turn) && self.entry.admits(&turn, place) {
                self.entry.line.remove(place);
                self.grant_range(turn, out);
            } else {
                place += 1;
            }
        }
    }

    pub(super) fn mend_ranges(&mut self, lost: NodeId, out: &mut Actions) {
        if self.planted(Planted::RangeKeepsDeadHolder) {
            return;
        }
        self.entry.line.retain(|turn| turn.caller.node != lost);
        for place in (0..self.entry.held.len()).rev() {
            let held = self.entry.held[place];
            if held.turn.caller.node != lost {
                continue;
            }
            self.entry.held.swap_remove(place);
            self.entry.settle(&held.turn, false);
            if held.turn.access == Access::Write {
                self.entry.orphan(held.turn.range, lost);
            }
        }
        self.serve_ranges(|_| true, out);
    }
}

//! One engine with the memory that it decides about, and how its actions are performed.

use super::ahead::{Ahead, Request, STEP_MOST};
use super::failure::CallFailure;
use super::holds::Holds;
use super::runs::Sent;
use super::together::PutOff;
use super::twins::Twins;
use super::unit::{RestOfUnit, UnitMiss};
use super::{Runtime, lock};
use crate::stats::{Counters, count};
use pagemesh_memory::{
    Diff, Mapping, MappingError, MappingOptions, PAGE_BYTES, PageBytes, PageRange, RegionKey,
};
use pagemesh_net::Pages;
use pagemesh_protocol::{
    Access, Action, Actions, Engine, Message, NodeId, Outcome, PageAddress, Protocol, RegionId, RegionSpec,
    Ticket, Unit, View, Violation,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Room for the actions of one event: an invalidation of 63 sharers fits.
pub(super) const ACTIONS: usize = 256;

/// Empty diffs of one event of which the engine is told.
const UNCHANGED: usize = 256;
/// Room for what one request of a page can send: to its home and, in a release region, to every node that wrote it.
pub(super) const ACTIONS_OF_ONE_REQUEST: usize = 72;

/// What is to be asked for besides a page that a thread waits for, when the shard's lock was given back.
#[derive(Clone, Debug)]
pub(super) enum Besides {
    /// The rest of its unit.
    Unit(RestOfUnit),
    /// What its thread is likely to read next, where another shard decides.
    Ahead(Request, Access),
}

/// What came with the message that is being handled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load<'a> {
    Nothing,
    Page(&'a PageBytes),
    /// The bytes of the page, which have been put in its place already.
    InPlace,
    /// Of a range, or a piece of what is passed on.
    Bytes(&'a [u8]),
    /// `None` when nothing has changed.
    Diff(Option<Diff<'a>>),
}

pub(super) struct Shard {
    /// Which of the node's shards it is.
    place: usize,
    pub(super) engine: Engine,
    mappings: Vec<Option<Arc<Mapping>>>,
    /// The same memory, for pages that are sent from where they lie.
    sent: Vec<Option<Arc<dyn Pages>>>,
    pub(super) actions: Actions,
    twins: Twins,
    /// Pages whose diffs turned out to be empty while actions were performed.
    unchanged: Vec<PageAddress>,
    /// Pages that were written until they were unmapped, earlier in the event that is performed.
    pub(super) late: Vec<(PageAddress, u64)>,
    /// Those of them of which the engine is to be told.
    pub(super) flushed: Vec<PageAddress>,
    pub(super) ahead: Ahead,
    pub(super) write_ahead: Ahead,
    pub(super) put_off: PutOff,
    closed: bool,
    /// The locks that threads of this node hold.
    pub(super) holds: Holds,
    /// Whose faults the mappings report; not counted, since the runtime owns the mappings.
    runtime: Weak<Runtime>,
}

/// A region that was mapped, or not, while actions were performed; the engine is told afterwards.
type Mapped = Option<(RegionId, u16, bool)>;

impl Shard {
    pub(super) fn new(place: usize, engine: Engine, runtime: Weak<Runtime>) -> Shard {
        Shard {
            place,
            engine,
            mappings: Vec::new(),
            sent: Vec::new(),
            actions: Vec::with_capacity(ACTIONS),
            twins: Twins::default(),
            unchanged: Vec::with_capacity(UNCHANGED),
            late: Vec::with_capacity(UNCHANGED),
            flushed: Vec::with_capacity(UNCHANGED),
            ahead: Ahead::default(),
            write_ahead: Ahead::to_write(),
            put_off: PutOff::new(),
            closed: false,
            holds: Holds::default(),
            runtime,
        }
    }

    /// Which of the node's shards it is.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends everything; the mappings are the caller's to drop, where no lock is held.
    pub(super) fn close(&mut self) -> Vec<Option<Arc<Mapping>>> {
        self.closed = true;
        self.sent.clear();
        std::mem::take(&mut self.mappings)
    }

    pub(super) fn mapping(&self, region: RegionId) -> Option<Arc<Mapping>> {
        self.mappings.get(region.index())?.clone()
    }

    pub(super) fn mapping_of(&self, region: RegionId) -> Option<&Mapping> {
        self.mappings.get(region.index())?.as_deref()
    }

    /// The memory of a region to send pages from.
    pub(super) fn sent(&self, region: RegionId) -> Option<&Arc<dyn Pages>> {
        self.sent.get(region.index())?.as_ref()
    }

    fn unmap_region(&mut self, region: RegionId) -> Option<Arc<Mapping>> {
        self.sent.get_mut(region.index()).and_then(Option::take);
        self.mappings.get_mut(region.index()).and_then(Option::take)
    }

    /// The region that holds all of these addresses.
    pub(super) fn mapping_at(&self, address: usize, bytes: usize) -> Option<(RegionId, Arc<Mapping>)> {
        let holds = |mapping: &Mapping| {
            let offset = address.checked_sub(mapping.base());
            offset.is_some_and(|offset| offset <= mapping.bytes() && bytes <= mapping.bytes() - offset)
        };
        self.mappings.iter().find_map(|mapping| {
            let mapping = mapping.as_ref().filter(|mapping| holds(mapping))?;
            Some((RegionId(mapping.key().0 as u16), mapping.clone()))
        })
    }

    /// Gives the engine an event and performs its actions. `load` came with the event.
    pub(super) fn run<R>(
        &mut self,
        runtime: &Runtime,
        load: Load<'_>,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> R {
        debug_assert!(self.put_off.is_empty(), "what was put off is done before the lock is released");
        let mut actions = std::mem::take(&mut self.actions);
        let before = self.beyond_demand();
        let result = event(&mut self.engine, &mut actions);
        self.perform_event(runtime, load, &mut actions);
        self.count_beyond_demand(runtime, before);
        self.actions = actions;
        result
    }

    /// Gives the engine a message with what came with it. Its actions may be put off: before the lock is released, the caller
    /// has them done by [`catch_up`](Shard::catch_up).
    pub(super) fn handle(
        &mut self,
        runtime: &Runtime,
        load: Load<'_>,
        (from, view): (NodeId, View),
        message: &Message,
    ) -> Result<(), Violation> {
        let mut actions = std::mem::take(&mut self.actions);
        let before = self.beyond_demand();
        let handled = self.engine.on_message(from, view, message, &mut actions);
        if self.put_off(runtime, load, &actions) {
            actions.clear();
        } else {
            self.catch_up(runtime);
            self.perform_event(runtime, load, &mut actions);
        }
        self.count_beyond_demand(runtime, before);
        self.actions = actions;
        handled
    }

    pub(super) fn perform_event(&mut self, runtime: &Runtime, load: Load<'_>, actions: &mut Actions) {
        loop {
            let mapped = self.perform_all(runtime, load, actions);
            actions.clear();
            let Some((region, round, mapped)) = mapped else { break };
            self.engine.on_region_mapped(region, round, mapped, actions);
            if mapped && self.twins.has_area(region) {
                self.engine.track_writes(region);
            }
        }
        self.late.clear();
        for page in self.flushed.drain(..) {
            self.engine.on_flushed(page);
        }
        for page in self.unchanged.drain(..) {
            self.engine.on_unchanged(page);
        }
    }

    /// What the engine has counted that nobody asked for: pages foreseen and left writable, updates adopted and ignored.
    fn beyond_demand(&self) -> [u64; 4] {
        let ((fetched, left_writable), (adopted, ignored)) = (self.engine.foreseen(), self.engine.updates());
        [fetched, left_writable, adopted, ignored]
    }

    fn count_beyond_demand(&self, runtime: &Runtime, before: [u64; 4]) {
        let now = self.beyond_demand();
        if now == before {
            return;
        }
        let Counters { pages_foreseen, writes_foreseen, updates_adopted, updates_ignored, .. } =
            &runtime.counters;
        let counters = [pages_foreseen, writes_foreseen, updates_adopted, updates_ignored];
        for (counter, (now, before)) in counters.into_iter().zip(now.into_iter().zip(before)) {
            counter.fetch_add(now - before, Ordering::Relaxed);
        }
    }

    /// A thread faulted. With what it needs, the other pages of its unit are asked for, and what it is likely to read next, where it goes along a
    /// way of pages. Returns what is to be asked for besides.
    pub(super) fn fault(
        &mut self,
        runtime: &Runtime,
        ticket: Ticket,
        page: PageAddress,
        access: Access,
    ) -> Option<Besides> {
        let spec = self.engine.region(page.region);
        let unit = spec.filter(|spec| spec.unit != Unit::Page).map(|spec| UnitMiss::of(&spec, page, access));
        // Of what is on its way already, the rest was asked for with it.
        let is_missed = |miss: &UnitMiss| {
            !self.engine.page_state(page).allows(miss.access()) && !self.engine.is_asked_for(page)
        };
        let unit = unit.filter(is_missed);
        self.forget_ahead(page);
        let request = spec.and_then(|spec| self.way_on(runtime, &spec, page, access));
        let mut besides = None;
        let fault = |engine: &mut Engine, out: &mut Actions| {
            let Some(unit) = unit else { return engine.on_fault(ticket, page, access, out) };
            let (asked, rest) = unit.ask(runtime, engine, (ticket, access), out);
            runtime.counters.pages_prefetched.fetch_add(asked, Ordering::Relaxed);
            besides = rest.map(Besides::Unit);
        };
        let Some((request, pages, asked)) = request else {
            self.run(runtime, Load::Nothing, fault);
            return besides;
        };
        let writes = access == Access::Write;
        let passed = self.ask_ahead(runtime, &request, (pages, asked, writes), fault);
        let next = if passed < request.count { request.page(passed, pages) } else { None };
        let next = next.filter(|next| besides.is_none() && runtime.shards.place_of(*next) != self.place);
        let Some(next) = next else { return besides };
        let rest = request.after(passed, next);
        self.ways(asked).asked(&request, rest.count, 0);
        Some(Besides::Ahead(rest, asked))
    }

    /// Asks for what another shard would have its thread use next, here.
    pub(super) fn go_on_ahead(&mut self, runtime: &Runtime, rest: Request, access: Access) {
        let Some(spec) = self.engine.region(rest.first().region) else { return };
        let request = self.ways(access).take_over(rest);
        self.ask_ahead(runtime, &request, (spec.pages, access, access == Access::Write), |_, _| {});
    }

    /// After `event`, asks for the pages of `request` that this shard decides about, up to the first that it does not. Returns how many pages
    /// that were, with those that need not be asked for. The region has so many pages, they are asked for to be accessed so, and for a thread that
    /// writes or does not.
    fn ask_ahead(
        &mut self,
        runtime: &Runtime,
        request: &Request,
        (pages, access, writes): (u64, Access, bool),
        event: impl FnOnce(&mut Engine, &mut Actions),
    ) -> u32 {
        let (mut passed, mut expected, place) = (0, 0u128, self.place);
        self.run(runtime, Load::Nothing, |engine, out| {
            event(engine, out);
            while passed < request.count && out.len() + ACTIONS_OF_ONE_REQUEST <= ACTIONS {
                let Some(next) = request.page(passed, pages) else { break };
                if runtime.shards.place_of(next) != place {
                    break;
                }
                // To ask for a page that has no home yet would make this node its home.
                let may_be = match access {
                    Access::Read => !writes || engine.home(next).is_some(),
                    Access::Write => is_elsewhere(engine, next),
                };
                if may_be && !engine.page_state(next).allows(access) && !engine.is_asked_for(next) {
                    let Some(ticket) = runtime.calls.detach() else { break };
                    engine.on_prefetch(ticket, next, access, out);
                    expected |= 1 << passed;
                }
                passed += 1;
            }
        });
        self.ways(access).asked(request, passed, expected);
        runtime.counters.pages_prefetched.fetch_add(expected.count_ones().into(), Ordering::Relaxed);
        passed
    }

    fn ways(&mut self, access: Access) -> &mut Ahead {
        if access == Access::Read { &mut self.ahead } else { &mut self.write_ahead }
    }

    /// What is to be asked for with a page that is missed, of a region of so many pages, and to do what.
    fn way_on(
        &mut self,
        runtime: &Runtime,
        spec: &RegionSpec,
        page: PageAddress,
        access: Access,
    ) -> Option<(Request, u64, Access)> {
        let grain = spec.unit.pages();
        if !runtime.reads_ahead || grain > STEP_MOST {
            return None;
        }
        let (ways, access) = match (access, spec.protocol) {
            (_, Protocol::Migration) => return None,
            (Access::Read, _) => (&mut self.ahead, Access::Read),
            (Access::Write, Protocol::WriteInvalidate) if is_elsewhere(&self.engine, page) => {
                (&mut self.write_ahead, Access::Write)
            }
            // Where the kernel notes writes, who has a page to read can write it.
            (Access::Write, Protocol::Release) if self.engine.tracks_writes(page.region) => {
                (&mut self.ahead, Access::Read)
            }
            (Access::Write, _) => return None,
        };
        let absent = !self.engine.page_state(page).allows(access) && !self.engine.is_asked_for(page);
        let request = ways.missed(page, (grain, absent), || runtime.runs_beside_peers())?;
        Some((request, spec.pages, access))
    }

    /// Makes `page` writable if that takes nobody else; whether the kernel granted it. `None` where it takes more.
    pub(super) fn write_at_once(&mut self, runtime: &Runtime, page: PageAddress) -> Option<bool> {
        if self.closed {
            return None;
        }
        let action = self.engine.on_write_at_once(page)?;
        self.ahead.forget(page);
        Some(self.change_page(runtime, Load::Nothing, &action))
    }

    /// `page` is to be mapped as soon as it is here.
    pub(super) fn forget_ahead(&mut self, page: PageAddress) {
        self.ahead.forget(page);
        self.write_ahead.forget(page);
    }

    fn perform_all(&mut self, runtime: &Runtime, load: Load<'_>, actions: &Actions) -> Mapped {
        let mut mapped = None;
        let mut refused = false;
        let mut rest = actions.as_slice();
        while let Some((action, after)) = rest.split_first() {
            rest = after;
            match *action {
                Action::Send { to, message, payload } => match self.send_run(runtime, action, rest) {
                    Some(more) => rest = &rest[more..],
                    None => self.send(runtime, to, &message, payload),
                },
                Action::SendDiff { to, message, page, keep_twin } => {
                    self.send_diff(runtime, to, &message, (page, keep_twin));
                }
                Action::Flush { page, diff } => self.flush(runtime, page, diff),
                Action::SendBytes { to, message, range } => self.send_bytes(runtime, to, &message, range),
                Action::MakeTwin(page) | Action::TwinWhileWritten(page) => refused |= !self.make_twin(page),
                Action::MapRead(page) => refused |= !self.map_read(page),
                Action::DropTwin(page) => self.twins.drop_twin(page),
                Action::Protect(first) | Action::Unmap(first) => {
                    let more = followers(action, rest);
                    rest = &rest[more..];
                    self.take_row(runtime, action, PageRange::new(first.page, 1 + more as u64), first);
                }
                Action::Complete { ticket, outcome } => {
                    Shard::complete(runtime, ticket, outcome, refused);
                }
                Action::Atomic { page, operation, requester, ticket, answer } => {
                    self.operate(runtime, page, operation, (requester, ticket, answer));
                }
                Action::TakePiece { round, offset } => runtime.broadcast.keep(round, offset, load),
                Action::MapRegion { region, round, spec } => {
                    debug_assert!(mapped.is_none(), "one event proposes one region");
                    let is_mapped = self.map_region(region, &spec);
                    if is_mapped {
                        self.tell_of_region(runtime, region, spec);
                    }
                    mapped = Some((region, round, is_mapped));
                }
                Action::UnmapRegion(region) => {
                    tell_of_end(runtime, region);
                    self.ahead.forget_region(region);
                    self.write_ahead.forget_region(region);
                    self.twins.forget_area(region);
                    let mapping = self.unmap_region(region);
                    lock(&runtime.retired).extend(mapping);
                }
                Action::ForgetRegion(region) => {
                    tell_of_end(runtime, region);
                    self.ahead.forget_region(region);
                    self.write_ahead.forget_region(region);
                    self.twins.forget_region(region);
                    let mapping = self.unmap_region(region);
                    lock(&runtime.forgotten).push((region, mapping));
                    runtime.switch.wake_service();
                }
                Action::Departed(node) => {
                    let mut departures = lock(&runtime.departures);
                    departures.said_goodbye = departures.said_goodbye.with(node);
                }
                Action::Postpone => runtime.postpone(self.place),
                Action::Hurry(node) => runtime.switch.hurry(node.get()),
                Action::AwaitUnpin(wait) => runtime.await_unpin(self.place, wait),
                Action::ApplyMarked(page)
                | Action::FillAround(page)
                | Action::Adopt(page)
                | Action::Update(page) => {
                    self.change_lent(load, action, page);
                }
                ref on_page => refused |= !self.change_page(runtime, load, on_page),
            }
        }
        mapped
    }

    /// Ends a call. `refused`: the kernel has not mapped what it waited for.
    pub(super) fn complete(runtime: &Runtime, ticket: Ticket, outcome: Outcome, refused: bool) {
        let result = if refused { Err(CallFailure::Mapping) } else { Ok(outcome) };
        if runtime.calls.finish(ticket, result.and_then(failed_apart)) {
            runtime.switch.wake_leader();
        }
    }

    /// Takes rights to neighbouring pages away, from `first` on; what was asked for ahead of them is no longer there.
    pub(super) fn take_row(
        &mut self,
        runtime: &Runtime,
        action: &Action,
        pages: PageRange,
        first: PageAddress,
    ) {
        for page in first.page..pages.end() {
            let page = PageAddress::new(first.region, page);
            self.write_ahead.taken(page);
            if matches!(action, Action::Unmap(_)) {
                self.ahead.taken(page);
            }
        }
        self.take_rights(runtime, action, pages, first);
    }

    /// Performs an action on a page that is lent, comes back, is kept from now on, or was sent along.
    fn change_lent(&mut self, load: Load<'_>, action: &Action, page: PageAddress) {
        let mapping = self.mappings[page.region.index()].as_ref().expect("the page is mapped");
        let service = mapping.service();
        match (action, load) {
            (Action::ApplyMarked(_), Load::Diff(Some(diff))) => self.twins.apply_marked(page, &diff, service),
            (Action::ApplyMarked(_), Load::Diff(None)) => {}
            (Action::FillAround(_), Load::Page(bytes)) => self.twins.fill_around(page, bytes, service),
            (Action::Adopt(_), Load::Page(bytes)) => self.twins.adopt(page, bytes, service),
            (Action::Update(_), Load::Page(bytes)) => self.twins.update(page, bytes, service),
            _ => unreachable!("a message that changes a page carries what it needs"),
        }
    }

    pub(super) fn make_twin(&mut self, page: PageAddress) -> bool {
        let mapping = self.mappings[page.region.index()].as_ref().expect("the page is mapped");
        self.twins.make(page, mapping.service())
    }

    /// Whether nothing in `page` differs from its twin.
    pub(super) fn equals_twin(&mut self, page: PageAddress) -> bool {
        let mapping = self.mappings[page.region.index()].as_ref().expect("the page is mapped");
        self.twins.is_equal(page, mapping.service())
    }

    fn send_diff(
        &mut self,
        runtime: &Runtime,
        to: NodeId,
        message: &Message,
        (page, keep_twin): (PageAddress, bool),
    ) {
        let sent = self.send_diff_of(runtime, to, message, (page, keep_twin), false);
        if !sent && self.unchanged.len() < UNCHANGED {
            self.unchanged.push(page);
        }
    }

    /// Sends what differs between a page and its twin; where nothing does and that need not be said, nothing. Whether something did.
    pub(super) fn send_diff_of(
        &mut self,
        runtime: &Runtime,
        to: NodeId,
        message: &Message,
        (page, keep_twin): (PageAddress, bool),
        only_changes: bool,
    ) -> bool {
        let mut bytes = [0; Message::MAX_BYTES];
        let message_length = message.encode(self.engine.view(), &mut bytes);
        let mapping = self.mappings[page.region.index()].as_ref().expect("the page is mapped");
        let diff = self.twins.take_diff(page, keep_twin, mapping.service());
        let differs = !diff.is_empty();
        if only_changes && !differs {
            return false;
        }
        count(&runtime.counters.diffs_sent);
        runtime.counters.diff_bytes.fetch_add(diff.len() as u64, Ordering::Relaxed);
        // A link that has ended is reported to whoever receives, and from there to the engine.
        let _ = runtime.switch.enqueue(to.get(), &bytes[..message_length], diff);
        differs
    }

    pub(super) fn mapped(&self, page: PageAddress) -> &Mapping {
        self.mappings[page.region.index()].as_ref().expect("the engine knows only regions that are mapped")
    }

    /// Makes a page readable, and with it what was asked for ahead and lies behind it; or leaves that for a thread that comes to it,
    /// where it was asked for ahead itself. False when the kernel refused.
    fn map_read(&mut self, page: PageAddress) -> bool {
        self.ahead.arrives(page) || self.map_read_row(page, 1)
    }

    /// Performs an action on a page. False when the kernel refused to grant a right.
    pub(super) fn change_page(&self, runtime: &Runtime, load: Load<'_>, action: &Action) -> bool {
        let granted = |page: PageAddress, access| {
            self.mapped(page).pager().map(PageRange::one(page.page), access).is_ok()
        };
        match *action {
            Action::Fill(page) => {
                match load {
                    Load::Page(bytes) => self.mapped(page).service().write_page(page.page, bytes),
                    Load::InPlace => {}
                    _ => unreachable!("a message that fills a page carries one"),
                }
                count(&runtime.counters.pages_fetched);
                true
            }
            Action::FillZero(page) => {
                self.mapped(page).service().zero_page(page.page);
                true
            }
            Action::StoreBytes(range) => {
                let Load::Bytes(bytes) = load else {
                    unreachable!("a message that stores bytes carries them")
                };
                let page = PageAddress::new(range.region, range.start / PAGE_BYTES as u64);
                self.mapped(page).service().write(range.start as usize, bytes);
                true
            }
            Action::Materialise(page) => {
                // UFFDIO_CONTINUE fails (EFAULT) on a page that the file does not have yet; a load through a mapping gives it one.
                self.mapped(page).service().read(page.page as usize * PAGE_BYTES, &mut [0]);
                true
            }
            Action::MapWrite(page) => granted(page, pagemesh_memory::Access::Write),
            Action::Unprotect(page) => self.mapped(page).pager().unprotect(PageRange::one(page.page)).is_ok(),
            Action::ApplyDiff(page) => {
                let Load::Diff(diff) = load else {
                    unreachable!("a message that changes a page carries a diff")
                };
                let service = self.mapped(page).service();
                match diff {
                    Some(diff) => service.apply_checked(page.page, &diff),
                    // Zeros were written to zeros. The page counts as touched all the same, and UFFDIO_CONTINUE fails (EFAULT) on
                    // a page that the file does not have yet; a load through a mapping gives it one.
                    None => service.read(page.page as usize * PAGE_BYTES, &mut [0]),
                }
                true
            }
            _ => unreachable!("not an action on a page"),
        }
    }

    /// Takes rights to some pages away, at once: every such call interrupts all other processors.
    ///
    /// # Panics
    /// When the kernel refused: going on would show stale bytes to the application.
    fn take_rights(&mut self, runtime: &Runtime, action: &Action, pages: PageRange, first: PageAddress) {
        let mapping = self.mappings[first.region.index()].as_ref().expect("the page is mapped");
        let pager = mapping.pager();
        if matches!(action, Action::Protect(_)) {
            pager.protect(pages).expect("the right to write a page can be taken away");
        } else {
            runtime.counters.invalidations.fetch_add(pages.count(), Ordering::Relaxed);
            for page in first.page..first.page + pages.count() {
                runtime.taken.add(PageAddress::new(first.region, page));
            }
            if !self.twins.has_area(first.region) {
                return pager.unmap(pages).expect("a page can be taken away");
            }
            let late = &mut self.late;
            let mut tell =
                |run: PageRange| late.push((PageAddress::new(first.region, run.first()), run.count()));
            if let Err(error) = pager.unmap_and_tell(pages, &mut tell) {
                tracing::error!(%error, "taking all of them for written");
                pager.unmap(pages).expect("a page can be taken away");
                tell(pages);
            }
        }
    }

    fn set_mapping(&mut self, region: RegionId, mapping: Arc<Mapping>) {
        if self.mappings.len() <= region.index() {
            self.mappings.resize_with(region.index() + 1, || None);
            self.sent.resize_with(region.index() + 1, || None);
        }
        self.sent[region.index()] = Some(Sent::of(&mapping));
        self.mappings[region.index()] = Some(mapping);
    }

    /// A region was mapped by this shard, the first: those that decide about some of its pages learn of it before any node can ask for one.
    fn tell_of_region(&self, runtime: &Runtime, region: RegionId, spec: RegionSpec) {
        let is_divided = runtime.shards.divides(spec.protocol);
        if let Some(mapping) = self.mapping(region).filter(|_| is_divided) {
            for mut shard in runtime.shards.others() {
                shard.set_mapping(region, mapping.clone());
                shard.engine.on_region_told(region, spec);
            }
        }
        runtime.shards.set_divided(region, is_divided);
    }

    fn map_region(&mut self, region: RegionId, spec: &RegionSpec) -> bool {
        let Some(runtime) = self.runtime.upgrade() else { return false };
        if spec.protocol == Protocol::Release && !self.twins.prepare() {
            return false;
        }
        let tracks = spec.protocol == Protocol::Release && runtime.tracks_writes;
        let tracks = tracks && self.twins.prepare_area(region, spec.pages);
        let options = MappingOptions::new(RegionKey(region.0 as u32), spec.pages as usize * PAGE_BYTES)
            .address(spec.address as usize)
            .track_writes(tracks)
            .pager(runtime.pager.kind);
        match Mapping::new(options, runtime) {
            Ok(mapping) => {
                if !mapping.tracks_writes() {
                    self.twins.forget_area(region);
                }
                self.set_mapping(region, Arc::new(mapping));
                true
            }
            Err(error @ MappingError::AddressTaken { .. }) => {
                tracing::debug!(region = spec.name.as_str(), %error, "asking for another address");
                false
            }
            Err(error) => {
                tracing::error!(region = spec.name.as_str(), %error, "a region cannot be mapped");
                false
            }
        }
    }
}

/// A region goes: the shards other than the first let it go before that one does.
fn tell_of_end(runtime: &Runtime, region: RegionId) {
    for mut shard in runtime.shards.others() {
        shard.ahead.forget_region(region);
        shard.write_ahead.forget_region(region);
        shard.run(runtime, Load::Nothing, |engine, out| engine.on_region_ended(region, out));
        // Never the last that has it.
        shard.unmap_region(region);
    }
}

/// Whether another node is known to be the home of `page`.
fn is_elsewhere(engine: &Engine, page: PageAddress) -> bool {
    engine.home(page).is_some_and(|home| home != engine.node())
}

/// How many of the actions after `action` do the same to the pages after its own.
fn followers(action: &Action, rest: &[Action]) -> usize {
    let mut last = *action;
    let follows = |next: &&Action| {
        let in_order = match (last, **next) {
            (Action::Protect(last), Action::Protect(next)) | (Action::Unmap(last), Action::Unmap(next)) => {
                last.region == next.region && last.page + 1 == next.page
            }
            _ => false,
        };
        last = **next;
        in_order
    };
    rest.iter().take_while(follows).count()
}

fn failed_apart(outcome: Outcome) -> Result<Outcome, CallFailure> {
    match outcome {
        Outcome::Failed(failure) => Err(CallFailure::Failed(failure)),
        outcome => Ok(outcome),
    }
}

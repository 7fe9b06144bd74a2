//! A small mesh whose every event is chosen by a script.

use super::node::{Node, SLOTS, SYNC_BOUND, Slot, Wanted};
use crate::script::Script;
use pagemesh_protocol::{
    Access, Action, Actions, AtomicAnswer, AtomicChange, AtomicOperation, BarrierId, LockId, Message, NodeId,
    Outcome, PageAddress, PageState, Placement, Protocol, RegionId, RegionName, RegionSpec, Unit, View,
    limits,
};
use std::collections::{BTreeSet, VecDeque};

/// Regions that exist from the start.
pub(super) const REGIONS: [(Protocol, Placement); 5] = [
    (Protocol::WriteInvalidate, Placement::Cyclic),
    (Protocol::Migration, Placement::Block),
    (Protocol::WriteInvalidate, Placement::FirstTouch),
    (Protocol::Release, Placement::Cyclic),
    (Protocol::Release, Placement::FirstTouch),
];
/// Pages of each.
pub(super) const PAGES: u64 = 3;
/// A larger region is reported as not to be mapped, as where address space is short.
const MAPPED_PAGES_MAX: u64 = 1 << 12;

/// Runs of pages that a node can have been told of: of each page of an input once for each node and interval, and what lies make up.
const NOTICES_MOST: usize = 4096;

/// First bytes of an event from here on are about objects of synchronisation; those below mean what they meant before there were any.
const OBJECT_CHOICES: u8 = 9 * 24;

/// What travels on a link.
#[derive(Clone, Copy, Debug)]
enum Parcel {
    Message(Message),
    /// The sender is gone; nothing comes after.
    Closed,
}

pub(super) struct Mesh {
    /// `None` for those that died.
    pub(super) nodes: Vec<Option<Node>>,
    /// By sender times nodes plus receiver.
    links: Vec<VecDeque<Parcel>>,
    /// Who lies.
    liar: Option<usize>,
    /// What the liar may know: the latest words that were sent by anyone.
    pub(super) overheard: VecDeque<u32>,
    /// Regions that some application was given: they are mapped everywhere.
    ready: BTreeSet<RegionId>,
    actions: Actions,
}

impl Mesh {
    /// Nodes that have the regions of [`REGIONS`] mapped.
    pub(super) fn new(count: usize, liar: Option<usize>) -> Mesh {
        let mut mesh = Mesh {
            nodes: (0..count).map(|number| Some(Node::new(number, count))).collect(),
            links: vec![VecDeque::new(); count * count],
            liar,
            overheard: VecDeque::new(),
            ready: BTreeSet::new(),
            actions: Actions::new(),
        };
        for (number, (protocol, placement)) in REGIONS.into_iter().enumerate() {
            mesh.open_region(0, true, spec(number, PAGES, protocol, placement));
            mesh.drain();
        }
        mesh
    }

    pub(super) fn liar(&self) -> Option<usize> {
        self.liar
    }

    fn alive(&self, at: usize) -> bool {
        self.nodes[at].is_some()
    }

    fn living(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// One event of any kind.
    pub(super) fn event(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let at = script.below(self.nodes.len());
        if choice >= OBJECT_CHOICES {
            return self.use_object(at, script);
        }
        match choice % 24 {
            6 => self.change(at, script),
            7 => self.evict(at, script),
            8..=12 => self.touch(at, script),
            13 => self.resume(at, script),
            14 => self.let_postponed(at),
            15 => self.acquire(at, LockId(script.below(6) as u64)),
            16 => self.release(at, script),
            17 => {
                let (barrier, participants) = (BarrierId(script.below(6) as u64), 1 + script.below(3) as u32);
                self.call(at, Wanted::Others, |node, ticket, out| {
                    node.engine.on_barrier_arrive(ticket, barrier, participants, out);
                });
            }
            18 => self.cancel(at, script),
            19 => self.ask(at, script),
            20 => {
                let (create, number, pages) = (script.below(2) == 0, script.below(6), script.below(4));
                let protocol =
                    script.pick(&[Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release]);
                let single = Placement::Single(NodeId::new(script.below(4) as u16));
                let placement = script.pick(&[Placement::Cyclic, Placement::FirstTouch, single]);
                let lawful = !create || pages > 0;
                let possible =
                    !matches!(placement, Placement::Single(node) if node.index() >= self.nodes.len());
                if lawful && possible {
                    self.open_region(at, create, spec(number, pages as u64, protocol, placement));
                }
            }
            21 => {
                let fits = script.below(4) > 0;
                self.answer_proposal(at, fits);
            }
            22 if script.below(8) == 0 => self.die(at, script),
            23 => self.call(at, Wanted::Others, |node, ticket, out| node.engine.on_leave(ticket, out)),
            _ => self.deliver(script),
        }
    }

    /// Gives one event to a node and performs what its engine asks for.
    pub(super) fn feed(&mut self, at: usize, event: impl FnOnce(&mut Node, &mut Actions)) {
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(node) = &mut self.nodes[at] {
            event(node, &mut actions);
        }
        for action in actions.drain(..) {
            self.perform(at, &action);
        }
        self.actions = actions;
    }

    fn perform(&mut self, at: usize, action: &Action) {
        let count = self.nodes.len();
        let Some(node) = &mut self.nodes[at] else { return };
        node.change_rights(action);
        match *action {
            Action::Send { to, message, .. } | Action::SendDiff { to, message, .. } => {
                assert_ne!(to.index(), at, "a message to itself became an action");
                if self.nodes[to.index()].is_some() {
                    self.links[at * count + to.index()].push_back(Parcel::Message(message));
                }
                self.overhear(&message);
            }
            Action::MapRegion { region, round, spec } => node.proposals.push_back((region, round, spec)),
            Action::Atomic { page, requester, ticket, answer, .. } => match answer {
                AtomicAnswer::Call => node.complete(ticket, Outcome::Word(7)),
                answer => {
                    if let Some((to, message)) = answer.message(page, requester, ticket, 7) {
                        self.perform(at, &Action::Send { to, message, payload: None });
                    }
                }
            },
            Action::Complete { ticket, outcome } => {
                node.complete(ticket, outcome);
                if let Outcome::Region { region, .. } = outcome {
                    self.ready.insert(region);
                }
            }
            Action::Postpone => node.postponed = true,
            _ => {}
        }
    }

    fn overhear(&mut self, message: &Message) {
        let mut bytes = [0; Message::MAX_BYTES];
        message.encode(View::FIRST, &mut bytes);
        let word = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        self.overheard.push_front(word);
        self.overheard.truncate(16);
    }

    /// A call of node `at`, unless it has too many.
    pub(super) fn call(
        &mut self,
        at: usize,
        wanted: Wanted,
        event: impl FnOnce(&mut Node, pagemesh_protocol::Ticket, &mut Actions),
    ) {
        let Some(ticket) = self.nodes[at].as_mut().and_then(|node| node.begin(wanted)) else { return };
        self.feed(at, |node, out| event(node, ticket, out));
    }

    fn deliver(&mut self, script: &mut Script<'_>) {
        let full: Vec<usize> = (0..self.links.len()).filter(|link| !self.links[*link].is_empty()).collect();
        if !full.is_empty() {
            let link = full[script.below(full.len())];
            self.deliver_first(link);
        }
    }

    fn deliver_first(&mut self, link: usize) {
        let (from, to) = (link / self.nodes.len(), link % self.nodes.len());
        match self.links[link].pop_front() {
            Some(Parcel::Message(message)) => self.tell(from, to, View::FIRST, &message),
            Some(Parcel::Closed) => self.lose(to, from),
            None => {}
        }
    }

    /// Node `to` hears `message`. When it cannot be from an honest node the two part, if somebody lies.
    pub(super) fn tell(&mut self, from: usize, to: usize, view: View, message: &Message) {
        let sender = NodeId::new(from as u16);
        let mut violation = None;
        self.feed(to, |node, out| {
            if node.engine.live().contains(sender) {
                violation = node.engine.on_message(sender, view, message, out).err();
            }
        });
        if let Some(violation) = violation {
            assert!(self.liar.is_some(), "{violation}");
            self.lose(to, from);
            self.lose(from, to);
        }
    }

    /// Node `at` loses `peer`, and what is still on the way between them.
    fn lose(&mut self, at: usize, peer: usize) {
        let count = self.nodes.len();
        self.links[peer * count + at].clear();
        self.links[at * count + peer].clear();
        self.feed(at, |node, out| node.engine.on_peer_lost(NodeId::new(peer as u16), out));
    }

    /// Node `at` dies; some of what it said is still heard.
    fn die(&mut self, at: usize, script: &mut Script<'_>) {
        if self.living().count() == 1 || !self.alive(at) {
            return;
        }
        self.nodes[at] = None;
        let count = self.nodes.len();
        for peer in (0..count).filter(|peer| *peer != at) {
            self.links[peer * count + at].clear();
            let link = &mut self.links[at * count + peer];
            link.truncate(script.below(8));
            link.push_back(Parcel::Closed);
        }
    }

    fn touch(&mut self, at: usize, script: &mut Script<'_>) {
        let page = PageAddress::new(
            RegionId(script.below(REGIONS.len() + 2) as u16),
            script.below(PAGES as usize) as u64,
        );
        let access = script.pick(&[Access::Read, Access::Write]);
        let held = script.below(4) > 0;
        if !self.has(at, page) {
            return;
        }
        self.call(at, Wanted::Page { held }, |node, ticket, out| {
            if held {
                node.engine.on_fault(ticket, page, access, out);
            } else {
                node.engine.on_prefetch(ticket, page, access, out);
            }
        });
    }

    /// Has a word of a page changed where the page is; or would rather leave that.
    fn change(&mut self, at: usize, script: &mut Script<'_>) {
        let page = PageAddress::new(RegionId(script.below(5) as u16), script.below(PAGES as usize) as u64);
        let expected = script.below(4) as u64;
        let change = script.pick(&[
            AtomicChange::Add(1),
            AtomicChange::Swap(2),
            AtomicChange::CompareSwap { expected, desired: 3 },
        ]);
        if script.below(4) == 0 {
            self.feed(at, |node, out| {
                let waiting: Vec<_> = node.open();
                if !waiting.is_empty() {
                    node.engine.on_atomic_give_up(script.pick(&waiting), out);
                }
            });
        } else if self.has(at, page) {
            let operation = AtomicOperation { word: 511, change };
            self.call(at, Wanted::Answer, |node, ticket, out| {
                node.engine.on_atomic(ticket, page, operation, out);
            });
        }
    }

    fn evict(&mut self, at: usize, script: &mut Script<'_>) {
        let page = PageAddress::new(RegionId(script.below(5) as u16), script.below(PAGES as usize) as u64);
        if self.has(at, page) {
            self.feed(at, |node, out| node.engine.on_evict(page, out));
        }
    }

    /// Whether the application of node `at` can know the page.
    fn has(&self, at: usize, page: PageAddress) -> bool {
        let region = self.nodes[at].as_ref().and_then(|node| node.engine.region(page.region));
        self.ready.contains(&page.region) && region.is_some_and(|spec| page.page < spec.pages)
    }

    fn resume(&mut self, at: usize, script: &mut Script<'_>) {
        let resuming = self.nodes[at].as_ref().map(Node::resuming).unwrap_or_default();
        if !resuming.is_empty() {
            let ticket = script.pick(&resuming);
            self.feed(at, |node, out| {
                node.free(ticket);
                node.engine.on_resumed(ticket, out);
            });
        }
    }

    fn let_postponed(&mut self, at: usize) {
        self.feed(at, |node, out| {
            if std::mem::take(&mut node.postponed) {
                node.engine.on_postponed(out);
            }
        });
    }

    fn acquire(&mut self, at: usize, lock: LockId) {
        self.call(at, Wanted::Lock(lock), |node, ticket, out| node.engine.on_lock_acquire(ticket, lock, out));
    }

    fn release(&mut self, at: usize, script: &mut Script<'_>) {
        self.feed(at, |node, out| {
            if !node.held.is_empty() {
                let (lock, ticket) = node.held.swap_remove(script.below(node.held.len()));
                node.engine.on_lock_release(ticket, lock, out);
            }
        });
    }

    fn cancel(&mut self, at: usize, script: &mut Script<'_>) {
        self.feed(at, |node, out| {
            let open = node.open();
            if !open.is_empty() {
                let ticket = script.pick(&open);
                node.free(ticket);
                node.engine.on_cancel(ticket, out);
            }
        });
    }

    fn ask(&mut self, at: usize, script: &mut Script<'_>) {
        let page = PageAddress::new(
            RegionId(script.below(REGIONS.len() + 1) as u16),
            script.below(PAGES as usize) as u64,
        );
        let owner = script.below(2) == 0;
        if !self.has(at, page) {
            return;
        }
        self.call(at, Wanted::Answer, |node, ticket, out| {
            if owner {
                node.engine.on_owner_query(ticket, page, out);
            } else {
                node.engine.on_home_query(ticket, page, out);
            }
        });
    }

    fn open_region(&mut self, at: usize, create: bool, spec: RegionSpec) {
        self.call(at, Wanted::Others, |node, ticket, out| {
            node.engine.on_region_open(ticket, create, spec, out);
        });
    }

    /// Node `at` says whether it could map what was proposed to it first.
    fn answer_proposal(&mut self, at: usize, fits: bool) {
        self.feed(at, |node, out| {
            if let Some((region, round, spec)) = node.proposals.pop_front() {
                let mapped = fits && spec.pages <= MAPPED_PAGES_MAX;
                node.engine.on_region_mapped(region, round, mapped, out);
            }
        });
    }

    /// What has to hold after every event.
    pub(super) fn check(&self) {
        for node in self.living() {
            node.check_rights();
            let load = node.engine.load();
            let bound = self.nodes.len() * limits::TICKETS;
            assert!(load.requests <= limits::REGIONS * PAGES as usize + SLOTS, "{load:?}");
            let objects = [load.locks, load.barriers, load.semaphores, load.conditions, load.rwlocks_left];
            assert!(objects.iter().all(|count| *count <= SYNC_BOUND), "{load:?}");
            // Those that were left with others come back, and are in use then.
            assert!(load.rwlocks <= 2 * SYNC_BOUND && load.rwlocks_kept <= SYNC_BOUND, "{load:?}");
            let callers = [load.rwlock_waiters, load.semaphore_waiters, load.condition_waiters];
            assert!(
                callers.iter().all(|count| *count <= bound) && load.readers <= limits::READERS,
                "{load:?}"
            );
            assert!(load.queued_requests <= bound && load.in_line() <= 2 * bound, "{load:?}");
            assert!(node.engine.notices_held() <= NOTICES_MOST, "{} notices", node.engine.notices_held());
            assert!(load.regions <= limits::REGIONS && load.proposals <= limits::REGIONS, "{load:?}");
        }
        if self.liar.is_none() {
            self.check_holders();
            let coherent = |region: &usize| REGIONS[*region].0 != Protocol::Release;
            for region in (0..REGIONS.len()).filter(coherent).map(|region| region as u16) {
                (0..PAGES).for_each(|page| self.check_exclusion(PageAddress::new(RegionId(region), page)));
            }
        }
    }

    /// One writer and nobody else, or any number of readers.
    fn check_exclusion(&self, page: PageAddress) {
        let holding = |state| self.living().filter(|node| node.engine.page_state(page) == state).count();
        let (writers, readers) = (holding(PageState::Modified), holding(PageState::Shared));
        assert!(
            writers == 0 || (writers == 1 && readers == 0),
            "{page:?}: {writers} writers, {readers} readers"
        );
    }

    /// Delivers everything, lets all threads go on, and maps what is proposed, until nothing is left to be done.
    pub(super) fn drain(&mut self) {
        // What one liar can set off is bounded by what it said; this bound is far above it.
        for _ in 0..1_000_000 {
            if let Some(link) = self.links.iter().position(|link| !link.is_empty()) {
                self.deliver_first(link);
                continue;
            }
            let busy = |node: &Option<Node>| {
                node.as_ref().is_some_and(|node| {
                    node.postponed || !node.proposals.is_empty() || !node.resuming().is_empty()
                })
            };
            let Some(at) = self.nodes.iter().position(busy) else { return };
            self.answer_proposal(at, true);
            for ticket in self.nodes[at].as_ref().map(Node::resuming).unwrap_or_default() {
                self.feed(at, |node, out| {
                    node.free(ticket);
                    node.engine.on_resumed(ticket, out);
                });
            }
            self.let_postponed(at);
        }
        panic!("the messages never end");
    }

    /// Gives back all locks and whatever others may keep waiting for ever; then nothing may be left.
    pub(super) fn wind_up(&mut self) {
        self.release_all();
        self.give_up_signals();
        self.release_all();
        for at in 0..self.nodes.len() {
            for ticket in self.nodes[at].as_ref().map(Node::open).unwrap_or_default() {
                self.feed(at, |node, out| {
                    let slot = node.slots[ticket.slot as usize];
                    assert!(matches!(slot, Slot::Waiting(_, Wanted::Others)), "{slot:?} waits for ever");
                    node.free(ticket);
                    node.engine.on_cancel(ticket, out);
                });
            }
        }
        self.drain();
        self.check();
        for node in self.living() {
            assert!(node.engine.is_quiet(), "{:?}: {:?}", node.engine.node(), node.engine.load());
            let load = node.engine.load();
            assert_eq!((load.token_waiters, load.barriers, load.barrier_waiters), (0, 0, 0), "{load:?}");
            assert_eq!((load.readers, load.rwlock_waiters, load.semaphore_waiters), (0, 0, 0), "{load:?}");
            assert_eq!((load.conditions, load.condition_waiters), (0, 0), "{load:?}");
            assert_eq!((load.readers_kept, load.kept_waiters), (0, 0), "{load:?}");
        }
    }

    /// Gives back all locks, those that are had by this as well, until nobody holds or waits for one.
    fn release_all(&mut self) {
        self.drain();
        while self.release_any() {
            self.drain();
        }
    }
}

/// Properties of the region that is known by `number`.
pub(super) fn spec(number: usize, pages: u64, protocol: Protocol, placement: Placement) -> RegionSpec {
    let name = RegionName::new(&format!("region {number}")).expect("a short name");
    RegionSpec { name, pages, placement, protocol, unit: Unit::Page, address: 0 }
}

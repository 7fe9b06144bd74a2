//! Engines that hear each other at once and in order, and count what they say.

use super::{asked, completed, node};
use pagemesh_protocol::{
    Access, Action, Actions, AtomicAnswer, AtomicChange, AtomicOperation, BarrierId, Engine, EngineConfig,
    LockId, Message, NodeId, Outcome, PageAddress, PageState, Placement, Protocol, RegionId, RegionSpec,
    Ticket,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Waiting calls of each node at a time.
const SLOTS: u16 = 64;

/// A message that one node sent to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
    pub(crate) payload: Option<PageAddress>,
}

/// A mesh in which nothing is ever late: messages arrive in the order in which they were sent, over all links together.
#[derive(Clone)]
pub(crate) struct Mesh {
    pub(crate) engines: Vec<Engine>,
    /// What was sent and has not arrived.
    flying: VecDeque<Sent>,
    /// All that was ever sent.
    pub(crate) log: Vec<Sent>,
    /// Words that atomic operations have changed. It is one memory: who may change it is what the tests are about.
    pub(crate) words: BTreeMap<(PageAddress, u16), u64>,
    /// How many atomic operations were done.
    pub(crate) operations: usize,
    /// Calls that are over.
    pub(crate) completed: Vec<(NodeId, Ticket, Outcome)>,
    /// The one who was lost.
    victim: Option<NodeId>,
    calls: u16,
    /// Pages of which a node keeps a twin.
    pub(crate) twins: BTreeSet<(NodeId, PageAddress)>,
}

impl Mesh {
    /// Nodes without a region.
    pub(crate) fn new(count: u16) -> Mesh {
        // Small tables: some tests copy a mesh many times.
        let engine = |number| {
            let bounds = EngineConfig::new(node(number), count);
            Engine::new(EngineConfig { tickets: SLOTS as usize, locks: 16, barriers: 16, ..bounds })
        };
        Mesh {
            engines: (0..count).map(engine).collect(),
            flying: VecDeque::new(),
            log: Vec::new(),
            words: BTreeMap::new(),
            operations: 0,
            completed: Vec::new(),
            victim: None,
            calls: 0,
            twins: BTreeSet::new(),
        }
    }

    /// Nodes that all have the region 0 mapped, whose pages have their homes by `placement`.
    pub(crate) fn mapped(count: u16, placement: Placement) -> Mesh {
        Mesh::following(Protocol::WriteInvalidate, count, placement)
    }

    /// As `mapped`, where the region follows `protocol`.
    pub(crate) fn following(protocol: Protocol, count: u16, placement: Placement) -> Mesh {
        let mut mesh = Mesh::new(count);
        mesh.opens(0, true, RegionSpec { protocol, ..asked("shared", placement) });
        mesh.deliver_all();
        assert_eq!(mesh.completed.len(), 1, "the region is mapped everywhere");
        mesh.forget();
        mesh
    }

    /// Forgets what was said and completed so far.
    pub(crate) fn forget(&mut self) {
        self.log.clear();
        self.completed.clear();
    }

    fn ticket(&mut self) -> Ticket {
        self.calls = self.calls.wrapping_add(1);
        Ticket::new(self.calls % SLOTS, self.calls / SLOTS)
    }

    fn act(&mut self, number: u16, event: impl FnOnce(&mut Engine, &mut Actions)) {
        let mut out = Actions::new();
        event(&mut self.engines[number as usize], &mut out);
        self.perform(node(number), out);
    }

    /// Does what the engine of `from` asks for; regions are mapped at once.
    fn perform(&mut self, from: NodeId, actions: Actions) {
        let over: Vec<Ticket> = actions.iter().filter_map(completed).collect();
        for action in actions {
            match action {
                Action::Send { to, message, payload } => {
                    let sent = Sent { from, to, message, payload };
                    self.log.push(sent);
                    self.flying.push_back(sent);
                }
                Action::SendDiff { to, message, page, keep_twin } => {
                    let sent = Sent { from, to, message, payload: Some(page) };
                    self.log.push(sent);
                    self.flying.push_back(sent);
                    if !keep_twin {
                        assert!(self.twins.remove(&(from, page)), "a diff is made from a twin");
                    }
                }
                Action::MakeTwin(page) | Action::TwinWhileWritten(page) => {
                    assert!(self.twins.insert((from, page)), "a page has one twin");
                }
                Action::DropTwin(page) | Action::Adopt(page) => {
                    self.twins.remove(&(from, page));
                }
                Action::SendBytes { to, message, .. } => {
                    let sent = Sent { from, to, message, payload: None };
                    self.log.push(sent);
                    self.flying.push_back(sent);
                }
                Action::Complete { ticket, outcome } => self.completed.push((from, ticket, outcome)),
                Action::Atomic { page, operation, requester, ticket, answer } => {
                    self.operations += 1;
                    let word = self.words.entry((page, operation.word)).or_default();
                    let old = std::mem::replace(word, operation.change.apply(*word));
                    if answer == AtomicAnswer::Call {
                        self.completed.push((from, ticket, Outcome::Word(old)));
                    } else if let Some((to, message)) = answer.message(page, requester, ticket, old) {
                        let sent = Sent { from, to, message, payload: None };
                        self.log.push(sent);
                        self.flying.push_back(sent);
                    }
                }
                Action::MapRegion { region, round, .. } => {
                    self.act(from.get(), |engine, out| engine.on_region_mapped(region, round, true, out));
                }
                Action::ForgetRegion(region) => {
                    self.act(from.get(), |engine, out| engine.on_region_forgotten(region, out));
                }
                Action::Postpone => self.act(from.get(), Engine::on_postponed),
                _ => {}
            }
        }
        // Threads that were let go run at once.
        for ticket in over {
            self.act(from.get(), |engine, out| engine.on_resumed(ticket, out));
        }
    }

    fn deliver(&mut self, sent: Sent) {
        let mut out = Actions::new();
        let engine = &mut self.engines[sent.to.index()];
        let view = engine.view();
        if let Err(violation) = engine.on_message(sent.from, view, &sent.message, &mut out) {
            panic!("a well-behaved node was refused by node {}: {violation}", sent.to);
        }
        self.perform(sent.to, out);
    }

    /// Delivers the oldest message; false when there is none.
    pub(crate) fn deliver_one(&mut self) -> bool {
        let Some(sent) = self.flying.pop_front() else { return false };
        self.deliver(sent);
        true
    }

    /// Delivers what is under way now, and nothing that is sent meanwhile.
    pub(crate) fn deliver_round(&mut self) {
        for _ in 0..self.flying.len() {
            self.deliver_one();
        }
    }

    /// Delivers until nothing is left to deliver.
    pub(crate) fn deliver_all(&mut self) {
        while self.deliver_one() {}
    }

    /// A call of any kind, under a ticket of its own.
    pub(crate) fn calls(
        &mut self,
        number: u16,
        event: impl FnOnce(&mut Engine, Ticket, &mut Actions),
    ) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| event(engine, ticket, out));
        ticket
    }

    pub(crate) fn faults(&mut self, number: u16, page: PageAddress, access: Access) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_fault(ticket, page, access, out));
        ticket
    }

    pub(crate) fn acquires(&mut self, number: u16, lock: LockId) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_lock_acquire(ticket, lock, out));
        ticket
    }

    pub(crate) fn releases(&mut self, number: u16, ticket: Ticket, lock: LockId) {
        self.act(number, |engine, out| engine.on_lock_release(ticket, lock, out));
    }

    pub(crate) fn arrives(&mut self, number: u16, barrier: BarrierId, participants: u32) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_barrier_arrive(ticket, barrier, participants, out));
        ticket
    }

    pub(crate) fn opens(&mut self, number: u16, create: bool, spec: RegionSpec) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_region_open(ticket, create, spec, out));
        ticket
    }

    pub(crate) fn closes(&mut self, number: u16, region: RegionId) {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_region_close(ticket, region, out));
    }

    pub(crate) fn asks_owner(&mut self, number: u16, page: PageAddress) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_owner_query(ticket, page, out));
        ticket
    }

    pub(crate) fn asks_home(&mut self, number: u16, page: PageAddress) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_home_query(ticket, page, out));
        ticket
    }

    pub(crate) fn leaves(&mut self, number: u16) -> Ticket {
        let ticket = self.ticket();
        self.act(number, |engine, out| engine.on_leave(ticket, out));
        ticket
    }

    /// One access as the hardware would do it: a fault only without the right, and again until the right is there.
    /// Returns what the nodes said to each other on its behalf.
    pub(crate) fn accesses(&mut self, number: u16, page: PageAddress, access: Access) -> Vec<Sent> {
        self.forget();
        while !self.state(number, page).allows(access) {
            let ticket = self.faults(number, page, access);
            self.deliver_all();
            let over = self.completed.iter().find(|(who, which, _)| (*who, *which) == (node(number), ticket));
            match over {
                Some((_, _, Outcome::Done)) => {}
                Some(_) => break,
                None => panic!("the access of node {number} to {page:?} was forgotten"),
            }
        }
        self.log.clone()
    }

    /// Node `number` has `change` done to word `word` of a page.
    pub(crate) fn changes(
        &mut self,
        number: u16,
        page: PageAddress,
        (word, change): (u16, AtomicChange),
    ) -> Ticket {
        let operation = AtomicOperation { word, change };
        self.calls(number, |engine, ticket, out| engine.on_atomic(ticket, page, operation, out))
    }

    /// How the call ended; `None` while it waits.
    pub(crate) fn outcome(&self, number: u16, ticket: Ticket) -> Option<Outcome> {
        let ended = self.completed.iter().find(|(who, which, _)| (*who, *which) == (node(number), ticket));
        ended.map(|(_, _, outcome)| *outcome)
    }

    /// Node `number` gives a copy back. Returns what the nodes said to each other for that.
    pub(crate) fn evicts(&mut self, number: u16, page: PageAddress) -> Vec<Sent> {
        self.forget();
        self.act(number, |engine, out| engine.on_evict(page, out));
        self.deliver_all();
        self.log.clone()
    }

    pub(crate) fn state(&self, number: u16, page: PageAddress) -> PageState {
        self.engines[number as usize].page_state(page)
    }

    /// Stops `victim` at once: what others had still to tell it is gone, and so is what it had still to tell, unless
    /// `last_words`: then each survivor hears that just before it notices the loss. The survivors notice one after
    /// the other in the order of `noticing`, and say all they have to say in between.
    pub(crate) fn lose(&mut self, victim: u16, last_words: bool, noticing: &[u16]) {
        let victim = node(victim);
        self.victim = Some(victim);
        self.flying.retain(|sent| sent.to != victim && (sent.from != victim || last_words));
        let (mut unheard, others): (Vec<_>, Vec<_>) =
            self.flying.drain(..).partition(|sent| sent.from == victim);
        self.flying.extend(others);
        for survivor in noticing {
            let (now, later): (Vec<_>, Vec<_>) =
                unheard.into_iter().partition(|sent| sent.to == node(*survivor));
            unheard = later;
            for sent in now {
                self.deliver(sent);
            }
            self.act(*survivor, |engine, out| engine.on_peer_lost(victim, out));
            self.deliver_to_survivors();
        }
    }

    fn deliver_to_survivors(&mut self) {
        while let Some(sent) = self.flying.pop_front() {
            if Some(sent.to) != self.victim {
                self.deliver(sent);
            }
        }
    }

    /// The numbers of the nodes that were not lost.
    pub(crate) fn survivors(&self) -> Vec<u16> {
        let all = 0..self.engines.len() as u16;
        all.filter(|number| self.victim != Some(node(*number))).collect()
    }

    /// Checks, while nothing is under way, that a page has one writer or many readers, and that its home knows them.
    pub(crate) fn check_coherence(&self, pages: impl Iterator<Item = PageAddress>) {
        let survivors = self.survivors();
        for page in pages {
            let in_state = |state| survivors.iter().filter(move |n| self.state(**n, page) == state);
            let (writers, readers) =
                (in_state(PageState::Modified).count(), in_state(PageState::Shared).count());
            assert!(
                writers == 0 || (writers == 1 && readers == 0),
                "{page:?}: {writers} writers, {readers} readers"
            );
            let protocol = self.engines[0].region(page.region).map(|spec| spec.protocol);
            if protocol == Some(Protocol::Release) {
                // Nobody keeps track of its copies.
                continue;
            }
            assert!(
                protocol != Some(Protocol::Migration) || writers + readers <= 1,
                "{page:?} is in several places"
            );
            let mut homes = survivors.iter().filter_map(|number| self.engines[*number as usize].home(page));
            let Some(home) = homes.next() else { continue };
            assert!(homes.all(|other| other == home), "{page:?} has several homes");
            if self.victim == Some(home) {
                continue;
            }
            // A region that is still being agreed on may not be mapped there.
            let Some(entry) = self.engines[home.index()].directory(page) else { continue };
            for number in &survivors {
                let holds = self.state(*number, page) != PageState::Invalid;
                assert_eq!(
                    entry.holders.contains(node(*number)),
                    holds,
                    "{page:?}: the home knows wrong of node {number}: {entry:?}"
                );
            }
        }
    }
}

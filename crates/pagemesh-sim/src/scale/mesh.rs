//! Many engines, one thread each, and a machine in which everything takes its fixed time.

use super::workload::{Phase, Step};
use super::{DELAY_US, HANDLING_US, SENDING_US};
use pagemesh_protocol::{
    Action, Actions, BarrierId, Engine, EngineConfig, LockId, Message, NodeId, Outcome, PageAddress,
    Placement, Protocol, RegionId, RegionName, RegionSpec, Ticket, Unit, View, limits,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const REGION: RegionId = RegionId(0);
/// The first lock.
const LOCK: LockId = LockId(7);
const BARRIER: BarrierId = BarrierId(7);
const PAGE_BYTES: u64 = 4096;
/// A diff of 8 bytes that lie together: its form, a gap of two bytes, a length, and these (docs/wire.md).
const DIFF_BYTES: u64 = 12;
/// Before every message on a link.
const PREFIX_BYTES: u64 = 8;
/// Waiting calls of a node at a time, and more: a ticket that holds the lock is not used again soon.
const TICKETS: u16 = 4;

/// What a node is to do next.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// From whom, and how many messages had to be handled one after the other before it could be sent, with it.
    Message(NodeId, Message, u32),
    /// The next step of its own thread.
    Call,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// The work with this number comes to this node.
    Comes(usize, usize),
    /// The node has time for the next.
    Free(usize),
}

struct Node {
    engine: Engine,
    inbox: VecDeque<Work>,
    busy: bool,
    steps: VecDeque<Step>,
    /// The call that waits, what for, and since when.
    waits: Option<(Ticket, u64)>,
    calls: u16,
    held: Option<(LockId, Ticket)>,
    /// Messages sent and heard.
    handled: u64,
    /// The longest line of messages of which each had to be handled before the next was sent, that ends here.
    depth: u32,
}

/// What was counted.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Counts {
    pub(super) operations: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) directory_bytes: usize,
    pub(super) in_line: usize,
    pub(super) inbox: usize,
    pub(super) notices: usize,
    pub(super) waited_us: u64,
}

pub(super) struct Mesh {
    nodes: Vec<Node>,
    pages: u64,
    now: u64,
    /// By time, then in the order in which they were caused.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    caused: u64,
    works: slots::Slots<Work>,
    counts: Counts,
    actions: Actions,
}

/// Things under numbers that are used again.
mod slots {
    pub(super) struct Slots<T> {
        items: Vec<Option<T>>,
        free: Vec<usize>,
    }

    impl<T> Slots<T> {
        pub(super) const fn new() -> Slots<T> {
            Slots { items: Vec::new(), free: Vec::new() }
        }

        pub(super) fn insert(&mut self, item: T) -> usize {
            if let Some(place) = self.free.pop() {
                self.items[place] = Some(item);
                return place;
            }
            self.items.push(Some(item));
            self.items.len() - 1
        }

        pub(super) fn take(&mut self, place: usize) -> Option<T> {
            self.free.push(place);
            self.items[place].take()
        }
    }
}

impl Mesh {
    pub(super) fn new(nodes: u16) -> Mesh {
        Mesh::with_trees(nodes, Some(limits::BARRIER_FAN))
    }

    /// With so many children of a node in the tree of a barrier, or without such trees.
    pub(super) fn with_trees(nodes: u16, fan: Option<u16>) -> Mesh {
        let gathered = if fan.is_some() { limits::GATHERED_BARRIERS } else { 0 };
        let barrier_fan = fan.unwrap_or(limits::BARRIER_FAN);
        let node = |number| {
            // Small tables: a thousand engines are to fit into one process.
            let bounds = EngineConfig::new(NodeId::new(number), nodes);
            let config = EngineConfig {
                tickets: TICKETS as usize,
                locks: 64,
                barriers: 4,
                barrier_fan,
                gathered,
                ..bounds
            };
            Node {
                engine: Engine::new(config),
                inbox: VecDeque::new(),
                busy: false,
                steps: VecDeque::new(),
                waits: None,
                calls: 0,
                held: None,
                handled: 0,
                depth: 0,
            }
        };
        Mesh {
            nodes: (0..nodes).map(node).collect(),
            pages: 0,
            now: 0,
            events: BinaryHeap::new(),
            caused: 0,
            works: slots::Slots::new(),
            counts: Counts::default(),
            actions: Actions::new(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Maps the one region on all nodes; what that costs is not counted.
    pub(super) fn open_region(&mut self, pages: u64, placement: Placement, protocol: Protocol) {
        let name = RegionName::new("measured").expect("a short name");
        let spec = RegionSpec { name, pages, placement, protocol, unit: Unit::Page, address: 0 };
        let mut actions = Actions::new();
        let ticket = self.nodes[0].ticket();
        self.nodes[0].engine.on_region_open(ticket, true, spec, &mut actions);
        self.perform(0, &mut actions);
        self.settle();
        self.pages = pages;
        self.counts = Counts::default();
    }

    /// Has the nodes of `phase` take their steps, and waits until nothing is under way.
    pub(super) fn run(&mut self, phase: Phase) {
        for (node, steps) in phase {
            let node = node as usize;
            self.nodes[node].steps = steps.into();
            self.go_on(node, self.now);
        }
        self.settle();
        let waits = self.nodes.iter().any(|node| node.waits.is_some() || !node.steps.is_empty());
        assert!(!waits, "a thread waits for ever");
        let pages = (0..self.pages).map(|page| PageAddress::new(REGION, page));
        let entries =
            pages.filter_map(|page| self.nodes.iter().find_map(|node| node.engine.directory_bytes(page)));
        self.counts.directory_bytes = self.counts.directory_bytes.max(entries.max().unwrap_or(0));
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, self.caused, event)));
        self.caused += 1;
    }

    fn bring(&mut self, time: u64, to: usize, work: Work) {
        let number = self.works.insert(work);
        self.at(time, Event::Comes(to, number));
    }

    fn settle(&mut self) {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now = time;
            match event {
                Event::Comes(to, number) => {
                    let work = self.works.take(number).expect("it is on its way");
                    self.nodes[to].inbox.push_back(work);
                    if self.nodes[to].busy {
                        self.counts.inbox = self.counts.inbox.max(self.nodes[to].inbox.len());
                    } else {
                        self.handle(to);
                    }
                }
                Event::Free(node) => {
                    self.nodes[node].busy = false;
                    self.handle(node);
                }
            }
        }
    }

    /// Node `at` does what came first.
    fn handle(&mut self, at: usize) {
        let Some(work) = self.nodes[at].inbox.pop_front() else { return };
        let mut actions = std::mem::take(&mut self.actions);
        let now = self.now;
        match work {
            Work::Call => self.nodes[at].call(now, &mut actions),
            Work::Message(from, message, depth) => {
                self.nodes[at].handled += 1;
                self.nodes[at].depth = self.nodes[at].depth.max(depth);
                let heard = self.nodes[at].engine.on_message(from, View::FIRST, &message, &mut actions);
                heard.expect("engines keep to their protocol");
            }
        }
        self.perform(at, &mut actions);
        self.actions = actions;
        let in_line = self.nodes[at].engine.load().in_line();
        self.counts.in_line = self.counts.in_line.max(in_line);
    }

    /// Performs what the engine of node `at` asks for; threads use their pages at once, and go on.
    fn perform(&mut self, at: usize, actions: &mut Actions) {
        let mut done_at = self.now + HANDLING_US;
        let mut over = false;
        while !actions.is_empty() {
            let mut more = Actions::new();
            for action in actions.drain(..) {
                match action {
                    Action::Send { to, message, payload } => {
                        done_at += SENDING_US;
                        self.count(&message, if payload.is_some() { PAGE_BYTES } else { 0 });
                        self.send(at, to, message, done_at);
                    }
                    Action::SendDiff { to, message, .. } => {
                        done_at += SENDING_US;
                        self.count(&message, DIFF_BYTES);
                        self.send(at, to, message, done_at);
                    }
                    Action::MapRegion { region, round, .. } => {
                        self.nodes[at].engine.on_region_mapped(region, round, true, &mut more);
                    }
                    Action::Complete { ticket, outcome } => {
                        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
                        self.nodes[at].engine.on_resumed(ticket, &mut more);
                        over |= self.nodes[at].waits.is_some_and(|(waiting, _)| waiting == ticket);
                    }
                    Action::Postpone => self.nodes[at].engine.on_postponed(&mut more),
                    _ => {}
                }
            }
            *actions = more;
        }
        if over {
            let (_, since) = self.nodes[at].waits.take().expect("a call is over");
            self.counts.waited_us += done_at - since;
            self.counts.operations += 1;
            self.counts.notices = self.counts.notices.max(self.nodes[at].engine.notices_held());
            self.go_on(at, done_at);
        }
        self.nodes[at].busy = true;
        self.at(done_at, Event::Free(at));
    }

    fn send(&mut self, at: usize, to: NodeId, message: Message, done_at: u64) {
        self.nodes[at].handled += 1;
        let (from, depth) = (NodeId::new(at as u16), self.nodes[at].depth + 1);
        self.bring(done_at + DELAY_US, to.index(), Work::Message(from, message, depth));
    }

    /// Begins to count messages and their depth anew. Returns the most messages that a node has handled, and the greatest depth.
    pub(super) fn busiest(&mut self) -> (u64, u32) {
        let busiest = self.nodes.iter().map(|node| (node.handled, node.depth));
        let most = busiest.fold((0, 0), |most, node| (most.0.max(node.0), most.1.max(node.1)));
        for node in &mut self.nodes {
            (node.handled, node.depth) = (0, 0);
        }
        self.counts = Counts::default();
        most
    }

    /// The thread of node `at` goes on until it needs something that is not here; what is here costs nothing.
    fn go_on(&mut self, at: usize, time: u64) {
        let node = &mut self.nodes[at];
        while let Some(Step::Page(page, access)) = node.steps.front().copied() {
            if !node.engine.page_state(PageAddress::new(REGION, page)).allows(access) {
                break;
            }
            node.steps.pop_front();
            self.counts.operations += 1;
        }
        if !node.steps.is_empty() {
            self.bring(time, at, Work::Call);
        }
    }

    fn count(&mut self, message: &Message, payload: u64) {
        let length = message.encode(View::FIRST, &mut [0; Message::MAX_BYTES]);
        self.counts.messages += 1;
        self.counts.bytes += PREFIX_BYTES + length as u64 + payload;
    }
}

impl Node {
    fn ticket(&mut self) -> Ticket {
        self.calls = self.calls.wrapping_add(1);
        Ticket::new(self.calls % TICKETS, self.calls)
    }

    /// Takes the next step of this node's thread.
    fn call(&mut self, now: u64, out: &mut Actions) {
        let Some(step) = self.steps.pop_front() else { return };
        if step == Step::Unlock {
            let (lock, ticket) = self.held.take().expect("the thread holds the lock");
            self.engine.on_lock_release(ticket, lock, out);
            // Giving back is a part of having had it: the next step is taken in the same event.
            return self.call(now, out);
        }
        let ticket = self.ticket();
        self.waits = Some((ticket, now));
        match step {
            Step::Page(page, access) => {
                self.engine.on_fault(ticket, PageAddress::new(REGION, page), access, out);
            }
            Step::Barrier => {
                let participants = self.engine.live().len() as u32;
                self.engine.on_barrier_arrive(ticket, BARRIER, participants, out);
            }
            Step::Lock(number) => {
                let lock = LockId(LOCK.0 + number);
                self.held = Some((lock, ticket));
                self.engine.on_lock_acquire(ticket, lock, out);
            }
            Step::Unlock => unreachable!("it was given back above"),
        }
    }
}

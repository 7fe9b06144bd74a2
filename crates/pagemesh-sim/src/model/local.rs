//! One node of a checked mesh: the real engine, what its pages hold, and what its threads wait for.

use super::plan::Plan;
use super::turns::Turns;
use pagemesh_protocol::{
    Access, BarrierId, Engine, EngineConfig, NodeId, PageAddress, PageState, RegionId, Ticket,
};
use std::hash::{Hash, Hasher};

/// The one region.
pub(super) const REGION: RegionId = RegionId(0);
/// The one barrier.
pub(super) const BARRIER: BarrierId = BarrierId(0);

pub(super) const fn page_address(page: u8) -> PageAddress {
    PageAddress::new(REGION, page as u64)
}

/// A page of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Copy {
    /// What the application may do with it: the protection of the app view, in the terms of the engine's state.
    pub(super) rights: PageState,
    /// The bytes in the service view are those that were written last by anyone.
    pub(super) latest: bool,
}

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Activity {
    /// Runs; may begin anything.
    Running,
    /// Waits for a page; with `held` to touch it then.
    Page { page: u8, access: Access, held: bool },
    /// Has been given a page and is about to touch it.
    Touching { page: u8, access: Access },
    /// Waits for a lock.
    Lock(u8),
    /// Waits for an atomic operation on a page; with `asked_back` it would rather leave it.
    Atomic { page: u8, asked_back: bool },
    /// Waits at the barrier; `full` when everyone has come.
    Barrier { full: bool },
}

/// An application thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Thread {
    pub(super) activity: Activity,
    /// Of the ticket of the call that waits; 0 when none does.
    pub(super) generation: u16,
    /// The lock that it holds, and the proof.
    pub(super) holds: Option<(u8, Ticket)>,
    /// Operations that it may still begin.
    pub(super) left: Option<u8>,
}

/// What a thread begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Operation {
    Fault {
        page: u8,
        access: Access,
        held: bool,
    },
    /// To be done where the page is.
    Atomic(u8),
    Lock(u8),
    Unlock,
    Barrier,
}

/// Something that happens to one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Event {
    /// A message arrives; its number in the store.
    Deliver { from: u8, parcel: u32 },
    /// A thread begins something, under a ticket of this generation; `last` when it is the last to come to the barrier.
    Begin { thread: u8, operation: Operation, generation: u16, last: bool },
    /// A thread touches the page that it was given.
    Touch { thread: u8 },
    /// A thread writes a page that it may write.
    Write { thread: u8, page: u8 },
    /// The node gives its copy of a page back.
    Evict { page: u8 },
    /// Threads have had their chance to run.
    Postponed,
    /// A thread gives up waiting.
    Cancel { thread: u8 },
    /// A thread would leave its atomic operation, if that was not begun.
    AskBack { thread: u8 },
    /// A peer is lost.
    Lost { node: u8 },
    /// Somewhere else a page was written.
    Outdated { page: u8 },
    /// Everyone has come to the barrier.
    Full,
}

/// One node between two events.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) engine: Engine,
    pub(super) copies: Vec<Copy>,
    pub(super) threads: Vec<Thread>,
    /// The engine has asked for a time in which threads run.
    pub(super) postponing: bool,
    /// What it has heard as a home and not yet answered.
    pub(super) turns: Turns,
}

impl Local {
    pub(super) fn new(plan: &Plan, node: NodeId) -> Local {
        let config = EngineConfig {
            tickets: plan.threads,
            locks: plan.locks.len().max(1),
            barriers: 1,
            barrier_fan: plan.barrier_fan,
            hint_patience: if plan.hints { u8::MAX } else { 0 },
            ..EngineConfig::new(node, plan.nodes)
        };
        let mut engine = Engine::new(config);
        if let Some(fault) = plan.planted {
            engine.plant(fault);
        }
        let thread =
            Thread { activity: Activity::Running, generation: 0, holds: None, left: plan.operations };
        let copy = Copy { rights: PageState::Invalid, latest: false };
        Local {
            engine,
            copies: vec![copy; plan.pages as usize],
            threads: vec![thread; plan.threads],
            postponing: false,
            turns: Turns::new(plan),
        }
    }

    /// Feeds `hasher` with all that decides what happens next.
    pub(super) fn hash(&self, hasher: &mut impl Hasher) {
        self.engine.hash_behaviour(hasher);
        (&self.copies, &self.threads, self.postponing, &self.turns).hash(hasher);
    }

    /// Everything that this node can do by itself; tickets and who is last are the caller's to fill in.
    pub(super) fn own_events(&self, plan: &Plan) -> Vec<Event> {
        let mut events = Vec::new();
        if self.postponing {
            events.push(Event::Postponed);
        }
        let here = self.engine.node();
        for (page, copy) in (0..).zip(&self.copies) {
            let is_home = self.engine.home(page_address(page)) == Some(here);
            if plan.evict && copy.rights != PageState::Invalid && !is_home {
                events.push(Event::Evict { page });
            }
        }
        for (index, thread) in self.threads.iter().enumerate() {
            let number = index as u8;
            match thread.activity {
                Activity::Touching { .. } => events.push(Event::Touch { thread: number }),
                Activity::Running => self.beginnings(plan, number, thread, &mut events),
                Activity::Atomic { asked_back: false, .. } if plan.cancel => {
                    events.push(Event::AskBack { thread: number });
                    events.push(Event::Cancel { thread: number });
                }
                Activity::Page { .. } | Activity::Lock(_) | Activity::Atomic { .. } if plan.cancel => {
                    events.push(Event::Cancel { thread: number });
                }
                _ => {}
            }
        }
        events
    }

    fn beginnings(&self, plan: &Plan, number: u8, thread: &Thread, events: &mut Vec<Event>) {
        let mut begin = |operation| {
            events.push(Event::Begin { thread: number, operation, generation: 0, last: false });
        };
        if thread.holds.is_some() {
            begin(Operation::Unlock);
        }
        if thread.left == Some(0) {
            return;
        }
        for (page, copy) in self.copies.iter().enumerate() {
            for access in [Access::Read, Access::Write] {
                if !copy.rights.allows(access) {
                    let page = page as u8;
                    begin(Operation::Fault { page, access, held: true });
                    if plan.prefetch {
                        begin(Operation::Fault { page, access, held: false });
                    }
                }
            }
        }
        if plan.atomics {
            (0..self.copies.len()).for_each(|page| begin(Operation::Atomic(page as u8)));
        }
        if thread.holds.is_none() {
            (0..plan.locks.len()).for_each(|lock| begin(Operation::Lock(lock as u8)));
            // Who holds a lock and waits at a barrier may wait for one who waits for the lock.
            if plan.barrier {
                begin(Operation::Barrier);
            }
        }
        for (page, copy) in self.copies.iter().enumerate() {
            if copy.rights.allows(Access::Write) {
                events.push(Event::Write { thread: number, page: page as u8 });
            }
        }
    }

    pub(super) fn ticket(&self, thread: u8) -> Ticket {
        Ticket::new(thread as u16, self.threads[thread as usize].generation)
    }

    /// The locks that threads hold.
    pub(super) fn held(&self) -> impl Iterator<Item = u8> {
        self.threads.iter().filter_map(|thread| thread.holds.map(|(lock, _)| lock))
    }
}

/// What a message is about, for the trace and the checks: a page of the region.
pub(super) fn page_of(message: &pagemesh_protocol::Message) -> Option<u8> {
    crate::event::page_of(message).map(|page| page.page as u8)
}

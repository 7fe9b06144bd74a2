//! Knows the order in which locks and barriers have to be passed: a model of what each node hears.
//!
//! A lock goes to the calls of one node in the order in which they came; and once a node has heard who comes next, only calls
//! that waited there by then are served before the lock goes to that one.

use crate::breach::Breach;
use crate::event::{Event, Wanted};
use pagemesh_protocol::{BarrierId, LockId, Message, NodeId, PageAddress, Ticket, barrier_home, lock_home};
use std::collections::BTreeMap;

/// A waiting call of some node.
type Applicant = (NodeId, Ticket);

/// What one node was told about a lock that it has, or waits for.
#[derive(Clone, Debug)]
struct Turn {
    /// The name of its request.
    name: Ticket,
    /// Who comes next, and how many calls there were when it was told so: later ones of this node come after that.
    next: Option<(Applicant, u64)>,
}

#[derive(Clone, Debug, Default)]
struct LockModel {
    /// Calls that wait, in the order in which they came, numbered.
    waiting: Vec<(Applicant, u64)>,
    /// Requests that homes have heard and nobody has fulfilled.
    asked: Vec<Applicant>,
    /// By node. What a home tells its own node passes no link, and is not here.
    turns: BTreeMap<NodeId, Turn>,
}

#[derive(Clone, Debug, Default)]
struct BarrierModel {
    arrived: Vec<Applicant>,
    released: Vec<Applicant>,
    /// The home does not hear of each arrival.
    gathered: bool,
}

/// The models of all locks and barriers.
#[derive(Clone, Debug)]
pub(crate) struct Referee {
    nodes: u16,
    barrier_fan: u16,
    locks: BTreeMap<LockId, LockModel>,
    /// Calls for locks so far.
    calls: u64,
    barriers: BTreeMap<BarrierId, BarrierModel>,
    /// Threads that hold a lock, as the application sees it.
    held: BTreeMap<LockId, usize>,
    /// Completed increments of each lock's counter.
    pub(crate) counters: Vec<u64>,
    /// What was written last to words that only holders of one lock use.
    pub(crate) guarded: BTreeMap<PageAddress, u64>,
    /// What each thread published last, by the parity of the round.
    pub(crate) published: BTreeMap<(usize, usize), u64>,
    /// Additions to each word that all threads add to.
    pub(crate) sums: BTreeMap<PageAddress, u64>,
    /// Threads that arrived at each generation of the common barrier.
    arrivals: Vec<usize>,
}

impl Referee {
    pub(crate) fn new(nodes: u16, barrier_fan: u16, locks: usize) -> Referee {
        Referee {
            nodes,
            barrier_fan,
            locks: BTreeMap::new(),
            calls: 0,
            barriers: BTreeMap::new(),
            held: BTreeMap::new(),
            counters: vec![0; locks],
            guarded: BTreeMap::new(),
            published: BTreeMap::new(),
            sums: BTreeMap::new(),
            arrivals: Vec::new(),
        }
    }

    /// Node `at` is about to handle `event`; `cancelled` is what a cancelled call wanted.
    pub(crate) fn hears(&mut self, at: NodeId, event: &Event, cancelled: Option<Wanted>) {
        match *event {
            Event::Message { from, message, .. } => self.hears_message(at, from, &message),
            Event::LockAcquire { ticket, lock } | Event::LockTry { ticket, lock } => {
                self.calls += 1;
                let number = self.calls;
                self.locks.entry(lock).or_default().waiting.push(((at, ticket), number));
            }
            Event::BarrierArrive { ticket, barrier, participants } => {
                let gathered =
                    self.nodes > self.barrier_fan && participants.is_multiple_of(u32::from(self.nodes));
                self.barriers.entry(barrier).or_default().gathered |= gathered;
                self.hears_message(at, at, &Message::BarrierArrive { barrier, ticket, participants });
            }
            Event::Cancel { ticket } => match cancelled {
                Some(Wanted::Lock(lock)) => self.waits_no_more(lock, (at, ticket)),
                Some(Wanted::Barrier(barrier)) => {
                    self.hears_message(at, at, &Message::BarrierCancel { barrier, ticket });
                }
                _ => {}
            },
            Event::PeerLost { node } => self.hears_loss(at, node),
            _ => {}
        }
    }

    fn hears_message(&mut self, at: NodeId, from: NodeId, message: &Message) {
        match *message {
            Message::LockAcquire { lock, ticket } => {
                self.locks.entry(lock).or_default().asked.push((from, ticket));
            }
            Message::LockForward { lock, ticket, node, wanted, waits: true } => {
                let (turns, calls) = (&mut self.locks.entry(lock).or_default().turns, self.calls);
                if let Some(turn) = turns.get_mut(&at).filter(|turn| turn.name == ticket)
                    && turn.next.is_none_or(|(next, _)| next != (node, wanted))
                {
                    turn.next = Some(((node, wanted), calls));
                }
            }
            Message::LockQuery { lock, .. } => {
                if let Some(turn) = self.locks.entry(lock).or_default().turns.get_mut(&at) {
                    turn.next = None;
                }
            }
            Message::BarrierArrive { barrier, ticket, participants }
                if barrier_home(barrier, self.nodes) == at =>
            {
                let model = self.barriers.entry(barrier).or_default();
                model.arrived.push((from, ticket));
                if model.arrived.len() == participants as usize {
                    model.released.append(&mut model.arrived);
                }
            }
            Message::BarrierCancel { barrier, ticket } if barrier_home(barrier, self.nodes) == at => {
                let model = self.barriers.entry(barrier).or_default();
                model.arrived.retain(|waiting| *waiting != (from, ticket));
            }
            _ => {}
        }
    }

    fn hears_loss(&mut self, at: NodeId, lost: NodeId) {
        for (lock, model) in &mut self.locks {
            model.asked.retain(|(node, _)| *node != lost);
            if lock_home(*lock, self.nodes) == lost {
                model.turns.remove(&at);
            }
        }
        for (barrier, model) in &mut self.barriers {
            if barrier_home(*barrier, self.nodes) == at {
                model.arrived.retain(|(node, _)| *node != lost);
            }
        }
    }

    /// Node `at` says something about a lock to another.
    pub(crate) fn says(&mut self, at: NodeId, to: NodeId, message: &Message) -> Result<(), Breach> {
        match *message {
            Message::LockAcquire { lock, ticket } | Message::LockTry { lock, ticket } => {
                let turn = Turn { name: ticket, next: None };
                self.locks.entry(lock).or_default().turns.insert(at, turn);
            }
            Message::LockRelease { lock, .. } => {
                self.locks.entry(lock).or_default().turns.remove(&at);
            }
            Message::LockGrant { lock, ticket, .. } => {
                let home = lock_home(lock, self.nodes);
                let model = self.locks.entry(lock).or_default();
                model.asked.retain(|asked| *asked != (to, ticket));
                let told = model.turns.remove(&at).and_then(|turn| turn.next);
                if at != home && told.is_none_or(|(next, _)| next != (to, ticket)) {
                    let next = told.map(|(next, _)| next);
                    return Err(Breach::Lock(format!(
                        "{at:?} sends {lock:?} to {to:?}, {ticket:?}; it was told {next:?}"
                    )));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn waits_no_more(&mut self, lock: LockId, applicant: Applicant) {
        self.locks.entry(lock).or_default().waiting.retain(|(waits, _)| *waits != applicant);
    }

    /// A call has the lock, or has failed.
    pub(crate) fn ends(&mut self, lock: LockId, applicant: Applicant, has: bool) -> Result<(), Breach> {
        let model = self.locks.entry(lock).or_default();
        let Some(place) = model.waiting.iter().position(|(waits, _)| *waits == applicant) else {
            return Ok(());
        };
        let (_, number) = model.waiting.remove(place);
        let earlier = model.waiting[..place].iter().find(|((node, _), _)| *node == applicant.0);
        if let Some((first, _)) = earlier.filter(|_| has) {
            return Err(Breach::Lock(format!("{lock:?} goes to {applicant:?}, but {first:?} was first")));
        }
        match model.turns.get(&applicant.0).and_then(|turn| turn.next) {
            Some((next, calls)) if has && number > calls => {
                Err(Breach::Lock(format!("{lock:?} goes to {applicant:?}, which came after {next:?}")))
            }
            _ => Ok(()),
        }
    }

    /// The home of `barrier` lets the applicant go. Of one that may be gathered the home does not know who has come; of the common
    /// barrier [`passes`](Referee::passes) does.
    pub(crate) fn released(&mut self, barrier: BarrierId, applicant: Applicant) -> Result<(), Breach> {
        let model = self.barriers.entry(barrier).or_default();
        if model.gathered {
            return Ok(());
        }
        let Some(place) = model.released.iter().position(|waiting| *waiting == applicant) else {
            let arrived = &model.arrived;
            return Err(Breach::Barrier(format!(
                "{barrier:?} lets {applicant:?} go when only {arrived:?} have arrived"
            )));
        };
        model.released.swap_remove(place);
        Ok(())
    }

    /// A home had no room for the applicant, or its barrier cannot be full any more.
    pub(crate) fn refused(&mut self, applicant: Applicant) {
        for model in self.locks.values_mut() {
            model.asked.retain(|asked| *asked != applicant);
        }
        for model in self.barriers.values_mut() {
            model.arrived.retain(|waiting| *waiting != applicant);
        }
    }

    /// Whose request for `lock` was heard first and is not fulfilled, for planting a second grant.
    pub(crate) fn next_waiting(&self, lock: LockId) -> Option<Applicant> {
        self.locks.get(&lock)?.asked.first().copied()
    }

    /// Thread `thread` now has `lock`; one that is not `trusted` may have two holders.
    pub(crate) fn takes(&mut self, lock: LockId, thread: usize, trusted: bool) -> Result<(), Breach> {
        match self.held.insert(lock, thread) {
            Some(other) if trusted => {
                Err(Breach::Lock(format!("threads {other} and {thread} hold {lock:?} at the same time")))
            }
            _ => Ok(()),
        }
    }

    /// Thread `thread` gives `lock` back.
    pub(crate) fn gives_back(&mut self, lock: LockId) {
        self.held.remove(&lock);
    }

    /// A thread arrives at the common barrier for the `generation`th time.
    pub(crate) fn arrives(&mut self, generation: usize) {
        if self.arrivals.len() <= generation {
            self.arrivals.resize(generation + 1, 0);
        }
        self.arrivals[generation] += 1;
    }

    /// A thread passes the common barrier for the `generation`th time.
    pub(crate) fn passes(&self, generation: usize, participants: usize) -> Result<(), Breach> {
        let arrived = self.arrivals.get(generation).copied().unwrap_or(0);
        if arrived == participants {
            return Ok(());
        }
        Err(Breach::Barrier(format!(
            "generation {generation} was passed after {arrived} of {participants} arrivals"
        )))
    }
}

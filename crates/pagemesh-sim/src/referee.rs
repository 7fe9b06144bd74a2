//! Knows the order in which locks and barriers have to be passed: a model of each home, fed with what the home hears.

use crate::breach::Breach;
use crate::event::{Event, Wanted};
use pagemesh_protocol::{BarrierId, LockId, Message, NodeId, PageAddress, Ticket, barrier_home, lock_home};
use std::collections::{BTreeMap, VecDeque};

/// A waiting call of some node.
type Applicant = (NodeId, Ticket);

#[derive(Clone, Debug, Default)]
struct LockModel {
    holder: Option<Applicant>,
    queue: VecDeque<Applicant>,
    /// The holder died and nobody was there to be told.
    orphaned: bool,
    /// Those who are given the lock with the news that its holder died.
    told: Vec<Applicant>,
}

#[derive(Clone, Debug, Default)]
struct BarrierModel {
    arrived: Vec<Applicant>,
    released: Vec<Applicant>,
}

/// The models of all locks and barriers.
#[derive(Clone, Debug)]
pub(crate) struct Referee {
    nodes: u16,
    locks: BTreeMap<LockId, LockModel>,
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
    pub(crate) fn new(nodes: u16, locks: usize) -> Referee {
        Referee {
            nodes,
            locks: BTreeMap::new(),
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
            Event::LockAcquire { ticket, lock } => {
                self.hears_message(at, at, &Message::LockAcquire { lock, ticket });
            }
            Event::LockRelease { ticket, lock } => {
                self.hears_message(at, at, &Message::LockRelease { lock, ticket });
            }
            Event::BarrierArrive { ticket, barrier, participants } => {
                self.hears_message(at, at, &Message::BarrierArrive { barrier, ticket, participants });
            }
            Event::Cancel { ticket } => match cancelled {
                Some(Wanted::Lock(lock)) => {
                    self.hears_message(at, at, &Message::LockRelease { lock, ticket });
                }
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
            Message::LockAcquire { lock, ticket } if lock_home(lock, self.nodes) == at => {
                let model = self.locks.entry(lock).or_default();
                if std::mem::take(&mut model.orphaned) {
                    model.told.push((from, ticket));
                } else {
                    model.queue.push_back((from, ticket));
                }
            }
            Message::LockRelease { lock, ticket } if lock_home(lock, self.nodes) == at => {
                let model = self.locks.entry(lock).or_default();
                if model.holder == Some((from, ticket)) {
                    model.holder = None;
                } else {
                    model.queue.retain(|waiting| *waiting != (from, ticket));
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
            if lock_home(*lock, self.nodes) == at {
                model.queue.retain(|(node, _)| *node != lost);
                if model.holder.is_some_and(|(node, _)| node == lost) {
                    model.holder = None;
                    let told = model.queue.pop_front();
                    model.orphaned = told.is_none();
                    model.told.extend(told);
                }
            }
        }
        for (barrier, model) in &mut self.barriers {
            if barrier_home(*barrier, self.nodes) == at {
                model.arrived.retain(|(node, _)| *node != lost);
            }
        }
    }

    /// The home of `lock` grants it, with the news that the holder died if it did.
    pub(crate) fn granted(
        &mut self,
        lock: LockId,
        applicant: Applicant,
        died: Option<NodeId>,
    ) -> Result<(), Breach> {
        let model = self.locks.entry(lock).or_default();
        if died.is_some() {
            let Some(place) = model.told.iter().position(|told| *told == applicant) else {
                return Err(Breach::Lock(format!("{applicant:?} is told without reason that {lock:?} died")));
            };
            model.told.swap_remove(place);
        }
        if let Some(holder) = model.holder {
            return Err(Breach::Lock(format!("{lock:?} is granted to {applicant:?}, held by {holder:?}")));
        }
        if died.is_some() {
            model.holder = Some(applicant);
            return Ok(());
        }
        match model.queue.pop_front() {
            Some(first) if first == applicant => {
                model.holder = Some(applicant);
                Ok(())
            }
            first => {
                Err(Breach::Lock(format!("{lock:?} is granted to {applicant:?}, but {first:?} was first")))
            }
        }
    }

    /// The home of `barrier` lets the applicant go.
    pub(crate) fn released(&mut self, barrier: BarrierId, applicant: Applicant) -> Result<(), Breach> {
        let model = self.barriers.entry(barrier).or_default();
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
            model.queue.retain(|waiting| *waiting != applicant);
            model.told.retain(|waiting| *waiting != applicant);
        }
        for model in self.barriers.values_mut() {
            model.arrived.retain(|waiting| *waiting != applicant);
        }
    }

    /// The next in the queue of `lock`, for planting a second grant.
    pub(crate) fn next_waiting(&self, lock: LockId) -> Option<Applicant> {
        self.locks.get(&lock)?.queue.front().copied()
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

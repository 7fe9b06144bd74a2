//! Barriers of all nodes of a large mesh are gathered in a tree, so that no node handles more than a few messages a barrier.
//!
//! The nodes form a tree whose root is the barrier's home: place `p`, counted from the home, has the places `p * fan + 1` and
//! on below it. A node whose own threads and whose children have all come says so to its parent, once; when the home finds the
//! same it lets go, and each node passes that on. So a barrier is one message up and one down each branch.
//!
//! Participants are so many calls, not a set of nodes, and a node can hold back what has come to it only if it knows what is
//! still to come. So this is done for barriers of which that is known: as many calls of every node. All others, and the first
//! round of each, are counted one by one at the home (`barriers.rs`); when such a round had just as many calls of every node,
//! its release says that the barrier is gathered from then on, under a number that is never used again, its *generation*.
//! With one number of calls for each node nothing needs to be counted on the way, no count can be wrong, and a round is either
//! complete everywhere or nowhere.
//!
//! Whatever else happens has one answer: the home *dissolves* the generation. It forgets what was gathered, and tells
//! every node itself how many rounds were opened. Who waits in one of these may go on; who waits in a later one arrives anew, on
//! its own, at the home, which counts one by one again and knows what to do with calls that are too many, give up, name other
//! numbers of participants, or wait for a lost node. That happens
//!
//! * when a call comes to the home on its own: of a thread more than its node should have, or with other participants;
//! * when a call gives up that its node has spoken for;
//! * when the home loses a node, or a node loses its parent or a child of the tree.
//!
//! Nobody is counted twice, since a message of a generation means nothing after the generation; nobody waits for a message that
//! went through a dead node, since the home tells everyone without anyone between. The price of something unusual is one round that costs
//! what it would cost without the tree, and a message to every node.
//!
//! Notices go the way of these messages: a node's knowledge includes that of those below it, and so does what it tells its
//! parent first; on the way down everyone is told of everything that the home knows. What everyone knows is found out on the same way: a node
//! says of each writer up to where all below it know (`BarrierKnown`), and the home has the least of all.

use super::barriers::Barrier;
use super::below::Below;
use super::locks::{Caller, NumberMap};
use super::planted::Planted;
use super::queue::{Arena, Queue};
use super::{Engine, EngineConfig, Handled, barrier_home};
use crate::action::{Actions, Outcome};
use crate::ids::{BarrierId, NodeId, Ticket};
use crate::limits;
use crate::message::{BarrierPlan, Message};
use std::collections::{BTreeMap, VecDeque};

pub(super) const NOT_BELOW: &str = "it is not below this node in the tree of the barrier";
const WRONG_ROUND: &str = "it speaks of a round of the barrier that cannot be";

/// Who stands where above and below whom, for barriers of one home.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    home: u32,
    nodes: u32,
    fan: u32,
}

impl Tree {
    fn place(self, node: NodeId) -> u32 {
        (u32::from(node.get()) + self.nodes - self.home) % self.nodes
    }

    fn node(self, place: u32) -> NodeId {
        NodeId::new(((place + self.home) % self.nodes) as u16)
    }

    fn parent(self, node: NodeId) -> Option<NodeId> {
        let place = self.place(node);
        (place > 0).then(|| self.node((place - 1) / self.fan))
    }

    pub(super) fn children(self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let first = self.place(node) * self.fan + 1;
        (first..(first + self.fan).min(self.nodes)).map(move |place| self.node(place))
    }

    /// Which of the children of `node` that is.
    fn child(self, node: NodeId, child: NodeId) -> Option<usize> {
        self.children(node).position(|other| other == child)
    }
}

/// A barrier that is gathered, at one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    pub(super) generation: u32,
    pub(super) participants: u32,
    /// Rounds that were opened, as far as this node knows, and one more.
    pub(super) round: u64,
    /// Calls of this node that have come in this round.
    pub(super) own: Queue,
    pub(super) arrived: u32,
    /// A bit for each child that has come with all below it.
    pub(super) came: u64,
    /// The parent has been told that all are here.
    pub(super) passed: bool,
    /// At the home: the number of the opening that was last.
    opened: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Gatherings {
    bound: usize,
    pub(super) all: NumberMap<BarrierId, Gathered>,
    pub(super) callers: Arena<Caller>,
    /// Children that have come before this node heard of the generation: the newest, and a bit for each child.
    early: NumberMap<BarrierId, (u32, u64)>,
    /// Generations that are over, the newest last: what is still said of them means nothing.
    over: VecDeque<(BarrierId, u32)>,
    /// At the home: the newest generation.
    newest: u32,
    /// At the home: some nodes cannot reach each other, so that barriers are not gathered any more.
    spoiled: bool,
    /// At the home: barriers that could have been gathered, but for the bound, the newest last.
    refused: VecDeque<(BarrierId, u32)>,
    openings: u64,
    /// Room for the numbers of calls of each node.
    counts: Vec<u32>,
    pub(super) below: BTreeMap<NodeId, Below>,
}

impl Gatherings {
    pub(super) fn new(config: EngineConfig) -> Gatherings {
        let has_trees = config.nodes > config.barrier_fan;
        let nodes = if has_trees { config.nodes } else { 0 };
        let (mut all, mut early) = (NumberMap::default(), NumberMap::default());
        if has_trees {
            all.reserve(config.gathered);
            early.reserve(config.gathered);
        }
        Gatherings {
            bound: config.gathered,
            all,
            callers: Arena::with_capacity(if has_trees { config.tickets } else { 0 }, config.nodes),
            early,
            over: VecDeque::new(),
            newest: 0,
            spoiled: false,
            refused: VecDeque::new(),
            openings: 0,
            counts: vec![0; nodes as usize],
            below: BTreeMap::new(),
        }
    }

    fn end(&mut self, barrier: BarrierId, generation: u32) {
        if self.over.len() >= limits::GENERATIONS_OVER {
            self.over.pop_front();
        }
        self.over.push_back((barrier, generation));
    }

    #[cfg(feature = "verification")]
    pub(super) fn hash_behaviour(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_unstable_by_key(|(barrier, _)| **barrier);
        for (barrier, gathered) in all {
            let Gathered { generation, participants, round, own, arrived, came, passed, opened } = gathered;
            (true, barrier, generation, participants, round, arrived, came, passed, opened).hash(hasher);
            self.callers.iter(*own).collect::<Vec<_>>().hash(hasher);
        }
        let mut early: Vec<_> = self.early.iter().collect();
        early.sort_unstable();
        early.hash(hasher);
        (false, &self.over, self.newest, self.spoiled, &self.refused, self.openings, &self.below)
            .hash(hasher);
    }
}

/// Every node's part.
impl Engine {
    pub(super) fn tree(&self, home: NodeId) -> Tree {
        let (nodes, fan) = (self.config.nodes, self.config.barrier_fan);
        Tree { home: u32::from(home.get()), nodes: u32::from(nodes), fan: u32::from(fan) }
    }

    /// Calls of each node at a barrier of so many that can be gathered.
    fn calls_of_each(&self, participants: u32) -> Option<u32> {
        let nodes = u32::from(self.config.nodes);
        let can = self.config.nodes > self.config.barrier_fan && participants.is_multiple_of(nodes);
        can.then_some(participants / nodes)
    }

    /// A thread of this node has arrived: true when its node speaks for it.
    pub(super) fn gather(
        &mut self,
        ticket: Ticket,
        barrier: BarrierId,
        participants: u32,
        out: &mut Actions,
    ) -> bool {
        let Some(calls) = self.calls_of_each(participants) else { return false };
        let Some(gathered) = self.gatherings.all.get_mut(&barrier) else { return false };
        if gathered.participants != participants || gathered.arrived >= calls || gathered.passed {
            return false;
        }
        let caller = Caller { node: self.config.node, ticket };
        self.gatherings.callers.push(&mut gathered.own, caller);
        gathered.arrived += 1;
        self.gather_on(barrier, out);
        true
    }

    /// Tells the parent when all are here, or lets go at the home.
    fn gather_on(&mut self, barrier: BarrierId, out: &mut Actions) {
        let home = barrier_home(barrier, self.config.nodes);
        let tree = self.tree(home);
        let children = tree.children(self.config.node).count() as u32;
        let missing = u32::from(self.planted(Planted::TreePassesEarly)).min(children);
        let gathered = self.gatherings.all[&barrier];
        let full = self.calls_of_each(gathered.participants) == Some(gathered.arrived)
            && gathered.came.count_ones() + missing >= children;
        if !full || gathered.passed {
            return;
        }
        match tree.parent(self.config.node) {
            None => self.open_gathered(barrier, out),
            Some(parent) => {
                self.gatherings.all.entry(barrier).and_modify(|gathered| gathered.passed = true);
                if !self.planted(Planted::TreeTellsNothingUp) {
                    self.tell(parent, out);
                }
                self.confirm_below(home, parent, out);
                let Gathered { generation, round, .. } = gathered;
                self.send(parent, Message::BarrierGathered { barrier, generation, round }, out);
            }
        }
    }

    /// A child has come with all below it.
    pub(super) fn barrier_gathered(
        &mut self,
        from: NodeId,
        barrier: BarrierId,
        (generation, round): (u32, u64),
        out: &mut Actions,
    ) -> Handled {
        let home = barrier_home(barrier, self.config.nodes);
        let Some(child) = self.child_below(home, from) else { return Err(NOT_BELOW) };
        let known = self.gatherings.all.get_mut(&barrier);
        let Some(gathered) = known.filter(|known| known.generation >= generation) else {
            return self.came_early(home, barrier, child, (generation, round));
        };
        if gathered.generation > generation {
            return Ok(());
        }
        if gathered.round != round || gathered.came & 1 << child != 0 || gathered.passed {
            return Err(WRONG_ROUND);
        }
        gathered.came |= 1 << child;
        self.gather_on(barrier, out);
        Ok(())
    }

    /// A child has come of whose generation this node has not heard; or which is over.
    fn came_early(
        &mut self,
        home: NodeId,
        barrier: BarrierId,
        child: usize,
        (generation, round): (u32, u64),
    ) -> Handled {
        let is_over = self.gatherings.over.contains(&(barrier, generation));
        if home == self.config.node || is_over || !self.live.contains(home) {
            // The home made every generation itself: one that it does not know is over. So are all of a home that is lost.
            return Ok(());
        }
        if round != 1 {
            return Err(WRONG_ROUND);
        }
        let most = self.gatherings.bound * self.config.nodes as usize + limits::TICKETS;
        let early = &mut self.gatherings.early;
        if early.len() >= most && !early.contains_key(&barrier) {
            return Err("more barriers are gathered than can be");
        }
        let (newest, came) = early.entry(barrier).or_insert((generation, 0));
        if *newest < generation {
            (*newest, *came) = (generation, 0);
        }
        if *newest == generation {
            *came |= 1 << child;
        }
        Ok(())
    }

    pub(super) fn child_below(&self, home: NodeId, child: NodeId) -> Option<usize> {
        let has_trees = self.config.nodes > self.config.barrier_fan;
        has_trees.then(|| self.tree(home).child(self.config.node, child))?
    }

    /// The parent lets go.
    pub(super) fn barrier_opened(
        &mut self,
        from: NodeId,
        barrier: BarrierId,
        (generation, round): (u32, u64),
        out: &mut Actions,
    ) -> Handled {
        let home = barrier_home(barrier, self.config.nodes);
        if self.calls_of_each(0).is_none() || self.tree(home).parent(self.config.node) != Some(from) {
            return Err("it is not above this node in the tree of the barrier");
        }
        let Some(gathered) = self.gatherings.all.get(&barrier) else { return Ok(()) };
        if gathered.generation != generation {
            return Ok(());
        }
        if gathered.round != round || !gathered.passed {
            return Err(WRONG_ROUND);
        }
        self.open_below(barrier, home, out);
        Ok(())
    }

    /// Lets those below go, and then the calls of this node.
    fn open_below(&mut self, barrier: BarrierId, home: NodeId, out: &mut Actions) {
        let gathered = self.gatherings.all.get_mut(&barrier).expect("it is gathered");
        let Gathered { generation, round, own, .. } = *gathered;
        *gathered = Gathered { round: round + 1, ..Gathered::new(generation, gathered.participants) };
        let settled = self.settled_since(home);
        for child in self.tree(home).children(self.config.node) {
            if !self.planted(Planted::TreeTellsNothingDown) {
                self.tell(child, out);
            }
            for (writer, interval) in &settled {
                self.send(child, Message::Settled { writer: *writer, interval: *interval }, out);
            }
            self.send(child, Message::BarrierOpened { barrier, generation, round }, out);
        }
        self.let_own_go(own, out);
    }

    fn let_own_go(&mut self, mut own: Queue, out: &mut Actions) {
        if !own.is_empty() {
            self.drop_written(out);
        }
        while let Some(caller) = self.gatherings.callers.pop(&mut own) {
            self.complete(caller.ticket, Outcome::Done, out);
        }
    }

    /// The barrier is gathered from now on.
    pub(super) fn begin_gathering(
        &mut self,
        barrier: BarrierId,
        plan: BarrierPlan,
        out: &mut Actions,
    ) -> Handled {
        let BarrierPlan { generation, participants } = plan;
        if self.calls_of_each(participants).is_none() {
            return Err("such a barrier cannot be gathered");
        }
        let tree = self.tree(barrier_home(barrier, self.config.nodes));
        let own = self.config.node;
        let is_over = self.gatherings.over.contains(&(barrier, generation));
        if is_over || tree.parent(own).is_none() {
            // The home knows what it has planned itself, and what of that is over.
            return Ok(());
        }
        if let Some(known) = self.gatherings.all.get(&barrier) {
            let is_same = (known.generation, known.participants) == (generation, participants);
            return if is_same { Ok(()) } else { Err("it is gathered already") };
        }
        let early = &mut self.gatherings.early;
        let came =
            early.remove(&barrier).filter(|(early, _)| *early == generation).map_or(0, |(_, came)| came);
        let fresh = Gathered { came, ..Gathered::new(generation, participants) };
        self.gatherings.all.insert(barrier, fresh);
        let cut =
            tree.parent(own).into_iter().chain(tree.children(own)).any(|node| !self.live.contains(node));
        if cut {
            self.ask_to_dissolve(barrier, true, out);
        }
        Ok(())
    }

    fn ask_to_dissolve(&mut self, barrier: BarrierId, cut: bool, out: &mut Actions) {
        let home = barrier_home(barrier, self.config.nodes);
        let Gathered { generation, round, .. } = self.gatherings.all[&barrier];
        self.send(home, Message::BarrierDissolve { barrier, generation, round, cut }, out);
    }

    /// A call gives up: false when its node does not speak for it.
    pub(super) fn gathered_given_up(
        &mut self,
        barrier: BarrierId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> bool {
        let Some(gathered) = self.gatherings.all.get_mut(&barrier) else { return false };
        let removed = self.gatherings.callers.remove_where(&mut gathered.own, |own| own.ticket == ticket);
        if removed == 0 {
            return false;
        }
        gathered.arrived -= 1;
        if gathered.passed && !self.planted(Planted::TreeKeepsCancelled) {
            self.ask_to_dissolve(barrier, false, out);
        }
        true
    }

    /// To the home: a generation has to end. From the home: it has.
    pub(super) fn barrier_dissolve(
        &mut self,
        from: NodeId,
        barrier: BarrierId,
        (generation, round): (u32, u64),
        cut: bool,
        out: &mut Actions,
    ) -> Handled {
        let home = barrier_home(barrier, self.config.nodes);
        if self.calls_of_each(0).is_none() {
            return Err("no barrier is gathered in so small a mesh");
        }
        let known = self.gatherings.all.get(&barrier).copied();
        let known = known.filter(|known| known.generation == generation);
        if home == self.config.node {
            let Some(gathered) = known else { return Ok(()) };
            if round > gathered.round {
                return Err(WRONG_ROUND);
            }
            self.gatherings.spoiled |= cut;
            if cut || round == gathered.round {
                self.dissolve(barrier, out);
            }
            return Ok(());
        }
        if from != home {
            return Err("it is not the one to dissolve this");
        }
        self.gatherings.end(barrier, generation);
        if self.gatherings.early.get(&barrier).is_some_and(|(early, _)| *early <= generation) {
            self.gatherings.early.remove(&barrier);
        }
        let Some(Gathered { mut own, participants, round: now, .. }) = known else { return Ok(()) };
        self.gatherings.all.remove(&barrier);
        if now <= round {
            self.let_own_go(own, out);
            return Ok(());
        }
        while let Some(caller) = self.gatherings.callers.pop(&mut own) {
            self.arrive_alone(caller.ticket, barrier, participants, out);
        }
        Ok(())
    }

    /// A node is lost.
    pub(super) fn mend_gatherings(&mut self, lost: NodeId, out: &mut Actions) {
        let (own, nodes) = (self.config.node, self.config.nodes);
        let mut all: Vec<BarrierId> = self.gatherings.all.keys().copied().collect();
        all.sort_unstable();
        for barrier in all {
            let home = barrier_home(barrier, nodes);
            let tree = self.tree(home);
            if home == own {
                self.dissolve(barrier, out);
            } else if home == lost {
                // The calls fail as all do that wait for a lost home.
                let mut gathered = self.gatherings.all.remove(&barrier).expect("it was listed");
                while self.gatherings.callers.pop(&mut gathered.own).is_some() {}
            } else if tree.parent(own) == Some(lost) || tree.child(own, lost).is_some() {
                self.ask_to_dissolve(barrier, true, out);
            }
        }
        self.gatherings.early.retain(|barrier, _| barrier_home(*barrier, nodes) != lost);
    }
}

/// The home's part.
impl Engine {
    /// A round that was counted one by one is full: how it is done from now on, where each node had as many calls as every other.
    pub(super) fn plan_barrier(
        &mut self,
        barrier: BarrierId,
        participants: u32,
        queue: Queue,
        out: &mut Actions,
    ) -> Option<BarrierPlan> {
        let calls = self.calls_of_each(participants)?;
        if self.gatherings.spoiled || self.lost_node().is_some() {
            return None;
        }
        let counts = &mut self.gatherings.counts;
        counts.fill(0);
        self.barriers.queued.iter(queue).for_each(|caller| counts[caller.node.index()] += 1);
        if counts.iter().any(|count| *count != calls) || !self.make_room(barrier, participants, out) {
            return None;
        }
        self.gatherings.newest += 1;
        let plan = BarrierPlan { generation: self.gatherings.newest, participants };
        self.gatherings.openings += 1;
        let opened = self.gatherings.openings;
        let gathered = Gathered { opened, ..Gathered::new(plan.generation, participants) };
        self.gatherings.all.insert(barrier, gathered);
        Some(plan)
    }

    /// Whether one more barrier of this home can be gathered. Where that takes the place of another, it must have been wanted before:
    /// a program that enters each barrier once does not pay for dissolving.
    fn make_room(&mut self, barrier: BarrierId, participants: u32, out: &mut Actions) -> bool {
        let (own, nodes, bound) = (self.config.node, self.config.nodes, self.gatherings.bound);
        let of_this_home =
            self.gatherings.all.iter().filter(|(barrier, _)| barrier_home(**barrier, nodes) == own);
        if of_this_home.clone().count() < bound {
            return true;
        }
        let refused = &mut self.gatherings.refused;
        let Some(place) = refused.iter().position(|known| *known == (barrier, participants)) else {
            if refused.len() >= bound {
                refused.pop_front();
            }
            refused.push_back((barrier, participants));
            return false;
        };
        let idle = of_this_home.filter(|(_, gathered)| gathered.arrived == 0 && gathered.came == 0);
        let Some((_, oldest)) = idle.map(|(barrier, gathered)| (gathered.opened, *barrier)).min() else {
            return false;
        };
        refused.remove(place);
        self.dissolve(oldest, out);
        true
    }

    /// A call has come to the home on its own. False when it has to be told that others have other participants.
    pub(super) fn dissolve_for(
        &mut self,
        barrier: BarrierId,
        participants: u32,
        out: &mut Actions,
    ) -> Result<(), u32> {
        let Some(gathered) = self.gatherings.all.get(&barrier) else { return Ok(()) };
        if gathered.participants != participants && (gathered.arrived > 0 || gathered.came > 0) {
            return Err(gathered.participants);
        }
        self.dissolve(barrier, out);
        Ok(())
    }

    fn dissolve(&mut self, barrier: BarrierId, out: &mut Actions) {
        let Some(gathered) = self.gatherings.all.remove(&barrier) else { return };
        let Gathered { generation, participants, round, mut own, came, .. } = gathered;
        self.gatherings.end(barrier, generation);
        for node in self.live.without(self.config.node).iter() {
            self.tell(node, out);
            let round = round - 1;
            self.send(node, Message::BarrierDissolve { barrier, generation, round, cut: false }, out);
        }
        if self.planted(Planted::TreeCountsTwice) && came != 0 {
            let fresh = Barrier { participants, arrived: 0, queue: Queue::default() };
            self.barriers.used.entry(barrier).or_insert(fresh).arrived += came.count_ones();
        }
        while let Some(caller) = self.gatherings.callers.pop(&mut own) {
            self.arrive_alone(caller.ticket, barrier, participants, out);
        }
    }

    /// All are here.
    fn open_gathered(&mut self, barrier: BarrierId, out: &mut Actions) {
        let home = self.config.node;
        self.gatherings.openings += 1;
        let opened = self.gatherings.openings;
        self.settle_below(home);
        self.open_below(barrier, home, out);
        self.gatherings.all.entry(barrier).and_modify(|gathered| gathered.opened = opened);
    }
}

impl Gathered {
    fn new(generation: u32, participants: u32) -> Gathered {
        Gathered {
            generation,
            participants,
            round: 1,
            own: Queue::default(),
            arrived: 0,
            came: 0,
            passed: false,
            opened: 0,
        }
    }
}

//! Breadth-first search through everything that can happen, so that what is found first is shortest.

use super::checks::Mesh;
use super::local::{Event, Local, Operation, page_address};
use super::names::Names;
use super::plan::Plan;
use super::step::Step;
use super::store::{Effect, Effects, Facts, Locals, Queues, States};
use crate::breach::Breach;
use pagemesh_protocol::{Message, RequestId};

/// The word of a dead node.
const DEAD: u32 = u32::MAX;
/// The parent of the first state, and where nothing is under way.
const NONE: u32 = u32::MAX;
/// In the last word of a state, above the bits of pages that were written: how many came to the barrier and died.
const DEAD_AT_BARRIER: u32 = 16;

/// Something that happens in the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Move {
    /// To one node, and by that to others.
    Event { node: u8, event: Event },
    /// A node dies.
    Death { node: u8 },
}

impl Move {
    /// Whether it happens by itself, without a thread's beginning something or a misfortune.
    fn is_forced(self) -> bool {
        let Move::Event { event, .. } = self else { return false };
        matches!(event, Event::Deliver { .. } | Event::Touch { .. } | Event::Postponed | Event::Lost { .. })
    }
}

/// Everything that was found so far.
pub(super) struct Search<'a> {
    pub(super) plan: &'a Plan,
    pub(super) locals: Vec<Locals>,
    pub(super) queues: Queues,
    effects: Vec<Effects>,
    pub(super) states: States,
    /// For each state, one that follows when nobody begins anything.
    onward: Vec<u32>,
    pub(super) transitions: u64,
    scratch: Vec<u32>,
}

/// What did not hold, and where.
pub(super) struct Found {
    pub(super) breach: Breach,
    /// The state before.
    pub(super) state: u32,
    /// What happened then; `None` when the state itself is wrong.
    pub(super) next: Option<Move>,
}

impl<'a> Search<'a> {
    /// A search that begins with these nodes, between which nothing is under way.
    pub(super) fn new(plan: &'a Plan, nodes: Vec<Local>) -> Search<'a> {
        let count = nodes.len();
        let width = count + count * count + 1;
        let mut search = Search {
            plan,
            locals: (0..count).map(|_| Locals::default()).collect(),
            queues: Queues::new(),
            effects: (0..count).map(|_| Effects::default()).collect(),
            states: States::new(width),
            onward: Vec::new(),
            transitions: 0,
            scratch: Vec::new(),
        };
        let mut first = vec![0; width];
        for (index, local) in nodes.into_iter().enumerate() {
            first[index] = search.locals[index].number(plan, local);
        }
        search.states.number(&first, NONE);
        search
    }

    /// Looks at every state that can be reached, `bound` at most; tells the depth and whether that were all.
    pub(super) fn run(&mut self, bound: usize) -> Result<(u32, bool), Box<Found>> {
        let (mut depth, mut level_end, mut number) = (0, 1, 0);
        let mut moves = Vec::new();
        while (number as usize) < self.states.len() {
            if number as usize == level_end {
                (depth, level_end) = (depth + 1, self.states.len());
            }
            if self.states.len() > bound {
                return Ok((depth, false));
            }
            self.expand(number, &mut moves)?;
            number += 1;
        }
        self.check_rest()?;
        Ok((depth, true))
    }

    fn expand(&mut self, number: u32, moves: &mut Vec<Move>) -> Result<(), Box<Found>> {
        let here = self.states.state(number).to_vec();
        self.moves(&here, moves);
        self.transitions += moves.len() as u64;
        let mut onward = NONE;
        for next in moves.iter().copied() {
            let found = |breach| Box::new(Found { breach, state: number, next: Some(next) });
            self.follow(&here, next).map_err(found)?;
            let after = std::mem::take(&mut self.scratch);
            let (to, fresh) = self.states.number(&after, number);
            if fresh {
                self.mesh(&after).check().map_err(found)?;
            }
            self.scratch = after;
            if onward == NONE && next.is_forced() {
                onward = to;
            }
        }
        if onward == NONE {
            let quiet = self.mesh(&here).check_at_rest();
            quiet.map_err(|breach| Box::new(Found { breach, state: number, next: None }))?;
        }
        self.onward.push(onward);
        Ok(())
    }

    /// From everywhere, what is under way comes to an end when nobody begins anything.
    fn check_rest(&self) -> Result<(), Box<Found>> {
        let mut rests = vec![false; self.states.len()];
        let mut path = Vec::new();
        for start in 0..self.states.len() as u32 {
            let mut at = start;
            path.clear();
            while at != NONE && !rests[at as usize] {
                rests[at as usize] = true;
                path.push(at);
                at = self.onward[at as usize];
            }
            if at != NONE && path.contains(&at) {
                let breach = Breach::Stuck("messages go round for ever and nobody begins anything".into());
                return Err(Box::new(Found { breach, state: at, next: None }));
            }
        }
        Ok(())
    }

    pub(super) fn mesh<'b>(&'b self, state: &'b [u32]) -> Mesh<'b> {
        let nodes = self.locals.len();
        let facts = |(index, word): (usize, &u32)| (*word != DEAD).then(|| self.locals[index].facts(*word));
        Mesh {
            plan: self.plan,
            nodes: state[..nodes].iter().enumerate().map(facts).collect(),
            locals: state[..nodes]
                .iter()
                .zip(&self.locals)
                .map(|(word, locals)| (*word != DEAD).then(|| locals.local(*word)))
                .collect(),
            pages_under_way: state[nodes..nodes + nodes * nodes]
                .iter()
                .fold(0, |pages, queue| pages | self.queues.queue(*queue).pages),
        }
    }

    fn facts(&self, state: &[u32], node: usize) -> Option<&Facts> {
        (state[node] != DEAD).then(|| self.locals[node].facts(state[node]))
    }

    fn link(&self, from: usize, to: usize) -> usize {
        let nodes = self.locals.len();
        nodes + from * nodes + to
    }

    /// Everything that can happen now; what happens by itself comes first.
    pub(super) fn moves(&self, state: &[u32], moves: &mut Vec<Move>) {
        let nodes = self.locals.len();
        moves.clear();
        let mut names = None;
        for to in 0..nodes {
            let Some(facts) = self.facts(state, to) else { continue };
            for from in (0..nodes).filter(|from| *from != to) {
                let queue = self.queues.queue(state[self.link(from, to)]);
                if let Some(parcel) = queue.parcels.first() {
                    let event = Event::Deliver { from: from as u8, parcel: *parcel };
                    moves.push(Move::Event { node: to as u8, event });
                }
                if state[from] == DEAD && facts.live.contains(pagemesh_protocol::NodeId::new(from as u16)) {
                    moves.push(Move::Event { node: to as u8, event: Event::Lost { node: from as u8 } });
                }
            }
        }
        for node in 0..nodes {
            let Some(facts) = self.facts(state, node) else { continue };
            for event in &facts.own {
                let event = match *event {
                    Event::Evict { page } if self.is_given_back(state, node, page) => continue,
                    Event::Begin { thread, operation, .. } if operation != Operation::Unlock => {
                        let names = names.get_or_insert_with(|| self.names(state));
                        let generation = names.next_generation(node, thread);
                        let last = operation == Operation::Barrier
                            && self.at_barrier(state) + 1 == self.plan.participants();
                        Event::Begin { thread, operation, generation, last }
                    }
                    other => other,
                };
                moves.push(Move::Event { node: node as u8, event });
            }
        }
        if state[..nodes].iter().all(|word| *word != DEAD) {
            for node in &self.plan.mortal {
                moves.push(Move::Death { node: node.get() as u8 });
            }
        }
    }

    /// Whether `node` has said that it gives a page back and was not heard yet: to say it again and again would fill the link.
    fn is_given_back(&self, state: &[u32], node: usize, page: u8) -> bool {
        let mut queues = (0..self.locals.len()).map(|to| self.queues.queue(state[self.link(node, to)]));
        queues.any(|queue| {
            let mut parcels = queue.parcels.iter().map(|parcel| self.queues.parcel(*parcel).message);
            parcels.any(|message| message == Message::Evict { page: page_address(page) })
        })
    }

    /// Threads that have come to the barrier since it was full, the dead among them.
    fn at_barrier(&self, state: &[u32]) -> u32 {
        let nodes = 0..self.locals.len();
        let living: u32 =
            nodes.filter_map(|node| self.facts(state, node)).map(|facts| facts.at_barrier).sum();
        living + (state[state.len() - 1] >> DEAD_AT_BARRIER)
    }

    /// Every name that somebody knows.
    fn names(&self, state: &[u32]) -> Names {
        let nodes = self.locals.len();
        let mut names = Names::default();
        for node in 0..nodes {
            if let Some(facts) = self.facts(state, node) {
                names.join(&facts.names);
            }
        }
        for queue in state[nodes..nodes + nodes * nodes].iter().filter(|queue| **queue != 0) {
            names.join(&self.queues.queue(*queue).names);
        }
        names
    }

    /// Works out the state after `next` and leaves it in `scratch`.
    fn follow(&mut self, here: &[u32], next: Move) -> Result<(), Breach> {
        let mut after = std::mem::take(&mut self.scratch);
        after.clear();
        after.extend_from_slice(here);
        let result = match next {
            Move::Event { node, event } => self.happen(&mut after, node as usize, event),
            Move::Death { node } => {
                self.die(&mut after, node as usize);
                Ok(())
            }
        };
        self.scratch = after;
        result
    }

    /// The state after `next`.
    pub(super) fn after(&mut self, here: &[u32], next: Move) -> Result<Vec<u32>, Breach> {
        self.follow(here, next).map(|()| self.scratch.clone())
    }

    /// What a node has sent may still arrive, or may not.
    fn die(&self, state: &mut [u32], node: usize) {
        let last = state.len() - 1;
        state[last] += self.facts(state, node).map_or(0, |facts| facts.at_barrier) << DEAD_AT_BARRIER;
        state[node] = DEAD;
        for from in 0..self.locals.len() {
            state[self.link(from, node)] = 0;
        }
    }

    fn happen(&mut self, state: &mut [u32], node: usize, event: Event) -> Result<(), Breach> {
        match event {
            Event::Deliver { from, .. } => {
                let link = self.link(from as usize, node);
                state[link] = self.queues.queue(state[link]).rest;
            }
            // What had not arrived by then never will.
            Event::Lost { node: lost } => state[self.link(lost as usize, node)] = 0,
            Event::Begin { last: true, .. } => {
                let word = state.len() - 1;
                state[word] &= (1 << DEAD_AT_BARRIER) - 1;
                self.tell_others(state, node, Event::Full)?;
            }
            _ => {}
        }
        let request = self.next_request(state, node, event);
        let number = self.effect(node, state[node], event, request);
        let effect = self.effects[node].effect(number)?;
        let (wrote, zeroed, after) = (effect.done.wrote, effect.done.zeroed, effect.after);
        let failed = effect.done.failed.clone();
        let written = state.len() - 1;
        if let Some(page) = zeroed.filter(|page| state[written] >> page & 1 != 0) {
            return Err(Breach::Data(format!("n{node} has zeros for p{page}, which was written")));
        }
        state[node] = after;
        if let Some(page) = wrote {
            state[written] |= 1 << page;
            self.outdate(state, node, page)?;
        }
        self.send_all(state, node, number);
        failed.iter().try_for_each(|(failure, page)| self.mesh(state).check_excuse(node, *failure, *page))
    }

    /// What a node sent; to a dead one it goes nowhere.
    fn send_all(&mut self, state: &mut [u32], node: usize, effect: u32) {
        let Ok(effect) = self.effects[node].effect(effect) else { return };
        for (to, parcel) in &effect.sent {
            if state[*to as usize] != DEAD {
                let nodes = self.locals.len();
                let link = nodes + node * nodes + *to as usize;
                state[link] = self.queues.push(node as u8, *to, state[link], *parcel);
            }
        }
    }

    /// Only events that may lead to a request need a name for it.
    fn next_request(&self, state: &[u32], node: usize, event: Event) -> RequestId {
        match event {
            Event::Deliver { .. }
            | Event::Lost { .. }
            | Event::Postponed
            | Event::AskBack { .. }
            | Event::Begin { .. } => self.names(state).next_request(node),
            _ => RequestId(0),
        }
    }

    /// `page` was written at `writer`: nobody else has its latest bytes.
    fn outdate(&mut self, state: &mut [u32], writer: usize, page: u8) -> Result<(), Breach> {
        let nodes = self.locals.len();
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            let link = self.link(from, to);
            state[link] = self.queues.outdate(from as u8, to as u8, state[link], page);
        }
        self.tell_others(state, writer, Event::Outdated { page })
    }

    fn tell_others(&mut self, state: &mut [u32], node: usize, event: Event) -> Result<(), Breach> {
        for other in (0..self.locals.len()).filter(|other| *other != node) {
            if state[other] == DEAD {
                continue;
            }
            let effect = self.effect(other, state[other], event, RequestId(0));
            state[other] = self.effects[other].effect(effect)?.after;
        }
        Ok(())
    }

    /// The number of what `event` does to a node in this state, worked out at most once.
    fn effect(&mut self, node: usize, local: u32, event: Event, request: RequestId) -> u32 {
        let key = (local, request.0, event);
        if let Some(number) = self.effects[node].find(key) {
            return number;
        }
        let parcel = match event {
            Event::Deliver { parcel, .. } => Some(self.queues.parcel(parcel)),
            _ => None,
        };
        let mut step = Step::new(self.plan, self.locals[node].local(local).clone());
        let effect = step.take(event, parcel, request).map(|()| {
            let Step { local, done, .. } = step;
            let sent = done.sent.iter();
            let sent =
                sent.map(|(to, parcel)| (to.get() as u8, self.queues.parcel_number(*parcel))).collect();
            Effect { after: self.locals[node].number(self.plan, local), done, sent }
        });
        self.effects[node].keep(key, effect)
    }

    /// What `event` made a node send, for the trace.
    pub(super) fn sent(&mut self, here: &[u32], node: usize, event: Event) -> Vec<(u8, super::step::Parcel)> {
        let request = self.request_before(here, node, event);
        let number = self.effect(node, here[node], event, request);
        let queues = &self.queues;
        self.effects[node].effect(number).map_or_else(
            |_| Vec::new(),
            |effect| effect.sent.iter().map(|(to, parcel)| (*to, queues.parcel(*parcel))).collect(),
        )
    }

    /// As `happen` names requests: after the message was taken off its link.
    fn request_before(&self, here: &[u32], node: usize, event: Event) -> RequestId {
        let mut state = here.to_vec();
        match event {
            Event::Deliver { from, .. } => {
                let link = self.link(from as usize, node);
                state[link] = self.queues.queue(state[link]).rest;
            }
            Event::Lost { node: lost } => state[self.link(lost as usize, node)] = 0,
            _ => {}
        }
        self.next_request(&state, node, event)
    }

    /// States of single nodes, and events at them, that were worked out.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let locals = self.locals.iter().map(Locals::len).sum();
        (locals, self.effects.iter().map(Effects::len).sum())
    }
}

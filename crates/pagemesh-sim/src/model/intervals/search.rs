//! Breadth-first search through everything that can happen in such a mesh.
//!
//! States of nodes, of links and of what all have done are kept once each and known by numbers, and what an event does to a node is worked
//! out once for all meshes in which it happens, as in the checker of the other protocols.

use super::super::store::{Recorder, States, Table};
use super::local::{Activity, Consequences, Event, Local, Parcel, Step};
use super::plan::{CELLS, IntervalPlan, NODES, PAGES};
use crate::breach::Breach;
use pagemesh_protocol::Access;

/// The parent of the first state.
const NONE: u32 = u32::MAX;

/// What all have done so far, by the checker's own book.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Book {
    /// How often each cell was written.
    written: [[u8; CELLS]; PAGES],
    arrived: u8,
}

/// Something that happens to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) node: u8,
    pub(super) event: Event,
}

struct Effect {
    after: u32,
    done: Consequences,
    sent: Box<[(u8, u32)]>,
}

/// What did not hold, and where.
pub(super) struct Found {
    pub(super) breach: Breach,
    pub(super) state: u32,
    pub(super) next: Option<Move>,
}

/// Things that are kept once each.
struct Once<T> {
    numbers: Table<T, u32>,
    all: Vec<T>,
}

impl<T: Clone + Eq + std::hash::Hash> Once<T> {
    fn new() -> Once<T> {
        Once { numbers: Table::default(), all: Vec::new() }
    }

    fn number(&mut self, item: T) -> u32 {
        if let Some(number) = self.numbers.get(&item) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push(item.clone());
        self.numbers.insert(item, number);
        number
    }
}

pub(super) struct Search<'a> {
    plan: &'a IntervalPlan,
    locals: Vec<Table<Box<[u8]>, u32>>,
    nodes: Vec<Vec<Local>>,
    parcels: Once<Parcel>,
    queues: Once<Box<[u32]>>,
    books: Once<Book>,
    effects: Vec<Table<(u32, Event), u32>>,
    worked_out: Vec<Result<Effect, Breach>>,
    pub(super) states: States,
    /// How each state was found.
    moves: Vec<Move>,
    pub(super) transitions: u64,
}

impl<'a> Search<'a> {
    /// A search that begins with these nodes, between which nothing is under way.
    pub(super) fn new(plan: &'a IntervalPlan, start: Vec<Local>) -> Search<'a> {
        let count = start.len();
        let width = count + count * count + 1;
        let mut search = Search {
            plan,
            locals: (0..count).map(|_| Table::default()).collect(),
            nodes: vec![Vec::new(); count],
            parcels: Once::new(),
            queues: Once::new(),
            books: Once::new(),
            effects: (0..count).map(|_| Table::default()).collect(),
            worked_out: Vec::new(),
            states: States::new(width),
            moves: vec![Move { node: 0, event: Event::Postponed }],
            transitions: 0,
        };
        let mut first = vec![0; width];
        for (index, local) in start.into_iter().enumerate() {
            first[index] = search.number(index, local);
        }
        let (empty, nothing) = (search.queues.number(Box::new([])), search.books.number(Book::default()));
        assert_eq!((empty, nothing), (0, 0), "the first of each has number 0");
        search.states.number(&first, NONE);
        search
    }

    /// Different states of single nodes.
    pub(super) fn node_states(&self) -> usize {
        self.nodes.iter().map(Vec::len).sum()
    }

    /// Looks at every state that can be reached, `bound` at most; tells the depth and whether that were all.
    pub(super) fn run(&mut self, bound: usize) -> Result<(u32, bool), Box<Found>> {
        let (mut depth, mut level_end, mut number) = (0, 1, 0u32);
        while (number as usize) < self.states.len() {
            if number as usize == level_end {
                (depth, level_end) = (depth + 1, self.states.len());
            }
            if self.states.len() > bound {
                return Ok((depth, false));
            }
            self.expand(number)?;
            number += 1;
        }
        Ok((depth, true))
    }

    fn expand(&mut self, number: u32) -> Result<(), Box<Found>> {
        let here = self.states.state(number).to_vec();
        let moves = self.possible(&here);
        self.transitions += moves.len() as u64;
        for next in &moves {
            let found = |breach| Box::new(Found { breach, state: number, next: Some(*next) });
            let after = self.follow(&here, *next).map_err(found)?;
            let (_, fresh) = self.states.number(&after, number);
            if fresh {
                self.moves.push(*next);
            }
        }
        if moves.is_empty() {
            let rest = self.check_rest(&here);
            rest.map_err(|breach| Box::new(Found { breach, state: number, next: None }))?;
        }
        Ok(())
    }

    fn number(&mut self, node: usize, local: Local) -> u32 {
        let mut recorder = Recorder::default();
        local.hash(&mut recorder);
        let fresh = self.nodes[node].len() as u32;
        let number = *self.locals[node].entry(recorder.0.into_boxed_slice()).or_insert(fresh);
        if number == fresh {
            self.nodes[node].push(local);
        }
        number
    }

    fn local(&self, state: &[u32], node: usize) -> &Local {
        &self.nodes[node][state[node] as usize]
    }

    fn link(&self, from: usize, to: usize) -> usize {
        let nodes = self.plan.nodes as usize;
        nodes + from * nodes + to
    }

    fn queue(&self, state: &[u32], from: usize, to: usize) -> &[u32] {
        &self.queues.all[state[self.link(from, to)] as usize]
    }

    fn book(&self, state: &[u32]) -> Book {
        self.books.all[state[state.len() - 1] as usize]
    }

    fn possible(&self, state: &[u32]) -> Vec<Move> {
        let nodes = self.plan.nodes as usize;
        let mut moves = Vec::new();
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            if let Some(parcel) = self.queue(state, from, to).first() {
                moves.push(Move {
                    node: to as u8,
                    event: Event::Deliver { from: from as u8, parcel: *parcel },
                });
            }
        }
        let book = self.book(state);
        for node in 0..nodes {
            let local = self.local(state, node);
            for event in local.own_events(self.plan) {
                let deed = local.deed_of(event).filter(|deed| deed.access == Access::Write);
                let value = deed.map_or(0, |deed| book.written[deed.page as usize][deed.cell as usize] + 1);
                let event = match event {
                    Event::Begin { operation, .. } => Event::Begin { operation, value },
                    Event::Touch { .. } => Event::Touch { value },
                    other => other,
                };
                moves.push(Move { node: node as u8, event });
            }
        }
        moves
    }

    /// The state after `next`.
    fn follow(&mut self, here: &[u32], next: Move) -> Result<Vec<u32>, Breach> {
        let (node, mut after) = (next.node as usize, here.to_vec());
        if let Event::Deliver { from, .. } = next.event {
            let rest = self.queue(here, from as usize, node)[1..].into();
            let link = self.link(from as usize, node);
            after[link] = self.queues.number(rest);
        }
        let number = self.effect(node, here[node], next.event);
        let effect = self.worked_out[number as usize].as_ref().map_err(Clone::clone)?;
        after[node] = effect.after;
        let book = self.judge(self.book(here), node, &effect.done)?;
        let last = after.len() - 1;
        after[last] = self.books.number(book);
        let Ok(effect) = &self.worked_out[number as usize] else { return Ok(after) };
        let nodes = self.plan.nodes as usize;
        for (to, parcel) in &effect.sent {
            let link = nodes + node * nodes + *to as usize;
            let mut queue = self.queues.all[after[link] as usize].to_vec();
            queue.push(*parcel);
            after[link] = self.queues.number(queue.into_boxed_slice());
        }
        Ok(after)
    }

    /// What was read must be what was written last, and nobody passes a barrier before all have come.
    fn judge(&self, mut book: Book, node: usize, done: &Consequences) -> Result<Book, Breach> {
        if let Some((deed, value)) = done.done {
            let written = &mut book.written[deed.page as usize][deed.cell as usize];
            if deed.access == Access::Write {
                *written = value;
            } else if *written != value {
                let text = format!("n{node} reads write {value} of {deed:?}, the last was {written}");
                return Err(Breach::Data(text));
            }
        }
        book.arrived += u8::from(done.arrived);
        match done.passed {
            Some(times) if u16::from(book.arrived) < u16::from(times) * self.plan.nodes => {
                Err(Breach::Barrier(format!("n{node} passes before all have come")))
            }
            _ => Ok(book),
        }
    }

    /// The number of what `event` does to a node in this state, worked out at most once.
    fn effect(&mut self, node: usize, local: u32, event: Event) -> u32 {
        if let Some(number) = self.effects[node].get(&(local, event)) {
            return *number;
        }
        let parcel = match event {
            Event::Deliver { parcel, .. } => Some(self.parcels.all[parcel as usize]),
            _ => None,
        };
        let mut step = Step::new(self.plan, self.nodes[node][local as usize].clone());
        let result = step.take(event, parcel).map(|()| {
            let sent = step.done.sent.iter();
            let sent = sent.map(|(to, parcel)| (to.get() as u8, self.parcels.number(*parcel))).collect();
            let after = self.number(node, step.local);
            Effect { after, done: step.done, sent }
        });
        let number = self.worked_out.len() as u32;
        self.worked_out.push(result);
        self.effects[node].insert((local, event), number);
        number
    }

    /// Nothing can happen any more: whoever waits does so at a barrier to which not all come.
    fn check_rest(&self, state: &[u32]) -> Result<(), Breach> {
        let locals: Vec<&Local> = (0..self.plan.nodes as usize).map(|node| self.local(state, node)).collect();
        let at_barrier = locals.iter().filter(|local| local.activity == Activity::Barrier).count();
        for local in &locals {
            let node = local.engine.node();
            let explained = match local.activity {
                Activity::Running => true,
                Activity::Barrier => at_barrier < locals.len(),
                _ => false,
            };
            if !explained {
                return Err(Breach::Stuck(format!(
                    "the thread of {node:?} waits for ever: {:?}",
                    local.activity
                )));
            }
            if at_barrier == 0 && !local.engine.is_quiet() {
                return Err(Breach::Stuck(format!("{node:?} has work left and nobody to give it")));
            }
        }
        Ok(())
    }

    /// The shortest way from the start to what was found, one line an event.
    pub(super) fn trace(&self, found: &Found) -> Vec<String> {
        let mut way: Vec<Move> = found.next.into_iter().collect();
        let mut state = found.state;
        while self.states.parent(state) != NONE {
            way.push(self.moves[state as usize]);
            state = self.states.parent(state);
        }
        let lines = way.into_iter().rev().enumerate();
        lines
            .map(|(step, Move { node, event })| format!("{:>4}  n{node} {}", step + 1, self.describe(event)))
            .collect()
    }

    fn describe(&self, event: Event) -> String {
        match event {
            Event::Deliver { from, parcel } => {
                let Parcel { message, load } = self.parcels.all[parcel as usize];
                format!("<- n{from}: {message:?} {load:?}")
            }
            Event::Begin { operation, .. } => format!("begins {operation:?}"),
            Event::Touch { .. } => "touches what it was given".into(),
            Event::Postponed => "has let its threads run".into(),
        }
    }
}

const _: () = assert!(NODES < 256 && PAGES < 256, "nodes and pages are numbered by bytes");

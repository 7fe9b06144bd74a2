//! Breadth-first search through everything that can happen in such a mesh.
//!
//! States of nodes, of links and of what all have done are kept once each and known by numbers, and what an event does to a node is worked
//! out once for all meshes in which it happens, as in the checker of the other protocols.

use super::super::store::{Recorder, States, Table};
use super::local::{Activity, Beside, Consequences, Deed, Event, Local, Operation, Parcel, Step};
use super::plan::{CELLS, IntervalPlan, NODES, PAGES};
use crate::breach::Breach;
use pagemesh_protocol::{Access, Message, PageState};

/// The parent of the first state.
const NONE: u32 = u32::MAX;

/// Actions of one event, of those that take a right or make a diff, before which the second thread of a node stores.
const BESIDE: u8 = 3;

/// What all have done so far, by the checker's own book.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Book {
    /// How often each cell was written.
    pub(super) written: [[u8; CELLS]; PAGES],
    arrived: u8,
}

impl Book {
    /// What is made of the cell by the next who writes it.
    pub(super) fn next(&self, deed: Deed) -> u8 {
        self.written[deed.page as usize][deed.cell as usize] + 1
    }

    /// What was read must be what was written last, and nobody passes a barrier before all have come.
    pub(super) fn judge(mut self, nodes: u16, node: usize, done: &Consequences) -> Result<Book, Breach> {
        for (deed, value) in done.done.into_iter().chain(done.stored) {
            let written = &mut self.written[deed.page as usize][deed.cell as usize];
            if deed.access == Access::Write {
                *written = value;
            } else if *written != value {
                let text = format!("n{node} reads write {value} of {deed:?}, the last was {written}");
                return Err(Breach::Data(text));
            }
        }
        self.arrived += u8::from(done.arrived);
        match done.passed {
            Some(times) if u16::from(self.arrived) < u16::from(times) * nodes => {
                Err(Breach::Barrier(format!("n{node} passes before all have come")))
            }
            _ => Ok(self),
        }
    }
}

/// Something that happens to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) node: u8,
    pub(super) event: Event,
    /// What the node's second thread does meanwhile.
    pub(super) beside: Option<Beside>,
    /// What arrives is lost on the way.
    pub(super) lost: bool,
}

impl Move {
    fn new(node: usize, event: Event) -> Move {
        Move { node: node as u8, event, beside: None, lost: false }
    }
}

/// What happens to a node in a state that has a number.
type Happening = (u32, Event, Option<Beside>);

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
    effects: Vec<Table<Happening, u32>>,
    worked_out: Vec<Result<Effect, Breach>>,
    pub(super) states: States,
    /// How each state was found.
    moves: Vec<Move>,
    pub(super) transitions: u64,
}

impl<'a> Search<'a> {
    /// A search that begins with these nodes, between which nothing is under way, when they have done what is in the book.
    pub(super) fn new(plan: &'a IntervalPlan, start: Vec<Local>, book: Book) -> Search<'a> {
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
            moves: vec![Move::new(0, Event::Postponed)],
            transitions: 0,
        };
        let mut first = vec![0; width];
        for (index, local) in start.into_iter().enumerate() {
            first[index] = search.number(index, local);
        }
        let (empty, nothing) = (search.queues.number(Box::new([])), search.books.number(book));
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
                let arrival = Move::new(to, Event::Deliver { from: from as u8, parcel: *parcel });
                moves.push(arrival);
                if matches!(self.parcels.all[*parcel as usize].message, Message::Update { .. }) {
                    moves.push(Move { lost: true, ..arrival });
                }
            }
        }
        let book = self.book(state);
        for node in 0..nodes {
            let local = self.local(state, node);
            for event in local.own_events(self.plan) {
                let deed = local.deed_of(event).filter(|deed| deed.access == Access::Write);
                let value = deed.map_or(0, |deed| book.next(deed));
                let event = match event {
                    Event::Begin { operation, .. } => Event::Begin { operation, value },
                    Event::Touch { .. } => Event::Touch { value },
                    other => other,
                };
                moves.push(Move::new(node, event));
            }
        }
        if self.plan.stores > 0 {
            self.add_stores(state, &mut moves);
        }
        moves
    }

    /// Adds what the second threads of nodes do, by themselves and beside what is possible otherwise.
    fn add_stores(&self, state: &[u32], moves: &mut Vec<Move>) {
        let value = |node: usize| {
            let local = self.local(state, node);
            let can = local.can_store(self.plan);
            local.storable(self.plan).filter(|_| can).map(|deed| self.book(state).next(deed))
        };
        let takes_rights = |event: Event| match event {
            Event::Deliver { .. } => true,
            Event::Begin { operation, .. } => {
                matches!(operation, Operation::Lock(_) | Operation::Unlock | Operation::Evict(_))
            }
            _ => false,
        };
        for next in moves.clone().into_iter().filter(|next| takes_rights(next.event) && !next.lost) {
            if let Some(value) = value(next.node as usize) {
                let beside = |action| Some(Beside { action, value });
                moves.extend((0..BESIDE).map(|action| Move { beside: beside(action), ..next }));
            }
        }
        let nodes = 0..self.plan.nodes as usize;
        moves.extend(nodes.filter_map(|node| Some(Move::new(node, Event::Store { value: value(node)? }))));
    }

    /// The state after `next`.
    fn follow(&mut self, here: &[u32], next: Move) -> Result<Vec<u32>, Breach> {
        let (node, mut after) = (next.node as usize, here.to_vec());
        if let Event::Deliver { from, .. } = next.event {
            let rest = self.queue(here, from as usize, node)[1..].into();
            let link = self.link(from as usize, node);
            after[link] = self.queues.number(rest);
        }
        if next.lost {
            return Ok(after);
        }
        let number = self.effect(node, here[node], next.event, next.beside);
        let effect = self.worked_out[number as usize].as_ref().map_err(Clone::clone)?;
        after[node] = effect.after;
        let book = self.book(here).judge(self.plan.nodes, node, &effect.done)?;
        self.check_own_cell(&book, node, effect.after)?;
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

    /// Threads of one node share its copies: what one has stored the others find, as long as nobody else may write it.
    fn check_own_cell(&self, book: &Book, node: usize, after: u32) -> Result<(), Breach> {
        let (local, cell) = (&self.nodes[node][after as usize], self.plan.locks + node);
        if self.plan.stores == 0 || !local.owns_cell() || local.copies[0].rights == PageState::Invalid {
            return Ok(());
        }
        let (has, stored) = (local.copies[0].cells[cell], book.written[0][cell]);
        if has == stored {
            return Ok(());
        }
        Err(Breach::Data(format!("n{node} has write {has} of its own cell, and has made {stored}")))
    }

    /// The number of what `event` does to a node in this state, worked out at most once.
    fn effect(&mut self, node: usize, local: u32, event: Event, beside: Option<Beside>) -> u32 {
        if let Some(number) = self.effects[node].get(&(local, event, beside)) {
            return *number;
        }
        let parcel = match event {
            Event::Deliver { parcel, .. } => Some(self.parcels.all[parcel as usize]),
            _ => None,
        };
        let mut step = Step::new(self.plan, self.nodes[node][local as usize].clone(), beside);
        let result = step.take(event, parcel).map(|()| {
            let sent = step.done.sent.iter();
            let sent = sent.map(|(to, parcel)| (to.get() as u8, self.parcels.number(*parcel))).collect();
            let after = self.number(node, step.local);
            Effect { after, done: step.done, sent }
        });
        let number = self.worked_out.len() as u32;
        self.worked_out.push(result);
        self.effects[node].insert((local, event, beside), number);
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
        let line = |(step, next): (usize, Move)| {
            let Move { node, event, beside, lost } = next;
            let lost = if lost { ", which is lost" } else { "" };
            let beside = beside.map_or(String::new(), |beside| format!(", {beside:?}"));
            format!("{:>4}  n{node} {}{lost}{beside}", step + 1, self.describe(event))
        };
        way.into_iter().rev().enumerate().map(line).collect()
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
            Event::Store { .. } => "stores by its second thread".into(),
        }
    }
}

const _: () = assert!(NODES < 256 && PAGES < 256, "nodes and pages are numbered by bytes");

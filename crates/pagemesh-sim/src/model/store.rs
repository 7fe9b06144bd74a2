//! Every state of a node, of a link and of the mesh, each kept once and known by a number.
//!
//! A mesh has few states of one node and many combinations of them, so a state of the mesh is a handful of numbers, and what
//! an event does to a node is worked out once for all the combinations (Holzmann 1997 calls this collapse compression). States
//! are compared whole, never by a hash alone: none is mistaken for another.

use super::local::{Event, Local, page_address, page_of};
use super::names::Names;
use super::plan::{LOCKS, PAGES, Plan};
use super::step::{Consequences, Parcel};
use crate::breach::Breach;
use pagemesh_protocol::{DirectoryEntry, NodeId, NodeSet, PageState};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Mixes numbers well enough for tables; the same in every run.
#[derive(Clone, Copy, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

pub(super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Writes down what it is fed.
#[derive(Default)]
pub(super) struct Recorder(pub(super) Vec<u8>);

impl Hasher for Recorder {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    // An enum's discriminant, or a length.
    fn write_isize(&mut self, number: isize) {
        self.write_usize(number.unsigned_abs());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u16(number as u16);
    }
}

/// What the search has to know of a node's state at every meeting.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) rights: [PageState; PAGES],
    pub(super) homes: [Option<NodeId>; PAGES],
    pub(super) directory: [Option<DirectoryEntry>; PAGES],
    /// Pages for which a demand waits here until threads have run.
    pub(super) postponed: u8,
    pub(super) live: NodeSet,
    pub(super) names: Names,
    /// How many threads hold each lock.
    pub(super) held: [u8; LOCKS],
    /// What it can do by itself.
    pub(super) own: Box<[Event]>,
    /// Threads that have come to the barrier and wait for others.
    pub(super) at_barrier: u32,
    pub(super) quiet: bool,
}

impl Facts {
    fn of(plan: &Plan, local: &Local) -> Facts {
        let pages = 0..plan.pages as usize;
        let address = |page: usize| page_address(page as u8);
        let mut facts = Facts {
            rights: [PageState::Invalid; PAGES],
            homes: [None; PAGES],
            directory: [None; PAGES],
            postponed: 0,
            live: local.engine.live(),
            names: Names::default(),
            held: [0; LOCKS],
            own: local.own_events(plan).into(),
            at_barrier: 0,
            quiet: local.engine.is_quiet(),
        };
        for page in pages {
            facts.rights[page] = local.copies[page].rights;
            facts.homes[page] = local.engine.home(address(page));
            facts.directory[page] = local.engine.directory(address(page));
            facts.postponed |= u8::from(local.engine.is_postponed(address(page))) << page;
        }
        local.engine.names(|name| facts.names.add(name));
        for lock in local.held() {
            facts.held[lock as usize] += 1;
        }
        for thread in &local.threads {
            if let Some((_, ticket)) = thread.holds {
                facts.names.add(pagemesh_protocol::Name::Call(local.engine.node(), ticket));
            }
            let waits = matches!(thread.activity, super::local::Activity::Barrier { full: false });
            facts.at_barrier += u32::from(waits);
        }
        facts
    }
}

/// The states of one node.
#[derive(Default)]
pub(super) struct Locals {
    numbers: Table<Box<[u8]>, u32>,
    states: Vec<(Local, Facts)>,
}

impl Locals {
    pub(super) fn number(&mut self, plan: &Plan, local: Local) -> u32 {
        let mut recorder = Recorder::default();
        local.hash(&mut recorder);
        let key = recorder.0.into_boxed_slice();
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.states.len() as u32;
        let facts = Facts::of(plan, &local);
        self.states.push((local, facts));
        self.numbers.insert(key, number);
        number
    }

    pub(super) fn local(&self, number: u32) -> &Local {
        &self.states[number as usize].0
    }

    pub(super) fn facts(&self, number: u32) -> &Facts {
        &self.states[number as usize].1
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }
}

/// What a link carries, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) parcels: Box<[u32]>,
    pub(super) names: Names,
    /// Pages that its messages are about.
    pub(super) pages: u8,
    /// The queue without its first parcel.
    pub(super) rest: u32,
}

/// The states of all links, and all messages. Number 0 is the empty queue.
pub(super) struct Queues {
    parcels: Vec<Parcel>,
    parcel_numbers: Table<Parcel, u32>,
    /// Between which nodes matters: the names of a message are its sender's or its receiver's.
    numbers: Table<(u8, Box<[u32]>), u32>,
    all: Vec<Queue>,
}

impl Queues {
    pub(super) fn new() -> Queues {
        let empty = Queue { parcels: Box::new([]), names: Names::default(), pages: 0, rest: 0 };
        Queues {
            parcels: Vec::new(),
            parcel_numbers: Table::default(),
            numbers: Table::default(),
            all: vec![empty],
        }
    }

    pub(super) fn parcel_number(&mut self, parcel: Parcel) -> u32 {
        let parcels = &mut self.parcels;
        *self.parcel_numbers.entry(parcel).or_insert_with(|| {
            parcels.push(parcel);
            parcels.len() as u32 - 1
        })
    }

    pub(super) fn parcel(&self, number: u32) -> Parcel {
        self.parcels[number as usize]
    }

    pub(super) fn queue(&self, number: u32) -> &Queue {
        &self.all[number as usize]
    }

    fn number(&mut self, from: u8, to: u8, parcels: &[u32]) -> u32 {
        if parcels.is_empty() {
            return 0;
        }
        let key = (from << 4 | to, parcels.into());
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let rest = self.number(from, to, &parcels[1..]);
        let (mut names, mut pages) = (Names::default(), 0);
        for parcel in parcels {
            let parcel = self.parcel(*parcel);
            names.add_parcel(NodeId::new(from as u16), NodeId::new(to as u16), &parcel);
            pages |= page_of(&parcel.message).map_or(0, |page| 1 << page);
        }
        let number = self.all.len() as u32;
        self.all.push(Queue { parcels: parcels.into(), names, pages, rest });
        self.numbers.insert(key, number);
        number
    }

    /// The queue with one more parcel.
    pub(super) fn push(&mut self, from: u8, to: u8, queue: u32, parcel: u32) -> u32 {
        let mut parcels = self.queue(queue).parcels.to_vec();
        parcels.push(parcel);
        self.number(from, to, &parcels)
    }

    /// The queue after `page` was written: bytes of it on their way are old now.
    pub(super) fn outdate(&mut self, from: u8, to: u8, queue: u32, page: u8) -> u32 {
        let queued = self.queue(queue);
        if queued.pages >> page & 1 == 0 {
            return queue;
        }
        let parcels = queued.parcels.to_vec();
        let outdated: Vec<u32> = parcels
            .iter()
            .map(|number| {
                let parcel = self.parcel(*number);
                let concerned = page_of(&parcel.message) == Some(page);
                self.parcel_number(Parcel {
                    latest: parcel.latest.map(|latest| latest && !concerned),
                    ..parcel
                })
            })
            .collect();
        self.number(from, to, &outdated)
    }
}

/// What an event does to a node in some state.
pub(super) struct Effect {
    /// The state after.
    pub(super) after: u32,
    pub(super) done: Consequences,
    /// Of what was sent, the numbers of the messages.
    pub(super) sent: Box<[(u8, u32)]>,
}

/// What is known of events at nodes.
#[derive(Default)]
pub(super) struct Effects {
    numbers: Table<(u32, u32, Event), u32>,
    effects: Vec<Result<Effect, Breach>>,
}

impl Effects {
    /// By the node's state, the first free request, and the event.
    pub(super) fn find(&self, key: (u32, u32, Event)) -> Option<u32> {
        self.numbers.get(&key).copied()
    }

    pub(super) fn keep(&mut self, key: (u32, u32, Event), effect: Result<Effect, Breach>) -> u32 {
        let number = self.effects.len() as u32;
        self.effects.push(effect);
        self.numbers.insert(key, number);
        number
    }

    pub(super) fn effect(&self, number: u32) -> Result<&Effect, Breach> {
        self.effects[number as usize].as_ref().map_err(Clone::clone)
    }

    pub(super) fn len(&self) -> usize {
        self.effects.len()
    }
}

/// The states of the mesh, in the order in which they were found.
pub(super) struct States {
    width: usize,
    words: Vec<u32>,
    /// Open addressing; one more than the number, 0 for nobody.
    places: Vec<u32>,
    parents: Vec<u32>,
}

impl States {
    pub(super) fn new(width: usize) -> States {
        States { width, words: Vec::new(), places: vec![0; 1 << 12], parents: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.parents.len()
    }

    pub(super) fn state(&self, number: u32) -> &[u32] {
        &self.words[number as usize * self.width..][..self.width]
    }

    pub(super) fn parent(&self, number: u32) -> u32 {
        self.parents[number as usize]
    }

    /// Bytes that the table takes.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.words.capacity() + self.places.capacity() + self.parents.capacity())
    }

    /// The number of a state, and whether it is a new one.
    pub(super) fn number(&mut self, state: &[u32], parent: u32) -> (u32, bool) {
        if self.len() * 2 >= self.places.len() {
            self.grow();
        }
        let place = self.place(state);
        if let Some(number) = self.places[place].checked_sub(1) {
            return (number, false);
        }
        let number = self.len() as u32;
        self.places[place] = number + 1;
        self.words.extend_from_slice(state);
        self.parents.push(parent);
        (number, true)
    }

    fn place(&self, state: &[u32]) -> usize {
        let mut mixer = Mixer::default();
        for word in state {
            mixer.write_u32(*word);
        }
        let mask = self.places.len() - 1;
        let mut place = (mixer.finish() >> 7) as usize & mask;
        while let Some(number) = self.places[place].checked_sub(1)
            && self.state(number) != state
        {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        self.places = vec![0; self.places.len() * 2];
        for number in 0..self.len() as u32 {
            let place = self.place(self.state(number));
            self.places[place] = number + 1;
        }
    }
}

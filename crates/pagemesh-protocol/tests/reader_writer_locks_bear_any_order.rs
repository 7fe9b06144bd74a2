//! A reader-writer lock that goes from holder to holder is reported to its home afterwards, over other links than it took itself: the home hears of what was
//! long ago, in any order, and must let nobody in beside others because of that, nor wait for somebody who is through. So real engines take such
//! locks while messages of different links overtake each other, calls give up, nodes die, and connections of living nodes break. At no
//! moment may a writer have a lock beside others; in the end every call is through, and nothing is left in any table.

mod common;

use common::{node, number_at};
use pagemesh_protocol::{Access, Action, Actions, Engine, EngineConfig, Message, Outcome, RwLockId, Ticket};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const NODES: u16 = 4;
/// Calls of a node at a time.
const SLOTS: u16 = 3;
/// Both have their home at node 0, which stays.
const LOCKS: u16 = 2;

/// A call that waits for a lock, or has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Call {
    lock: RwLockId,
    access: Access,
    has: bool,
}

struct World {
    engines: Vec<Engine>,
    links: BTreeMap<(u16, u16), VecDeque<Message>>,
    calls: BTreeMap<(u16, Ticket), Call>,
    lost: Vec<u16>,
    /// Who does not hear whom any more.
    deaf: Vec<(u16, u16)>,
    uses: u16,
    /// Hand-overs that went from one node straight to another.
    straight: usize,
}

impl World {
    fn new(rwlocks_left: usize) -> World {
        let config = |number| EngineConfig {
            tickets: 16,
            locks: 16,
            rwlocks_left,
            ..EngineConfig::new(node(number), NODES)
        };
        World {
            engines: (0..NODES).map(|number| Engine::new(config(number))).collect(),
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            lost: Vec::new(),
            deaf: Vec::new(),
            uses: 0,
            straight: 0,
        }
    }

    fn act(&mut self, number: u16, event: impl FnOnce(&mut Engine, &mut Actions)) {
        let mut out = Actions::new();
        event(&mut self.engines[number as usize], &mut out);
        for action in &out {
            if let Action::Send { to, message, .. } = *action {
                self.links.entry((number, to.get())).or_default().push_back(message);
                self.straight += usize::from(number != 0 && matches!(message, Message::RwGrant { .. }));
            }
            if let Action::Complete { ticket, outcome } = *action {
                self.ended(number, ticket, outcome);
            }
        }
    }

    fn ended(&mut self, number: u16, ticket: Ticket, outcome: Outcome) {
        let call = self.calls[&(number, ticket)];
        assert!(!call.has, "a call ends once");
        if matches!(outcome, Outcome::Failed(_)) {
            self.calls.remove(&(number, ticket));
            return;
        }
        for ((other, _), beside) in
            self.calls.iter().filter(|(_, beside)| beside.has && beside.lock == call.lock)
        {
            let both_read = (beside.access, call.access) == (Access::Read, Access::Read);
            assert!(both_read, "node {number} has {call:?} beside {beside:?} of node {other}");
        }
        self.calls.insert((number, ticket), Call { has: true, ..call });
    }

    fn deliver(&mut self, (from, to): (u16, u16)) {
        let Some(message) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        if self.lost.contains(&to) || self.deaf.contains(&(from, to)) {
            return;
        }
        self.act(to, |engine, out| {
            let view = engine.view();
            engine.on_message(node(from), view, &message, out).expect("all of them keep to the protocol");
        });
    }

    /// `to` hears nothing more of `from`.
    fn loses(&mut self, to: u16, from: u16) {
        if !self.lost.contains(&to) && !self.deaf.contains(&(from, to)) {
            self.deaf.push((from, to));
            self.act(to, |engine, out| engine.on_peer_lost(node(from), out));
        }
    }

    fn step(&mut self, what: u8, who: u8, which: u8, flag: bool) {
        let number = u16::from(who) % NODES;
        match what % 16 {
            0..=2 if !self.lost.contains(&number) => self.asks(number, which, flag),
            3..=4 => self.ends(number, usize::from(which), flag),
            5 if which < 24 && number != 0 && self.lost.is_empty() => {
                self.lost.push(number);
                self.calls.retain(|(node, _), _| *node != number);
            }
            5 if which < 64 && !self.lost.is_empty() => self.loses(u16::from(which) % NODES, self.lost[0]),
            5 if which < 96 => {
                // A connection breaks between two that are not the home, and one of them notices.
                let other = 1 + u16::from(which) % (NODES - 1);
                if number != 0 && number != other && self.deaf.len() < 2 {
                    self.links.remove(&(number, other));
                    self.links.remove(&(other, number));
                    self.loses(other, number);
                }
            }
            _ => self.deliver((number, u16::from(which) % NODES)),
        }
    }

    fn asks(&mut self, number: u16, which: u8, flag: bool) {
        let waiting = self.calls.iter().filter(|((node, _), call)| *node == number && !call.has).count();
        if waiting >= usize::from(SLOTS) {
            return;
        }
        self.uses += 1;
        let ticket = Ticket::new(self.uses % 16, self.uses / 16);
        if self.calls.keys().any(|(node, other)| *node == number && other.slot == ticket.slot) {
            return;
        }
        let lock = RwLockId(number_at(0, NODES, usize::from(u16::from(which) % LOCKS)));
        let access = if flag { Access::Write } else { Access::Read };
        self.calls.insert((number, ticket), Call { lock, access, has: false });
        self.act(number, |engine, out| engine.on_rw_acquire(ticket, lock, access, which >= 32, out));
    }

    /// A call of the node gives its lock back, or gives up.
    fn ends(&mut self, number: u16, place: usize, gives_up: bool) {
        let of_node: Vec<(u16, Ticket)> =
            self.calls.keys().filter(|(node, _)| *node == number).copied().collect();
        let Some(key) = of_node.get(place % of_node.len().max(1)).copied() else { return };
        let call = self.calls[&key];
        if call.has {
            self.calls.remove(&key);
            self.act(number, |engine, out| engine.on_rw_release(key.1, call.lock, out));
        } else if gives_up {
            self.calls.remove(&key);
            self.act(number, |engine, out| engine.on_cancel(key.1, out));
        }
    }

    fn quiesce(&mut self) {
        while let Some(link) = self.links.iter().find(|(_, link)| !link.is_empty()).map(|(link, _)| *link) {
            self.deliver(link);
        }
    }

    /// Losses are noticed by all, every message arrives, and whoever has a lock gives it back.
    fn comes_to_an_end(&mut self) {
        for lost in self.lost.clone() {
            (0..NODES).for_each(|number| self.loses(number, lost));
        }
        for (from, to) in self.deaf.clone() {
            self.loses(from, to);
        }
        self.quiesce();
        while let Some(((number, ticket), call)) = self.calls.iter().find(|(_, call)| call.has) {
            let (key, call) = ((*number, *ticket), *call);
            self.calls.remove(&key);
            self.act(key.0, |engine, out| engine.on_rw_release(key.1, call.lock, out));
            self.quiesce();
        }
        assert_eq!(self.calls, BTreeMap::new(), "these wait for ever");
        for number in (0..NODES).filter(|number| !self.lost.contains(number)) {
            let load = self.engines[number as usize].load();
            let left = (
                load.rwlocks_held,
                load.rwlocks_handed,
                load.rwlock_names,
                load.readers,
                load.rwlock_waiters,
            );
            assert_eq!(left, (0, 0, 0, 0, 0), "node {number}: {load:?}");
            assert!(self.engines[number as usize].is_quiet());
        }
        // What a dead writer left behind is kept for the next to come.
        let home = self.engines[0].load();
        assert!(home.rwlocks == 0 || !self.lost.is_empty(), "{home:?}");
    }
}

/// A few steps with two nodes that want one lock tell whether anything goes straight at all.
#[test]
fn a_lock_that_two_want_in_turn_goes_straight_from_one_to_the_other() {
    let mut world = World::new(0);
    for number in [1, 2, 3] {
        world.asks(number, 32, true);
    }
    world.quiesce();
    for number in [1, 2, 3] {
        world.ends(number, 0, false);
        world.quiesce();
    }
    assert_eq!(world.straight, 2);
    world.comes_to_an_end();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn nobody_is_let_in_beside_a_writer_and_nobody_is_forgotten(
        steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()), 1..300),
        left in prop::sample::select(vec![0_usize, 64])
    ) {
        let mut world = World::new(left);
        for (what, who, which, flag) in steps {
            world.step(what, who, which, flag);
        }
        world.comes_to_an_end();
    }
}

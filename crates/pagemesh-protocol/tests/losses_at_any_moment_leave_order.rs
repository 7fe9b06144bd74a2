//! Nobody can list the moments at which a node may die. So real engines run a crowd of accesses, locks, barriers and
//! regions, and a node is taken away after every single message of it; the survivors notice in every order, and hear the
//! last words of the dead or do not. Afterwards no call may be forgotten, no survivor may have been refused, each page
//! has one writer or many readers (one holder, where it migrates), all who know its home know the same one, and every
//! living home knows who has a copy.

mod common;

use common::mesh::Mesh;
use common::{REGION, asked, barrier_at, lock_at};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{LockId, NodeId, Outcome, PageAddress, Placement, Protocol, Ticket};

const COUNT: u16 = 4;

const KINDS: [(Protocol, Placement); 4] = [
    (Protocol::WriteInvalidate, Placement::Cyclic),
    (Protocol::WriteInvalidate, Placement::FirstTouch),
    (Protocol::Migration, Placement::Block),
    (Protocol::Migration, Placement::FirstTouch),
];

const fn page(number: u64) -> PageAddress {
    PageAddress::new(REGION, number)
}

/// What runs when a node is lost, and what each node may hold then.
#[derive(Clone)]
struct Crowd {
    mesh: Mesh,
    locks: Vec<(NodeId, Ticket, LockId)>,
}

impl Crowd {
    /// Every page has its home at another node: page `p` at node `p mod 4`.
    fn mapped() -> Crowd {
        Crowd::following(Protocol::WriteInvalidate, Placement::Cyclic)
    }

    fn following(protocol: Protocol, placement: Placement) -> Crowd {
        Crowd { mesh: Mesh::following(protocol, COUNT, placement), locks: Vec::new() }
    }

    fn acquires(&mut self, number: u16, lock: LockId) {
        let ticket = self.mesh.acquires(number, lock);
        self.locks.push((common::node(number), ticket, lock));
    }

    /// Loses `victim` now and checks all that must hold.
    fn lose(mut self, victim: u16, last_words: bool, noticing: &[u16]) {
        self.mesh.lose(victim, last_words, noticing);
        self.give_locks_back();
        for number in self.mesh.survivors() {
            let engine = &self.mesh.engines[number as usize];
            assert!(
                engine.is_quiet(),
                "node {victim} was lost, noticed in order {noticing:?}, last words {last_words}: \
                 something at node {number} was forgotten: {engine:?}"
            );
        }
        self.mesh.check_coherence((0..8).map(page));
    }

    /// Survivors give back what they were granted, until nobody waits for a living holder.
    fn give_locks_back(&mut self) {
        loop {
            let survivors = self.mesh.survivors();
            let granted = self.locks.iter().position(|(who, ticket, _)| {
                survivors.contains(&who.get())
                    && self.mesh.completed.contains(&(*who, *ticket, Outcome::Done))
            });
            let Some(index) = granted else { return };
            let (who, ticket, lock) = self.locks.swap_remove(index);
            self.mesh.releases(who.get(), ticket, lock);
            self.mesh.deliver_all();
        }
    }

    /// Takes every node away after every message, noticed in every order.
    fn survives_any_loss(&self) {
        let mut moment = self.clone();
        loop {
            for victim in 0..COUNT {
                let others: Vec<u16> = (0..COUNT).filter(|number| *number != victim).collect();
                for noticing in orders(&others) {
                    for last_words in [false, true] {
                        moment.clone().lose(victim, last_words, &noticing);
                    }
                }
            }
            if !moment.mesh.deliver_one() {
                return;
            }
        }
    }
}

/// Every order of three.
fn orders(three: &[u16]) -> Vec<Vec<u16>> {
    let [a, b, c] = *three else { panic!("there are three survivors") };
    [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]].map(Vec::from).into()
}

#[test]
fn while_everyone_reads_a_page_that_one_wrote() {
    for home in 0..4 {
        let mut crowd = Crowd::mapped();
        crowd.mesh.accesses(3, page(home), Write);
        for number in 0..3 {
            crowd.mesh.faults(number, page(home), Read);
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_everyone_writes_a_page_that_everyone_read() {
    for home in 0..4 {
        let mut crowd = Crowd::mapped();
        for number in 0..4 {
            crowd.mesh.accesses(number, page(home), Read);
        }
        for number in 0..4 {
            crowd.mesh.faults(number, page(home), Write);
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_readers_and_writers_meet_on_a_shared_page() {
    for home in 0..4 {
        for writer in 0..4 {
            let mut crowd = Crowd::mapped();
            for number in (0..4).filter(|number| *number != writer) {
                crowd.mesh.accesses(number, page(home), Read);
            }
            crowd.mesh.faults(writer, page(home), Write);
            crowd.mesh.faults((writer + 1) % 4, page(home), Write);
            crowd.mesh.faults(writer, page(home), Read);
            crowd.survives_any_loss();
        }
    }
}

#[test]
fn while_a_page_goes_from_writer_to_writer() {
    for home in 0..4 {
        let mut crowd = Crowd::mapped();
        crowd.mesh.accesses(2, page(home), Write);
        for number in [0, 3, 1] {
            crowd.mesh.faults(number, page(home), Write);
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_several_pages_are_under_way() {
    for (protocol, placement) in KINDS {
        let mut crowd = Crowd::following(protocol, placement);
        for number in 0..4 {
            crowd.mesh.accesses(number as u16, page(number), Write);
        }
        for number in 0..4 {
            crowd.mesh.faults(number, page((number as u64 + 1) % 4), Read);
            crowd.mesh.faults(number, page((number as u64 + 2) % 4), Write);
            crowd.mesh.asks_owner(number, page((number as u64 + 3) % 4));
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_a_page_migrates() {
    for placement in [Placement::Cyclic, Placement::FirstTouch] {
        for number in 0..4 {
            let mut crowd = Crowd::following(Protocol::Migration, placement);
            crowd.mesh.accesses(2, page(number), Read);
            for taker in [0, 3, 1, 2] {
                crowd.mesh.faults(taker, page(number), if taker == 0 { Read } else { Write });
            }
            crowd.survives_any_loss();
        }
    }
}

#[test]
fn while_nodes_race_to_touch_a_page_first() {
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration] {
        for number in 0..4 {
            let mut crowd = Crowd::following(protocol, Placement::FirstTouch);
            for racer in [1, 3, 0, 2] {
                crowd.mesh.faults(racer, page(number), if racer < 2 { Read } else { Write });
                crowd.mesh.asks_owner(racer, page(number));
                crowd.mesh.asks_home(racer, page(number));
            }
            crowd.survives_any_loss();
        }
    }
}

#[test]
fn while_nodes_wait_for_locks() {
    for home in 0..4 {
        let mut crowd = Crowd::mapped();
        for number in 0..4 {
            crowd.acquires(number, lock_at(home, COUNT, 0));
            crowd.acquires(number, lock_at((home + number) % 4, COUNT, 1));
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_nodes_meet_at_a_barrier() {
    for home in 0..4 {
        let mut crowd = Crowd::mapped();
        for number in 0..4 {
            crowd.mesh.arrives(number, barrier_at(home, COUNT, 0), 4);
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_a_region_is_agreed_on() {
    for creator in 0..4 {
        let mut crowd = Crowd { mesh: Mesh::new(COUNT), locks: Vec::new() };
        for number in 0..4 {
            crowd.mesh.opens(number, number == creator, asked("grid", Placement::Cyclic));
        }
        crowd.survives_any_loss();
    }
}

#[test]
fn while_nodes_leave() {
    for reader in 0..4 {
        let mut crowd = Crowd::mapped();
        crowd.mesh.accesses((reader + 1) % 4, page(0), Write);
        for number in 0..4 {
            crowd.mesh.leaves(number);
        }
        crowd.mesh.faults(reader, page(0), Read);
        crowd.survives_any_loss();
    }
}

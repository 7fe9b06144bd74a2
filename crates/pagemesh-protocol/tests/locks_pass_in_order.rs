//! A lock that two callers hold protects nothing, one that is forgotten stops a program, and one that can be overtaken
//! starves somebody. So a lock goes to exactly one caller, in the order in which they came, passes by callers that gave up, and costs
//! nothing to take again; a thread overtakes no other node for longer than the word of that takes.

mod common;

use common::mesh::Mesh;
use common::{Subject, done, failed, forwarded, lock_at, node, returned, send, ticket};
use pagemesh_protocol::{EngineConfig, Failure, LockId, Message, Outcome, Ticket};

const HOME: u16 = 1;

fn home() -> Subject {
    Subject::new(HOME, 4)
}

/// A node that is not the home.
fn taker() -> Subject {
    Subject::new(2, 4)
}

fn lock() -> LockId {
    lock_at(HOME, 4, 0)
}

fn acquire(slot: u16) -> Message {
    Message::LockAcquire { lock: lock(), ticket: ticket(slot) }
}

fn granted(slot: u16) -> Message {
    Message::LockGrant { lock: lock(), ticket: ticket(slot), died: None }
}

fn attempt(slot: u16) -> Message {
    Message::LockTry { lock: lock(), ticket: ticket(slot) }
}

fn busy(slot: u16) -> Message {
    Message::LockBusy { lock: lock(), ticket: ticket(slot) }
}

/// Who got the lock under `slot` is told that node `who` tries for it.
fn probed(slot: u16, who: u16, wanted: u16) -> Message {
    let (node, wanted) = (node(who), ticket(wanted));
    Message::LockForward { lock: lock(), ticket: ticket(slot), node, wanted, waits: false }
}

fn held(slot: u16, who: u16) -> Message {
    Message::LockHeld { lock: lock(), ticket: ticket(slot), node: node(who) }
}

/// The lock goes back because node `who` tries for it.
fn returned_for(slot: u16, who: u16, wanted: u16) -> Message {
    let wanted = Some((node(who), ticket(wanted)));
    Message::LockRelease { lock: lock(), ticket: ticket(slot), died: None, wanted }
}

#[test]
fn a_taker_asks_the_home_once_and_keeps_the_lock() {
    let mut subject = taker();
    assert_eq!(subject.acquires(1, lock()), [send(HOME, acquire(1))]);
    assert_eq!(subject.acquires(2, lock()), []);
    assert_eq!(subject.hears(HOME, granted(1)), [done(1)]);
    assert_eq!(subject.releases(1, lock()), [done(2)]);
    assert_eq!(subject.releases(2, lock()), []);
    assert_eq!(subject.acquires(3, lock()), [done(3)], "it is still here");
    assert_eq!(subject.releases(3, lock()), []);
    assert_eq!(subject.tries(4, lock()), [done(4)]);
    assert_eq!(subject.tries(5, lock()), [failed(5, Failure::Busy)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_home_says_who_comes_next_to_who_asked_last() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, acquire(7)), [send(2, forwarded(lock(), 1, 3, 7))]);
    assert_eq!(subject.hears(0, acquire(4)), [send(3, forwarded(lock(), 7, 0, 4))]);
    // Node 2 has passed it on, or it would not ask.
    assert_eq!(subject.hears(2, acquire(2)), [send(0, forwarded(lock(), 4, 2, 2))]);
    assert_eq!(subject.engine.load().lock_waiters, 2);
}

#[test]
fn a_lock_that_another_waits_for_goes_there_at_the_first_release() {
    let mut subject = taker();
    subject.acquires(1, lock());
    subject.hears(HOME, granted(1));
    assert_eq!(subject.hears(HOME, forwarded(lock(), 1, 3, 7)), []);
    assert_eq!(subject.acquires(2, lock()), [], "it stands behind the other node");
    assert_eq!(subject.releases(1, lock()), [send(3, granted(7)), send(HOME, acquire(2))]);
    assert_eq!(subject.hears(3, granted(2)), [done(2)]);
}

#[test]
fn a_lock_that_lies_idle_goes_at_once() {
    let mut subject = taker();
    subject.acquires(1, lock());
    subject.hears(HOME, granted(1));
    subject.releases(1, lock());
    assert_eq!(subject.hears(HOME, forwarded(lock(), 1, 3, 7)), [send(3, granted(7))]);
    assert_eq!(subject.acquires(2, lock()), [send(HOME, acquire(2))]);
}

#[test]
fn calls_that_came_before_another_nodes_are_served_before_it() {
    let mut subject = taker();
    subject.acquires(1, lock());
    subject.acquires(2, lock());
    subject.acquires(3, lock());
    subject.hears(HOME, forwarded(lock(), 1, 3, 7));
    subject.acquires(4, lock());
    assert_eq!(subject.hears(0, granted(1)), [done(1)]);
    assert_eq!(subject.cancel(2), []);
    assert_eq!(subject.releases(1, lock()), [done(3)]);
    assert_eq!(subject.releases(3, lock()), [send(3, granted(7)), send(HOME, acquire(4))]);
}

#[test]
fn the_home_takes_its_own_lock_without_a_message() {
    let mut subject = home();
    assert_eq!(subject.acquires(1, lock()), [done(1)]);
    assert_eq!(subject.releases(1, lock()), []);
    assert_eq!(subject.acquires(2, lock()), [done(2)]);
    assert_eq!(subject.hears(3, acquire(7)), []);
    assert_eq!(subject.acquires(5, lock()), []);
    assert_eq!(subject.releases(2, lock()), [send(3, granted(7)), send(3, forwarded(lock(), 7, HOME, 5))]);
    assert_eq!(subject.hears(3, returned(lock(), 7)), [done(5)]);
}

#[test]
fn what_goes_to_the_home_goes_back_to_it() {
    let mut subject = taker();
    subject.acquires(1, lock());
    subject.hears(HOME, granted(1));
    subject.hears(HOME, forwarded(lock(), 1, HOME, 5));
    assert_eq!(subject.releases(1, lock()), [send(HOME, returned(lock(), 1))]);
}

#[test]
fn a_lock_that_came_home_is_forgotten_or_goes_to_the_next() {
    let mut subject = home();
    subject.hears(2, acquire(1));
    assert_eq!(subject.hears(2, returned(lock(), 1)), []);
    assert_eq!(subject.engine.load().locks, 0);
    assert_eq!(subject.hears(3, acquire(1)), [send(3, granted(1))]);
    subject.hears(2, acquire(2));
    subject.hears(0, acquire(3));
    assert_eq!(subject.hears(3, returned(lock(), 1)), [send(2, granted(2))]);
    assert_eq!(subject.hears(3, returned(lock(), 1)), [], "it is told once");
    assert_eq!(subject.hears(2, returned(lock(), 9)), [], "of another request");
}

#[test]
fn a_release_by_anyone_but_the_holder_changes_nothing() {
    let mut subject = taker();
    assert_eq!(subject.releases(1, lock()), [], "a free lock");
    subject.acquires(1, lock());
    subject.acquires(2, lock());
    assert_eq!(subject.releases(1, lock()), [], "a lock that is not here yet");
    subject.hears(HOME, granted(1));
    assert_eq!(subject.releases(2, lock()), [], "of one that waits");
    let earlier = Ticket::new(1, 0);
    assert_eq!(subject.act(|engine, out| engine.on_lock_release(earlier, lock(), out)), []);
    assert_eq!(subject.releases(1, lock()), [done(2)]);
    assert_eq!(subject.releases(1, lock()), [], "a second release");
}

#[test]
fn a_grant_for_a_request_that_is_over_means_nothing() {
    let mut subject = taker();
    assert_eq!(subject.hears(3, granted(1)), []);
    subject.acquires(1, lock());
    assert_eq!(subject.hears(3, granted(2)), []);
    assert_eq!(subject.hears(3, granted(1)), [done(1)]);
    assert_eq!(subject.hears(HOME, granted(1)), [], "a second one");
    subject.hears(HOME, forwarded(lock(), 1, 3, 7));
    subject.releases(1, lock());
    assert_eq!(subject.hears(HOME, granted(1)), []);
    assert_eq!(subject.hears(HOME, forwarded(lock(), 1, 0, 7)), [], "it has gone already");
}

#[test]
fn locks_do_not_wait_for_each_other() {
    let mut subject = home();
    let other = lock_at(HOME, 4, 1);
    subject.hears(2, acquire(1));
    let asked = Message::LockAcquire { lock: other, ticket: ticket(1) };
    let grant = Message::LockGrant { lock: other, ticket: ticket(1), died: None };
    assert_eq!(subject.hears(3, asked), [send(3, grant)]);
}

#[test]
fn a_lock_that_nobody_waits_for_any_more_is_kept_or_passed_on() {
    let mut subject = taker();
    subject.acquires(1, lock());
    assert_eq!(subject.cancel(1), []);
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.acquires(2, lock()), [], "it is on its way");
    assert_eq!(subject.cancel(2), []);
    assert_eq!(subject.hears(HOME, granted(1)), []);
    assert_eq!(subject.acquires(3, lock()), [done(3)]);
    let mut passing = taker();
    passing.acquires(1, lock());
    passing.cancel(1);
    assert_eq!(passing.hears(HOME, forwarded(lock(), 1, 3, 7)), []);
    assert_eq!(passing.hears(0, granted(1)), [send(3, granted(7))]);
}

#[test]
fn cancelling_after_the_grant_leaves_the_caller_the_lock() {
    let mut subject = taker();
    subject.acquires(1, lock());
    subject.hears(HOME, granted(1));
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.tries(2, lock()), [failed(2, Failure::Busy)]);
    subject.releases(1, lock());
    assert_eq!(subject.tries(3, lock()), [done(3)]);
}

#[test]
fn who_only_tries_gets_a_lock_that_is_at_home_or_lies_idle() {
    let mut subject = home();
    assert_eq!(subject.hears(2, attempt(1)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, attempt(5)), [send(2, probed(1, 3, 5))]);
    assert_eq!(subject.hears(2, returned_for(1, 3, 5)), [send(3, granted(5))]);
    assert_eq!(subject.hears(2, acquire(2)), [send(3, forwarded(lock(), 5, 2, 2))]);
    let mut idle = taker();
    idle.acquires(1, lock());
    idle.hears(HOME, granted(1));
    assert_eq!(idle.hears(HOME, probed(1, 3, 5)), [send(HOME, held(5, 3))]);
    idle.releases(1, lock());
    assert_eq!(idle.hears(HOME, probed(1, 3, 5)), [send(HOME, returned_for(1, 3, 5))]);
}

#[test]
fn who_only_tries_is_turned_away_from_a_lock_that_is_held_or_waited_for() {
    let mut subject = home();
    subject.hears(2, acquire(1));
    assert_eq!(subject.hears(3, attempt(5)), [send(2, probed(1, 3, 5))]);
    assert_eq!(subject.hears(2, held(5, 3)), [send(3, busy(5))]);
    assert_eq!(subject.hears(2, held(5, 3)), [], "it is told once");
    // The lock has come back, but somebody asked for it meanwhile.
    subject.hears(3, attempt(6));
    subject.hears(0, acquire(4));
    assert_eq!(subject.hears(2, returned_for(1, 3, 6)), [send(0, granted(4)), send(0, probed(4, 3, 6))]);
    assert_eq!(subject.hears(0, held(6, 3)), [send(3, busy(6))]);
    let mut waits = taker();
    waits.acquires(1, lock());
    assert_eq!(waits.tries(2, lock()), [failed(2, Failure::Busy)]);
    assert_eq!(waits.hears(HOME, probed(1, 3, 5)), [send(HOME, held(5, 3))]);
}

#[test]
fn who_waits_behind_one_that_tries_gets_the_lock_after_it_or_asks() {
    let mut subject = taker();
    assert_eq!(subject.tries(1, lock()), [send(HOME, attempt(1))]);
    assert_eq!(subject.acquires(2, lock()), []);
    assert_eq!(subject.tries(3, lock()), [failed(3, Failure::Busy)]);
    let mut turned_away = taker();
    turned_away.tries(1, lock());
    turned_away.acquires(2, lock());
    assert_eq!(subject.hears(HOME, granted(1)), [done(1)]);
    assert_eq!(subject.releases(1, lock()), [done(2)]);
    assert_eq!(turned_away.hears(HOME, busy(1)), [failed(1, Failure::Busy), send(HOME, acquire(2))]);
}

#[test]
fn a_try_that_gave_up_leaves_nothing() {
    let mut subject = taker();
    subject.tries(1, lock());
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.hears(HOME, busy(1)), []);
    assert_eq!(subject.engine.load().tokens, 0);
    subject.tries(2, lock());
    subject.cancel(2);
    assert_eq!(subject.hears(HOME, granted(2)), []);
    assert_eq!(subject.acquires(3, lock()), [done(3)], "it has come all the same");
}

#[test]
fn a_full_table_refuses_new_locks_and_keeps_the_old() {
    let mut subject = Subject::configured(EngineConfig { locks: 1, ..EngineConfig::new(node(HOME), 4) });
    let other = lock_at(HOME, 4, 1);
    subject.hears(2, acquire(1));
    let asked = Message::LockAcquire { lock: other, ticket: ticket(9) };
    let refused = Message::SyncRefused { ticket: ticket(9) };
    assert_eq!(subject.hears(3, asked), [send(3, refused)]);
    assert_eq!(subject.hears(3, acquire(2)), [send(2, forwarded(lock(), 1, 3, 2))]);
    assert_eq!(subject.hears(3, returned(lock(), 2)), []);
    let grant = Message::LockGrant { lock: other, ticket: ticket(9), died: None };
    assert_eq!(subject.hears(3, asked), [send(3, grant)]);
}

#[test]
fn all_who_wait_for_a_refused_lock_are_told_why() {
    let full = Failure::Limit("too many locks or barriers in use at one home");
    let mut subject = taker();
    subject.acquires(1, lock());
    subject.acquires(2, lock());
    subject.cancel(1);
    assert_eq!(subject.hears(HOME, Message::SyncRefused { ticket: ticket(1) }), [failed(2, full)]);
    assert_eq!(subject.engine.load().tokens, 0);
    assert_eq!(subject.tries(1, lock()), [send(HOME, attempt(1))]);
    assert_eq!(subject.hears(HOME, Message::SyncRefused { ticket: ticket(1) }), [failed(1, full)]);
}

#[test]
fn an_idle_lock_goes_back_when_there_is_no_room_for_another() {
    let mut subject = Subject::configured(EngineConfig { locks: 1, ..EngineConfig::new(node(2), 4) });
    let other = lock_at(HOME, 4, 1);
    subject.acquires(1, lock());
    subject.hears(HOME, granted(1));
    let full = Failure::Limit("too many locks held or waited for at this node");
    assert_eq!(subject.acquires(2, other), [failed(2, full)]);
    subject.releases(1, lock());
    let asked = Message::LockAcquire { lock: other, ticket: ticket(3) };
    assert_eq!(subject.acquires(3, other), [send(HOME, returned(lock(), 1)), send(HOME, asked)]);
}

#[test]
fn a_lock_that_nobody_wants_is_taken_and_kept_with_nothing_to_perform() {
    let (mut subject, proof) = (taker(), Ticket::new(u16::MAX, 7));
    assert!(!subject.engine.on_lock_retake(proof, lock()), "it is not here");
    subject.acquires(1, lock());
    assert!(!subject.engine.on_lock_retake(proof, lock()), "it is on its way");
    subject.hears(HOME, granted(1));
    assert!(!subject.engine.on_lock_retake(proof, lock()), "it is held");
    assert!(!subject.engine.on_lock_keep(proof, lock()), "by another call");
    assert!(subject.engine.on_lock_keep(ticket(1), lock()));
    assert!(subject.engine.on_lock_retake(proof, lock()));
    assert_eq!(subject.acquires(2, lock()), []);
    assert!(!subject.engine.on_lock_keep(proof, lock()), "a call waits");
    let released = subject.act(|engine, out| engine.on_lock_release(proof, lock(), out));
    assert_eq!(released, [done(2)]);
    subject.hears(HOME, forwarded(lock(), 1, 3, 7));
    assert!(!subject.engine.on_lock_keep(ticket(2), lock()), "another node waits");
    assert_eq!(subject.releases(2, lock()), [send(3, granted(7))]);
    let mut heir = taker();
    heir.acquires(1, lock());
    heir.cancel(1);
    let news = Message::LockGrant { lock: lock(), ticket: ticket(1), died: Some(node(3)) };
    heir.hears(HOME, news);
    assert!(!heir.engine.on_lock_retake(proof, lock()), "somebody has to be told");
}

#[test]
fn who_goes_gives_back_what_it_does_not_need() {
    let mut subject = taker();
    let other = lock_at(HOME, 4, 1);
    for (slot, lock) in [(1, lock()), (2, other)] {
        subject.acquires(slot, lock);
        subject.hears(HOME, Message::LockGrant { lock, ticket: ticket(slot), died: None });
    }
    subject.releases(1, lock());
    let farewell = subject.act(pagemesh_protocol::Engine::on_farewell);
    assert_eq!(farewell, [send(HOME, returned(lock(), 1))]);
}

/// All nodes take one lock again and again: everyone has its turn before anyone has another.
#[test]
fn nobody_has_two_turns_while_another_waits() {
    let mut mesh = Mesh::new(6);
    let lock = lock_at(HOME, 6, 0);
    for number in 0..6 {
        mesh.acquires(number, lock);
        mesh.acquires(number, lock);
    }
    let mut turns = Vec::new();
    for _ in 0..60 {
        mesh.deliver_all();
        let (who, ticket, outcome) = mesh.completed.pop().expect("somebody has the lock");
        assert!(outcome == Outcome::Done && mesh.completed.is_empty(), "one has it");
        turns.push(who.get());
        mesh.acquires(who.get(), lock);
        mesh.releases(who.get(), ticket, lock);
    }
    for number in 0..6 {
        let places: Vec<usize> = (0..60).filter(|place| turns[*place] == number).collect();
        let longest = places.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest <= Some(2 * 6), "node {number} waited for {longest:?} turns: {turns:?}");
    }
}

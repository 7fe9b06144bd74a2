//! A node that dies while it has a lock, waits for one, or is about to pass one on must not take the lock with it. So the home asks the
//! others where the lock is, gives it to the next with the news when it was lost, and to nobody twice.

mod common;

use common::{Subject, done, failed, forwarded, lock_at, node, returned, send, ticket};
use pagemesh_protocol::{Action, Failure, LockId, Message, NodeId, Outcome, Ticket};

const HOME: u16 = 1;
const COUNT: u16 = 5;

fn home() -> Subject {
    Subject::new(HOME, COUNT)
}

fn lock() -> LockId {
    lock_at(HOME, COUNT, 0)
}

fn acquire(slot: u16) -> Message {
    Message::LockAcquire { lock: lock(), ticket: ticket(slot) }
}

fn grant(slot: u16, died: Option<u16>) -> Message {
    Message::LockGrant { lock: lock(), ticket: ticket(slot), died: died.map(node) }
}

fn query(round: u64) -> Message {
    Message::LockQuery { lock: lock(), round }
}

fn state(round: u64, state: Option<(u16, bool)>) -> Message {
    let state: Option<(Ticket, bool)> = state.map(|(slot, has)| (ticket(slot), has));
    Message::LockState { lock: lock(), round, state }
}

fn next(slot: u16, who: u16, wanted: u16) -> Message {
    forwarded(lock(), slot, who, wanted)
}

/// A home of which nodes 2, 3, 4 and 0 asked for the lock, in this order, each under the ticket of its number.
fn chain() -> Subject {
    let mut subject = home();
    for number in [2, 3, 4, 0] {
        subject.hears(number, acquire(number));
    }
    subject
}

/// After the loss of `lost`, in the first round of questions.
fn asked(lost: u16, others: &[u16]) -> Subject {
    let mut subject = chain();
    let questions: Vec<Action> = others.iter().map(|other| send(*other, query(1))).collect();
    assert_eq!(subject.loses(lost), questions);
    subject
}

fn neither(subject: &mut Subject, others: &[u16]) {
    for other in others {
        assert_eq!(subject.hears(*other, state(1, None)), []);
    }
}

#[test]
fn the_first_that_waits_for_a_dead_holder_gets_the_lock_and_is_told() {
    let mut subject = asked(2, &[0, 3, 4]);
    assert_eq!(subject.hears(3, state(1, Some((3, false)))), []);
    assert_eq!(subject.hears(0, state(1, Some((0, false)))), []);
    assert_eq!(
        subject.hears(4, state(1, Some((4, false)))),
        [send(3, grant(3, Some(2))), send(3, next(3, 4, 4)), send(4, next(4, 0, 0))]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_dead_waiter_is_passed_over_and_nobody_is_told_of_it() {
    let mut subject = asked(3, &[0, 2, 4]);
    subject.hears(0, state(1, Some((0, false))));
    subject.hears(4, state(1, Some((4, false))));
    assert_eq!(subject.hears(2, state(1, Some((2, true)))), [send(2, next(2, 4, 4)), send(4, next(4, 0, 0))]);
}

#[test]
fn a_lock_that_was_passed_to_the_dead_is_lost_with_it() {
    let mut subject = asked(3, &[0, 2, 4]);
    neither(&mut subject, &[2]);
    subject.hears(0, state(1, Some((0, false))));
    assert_eq!(
        subject.hears(4, state(1, Some((4, false)))),
        [send(4, grant(4, Some(3))), send(4, next(4, 0, 0))]
    );
}

#[test]
fn a_lock_that_the_dead_passed_on_stays_where_it_is() {
    let mut subject = asked(2, &[0, 3, 4]);
    neither(&mut subject, &[3]);
    subject.hears(0, state(1, Some((0, false))));
    assert_eq!(subject.hears(4, state(1, Some((4, true)))), [send(4, next(4, 0, 0))]);
}

#[test]
fn a_lock_between_two_living_nodes_is_not_reported_as_lost() {
    let mut subject = asked(2, &[0, 3, 4]);
    neither(&mut subject, &[3]);
    subject.hears(0, state(1, Some((0, false))));
    // From node 3 it is on its way to node 4, which takes one of the two and drops the other.
    assert_eq!(
        subject.hears(4, state(1, Some((4, false)))),
        [send(4, grant(4, None)), send(4, next(4, 0, 0))]
    );
}

#[test]
fn a_lock_that_nobody_waits_for_is_reported_to_the_next_to_come() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(2, acquire(2)), [send(2, grant(2, Some(3)))]);
    assert_eq!(subject.hears(2, returned(lock(), 2)), [], "who was told gave it back");
    assert_eq!(subject.hears(0, acquire(3)), [send(0, grant(3, None))]);
    let mut tried = home();
    tried.hears(3, acquire(1));
    tried.loses(3);
    let attempt = Message::LockTry { lock: lock(), ticket: ticket(2) };
    assert_eq!(tried.hears(2, attempt), [send(2, grant(2, Some(3)))]);
}

#[test]
fn news_that_nobody_heard_go_along() {
    let mut subject = Subject::new(2, COUNT);
    subject.acquires(1, lock());
    subject.cancel(1);
    assert_eq!(subject.hears(HOME, grant(1, Some(3))), []);
    assert_eq!(subject.hears(HOME, next(1, 4, 7)), [send(4, grant(7, Some(3)))]);
    let mut home = home();
    home.hears(2, acquire(1));
    let back = Message::LockRelease { lock: lock(), ticket: ticket(1), died: Some(node(3)), wanted: None };
    assert_eq!(home.hears(2, back), []);
    assert_eq!(home.hears(4, acquire(2)), [send(4, grant(2, Some(3)))]);
}

#[test]
fn requests_that_come_meanwhile_stand_at_the_end() {
    let mut subject = asked(3, &[0, 2, 4]);
    // Node 2 has passed the lock to node 3, and wants it again.
    assert_eq!(subject.hears(2, acquire(9)), []);
    assert_eq!(subject.hears(2, state(1, Some((9, false)))), []);
    subject.hears(0, state(1, Some((0, false))));
    assert_eq!(
        subject.hears(4, state(1, Some((4, false)))),
        [send(4, grant(4, Some(3))), send(4, next(4, 0, 0)), send(0, next(0, 2, 9))]
    );
}

#[test]
fn a_lock_that_comes_home_meanwhile_goes_to_the_first_that_waits() {
    let mut subject = asked(3, &[0, 2, 4]);
    assert_eq!(subject.hears(2, returned(lock(), 2)), []);
    neither(&mut subject, &[2]);
    subject.hears(0, state(1, Some((0, false))));
    assert_eq!(
        subject.hears(4, state(1, Some((4, false)))),
        [send(4, grant(4, None)), send(4, next(4, 0, 0))]
    );
}

#[test]
fn who_gave_the_lock_back_need_not_answer() {
    let mut subject = asked(3, &[0, 2, 4]);
    subject.hears(0, state(1, Some((0, false))));
    subject.hears(4, state(1, Some((4, false))));
    // It may die before it does.
    assert_eq!(subject.hears(2, returned(lock(), 2)), [send(4, grant(4, None)), send(4, next(4, 0, 0))]);
    assert_eq!(subject.hears(2, state(1, None)), []);
}

#[test]
fn a_second_death_begins_the_questions_anew() {
    let mut subject = asked(2, &[0, 3, 4]);
    subject.hears(3, state(1, Some((3, false))));
    assert_eq!(subject.loses(3), [send(0, query(2)), send(4, query(2))]);
    assert_eq!(subject.hears(4, state(1, Some((4, false)))), [], "of the round before");
    subject.hears(0, state(2, Some((0, false))));
    assert_eq!(
        subject.hears(4, state(2, Some((4, false)))),
        [send(4, grant(4, Some(3))), send(4, next(4, 0, 0))]
    );
}

#[test]
fn who_tries_is_answered_when_the_lock_is_found() {
    let mut subject = home();
    subject.hears(2, acquire(2));
    let attempt = |slot| Message::LockTry { lock: lock(), ticket: ticket(slot) };
    subject.hears(3, attempt(5));
    subject.hears(4, acquire(4));
    assert_eq!(subject.loses(2), [send(4, query(1))]);
    assert_eq!(subject.hears(0, attempt(6)), []);
    let tries = |who, slot| Message::LockForward {
        lock: lock(),
        ticket: ticket(4),
        node: node(who),
        wanted: ticket(slot),
        waits: false,
    };
    assert_eq!(
        subject.hears(4, state(1, Some((4, false)))),
        [send(4, grant(4, Some(2))), send(4, tries(3, 5)), send(4, tries(0, 6))]
    );
}

#[test]
fn who_is_asked_says_whether_it_has_the_lock_and_keeps_it() {
    let mut subject = Subject::new(2, COUNT);
    assert_eq!(subject.hears(HOME, query(1)), [send(HOME, state(1, None))]);
    subject.acquires(1, lock());
    assert_eq!(subject.hears(HOME, query(2)), [send(HOME, state(2, Some((1, false))))]);
    subject.hears(HOME, grant(1, None));
    subject.hears(HOME, next(1, 3, 7));
    assert_eq!(subject.hears(HOME, query(3)), [send(HOME, state(3, Some((1, true))))]);
    assert_eq!(subject.releases(1, lock()), [], "node 3 may be the one that died");
    assert_eq!(subject.hears(HOME, next(1, 4, 8)), [send(4, grant(8, None))]);
}

#[test]
fn what_cannot_reach_the_next_goes_by_way_of_the_home() {
    let mut subject = Subject::new(2, COUNT);
    subject.acquires(1, lock());
    subject.hears(HOME, grant(1, None));
    subject.hears(HOME, next(1, 3, 7));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.releases(1, lock()), [send(HOME, returned(lock(), 1))]);
}

#[test]
fn a_home_hears_of_connections_that_broke_and_sends_nothing_over_them() {
    let cut = |number: u16| Message::LockCut { node: node(number) };
    let mut waits = Subject::new(2, COUNT);
    waits.acquires(1, lock());
    assert_eq!(waits.loses(3), [send(HOME, cut(3))], "it may have been on its way from there");
    let mut comes = Subject::new(2, COUNT);
    comes.loses(3);
    assert_eq!(comes.acquires(1, lock()), [send(HOME, cut(3)), send(HOME, acquire(1))]);
    let mut home = home();
    home.hears(3, acquire(3));
    assert_eq!(home.hears(2, cut(3)), []);
    assert_eq!(home.hears(2, acquire(2)), [send(3, next(3, HOME, 2))]);
    let mut waited = chain();
    assert_eq!(waited.hears(3, cut(2)), [0, 2, 3, 4].map(|other| send(other, query(1))));
    neither(&mut waited, &[2]);
    for number in [4, 0] {
        waited.hears(number, state(1, Some((number, false))));
    }
    let relinked = [send(3, grant(3, None)), send(3, next(3, 4, 4)), send(4, next(4, 0, 0))];
    assert_eq!(waited.hears(3, state(1, Some((3, false)))), relinked);
}

#[test]
fn the_home_itself_is_told_of_a_dead_holder() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    subject.acquires(2, lock());
    let inherited = Action::Complete { ticket: ticket(2), outcome: Outcome::OwnerDied(node(3)) };
    assert_eq!(subject.loses(3), [inherited]);
    assert_eq!(subject.acquires(4, lock()), [], "it holds the lock");
    assert_eq!(subject.releases(2, lock()), [done(4)]);
}

#[test]
fn several_locks_of_a_dead_holder_are_passed_on_in_the_order_of_their_numbers() {
    let mut subject = home();
    let locks: Vec<LockId> = (0..4).map(|nth| lock_at(HOME, COUNT, nth)).collect();
    for lock in locks.iter().rev() {
        subject.hears(3, Message::LockAcquire { lock: *lock, ticket: ticket(1) });
        subject.hears(2, Message::LockAcquire { lock: *lock, ticket: ticket(2) });
    }
    let rounds = locks.iter().zip(1..);
    let told: Vec<Action> =
        rounds.map(|(lock, round)| send(2, Message::LockQuery { lock: *lock, round })).collect();
    assert_eq!(subject.loses(3), told);
}

#[test]
fn a_lock_whose_home_is_lost_fails_those_who_wait_and_those_who_come() {
    let mut subject = Subject::new(2, COUNT);
    let lost = Failure::PeerLost(node(HOME));
    let (held, awaited) = (lock(), lock_at(HOME, COUNT, 1));
    subject.acquires(1, held);
    subject.hears(HOME, grant(1, None));
    subject.hears(HOME, next(1, 3, 7));
    subject.acquires(2, awaited);
    assert_eq!(subject.loses(HOME), [failed(2, lost)]);
    assert_eq!(subject.acquires(3, awaited), [failed(3, lost)]);
    assert_eq!(subject.releases(1, held), [], "nobody is left to be told, and nobody else is to have it");
    assert!(subject.engine.is_quiet());
}

#[test]
fn locks_at_other_homes_outlive_the_loss() {
    let mut subject = Subject::new(2, COUNT);
    subject.acquires(1, lock());
    let cut = Message::LockCut { node: NodeId::new(3) };
    assert_eq!(subject.loses(3), [send(HOME, cut)]);
    assert_eq!(subject.hears(4, grant(1, None)), [done(1)]);
}

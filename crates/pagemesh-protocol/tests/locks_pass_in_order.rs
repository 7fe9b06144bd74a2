//! A lock that two callers hold protects nothing, one that is forgotten stops a program, and one that can be overtaken
//! starves somebody. So a lock goes to exactly one caller, in the order in which they came, comes back from callers that
//! gave up, and when its holder dies the next one is told, as std's poisoned mutex tells.

mod common;

use common::{Subject, done, failed, lock_at, node, send, ticket};
use pagemesh_protocol::{Action, EngineConfig, Failure, LockId, Message, Outcome, Ticket};

const HOME: u16 = 1;

fn home() -> Subject {
    Subject::new(HOME, 4)
}

fn lock() -> LockId {
    lock_at(HOME, 4, 0)
}

fn acquire(slot: u16) -> Message {
    Message::LockAcquire { lock: lock(), ticket: ticket(slot) }
}

fn release(slot: u16) -> Message {
    Message::LockRelease { lock: lock(), ticket: ticket(slot) }
}

fn granted(slot: u16) -> Message {
    Message::LockGrant { lock: lock(), ticket: ticket(slot), died: None }
}

fn died(slot: u16, holder: u16) -> Message {
    Message::LockGrant { lock: lock(), ticket: ticket(slot), died: Some(node(holder)) }
}

fn attempt(slot: u16) -> Message {
    Message::LockTry { lock: lock(), ticket: ticket(slot) }
}

fn busy(slot: u16) -> Message {
    Message::LockBusy { lock: lock(), ticket: ticket(slot) }
}

fn inherited(slot: u16, holder: u16) -> Action {
    Action::Complete { ticket: ticket(slot), outcome: Outcome::OwnerDied(node(holder)) }
}

#[test]
fn a_taker_asks_the_home_and_waits() {
    let mut subject = Subject::new(2, 4);
    assert_eq!(subject.acquires(1, lock()), [send(HOME, acquire(1))]);
    assert_eq!(subject.hears(HOME, granted(1)), [done(1)]);
    assert_eq!(subject.releases(1, lock()), [send(HOME, release(1))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_home_takes_its_own_lock_without_a_message() {
    let mut subject = home();
    assert_eq!(subject.acquires(1, lock()), [done(1)]);
    assert_eq!(subject.releases(1, lock()), []);
    assert_eq!(subject.acquires(2, lock()), [done(2)]);
}

#[test]
fn a_free_lock_is_granted_at_once() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1)), [send(2, granted(1))]);
    assert_eq!(subject.hears(2, release(1)), []);
    assert_eq!(subject.hears(3, acquire(1)), [send(3, granted(1))]);
}

#[test]
fn those_who_wait_get_the_lock_in_the_order_they_came() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, acquire(7)), []);
    assert_eq!(subject.acquires(5, lock()), []);
    assert_eq!(subject.hears(2, acquire(2)), []);
    assert_eq!(subject.hears(2, release(1)), [send(3, granted(7))]);
    assert_eq!(subject.hears(3, release(7)), [done(5)]);
    assert_eq!(subject.releases(5, lock()), [send(2, granted(2))]);
    assert_eq!(subject.hears(2, release(2)), []);
    assert_eq!(subject.hears(0, acquire(1)), [send(0, granted(1))], "it is free again");
}

#[test]
fn locks_do_not_wait_for_each_other() {
    let mut subject = home();
    let other = lock_at(HOME, 4, 1);
    subject.hears(2, acquire(1));
    let asked = Message::LockAcquire { lock: other, ticket: ticket(1) };
    assert_eq!(
        subject.hears(3, asked),
        [send(3, Message::LockGrant { lock: other, ticket: ticket(1), died: None })]
    );
}

#[test]
fn a_release_by_anyone_but_the_holder_changes_nothing() {
    let mut subject = home();
    assert_eq!(subject.hears(2, release(1)), [], "a free lock");
    subject.hears(2, acquire(1));
    subject.hears(3, acquire(2));
    assert_eq!(subject.hears(0, release(1)), [], "another node with the holder's ticket");
    let earlier = Message::LockRelease { lock: lock(), ticket: Ticket::new(1, 0) };
    assert_eq!(subject.hears(2, earlier), [], "an earlier use of the holder's ticket");
    assert_eq!(subject.hears(2, release(1)), [send(3, granted(2))]);
    assert_eq!(subject.hears(2, release(1)), [], "a second release");
    assert_eq!(subject.hears(3, release(2)), []);
}

#[test]
fn a_caller_that_gives_up_says_so() {
    let mut subject = Subject::new(2, 4);
    subject.acquires(1, lock());
    assert_eq!(subject.cancel(1), [send(HOME, release(1))]);
    assert_eq!(subject.hears(HOME, granted(1)), [], "the grant crossed the release");
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_waiter_that_gave_up_is_passed_over() {
    let mut subject = home();
    subject.hears(2, acquire(1));
    subject.hears(3, acquire(2));
    subject.acquires(3, lock());
    subject.hears(0, acquire(4));
    assert_eq!(subject.hears(3, release(2)), []);
    assert_eq!(subject.cancel(3), []);
    assert_eq!(subject.hears(2, release(1)), [send(0, granted(4))]);
}

#[test]
fn a_grant_that_meets_a_caller_who_gave_up_goes_to_the_next() {
    let mut subject = home();
    subject.hears(2, acquire(1));
    subject.hears(3, acquire(2));
    subject.hears(0, acquire(4));
    assert_eq!(subject.hears(2, release(1)), [send(3, granted(2))]);
    assert_eq!(subject.hears(3, release(2)), [send(0, granted(4))]);
}

#[test]
fn cancelling_after_the_grant_leaves_the_caller_the_lock() {
    let mut subject = Subject::new(2, 4);
    subject.acquires(1, lock());
    subject.hears(HOME, granted(1));
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.releases(1, lock()), [send(HOME, release(1))]);
}

#[test]
fn a_full_table_refuses_new_locks_and_keeps_the_old() {
    let mut subject = Subject::configured(EngineConfig { locks: 1, ..EngineConfig::new(node(HOME), 4) });
    let other = lock_at(HOME, 4, 1);
    subject.hears(2, acquire(1));
    let asked = Message::LockAcquire { lock: other, ticket: ticket(9) };
    assert_eq!(subject.hears(3, asked), [send(3, Message::SyncRefused { ticket: ticket(9) })]);
    assert_eq!(subject.hears(3, acquire(2)), [], "the lock in use can be waited for");
    let full = Failure::Limit("too many locks or barriers in use at one home");
    assert_eq!(subject.acquires(1, other), [failed(1, full)]);
    subject.hears(2, release(1));
    subject.hears(3, release(2));
    assert_eq!(
        subject.hears(3, asked),
        [send(3, Message::LockGrant { lock: other, ticket: ticket(9), died: None })]
    );
}

#[test]
fn a_refused_caller_is_told_why() {
    let mut subject = Subject::new(2, 4);
    subject.acquires(1, lock());
    let full = Failure::Limit("too many locks or barriers in use at one home");
    assert_eq!(subject.hears(HOME, Message::SyncRefused { ticket: ticket(1) }), [failed(1, full)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_first_to_wait_for_a_dead_holder_gets_the_lock_and_is_told() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    subject.hears(2, acquire(2));
    subject.hears(0, acquire(4));
    assert_eq!(subject.loses(3), [send(2, died(2, 3))]);
    assert_eq!(subject.hears(2, release(2)), [send(0, granted(4))], "the next one is not told");
    assert_eq!(subject.hears(0, release(4)), []);
    assert_eq!(subject.hears(2, acquire(3)), [send(2, granted(3))]);
}

#[test]
fn the_first_to_come_after_a_holder_died_gets_the_lock_and_is_told() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(2, acquire(2)), [send(2, died(2, 3))]);
    assert_eq!(subject.hears(0, acquire(3)), []);
    assert_eq!(subject.hears(2, release(2)), [send(0, granted(3))]);
}

#[test]
fn a_heir_that_dies_too_leaves_the_lock_to_the_next() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    subject.hears(2, acquire(2));
    subject.hears(0, acquire(4));
    assert_eq!(subject.loses(3), [send(2, died(2, 3))]);
    assert_eq!(subject.loses(2), [send(0, died(4, 2))]);
    assert_eq!(subject.hears(0, release(4)), []);
}

#[test]
fn a_heir_that_gave_up_passes_the_lock_on() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    subject.hears(2, acquire(2));
    assert_eq!(subject.loses(3), [send(2, died(2, 3))]);
    assert_eq!(subject.hears(2, release(2)), [], "its withdrawal crossed the news");
    assert_eq!(subject.hears(0, acquire(4)), [send(0, granted(4))]);
}

#[test]
fn who_only_tries_gets_a_free_lock_and_is_turned_away_from_a_held_one() {
    let mut subject = home();
    assert_eq!(subject.hears(2, attempt(1)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, attempt(1)), [send(3, busy(1))]);
    assert_eq!(subject.tries(5, lock()), [failed(5, Failure::Busy)]);
    assert_eq!(subject.hears(2, release(1)), [], "nobody was queued");
    assert_eq!(subject.tries(6, lock()), [done(6)]);
    subject.releases(6, lock());
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_only_tries_is_turned_away_by_the_home_and_may_have_given_up_before() {
    let mut subject = Subject::new(2, 4);
    assert_eq!(subject.tries(1, lock()), [send(HOME, attempt(1))]);
    assert_eq!(subject.hears(HOME, busy(1)), [failed(1, Failure::Busy)]);
    assert_eq!(subject.tries(2, lock()), [send(HOME, attempt(2))]);
    assert_eq!(subject.cancel(2), [send(HOME, release(2))]);
    assert_eq!(subject.hears(HOME, busy(2)), []);
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_only_tries_inherits_from_a_dead_holder_too() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(2, attempt(2)), [send(2, died(2, 3))]);
    assert_eq!(subject.hears(0, attempt(4)), [send(0, busy(4))]);
}

#[test]
fn the_home_itself_is_told_of_a_dead_holder() {
    let mut subject = home();
    subject.hears(3, acquire(1));
    subject.acquires(2, lock());
    assert_eq!(subject.loses(3), [inherited(2, 3)]);
    assert_eq!(subject.acquires(4, lock()), [], "it holds the lock");
    assert_eq!(subject.releases(2, lock()), [done(4)]);
}

#[test]
fn a_dead_waiter_is_passed_over() {
    let mut subject = home();
    subject.hears(2, acquire(1));
    subject.hears(3, acquire(2));
    subject.hears(3, acquire(3));
    subject.hears(0, acquire(4));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(2, release(1)), [send(0, granted(4))]);
}

#[test]
fn several_locks_of_a_dead_holder_are_passed_on_in_the_order_of_their_numbers() {
    let mut subject = home();
    let locks: Vec<LockId> = (0..4).map(|nth| lock_at(HOME, 4, nth)).collect();
    for lock in locks.iter().rev() {
        subject.hears(3, Message::LockAcquire { lock: *lock, ticket: ticket(1) });
        subject.hears(2, Message::LockAcquire { lock: *lock, ticket: ticket(2) });
    }
    let told: Vec<Action> = locks
        .iter()
        .map(|lock| send(2, Message::LockGrant { lock: *lock, ticket: ticket(2), died: Some(node(3)) }))
        .collect();
    assert_eq!(subject.loses(3), told);
}

#[test]
fn a_caller_learns_that_the_holder_died() {
    let mut subject = Subject::new(2, 4);
    subject.acquires(1, lock());
    assert_eq!(subject.hears(HOME, died(1, 3)), [inherited(1, 3)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_lock_whose_home_is_lost_fails_those_who_wait_and_those_who_come() {
    let mut subject = Subject::new(2, 4);
    let lost = Failure::PeerLost(node(HOME));
    subject.acquires(1, lock());
    assert_eq!(subject.loses(HOME), [failed(1, lost)]);
    assert_eq!(subject.acquires(2, lock()), [failed(2, lost)]);
    assert_eq!(subject.releases(3, lock()), [], "nobody is left to be told");
    assert!(subject.engine.is_quiet());
}

#[test]
fn locks_at_other_homes_outlive_the_loss() {
    let mut subject = Subject::new(2, 4);
    subject.acquires(1, lock());
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(HOME, granted(1)), [done(1)]);
}

//! A thread that gives a lock back and waits for a signal must stand in the queue before anyone else can have the lock, or the signal
//! comes first and the thread sleeps for ever. And a signal that meets a call which gave up must wake somebody else.

mod common;

use common::{Subject, done, failed, lock_at, node, number_at, returned, send, ticket};
use pagemesh_protocol::{Action, ConditionId, EngineConfig, Failure, LockId, Message, Outcome};

/// Of the condition.
const HOME: u16 = 1;
/// Of the lock.
const LOCK_HOME: u16 = 3;

/// Node 2, which is neither's home; it has the lock under slot 1, and the lock's home wants it back.
fn waiter() -> Subject {
    let mut subject = Subject::new(2, 5);
    subject.holds_for_home(1, lock(), LOCK_HOME);
    subject
}

fn home() -> Subject {
    Subject::new(HOME, 5)
}

fn condition() -> ConditionId {
    ConditionId(number_at(HOME, 5, 0))
}

fn lock() -> LockId {
    lock_at(LOCK_HOME, 5, 0)
}

fn wait(slot: u16) -> Message {
    Message::ConditionWait { condition: condition(), ticket: ticket(slot) }
}

fn queued(slot: u16) -> Message {
    Message::ConditionQueued { condition: condition(), ticket: ticket(slot) }
}

fn woken(slot: u16) -> Message {
    Message::ConditionWoken { condition: condition(), ticket: ticket(slot) }
}

fn cancel(slot: u16) -> Message {
    Message::ConditionCancel { condition: condition(), ticket: ticket(slot) }
}

fn withdrawn(slot: u16) -> Message {
    Message::ConditionWithdrawn { condition: condition(), ticket: ticket(slot) }
}

fn signal(all: bool) -> Message {
    Message::ConditionSignal { condition: condition(), all }
}

fn lock_release(slot: u16) -> Message {
    returned(lock(), slot)
}

fn lock_acquire(slot: u16) -> Message {
    Message::LockAcquire { lock: lock(), ticket: ticket(slot) }
}

fn lock_grant(slot: u16, died: Option<u16>) -> Message {
    Message::LockGrant { lock: lock(), ticket: ticket(slot), died: died.map(node) }
}

/// A call of slot 2 that has given back the lock, which it held under slot 1.
fn waiting() -> Subject {
    let mut subject = waiter();
    assert_eq!(subject.awaits(2, condition(), lock(), 1), [send(HOME, wait(2))]);
    assert_eq!(subject.hears(HOME, queued(2)), [send(LOCK_HOME, lock_release(1))]);
    subject
}

#[test]
fn the_lock_goes_only_when_the_call_stands_in_the_queue_and_is_back_before_it_ends() {
    let mut subject = waiting();
    assert_eq!(subject.hears(HOME, woken(2)), [send(LOCK_HOME, lock_acquire(2))]);
    assert_eq!(subject.hears(LOCK_HOME, lock_grant(2, None)), [done(2)]);
    subject.is_asked_for(2, lock(), LOCK_HOME);
    assert_eq!(subject.releases(1, lock()), [], "held under the new ticket");
    assert_eq!(subject.releases(2, lock()), [send(LOCK_HOME, lock_release(2))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn one_node_that_is_home_of_both_needs_no_message() {
    let mut subject = Subject::new(HOME, 5);
    let lock = lock_at(HOME, 5, 0);
    assert_eq!(subject.acquires(1, lock), [done(1)]);
    assert_eq!(subject.awaits(2, condition(), lock, 1), []);
    assert_eq!(subject.acquires(3, lock), [done(3)], "it was given back");
    assert_eq!(subject.notifies(condition(), false), []);
    assert_eq!(subject.releases(3, lock), [done(2)], "the woken call has it");
    assert_eq!(subject.releases(2, lock), []);
    assert!(subject.engine.is_quiet());
}

#[test]
fn signals_wake_in_order_and_a_broadcast_wakes_all() {
    let mut subject = home();
    for from in [2, 3, 4, 0] {
        assert_eq!(subject.hears(from, wait(1)), [send(from, queued(1))]);
    }
    assert_eq!(subject.hears(0, signal(false)), [send(2, woken(1))]);
    assert_eq!(subject.hears(0, signal(true)), [send(3, woken(1)), send(4, woken(1)), send(0, woken(1))]);
    assert_eq!(subject.hears(0, signal(true)), [], "nobody waits, and nothing is kept");
    assert_eq!(subject.hears(2, wait(3)), [send(2, queued(3))]);
    assert_eq!(subject.engine.load().condition_waiters, 1);
}

#[test]
fn a_signal_goes_to_the_home() {
    let mut subject = waiter();
    assert_eq!(subject.notifies(condition(), false), [send(HOME, signal(false))]);
    assert_eq!(subject.notifies(condition(), true), [send(HOME, signal(true))]);
    subject.loses(HOME);
    let lost = subject.engine.on_condition_notify(condition(), true, &mut Vec::new());
    assert_eq!(lost, Err(Failure::PeerLost(node(HOME))));
}

#[test]
fn a_call_whose_time_is_over_ends_without_the_lock() {
    let mut subject = waiting();
    assert_eq!(subject.runs_out_of_time(2), [send(HOME, cancel(2))]);
    assert_eq!(subject.runs_out_of_time(2), [], "once is enough");
    assert_eq!(subject.hears(HOME, withdrawn(2)), [failed(2, Failure::NotSignalled)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_signal_that_crosses_the_end_of_the_time_counts() {
    let mut subject = waiting();
    assert_eq!(subject.runs_out_of_time(2), [send(HOME, cancel(2))]);
    assert_eq!(subject.hears(HOME, woken(2)), [send(LOCK_HOME, lock_acquire(2))]);
    assert_eq!(subject.runs_out_of_time(2), [], "it waits for the lock");
    assert_eq!(subject.hears(LOCK_HOME, lock_grant(2, None)), [done(2)]);
}

#[test]
fn time_that_is_over_before_the_call_is_queued_gives_the_lock_back_all_the_same() {
    let mut subject = waiter();
    subject.awaits(2, condition(), lock(), 1);
    assert_eq!(subject.runs_out_of_time(2), [send(HOME, cancel(2))]);
    assert_eq!(subject.hears(HOME, queued(2)), [send(LOCK_HOME, lock_release(1))]);
    assert_eq!(subject.hears(HOME, withdrawn(2)), [failed(2, Failure::NotSignalled)]);
}

#[test]
fn the_home_withdraws_who_is_queued_and_has_told_who_is_not() {
    let mut subject = home();
    subject.hears(2, wait(1));
    subject.hears(3, wait(1));
    assert_eq!(subject.hears(2, cancel(1)), [send(2, withdrawn(1))]);
    assert_eq!(subject.hears(0, signal(false)), [send(3, woken(1))]);
    assert_eq!(subject.hears(3, cancel(1)), [], "the signal is on its way");
    assert_eq!(subject.engine.load().conditions, 0);
}

#[test]
fn a_signal_that_finds_nobody_wakes_the_next() {
    let mut subject = waiting();
    assert_eq!(subject.cancel(2), [send(HOME, cancel(2))]);
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.hears(HOME, woken(2)), [send(HOME, signal(false))]);
    let mut early = waiter();
    early.awaits(2, condition(), lock(), 1);
    assert_eq!(early.cancel(2), [send(HOME, cancel(2)), send(LOCK_HOME, lock_release(1))]);
    assert_eq!(early.hears(HOME, queued(2)), [], "the lock goes once");
}

#[test]
fn a_lock_whose_holder_died_is_reported_by_the_wait() {
    let mut subject = waiting();
    subject.hears(HOME, woken(2));
    let told = Action::Complete { ticket: ticket(2), outcome: Outcome::OwnerDied(node(4)) };
    assert_eq!(subject.hears(LOCK_HOME, lock_grant(2, Some(4))), [told]);
}

#[test]
fn a_condition_whose_home_is_lost_fails_and_the_lock_is_not_held() {
    let lost = Failure::PeerLost(node(HOME));
    assert_eq!(waiting().loses(HOME), [failed(2, lost)]);
    let mut asked = waiter();
    asked.awaits(2, condition(), lock(), 1);
    assert_eq!(asked.loses(HOME), [send(LOCK_HOME, lock_release(1)), failed(2, lost)]);
    asked.holds_for_home(1, lock(), LOCK_HOME);
    let again = [send(LOCK_HOME, lock_release(1)), failed(3, lost)];
    assert_eq!(asked.awaits(3, condition(), lock(), 1), again);
}

#[test]
fn a_lock_whose_home_is_lost_fails_those_who_wait_for_signals_under_it() {
    let lost = Failure::PeerLost(node(LOCK_HOME));
    assert_eq!(waiting().loses(LOCK_HOME), [send(HOME, cancel(2)), failed(2, lost)]);
    let mut woken_up = waiting();
    woken_up.hears(HOME, woken(2));
    assert_eq!(woken_up.loses(LOCK_HOME), [failed(2, lost)]);
}

#[test]
fn the_dead_are_not_woken() {
    let mut subject = home();
    subject.hears(2, wait(1));
    subject.hears(3, wait(1));
    assert_eq!(subject.loses(2), []);
    assert_eq!(subject.hears(0, signal(false)), [send(3, woken(1))]);
}

#[test]
fn a_full_table_refuses_and_the_lock_is_not_held() {
    let mut subject = Subject::configured(EngineConfig { locks: 1, ..EngineConfig::new(node(HOME), 5) });
    subject.hears(2, wait(1));
    let other = Message::ConditionWait { condition: ConditionId(number_at(HOME, 5, 1)), ticket: ticket(1) };
    assert_eq!(subject.hears(3, other), [send(3, Message::SyncRefused { ticket: ticket(1) })]);
    let mut subject = waiter();
    subject.awaits(2, condition(), lock(), 1);
    let full = Failure::Limit("too many locks or barriers in use at one home");
    let refused = Message::SyncRefused { ticket: ticket(2) };
    assert_eq!(subject.hears(HOME, refused), [send(LOCK_HOME, lock_release(1)), failed(2, full)]);
}

#[test]
fn only_the_home_is_asked_and_only_the_home_answers() {
    let mut subject = waiter();
    for message in [wait(1), cancel(1), signal(true)] {
        assert_eq!(subject.refuses(3, message), "this node is not the home of the condition");
    }
    for message in [queued(1), woken(1), withdrawn(1)] {
        assert_eq!(subject.refuses(3, message), "it is not the one to answer this");
    }
}

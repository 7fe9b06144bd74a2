//! A semaphore that loses a unit stops a program in the end, and one that makes one up lets too many in. So every unit that was
//! given is granted to exactly one call that still waits, in the order in which they came, also when calls give up.

mod common;

use common::{Subject, done, failed, node, number_at, send, ticket};
use pagemesh_protocol::{Action, EngineConfig, Failure, Message, SemaphoreId, limits};

const HOME: u16 = 1;

fn home() -> Subject {
    Subject::new(HOME, 4)
}

fn semaphore() -> SemaphoreId {
    SemaphoreId(number_at(HOME, 4, 0))
}

fn wait(slot: u16) -> Message {
    Message::SemaphoreWait { semaphore: semaphore(), ticket: ticket(slot), waits: true }
}

fn attempt(slot: u16) -> Message {
    Message::SemaphoreWait { semaphore: semaphore(), ticket: ticket(slot), waits: false }
}

fn granted(slot: u16) -> Message {
    Message::SemaphoreGrant { semaphore: semaphore(), ticket: ticket(slot) }
}

fn busy(slot: u16) -> Message {
    Message::SemaphoreBusy { semaphore: semaphore(), ticket: ticket(slot) }
}

fn post(slot: u16) -> Message {
    Message::SemaphorePost { semaphore: semaphore(), ticket: ticket(slot) }
}

fn init(slot: u16, value: u32) -> Message {
    Message::SemaphoreInit { semaphore: semaphore(), ticket: ticket(slot), value }
}

fn cancel(slot: u16) -> Message {
    Message::SemaphoreCancel { semaphore: semaphore(), ticket: ticket(slot) }
}

fn returned() -> Message {
    Message::SemaphoreReturn { semaphore: semaphore() }
}

fn answered(to: u16, slot: u16) -> Action {
    send(to, Message::SemaphoreDone { semaphore: semaphore(), ticket: ticket(slot) })
}

#[test]
fn calls_ask_the_home_and_wait() {
    let mut subject = Subject::new(2, 4);
    assert_eq!(subject.initialises(1, semaphore(), 3), [send(HOME, init(1, 3))]);
    let over = Message::SemaphoreDone { semaphore: semaphore(), ticket: ticket(1) };
    assert_eq!(subject.hears(HOME, over), [done(1)]);
    assert_eq!(subject.takes_unit(2, semaphore(), true), [send(HOME, wait(2))]);
    assert_eq!(subject.hears(HOME, granted(2)), [done(2)]);
    assert_eq!(subject.takes_unit(3, semaphore(), false), [send(HOME, attempt(3))]);
    assert_eq!(subject.hears(HOME, busy(3)), [failed(3, Failure::Busy)]);
    assert_eq!(subject.posts(1, semaphore()), [send(HOME, post(1))]);
    let full = Message::SemaphoreFull { semaphore: semaphore(), ticket: ticket(1) };
    let why = Failure::Limit("a semaphore has at most 2^31 - 1 units");
    assert_eq!(subject.hears(HOME, full), [failed(1, why)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn units_go_to_those_who_wait_in_the_order_they_came() {
    let mut subject = home();
    assert_eq!(subject.hears(2, wait(1)), [], "nobody has given it a unit");
    assert_eq!(subject.takes_unit(5, semaphore(), true), []);
    assert_eq!(subject.hears(3, wait(1)), []);
    assert_eq!(subject.hears(0, init(1, 2)), [answered(0, 1), send(2, granted(1)), done(5)]);
    assert_eq!(subject.hears(0, post(2)), [answered(0, 2), send(3, granted(1))]);
    assert_eq!(subject.hears(0, post(3)), [answered(0, 3)]);
    assert_eq!(subject.hears(2, attempt(2)), [send(2, granted(2))]);
    assert_eq!(subject.hears(2, attempt(3)), [send(2, busy(3))]);
}

#[test]
fn it_does_not_matter_whether_the_value_or_a_unit_comes_first() {
    let mut subject = home();
    assert_eq!(subject.posts(1, semaphore()), [done(1)]);
    assert_eq!(subject.initialises(1, semaphore(), 1), [done(1)]);
    assert_eq!(subject.takes_unit(1, semaphore(), false), [done(1)]);
    assert_eq!(subject.takes_unit(1, semaphore(), false), [done(1)]);
    assert_eq!(subject.takes_unit(1, semaphore(), false), [failed(1, Failure::Busy)]);
}

#[test]
fn every_node_may_give_the_same_value_and_none_another() {
    let mut subject = home();
    assert_eq!(subject.hears(2, init(1, 2)), [answered(2, 1)]);
    assert_eq!(subject.hears(3, init(1, 2)), [answered(3, 1)]);
    let other = Message::SemaphoreMismatch { semaphore: semaphore(), ticket: ticket(2), first: 2 };
    assert_eq!(subject.hears(0, init(2, 1)), [send(0, other)]);
    assert_eq!(subject.initialises(1, semaphore(), 7), [failed(1, Failure::SemaphoreMismatch { first: 2 })]);
    for slot in 1..=2 {
        assert_eq!(subject.hears(2, attempt(slot)), [send(2, granted(slot))]);
    }
    assert_eq!(subject.hears(2, attempt(3)), [send(2, busy(3))]);
}

#[test]
fn there_is_a_most() {
    let mut subject = home();
    assert_eq!(subject.hears(2, init(1, limits::SEMAPHORE_UNITS)), [answered(2, 1)]);
    let full = Message::SemaphoreFull { semaphore: semaphore(), ticket: ticket(2) };
    assert_eq!(subject.hears(2, post(2)), [send(2, full)]);
    assert_eq!(subject.hears(2, attempt(3)), [send(2, granted(3))]);
    assert_eq!(subject.hears(2, post(2)), [answered(2, 2)]);
}

#[test]
fn a_waiter_that_gave_up_is_passed_over() {
    let mut subject = home();
    subject.hears(2, wait(1));
    subject.hears(3, wait(1));
    assert_eq!(subject.hears(2, cancel(1)), []);
    assert_eq!(subject.hears(0, post(1)), [answered(0, 1), send(3, granted(1))]);
    assert_eq!(subject.hears(3, cancel(1)), [], "too late: the unit is on its way");
    assert_eq!(subject.engine.load().semaphores, 0, "it takes no room");
}

#[test]
fn a_unit_that_meets_a_caller_who_gave_up_goes_back() {
    let mut subject = Subject::new(2, 4);
    subject.takes_unit(1, semaphore(), true);
    assert_eq!(subject.cancel(1), [send(HOME, cancel(1))]);
    assert_eq!(subject.hears(HOME, granted(1)), [send(HOME, returned())]);
    let mut home = home();
    home.hears(3, wait(1));
    assert_eq!(home.hears(2, returned()), [send(3, granted(1))]);
    assert_eq!(home.hears(2, returned()), []);
    assert_eq!(home.hears(2, attempt(1)), [send(2, granted(1))]);
}

#[test]
fn the_dead_do_not_wait() {
    let mut subject = home();
    subject.hears(2, wait(1));
    subject.hears(3, wait(1));
    assert_eq!(subject.loses(2), []);
    assert_eq!(subject.hears(0, post(1)), [answered(0, 1), send(3, granted(1))]);
}

#[test]
fn a_semaphore_whose_home_is_lost_fails_every_call() {
    let mut subject = Subject::new(2, 4);
    let lost = Failure::PeerLost(node(HOME));
    subject.takes_unit(1, semaphore(), true);
    subject.posts(2, semaphore());
    assert_eq!(subject.loses(HOME), [failed(1, lost), failed(2, lost)]);
    assert_eq!(subject.takes_unit(1, semaphore(), true), [failed(1, lost)]);
    assert_eq!(subject.posts(1, semaphore()), [failed(1, lost)]);
    assert_eq!(subject.initialises(1, semaphore(), 1), [failed(1, lost)]);
}

#[test]
fn a_full_table_refuses_new_semaphores() {
    let mut subject = Subject::configured(EngineConfig { locks: 1, ..EngineConfig::new(node(HOME), 4) });
    assert_eq!(subject.hears(2, init(1, 1)), [answered(2, 1)]);
    let other = SemaphoreId(number_at(HOME, 4, 1));
    let full = Failure::Limit("too many locks or barriers in use at one home");
    assert_eq!(subject.posts(1, other), [failed(1, full)]);
    assert_eq!(subject.initialises(1, other, 0), [failed(1, full)]);
    assert_eq!(subject.takes_unit(1, other, true), [failed(1, full)]);
    assert_eq!(subject.takes_unit(1, other, false), [failed(1, Failure::Busy)]);
}

#[test]
fn only_the_home_is_asked_and_only_the_home_answers() {
    let mut subject = Subject::new(2, 4);
    for message in [wait(1), attempt(1), cancel(1), post(1), init(1, 1), returned()] {
        assert_eq!(subject.refuses(3, message), "this node is not the home of the semaphore");
    }
    assert_eq!(subject.refuses(3, granted(1)), "it is not the one to answer this");
}

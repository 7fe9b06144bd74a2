//! A thread that passes a barrier early reads what is not yet written, and one that is forgotten waits for ever. So nobody
//! passes before all have arrived, all who arrived are let go at once, the barrier can be entered again at once, and
//! one that can never be full says so to everyone who waits.

mod common;

use common::{Subject, barrier_at, done, failed, node, send, ticket};
use pagemesh_protocol::{BarrierId, EngineConfig, Failure, Message};

const HOME: u16 = 1;

fn home() -> Subject {
    Subject::new(HOME, 4)
}

fn barrier() -> BarrierId {
    barrier_at(HOME, 4, 0)
}

fn arrive(slot: u16, participants: u32) -> Message {
    Message::BarrierArrive { barrier: barrier(), ticket: ticket(slot), participants }
}

fn give_up(slot: u16) -> Message {
    Message::BarrierCancel { barrier: barrier(), ticket: ticket(slot) }
}

fn release(slot: u16) -> Message {
    Message::BarrierRelease { barrier: barrier(), ticket: ticket(slot), plan: None }
}

fn broken(slot: u16, lost: u16) -> Message {
    Message::BarrierBroken { barrier: barrier(), ticket: ticket(slot), node: node(lost) }
}

#[test]
fn a_thread_tells_the_home_and_waits() {
    let mut subject = Subject::new(2, 4);
    assert_eq!(subject.arrives(1, barrier(), 4), [send(HOME, arrive(1, 4))]);
    assert_eq!(subject.hears(HOME, release(1)), [done(1)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn nobody_passes_before_all_have_arrived() {
    let mut subject = home();
    assert_eq!(subject.hears(2, arrive(1, 4)), []);
    assert_eq!(subject.hears(0, arrive(1, 4)), []);
    assert_eq!(subject.arrives(1, barrier(), 4), []);
    assert_eq!(
        subject.hears(3, arrive(1, 4)),
        [send(2, release(1)), send(0, release(1)), send(3, release(1)), done(1)]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn several_threads_of_one_node_count_each() {
    let mut subject = home();
    assert_eq!(subject.hears(2, arrive(1, 3)), []);
    assert_eq!(subject.hears(2, arrive(2, 3)), []);
    assert_eq!(
        subject.hears(2, arrive(3, 3)),
        [send(2, release(1)), send(2, release(2)), send(2, release(3))]
    );
}

#[test]
fn a_barrier_of_one_is_passed_at_once() {
    assert_eq!(home().arrives(1, barrier(), 1), [done(1)]);
    assert_eq!(home().hears(2, arrive(1, 1)), [send(2, release(1))]);
}

#[test]
fn the_fastest_may_enter_again_before_the_slowest_has_heard() {
    let mut subject = home();
    subject.hears(2, arrive(1, 2));
    assert_eq!(subject.hears(3, arrive(1, 2)), [send(2, release(1)), send(3, release(1))]);
    assert_eq!(subject.hears(2, arrive(2, 2)), []);
    assert_eq!(subject.hears(3, arrive(2, 2)), [send(2, release(2)), send(3, release(2))]);
}

#[test]
fn a_barrier_may_be_entered_again_by_another_number() {
    let mut subject = home();
    subject.hears(2, arrive(1, 2));
    subject.hears(3, arrive(1, 2));
    assert_eq!(subject.hears(2, arrive(2, 3)), []);
}

#[test]
fn barriers_do_not_count_for_each_other() {
    let mut subject = home();
    subject.hears(2, arrive(1, 2));
    let other = barrier_at(HOME, 4, 1);
    let arrive = Message::BarrierArrive { barrier: other, ticket: ticket(1), participants: 2 };
    assert_eq!(subject.hears(3, arrive), []);
}

#[test]
fn who_expects_another_number_is_told_and_the_others_wait_on() {
    let mut subject = home();
    subject.hears(2, arrive(1, 2));
    let mismatch = Message::BarrierMismatch { barrier: barrier(), ticket: ticket(1), first: 2, this: 3 };
    assert_eq!(subject.hears(3, arrive(1, 3)), [send(3, mismatch)]);
    assert_eq!(subject.hears(3, arrive(2, 2)), [send(2, release(1)), send(3, release(2))]);
}

#[test]
fn a_mismatch_fails_the_call() {
    let mut subject = Subject::new(2, 4);
    subject.arrives(1, barrier(), 3);
    let told = Message::BarrierMismatch { barrier: barrier(), ticket: ticket(1), first: 2, this: 3 };
    let mismatch = Failure::BarrierMismatch { first: 2, this: 3 };
    assert_eq!(subject.hears(HOME, told), [failed(1, mismatch)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_caller_that_gives_up_says_so_and_is_not_counted() {
    let mut subject = Subject::new(2, 4);
    subject.arrives(1, barrier(), 4);
    assert_eq!(subject.cancel(1), [send(HOME, give_up(1))]);
    assert_eq!(subject.hears(HOME, release(1)), [], "the release crossed it");
    assert!(subject.engine.is_quiet());

    let mut subject = home();
    subject.hears(2, arrive(1, 2));
    assert_eq!(subject.hears(2, give_up(1)), []);
    assert_eq!(subject.hears(3, arrive(1, 2)), []);
    assert_eq!(subject.hears(2, arrive(2, 2)), [send(3, release(1)), send(2, release(2))]);
}

#[test]
fn a_barrier_that_all_gave_up_is_forgotten() {
    let mut subject = home();
    subject.arrives(1, barrier(), 2);
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.hears(3, arrive(1, 3)), [], "with any number of participants");
}

#[test]
fn giving_up_where_nobody_waits_changes_nothing() {
    let mut subject = home();
    assert_eq!(subject.hears(2, give_up(1)), []);
    subject.hears(3, arrive(1, 2));
    assert_eq!(subject.hears(2, give_up(1)), []);
    assert_eq!(subject.hears(2, arrive(2, 2)), [send(3, release(1)), send(2, release(2))]);
}

#[test]
fn a_full_table_refuses_new_barriers_and_keeps_the_old() {
    let mut subject = Subject::configured(EngineConfig { barriers: 1, ..EngineConfig::new(node(HOME), 4) });
    subject.hears(2, arrive(1, 2));
    let other = barrier_at(HOME, 4, 1);
    let arrive_there = Message::BarrierArrive { barrier: other, ticket: ticket(9), participants: 2 };
    assert_eq!(subject.hears(3, arrive_there), [send(3, Message::SyncRefused { ticket: ticket(9) })]);
    assert_eq!(subject.hears(3, arrive(1, 2)), [send(2, release(1)), send(3, release(1))]);
    assert_eq!(subject.hears(3, arrive_there), []);
}

#[test]
fn a_refused_caller_is_told_why() {
    let mut subject = Subject::new(2, 4);
    subject.arrives(1, barrier(), 4);
    let full = Failure::Limit("too many locks or barriers in use at one home");
    assert_eq!(subject.hears(HOME, Message::SyncRefused { ticket: ticket(1) }), [failed(1, full)]);
}

#[test]
fn a_barrier_that_a_lost_node_keeps_from_being_full_fails_everyone() {
    let mut subject = home();
    subject.hears(2, arrive(1, 4));
    subject.hears(3, arrive(1, 4));
    subject.arrives(1, barrier(), 4);
    assert_eq!(subject.loses(3), [send(2, broken(1, 3)), failed(1, Failure::PeerLost(node(3)))]);
    assert_eq!(subject.hears(2, arrive(2, 4)), [send(2, broken(2, 3))], "and whoever comes later");
    assert_eq!(subject.arrives(2, barrier(), 4), [failed(2, Failure::PeerLost(node(3)))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_lost_node_that_had_arrived_is_not_counted() {
    let mut subject = home();
    subject.hears(2, arrive(1, 3));
    subject.hears(3, arrive(1, 3));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.arrives(1, barrier(), 3), []);
    assert_eq!(subject.hears(0, arrive(1, 3)), [send(2, release(1)), send(0, release(1)), done(1)]);
}

#[test]
fn survivors_can_still_meet_among_themselves() {
    let mut subject = home();
    subject.loses(3);
    assert_eq!(subject.hears(2, arrive(1, 3)), []);
    assert_eq!(subject.hears(0, arrive(1, 3)), []);
    assert_eq!(subject.arrives(1, barrier(), 3), [send(2, release(1)), send(0, release(1)), done(1)]);
}

#[test]
fn several_broken_barriers_are_told_in_the_order_of_their_numbers() {
    let mut subject = home();
    let barriers: Vec<BarrierId> = (0..4).map(|nth| barrier_at(HOME, 4, nth)).collect();
    for barrier in barriers.iter().rev() {
        let arrive = Message::BarrierArrive { barrier: *barrier, ticket: ticket(1), participants: 4 };
        subject.hears(2, arrive);
    }
    let told: Vec<_> = barriers
        .iter()
        .map(|barrier| {
            send(2, Message::BarrierBroken { barrier: *barrier, ticket: ticket(1), node: node(3) })
        })
        .collect();
    assert_eq!(subject.loses(3), told);
}

#[test]
fn a_broken_barrier_fails_the_call() {
    let mut subject = Subject::new(2, 4);
    subject.arrives(1, barrier(), 4);
    assert_eq!(subject.hears(HOME, broken(1, 3)), [failed(1, Failure::PeerLost(node(3)))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_barrier_whose_home_is_lost_fails_those_who_wait_and_those_who_come() {
    let mut subject = Subject::new(2, 4);
    let lost = Failure::PeerLost(node(HOME));
    subject.arrives(1, barrier(), 3);
    assert_eq!(subject.loses(HOME), [failed(1, lost)]);
    assert_eq!(subject.arrives(2, barrier(), 3), [failed(2, lost)]);
    assert!(subject.engine.is_quiet());
}

//! A reader-writer lock that a node takes again and again, and that nobody else wants, is taken without a message: its home leaves it there. What
//! is left must come back when somebody wants it, with whoever has it and with what was written; a lock that two
//! nodes believe to have protects nothing, and one that nobody believes to have is lost for ever.

mod common;

use common::rwlock::{HOME, acquire, attempt, busy, died, granted, lock, next, numbered, release};
use common::{PAGE, REGION, Subject, done, failed, node, send, ticket};
use pagemesh_protocol::Access::{self, Read, Write};
use pagemesh_protocol::{
    Action, Engine, EngineConfig, Failure, Message, Named, Outcome, PageAddress, Protocol, RequestId, limits,
};

const KEEPER: u16 = 2;

fn home() -> Subject {
    Subject::new(HOME, 4)
}

fn keeper() -> Subject {
    Subject::new(KEEPER, 4)
}

fn left(slot: u16, access: Access) -> Message {
    Message::RwLeave { lock: lock(), ticket: ticket(slot), access }
}

fn recall() -> Message {
    Message::RwRecall { lock: lock(), next: None }
}

/// The lock is called back, for this call to come next.
fn recall_for(to: u16, slot: u16) -> Message {
    Message::RwRecall { lock: lock(), next: Some((node(to), ticket(slot))) }
}

fn hold(slot: u16, access: Access) -> Message {
    Message::RwHold { lock: lock(), ticket: ticket(slot), access }
}

fn yielded() -> Message {
    Message::RwYield { lock: lock(), next: Named::Left }
}

/// A node that keeps the lock, and has it in call 1.
fn keeping(access: Access) -> Subject {
    let mut subject = keeper();
    subject.wants(1, lock(), access);
    assert_eq!(subject.hears(HOME, left(1, access)), [done(1)]);
    subject
}

#[test]
fn a_keepers_threads_take_it_and_give_it_back_among_themselves() {
    let mut subject = keeping(Write);
    assert_eq!(subject.wants(2, lock(), Read), []);
    assert_eq!(subject.wants(3, lock(), Read), []);
    assert_eq!(subject.wants(4, lock(), Write), []);
    assert_eq!(subject.tries_to(5, lock(), Read), [failed(5, Failure::Busy)], "a writer waits");
    assert_eq!(subject.gives_back(1, lock()), [done(2), done(3)]);
    assert_eq!(subject.wants(6, lock(), Read), [], "or the writer might wait for ever");
    assert_eq!(subject.gives_back(2, lock()), []);
    assert_eq!(subject.gives_back(3, lock()), [done(4)]);
    assert_eq!(subject.cancel(6), []);
    assert_eq!(subject.gives_back(4, lock()), []);
    assert_eq!(subject.tries_to(7, lock(), Write), [done(7)]);
    assert_eq!(subject.gives_back(7, lock()), []);
}

#[test]
fn readers_of_a_lock_that_is_kept_for_reading_ask_nobody_and_a_writer_gives_it_back_first() {
    let mut subject = keeping(Read);
    assert_eq!(subject.wants(2, lock(), Read), [done(2)]);
    assert_eq!(subject.gives_back(1, lock()), []);
    let asks = [send(HOME, hold(2, Read)), send(HOME, yielded()), send(HOME, acquire(3, Write))];
    assert_eq!(subject.wants(3, lock(), Write), asks);
    assert_eq!(subject.gives_back(2, lock()), [send(HOME, release(2))], "the home knows of it now");
    assert_eq!(subject.hears(HOME, left(3, Write)), [done(3)]);
}

#[test]
fn who_has_it_is_said_when_it_is_called_back() {
    let mut subject = keeping(Write);
    subject.wants(2, lock(), Read);
    subject.wants(3, lock(), Write);
    let answer = [
        send(HOME, hold(1, Write)),
        send(HOME, yielded()),
        send(HOME, acquire(2, Read)),
        send(HOME, acquire(3, Write)),
    ];
    assert_eq!(subject.hears(HOME, recall()), answer);
    assert_eq!(subject.hears(HOME, recall()), [], "it has answered");
    assert_eq!(subject.gives_back(1, lock()), [send(HOME, release(1))]);
    assert_eq!(subject.wants(4, lock(), Read), [send(HOME, acquire(4, Read))]);
}

#[test]
fn calls_that_were_on_their_way_are_the_keepers() {
    let mut subject = keeper();
    for (slot, access) in [(3, Write), (1, Read), (2, Read)] {
        subject.wants(slot, lock(), access);
    }
    assert_eq!(subject.cancel(3), [send(HOME, release(3))]);
    assert_eq!(
        subject.hears(HOME, left(3, Write)),
        [done(1), done(2)],
        "in the order in which they were made"
    );
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(3, Write)), [send(2, left(3, Write))]);
    assert_eq!(subject.hears(2, acquire(1, Read)), [], "the keeper knows of it");
    assert_eq!(subject.hears(2, release(3)), []);
    assert_eq!(subject.engine.load().rwlock_waiters, 0);
}

#[test]
fn a_writer_on_its_way_gives_back_what_was_left_for_reading() {
    let mut subject = keeper();
    subject.wants(1, lock(), Read);
    subject.wants(2, lock(), Write);
    subject.wants(3, lock(), Read);
    let answer = [
        done(1),
        send(HOME, hold(1, Read)),
        send(HOME, yielded()),
        send(HOME, acquire(2, Write)),
        send(HOME, acquire(3, Read)),
    ];
    assert_eq!(subject.hears(HOME, left(1, Read)), answer);
}

#[test]
fn the_home_leaves_it_with_readers_and_calls_all_back_for_a_writer() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1, Read)), [send(2, left(1, Read))]);
    assert_eq!(subject.hears(3, acquire(1, Read)), [send(3, left(1, Read))]);
    assert_eq!(subject.engine.load().rwlocks_left, 2);
    assert_eq!(subject.hears(0, acquire(1, Write)), [send(2, recall()), send(3, recall())]);
    let behind = subject.hears(0, acquire(2, Read));
    assert_eq!(behind, [send(0, next(1, 0, 2))], "behind the writer");
    assert_eq!(subject.hears(2, yielded()), []);
    assert_eq!(subject.hears(3, hold(1, Read)), []);
    assert_eq!(subject.hears(3, yielded()), [send(3, next(1, 0, 1))], "a reader has it");
    assert_eq!(subject.hears(3, release(1)), [send(0, granted(1))]);
    assert_eq!(subject.hears(0, release(1)), [send(0, left(2, Read))], "nobody stands in line any more");
    assert_eq!(subject.hears(0, yielded()), []);
    assert_eq!(subject.engine.load().rwlocks + subject.engine.load().rwlocks_left, 0);
}

#[test]
fn a_try_is_answered_when_the_keeper_has_answered() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    assert_eq!(subject.hears(3, attempt(1, Read)), [send(2, recall())]);
    assert_eq!(subject.hears(0, attempt(1, Write)), []);
    subject.hears(2, hold(1, Write));
    assert_eq!(subject.hears(2, yielded()), [send(3, busy(1)), send(0, busy(1))]);
    assert_eq!(subject.hears(3, attempt(2, Read)), [send(3, busy(2))], "now it is known here");
    subject.hears(2, release(1));
    assert_eq!(subject.hears(3, attempt(3, Read)), [send(3, left(3, Read))]);
    assert_eq!(subject.hears(0, acquire(4, Write)), [send(3, recall_for(0, 4))]);
    assert_eq!(subject.hears(2, attempt(4, Read)), [send(2, busy(4))], "a writer waits");
    assert_eq!(subject.hears(3, yielded()), [send(0, left(4, Write))]);
}

#[test]
fn what_was_written_is_told_with_a_lock_that_goes_back() {
    let mut subject = Subject::following(Protocol::Release, KEEPER, 4, HOME);
    subject.wants(1, lock(), Write);
    subject.hears(HOME, left(1, Write));
    subject.fault(2, Read);
    subject.hears(HOME, Message::Data { page: PAGE, request: RequestId(0), access: Read });
    subject.fault(3, Write);
    assert_eq!(subject.gives_back(1, lock()), [], "no interval ends while it stays");
    let answer = subject.hears(HOME, recall());
    assert!(matches!(answer[..], [Action::Protect(PAGE), Action::SendDiff { .. }, ..]), "{answer:?}");
    let first = PageAddress::new(REGION, PAGE.page);
    let told = [
        send(HOME, Message::Wrote { writer: node(KEEPER), interval: 1, first, count: 1 }),
        send(HOME, Message::Told { writer: node(KEEPER), interval: 1 }),
        send(HOME, yielded()),
    ];
    assert_eq!(answer[answer.len() - 3..], told);
}

#[test]
fn a_node_that_dies_with_a_kept_lock_may_have_written_if_it_was_left_for_that() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    subject.hears(0, acquire(1, Write));
    // The lost one may have let it in before, so that it has it already: it is not left with it.
    assert_eq!(subject.loses(2), [send(0, granted(1))], "readers leave nothing behind");
    subject.hears(0, release(1));
    assert_eq!(subject.hears(0, acquire(2, Write)), [send(0, left(2, Write))]);
    assert_eq!(subject.hears(3, acquire(1, Read)), [send(0, recall_for(3, 1))]);
    assert_eq!(subject.loses(0), [send(3, died(1, 0))]);
    assert_eq!(subject.hears(3, release(1)), []);
    assert_eq!(subject.hears(3, acquire(2, Write)), [send(3, died(2, 0))], "the first writer is told");
    subject.hears(3, release(2));
    assert_eq!(subject.hears(3, acquire(3, Write)), [send(3, left(3, Write))]);
}

#[test]
fn a_keeper_that_says_goodbye_gives_all_back() {
    let mut subject = keeping(Write);
    let farewell = subject.act(Engine::on_farewell);
    assert_eq!(farewell, [send(HOME, hold(1, Write)), send(HOME, yielded())]);
}

#[test]
fn without_its_home_a_kept_lock_is_nothing() {
    let lost = Failure::PeerLost(node(HOME));
    let mut subject = keeping(Write);
    subject.wants(2, lock(), Write);
    assert_eq!(subject.loses(HOME), [failed(2, lost)]);
    assert_eq!(subject.gives_back(1, lock()), []);
    assert_eq!(subject.wants(3, lock(), Read), [failed(3, lost)]);
    assert_eq!(subject.engine.load().rwlocks_kept, 0);
}

#[test]
fn a_node_keeps_so_many_and_no_more() {
    let config = EngineConfig { locks: 2, ..EngineConfig::new(node(KEEPER), 4) };
    let mut subject = Subject::configured(config);
    let leave = |place| Message::RwLeave { lock: numbered(place), ticket: ticket(9), access: Write };
    assert_eq!(subject.hears(HOME, leave(0)), []);
    assert_eq!(subject.hears(HOME, leave(1)), []);
    let back = subject.hears(HOME, leave(2));
    assert!(matches!(back[..], [Action::Send { message: Message::RwYield { .. }, .. }]), "{back:?}");
    assert_eq!(subject.engine.load().rwlocks_kept, 2);
}

/// Three nodes that held 65,536 locks each for reading never got further than this: what was given back for want of room was asked for, left here and
/// given back again, for ever.
#[test]
fn who_reads_more_than_is_kept_has_the_rest_from_the_home() {
    let mut subject = keeping(Read);
    for _ in 1..limits::READERS_KEPT {
        assert_eq!(subject.wants(2, lock(), Read), [done(2)]);
    }
    let leave = Message::RwLeave { lock: numbered(1), ticket: ticket(3), access: Read };
    assert_eq!(subject.wants(3, numbered(1), Read).len(), 1, "it asks the home");
    let hold = Message::RwHold { lock: numbered(1), ticket: ticket(3), access: Read };
    let back = [send(HOME, hold), send(HOME, Message::RwYield { lock: numbered(1), next: Named::Left })];
    assert_eq!(subject.hears(HOME, leave), [vec![done(3)], back.to_vec()].concat());
    // A lock that is kept, too: with all who have it.
    let said = subject.wants(4, lock(), Read);
    assert_eq!(said.len(), limits::READERS_KEPT + 2);
    assert_eq!(said[limits::READERS_KEPT..], [send(HOME, yielded()), send(HOME, acquire(4, Read))]);
    // From now on the home keeps it.
    assert_eq!(subject.hears(HOME, granted(4)), [done(4)]);
    assert_eq!(subject.wants(5, lock(), Read), [send(HOME, acquire(5, Read))]);
}

#[test]
fn a_home_leaves_nothing_with_who_has_given_back_as_much_as_can_be_kept() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1, Read)), [send(2, left(1, Read))]);
    for slot in 1..=limits::READERS_KEPT as u16 {
        assert_eq!(subject.hears(2, hold(slot, Read)), []);
    }
    assert_eq!(subject.hears(2, yielded()), []);
    let next = limits::READERS_KEPT as u16 + 1;
    assert_eq!(subject.hears(2, acquire(next, Read)), [send(2, granted(next))]);
    assert_eq!(subject.hears(3, acquire(1, Read)), [send(3, left(1, Read))], "others have room");
}

#[test]
fn what_is_left_takes_no_room_from_what_is_in_use() {
    let config = EngineConfig { locks: 1, rwlocks_left: 1, ..EngineConfig::new(node(HOME), 4) };
    let mut subject = Subject::configured(config);
    let ask = |place, slot| Message::RwAcquire {
        lock: numbered(place),
        ticket: ticket(slot),
        access: Write,
        waits: true,
    };
    let leave = Message::RwLeave { lock: numbered(0), ticket: ticket(1), access: Write };
    assert_eq!(subject.hears(2, ask(0, 1)), [send(2, leave)]);
    let grant = Message::RwGrant { lock: numbered(1), ticket: ticket(2), died: None };
    assert_eq!(subject.hears(2, ask(1, 2)), [send(2, grant)], "no more are left");
    assert_eq!(subject.hears(2, ask(2, 3)), [send(2, Message::SyncRefused { ticket: ticket(3) })]);
}

#[test]
fn what_no_keeper_and_no_home_would_say_is_refused() {
    let not_left = "the reader-writer lock is not left with it";
    assert_eq!(home().refuses(2, yielded()), not_left);
    assert_eq!(home().refuses(2, hold(1, Read)), not_left);
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    assert_eq!(subject.refuses(3, yielded()), not_left);
    let beside = "it cannot have the lock beside those who have it";
    assert_eq!(subject.refuses(2, hold(1, Write)), beside, "it is left for reading");
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(2, hold(1, Write));
    assert_eq!(subject.refuses(2, hold(2, Write)), beside);
    assert_eq!(subject.refuses(2, hold(2, Read)), beside);
    let not_home = "it is not the home of the reader-writer lock";
    assert_eq!(keeper().refuses(3, recall()), not_home);
    assert_eq!(keeper().refuses(3, left(1, Read)), not_home);
    assert_eq!(keeping(Read).refuses(HOME, left(2, Read)), "the lock was left here before");
    let not_here = "this node is not the home of the reader-writer lock";
    assert_eq!(keeper().refuses(3, yielded()), not_here);
    assert_eq!(keeper().refuses(3, hold(1, Read)), not_here);
    let told = Action::Complete { ticket: ticket(1), outcome: Outcome::OwnerDied(node(3)) };
    let mut subject = keeper();
    subject.wants(1, lock(), Read);
    assert_eq!(subject.hears(HOME, died(1, 3)), [told]);
}

#[test]
fn what_nobody_else_wants_is_no_call() {
    let mut subject = keeping(Write);
    let own = |number| pagemesh_protocol::Ticket::new(u16::MAX, number);
    let engine = &mut subject.engine;
    assert!(!engine.on_rw_retake(own(1), lock(), Read), "a writer has it");
    assert!(!engine.on_rw_keep(own(1), lock()), "this one has not");
    assert!(engine.on_rw_keep(ticket(1), lock()) && !engine.on_rw_keep(ticket(1), lock()));
    assert!(engine.on_rw_retake(own(2), lock(), Read) && engine.on_rw_retake(own(3), lock(), Read));
    assert!(!engine.on_rw_retake(own(4), lock(), Write) && !engine.on_rw_retake(own(4), numbered(1), Write));
    // Names go round: each of two gives back one.
    assert!(engine.on_rw_retake(own(2), lock(), Read) && engine.on_rw_keep(own(2), lock()));
    assert_eq!(subject.wants(5, lock(), Write), []);
    assert!(!subject.engine.on_rw_retake(own(5), lock(), Read), "a writer waits");
    assert!(!subject.engine.on_rw_keep(own(3), lock()), "somebody is to be let in");
    let (two, three) = (own(2), own(3));
    assert_eq!(subject.act(|engine, out| engine.on_rw_release(two, lock(), out)), []);
    assert_eq!(subject.act(|engine, out| engine.on_rw_release(three, lock(), out)), [done(5)]);
    let mut readers = keeping(Read);
    assert!(readers.engine.on_rw_retake(own(1), lock(), Read));
    assert!(!readers.engine.on_rw_retake(own(1), lock(), Write), "the home is to be asked");
}

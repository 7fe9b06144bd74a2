//! A reader-writer lock that lets readers overtake a writer starves it, one that lets a reader in beside a writer protects nothing, and
//! one that forgets a reader stays shut for ever. So readers share, everyone stands in one line, and whoever gives up or
//! dies makes room for the next.

mod common;

use common::rwlock::{
    HOME, acquire, attempt, busy, died, forget, forgotten, granted, lock, next, numbered, release,
};
use common::{Subject, done, failed, node, send, ticket};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{Action, EngineConfig, Failure, Message, Outcome, Ticket};

/// It leaves no lock with anyone: here everybody stands in its line.
fn home() -> Subject {
    Subject::configured(EngineConfig { rwlocks_left: 0, ..EngineConfig::new(node(HOME), 4) })
}

#[test]
fn a_taker_asks_the_home_and_waits() {
    let mut subject = Subject::new(2, 4);
    assert_eq!(subject.wants(1, lock(), Read), [send(HOME, acquire(1, Read))]);
    assert_eq!(subject.hears(HOME, granted(1)), [done(1)]);
    assert_eq!(subject.gives_back(1, lock()), [send(HOME, release(1))]);
    assert_eq!(subject.tries_to(2, lock(), Write), [send(HOME, attempt(2, Write))]);
    assert_eq!(subject.hears(HOME, busy(2)), [failed(2, Failure::Busy)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_home_takes_its_own_lock_without_a_message() {
    let mut subject = home();
    assert_eq!(subject.wants(1, lock(), Write), [done(1)]);
    assert_eq!(subject.gives_back(1, lock()), []);
    assert_eq!(subject.wants(2, lock(), Read), [done(2)]);
    assert_eq!(subject.wants(3, lock(), Read), [done(3)]);
}

#[test]
fn readers_share_and_a_writer_comes_in_when_all_have_gone() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1, Read)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, acquire(1, Read)), [send(3, granted(1))]);
    assert_eq!(subject.hears(0, acquire(1, Write)), []);
    assert_eq!(subject.hears(2, release(1)), [send(3, next(1, 0, 1))], "it has the lock alone now");
    assert_eq!(subject.hears(3, release(1)), [send(0, granted(1))]);
    assert_eq!(subject.hears(0, release(1)), []);
    assert_eq!(subject.engine.load().rwlocks, 0, "a free lock takes no room");
}

#[test]
fn a_reader_stands_behind_a_writer_that_waits() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    assert_eq!(subject.hears(3, acquire(1, Write)), [send(2, next(1, 3, 1))]);
    let waits = subject.hears(2, acquire(2, Read));
    assert_eq!(waits, [send(3, next(1, 2, 2))], "or the writer might wait for ever");
    assert_eq!(subject.hears(0, acquire(1, Read)), [send(3, next(1, 0, 1))]);
    assert_eq!(subject.hears(0, acquire(2, Write)), []);
    assert_eq!(subject.hears(2, acquire(3, Read)), [send(0, next(2, 2, 3))]);
    assert_eq!(subject.hears(2, release(1)), [send(3, granted(1))]);
    let both = [send(2, granted(2)), send(0, granted(1))];
    assert_eq!(subject.hears(3, release(1)), both, "the readers up to the next writer");
    assert_eq!(subject.hears(2, release(2)), [send(0, next(1, 0, 2))]);
    assert_eq!(subject.hears(0, release(1)), [send(0, granted(2))]);
    assert_eq!(subject.hears(0, release(2)), [send(2, granted(3))]);
}

#[test]
fn who_only_tries_overtakes_nobody() {
    let mut subject = home();
    assert_eq!(subject.hears(2, attempt(1, Read)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, attempt(1, Read)), [send(3, granted(1))]);
    assert_eq!(subject.hears(0, attempt(1, Write)), [send(0, busy(1))]);
    assert_eq!(subject.hears(0, acquire(2, Write)), []);
    assert_eq!(subject.hears(2, attempt(2, Read)), [send(2, busy(2))], "a writer waits");
    assert_eq!(subject.tries_to(3, lock(), Write), [failed(3, Failure::Busy)]);
    subject.hears(2, release(1));
    assert_eq!(subject.hears(3, release(1)), [send(0, granted(2))]);
    assert_eq!(subject.hears(2, attempt(3, Read)), [send(2, busy(3))]);
}

#[test]
fn a_release_by_anyone_but_a_holder_changes_nothing() {
    let mut subject = home();
    assert_eq!(subject.hears(2, release(1)), [], "a free lock");
    subject.hears(2, acquire(1, Read));
    subject.hears(3, acquire(2, Write));
    assert_eq!(subject.hears(0, release(1)), [], "another node with the holder's ticket");
    let earlier = Message::RwRelease { lock: lock(), ticket: Ticket::new(1, 0) };
    assert_eq!(subject.hears(2, earlier), [], "an earlier use of the holder's ticket");
    assert_eq!(subject.hears(2, release(1)), [send(3, granted(2))]);
    assert_eq!(subject.hears(2, release(1)), [], "a second release");
    assert_eq!(subject.hears(3, release(2)), []);
}

#[test]
fn a_caller_that_gives_up_says_so() {
    let mut subject = Subject::new(2, 4);
    subject.wants(1, lock(), Write);
    assert_eq!(subject.cancel(1), [send(HOME, release(1))]);
    assert_eq!(subject.hears(HOME, granted(1)), [], "the grant crossed the release");
    assert!(subject.engine.is_quiet());
}

#[test]
fn readers_behind_a_writer_that_gave_up_come_in() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    subject.hears(3, acquire(1, Write));
    subject.hears(0, acquire(1, Read));
    subject.hears(2, acquire(2, Read));
    assert_eq!(subject.hears(3, release(1)), [send(2, forget(1)), send(0, granted(1)), send(2, granted(2))]);
}

#[test]
fn readers_behind_a_writer_that_died_in_line_come_in() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    subject.hears(3, acquire(1, Write));
    subject.hears(0, acquire(1, Read));
    assert_eq!(
        subject.loses(3),
        [send(2, forget(1))],
        "did the one that died have it from that reader, and write?"
    );
    assert_eq!(subject.hears(2, forgotten(1)), [send(0, granted(1))], "it did not");
}

#[test]
fn a_reader_that_dies_leaves_nothing_behind() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    subject.hears(2, acquire(2, Read));
    subject.hears(3, acquire(1, Write));
    assert_eq!(subject.loses(2), [send(3, granted(1))]);
}

#[test]
fn all_are_told_of_a_dead_writer_up_to_the_next_writer() {
    let mut subject = home();
    subject.hears(3, acquire(1, Write));
    subject.hears(2, acquire(1, Read));
    subject.hears(0, acquire(1, Read));
    assert_eq!(subject.loses(3), [send(2, died(1, 3)), send(0, died(1, 3))]);
    subject.hears(2, release(1));
    assert_eq!(subject.hears(0, release(1)), []);
    assert_eq!(subject.engine.load().rwlocks, 1, "the news is kept for the next");
    assert_eq!(subject.hears(2, attempt(2, Read)), [send(2, died(2, 3))]);
    subject.hears(2, release(2));
    assert_eq!(subject.hears(0, acquire(2, Write)), [send(0, died(2, 3))]);
    subject.hears(0, release(2));
    assert_eq!(subject.hears(2, acquire(3, Read)), [send(2, granted(3))], "a writer was told");
}

#[test]
fn a_caller_learns_that_the_writer_died() {
    let mut subject = Subject::new(2, 4);
    subject.wants(1, lock(), Read);
    let told = Action::Complete { ticket: ticket(1), outcome: Outcome::OwnerDied(node(3)) };
    assert_eq!(subject.hears(HOME, died(1, 3)), [told]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_lock_whose_home_is_lost_fails_those_who_wait_and_those_who_come() {
    let mut subject = Subject::new(2, 4);
    let lost = Failure::PeerLost(node(HOME));
    subject.wants(1, lock(), Read);
    assert_eq!(subject.loses(HOME), [failed(1, lost)]);
    assert_eq!(subject.wants(2, lock(), Write), [failed(2, lost)]);
    assert_eq!(subject.gives_back(3, lock()), [], "nobody is left to be told");
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_full_table_refuses_new_locks_and_keeps_the_old() {
    let mut subject =
        Subject::configured(EngineConfig { locks: 1, rwlocks_left: 0, ..EngineConfig::new(node(HOME), 4) });
    let other = numbered(1);
    subject.hears(2, acquire(1, Write));
    let asked = Message::RwAcquire { lock: other, ticket: ticket(9), access: Read, waits: true };
    assert_eq!(subject.hears(3, asked), [send(3, Message::SyncRefused { ticket: ticket(9) })]);
    let full = Failure::Limit("too many locks or barriers in use at one home");
    assert_eq!(subject.wants(1, other, Read), [failed(1, full)]);
    let waits = subject.hears(3, acquire(2, Read));
    assert_eq!(waits, [send(2, next(1, 3, 2))], "the lock in use can be waited for");
}

#[test]
fn only_the_home_is_asked_and_only_the_home_answers() {
    let mut subject = Subject::new(2, 4);
    let not_home = "this node is not the home of the reader-writer lock";
    assert_eq!(subject.refuses(3, acquire(1, Read)), not_home);
    assert_eq!(subject.refuses(3, release(1)), not_home);
    assert_eq!(subject.refuses(3, busy(1)), "it is not the one to answer this");
    let strange = "the node that was lost with the lock is not a member of the mesh";
    assert_eq!(subject.refuses(3, died(1, 9)), strange);
}

/// Names of calls go round, and who reads for long may get one that somebody of its node has had since.
#[test]
fn two_readers_of_one_name_are_two() {
    let mut subject = home();
    assert_eq!(subject.hears(2, acquire(1, Read)), [send(2, granted(1))]);
    assert_eq!(subject.hears(2, acquire(1, Read)), [send(2, granted(1))]);
    assert_eq!(subject.hears(3, acquire(2, Write)), []);
    assert_eq!(subject.hears(2, release(1)), [send(2, next(1, 3, 2))], "one is left");
    assert_eq!(subject.hears(2, release(1)), [send(3, granted(2))]);
}

//! Who waits for a reader-writer lock is to have it one message after it was given back, not two: so the holder knows who comes next, and lets that one
//! in itself. Then nobody but the holder knows at once who has the lock. Whatever is lost or overtaken meanwhile, the home must not think that somebody
//! has it who has not, must not forget anyone, and must tell of a writer that died; and what was written must be told with the lock.

mod common;

use common::rwlock::{
    HOME, acquire, attempt, busy, died, forget, forgotten, granted, lock, next, passed, release,
};
use common::{PAGE, REGION, Subject, done, node, send, ticket};
use pagemesh_protocol::Access::{self, Read, Write};
use pagemesh_protocol::{
    Action, EngineConfig, Message, Named, Outcome, PageAddress, Protocol, RequestId, limits,
};

const HOLDER: u16 = 2;

/// It leaves no lock with anyone at first.
fn home() -> Subject {
    Subject::configured(EngineConfig { rwlocks_left: 0, ..EngineConfig::new(node(HOME), 4) })
}

/// A node that has the lock in call 1.
fn holder(access: Access) -> Subject {
    let mut subject = Subject::new(HOLDER, 4);
    subject.wants(1, lock(), access);
    assert_eq!(subject.hears(HOME, granted(1)), [done(1)]);
    subject
}

fn cut(subject: &mut Subject, from: u16, lost: u16) -> Vec<Action> {
    subject.hears(from, Message::LockCut { node: node(lost) }).into_iter().collect()
}

#[test]
fn a_holder_lets_those_in_that_were_named_and_says_how_many() {
    let mut subject = holder(Write);
    assert_eq!(subject.hears(HOME, next(1, 3, 7)), []);
    assert_eq!(subject.hears(HOME, next(1, 0, 8)), []);
    let let_in = [send(3, granted(7)), send(0, granted(8)), send(HOME, passed(1, 2))];
    assert_eq!(subject.gives_back(1, lock()), let_in);
    assert_eq!(subject.hears(HOME, next(1, 3, 9)), [], "it is through");
    assert_eq!((subject.engine.load().rwlocks_held, subject.engine.load().rwlocks_handed), (0, 0));
}

#[test]
fn one_that_waits_hears_of_the_next_and_takes_the_lock_from_anyone() {
    let mut subject = Subject::new(HOLDER, 4);
    subject.wants(1, lock(), Write);
    subject.hears(HOME, next(1, 3, 7));
    assert_eq!(subject.hears(0, granted(1)), [done(1)]);
    assert_eq!(subject.hears(HOME, granted(1)), [], "once more, lest it was lost");
    assert_eq!(subject.gives_back(1, lock()), [send(3, granted(7)), send(HOME, passed(1, 1))]);
    // One that gave up lets nobody in.
    subject.wants(2, lock(), Write);
    subject.hears(HOME, next(2, 3, 8));
    assert_eq!(subject.cancel(2), [send(HOME, release(2))]);
    assert_eq!(subject.hears(0, granted(2)), []);
    assert_eq!(subject.engine.load().rwlocks_held, 0);
}

#[test]
fn who_is_lost_to_the_holder_is_not_let_in_by_it_nor_are_those_after_it() {
    let mut subject = holder(Write);
    subject.hears(HOME, next(1, 0, 7));
    subject.hears(HOME, next(1, 3, 8));
    subject.loses(0);
    assert_eq!(subject.gives_back(1, lock()), [send(HOME, release(1))]);
}

#[test]
fn what_was_forgotten_is_let_in_by_nobody_and_that_is_said() {
    let mut subject = holder(Read);
    subject.hears(HOME, next(1, 3, 7));
    assert_eq!(subject.hears(HOME, forget(1)), [send(HOME, forgotten(1))]);
    assert_eq!(subject.gives_back(1, lock()), [send(HOME, release(1))]);
    assert_eq!(subject.hears(HOME, forget(1)), [send(HOME, forgotten(1))], "nobody minds");
}

#[test]
fn news_of_a_dead_writer_go_on_with_readers() {
    let mut subject = Subject::new(HOLDER, 4);
    subject.wants(1, lock(), Read);
    let told = Action::Complete { ticket: ticket(1), outcome: Outcome::OwnerDied(node(3)) };
    assert_eq!(subject.hears(HOME, died(1, 3)), [told]);
    subject.hears(HOME, next(1, 0, 7));
    assert_eq!(subject.gives_back(1, lock()), [send(0, died(7, 3)), send(HOME, passed(1, 1))]);
}

#[test]
fn what_was_written_goes_with_the_lock_to_the_next_and_to_the_home() {
    let mut subject = Subject::following(Protocol::Release, HOLDER, 4, HOME);
    subject.wants(1, lock(), Write);
    subject.hears(HOME, granted(1));
    subject.hears(HOME, next(1, 3, 7));
    subject.fault(2, Read);
    subject.hears(HOME, Message::Data { page: PAGE, request: RequestId(0), access: Read });
    subject.fault(3, Write);
    let first = PageAddress::new(REGION, PAGE.page);
    let tells = |to| {
        let wrote = Message::Wrote { writer: node(HOLDER), interval: 1, first, count: 1 };
        [send(to, wrote), send(to, Message::Told { writer: node(HOLDER), interval: 1 })]
    };
    let answer = subject.gives_back(1, lock());
    let mut said = Vec::from(tells(3));
    said.push(send(3, granted(7)));
    said.extend(tells(HOME));
    said.push(send(HOME, passed(1, 1)));
    assert_eq!(answer[answer.len() - said.len()..], said);
}

#[test]
fn the_home_names_who_stands_behind_one_that_has_the_lock_alone() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    assert_eq!(subject.hears(3, acquire(1, Write)), [send(2, next(1, 3, 1))]);
    assert_eq!(subject.hears(0, acquire(1, Read)), [send(3, next(1, 0, 1))]);
    assert_eq!(subject.hears(2, acquire(2, Read)), [send(3, next(1, 2, 2))], "they come in together");
    assert_eq!(subject.hears(0, acquire(2, Write)), [], "readers are gathered");
    assert_eq!(subject.hears(3, attempt(9, Read)), [send(3, busy(9))]);
    assert_eq!(subject.hears(2, passed(1, 1)), [], "3 has it");
    assert_eq!(subject.hears(3, passed(1, 2)), []);
    assert_eq!(subject.hears(0, release(1)), [send(2, next(2, 0, 2))], "one is left");
    assert_eq!(subject.hears(2, passed(2, 1)), []);
    assert_eq!(subject.hears(0, release(2)), []);
    assert_eq!((subject.engine.load().rwlocks, subject.engine.load().rwlock_names), (0, 0));
}

/// Or the writer behind a reader would be let in by that one, and a reader that the home lets in beside it later would not know of it.
#[test]
fn nobody_is_named_to_a_reader_that_waits() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    subject.hears(3, acquire(1, Write));
    assert_eq!(subject.hears(0, acquire(1, Read)), [send(3, next(1, 0, 1))]);
    assert_eq!(subject.hears(3, acquire(2, Write)), []);
    assert_eq!(subject.hears(3, release(1)), [send(2, forget(1)), send(0, granted(1))], "two read now");
}

#[test]
fn the_own_calls_of_a_home_are_let_in_by_it() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    assert_eq!(subject.wants(1, lock(), Write), []);
    assert_eq!(subject.hears(3, acquire(1, Write)), [], "a hop from the home is one hop as it is");
    assert_eq!(subject.hears(2, release(1)), [done(1)]);
    assert_eq!(subject.gives_back(1, lock()), [send(3, granted(1))]);
}

#[test]
fn who_lets_others_in_before_the_home_has_heard_that_it_has_the_lock_is_through_when_it_has() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    subject.hears(0, acquire(1, Write));
    assert_eq!(subject.hears(3, passed(1, 1)), [], "2 has not said yet that it let 3 in");
    assert_eq!(subject.hears(2, passed(1, 1)), []);
    assert_eq!(subject.hears(2, acquire(2, Write)), [send(0, next(1, 2, 2))], "0 has it");
}

#[test]
fn one_that_gave_up_and_is_let_in_all_the_same_has_nothing() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    subject.hears(0, acquire(1, Write));
    assert_eq!(subject.hears(3, release(1)), [send(2, forget(1))]);
    assert_eq!(subject.hears(2, passed(1, 1)), [send(0, granted(1))], "it crossed that");
    assert_eq!(subject.hears(2, forgotten(1)), []);
}

#[test]
fn others_are_named_anew_when_what_was_named_is_forgotten() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    assert_eq!(subject.hears(0, acquire(1, Write)), [send(3, next(1, 0, 1))]);
    assert_eq!(subject.hears(3, release(1)), [send(2, forget(1))]);
    assert_eq!(subject.hears(2, forgotten(1)), [send(2, next(1, 0, 1))]);
    assert_eq!(subject.hears(2, passed(1, 1)), []);
}

#[test]
fn of_a_holder_that_dies_nobody_knows_whom_it_let_in_and_so_all_are_let_in_once_more() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Read));
    subject.hears(0, acquire(1, Read));
    assert_eq!(subject.loses(2), [send(3, died(1, 2)), send(0, died(1, 2))]);
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    subject.hears(2, passed(1, 1));
    assert_eq!(subject.loses(2), [send(3, granted(1))], "its grant may be lost with it");
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(0, acquire(1, Read)), [send(0, died(1, 3))]);
}

#[test]
fn of_a_lost_one_that_was_let_in_all_are_told() {
    let mut subject = home();
    subject.hears(2, acquire(1, Read));
    subject.hears(3, acquire(1, Write));
    assert_eq!(subject.loses(3), [send(2, forget(1))]);
    assert_eq!(subject.hears(0, acquire(1, Read)), [], "whether it had the lock is not known yet");
    assert_eq!(subject.hears(2, passed(1, 1)), [send(0, died(1, 3))]);
}

#[test]
fn where_a_connection_is_broken_the_home_lets_in_itself() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    assert_eq!(cut(&mut subject, 3, 2), [], "2 may have it still");
    assert_eq!(subject.hears(2, passed(1, 1)), [send(3, granted(1))]);
    assert_eq!(subject.hears(2, acquire(2, Write)), [], "the two are not named to each other any more");
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    subject.hears(2, passed(1, 1));
    assert_eq!(cut(&mut subject, 3, 2), [send(3, granted(1))]);
    let mut subject = Subject::new(HOLDER, 4);
    subject.wants(1, lock(), Write);
    assert_eq!(subject.loses(3), [send(HOME, Message::LockCut { node: node(3) })]);
}

#[test]
fn a_keeper_lets_the_next_in_or_its_only_call_does() {
    let call_back = Message::RwRecall { lock: lock(), next: Some((node(3), ticket(7))) };
    let back = |next| Message::RwYield { lock: lock(), next };
    let keeper = || {
        let mut subject = Subject::new(HOLDER, 4);
        subject.wants(1, lock(), Write);
        let left = Message::RwLeave { lock: lock(), ticket: ticket(1), access: Write };
        assert_eq!(subject.hears(HOME, left), [done(1)]);
        subject
    };
    let mut subject = keeper();
    subject.gives_back(1, lock());
    let straight = [send(3, granted(7)), send(HOME, back(Named::LetIn))];
    assert_eq!(subject.hears(HOME, call_back), straight);
    let mut subject = keeper();
    let hold = Message::RwHold { lock: lock(), ticket: ticket(1), access: Write };
    let kept = [send(HOME, hold), send(HOME, back(Named::KeptInMind))];
    assert_eq!(subject.hears(HOME, call_back), kept);
    assert_eq!(subject.gives_back(1, lock()), [send(3, granted(7)), send(HOME, passed(1, 1))]);
}

/// After a hand-over the lock is where it was taken last, as any that nobody else wants.
#[test]
fn the_last_to_be_let_in_keeps_the_lock() {
    let left = |slot| Message::RwLeave { lock: lock(), ticket: ticket(slot), access: Write };
    let mut subject = Subject::new(HOME, 4);
    assert_eq!(subject.hears(2, acquire(1, Write)), [send(2, left(1))]);
    let call_back = Message::RwRecall { lock: lock(), next: Some((node(3), ticket(1))) };
    assert_eq!(subject.hears(3, acquire(1, Write)), [send(2, call_back)]);
    let let_in = Message::RwYield { lock: lock(), next: Named::LetIn };
    assert_eq!(subject.hears(2, let_in), [send(3, left(1))]);
    assert_eq!(subject.hears(3, release(1)), [], "it was given back before it heard of that");
    assert_eq!((subject.engine.load().rwlocks, subject.engine.load().rwlocks_left), (0, 1));
    // Who has it when it is left goes on having it.
    let mut subject = holder(Write);
    assert_eq!(subject.hears(HOME, left(1)), []);
    assert_eq!(subject.tries_to(2, lock(), Read), [common::failed(2, pagemesh_protocol::Failure::Busy)]);
    assert_eq!(subject.gives_back(1, lock()), []);
    assert_eq!(subject.wants(3, lock(), Write), [done(3)]);
}

#[test]
fn what_nobody_would_say_is_refused() {
    let mut subject = home();
    subject.hears(2, acquire(1, Write));
    subject.hears(3, acquire(1, Write));
    assert_eq!(subject.refuses(2, passed(1, 2)), "it let in more calls than were named to it");
    let mut subject = holder(Write);
    assert_eq!(subject.refuses(3, next(1, 0, 1)), "it is not the home of the reader-writer lock");
    assert_eq!(subject.refuses(3, passed(1, 1)), "this node is not the home of the reader-writer lock");
    let strange = "the next to have the reader-writer lock is no node of the mesh";
    assert_eq!(subject.refuses(HOME, next(1, 9, 1)), strange);
    for slot in 0..limits::RWLOCK_NAMED as u16 {
        subject.hears(HOME, next(1, 0, slot));
    }
    assert_eq!(subject.refuses(HOME, next(1, 0, 9)), "it names more calls at a time than a home does");
    let mut subject = Subject::new(HOME, 4);
    subject.hears(2, acquire(1, Write));
    let straight = Message::RwYield { lock: lock(), next: Named::LetIn };
    assert_eq!(subject.refuses(2, straight), "nobody can have the lock straight from it");
}

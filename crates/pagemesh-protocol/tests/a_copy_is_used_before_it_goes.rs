//! A thread that gets a page and finds it gone asks again, and may ask for ever while others pass the page around. So a
//! copy that completed calls stays until their threads have gone on; what others want of it waits that long, is then met in
//! the order in which it came, and never later than the next word of the home about the page. Here the threads go on only
//! when the test says so.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, Subject, at_rest, data, done, fetch, grant, node, report, request,
    send, send_page, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{Action, DirectoryState, PageState, Protocol};

const HOME: u16 = 1;
const THIS: u16 = 2;
const OTHER: u16 = 4;

/// A node whose threads are slow, but for what it has done before.
fn slow(mut subject: Subject) -> Subject {
    subject.slow_threads = true;
    subject
}

fn holder() -> Subject {
    slow(Subject::mapped(THIS, 8, HOME))
}

/// Node 2 with a writable copy that completed the call of slot 1.
fn writer() -> Subject {
    let mut subject = holder();
    subject.fault(1, Write);
    assert_eq!(subject.hears(HOME, zero_grant(0, Write)).last(), Some(&done(1)));
    subject
}

/// Node 2 with a readable copy that completed the call of slot 1.
fn reader() -> Subject {
    let mut subject = holder();
    subject.fault(1, Read);
    assert_eq!(subject.hears(HOME, data(0, Read)).last(), Some(&done(1)));
    subject
}

#[test]
fn a_fetch_waits_for_the_thread_that_got_the_page() {
    for (access, taken) in [(Read, Action::Protect(PAGE)), (Write, Action::Unmap(PAGE))] {
        let mut subject = writer();
        assert_eq!(subject.hears(HOME, fetch(70, access, OTHER)), []);
        assert!(subject.engine.is_postponed(PAGE));
        assert_eq!(subject.state(), PageState::Modified);
        assert_eq!(subject.postponed(), [], "the thread has not gone on");
        assert_eq!(subject.resumes(1), [Action::Postpone]);
        assert_eq!(subject.state(), PageState::Modified, "and is given time");
        assert_eq!(subject.postponed(), [taken, send_page(OTHER, data(70, access))]);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn an_invalidation_waits_too() {
    let mut subject = reader();
    assert_eq!(subject.hears(HOME, INVALIDATE), []);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_page_that_was_used_goes_at_once() {
    let mut subject = writer();
    assert_eq!(subject.resumes(1), []);
    assert_eq!(
        subject.hears(HOME, fetch(70, Write, OTHER)),
        [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]
    );
}

#[test]
fn all_threads_that_got_the_page_are_waited_for() {
    let mut subject = holder();
    for slot in 1..=3 {
        subject.fault(slot, Read);
    }
    subject.hears(HOME, data(0, Read));
    assert_eq!(subject.hears(HOME, INVALIDATE), []);
    assert_eq!(subject.resumes(2), []);
    assert_eq!(subject.cancel(3), [], "to give up is to go on");
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
}

#[test]
fn to_touch_a_wanted_page_again_does_not_hold_it() {
    let mut subject = writer();
    subject.hears(HOME, fetch(70, Write, OTHER));
    assert_eq!(subject.fault(2, Write), [Action::MapWrite(PAGE), done(2)]);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]);
    assert_eq!(subject.resumes(2), []);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_prefetched_page_is_not_held() {
    let mut subject = holder();
    let asked = subject.act(|engine, out| engine.on_prefetch(ticket(1), PAGE, Write, out));
    assert_eq!(asked, [send(HOME, request(0, Write))]);
    subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(
        subject.hears(HOME, fetch(70, Write, OTHER)),
        [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_thread_that_failed_holds_nothing() {
    let mut subject = holder();
    subject.fault(1, Read);
    subject.hears(HOME, common::deny(0, 3));
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.resumes(1), []);
}

#[test]
fn what_the_home_says_next_comes_after_what_it_said_before() {
    // The requester of the fetch was lost: its home goes on and grants this node's own upgrade.
    let mut subject = reader();
    assert_eq!(subject.fault(2, Write), [send(HOME, request(1, Write))]);
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), []);
    assert_eq!(
        subject.hears(HOME, grant(1, Write)),
        [send_page(OTHER, data(70, Read)), Action::Unprotect(PAGE), done(2)],
        "else the late fetch would take the right to write that the home has just given"
    );
    assert_eq!(subject.state(), PageState::Modified);
    assert_eq!((subject.resumes(1), subject.resumes(2)), (vec![], vec![]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn demands_of_one_page_are_met_in_their_order() {
    let mut subject = reader();
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), []);
    assert_eq!(subject.hears(HOME, fetch(71, Write, 5)), []);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.hears(HOME, fetch(72, Write, 6)), [], "not before those that came before");
    assert_eq!(
        subject.postponed(),
        [send_page(OTHER, data(70, Read)), Action::Unmap(PAGE), send_page(5, data(71, Write))],
        "a copy that is gone cannot be sent"
    );
}

#[test]
fn a_lost_home_wants_nothing_any_more() {
    let mut subject = writer();
    subject.hears(HOME, fetch(70, Write, OTHER));
    assert_eq!(subject.loses(HOME), []);
    assert_eq!(subject.resumes(1), []);
    assert_eq!(subject.postponed(), []);
    assert_eq!(subject.state(), PageState::Modified, "copies that are held stay");
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_home_that_wants_more_than_it_can_have_under_way_is_refused() {
    let mut subject = writer();
    let mut accepted = 0;
    let view = subject.engine.view();
    let refused = loop {
        let mut out = Vec::new();
        match subject.engine.on_message(node(HOME), view, &fetch(accepted, Write, OTHER), &mut out) {
            Ok(()) => accepted += 1,
            Err(violation) => break violation.what,
        }
        assert!(accepted < 1000, "demands are bounded");
    };
    assert_eq!(refused, "more is wanted of one copy than a home can have under way");
}

// A home's own copy.

/// A home that wrote the page by the call of slot 1, and the requests that came before its thread went on.
fn busy_home(protocol: Protocol, requests: &[u16]) -> Subject {
    let mut subject = slow(Subject::following(protocol, HOME, 8, HOME));
    assert_eq!(subject.fault(1, Write), [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(1)]);
    for number in requests {
        assert_eq!(subject.hears(*number, request(*number as u32, Write)), []);
    }
    assert_eq!(subject.state(), PageState::Modified);
    subject
}

#[test]
fn a_home_uses_its_own_page_before_it_serves_the_next() {
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration] {
        let mut subject = busy_home(protocol, &[2, 3]);
        assert_eq!(subject.resumes(1), [Action::Postpone]);
        assert_eq!(
            subject.postponed(),
            [Action::Unmap(PAGE), send_page(2, data(2, Write)), send(2, fetch(3, Write, 3))]
        );
        assert_eq!(subject.hears(3, report(3, true)), []);
        assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(3)), &[3]));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_home_that_waited_its_turn_has_the_page_though_others_wait() {
    let mut subject = slow(Subject::following(Protocol::Migration, HOME, 8, HOME));
    subject.hears(3, request(30, Write));
    assert_eq!(subject.fault(1, Read), [send(3, fetch(0, Write, HOME))]);
    assert_eq!(subject.hears(4, request(40, Write)), []);
    assert_eq!(subject.hears(3, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.state(), PageState::Modified, "not taken by the message that brought it");
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send_page(4, data(40, Write))]);
}

#[test]
fn those_for_whom_a_home_lingers_may_be_lost() {
    let mut subject = busy_home(Protocol::WriteInvalidate, &[2, 3, 4]);
    assert_eq!(subject.loses(2), []);
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send_page(4, data(4, Write))]);
    assert!(subject.engine.is_quiet());

    let mut subject = busy_home(Protocol::WriteInvalidate, &[2]);
    assert_eq!(subject.loses(2), []);
    assert!(!subject.engine.is_quiet(), "its own thread has not gone on");
    subject.resumes(1);
    assert_eq!(subject.postponed(), []);
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.state(), PageState::Modified, "nobody is there to have it");
}

#[test]
fn a_home_that_is_a_reader_is_waited_for_when_another_writes() {
    let mut subject = slow(Subject::mapped(HOME, 8, HOME));
    subject.fault(1, Read);
    assert_eq!(subject.hears(2, request(20, Write)), []);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send_page(2, data(20, Write))]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
}

#[test]
fn a_ticket_that_waits_for_something_else_goes_on_waiting() {
    let mut subject = holder();
    subject.fault(1, Read);
    assert_eq!(subject.resumes(1), []);
    assert_eq!(subject.hears(HOME, data(0, Read)).last(), Some(&done(1)));
}

//! A holder that takes or gives a right in another order than its table says shows the application a stale page, or
//! lets two nodes write at once; nobody would notice before the numbers are wrong. So every row is checked with the
//! whole list of its actions: each test sets a state, makes one call, and compares all that it asks for.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, Subject, data, deny, done, failed, fetch, grant, nodes, recall, report,
    request, send, send_page, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{Action, DirectoryState, Failure, Message, PageState};

const HOME: u16 = 1;
const THIS: u16 = 2;
const OWNER: u16 = 3;
const OTHER: u16 = 4;

/// This node, which has no copy.
fn invalid() -> Subject {
    Subject::mapped(THIS, 5, HOME)
}

/// This node with a readable copy; its request 0 is over.
fn shared() -> Subject {
    let mut subject = invalid();
    subject.fault(900, Read);
    subject.hears(HOME, data(0, Read));
    assert_eq!(subject.state(), PageState::Shared);
    subject
}

/// This node with a writable copy; its request 0 is over.
fn modified() -> Subject {
    let mut subject = invalid();
    subject.fault(900, Write);
    subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(subject.state(), PageState::Modified);
    subject
}

#[test]
fn a_read_of_an_invalid_page_asks_the_home() {
    let mut subject = invalid();
    assert_eq!(subject.fault(1, Read), [send(HOME, request(0, Read))]);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_write_to_an_invalid_page_asks_the_home_once_for_everything() {
    let mut subject = invalid();
    assert_eq!(subject.fault(1, Write), [send(HOME, request(0, Write))]);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_read_of_a_shared_page_is_served_on_the_spot() {
    let mut subject = shared();
    assert_eq!(subject.fault(1, Read), [Action::MapRead(PAGE), done(1)]);
    assert_eq!(subject.state(), PageState::Shared);
}

#[test]
fn a_write_to_a_shared_page_asks_for_the_upgrade_and_keeps_reading() {
    let mut subject = shared();
    assert_eq!(subject.fault(1, Write), [send(HOME, request(1, Write))]);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.fault(2, Read), [Action::MapRead(PAGE), done(2)]);
}

#[test]
fn any_access_to_a_modified_page_is_served_on_the_spot() {
    for access in [Read, Write] {
        let mut subject = modified();
        assert_eq!(subject.fault(1, access), [Action::MapWrite(PAGE), done(1)]);
        assert_eq!(subject.state(), PageState::Modified);
    }
}

#[test]
fn bytes_from_the_home_are_used_without_a_report() {
    for (access, map, state) in [
        (Read, Action::MapRead(PAGE), PageState::Shared),
        (Write, Action::MapWrite(PAGE), PageState::Modified),
    ] {
        let mut subject = invalid();
        subject.fault(1, access);
        assert_eq!(subject.hears(HOME, data(0, access)), [Action::Fill(PAGE), map, done(1)]);
        assert_eq!(subject.state(), state);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn bytes_from_an_owner_are_reported_to_the_home() {
    for (access, map, state) in [
        (Read, Action::MapRead(PAGE), PageState::Shared),
        (Write, Action::MapWrite(PAGE), PageState::Modified),
    ] {
        let mut subject = invalid();
        subject.fault(1, access);
        assert_eq!(
            subject.hears(OWNER, data(0, access)),
            [Action::Fill(PAGE), map, send(HOME, report(0, true)), done(1)]
        );
        assert_eq!(subject.state(), state);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_zero_grant_makes_the_page_zero_before_anyone_can_see_it() {
    for (access, map, state) in [
        (Read, Action::MapRead(PAGE), PageState::Shared),
        (Write, Action::MapWrite(PAGE), PageState::Modified),
    ] {
        let mut subject = invalid();
        subject.fault(1, access);
        assert_eq!(subject.hears(HOME, zero_grant(0, access)), [Action::FillZero(PAGE), map, done(1)]);
        assert_eq!(subject.state(), state);
    }
}

#[test]
fn a_granted_upgrade_keeps_the_bytes() {
    let mut subject = shared();
    subject.fault(1, Write);
    assert_eq!(subject.hears(HOME, grant(1, Write)), [Action::Unprotect(PAGE), done(1)]);
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_denied_access_fails_and_says_with_whom_the_page_went() {
    let mut subject = invalid();
    subject.fault(1, Read);
    assert_eq!(subject.hears(HOME, deny(0, OWNER)), [failed(1, Failure::PageLost(common::node(OWNER)))]);
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.fault(2, Read), [send(HOME, request(1, Read))], "the page may be asked for again");
}

#[test]
fn a_copy_to_be_dropped_is_unmapped_before_the_home_hears_of_it() {
    let mut subject = shared();
    assert_eq!(subject.hears(HOME, INVALIDATE), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_shared_copy_is_sent_to_a_reader_and_kept() {
    let mut subject = shared();
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [send_page(OTHER, data(70, Read))]);
    assert_eq!(subject.state(), PageState::Shared);
}

#[test]
fn a_modified_copy_is_write_protected_before_a_reader_gets_it() {
    let mut subject = modified();
    assert_eq!(
        subject.hears(HOME, fetch(70, Read, OTHER)),
        [Action::Protect(PAGE), send_page(OTHER, data(70, Read))]
    );
    assert_eq!(subject.state(), PageState::Shared);
}

#[test]
fn a_copy_is_unmapped_before_a_writer_gets_it() {
    for mut subject in [shared(), modified()] {
        assert_eq!(
            subject.hears(HOME, fetch(70, Write, OTHER)),
            [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]
        );
        assert_eq!(subject.state(), PageState::Invalid);
    }
}

#[test]
fn an_upgrade_that_lost_the_race_gets_the_new_bytes() {
    let mut subject = shared();
    subject.fault(1, Write);
    assert_eq!(subject.hears(HOME, INVALIDATE), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
    assert_eq!(
        subject.hears(OWNER, data(1, Write)),
        [Action::Fill(PAGE), Action::MapWrite(PAGE), send(HOME, report(1, true)), done(1)]
    );
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn an_owner_that_waits_for_an_upgrade_still_supplies() {
    let mut subject = shared();
    subject.fault(1, Write);
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [send_page(OTHER, data(70, Read))]);
    assert_eq!(
        subject.hears(HOME, fetch(71, Write, OTHER)),
        [Action::Unmap(PAGE), send_page(OTHER, data(71, Write))]
    );
    assert_eq!(
        subject.hears(OTHER, data(1, Write)),
        [Action::Fill(PAGE), Action::MapWrite(PAGE), send(HOME, report(1, true)), done(1)]
    );
}

#[test]
fn threads_that_want_the_same_page_share_one_request() {
    let mut subject = invalid();
    assert_eq!(subject.fault(1, Read), [send(HOME, request(0, Read))]);
    assert_eq!(subject.fault(2, Read), []);
    assert_eq!(subject.fault(3, Read), []);
    assert_eq!(
        subject.hears(HOME, data(0, Read)),
        [Action::Fill(PAGE), Action::MapRead(PAGE), done(3), done(2), done(1)]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_reader_that_joins_a_writer_is_served_with_it() {
    let mut subject = invalid();
    subject.fault(1, Write);
    assert_eq!(subject.fault(2, Read), []);
    assert_eq!(
        subject.hears(HOME, zero_grant(0, Write)),
        [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(2), done(1)]
    );
}

#[test]
fn writers_that_joined_a_reader_ask_for_the_upgrade_together() {
    let mut subject = invalid();
    subject.fault(1, Read);
    assert_eq!(subject.fault(2, Write), []);
    assert_eq!(subject.fault(3, Write), []);
    assert_eq!(
        subject.hears(OWNER, data(0, Read)),
        [
            Action::Fill(PAGE),
            Action::MapRead(PAGE),
            send(HOME, report(0, true)),
            done(1),
            send(HOME, request(1, Write)),
        ]
    );
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.hears(HOME, grant(1, Write)), [Action::Unprotect(PAGE), done(2), done(3)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_denied_request_fails_everyone_who_joined_it() {
    let mut subject = invalid();
    subject.fault(1, Read);
    subject.fault(2, Write);
    let lost = Failure::PageLost(common::node(OWNER));
    assert_eq!(subject.hears(HOME, deny(0, OWNER)), [failed(2, lost), failed(1, lost)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn an_answer_to_an_earlier_request_changes_nothing() {
    let mut subject = invalid();
    subject.fault(1, Read);
    subject.hears(HOME, data(0, Read));
    subject.hears(HOME, INVALIDATE);
    assert_eq!(subject.fault(2, Write), [send(HOME, request(1, Write))]);
    for stale in [zero_grant(0, Write), grant(0, Write), deny(0, OWNER), recall(0)] {
        assert_eq!(subject.hears(HOME, stale), []);
    }
    assert_eq!(subject.hears(OWNER, data(0, Write)), []);
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.hears(HOME, data(1, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(2)]);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    for mut subject in [invalid(), shared(), modified()] {
        let state = subject.state();
        for unwanted in [data(7, Read), zero_grant(7, Read), grant(7, Write), deny(7, OWNER), recall(7)] {
            assert_eq!(subject.hears(HOME, unwanted), []);
        }
        assert_eq!(subject.state(), state);
    }
}

#[test]
fn a_cancelled_access_does_not_complete_but_its_page_comes() {
    let mut subject = invalid();
    subject.fault(1, Read);
    assert_eq!(subject.cancel(1), []);
    assert!(!subject.engine.is_quiet(), "the request is still under way");
    assert_eq!(subject.hears(HOME, data(0, Read)), [Action::Fill(PAGE), Action::MapRead(PAGE)]);
    assert_eq!(subject.state(), PageState::Shared);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_cancelled_access_leaves_those_beside_it_waiting() {
    for gone in 1..=3 {
        let mut subject = invalid();
        for slot in 1..=3 {
            subject.fault(slot, Read);
        }
        assert_eq!(subject.cancel(gone), []);
        let mut actions = subject.hears(HOME, data(0, Read));
        actions.sort_by_key(|action| match action {
            Action::Complete { ticket, .. } => ticket.slot,
            _ => 0,
        });
        let mut expected = vec![Action::Fill(PAGE), Action::MapRead(PAGE)];
        expected.extend((1..=3).filter(|slot| *slot != gone).map(done));
        assert_eq!(actions, expected);
    }
}

#[test]
fn a_cancelled_writer_asks_for_no_upgrade() {
    let mut subject = invalid();
    subject.fault(1, Read);
    subject.fault(2, Write);
    assert_eq!(subject.cancel(2), []);
    assert_eq!(subject.hears(HOME, data(0, Read)), [Action::Fill(PAGE), Action::MapRead(PAGE), done(1)]);
}

#[test]
fn an_access_joins_the_request_of_a_cancelled_one() {
    let mut subject = invalid();
    subject.fault(1, Read);
    subject.cancel(1);
    assert_eq!(subject.fault(2, Read), []);
    assert_eq!(subject.hears(HOME, data(0, Read)), [Action::Fill(PAGE), Action::MapRead(PAGE), done(2)]);
}

#[test]
fn cancelling_what_does_not_wait_changes_nothing() {
    let mut subject = shared();
    assert_eq!(subject.cancel(1), []);
    subject.fault(1, Write);
    subject.hears(HOME, grant(1, Write));
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_node_that_is_its_own_home_says_nothing_on_the_wire() {
    let mut subject = Subject::mapped(HOME, 5, HOME);
    assert_eq!(subject.fault(1, Read), [Action::FillZero(PAGE), Action::MapRead(PAGE), done(1)]);
    assert_eq!(subject.fault(2, Write), [Action::Unprotect(PAGE), done(2)]);
    assert_eq!(subject.entry(), common::at_rest(DirectoryState::Modified(common::node(HOME)), &[HOME]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_home_that_lacks_the_copy_fetches_it_to_itself() {
    let mut subject = Subject::mapped(HOME, 5, HOME).modified_by(OWNER);
    assert_eq!(subject.fault(1, Read), [send(OWNER, fetch(0, Read, HOME))]);
    assert_eq!(subject.hears(OWNER, data(0, Read)), [Action::Fill(PAGE), Action::MapRead(PAGE), done(1)]);
    assert_eq!(subject.entry().holders, nodes(&[HOME, OWNER]));
}

#[test]
fn a_node_can_ask_who_owns_a_page() {
    use pagemesh_protocol::{Outcome, PageOwner};
    let mut subject = invalid();
    let asked = subject.act(|engine, out| engine.on_owner_query(ticket(1), PAGE, out));
    assert_eq!(asked, [send(HOME, Message::OwnerQuery { page: PAGE, ticket: ticket(1) })]);
    let owner = PageOwner::Node(common::node(OWNER));
    assert_eq!(
        subject.hears(HOME, Message::OwnerReply { page: PAGE, ticket: ticket(1), owner }),
        [Action::Complete { ticket: ticket(1), outcome: Outcome::Owner(owner) }]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_cancelled_question_ignores_its_answer() {
    let mut subject = invalid();
    subject.act(|engine, out| engine.on_owner_query(ticket(1), PAGE, out));
    assert_eq!(subject.cancel(1), []);
    let owner = pagemesh_protocol::PageOwner::Nobody;
    assert_eq!(subject.hears(HOME, Message::OwnerReply { page: PAGE, ticket: ticket(1), owner }), []);
    assert!(subject.engine.is_quiet());
}

//! Guarantee: a node that has put off its report about a page is told when somebody waits for it, and only then.

mod common;

use common::*;
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{Message, NodeId, PageOwner};

/// A home, node 1 of 6, whose page node 2 has MODIFIED.
fn home() -> Subject {
    let mut subject = Subject::mapped(1, 6, 1);
    assert_eq!(subject.hears(2, request(0, Write)), [send(2, zero_grant(0, Write))]);
    subject
}

fn hurried(subject: &mut Subject) -> Vec<NodeId> {
    std::mem::take(&mut subject.hurried)
}

#[test]
fn a_report_that_nobody_waits_for_may_take_its_time() {
    let mut subject = home();
    assert_eq!(subject.hears(3, request(1, Write)), [send(2, fetch(1, Write, 3))]);
    assert_eq!(subject.hears(3, report(1, true)), []);
    assert_eq!(subject.hears(4, request(2, Read)), [send(3, fetch(2, Read, 4))]);
    assert_eq!(subject.hears(4, report(2, true)), []);
    assert_eq!(hurried(&mut subject), []);
}

#[test]
fn whoever_waits_has_the_report_hurried() {
    let mut subject = home();
    subject.hears(3, request(1, Write));
    subject.hears(4, request(2, Write));
    assert_eq!(hurried(&mut subject), [node(3)]);
    subject.fault(1, Read);
    assert_eq!(hurried(&mut subject), [node(3)], "a thread of the home waits too");
    assert_eq!(subject.hears(3, report(1, true)), [send(3, fetch(2, Write, 4))]);
    assert_eq!(hurried(&mut subject), [node(4)], "that thread waits behind it");
    assert_eq!(subject.hears(4, report(2, true)), [send(4, fetch(0, Read, 1))]);
    assert_eq!(hurried(&mut subject), [], "the home knows itself when it has the page");
}

#[test]
fn a_writer_that_hears_from_the_sharers_is_hurried_too() {
    let mut subject = home();
    subject.hears(3, request(1, Read));
    subject.hears(3, report(1, true));
    let upgrade = subject.hears(2, request(2, Write));
    assert_eq!(upgrade, [send(3, drop_granting(2, 2, &[3]))]);
    assert_eq!(hurried(&mut subject), []);
    subject.hears(4, request(3, Read));
    assert_eq!(hurried(&mut subject), [node(2)]);
}

#[test]
fn a_supplier_that_is_lost_makes_the_report_urgent() {
    let mut subject = home();
    subject.hears(3, request(1, Write));
    assert_eq!(subject.loses(2), [send(3, recall(1))]);
    assert_eq!(hurried(&mut subject), [node(3)]);
}

#[test]
fn only_reports_of_what_has_come_may_wait() {
    for (message, may_wait) in [
        (report(1, true), true),
        (report(1, false), false),
        (request(1, Write), false),
        (Message::InvalidateAck { page: PAGE }, false),
        (dropped(1), false),
    ] {
        assert_eq!(message.may_wait(), may_wait, "{message:?}");
    }
}

/// The report is on its way, or put off; the page is not with the old owner any more.
#[test]
fn the_owner_is_who_was_sent_the_page() {
    let asked = Message::OwnerQuery { page: PAGE, ticket: ticket(5) };
    let mut subject = home();
    let answer = |owner| [send(5, Message::OwnerReply { page: PAGE, ticket: ticket(5), owner })];
    subject.hears(3, request(1, Write));
    assert_eq!(subject.hears(5, asked), answer(PageOwner::Node(node(3))));
    subject.hears(3, report(1, true));
    subject.hears(4, request(2, Read));
    assert_eq!(subject.hears(5, asked), answer(PageOwner::Node(node(3))), "a reader does not own it");
}

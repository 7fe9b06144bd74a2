//! A program that waits for a node which is gone waits for ever, and one that reads zeros where a lost page was computes
//! nonsense in good faith. So every call that depended on a lost node ends with a typed error, every call that did not
//! goes on, copies that are held are kept, and a page whose only copy is gone says so.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, Subject, at_rest, data, deny, done, drop_for, drop_granting, failed,
    fetch, gone, grant, grant_after, node, recall, report, request, send, send_page, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{Action, DirectoryState, Failure, Message, PageOwner, PageState};

const HOME: u16 = 1;

fn home() -> Subject {
    Subject::mapped(HOME, 8, HOME)
}

/// Node 2, which is no home.
fn holder(count: u16) -> Subject {
    Subject::mapped(2, count, HOME)
}

/// Node 2 with a readable copy.
fn reader(count: u16) -> Subject {
    let mut subject = holder(count);
    subject.fault(900, Read);
    subject.hears(HOME, data(0, Read));
    subject
}

// The requester is lost.

#[test]
fn a_lost_requester_is_forgotten_and_the_next_is_served() {
    let mut subject = home().modified_by(3);
    subject.hears(4, request(40, Read));
    assert_eq!(subject.hears(5, request(50, Read)), []);
    assert_eq!(subject.loses(4), [send(3, fetch(50, Read, 5))], "the owner kept its copy for the reader");
    assert_eq!(subject.hears(5, report(50, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(3)), &[3, 5]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_page_that_was_on_its_way_to_a_lost_writer_is_lost_with_it() {
    let mut subject = home().modified_by(3);
    subject.hears(4, request(40, Write));
    subject.hears(5, request(50, Read));
    assert_eq!(subject.loses(4), [send(5, deny(50, 4))]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Lost(node(4)), &[]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_lost_upgrader_gets_no_grant_and_its_copy_was_the_last() {
    let mut subject = home().shared_by(&[2, 3, 4]);
    assert_eq!(
        subject.hears(2, request(20, Write)),
        [send(3, drop_for(20, 2)), send(4, drop_granting(20, 2, &[3, 4]))]
    );
    assert_eq!(subject.hears(5, request(50, Read)), []);
    assert_eq!(subject.loses(2), [send(5, deny(50, 2))], "those who were told to drop their copies still do");
    assert!(subject.engine.is_quiet());

    let mut subject = home().shared_by(&[2, 3, 4, 5, 6, 7]);
    assert_eq!(subject.hears(2, request(20, Write)), [3, 4, 5, 6, 7].map(|sharer| send(sharer, INVALIDATE)));
    assert_eq!(subject.hears(0, request(50, Read)), []);
    assert_eq!(subject.loses(2), [], "those who were told to drop their copies still do");
    for sharer in 3..7 {
        assert_eq!(subject.hears(sharer, INVALIDATE_ACK), []);
    }
    assert_eq!(subject.hears(7, INVALIDATE_ACK), [send(0, deny(50, 2))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_lost_writer_without_a_copy_leaves_the_last_one_where_it_is() {
    let mut subject = home().shared_by(&[3, 4]);
    assert_eq!(subject.hears(2, request(20, Write)), [send(4, INVALIDATE)]);
    assert_eq!(subject.loses(2), []);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), []);
    assert_eq!(subject.entry().holders, common::nodes(&[3]));
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.hears(5, request(50, Read)), [send(3, fetch(50, Read, 5))]);
}

#[test]
fn a_lost_node_leaves_the_queue() {
    let mut subject = home().modified_by(3);
    subject.hears(4, request(40, Read));
    subject.hears(5, request(50, Write));
    subject.hears(6, request(60, Read));
    assert_eq!(subject.loses(5), []);
    assert_eq!(subject.hears(4, report(40, true)), [send(3, fetch(60, Read, 6))]);
}

// The supplier is lost.

#[test]
fn when_the_supplier_is_lost_the_requester_is_asked_whether_the_page_came() {
    for access in [Read, Write] {
        let mut subject = home().modified_by(3);
        subject.hears(4, request(40, access));
        assert_eq!(subject.loses(3), [send(4, recall(40))]);
        assert_eq!(subject.hears(4, report(40, true)), []);
        assert_eq!(subject.entry().holders, common::nodes(&[4]), "it came");
        assert!(subject.engine.is_quiet());
        assert_eq!(subject.hears(5, request(50, Read)), [send(4, fetch(50, Read, 5))]);
    }
}

#[test]
fn a_page_that_did_not_come_from_its_lost_owner_is_lost() {
    for access in [Read, Write] {
        let mut subject = home().modified_by(3);
        subject.hears(4, request(40, access));
        subject.loses(3);
        assert_eq!(subject.hears(4, report(40, false)), []);
        assert_eq!(subject.hears(4, request(41, access)), [send(4, deny(41, 3))]);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_page_that_did_not_come_from_one_of_its_sharers_comes_from_another() {
    let mut subject = home().shared_by(&[3, 5, 6]);
    assert_eq!(subject.hears(4, request(40, Read)), [send(3, fetch(40, Read, 4))]);
    subject.loses(3);
    assert_eq!(subject.hears(4, report(40, false)), []);
    assert_eq!(subject.hears(4, request(41, Read)), [send(5, fetch(41, Read, 4))]);
    subject.hears(4, report(41, true));
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(5)), &[4, 5, 6]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_recalled_requester_asks_anew_behind_those_who_wait() {
    let mut subject = home().shared_by(&[3, 5]);
    subject.hears(4, request(40, Read));
    subject.hears(6, request(60, Write));
    subject.loses(3);
    assert_eq!(subject.hears(4, report(40, false)), [send(5, fetch(60, Write, 6))]);
    assert_eq!(subject.hears(4, request(41, Read)), []);
    assert_eq!(subject.hears(6, report(60, true)), [send(6, fetch(41, Read, 4))]);
}

#[test]
fn a_recalled_requester_that_is_lost_too_is_forgotten() {
    let mut subject = home().shared_by(&[3, 5]);
    subject.hears(4, request(40, Read));
    subject.loses(3);
    assert_eq!(subject.loses(4), []);
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.hears(6, request(60, Read)), [send(5, fetch(60, Read, 6))]);
}

#[test]
fn a_requester_whose_page_did_not_come_says_so_and_asks_anew() {
    let mut subject = holder(5);
    subject.fault(1, Read);
    assert_eq!(subject.hears(HOME, recall(0)), [send(HOME, report(0, false)), send(HOME, request(1, Read))]);
    assert_eq!(subject.hears(HOME, deny(1, 3)), [failed(1, Failure::PageLost(node(3)))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn bytes_that_come_after_they_were_said_not_to_have_come_are_not_used() {
    let mut subject = holder(5);
    subject.fault(1, Write);
    subject.hears(HOME, recall(0));
    assert_eq!(subject.hears(3, data(0, Write)), []);
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(
        subject.hears(4, data(1, Write)),
        [Action::Fill(PAGE), Action::MapWrite(PAGE), send(HOME, report(1, true)), done(1)]
    );
}

#[test]
fn a_recall_that_crosses_the_report_is_not_answered_again() {
    let mut subject = holder(5);
    subject.fault(1, Read);
    subject.hears(3, data(0, Read));
    assert_eq!(subject.hears(HOME, recall(0)), []);
}

#[test]
fn a_home_that_waits_for_a_lost_supplier_itself_is_denied() {
    let mut subject = home().modified_by(3);
    assert_eq!(subject.fault(1, Read), [send(3, fetch(0, Read, HOME))]);
    assert_eq!(subject.loses(3), [failed(1, Failure::PageLost(node(3)))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_home_that_waits_for_a_lost_sharer_turns_to_another() {
    let mut subject = home().shared_by(&[3, 4]);
    assert_eq!(subject.fault(1, Read), [send(3, fetch(0, Read, HOME))]);
    assert_eq!(subject.loses(3), [send(4, fetch(1, Read, HOME))]);
    assert_eq!(subject.hears(3 + 1, data(1, Read)), [Action::Fill(PAGE), Action::MapRead(PAGE), done(1)]);
}

// A sharer is lost.

#[test]
fn a_lost_sharer_counts_as_one_that_dropped_its_copy() {
    let mut subject = home().shared_by(&[2, 3, 4, 5, 6, 7]);
    subject.hears(2, request(20, Write));
    assert_eq!(subject.loses(4), []);
    for sharer in [3, 5, 6] {
        assert_eq!(subject.hears(sharer, INVALIDATE_ACK), []);
    }
    assert_eq!(subject.hears(7, INVALIDATE_ACK), [send(2, grant(20, Write))]);

    let mut subject = home().shared_by(&[2, 3]);
    subject.hears(2, request(20, Write));
    assert_eq!(subject.loses(3), [send(2, gone(20, 3, &[3]))]);
    assert_eq!(subject.hears(2, report(20, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
}

#[test]
fn a_sharer_that_was_lost_before_is_not_asked() {
    let mut subject = home().shared_by(&[2, 3, 4]);
    assert_eq!(subject.loses(3), []);
    assert_eq!(
        subject.hears(2, request(20, Write)),
        [send(4, drop_for(20, 2)), send(2, grant_after(20, &[4]))]
    );
}

#[test]
fn when_the_owner_of_a_shared_page_is_lost_a_sharer_takes_its_place() {
    let mut subject = home().shared_by(&[3, 5, 4]);
    subject.loses(3);
    let asked = Message::OwnerQuery { page: PAGE, ticket: ticket(5) };
    let owner = PageOwner::Node(node(4));
    let answer = Message::OwnerReply { page: PAGE, ticket: ticket(5), owner };
    assert_eq!(subject.hears(2, asked), [send(2, answer)]);
    assert_eq!(subject.hears(2, request(20, Read)), [send(4, fetch(20, Read, 2))]);
}

#[test]
fn the_last_copy_of_a_shared_page_may_be_lost_too() {
    let mut subject = home().shared_by(&[3]);
    subject.loses(3);
    assert_eq!(subject.hears(2, request(20, Read)), [send(2, deny(20, 3))]);
}

#[test]
fn the_spared_supplier_of_a_write_may_be_lost_while_the_others_drop_theirs() {
    let mut subject = home().shared_by(&[3, 4]);
    assert_eq!(subject.hears(2, request(20, Write)), [send(4, INVALIDATE)]);
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), [send(2, deny(20, 3))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn an_untouched_page_outlives_anyone_but_its_home() {
    let mut subject = home();
    for other in [0, 2, 3, 4] {
        subject.loses(other);
    }
    assert_eq!(subject.hears(5, request(50, Read)), [send(5, zero_grant(50, Read))]);
}

// The home is lost.

#[test]
fn a_request_to_a_lost_home_fails() {
    for access in [Read, Write] {
        let mut subject = holder(5);
        subject.fault(1, access);
        subject.fault(2, Read);
        let lost = Failure::PeerLost(node(HOME));
        assert_eq!(subject.loses(HOME), [failed(2, lost), failed(1, lost)]);
        assert_eq!(subject.fault(3, access), [failed(3, lost)], "and so does every later one");
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_copy_outlives_its_home_for_reading() {
    let mut subject = reader(5);
    subject.fault(1, Write);
    let lost = Failure::PeerLost(node(HOME));
    assert_eq!(subject.loses(HOME), [failed(1, lost)]);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.fault(2, Read), [Action::MapRead(PAGE), done(2)]);
    assert_eq!(subject.fault(3, Write), [failed(3, lost)], "another node may still read its copy");
}

#[test]
fn a_writable_copy_outlives_its_home() {
    let mut subject = holder(5);
    subject.fault(1, Write);
    subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(subject.loses(HOME), []);
    assert_eq!(subject.fault(2, Write), [Action::MapWrite(PAGE), done(2)]);
}

#[test]
fn the_sole_survivor_may_write_the_copy_that_it_shares_with_nobody() {
    let mut waiting = reader(3);
    waiting.loses(0);
    waiting.fault(1, Write);
    assert_eq!(waiting.loses(HOME), [Action::Unprotect(PAGE), done(1)]);
    assert_eq!(waiting.state(), PageState::Modified);

    let mut later = reader(3);
    later.loses(HOME);
    later.loses(0);
    assert_eq!(later.fault(1, Write), [Action::Unprotect(PAGE), done(1)]);
    assert_eq!(later.state(), PageState::Modified);
    assert!(later.engine.is_quiet());
}

#[test]
fn the_sole_survivor_has_no_page_that_it_did_not_hold() {
    let mut subject = holder(2 + 1);
    subject.loses(0);
    subject.loses(HOME);
    assert_eq!(subject.fault(1, Read), [failed(1, Failure::PeerLost(node(HOME)))]);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn bytes_that_come_after_the_home_was_lost_are_not_used() {
    let mut subject = holder(5);
    subject.fault(1, Read);
    subject.loses(HOME);
    assert_eq!(subject.hears(3, data(0, Read)), []);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_question_to_a_lost_home_fails() {
    let mut subject = holder(5);
    let ask = |subject: &mut Subject, slot| {
        subject.act(|engine, out| engine.on_owner_query(ticket(slot), PAGE, out))
    };
    ask(&mut subject, 1);
    let lost = Failure::PeerLost(node(HOME));
    assert_eq!(subject.loses(HOME), [failed(1, lost)]);
    assert_eq!(ask(&mut subject, 2), [failed(2, lost)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_page_whose_requester_was_lost_is_given_up_and_sent_to_nobody() {
    let mut subject = holder(5);
    subject.fault(1, Write);
    subject.hears(HOME, zero_grant(0, Write));
    subject.loses(4);
    assert_eq!(subject.hears(HOME, fetch(40, Read, 4)), [Action::Protect(PAGE)]);
    assert_eq!(subject.hears(HOME, fetch(30, Read, 3)), [send_page(3, data(30, Read))]);
}

// Leaving.

#[test]
fn a_node_may_go_when_everyone_is_done() {
    let mut subject = Subject::new(1, 3);
    assert_eq!(subject.leaves(1), [send(0, Message::Leaving), send(2, Message::Leaving)]);
    assert_eq!(subject.hears(0, Message::Leaving), []);
    assert_eq!(subject.hears(2, Message::Leaving), [done(1)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_last_to_be_done_need_not_wait() {
    let mut subject = Subject::new(1, 3);
    subject.hears(0, Message::Leaving);
    subject.hears(2, Message::Leaving);
    assert_eq!(subject.leaves(1), [send(0, Message::Leaving), send(2, Message::Leaving), done(1)]);
}

#[test]
fn a_node_alone_may_go_at_once() {
    assert_eq!(Subject::new(0, 1).leaves(1), [done(1)]);
}

#[test]
fn a_node_that_was_done_before_it_was_lost_is_not_missed() {
    let mut subject = Subject::new(1, 3);
    subject.leaves(1);
    subject.hears(0, Message::Leaving);
    assert_eq!(subject.loses(0), []);
    assert_eq!(subject.hears(2, Message::Leaving), [done(1)]);

    let mut subject = Subject::new(1, 3);
    subject.hears(0, Message::Leaving);
    subject.loses(0);
    subject.hears(2, Message::Leaving);
    assert_eq!(subject.leaves(1), [send(2, Message::Leaving), done(1)]);
}

#[test]
fn those_who_leave_wait_for_the_living_and_are_told_of_a_node_that_was_lost_before_it_was_done() {
    let lost = Failure::PeerLost(node(2));
    let mut subject = Subject::new(1, 3);
    subject.leaves(1);
    assert_eq!(subject.loses(2), [], "node 0 may still need this node's pages");
    assert_eq!(subject.hears(0, Message::Leaving), [failed(1, lost)]);

    let mut subject = Subject::new(1, 3);
    subject.leaves(1);
    subject.hears(0, Message::Leaving);
    assert_eq!(subject.loses(2), [failed(1, lost)]);

    let mut subject = Subject::new(1, 3);
    subject.loses(2);
    assert_eq!(subject.leaves(1), [send(0, Message::Leaving)]);
    assert_eq!(subject.hears(0, Message::Leaving), [failed(1, lost)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_gives_up_leaving_is_not_told_when_all_are_done() {
    let mut subject = Subject::new(1, 2);
    subject.leaves(1);
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.hears(0, Message::Leaving), []);
}

#[test]
fn a_loss_is_handled_once() {
    let mut subject = home().modified_by(3);
    subject.hears(4, request(40, Read));
    assert_eq!(subject.loses(3), [send(4, recall(40))]);
    assert_eq!(subject.loses(3), []);
    assert!(!subject.engine.live().contains(node(3)));
}

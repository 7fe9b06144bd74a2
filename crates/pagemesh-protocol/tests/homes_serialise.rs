//! Two transactions at once on one page are how two nodes come to write it at once. So a home runs one at a time, lets
//! nobody overtake, and gives a right only when those who must not keep theirs have said so. Every row of its table is
//! checked with the whole list of its actions and the directory that it leaves.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, Subject, at_rest, data, data_after, deny, done, drop_for,
    drop_granting, failed, fetch, grant, node, nodes, report, request, send, send_page, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, DirectoryEntry, DirectoryState, Failure, Message, NodeSet, PageOwner, PageState,
};

/// The home under test; all others are spoken for.
const HOME: u16 = 1;

fn home() -> Subject {
    Subject::mapped(HOME, 8, HOME)
}

/// A home whose page went with node 3.
fn lost() -> Subject {
    let mut subject = home().modified_by(3);
    assert_eq!(subject.loses(3), []);
    subject
}

/// The directory without the number of its transaction, which is the engine's own affair.
fn resting(entry: DirectoryEntry) -> DirectoryEntry {
    DirectoryEntry { busy: None, ..entry }
}

#[test]
fn the_first_touch_is_a_zero_grant_and_leaves_the_home_no_copy() {
    let mut subject = home();
    assert_eq!(subject.hears(2, request(70, Read)), [send(2, zero_grant(70, Read))]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(2)), &[2]));
    assert_eq!(subject.state(), PageState::Invalid);

    let mut subject = home();
    assert_eq!(subject.hears(2, request(70, Write)), [send(2, zero_grant(70, Write))]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
}

#[test]
fn a_home_with_a_copy_serves_readers_itself() {
    let mut subject = home().shared_by(&[HOME, 3]);
    assert_eq!(subject.hears(2, request(70, Read)), [send_page(2, data(70, Read))]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(HOME)), &[HOME, 2, 3]));
    assert_eq!(subject.state(), PageState::Shared);
    assert!(subject.engine.is_quiet(), "what a home sends itself is not acknowledged");
}

#[test]
fn a_home_without_a_copy_has_the_owner_serve_readers() {
    let mut subject = home().shared_by(&[3, 4]);
    assert_eq!(subject.hears(2, request(70, Read)), [send(3, fetch(70, Read, 2))]);
    assert_eq!(resting(subject.entry()), at_rest(DirectoryState::Shared(node(3)), &[3, 4]));
    assert!(!subject.engine.is_quiet());
    assert_eq!(subject.hears(2, report(70, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(3)), &[2, 3, 4]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn an_upgrade_is_granted_by_the_last_of_the_sharers_whom_the_home_names() {
    for k in 1..=4 {
        let others: Vec<u16> = (3..3 + k).collect();
        let mut subject = home().shared_by(&[&[2], others.as_slice()].concat());
        let (last, before) = others.split_last().expect("there is one");
        let mut expected: Vec<Action> = before.iter().map(|n| send(*n, drop_for(70, 2))).collect();
        expected.push(send(*last, drop_granting(70, 2, &others)));
        assert_eq!(subject.hears(2, request(70, Write)), expected);
        assert_eq!(subject.hears(7, request(71, Read)), [], "nobody has the page before the writer has it");
        assert_eq!(subject.hears(2, report(70, true)), [send(2, fetch(71, Read, 7))]);
        subject.hears(7, report(71, true));
        assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(2)), &[2, 7]));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn an_upgrade_with_more_sharers_waits_until_every_other_copy_is_gone() {
    for k in [0, 5] {
        let others: Vec<u16> = (3..3 + k).collect();
        let mut subject = home().shared_by(&[&[2], others.as_slice()].concat());
        let told = subject.hears(2, request(70, Write));
        let granted = vec![send(2, grant(70, Write))];
        if k == 0 {
            assert_eq!(told, granted);
        } else {
            assert_eq!(told, others.iter().map(|n| send(*n, INVALIDATE)).collect::<Vec<_>>());
            let (last, earlier) = others.split_last().expect("there is one");
            for sharer in earlier {
                assert_eq!(subject.hears(*sharer, INVALIDATE_ACK), []);
                assert!(!subject.entry().holders.contains(node(*sharer)));
            }
            assert_eq!(subject.hears(*last, INVALIDATE_ACK), granted);
        }
        assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn an_upgrade_takes_the_homes_own_copy_without_a_message() {
    let mut subject = home().shared_by(&[HOME, 2]);
    assert_eq!(subject.hears(2, request(70, Write)), [Action::Unmap(PAGE), send(2, grant(70, Write))]);
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));

    let mut subject = home().shared_by(&[HOME, 2, 3]);
    assert_eq!(
        subject.hears(2, request(70, Write)),
        [Action::Unmap(PAGE), send(3, drop_granting(70, 2, &[3]))]
    );
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.hears(2, report(70, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
}

#[test]
fn a_writer_without_a_copy_gets_the_last_one_from_its_owner() {
    for k in 1..=5 {
        let holders: Vec<u16> = (3..3 + k).collect();
        let mut subject = home().shared_by(&holders);
        let mut told = subject.hears(2, request(70, Write));
        let dropped = &holders[1..];
        if k > 1 {
            assert_eq!(told, dropped.iter().map(|n| send(*n, INVALIDATE)).collect::<Vec<_>>());
            for sharer in dropped {
                told = subject.hears(*sharer, INVALIDATE_ACK);
            }
        }
        assert_eq!(told, [send(3, fetch(70, Write, 2))]);
        assert_eq!(resting(subject.entry()), at_rest(DirectoryState::Shared(node(3)), &[3]));
        assert_eq!(subject.hears(2, report(70, true)), []);
        assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
    }
}

#[test]
fn a_writer_without_a_copy_gets_the_last_one_from_a_home_that_holds_it() {
    let mut subject = home().shared_by(&[HOME, 3, 4]);
    assert_eq!(
        subject.hears(2, request(70, Write)),
        [
            send(3, drop_for(70, 2)),
            send(4, drop_for(70, 2)),
            Action::Unmap(PAGE),
            send_page(2, data_after(70, &[3, 4])),
        ]
    );
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.hears(2, report(70, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));

    let mut subject = home().shared_by(&[HOME]);
    assert_eq!(subject.hears(2, request(70, Write)), [Action::Unmap(PAGE), send_page(2, data(70, Write))]);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_home_that_wrote_serves_the_page_itself() {
    let mut subject = home().modified_by(HOME);
    assert_eq!(subject.hears(2, request(70, Read)), [Action::Protect(PAGE), send_page(2, data(70, Read))]);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(HOME)), &[HOME, 2]));

    let mut subject = home().modified_by(HOME);
    assert_eq!(subject.hears(2, request(70, Write)), [Action::Unmap(PAGE), send_page(2, data(70, Write))]);
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
}

#[test]
fn a_page_written_by_a_third_node_comes_straight_from_it() {
    for (access, state, holders) in [
        (Read, DirectoryState::Shared(node(3)), &[2, 3][..]),
        (Write, DirectoryState::Modified(node(2)), &[2][..]),
    ] {
        let mut subject = home().modified_by(3);
        assert_eq!(subject.hears(2, request(70, access)), [send(3, fetch(70, access, 2))]);
        assert_eq!(resting(subject.entry()), at_rest(DirectoryState::Modified(node(3)), &[3]));
        assert_eq!(subject.hears(2, report(70, true)), []);
        assert_eq!(subject.entry(), at_rest(state, holders));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_lost_page_is_denied_and_never_silently_zero() {
    for access in [Read, Write] {
        let mut subject = lost();
        assert_eq!(subject.hears(2, request(70, access)), [send(2, deny(70, 3))]);
        assert_eq!(subject.hears(4, request(71, access)), [send(4, deny(71, 3))], "it stays lost");
        assert_eq!(subject.entry(), at_rest(DirectoryState::Lost(node(3)), &[]));
        assert!(subject.engine.is_quiet());
    }
    assert_eq!(lost().fault(1, Read), [failed(1, Failure::PageLost(node(3)))]);
}

#[test]
fn the_homes_own_write_invalidates_like_anyones() {
    let mut subject = home().shared_by(&[HOME, 3, 4]);
    assert_eq!(subject.fault(1, Write), [send(3, INVALIDATE), send(4, INVALIDATE)]);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), []);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), [Action::Unprotect(PAGE), done(1)]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(HOME)), &[HOME]));
}

#[test]
fn a_home_without_a_copy_writes_like_anyone() {
    let mut subject = home().shared_by(&[3, 4]);
    assert_eq!(subject.fault(1, Write), [send(4, INVALIDATE)]);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), [send(3, fetch(0, Write, HOME))]);
    assert_eq!(subject.hears(3, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(HOME)), &[HOME]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn requests_that_meet_a_transaction_are_served_in_the_order_they_came() {
    let mut subject = home().modified_by(3);
    assert_eq!(subject.hears(4, request(40, Read)), [send(3, fetch(40, Read, 4))]);
    assert_eq!(subject.hears(5, request(50, Write)), []);
    assert_eq!(subject.hears(6, request(60, Read)), []);
    assert_eq!(subject.hears(7, request(70, Write)), []);
    assert_eq!(subject.hears(4, report(40, true)), [send(4, INVALIDATE)]);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), [send(3, fetch(50, Write, 5))]);
    assert_eq!(subject.hears(5, report(50, true)), [send(5, fetch(60, Read, 6))]);
    assert_eq!(subject.hears(6, report(60, true)), [send(6, INVALIDATE)]);
    assert_eq!(subject.hears(6, INVALIDATE_ACK), [send(5, fetch(70, Write, 7))]);
    assert_eq!(subject.hears(7, report(70, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(7)), &[7]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn requests_that_need_no_waiting_are_served_in_one_go() {
    let mut subject = home().shared_by(&[HOME, 2, 3]);
    assert_eq!(
        subject.hears(2, request(20, Write)),
        [Action::Unmap(PAGE), send(3, drop_granting(20, 2, &[3]))]
    );
    assert_eq!(subject.hears(4, request(40, Read)), []);
    assert_eq!(subject.hears(5, request(50, Read)), []);
    assert_eq!(subject.hears(2, report(20, true)), [send(2, fetch(40, Read, 4))]);
    assert_eq!(subject.hears(4, report(40, true)), [send(2, fetch(50, Read, 5))]);
}

#[test]
fn a_reader_behind_the_homes_own_upgrade_sees_what_the_home_was_granted() {
    let mut subject = home().shared_by(&[HOME, 3]);
    assert_eq!(subject.fault(1, Write), [send(3, INVALIDATE)]);
    assert_eq!(subject.hears(4, request(40, Read)), []);
    assert_eq!(
        subject.hears(3, INVALIDATE_ACK),
        [Action::Unprotect(PAGE), done(1), Action::Protect(PAGE), send_page(4, data(40, Read))]
    );
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(HOME)), &[HOME, 4]));
}

#[test]
fn a_writer_behind_the_homes_own_upgrade_takes_the_page_from_it() {
    let mut subject = home().shared_by(&[HOME, 3]);
    assert_eq!(subject.fault(1, Write), [send(3, INVALIDATE)]);
    assert_eq!(subject.hears(4, request(40, Write)), []);
    assert_eq!(
        subject.hears(3, INVALIDATE_ACK),
        [Action::Unprotect(PAGE), done(1), Action::Unmap(PAGE), send_page(4, data(40, Write))]
    );
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(4)), &[4]));
}

#[test]
fn a_home_that_waits_behind_others_gives_its_copy_up_first() {
    let mut subject = home().shared_by(&[HOME, 3, 4]);
    assert_eq!(
        subject.hears(3, request(30, Write)),
        [Action::Unmap(PAGE), send(4, drop_granting(30, 3, &[4]))]
    );
    assert_eq!(subject.fault(1, Read), []);
    assert_eq!(subject.hears(3, report(30, true)), [send(3, fetch(1, Read, HOME))]);
    assert_eq!(subject.hears(3, data(1, Read)), [Action::Fill(PAGE), Action::MapRead(PAGE), done(1)]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(3)), &[HOME, 3]));
}

#[test]
fn a_home_that_supplies_a_writer_keeps_its_own_request_in_the_queue() {
    let mut subject = home().shared_by(&[HOME, 3]);
    assert_eq!(
        subject.hears(4, request(40, Write)),
        [send(3, drop_for(40, 4)), Action::Unmap(PAGE), send_page(4, data_after(40, &[3]))]
    );
    assert_eq!(subject.fault(1, Write), []);
    assert_eq!(subject.hears(4, report(40, true)), [send(4, fetch(1, Write, HOME))]);
    assert_eq!(subject.hears(4, data(1, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(HOME)), &[HOME]));
}

#[test]
fn an_upgrade_that_lost_the_race_is_served_as_a_plain_write() {
    let mut subject = home().shared_by(&[2, 3]);
    assert_eq!(subject.hears(2, request(20, Write)), [send(3, drop_granting(20, 2, &[3]))]);
    assert_eq!(subject.hears(3, request(30, Write)), []);
    assert_eq!(subject.hears(2, report(20, true)), [send(2, fetch(30, Write, 3))]);
    assert_eq!(subject.hears(3, report(30, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(3)), &[3]));
}

#[test]
fn pages_do_not_wait_for_each_other() {
    let mut subject = home().modified_by(3);
    assert_eq!(subject.hears(2, request(20, Read)), [send(3, fetch(20, Read, 2))]);
    let other = pagemesh_protocol::PageAddress { page: 4, ..PAGE };
    let asked = Message::PageRequest { page: other, request: pagemesh_protocol::RequestId(21), access: Read };
    let granted =
        Message::Grant { page: other, request: pagemesh_protocol::RequestId(21), access: Read, zero: true };
    assert_eq!(subject.hears(2, asked), [send(2, granted)]);
}

#[test]
fn the_home_says_who_owns_a_page() {
    let asked = Message::OwnerQuery { page: PAGE, ticket: ticket(5) };
    let answer = |owner| [send(2, Message::OwnerReply { page: PAGE, ticket: ticket(5), owner })];
    assert_eq!(home().hears(2, asked), answer(PageOwner::Nobody));
    assert_eq!(home().modified_by(3).hears(2, asked), answer(PageOwner::Node(node(3))));
    assert_eq!(home().modified_by(HOME).hears(2, asked), answer(PageOwner::Node(node(HOME))));
    assert_eq!(home().shared_by(&[4, 3]).hears(2, asked), answer(PageOwner::Node(node(4))));
    assert_eq!(lost().hears(2, asked), answer(PageOwner::Lost(node(3))));
}

#[test]
fn the_home_answers_its_own_question_on_the_spot() {
    let mut subject = home().modified_by(3);
    let actions = subject.act(|engine, out| engine.on_owner_query(ticket(1), PAGE, out));
    let owner = pagemesh_protocol::Outcome::Owner(PageOwner::Node(node(3)));
    assert_eq!(actions, [Action::Complete { ticket: ticket(1), outcome: owner }]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn every_page_starts_untouched_with_no_copy_anywhere() {
    let subject = home();
    for page in 0..common::PAGES {
        let page = pagemesh_protocol::PageAddress { page, ..PAGE };
        assert_eq!(subject.engine.page_state(page), PageState::Invalid);
        let entry = DirectoryEntry { state: DirectoryState::Untouched, holders: NodeSet::EMPTY, busy: None };
        assert_eq!(subject.engine.directory(page), Some(entry));
    }
    assert_eq!(home().shared_by(&[]).entry().holders, nodes(&[]));
}

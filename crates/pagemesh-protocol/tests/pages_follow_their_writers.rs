//! A home lends a page to the one node that writes it, and stays where everyone asks. Each step of that, and of the way back, is checked
//! against whole lists of actions.

mod common;

use common::{PAGE, REGION, Subject, data, done, node, request, send, send_page};
use pagemesh_protocol::{
    Access, Action, Message, NodeId, PageAddress, PageOwner, PageState, Protocol, RequestId, limits,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const OTHER: u16 = 4;

const CALL_IN: Message = Message::CallIn { page: PAGE };

fn lend(interval: u64) -> Message {
    Message::Lend { page: PAGE, interval }
}

fn reply(taken: bool) -> Message {
    Message::LendReply { page: PAGE, taken }
}

fn diff(interval: u64) -> Message {
    Message::Diff { page: PAGE, interval, last: true }
}

fn returned(interval: u64) -> Message {
    Message::Return { page: PAGE, interval }
}

fn fetch(id: u32) -> Message {
    common::fetch(id, Access::Read, OTHER)
}

/// The home, which has heard the diffs after which it lends the page.
fn lending() -> Subject {
    let mut home = Subject::following(Protocol::Release, HOME, 5, HOME);
    for interval in 1..limits::LEND_AFTER as u64 {
        assert_eq!(home.hears(THIS, diff(interval)), [Action::ApplyDiff(PAGE)]);
    }
    let last = limits::LEND_AFTER as u64;
    assert_eq!(home.hears(THIS, diff(last)), [Action::ApplyDiff(PAGE), send_page(THIS, lend(last))]);
    home
}

fn lent() -> Subject {
    let mut home = lending();
    assert_eq!(home.hears(THIS, reply(true)), []);
    home
}

/// The writer, which has written the page in its first interval and goes on writing.
fn writer() -> Subject {
    let mut writer = Subject::following(Protocol::Release, THIS, 5, HOME);
    writer.fault(1, Access::Read);
    writer.hears(HOME, data(0, Access::Read));
    writer.fault(2, Access::Write);
    writer.arrives_at_barrier(3, OTHER);
    assert_eq!(writer.fault(4, Access::Write), [Action::MakeTwin(PAGE), Action::Unprotect(PAGE), done(4)]);
    writer
}

fn owner() -> Subject {
    let mut owner = writer();
    assert_eq!(owner.hears(HOME, lend(1)), [Action::Adopt(PAGE), send(HOME, reply(true))]);
    owner
}

#[test]
fn an_owner_writes_in_place_and_tells() {
    let mut owner = owner();
    let wrote = Message::Wrote { writer: node(THIS), interval: 2, first: PAGE, count: 1 };
    let at_barrier = owner.arrives_at_barrier(5, OTHER);
    assert_eq!(at_barrier[..2], [Action::Protect(PAGE), send(OTHER, wrote)]);
    // Nobody has had the page since: no twin, no notice, no fault at the next release.
    assert_eq!(owner.fault(6, Access::Write), [Action::Unprotect(PAGE), done(6)]);
    assert_eq!(owner.arrives_at_barrier(7, OTHER).len(), 1);
    assert_eq!(owner.state(), PageState::Modified);
    // Until somebody has.
    assert_eq!(owner.hears(HOME, fetch(9)), [Action::Protect(PAGE), send_page(OTHER, data(9, Access::Read))]);
    assert_eq!(owner.fault(8, Access::Write), [Action::Unprotect(PAGE), done(8)]);
    let wrote = Message::Wrote { writer: node(THIS), interval: 3, first: PAGE, count: 1 };
    assert!(owner.arrives_at_barrier(9, OTHER).contains(&send(OTHER, wrote)));
}

#[test]
fn what_was_written_in_place_is_told_after_the_page_went_back() {
    let mut owner = owner();
    assert_eq!(owner.hears(HOME, CALL_IN), [Action::Protect(PAGE), send_page(HOME, returned(1))]);
    let wrote = Message::Wrote { writer: node(THIS), interval: 2, first: PAGE, count: 1 };
    let at_barrier = owner.arrives_at_barrier(5, OTHER);
    // The home has the bytes, and has to know that no more will come.
    assert_eq!(at_barrier[..2], [send(HOME, diff(2)), send(OTHER, wrote)]);
    // From now on it is a writer among others.
    assert_eq!(owner.fault(6, Access::Write), [Action::MakeTwin(PAGE), Action::Unprotect(PAGE), done(6)]);
    assert_eq!(owner.hears(HOME, CALL_IN), [], "what has crossed the return is over");
    assert_eq!(owner.hears(HOME, fetch(9)), []);
}

#[test]
fn an_owner_that_hears_of_others_writes_gives_the_page_back_before_it_asks() {
    let mut owner = owner();
    let got = owner.gets_lock_with_notice(5, OTHER, 3, PAGE);
    assert_eq!(got[1..], [Action::Unmap(PAGE), done(5)]);
    let need = Message::Need { page: PAGE, request: RequestId(1), writer: node(3), interval: 1 };
    assert_eq!(
        owner.fault(6, Access::Read),
        [send_page(HOME, returned(1)), send(HOME, need), send(HOME, request(1, Access::Read))]
    );
}

#[test]
fn an_offer_that_crosses_a_diff_is_declined() {
    let mut writer = writer();
    writer.arrives_at_barrier(5, OTHER);
    assert_eq!(writer.hears(HOME, lend(1)), [send(HOME, reply(false))]);
    let mut without_a_copy = Subject::following(Protocol::Release, THIS, 5, HOME);
    assert_eq!(without_a_copy.hears(HOME, lend(1)), [send(HOME, reply(false))]);
}

#[test]
fn readers_are_passed_on_to_the_owner() {
    let mut home = lent();
    assert_eq!(home.engine.directory(PAGE).map(|entry| entry.holders.contains(node(THIS))), Some(true));
    assert_eq!(home.hears(OTHER, request(9, Access::Read)), [send(THIS, fetch(9))]);
    assert!(!home.engine.is_quiet());
    assert_eq!(home.hears(OTHER, Message::Done { page: PAGE, request: RequestId(9), installed: true }), []);
    assert!(home.engine.is_quiet());
    let asked = Message::OwnerQuery { page: PAGE, ticket: common::ticket(9) };
    let owner = PageOwner::Node(NodeId::new(THIS));
    assert_eq!(
        home.hears(OTHER, asked),
        [send(OTHER, Message::OwnerReply { page: PAGE, ticket: common::ticket(9), owner })]
    );
}

#[test]
fn requests_wait_while_the_page_is_on_its_way() {
    let mut home = lending();
    assert_eq!(home.hears(OTHER, request(9, Access::Read)), []);
    assert_eq!(home.hears(THIS, reply(false)), [send_page(OTHER, data(9, Access::Read))]);
    let mut home = lent();
    assert_eq!(home.hears(OTHER, request(9, Access::Write)), [send(THIS, CALL_IN)]);
    assert_eq!(home.hears(3, request(5, Access::Read)), []);
    assert_eq!(
        home.hears(THIS, returned(7)),
        [
            Action::FillAround(PAGE),
            send_page(OTHER, data(9, Access::Write)),
            send_page(3, data(5, Access::Read))
        ]
    );
}

#[test]
fn a_reader_that_was_passed_on_is_answered_by_the_home_when_the_page_is_back() {
    let mut home = lent();
    home.hears(OTHER, request(9, Access::Read));
    assert_eq!(home.hears(3, diff(1)), [Action::ApplyMarked(PAGE), send(THIS, CALL_IN)]);
    let back = home.hears(THIS, returned(7));
    assert_eq!(back, [Action::FillAround(PAGE), send_page(OTHER, data(9, Access::Read))]);
    // What the owner says is over up to here is over: nobody waits for its diffs.
    let need = Message::Need { page: PAGE, request: RequestId(6), writer: node(THIS), interval: 7 };
    home.hears(OTHER, need);
    assert_eq!(home.hears(OTHER, request(6, Access::Read)), [send_page(OTHER, data(6, Access::Read))]);
}

#[test]
fn a_page_that_came_back_is_lent_later_the_next_time() {
    let mut home = lent();
    home.hears(OTHER, request(9, Access::Write));
    home.hears(THIS, returned(3));
    let mut lent_after = 0;
    for interval in 4.. {
        lent_after += 1;
        if home.hears(THIS, diff(interval)).len() > 1 {
            break;
        }
    }
    assert_eq!(lent_after, 2 * limits::LEND_AFTER);
}

#[test]
fn a_home_that_uses_the_page_keeps_it() {
    let mut home = Subject::following(Protocol::Release, HOME, 5, HOME);
    home.hears(THIS, diff(1));
    home.fault(1, Access::Read);
    let mut lent = false;
    for interval in 2..2 + 10 * limits::LEND_AFTER as u64 {
        let actions = home.hears(THIS, diff(interval));
        lent |= actions.iter().any(|action| matches!(action, Action::Send { .. }));
        if actions.contains(&Action::Unmap(PAGE)) {
            home.fault(1, Access::Read);
        }
    }
    assert!(!lent);
}

#[test]
fn with_its_owner_a_page_is_lost() {
    let denied = |id| {
        let lost_with = node(THIS);
        send(OTHER, Message::Deny { page: PAGE, request: RequestId(id), lost_with })
    };
    let mut home = lent();
    home.hears(OTHER, request(9, Access::Read));
    assert_eq!(home.loses(THIS), [denied(9)]);
    assert_eq!(home.hears(3, diff(1)), [Action::ApplyDiff(PAGE)]);
    assert_eq!(home.hears(OTHER, request(10, Access::Read)), [denied(10)]);
    // What was only offered is still here.
    let mut home = lending();
    home.hears(OTHER, request(9, Access::Read));
    assert_eq!(home.loses(THIS), [send_page(OTHER, data(9, Access::Read))]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut home = lent();
    for message in [returned(limits::INTERVALS), returned(7), reply(true)] {
        home.refuses(OTHER, message);
    }
    assert!(home.refuses(THIS, diff(9)).contains("nothing to tell"));
    let mut owner = owner();
    assert!(owner.refuses(HOME, lend(1)).contains("already"));
    for message in [lend(1), CALL_IN, returned(1), reply(true)] {
        assert!(owner.refuses(OTHER, message).contains("home"), "{message:?}");
    }
    let elsewhere = PageAddress::new(REGION, common::PAGES);
    owner.refuses(HOME, Message::Lend { page: elsewhere, interval: 1 });
    let mut migrating = Subject::following(Protocol::Migration, THIS, 5, HOME);
    for message in [lend(1), CALL_IN] {
        assert!(migrating.refuses(HOME, message).contains("knows no intervals"), "{message:?}");
    }
}

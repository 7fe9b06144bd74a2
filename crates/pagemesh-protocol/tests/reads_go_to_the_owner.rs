//! A reader that goes by what it has heard may be wrong, and an owner that serves it acts behind the home's back. So nobody may write
//! the page before the home knows of the reader, whatever the home asks of the owner meanwhile; a wrong hint has to cost a message and no more;
//! and whoever is lost in between, the rest has to end, with no copy left that nobody would have dropped.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, PAGES, REGION, Subject, asked, at_rest, data, deny, done, drop_for,
    dropped, failed, fetch, hint, node, report, request, send, send_page, served,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, AtomicAnswer, AtomicChange, AtomicOperation, DirectoryState, EngineConfig, Failure, Hint,
    Message, PageState, PinHolder, PinId, Placement, Protocol, ReaderCopy, RegionSpec, limits,
};

const HOME: u16 = 1;
const OWNER: u16 = 2;
const READER: u16 = 3;
const OTHER: u16 = 4;
const COUNT: u16 = 8;

const NOT_SENT: &str = "no copy of the page was sent to it in this way";

fn subject_of(number: u16, protocol: Protocol) -> Subject {
    let config =
        EngineConfig { hint_patience: limits::HINT_PATIENCE, ..EngineConfig::new(node(number), COUNT) };
    let mut subject = Subject::configured(config);
    let placement = Placement::Single(node(HOME));
    let spec = RegionSpec { protocol, address: 0x2000_0000_0000, ..asked("shared", placement) };
    subject.hears(0, Message::RegionMap { region: REGION, round: 0, spec });
    subject.act(|engine, out| engine.on_region_mapped(REGION, 0, true, out));
    subject
}

fn subject(number: u16) -> Subject {
    subject_of(number, Protocol::WriteInvalidate)
}

/// A node that had the page as a sharer, and was told to drop it for `writer`.
fn hinted(writer: u16) -> Subject {
    let mut subject = subject(READER);
    subject.fault(900, Read);
    subject.hears(HOME, data(0, Read));
    assert_eq!(subject.hears(HOME, drop_for(77, writer))[1..], [send(writer, dropped(77))]);
    subject
}

/// It has asked that writer, as its request 1, for the page.
fn asking() -> Subject {
    let mut subject = hinted(OWNER);
    assert_eq!(subject.fault(1, Read), [send(OWNER, hint(1, Hint::Read))]);
    subject
}

/// A node that has written the page.
fn owner() -> Subject {
    let mut subject = subject(OWNER);
    subject.fault(900, Write);
    subject.hears(HOME, data(0, Write));
    subject
}

/// It has sent the page to a reader, as that one's request 7.
fn at_stake() -> Subject {
    let mut subject = owner();
    let sent = subject.hears(READER, hint(7, Hint::Read));
    assert_eq!(sent, [Action::Protect(PAGE), send_page(READER, data(7, Read))]);
    subject
}

/// The home of a page that the owner has written.
fn home() -> Subject {
    let mut subject = subject(HOME);
    subject.hears(OWNER, request(0, Write));
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(OWNER)), &[OWNER]));
    subject
}

fn known() -> Action {
    send(OWNER, hint(7, Hint::Known))
}

fn shared() -> pagemesh_protocol::DirectoryEntry {
    at_rest(DirectoryState::Shared(node(OWNER)), &[OWNER, READER])
}

// The reader.

#[test]
fn who_took_the_page_away_is_asked_for_it() {
    let mut subject = asking();
    let expected =
        [Action::Fill(PAGE), Action::MapRead(PAGE), send(OWNER, hint(1, Hint::Got(true))), done(1)];
    assert_eq!(subject.hears(OWNER, data(1, Read)), expected);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.engine.hints_used(), (1, 0));
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_sent_the_page_is_asked_for_it_again() {
    let mut subject = subject(READER);
    assert_eq!(subject.fault(1, Read), [send(HOME, request(0, Read))], "nothing is known yet");
    subject.hears(OWNER, data(0, Read));
    subject.hears(HOME, INVALIDATE);
    assert_eq!(subject.fault(2, Read), [send(OWNER, hint(1, Hint::Read))]);
    subject.hears(OWNER, data(1, Read));
    subject.hears(HOME, INVALIDATE);
    assert_eq!(
        subject.fault(3, Read),
        [send(OWNER, hint(2, Hint::Read))],
        "also after a hint that was right"
    );
}

#[test]
fn who_writes_what_was_written_here_is_asked_for_it() {
    let mut subject = owner();
    subject.hears(HOME, fetch(5, Write, OTHER));
    assert_eq!(subject.fault(1, Read), [send(OTHER, hint(1, Hint::Read))]);
}

#[test]
fn a_page_that_the_home_has_is_asked_of_the_home() {
    let mut subject = owner();
    subject.hears(HOME, fetch(5, Write, HOME));
    assert_eq!(subject.fault(1, Read), [send(HOME, request(1, Read))]);
    subject.hears(HOME, data(1, Read));
    subject.hears(HOME, INVALIDATE);
    assert_eq!(subject.fault(2, Read), [send(HOME, request(2, Read))]);
}

#[test]
fn a_write_is_asked_of_the_home() {
    assert_eq!(hinted(OWNER).fault(1, Write), [send(HOME, request(1, Write))]);
}

#[test]
fn what_is_fetched_ahead_is_asked_of_the_home() {
    let mut subject = hinted(OWNER);
    let asked = subject.act(|engine, out| engine.on_prefetch(common::ticket(1), PAGE, Read, out));
    assert_eq!(asked, [send(HOME, request(1, Read))]);
}

#[test]
fn hints_can_be_turned_off_and_on_by_region() {
    let mut subject = hinted(OWNER);
    subject.engine.set_hint_patience(REGION, 0);
    assert_eq!(subject.fault(1, Read), [send(HOME, request(1, Read))]);
    subject.hears(OWNER, data(1, Read));
    subject.engine.set_hint_patience(REGION, u8::MAX);
    subject.hears(HOME, drop_for(78, OTHER));
    assert_eq!(subject.fault(2, Read), [send(OTHER, hint(2, Hint::Read))]);
    subject.engine.set_hint_patience(REGION, 0);
    assert_eq!(subject.hears(OTHER, hint(2, Hint::Miss)), [send(HOME, request(2, Read))]);
}

#[test]
fn a_lost_node_is_not_asked() {
    let mut subject = hinted(OWNER);
    subject.loses(OWNER);
    assert_eq!(subject.fault(1, Read), [send(HOME, request(1, Read))]);
}

#[test]
fn a_wrong_hint_is_asked_of_the_home_and_forgotten() {
    let mut subject = asking();
    assert_eq!(subject.hears(OWNER, hint(1, Hint::Miss)), [send(HOME, request(1, Read))]);
    subject.hears(HOME, data(1, Read));
    assert_eq!(subject.engine.hints_used(), (0, 1));
    subject.hears(HOME, INVALIDATE);
    assert_eq!(subject.fault(2, Read), [send(HOME, request(2, Read))]);
}

#[test]
fn hints_that_are_wrong_again_and_again_are_not_used_for_a_while() {
    let mut subject = subject(READER);
    let (mut asked_owner, mut number) = (0, 0);
    for round in 0..40 {
        for message in subject.fault(round, Read) {
            match message {
                Action::Send { message: Message::Hint { .. }, .. } => {
                    asked_owner += 1;
                    subject.hears(OWNER, hint(number, Hint::Miss));
                }
                other => assert_eq!(other, send(HOME, request(number, Read))),
            }
        }
        // From the owner, so that there is a hint again.
        subject.hears(OWNER, data(number, Read));
        subject.hears(HOME, INVALIDATE);
        number += 1;
    }
    assert_eq!(asked_owner, limits::HINT_PATIENCE);
}

#[test]
fn a_writer_that_joins_a_hinted_read_asks_the_home_after_it() {
    let mut subject = asking();
    assert_eq!(subject.fault(2, Write), []);
    let all = subject.hears(OWNER, data(1, Read));
    assert_eq!(all[2..], [send(OWNER, hint(1, Hint::Got(true))), done(1), send(HOME, request(2, Write))]);
}

#[test]
fn a_reader_that_loses_the_owner_asks_the_home_under_another_name() {
    let mut subject = asking();
    assert_eq!(subject.loses(OWNER), [send(HOME, request(2, Read))]);
    assert_eq!(subject.hears(HOME, deny(2, OWNER)), [failed(1, Failure::PageLost(node(OWNER)))]);
}

#[test]
fn a_reader_that_loses_the_home_fails_and_tells_the_owner() {
    let mut subject = asking();
    let expected = [send(OWNER, hint(1, Hint::Got(false))), failed(1, Failure::PeerLost(node(HOME)))];
    assert_eq!(subject.loses(HOME), expected);
    assert_eq!(subject.hears(OWNER, data(1, Read)), [], "its bytes come late");
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_home_in_doubt_hears_that_there_is_no_copy() {
    // The owner has lost this node, which has not noticed.
    let mut subject = asking();
    let expected =
        [send(OWNER, hint(1, Hint::Got(false))), send(HOME, request(2, Read)), send(HOME, INVALIDATE_ACK)];
    assert_eq!(subject.hears(HOME, INVALIDATE), expected);
    assert_eq!(subject.hears(OWNER, data(1, Read)), [], "bytes that come now are of before");
    assert_eq!(subject.state(), PageState::Invalid);

    let mut subject = asking();
    subject.loses(OWNER);
    assert_eq!(subject.hears(HOME, INVALIDATE), [send(HOME, INVALIDATE_ACK)]);

    let mut subject = hinted(OWNER);
    assert_eq!(subject.refuses(HOME, INVALIDATE), "there is no shared copy here to be dropped");
}

#[test]
fn only_who_was_asked_may_answer() {
    let mut subject = asking();
    assert_eq!(subject.refuses(OTHER, data(1, Read)), "another node was asked for the page");
    assert_eq!(subject.refuses(HOME, data(1, Read)), "another node was asked for the page");
    assert_eq!(subject.refuses(OTHER, hint(1, Hint::Miss)), "it was not asked for the page");
    assert_eq!(subject.hears(OWNER, hint(0, Hint::Miss)), [], "late");
    subject.hears(OWNER, hint(1, Hint::Miss));
    assert_eq!(subject.refuses(OWNER, hint(1, Hint::Miss)), "it was not asked for the page");
}

#[test]
fn a_node_that_keeps_no_hints_asks_the_home() {
    let mut subject = Subject::mapped(READER, COUNT, HOME);
    subject.fault(900, Read);
    subject.hears(OWNER, data(0, Read));
    subject.hears(HOME, INVALIDATE);
    assert_eq!(subject.fault(1, Read), [send(HOME, request(1, Read))]);
}

// The owner.

#[test]
fn an_owner_tells_the_home_when_the_reader_has_the_page() {
    let mut subject = at_stake();
    assert_eq!(subject.state(), PageState::Shared);
    let told = send(HOME, served(7, READER, ReaderCopy::Here));
    assert_eq!(subject.hears(READER, hint(7, Hint::Got(true))), [told]);
    assert!(!subject.engine.is_quiet());
    assert_eq!(subject.hears(HOME, hint(7, Hint::Known)), []);
    assert!(subject.engine.is_quiet());
    assert_eq!(
        subject.hears(HOME, fetch(9, Write, OTHER)),
        [Action::Unmap(PAGE), send_page(OTHER, data(9, Write))]
    );
}

#[test]
fn a_reader_that_does_not_use_the_page_is_not_counted() {
    let told = send(HOME, served(7, READER, ReaderCopy::Unused));
    assert_eq!(at_stake().hears(READER, hint(7, Hint::Got(false))), [told]);
}

#[test]
fn what_the_home_asks_before_it_knows_is_forgotten() {
    let mut subject = at_stake();
    let add = AtomicOperation { word: 0, change: AtomicChange::Add(1) };
    let ticket = common::ticket(5);
    let forward = Message::AtomicForward { page: PAGE, requester: node(OTHER), ticket, operation: add };
    for told in [false, true] {
        for message in [fetch(9, Write, OTHER), fetch(9, Read, OTHER), fetch(9, Write, HOME), forward] {
            assert_eq!(subject.hears(HOME, message), [], "{message:?}");
        }
        if !told {
            subject.hears(READER, hint(7, Hint::Got(true)));
        }
    }
    assert_eq!(subject.state(), PageState::Shared);
    subject.hears(HOME, hint(7, Hint::Known));
    let (requester, answer) = (node(OTHER), AtomicAnswer::Home(node(HOME)));
    assert_eq!(
        subject.hears(HOME, forward),
        [Action::Atomic { page: PAGE, operation: add, requester, ticket, answer }]
    );
}

#[test]
fn who_is_not_the_only_holder_turns_readers_away() {
    let miss = [send(READER, hint(7, Hint::Miss))];
    let mut subject = subject(OWNER);
    assert_eq!(subject.hears(READER, hint(7, Hint::Read)), miss, "it has no copy");
    subject.fault(900, Read);
    subject.hears(HOME, data(0, Read));
    assert_eq!(subject.hears(READER, hint(7, Hint::Read)), miss, "others may have one");
    let mut subject = at_stake();
    assert_eq!(subject.hears(OTHER, hint(9, Hint::Read)), [send(OTHER, hint(9, Hint::Miss))]);
}

#[test]
fn a_page_that_is_in_use_or_wanted_or_pinned_is_not_sent() {
    let miss = [send(READER, hint(7, Hint::Miss))];
    let mut subject = subject(OWNER);
    subject.slow_threads = true;
    subject.fault(1, Write);
    subject.hears(HOME, data(0, Write));
    assert_eq!(subject.hears(READER, hint(7, Hint::Read)), miss, "its thread has not touched it yet");
    assert_eq!(subject.hears(HOME, fetch(9, Read, OTHER)), []);
    subject.resumes(1);
    assert_eq!(subject.hears(READER, hint(7, Hint::Read)), miss, "the home has asked for it");

    let mut subject = owner();
    let (pin, holder) = (PinId(1), PinHolder(1));
    subject.act(|engine, out| engine.on_pin(common::ticket(2), (pin, holder), PAGE, Write, out));
    assert_eq!(subject.hears(READER, hint(7, Hint::Read)), miss, "the kernel may write it");
}

#[test]
fn an_owner_whose_home_is_lost_serves_nobody() {
    let mut subject = owner();
    subject.loses(HOME);
    assert_eq!(subject.hears(READER, hint(7, Hint::Read)), [send(READER, hint(7, Hint::Miss))]);
    let mut subject = at_stake();
    subject.loses(HOME);
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.hears(READER, hint(7, Hint::Got(true))), [], "there is nobody to tell");
}

#[test]
fn an_owner_that_loses_the_reader_tells_the_home_that_it_does_not_know() {
    let mut subject = at_stake();
    assert_eq!(subject.loses(READER), [send(HOME, served(7, READER, ReaderCopy::Unheard))]);
    let mut subject = at_stake();
    subject.hears(READER, hint(7, Hint::Got(true)));
    assert_eq!(subject.loses(READER), [], "it has told the home what it knows");
}

#[test]
fn an_owner_that_writes_on_asks_the_home() {
    let mut subject = at_stake();
    assert_eq!(subject.fault(2, Write), [send(HOME, request(1, Write))]);
    subject.hears(READER, hint(7, Hint::Got(true)));
    subject.hears(HOME, hint(7, Hint::Known));
    let granted = subject.hears(HOME, common::grant_after(1, &[READER]));
    assert_eq!(granted, []);
    assert_eq!(subject.hears(READER, dropped(1))[0], Action::Unprotect(PAGE));
}

#[test]
fn a_grant_of_a_home_that_does_not_know_of_the_reader_is_asked_for_again() {
    // It had asked for the page for a node that it has lost since: then it takes this one for the only reader.
    let mut subject = at_stake();
    subject.fault(2, Write);
    assert_eq!(subject.hears(HOME, common::grant(1, Write)), [send(HOME, request(2, Write))]);
    assert_eq!(subject.state(), PageState::Shared);
    subject.hears(READER, hint(7, Hint::Got(true)));
    subject.hears(HOME, hint(7, Hint::Known));
    assert_eq!(subject.hears(HOME, common::grant(2, Write)), [Action::Unprotect(PAGE), done(2)]);
}

#[test]
fn no_more_pages_are_at_stake_than_may_be() {
    let mut subject = subject(OWNER);
    let page = |number: usize| pagemesh_protocol::PageAddress::new(REGION, number as u64);
    assert!(limits::STAKED as u64 <= PAGES);
    for number in 0..limits::STAKED {
        let (page, id) = (page(number), pagemesh_protocol::RequestId(number as u32));
        subject.act(|engine, out| engine.on_fault(common::ticket(1), page, Write, out));
        subject.hears(HOME, Message::Grant { page, request: id, access: Write, zero: true });
        let read = Message::Hint { page, request: id, step: Hint::Read };
        assert_eq!(subject.hears(READER, read).len(), 2, "page {number}");
    }
    subject.hears(
        READER,
        Message::Hint { page: page(0), request: pagemesh_protocol::RequestId(0), step: Hint::Got(true) },
    );
    subject.hears(
        HOME,
        Message::Hint { page: page(0), request: pagemesh_protocol::RequestId(0), step: Hint::Known },
    );
    assert!(!subject.engine.is_at_stake(page(0)) && subject.engine.is_at_stake(page(1)));
}

#[test]
fn nobody_says_what_an_owner_has_not_asked() {
    let mut subject = at_stake();
    assert_eq!(subject.refuses(OTHER, hint(7, Hint::Got(true))), NOT_SENT);
    assert_eq!(subject.refuses(READER, hint(8, Hint::Got(true))), NOT_SENT);
    assert_eq!(subject.hears(READER, hint(8, Hint::Got(false))), [], "it was turned away meanwhile");
    assert_eq!(subject.refuses(HOME, hint(7, Hint::Known)), "it was not told who has the page");
    subject.hears(READER, hint(7, Hint::Got(true)));
    assert_eq!(subject.refuses(READER, hint(7, Hint::Got(true))), "it has said so before");
    assert_eq!(subject.refuses(OTHER, hint(7, Hint::Known)), "it is not the home of the page");
    let between = "between a home and an owner there is nothing to hint";
    assert_eq!(subject.refuses(HOME, hint(7, Hint::Read)), between);
    assert_eq!(home().refuses(READER, hint(7, Hint::Read)), between);
}

#[test]
fn other_protocols_know_no_hints() {
    for protocol in [Protocol::Migration, Protocol::Release] {
        let mut subject = subject_of(OWNER, protocol);
        for step in [Hint::Read, Hint::Miss, Hint::Got(true), Hint::Known] {
            let refused = subject.refuses(READER, hint(7, step));
            assert_eq!(refused, "the page's protocol knows no such access", "{protocol:?}, {step:?}");
        }
    }
}

// The home.

#[test]
fn a_home_writes_down_whom_the_owner_has_served() {
    let mut subject = home();
    assert_eq!(subject.hears(OWNER, served(7, READER, ReaderCopy::Here)), [known()]);
    assert_eq!(subject.entry(), shared());
    assert!(subject.engine.is_quiet());
    assert_eq!(
        subject.hears(OWNER, request(1, Write)).len(),
        1,
        "the owner's upgrade takes the reader's copy"
    );
}

#[test]
fn a_home_that_hears_of_nobody_asks_the_owner_next() {
    let mut subject = home();
    assert_eq!(subject.hears(OWNER, served(7, READER, ReaderCopy::Unused)), [known()]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(OWNER)), &[OWNER]));
}

#[test]
fn what_crossed_is_asked_again() {
    let mut subject = home();
    assert_eq!(subject.hears(OTHER, request(3, Read)), [send(OWNER, fetch(3, Read, OTHER))]);
    let again = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(again, [known(), send(OWNER, fetch(3, Read, OTHER))]);
    subject.hears(OTHER, report(3, true));
    let all = at_rest(DirectoryState::Shared(node(OWNER)), &[OWNER, READER, OTHER]);
    assert_eq!(subject.entry(), all);
}

#[test]
fn a_write_that_crossed_takes_the_readers_copy_first() {
    let mut subject = home();
    subject.hears(OTHER, request(3, Write));
    let again = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(again, [known(), send(READER, INVALIDATE)]);
    assert_eq!(subject.hears(READER, INVALIDATE_ACK), [send(OWNER, fetch(3, Write, OTHER))]);
}

#[test]
fn an_atomic_operation_that_crossed_takes_the_readers_copy_first() {
    let mut subject = home();
    let (ticket, operation) = (common::ticket(5), AtomicOperation { word: 0, change: AtomicChange::Add(1) });
    let forward = Message::AtomicForward { page: PAGE, requester: node(OTHER), ticket, operation };
    let asked = Message::AtomicRequest { page: PAGE, ticket, operation };
    assert_eq!(subject.hears(OTHER, asked), [send(OWNER, forward)]);
    let again = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(again, [known(), send(READER, INVALIDATE)]);
    assert_eq!(subject.hears(READER, INVALIDATE_ACK), [send(OWNER, forward)]);
}

#[test]
fn an_owner_that_asks_for_what_it_has_waits_until_it_has_told() {
    let mut subject = home();
    assert_eq!(subject.hears(OWNER, request(1, Write)), []);
    let granted = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(granted[0], known());
    assert_eq!(granted[1..].len(), 1, "the reader drops its copy for the owner: {granted:?}");
    subject.hears(OWNER, report(1, true));
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(OWNER)), &[OWNER]));
}

#[test]
fn an_owner_that_was_granted_too_much_is_served_anew() {
    let mut subject = home();
    subject.hears(OTHER, request(3, Read));
    subject.hears(OWNER, request(1, Write));
    assert_eq!(subject.loses(OTHER), [send(OWNER, common::grant(1, Write))]);
    assert_eq!(subject.hears(OWNER, request(2, Write)), []);
    let granted = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(granted[0], known());
    assert_eq!(subject.entry().holders, common::nodes(&[OWNER]), "the reader drops its copy for it");
    subject.hears(OWNER, report(2, true));
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(OWNER)), &[OWNER]));
}

#[test]
fn a_reader_that_writes_before_the_home_knows_of_it_is_an_upgrade_then() {
    let mut subject = home();
    assert_eq!(subject.hears(READER, request(8, Write)), [send(OWNER, fetch(8, Write, READER))]);
    let granted = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(granted[0], known());
    subject.hears(READER, report(8, true));
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(READER)), &[READER]));
}

#[test]
fn an_eviction_that_crossed_begins_again() {
    let mut subject = home();
    subject.hears(OWNER, Message::Evict { page: PAGE });
    let again = subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(again, [known(), send(READER, INVALIDATE)]);
    subject.hears(READER, INVALIDATE_ACK);
    subject.hears(OWNER, data(0, Write));
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(HOME)), &[HOME]));
}

#[test]
fn a_reader_that_was_not_heard_drops_what_it_may_have() {
    let mut subject = home();
    let told = subject.hears(OWNER, served(7, READER, ReaderCopy::Unheard));
    assert_eq!(told, [known(), send(READER, INVALIDATE)]);
    assert_eq!(subject.hears(READER, INVALIDATE_ACK), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(OWNER)), &[OWNER]));

    let mut subject = home();
    subject.hears(OTHER, request(3, Read));
    let told = subject.hears(OWNER, served(7, READER, ReaderCopy::Unheard));
    assert_eq!(told, [known(), send(READER, INVALIDATE)]);
    assert_eq!(subject.loses(READER), [send(OWNER, fetch(3, Read, OTHER))], "or it is lost");
}

#[test]
fn a_reader_that_the_home_has_lost_too_is_not_asked() {
    for copy in [ReaderCopy::Unheard, ReaderCopy::Here] {
        let mut subject = home();
        subject.loses(READER);
        assert_eq!(subject.hears(OWNER, served(7, READER, copy)), [known()]);
        assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(OWNER)), &[OWNER]));
    }
}

#[test]
fn who_was_to_get_the_page_and_was_lost_takes_it_along() {
    let mut subject = home();
    subject.hears(OTHER, request(3, Write));
    subject.loses(OTHER);
    assert_eq!(subject.hears(OWNER, served(7, READER, ReaderCopy::Here)), [known()]);
    assert_eq!(subject.entry().state, DirectoryState::Lost(node(OTHER)));

    let mut subject = home();
    subject.hears(OTHER, request(3, Read));
    subject.loses(OTHER);
    assert_eq!(subject.hears(OWNER, served(7, READER, ReaderCopy::Here)), [known()]);
    assert_eq!(subject.entry(), shared(), "a read takes nothing along");
}

#[test]
fn a_page_is_lost_with_an_owner_of_whose_reader_nobody_has_heard() {
    let mut subject = home();
    subject.hears(OTHER, request(3, Read));
    assert_eq!(subject.loses(OWNER), [send(OTHER, common::recall(3))]);
    subject.hears(OTHER, report(3, false));
    assert_eq!(subject.hears(OTHER, request(4, Read)), [send(OTHER, deny(4, OWNER))]);
}

#[test]
fn only_an_owner_says_whom_it_has_served() {
    let owned = "its copy of the page is not known to be the only one";
    let mut subject = home();
    assert_eq!(subject.refuses(OTHER, served(7, READER, ReaderCopy::Here)), owned);
    let cannot = "this node cannot have been sent the page";
    for reader in [OWNER, HOME, COUNT] {
        assert_eq!(subject.refuses(OWNER, served(7, reader, ReaderCopy::Here)), cannot);
    }
    subject.hears(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(subject.refuses(OWNER, served(8, OTHER, ReaderCopy::Here)), owned, "it is shared already");
    let untouched =
        subject_of(HOME, Protocol::WriteInvalidate).refuses(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(untouched, owned);
    let elsewhere = owner().refuses(OTHER, served(7, READER, ReaderCopy::Here));
    assert_eq!(elsewhere, "this node is not the home of the page");

    // The home has not heard that the writer has what it was granted.
    let mut subject = subject_of(HOME, Protocol::WriteInvalidate).shared_by(&[OWNER, OTHER]);
    subject.hears(OWNER, request(1, Write));
    let early = subject.refuses(OWNER, served(7, READER, ReaderCopy::Here));
    assert_eq!(early, "the page is under way between others");
}

//! Between synchronisations a release region says nothing, and at them exactly what is needed: a diff to each home, a notice to whoever
//! synchronises next, and no answer of a home before it has what the requester has been told of. Each of these is checked against
//! whole lists of actions.

mod common;

use common::{
    PAGE, REGION, Subject, barrier_at, data, done, failed, grant, lock_at, node, request, returned, send,
    send_page, ticket, zero_grant,
};
use pagemesh_protocol::{
    Access, Action, Failure, LockId, Message, PageAddress, PageState, Placement, Protocol, RequestId, limits,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const WRITER: u16 = 3;
const OTHER: u16 = 4;

fn page(number: u64) -> PageAddress {
    PageAddress::new(REGION, number)
}

/// Node `number` of five, where all pages have their home at [`HOME`].
fn subject(number: u16) -> Subject {
    Subject::following(Protocol::Release, number, 5, HOME)
}

fn lock(home: u16) -> LockId {
    lock_at(home, 5, 0)
}

fn send_diff(page: PageAddress, interval: u64, last: bool) -> Action {
    let message = Message::Diff { page, interval, last };
    Action::SendDiff { to: node(HOME), message, page, keep_twin: false }
}

fn wrote(writer: u16, interval: u64, first: PageAddress, count: u32) -> Message {
    Message::Wrote { writer: node(writer), interval, first, count }
}

fn told(writer: u16, interval: u64) -> Message {
    Message::Told { writer: node(writer), interval }
}

fn knows(writer: u16, interval: u64) -> Message {
    Message::Knows { writer: node(writer), interval }
}

fn need(id: u32, writer: u16, interval: u64) -> Message {
    Message::Need { page: PAGE, request: RequestId(id), writer: node(writer), interval }
}

/// Reads PAGE from the home and writes it.
fn writing() -> Subject {
    let mut subject = subject(THIS);
    subject.fault(1, Access::Read);
    subject.hears(HOME, data(0, Access::Read));
    assert_eq!(subject.fault(2, Access::Write), [Action::MakeTwin(PAGE), Action::Unprotect(PAGE), done(2)]);
    subject
}

#[test]
fn a_write_to_a_copy_asks_nobody() {
    assert_eq!(writing().state(), PageState::Modified);
}

#[test]
fn giving_back_a_lock_sends_diffs_and_a_notice() {
    let mut subject = writing();
    let other = lock(OTHER);
    assert_eq!(
        subject.gives_to_home(5, other, OTHER),
        [
            Action::Protect(PAGE),
            send_diff(PAGE, 1, true),
            send(OTHER, wrote(THIS, 1, PAGE, 1)),
            send(OTHER, told(THIS, 1)),
            send(OTHER, returned(other, 5)),
        ]
    );
    // Nothing was written since: nothing is said but to a home that has not heard of it.
    assert_eq!(subject.gives_to_home(5, other, OTHER), [send(OTHER, returned(other, 5))]);
    let here = lock(HOME);
    assert_eq!(
        subject.gives_to_home(5, here, HOME),
        [send(HOME, wrote(THIS, 1, PAGE, 1)), send(HOME, told(THIS, 1)), send(HOME, returned(here, 5)),]
    );
}

#[test]
fn neighbouring_pages_are_one_notice_and_the_last_diff_for_a_home_is_marked() {
    let mut subject = subject(THIS);
    for (slot, number) in [5, 3, 4, 9].into_iter().enumerate() {
        let slot = slot as u16 + 1;
        subject.act(|engine, out| engine.on_fault(ticket(slot), page(number), Access::Write, out));
        let request = RequestId(slot as u32 - 1);
        let access = Access::Write;
        subject.hears(HOME, Message::Grant { page: page(number), request, access, zero: true });
    }
    let barrier = barrier_at(OTHER, 5, 0);
    assert_eq!(
        subject.arrives(9, barrier, 2),
        [
            Action::Protect(page(3)),
            Action::Protect(page(4)),
            Action::Protect(page(5)),
            Action::Protect(page(9)),
            send_diff(page(3), 1, false),
            send_diff(page(4), 1, false),
            send_diff(page(5), 1, false),
            send_diff(page(9), 1, true),
            send(OTHER, wrote(THIS, 1, page(3), 3)),
            send(OTHER, wrote(THIS, 1, page(9), 1)),
            send(OTHER, told(THIS, 1)),
            send(OTHER, Message::BarrierArrive { barrier, ticket: ticket(9), participants: 2 }),
        ]
    );
}

#[test]
fn what_was_written_and_not_released_is_sent_before_the_copy_goes() {
    let mut subject = writing();
    assert_eq!(
        subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE)[1..],
        [Action::Protect(PAGE), send_diff(PAGE, 1, true), Action::Unmap(PAGE), done(5)]
    );
    // The next fetch says what the home must have; what this node wrote comes before on the same link.
    assert_eq!(
        subject.fault(6, Access::Read),
        [send(HOME, need(1, WRITER, 1)), send(HOME, request(1, Access::Read))]
    );
}

#[test]
fn what_the_home_wrote_needs_no_word() {
    let mut subject = subject(THIS);
    subject.gets_lock_with_notice(5, OTHER, HOME, PAGE);
    assert_eq!(subject.fault(6, Access::Read), [send(HOME, request(0, Access::Read))]);
}

#[test]
fn an_answer_that_a_notice_has_overtaken_is_not_used() {
    let mut subject = subject(THIS);
    subject.fault(1, Access::Read);
    subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE);
    assert_eq!(
        subject.hears(HOME, data(0, Access::Read)),
        [send(HOME, need(1, WRITER, 1)), send(HOME, request(1, Access::Read))]
    );
    assert_eq!(
        subject.hears(HOME, data(1, Access::Read)),
        [Action::Fill(PAGE), Action::MapRead(PAGE), done(1)]
    );
    let mut subject = common::Subject::following(Protocol::Release, THIS, 5, HOME);
    subject.fault(1, Access::Write);
    subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE);
    assert_eq!(
        subject.hears(HOME, zero_grant(0, Access::Write)),
        [send(HOME, need(1, WRITER, 1)), send(HOME, request(1, Access::Write))]
    );
}

#[test]
fn a_home_answers_when_the_diffs_have_come() {
    let mut subject = subject(HOME);
    assert_eq!(subject.hears(THIS, need(7, WRITER, 4)), []);
    assert_eq!(subject.hears(THIS, request(7, Access::Read)), []);
    // Another's request that needs nothing is answered meanwhile.
    assert_eq!(subject.hears(OTHER, request(3, Access::Write)), [send(OTHER, zero_grant(3, Access::Write))]);
    let diff = |page, interval, last| Message::Diff { page, interval, last };
    assert_eq!(subject.hears(WRITER, diff(page(9), 3, true)), [Action::ApplyDiff(page(9))]);
    assert_eq!(subject.hears(WRITER, diff(PAGE, 4, false)), [Action::ApplyDiff(PAGE)]);
    assert!(!subject.engine.is_quiet());
    assert_eq!(
        subject.hears(WRITER, diff(page(9), 4, true)),
        [Action::ApplyDiff(page(9)), send_page(THIS, data(7, Access::Read))]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_home_waits_for_diffs_that_it_was_told_of_itself() {
    let mut subject = subject(HOME);
    subject.hears(WRITER, request(2, Access::Write));
    subject.fault(1, Access::Write);
    let got = subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE);
    assert_eq!(got[1..], [Action::Unmap(PAGE), done(5)]);
    // Nobody is shown the page without the diff, the home's own threads not either.
    assert_eq!(subject.fault(6, Access::Read), []);
    assert_eq!(subject.hears(OTHER, request(3, Access::Read)), []);
    let diff = Message::Diff { page: PAGE, interval: 1, last: true };
    assert_eq!(
        subject.hears(WRITER, diff),
        [Action::ApplyDiff(PAGE), Action::MapRead(PAGE), done(6), send_page(OTHER, data(3, Access::Read))]
    );
    // What the home wrote before still becomes its notice.
    let barrier = barrier_at(OTHER, 5, 0);
    let arrival = Message::BarrierArrive { barrier, ticket: ticket(9), participants: 2 };
    assert_eq!(
        subject.arrives(9, barrier, 2),
        [
            send(OTHER, wrote(HOME, 1, PAGE, 1)),
            send(OTHER, told(HOME, 1)),
            send(OTHER, knows(WRITER, 1)),
            send(OTHER, arrival)
        ]
    );
}

#[test]
fn a_page_of_the_home_alone_stays_writable_and_is_not_told() {
    let mut subject = subject(HOME);
    subject.fault(1, Access::Write);
    let barrier = barrier_at(OTHER, 5, 0);
    let arrival =
        |slot| send(OTHER, Message::BarrierArrive { barrier, ticket: ticket(slot), participants: 2 });
    assert_eq!(subject.arrives(2, barrier, 2), [arrival(2)]);
    assert_eq!(subject.state(), PageState::Modified);
    // Who gets a copy has all that was written so far.
    assert_eq!(
        subject.hears(THIS, request(7, Access::Read)),
        [Action::Protect(PAGE), send_page(THIS, data(7, Access::Read))]
    );
    assert_eq!(subject.arrives(3, barrier, 2), [arrival(3)]);
    // What is written from now on is told, once: then the copy is as good as gone.
    assert_eq!(subject.fault(4, Access::Write), [Action::Unprotect(PAGE), done(4)]);
    assert_eq!(
        subject.arrives(5, barrier, 2),
        [Action::Protect(PAGE), send(OTHER, wrote(HOME, 1, PAGE, 1)), send(OTHER, told(HOME, 1)), arrival(5)]
    );
    subject.fault(6, Access::Write);
    assert_eq!(subject.arrives(7, barrier, 2), [arrival(7)]);
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_copy_made_while_a_thread_of_the_home_is_about_to_write_is_told_of_it() {
    let mut subject = subject(HOME);
    subject.slow_threads = true;
    subject.fault(1, Access::Write);
    let barrier = barrier_at(OTHER, 5, 0);
    // Another thread of the home ends the interval.
    subject.arrives(2, barrier, 2);
    assert_eq!(subject.hears(THIS, request(7, Access::Read)), [send_page(THIS, data(7, Access::Read))]);
    subject.resumes(1);
    assert_eq!(
        subject.arrives(3, barrier, 2)[..2],
        [Action::Protect(PAGE), send(OTHER, wrote(HOME, 1, PAGE, 1))]
    );
}

#[test]
fn a_zero_page_that_was_granted_is_a_copy_like_others() {
    let mut subject = subject(HOME);
    assert_eq!(subject.hears(THIS, request(7, Access::Read)), [send(THIS, zero_grant(7, Access::Read))]);
    subject.fault(1, Access::Write);
    // A diff of a third node changes nothing about who has copies.
    subject.hears(WRITER, Message::Diff { page: PAGE, interval: 1, last: true });
    let barrier = barrier_at(OTHER, 5, 0);
    assert_eq!(
        subject.arrives(3, barrier, 2)[..2],
        [Action::Protect(PAGE), send(OTHER, wrote(HOME, 1, PAGE, 1))]
    );
}

/// Else a node that releases again and again, and always has more on its way than has come, keeps the page from all others.
#[test]
fn a_home_waits_for_no_more_than_it_knew_of_when_it_was_asked() {
    let mut subject = subject(HOME);
    subject.hears(WRITER, request(2, Access::Write));
    subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE);
    assert_eq!(subject.hears(THIS, request(7, Access::Read)), []);
    subject.hears(OTHER, wrote(WRITER, 2, PAGE, 1));
    subject.hears(OTHER, told(WRITER, 2));
    let diff = |interval| Message::Diff { page: PAGE, interval, last: true };
    let answer = send_page(THIS, data(7, Access::Read));
    assert_eq!(subject.hears(WRITER, diff(1)), [Action::ApplyDiff(PAGE), answer]);
    // Whoever asks now may have been told of the second.
    assert_eq!(subject.hears(THIS, request(8, Access::Read)), []);
    let answer = send_page(THIS, data(8, Access::Read));
    assert_eq!(subject.hears(WRITER, diff(2)), [Action::ApplyDiff(PAGE), answer]);
    assert!(subject.engine.is_quiet());
}

/// Else an owner that writes the page again and again keeps it from whoever is told each time before the answer comes.
#[test]
fn an_answer_has_what_its_sender_told_of_before() {
    let answer = |from| {
        let mut subject = subject(THIS);
        subject.fault(1, Access::Read);
        subject.gets_lock_with_notice(5, WRITER, WRITER, PAGE);
        subject.hears(from, data(0, Access::Read))
    };
    assert!(answer(WRITER).contains(&done(1)), "{:?}", answer(WRITER));
    assert!(answer(HOME).contains(&send(HOME, request(1, Access::Read))), "{:?}", answer(HOME));
}

#[test]
fn a_writer_lost_with_its_diffs_takes_the_page_with_it() {
    let mut subject = subject(HOME);
    subject.hears(THIS, need(7, WRITER, 4));
    subject.hears(THIS, request(7, Access::Read));
    subject.hears(WRITER, Message::Diff { page: PAGE, interval: 3, last: true });
    let denied = Message::Deny { page: PAGE, request: RequestId(7), lost_with: node(WRITER) };
    assert_eq!(subject.loses(WRITER), [send(THIS, denied)]);
    assert!(subject.engine.is_quiet());
    // Who was not told of the lost interval cannot know that something is missing.
    assert_eq!(subject.hears(OTHER, request(8, Access::Read)), [send_page(OTHER, data(8, Access::Read))]);
}

#[test]
fn without_its_home_a_copy_can_be_read_and_not_written() {
    let mut subject = subject(THIS);
    subject.fault(1, Access::Read);
    subject.hears(HOME, data(0, Access::Read));
    subject.loses(HOME);
    assert_eq!(subject.state(), PageState::Shared);
    let lost = Failure::PeerLost(node(HOME));
    assert_eq!(subject.fault(2, Access::Write), [failed(2, lost)]);
    // A page that is being written when its home is lost keeps its bytes here, and nobody can be told of them.
    let mut writing = writing();
    writing.loses(HOME);
    assert_eq!(writing.arrives_at_barrier(3, OTHER)[..2], [Action::Protect(PAGE), Action::DropTwin(PAGE)]);
}

#[test]
fn with_too_many_twins_the_interval_ends_by_itself() {
    let placement = Placement::Single(node(HOME));
    let pages = limits::TWINS as u64 + 1;
    let spec = pagemesh_protocol::RegionSpec {
        protocol: Protocol::Release,
        pages,
        ..common::asked("many", placement)
    };
    let mut subject = Subject::with_region(THIS, 5, spec);
    let mut write = |number: u64| {
        let mut all = subject.act(|engine, out| engine.on_fault(ticket(1), page(number), Access::Write, out));
        let (request, access) = (RequestId(number as u32), Access::Write);
        all.extend(subject.hears(HOME, Message::Grant { page: page(number), request, access, zero: true }));
        all
    };
    for number in 0..limits::TWINS as u64 {
        assert_eq!(write(number).len(), 5, "asked, zeroed, with a twin, mapped, done");
    }
    let last = write(limits::TWINS as u64);
    let sent = last.iter().filter(|action| matches!(action, Action::SendDiff { .. })).count();
    assert_eq!(sent, limits::TWINS);
}

#[test]
fn what_everyone_has_confirmed_is_settled_at_a_barrier() {
    let mut subject = Subject::following(Protocol::Release, 0, 2, 0);
    let barrier = barrier_at(0, 2, 0);
    let arrive = |slot| Message::BarrierArrive { barrier, ticket: ticket(slot), participants: 2 };
    let release = |slot| send(1, Message::BarrierRelease { barrier, ticket: ticket(slot), plan: None });
    subject.fault(1, Access::Write);
    subject.hears(1, request(5, Access::Read));
    subject.hears(1, arrive(1));
    subject.fault(4, Access::Write);
    // The notice is on its way: not settled yet.
    assert_eq!(
        subject.arrives(2, barrier, 2),
        [Action::Protect(PAGE), send(1, wrote(0, 1, PAGE, 1)), send(1, told(0, 1)), release(1), done(2)]
    );
    assert_eq!(subject.engine.notices_held(), 1);
    subject.hears(1, knows(0, 1));
    subject.hears(1, arrive(2));
    let settled = Message::Settled { writer: node(0), interval: 1 };
    assert_eq!(subject.arrives(3, barrier, 2), [send(1, settled), release(2), done(3)]);
    assert_eq!(subject.engine.notices_held(), 0);
}

#[test]
fn impossible_notices_and_diffs_are_refused() {
    let mut subject = subject(HOME);
    let region_of_another_protocol = Subject::following(Protocol::Migration, HOME, 5, HOME);
    let diff = |interval, last| Message::Diff { page: PAGE, interval, last };
    for (message, what) in [
        (wrote(7, 1, PAGE, 1), "not a member"),
        (wrote(WRITER, 1, PAGE, 1000), "does not exist"),
        (wrote(WRITER, 1, page(u64::MAX), 2), "does not exist"),
        (wrote(WRITER, limits::INTERVALS, PAGE, 1), "interval"),
        (told(HOME, 1), "interval"),
        (knows(HOME, 5), "interval"),
        (Message::Settled { writer: node(HOME), interval: 1 }, "interval"),
        (diff(limits::INTERVALS, true), "interval"),
        (diff(0, true), "interval"),
        (need(1, 9, 1), "not a member"),
        (Message::Invalidate { page: PAGE }, "not the home"),
    ] {
        let refused = subject.refuses(OTHER, message);
        assert!(refused.contains(what), "{message:?}: {refused}");
    }
    subject.hears(WRITER, diff(5, true));
    assert!(subject.refuses(WRITER, diff(5, true)).contains("interval"));
    let mut migrating = region_of_another_protocol;
    for message in [wrote(WRITER, 1, PAGE, 1), diff(1, true), need(1, WRITER, 1)] {
        assert!(migrating.refuses(WRITER, message).contains("knows no intervals"), "{message:?}");
    }
    // A home can ask nothing of a holder that the protocol does not know.
    let mut holder = writing();
    for message in [common::INVALIDATE, common::fetch(9, Access::Write, OTHER), common::recall(0)] {
        assert!(holder.refuses(HOME, message).contains("no such access"), "{message:?}");
    }
    holder.fault(9, Access::Read);
    let mut asking = common::Subject::following(Protocol::Release, THIS, 5, HOME);
    asking.fault(1, Access::Write);
    assert!(asking.refuses(HOME, grant(0, Access::Write)).contains("does not fit"));
}

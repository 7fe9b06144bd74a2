//! Where the kernel notes which pages are written, a first write costs no fault, and nobody hears of it until it is looked for. So the
//! engine has to have the twin before a thread can write, to take what a look found for written, and to compare a copy once more when it
//! goes. Each of these is checked against whole lists of actions; programs without data races on whole meshes are the simulator's.

mod common;

use common::{
    PAGE, REGION, Subject, barrier_at, data, done, lock_at, node, request, send, send_page, ticket,
};
use pagemesh_protocol::{Access, Action, Engine, Message, PageAddress, PageState, Protocol, RequestId};

const HOME: u16 = 1;
const THIS: u16 = 2;
const WRITER: u16 = 3;
const OTHER: u16 = 4;

/// Node `number` of five, where all pages have their home at [`HOME`], and whose kernel notes writes.
fn subject(number: u16) -> Subject {
    let mut subject = Subject::following(Protocol::Release, number, 5, HOME);
    subject.engine.track_writes(REGION);
    subject
}

/// Has read PAGE from the home.
fn reading() -> Subject {
    let mut subject = subject(THIS);
    assert_eq!(subject.fault(1, Access::Read), [send(HOME, request(0, Access::Read))]);
    assert_eq!(
        subject.hears(HOME, data(0, Access::Read)),
        [Action::Fill(PAGE), Action::MakeTwin(PAGE), Action::MapRead(PAGE), done(1)]
    );
    subject.act(|engine, out| engine.on_resumed(ticket(1), out));
    subject
}

/// A look that finds `pages` written.
fn look(subject: &mut Subject, pages: &[u64]) {
    for page in pages {
        subject.engine.on_written(PageAddress::new(REGION, *page), 1);
    }
    subject.engine.on_looked();
}

fn arrive(subject: &mut Subject) -> Vec<Action> {
    let barrier = barrier_at(OTHER, 5, 0);
    subject.act(|engine, out| engine.on_barrier_arrive(ticket(9), barrier, 2, out))
}

fn diff(interval: u64, last: bool) -> Message {
    Message::Diff { page: PAGE, interval, last }
}

fn send_diff(interval: u64) -> Action {
    Action::SendDiff { to: node(HOME), message: diff(interval, true), page: PAGE, keep_twin: true }
}

fn flush(interval: u64) -> Action {
    Action::Flush { page: PAGE, diff: Some((node(HOME), diff(interval, false))) }
}

fn notice_comes(subject: &mut Subject) -> Vec<Action> {
    let lock = lock_at(OTHER, 5, 0);
    look(subject, &[]);
    subject.act(|engine, out| engine.on_lock_acquire(ticket(7), lock, out));
    subject.hears(OTHER, Message::Wrote { writer: node(WRITER), interval: 1, first: PAGE, count: 1 });
    subject.hears(OTHER, Message::Told { writer: node(WRITER), interval: 1 });
    look(subject, &[]);
    subject.hears(OTHER, Message::LockGrant { lock, ticket: ticket(7), died: None })
}

#[test]
fn what_a_look_finds_goes_out_with_the_release() {
    let mut subject = reading();
    assert_eq!(subject.engine.next_to_look_at(PageAddress::new(REGION, 0)), Some((PAGE, 1)));
    look(&mut subject, &[PAGE.page]);
    assert_eq!(subject.state(), PageState::Modified);
    let actions = arrive(&mut subject);
    assert_eq!(actions[..2], [Action::Protect(PAGE), send_diff(1)]);
    assert!(
        actions.contains(&send(
            OTHER,
            Message::Wrote { writer: node(THIS), interval: 1, first: PAGE, count: 1 }
        ))
    );
    assert_eq!(subject.state(), PageState::Shared);
    // And again, with the same twin.
    look(&mut subject, &[PAGE.page]);
    let lock = lock_at(OTHER, 5, 1);
    let actions = subject.gives_to_home(5, lock, OTHER);
    assert_eq!(actions[..2], [Action::Protect(PAGE), send_diff(2)]);
}

#[test]
fn what_no_look_finds_is_not_told() {
    let mut subject = reading();
    look(&mut subject, &[PAGE.page + 1]);
    let barrier = barrier_at(OTHER, 5, 0);
    let message = Message::BarrierArrive { barrier, ticket: ticket(9), participants: 2 };
    assert_eq!(arrive(&mut subject), [send(OTHER, message)]);
}

#[test]
#[should_panic(expected = "nobody has looked")]
fn a_release_without_a_look_is_a_mistake() {
    arrive(&mut reading());
}

#[test]
fn a_copy_that_goes_is_compared_after_it_is_unmapped() {
    let mut subject = reading();
    let actions = notice_comes(&mut subject);
    assert_eq!(actions[..2], [Action::Unmap(PAGE), flush(1)]);
    // Something was written: the notice is owed, and the diff is at the home before.
    subject.engine.on_flushed(PAGE);
    look(&mut subject, &[]);
    let actions = arrive(&mut subject);
    assert_eq!(actions[0], send(HOME, diff(1, true)));
    assert!(
        actions.contains(&send(
            OTHER,
            Message::Wrote { writer: node(THIS), interval: 1, first: PAGE, count: 1 }
        ))
    );
}

#[test]
fn a_copy_that_was_not_written_owes_nothing() {
    let mut subject = reading();
    notice_comes(&mut subject);
    look(&mut subject, &[]);
    let sent_notices = arrive(&mut subject).iter().any(|action| {
        matches!(action, Action::Send { message: Message::Wrote { writer, .. }, .. } if *writer == node(THIS))
    });
    assert!(!sent_notices);
}

#[test]
fn a_copy_that_is_given_back_is_compared_too() {
    let mut subject = reading();
    let actions = subject.act(|engine, out| engine.on_evict(PAGE, out));
    assert_eq!(actions, [Action::Unmap(PAGE), flush(1)]);
    assert_eq!(subject.engine.next_to_look_at(PageAddress::new(REGION, 0)), None);
}

#[test]
fn a_write_fault_on_a_page_that_is_here_only_maps_it_again() {
    let mut subject = reading();
    assert_eq!(subject.fault(2, Access::Write), [Action::MapRead(PAGE), done(2)]);
    assert_eq!(subject.state(), PageState::Shared);
}

#[test]
fn a_home_that_reads_an_untouched_page_no_longer_calls_it_zero() {
    let mut home = subject(HOME);
    home.fault(1, Access::Read);
    home.act(|engine, out| engine.on_resumed(ticket(1), out));
    let request = Message::PageRequest { page: PAGE, request: RequestId(5), access: Access::Read };
    let answer = Message::Data { page: PAGE, request: RequestId(5), access: Access::Read };
    assert_eq!(home.hears(OTHER, request), [send_page(OTHER, answer)]);
    // What the home wrote without a word is in a notice when it releases.
    look(&mut home, &[PAGE.page]);
    let actions = arrive(&mut home);
    assert_eq!(actions[0], Action::Protect(PAGE));
    let notice = Message::Wrote { writer: node(HOME), interval: 1, first: PAGE, count: 1 };
    assert!(actions.contains(&send(OTHER, notice)));
}

#[test]
fn a_page_alone_at_its_home_needs_no_look() {
    let mut home = subject(HOME);
    home.fault(1, Access::Write);
    home.act(|engine, out| engine.on_resumed(ticket(1), out));
    assert_eq!(home.engine.next_to_look_at(PageAddress::new(REGION, 0)), None);
    arrive(&mut home);
    assert_eq!(
        (home.state(), home.engine.next_to_look_at(PageAddress::new(REGION, 0))),
        (PageState::Modified, None)
    );
}

#[test]
fn other_protocols_and_regions_without_tracking_are_as_they_were() {
    let mut subject = Subject::following(Protocol::WriteInvalidate, THIS, 5, HOME);
    subject.engine.track_writes(REGION);
    assert!(!subject.engine.tracks_writes(REGION));
    let (lock, here) = (lock_at(HOME, 5, 0), ticket(1));
    let asked =
        Message::LockForward { lock, ticket: here, node: node(OTHER), wanted: ticket(2), waits: true };
    assert!(Engine::may_release(&asked) && !Engine::may_release(&data(0, Access::Read)));
}

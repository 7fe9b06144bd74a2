//! A program that computes in rounds should pay for its pages in the first rounds, not in each: what threads did after every barrier is done
//! for them. And what they do no longer is given up again.

mod common;

use common::{PAGE, REGION, Subject, asked, lock_at, node, request, ticket};
use pagemesh_protocol::{
    Access, Action, Actions, EngineConfig, LockId, Message, PageState, Placement, Protocol, RegionSpec,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const WRITER: u16 = 3;
const OTHER: u16 = 4;

fn subject(number: u16, foresees: bool) -> Subject {
    let mut subject = Subject::configured(EngineConfig { foresees, ..EngineConfig::new(node(number), 5) });
    let spec = RegionSpec {
        protocol: Protocol::Release,
        address: 0x2000_0000_0000,
        ..asked("shared", Placement::Single(node(HOME)))
    };
    subject.hears(0, Message::RegionMap { region: REGION, round: 0, spec });
    subject.act(|engine, out| engine.on_region_mapped(REGION, 0, true, out));
    subject
}

/// A lock of its own for each round, since taking one again is no acquire.
fn lock(number: u16) -> LockId {
    lock_at(OTHER, 5, number.into())
}

/// Answers the request that is among `actions`, if there is one; true when there was.
fn answer(subject: &mut Subject, actions: &Actions) -> bool {
    let asked = actions.iter().find_map(|action| match action {
        Action::Send { message: Message::PageRequest { page, request, access }, .. } => {
            Some(Message::Data { page: *page, request: *request, access: *access })
        }
        _ => None,
    });
    asked.map(|data| subject.hears(HOME, data)).is_some()
}

/// How often PAGE faults in a round, which begins with a lock and the news that the writer wrote the page: when it is read, and written
/// as well where `writes`.
fn faults_of_round(subject: &mut Subject, number: u16, writes: bool) -> u32 {
    let (writer, interval) = (node(WRITER), number as u64);
    subject.acquires(number, lock(number));
    subject.hears(OTHER, Message::Wrote { writer, interval, first: PAGE, count: 1 });
    subject.hears(OTHER, Message::Told { writer, interval });
    let got =
        subject.hears(OTHER, Message::LockGrant { lock: lock(number), ticket: ticket(number), died: None });
    answer(subject, &got);
    let mut faults = 0;
    if subject.state() == PageState::Invalid {
        faults += 1;
        let faulted = subject.fault(500, Access::Read);
        assert!(answer(subject, &faulted));
    }
    if writes && subject.state() == PageState::Shared {
        faults += 1;
        subject.fault(501, Access::Write);
    }
    faults
}

fn faults_of_rounds(subject: &mut Subject, rounds: std::ops::Range<u16>, writes: bool) -> Vec<u32> {
    rounds.map(|number| faults_of_round(subject, number, writes)).collect()
}

#[test]
fn what_is_used_and_written_in_each_round_costs_few_faults() {
    let mut subject = subject(THIS, true);
    let faults = faults_of_rounds(&mut subject, 1..21, true);
    assert_eq!(faults[0], 2, "{faults:?}");
    assert!(faults[1..].iter().all(|faults| *faults <= 1), "{faults:?}");
    assert!(faults[2..].iter().sum::<u32>() <= 4, "{faults:?}");
    assert!(subject.engine.foreseen().0 >= 14);
}

#[test]
fn what_is_only_read_is_never_fetched_to_be_written() {
    let mut subject = subject(THIS, true);
    for number in 1..20 {
        faults_of_round(&mut subject, number, false);
        assert_eq!(subject.state(), PageState::Shared);
    }
}

#[test]
fn a_page_that_was_not_changed_is_not_expected_to_be_written() {
    let mut subject = subject(THIS, true);
    faults_of_round(&mut subject, 1, true);
    subject.engine.on_unchanged(PAGE);
    faults_of_round(&mut subject, 2, false);
    assert_eq!(subject.state(), PageState::Shared);
    // It has to be written twice now.
    faults_of_rounds(&mut subject, 3..5, true);
    faults_of_round(&mut subject, 5, false);
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_copy_that_nobody_wants_any_more_is_not_fetched_for_long() {
    let mut subject = subject(THIS, true);
    faults_of_rounds(&mut subject, 1..20, false);
    let before = subject.engine.foreseen().0;
    for number in 20..60 {
        let (writer, interval) = (node(WRITER), number as u64);
        subject.acquires(number, lock(number));
        subject.hears(OTHER, Message::Wrote { writer, interval, first: PAGE, count: 1 });
        subject.hears(OTHER, Message::Told { writer, interval });
        let granted = Message::LockGrant { lock: lock(number), ticket: ticket(number), died: None };
        let got = subject.hears(OTHER, granted);
        answer(&mut subject, &got);
    }
    assert!(subject.engine.foreseen().0 - before <= 7);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn a_home_that_writes_in_each_round_keeps_the_right_to() {
    let mut home = subject(HOME, true);
    let mut faults = 0;
    for number in 1..=20_u16 {
        // Somebody reads it in each round.
        home.hears(THIS, request(number as u32, Access::Read));
        if home.state() != PageState::Modified {
            faults += 1;
            home.fault(number, Access::Write);
        }
        let wrote = |action: &Action| matches!(action, Action::Send { message: Message::Wrote { .. }, .. });
        assert!(home.arrives_at_barrier(100 + number, OTHER).iter().any(wrote), "round {number}");
    }
    assert!(faults <= 6, "{faults} faults in 20 rounds");
    home.hears(THIS, request(21, Access::Read));
    // Locks go to others at any time: what was not written since the last one went should not be told at each.
    let (lock, ticket) = (lock(0), ticket(300));
    home.acquires(300, lock);
    home.hears(OTHER, Message::LockGrant { lock, ticket, died: None });
    home.releases(300, lock);
    home.hears(
        OTHER,
        Message::LockForward { lock, ticket, node: node(THIS), wanted: common::ticket(7), waits: true },
    );
    assert_eq!(home.state(), PageState::Shared);
}

#[test]
fn without_foresight_every_round_is_like_the_first() {
    let mut subject = subject(THIS, false);
    assert_eq!(faults_of_rounds(&mut subject, 1..11, true), [2; 10]);
    assert_eq!(subject.engine.foreseen(), (0, 0));
}

//! A reader that fetches a page again after every notice is sent it unasked, so that its threads find it there. Nothing that it sees may
//! become older by that, nothing that it wrote may be lost, and who sends in vain has to stop.

mod common;

use common::{
    PAGE, REGION, Subject, asked, barrier_at, done, fetch, lock_at, node, request, send, send_page, ticket,
};
use pagemesh_protocol::{
    Access, Action, Actions, AtomicChange, AtomicOperation, EngineConfig, LockId, Message, NodeId,
    PageAddress, PageState, Placement, Protocol, RegionId, RegionSpec, limits,
};

const HOME: u16 = 1;
const READER: u16 = 2;
const WRITER: u16 = 3;
const OTHER: u16 = 4;

fn subject(number: u16) -> Subject {
    configured(EngineConfig { updates: true, ..EngineConfig::new(node(number), 5) })
}

/// More pages than have followers.
const PAGES: u64 = limits::FOLLOWERS as u64 + 1;

fn configured(config: EngineConfig) -> Subject {
    let mut subject = Subject::configured(config);
    let spec = RegionSpec {
        protocol: Protocol::Release,
        address: 0x2000_0000_0000,
        pages: PAGES,
        ..asked("shared", Placement::Single(node(HOME)))
    };
    subject.hears(0, Message::RegionMap { region: REGION, round: 0, spec });
    subject.act(|engine, out| engine.on_region_mapped(REGION, 0, true, out));
    subject
}

const fn follow(reader: u16) -> Message {
    Message::Follow { page: PAGE, reader: NodeId::new(reader) }
}

const fn unfollow(reader: u16) -> Message {
    Message::Unfollow { page: PAGE, reader: NodeId::new(reader) }
}

const fn update(writer: u16, interval: u64, own: u64) -> Message {
    Message::Update { page: PAGE, writer: NodeId::new(writer), interval, own }
}

/// A lock of its own for each round, since taking one again is no acquire.
fn lock(round: u16) -> LockId {
    lock_at(OTHER, 5, round.into())
}

/// A round begins with a lock, and the news that the writer wrote the page.
fn acquires_with_notice(subject: &mut Subject, round: u16) -> Actions {
    let (writer, interval) = (node(WRITER), u64::from(round));
    subject.acquires(round, lock(round));
    subject.hears(OTHER, Message::Wrote { writer, interval, first: PAGE, count: 1 });
    subject.hears(OTHER, Message::Told { writer, interval });
    subject.hears(OTHER, Message::LockGrant { lock: lock(round), ticket: ticket(round), died: None })
}

/// A thread reads the page; `from` answers when it was asked for. Returns what was sent before.
fn reads(subject: &mut Subject, from: u16) -> Vec<Message> {
    if subject.state() != PageState::Invalid {
        return Vec::new();
    }
    let asked: Vec<Message> = subject.fault(500, Access::Read).into_iter().filter_map(said).collect();
    let Some(Message::PageRequest { page, request, access }) = asked.last().copied() else {
        panic!("the page is asked for: {asked:?}")
    };
    subject.hears(from, Message::Data { page, request, access });
    asked
}

fn said(action: Action) -> Option<Message> {
    match action {
        Action::Send { message, .. } => Some(message),
        _ => None,
    }
}

/// A reader that has fetched the page for the third time, in round 3, and follows it.
fn follower(from: u16) -> Subject {
    let mut subject = subject(READER);
    for round in 1..=3 {
        acquires_with_notice(&mut subject, round);
        let follows = reads(&mut subject, from).contains(&follow(READER));
        assert_eq!(follows, round == 3, "round {round}");
    }
    subject
}

#[test]
fn who_fetches_a_page_again_twice_follows_it() {
    let mut subject = follower(HOME);
    acquires_with_notice(&mut subject, 4);
    assert!(!reads(&mut subject, HOME).contains(&follow(READER)), "once is enough");
}

#[test]
fn a_reader_that_is_not_to_follow_does_not() {
    let mut subject = configured(EngineConfig::new(node(READER), 5));
    for round in 1..=20 {
        acquires_with_notice(&mut subject, round);
        assert!(!reads(&mut subject, HOME).contains(&follow(READER)));
    }
}

#[test]
fn a_notice_of_what_the_copy_has_takes_nothing() {
    let mut subject = follower(HOME);
    assert_eq!(subject.hears(HOME, update(WRITER, 4, 0)), [Action::Update(PAGE)]);
    assert_eq!(acquires_with_notice(&mut subject, 4), [done(4)]);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.engine.updates(), (1, 0));
}

#[test]
fn a_notice_of_more_than_that_takes_the_copy() {
    let mut subject = follower(HOME);
    subject.hears(HOME, update(WRITER, 4, 0));
    acquires_with_notice(&mut subject, 5);
    assert_eq!(subject.state(), PageState::Invalid, "of the same writer, later");
    reads(&mut subject, HOME);
    subject.hears(HOME, update(WRITER, 6, 0));
    let (writer, interval) = (node(OTHER), 1);
    subject.hears(OTHER, Message::Wrote { writer, interval, first: PAGE, count: 1 });
    subject.hears(OTHER, Message::Told { writer, interval });
    acquires_with_notice(&mut subject, 6);
    assert_eq!(subject.state(), PageState::Invalid, "of another writer");
}

#[test]
fn a_copy_that_came_anew_has_what_updates_bring_after_it() {
    let mut subject = follower(HOME);
    subject.hears(HOME, update(WRITER, 9, 0));
    acquires_with_notice(&mut subject, 10);
    reads(&mut subject, HOME);
    acquires_with_notice(&mut subject, 11);
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn an_update_is_taken_only_from_where_the_copy_came_from() {
    let mut subject = follower(HOME);
    assert_eq!(subject.hears(WRITER, update(WRITER, 4, 0)), []);
    assert_eq!(subject.engine.updates(), (0, 1));
    let mut subject = follower(WRITER);
    assert_eq!(subject.hears(HOME, update(WRITER, 4, 0)), []);
    assert_eq!(subject.hears(WRITER, update(WRITER, 4, 0)), [Action::Update(PAGE)]);
}

#[test]
fn an_update_for_a_copy_that_is_gone_or_on_its_way_is_left_alone() {
    let mut subject = follower(HOME);
    acquires_with_notice(&mut subject, 4);
    assert_eq!(subject.hears(HOME, update(WRITER, 4, 0)), []);
    subject.fault(500, Access::Read);
    assert_eq!(subject.hears(HOME, update(WRITER, 4, 0)), []);
    assert_eq!(subject.engine.updates(), (0, 2));
}

#[test]
fn an_update_that_lacks_what_the_reader_wrote_itself_is_left_alone() {
    let mut subject = follower(HOME);
    subject.fault(501, Access::Write);
    assert_eq!(
        subject.hears(HOME, update(WRITER, 4, 0)),
        [Action::Update(PAGE)],
        "the twin tells what it wrote"
    );
    subject.arrives_at_barrier(502, OTHER);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.hears(HOME, update(WRITER, 5, 0)), [], "its diff is on the way");
    acquires_with_notice(&mut subject, 4);
    assert_eq!(subject.hears(HOME, update(WRITER, 6, 1)), [Action::Update(PAGE)]);
}

#[test]
fn a_page_that_is_being_written_stays_writable() {
    let mut subject = follower(HOME);
    subject.fault(501, Access::Write);
    subject.hears(HOME, update(WRITER, 4, 0));
    assert_eq!(acquires_with_notice(&mut subject, 4), [done(4)], "and nothing has to be released");
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_page_that_is_used_in_each_round_is_let_go_now_and_then_only() {
    let mut subject = follower(HOME);
    let mut fetched = Vec::new();
    for round in 4..=200 {
        subject.hears(HOME, update(WRITER, round.into(), 0));
        acquires_with_notice(&mut subject, round);
        fetched.extend((!reads(&mut subject, HOME).is_empty()).then_some(round));
    }
    assert_eq!(fetched[..4], [8, 17, 34, 67], "{fetched:?}");
    assert!(fetched.len() <= 8, "{fetched:?}");
}

#[test]
fn a_page_that_nobody_uses_any_more_is_soon_followed_no_longer() {
    let mut subject = follower(HOME);
    let mut sent = 0;
    for round in 4..=200 {
        sent += 1;
        let said: Vec<Message> =
            subject.hears(HOME, update(WRITER, round.into(), 0)).into_iter().filter_map(said).collect();
        if said == [unfollow(READER)] {
            break;
        }
        acquires_with_notice(&mut subject, round);
    }
    assert_eq!(sent, 5 + 3, "it is let go by the fifth notice, and three more come");
    assert_eq!(subject.hears(HOME, update(WRITER, 300, 0)), [send(HOME, unfollow(READER))], "said once more");
}

#[test]
fn updates_that_outrun_the_reader_are_ended() {
    let mut subject = follower(HOME);
    assert_eq!(subject.hears(HOME, update(WRITER, 4, 0)), [Action::Update(PAGE)]);
    assert_eq!(subject.hears(HOME, update(WRITER, 5, 0)), [Action::Update(PAGE)]);
    assert_eq!(subject.hears(HOME, update(WRITER, 6, 0)), [send(HOME, unfollow(READER))]);
}

/// The test plays the home: it sends the page in each round while it is followed.
#[test]
fn a_page_that_is_used_now_and_then_is_hardly_sent() {
    let mut subject = subject(READER);
    let (mut is_followed, mut sent) = (false, 0);
    for round in 1..=600 {
        if is_followed {
            sent += 1;
            let said = subject.hears(HOME, update(WRITER, round.into(), 0));
            is_followed = !said.contains(&send(HOME, unfollow(READER)));
        }
        acquires_with_notice(&mut subject, round);
        if round % 6 == 0 {
            is_followed |= reads(&mut subject, HOME).contains(&follow(READER));
        }
    }
    assert!(sent <= 80, "{sent} updates for 100 uses");
}

#[test]
fn a_copy_that_is_given_back_is_not_followed() {
    let mut subject = follower(HOME);
    let actions = subject.act(|engine, out| engine.on_evict(PAGE, out));
    assert_eq!(actions, [send(HOME, unfollow(READER)), Action::Unmap(PAGE)]);
}

// The home.

#[test]
fn a_home_sends_followers_what_a_diff_has_brought() {
    let mut home = subject(HOME);
    home.hears(READER, follow(READER));
    home.hears(WRITER, follow(WRITER));
    home.hears(READER, request(1, Access::Read));
    let diff = Message::Diff { page: PAGE, interval: 7, last: true };
    let expected = [Action::ApplyDiff(PAGE), send_page(READER, update(WRITER, 7, 0))];
    assert_eq!(home.hears(WRITER, diff), expected, "the writer itself has it");
    let own = Message::Diff { page: PAGE, interval: 3, last: true };
    assert_eq!(home.hears(READER, own), [Action::ApplyDiff(PAGE), send_page(WRITER, update(READER, 3, 7))]);
    let diff = Message::Diff { page: PAGE, interval: 8, last: true };
    assert_eq!(home.hears(WRITER, diff)[1], send_page(READER, update(WRITER, 8, 3)), "it says what it has");
    home.hears(READER, unfollow(READER));
    assert_eq!(home.hears(WRITER, Message::Diff { page: PAGE, interval: 9, last: true }).len(), 1);
}

/// A copy whose writes the kernel notes sends what was written when it goes, early, and perhaps more of the same page when the interval ends.
#[test]
fn a_home_sends_a_page_when_the_interval_is_complete() {
    let mut home = subject(HOME);
    home.hears(READER, follow(READER));
    home.hears(READER, request(1, Access::Read));
    let diff = |last| Message::Diff { page: PAGE, interval: 7, last };
    assert_eq!(home.hears(WRITER, diff(false)), [Action::ApplyDiff(PAGE)]);
    let expected = [Action::ApplyDiff(PAGE), send_page(READER, update(WRITER, 7, 0))];
    assert_eq!(home.hears(WRITER, diff(true)), expected);
}

#[test]
fn a_home_sends_followers_what_it_wrote_itself_and_tells_of_what_follows() {
    let mut home = subject(HOME);
    home.hears(READER, follow(READER));
    home.hears(READER, request(1, Access::Read));
    for interval in 1..=3 {
        home.fault(700 + interval as u16, Access::Write);
        let actions = home.arrives_at_barrier(interval as u16, OTHER);
        let sent = send_page(READER, update(HOME, interval, 0));
        assert_eq!(actions[..2], [Action::Protect(PAGE), sent], "the page, as nobody can change it");
        assert!(home.entry().holders.contains(node(READER)), "else what it writes next would not be told");
    }
    home.loses(READER);
    home.fault(710, Access::Write);
    let actions = home.arrives_at_barrier(10, OTHER);
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Send { payload: Some(_), .. })),
        "{actions:?}"
    );
}

/// Two messages at different times would wake it twice.
#[test]
fn who_opens_a_barrier_sends_its_updates_with_that() {
    let mut home = subject(HOME);
    home.hears(READER, follow(READER));
    home.hears(READER, request(1, Access::Read));
    home.fault(700, Access::Write);
    assert_eq!(home.arrives_at_barrier(1, HOME), [Action::Protect(PAGE)]);
    let barrier = common::barrier_at(HOME, 5, 0);
    let arrives = Message::BarrierArrive { barrier, ticket: ticket(8), participants: 2 };
    let opened: Vec<Message> = home.hears(READER, arrives).into_iter().filter_map(said).collect();
    let wrote = Message::Wrote { writer: node(HOME), interval: 1, first: PAGE, count: 1 };
    assert_eq!(opened[..2], [update(HOME, 1, 0), wrote]);
}

#[test]
fn a_home_keeps_so_many_followers_and_no_more() {
    let mut home = subject(HOME);
    let others = (0..PAGES).map(|page| PageAddress::new(REGION, page)).filter(|page| *page != PAGE);
    for page in others {
        home.hears(READER, Message::Follow { page, reader: node(READER) });
    }
    home.hears(READER, follow(READER));
    let mut interval = 0;
    let mut diff = |page| {
        interval += 1;
        home.hears(WRITER, Message::Diff { page, interval, last: true }).len()
    };
    assert_eq!(
        (diff(PAGE), diff(PageAddress::new(REGION, 0))),
        (1, 2),
        "the last to come is fetched as before"
    );
}

#[test]
fn a_home_tells_the_owner_who_follows() {
    let mut home = subject(HOME);
    for interval in 1..=limits::LEND_AFTER {
        home.hears(WRITER, Message::Diff { page: PAGE, interval: interval.into(), last: true });
    }
    home.hears(WRITER, Message::LendReply { page: PAGE, taken: true });
    home.hears(READER, follow(READER));
    let passed = [send(WRITER, follow(READER)), send(WRITER, fetch(1, Access::Read, READER))];
    assert_eq!(home.hears(READER, request(1, Access::Read)), passed);
    assert_eq!(home.hears(READER, unfollow(READER)), [send(WRITER, unfollow(READER))]);
}

/// A node that writes PAGE and is its owner, after one interval.
fn owner() -> Subject {
    let mut owner = subject(WRITER);
    owner.fault(1, Access::Write);
    owner.hears(HOME, common::zero_grant(0, Access::Write));
    owner.arrives_at_barrier(2, OTHER);
    let lent = owner.hears(HOME, Message::Lend { page: PAGE, interval: 1 });
    assert!(lent.contains(&send(HOME, Message::LendReply { page: PAGE, taken: true })), "{lent:?}");
    owner
}

#[test]
fn an_owner_sends_followers_what_it_wrote_until_it_gives_the_page_back() {
    let mut owner = owner();
    owner.hears(HOME, follow(READER));
    owner.hears(HOME, fetch(1, Access::Read, READER));
    for interval in 2..=4 {
        owner.fault(700 + interval as u16, Access::Write);
        let actions = owner.arrives_at_barrier(interval as u16 + 10, OTHER);
        let sent = send_page(READER, update(WRITER, interval, 0));
        assert_eq!(actions[..2], [Action::Protect(PAGE), sent], "what it writes next is told again");
    }
    owner.hears(HOME, Message::CallIn { page: PAGE });
    owner.fault(730, Access::Write);
    let actions = owner.arrives_at_barrier(30, OTHER);
    assert!(
        !actions.iter().any(|action| matches!(said(*action), Some(Message::Update { .. }))),
        "{actions:?}"
    );
}

#[test]
fn a_borrower_follows_its_page_no_longer() {
    let mut subject = follower(HOME);
    subject.fault(501, Access::Write);
    subject.arrives_at_barrier(502, OTHER);
    subject.hears(HOME, Message::Lend { page: PAGE, interval: 1 });
    assert_eq!(subject.hears(HOME, update(OTHER, 4, 1)), [send(HOME, unfollow(READER))]);
}

#[test]
fn who_may_not_say_so_is_refused() {
    let elsewhere = PageAddress::new(RegionId(9), 0);
    let mut reader = follower(HOME);
    for (from, message) in [
        (HOME, Message::Update { page: elsewhere, writer: node(WRITER), interval: 1, own: 0 }),
        (HOME, Message::Update { page: PAGE, writer: NodeId::new(5), interval: 1, own: 0 }),
        (HOME, update(WRITER, limits::INTERVALS, 0)),
        // It has ended no interval.
        (HOME, update(WRITER, 4, 1)),
        // Nobody is told what it wrote itself.
        (HOME, update(READER, 0, 0)),
        // Who is not the home speaks for itself.
        (WRITER, update(OTHER, 4, 0)),
        // It is neither home nor owner, as the home knows.
        (OTHER, follow(WRITER)),
        (OTHER, unfollow(WRITER)),
        (HOME, follow(READER)),
        (HOME, Message::Follow { page: elsewhere, reader: node(WRITER) }),
    ] {
        reader.refuses(from, message);
    }
    let mut home = subject(HOME);
    for (from, message) in [
        (WRITER, update(WRITER, 1, 0)),
        (READER, follow(WRITER)),
        (READER, unfollow(WRITER)),
        (READER, follow(HOME)),
        (READER, Message::Follow { page: PAGE, reader: NodeId::new(7) }),
    ] {
        home.refuses(from, message);
    }
    let spec = asked("other", Placement::Single(node(HOME)));
    let mut other =
        Subject::with_region(READER, 5, RegionSpec { protocol: Protocol::WriteInvalidate, ..spec });
    assert_eq!(other.refuses(HOME, update(WRITER, 1, 0)), other.refuses(HOME, follow(WRITER)));
}

/// The home writes for whoever asks, after it has told all that it knows. What waits to be sent with that would be the page as it was before, and
/// as nobody else has a copy nothing would tell the reader of the operation.
#[test]
fn who_has_a_word_changed_is_not_sent_the_page_as_it_was_before() {
    let mut home = subject(HOME);
    home.hears(READER, follow(READER));
    home.fault(1, Access::Write);
    home.hears(READER, request(0, Access::Read));
    // The update is to go with what opens the barrier.
    assert_eq!(home.arrives(2, barrier_at(HOME, 5, 0), 2), [Action::Protect(PAGE)]);
    let operation = AtomicOperation { word: 0, change: AtomicChange::Add(1) };
    let changed = home.hears(READER, Message::AtomicRequest { page: PAGE, ticket: ticket(7), operation });
    let writer = node(HOME);
    assert_eq!(
        changed[..2],
        [
            send(READER, Message::Wrote { writer, interval: 1, first: PAGE, count: 1 }),
            send(READER, Message::Told { writer, interval: 1 })
        ]
    );
    assert!(matches!(changed[2..], [Action::Atomic { .. }]), "{changed:?}");
}

//! In a release region no other node takes a copy away: the copy goes when a thread of its own node synchronises. A system call
//! that is under way must not notice a release, nor must what it writes be lost: a page that is pinned for writing stays writable, what
//! was written so far goes home, and the rest goes with the next release. An acquire that names the page does not wait; the end
//! of the pin says that the page went.

mod common;

use common::{
    PAGE, REGION, Subject, barrier_at, data, done, failed, lock_at, node, request, returned, send, send_page,
    ticket,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Access, Action, Failure, LockId, Message, PageAddress, PageState, PinHolder, PinId, Placement, Protocol,
    RequestId, limits,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const WRITER: u16 = 3;
const OTHER: u16 = 4;

impl Subject {
    fn pins(&mut self, pin: u16, access: Access) -> Vec<Action> {
        let name = (PinId(pin as u64), PinHolder(7));
        self.act(|engine, out| engine.on_pin(ticket(pin), name, PAGE, access, out))
    }

    fn ends_pin(&mut self, pin: u16) -> Vec<Action> {
        self.act(|engine, out| {
            engine.on_unpin(PinId(pin as u64), out);
        })
    }

    /// Which page is to be compared with its twin.
    fn to_compare(&self) -> Option<PageAddress> {
        self.engine.next_to_compare(PageAddress::new(REGION, 0))
    }

    /// Gives back a lock that is wanted, and has compared the page with its twin before: they were equal.
    fn releases_unwritten(&mut self, slot: u16) -> Vec<Action> {
        self.holds_for_home(slot, lock(), OTHER);
        assert_eq!(self.to_compare(), Some(PAGE));
        self.engine.on_unwritten(PAGE);
        self.releases(slot, lock())
    }

    /// The page that went before the pin ended; the end itself asks for nothing.
    fn unpins(&mut self, pin: u16) -> Option<PageAddress> {
        let mut taken = None;
        let actions = self.act(|engine, out| taken = engine.on_unpin(PinId(pin as u64), out));
        assert_eq!(actions, []);
        taken
    }

    fn holds(&self, pin: u16) -> bool {
        self.engine.holds(PinId(pin as u64))
    }
}

fn subject(number: u16) -> Subject {
    Subject::following(Protocol::Release, number, 5, HOME)
}

/// Node 2 with a readable copy.
fn reader() -> Subject {
    let mut subject = subject(THIS);
    subject.fault(900, Read);
    assert_eq!(subject.hears(HOME, data(0, Read)).last(), Some(&done(900)));
    subject
}

fn lock() -> LockId {
    lock_at(OTHER, 5, 0)
}

fn send_diff(interval: u64, keep_twin: bool) -> Action {
    let message = Message::Diff { page: PAGE, interval, last: true };
    Action::SendDiff { to: node(HOME), message, page: PAGE, keep_twin }
}

/// What follows the diffs when this node tells that it wrote PAGE in `interval`, and gives back the lock.
fn told_and_given_back(slot: u16, interval: u64) -> [Action; 3] {
    let writer = node(THIS);
    [
        send(OTHER, Message::Wrote { writer, interval, first: PAGE, count: 1 }),
        send(OTHER, Message::Told { writer, interval }),
        send(OTHER, returned(lock(), slot)),
    ]
}

#[test]
fn a_pin_for_writing_makes_a_twin_before_the_page_is_writable() {
    let mut here = reader();
    assert_eq!(here.pins(1, Write), [Action::MakeTwin(PAGE), Action::Unprotect(PAGE), done(1)]);
    assert!(here.holds(1));
    let mut absent = subject(THIS);
    assert_eq!(absent.pins(1, Write), [send(HOME, request(0, Write))]);
    assert_eq!(
        absent.hears(HOME, data(0, Write)),
        [Action::Fill(PAGE), Action::MakeTwin(PAGE), Action::MapWrite(PAGE), done(1)]
    );
    let mut coming = subject(THIS);
    assert_eq!(coming.fault(1, Read), [send(HOME, request(0, Read))]);
    assert_eq!(coming.pins(2, Write), []);
    assert_eq!(
        coming.hears(HOME, data(0, Read)),
        [
            Action::Fill(PAGE),
            Action::MapRead(PAGE),
            done(1),
            Action::MakeTwin(PAGE),
            Action::Unprotect(PAGE),
            done(2)
        ]
    );
    assert!(coming.holds(2));
}

#[test]
fn a_page_that_is_pinned_for_writing_stays_writable_over_releases() {
    let mut subject = reader();
    subject.pins(1, Write);
    // Written by the system call or not: each release sends what there is, and what comes later is in the next.
    for interval in 1..4 {
        let mut expected = vec![send_diff(interval, true)];
        expected.extend(told_and_given_back(5, interval));
        assert_eq!(subject.gives_to_home(5, lock(), OTHER), expected);
        assert_eq!(subject.state(), PageState::Modified);
        assert!(subject.holds(1));
    }
    assert_eq!(subject.unpins(1), None);
    assert_eq!(subject.state(), PageState::Modified, "what was written last is not at home yet");
    let mut expected = vec![Action::Protect(PAGE), send_diff(4, false)];
    expected.extend(told_and_given_back(5, 4));
    assert_eq!(subject.gives_to_home(5, lock(), OTHER), expected);
    let nothing_new = [send(OTHER, returned(lock(), 5))];
    assert_eq!(subject.gives_to_home(5, lock(), OTHER), nothing_new);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_page_that_is_pinned_for_reading_only_is_protected_by_a_release() {
    let mut subject = reader();
    subject.fault(2, Write);
    subject.pins(1, Read);
    assert_eq!(subject.gives_to_home(5, lock(), OTHER)[..2], [Action::Protect(PAGE), send_diff(1, false)]);
    assert!(subject.holds(1), "it can still be read");
    assert_eq!(subject.unpins(1), None);
}

#[test]
fn a_notice_takes_a_pinned_page_and_what_was_written_goes_first() {
    let mut subject = reader();
    subject.pins(1, Write);
    assert_eq!(
        subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE)[1..],
        [Action::Protect(PAGE), send_diff(1, false), Action::Unmap(PAGE), done(5)],
        "a diff that was made before would lack what is stored meanwhile"
    );
    assert!(!subject.holds(1));
    // The page comes back, to be written anew: that is not what was pinned.
    let need = Message::Need { page: PAGE, request: RequestId(1), writer: node(WRITER), interval: 1 };
    assert_eq!(subject.pins(2, Write), [send(HOME, need), send(HOME, request(1, Write))]);
    assert_eq!(
        subject.hears(HOME, data(1, Write)),
        [Action::Fill(PAGE), Action::MakeTwin(PAGE), Action::MapWrite(PAGE), done(2)]
    );
    assert_eq!((subject.unpins(1), subject.unpins(2)), (Some(PAGE), None));
    subject.is_asked_for(5, lock(), OTHER);
    assert_eq!(subject.releases(5, lock())[..2], [Action::Protect(PAGE), send_diff(2, false)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_notice_takes_a_page_that_is_pinned_for_reading() {
    let mut subject = reader();
    subject.pins(1, Read);
    let got = subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE);
    assert_eq!(got[1..], [Action::Unmap(PAGE), done(5)]);
    assert!(!subject.holds(1));
    assert_eq!(subject.unpins(1), Some(PAGE));
}

#[test]
fn a_notice_of_another_page_leaves_pins_alone() {
    let mut subject = reader();
    subject.pins(1, Write);
    let other = PageAddress::new(REGION, PAGE.page + 1);
    assert_eq!(subject.gets_lock_with_notice(5, OTHER, WRITER, other)[1..], [done(5)]);
    assert!(subject.holds(1));
    assert_eq!(subject.unpins(1), None);
}

#[test]
fn a_home_goes_on_writing_and_answers_meanwhile() {
    let mut subject = subject(HOME);
    assert_eq!(subject.pins(1, Write), [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(1)]);
    let barrier = barrier_at(OTHER, 5, 0);
    let writer = node(HOME);
    for interval in 1..4 {
        // Only a page that others have copies of is told of.
        let answer = send_page(WRITER, data(interval as u32, Read));
        let (mut answered, mut told) = (vec![answer], Vec::new());
        if interval > 1 {
            // What the copy is like is kept before it is sent.
            answered.insert(0, Action::TwinWhileWritten(PAGE));
            told.push(Action::DropTwin(PAGE));
        }
        assert_eq!(subject.hears(WRITER, request(interval as u32, Read)), answered, "nobody waits for a pin");
        told.extend([
            send(OTHER, Message::Wrote { writer, interval, first: PAGE, count: 1 }),
            send(OTHER, Message::Told { writer, interval }),
            send(OTHER, Message::BarrierArrive { barrier, ticket: ticket(9), participants: 2 }),
        ]);
        assert_eq!(
            subject.arrives(9, barrier, 2),
            told,
            "the page may be written at any time, so every release tells those who read it"
        );
        assert_eq!(
            subject.hears(OTHER, Message::BarrierRelease { barrier, ticket: ticket(9), plan: None }),
            [done(9)]
        );
    }
    let answered = [Action::TwinWhileWritten(PAGE), send_page(OTHER, data(4, Write))];
    assert_eq!(subject.hears(OTHER, request(4, Write)), answered);
    assert!(subject.holds(1));
    assert_eq!(subject.ends_pin(1), [Action::DropTwin(PAGE)], "it counts as written from now on");
    assert_eq!(subject.arrives(9, barrier, 2)[0], Action::Protect(PAGE));
}

/// A thread that releases again and again while it has a pin would otherwise take the page from its readers each time.
#[test]
fn a_pinned_page_that_was_not_written_is_not_told_of() {
    let mut subject = reader();
    assert_eq!(subject.to_compare(), None);
    subject.pins(1, Write);
    let nothing_new = [send(OTHER, returned(lock(), 5))];
    for _ in 0..3 {
        assert_eq!(subject.releases_unwritten(5), nothing_new);
        assert_eq!(subject.state(), PageState::Modified);
    }
    // Written now: the caller finds a difference, and says nothing.
    let mut expected = vec![send_diff(1, true)];
    expected.extend(told_and_given_back(5, 1));
    assert_eq!(subject.gives_to_home(5, lock(), OTHER), expected);
    assert_eq!(subject.releases_unwritten(5), nothing_new);
    // With the pin the comparisons are over, and what was written since the last is sent.
    assert_eq!((subject.unpins(1), subject.to_compare()), (None, None));
    let mut expected = vec![Action::Protect(PAGE), send_diff(2, false)];
    expected.extend(told_and_given_back(5, 2));
    assert_eq!(subject.gives_to_home(5, lock(), OTHER), expected);
}

#[test]
fn what_was_found_before_one_event_says_nothing_about_the_next() {
    let mut subject = reader();
    subject.pins(1, Write);
    subject.engine.on_unwritten(PAGE);
    subject.hears(OTHER, Message::Knows { writer: node(WRITER), interval: 0 });
    assert_eq!(subject.gives_to_home(5, lock(), OTHER)[0], send_diff(1, true));
}

#[test]
fn a_notice_takes_a_pinned_page_whether_it_was_written_or_not() {
    let mut subject = reader();
    subject.pins(1, Write);
    subject.acquires(5, lock());
    let writer = node(WRITER);
    subject.hears(OTHER, Message::Wrote { writer, interval: 1, first: PAGE, count: 1 });
    subject.hears(OTHER, Message::Told { writer, interval: 1 });
    // It may have been written since the look.
    subject.engine.on_unwritten(PAGE);
    let granted = Message::LockGrant { lock: lock(), ticket: ticket(5), died: None };
    let taken = [Action::Protect(PAGE), send_diff(1, false), Action::Unmap(PAGE), done(5)];
    assert_eq!(subject.hears(OTHER, granted), taken);
    assert_eq!(subject.unpins(1), Some(PAGE));
}

#[test]
fn a_home_compares_a_pinned_page_with_what_others_got() {
    let mut subject = subject(HOME);
    subject.pins(1, Write);
    assert_eq!(subject.to_compare(), None, "nobody has a copy");
    subject.hears(WRITER, request(0, Read));
    subject.arrives_at_barrier(10, OTHER);
    assert_eq!(subject.to_compare(), None, "all copies are told of");
    // The first who gets one has it made, and the next one not anew: both have to hear of what is written after the first.
    subject.hears(WRITER, request(1, Read));
    assert_eq!(subject.hears(OTHER, request(2, Read)), [send_page(OTHER, data(2, Read))]);
    for slot in 11..14 {
        assert_eq!(subject.to_compare(), Some(PAGE));
        subject.engine.on_unwritten(PAGE);
        assert_eq!(subject.arrives_at_barrier(slot, OTHER).len(), 1, "nobody is told");
    }
    let wrote = Message::Wrote { writer: node(HOME), interval: 2, first: PAGE, count: 1 };
    assert_eq!(subject.arrives_at_barrier(14, OTHER)[..2], [Action::DropTwin(PAGE), send(OTHER, wrote)]);
    assert_eq!(subject.to_compare(), None);
}

#[test]
fn what_was_written_to_a_lent_page_is_told_though_its_twin_is_of_later() {
    let mut subject = reader();
    subject.pins(1, Write);
    subject.arrives_at_barrier(8, OTHER);
    let adopted = subject.hears(HOME, Message::Lend { page: PAGE, interval: 1 });
    assert_eq!(adopted[0], Action::Adopt(PAGE));
    subject.arrives_at_barrier(9, OTHER);
    let fetched = subject.hears(HOME, common::fetch(7, Read, WRITER));
    assert_eq!(fetched, [Action::TwinWhileWritten(PAGE), send_page(WRITER, data(7, Read))]);
    // Somebody wrote here before the page goes back, and nobody after that.
    let back = send_page(HOME, Message::Return { page: PAGE, interval: 2 });
    let given = [Action::DropTwin(PAGE), Action::TwinWhileWritten(PAGE), back];
    assert_eq!(subject.hears(HOME, Message::CallIn { page: PAGE }), given);
    assert_eq!(subject.to_compare(), Some(PAGE));
    subject.engine.on_unwritten(PAGE);
    let diff = Message::Diff { page: PAGE, interval: 3, last: true };
    let wrote = Message::Wrote { writer: node(THIS), interval: 3, first: PAGE, count: 1 };
    assert_eq!(subject.arrives_at_barrier(10, OTHER)[..2], [send(HOME, diff), send(OTHER, wrote)]);
    assert_eq!(subject.unpins(1), None);
}

#[test]
fn a_home_loses_a_pinned_page_only_while_a_diff_is_on_its_way() {
    let mut subject = subject(HOME);
    subject.pins(1, Write);
    subject.hears(WRITER, request(0, Write));
    let diff = Message::Diff { page: PAGE, interval: 1, last: true };
    assert_eq!(subject.hears(WRITER, diff), [Action::ApplyDiff(PAGE)]);
    assert_eq!(subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE)[1..], [done(5)]);
    assert!(subject.holds(1));

    let mut subject = common::Subject::following(Protocol::Release, HOME, 5, HOME);
    subject.pins(1, Write);
    let got = subject.gets_lock_with_notice(5, OTHER, WRITER, PAGE);
    assert_eq!(got[1..], [Action::Unmap(PAGE), done(5)]);
    assert_eq!(subject.unpins(1), Some(PAGE));
}

#[test]
fn without_its_home_a_page_is_not_pinned_for_writing() {
    let mut subject = reader();
    subject.loses(HOME);
    assert_eq!(subject.pins(1, Write), [failed(1, Failure::PeerLost(node(HOME)))]);
    assert_eq!(subject.unpins(1), None);
    assert_eq!(subject.pins(2, Read), [done(2)]);
    assert_eq!(subject.unpins(2), None);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_page_that_was_pinned_when_its_home_was_lost_keeps_its_bytes_until_the_pin_ends() {
    let mut subject = reader();
    subject.pins(1, Write);
    subject.loses(HOME);
    assert!(subject.holds(1));
    let nobody_to_tell = |action: &Action| matches!(action, Action::SendDiff { .. } | Action::DropTwin(_));
    assert!(!subject.gives_to_home(5, lock(), OTHER).iter().any(nobody_to_tell));
    assert_eq!(subject.state(), PageState::Modified);
    assert_eq!(subject.unpins(1), None);
    assert_eq!(subject.gives_to_home(5, lock(), OTHER)[..2], [Action::Protect(PAGE), Action::DropTwin(PAGE)]);
}

/// Twins of pinned pages do not count among those that end an interval, and those beside them still do.
#[test]
fn however_much_is_pinned_twins_stay_bounded() {
    const PINNED: u64 = 2 * limits::TWINS as u64;
    let spec = pagemesh_protocol::RegionSpec {
        protocol: Protocol::Release,
        pages: 10 * limits::TWINS as u64,
        ..common::asked("many", Placement::Single(node(HOME)))
    };
    let mut subject = Subject::with_region(THIS, 5, spec);
    let mut twins = 0;
    let mut diffs = Vec::new();
    let mut write = |number: u64| {
        let page = PageAddress::new(REGION, number);
        let name = (PinId(1), PinHolder(7));
        let mut all = subject.act(|engine, out| match number {
            0..PINNED => engine.on_pin(ticket(1), name, page, Write, out),
            _ => engine.on_fault(ticket(1), page, Write, out),
        });
        let request = RequestId(number as u32);
        all.extend(subject.hears(HOME, Message::Grant { page, request, access: Write, zero: true }));
        assert_eq!(all.last(), Some(&done(1)));
        let mut sent = 0;
        for action in all {
            match action {
                Action::MakeTwin(_) => twins += 1,
                Action::SendDiff { keep_twin, .. } => {
                    sent += 1;
                    twins -= usize::from(!keep_twin);
                }
                _ => {}
            }
        }
        assert!(twins <= limits::TWINS + limits::PINS, "{twins} twins at page {number}");
        diffs.extend((sent > 0).then_some(number));
    };
    (0..spec.pages).for_each(&mut write);
    let apart = diffs.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(apart.clone().all(|pages| pages >= limits::TWINS as u64), "{diffs:?}");
    assert!(diffs.len() > 7, "{diffs:?}");
}

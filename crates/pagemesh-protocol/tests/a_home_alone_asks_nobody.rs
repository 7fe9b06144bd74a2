//! A home that has the only copy of a page may write it without a word to anybody, itself included: the thread goes on in the very step
//! in which it faulted. That saves a call, and is right only where nobody else has the page, wants it or waits for it. So here
//! everything that could be in the way is, one after the other, and then nothing may change.

mod common;

use common::{PAGE, REGION, Subject, asked, at_rest, node, request, send, ticket, zero_grant};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, DirectoryState, Message, PageAddress, PageState, PinHolder, PinId, Placement, Protocol, RegionId,
    RegionSpec, Unit,
};

const HOME: u16 = 1;
const OTHER: u16 = 4;

/// The home of PAGE, which only it has, for reading.
fn alone() -> Subject {
    let mut subject = Subject::mapped(HOME, 8, HOME);
    subject.fault(1, Read);
    assert_eq!((subject.state(), subject.engine.is_quiet()), (PageState::Shared, true));
    subject
}

/// Checks that a write of PAGE at once is refused, and changes nothing.
#[track_caller]
fn asks(subject: &mut Subject) {
    let before = format!("{:?}", subject.engine);
    assert_eq!(subject.engine.on_write_at_once(PAGE), None);
    assert_eq!(format!("{:?}", subject.engine), before, "what was refused changed the engine");
}

#[test]
fn a_home_alone_writes_in_one_step_as_in_two() {
    let mut subject = alone();
    let mut called = subject.clone();
    assert_eq!(subject.engine.on_write_at_once(PAGE), Some(Action::Unprotect(PAGE)));
    assert_eq!(called.fault(2, Write).first(), Some(&Action::Unprotect(PAGE)));
    for subject in [&subject, &called] {
        assert_eq!(subject.state(), PageState::Modified);
        assert_eq!(
            subject.engine.directory(PAGE),
            Some(at_rest(DirectoryState::Modified(node(HOME)), &[HOME]))
        );
        assert!(subject.engine.is_quiet(), "nobody is waited for");
    }
    let sent = |subject: &mut Subject| subject.hears(OTHER, request(5, Write));
    assert_eq!(sent(&mut subject), sent(&mut called), "the page goes to the next all the same");
}

#[test]
fn whoever_shares_the_page_is_asked() {
    let mut subject = alone();
    subject.hears(OTHER, request(5, Read));
    asks(&mut subject);
    assert_eq!(subject.fault(2, Write), [send(OTHER, common::INVALIDATE)]);
    asks(&mut subject);
    subject.hears(OTHER, common::INVALIDATE_ACK);
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_sharer_that_was_lost_is_left_to_a_request() {
    let mut subject = alone();
    subject.hears(OTHER, request(5, Read));
    subject.loses(OTHER);
    if subject.engine.on_write_at_once(PAGE).is_none() {
        assert_eq!(subject.fault(2, Write).first(), Some(&Action::Unprotect(PAGE)));
    }
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn other_copies_other_homes_and_other_regions_are_none_of_this() {
    let mut untouched = Subject::mapped(HOME, 8, HOME);
    asks(&mut untouched);
    let mut writable = alone();
    writable.fault(2, Write);
    asks(&mut writable);
    let mut elsewhere = Subject::mapped(2, 8, HOME);
    elsewhere.fault(1, Read);
    elsewhere.hears(HOME, zero_grant(0, Read));
    asks(&mut elsewhere);
    for page in [PageAddress::new(REGION, u64::MAX), PageAddress::new(RegionId(77), 0)] {
        assert_eq!(alone().engine.on_write_at_once(page), None);
    }
    for protocol in [Protocol::Migration, Protocol::Release, Protocol::Entry] {
        let mut subject = Subject::following(protocol, HOME, 8, HOME);
        subject.fault(1, Read);
        asks(&mut subject);
    }
    let spec = RegionSpec { unit: Unit::KiB16, ..asked("units", Placement::Single(node(HOME))) };
    let mut of_units = Subject::with_region(HOME, 8, spec);
    of_units.fault(1, Read);
    asks(&mut of_units);
}

#[test]
fn a_home_by_first_touch_writes_at_once_too() {
    let mut subject = Subject::with_region(HOME, 8, asked("first", Placement::FirstTouch));
    let page = PageAddress::new(REGION, u64::from(HOME));
    subject.act(|engine, out| engine.on_fault(ticket(1), page, Read, out));
    assert_eq!(subject.engine.on_write_at_once(page), Some(Action::Unprotect(page)));
    assert_eq!(subject.engine.page_state(page), PageState::Modified);
}

#[test]
fn pins_and_demands_that_wait_come_first() {
    let mut pinned = alone();
    pinned.act(|engine, out| engine.on_pin(ticket(2), (PinId(2), PinHolder(7)), PAGE, Read, out));
    asks(&mut pinned);

    // A thread was given its copy of another page, and has not gone on: what is wanted of that page waits.
    let other = PageAddress::new(REGION, PAGE.page + 1);
    let mut waited_for = alone();
    waited_for.slow_threads = true;
    waited_for.act(|engine, out| engine.on_fault(ticket(2), other, Write, out));
    let wanted =
        Message::PageRequest { page: other, request: pagemesh_protocol::RequestId(9), access: Write };
    assert_eq!(waited_for.hears(OTHER, wanted), []);
    asks(&mut waited_for);
}

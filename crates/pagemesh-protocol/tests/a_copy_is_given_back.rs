//! A node may give a copy back at any time, and others may be asking for it in the same moment. So giving back is a hint
//! to the home, which takes the copy by its ordinary transactions or not at all: nobody may lose the newest bytes by
//! it, and a hint that is old, or a lie, changes nothing.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, REGION, Subject, asked, at_rest, data, deny, done, fetch, grant, node,
    request, send, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, Actions, DirectoryState, Engine, Message, PageAddress, PageState, PinHolder, PinId, Placement,
    Protocol, RegionSpec, RequestId, View, limits,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const EVICT: Message = Message::Evict { page: PAGE };

fn evict(subject: &mut Subject) -> Actions {
    subject.act(|engine, out| engine.on_evict(PAGE, out))
}

fn home() -> Subject {
    Subject::mapped(HOME, 8, HOME)
}

/// A node whose copy was granted for `access`.
fn holding(protocol: Protocol, access: pagemesh_protocol::Access) -> Subject {
    let mut subject = Subject::following(protocol, THIS, 5, HOME);
    subject.fault(900, access);
    subject.hears(HOME, zero_grant(0, access));
    subject
}

// The holder.

#[test]
fn a_holder_tells_the_home_and_keeps_its_copy() {
    for access in [Read, Write] {
        let mut subject = holding(Protocol::WriteInvalidate, access);
        let before = subject.state();
        assert_eq!(evict(&mut subject), [send(HOME, EVICT)]);
        assert_eq!(subject.state(), before, "the home may be asking for these bytes");
        assert!(subject.engine.is_quiet(), "nobody answers");
    }
    let mut subject = holding(Protocol::Migration, Write);
    assert_eq!(evict(&mut subject), [send(HOME, EVICT)]);
}

#[test]
fn what_is_not_here_or_at_home_here_cannot_be_given_back() {
    let mut absent = Subject::mapped(THIS, 5, HOME);
    assert_eq!(evict(&mut absent), []);
    let mut at_home = home().modified_by(HOME);
    assert_eq!(evict(&mut at_home), []);
    assert_eq!(at_home.state(), PageState::Modified);
}

#[test]
fn a_copy_that_is_used_pinned_or_wanted_stays() {
    let mut used = Subject::mapped(THIS, 5, HOME);
    used.slow_threads = true;
    used.fault(1, Read);
    used.hears(HOME, zero_grant(0, Read));
    assert_eq!(evict(&mut used), [], "a thread was given the page");
    assert_eq!(used.hears(HOME, INVALIDATE), []);
    assert_eq!(used.resumes(1), [Action::Postpone]);
    assert_eq!(evict(&mut used), [], "another node waits for it");
    assert_eq!(used.postponed(), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);

    let mut pinned = holding(Protocol::WriteInvalidate, Write);
    let pin = (PinId(1), PinHolder(1));
    pinned.act(|engine, out| engine.on_pin(ticket(1), pin, PAGE, Read, out));
    assert_eq!(evict(&mut pinned), []);
    let unpinned = pinned.act(|engine, out| assert_eq!(engine.on_unpin(PinId(1), out), None));
    assert_eq!(unpinned, []);
    assert_eq!(evict(&mut pinned), [send(HOME, EVICT)]);

    let mut upgrading = holding(Protocol::WriteInvalidate, Read);
    upgrading.fault(1, Write);
    assert_eq!(evict(&mut upgrading), [], "an answer is under way");
}

#[test]
fn a_copy_whose_home_is_lost_is_all_that_there_is() {
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release] {
        let mut subject = holding(protocol, Write);
        subject.loses(HOME);
        assert_eq!(evict(&mut subject), [], "{protocol:?}");
        assert_eq!(subject.state(), PageState::Modified);
    }
}

/// The copy goes as any other node's demand would have it go, with an upgrade that was begun meanwhile.
#[test]
fn a_writer_that_comes_after_the_hint_writes_all_the_same() {
    let mut subject = holding(Protocol::WriteInvalidate, Read);
    evict(&mut subject);
    assert_eq!(subject.fault(1, Write), [send(HOME, request(1, Write))]);
    assert_eq!(subject.hears(HOME, INVALIDATE), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
    assert_eq!(subject.hears(HOME, data(1, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
}

#[test]
fn in_a_release_region_a_copy_goes_at_once() {
    let mut clean = holding(Protocol::Release, Read);
    assert_eq!(evict(&mut clean), [Action::Unmap(PAGE)]);
    assert_eq!(clean.state(), PageState::Invalid);

    let mut written = holding(Protocol::Release, Write);
    let message = Message::Diff { page: PAGE, interval: 1, last: true };
    assert_eq!(
        evict(&mut written),
        [
            Action::Protect(PAGE),
            Action::SendDiff { to: node(HOME), message, page: PAGE, keep_twin: false },
            Action::Unmap(PAGE)
        ]
    );
    assert_eq!(written.state(), PageState::Invalid);
    assert_eq!(evict(&mut written), []);
}

// The home.

#[test]
fn a_home_takes_the_only_copy_itself() {
    for sole in [home().shared_by(&[3]), home().modified_by(3)] {
        let mut subject = sole;
        assert_eq!(subject.hears(3, EVICT), [send(3, fetch(0, Write, HOME))]);
        assert!(!subject.engine.is_quiet());
        assert_eq!(subject.hears(3, EVICT), [], "it is asked for already");
        assert_eq!(subject.hears(3, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE)]);
        assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(HOME)), &[HOME]));
        assert_eq!(subject.state(), PageState::Modified);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_home_where_pages_migrate_takes_it_too() {
    let mut subject = Subject::following(Protocol::Migration, HOME, 5, HOME);
    subject.hears(3, request(70, Write));
    assert_eq!(subject.hears(3, EVICT), [send(3, fetch(0, Write, HOME))]);
    assert_eq!(subject.hears(3, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE)]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(HOME)), &[HOME]));
}

#[test]
fn of_several_copies_only_the_senders_goes() {
    let mut subject = home().shared_by(&[3, 4, 5]);
    assert_eq!(subject.hears(3, EVICT), [send(3, INVALIDATE)]);
    assert_eq!(subject.hears(4, EVICT), [], "one at a time");
    assert_eq!(subject.refuses(4, INVALIDATE_ACK), "it was not told to drop its copy");
    assert_eq!(subject.hears(3, INVALIDATE_ACK), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(4)), &[4, 5]));
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.refuses(3, INVALIDATE_ACK), "no sharer was told to drop its copy");

    let mut subject = home().shared_by(&[HOME, 3]);
    assert_eq!(subject.hears(3, EVICT), [send(3, INVALIDATE)]);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Shared(node(HOME)), &[HOME]));
}

#[test]
fn who_asks_while_a_copy_goes_is_served_after_it() {
    let mut subject = home().shared_by(&[3, 4]);
    subject.hears(3, EVICT);
    assert_eq!(subject.hears(4, request(70, Write)), []);
    assert_eq!(subject.hears(3, request(71, Read)), []);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), [send(4, grant(70, Write)), send(4, fetch(71, Read, 3))]);
}

#[test]
fn threads_of_the_home_join_its_request() {
    let mut subject = home().modified_by(3);
    subject.hears(3, EVICT);
    assert_eq!(subject.fault(1, Read), []);
    assert_eq!(subject.hears(3, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
}

/// The table of what this node asked has no room to spare, and the directory stays true.
#[test]
fn a_hint_that_is_old_or_a_lie_changes_nothing() {
    let untouched = home();
    let elsewhere = home().modified_by(4);
    let mut moving = home().modified_by(4);
    moving.hears(5, request(70, Write));
    let mut lost = home().modified_by(4);
    lost.loses(4);
    let unmoved = |mut subject: Subject| {
        let before = format!("{:?}", subject.engine);
        assert_eq!(subject.hears(3, EVICT), []);
        assert_eq!(format!("{:?}", subject.engine), before);
    };
    unmoved(untouched);
    unmoved(elsewhere);
    unmoved(moving);
    unmoved(lost);
    unmoved(home().modified_by(HOME));
    let mut holder = Subject::mapped(THIS, 5, HOME);
    assert_eq!(holder.refuses(3, EVICT), "this node is not the home of the page");
    let mut release = Subject::following(Protocol::Release, HOME, 5, HOME);
    assert_eq!(release.refuses(3, EVICT), "the page's protocol knows no such access");
}

#[test]
fn a_sharer_that_dies_while_its_copy_goes_is_gone_as_well() {
    let mut subject = home().shared_by(&[3, 4]);
    subject.hears(3, EVICT);
    subject.hears(5, request(70, Read));
    assert_eq!(subject.loses(3), [send(4, fetch(70, Read, 5))]);
}

#[test]
fn a_holder_that_dies_before_its_bytes_come_takes_the_page_with_it() {
    let mut subject = home().modified_by(3);
    subject.hears(3, EVICT);
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(4, request(70, Read)), [send(4, deny(70, 3))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn no_node_can_fill_a_home_with_what_it_gives_back() {
    let spec = RegionSpec { pages: 1 << 20, ..asked("large", Placement::Single(node(HOME))) };
    let mut engine: Engine = Subject::with_region(HOME, 4, spec).engine;
    let mut out = Actions::new();
    for number in 0..4 * limits::EVICTIONS as u32 {
        let page = PageAddress::new(REGION, number as u64);
        let request = Message::PageRequest { page, request: RequestId(number), access: Write };
        for message in [request, Message::Evict { page }] {
            engine.on_message(node(3), View::FIRST, &message, &mut out).expect("it is well-behaved");
        }
    }
    let load = engine.load();
    assert_eq!((load.requests, load.transactions), (limits::EVICTIONS, limits::EVICTIONS));
}

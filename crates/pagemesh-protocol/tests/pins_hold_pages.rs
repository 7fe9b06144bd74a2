//! A system call cannot fault, so the pages that it works on must not go while it does: a pinned page stays in the mode it was
//! pinned for, from the step in which it comes to the step in which the pin ends. Others must get it all the same: at once where
//! the pin is not in their way, when it ends, or when its deadline has passed, and then the end of the pin says so. Here every
//! step's actions are compared whole.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, REGION, Subject, at_rest, data, deny, done, failed, fetch, grant, node,
    report, request, send, send_page, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Access, Action, DirectoryState, EngineConfig, Failure, PageAddress, PageState, PinHolder, PinId, PinWait,
    Placement, Protocol,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const OTHER: u16 = 4;

const PROTOCOLS: [Protocol; 2] = [Protocol::WriteInvalidate, Protocol::Migration];

/// The one thread that pins, where it does not matter which.
const THREAD: u64 = 7;

const fn awaits(number: u64) -> Action {
    Action::AwaitUnpin(PinWait(number))
}

impl Subject {
    /// Thread `holder` pins PAGE by pin `pin`, under the ticket with the same number.
    fn pins_as(&mut self, holder: u64, pin: u16, access: Access) -> Vec<Action> {
        let name = (PinId(pin as u64), PinHolder(holder));
        self.act(|engine, out| engine.on_pin(ticket(pin), name, PAGE, access, out))
    }

    fn pins(&mut self, pin: u16, access: Access) -> Vec<Action> {
        self.pins_as(THREAD, pin, access)
    }

    /// What the end of the pin asks for, and the page that went before.
    fn unpins(&mut self, pin: u16) -> (Option<PageAddress>, Vec<Action>) {
        let mut taken = None;
        let actions = self.act(|engine, out| taken = engine.on_unpin(PinId(pin as u64), out));
        (taken, actions)
    }

    fn expires(&mut self, number: u64) -> Vec<Action> {
        self.act(|engine, out| engine.on_pins_expired(PinWait(number), out))
    }

    fn holds(&self, pin: u16) -> bool {
        self.engine.holds(PinId(pin as u64))
    }
}

fn holder(protocol: Protocol) -> Subject {
    Subject::following(protocol, THIS, 8, HOME)
}

/// Node 2 with a writable copy.
fn writer(protocol: Protocol) -> Subject {
    let mut subject = holder(protocol);
    subject.fault(900, Write);
    assert_eq!(subject.hears(HOME, zero_grant(0, Write)).last(), Some(&done(900)));
    subject
}

/// Node 2 with a readable copy.
fn reader() -> Subject {
    let mut subject = holder(Protocol::WriteInvalidate);
    subject.fault(900, Read);
    assert_eq!(subject.hears(HOME, data(0, Read)).last(), Some(&done(900)));
    subject
}

#[test]
fn what_would_take_a_pinned_page_waits_for_the_end_of_the_pin() {
    for protocol in PROTOCOLS {
        for access in [Read, Write] {
            let mut subject = writer(protocol);
            assert_eq!(subject.pins(1, access), [done(1)]);
            assert_eq!(subject.hears(HOME, fetch(70, Write, OTHER)), [awaits(1)]);
            assert_eq!(subject.state(), PageState::Modified);
            assert_eq!(subject.postponed(), [], "time alone changes nothing");
            assert!(subject.holds(1));
            let gone = vec![Action::Unmap(PAGE), send_page(OTHER, data(70, Write))];
            assert_eq!(subject.unpins(1), (None, gone));
            assert!(subject.engine.is_quiet());
        }
    }
}

#[test]
fn an_invalidation_waits_for_the_end_of_the_pin() {
    let mut subject = reader();
    assert_eq!(subject.pins(1, Read), [done(1)]);
    assert_eq!(subject.hears(HOME, INVALIDATE), [awaits(1)]);
    assert_eq!(subject.unpins(1), (None, vec![Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_pin_for_reading_lets_others_read_and_one_for_writing_does_not() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins(1, Read);
    assert_eq!(
        subject.hears(HOME, fetch(70, Read, OTHER)),
        [Action::Protect(PAGE), send_page(OTHER, data(70, Read))]
    );
    assert!(subject.holds(1), "it can still be read");
    assert_eq!(subject.unpins(1), (None, vec![]));

    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins(1, Write);
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [awaits(1)]);
    assert_eq!(subject.state(), PageState::Modified);
    let sent = vec![Action::Protect(PAGE), send_page(OTHER, data(70, Read))];
    assert_eq!(subject.unpins(1), (None, sent));
}

#[test]
fn an_absent_page_is_pinned_by_the_step_that_brings_it() {
    for protocol in PROTOCOLS {
        let mut subject = holder(protocol);
        assert_eq!(subject.pins(1, Write), [send(HOME, request(0, Write))]);
        assert_eq!(
            subject.hears(OTHER, data(0, Write)),
            [Action::Fill(PAGE), Action::MapWrite(PAGE), send(HOME, report(0, true)), done(1)]
        );
        assert_eq!(subject.hears(HOME, fetch(70, Write, OTHER)), [awaits(1)], "it does not bounce away");
        assert_eq!(subject.unpins(1).1.len(), 2);
    }
}

#[test]
fn a_pin_for_writing_joins_a_read_and_asks_for_the_upgrade() {
    let mut subject = holder(Protocol::WriteInvalidate);
    assert_eq!(subject.fault(1, Read), [send(HOME, request(0, Read))]);
    assert_eq!(subject.pins(2, Write), []);
    assert_eq!(
        subject.hears(HOME, data(0, Read)),
        [Action::Fill(PAGE), Action::MapRead(PAGE), done(1), send(HOME, request(1, Write))]
    );
    assert!(!subject.engine.is_postponed(PAGE));
    assert_eq!(subject.hears(HOME, INVALIDATE), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
    let brought = [Action::Fill(PAGE), Action::MapWrite(PAGE), done(2)];
    assert_eq!(subject.hears(HOME, data(1, Write)), brought, "pinned now, not before");
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [awaits(1)]);
}

#[test]
fn pins_nest_and_the_last_that_is_in_the_way_counts() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins(1, Write);
    subject.pins(2, Read);
    subject.pins(3, Write);
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [awaits(1)]);
    assert_eq!(subject.unpins(1), (None, vec![]));
    let sent = vec![Action::Protect(PAGE), send_page(OTHER, data(70, Read))];
    assert_eq!(subject.unpins(3), (None, sent), "the pin for reading is not in the way");
    assert_eq!(subject.hears(HOME, INVALIDATE), [awaits(2)]);
    assert_eq!(subject.unpins(2), (None, vec![Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]));
}

#[test]
fn a_later_pin_lets_those_go_first_who_wait() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins_as(1, 1, Write);
    subject.hears(HOME, fetch(70, Write, OTHER));
    assert_eq!(subject.pins_as(2, 2, Write), [], "else two threads that take turns would keep the page");
    assert_eq!(
        subject.unpins(1),
        (None, vec![Action::Unmap(PAGE), send_page(OTHER, data(70, Write)), send(HOME, request(1, Write)),])
    );
    assert_eq!(subject.hears(HOME, data(1, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(2)]);
    assert!(subject.holds(2));
}

#[test]
fn a_later_pin_may_find_the_page_still_here() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins_as(1, 1, Write);
    subject.hears(HOME, fetch(70, Read, OTHER));
    assert_eq!(subject.pins_as(2, 2, Read), []);
    let went = vec![Action::Protect(PAGE), send_page(OTHER, data(70, Read)), done(2)];
    assert_eq!(subject.unpins(1), (None, went));
    assert_eq!(subject.hears(HOME, INVALIDATE), [awaits(2)]);
}

#[test]
fn a_thread_does_not_wait_for_its_own_pins() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins_as(1, 1, Write);
    subject.hears(HOME, fetch(70, Write, OTHER));
    assert_eq!(subject.pins_as(1, 2, Read), [done(2)]);
    assert_eq!(subject.unpins(1), (None, vec![]));
    let gone = vec![Action::Unmap(PAGE), send_page(OTHER, data(70, Write))];
    assert_eq!(subject.unpins(2), (None, gone));
}

#[test]
fn a_call_that_gives_up_behind_others_leaves_nothing() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins_as(1, 1, Write);
    subject.hears(HOME, fetch(70, Write, OTHER));
    assert_eq!(subject.pins_as(2, 2, Write), []);
    assert_eq!(subject.cancel(2), []);
    assert_eq!(subject.unpins(2), (None, vec![]));
    let gone = vec![Action::Unmap(PAGE), send_page(OTHER, data(70, Write))];
    assert_eq!(subject.unpins(1), (None, gone));
    assert!(subject.engine.is_quiet());
}

#[test]
fn after_its_deadline_the_page_goes_and_the_end_of_the_pin_tells() {
    for protocol in PROTOCOLS {
        let mut subject = writer(protocol);
        subject.pins(1, Write);
        assert_eq!(subject.hears(HOME, fetch(70, Write, OTHER)), [awaits(1)]);
        assert_eq!(subject.expires(1), [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]);
        assert!(!subject.holds(1));
        // The page comes back, and is pinned anew: that is another pin.
        assert_eq!(subject.pins(2, Write), [send(HOME, request(1, Write))]);
        subject.hears(HOME, data(1, Write));
        assert_eq!(subject.unpins(1), (Some(PAGE), vec![]));
        assert_eq!(subject.unpins(2), (None, vec![]));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_deadline_takes_only_what_is_waited_for() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins(1, Write);
    subject.pins(2, Read);
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [awaits(1)]);
    assert_eq!(subject.expires(1), [Action::Protect(PAGE), send_page(OTHER, data(70, Read))]);
    assert!(!subject.holds(1) && subject.holds(2));
    assert_eq!(subject.unpins(2), (None, vec![]));
    assert_eq!(subject.unpins(1), (Some(PAGE), vec![]), "its right to write went");
}

#[test]
fn a_deadline_of_a_wait_that_is_over_takes_nothing() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins(1, Write);
    subject.hears(HOME, fetch(70, Write, OTHER));
    subject.unpins(1);
    subject.pins(2, Write);
    subject.hears(HOME, data(1, Write));
    assert_eq!(subject.hears(HOME, fetch(71, Write, OTHER)), [awaits(2)]);
    assert_eq!(subject.expires(1), []);
    assert!(subject.holds(2));
    assert_eq!(subject.expires(2), [Action::Unmap(PAGE), send_page(OTHER, data(71, Write))]);
}

#[test]
fn a_page_in_use_outlasts_the_deadline_until_it_was_used() {
    let mut subject = holder(Protocol::WriteInvalidate);
    subject.slow_threads = true;
    subject.fault(1, Write);
    subject.pins(2, Write);
    subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(subject.hears(HOME, fetch(70, Write, OTHER)), [awaits(1)]);
    assert_eq!(subject.expires(1), [], "a thread was given it and has not touched it");
    // What is pinned in the meantime gets its own time.
    assert_eq!(subject.pins(3, Write), [done(3), awaits(2)]);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), []);
    assert_eq!(subject.expires(2), [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]);
    assert_eq!((subject.unpins(2).0, subject.unpins(3).0), (Some(PAGE), Some(PAGE)));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_demand_that_waited_for_a_thread_then_waits_for_a_pin() {
    let mut subject = holder(Protocol::WriteInvalidate);
    subject.slow_threads = true;
    subject.fault(1, Write);
    subject.hears(HOME, zero_grant(0, Write));
    subject.pins_as(1, 2, Read);
    assert_eq!(subject.hears(HOME, fetch(70, Read, OTHER)), [], "only the thread is in its way");
    assert_eq!(subject.pins_as(1, 3, Write), [done(3), awaits(1)]);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), []);
    assert_eq!(subject.unpins(2), (None, vec![]));
    let sent = vec![Action::Protect(PAGE), send_page(OTHER, data(70, Read))];
    assert_eq!(subject.unpins(3), (None, sent));
}

#[test]
fn a_page_that_cannot_be_had_is_not_pinned() {
    let mut subject = holder(Protocol::WriteInvalidate);
    subject.pins(1, Read);
    assert_eq!(subject.hears(HOME, deny(0, 3)), [failed(1, Failure::PageLost(node(3)))]);
    assert!(subject.engine.is_quiet());
    assert_eq!(subject.unpins(1), (None, vec![]));
}

#[test]
fn a_pin_that_is_given_up_lets_a_late_page_go() {
    let mut subject = holder(Protocol::WriteInvalidate);
    subject.pins(1, Write);
    assert_eq!(subject.cancel(1), []);
    subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(
        subject.hears(HOME, fetch(70, Write, OTHER)),
        [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_own_upgrade_of_a_pinned_page_is_no_demand() {
    let mut subject = reader();
    subject.pins(1, Read);
    assert_eq!(subject.fault(2, Write), [send(HOME, request(1, Write))]);
    assert_eq!(subject.hears(HOME, grant(1, Write)), [Action::Unprotect(PAGE), done(2)]);
    assert_eq!(subject.unpins(1), (None, vec![]));
}

#[test]
fn a_lost_home_leaves_pins_alone() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins(1, Write);
    subject.hears(HOME, fetch(70, Write, OTHER));
    assert_eq!(subject.loses(HOME), []);
    assert_eq!(subject.expires(1), [], "its demand is over");
    assert!(subject.holds(1));
    assert_eq!(subject.unpins(1), (None, vec![]));
    assert_eq!(subject.state(), PageState::Modified);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_lost_home_lets_those_go_on_who_waited_behind_it() {
    let mut subject = writer(Protocol::WriteInvalidate);
    subject.pins_as(1, 1, Write);
    subject.hears(HOME, fetch(70, Write, OTHER));
    subject.pins_as(2, 2, Write);
    assert_eq!(subject.loses(HOME), [done(2)]);
}

#[test]
fn as_many_pages_are_pinned_as_may_be_and_no_more() {
    let spec = common::asked("shared", Placement::Single(node(THIS)));
    let bounds = EngineConfig { pins: 2, ..EngineConfig::new(node(THIS), 8) };
    let mut subject = Subject::configured(bounds);
    let spec = pagemesh_protocol::RegionSpec { address: 0x2000_0000_0000, ..spec };
    subject.hears(0, pagemesh_protocol::Message::RegionMap { region: REGION, round: 0, spec });
    subject.maps(REGION, 0, true);
    let pinned = |subject: &mut Subject, page| {
        let name = (PinId(1), PinHolder(THREAD));
        let page = PageAddress::new(REGION, page);
        subject.act(|engine, out| engine.on_pin(ticket(page.page as u16), name, page, Read, out))
    };
    for page in 0..2 {
        assert_eq!(pinned(&mut subject, page).last(), Some(&done(page as u16)));
    }
    let refused = "more pages are pinned than one node may have pinned at a time";
    assert_eq!(pinned(&mut subject, 2), [failed(2, Failure::Limit(refused))]);
    assert_eq!(subject.unpins(1), (None, vec![]));
    assert_eq!(pinned(&mut subject, 2).last(), Some(&done(2)));
}

// A home's own copy.

#[test]
fn a_home_lingers_for_its_own_pins() {
    for protocol in PROTOCOLS {
        let mut subject = Subject::following(protocol, HOME, 8, HOME);
        assert_eq!(subject.pins(1, Write), [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(1)]);
        assert_eq!(subject.hears(3, request(30, Write)), [awaits(1)]);
        assert_eq!(subject.hears(4, request(40, Write)), [], "it is behind the first");
        let served = vec![Action::Unmap(PAGE), send_page(3, data(30, Write)), send(3, fetch(40, Write, 4))];
        assert_eq!(subject.unpins(1), (None, served));
        assert_eq!(subject.hears(4, report(40, true)), []);
        assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(4)), &[4]));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_home_serves_readers_while_it_has_a_page_pinned_for_reading() {
    let mut subject = Subject::mapped(HOME, 8, HOME);
    subject.pins(1, Read);
    assert_eq!(subject.hears(3, request(30, Read)), [send_page(3, data(30, Read))]);
    assert_eq!(subject.hears(4, request(40, Write)), [send(3, INVALIDATE)]);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), [awaits(1)]);
    assert_eq!(subject.expires(1), [Action::Unmap(PAGE), send_page(4, data(40, Write))]);
    assert_eq!(subject.unpins(1), (Some(PAGE), vec![]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_waited_for_a_homes_pin_may_be_lost_and_the_next_not_be_in_its_way() {
    let mut subject = Subject::mapped(HOME, 8, HOME);
    subject.pins(1, Read);
    assert_eq!(subject.hears(3, request(30, Write)), [awaits(1)]);
    assert_eq!(subject.hears(4, request(40, Read)), []);
    assert_eq!(subject.loses(3), [send_page(4, data(40, Read))]);
    assert_eq!(subject.unpins(1), (None, vec![]));
    assert!(subject.engine.is_quiet());

    let mut subject = Subject::mapped(HOME, 8, HOME);
    subject.pins(1, Write);
    assert_eq!(subject.hears(3, request(30, Write)), [awaits(1)]);
    assert_eq!(subject.loses(3), []);
    assert!(!subject.engine.is_postponed(PAGE), "nobody waits any more");
    assert_eq!(subject.unpins(1), (None, vec![]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn readers_at_a_home_are_served_one_after_the_other_and_then_a_writer_waits() {
    let mut subject = Subject::mapped(HOME, 8, HOME);
    subject.pins(1, Write);
    subject.pins(2, Read);
    assert_eq!(subject.hears(3, request(30, Read)), [awaits(1)]);
    assert_eq!(subject.hears(4, request(40, Read)), []);
    assert_eq!(subject.hears(5, request(50, Write)), []);
    let served = vec![
        Action::Protect(PAGE),
        send_page(3, data(30, Read)),
        send_page(4, data(40, Read)),
        send(3, INVALIDATE),
        send(4, INVALIDATE),
    ];
    assert_eq!(subject.unpins(1), (None, served));
    assert_eq!(subject.hears(3, INVALIDATE_ACK), []);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), [awaits(2)]);
    assert_eq!(subject.unpins(2), (None, vec![Action::Unmap(PAGE), send_page(5, data(50, Write))]));
    assert!(subject.engine.is_quiet());
}

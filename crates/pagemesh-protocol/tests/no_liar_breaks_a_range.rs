//! A peer that sends what it likes about ranges may make its own calls fail, and nothing else: no assertion of an engine, no action on bytes
//! outside of the region, no table without bound. Random messages, among calls of this node.

mod common;

use common::{PAGES, REGION, Subject, node};
use pagemesh_protocol::{
    Access, Action, Actions, ByteRange, Message, NodeId, PageAddress, Protocol, RegionId, RequestId, Ticket,
    View, limits,
};
use proptest::prelude::*;

const NODES: u16 = 4;
const END: u64 = PAGES * 4096;

fn ranges() -> impl Strategy<Value = ByteRange> {
    let region = prop_oneof![9 => Just(REGION), 1 => Just(RegionId(7))];
    let start = prop_oneof![0..60u64, 4090..4100u64, END - 10..END + 10, Just(u64::MAX - 5)];
    let bytes = prop_oneof![1..50u64, 4000..5000u64, Just(END), 0..2u64];
    (region, start, bytes).prop_map(|(region, start, bytes)| ByteRange { region, start, bytes })
}

fn accesses() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

fn messages() -> impl Strategy<Value = Message> {
    let ticket = (0..4u16, 0..2u16).prop_map(|(slot, generation)| Ticket::new(slot, generation));
    let details = (accesses(), any::<bool>(), prop_oneof![0..5u64, any::<u64>()], 0..9u16);
    (0..10u8, ranges(), ticket, details).prop_map(|(kind, range, ticket, details)| {
        let ((access, flag, number, died), region) = (details, range.region);
        let died = (died < NODES).then(|| NodeId::new(died));
        let page = PageAddress::new(region, range.start / 4096);
        match kind {
            0 | 1 => Message::RangeAcquire { range, ticket, access, waits: flag, since: number },
            2 => Message::RangeGrant { region, ticket, stamp: number, died },
            3 => Message::RangeBusy { region, ticket },
            4 => Message::RangeRelease { range, ticket, unused: flag },
            5 => Message::RangeBytes { range, ticket },
            6 => Message::RangePart { region, ticket, next: range.start },
            7 => Message::RangeMore { range, ticket, since: number },
            8 => Message::RangeWrite { range, ticket },
            _ => Message::PageRequest { page, request: RequestId(0), access },
        }
    })
}

#[derive(Clone, Debug)]
enum Event {
    Hears(u16, Message),
    Asks(u16, ByteRange, Access, bool),
    GivesUp(u16),
    GivesBack(u16, ByteRange),
    Loses(u16),
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..NODES, messages()).prop_map(|(from, message)| Event::Hears(from, message)),
        3 => (0..4u16, ranges(), accesses(), any::<bool>())
            .prop_map(|(slot, range, access, waits)| Event::Asks(slot, range, access, waits)),
        1 => (0..4u16).prop_map(Event::GivesUp),
        1 => (0..4u16, ranges()).prop_map(|(slot, range)| Event::GivesBack(slot, range)),
        1 => (0..NODES).prop_map(Event::Loses),
    ]
}

fn check(actions: &Actions, protocol: Protocol) {
    for action in actions {
        let (Action::SendBytes { range, .. } | Action::StoreBytes(range)) = *action else { continue };
        assert!(protocol == Protocol::Entry, "the bytes of a release region come by page: {range:?}");
        assert!(range.region == REGION && range.bytes > 0 && range.end() <= END, "{range:?}");
        assert!(!matches!(action, Action::SendBytes { .. }) || range.bytes <= limits::RANGE_PIECE_BYTES);
    }
}

proptest! {
    #[test]
    fn no_message_about_ranges_does_harm(
        is_master in any::<bool>(),
        protocol in prop_oneof![3 => Just(Protocol::Entry), 1 => Just(Protocol::Release)],
        events in proptest::collection::vec(events(), 1..120)
    ) {
        let this = 1;
        let mut subject = Subject::following(protocol, this, NODES, if is_master { this } else { 2 });
        let mut waiting = [None; 4];
        for event in events {
            let mut out = Actions::new();
            let engine = &mut subject.engine;
            match event {
                Event::Hears(from, message) if from != this => {
                    let _ = engine.on_message(node(from), View::FIRST, &message, &mut out);
                }
                Event::Asks(slot, range, access, waits)
                    if waiting[slot as usize].is_none() && range.region == REGION && range.bytes > 0
                        && range.start.checked_add(range.bytes).is_some_and(|end| end <= END) =>
                {
                    waiting[slot as usize] = Some(Ticket::new(slot, 0));
                    engine.on_range_acquire(Ticket::new(slot, 0), range, access, waits, &mut out);
                }
                Event::GivesUp(slot) => {
                    engine.on_cancel(Ticket::new(slot, 0), &mut out);
                    waiting[slot as usize] = None;
                }
                Event::GivesBack(slot, range)
                    if range.region == REGION && range.bytes > 0
                        && range.start.checked_add(range.bytes).is_some_and(|end| end <= END) =>
                {
                    let _ = engine.on_range_release(Ticket::new(slot, 0), range, &mut out);
                }
                Event::Loses(other) if other != this => engine.on_peer_lost(node(other), &mut out),
                _ => {}
            }
            for action in &out {
                if let Action::Complete { ticket, .. } = action {
                    prop_assert!(waiting[ticket.slot as usize].take().is_some(), "{:?} did not wait", ticket);
                }
            }
            check(&out, protocol);
        }
        let load = subject.engine.load();
        prop_assert!(load.ranges + load.range_waiters <= limits::RANGES);
    }
}

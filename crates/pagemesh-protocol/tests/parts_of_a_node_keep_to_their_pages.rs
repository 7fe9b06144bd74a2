//! A node with many cores has several engines. All but the first are told of regions and decide about pages, and nothing else: a part that spoke
//! of locks, regions or barriers would say it twice for its node, and one that kept a region which is gone would answer for
//! the next in its place.

mod common;

use common::{PAGE, REGION, node, ticket};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, Actions, Engine, EngineConfig, Failure, Message, NodeId, Outcome, PageAddress, PageState,
    PinHolder, PinId, Placement, Protocol, RegionName, RegionSpec, RequestId, Unit, View,
};

fn spec(protocol: Protocol) -> RegionSpec {
    let name = RegionName::new("divided").unwrap();
    let placement = Placement::Single(NodeId::new(1));
    RegionSpec { name, pages: 16, placement, protocol, unit: Unit::Page, address: 0x2000_0000_0000 }
}

fn act(engine: &mut Engine, event: impl FnOnce(&mut Engine, &mut Actions)) -> Actions {
    let mut out = Actions::new();
    event(engine, &mut out);
    out
}

fn part(number: u16, part: u16, parts: u16) -> Engine {
    let mut engine = Engine::part(EngineConfig::new(node(number), 3), part, parts);
    engine.on_region_told(REGION, spec(Protocol::WriteInvalidate));
    engine
}

fn requests(engine: &mut Engine) -> Vec<u32> {
    let ask = |page: u64| {
        let page = PageAddress::new(REGION, page);
        let asked = act(engine, |engine, out| engine.on_fault(ticket(page.page as u16), page, Read, out));
        match asked[..] {
            [Action::Send { to, message: Message::PageRequest { request, .. }, payload: None }] => {
                assert_eq!(to, node(1));
                request.0
            }
            ref other => panic!("{other:?}"),
        }
    };
    (0..4).map(ask).collect()
}

#[test]
fn no_two_engines_of_a_node_name_a_request_alike() {
    let mut named: Vec<u32> = (0..3).flat_map(|number| requests(&mut part(0, number, 3))).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), 12);
}

#[test]
fn a_part_serves_its_pages_as_a_home_does_and_says_nothing_else_when_a_node_is_lost() {
    let mut home = part(1, 2, 3);
    let request = Message::PageRequest { page: PAGE, request: RequestId(7), access: Write };
    let granted = act(&mut home, |engine, out| {
        engine.on_message(node(0), View::FIRST, &request, out).unwrap();
    });
    let grant = Message::Grant { page: PAGE, request: RequestId(7), access: Write, zero: true };
    assert_eq!(granted, [Action::Send { to: node(0), message: grant, payload: None }]);
    for lost in [0, 2] {
        assert_eq!(act(&mut home, |engine, out| engine.on_peer_lost(node(lost), out)), []);
    }
    let mut of_coordinator = part(0, 1, 2);
    assert_eq!(act(&mut of_coordinator, |engine, out| engine.on_peer_lost(node(2), out)), []);
}

#[test]
fn a_region_that_ends_takes_its_calls_and_copies_along_and_its_number_can_come_again() {
    let mut engine = part(0, 1, 2);
    act(&mut engine, |engine, out| engine.on_fault(ticket(1), PAGE, Read, out));
    let over = act(&mut engine, |engine, out| engine.on_region_ended(REGION, out));
    let failed = Outcome::Failed(Failure::RegionClosed);
    assert_eq!(over, [Action::Complete { ticket: ticket(1), outcome: failed }]);
    assert!(engine.is_quiet());
    // What is said about it is late.
    let late = Message::Invalidate { page: PAGE };
    assert_eq!(
        act(&mut engine, |engine, out| engine.on_message(node(1), View::FIRST, &late, out).unwrap()),
        []
    );
    assert_eq!(act(&mut engine, |engine, out| engine.on_region_ended(REGION, out)), [], "it was not mapped");
    engine.on_region_told(REGION, spec(Protocol::WriteInvalidate));
    assert_eq!(engine.page_state(PAGE), PageState::Invalid);
    assert!(engine.on_message(node(1), View::FIRST, &late, &mut Actions::new()).is_err(), "no copy is here");
}

#[test]
fn a_pin_whose_thread_has_others_elsewhere_does_not_wait_behind_demands() {
    for (has_others, waits) in [(false, true), (true, false)] {
        let mut engine = Engine::part(EngineConfig::new(node(1), 3), 1, 2);
        engine.on_region_told(REGION, spec(Protocol::WriteInvalidate));
        let pin = |engine: &mut Engine, slot: u16, name: u64, further: bool| {
            let name = (PinId(name), PinHolder(name));
            act(engine, |engine, out| {
                if further {
                    engine.on_pin_further(ticket(slot), name, PAGE, Write, out);
                } else {
                    engine.on_pin(ticket(slot), name, PAGE, Write, out);
                }
            })
        };
        pin(&mut engine, 1, 1, false);
        let request = Message::PageRequest { page: PAGE, request: RequestId(7), access: Write };
        act(&mut engine, |engine, out| engine.on_message(node(0), View::FIRST, &request, out).unwrap());
        assert!(engine.is_postponed(PAGE), "the first pin is in its way");
        let begun = pin(&mut engine, 2, 2, has_others);
        let done = Action::Complete { ticket: ticket(2), outcome: Outcome::Done };
        assert_eq!(!begun.contains(&done), waits, "{begun:?}");
    }
}

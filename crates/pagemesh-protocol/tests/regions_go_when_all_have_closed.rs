//! A region that no node has open must not take a place, a name or addresses for ever; one that somebody has open must stay as it is, whoever
//! has closed it. And nothing that was ever said about a region may be taken for something about the next.

mod common;

use common::mesh::Mesh;
use common::{REGION, Subject, asked, failed, node, send, ticket};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, Actions, Failure, Message, Outcome, PageAddress, PageState, Placement, Protocol, RegionId,
    RegionSpec, limits,
};

const GONE: Message = Message::RegionGone { region: REGION };

fn wanted() -> RegionSpec {
    asked("shared", Placement::Cyclic)
}

fn page(region: RegionId, number: u64) -> PageAddress {
    PageAddress::new(region, number)
}

/// Opens and returns the region that node `number` was given.
fn opens(mesh: &mut Mesh, number: u16, spec: RegionSpec) -> (RegionId, RegionSpec) {
    let ticket = mesh.opens(number, true, spec);
    mesh.deliver_all();
    match mesh.outcome(number, ticket) {
        Some(Outcome::Region { region, spec }) => (region, spec),
        other => panic!("node {number} was told {other:?}"),
    }
}

fn is_nowhere(mesh: &Mesh, region: RegionId) -> bool {
    mesh.engines.iter().all(|engine| engine.region(region).is_none())
}

#[test]
fn the_last_to_close_ends_it_everywhere() {
    let mut mesh = Mesh::new(3);
    let (region, first) = opens(&mut mesh, 0, wanted());
    assert_eq!(opens(&mut mesh, 1, wanted()).0, region);
    mesh.accesses(1, page(region, 2), Write);
    mesh.closes(1, region);
    mesh.deliver_all();
    assert_eq!(mesh.state(1, page(region, 2)), PageState::Modified, "it serves those who have it");
    mesh.accesses(0, page(region, 2), Read);
    assert_eq!(opens(&mut mesh, 2, wanted()).0, region, "it is there while one has it");
    mesh.closes(0, region);
    mesh.deliver_all();
    assert!(!is_nowhere(&mesh, region));
    mesh.closes(2, region);
    mesh.deliver_all();
    assert!(is_nowhere(&mesh, region));
    assert!(mesh.engines.iter().all(pagemesh_protocol::Engine::is_quiet));
    // The name is free, for other options too; and the pages are new.
    let spec = RegionSpec { protocol: Protocol::Migration, pages: 9, ..wanted() };
    let (next, second) = opens(&mut mesh, 1, spec);
    assert!(next != region && second.address != first.address);
    assert_eq!(mesh.state(1, page(next, 2)), PageState::Invalid);
}

#[test]
fn a_node_closes_as_often_as_it_opened() {
    let mut mesh = Mesh::new(2);
    let (region, _) = opens(&mut mesh, 1, wanted());
    opens(&mut mesh, 1, wanted());
    mesh.closes(1, region);
    mesh.deliver_all();
    assert!(!is_nowhere(&mesh, region));
    mesh.closes(1, region);
    mesh.deliver_all();
    assert!(is_nowhere(&mesh, region));
    mesh.forget();
    mesh.closes(1, region);
    assert_eq!(mesh.log, [], "what is not open is not closed");
}

#[test]
fn an_open_that_crosses_a_close_gets_the_region_or_a_new_one() {
    // Every interleaving of node 1's close and open with node 2's close, at the coordinator.
    for steps in 0..12 {
        let mut mesh = Mesh::new(3);
        let (region, _) = opens(&mut mesh, 1, wanted());
        opens(&mut mesh, 2, wanted());
        mesh.closes(1, region);
        (0..steps).for_each(|_| _ = mesh.deliver_one());
        mesh.closes(2, region);
        let ticket = mesh.opens(1, true, wanted());
        mesh.deliver_all();
        let Some(Outcome::Region { region: got, .. }) = mesh.outcome(1, ticket) else {
            panic!("it was not opened")
        };
        assert!(mesh.engines.iter().all(|engine| engine.region(got).is_some()), "{steps} steps");
        mesh.closes(1, got);
        mesh.deliver_all();
        assert!(is_nowhere(&mesh, got), "{steps} steps");
    }
}

#[test]
fn places_numbers_and_addresses_are_used_again() {
    let mut mesh = Mesh::new(2);
    let large = RegionSpec { pages: limits::REGION_PAGES, ..wanted() };
    let mut numbers = std::collections::BTreeSet::new();
    for round in 0..600_u32 {
        // There are addresses for three of the largest.
        let wanted = if round % 100 == 0 { large } else { wanted() };
        let (region, spec) = opens(&mut mesh, (round % 2) as u16, wanted);
        assert!(numbers.insert(region), "{region:?} came twice");
        assert!(
            spec.address >= limits::REGION_BASE && spec.address + spec.pages * 4096 <= limits::REGION_END
        );
        mesh.closes((round % 2) as u16, region);
        mesh.deliver_all();
        mesh.forget();
    }
    assert!(mesh.engines[0].load().regions <= limits::REGIONS);
}

#[test]
fn all_places_can_be_had_at_a_time_and_again() {
    let mut mesh = Mesh::new(2);
    for _ in 0..2 {
        let open: Vec<RegionId> = (0..limits::REGIONS)
            .map(|number| {
                let (region, _) = opens(&mut mesh, 1, asked(&format!("region {number}"), Placement::Cyclic));
                mesh.forget();
                region
            })
            .collect();
        let over = mesh.opens(1, true, asked("one more", Placement::Cyclic));
        mesh.deliver_all();
        assert!(matches!(mesh.outcome(1, over), Some(Outcome::Failed(Failure::RegionRefused(_)))));
        for region in open {
            mesh.closes(1, region);
            mesh.deliver_all();
        }
        mesh.forget();
    }
}

#[test]
fn a_lost_node_has_closed_everything() {
    let mut mesh = Mesh::new(3);
    let (region, _) = opens(&mut mesh, 1, wanted());
    opens(&mut mesh, 2, wanted());
    mesh.closes(1, region);
    mesh.deliver_all();
    mesh.lose(2, false, &[1, 0]);
    mesh.deliver_all();
    assert!(mesh.engines[..2].iter().all(|engine| engine.region(region).is_none()));
}

/// A node that has the region mapped and no longer open.
fn closed() -> Subject {
    let mut subject = Subject::new(1, 3);
    let spec = RegionSpec { address: limits::REGION_BASE, ..wanted() };
    subject.opens(1, true, spec);
    subject.hears(0, Message::RegionMap { region: REGION, round: 0, spec });
    subject.maps(REGION, 0, true);
    subject.hears(0, Message::RegionReady { ticket: ticket(1), region: REGION, spec });
    let out = subject.act(|engine, out| engine.on_region_close(ticket(2), REGION, out));
    assert_eq!(out, [send(0, Message::RegionClose { ticket: ticket(2), region: REGION })]);
    let counted = subject.hears(0, Message::RegionClosed { ticket: ticket(2) });
    assert_eq!(counted, [Action::Complete { ticket: ticket(2), outcome: Outcome::Done }]);
    subject
}

#[test]
fn nobody_is_told_that_what_it_has_is_gone() {
    let mut subject = closed();
    let spec = subject.engine.region(REGION).expect("it is mapped");
    subject.opens(2, true, spec);
    subject.hears(0, Message::RegionReady { ticket: ticket(2), region: REGION, spec });
    assert_eq!(subject.refuses(0, GONE), "the region is in use here");
    assert_eq!(closed().refuses(2, GONE), "it is not the coordinator");
    assert_eq!(Subject::new(1, 3).refuses(0, GONE), "this region is not mapped here");
}

#[test]
fn only_who_was_given_a_region_closes_or_forgets_it() {
    let mut subject = Subject::new(0, 3);
    let close = Message::RegionClose { ticket: ticket(2), region: REGION };
    let forgotten = Message::RegionForgotten { region: REGION };
    assert_eq!(subject.refuses(2, close), "it has not been given the region");
    subject.opens(1, true, wanted());
    assert_eq!(subject.refuses(2, close), "it has not been given the region");
    assert_eq!(subject.refuses(2, forgotten), "it was not told to forget the region");
    assert_eq!(Subject::new(1, 3).refuses(2, close), "this node is not the coordinator");
    assert_eq!(Subject::new(1, 3).refuses(2, forgotten), "this node is not the coordinator");
}

#[test]
fn calls_and_late_messages_of_a_region_that_is_gone_mean_nothing() {
    let mut subject = closed();
    // A stray thread still waits for a page of node 0, and node 2 for one of this node.
    subject.act(|engine, out| engine.on_fault(ticket(3), page(REGION, 0), Read, out));
    assert_eq!(subject.hears(0, GONE), [failed(3, Failure::RegionClosed), Action::ForgetRegion(REGION)]);
    assert!(subject.engine.is_quiet());
    let ask = Message::PageRequest {
        page: page(REGION, 1),
        request: pagemesh_protocol::RequestId(9),
        access: Write,
    };
    for late in
        [ask, Message::Invalidate { page: page(REGION, 0) }, Message::InvalidateAck { page: page(REGION, 1) }]
    {
        assert_eq!(subject.hears(0, late), []);
    }
    let told = Message::Wrote { writer: node(2), interval: 1, first: page(REGION, 0), count: 3 };
    assert_eq!(subject.hears(2, told), []);
    assert_eq!(subject.engine.notices_held(), 0);
    let out = subject.act(|engine, out| engine.on_fault(ticket(4), page(REGION, 0), Read, out));
    assert_eq!(out, [failed(4, Failure::RegionClosed)]);
    let forgotten =
        |engine: &mut pagemesh_protocol::Engine, out: &mut Actions| engine.on_region_forgotten(REGION, out);
    assert_eq!(subject.act(forgotten), [send(0, Message::RegionForgotten { region: REGION })]);
    assert_eq!(subject.act(forgotten), [], "it is said once");
}

#[test]
fn diffs_of_a_region_that_is_gone_still_end_their_interval() {
    let mut mesh = Mesh::new(3);
    let spec = |name| RegionSpec { protocol: Protocol::Release, ..asked(name, Placement::Single(node(0))) };
    let (kept, _) = opens(&mut mesh, 1, spec("kept"));
    let (over, _) = opens(&mut mesh, 1, spec("over"));
    mesh.accesses(1, page(kept, 0), Write);
    mesh.accesses(1, page(over, 0), Write);
    // The diffs go to node 0 with the barrier; the last is about the region that goes first.
    let barrier = common::barrier_at(2, 3, 0);
    let one = mesh.arrives(1, barrier, 2);
    mesh.closes(1, over);
    let other = mesh.arrives(2, barrier, 2);
    mesh.deliver_all();
    assert_eq!((mesh.outcome(1, one), mesh.outcome(2, other)), (Some(Outcome::Done), Some(Outcome::Done)));
    assert!(is_nowhere(&mesh, over));
    mesh.accesses(2, page(kept, 0), Read);
    assert_eq!(mesh.state(2, page(kept, 0)), PageState::Shared);
}

//! A pointer into shared memory means the same on every node only when the region lies at the same address everywhere; a
//! region that is mapped on some nodes and refused on others is a crash that waits. So all nodes map a region at the
//! proposed address, or all try the next, or all give it up.

mod common;

use common::{PAGE, REGION, Subject, asked, failed, node, request, send, ticket, zero_grant};
use pagemesh_protocol::Access::Read;
use pagemesh_protocol::{
    Action, Failure, Message, Outcome, Placement, RegionId, RegionRefusal, RegionSpec, Ticket, Unit, limits,
};

const BASE: u64 = limits::REGION_BASE;
const STEP: u64 = limits::REGION_ALIGN;

fn coordinator() -> Subject {
    Subject::new(0, 3)
}

fn wanted() -> RegionSpec {
    asked("grid", Placement::Cyclic)
}

fn at(address: u64) -> RegionSpec {
    RegionSpec { address, ..wanted() }
}

fn open(slot: u16, create: bool, spec: RegionSpec) -> Message {
    Message::RegionOpen { ticket: ticket(slot), create, spec }
}

fn map(round: u16, spec: RegionSpec) -> Message {
    Message::RegionMap { region: REGION, round, spec }
}

fn map_here(round: u16, spec: RegionSpec) -> Action {
    Action::MapRegion { region: REGION, round, spec }
}

fn mapped(round: u16) -> Message {
    Message::RegionMapped { region: REGION, round, mapped: true }
}

fn taken(round: u16) -> Message {
    Message::RegionMapped { region: REGION, round, mapped: false }
}

fn drop_region(round: u16) -> Message {
    Message::RegionDrop { region: REGION, round }
}

fn ready(slot: u16, spec: RegionSpec) -> Message {
    Message::RegionReady { ticket: ticket(slot), region: REGION, spec }
}

fn refused(slot: u16, refusal: RegionRefusal) -> Message {
    Message::RegionRefused { ticket: ticket(slot), refusal }
}

fn complete(slot: u16, spec: RegionSpec) -> Action {
    Action::Complete { ticket: ticket(slot), outcome: Outcome::Region { region: REGION, spec } }
}

/// What a proposal makes the coordinator of three nodes do.
fn proposed(round: u16, spec: RegionSpec) -> [Action; 3] {
    [send(1, map(round, spec)), send(2, map(round, spec)), map_here(round, spec)]
}

/// A coordinator whose region is mapped everywhere at the first address.
fn agreed() -> Subject {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    subject.maps(REGION, 0, true);
    subject.hears(1, mapped(0));
    assert_eq!(subject.hears(2, mapped(0)), [complete(1, at(BASE))]);
    subject
}

#[test]
fn a_new_region_is_proposed_to_everyone() {
    let mut subject = coordinator();
    assert_eq!(subject.opens(1, true, wanted()), proposed(0, at(BASE)));
    assert_eq!(subject.maps(REGION, 0, true), []);
    assert_eq!(subject.hears(1, mapped(0)), []);
    assert_eq!(subject.hears(2, mapped(0)), [complete(1, at(BASE))]);
    assert_eq!(subject.engine.region(REGION), Some(at(BASE)));
    assert!(subject.engine.is_quiet());
}

#[test]
fn any_node_may_create_and_the_coordinator_answers_it() {
    let mut subject = coordinator();
    assert_eq!(subject.hears(2, open(5, true, wanted())), proposed(0, at(BASE)));
    subject.hears(1, mapped(0));
    subject.hears(2, mapped(0));
    assert_eq!(subject.maps(REGION, 0, true), [send(2, ready(5, at(BASE)))]);
}

#[test]
fn a_member_maps_what_is_proposed_and_completes_when_all_have() {
    let mut subject = Subject::new(1, 3);
    assert_eq!(subject.opens(1, true, wanted()), [send(0, open(1, true, wanted()))]);
    assert_eq!(subject.hears(0, map(0, at(BASE))), [map_here(0, at(BASE))]);
    assert_eq!(subject.engine.region(REGION), None, "not before it is mapped");
    assert_eq!(subject.maps(REGION, 0, true), [send(0, mapped(0))]);
    assert_eq!(subject.hears(0, ready(1, at(BASE))), [complete(1, at(BASE))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_node_that_has_mapped_a_region_is_a_home_before_it_is_ready() {
    let mut subject = Subject::new(1, 2);
    let spec = RegionSpec { address: BASE, ..asked("grid", Placement::Single(node(1))) };
    subject.hears(0, map(0, spec));
    subject.maps(REGION, 0, true);
    assert_eq!(subject.hears(0, request(7, Read)), [send(0, zero_grant(7, Read))]);
    assert_eq!(subject.engine.home(PAGE), Some(node(1)));
}

#[test]
fn who_wants_an_existing_region_waits_until_somebody_creates_it() {
    let mut subject = coordinator();
    assert_eq!(subject.hears(1, open(5, false, wanted())), []);
    assert_eq!(subject.opens(2, false, wanted()), []);
    assert_eq!(subject.hears(2, open(7, true, wanted())), proposed(0, at(BASE)));
    subject.hears(1, mapped(0));
    subject.hears(2, mapped(0));
    assert_eq!(
        subject.maps(REGION, 0, true),
        [send(2, ready(7, at(BASE))), send(1, ready(5, at(BASE))), complete(2, at(BASE))]
    );
}

#[test]
fn who_waits_for_another_name_waits_on() {
    let mut subject = coordinator();
    subject.hears(1, open(5, false, asked("other", Placement::Cyclic)));
    subject.opens(1, true, wanted());
    subject.maps(REGION, 0, true);
    subject.hears(1, mapped(0));
    assert_eq!(subject.hears(2, mapped(0)), [complete(1, at(BASE))]);
}

#[test]
fn everyone_may_create_the_same_region_and_the_first_does() {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    assert_eq!(subject.hears(1, open(5, true, wanted())), []);
    subject.hears(1, mapped(0));
    subject.hears(2, mapped(0));
    assert_eq!(subject.maps(REGION, 0, true), [send(1, ready(5, at(BASE))), complete(1, at(BASE))]);
    assert_eq!(subject.hears(2, open(6, true, wanted())), [send(2, ready(6, at(BASE)))]);
    assert_eq!(subject.hears(2, open(7, false, wanted())), [send(2, ready(7, at(BASE)))]);
    assert_eq!(subject.hears(2, open(8, true, at(BASE))), [send(2, ready(8, at(BASE)))]);
    assert_eq!(subject.opens(9, true, wanted()), [complete(9, at(BASE))]);
}

#[test]
fn another_size_placement_or_address_is_refused_with_what_is_there() {
    for (different, refusal) in [
        (RegionSpec { pages: 65, ..wanted() }, RegionRefusal::SizeDiffers { pages: 64 }),
        (asked("grid", Placement::Single(node(1))), RegionRefusal::OptionsDiffer),
        (RegionSpec { unit: Unit::KiB16, ..wanted() }, RegionRefusal::OptionsDiffer),
        (at(BASE + STEP), RegionRefusal::AddressDiffers { address: BASE }),
    ] {
        let mut subject = agreed();
        assert_eq!(
            subject.hears(2, open(5, true, different)),
            [send(2, refused(5, refusal))],
            "{different:?}"
        );
        assert_eq!(
            subject.opens(2, true, different),
            [failed(2, Failure::RegionRefused(refusal))],
            "{different:?}"
        );
    }
}

#[test]
fn a_second_opener_with_other_wishes_is_refused_while_the_first_is_agreed_on() {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    let different = RegionSpec { pages: 1, ..wanted() };
    let refusal = RegionRefusal::SizeDiffers { pages: 64 };
    assert_eq!(subject.hears(1, open(5, true, different)), [send(1, refused(5, refusal))]);
}

#[test]
fn a_region_that_exists_is_had_without_knowing_its_size() {
    let mut subject = agreed();
    let unknown = RegionSpec { pages: 0, ..wanted() };
    assert_eq!(subject.hears(2, open(5, false, unknown)), [send(2, ready(5, at(BASE)))]);
}

#[test]
fn regions_lie_apart() {
    let mut subject = agreed();
    let second = asked("second", Placement::Cyclic);
    let spec = RegionSpec { address: BASE + STEP, ..second };
    let region = RegionId(1);
    assert_eq!(
        subject.opens(2, true, second),
        [
            send(1, Message::RegionMap { region, round: 0, spec }),
            send(2, Message::RegionMap { region, round: 0, spec }),
            Action::MapRegion { region, round: 0, spec },
        ]
    );
}

#[test]
fn an_address_that_is_taken_somewhere_leads_to_the_next_round() {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    assert_eq!(subject.maps(REGION, 0, true), []);
    let second = at(BASE + STEP);
    assert_eq!(
        subject.hears(1, taken(0)),
        [send(1, map(1, second)), send(2, map(1, second)), Action::UnmapRegion(REGION), map_here(1, second)]
    );
    assert_eq!(subject.hears(2, mapped(0)), [], "an answer to the round before");
    assert_eq!(subject.hears(2, taken(0)), [], "an answer to the round before");
    assert_eq!(subject.maps(REGION, 1, true), []);
    assert_eq!(subject.hears(1, mapped(1)), []);
    assert_eq!(subject.hears(2, mapped(1)), [complete(1, second)]);
}

#[test]
fn the_coordinators_own_address_may_be_taken_too() {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    assert_eq!(subject.maps(REGION, 0, false), proposed(1, at(BASE + STEP)));
}

#[test]
fn a_member_moves_to_the_next_proposal() {
    let mut subject = Subject::new(1, 3);
    subject.hears(0, map(0, at(BASE)));
    subject.maps(REGION, 0, true);
    let second = at(BASE + STEP);
    assert_eq!(subject.hears(0, map(1, second)), [Action::UnmapRegion(REGION), map_here(1, second)]);
    assert_eq!(subject.engine.region(REGION), None);
    assert_eq!(subject.maps(REGION, 1, true), [send(0, mapped(1))]);
    assert_eq!(subject.engine.region(REGION), Some(second));
}

#[test]
fn a_member_whose_address_is_taken_says_so() {
    let mut subject = Subject::new(1, 3);
    subject.hears(0, map(0, at(BASE)));
    assert_eq!(subject.maps(REGION, 0, false), [send(0, taken(0))]);
    assert_eq!(subject.engine.region(REGION), None);
}

#[test]
fn a_mapping_that_comes_after_the_next_proposal_is_undone() {
    let mut subject = Subject::new(1, 3);
    subject.hears(0, map(0, at(BASE)));
    assert_eq!(subject.hears(0, map(1, at(BASE + STEP))), [map_here(1, at(BASE + STEP))]);
    assert_eq!(subject.maps(REGION, 0, true), [Action::UnmapRegion(REGION)]);
    assert_eq!(subject.maps(REGION, 0, false), [], "nothing was mapped");
    assert_eq!(subject.maps(REGION, 1, true), [send(0, mapped(1))]);
}

#[test]
fn a_fixed_address_that_is_taken_is_refused_and_given_up_everywhere() {
    let mut subject = coordinator();
    let fixed = at(0x1234_5000);
    assert_eq!(subject.hears(2, open(5, true, fixed)), proposed(0, fixed));
    subject.maps(REGION, 0, true);
    let refusal = RegionRefusal::AddressTaken { node: node(1), address: 0x1234_5000 };
    assert_eq!(
        subject.hears(1, taken(0)),
        [
            send(1, drop_region(0)),
            send(2, drop_region(0)),
            send(2, refused(5, refusal)),
            Action::UnmapRegion(REGION)
        ]
    );
    assert_eq!(subject.engine.region(REGION), None);
    assert_eq!(subject.hears(2, mapped(0)), [], "an answer that was on its way");

    let again = RegionSpec { address: BASE, ..wanted() };
    let region = RegionId(1);
    assert_eq!(
        subject.opens(1, true, wanted()),
        [
            send(1, Message::RegionMap { region, round: 0, spec: again }),
            send(2, Message::RegionMap { region, round: 0, spec: again }),
            Action::MapRegion { region, round: 0, spec: again },
        ],
        "the name is free again"
    );
}

#[test]
fn a_member_gives_up_what_is_dropped() {
    let mut subject = Subject::new(1, 3);
    assert_eq!(subject.hears(0, drop_region(0)), [], "nothing is mapped");
    subject.hears(0, map(0, at(BASE)));
    subject.maps(REGION, 0, true);
    assert_eq!(subject.hears(0, drop_region(0)), [Action::UnmapRegion(REGION)]);
    assert_eq!(subject.engine.region(REGION), None);

    subject.hears(0, map(1, at(BASE)));
    assert_eq!(subject.hears(0, drop_region(1)), [], "it is still being mapped");
    assert_eq!(subject.maps(REGION, 1, true), [Action::UnmapRegion(REGION)]);
}

#[test]
fn after_the_last_round_the_region_is_refused() {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    let mut address = BASE;
    for round in 1..limits::MAP_ROUNDS {
        address += STEP + limits::gap_before_round(round);
        let told = subject.hears(2, taken(round - 1));
        assert_eq!(told, proposed(round, at(address)));
    }
    let last = limits::MAP_ROUNDS - 1;
    let refusal = RegionRefusal::AddressTaken { node: node(2), address };
    assert_eq!(
        subject.hears(2, taken(last)),
        [send(1, drop_region(last)), send(2, drop_region(last)), failed(1, Failure::RegionRefused(refusal))]
    );
    assert!(subject.engine.is_quiet());
}

/// A node that left a mesh while one of its threads was still in a call keeps that mesh's regions for as long.
#[test]
fn the_rounds_leave_whatever_is_in_the_way() {
    for obstacle in [STEP, 1 << 40, (1 << 40) + STEP, limits::REGION_PAGES * 4096] {
        for pages in [1, 1 << 28] {
            let mut subject = coordinator();
            let mut told = subject.opens(1, true, RegionSpec { pages, ..wanted() });
            let mut round = 0;
            let address = loop {
                let proposal = told.iter().find_map(|action| match action {
                    Action::MapRegion { spec, .. } => Some(spec.address),
                    _ => None,
                });
                let address = proposal.expect("another round");
                if address >= BASE + obstacle {
                    break address;
                }
                told = subject.hears(2, taken(round));
                round += 1;
            };
            // What is left out is never more than what is in the way, and the size of what is mapped.
            assert!(address - BASE <= 2 * (obstacle + pages * 4096 + STEP), "{address:#x}");
        }
    }
}

#[test]
fn a_region_for_which_no_range_is_left_is_refused() {
    let mut subject = coordinator();
    let half = RegionSpec { pages: limits::REGION_PAGES, ..wanted() };
    let room = (limits::REGION_END - limits::REGION_BASE) / (limits::REGION_PAGES * 4096);
    for number in 0..room {
        let name = pagemesh_protocol::RegionName::new(&number.to_string()).expect("it is short");
        assert_eq!(subject.opens(number as u16, true, RegionSpec { name, ..half }).len(), 3);
    }
    let refusal = RegionRefusal::Exhausted;
    assert_eq!(subject.opens(900, true, half), [failed(900, Failure::RegionRefused(refusal))]);
    assert_eq!(subject.hears(1, open(5, true, half)), [send(1, refused(5, refusal))]);
    let small = asked("small", Placement::Cyclic);
    assert_eq!(subject.opens(901, true, small), [failed(901, Failure::RegionRefused(refusal))]);
}

#[test]
fn after_the_last_region_number_no_region_can_be_had() {
    let mut subject = coordinator();
    for number in 0..limits::REGIONS {
        let spec = RegionSpec { pages: 1, ..asked(&format!("r{number}"), Placement::Cyclic) };
        assert_eq!(subject.opens(number as u16, true, spec).len(), 3);
    }
    let refusal = RegionRefusal::Exhausted;
    assert_eq!(subject.opens(900, true, wanted()), [failed(900, Failure::RegionRefused(refusal))]);
}

#[test]
fn a_region_larger_than_any_can_be_is_refused_not_computed_with() {
    let mut subject = coordinator();
    let refusal = Failure::RegionRefused(RegionRefusal::Exhausted);
    for pages in [limits::REGION_PAGES + 1, u64::MAX] {
        for spec in [wanted(), at(0x1234_5000)] {
            let huge = RegionSpec { pages, ..spec };
            assert_eq!(subject.opens(1, true, huge), [failed(1, refusal)]);
        }
    }
}

#[test]
fn too_many_who_wait_for_regions_that_do_not_exist_are_refused_not_dropped() {
    let mut subject = coordinator();
    for slot in 0..limits::TICKETS as u16 {
        assert_eq!(subject.hears(1, open(slot, false, wanted())), []);
    }
    let refusal = RegionRefusal::Exhausted;
    assert_eq!(subject.hears(2, open(5, false, wanted())), [send(2, refused(5, refusal))]);
    assert_eq!(subject.opens(1, false, wanted()), [failed(1, Failure::RegionRefused(refusal))]);
}

#[test]
fn a_refusal_fails_the_call() {
    for refusal in [
        RegionRefusal::SizeDiffers { pages: 9 },
        RegionRefusal::OptionsDiffer,
        RegionRefusal::AddressDiffers { address: BASE },
        RegionRefusal::AddressTaken { node: node(2), address: BASE },
        RegionRefusal::Exhausted,
    ] {
        let mut subject = Subject::new(1, 3);
        subject.opens(1, true, wanted());
        assert_eq!(subject.hears(0, refused(1, refusal)), [failed(1, Failure::RegionRefused(refusal))]);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_call_that_gave_up_does_not_complete_but_the_region_comes() {
    let mut subject = Subject::new(1, 3);
    subject.opens(1, true, wanted());
    assert_eq!(subject.cancel(1), []);
    subject.hears(0, map(0, at(BASE)));
    subject.maps(REGION, 0, true);
    let close = |ticket| [send(0, Message::RegionClose { ticket, region: REGION })];
    assert_eq!(subject.hears(0, ready(1, at(BASE))), close(ticket(1)), "what nobody waits for goes back");
    assert_eq!(subject.engine.region(REGION), Some(at(BASE)));
    let later = Message::RegionReady { ticket: Ticket::new(1, 2), region: REGION, spec: at(BASE) };
    assert_eq!(subject.hears(0, later), close(Ticket::new(1, 2)), "a ticket of another use of the slot");
}

#[test]
fn the_loss_of_a_node_ends_every_agreement_under_way() {
    let mut subject = coordinator();
    subject.opens(1, true, wanted());
    subject.hears(1, open(5, false, asked("never", Placement::Cyclic)));
    subject.hears(2, open(6, true, wanted()));
    subject.maps(REGION, 0, true);
    let broken = |slot| Message::RegionBroken { ticket: ticket(slot), node: node(2) };
    assert_eq!(
        subject.loses(2),
        [
            send(1, drop_region(0)),
            send(1, broken(5)),
            Action::UnmapRegion(REGION),
            failed(1, Failure::PeerLost(node(2))),
        ]
    );
    assert_eq!(subject.hears(1, open(7, true, wanted())), [send(1, broken(7))]);
    assert_eq!(subject.hears(1, open(8, false, wanted())), [send(1, broken(8))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_region_that_was_agreed_on_outlives_the_loss_of_a_node() {
    let mut subject = agreed();
    assert_eq!(subject.loses(2), []);
    assert_eq!(subject.hears(1, open(5, true, wanted())), [send(1, ready(5, at(BASE)))]);
}

#[test]
fn a_broken_agreement_fails_the_call() {
    let mut subject = Subject::new(1, 3);
    subject.opens(1, true, wanted());
    let broken = Message::RegionBroken { ticket: ticket(1), node: node(2) };
    assert_eq!(subject.hears(0, broken), [failed(1, Failure::PeerLost(node(2)))]);
}

#[test]
fn without_its_coordinator_a_mesh_agrees_on_nothing_new() {
    let mut subject = Subject::new(1, 3);
    subject.opens(1, true, wanted());
    let lost = Failure::PeerLost(node(0));
    assert_eq!(subject.loses(0), [failed(1, lost)]);
    assert_eq!(subject.opens(2, true, wanted()), [failed(2, lost)]);
    assert!(subject.engine.is_quiet());
}

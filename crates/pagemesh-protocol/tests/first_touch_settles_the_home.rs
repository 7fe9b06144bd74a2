//! A page whose home depends on who comes first has two homes if two can be first. So one node, the page's anchor, settles
//! it by the first claim that reaches it, for ever; everyone else asks once and keeps the answer; who is asked before it
//! knows waits for the anchor's word; and what the anchor took with it is reported and never guessed.

mod common;

use common::mesh::Mesh;
use common::{
    PAGE, REGION, Subject, asked, at_rest, data, deny, done, failed, fetch, node, report, request, send,
    ticket, zero_grant,
};
use pagemesh_protocol::Access::{self, Read, Write};
use pagemesh_protocol::{
    Action, DirectoryState, Failure, Message, NodeId, Outcome, PageAddress, PageOwner, PageState, Placement,
    Protocol, RegionSpec, RequestId,
};

const COUNT: u16 = 8;
/// The anchor of PAGE, by its number.
const ANCHOR: u16 = 3;
const THIS: u16 = 2;

fn subject(number: u16) -> Subject {
    Subject::with_region(number, COUNT, asked("shared", Placement::FirstTouch))
}

const fn claim(id: u32) -> Message {
    Message::HomeClaim { page: PAGE, request: RequestId(id) }
}

const fn named(id: u32, home: u16) -> Message {
    Message::HomeNamed { page: PAGE, request: RequestId(id), home: node(home) }
}

const fn query(slot: u16) -> Message {
    Message::HomeQuery { page: PAGE, ticket: ticket(slot) }
}

const fn reply(slot: u16, home: Option<NodeId>) -> Message {
    Message::HomeReply { page: PAGE, ticket: ticket(slot), home }
}

const fn owner_query(slot: u16) -> Message {
    Message::OwnerQuery { page: PAGE, ticket: ticket(slot) }
}

const fn owner_reply(slot: u16, owner: PageOwner) -> Message {
    Message::OwnerReply { page: PAGE, ticket: ticket(slot), owner }
}

const fn over(slot: u16, outcome: Outcome) -> Action {
    Action::Complete { ticket: ticket(slot), outcome }
}

/// Asks for the home of PAGE.
fn asks_home(subject: &mut Subject, slot: u16) -> Vec<Action> {
    subject.act(|engine, out| engine.on_home_query(ticket(slot), PAGE, out))
}

fn asks_owner(subject: &mut Subject, slot: u16) -> Vec<Action> {
    subject.act(|engine, out| engine.on_owner_query(ticket(slot), PAGE, out))
}

/// Node 2, which has been told that `home` is the home of PAGE and has its answer still to come.
fn told(home: u16) -> Subject {
    let mut subject = subject(THIS);
    assert_eq!(subject.fault(1, Write), [send(ANCHOR, claim(0))]);
    assert_eq!(subject.hears(ANCHOR, named(0, home)), [send(home, request(0, Write))]);
    subject
}

// The anchor.

#[test]
fn the_first_claim_settles_the_home_for_ever() {
    let mut anchor = subject(ANCHOR);
    assert_eq!(anchor.engine.home(PAGE), None);
    assert_eq!(anchor.hears(5, claim(50)), [send(5, named(50, 5))]);
    assert_eq!(anchor.hears(4, claim(40)), [send(4, named(40, 5))]);
    assert_eq!(anchor.hears(5, claim(51)), [send(5, named(51, 5))]);
    assert_eq!(anchor.engine.home(PAGE), Some(node(5)));
    assert_eq!(
        anchor.fault(1, Read),
        [send(5, request(0, Read))],
        "the anchor asks like anyone, and knows whom"
    );
    anchor.loses(5);
    assert_eq!(anchor.hears(4, claim(41)), [send(4, named(41, 5))], "also when that node is gone");
}

#[test]
fn the_anchor_may_be_first_itself() {
    let mut anchor = subject(ANCHOR);
    assert_eq!(anchor.fault(1, Write), [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(anchor.engine.home(PAGE), Some(node(ANCHOR)));
    assert_eq!(anchor.hears(4, claim(40)), [send(4, named(40, ANCHOR))]);
    assert_eq!(anchor.entry(), at_rest(DirectoryState::Modified(node(ANCHOR)), &[ANCHOR]));
}

#[test]
fn to_ask_is_not_to_touch() {
    let mut anchor = subject(ANCHOR);
    assert_eq!(anchor.hears(4, query(5)), [send(4, reply(5, None))]);
    assert_eq!(asks_home(&mut anchor, 1), [over(1, Outcome::Home(None))]);
    assert_eq!(asks_owner(&mut anchor, 2), [over(2, Outcome::Owner(PageOwner::Nobody))]);
    assert_eq!(anchor.engine.home(PAGE), None);
    anchor.hears(5, claim(50));
    assert_eq!(anchor.hears(4, query(6)), [send(4, reply(6, Some(node(5))))]);
    assert_eq!(asks_home(&mut anchor, 1), [over(1, Outcome::Home(Some(node(5))))]);
    assert!(anchor.engine.is_quiet());
}

// The claimer.

#[test]
fn who_is_first_is_its_own_home() {
    for access in [Read, Write] {
        let mut subject = subject(THIS);
        assert_eq!(subject.fault(1, access), [send(ANCHOR, claim(0))]);
        assert_eq!(subject.fault(2, Read), [], "one claim a page");
        let map = if access == Read { Action::MapRead(PAGE) } else { Action::MapWrite(PAGE) };
        let actions = subject.hears(ANCHOR, named(0, THIS));
        assert_eq!(actions, [Action::FillZero(PAGE), map, done(2), done(1)]);
        assert_eq!(subject.engine.home(PAGE), Some(node(THIS)));
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn who_is_told_of_another_asks_there_and_never_again() {
    let mut subject = told(5);
    assert_eq!(
        subject.hears(5, zero_grant(0, Write)),
        [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(1)]
    );
    subject.hears(5, fetch(70, Write, 4));
    assert_eq!(subject.fault(2, Read), [send(5, request(1, Read))]);
    assert_eq!(subject.hears(4, data(1, Read)).first(), Some(&Action::Fill(PAGE)));
    assert_eq!(subject.engine.directory(PAGE), None, "it is no home");
}

#[test]
fn a_migrating_page_has_its_home_by_first_touch_too() {
    let spec = RegionSpec { protocol: Protocol::Migration, ..asked("shared", Placement::FirstTouch) };
    let mut subject = Subject::with_region(THIS, COUNT, spec);
    assert_eq!(subject.fault(1, Read), [send(ANCHOR, claim(0))]);
    assert_eq!(subject.hears(ANCHOR, named(0, 5)), [send(5, request(0, Write))]);
}

#[test]
fn a_home_that_is_asked_before_it_knows_lets_the_others_wait() {
    let mut subject = subject(THIS);
    subject.fault(1, Write);
    assert_eq!(subject.hears(4, request(40, Read)), [], "the anchor told node 4 first");
    assert_eq!(subject.hears(5, request(50, Write)), []);
    assert_eq!(subject.hears(6, owner_query(9)), [send(6, owner_reply(9, PageOwner::Nobody))]);
    assert_eq!(
        subject.hears(ANCHOR, named(0, THIS)),
        [send(4, zero_grant(40, Read)), send(4, fetch(50, Write, 5))],
        "they came first, so they are served first"
    );
    assert_eq!(subject.hears(5, report(50, true)), [send(5, fetch(0, Write, THIS))]);
    assert_eq!(subject.hears(5, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(THIS)), &[THIS]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_claim_that_was_given_up_still_makes_a_home() {
    let mut subject = subject(THIS);
    subject.fault(1, Write);
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.hears(ANCHOR, named(0, THIS)), [Action::FillZero(PAGE), Action::MapWrite(PAGE)]);
    assert_eq!(subject.engine.home(PAGE), Some(node(THIS)));
    assert!(subject.engine.is_quiet());
}

// Questions.

#[test]
fn the_home_is_asked_for_once_and_kept_in_mind() {
    let mut subject = subject(THIS);
    assert_eq!(asks_home(&mut subject, 1), [send(ANCHOR, query(1))]);
    assert_eq!(subject.hears(ANCHOR, reply(1, None)), [over(1, Outcome::Home(None))]);
    assert_eq!(asks_home(&mut subject, 2), [send(ANCHOR, query(2))], "it may have been touched since");
    let home = Some(node(5));
    assert_eq!(subject.hears(ANCHOR, reply(2, home)), [over(2, Outcome::Home(home))]);
    assert_eq!(asks_home(&mut subject, 3), [over(3, Outcome::Home(home))]);
    assert_eq!(subject.fault(4, Read), [send(5, request(0, Read))]);
}

#[test]
fn the_owner_is_asked_of_the_home_once_that_is_known() {
    let mut subject = subject(THIS);
    assert_eq!(asks_owner(&mut subject, 1), [send(ANCHOR, query(1))]);
    assert_eq!(subject.hears(ANCHOR, reply(1, None)), [over(1, Outcome::Owner(PageOwner::Nobody))]);
    asks_owner(&mut subject, 1);
    assert_eq!(subject.hears(ANCHOR, reply(1, Some(node(5)))), [send(5, owner_query(1))]);
    let owner = PageOwner::Node(node(6));
    assert_eq!(subject.hears(5, owner_reply(1, owner)), [over(1, Outcome::Owner(owner))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_question_that_was_given_up_ignores_its_answer() {
    let mut subject = subject(THIS);
    asks_home(&mut subject, 1);
    assert_eq!(subject.cancel(1), []);
    assert_eq!(subject.hears(ANCHOR, reply(1, Some(node(5)))), []);
    asks_owner(&mut subject, 2);
    subject.cancel(2);
    assert_eq!(subject.hears(ANCHOR, reply(2, Some(node(5)))), []);
    assert!(subject.engine.is_quiet());
}

#[test]
fn where_homes_are_computed_the_question_costs_nothing() {
    for (placement, home) in [(Placement::Cyclic, 3), (Placement::Block, 0), (Placement::Single(node(6)), 6)]
    {
        let mut subject = Subject::with_region(THIS, COUNT, asked("shared", placement));
        assert_eq!(asks_home(&mut subject, 1), [over(1, Outcome::Home(Some(node(home))))]);
        assert!(subject.engine.is_quiet());
    }
}

// Races.

/// Every order of three.
const ORDERS: [[u16; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn nodes_that_race_for_a_page_agree_on_its_home() {
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration] {
        for page in (0..3).map(|number| PageAddress::new(REGION, number)) {
            for order in ORDERS {
                let mut mesh = Mesh::following(protocol, 3, Placement::FirstTouch);
                for number in order {
                    mesh.faults(number, page, if number == 0 { Read } else { Write });
                }
                mesh.deliver_all();
                assert!(mesh.completed.iter().all(|(_, _, outcome)| *outcome == Outcome::Done));
                assert_eq!(mesh.completed.len(), 3);
                let homes = [0, 1, 2].map(|number: usize| mesh.engines[number].home(page));
                assert!(homes[0].is_some() && homes.iter().all(|home| *home == homes[0]), "{homes:?}");
                assert!(mesh.engines.iter().all(pagemesh_protocol::Engine::is_quiet));
                mesh.check_coherence([page].into_iter());
            }
        }
    }
}

// Costs.

fn cost(mesh: &mut Mesh, number: u16, access: Access) -> usize {
    mesh.accesses(number, PAGE, access).len()
}

#[test]
fn a_node_pays_two_more_messages_on_its_first_fault_on_a_page() {
    let mut mesh = Mesh::mapped(COUNT, Placement::FirstTouch);
    assert_eq!(cost(&mut mesh, THIS, Write), 2, "it is the home: the claim is all");
    assert_eq!(cost(&mut mesh, 4, Read), 2 + 2);
    assert_eq!(cost(&mut mesh, ANCHOR, Read), 2, "the anchor knows");
    assert_eq!(cost(&mut mesh, 4, Write), 2 + 2, "as anywhere: it drops one copy elsewhere, and the home's");
    assert_eq!(cost(&mut mesh, THIS, Read), 2);
    let mut mesh = Mesh::mapped(COUNT, Placement::FirstTouch);
    assert_eq!(cost(&mut mesh, ANCHOR, Write), 0, "the anchor may be first for nothing");
}

// Losses.

#[test]
fn a_claim_to_a_lost_anchor_fails() {
    let lost = Failure::PeerLost(node(ANCHOR));
    let mut subject = subject(THIS);
    subject.fault(1, Write);
    asks_home(&mut subject, 2);
    asks_owner(&mut subject, 3);
    assert_eq!(subject.loses(ANCHOR), [failed(1, lost), failed(2, lost), failed(3, lost)]);
    assert_eq!(subject.fault(1, Read), [failed(1, lost)], "and so does every later one");
    assert_eq!(asks_home(&mut subject, 2), [failed(2, lost)]);
    assert_eq!(asks_owner(&mut subject, 3), [failed(3, lost)]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_knows_the_home_does_without_the_anchor() {
    let mut subject = told(5);
    assert_eq!(subject.loses(ANCHOR), []);
    assert_eq!(subject.hears(5, zero_grant(0, Write)).last(), Some(&done(1)));
    assert_eq!(asks_owner(&mut subject, 2), [send(5, owner_query(2))]);
}

#[test]
fn a_lost_home_is_told_as_with_any_placement() {
    let lost = Failure::PeerLost(node(5));
    let mut waiting = told(5);
    assert_eq!(waiting.loses(5), [failed(1, lost)]);
    let mut later = subject(THIS);
    later.fault(1, Read);
    later.loses(5);
    assert_eq!(later.hears(ANCHOR, named(0, 5)), [failed(1, lost)]);
    assert_eq!(later.fault(2, Read), [failed(2, lost)]);
    let mut asking = subject(THIS);
    asks_owner(&mut asking, 1);
    asking.loses(5);
    assert_eq!(asking.hears(ANCHOR, reply(1, Some(node(5)))), [failed(1, lost)]);
    assert!(asking.engine.is_quiet());
}

#[test]
fn a_home_that_never_learns_that_it_is_one_denies() {
    let mut subject = subject(THIS);
    subject.fault(1, Write);
    subject.hears(4, request(40, Read));
    subject.hears(5, request(50, Read));
    assert_eq!(
        subject.loses(ANCHOR),
        [failed(1, Failure::PeerLost(node(ANCHOR))), send(4, deny(40, ANCHOR)), send(5, deny(50, ANCHOR)),]
    );
    assert_eq!(subject.hears(6, request(60, Write)), [send(6, deny(60, ANCHOR))], "and later ones");
    assert_eq!(subject.hears(6, owner_query(9)), [send(6, owner_reply(9, PageOwner::Nobody))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn those_who_wait_for_a_home_to_learn_may_be_lost() {
    let mut subject = subject(THIS);
    subject.fault(1, Write);
    subject.hears(4, request(40, Read));
    subject.hears(5, request(50, Read));
    assert_eq!(subject.loses(4), []);
    assert_eq!(
        subject.hears(ANCHOR, named(0, THIS)),
        [send(5, zero_grant(50, Read)), send(5, fetch(0, Write, THIS))]
    );
}

// Strangers.

#[test]
fn only_the_anchor_settles_homes() {
    let not_here = "this node does not settle the home of the page";
    assert_eq!(subject(THIS).refuses(4, claim(40)), not_here);
    assert_eq!(subject(THIS).refuses(4, query(4)), not_here);
    let mut claimer = subject(THIS);
    claimer.fault(1, Read);
    asks_home(&mut claimer, 2);
    let not_it = "it does not settle the home of the page";
    assert_eq!(claimer.refuses(4, named(0, 4)), not_it);
    assert_eq!(claimer.refuses(4, reply(2, Some(node(4)))), not_it);
    let settled = Subject::with_region(THIS, COUNT, asked("shared", Placement::Cyclic));
    for message in [claim(1), query(1)] {
        assert_eq!(settled.clone().refuses(4, message), not_here);
    }
    for message in [named(1, 4), reply(1, None)] {
        assert_eq!(settled.clone().refuses(ANCHOR, message), not_it);
    }
}

#[test]
fn a_home_is_a_member_and_stays_the_same() {
    let mut claimer = subject(THIS);
    claimer.fault(1, Read);
    assert_eq!(claimer.refuses(ANCHOR, named(0, COUNT)), "the home is not a member of the mesh");
    let mut settled = told(5);
    assert_eq!(settled.refuses(ANCHOR, named(0, 4)), "the home of the page was settled before");
    assert_eq!(settled.refuses(ANCHOR, named(0, 5)), "the home of the page was not asked for");
    assert_eq!(settled.refuses(ANCHOR, reply(1, None)), "the home of the page was settled before");
}

#[test]
fn a_node_hears_that_it_is_a_home_by_its_own_claim_only() {
    let mut subject = subject(THIS);
    asks_owner(&mut subject, 1);
    let why = "it has told others of this node's page before this node";
    assert_eq!(subject.refuses(ANCHOR, reply(1, Some(node(THIS)))), why);
}

#[test]
fn who_has_claimed_nothing_is_nobodys_home() {
    let not_home = "this node is not the home of the page";
    assert_eq!(subject(THIS).refuses(4, request(40, Read)), not_home);
    assert_eq!(subject(THIS).refuses(4, owner_query(4)), not_home);
    assert_eq!(subject(ANCHOR).refuses(4, request(40, Read)), not_home);
    assert_eq!(told(5).refuses(4, request(40, Read)), not_home);
}

#[test]
fn no_answer_counts_before_the_home_is_known() {
    let mut subject = subject(THIS);
    subject.fault(1, Read);
    assert_eq!(subject.refuses(4, data(0, Read)), "the page was not asked for in this way");
    for message in [zero_grant(0, Read), deny(0, 4), common::recall(0)] {
        assert_eq!(subject.refuses(4, message), "it is not the home of the page");
    }
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn those_who_took_this_node_for_a_home_wrongly_are_not_served() {
    let mut subject = subject(THIS);
    subject.fault(1, Write);
    subject.hears(4, request(40, Write));
    assert_eq!(subject.hears(ANCHOR, named(0, 5)), [send(5, request(0, Write))]);
    assert_eq!(subject.hears(5, zero_grant(0, Write)).last(), Some(&done(1)));
    assert_eq!(subject.refuses(4, request(41, Write)), "this node is not the home of the page");
    assert!(subject.engine.is_quiet());
}

#[test]
fn an_answer_to_a_question_may_come_before_the_answer_to_a_claim() {
    let mut subject = subject(THIS);
    asks_home(&mut subject, 1);
    subject.fault(2, Write);
    let home = Some(node(5));
    assert_eq!(subject.hears(ANCHOR, reply(1, home)), [over(1, Outcome::Home(home))]);
    assert_eq!(subject.fault(3, Read), [], "the claim is under way");
    assert_eq!(subject.hears(ANCHOR, named(0, 5)), [send(5, request(0, Write))]);
}

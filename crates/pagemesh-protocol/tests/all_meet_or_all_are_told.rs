//! A broadcast in which two nodes mean different things must not leave anyone waiting, nor give anyone the wrong bytes. So a meeting ends for all
//! alike: agreed, with a round that was never before; not agreed; or broken by a loss. And pieces that are left over from a round that
//! somebody gave up are never taken for those of a later one.

mod common;

use common::mesh::Mesh;
use common::{Subject, done, failed, node, ticket};
use pagemesh_protocol::{Action, Engine, Failure, MeetingEnd, Message, Outcome, Ticket, limits};

fn meets(mesh: &mut Mesh, number: u16, root: u16, claim: u64) -> Ticket {
    mesh.calls(number, |engine, ticket, out| engine.on_meeting(ticket, node(root), claim, out))
}

#[test]
fn all_are_let_go_when_the_last_has_come() {
    let mut mesh = Mesh::new(3);
    for round in 1..4 {
        mesh.forget();
        let first: Vec<Ticket> = [0, 1].map(|number| meets(&mut mesh, number, 1, 7)).to_vec();
        mesh.deliver_all();
        assert_eq!(mesh.completed, [], "one is missing");
        let last = meets(&mut mesh, 2, 1, 7);
        mesh.deliver_all();
        for (number, call) in [(0, first[0]), (1, first[1]), (2, last)] {
            assert_eq!(mesh.outcome(number, call), Some(Outcome::Met(round)));
        }
        assert_eq!(mesh.log.len(), 4, "two messages for each node that is not the coordinator");
    }
    assert!(mesh.engines.iter().all(Engine::is_quiet));
}

#[test]
fn all_are_told_when_claims_differ() {
    for (root, number) in [(1, 8), (2, 7)] {
        let mut mesh = Mesh::new(3);
        let calls = [(0, 1, 7), (1, root, number), (2, 1, 7)]
            .map(|(who, root, number)| (who, meets(&mut mesh, who, root, number)));
        mesh.deliver_all();
        for (who, call) in calls {
            let failure = Failure::ClaimsDiffer { root: node(1), number: 7 };
            assert_eq!(mesh.outcome(who, call), Some(Outcome::Failed(failure)));
        }
        // The next is a meeting as any.
        let calls = [0, 1, 2].map(|who| (who, meets(&mut mesh, who, 0, 0)));
        mesh.deliver_all();
        assert!(calls.iter().all(|(who, call)| mesh.outcome(*who, *call) == Some(Outcome::Met(1))));
    }
}

#[test]
fn who_gives_up_is_waited_for_again() {
    let mut mesh = Mesh::new(2);
    let gave_up = meets(&mut mesh, 1, 0, 7);
    mesh.deliver_all();
    mesh.calls(1, |engine, _, out| engine.on_cancel(gave_up, out));
    mesh.deliver_all();
    let waits = meets(&mut mesh, 0, 0, 7);
    mesh.deliver_all();
    assert_eq!(mesh.outcome(0, waits), None);
    let comes = meets(&mut mesh, 1, 0, 7);
    mesh.deliver_all();
    assert_eq!(mesh.outcome(0, waits), Some(Outcome::Met(1)));
    assert_eq!((mesh.outcome(1, comes), mesh.outcome(1, gave_up)), (Some(Outcome::Met(1)), None));
}

#[test]
fn a_loss_breaks_the_meeting_and_later_ones() {
    for victim in [0, 2] {
        let mut mesh = Mesh::new(3);
        let calls = [0, 1].map(|number| (number, meets(&mut mesh, number, 1, 7)));
        mesh.deliver_all();
        let survivors: Vec<u16> = [0, 1, 2].into_iter().filter(|number| *number != victim).collect();
        mesh.lose(victim, true, &survivors);
        let later = (1, meets(&mut mesh, 1, 1, 7));
        mesh.deliver_all();
        for (number, call) in calls.into_iter().chain([later]).filter(|(number, _)| *number != victim) {
            let failure = Failure::PeerLost(node(victim));
            assert_eq!(mesh.outcome(number, call), Some(Outcome::Failed(failure)), "node {number}");
        }
    }
}

#[test]
fn pieces_are_those_of_the_round_that_was_agreed_on() {
    let piece = |round, offset, last| Message::Piece { round, offset, last };
    let take = |round, offset| Action::TakePiece { round, offset };
    let mut subject = Subject::new(1, 3);
    // Some come before the end of the meeting is heard of.
    assert_eq!(subject.hears(2, piece(5, 0, false)), [take(5, 0)]);
    assert_eq!(subject.act(|engine, out| engine.on_pieces_wanted(ticket(7), node(2), 5, out)), []);
    assert_eq!(subject.hears(2, piece(5, 4096, true)), [take(5, 4096), done(7)]);
    // All have come before.
    assert_eq!(subject.act(|engine, out| engine.on_pieces_wanted(ticket(8), node(2), 5, out)), [done(8)]);
    // A round that was given up is over when a later one begins.
    assert_eq!(subject.hears(2, piece(7, 0, false)), [take(7, 0)]);
    assert_eq!(subject.hears(2, piece(6, 0, true)), []);
    assert_eq!(subject.act(|engine, out| engine.on_pieces_wanted(ticket(9), node(2), 7, out)), []);
    assert_eq!(subject.loses(2), [failed(9, Failure::PeerLost(node(2)))]);
    let beyond = limits::PIECES_BYTES as u32;
    assert_eq!(subject.refuses(0, piece(9, beyond, true)), "a piece lies beyond what is passed on at once");
}

#[test]
fn nobody_else_can_call_a_meeting() {
    let (root, number, leaves) = (node(1), 7, false);
    let arrive = |slot| Message::MeetingArrive { ticket: ticket(slot), root, number, leaves };
    let mut subject = Subject::new(1, 3);
    assert_eq!(subject.refuses(2, arrive(1)), "this node is not the coordinator");
    let over = Message::MeetingOver { ticket: ticket(1), end: MeetingEnd::Agreed { round: 1 } };
    assert_eq!(subject.refuses(2, over), "it is not the one to answer this");
    let mut coordinator = Subject::new(0, 3);
    coordinator.hears(1, arrive(1));
    assert_eq!(coordinator.refuses(1, arrive(2)), "it is at the meeting already");
}

//! A barrier of many nodes must not ask more of one node than of another: once it is seen to be one of all nodes, each node speaks
//! for those below it in a tree. What that must not change: nobody passes before all have come, whatever else happens at the barrier, and
//! nobody is counted twice or forgotten.

mod common;

use common::mesh::Mesh;
use common::{Subject, barrier_at, done, failed, node, send, ticket};
use pagemesh_protocol::{Action, BarrierId, BarrierPlan, EngineConfig, Failure, Message, Outcome, limits};

const NODES: u16 = 7;
const ALL: u32 = NODES as u32;

/// Node `number` of seven, of which each has two below it; the tree of the barrier is that of the numbers.
fn at(number: u16) -> Subject {
    Subject::configured(EngineConfig { barrier_fan: 2, ..EngineConfig::new(node(number), NODES) })
}

fn barrier() -> BarrierId {
    barrier_at(0, NODES, 0)
}

fn arrive(slot: u16) -> Message {
    arrive_for(slot, ALL)
}

fn arrive_for(slot: u16, participants: u32) -> Message {
    Message::BarrierArrive { barrier: barrier(), ticket: ticket(slot), participants }
}

fn release(slot: u16, generation: u32) -> Message {
    let plan = Some(BarrierPlan { generation, participants: ALL });
    Message::BarrierRelease { barrier: barrier(), ticket: ticket(slot), plan }
}

fn released_as_before(slot: u16) -> Message {
    Message::BarrierRelease { barrier: barrier(), ticket: ticket(slot), plan: None }
}

fn gathered(round: u64) -> Message {
    Message::BarrierGathered { barrier: barrier(), generation: 1, round }
}

fn opened(round: u64) -> Message {
    Message::BarrierOpened { barrier: barrier(), generation: 1, round }
}

fn dissolve(round: u64, cut: bool) -> Message {
    Message::BarrierDissolve { barrier: barrier(), generation: 1, round, cut }
}

/// The home, after a round that was counted one by one.
fn home() -> Subject {
    let mut home = at(0);
    for other in 1..NODES {
        assert_eq!(home.hears(other, arrive(1)), []);
    }
    let mut released: Vec<Action> = (1..NODES).map(|other| send(other, release(1, 1))).collect();
    released.push(done(1));
    assert_eq!(home.arrives(1, barrier(), ALL), released);
    home
}

/// Node 1, which has 0 above it and 3 and 4 below it, after the same.
fn amid() -> Subject {
    let mut amid = at(1);
    assert_eq!(amid.arrives(1, barrier(), ALL), [send(0, arrive(1))]);
    assert_eq!(amid.hears(0, release(1, 1)), [done(1)]);
    amid
}

/// Everyone but the home is told that it is over.
fn to_all(rounds: u64) -> Vec<Action> {
    (1..NODES).map(|other| send(other, dissolve(rounds, false))).collect()
}

#[test]
fn a_node_speaks_once_for_all_below_it() {
    let mut amid = amid();
    for round in 1..4 {
        assert_eq!(amid.hears(3, gathered(round)), []);
        assert_eq!(amid.arrives(2, barrier(), ALL), []);
        assert_eq!(amid.hears(4, gathered(round)), [send(0, gathered(round))]);
        let down = [send(3, opened(round)), send(4, opened(round)), done(2)];
        assert_eq!(amid.hears(0, opened(round)), down);
        assert!(amid.engine.is_quiet());
    }
}

#[test]
fn the_home_opens_when_its_children_have_spoken_and_its_own_have_come() {
    let mut home = home();
    for round in 1..4 {
        assert_eq!(home.hears(2, gathered(round)), []);
        assert_eq!(home.hears(1, gathered(round)), []);
        let down = [send(1, opened(round)), send(2, opened(round)), done(2)];
        assert_eq!(home.arrives(2, barrier(), ALL), down);
    }
}

#[test]
fn a_child_may_be_ahead_of_the_news() {
    let mut amid = at(1);
    assert_eq!(amid.arrives(1, barrier(), ALL), [send(0, arrive(1))]);
    assert_eq!(amid.hears(3, gathered(1)), []);
    assert_eq!(amid.hears(4, gathered(1)), []);
    assert_eq!(amid.hears(0, release(1, 1)), [done(1)]);
    assert_eq!(amid.arrives(2, barrier(), ALL), [send(0, gathered(1))]);
}

#[test]
fn small_meshes_and_other_barriers_are_as_they_were() {
    let mut small = Subject::new(0, limits::BARRIER_FAN);
    let barrier = barrier_at(0, limits::BARRIER_FAN, 0);
    let participants = u32::from(limits::BARRIER_FAN);
    let arrive = Message::BarrierArrive { barrier, ticket: ticket(1), participants };
    for other in 1..limits::BARRIER_FAN {
        small.hears(other, arrive);
    }
    let plans = small.arrives(1, barrier, participants);
    let has_plan = |action: &Action| {
        matches!(action, Action::Send { message: Message::BarrierRelease { plan: Some(_), .. }, .. })
    };
    assert!(!plans.iter().any(has_plan), "{plans:?}");
    // As many calls as nodes, but not one of each; and fewer.
    for senders in [[1, 1, 2, 3, 4, 5, 6], [1, 2, 2, 3, 3, 4, 4]] {
        let mut home = at(0);
        for (slot, sender) in (10..).zip(&senders[..6]) {
            assert_eq!(home.hears(*sender, self::arrive(slot)), []);
        }
        let released = home.hears(senders[6], self::arrive(16));
        assert!(!released.iter().any(has_plan), "{released:?}");
    }
    let mut home = at(0);
    assert_eq!(home.hears(1, arrive_for(1, 2)), []);
    let both = [send(1, released_as_before(1)), send(2, released_as_before(1))];
    assert_eq!(home.hears(2, arrive_for(1, 2)), both);
}

#[test]
fn who_gives_up_before_its_node_has_spoken_was_never_counted() {
    let mut amid = amid();
    amid.hears(3, gathered(1));
    amid.arrives(2, barrier(), ALL);
    assert_eq!(amid.cancel(2), []);
    assert_eq!(amid.hears(4, gathered(1)), []);
    assert_eq!(amid.arrives(3, barrier(), ALL), [send(0, gathered(1))]);
}

#[test]
fn who_gives_up_later_has_the_round_counted_anew() {
    let mut amid = amid();
    amid.hears(3, gathered(1));
    amid.hears(4, gathered(1));
    amid.arrives(2, barrier(), ALL);
    assert_eq!(amid.cancel(2), [send(0, dissolve(1, false))]);
    assert_eq!(amid.arrives(3, barrier(), ALL), [send(0, arrive(3))]);
    assert_eq!(amid.hears(0, dissolve(0, false)), []);
    assert_eq!(amid.hears(0, released_as_before(3)), [done(3)]);

    let mut home = home();
    home.hears(1, gathered(1));
    home.arrives(2, barrier(), ALL);
    assert_eq!(home.hears(1, dissolve(1, false)), to_all(0));
    for other in 1..NODES - 1 {
        assert_eq!(home.hears(other, arrive(3)), []);
    }
    assert!(home.hears(6, arrive(3)).contains(&done(2)), "the home's own call was counted anew");
}

#[test]
fn who_was_let_go_does_not_arrive_again_and_who_was_not_does() {
    for (opened, outcome) in [(1, done(2)), (0, send(0, arrive(2)))] {
        let mut amid = amid();
        amid.hears(3, gathered(1));
        amid.hears(4, gathered(1));
        amid.arrives(2, barrier(), ALL);
        assert_eq!(amid.hears(0, dissolve(opened, false)), [outcome]);
        // What was on its way means nothing any more.
        assert_eq!(amid.hears(0, self::opened(1)), []);
        assert_eq!(amid.hears(3, gathered(1)), []);
        assert_eq!(amid.engine.load().barrier_waiters, 0);
    }
}

#[test]
fn giving_up_a_round_that_is_open_changes_nothing() {
    let mut home = home();
    home.hears(1, gathered(1));
    home.hears(2, gathered(1));
    home.arrives(2, barrier(), ALL);
    assert_eq!(home.hears(1, dissolve(1, false)), []);
}

#[test]
fn a_thread_more_than_there_were_is_counted_one_by_one_with_all_others() {
    let mut amid = amid();
    assert_eq!(amid.arrives(2, barrier(), ALL), []);
    assert_eq!(amid.arrives(3, barrier(), ALL), [send(0, arrive(3))]);
    assert_eq!(amid.hears(0, dissolve(0, false)), [send(0, arrive(2))]);

    let mut home = home();
    home.hears(2, gathered(1));
    assert_eq!(home.hears(1, arrive(3)), to_all(0));
    assert_eq!(home.hears(1, arrive(2)), []);
    // It had been said before this was known there.
    assert_eq!(home.hears(1, gathered(1)), []);
    assert_eq!(home.engine.load().barrier_waiters, 2);
}

#[test]
fn other_participants_are_named() {
    let mismatch =
        |first, this| Message::BarrierMismatch { barrier: barrier(), ticket: ticket(3), first, this };
    let mut home = home();
    home.hears(2, gathered(1));
    assert_eq!(home.hears(1, arrive_for(3, 6)), [send(1, mismatch(ALL, 6))]);
    // Nobody is known to be there: the other number is the first, and those who come are told.
    let mut home = self::home();
    assert_eq!(home.hears(1, arrive_for(3, 6)), to_all(0));
    assert_eq!(home.hears(2, arrive(3)), [send(2, mismatch(6, ALL))]);
}

#[test]
fn a_lost_node_breaks_it_for_all() {
    let broken = |slot| Message::BarrierBroken { barrier: barrier(), ticket: ticket(slot), node: node(3) };
    let mut home = home();
    home.hears(2, gathered(1));
    home.arrives(2, barrier(), ALL);
    let told = home.loses(3);
    let others = [1, 2, 4, 5, 6].map(|other| send(other, dissolve(0, false)));
    assert_eq!(told[..5], others);
    assert_eq!(told[5..], [failed(2, Failure::PeerLost(node(3)))]);
    assert_eq!(home.hears(2, arrive(2)), [send(2, broken(2))]);

    // A node between does what the home says, and tells the home when it alone has lost its neighbour.
    for neighbour in [3, 4] {
        let mut amid = amid();
        amid.arrives(2, barrier(), ALL);
        assert_eq!(amid.loses(neighbour), [send(0, dissolve(1, true))]);
        assert_eq!(amid.hears(0, dissolve(0, false)), [send(0, arrive(2))]);
    }
    let mut amid = amid();
    amid.arrives(2, barrier(), ALL);
    assert_eq!(amid.loses(5), []);
    assert_eq!(amid.loses(0), [failed(2, Failure::PeerLost(node(0)))]);
    assert_eq!(amid.engine.load().barrier_waiters, 0);
}

#[test]
fn a_home_whose_nodes_cannot_reach_each_other_gathers_no_more() {
    let mut home = home();
    assert_eq!(home.hears(1, dissolve(1, true)), to_all(0));
    for other in 1..NODES {
        home.hears(other, arrive(2));
    }
    let mut released: Vec<Action> = (1..NODES).map(|other| send(other, released_as_before(2))).collect();
    released.push(done(2));
    assert_eq!(home.arrives(2, barrier(), ALL), released);
}

#[test]
fn only_so_many_are_gathered_and_the_oldest_makes_room_for_one_that_comes_again() {
    let config = EngineConfig { barrier_fan: 1, gathered: 1, ..EngineConfig::new(node(0), 2) };
    let mut home = Subject::configured(config);
    let mut round = |name: usize, slot: u16| {
        let barrier = barrier_at(0, 2, name);
        home.arrives(slot, barrier, 2);
        home.hears(1, Message::BarrierArrive { barrier, ticket: ticket(slot), participants: 2 })
    };
    let plan = |name, slot, generation: Option<u32>| {
        let (barrier, ticket) = (barrier_at(0, 2, name), ticket(slot));
        let plan = generation.map(|generation| BarrierPlan { generation, participants: 2 });
        send(1, Message::BarrierRelease { barrier, ticket, plan })
    };
    assert_eq!(round(0, 1), [plan(0, 1, Some(1)), done(1)]);
    assert_eq!(round(1, 2), [plan(1, 2, None), done(2)]);
    let over = Message::BarrierDissolve { barrier: barrier_at(0, 2, 0), generation: 1, round: 0, cut: false };
    assert_eq!(round(1, 3), [send(1, over), plan(1, 3, Some(2)), done(3)]);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut amid = amid();
    let not_below = "it is not below this node in the tree of the barrier";
    for stranger in [0, 2, 5] {
        assert_eq!(amid.refuses(stranger, gathered(1)), not_below);
        let known = Message::BarrierKnown { home: node(0), writer: node(3), interval: 1 };
        assert_eq!(amid.refuses(stranger, known), not_below);
    }
    let wrong_round = "it speaks of a round of the barrier that cannot be";
    assert_eq!(amid.refuses(3, gathered(2)), wrong_round);
    amid.hears(3, gathered(1));
    assert_eq!(amid.refuses(3, gathered(1)), wrong_round);
    assert_eq!(amid.refuses(0, opened(1)), wrong_round);
    assert_eq!(amid.refuses(3, opened(1)), "it is not above this node in the tree of the barrier");
    assert_eq!(amid.refuses(3, dissolve(0, false)), "it is not the one to dissolve this");
    assert_eq!(home().refuses(1, dissolve(2, false)), wrong_round);
    let mut small = Subject::new(1, 2);
    assert_eq!(small.refuses(0, gathered(1)), not_below);
    assert_eq!(small.refuses(0, dissolve(1, false)), "no barrier is gathered in so small a mesh");
}

/// Messages that each node sends and hears in one round, and everyone's outcome.
fn round(mesh: &mut Mesh, nodes: u16, barrier: BarrierId) -> Vec<usize> {
    mesh.forget();
    for number in 0..nodes {
        mesh.arrives(number, barrier, u32::from(nodes));
    }
    mesh.deliver_all();
    assert_eq!(mesh.completed.len(), nodes as usize);
    assert!(mesh.completed.iter().all(|(_, _, outcome)| *outcome == Outcome::Done));
    let mut counts = vec![0; nodes as usize];
    for sent in &mesh.log {
        counts[sent.from.index()] += 1;
        counts[sent.to.index()] += 1;
    }
    counts
}

#[test]
fn no_node_of_many_handles_more_than_a_few_messages() {
    let nodes = 100;
    let most = 2 * (usize::from(limits::BARRIER_FAN) + 1);
    for home in [0, 57] {
        let (mut mesh, barrier) = (Mesh::new(nodes), barrier_at(home, nodes, 0));
        let first = round(&mut mesh, nodes, barrier);
        assert_eq!(first[home as usize], 2 * (usize::from(nodes) - 1), "the first is counted one by one");
        for _ in 0..3 {
            let counts = round(&mut mesh, nodes, barrier);
            assert_eq!(counts.iter().sum::<usize>(), 4 * (usize::from(nodes) - 1));
            let busiest = counts.iter().max().expect("there are nodes");
            assert!(*busiest <= most, "{busiest} messages at one node, {most} are allowed");
        }
    }
}

//! A counter that all nodes share is right only when each addition is done exactly once, at the one place where the newest value is, and
//! when nobody can still read what was there before. An operation that was lost on its way, done twice, or done beside a sharer's copy shows up
//! much later, as a sum that nobody can explain. So the engine is held to its table: who does the operation, what has to happen before, what
//! it costs, and what a call is told when nodes die or its time runs out.

mod common;

use common::mesh::Mesh;
use common::{PAGE, Subject, at_rest, lock_at, node, send, ticket};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, AtomicAnswer, AtomicChange, AtomicOperation, DirectoryState, Failure, Message, Outcome,
    PageState, Placement, Protocol, RequestId, Ticket,
};

const HOME: u16 = 1;
const WORD: u16 = 5;
const ADD: AtomicChange = AtomicChange::Add(1);
const OPERATION: AtomicOperation = AtomicOperation { word: WORD, change: ADD };

fn mesh() -> Mesh {
    Mesh::mapped(8, Placement::Single(node(HOME)))
}

/// What one addition by `number` returned, and the messages that it cost.
fn add(mesh: &mut Mesh, number: u16) -> (Outcome, usize) {
    mesh.forget();
    let call = mesh.changes(number, PAGE, (WORD, ADD));
    mesh.deliver_all();
    let outcome = mesh.outcome(number, call).expect("the operation was forgotten");
    mesh.check_coherence([PAGE].into_iter());
    (outcome, mesh.log.len())
}

#[test]
fn each_row_of_the_table_costs_what_it_says_and_moves_no_page() {
    let mut all = [mesh(), mesh(), mesh(), mesh(), mesh(), mesh()];
    all[1].accesses(HOME, PAGE, Write);
    all[2].accesses(3, PAGE, Write);
    for sharer in [HOME, 3, 4] {
        all[3].accesses(sharer, PAGE, Read);
    }
    for sharer in [3, 4, 5] {
        all[4].accesses(sharer, PAGE, Read);
    }
    // The requester is a sharer itself, and the owner.
    all[5].accesses(2, PAGE, Read);
    let costs = [2, 2, 4, 2 + 2 * 2, 4 + 2 * 2, 4];
    let holders = [HOME, HOME, 3, HOME, 3, 2];
    for ((mesh, cost), holder) in all.iter_mut().zip(costs).zip(holders) {
        let before: Vec<PageState> = (0..8).map(|number| mesh.state(number, PAGE)).collect();
        assert_eq!(add(mesh, 2), (Outcome::Word(0), cost), "holder {holder}");
        assert!(mesh.log.iter().all(|sent| sent.payload.is_none()), "no page travels");
        for number in (0..8).filter(|number| *number != holder) {
            assert_eq!(mesh.state(number, PAGE), PageState::Invalid, "node {number} can read no old value");
        }
        if before[holder as usize] != PageState::Invalid {
            assert_eq!(mesh.state(holder, PAGE), before[holder as usize], "it keeps what it had");
        }
        // From then on the page is where it was.
        let again = if [HOME].contains(&holder) { 2 } else { 4 };
        assert_eq!(add(mesh, 2), (Outcome::Word(1), again));
        assert_eq!((mesh.operations, mesh.words[&(PAGE, WORD)]), (2, 2));
    }
}

#[test]
fn a_writer_and_a_home_do_it_here_for_nothing() {
    for number in [HOME, 3] {
        let mut mesh = mesh();
        mesh.accesses(number, PAGE, Write);
        assert_eq!(add(&mut mesh, number), (Outcome::Word(0), 0));
    }
    let mut mesh = mesh();
    assert_eq!(add(&mut mesh, HOME), (Outcome::Word(0), 0), "the home's own, on a page that nobody touched");
    assert_eq!(mesh.state(HOME, PAGE), PageState::Modified);
}

#[test]
fn every_change_is_what_it_says() {
    let mut mesh = mesh();
    let mut does = |change| {
        let call = mesh.changes(2, PAGE, (WORD, change));
        mesh.deliver_all();
        (mesh.outcome(2, call), mesh.words[&(PAGE, WORD)])
    };
    let was = |value| Some(Outcome::Word(value));
    assert_eq!(does(AtomicChange::Swap(u64::MAX)), (was(0), u64::MAX));
    assert_eq!(does(AtomicChange::Add(2)), (was(u64::MAX), 1));
    assert_eq!(does(AtomicChange::CompareSwap { expected: 5, desired: 9 }), (was(1), 1));
    assert_eq!(does(AtomicChange::CompareSwap { expected: 1, desired: 9 }), (was(1), 9));
}

#[test]
fn a_page_that_migrates_is_changed_where_it_is() {
    let mut mesh = Mesh::following(Protocol::Migration, 8, Placement::Single(node(HOME)));
    assert_eq!(add(&mut mesh, 2), (Outcome::Word(0), 2));
    mesh.accesses(3, PAGE, Read);
    assert_eq!(add(&mut mesh, 2), (Outcome::Word(1), 4));
    assert_eq!(mesh.state(3, PAGE), PageState::Modified);
    assert_eq!(add(&mut mesh, 3), (Outcome::Word(2), 0));
}

#[test]
fn the_home_lets_a_sharer_go_before_the_word_is_changed() {
    let mut home = Subject::mapped(HOME, 5, HOME).shared_by(&[HOME, 3]);
    let request = Message::AtomicRequest { page: PAGE, ticket: ticket(7), operation: OPERATION };
    assert_eq!(home.hears(2, request), [send(3, Message::Invalidate { page: PAGE })]);
    let atomic = Action::Atomic {
        page: PAGE,
        operation: OPERATION,
        requester: node(2),
        ticket: ticket(7),
        answer: AtomicAnswer::Requester,
    };
    assert_eq!(home.hears(3, Message::InvalidateAck { page: PAGE }), [atomic]);
    assert_eq!(home.entry(), at_rest(DirectoryState::Shared(node(HOME)), &[HOME]));
}

#[test]
fn what_others_asked_before_comes_before_it() {
    let mut mesh = mesh();
    mesh.accesses(3, PAGE, Write);
    mesh.forget();
    let moves = mesh.faults(4, PAGE, Write);
    let adds = mesh.changes(2, PAGE, (WORD, ADD));
    let reads = mesh.faults(5, PAGE, Read);
    mesh.deliver_all();
    assert_eq!(mesh.outcome(4, moves), Some(Outcome::Done));
    assert_eq!(mesh.outcome(2, adds), Some(Outcome::Word(0)));
    assert_eq!(mesh.outcome(5, reads), Some(Outcome::Done));
    let order: Vec<Ticket> = mesh.completed.iter().map(|(_, call, _)| *call).collect();
    assert_eq!(order, [moves, adds, reads]);
    assert!(
        mesh.log
            .iter()
            .any(|sent| sent.to == node(4) && matches!(sent.message, Message::AtomicForward { .. })),
        "it is done by who got the page before"
    );
}

#[test]
fn a_home_that_has_asked_itself_for_the_page_finds_it_there() {
    // Others hear of the home before it does, and one asks for an operation.
    let mut home = Subject::with_region(1, 5, common::asked("shared", Placement::FirstTouch));
    let claim = Message::HomeClaim { page: PAGE, request: RequestId(0) };
    assert_eq!(home.fault(8, Read), [send(3, claim)]);
    let request = Message::AtomicRequest { page: PAGE, ticket: ticket(7), operation: OPERATION };
    assert_eq!(home.hears(2, request), []);
    let named = Message::HomeNamed { page: PAGE, request: RequestId(0), home: node(1) };
    let atomic = Action::Atomic {
        page: PAGE,
        operation: OPERATION,
        requester: node(2),
        ticket: ticket(7),
        answer: AtomicAnswer::Requester,
    };
    assert_eq!(
        home.hears(3, named),
        [Action::FillZero(PAGE), Action::MapWrite(PAGE), atomic, common::done(8)]
    );
    assert_eq!((home.state(), home.engine.is_quiet()), (PageState::Modified, true));
}

#[test]
fn a_first_touch_settles_the_home_by_itself() {
    let mut mesh = Mesh::mapped(4, Placement::FirstTouch);
    assert!(matches!(add(&mut mesh, 2), (Outcome::Word(0), _)));
    assert_eq!(mesh.engines[2].home(PAGE), Some(node(2)));
    // Another asks the anchor for the home, once, and then the home.
    assert_eq!(add(&mut mesh, 1), (Outcome::Word(1), 4));
    assert_eq!(add(&mut mesh, 1), (Outcome::Word(2), 2));
    assert_eq!(mesh.state(1, PAGE), PageState::Invalid);
}

#[test]
fn a_lost_holder_takes_the_word_with_it_and_a_lost_home_the_answer() {
    for (victim, failure) in [(3, Failure::PageLost(node(3))), (HOME, Failure::Unanswered(node(HOME)))] {
        for delivered in 0..5 {
            for last_words in [false, true] {
                let mut mesh = mesh();
                mesh.accesses(3, PAGE, Write);
                mesh.forget();
                let call = mesh.changes(2, PAGE, (WORD, ADD));
                for _ in 0..delivered {
                    mesh.deliver_one();
                }
                let survivors: Vec<u16> = (0..8).filter(|number| *number != victim).collect();
                mesh.lose(victim, last_words, &survivors);
                let outcome = mesh.outcome(2, call);
                assert!(
                    outcome == Some(Outcome::Word(0)) || outcome == Some(Outcome::Failed(failure)),
                    "{outcome:?} after {delivered} messages"
                );
                if outcome == Some(Outcome::Word(0)) {
                    assert_eq!(mesh.operations, 1, "what ended well was done");
                }
                assert!(mesh.operations <= 1);
                for number in mesh.survivors() {
                    assert!(mesh.engines[number as usize].is_quiet(), "node {number} has work left");
                }
            }
        }
    }
}

#[test]
fn who_asks_a_home_that_was_lost_before_is_told_that_nothing_was_done() {
    for protocol in [Protocol::WriteInvalidate, Protocol::Release] {
        let mut subject = Subject::following(protocol, 2, 3, HOME);
        subject.loses(HOME);
        let asked = subject.act(|engine, out| engine.on_atomic(ticket(7), PAGE, OPERATION, out));
        assert_eq!(asked, [common::failed(7, Failure::PeerLost(node(HOME)))], "{protocol:?}");
    }
    // Who is left alone with a copy may change it, as it may write it.
    let mut subject = Subject::mapped(2, 3, HOME);
    subject.fault(8, Read);
    subject.hears(HOME, common::data(0, Read));
    subject.loses(HOME);
    subject.loses(0);
    let asked = subject.act(|engine, out| engine.on_atomic(ticket(7), PAGE, OPERATION, out));
    let (page, operation, requester, answer) = (PAGE, OPERATION, node(2), AtomicAnswer::Call);
    let atomic = Action::Atomic { page, operation, requester, ticket: ticket(7), answer };
    assert_eq!(asked, [Action::Unprotect(PAGE), atomic]);
}

#[test]
fn a_lost_requester_leaves_the_page_usable() {
    for delivered in 0..5 {
        let mut mesh = mesh();
        mesh.accesses(3, PAGE, Read);
        mesh.accesses(4, PAGE, Read);
        mesh.forget();
        mesh.changes(2, PAGE, (WORD, ADD));
        for _ in 0..delivered {
            mesh.deliver_one();
        }
        mesh.lose(2, true, &[0, 1, 3, 4, 5, 6, 7]);
        assert!(mesh.operations <= 1);
        let done = mesh.operations as u64;
        assert_eq!(add(&mut mesh, 5).0, Outcome::Word(done), "after {delivered} messages");
    }
}

#[test]
fn who_gives_up_is_told_whether_it_was_begun() {
    for delivered in 0..4 {
        let mut mesh = mesh();
        mesh.accesses(3, PAGE, Write);
        mesh.forget();
        // The page is under way to another, so that the operation has to stand in line.
        mesh.faults(4, PAGE, Write);
        mesh.deliver_one();
        let call = mesh.changes(2, PAGE, (WORD, ADD));
        for _ in 0..delivered {
            mesh.deliver_one();
        }
        let before = mesh.completed.len();
        mesh.calls(2, |engine, _, out| engine.on_atomic_give_up(call, out));
        assert_eq!(mesh.completed.len(), before, "the answer decides");
        mesh.deliver_all();
        match mesh.outcome(2, call) {
            Some(Outcome::Failed(Failure::Withdrawn)) => assert_eq!(mesh.operations, 0),
            Some(Outcome::Word(0)) => assert_eq!(mesh.operations, 1),
            other => panic!("{other:?}"),
        }
        assert!(mesh.engines.iter().all(pagemesh_protocol::Engine::is_quiet));
    }
}

#[test]
fn a_call_that_is_cancelled_completes_no_more() {
    let mut mesh = mesh();
    let call = mesh.changes(2, PAGE, (WORD, ADD));
    mesh.calls(2, |engine, _, out| engine.on_cancel(call, out));
    mesh.deliver_all();
    assert_eq!(mesh.outcome(2, call), None);
    assert!(mesh.engines.iter().all(pagemesh_protocol::Engine::is_quiet));
}

#[test]
fn a_release_region_is_changed_at_its_home_and_others_are_told() {
    let mut mesh = Mesh::following(Protocol::Release, 4, Placement::Single(node(HOME)));
    assert_eq!(add(&mut mesh, 2), (Outcome::Word(0), 2));
    assert_eq!(add(&mut mesh, HOME), (Outcome::Word(1), 0));
    // A reader keeps its copy until it synchronises with who made the change.
    mesh.accesses(3, PAGE, Read);
    mesh.forget();
    let call = mesh.changes(2, PAGE, (WORD, ADD));
    mesh.deliver_all();
    assert_eq!(mesh.outcome(2, call), Some(Outcome::Word(2)));
    assert_eq!(mesh.state(3, PAGE), PageState::Shared);
    let lock = lock_at(0, 4, 0);
    let held = mesh.acquires(2, lock);
    mesh.deliver_all();
    mesh.releases(2, held, lock);
    mesh.acquires(3, lock);
    mesh.deliver_all();
    assert_eq!(mesh.state(3, PAGE), PageState::Invalid, "its copy is from before the change");
}

#[test]
fn in_a_release_region_what_was_written_before_is_there_first() {
    let mut mesh = Mesh::following(Protocol::Release, 4, Placement::Single(node(HOME)));
    mesh.accesses(2, PAGE, Write);
    mesh.forget();
    let call = mesh.changes(2, PAGE, (WORD, ADD));
    mesh.deliver_all();
    assert_eq!(mesh.outcome(2, call), Some(Outcome::Word(0)));
    assert_eq!(mesh.state(2, PAGE), PageState::Invalid, "its own copy is from before the change");
}

/// Threads that change words of a page again and again would else keep another of their node from ever getting it.
#[test]
fn a_thread_gets_the_page_while_others_of_its_node_change_it() {
    let mut node_2 = Subject::following(Protocol::Release, 2, 5, HOME);
    assert_eq!(node_2.fault(8, Read), [send(HOME, common::request(0, Read))]);
    let request = Message::AtomicRequest { page: PAGE, ticket: ticket(7), operation: OPERATION };
    assert_eq!(
        node_2.act(|engine, out| engine.on_atomic(ticket(7), PAGE, OPERATION, out)),
        [send(HOME, request)]
    );
    let writer = node(HOME);
    node_2.hears(HOME, Message::Wrote { writer, interval: 1, first: PAGE, count: 1 });
    node_2.hears(HOME, Message::Told { writer, interval: 1 });
    node_2.hears(HOME, Message::AtomicReply { page: PAGE, ticket: ticket(7), old: 0 });
    // What the home sends now, it sent after it had changed the word.
    let got = node_2.hears(HOME, common::data(0, Read));
    assert_eq!(got, [Action::Fill(PAGE), Action::MapRead(PAGE), common::done(8)]);
    // What it wrote is heard from another node before the page comes: that may be older.
    let mut node_3 = Subject::following(Protocol::Release, 3, 5, HOME);
    node_3.fault(8, Read);
    let lock = lock_at(0, 5, 0);
    node_3.acquires(9, lock);
    node_3.hears(0, Message::Wrote { writer, interval: 1, first: PAGE, count: 1 });
    node_3.hears(0, Message::Told { writer, interval: 1 });
    node_3.hears(0, Message::LockGrant { lock, ticket: ticket(9), died: None });
    assert_eq!(node_3.hears(HOME, common::data(0, Read)), [send(HOME, common::request(1, Read))]);
}

/// The operation is a release, which leaves a page as it is that the kernel may be writing.
#[test]
fn a_page_that_comes_for_a_pin_and_an_operation_stays_for_the_pin() {
    let spec = pagemesh_protocol::RegionSpec {
        protocol: Protocol::Release,
        ..common::asked("shared", Placement::FirstTouch)
    };
    let mut subject = Subject::with_region(1, 5, spec);
    let asked = subject.act(|engine, out| engine.on_atomic(ticket(7), PAGE, OPERATION, out));
    assert_eq!(asked, [send(3, Message::HomeQuery { page: PAGE, ticket: ticket(7) })]);
    let pin = (pagemesh_protocol::PinId(1), pagemesh_protocol::PinHolder(1));
    subject.act(|engine, out| engine.on_pin(ticket(8), pin, PAGE, Write, out));
    subject.hears(3, Message::HomeReply { page: PAGE, ticket: ticket(7), home: None });
    subject.hears(3, Message::HomeNamed { page: PAGE, request: RequestId(0), home: node(HOME + 1) });
    let came = subject.hears(HOME + 1, common::data(0, Write));
    assert!(came.contains(&common::done(8)) && !came.contains(&Action::Protect(PAGE)), "{came:?}");
    assert_eq!(subject.state(), PageState::Modified);
    assert!(subject.engine.holds(pin.0));
}

#[test]
fn nobody_else_may_order_or_answer_an_operation() {
    let (page, requester) = (PAGE, node(2));
    let mut holder = Subject::mapped(3, 5, HOME);
    let forward = Message::AtomicForward { page, requester, ticket: ticket(7), operation: OPERATION };
    assert_eq!(holder.refuses(4, forward), "it is not the home of the page");
    assert_eq!(holder.refuses(HOME, forward), "there is no copy here to be changed");
    let reply = Message::AtomicReply { page, ticket: ticket(7), old: 3 };
    assert_eq!(holder.refuses(4, reply), "it is not the home of the page");
    assert_eq!(holder.hears(HOME, reply), [], "nobody waits for it");
    let request = Message::AtomicRequest { page, ticket: ticket(7), operation: OPERATION };
    assert_eq!(holder.refuses(4, request), "this node is not the home of the page");
    let cancel = Message::AtomicCancel { page, ticket: ticket(7) };
    assert_eq!(holder.refuses(4, cancel), "this node is not the home of the page");
    let mut home = Subject::mapped(HOME, 5, HOME).modified_by(3);
    let done = Message::AtomicDone { page, requester, ticket: ticket(7), old: 3 };
    assert_eq!(home.refuses(3, done), "nobody was told to change the page");
    home.hears(2, request);
    assert_eq!(home.refuses(4, done), "it was not told to change the page for this call");
    let other = Message::AtomicDone { page, requester, ticket: ticket(8), old: 3 };
    assert_eq!(home.refuses(3, other), "it was not told to change the page for this call");
    assert_eq!(home.hears(3, done), [send(2, Message::AtomicReply { page, ticket: ticket(7), old: 3 })]);
}

//! Every message is a round of latency that an application waits for. The budget of each access is part of the protocol's
//! contract; a change that spends one message more must be seen, not felt. Real engines talk here, and each test counts
//! what crosses the wire, and between whom.

mod common;

use common::mesh::{Mesh, Sent};
use common::{PAGE, REGION, data, fetch, lock_at, node, number_at, report, request};
use pagemesh_protocol::Access::{self, Read, Write};
use pagemesh_protocol::{
    ByteRange, ConditionId, Message, Outcome, PageState, Placement, Protocol, RwLockId, SemaphoreId, Ticket,
    limits,
};

const HOME: u16 = 1;

fn mesh() -> Mesh {
    Mesh::mapped(8, Placement::Single(node(HOME)))
}

/// A mesh in which these nodes read PAGE, in this order.
fn read_by(readers: &[u16]) -> Mesh {
    let mut mesh = mesh();
    for reader in readers {
        mesh.accesses(*reader, PAGE, Read);
    }
    mesh
}

/// A mesh in which this node wrote PAGE.
fn written_by(writer: u16) -> Mesh {
    let mut mesh = mesh();
    mesh.accesses(writer, PAGE, Write);
    mesh
}

fn plain(from: u16, to: u16, message: Message) -> Sent {
    Sent { from: node(from), to: node(to), message, payload: None }
}

fn with_page(from: u16, to: u16, message: Message) -> Sent {
    Sent { payload: Some(PAGE), ..plain(from, to, message) }
}

/// Messages on the wire for one access, after which the copies must be coherent.
fn cost(mut mesh: Mesh, reader: u16, access: Access) -> usize {
    let sent = mesh.accesses(reader, PAGE, access);
    assert!(mesh.state(reader, PAGE).allows(access));
    mesh.check_coherence([PAGE].into_iter());
    sent.len()
}

#[test]
fn the_first_touch_costs_two_and_carries_no_page() {
    for access in [Read, Write] {
        let mut mesh = mesh();
        let sent = mesh.accesses(2, PAGE, access);
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|sent| sent.payload.is_none()));
        assert_eq!(mesh.state(HOME, PAGE), PageState::Invalid, "the home gets no copy");
    }
}

#[test]
fn a_read_miss_on_a_page_that_its_home_holds_costs_two() {
    for mut mesh in [read_by(&[HOME]), read_by(&[HOME, 3, 4]), written_by(HOME)] {
        assert_eq!(
            mesh.accesses(2, PAGE, Read),
            [plain(2, HOME, request(0, Read)), with_page(HOME, 2, data(0, Read))]
        );
    }
}

#[test]
fn a_miss_on_a_page_that_a_third_node_wrote_costs_four_and_its_bytes_travel_once() {
    for access in [Read, Write] {
        let mut mesh = written_by(3);
        assert_eq!(
            mesh.accesses(2, PAGE, access),
            [
                plain(2, HOME, request(0, access)),
                plain(HOME, 3, fetch(0, access, 2)),
                with_page(3, 2, data(0, access)),
                plain(2, HOME, report(0, true)),
            ]
        );
    }
}

#[test]
fn a_third_hop_is_the_last_that_the_requester_waits_for() {
    let mut mesh = written_by(3);
    mesh.forget();
    mesh.faults(2, PAGE, Read);
    for _ in 0..3 {
        assert!(mesh.completed.is_empty());
        assert!(mesh.deliver_one());
    }
    assert_eq!(mesh.completed.len(), 1, "the report to the home is nobody's wait");
}

/// What a write costs more whose `k` sharers tell the writer, to which the home sends the bytes: its report.
fn report_of(k: usize) -> usize {
    usize::from((1..=limits::COLLECTED).contains(&k))
}

#[test]
fn an_upgrade_costs_two_and_two_for_each_other_sharer() {
    for k in 0..=5 {
        let others: Vec<u16> = (2..8).filter(|number| *number != 3).take(k).collect();
        let mut mesh = read_by(&[&[3], others.as_slice()].concat());
        let sent = mesh.accesses(3, PAGE, Write);
        assert_eq!(sent.len(), 2 + 2 * k);
        assert!(sent.iter().all(|sent| sent.payload.is_none()), "the bytes are there already");
        mesh.check_coherence([PAGE].into_iter());
    }
}

/// The home's word and the sharers' take different links; whichever is last, three messages one after the other are enough.
#[test]
fn a_writer_waits_for_three_hops_however_many_share_the_page() {
    for sharers in 1..=limits::COLLECTED as u16 {
        for upgrades in [true, false] {
            let first: &[u16] = if upgrades { &[2] } else { &[HOME] };
            let others: Vec<u16> = (3..3 + sharers).collect();
            let mut mesh = read_by(&[first, others.as_slice()].concat());
            mesh.forget();
            mesh.faults(2, PAGE, Write);
            for hop in 1..=3 {
                assert!(mesh.completed.is_empty(), "{sharers} others, before hop {hop}");
                mesh.deliver_round();
            }
            assert_eq!(mesh.completed.len(), 1, "{sharers} others, an upgrade: {upgrades}");
            assert_eq!(mesh.state(2, PAGE), PageState::Modified);
            mesh.deliver_all();
            mesh.check_coherence([PAGE].into_iter());
        }
    }
}

#[test]
fn a_home_among_the_sharers_drops_its_copy_for_nothing() {
    for k in 1..=5 {
        let others: Vec<u16> = (4..8).take(k - 1).collect();
        let mesh = read_by(&[&[HOME, 3], others.as_slice()].concat());
        assert_eq!(cost(mesh, 3, Write), 2 + 2 * others.len());
    }
}

#[test]
fn a_write_miss_on_a_shared_page_takes_the_last_copy_along() {
    for k in 1..=5 {
        let holders: Vec<u16> = (3..3 + k).collect();
        assert_eq!(cost(read_by(&holders), 2, Write), 4 + 2 * (k as usize - 1));
        let others: Vec<u16> = (3..3 + k - 1).collect();
        let with_home = read_by(&[&[HOME], others.as_slice()].concat());
        assert_eq!(cost(with_home, 2, Write), 2 + 2 * others.len() + report_of(others.len()));
    }
}

#[test]
fn a_home_that_is_the_requester_saves_two() {
    assert_eq!(cost(mesh(), HOME, Read), 0);
    assert_eq!(cost(mesh(), HOME, Write), 0);
    assert_eq!(cost(read_by(&[3]), HOME, Read), 2);
    assert_eq!(cost(written_by(3), HOME, Read), 2);
    assert_eq!(cost(written_by(3), HOME, Write), 2);
    for k in 0..=5 {
        let others: Vec<u16> = (2..2 + k).collect();
        let mesh = read_by(&[&[HOME], others.as_slice()].concat());
        assert_eq!(cost(mesh, HOME, Write), 2 * k as usize);
    }
    for k in 1..=5 {
        let holders: Vec<u16> = (2..2 + k).collect();
        assert_eq!(cost(read_by(&holders), HOME, Write), 2 + 2 * (k as usize - 1));
    }
}

#[test]
fn a_second_access_in_the_right_mode_costs_nothing() {
    for number in [HOME, 2, 3] {
        assert_eq!(read_by(&[2, number]).accesses(number, PAGE, Read), []);
        for access in [Read, Write] {
            assert_eq!(written_by(number).accesses(number, PAGE, access), []);
        }
    }
}

#[test]
fn an_owner_reads_on_after_it_served_a_reader() {
    let mut mesh = written_by(3);
    mesh.accesses(2, PAGE, Read);
    assert_eq!(mesh.accesses(3, PAGE, Read), []);
}

#[test]
fn the_bytes_of_a_page_never_pass_through_a_home_that_does_not_hold_them() {
    let mut mesh = written_by(3);
    for (reader, access) in [(2, Read), (4, Write), (5, Read), (6, Write)] {
        let sent = mesh.accesses(reader, PAGE, access);
        let with_bytes: Vec<&Sent> = sent.iter().filter(|sent| sent.payload.is_some()).collect();
        assert_eq!(with_bytes.len(), 1, "{sent:?}");
        assert_eq!(with_bytes[0].to, node(reader));
        assert_ne!(with_bytes[0].from, node(HOME));
    }
}

#[test]
fn a_lost_page_is_denied_for_two() {
    let mut mesh = written_by(3);
    mesh.lose(3, false, &[0, 1, 2, 4, 5, 6, 7]);
    assert_eq!(mesh.accesses(2, PAGE, Read).len(), 2);
    assert_eq!(mesh.state(2, PAGE), PageState::Invalid);
}

#[test]
fn a_lock_costs_two_to_take_from_its_home_three_from_elsewhere_and_nothing_to_take_again() {
    let mut mesh = Mesh::new(4);
    let lock = lock_at(HOME, 4, 0);
    let mut costs = |number| {
        mesh.forget();
        let ticket = mesh.acquires(number, lock);
        mesh.deliver_all();
        mesh.releases(number, ticket, lock);
        mesh.deliver_all();
        assert_eq!(mesh.completed.len(), 1);
        mesh.log.len()
    };
    assert_eq!(costs(2), 2);
    assert_eq!([costs(2), costs(2)], [0, 0], "it stays where it was last");
    assert_eq!(costs(3), 3);
    assert_eq!(costs(3), 0);
    assert_eq!([costs(HOME), costs(HOME)], [2, 0]);
    assert_eq!(costs(2), 2, "the home itself had it");
}

#[test]
fn a_try_costs_four_where_the_lock_is_elsewhere() {
    for held in [false, true] {
        let mut mesh = Mesh::new(4);
        let lock = lock_at(HOME, 4, 0);
        let first = mesh.acquires(2, lock);
        if !held {
            mesh.releases(2, first, lock);
        }
        mesh.deliver_all();
        mesh.releases(2, if held { Ticket::new(9, 9) } else { first }, lock);
        mesh.forget();
        mesh.calls(3, |engine, ticket, out| engine.on_lock_try(ticket, lock, out));
        mesh.deliver_all();
        let (_, _, outcome) = mesh.completed[0];
        assert_eq!((mesh.log.len(), outcome == Outcome::Done), (4, !held));
    }
}

#[test]
fn a_lock_is_handed_over_for_one() {
    let mut mesh = Mesh::new(4);
    let lock = lock_at(HOME, 4, 0);
    let first = mesh.acquires(2, lock);
    mesh.acquires(3, lock);
    mesh.acquires(0, lock);
    mesh.deliver_all();
    mesh.forget();
    mesh.releases(2, first, lock);
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (1, 1));
}

/// Messages for node `number` to take reader-writer lock 0, and to give it back.
fn rw_costs(mesh: &mut Mesh, number: u16, access: Access) -> [usize; 2] {
    let lock = RwLockId(number_at(HOME, 4, 0));
    mesh.forget();
    let ticket =
        mesh.calls(number, |engine, ticket, out| engine.on_rw_acquire(ticket, lock, access, true, out));
    mesh.deliver_all();
    assert_eq!(mesh.completed.len(), 1);
    let taken = mesh.log.len();
    mesh.calls(number, |engine, _, out| engine.on_rw_release(ticket, lock, out));
    mesh.deliver_all();
    [taken, mesh.log.len() - taken]
}

#[test]
fn a_reader_writer_lock_costs_nothing_where_it_is_kept() {
    let mut mesh = Mesh::new(4);
    for number in [2, 3, 0] {
        assert_eq!(rw_costs(&mut mesh, number, Read), [2, 0], "nobody wrote: all keep it");
    }
    for number in [2, 3, 0] {
        assert_eq!(rw_costs(&mut mesh, number, Read), [0, 0]);
    }
    assert_eq!(
        rw_costs(&mut mesh, 2, Write),
        [1 + 1 + 2 * 2 + 1, 0],
        "it gives back, asks, and two are called"
    );
    for access in [Write, Read, Write] {
        assert_eq!(rw_costs(&mut mesh, 2, access), [0, 0]);
    }
    assert_eq!(rw_costs(&mut mesh, 3, Write), [5, 0], "the last leaves it there, and nobody waits for that");
    assert_eq!(rw_costs(&mut mesh, 0, Read), [5, 0]);
    assert_eq!(rw_costs(&mut mesh, HOME, Write), [2, 0], "the home calls it back");
}

/// A writer that waits for another, or for a reader alone, has the lock by the first message that is said when that is through.
#[test]
fn a_reader_writer_lock_is_handed_over_by_one_message_and_reported_by_another() {
    for access in [Read, Write] {
        let mut mesh = Mesh::new(4);
        let lock = RwLockId(number_at(HOME, 4, 0));
        let takes = |mesh: &mut Mesh, number: u16, access| {
            let ticket = mesh
                .calls(number, |engine, ticket, out| engine.on_rw_acquire(ticket, lock, access, true, out));
            mesh.deliver_all();
            ticket
        };
        let first = takes(&mut mesh, 2, access);
        for number in [3, 0] {
            takes(&mut mesh, number, Write);
        }
        mesh.forget();
        mesh.calls(2, |engine, _, out| engine.on_rw_release(first, lock, out));
        assert!(mesh.deliver_one());
        assert_eq!(mesh.completed.len(), 1, "after one message the next has it");
        mesh.deliver_all();
        // The grant, and the report of it.
        assert_eq!((mesh.log.len(), mesh.completed.len()), (2, 1));
    }
}

/// Messages for a range of `pages` pages that node 2 locks for reading and gives back, when node 3 wrote all of it before, and again when
/// nobody did; and for node 3's giving back.
fn range_costs(pages: u64) -> [usize; 3] {
    let mut mesh = Mesh::following(Protocol::Entry, 4, Placement::Single(node(HOME)));
    let range = ByteRange::new(REGION, 0, pages * 4096);
    let mut lock = |number: u16, access| {
        mesh.forget();
        let ticket = mesh
            .calls(number, |engine, ticket, out| engine.on_range_acquire(ticket, range, access, true, out));
        mesh.deliver_all();
        let locked = mesh.log.len();
        mesh.calls(number, |engine, _, out| {
            for page in 0..if access == Write { pages } else { 0 } {
                let piece = ByteRange::new(REGION, page * 4096, (page + 1) * 4096);
                engine.on_range_write(ticket, piece, out).expect("the master lives");
            }
            engine.on_range_release(ticket, range, out).expect("the master lives");
        });
        mesh.deliver_all();
        (locked, mesh.log.len() - locked)
    };
    let (free, written) = lock(3, Write);
    assert_eq!(free, 2, "nobody wrote before");
    let (news, given_back) = lock(2, Read);
    assert_eq!(given_back, 1);
    [news, lock(2, Read).0, written]
}

#[test]
fn a_range_costs_as_a_lock_and_a_message_for_each_page_with_news() {
    assert_eq!(range_costs(1), [2 + 1, 2, 1 + 1]);
    assert_eq!(range_costs(8), [2 + 8, 2, 1 + 8]);
    assert_eq!(range_costs(9), [2 + 9 + 2, 2, 1 + 9]);
    assert_eq!(range_costs(16), [2 + 16 + 2, 2, 1 + 16]);
    assert_eq!(range_costs(17), [2 + 17 + 4, 2, 1 + 17]);
}

#[test]
fn a_unit_costs_two_to_give_and_two_to_take() {
    let mut mesh = Mesh::new(4);
    let semaphore = SemaphoreId(number_at(HOME, 4, 0));
    mesh.calls(2, |engine, ticket, out| engine.on_semaphore_init(ticket, semaphore, 0, out));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (2, 1));
    mesh.calls(2, |engine, ticket, out| engine.on_semaphore_post(ticket, semaphore, out));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (4, 2));
    mesh.calls(3, |engine, ticket, out| engine.on_semaphore_wait(ticket, semaphore, true, out));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (6, 3));
}

#[test]
fn a_wait_for_a_signal_costs_three_and_the_signal_one() {
    let mut mesh = Mesh::new(4);
    let (condition, lock) = (ConditionId(number_at(HOME, 4, 0)), lock_at(0, 4, 0));
    let held = mesh.acquires(2, lock);
    mesh.deliver_all();
    mesh.forget();
    mesh.calls(2, |engine, ticket, out| engine.on_condition_wait(ticket, condition, (lock, held), out));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (2, 0));
    mesh.calls(3, |engine, _, out| engine.on_condition_notify(condition, false, out).expect("it lives"));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (2 + 1 + 1, 1), "nobody else had the lock");
}

#[test]
fn a_barrier_costs_two_for_each_thread_that_is_not_at_its_home() {
    let mut mesh = Mesh::new(4);
    let barrier = common::barrier_at(HOME, 4, 0);
    for number in 0..4 {
        mesh.arrives(number, barrier, 4);
    }
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (6, 4));
}

#[test]
fn a_region_costs_two_for_each_node_beside_the_coordinator_and_two_for_each_other_opener() {
    let mut mesh = Mesh::new(4);
    mesh.opens(0, true, common::asked("grid", Placement::Cyclic));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (6, 1));
    mesh.forget();
    mesh.opens(3, false, common::asked("grid", Placement::Cyclic));
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (2, 1));
}

#[test]
fn a_question_for_the_owner_costs_two() {
    let mut mesh = written_by(3);
    mesh.forget();
    mesh.asks_owner(2, PAGE);
    mesh.deliver_all();
    assert_eq!((mesh.log.len(), mesh.completed.len()), (2, 1));
}

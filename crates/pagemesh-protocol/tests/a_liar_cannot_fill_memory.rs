//! A node that floods another with messages, each of which could be meant, must not make it remember more and more until the
//! machine has no memory left. Here every message that makes an engine remember something is sent 100,000 times with fresh names,
//! refusals ignored, and the engine has to stay within its bounds.

mod common;

use common::{PAGE, REGION, Subject, asked, barrier_at, lock_at, node, number_at, ticket};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Actions, ByteRange, ConditionId, Engine, EngineConfig, Load, LockId, Message, PageAddress, Placement,
    Protocol, RegionId, RegionName, RegionSpec, RequestId, RwLockId, SemaphoreId, Ticket, View, limits,
};

const FLOOD: u32 = 100_000;
const COUNT: u16 = 4;
const LIAR: u16 = 3;

/// Gives `engine` the messages of node `from`; returns its load then. Each message sets off a bounded number of actions.
fn flood(engine: &mut Engine, from: u16, message: impl Fn(u32) -> Message) -> Load {
    let mut out = Actions::new();
    for number in 0..FLOOD {
        let before = engine.load();
        let refused = engine.on_message(node(from), View::FIRST, &message(number), &mut out).is_err();
        assert!(!refused || engine.load() == before, "a refused message changed something");
        assert!(out.len() <= COUNT as usize + 2, "{} actions for one message", out.len());
        out.clear();
    }
    engine.load()
}

fn fresh(number: u32) -> Ticket {
    Ticket::new(number as u16, (number >> 16) as u16)
}

fn home() -> Engine {
    Subject::mapped(1, COUNT, 1).engine
}

#[test]
fn calls_that_wait_for_locks_and_barriers_are_bounded() {
    let lock = lock_at(1, COUNT, 0);
    let load = flood(&mut home(), LIAR, |number| Message::LockAcquire { lock, ticket: fresh(number) });
    assert_eq!((load.locks, load.lock_waiters), (1, 0), "a node asks once for all its calls");
    let mut engine = home();
    flood(&mut engine, 2, |number| Message::LockAcquire { lock, ticket: fresh(number) });
    let load = flood(&mut engine, LIAR, |number| Message::LockTry { lock, ticket: fresh(number) });
    assert_eq!((load.locks, load.lock_waiters), (1, limits::TICKETS));
    let barrier = barrier_at(1, COUNT, 0);
    let load = flood(&mut home(), LIAR, |number| Message::BarrierArrive {
        barrier,
        ticket: fresh(number),
        participants: u32::MAX,
    });
    assert_eq!((load.barriers, load.barrier_waiters), (1, limits::TICKETS));
}

#[test]
fn readers_units_and_waits_for_signals_are_bounded() {
    let number = number_at(1, COUNT, 0);
    let (lock, semaphore, condition) = (RwLockId(number), SemaphoreId(number), ConditionId(number));
    let take = |access| move |n| Message::RwAcquire { lock, ticket: fresh(n), access, waits: true };
    let home_of_all =
        || Subject::configured(EngineConfig { rwlocks_left: 0, ..EngineConfig::new(node(1), COUNT) }).engine;
    let load = flood(&mut home_of_all(), LIAR, take(Read));
    assert_eq!((load.rwlocks, load.readers, load.rwlock_waiters), (1, limits::READERS, 0));
    let load = flood(&mut home_of_all(), LIAR, take(Write));
    assert_eq!((load.rwlocks, load.readers, load.rwlock_waiters), (1, 0, limits::TICKETS));
    let wait = |n| Message::SemaphoreWait { semaphore, ticket: fresh(n), waits: true };
    let load = flood(&mut home(), LIAR, wait);
    assert_eq!((load.semaphores, load.semaphore_waiters), (1, limits::TICKETS));
    let load = flood(&mut home(), LIAR, |n| Message::ConditionWait { condition, ticket: fresh(n) });
    assert_eq!((load.conditions, load.condition_waiters), (1, limits::TICKETS));
}

/// Of locks that are left with a node, and of those that a home leaves here.
#[test]
fn locks_that_are_left_are_bounded() {
    let mut engine = home();
    let own = |n| RwLockId(number_at(1, COUNT, n as usize % 100));
    let every_name = |n| Message::RwAcquire { lock: own(n), ticket: fresh(n), access: Read, waits: true };
    let load = flood(&mut engine, LIAR, every_name);
    assert_eq!(
        (load.rwlocks, load.rwlocks_left, load.rwlock_waiters),
        (0, 100, 0),
        "a keeper asks for nothing"
    );
    let hold = |n| Message::RwHold { lock: own(n), ticket: fresh(n), access: Read };
    let load = flood(&mut engine, LIAR, hold);
    assert_eq!(load.readers, limits::READERS_OF_ONE_NODE);
    let leave = |n| Message::RwLeave { lock: RwLockId(n as u64), ticket: fresh(n), access: Write };
    let load = flood(&mut home(), LIAR, leave);
    assert_eq!(load.rwlocks_kept, limits::RWLOCKS_KEPT);
}

#[test]
fn ranges_that_are_locked_or_waited_for_are_bounded() {
    let master = || Subject::following(Protocol::Entry, 1, COUNT, 1).engine;
    let take = |access, step: u64| {
        move |n: u32| Message::RangeAcquire {
            range: ByteRange::new(REGION, u64::from(n) % 4096 * step, u64::from(n) % 4096 * step + 1),
            ticket: fresh(n),
            access,
            waits: true,
            since: 0,
        }
    };
    let load = flood(&mut master(), LIAR, take(Read, 1));
    assert_eq!((load.ranges, load.range_waiters), (limits::RANGES, 0));
    let load = flood(&mut master(), LIAR, take(Write, 0));
    assert_eq!((load.ranges, load.range_waiters), (1, limits::TICKETS));
}

#[test]
fn objects_in_use_are_bounded() {
    // The one node is home of all, so that every name counts.
    let mut engine = Engine::new(EngineConfig::new(node(0), 1));
    let mut out = Actions::new();
    for number in 0..FLOOD {
        let (name, ticket) = (number as u64, fresh(number));
        for message in [
            Message::RwAcquire { lock: RwLockId(name), ticket, access: Write, waits: true },
            Message::SemaphoreInit { semaphore: SemaphoreId(name), ticket, value: 1 },
            Message::ConditionWait { condition: ConditionId(name), ticket },
        ] {
            let _ = engine.on_message(node(0), View::FIRST, &message, &mut out);
            out.clear();
        }
    }
    let load = engine.load();
    assert_eq!((load.rwlocks, load.semaphores), (limits::LOCKS, limits::LOCKS));
    assert_eq!(load.conditions, limits::TICKETS);
}

/// Others get their turn although one node has filled its share.
#[test]
fn one_node_takes_no_other_nodes_place_in_a_line() {
    let mut engine = home();
    let lock = lock_at(1, COUNT, 0);
    flood(&mut engine, LIAR, |number| Message::LockAcquire { lock, ticket: fresh(number) });
    let mut out = Actions::new();
    let honest = Message::LockAcquire { lock, ticket: ticket(1) };
    assert_eq!(engine.on_message(node(2), View::FIRST, &honest, &mut out), Ok(()));
    // It is told that the liar has the lock, and that is told who comes next.
    assert_eq!((out.len(), engine.load().lock_waiters), (1, 1));
}

#[test]
fn locks_and_barriers_in_use_are_bounded() {
    // The one node is home of all, so that every name counts.
    let config = EngineConfig::new(node(0), 1);
    let mut engine = Engine::new(config);
    let mut out = Actions::new();
    for number in 0..FLOOD {
        let message = Message::LockAcquire { lock: LockId(number as u64), ticket: fresh(number) };
        engine.on_message(node(0), View::FIRST, &message, &mut out).expect("it could be meant");
        let barrier = pagemesh_protocol::BarrierId(number as u64);
        let message = Message::BarrierArrive { barrier, ticket: fresh(number), participants: 2 };
        let _ = engine.on_message(node(0), View::FIRST, &message, &mut out);
        out.clear();
    }
    assert_eq!(engine.load().locks, limits::LOCKS);
    assert!(engine.load().barriers <= limits::BARRIERS);
}

#[test]
fn page_requests_in_line_are_bounded() {
    let mut engine = home();
    // The page is modified at node 2, which does not answer.
    let mut out = Actions::new();
    let request = |number, access| Message::PageRequest { page: PAGE, request: RequestId(number), access };
    engine.on_message(node(2), View::FIRST, &request(0, Write), &mut out).expect("it could be meant");
    let load = flood(&mut engine, LIAR, |number| request(number, Read));
    assert_eq!(load.transactions, 1);
    assert_eq!(load.queued_requests, limits::REQUESTS_PER_PEER as usize - 1);
}

#[test]
fn what_a_home_wants_of_a_copy_in_use_is_bounded() {
    let mut subject = Subject::mapped(2, COUNT, 1);
    let mut out = Actions::new();
    subject.engine.on_fault(ticket(1), PAGE, Write, &mut out);
    let grant = Message::Grant { page: PAGE, request: RequestId(0), access: Write, zero: true };
    subject.engine.on_message(node(1), View::FIRST, &grant, &mut out).expect("it was asked for");
    // The thread has not gone on.
    let load = flood(&mut subject.engine, 1, |number| Message::Fetch {
        page: PAGE,
        request: RequestId(number),
        access: Read,
        requester: node(LIAR),
    });
    assert_eq!(load.demands, limits::DEMANDS_FOR_ONE_COPY);
}

fn named(number: u32, pages: u64) -> RegionSpec {
    let name = RegionName::new(&format!("region {number}")).expect("a short name");
    RegionSpec { name, pages, ..asked("any", Placement::Cyclic) }
}

#[test]
fn regions_and_those_who_wait_for_them_are_bounded() {
    let coordinator = || Subject::new(0, COUNT).engine;
    let open = |create, number, spec| Message::RegionOpen { ticket: fresh(number), create, spec };
    let load = flood(&mut coordinator(), LIAR, |number| open(true, number, named(number, 1)));
    assert_eq!((load.regions, load.proposals), (limits::REGIONS, limits::REGIONS));
    let load = flood(&mut coordinator(), LIAR, |number| open(true, number, named(0, 1)));
    assert_eq!((load.regions, load.region_waiters), (1, limits::WAITING_FOR_ONE_REGION));
    let load = flood(&mut coordinator(), LIAR, |number| open(false, number, named(number, 0)));
    assert_eq!(load.region_waiters, limits::TICKETS);
}

#[test]
fn proposals_of_a_lying_coordinator_are_bounded() {
    let mut engine = Subject::new(2, COUNT).engine;
    let load = flood(&mut engine, 0, |number| Message::RegionMap {
        region: RegionId(number as u16 % 1000),
        round: (number >> 8) as u16,
        spec: RegionSpec { address: limits::REGION_BASE, ..named(number, 1) },
    });
    assert_eq!(load.proposals, limits::REGIONS);
}

#[test]
fn answers_that_nobody_waits_for_are_forgotten() {
    for answer in [
        |number| Message::Data { page: PAGE, request: RequestId(number), access: Read },
        |number| Message::HomeReply { page: PAGE, ticket: fresh(number), home: None },
        |number| Message::LockGrant { lock: LockId(number as u64), ticket: fresh(number), died: None },
        |number| Message::LockRelease {
            lock: lock_at(1, COUNT, 0),
            ticket: fresh(number),
            died: None,
            wanted: Some((node(LIAR), fresh(number))),
        },
        |number| Message::LockState { lock: lock_at(1, COUNT, 0), round: number as u64, state: None },
        |number| Message::LockHeld { lock: lock_at(1, COUNT, 0), ticket: fresh(number), node: node(0) },
        |_| Message::LockCut { node: node(0) },
        |number| Message::RwGrant { lock: RwLockId(number as u64), ticket: fresh(number), died: None },
        |number| Message::SemaphoreGrant { semaphore: SemaphoreId(3), ticket: fresh(number) },
        |number| Message::ConditionWoken { condition: ConditionId(3), ticket: fresh(number) },
        |number| Message::RegionDrop { region: RegionId(number as u16), round: 0 },
        |number| Message::InvalidateAck { page: PageAddress::new(REGION, number as u64) },
        |number| Message::Evict { page: PageAddress::new(REGION, number as u64) },
        |number| Message::Recall { page: PAGE, request: RequestId(number) },
    ] {
        let mut engine = home();
        let before = engine.load();
        assert_eq!(flood(&mut engine, LIAR, answer), before);
    }
}

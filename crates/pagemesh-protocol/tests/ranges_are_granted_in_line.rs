//! A range lock is worth what its grant says: nobody else writes these bytes, and they are the newest. One that is granted past those who wait
//! starves them, one that is forgotten stays shut for ever, and bytes that are not sent are silently old. So each step of a
//! master and of a locker is held to its actions here.

mod common;

use common::{PAGE, PAGES, REGION, Subject, asked, done, failed, node, send, ticket};
use pagemesh_protocol::Access::{self, Read, Write};
use pagemesh_protocol::{
    Action, ByteRange, Failure, Message, NodeId, Outcome, PageOwner, PageState, Placement, Protocol,
    RegionSpec, RequestId, limits,
};

const MASTER: u16 = 1;

fn master() -> Subject {
    Subject::following(Protocol::Entry, MASTER, 4, MASTER)
}

fn locker() -> Subject {
    Subject::following(Protocol::Entry, 2, 4, MASTER)
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(REGION, start, end)
}

fn acquire(slot: u16, range: ByteRange, access: Access) -> Message {
    Message::RangeAcquire { range, ticket: ticket(slot), access, waits: true, since: 0 }
}

fn attempt(slot: u16, range: ByteRange, access: Access) -> Message {
    Message::RangeAcquire { range, ticket: ticket(slot), access, waits: false, since: 0 }
}

fn granted(slot: u16, stamp: u64) -> Message {
    Message::RangeGrant { region: REGION, ticket: ticket(slot), stamp, died: None }
}

fn died(slot: u16, stamp: u64, writer: u16) -> Message {
    Message::RangeGrant { region: REGION, ticket: ticket(slot), stamp, died: Some(node(writer)) }
}

fn release(slot: u16, range: ByteRange) -> Message {
    Message::RangeRelease { range, ticket: ticket(slot), unused: false }
}

fn bytes(to: u16, slot: u16, range: ByteRange) -> Action {
    Action::SendBytes { to: node(to), message: Message::RangeBytes { range, ticket: ticket(slot) }, range }
}

fn write(slot: u16, range: ByteRange) -> Message {
    Message::RangeWrite { range, ticket: ticket(slot) }
}

impl Subject {
    fn locks(&mut self, slot: u16, range: ByteRange, access: Access) -> Vec<Action> {
        self.act(|engine, out| engine.on_range_acquire(ticket(slot), range, access, true, out))
    }

    fn unlocks(&mut self, slot: u16, range: ByteRange) -> Vec<Action> {
        self.act(|engine, out| engine.on_range_release(ticket(slot), range, out).expect("the master lives"))
    }
}

#[test]
fn readers_share_writers_exclude_and_apart_from_that_ranges_know_nothing_of_each_other() {
    let mut subject = master();
    assert_eq!(subject.hears(2, acquire(1, range(0, 100), Write)), [send(2, granted(1, 1))]);
    assert_eq!(subject.hears(3, acquire(1, range(100, 101), Write)), [send(3, granted(1, 2))], "one page");
    assert_eq!(subject.hears(0, acquire(1, range(99, 5000), Read)), [], "overlaps by a byte");
    assert_eq!(subject.hears(0, acquire(2, range(5000, 6000), Read)), [send(0, granted(2, 2))]);
    assert_eq!(subject.hears(2, acquire(2, range(5500, 6000), Read)), [send(2, granted(2, 2))]);
    assert_eq!(subject.hears(2, release(1, range(0, 100))), [], "the other writer is still there");
    assert_eq!(subject.hears(3, release(1, range(100, 101))), [send(0, granted(1, 2))]);
}

#[test]
fn overlapping_ranges_are_had_in_the_order_of_arrival() {
    let mut subject = master();
    subject.hears(2, acquire(1, range(0, 10), Read));
    assert_eq!(subject.hears(3, acquire(1, range(0, 20), Write)), []);
    assert_eq!(subject.hears(2, acquire(2, range(15, 30), Read)), [], "or the writer might wait for ever");
    assert_eq!(subject.hears(0, acquire(1, range(25, 40), Write)), [], "behind that reader");
    assert_eq!(subject.hears(0, acquire(2, range(40, 50), Write)), [send(0, granted(2, 1))]);
    let busy = Message::RangeBusy { region: REGION, ticket: ticket(3) };
    assert_eq!(subject.hears(0, attempt(3, range(5, 6), Read)), [send(0, busy)], "a writer waits");
    assert_eq!(subject.hears(2, release(1, range(0, 10))), [send(3, granted(1, 2))]);
    assert_eq!(subject.hears(3, release(1, range(0, 20))), [send(2, granted(2, 2))]);
    assert_eq!(subject.hears(2, release(2, range(15, 30))), [send(0, granted(1, 3))]);
}

#[test]
fn who_gives_up_makes_room_for_those_behind() {
    let mut subject = master();
    subject.hears(2, acquire(1, range(0, 10), Read));
    subject.hears(3, acquire(1, range(0, 20), Write));
    subject.hears(0, acquire(1, range(15, 30), Read));
    let gives_up = Message::RangeRelease { range: range(0, 20), ticket: ticket(1), unused: true };
    assert_eq!(subject.hears(3, gives_up), [send(0, granted(1, 0))]);
}

#[test]
fn a_grant_brings_what_is_newer_than_what_the_locker_has() {
    let mut subject = master();
    subject.hears(2, acquire(1, range(0, 8192), Write));
    assert_eq!(subject.hears(2, write(1, range(10, 20))), [Action::StoreBytes(range(10, 20))]);
    assert_eq!(subject.hears(2, write(1, range(5000, 5001))), [Action::StoreBytes(range(5000, 5001))]);
    subject.hears(2, release(1, range(0, 8192)));
    let got = subject.hears(3, acquire(1, range(15, 8192), Read));
    let newer = [bytes(3, 1, range(15, 20)), bytes(3, 1, range(5000, 5001)), send(3, granted(1, 1))];
    assert_eq!(got, newer, "byte by byte, a message a page");
    subject.hears(3, release(1, range(15, 8192)));
    let known = Message::RangeAcquire {
        range: range(15, 8192),
        ticket: ticket(2),
        access: Read,
        waits: true,
        since: 1,
    };
    assert_eq!(subject.hears(3, known), [send(3, granted(2, 1))], "nobody wrote since");
}

#[test]
fn a_locker_says_what_it_has_of_all_of_the_range() {
    let mut subject = locker();
    let asks = |subject: &mut Subject, slot, wanted| match subject.locks(slot, wanted, Read)[..] {
        [Action::Send { message: Message::RangeAcquire { since, .. }, .. }] => since,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(asks(&mut subject, 1, range(0, 100)), 0);
    let stores = subject.hears(MASTER, Message::RangeBytes { range: range(3, 4), ticket: ticket(1) });
    assert_eq!(stores, [Action::StoreBytes(range(3, 4))]);
    assert_eq!(subject.hears(MASTER, granted(1, 7)), [done(1)]);
    assert_eq!(subject.unlocks(1, range(0, 100)), [send(MASTER, release(1, range(0, 100)))]);
    assert_eq!(asks(&mut subject, 2, range(50, 100)), 7);
    assert_eq!(asks(&mut subject, 3, range(50, 101)), 0, "one byte of it never came");
    assert_eq!(subject.hears(MASTER, granted(3, 9)), [done(3)]);
    assert_eq!(asks(&mut subject, 4, range(0, 101)), 7, "the oldest counts");
}

#[test]
fn much_comes_in_parts_that_the_locker_asks_for() {
    let mut subject = master();
    let all = range(0, 10 * 4096);
    subject.locks(1, all, Write);
    for page in 0..10 {
        let piece = range(page * 4096, (page + 1) * 4096);
        let stored = subject.act(|engine, out| engine.on_range_write(ticket(1), piece, out).unwrap());
        assert_eq!(stored, [], "it is in place");
    }
    assert_eq!(subject.unlocks(1, all), []);
    let first = subject.hears(2, acquire(5, all, Read));
    assert_eq!(first.len(), limits::RANGE_BURST + 1);
    let next = 4096 * limits::RANGE_BURST as u64;
    let part = Message::RangePart { region: REGION, ticket: ticket(5), next };
    assert_eq!(first.last(), Some(&send(2, part)));
    let rest = range(next, 10 * 4096);
    let more = Message::RangeMore { range: rest, ticket: ticket(5), since: 0 };
    let second = subject.hears(2, more);
    assert_eq!(second.last(), Some(&send(2, granted(5, 1))));
    assert_eq!(second.len(), 10 - limits::RANGE_BURST + 1);

    let mut subject = locker();
    subject.locks(5, all, Read);
    assert_eq!(subject.hears(MASTER, part), [send(MASTER, more)]);
    let outside = Message::RangePart { region: REGION, ticket: ticket(5), next: 10 * 4096 };
    assert_eq!(subject.refuses(MASTER, outside), "it would go on outside of the range");
    assert_eq!(subject.cancel(5).len(), 1);
    assert_eq!(subject.hears(MASTER, part), [], "nobody waits any more");
}

#[test]
fn the_next_is_told_of_a_writer_that_died_and_only_the_next() {
    let mut subject = master();
    subject.hears(3, acquire(1, range(0, 100), Write));
    subject.hears(3, acquire(2, range(200, 300), Read));
    subject.hears(2, acquire(1, range(50, 60), Read));
    assert_eq!(subject.loses(3), [send(2, died(1, 1, 3))]);
    assert_eq!(subject.hears(2, acquire(2, range(0, 100), Read)), [send(2, granted(2, 1))]);
    assert_eq!(subject.hears(0, acquire(1, range(200, 300), Write)), [send(0, granted(1, 2))], "a reader");
    subject.hears(2, release(1, range(50, 60)));
    subject.hears(2, release(2, range(0, 100)));
    assert_eq!(subject.hears(2, acquire(3, range(0, 100), Write)), [send(2, granted(3, 3))]);
}

#[test]
fn what_nobody_heard_is_told_again() {
    let mut subject = master();
    subject.hears(3, acquire(1, range(0, 100), Write));
    subject.loses(3);
    assert_eq!(subject.hears(2, acquire(1, range(0, 1), Read)), [send(2, died(1, 1, 3))]);
    let unused = Message::RangeRelease { range: range(0, 1), ticket: ticket(1), unused: true };
    assert_eq!(subject.hears(2, unused), []);
    assert_eq!(subject.hears(2, acquire(2, range(5, 6), Write)), [send(2, died(2, 2, 3))]);
    subject.loses(2);
    let told = Action::Complete { ticket: ticket(9), outcome: Outcome::OwnerDied(node(3)) };
    assert_eq!(subject.locks(9, range(90, 100), Write), [told], "all of what the first had counts");
    subject.unlocks(9, range(90, 100));
    let load = subject.engine.load();
    assert_eq!((load.ranges, load.range_waiters, load.orphaned_ranges), (0, 0, 1), "of node 2");
}

#[test]
fn the_masters_own_threads_say_nothing() {
    let mut subject = master();
    assert_eq!(subject.locks(1, range(0, 100), Write), [done(1)]);
    assert_eq!(subject.locks(2, range(50, 100), Read), []);
    assert_eq!(subject.unlocks(1, range(0, 100)), [done(2)]);
    assert_eq!(subject.cancel(3), []);
    assert!(subject.engine.is_quiet());
}

#[test]
fn without_the_master_there_is_nothing() {
    let mut subject = locker();
    let lost = Failure::PeerLost(node(MASTER));
    subject.locks(1, range(0, 100), Write);
    assert_eq!(subject.loses(MASTER), [failed(1, lost)]);
    assert_eq!(subject.locks(2, range(0, 100), Read), [failed(2, lost)]);
    let mut refused = None;
    subject.act(|engine, out| refused = engine.on_range_release(ticket(3), range(0, 9), out).err());
    assert_eq!(refused, Some(lost));
    subject.act(|engine, out| refused = engine.on_range_write(ticket(3), range(0, 9), out).err());
    assert_eq!(refused, Some(lost));
}

#[test]
fn pages_are_had_at_once_and_nobody_asks_for_them() {
    let mut subject = locker();
    assert_eq!(subject.fault(1, Read), [Action::Materialise(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.state(), PageState::Modified);
    assert_eq!(subject.fault(2, Write), [Action::MapWrite(PAGE), done(2)], "the kernel had dropped it");
    subject.act(|engine, out| engine.on_evict(PAGE, out));
    assert_eq!(subject.state(), PageState::Modified, "there is nowhere to give it back to");
    let wrong = "the page's protocol knows no such access";
    let request = RequestId(0);
    let fetch = Message::Fetch { page: PAGE, request, access: Write, requester: node(3) };
    assert_eq!(subject.refuses(MASTER, fetch), wrong);
    assert_eq!(subject.refuses(MASTER, Message::Invalidate { page: PAGE }), wrong);
    assert_eq!(master().refuses(2, Message::PageRequest { page: PAGE, request, access: Read }), wrong);
    assert_eq!(master().refuses(2, Message::Evict { page: PAGE }), wrong);
    assert_eq!(master().refuses(2, Message::Diff { page: PAGE, interval: 1, last: true }), wrong);
    let owner = Outcome::Owner(PageOwner::Node(NodeId::new(MASTER)));
    let mut subject = master();
    let asked = subject.act(|engine, out| engine.on_owner_query(ticket(1), PAGE, out));
    assert_eq!(asked, [Action::Complete { ticket: ticket(1), outcome: owner }]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let end = PAGES * 4096;
    let no_range = "the range does not lie in a region whose ranges are locked";
    assert_eq!(master().refuses(2, acquire(1, range(end - 1, end + 1), Read)), no_range);
    assert_eq!(master().refuses(2, release(1, range(end, end + 1))), no_range);
    assert_eq!(
        locker().refuses(MASTER, Message::RangeBytes { range: range(end, end + 1), ticket: ticket(1) }),
        no_range
    );
    let mut others = Subject::mapped(MASTER, 4, MASTER);
    assert_eq!(others.refuses(2, acquire(1, range(0, 1), Read)), no_range, "a region of another protocol");
    assert_eq!(
        locker().refuses(3, acquire(1, range(0, 1), Read)),
        "this node is not the master of the region"
    );
    let not_its = "it is not the master of the region";
    assert_eq!(locker().refuses(3, granted(1, 1)), not_its);
    assert_eq!(locker().refuses(3, Message::RangeBytes { range: range(0, 1), ticket: ticket(1) }), not_its);
    let mut subject = master();
    subject.hears(2, acquire(1, range(0, 100), Write));
    subject.hears(3, acquire(1, range(200, 300), Read));
    let not_writing = "it does not have these bytes for writing";
    assert_eq!(subject.refuses(2, write(1, range(50, 101))), not_writing);
    assert_eq!(subject.refuses(2, write(2, range(50, 60))), not_writing, "another call");
    assert_eq!(subject.refuses(3, write(1, range(200, 201))), not_writing, "for reading");
    assert_eq!(subject.hears(3, release(1, range(0, 100))), [], "another's range");
    let spec = RegionSpec { protocol: Protocol::Entry, ..asked("spread", Placement::Cyclic) };
    let open = Message::RegionOpen { ticket: ticket(1), create: true, spec };
    assert_eq!(Subject::new(0, 4).refuses(2, open), "the pages of an entry region have one home");
}

/// A range of a release region brings no bytes, and orders memory.
#[test]
fn ranges_of_a_release_region_tell_who_wrote_what() {
    let tales = [
        Message::Wrote { writer: node(2), interval: 1, first: PAGE, count: 1 },
        Message::Told { writer: node(2), interval: 1 },
    ];
    let mut writer = Subject::following(Protocol::Release, 2, 4, MASTER);
    assert_eq!(writer.locks(1, range(0, 8), Write), [send(MASTER, acquire(1, range(0, 8), Write))]);
    assert_eq!(writer.hears(MASTER, granted(1, 1)), [done(1)]);
    writer.fault(2, Read);
    writer.hears(MASTER, Message::Data { page: PAGE, request: RequestId(0), access: Read });
    writer.fault(3, Write);
    let given_back = writer.unlocks(1, range(0, 8));
    assert!(matches!(given_back[..], [Action::Protect(PAGE), Action::SendDiff { .. }, ..]), "{given_back:?}");
    let last = given_back.len() - 3;
    let told = [send(MASTER, tales[0]), send(MASTER, tales[1]), send(MASTER, release(1, range(0, 8)))];
    assert_eq!(given_back[last..], told);

    let mut master = Subject::following(Protocol::Release, MASTER, 4, MASTER);
    master.hears(2, acquire(1, range(0, 8), Write));
    assert_eq!(master.hears(3, acquire(1, range(7, 9), Read)), []);
    master.hears(2, tales[0]);
    master.hears(2, tales[1]);
    let granted = [send(3, tales[0]), send(3, tales[1]), send(3, granted(1, 1))];
    assert_eq!(master.hears(2, release(1, range(0, 8))), granted);
}

#[test]
fn ranges_of_a_release_region_carry_no_bytes() {
    let follows = |number| Subject::following(Protocol::Release, number, 4, MASTER);
    let by_page = "the bytes of this region come by page";
    let mut master = follows(MASTER);
    master.hears(2, acquire(1, range(0, 100), Write));
    assert_eq!(master.refuses(2, write(1, range(0, 10))), by_page);
    let more = Message::RangeMore { range: range(0, 10), ticket: ticket(1), since: 0 };
    assert_eq!(master.refuses(2, more), by_page);
    let mut locker = follows(2);
    locker.locks(1, range(0, 100), Read);
    let brought = Message::RangeBytes { range: range(0, 10), ticket: ticket(1) };
    assert_eq!(locker.refuses(MASTER, brought), by_page);
    let part = Message::RangePart { region: REGION, ticket: ticket(1), next: 50 };
    assert_eq!(locker.refuses(MASTER, part), by_page);
}

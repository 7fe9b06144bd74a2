//! Who writes a second implementation, reads a trace, or must keep a new version compatible, trusts docs/wire.md to the
//! byte. So the tables of messages are read here and held against what the encoder writes: which fields each kind uses,
//! where they lie, and which codes stand for what.

mod common;

use common::{PAGE, node};
use pagemesh_protocol::{
    Access, AtomicChange, AtomicOperation, BarrierId, BarrierPlan, ByteRange, Collect, ConditionId, HandOver,
    Hint, LockId, MeetingEnd, Message, Named, NodeSet, PageAddress, PageOwner, Placement, Protocol,
    ReaderCopy, RegionId, RegionName, RegionRefusal, RegionSpec, RequestId, Run, RunKind, RwLockId,
    SemaphoreId, Sharers, SyncObject, Ticket, Unit, View,
};
use std::collections::{BTreeMap, BTreeSet};

const NUMBER: u64 = 0x0102_0304_0506_0708;
const RW: RwLockId = RwLockId(NUMBER);
const SEMAPHORE: SemaphoreId = SemaphoreId(NUMBER);
const COMPARE_SWAP: AtomicOperation =
    AtomicOperation { word: 0x0102, change: AtomicChange::CompareSwap { expected: NUMBER, desired: NUMBER } };
const CONDITION: ConditionId = ConditionId(NUMBER);

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md"));

/// The rows under the one table head that begins with `head`.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some() && lines.next().is_some(), "docs/wire.md has no table {head}");
    let inner = |line: &'static str| line.strip_prefix('|')?.strip_suffix('|');
    lines.map_while(inner).map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// A message with all fields different from 0, as far as its kind has them.
fn full(spec: RegionSpec) -> Vec<Message> {
    let page = PageAddress::new(RegionId(0x0102), 0x0102_0304_0506_0708);
    let (request, ticket) = (RequestId(0x0102_0304), Ticket::new(0x0304, 0x0102));
    let (lock, barrier) = (LockId(0x0102_0304_0506_0708), BarrierId(0x0102_0304_0506_0708));
    let (region, round, node) = (RegionId(0x0102), 0x0102, node(7));
    let (access, interval) = (Access::Write, 0x0102_0304_0506_0708);
    let range = ByteRange { region, start: interval, bytes: 0x0102 };
    let plan = BarrierPlan { generation: 0x0102_0304, participants: 0x0506_0708 };
    let mut all = vec![
        Message::PageRequest { page, request, access },
        Message::Data { page, request, access },
        Message::Grant { page, request, access, zero: true },
        Message::Deny { page, request, lost_with: node },
        Message::Fetch { page, request, access, requester: node },
        Message::Done { page, request, installed: true },
        Message::Recall { page, request },
        Message::Invalidate { page },
        Message::InvalidateAck { page },
        Message::Evict { page },
        Message::OwnerQuery { page, ticket },
        Message::OwnerReply { page, ticket, owner: PageOwner::Lost(node) },
        Message::HomeClaim { page, request },
        Message::HomeNamed { page, request, home: node },
        Message::HomeQuery { page, ticket },
        Message::HomeReply { page, ticket, home: Some(node) },
        Message::AtomicRequest { page, ticket, operation: COMPARE_SWAP },
        Message::AtomicForward { page, requester: node, ticket, operation: COMPARE_SWAP },
        Message::AtomicDone { page, requester: node, ticket, old: NUMBER },
        Message::AtomicReply { page, ticket, old: NUMBER },
        Message::AtomicDeny { page, ticket, lost_with: node },
        Message::AtomicCancel { page, ticket },
        Message::AtomicWithdrawn { page, ticket },
        Message::MeetingArrive { ticket, root: node, number: NUMBER, leaves: true },
        Message::MeetingOver { ticket, end: MeetingEnd::Differs { root: node, number: NUMBER } },
        Message::Piece { round: NUMBER, offset: 0x0102_0304, last: true },
        Message::LockAcquire { lock, ticket },
        Message::LockGrant { lock, ticket, died: Some(node) },
        Message::LockRelease { lock, ticket, died: Some(node), wanted: Some((node, ticket)) },
        Message::LockForward { lock, ticket, node, wanted: ticket, waits: false },
        Message::LockQuery { lock, round: NUMBER },
        Message::LockState { lock, round: NUMBER, state: Some((ticket, true)) },
        Message::LockCut { node },
        Message::LockHeld { lock, ticket, node },
        Message::LockTry { lock, ticket },
        Message::LockBusy { lock, ticket },
        Message::BarrierArrive { barrier, ticket, participants: 3 },
        Message::BarrierCancel { barrier, ticket },
        Message::BarrierRelease { barrier, ticket, plan: Some(plan) },
        Message::BarrierGathered { barrier, generation: 0x0102_0304, round: NUMBER },
        Message::BarrierOpened { barrier, generation: 0x0102_0304, round: NUMBER },
        Message::BarrierDissolve { barrier, generation: 0x0102_0304, round: NUMBER, cut: true },
        Message::BarrierKnown { home: node, writer: node, interval },
        Message::BarrierMismatch { barrier, ticket, first: 3, this: 4 },
        Message::BarrierBroken { barrier, ticket, node },
        Message::SyncRefused { ticket },
        Message::RegionOpen { ticket, create: true, spec },
        Message::RegionMap { region, round, spec },
        Message::RegionMapped { region, round, mapped: true },
        Message::RegionDrop { region, round },
        Message::RegionReady { ticket, region, spec },
        Message::RegionRefused { ticket, refusal: RegionRefusal::AddressTaken { node, address: 4096 } },
        Message::RegionBroken { ticket, node },
        Message::RegionClose { ticket, region },
        Message::RegionClosed { ticket },
        Message::RegionGone { region },
        Message::RegionForgotten { region },
        Message::Diff { page, interval, last: true },
        Message::Need { page, request, writer: node, interval },
        Message::Wrote { writer: node, interval, first: page, count: 0x0102_0304 },
        Message::Told { writer: node, interval },
        Message::Knows { writer: node, interval },
        Message::Settled { writer: node, interval },
        Message::Lend { page, interval },
        Message::LendReply { page, taken: true },
        Message::CallIn { page },
        Message::Return { page, interval },
        Message::Follow { page, reader: node },
        Message::Unfollow { page, reader: node },
        Message::Update { page, writer: node, interval, own: interval },
        Message::RangeAcquire { range, ticket, access, waits: false, since: interval },
        Message::RangeGrant { region, ticket, stamp: interval, died: Some(node) },
        Message::RangeBusy { region, ticket },
        Message::RangeRelease { range, ticket, unused: true },
        Message::RangeBytes { range, ticket },
        Message::RangePart { region, ticket, next: interval },
        Message::RangeMore { range, ticket, since: interval },
        Message::RangeWrite { range, ticket },
        Message::HoldQuery { object: SyncObject::Range(range), question: 0x0102_0304 },
        Message::HoldReply {
            question: 0x0102_0304,
            hold: Some(access),
            waiting: 0x0102_0304,
            since_ms: NUMBER,
        },
        Message::Goodbye,
        Message::Leaving,
    ];
    all.extend(full_of_collecting(page, request));
    all.extend(full_of_hints(page, request));
    all.extend(full_of_objects(ticket, node));
    all
}

fn full_of_collecting(page: PageAddress, request: RequestId) -> [Message; 6] {
    let few: NodeSet = [7, 300, 301, 1023].into_iter().map(node).collect();
    let sharers = Sharers::of(few).expect("four fit");
    [
        Collect::Drop { requester: node(7), again: true, grant: sharers },
        Collect::Dropped,
        Collect::Grant(sharers),
        Collect::Data(sharers),
        Collect::Unheard(node(7)),
        Collect::Gone { sharer: node(7), grant: sharers },
    ]
    .map(|step| Message::Collect { page, request, step })
}

fn full_of_hints(page: PageAddress, request: RequestId) -> [Message; 5] {
    let served = Hint::Served { reader: node(7), copy: ReaderCopy::Here };
    [Hint::Read, Hint::Miss, Hint::Got(true), served, Hint::Known].map(|step| Message::Hint {
        page,
        request,
        step,
    })
}

fn full_of_objects(ticket: Ticket, node: pagemesh_protocol::NodeId) -> Vec<Message> {
    vec![
        Message::RwAcquire { lock: RW, ticket, access: Access::Write, waits: false },
        Message::RwGrant { lock: RW, ticket, died: Some(node) },
        Message::RwBusy { lock: RW, ticket },
        Message::RwRelease { lock: RW, ticket },
        Message::RwLeave { lock: RW, ticket, access: Access::Write },
        Message::RwRecall { lock: RW, next: Some((node, ticket)) },
        Message::RwHold { lock: RW, ticket, access: Access::Write },
        Message::RwYield { lock: RW, next: Named::KeptInMind },
        Message::RwHandOver { lock: RW, ticket, step: HandOver::Next { node, ticket } },
        Message::SemaphoreInit { semaphore: SEMAPHORE, ticket, value: 7 },
        Message::SemaphoreWait { semaphore: SEMAPHORE, ticket, waits: false },
        Message::SemaphoreGrant { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreBusy { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreCancel { semaphore: SEMAPHORE, ticket },
        Message::SemaphorePost { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreReturn { semaphore: SEMAPHORE },
        Message::SemaphoreDone { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreMismatch { semaphore: SEMAPHORE, ticket, first: 7 },
        Message::SemaphoreFull { semaphore: SEMAPHORE, ticket },
        Message::ConditionWait { condition: CONDITION, ticket },
        Message::ConditionQueued { condition: CONDITION, ticket },
        Message::ConditionSignal { condition: CONDITION, all: true },
        Message::ConditionWoken { condition: CONDITION, ticket },
        Message::ConditionCancel { condition: CONDITION, ticket },
        Message::ConditionWithdrawn { condition: CONDITION, ticket },
    ]
}

fn spec() -> RegionSpec {
    RegionSpec {
        name: RegionName::new("grid").expect("it is short"),
        pages: 77,
        placement: Placement::Single(node(3)),
        protocol: Protocol::WriteInvalidate,
        unit: Unit::Page,
        address: 0x2000_0000_0000,
    }
}

fn encoded(message: Message) -> Vec<u8> {
    let mut bytes = [0xff; Message::MAX_BYTES];
    let length = message.encode(View(0x0102_0304), &mut bytes);
    bytes[..length].to_vec()
}

/// The name of a message in the document: `PageRequest` is PAGE_REQUEST.
fn name_in_capitals(message: Message) -> String {
    let name = match message {
        Message::Collect { step: Collect::Grant(_), .. } => "GrantAfter".to_owned(),
        Message::Collect { step: Collect::Data(_), .. } => "DataAfter".to_owned(),
        Message::Collect { step, .. } => format!("{step:?}"),
        Message::Hint { step, .. } => format!("Hint{step:?}"),
        other => format!("{other:?}"),
    };
    let name = name.split([' ', '{', '(']).next().unwrap_or_default();
    let mut capitals = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !capitals.is_empty() {
            capitals.push('_');
        }
        capitals.push(letter.to_ascii_uppercase());
    }
    capitals
}

fn number(cell: &str) -> usize {
    cell.parse().unwrap_or_else(|_| panic!("{cell} is no number"))
}

#[test]
fn each_kind_has_its_number_its_name_and_its_fields() {
    let places: BTreeMap<&str, (usize, usize)> = table("| offset | bytes | field | holds |")
        .iter()
        .map(|row| (row[2], (number(row[0]), number(row[1]))))
        .collect();
    assert_eq!(places.values().map(|(_, length)| length).sum::<usize>(), 32);
    let rows = table("| kind | name | fields |");
    let mut listed = BTreeSet::new();
    for message in full(spec()) {
        let bytes = encoded(message);
        let name = name_in_capitals(message);
        let row = rows.iter().find(|row| row[1] == name).unwrap_or_else(|| panic!("no row for {name}"));
        assert_eq!(number(row[0]), bytes[0] as usize, "{name}");
        let mut used: BTreeSet<&str> = places
            .iter()
            .filter(|(_, (offset, length))| bytes[*offset..offset + length].iter().any(|byte| *byte != 0))
            .map(|(field, _)| *field)
            .collect();
        assert!(used.remove("kind") && used.remove("view"), "every message has both");
        match bytes.len() - 32 {
            0 => {}
            8 if name.starts_with("ATOMIC") => assert!(used.insert("expected")),
            8 => assert!(used.insert("since")),
            88 => assert!(used.insert("properties")),
            other => panic!("{name} is followed by {other} bytes"),
        }
        let said: BTreeSet<&str> = row[2].split(", ").filter(|field| !field.is_empty()).collect();
        assert_eq!(used, said, "{name}");
        assert_eq!(!row[3].is_empty(), said.contains("detail"), "{name}: what its detail means");
        assert_eq!(!row[4].is_empty(), said.contains("number"), "{name}: what its number means");
        listed.insert(row[1]);
    }
    assert_eq!(listed.len(), rows.len(), "the document lists a kind that does not exist");
}

#[test]
fn runs_have_their_numbers_and_the_fields_of_messages() {
    let rows = table("| run kind | name |");
    for (row, kind) in rows.iter().zip([RunKind::Requests, RunKind::Data]) {
        let first = PageAddress::new(RegionId(0x0102), 0x0102_0304);
        let run = Run { kind, first, request: RequestId(0x0102_0304), access: Access::Write, count: 64 };
        let bytes = run.encode(View(0x0102_0304));
        assert_eq!(number(row[0]), bytes[0] as usize, "{}", row[1]);
        assert_eq!(row[2], "detail, region, name, word, number");
        assert_eq!((bytes[20..24].to_vec(), bytes[24]), (vec![0; 4], 64), "node and round are not used");
        assert_eq!(name_in_capitals(run.part(0)), row[5]);
        // But for kind and number, it is its first part.
        let part = encoded(run.part(0));
        assert_eq!(bytes[1..24], part[1..24], "{}", row[1]);
    }
    assert_eq!(rows.len(), 2);
}

#[test]
fn the_fields_lie_one_after_the_other() {
    let mut end = 0;
    for row in table("| offset | bytes | field | holds |") {
        assert_eq!(number(row[0]), end, "{}", row[2]);
        end += number(row[1]);
    }
    assert_eq!(end, 32);
}

#[test]
fn the_least_significant_byte_comes_first_and_a_tickets_slot_before_its_generation() {
    let bytes = encoded(full(spec())[0]);
    assert_eq!(bytes[2..8], [2, 1, 4, 3, 2, 1], "region and view");
    assert_eq!(bytes[8..20], [8, 7, 6, 5, 4, 3, 2, 1, 4, 3, 2, 1], "name and request");
    let bytes = encoded(Message::SyncRefused { ticket: Ticket::new(0x0304, 0x0102) });
    assert_eq!(bytes[16..20], [4, 3, 2, 1]);
}

#[test]
fn the_codes_stand_for_what_the_document_says() {
    let detail = |message| encoded(message)[1];
    let (page, request) = (PAGE, RequestId(1));
    assert_eq!(detail(Message::PageRequest { page, request, access: Access::Read }), 0);
    assert_eq!(detail(Message::PageRequest { page, request, access: Access::Write }), 1);
    assert_eq!(detail(Message::Grant { page, request, access: Access::Read, zero: true }), 2);
    assert_eq!(detail(Message::Grant { page, request, access: Access::Write, zero: true }), 3);
    let ticket = Ticket::new(1, 1);
    for (owner, code) in
        [(PageOwner::Nobody, 0), (PageOwner::Node(node(1)), 1), (PageOwner::Lost(node(1)), 2)]
    {
        assert_eq!(detail(Message::OwnerReply { page, ticket, owner }), code);
    }
    for (home, code) in [(None, 0), (Some(node(1)), 1)] {
        assert_eq!(detail(Message::HomeReply { page, ticket, home }), code);
    }
    let wanted = |access, waits| detail(Message::RwAcquire { lock: RW, ticket, access, waits });
    assert_eq!([wanted(Access::Read, true), wanted(Access::Write, true)], [0, 1]);
    assert_eq!([wanted(Access::Read, false), wanted(Access::Write, false)], [2, 3]);
    for (change, code, expected) in [
        (AtomicChange::Add(7), 0, 0),
        (AtomicChange::Swap(7), 1, 0),
        (AtomicChange::CompareSwap { expected: 9, desired: 7 }, 2, 9),
    ] {
        let operation = AtomicOperation { word: 511, change };
        let bytes = encoded(Message::AtomicRequest { page, ticket, operation });
        assert_eq!((bytes[1], bytes[24], bytes[32]), (code, 7, expected), "{change:?}");
        assert_eq!(bytes[22..24], [0xff, 1], "the word's place");
    }
    let mismatch = encoded(Message::BarrierMismatch { barrier: BarrierId(1), ticket, first: 3, this: 4 });
    assert_eq!(mismatch[24..32], [3, 0, 0, 0, 4, 0, 0, 0]);

    for (object, code) in [
        (SyncObject::Lock(LockId(1)), 0),
        (SyncObject::RwLock(RW), 1),
        (SyncObject::Semaphore(SEMAPHORE), 2),
        (SyncObject::Barrier(BarrierId(1)), 3),
        (SyncObject::Range(ByteRange::new(RegionId(0), 0, 1)), 4),
    ] {
        assert_eq!(detail(Message::HoldQuery { object, question: 1 }), code);
    }
    for (hold, code) in [(None, 0), (Some(Access::Read), 1), (Some(Access::Write), 2)] {
        assert_eq!(detail(Message::HoldReply { question: 1, hold, waiting: 0, since_ms: 0 }), code);
    }

    let sharers = Sharers::of([0, 7].into_iter().map(node).collect()).expect("two fit");
    let grant = encoded(Message::Collect { page, request, step: Collect::Grant(sharers) });
    assert_eq!(grant[24..32], [1, 0, 8, 0, 0, 0, 0, 0], "the lowest first, each its number and 1");

    let rows = table("| detail | meaning | node | number |");
    for (code, refusal) in [
        RegionRefusal::SizeDiffers { pages: 9 },
        RegionRefusal::OptionsDiffer,
        RegionRefusal::AddressDiffers { address: 4096 },
        RegionRefusal::AddressTaken { node: node(2), address: 4096 },
        RegionRefusal::Exhausted,
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = encoded(Message::RegionRefused { ticket, refusal });
        assert_eq!((bytes[1] as usize, number(rows[code][0])), (code, code));
        assert_eq!(!rows[code][2].is_empty(), bytes[20..22] != [0; 2], "{refusal:?}: node");
        assert_eq!(!rows[code][3].is_empty(), bytes[24..32] != [0; 8], "{refusal:?}: number");
    }
    assert_eq!(rows.len(), 5);
}

#[test]
fn a_regions_properties_lie_where_the_document_says() {
    let mut end = 0;
    let places: BTreeMap<&str, (usize, usize)> = table("| offset | bytes | property | holds |")
        .iter()
        .map(|row| {
            assert_eq!(number(row[0]), end, "{}", row[2]);
            end += number(row[1]);
            (row[2], (number(row[0]), number(row[1])))
        })
        .collect();
    assert_eq!(end, 88);
    let properties = |spec| {
        let message = Message::RegionMap { region: RegionId(0), round: 0, spec };
        encoded(message)[32..].to_vec()
    };
    let name = |text| RegionName::new(text).expect("it is short");
    let changes: [(&[&str], RegionSpec); 10] = [
        (&["protocol"], RegionSpec { protocol: Protocol::Migration, ..spec() }),
        (&["placement", "placement node"], RegionSpec { placement: Placement::Block, ..spec() }),
        (&["placement", "placement node"], RegionSpec { placement: Placement::FirstTouch, ..spec() }),
        (&["unit"], RegionSpec { unit: Unit::MiB2, ..spec() }),
        (&["pages"], RegionSpec { pages: u64::MAX - 77, ..spec() }),
        (&["address"], RegionSpec { address: 0x5000_0000_0000, ..spec() }),
        (&["placement", "placement node"], RegionSpec { placement: Placement::Cyclic, ..spec() }),
        (&["placement node"], RegionSpec { placement: Placement::Single(node(9)), ..spec() }),
        (&["name"], RegionSpec { name: name("diff"), ..spec() }),
        (&["name bytes", "name"], RegionSpec { name: name("grid2"), ..spec() }),
    ];
    let before = properties(spec());
    for (expected, changed) in changes {
        let after = properties(changed);
        let different: BTreeSet<&str> = places
            .iter()
            .filter(|(_, (offset, length))| {
                before[*offset..offset + length] != after[*offset..offset + length]
            })
            .map(|(property, _)| *property)
            .collect();
        assert_eq!(different, expected.iter().copied().collect());
    }
    assert_eq!((before[16], before[17], before[18], before[20]), (0, 1, 3, 4));
    for (code, placement) in [(0, Placement::Cyclic), (2, Placement::Block), (3, Placement::FirstTouch)] {
        assert_eq!(properties(RegionSpec { placement, ..spec() })[17..20], [code, 0, 0]);
    }
    let holds = |property| {
        let rows = table("| offset | bytes | property | holds |");
        rows.iter().find(|row| row[2] == property).expect("the property is listed")[3]
    };
    assert_eq!(holds("protocol"), "0 write-invalidate, 1 migration, 2 release, 3 entry");
    assert_eq!(holds("placement"), "0 cyclic, 1 single, 2 block, 3 first-touch");
    assert_eq!(properties(RegionSpec { protocol: Protocol::Migration, ..spec() })[16], 1);
    assert_eq!(properties(RegionSpec { protocol: Protocol::Release, ..spec() })[16], 2);
    assert_eq!(properties(RegionSpec { protocol: Protocol::Entry, ..spec() })[16], 3);
    for (code, unit) in (0..).zip(Unit::ALL) {
        assert_eq!(properties(RegionSpec { unit, ..spec() })[84], code);
    }
    assert_eq!(holds("unit"), "what a miss brings: 0 a page, 1 16 KiB, 2 64 KiB, 3 2 MiB");
    assert_eq!(before[85..], [0; 3]);
}
